//! What a release consists of, judged by the tools that a device and a verifier would use.

use std::fs;
use std::process::Command;

use iotwasm_firmware::Digest;
use iotwasm_firmware::predict::{Pe, predict};

use crate::common::{Bench, RUNNER, keys, noise, run};

#[test]
fn every_file_is_what_release_json_says() {
    let bench = Bench::new();
    let release = bench.build("tree", "out");
    let bundle = release.files.bundle.clone().unwrap();
    let mut names = vec!["release.json".to_owned()];
    for file in [&release.files.rootfs, &release.files.uki, &release.files.esp, &bundle.file] {
        let bytes = bench.read(&format!("out/{}", file.name));
        assert_eq!((file.length, file.sha256), (bytes.len() as u64, Digest::of(&bytes)), "{}", file.name);
        names.push(file.name.clone());
    }
    names.sort();
    let mut found: Vec<_> = fs::read_dir(bench.path("out"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    found.sort();
    assert_eq!(found, names, "and nothing else is left in the folder");
    assert_eq!((release.compatible.as_str(), release.version.to_string().as_str()), ("test-board", "1.2.3"));
    assert_eq!(release.time.to_string(), "2026-03-01T00:00:00Z");
    assert_eq!(release.pcrs, predict(&bench.read("out/uki.efi")).unwrap().pcrs);
}

#[test]
fn the_root_file_system_verifies_under_its_root_hash() {
    let bench = Bench::new();
    let release = bench.build("tree", "out");
    let image = bench.path("out/rootfs.img");
    let verify = |image: &std::path::Path, hash: &str| {
        let mut command = Command::new("veritysetup");
        command.arg("verify").args([image, image]).arg(hash);
        run(command.arg(format!("--hash-offset={}", release.verity.hash_offset)))
    };
    verify(&image, &release.verity.root_hash.to_string()).ok();
    assert_ne!(verify(&image, &"0".repeat(64)).code, 0);
    let mut altered = bench.read("out/rootfs.img");
    altered[5000] ^= 1;
    bench.write("altered.img", &altered, 0o644);
    assert_ne!(verify(&bench.path("altered.img"), &release.verity.root_hash.to_string()).code, 0);

    let list = run(Command::new("unsquashfs").arg("-ll").arg(&image)).ok().out;
    assert!(list.contains("squashfs-root/tmp\n") && !list.contains("left-behind"), "{list}");
    assert!(list.contains("-rwx--x--x root/root") && list.contains(RUNNER), "{list}");
    // The compression is what the kernel's configuration has.
    let head = &bench.read("out/rootfs.img")[..24];
    assert_eq!((&head[..4], head[20]), (&b"hsqs"[..], 6), "squashfs with zstd");
}

#[test]
fn the_uki_names_the_root_hash_and_lies_where_firmware_looks() {
    let bench = Bench::new();
    let release = bench.build("tree", "out");
    let uki = bench.read("out/uki.efi");
    let cmdline = Pe::parse(&uki).unwrap().section(".cmdline").unwrap().in_memory().into_owned();
    let expected =
        format!("console=ttyS0 quiet iot.verity={}:{} --", release.verity.root_hash, release.verity.hash_offset);
    assert_eq!(String::from_utf8(cmdline).unwrap().trim_end_matches('\0'), expected);

    let esp = bench.path("out/esp.img");
    let out = bench.path("from-esp.efi");
    run(Command::new("mcopy").arg("-i").arg(&esp).arg("::/EFI/BOOT/BOOTX64.EFI").arg(&out)).ok();
    assert!(fs::read(out).unwrap() == uki);
    run(Command::new("fsck.vfat").arg("-n").arg(&esp)).ok();
    for folder in ["::/", "::/EFI", "::/EFI/BOOT"] {
        let list = run(Command::new("mdir").env("TZ", "UTC").arg("-i").arg(&esp).arg(folder)).ok().out;
        let entries: Vec<_> = list.lines().filter(|line| line.contains("<DIR>") || line.contains(" EFI ")).collect();
        assert!(!entries.is_empty() && entries.iter().all(|line| line.contains("1980-01-01")), "{list}");
    }
}

#[test]
fn the_reference_list_has_every_executable_and_nothing_else() {
    let bench = Bench::new();
    let release = bench.build("tree", "out");
    let paths: Vec<_> = release.ima.iter().map(|entry| entry.path.as_str()).collect();
    let runner = format!("/{RUNNER}");
    let expected = [
        "/usr/bin/ota-updated",
        "/usr/bin/tool",
        "/usr/lib/libc.so.6",
        "/usr/lib/modules/6.12/a.ko.xz",
        runner.as_str(),
    ];
    assert_eq!(paths, expected);
    for entry in &release.ima {
        assert_eq!(entry.sha256, Digest::of(&bench.read(&format!("tree{}", entry.path))), "{}", entry.path);
    }
    assert_eq!(release.runner.path, runner);
}

#[test]
fn a_byte_of_a_daemon_shows_in_root_hash_pcrs_and_list() {
    let bench = Bench::new();
    let one = bench.build("tree", "one");
    let mut daemon = bench.read("tree/usr/bin/ota-updated");
    daemon[33_333] ^= 1;
    bench.write("tree/usr/bin/ota-updated", &daemon, 0o755);
    let two = bench.build("tree", "two");

    assert_ne!(one.verity.root_hash, two.verity.root_hash);
    for secure_boot in [false, true] {
        assert_ne!(one.pcr4(secure_boot), two.pcr4(secure_boot));
    }
    for phase in iotwasm_firmware::release::PHASES {
        assert_ne!(one.pcr11(phase), two.pcr11(phase), "{phase:?}");
    }
    let changed: Vec<_> = one.ima.iter().zip(&two.ima).filter(|(one, two)| one != two).collect();
    assert_eq!(changed.len(), 1);
    assert_eq!(changed[0].0.path, "/usr/bin/ota-updated");
    assert_eq!(changed[0].1.sha256, Digest::of(&daemon));
    assert_eq!(one.runner, two.runner);
}

#[test]
fn a_change_of_one_daemon_changes_few_blocks() {
    let bench = Bench::new();
    // What an image is mostly made of, before and behind the daemon in the alphabet.
    for (name, seed) in [("tree/usr/bin/aaa", 10), ("tree/usr/share/zzz", 11)] {
        bench.write(name, &noise(seed, 4_000_000), 0o644);
    }
    bench.build("tree", "one");
    let mut daemon = noise(99, 71_234);
    daemon.extend_from_slice(&bench.read("tree/usr/bin/ota-updated")[..10_000]);
    bench.write("tree/usr/bin/ota-updated", &daemon, 0o755);
    bench.build("tree", "two");

    let blocks = |out: &str, name: &str| -> Vec<Digest> {
        bench.read(&format!("{out}/{name}")).chunks(4096).map(Digest::of).collect()
    };
    let known: std::collections::HashSet<Digest> =
        ["rootfs.img", "esp.img"].iter().flat_map(|name| blocks("one", name)).collect();
    for (name, most) in [("rootfs.img", 40), ("esp.img", 2)] {
        let new = blocks("two", name).into_iter().filter(|block| !known.contains(block)).count();
        assert!(new <= most, "{name}: {new} new blocks of 4 KiB, {most} at most");
    }
}

#[test]
fn a_signed_uki_is_signed_by_db_and_measures_the_same() {
    let bench = Bench::new();
    let unsigned = bench.build("tree", "unsigned");
    let db = keys().join("uki/db");
    let mut command = bench.command("tree", "signed");
    command.arg("--uki-cert").arg(db.with_extension("pem")).arg("--uki-key").arg(db.with_extension("key"));
    run(&mut command).ok();
    let signed = bench.release("signed");
    let uki = bench.path("signed/uki.efi");
    run(Command::new("sbverify").arg("--cert").arg(db.with_extension("pem")).arg(&uki)).ok();
    let other = run(Command::new("sbverify").arg("--cert").arg(keys().join("rauc/root.pem")).arg(&uki));
    assert_ne!(other.code, 0, "another key did not sign it");
    assert_ne!(signed.files.uki.sha256, unsigned.files.uki.sha256);
    assert_eq!(signed.pcrs, unsigned.pcrs);
    assert_eq!(signed.verity, unsigned.verity);
}

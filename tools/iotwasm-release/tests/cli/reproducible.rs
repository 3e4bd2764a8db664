//! Two builds of the same input, in other places, at other times, from files that were written in another order.

use std::fs::{self, FileTimes};
use std::process::Command;
use std::time::{Duration, SystemTime};

use iotwasm_firmware::release::BLOCK;

use crate::common::{Bench, run};

fn age(path: &std::path::Path, days: u64) {
    let time = SystemTime::now() - Duration::from_secs(days * 86_400);
    let times = FileTimes::new().set_accessed(time).set_modified(time);
    fs::File::open(path).unwrap().set_times(times).unwrap();
}

#[test]
fn two_builds_of_one_input_are_identical() {
    let (first, second) = (Bench::new(), Bench::new());
    // The second tree is older, and its files were made in another order.
    fs::remove_dir_all(second.path("tree/usr")).unwrap();
    second.write("tree/usr/share/data", &first.read("tree/usr/share/data"), 0o644);
    fs::remove_file(second.path("tree/bin")).unwrap();
    second.tree("tree");
    for name in ["tree", "tree/etc/a file", "tree/usr", "tree/usr/bin/tool", "initrd", "os-release"] {
        age(&second.path(name), 100);
    }
    let one = first.build("tree", "out");
    let mut command = second.command("tree", "elsewhere/out");
    run(command.env("SOURCE_DATE_EPOCH", "1").env("TZ", "Asia/Tokyo").env("LANG", "de_DE.UTF-8")).ok();
    let two = second.release("elsewhere/out");

    for name in ["rootfs.img", "uki.efi", "esp.img"] {
        assert!(first.read(&format!("out/{name}")) == second.read(&format!("elsewhere/out/{name}")), "{name}");
    }
    // The bundle's payload is the same, byte by byte. Behind it are RAUC's hash tree, salted at random, and the signature.
    let (mut one, mut two) = (one, two);
    let payload = |bench: &Bench, name: &str, length: u64| bench.read(name)[..length as usize].to_vec();
    let length = one.files.bundle.as_ref().unwrap().payload_length;
    assert!(payload(&first, "out/firmware.raucb", length) == payload(&second, "elsewhere/out/firmware.raucb", length));
    let (signed_one, signed_two) =
        (behind(&first, "out/firmware.raucb", length), behind(&second, "elsewhere/out/firmware.raucb", length));
    assert_ne!(signed_one.salt, signed_two.salt, "RAUC took a constant salt; then the whole tree could be compared");
    assert_eq!(signed_one.rest, signed_two.rest, "all else that is signed");
    // And release.json is the same but for what names the bundle as a whole.
    for release in [&mut one, &mut two] {
        let bundle = release.files.bundle.as_mut().unwrap();
        (bundle.file.length, bundle.file.sha256) = (1 << 40, iotwasm_firmware::Digest::ZERO);
        (bundle.signature_offset, bundle.signature_sha256) = ((1 << 40) - 4096, iotwasm_firmware::Digest::ZERO);
    }
    assert_eq!(one.to_json().unwrap(), two.to_json().unwrap());
}

/// What RAUC signed.
struct Signed {
    salt: String,
    /// The manifest but for the tree's salt and root hash.
    rest: Vec<String>,
}

/// Takes apart what is behind a bundle's payload: the payload's hash tree, the signature, the signature's length in 8 bytes;
/// and checks that there is nothing else.
fn behind(bench: &Bench, name: &str, payload: u64) -> Signed {
    let bundle = bench.read(name);
    let (rest, length) = bundle.split_last_chunk().unwrap();
    let length = u64::from_be_bytes(*length) as usize;
    let signature = rest.len() - length;
    assert_eq!(signature as u64, payload + verity_tree_length(payload));
    bench.write("signature.der", &rest[signature..], 0o644);
    let mut cms = Command::new("openssl");
    cms.args(["cms", "-verify", "-binary", "-noverify", "-inform", "DER", "-in"]).arg(bench.path("signature.der"));
    let manifest = run(&mut cms).ok().out;
    let value = |key: &str| -> String {
        manifest.lines().find_map(|line| line.strip_prefix(key)).unwrap_or_else(|| panic!("{key} in {manifest}")).into()
    };
    let (salt, root_hash) = (value("verity-salt="), value("verity-hash="));
    // The tree is the payload's own, under this salt and no other.
    let verify = |salt: &str| {
        let mut command = Command::new("veritysetup");
        command.arg("verify").args([bench.path(name), bench.path(name)]).arg(&root_hash).arg("--no-superblock");
        command.args(["--format=1", "--hash=sha256", &format!("--salt={salt}"), &format!("--hash-offset={payload}")]);
        run(command.arg(format!("--data-blocks={}", payload / BLOCK)))
    };
    verify(&salt).ok();
    assert_ne!(verify(&"0".repeat(64)).code, 0);
    let changes = |line: &&str| line.starts_with("verity-salt=") || line.starts_with("verity-hash=");
    let rest = manifest.lines().filter(|line| !changes(line)).map(str::to_owned).collect();
    Signed { salt, rest }
}

/// Length of dm-verity's hash tree without a superblock: 128 hashes in a block, level upon level.
fn verity_tree_length(data: u64) -> u64 {
    let (mut blocks, mut total) = (data / BLOCK, 0);
    while blocks > 1 {
        blocks = blocks.div_ceil(128);
        total += blocks;
    }
    total * BLOCK
}

#[test]
fn without_a_bundle_every_byte_is_the_same() {
    let bench = Bench::new();
    run(&mut bench.bare("tree", "one")).ok();
    run(&mut bench.bare("tree", "two")).ok();
    run(Command::new("diff").arg("-r").arg(bench.path("one")).arg(bench.path("two"))).ok();
}

#[test]
fn the_time_may_come_from_the_environment() {
    let bench = Bench::new();
    let mut command = bench.bare("tree", "one");
    run(command.env("SOURCE_DATE_EPOCH", "nonsense")).ok();
    let args: Vec<_> = bench.bare("tree", "two").get_args().map(ToOwned::to_owned).collect();
    let at = args.iter().position(|arg| arg == "--time").unwrap();
    let args = [&args[..at], &args[at + 2..]].concat();
    let run = |epoch: &str| run(crate::common::release_command().args(&args).env("SOURCE_DATE_EPOCH", epoch));
    run("nonsense").fails(64, "SOURCE_DATE_EPOCH is \"nonsense\"");
    run("1772323200").ok();
    assert_eq!(bench.read("one/release.json"), bench.read("two/release.json"));
}

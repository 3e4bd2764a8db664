//! The bundle, as RAUC on a device reads it.

use std::process::Command;

use iotwasm_firmware::Digest;

use crate::common::{Bench, Run, keys, run};

fn info(bench: &Bench, bundle: &str, keyring: &std::path::Path) -> Run {
    bench.write(
        "system.conf",
        b"[system]\ncompatible=test-board\nbootloader=noop\n[keyring]\ncheck-purpose=codesign\n",
        0o644,
    );
    let mut command = Command::new("rauc");
    command.arg("-c").arg(bench.path("system.conf")).arg("--keyring").arg(keyring);
    run(command.args(["info", "--output-format=json"]).arg(bench.path(bundle)))
}

#[test]
fn a_device_with_the_chains_root_takes_it_and_no_other() {
    let bench = Bench::new();
    bench.build("tree", "out");
    let text = info(&bench, "out/firmware.raucb", &keys().join("rauc/root.pem")).ok().out;
    let manifest: serde_json::Value = serde_json::from_str(text.lines().last().unwrap()).unwrap();
    assert_eq!(manifest["compatible"], "test-board", "{text}");
    assert_eq!(manifest["version"], "1.2.3");
    assert_eq!(manifest["build"], "2026-03-01T00:00:00Z");
    assert_eq!(manifest["format"], "verity");
    let images = manifest["images"].as_array().unwrap();
    let image = |class: &str| images.iter().find_map(|image| image.get(class)).unwrap();
    for (class, name) in [("rootfs", "rootfs.img"), ("boot", "esp.img")] {
        let image = image(class);
        assert_eq!(image["filename"], name, "{text}");
        assert_eq!(image["checksum"], Digest::of(&bench.read(&format!("out/{name}"))).to_string(), "{text}");
        assert_eq!(image["adaptive"], serde_json::json!(["block-hash-index"]), "{text}");
    }
    let bytes = bench.read("out/firmware.raucb");
    let bundle = bench.release("out").files.bundle.unwrap();
    let signature = &bytes[usize::try_from(bundle.signature_offset).unwrap()..];
    assert_eq!(Digest::of(signature), bundle.signature_sha256);
    // openssl reads it as what it is: a CMS with the manifest in it, whose root hash is RAUC's.
    bench.write("cms", &signature[..signature.len() - 8], 0o644);
    let mut openssl = Command::new("openssl");
    openssl.args(["cms", "-verify", "-noverify", "-inform", "DER", "-in"]).arg(bench.path("cms"));
    assert!(run(&mut openssl).ok().out.contains("verity-hash="));
    for stranger in ["uki/PK.pem", "rauc/intermediate.pem"] {
        let run = info(&bench, "out/firmware.raucb", &keys().join(stranger));
        assert_ne!(run.code, 0, "{stranger}");
    }
}

#[test]
fn a_signer_that_may_not_sign_code_is_refused() {
    let bench = Bench::new();
    let mut command = bench.bare("tree", "out");
    command.arg("--rauc-cert").arg(keys().join("rauc/intermediate.pem"));
    run(command.arg("--rauc-key").arg(keys().join("rauc/intermediate.key"))).ok();
    let refused = info(&bench, "out/firmware.raucb", &keys().join("rauc/root.pem"));
    assert_ne!(refused.code, 0, "{refused:#?}");
}

#[test]
fn a_tree_that_would_not_take_its_own_bundle_is_refused() {
    let bench = Bench::new();
    let conf = b"[system]\ncompatible=test-board\nbootloader=noop\n[keyring]\npath=/etc/rauc/keyring.pem\ncheck-purpose=codesign\n";
    bench.write("tree/etc/rauc/system.conf", conf, 0o644);
    let keyring = |name: &str| {
        let certificate = std::fs::read(keys().join(name)).unwrap();
        bench.write("tree/etc/rauc/keyring.pem", &certificate, 0o644);
    };
    keyring("uki/PK.pem");
    let refused = run(&mut bench.command("tree", "out"));
    assert_ne!(refused.code, 0, "{refused:#?}");
    assert!(refused.err.contains("the tree's /etc/rauc/keyring.pem does not take the bundle"), "{refused:#?}");
    assert!(!bench.path("out").exists());
    keyring("rauc/root.pem");
    run(&mut bench.command("tree", "out")).ok();
}

#[test]
fn a_release_without_a_key_has_no_bundle() {
    let bench = Bench::new();
    run(&mut bench.bare("tree", "out")).ok();
    assert_eq!(bench.release("out").files.bundle, None);
    assert!(!bench.path("out/firmware.raucb").exists());
}

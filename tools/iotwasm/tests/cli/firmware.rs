//! Firmware releases in the repository: who publishes them, and what a device sees of them.

use iotwasm_trust::repo::TargetInfo;
use serde_json::{Value, json};

use crate::common::Bench;

fn sha256(bytes: &[u8]) -> String {
    hex::encode(TargetInfo::of(bytes, None).hashes.sha256.unwrap())
}

/// A repository with the role, and a release of this version in a folder of its own.
fn with_firmware() -> Bench {
    let bench = Bench::with_repository();
    bench.run(&["keys", "generate", "--dir", "keys", "firmware"]).ok();
    bench.repo("add-firmware", &[]).ok();
    bench
}

fn release(bench: &Bench, folder: &str, version: &str, bundle: &[u8]) -> Value {
    let zero = "0".repeat(64);
    let file = |name: &str, length: u64| json!({"name": name, "length": length, "sha256": zero});
    let pcr11 = |phase: &str| json!({"phase": phase, "value": zero});
    let runner = json!({"path": "/usr/libexec/iotwasm/iotwasm-runner", "sha256": zero});
    let release = json!({
        "format": 1, "compatible": "acme-gw", "version": version, "time": "2026-03-01T00:00:00Z",
        "files": {
            "rootfs": file("rootfs.img", 8192), "uki": file("uki.efi", 1), "esp": file("esp.img", 1),
            "bundle": {
                "name": "firmware.raucb", "length": bundle.len(), "sha256": sha256(bundle),
                "payload_length": 4096, "payload_sha256": zero,
                "signature_offset": 4096, "signature_sha256": zero,
            },
        },
        "verity": {"root_hash": zero, "hash_offset": 4096, "salt": zero},
        "pcrs": {
            "pcr4": [{"secure_boot": false, "value": zero}, {"secure_boot": true, "value": zero}],
            "pcr11": [pcr11(""), pcr11("sysinit"), pcr11("sysinit:ready")],
        },
        "ima": [runner], "runner": runner,
    });
    std::fs::create_dir(bench.path(folder)).unwrap();
    std::fs::write(bench.path(folder).join("firmware.raucb"), bundle).unwrap();
    std::fs::write(bench.path(folder).join("release.json"), release.to_string()).unwrap();
    release
}

#[test]
fn a_device_finds_bundle_and_description_and_one_names_the_other() {
    let bench = with_firmware();
    let description = release(&bench, "one", "1.4.0", &[7; 5000]);
    bench.repo("publish", &["--firmware", "one"]).ok();
    let mut device = bench.device();
    let targets = device.sees("firmware/acme-gw/*");
    let names: Vec<_> = targets.iter().map(|target| target.name.as_str()).collect();
    assert_eq!(names, ["firmware/acme-gw/acme-gw-1.4.0.json", "firmware/acme-gw/acme-gw-1.4.0.raucb"]);
    assert!(targets.iter().all(|target| target.roles == ["targets", "firmware"]));
    let expected = json!({
        "kind": "firmware", "compatible": "acme-gw", "version": "1.4.0",
        "release": sha256(description.to_string().as_bytes()),
    });
    assert_eq!(targets[1].custom.as_ref().unwrap()["iotwasm"], expected);
    assert_eq!(targets[1].length, 5000);

    let status: Value =
        serde_json::from_str(&bench.run(&["--json", "repo", "status", "--repo", "repo"]).ok().out).unwrap();
    assert_eq!(status["firmware"][0]["version"], "1.4.0");
    assert!(status["roles"].as_array().unwrap().iter().any(|role| role["role"] == "firmware"));
    let words = bench.run(&["repo", "status", "--repo", "repo"]).ok().out;
    assert!(words.contains("FIRMWARE") && words.contains("acme-gw"), "{words}");
}

#[test]
fn payloads_and_firmware_can_be_published_together_and_again() {
    let bench = with_firmware();
    release(&bench, "one", "1.4.0", &[7; 5000]);
    let payload = bench.payload("1.0.0");
    bench.repo("publish", &["--firmware", "one", &payload]).ok();
    assert_eq!(bench.device().names("acme/*/*").len(), 1);
    let again = bench.repo("publish", &["--firmware", "one", &payload]).ok();
    assert!(again.out.contains("published already, unchanged"), "{again:?}");
    release(&bench, "other", "1.4.0", &[8; 5000]);
    bench.repo("publish", &["--firmware", "other"]).fails(1, "published already with other content");
    release(&bench, "two", "1.5.0", &[8; 5000]);
    bench.repo("publish", &["--firmware", "two", "--firmware", "two"]).fails(1, "another folder has the same version");
    assert_eq!(bench.device().names("firmware/acme-gw/*").len(), 2);
}

#[test]
fn what_is_not_the_described_bundle_is_refused() {
    let bench = with_firmware();
    release(&bench, "one", "1.4.0", &[7; 5000]);
    std::fs::write(bench.path("one/firmware.raucb"), [8; 5000]).unwrap();
    bench.repo("publish", &["--firmware", "one"]).fails(1, "is not the bundle that release.json describes");
    let mut without = release(&bench, "two", "1.4.0", &[7; 5000]);
    without["files"].as_object_mut().unwrap().remove("bundle");
    std::fs::write(bench.path("two/release.json"), without.to_string()).unwrap();
    bench.repo("publish", &["--firmware", "two"]).fails(1, "it has no bundle");
    bench.repo("publish", &["--firmware", "keys"]).fails(1, "could not read");
    std::fs::write(bench.path("two/release.json"), "{}").unwrap();
    bench.repo("publish", &["--firmware", "two"]).fails(1, "malformed");
    assert!(bench.device().names("firmware/acme-gw/*").is_empty());
}

#[test]
fn only_the_role_firmware_publishes_firmware() {
    let bench = Bench::with_repository();
    release(&bench, "one", "1.4.0", &[7; 5000]);
    bench.repo("publish", &["--firmware", "one"]).fails(1, "no role firmware");
    bench.repo("add-firmware", &[]).fails(1, "no key of role firmware");
    bench.run(&["keys", "generate", "--dir", "keys", "firmware"]).ok();
    // Nobody gets the role's name, and its folder, as a vendor of payloads.
    bench.repo("add-vendor", &["firmware"]).fails(64, "is the role of firmware");
    bench.repo("add-firmware", &[]).ok();
    bench.repo("add-firmware", &[]).fails(1, "is in the repository already");
    // A payload that claims to be the role's is nobody's.
    let payload = bench.payload_of("firmware", "sneaky", "1.0.0", "");
    bench.repo("publish", &[&payload]).fails(1, "there is no vendor firmware");
    // Without the role's key nothing is published, whatever other keys are there.
    for key in bench.keys_of("firmware") {
        std::fs::remove_file(key).unwrap();
    }
    bench.repo("publish", &["--firmware", "one"]).fails(1, "role firmware needs 1 of its keys");
    assert!(bench.device().names("firmware/*/*").is_empty());
}

#[test]
fn a_vendors_signature_under_a_firmware_name_is_nothing_to_a_device() {
    use iotwasm_trust::repo::{Key, Online, Repo};
    let bench = with_firmware();
    let repo = Repo::open(bench.path("repo")).unwrap();
    let key = |role: &str| Key::from_pem(&std::fs::read_to_string(&bench.keys_of(role)[0]).unwrap()).unwrap();
    let mut acme = repo.role("acme").unwrap();
    for name in ["firmware/acme-gw/acme-gw-9.0.0.raucb", "acme/acme-gw/acme-gw-9.0.0.raucb"] {
        let info = repo.add_target_file(name, &[1; 5000], Some(json!({"iotwasm": {"kind": "firmware"}}))).unwrap();
        acme.add_target(name, &info);
    }
    acme.bump().sign(&[key("acme")]);
    let (snapshot, timestamp, now) = ([key("snapshot")], [key("timestamp")], jiff::Timestamp::now());
    let expires = now + jiff::SignedDuration::from_hours(24);
    let online = Online {
        snapshot: &snapshot,
        timestamp: &timestamp,
        snapshot_expires: expires,
        timestamp_expires: expires,
        now,
    };
    repo.publish(&[&acme], &online).unwrap();
    assert!(bench.device().names("firmware/*/*").is_empty());
    assert_eq!(bench.device().names("acme/*/*").len(), 1, "what it may sign is there, under its own name");
}

#[test]
fn a_withdrawal_is_seen_and_cannot_be_undone_by_publishing() {
    let bench = with_firmware();
    release(&bench, "one", "1.4.0", &[7; 5000]);
    bench.repo("publish", &["--firmware", "one"]).ok();
    bench.repo("withdraw", &["--reason", "no sound", "--firmware", "acme-gw@1.5.0"]).fails(1, "there is no firmware/");
    bench.repo("withdraw", &["--reason", "no sound", "--firmware", "acme-gw"]).fails(64, "COMPATIBLE@VERSION");
    bench.repo("withdraw", &["--reason", "no sound"]).fails(64, "required");
    bench.repo("withdraw", &["--reason", "no sound", "--firmware", "acme-gw@1.4.0"]).ok();
    let targets = bench.device().sees("firmware/acme-gw/*.raucb");
    assert_eq!(targets[0].custom.as_ref().unwrap()["iotwasm"]["withdrawn"]["reason"], "no sound");
    bench.repo("publish", &["--firmware", "one"]).fails(1, "was withdrawn");
}

#[test]
fn the_role_is_made_with_the_repository_refreshed_and_its_key_replaced_like_any_other() {
    let bench = Bench::new();
    bench.run(&["keys", "generate", "--dir", "keys", "root", "targets", "snapshot", "timestamp", "acme"]).ok();
    bench.repo("init", &["--vendor", "acme", "--firmware"]).fails(1, "no key of role firmware");
    bench.run(&["keys", "generate", "--dir", "keys", "firmware"]).ok();
    bench.repo("init", &["--vendor", "acme", "--firmware"]).ok();
    release(&bench, "one", "1.4.0", &[7; 5000]);
    bench.repo("publish", &["--firmware", "one"]).ok();
    bench.repo("refresh", &["--role", "firmware"]).ok();
    bench.repo("rotate-key", &["firmware"]).ok();
    let mut device = bench.device();
    assert_eq!(device.names("firmware/acme-gw/*").len(), 2);
}

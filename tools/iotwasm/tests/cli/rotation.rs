//! `iotwasm repo rotate-key`, from outside: devices follow, lost keys are replaced, too few keys are refused.

use crate::common::{Bench, Device};

fn lose(bench: &Bench, role: &str) {
    for path in bench.keys_of(role) {
        std::fs::remove_file(path).unwrap();
    }
}

#[test]
fn devices_follow_the_rotation_of_every_role() {
    let bench = Bench::with_repository();
    let file = bench.payload("1.0.0");
    bench.repo("publish", &[&file]).ok();
    let mut device = bench.device();
    for (n, role) in ["timestamp", "snapshot", "targets", "acme"].into_iter().enumerate() {
        let old = bench.keys_of(role).remove(0);
        let done = bench.repo("rotate-key", &[role]).ok();
        assert!(done.out.contains(old.file_name().unwrap().to_str().unwrap()), "{done:?}");
        assert_eq!(device.sees("acme/*/*").len(), n + 1, "{role}");
        // From now on the old key is not needed, and a device that has seen nothing yet gets there, too.
        std::fs::remove_file(old).unwrap();
        let next = bench.payload(&format!("1.{}.0", n + 1));
        bench.repo("publish", &[&next]).ok();
        bench.repo("refresh", &["--role", "targets", "--role", "acme"]).ok();
        assert_eq!(device.sees("acme/*/*").len(), n + 2, "{role}");
        assert_eq!(bench.device().sees("acme/*/*").len(), n + 2, "{role}");
    }
}

#[test]
fn a_lost_key_of_any_role_but_root_is_replaced_without_it() {
    for role in ["timestamp", "snapshot", "targets", "acme"] {
        let bench = Bench::with_repository();
        let file = bench.payload("1.0.0");
        bench.repo("publish", &[&file]).ok();
        let mut device = bench.device();
        device.refresh().unwrap();
        lose(&bench, role);
        bench.repo("rotate-key", &[role]).ok();
        assert_eq!(device.names("acme/*/*"), ["acme/counter/counter-1.0.0.wasm"], "{role}");
        bench.repo("refresh", &["--role", "targets", "--role", "acme"]).ok();
        device.refresh().unwrap();
    }
}

#[test]
fn one_lost_root_key_is_replaced_by_the_other_two() {
    let bench = Bench::with_repository();
    let mut device = bench.device();
    device.refresh().unwrap();
    let lost = bench.keys_of("root").remove(0);
    let id = lost.file_stem().unwrap().to_str().unwrap().strip_prefix("root-").unwrap().to_owned();
    std::fs::remove_file(lost).unwrap();
    bench.repo("rotate-key", &["root"]).fails(64, "--replace");
    bench.repo("rotate-key", &["root", "--replace", "zz"]).fails(64, "begins with zz");
    bench.repo("rotate-key", &["root", "--replace", &id]).ok();
    device.refresh().unwrap();
    // And on: a device that only trusts the new root is content with it.
    let mut new = Device::new(bench.path("repo"), &bench.path("repo/metadata/2.root.json"));
    new.refresh().unwrap();
    bench.repo("refresh", &["--role", "root"]).ok();
    device.refresh().unwrap();
}

#[test]
fn two_lost_root_keys_are_too_many_and_nothing_is_changed() {
    let bench = Bench::with_repository();
    for path in &bench.keys_of("root")[..2] {
        std::fs::remove_file(path).unwrap();
    }
    let left = bench.keys_of("root").remove(0);
    let id = left.file_stem().unwrap().to_str().unwrap().strip_prefix("root-").unwrap().to_owned();
    bench.repo("rotate-key", &["root", "--replace", &id]).fails(1, "role root needs 2 of its keys, but 1");
    bench.repo("rotate-key", &["timestamp"]).fails(1, "role root needs 2 of its keys, but 1");
    assert!(!bench.path("repo/metadata/2.root.json").exists());
    assert_eq!((bench.keys_of("root").len(), bench.keys_of("timestamp").len()), (1, 1));
}

/// Between the two writes of a rotation, and after it was cut short there, devices with the old root and with the new one
/// both find what they need; the rotation can then be run again.
#[test]
fn a_rotation_cut_short_before_the_new_root_is_no_harm() {
    for (role, lost) in [("timestamp", false), ("snapshot", false), ("targets", false), ("targets", true)] {
        let bench = Bench::with_repository();
        let file = bench.payload("1.0.0");
        bench.repo("publish", &[&file]).ok();
        if lost {
            lose(&bench, role);
        }
        bench.repo("rotate-key", &[role]).ok();
        std::fs::remove_file(bench.path("repo/metadata/2.root.json")).unwrap();
        let mut device = bench.device();
        // Where the old key is lost, devices must wait for the new root.
        assert_eq!(device.refresh().is_ok(), !lost, "{role}");
        bench.repo("rotate-key", &[role]).ok();
        assert_eq!(device.names("acme/*/*"), ["acme/counter/counter-1.0.0.wasm"], "{role}");
    }
}

#[test]
fn a_key_of_another_role_does_not_help() {
    let bench = Bench::with_repository();
    lose(&bench, "snapshot");
    let timestamp = bench.keys_of("timestamp").remove(0);
    std::fs::copy(&timestamp, bench.path("keys/snapshot-00000000.pem")).unwrap();
    bench.repo("refresh", &[]).fails(1, "role snapshot needs 1 of its keys, but 0");
}

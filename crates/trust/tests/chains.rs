//! The chain beside a payload: what it proves offline, and what it refuses.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail like tests")]

mod common;

use std::fs;
use std::os::unix::fs::symlink;

use common::{World, days};
use iotwasm_trust::repo::Key;
use iotwasm_trust::{Error, Refusal, chain};
use tempfile::TempDir;

const NAME: &str = "acme/blinky/blinky-1.0.0.wasm";

fn world() -> World {
    let mut world = World::new();
    world.delegate("shared", &["*/*/*"], false, &[]);
    world.delegate("acme", &["acme/*/*"], true, &[NAME]);
    world
}

fn export(world: &World) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let mut updater = world.updater();
    updater.refresh().unwrap();
    updater.export_chain(NAME, folder.path()).unwrap();
    folder
}

fn rotate(world: &mut World, role: &str) {
    let key = Key::generate().unwrap();
    world.root.set_role(role, &[key.public()], 1);
    world.root.bump().sign(&world.root_keys[..2]);
    world.server.put(&world.root);
    match role {
        "timestamp" => world.timestamp_key = key,
        "snapshot" => world.snapshot_key = key,
        _ => world.targets_key = key,
    }
    world.publish_targets();
}

#[test]
fn exported_chain_verifies_and_holds_what_the_search_needed() {
    let world = world();
    let folder = export(&world);
    let target = chain::verify(&world.pinned, folder.path(), NAME).unwrap();
    assert_eq!(target.roles, ["targets", "acme"]);
    assert_eq!(target.verify(b"acme"), Ok(()));
    let mut files: Vec<_> =
        fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    files.sort();
    // The role that was asked first and does not name the target is part of the proof.
    let expected = ["1.root.json", "acme.json", "shared.json", "snapshot.json", "targets.json", "timestamp.json"];
    assert_eq!(files, expected);
}

#[test]
fn expiry_does_not_count_offline() {
    let mut world = world();
    for document in [&mut world.timestamp, &mut world.snapshot, &mut world.targets] {
        document.set_expires(days(1));
    }
    world.publish_targets();
    let folder = export(&world);
    // There is no clock in this call at all: the chain expired long before today.
    chain::verify(&world.pinned, folder.path(), NAME).unwrap();
}

#[test]
fn chain_leads_from_an_older_pinned_root_to_the_newest() {
    let mut world = world();
    rotate(&mut world, "targets");
    rotate(&mut world, "timestamp");
    let folder = export(&world);
    let verified = chain::verify_above(&world.pinned, folder.path(), NAME, chain::Floor { root: 3 }).unwrap();
    assert_eq!(verified.root, 3);
    fs::remove_file(folder.path().join("2.root.json")).unwrap();
    let err = chain::verify(&world.pinned, folder.path(), NAME).unwrap_err();
    assert_eq!(err.refusal(), Some(&Refusal::NotUnderRoot(1)));
}

#[test]
fn newer_pinned_root_accepts_an_old_chain_whose_keys_it_still_trusts() {
    let mut world = world();
    let folder = export(&world);
    world.root.set_expires(days(700)).bump().sign(&world.root_keys[..2]);
    let target = chain::verify(&world.root.to_bytes(), folder.path(), NAME).unwrap();
    assert_eq!(target.name, NAME);
}

#[test]
fn newer_pinned_root_refuses_an_old_chain_whose_keys_it_withdrew() {
    for role in ["timestamp", "snapshot", "targets"] {
        let mut world = world();
        let folder = export(&world);
        rotate(&mut world, role);
        let err = chain::verify(&world.root.to_bytes(), folder.path(), NAME).unwrap_err();
        assert_eq!(err.refusal(), Some(&Refusal::NotUnderRoot(2)), "{role}");
        assert!(err.to_string().contains(role));
    }
}

#[test]
fn chain_exported_under_a_newer_image_verifies_under_the_older_one() {
    let mut world = world();
    let before = export(&world);
    rotate(&mut world, "timestamp");
    rotate(&mut world, "targets");
    let renewed = export(&world);
    // The next image pins what is the newest root now.
    let (older, newer) = (world.pinned.clone(), world.root.to_bytes());
    chain::verify(&newer, before.path(), NAME).unwrap_err();
    chain::verify(&newer, renewed.path(), NAME).unwrap();
    world.pinned.clone_from(&newer);
    rotate(&mut world, "snapshot");
    let later = export(&world);
    for pinned in [older, newer, world.root.to_bytes()] {
        let floor = chain::Floor::default();
        assert_eq!(chain::verify_above(&pinned, later.path(), NAME, floor).unwrap().root, 4);
    }
}

#[test]
fn what_another_repository_left_in_the_store_is_not_exported() {
    let mut old = world();
    rotate(&mut old, "timestamp");
    old.updater().refresh().unwrap();
    let mut new = world();
    std::mem::swap(&mut old.store, &mut new.store);
    let folder = export(&new);
    chain::verify(&new.pinned, folder.path(), NAME).unwrap();
    assert!(!folder.path().join("2.root.json").exists());
}

#[test]
fn chain_below_the_floor_is_refused() {
    let world = world();
    let folder = export(&world);
    let err = chain::verify_above(&world.pinned, folder.path(), NAME, chain::Floor { root: 2 }).unwrap_err();
    assert!(matches!(err, Error::BelowFloor { found: 1, floor: 2 }));
}

#[test]
fn every_file_of_the_chain_is_needed_and_protected() {
    let world = world();
    for file in ["timestamp.json", "snapshot.json", "targets.json", "shared.json", "acme.json"] {
        let folder = export(&world);
        let path = folder.path().join(file);
        let bytes = fs::read(&path).unwrap();
        let mut altered = bytes.clone();
        let digit = altered.iter().rposition(u8::is_ascii_digit).unwrap();
        altered[digit] = if altered[digit] == b'1' { b'2' } else { b'1' };
        fs::write(&path, altered).unwrap();
        assert!(chain::verify(&world.pinned, folder.path(), NAME).is_err(), "{file} altered");
        fs::remove_file(&path).unwrap();
        assert!(
            matches!(chain::verify(&world.pinned, folder.path(), NAME), Err(Error::Missing { path }) if path == file),
            "{file} missing"
        );
        let elsewhere = folder.path().join("elsewhere");
        fs::write(&elsewhere, &bytes).unwrap();
        symlink(&elsewhere, &path).unwrap();
        assert!(chain::verify(&world.pinned, folder.path(), NAME).is_err(), "{file} a symbolic link");
    }
}

#[test]
fn chain_of_another_repository_is_refused() {
    let folder = export(&world());
    assert!(chain::verify(&World::new().pinned, folder.path(), NAME).is_err());
}

#[test]
fn chain_says_nothing_of_other_targets() {
    let world = world();
    let folder = export(&world);
    let err = chain::verify(&world.pinned, folder.path(), "acme/other/other-1.0.0.wasm").unwrap_err();
    assert!(matches!(err, Error::NoSuchTarget { .. }));
    assert!(chain::verify(&world.pinned, folder.path(), "../x").is_err());
}

#[test]
fn folder_that_is_a_symbolic_link_is_refused() {
    let world = world();
    let folder = export(&world);
    let outside = tempfile::tempdir().unwrap();
    let link = outside.path().join("chain");
    symlink(folder.path(), &link).unwrap();
    assert!(matches!(chain::verify(&world.pinned, &link, NAME), Err(Error::Io { .. })));
}

#[test]
fn oversized_file_is_refused() {
    let world = world();
    let folder = export(&world);
    fs::write(folder.path().join("timestamp.json"), vec![b' '; 64 * 1024]).unwrap();
    assert!(matches!(chain::verify(&world.pinned, folder.path(), NAME), Err(Error::Io { .. })));
}

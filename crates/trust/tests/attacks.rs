//! One test for each attack or accident that the client must withstand; the fixtures are made in code.

mod common;

use std::time::Duration;

use common::{World, days, start};
use iotwasm_trust::repo::{Key, TargetInfo};
use iotwasm_trust::{Error, Fetch, FetchError, Limits, Refusal, Time, Updater};

fn refusal(result: Result<impl std::fmt::Debug, Error>) -> Refusal {
    let err = result.expect_err("must be refused");
    err.refusal().unwrap_or_else(|| panic!("not a refusal: {err:?}")).clone()
}

#[test]
fn sound_repository_is_accepted_byte_for_byte() {
    let world = World::new();
    let done = world.refresh().unwrap();
    assert_eq!((done.root, done.timestamp, done.snapshot), (1, 1, 1));
    for (stored, served) in [("timestamp", "timestamp"), ("snapshot", "1.snapshot"), ("targets", "1.targets")] {
        let bytes = std::fs::read(world.store.path().join(format!("{stored}.json"))).unwrap();
        assert_eq!(Some(&bytes), world.server.files.get(&format!("{served}.json")));
    }
    let target = world.find("hello.txt").unwrap().unwrap();
    assert_eq!(target.roles, ["targets"]);
    assert!(target.remote_path.ends_with(".hello.txt"));
    assert_eq!(world.find("nothing.txt").unwrap(), None);
}

#[test]
fn second_refresh_asks_for_root_and_timestamp_only() {
    let world = World::new();
    world.refresh().unwrap();
    let mut updater = world.updater();
    updater.refresh().unwrap();
    updater.find("hello.txt").unwrap().unwrap();
    assert_eq!(updater.fetch_mut().asked, ["2.root.json", "timestamp.json"]);
}

#[test]
fn wrong_root_is_refused_at_the_timestamp() {
    let mut world = World::new();
    world.pinned = World::new().pinned;
    assert!(matches!(refusal(world.refresh()), Refusal::Threshold { valid: 0, threshold: 1 }));
    assert_eq!(world.stored("timestamp"), None);
}

#[test]
fn pinned_root_below_its_own_threshold_is_refused() {
    let mut world = World::new();
    world.root.sign(&world.root_keys[..1]);
    world.pinned = world.root.to_bytes();
    assert!(matches!(world.refresh(), Err(Error::PinnedRoot { .. })));
}

#[test]
fn root_signed_by_new_keys_only_is_refused() {
    let mut world = World::new();
    let new: Vec<Key> = (0..2).map(|_| Key::generate().unwrap()).collect();
    let public: Vec<_> = new.iter().map(Key::public).collect();
    world.root.set_role("root", &public, 2);
    world.publish_root(&new.iter().collect::<Vec<_>>());
    assert!(matches!(refusal(world.refresh()), Refusal::Threshold { .. }));
    assert_eq!(world.stored("root"), Some(1));
}

#[test]
fn root_signed_by_old_and_new_thresholds_is_followed() {
    let mut world = World::new();
    let new: Vec<Key> = (0..2).map(|_| Key::generate().unwrap()).collect();
    let public: Vec<_> = new.iter().map(Key::public).collect();
    world.root.set_role("root", &public, 2);
    let old = std::mem::replace(&mut world.root_keys, new);
    let signers: Vec<&Key> = old[..2].iter().chain(&world.root_keys).collect();
    world.root.bump().sign(signers);
    world.server.put(&world.root);
    world.root.bump().sign(&world.root_keys);
    world.server.put(&world.root);
    assert_eq!(world.refresh().unwrap().root, 3);
    for version in 1..=3 {
        assert!(world.store.path().join(format!("roots/{version}.root.json")).exists(), "root {version} is kept");
    }
}

#[test]
fn root_that_skips_a_version_is_refused() {
    let mut world = World::new();
    world.root.bump().bump().sign(&world.root_keys[..2]);
    world.server.files.insert("2.root.json".into(), world.root.to_bytes());
    assert_eq!(refusal(world.refresh()), Refusal::WrongVersion { expected: 2, found: 3 });
}

#[test]
fn number_of_roots_in_one_refresh_is_bounded() {
    let mut world = World::new();
    for _ in 0..5 {
        let keys: Vec<Key> = std::mem::take(&mut world.root_keys);
        world.publish_root(&[&keys[0], &keys[1]]);
        world.root_keys = keys;
    }
    let limits = Limits { root_rotations: 3, ..Limits::default() };
    let time = Time::new(world.clock.clone(), start());
    let mut updater = Updater::open(world.store.path(), &world.pinned, time, limits, world.server.clone()).unwrap();
    assert_eq!(updater.refresh().unwrap().root, 4);
    assert_eq!(updater.refresh().unwrap().root, 6);
}

#[test]
fn one_key_signing_twice_does_not_meet_a_threshold_of_two() {
    let mut world = World::new();
    let second = Key::generate().unwrap();
    world.root.set_role("timestamp", &[world.timestamp_key.public(), second.public()], 2);
    world.root.sign(&world.root_keys[..2]);
    world.pinned = world.root.to_bytes();
    let twice = world.timestamp.signatures[0].clone();
    world.timestamp.signatures.push(twice);
    world.server.put(&world.timestamp);
    assert!(matches!(refusal(world.refresh()), Refusal::DuplicateSignature(_)));
    world.timestamp.signatures.pop();
    world.server.put(&world.timestamp);
    assert_eq!(refusal(world.refresh()), Refusal::Threshold { valid: 1, threshold: 2 });
    world.timestamp.add_signature(&second);
    world.server.put(&world.timestamp);
    world.refresh().unwrap();
}

#[test]
fn one_key_under_two_ids_does_not_meet_a_threshold_of_two() {
    let mut world = World::new();
    let id = world.timestamp_key.id();
    let alias = "ab".repeat(32);
    let key = world.timestamp_key.public().to_json();
    world.root.signed["keys"][&alias] = key;
    world.root.signed["roles"]["timestamp"] = serde_json::json!({"keyids": [id, alias], "threshold": 2});
    world.root.sign(&world.root_keys[..2]);
    world.pinned = world.root.to_bytes();
    let signature = world.timestamp.signatures[0].1.clone();
    world.timestamp.signatures.push((alias, signature));
    world.server.put(&world.timestamp);
    assert_eq!(refusal(world.refresh()), Refusal::Threshold { valid: 1, threshold: 2 });
}

#[test]
fn altered_metadata_is_refused() {
    for (file, role) in
        [("timestamp.json", "timestamp"), ("1.snapshot.json", "snapshot"), ("1.targets.json", "targets")]
    {
        let mut world = World::new();
        let text = String::from_utf8(world.server.files[file].clone()).unwrap();
        world.server.files.insert(file.into(), text.replace("2026", "2027").into_bytes());
        match world.refresh() {
            Err(Error::Refused { role: refused, .. }) => assert_eq!(refused, role),
            other => panic!("{file}: {other:?}"),
        }
        assert_eq!(world.stored(role), None);
    }
}

#[test]
fn role_in_another_roles_place_is_refused() {
    let mut world = World::new();
    world.root.set_role("timestamp", &[world.snapshot_key.public()], 1);
    world.root.sign(&world.root_keys[..2]);
    world.pinned = world.root.to_bytes();
    world.server.files.insert("timestamp.json".into(), world.snapshot.to_bytes());
    assert!(matches!(refusal(world.refresh()), Refusal::WrongType { .. }));
}

#[test]
fn other_major_version_of_the_specification_is_refused() {
    let mut world = World::new();
    world.timestamp.signed.insert("spec_version".into(), "2.0.0".into());
    world.publish_timestamp();
    assert!(matches!(refusal(world.refresh()), Refusal::WrongType { .. }));
}

#[test]
fn each_expired_role_is_refused_and_what_came_before_is_kept() {
    for (role, day) in [("timestamp", 8), ("snapshot", 31), ("targets", 91), ("root", 366)] {
        let mut world = World::new();
        // Everything but the role in question lives on.
        for document in [&mut world.timestamp, &mut world.snapshot, &mut world.targets, &mut world.root] {
            if document.role != role {
                document.set_expires(days(1000));
            }
        }
        world.root.sign(&world.root_keys[..2]);
        world.pinned = world.root.to_bytes();
        world.publish_targets();
        world.clock.set_wall(days(day));
        match world.refresh() {
            Err(Error::Refused { role: refused, why: Refusal::Expired { .. } }) => assert_eq!(refused, role),
            other => panic!("{role}: {other:?}"),
        }
        let order = ["root", "timestamp", "snapshot", "targets"];
        let place = order.iter().position(|name| *name == role).unwrap();
        for later in &order[place.max(1)..] {
            assert_eq!(world.stored(later), None, "{later} after an expired {role}");
        }
        for earlier in &order[1..place.max(1)] {
            assert!(world.stored(earlier).is_some(), "{earlier} before an expired {role}");
        }
    }
}

#[test]
fn timestamp_rollback_is_refused() {
    let mut world = World::new();
    world.publish_timestamp();
    world.refresh().unwrap();
    world.timestamp.set_version(0);
    world.publish_timestamp();
    let expected = Refusal::Rollback { what: "timestamp.json".into(), trusted: 2, offered: 1 };
    assert_eq!(refusal(world.refresh()), expected);
    assert_eq!(world.stored("timestamp"), Some(2));
}

#[test]
fn snapshot_rollback_in_a_newer_timestamp_is_refused() {
    let mut world = World::new();
    world.publish_snapshot();
    world.refresh().unwrap();
    world.snapshot.set_version(0);
    world.publish_snapshot();
    let expected = Refusal::Rollback { what: "snapshot.json".into(), trusted: 2, offered: 1 };
    assert_eq!(refusal(world.refresh()), expected);
}

#[test]
fn targets_rollback_in_a_newer_snapshot_is_refused() {
    let mut world = World::new();
    world.publish_targets();
    world.refresh().unwrap();
    world.targets.set_version(0);
    world.publish_targets();
    let expected = Refusal::Rollback { what: "targets.json".into(), trusted: 2, offered: 1 };
    assert_eq!(refusal(world.refresh()), expected);
    assert_eq!((world.stored("snapshot"), world.stored("targets")), (Some(2), Some(2)));
}

#[test]
fn role_that_vanishes_from_the_snapshot_is_refused() {
    let mut world = World::new();
    world.delegate("acme", &["acme/*"], false, &["acme/a"]);
    world.refresh().unwrap();
    world.snapshot.signed["meta"].as_object_mut().unwrap().remove("acme.json");
    world.publish_snapshot();
    assert_eq!(refusal(world.refresh()), Refusal::Unlisted("acme.json".into()));
}

#[test]
fn frozen_repository_is_refused_once_its_timestamp_has_expired() {
    let world = World::new();
    world.refresh().unwrap();
    world.clock.set_wall(days(6));
    world.refresh().unwrap();
    world.clock.set_wall(days(8));
    assert!(matches!(refusal(world.refresh()), Refusal::Expired { .. }));
}

#[test]
fn snapshot_of_another_time_is_refused() {
    let mut world = World::new();
    let old = world.snapshot.to_bytes();
    world.publish_targets();
    world.server.files.insert("2.snapshot.json".into(), old);
    assert!(matches!(refusal(world.refresh()), Refusal::Length { .. } | Refusal::Hash(_)));
}

#[test]
fn mixed_snapshot_without_hashes_is_refused_by_its_version() {
    let mut world = World::new();
    let old = world.snapshot.to_bytes();
    world.publish_targets();
    world.timestamp.set_meta("snapshot.json", 2, None);
    world.publish_timestamp();
    world.server.files.insert("2.snapshot.json".into(), old);
    assert_eq!(refusal(world.refresh()), Refusal::WrongVersion { expected: 2, found: 1 });
}

#[test]
fn targets_of_another_time_are_refused() {
    let mut world = World::new();
    let old = world.targets.to_bytes();
    world.publish_targets();
    world.server.files.insert("2.targets.json".into(), old);
    assert!(matches!(refusal(world.refresh()), Refusal::Length { .. } | Refusal::Hash(_)));
    assert_eq!(world.stored("snapshot"), Some(2));
}

#[test]
fn fast_forwarded_versions_are_recovered_by_replacing_keys() {
    let mut world = World::new();
    world.timestamp.set_version(1000);
    world.snapshot.set_version(1000);
    world.publish_snapshot();
    world.refresh().unwrap();
    assert_eq!(world.stored("timestamp"), Some(1001));

    world.timestamp_key = Key::generate().unwrap();
    world.snapshot_key = Key::generate().unwrap();
    world.root.set_role("timestamp", &[world.timestamp_key.public()], 1);
    world.root.set_role("snapshot", &[world.snapshot_key.public()], 1);
    world.root.bump().sign(&world.root_keys[..2]);
    world.server.put(&world.root);
    world.timestamp.set_version(1);
    world.snapshot.set_version(1);
    world.publish_snapshot();
    let done = world.refresh().unwrap();
    assert_eq!((done.root, done.timestamp, done.snapshot), (2, 2, 2));
}

#[test]
fn new_root_that_keeps_the_online_keys_does_not_reset_versions() {
    let mut world = World::new();
    world.publish_timestamp();
    world.refresh().unwrap();
    world.root.bump().sign(&world.root_keys[..2]);
    world.server.put(&world.root);
    world.timestamp.set_version(0);
    world.publish_timestamp();
    assert!(matches!(refusal(world.refresh()), Refusal::Rollback { .. }));
    assert_eq!((world.stored("root"), world.stored("timestamp")), (Some(2), Some(2)));
}

/// Answers everything with as much as it may, and one byte more.
struct Endless;

impl Fetch for Endless {
    fn fetch(&mut self, _path: &str, max_len: u64) -> Result<Vec<u8>, FetchError> {
        Ok(vec![b' '; max_len as usize + 1])
    }
}

#[test]
fn endless_data_is_refused() {
    let world = World::new();
    let time = Time::new(world.clock.clone(), start());
    let mut updater = Updater::open(world.store.path(), &world.pinned, time, Limits::default(), Endless).unwrap();
    assert!(matches!(refusal(updater.refresh()), Refusal::Length { .. }));
}

#[test]
fn metadata_above_its_limit_is_refused() {
    for file in ["2.root.json", "timestamp.json", "1.snapshot.json", "1.targets.json"] {
        let mut world = World::new();
        world.server.files.insert(file.into(), vec![b' '; 6 * 1024 * 1024]);
        assert!(matches!(refusal(world.refresh()), Refusal::Length { .. }), "{file}");
    }
}

#[test]
fn missing_files_are_named() {
    for file in ["timestamp.json", "1.snapshot.json", "1.targets.json"] {
        let mut world = World::new();
        world.server.files.remove(file);
        match world.refresh() {
            Err(Error::Missing { path }) => assert_eq!(path, file),
            other => panic!("{file}: {other:?}"),
        }
    }
}

#[test]
fn deeply_nested_json_is_refused() {
    let mut world = World::new();
    world.server.files.insert("timestamp.json".into(), b"[".repeat(10_000));
    assert!(matches!(refusal(world.refresh()), Refusal::Malformed(_)));
}

#[test]
fn damaged_store_is_as_good_as_an_empty_one() {
    let world = World::new();
    world.refresh().unwrap();
    let files = ["root.json", "timestamp.json", "snapshot.json", "targets.json", "roots/1.root.json", "floor"];
    for file in files {
        for damage in [&b""[..], b"{\"signed\":", &[0xff; 100]] {
            std::fs::write(world.store.path().join(file), damage).unwrap();
            world.refresh().unwrap_or_else(|err| panic!("{file}: {err:?}"));
        }
    }
    // Not even another kind of file can block it from opening; only writing it could fail.
    std::fs::remove_file(world.store.path().join("floor")).unwrap();
    std::os::unix::fs::symlink("/dev/zero", world.store.path().join("floor")).unwrap();
    world.refresh().unwrap();
}

#[test]
fn clock_that_steps_back_does_no_harm() {
    let mut world = World::new();
    world.refresh().unwrap();
    world.clock.set_wall(days(-300));
    world.publish_targets();
    assert_eq!(world.refresh().unwrap().timestamp, 2);
}

#[test]
fn clock_that_once_jumped_ahead_does_no_lasting_harm() {
    let world = World::new();
    world.refresh().unwrap();
    world.clock.set_wall(days(10_000));
    assert!(matches!(refusal(world.refresh()), Refusal::Expired { .. }));
    world.clock.set_wall(start());
    world.refresh().unwrap();
}

#[test]
fn without_a_clock_metadata_expires_by_the_image_s_build_time() {
    let mut world = World::new();
    world.clock.set_wall(jiff::Timestamp::UNIX_EPOCH);
    world.build_time = days(8);
    assert!(matches!(refusal(world.refresh()), Refusal::Expired { .. }));
}

#[test]
fn without_a_clock_metadata_expires_by_signed_times() {
    let mut world = World::new();
    world.clock.set_wall(jiff::Timestamp::UNIX_EPOCH);
    let old = world.timestamp.to_bytes();
    world.timestamp.set_signed_at(days(20)).set_expires(days(27));
    world.publish_timestamp();
    world.refresh().unwrap();
    // The floor is now day 20: a timestamp with a higher version that expired before it is stale.
    world.timestamp.set_expires(days(19));
    world.timestamp.signed.remove("x-iotwasm-signed-at");
    world.publish_timestamp();
    assert!(matches!(refusal(world.refresh()), Refusal::Expired { .. }));
    assert_ne!(old, world.timestamp.to_bytes());
}

#[test]
fn without_a_clock_metadata_expires_by_running_even_across_restarts() {
    let mut world = World::new();
    world.clock.set_wall(jiff::Timestamp::UNIX_EPOCH);
    world.timestamp.set_signed_at(start());
    world.publish_timestamp();
    for day in 0..7 {
        // Each day a process of its own that starts with the floor of the last one.
        let mut updater = world.updater();
        updater.refresh().unwrap_or_else(|err| panic!("day {day}: {err:?}"));
        world.clock.run(Duration::from_secs(24 * 3600 + 60));
        let _ = updater.refresh();
    }
    assert!(matches!(refusal(world.refresh()), Refusal::Expired { .. }));
    // And a newer timestamp makes all well.
    world.timestamp.set_signed_at(days(7)).set_expires(days(14));
    world.publish_timestamp();
    world.refresh().unwrap();
}

#[test]
fn floor_file_from_the_future_does_not_lock_out_newer_metadata() {
    let mut world = World::new();
    world.refresh().unwrap();
    std::fs::write(world.store.path().join("floor"), "2999-01-01T00:00:00Z\n").unwrap();
    world.timestamp.set_expires(days(14));
    world.publish_timestamp();
    world.refresh().unwrap();
    world.refresh().unwrap();
}

#[test]
fn signing_time_past_its_own_expiry_is_no_floor() {
    let mut world = World::new();
    world.timestamp.set_signed_at(days(500));
    world.publish_timestamp();
    world.refresh().unwrap();
    world.refresh().unwrap();
}

#[test]
fn target_that_was_altered_is_refused() {
    let target = World::new().find("hello.txt").unwrap().unwrap();
    assert_eq!(target.verify(b"hello"), Ok(()));
    assert_eq!(target.verify(b"hellO"), Err(Refusal::Hash("sha256")));
    assert!(matches!(target.verify(b"hello!"), Err(Refusal::Length { .. })));
    let mut verifier = target.verifier();
    verifier.update(b"hel").unwrap();
    assert!(matches!(verifier.finish(), Err(Refusal::Length { expected: 5, found: 3 })));
    let mut verifier = target.verifier();
    verifier.update(b"hel").unwrap();
    assert!(verifier.update(b"lo!").is_err());
}

#[test]
fn sha512_alone_is_enough() {
    let mut world = World::new();
    let mut info = TargetInfo::of(b"big", None);
    let mut hash = [0; 64];
    hash.copy_from_slice(ring::digest::digest(&ring::digest::SHA512, b"big").as_ref());
    info.hashes.sha256 = None;
    info.hashes.sha512 = Some(hash);
    world.targets.add_target("dir/big.bin", &info);
    world.publish_targets();
    let target = world.find("dir/big.bin").unwrap().unwrap();
    assert_eq!(target.remote_path, format!("dir/{}.big.bin", hex::encode(hash)));
    assert_eq!(target.verify(b"big"), Ok(()));
    assert_eq!(target.verify(b"bag"), Err(Refusal::Hash("sha512")));
}

#[test]
fn target_with_an_unknown_hash_harms_only_itself() {
    let mut world = World::new();
    world.targets.add_target("odd", &TargetInfo::of(b"odd", None));
    world.targets.signed["targets"]["odd"]["hashes"] = serde_json::json!({"md4": "00"});
    world.publish_targets();
    assert_eq!(refusal(world.find("odd")), Refusal::NoUsableHash);
    assert!(world.find("hello.txt").unwrap().is_some());
}

#[test]
fn key_of_an_unknown_kind_is_as_if_absent() {
    let mut world = World::new();
    let id = "cd".repeat(32);
    world.root.signed["keys"][&id] =
        serde_json::json!({"keytype": "sphincs", "scheme": "new", "keyval": {"public": "00"}});
    world.root.signed["roles"]["timestamp"]["keyids"].as_array_mut().unwrap().push(id.into());
    world.root.sign(&world.root_keys[..2]);
    world.pinned = world.root.to_bytes();
    world.refresh().unwrap();
}

#[test]
fn unknown_fields_are_covered_by_the_signature() {
    let mut world = World::new();
    world.targets.signed.insert("future".into(), serde_json::json!({"a": [1, {"b": null}]}));
    world.publish_targets();
    world.refresh().unwrap();
}

//! What the repository may do to the device: nothing that was not signed, and nothing that is not fetched whole.

mod common;

use common::repo::{TestRepo, manifest, packed, payload};
use common::web::Web;
use common::{World, until};
use iotwasm_api::ota::Outcome;

/// A device that runs 1.0.0, with 1.1.0 published in some bad way by the test.
fn committed() -> World {
    let mut world = World::new();
    world.repo.release("blinky", "1.0.0");
    world.start().until_committed("1.0.0");
    world
}

/// The next check must refuse the repository (or the vendor's role) with these words, and change nothing.
#[track_caller]
fn refuses(world: &World, words: &[&str]) {
    let before = world.state();
    world.check();
    let attempt = world.until_outcome(Outcome::Refused);
    for word in words {
        assert!(attempt.message.contains(word), "{word:?} is not in {:?}", attempt.message);
    }
    assert_eq!(world.state(), before);
    assert_eq!(world.payload().committed, "1.0.0");
    assert!(world.shared().status().last_error.contains(words[0]));
    assert!(world.metrics().contains("outcome=\"refused\"} 1"));
    // Again: counted, but not written again.
    let attempts = world.attempts().len();
    world.check();
    until("it is counted again", || world.metrics().contains("outcome=\"refused\"} 2"));
    assert_eq!(world.attempts().len(), attempts);
}

#[test]
fn a_forged_timestamp_is_refused() {
    let world = committed();
    world.repo.publish_forged_timestamp();
    refuses(&world, &["timestamp", "valid signatures"]);
}

#[test]
fn a_forged_role_of_the_vendor_is_refused() {
    let mut world = committed();
    world.repo.add(&payload("blinky", "1.1.0"), |_| {});
    world.repo.publish_forged_role();
    refuses(&world, &["acme", "valid signatures"]);
}

#[test]
fn an_expired_repository_is_refused() {
    let world = committed();
    world.repo.publish_expired();
    refuses(&world, &["timestamp", "expired"]);
}

#[test]
fn a_repository_that_goes_back_is_refused() {
    let mut world = World::new();
    world.repo.release("blinky", "1.0.0");
    let old = world.dir.path().join("old");
    common::copy(&world.repo.dir, &old);
    world.repo.publish_role();
    world.start().until_committed("1.0.0");
    world.web.set(|web| web.dir = old);
    refuses(&world, &["timestamp", "goes back"]);
}

#[test]
fn mixed_metadata_are_refused() {
    let mut world = committed();
    let timestamp = world.repo.dir.join("metadata/timestamp.json");
    let versions = |repo: &TestRepo| {
        let mut found: Vec<u64> = std::fs::read_dir(repo.dir.join("metadata"))
            .unwrap()
            .filter_map(|e| e.unwrap().file_name().to_str()?.strip_suffix(".snapshot.json")?.parse().ok())
            .collect();
        found.sort_unstable();
        found
    };
    world.repo.publish_role();
    let newest = *versions(&world.repo).last().unwrap();
    // The newest timestamp, with the snapshot of another moment under its snapshot's name.
    let metadata = world.repo.dir.join("metadata");
    let snapshot = |n: u64| metadata.join(format!("{n}.snapshot.json"));
    std::fs::copy(snapshot(newest - 1), snapshot(newest)).unwrap();
    assert!(timestamp.exists());
    refuses(&world, &["snapshot"]);
}

#[test]
fn what_vouches_for_a_payload_in_its_trial_follows_a_rotated_key() {
    let mut world = World::new();
    world.config.confirmation_min_s = 600;
    world.repo.release("blinky", "1.0.0");
    world.start();
    until("its trial has begun", || world.attempts().iter().any(|attempt| attempt.outcome == Outcome::Trial));
    let newer = world.repo.rotate_timestamp();
    world.check();
    let state = world.state();
    let (slot, release, _) = state.trial().unwrap();
    let chain = world.data().join("payloads/blinky").join(slot.as_str()).join("chain");
    iotwasm_trust::chain::verify(&newer, &chain, &release.target.to_string()).unwrap();
}

#[test]
fn a_mirror_with_one_role_wrong_is_passed_over() {
    let mut world = committed();
    world.stop();
    world.repo.release("blinky", "1.1.0");
    let spoiled = world.dir.path().join("spoiled");
    common::copy(&world.repo.dir, &spoiled);
    let mut roles: Vec<_> = std::fs::read_dir(spoiled.join("metadata")).unwrap().map(|e| e.unwrap().path()).collect();
    roles.retain(|path| path.to_string_lossy().ends_with(".acme.json"));
    for role in roles {
        let text = std::fs::read_to_string(&role).unwrap().replace("1.1.0", "1.1.1");
        std::fs::write(role, text).unwrap();
    }
    let good = Web::serve(world.repo.dir.clone());
    world.web.set(|web| web.dir = spoiled);
    world.config.repositories.push(good.url.clone());
    world.start().until_committed("1.1.0");
    // Where every mirror has it wrong, it is refused.
    world.repo.add(&payload("blinky", "1.2.0"), |_| {});
    world.repo.publish_forged_role();
    world.web.set(|web| web.dir.clone_from(&world.repo.dir));
    world.check();
    let attempt = world.until_outcome(Outcome::Refused);
    assert!(attempt.message.contains("acme"), "{}", attempt.message);
}

#[test]
fn what_vouches_for_a_committed_payload_follows_a_rotated_key() {
    let mut world = committed();
    let (before, attempts) = (world.state(), world.attempts().len());
    let (slot, release) = before.committed().unwrap();
    let (chain, name) =
        (world.data().join("payloads/blinky").join(slot.as_str()).join("chain"), release.target.to_string());
    let is_vouched_for = |root: &[u8]| iotwasm_trust::chain::verify(root, &chain, &name).is_ok();
    // What the image pins, and what the next one will.
    let (older, newer) = (world.repo.root_json(), world.repo.rotate_timestamp());
    assert!(is_vouched_for(&older) && !is_vouched_for(&newer));
    world.check();
    assert!(is_vouched_for(&older) && is_vouched_for(&newer));
    // Once: what is under the newest root is left alone.
    let written = std::fs::metadata(&chain).unwrap().modified().unwrap();
    world.check();
    assert_eq!(std::fs::metadata(&chain).unwrap().modified().unwrap(), written);
    assert_eq!((world.state(), world.attempts().len()), (before.clone(), attempts));
}

#[test]
fn a_repository_under_another_root_is_refused() {
    let world = committed();
    let other = world.dir.path().join("other");
    let mut repo = TestRepo::new(&other);
    repo.release("blinky", "1.1.0");
    world.web.set(|web| web.dir = other);
    refuses(&world, &["timestamp", "valid signatures"]);
}

#[test]
fn a_server_that_is_away_is_a_failure_and_not_a_refusal() {
    let world = committed();
    world.web.set(|web| web.down = true);
    world.check();
    world.until_outcome(Outcome::Failed);
    assert!(!world.shared().status().last_error.is_empty());
    assert!(world.shared().status().next_check_s <= 36);
    world.web.set(|web| web.down = false);
    world.check();
    until("it is well again", || world.shared().status().last_error.is_empty());
}

#[test]
fn a_mirror_stands_in_for_a_server_that_is_away_or_forged() {
    let mut world = World::new();
    let mirror = Web::serve(world.repo.dir.clone());
    world.config.repositories.push(mirror.url.clone());
    world.repo.release("blinky", "1.0.0");
    world.web.set(|web| web.down = true);
    world.start().until_committed("1.0.0");
    assert!(!mirror.requests_of("/targets/").is_empty());

    let forged = world.dir.path().join("forged");
    TestRepo::new(&forged).release("blinky", "9.0.0");
    world.web.set(|web| (web.down, web.dir) = (false, forged));
    world.repo.release("blinky", "1.1.0");
    world.check();
    world.until_committed("1.1.0");
}

#[test]
fn a_broken_download_goes_on_where_it_stopped() {
    let mut world = World::new();
    let sha256 = world.repo.release("blinky", "1.0.0");
    world.web.set(|web| web.cut_target_at = Some(10_000));
    world.start();
    until("the first part has come", || !world.web.requests_of("/targets/").is_empty());
    until("the check has ended", || !world.shared().is_checking());
    if world.payload().slots.iter().all(|slot| slot.state == "inactive") {
        // Not taken up within the same check: the part is kept, across a restart of the daemon.
        assert!(world.downloads().iter().any(|name| name.contains(&sha256)), "{:?}", world.downloads());
        world.stop();
        world.start();
    }
    world.until_committed("1.0.0");
    let ranges: Vec<_> = world.web.requests_of("/targets/").into_iter().filter_map(|(_, range)| range).collect();
    assert_eq!(ranges, ["bytes=10000-"]);
}

#[test]
fn a_download_that_nobody_wants_any_more_is_removed() {
    let mut world = World::new();
    let stray = world.data().join("download");
    std::fs::create_dir_all(&stray).unwrap();
    std::fs::write(stray.join(format!("{}.part", "ab".repeat(32))), "left over").unwrap();
    world.repo.release("blinky", "1.0.0");
    world.start().until_committed("1.0.0");
    assert_eq!(world.downloads(), Vec::<String>::new());
}

#[test]
fn a_payload_that_breaks_the_rules_is_refused_with_the_list_and_not_fetched_again() {
    let mut world = World::new();
    let bad = packed("(module (func (export \"iotwasm_run\")))", &manifest("blinky", "1.0.0"));
    world.repo.add(&bad, |_| {});
    world.repo.publish_role();
    world.start();
    let attempt = world.until_outcome(Outcome::Refused);
    assert!(attempt.message.contains("iotwasm_self_test"), "{}", attempt.message);
    assert!(attempt.message.contains("memor"), "{}", attempt.message);
    assert_eq!(world.state().trial(), None);
    world.check();
    assert_eq!(world.web.requests_of("/targets/").len(), 1);
    assert_eq!(world.downloads(), Vec::<String>::new());

    world.repo.release("blinky", "1.0.1");
    world.check();
    world.until_committed("1.0.1");
}

#[test]
fn a_payload_whose_manifest_says_something_else_is_refused() {
    let mut world = World::new();
    // The file of one payload under the signed name of another.
    let wasm = payload("blinky", "1.0.0");
    let other = iotwasm_payload::pack(&wasm, &manifest("other", "1.0.0")).unwrap();
    let name = "acme/blinky/blinky-1.0.0.wasm";
    let sha256 = world.repo.add(&wasm, |_| {});
    let mut info = world.repo.role.target(name).unwrap();
    let described = iotwasm_trust::repo::TargetInfo::of(&other, info.custom.take());
    world.repo.role.add_target(name, &described);
    world.repo.publish_role();
    let folder = world.repo.dir.join("targets/acme/blinky");
    std::fs::write(folder.join(format!("{}.blinky-1.0.0.wasm", described.hashes.name())), &other).unwrap();
    assert_ne!(sha256, described.hashes.name());
    world.start();
    let attempt = world.until_outcome(Outcome::Refused);
    assert!(attempt.message.contains("manifest"), "{}", attempt.message);
}

#[test]
fn a_target_that_was_exchanged_on_the_server_is_not_installed() {
    let mut world = World::new();
    let sha256 = world.repo.release("blinky", "1.0.0");
    let file = world.repo.dir.join(format!("targets/acme/blinky/{sha256}.blinky-1.0.0.wasm"));
    let mut bytes = std::fs::read(&file).unwrap();
    bytes[100] ^= 1;
    std::fs::write(&file, &bytes).unwrap();
    world.start();
    let attempt = world.until_outcome(Outcome::Failed);
    assert_eq!(attempt.sha256, sha256);
    assert_eq!(world.state().trial(), None);
    bytes[100] ^= 1;
    std::fs::write(&file, &bytes).unwrap();
    world.check();
    world.until_committed("1.0.0");
}

#[test]
fn a_disk_too_full_is_refused_before_anything_is_touched() {
    let mut world = World::new();
    world.config.disk_reserve_kib = 1024 * 1024 * 1024;
    world.repo.release("blinky", "1.0.0");
    world.start();
    let attempt = world.until_outcome(Outcome::Failed);
    assert!(attempt.message.contains("too full") && attempt.message.contains("KiB are needed"), "{}", attempt.message);
    assert!(world.web.requests_of("/targets/").is_empty());
    assert_eq!(world.downloads(), Vec::<String>::new());
    assert!(!world.data().join("payloads/blinky").exists());
}

#[test]
fn without_a_repository_the_daemon_idles_and_says_so() {
    let mut world = World::new();
    world.config.repositories.clear();
    world.start();
    assert!(world.shared().status().last_error.contains("no repository is configured"));
    assert_eq!(world.shared().status().activity, "idle");
}

//! Which role may speak for which target, and how far a bad one reaches.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail like tests")]

mod common;

use common::{World, delegation, role};
use iotwasm_trust::repo::{Document, Key, MemoryFetch};
use iotwasm_trust::{Error, Limits, Refusal, Time, Updater};

fn refreshed(world: &World) -> Updater<MemoryFetch> {
    let mut updater = world.updater();
    updater.refresh().unwrap();
    updater.fetch_mut().asked.clear();
    updater
}

fn names(targets: &[iotwasm_trust::Target]) -> Vec<&str> {
    targets.iter().map(|target| target.name.as_str()).collect()
}

#[test]
fn delegated_target_names_its_chain_of_roles() {
    let mut world = World::new();
    world.delegate("acme", &["acme/*/*"], false, &["acme/blinky/blinky-1.0.0.wasm"]);
    let target = world.find("acme/blinky/blinky-1.0.0.wasm").unwrap().unwrap();
    assert_eq!(target.roles, ["targets", "acme"]);
    assert_eq!(target.signer(), "acme");
    assert!(target.remote_path.starts_with("acme/blinky/"));
}

#[test]
fn role_is_fetched_only_for_what_it_could_have_signed() {
    let mut world = World::new();
    world.delegate("acme", &["acme/*/*"], true, &["acme/a/1"]);
    world.delegate("other", &["other/*/*"], true, &["other/b/1"]);
    let mut updater = refreshed(&world);
    assert!(updater.find("acme/a/1").unwrap().is_some());
    assert_eq!(updater.fetch_mut().asked, ["1.acme.json"]);
    assert_eq!(names(&updater.search("other/b/*").unwrap()), ["other/b/1"]);
    assert_eq!(updater.fetch_mut().asked, ["1.acme.json", "1.other.json"]);
    assert_eq!(updater.find("third/b/1").unwrap(), None);
    assert_eq!(updater.fetch_mut().asked.len(), 2);
}

#[test]
fn stored_role_is_not_fetched_again() {
    let mut world = World::new();
    world.delegate("acme", &["acme/*"], false, &["acme/a"]);
    refreshed(&world).find("acme/a").unwrap();
    let mut updater = refreshed(&world);
    assert!(updater.find("acme/a").unwrap().is_some());
    assert_eq!(updater.fetch_mut().asked, [""; 0]);
}

#[test]
fn target_outside_the_delegated_paths_is_not_believed() {
    let mut world = World::new();
    world.delegate("acme", &["acme/*"], false, &["acme/a", "other/stolen", "acme/deep/stolen"]);
    assert_eq!(world.find("other/stolen").unwrap(), None);
    assert_eq!(world.find("acme/deep/stolen").unwrap(), None);
    let mut updater = refreshed(&world);
    assert_eq!(names(&updater.search("*/*").unwrap()), ["acme/a"]);
}

#[test]
fn target_must_be_in_the_paths_of_every_role_of_the_chain() {
    let mut world = World::new();
    let (acme, mut document) = world.delegate("acme", &["acme/*"], false, &[]);
    let inner = Key::generate().unwrap();
    document.delegate(&delegation("inner", &inner, &["*/*"], false)).bump().sign([&acme]);
    world.list(&role("inner", &inner, &["acme/a", "other/a"]));
    world.publish_role(&document);
    assert_eq!(world.find("acme/a").unwrap().unwrap().roles, ["targets", "acme", "inner"]);
    assert_eq!(world.find("other/a").unwrap(), None);
}

#[test]
fn first_delegation_in_order_speaks() {
    let mut world = World::new();
    world.delegate("first", &["x/*"], false, &["x/both"]);
    world.delegate("second", &["x/*"], false, &["x/both", "x/second"]);
    assert_eq!(world.find("x/both").unwrap().unwrap().signer(), "first");
    assert_eq!(world.find("x/second").unwrap().unwrap().signer(), "second");
    let found = refreshed(&world).search("x/*").unwrap();
    assert_eq!(found.iter().map(|target| target.signer()).collect::<Vec<_>>(), ["first", "second"]);
}

#[test]
fn terminating_delegation_silences_later_ones() {
    let mut world = World::new();
    world.delegate("first", &["x/*"], true, &["x/one"]);
    world.delegate("second", &["x/*"], false, &["x/two"]);
    assert_eq!(world.find("x/two").unwrap(), None);
    assert_eq!(names(&refreshed(&world).search("x/*").unwrap()), ["x/one"]);
}

/// Spoils a delegated role, given its document and its key.
type Breakage = fn(&mut World, &mut Document, &Key);

#[test]
fn bad_role_harms_only_its_own_targets() {
    let breakages: [(&str, Breakage); 5] = [
        ("signed by a stranger", |_, role, _| {
            role.sign([&Key::generate().unwrap()]);
        }),
        ("expired", |_, role, key| {
            role.set_expires(common::days(-1)).sign([key]);
        }),
        ("not json", |world, _, _| {
            world.server.files.insert("1.bad.json".into(), b"<html>".to_vec());
        }),
        ("missing", |world, _, _| {
            world.server.files.remove("1.bad.json");
        }),
        ("endless", |world, _, _| {
            world.server.files.insert("1.bad.json".into(), vec![b' '; 6 << 20]);
        }),
    ];
    for (what, break_it) in breakages {
        let mut world = World::new();
        let (key, mut bad) = world.delegate("bad", &["bad/*"], true, &["bad/a"]);
        world.delegate("good", &["good/*"], true, &["good/a"]);
        world.delegate("backup", &["*/*"], false, &["bad/a", "free/a"]);
        break_it(&mut world, &mut bad, &key);
        if !matches!(what, "not json" | "missing" | "endless") {
            world.list(&bad);
            world.publish_snapshot();
        }
        let mut updater = refreshed(&world);
        // Not found, and not the backup's word either: withholding a file must not hand its targets to the next role.
        assert!(matches!(updater.find("bad/a"), Err(Error::Undecided { role, .. }) if role == "bad"), "{what}");
        assert!(updater.find("good/a").unwrap().is_some(), "{what}");
        assert!(updater.find("free/a").unwrap().is_some(), "{what}");
        assert!(updater.find("hello.txt").unwrap().is_some(), "{what}");
        assert_eq!(names(&updater.search("*/*").unwrap()), ["free/a", "good/a"], "{what}");
        let failures = updater.failures();
        assert_eq!(failures.len(), 1, "{what}");
        assert_eq!(failures[0].0, "bad");
    }
}

#[test]
fn role_that_the_snapshot_does_not_list_is_not_fetched() {
    let mut world = World::new();
    world.targets.delegate(&delegation("acme", &Key::generate().unwrap(), &["acme/*"], false));
    world.publish_targets();
    let mut updater = refreshed(&world);
    assert_eq!(updater.find("acme/a").unwrap_err().refusal(), Some(&Refusal::NotInSnapshot));
    assert_eq!(updater.fetch_mut().asked, [""; 0]);
}

#[test]
fn delegation_to_a_top_level_role_s_name_is_refused() {
    for name in ["snapshot", "root", "timestamp", "targets"] {
        let mut world = World::new();
        let key = Key::generate().unwrap();
        world.targets.delegate(&delegation(name, &key, &["x/*"], false));
        world.snapshot.set_meta(&format!("{name}.json"), 1, None);
        world.publish_targets();
        let before = world.refresh().unwrap();
        let mut updater = refreshed(&world);
        match updater.find("x/a") {
            Err(err) => assert_eq!(err.refusal(), Some(&Refusal::RoleName)),
            // A role of this name was visited already: the search began there.
            Ok(found) => assert!(name == "targets" && found.is_none()),
        }
        assert_eq!(world.refresh().unwrap(), before);
    }
}

#[test]
fn unusual_role_names_stay_in_the_store_s_folder() {
    for name in ["../up", "/abs", "?", "#", "a b", ".", ".."] {
        let mut world = World::new();
        world.delegate(name, &["x/*"], false, &["x/a"]);
        assert_eq!(world.find("x/a").unwrap().unwrap().signer(), name);
        let parent = world.store.path().parent().unwrap();
        assert!(!parent.join("up.json").exists() && !std::path::Path::new("/abs.json").exists());
    }
}

#[test]
fn cycle_of_delegations_ends() {
    let mut world = World::new();
    let (one_key, mut one) = world.delegate("one", &["x/*"], false, &[]);
    let (two_key, mut two) = world.delegate("two", &["y/*"], false, &[]);
    one.delegate(&delegation("two", &two_key, &["x/*"], false)).bump().sign([&one_key]);
    two.delegate(&delegation("one", &one_key, &["x/*"], false)).bump().sign([&two_key]);
    world.list(&one);
    world.publish_role(&two);
    assert_eq!(world.find("x/a").unwrap(), None);
    assert!(refreshed(&world).search("x/*").unwrap().is_empty());
}

#[test]
fn number_of_roles_asked_is_bounded() {
    let mut world = World::new();
    for i in 0..6 {
        let key = Key::generate().unwrap();
        let name = format!("role{i}");
        world.targets.delegate(&delegation(&name, &key, &["x/*"], false));
        world.list(&role(&name, &key, &[&format!("x/{i}")]));
    }
    world.publish_targets();
    let limits = Limits { delegated_roles: 3, ..Limits::default() };
    let time = Time::new(world.clock.clone(), world.build_time);
    let mut updater = Updater::open(world.store.path(), &world.pinned, time, limits, world.server.clone()).unwrap();
    updater.refresh().unwrap();
    assert!(updater.find("x/2").unwrap().is_some());
    assert_eq!(updater.find("x/5").unwrap_err().refusal(), Some(&Refusal::TooManyRoles(3)));
    assert_eq!(names(&updater.search("x/*").unwrap()), ["x/0", "x/1", "x/2"]);
}

#[test]
fn one_role_below_two_delegators_is_checked_for_each() {
    let mut world = World::new();
    let (a_key, mut a) = world.delegate("a", &["a/*"], false, &[]);
    let (b_key, mut b) = world.delegate("b", &["b/*"], false, &[]);
    let [good, other] = [(); 2].map(|()| Key::generate().unwrap());
    a.delegate(&delegation("shared", &good, &["a/*"], false)).bump().sign([&a_key]);
    b.delegate(&delegation("shared", &other, &["b/*"], false)).bump().sign([&b_key]);
    world.list(&a);
    world.list(&b);
    world.publish_role(&role("shared", &good, &["a/x", "b/x"]));
    let mut updater = refreshed(&world);
    assert!(updater.find("a/x").unwrap().is_some());
    assert!(matches!(updater.find("b/x"), Err(Error::Undecided { .. })));
    assert_eq!(names(&updater.search("*/*").unwrap()), ["a/x"]);
}

#[test]
fn hash_prefixes_choose_the_role() {
    let mut world = World::new();
    let hash = hex::encode(ring::digest::digest(&ring::digest::SHA256, b"some/file"));
    for (name, prefix) in [("bin", &hash[..2]), ("elsewhere", "zz")] {
        let key = Key::generate().unwrap();
        world.targets.delegate(&delegation(name, &key, &[], false));
        let list = world.targets.signed["delegations"]["roles"].as_array_mut().unwrap();
        let entry = list.last_mut().unwrap().as_object_mut().unwrap();
        entry.remove("paths");
        entry.insert("path_hash_prefixes".into(), serde_json::json!([prefix]));
        world.list(&role(name, &key, &["some/file"]));
    }
    world.publish_targets();
    assert_eq!(world.find("some/file").unwrap().unwrap().signer(), "bin");
    let mut updater = refreshed(&world);
    assert_eq!(names(&updater.search("some/*").unwrap()), ["some/file"]);
}

#[test]
fn unsafe_target_names_are_never_handed_out() {
    let mut world = World::new();
    world.delegate("acme", &["*/*", "*/*/*"], false, &["../evil", "a//b", "a/b"]);
    let mut updater = refreshed(&world);
    assert!(matches!(updater.find("../evil"), Err(Error::UnsafeName { .. })));
    assert_eq!(names(&updater.search("*/*").unwrap()), ["a/b"]);
    assert!(updater.search("a/*/b").unwrap().is_empty());
}

#[test]
fn custom_data_reaches_the_caller() {
    let mut world = World::new();
    let (key, mut acme) = world.delegate("acme", &["acme/*"], false, &[]);
    let custom = serde_json::json!({"iotwasm": {"version": "1.2.3", "boards": []}});
    acme.add_target("acme/a", &iotwasm_trust::repo::TargetInfo::of(b"a", Some(custom.clone()))).bump().sign([&key]);
    world.publish_role(&acme);
    assert_eq!(world.find("acme/a").unwrap().unwrap().custom, Some(custom));
}

#[test]
fn search_before_a_refresh_is_refused() {
    let world = World::new();
    assert!(matches!(world.updater().find("hello.txt"), Err(Error::NotRefreshed)));
    let mut updater = refreshed(&world);
    updater.release();
    assert!(matches!(updater.search("*"), Err(Error::NotRefreshed)));
}

//! Which release is installed, and target names.
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::str::FromStr;

use iotwasm_payload::choice::{Candidate, Choice, Current, Kept, Why, choose};
use iotwasm_payload::slot::{Rejected, is_rejected};
use iotwasm_payload::target::{TargetError, TargetName, Withdrawn, custom_digest};
use iotwasm_payload::{Digest, Manifest, PayloadTarget, Release};
use proptest::prelude::*;
use semver::Version;
use serde_json::json;

fn candidate(version: &str, boards: &[&str], withdrawn: bool) -> Candidate {
    let target: TargetName = format!("acme/blinky/blinky-{version}.wasm").parse().unwrap();
    let signed = PayloadTarget {
        kind: iotwasm_payload::target::Kind::Payload,
        id: target.id.clone(),
        vendor: target.vendor.clone(),
        version: target.version.clone(),
        boards: boards.iter().map(ToString::to_string).collect(),
        withdrawn: withdrawn.then(|| Withdrawn { reason: "too bright".into() }),
    };
    let release = Release {
        length: 1,
        sha256: Digest::of(version.as_bytes()),
        custom: custom_digest(&signed.to_custom().unwrap()),
        target,
    };
    Candidate { release, target: signed }
}

fn rejected(candidate: &Candidate) -> Rejected {
    Rejected { release: candidate.release.clone(), reason: "trap".into() }
}

fn current(release: &Release) -> Option<Current<'_>> {
    Some(Current { release, runnable: true })
}

fn version(choice: Choice<'_>) -> Result<(String, Why), Kept> {
    match choice {
        Choice::Install { candidate, why } => Ok((candidate.release.version().to_string(), why)),
        Choice::Keep(kept) => Err(kept),
    }
}

#[test]
fn the_first_install_takes_the_highest_for_the_board() {
    let all = [
        candidate("1.0.0", &[], false),
        candidate("1.10.0", &["qemu"], false),
        candidate("1.9.0", &[], false),
        candidate("2.0.0", &["other"], false),
        candidate("3.0.0", &[], true),
    ];
    assert_eq!(version(choose(&all, None, "qemu", &[])), Ok(("1.10.0".into(), Why::First)));
    assert_eq!(version(choose(&all, None, "third", &[])), Ok(("1.9.0".into(), Why::First)));
    assert_eq!(version(choose(&[], None, "qemu", &[])), Err(Kept::NothingOffered));
}

#[test]
fn a_lower_version_is_taken_only_where_the_committed_one_is_withdrawn() {
    let (old, new) = (candidate("1.0.0", &[], false), candidate("2.0.0", &[], false));
    let gone = candidate("2.0.0", &[], true);
    assert_eq!(version(choose(&[old.clone(), new.clone()], current(&new.release), "b", &[])), Err(Kept::UpToDate));
    // Not even where the newer one is no longer listed.
    assert_eq!(version(choose(std::slice::from_ref(&old), current(&new.release), "b", &[])), Err(Kept::UpToDate));
    let choice = [old.clone(), gone.clone()];
    assert_eq!(version(choose(&choice, current(&new.release), "b", &[])), Ok(("1.0.0".into(), Why::Withdrawn)));
    let alone = [gone];
    let kept = Err(Kept::WithdrawnWithoutReplacement);
    assert_eq!(version(choose(&alone, current(&new.release), "b", &[])), kept);
    assert_eq!(version(choose(&choice, current(&new.release), "b", &[rejected(&old)])), kept);
}

#[test]
fn a_rolled_back_release_is_not_taken_until_its_metadata_changes() {
    let (old, new) = (candidate("1.0.0", &[], false), candidate("2.0.0", &[], false));
    let all = [old.clone(), new.clone()];
    assert_eq!(version(choose(&all, current(&old.release), "b", &[rejected(&new)])), Err(Kept::UpToDate));
    let mut changed = new.clone();
    changed.target.boards = vec!["b".into()];
    changed.release.custom = custom_digest(&changed.target.to_custom().unwrap());
    let retried = [old.clone(), changed];
    assert_eq!(
        version(choose(&retried, current(&old.release), "b", &[rejected(&new)])),
        Ok(("2.0.0".into(), Why::Newer))
    );
}

#[test]
fn a_damaged_slot_is_repaired_with_the_same_version_or_a_newer_one() {
    let (old, new) = (candidate("1.0.0", &[], false), candidate("2.0.0", &[], false));
    let all = [old.clone(), new.clone()];
    let damaged = Some(Current { release: &new.release, runnable: false });
    assert_eq!(version(choose(&all, damaged, "b", &[])), Ok(("2.0.0".into(), Why::Repair)));
    assert_eq!(version(choose(&all[..1], damaged, "b", &[])), Err(Kept::DamagedWithoutReplacement));
}

fn any_version() -> impl Strategy<Value = String> {
    (0..3u64, 0..3u64, prop_oneof![Just(""), Just("-rc.1")]).prop_map(|(a, b, pre)| format!("{a}.{b}.0{pre}"))
}

proptest! {
    #[test]
    fn a_choice_is_allowed_and_the_best(
        versions in prop::collection::btree_map(any_version(), (any::<bool>(), any::<bool>(), any::<bool>()), 0..10),
        runs in any::<Option<(prop::sample::Index, bool)>>(),
    ) {
        let all: Vec<_> =
            versions.iter().map(|(v, (out, board, _))| candidate(v, if *board { &[] } else { &["other"] }, *out)).collect();
        let rolled_back: Vec<_> =
            all.iter().zip(versions.values()).filter(|(_, v)| v.2).map(|(c, _)| rejected(c)).collect();
        let committed = runs.filter(|_| !all.is_empty()).map(|(i, runnable)| (i.get(&all), runnable));
        let now = committed.map(|(c, runnable)| Current { release: &c.release, runnable });
        let chosen = choose(&all, now, "mine", &rolled_back);
        let fits = |c: &Candidate| {
            c.target.withdrawn.is_none() && c.target.runs_on("mine") && !is_rejected(&rolled_back, &c.release)
        };
        let floor = |c: &Candidate| match committed {
            None => true,
            Some((old, _)) if old.target.withdrawn.is_some() => true,
            Some((old, true)) => c.release.version() > old.release.version(),
            Some((old, false)) => c.release.version() >= old.release.version(),
        };
        let best: Option<&Version> = all.iter().filter(|c| fits(c) && floor(c)).map(|c| c.release.version()).max();
        match chosen {
            Choice::Install { candidate, .. } => {
                prop_assert!(fits(candidate) && floor(candidate));
                prop_assert_eq!(Some(candidate.release.version()), best);
            }
            Choice::Keep(_) => prop_assert_eq!(best, None),
        }
        // The order in which metadata lists targets does not matter.
        let mut reversed = all.clone();
        reversed.reverse();
        prop_assert_eq!(version(choose(&reversed, now, "mine", &rolled_back)), version(chosen));
    }

    #[test]
    fn a_target_name_has_one_spelling(name in "[a-b]{1,2}/[a-b-]{1,3}/[a-b-]{1,3}-[0-9]\\.[0-9]{1,2}\\.[0-9](-rc)?\\.wasm") {
        if let Ok(parsed) = TargetName::from_str(&name) {
            prop_assert_eq!(parsed.to_string(), name);
        }
    }

    #[test]
    fn any_text_is_a_target_name_or_an_error(name in ".{0,300}") {
        let _ = TargetName::from_str(&name);
    }
}

#[test]
fn target_names_that_are_not_ours_are_refused() {
    let name: TargetName = "acme/my-app-2/my-app-2-1.0.0-rc.1.wasm".parse().unwrap();
    assert_eq!((name.id.as_str(), name.version.to_string().as_str()), ("my-app-2", "1.0.0-rc.1"));
    for bad in [
        "acme/blinky/blinky-1.0.0",
        "acme/blinky/other-1.0.0.wasm",
        "acme/blinky/blinky-1.0.wasm",
        "acme/blinky/blinky-1.0.0+build.wasm",
        "acme/../blinky-1.0.0.wasm",
        "blinky/blinky-1.0.0.wasm",
        "acme/x/blinky/blinky-1.0.0.wasm",
        "/acme/blinky/blinky-1.0.0.wasm",
        "",
    ] {
        assert!(matches!(bad.parse::<TargetName>(), Err(TargetError::Name { .. })), "{bad}");
    }
}

#[test]
fn name_signed_words_and_manifest_have_to_agree() {
    let toml = "id = \"blinky\"\nvendor = \"acme\"\nversion = \"1.2.3\"\n[entry]\nstyle = \"reactor\"\n";
    let manifest = Manifest::parse(toml.as_bytes()).unwrap();
    let target = PayloadTarget::of_manifest(&manifest);
    target.agrees_with(&manifest).unwrap();
    target.agrees_with_name(&target.name()).unwrap();
    for (from, to) in [("blinky", "other"), ("acme", "evil"), ("1.2.3", "1.2.4")] {
        let other = Manifest::parse(toml.replace(from, to).as_bytes()).unwrap();
        let words = target.agrees_with(&other).unwrap_err().to_string();
        assert!(words.contains(from) && words.contains(to), "{words}");
        target.agrees_with_name(&PayloadTarget::of_manifest(&other).name()).unwrap_err();
    }
}

#[test]
fn signed_words_are_parsed_with_what_newer_publishers_add() {
    let value = json!({"kind": "payload", "id": "blinky", "vendor": "acme", "version": "1.0.0", "wave": 3,
        "withdrawn": {"reason": "a\nb"}});
    let target = PayloadTarget::from_custom(Some(&value)).unwrap();
    assert_eq!(target.withdrawn.unwrap().reason, "a b");
    assert!(matches!(PayloadTarget::from_custom(None), Err(TargetError::Missing)));
    for (key, bad) in
        [("kind", json!("firmware")), ("id", json!("../x")), ("version", json!("1")), ("boards", json!(["a b"]))]
    {
        let mut other = value.clone();
        other[key] = bad;
        PayloadTarget::from_custom(Some(&other)).unwrap_err();
    }
}

#[test]
fn the_digest_of_signed_words_follows_their_meaning() {
    let parse = |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap();
    let digest = |text: &str| custom_digest(&parse(text));
    assert_eq!(digest(r#"{"a":1,"b":[1,{"c":null}]}"#), digest(r#"{ "b": [1, {"c": null}], "a": 1 }"#));
    for other in [
        r#"{"a":1}"#,
        r#"{"a":2,"b":[1,{"c":null}]}"#,
        r#"{"a":1,"b":[{"c":null},1]}"#,
        r#"{"a":"1","b":[1,{"c":null}]}"#,
    ] {
        assert_ne!(digest(r#"{"a":1,"b":[1,{"c":null}]}"#), digest(other));
    }
}

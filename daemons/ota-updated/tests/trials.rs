//! Trials against a supervisor that plays: what is kept, what is undone, and why.

mod common;

use common::supervisor::Script;
use common::{World, until};
use iotwasm_api::Reason;
use iotwasm_api::ota::Outcome;
use iotwasm_api::supervisor::Slot;
use serde_json::json;

#[test]
fn a_first_release_is_fetched_tried_and_committed() {
    let mut world = World::new();
    let sha256 = world.repo.release("blinky", "1.0.0");
    world.start().until_committed("1.0.0");
    assert_eq!(world.supervisor.runs("blinky").unwrap(), ("1.0.0".into(), Slot::A, false));
    let attempts = world.attempts();
    assert_eq!(attempts.len(), 1, "{attempts:?}");
    assert_eq!((attempts[0].slot, attempts[0].sha256.as_str()), (Some(Slot::A), sha256.as_str()));
    assert!(attempts[0].from_version.is_empty() && !attempts[0].ended.is_empty());
    assert_eq!(world.downloads(), Vec::<String>::new());
    let metrics = world.metrics();
    assert!(metrics.contains("payload_id=\"blinky\",version=\"1.0.0\"} 1"), "{metrics}");
    assert!(metrics.contains("outcome=\"committed\"} 1"), "{metrics}");
}

#[test]
fn an_update_goes_to_the_other_slot_and_is_committed() {
    let mut world = World::new();
    world.repo.release("blinky", "1.0.0");
    world.start().until_committed("1.0.0");
    world.repo.release("blinky", "1.1.0");
    world.check();
    world.until_committed("1.1.0");
    assert_eq!(world.supervisor.runs("blinky").unwrap(), ("1.1.0".into(), Slot::B, false));
    assert_eq!(world.attempts()[0].from_version, "1.0.0");
    assert!(!world.metrics().contains("version=\"1.0.0\""));
    world.check();
    assert_eq!(world.attempts().len(), 2);
}

#[test]
fn every_kind_of_failure_is_rolled_back_with_its_reason_and_the_old_release_runs() {
    let mut world = World::new();
    world.repo.release("blinky", "1.0.0");
    world.start().until_committed("1.0.0");
    let ends = [
        Reason::Trap,
        Reason::OutOfFuel,
        Reason::WallClock,
        Reason::HeartbeatMissed,
        Reason::OutOfMemory,
        Reason::Exited,
        Reason::Killed,
        Reason::StorageQuota,
    ];
    let starts = [Reason::SelfTestFailed, Reason::BadPayload];
    let scripts = ends.map(|r| (Script::Ends(r), r)).into_iter();
    let scripts = scripts.chain(starts.map(|r| (Script::StartFails(r), r)));
    for (i, (script, reason)) in scripts.chain([(Script::ReportsFailed, Reason::ReportedFailed)]).enumerate() {
        let version = format!("1.{}.0", i + 1);
        world.supervisor.set(&version, script);
        world.repo.release("blinky", &version);
        world.check();
        until(&version, || {
            world.attempts()[0].version == version && world.attempts()[0].outcome == Outcome::RolledBack
        });
        assert_eq!(world.attempts()[0].reason, Some(reason), "{script:?}");
        let old_runs = || world.supervisor.runs("blinky") == Some(("1.0.0".into(), Slot::A, false));
        until("the old release runs again", old_runs);
        assert_eq!(world.payload().committed, "1.0.0");
        assert!(world.payload().rejected.last().unwrap().starts_with(&version));
        let counted = format!("reason=\"{reason}\"}} 1");
        assert!(world.metrics().contains(&counted), "{counted}");
    }
}

#[test]
fn a_release_that_ends_in_the_moment_of_its_commit_is_started_again_as_what_it_is_now() {
    let mut world = World::new();
    world.repo.release("blinky", "1.0.0");
    world.start().until_committed("1.0.0");
    world.supervisor.set("1.1.0", Script::EndsAtConfirm);
    world.repo.release("blinky", "1.1.0");
    world.check();
    world.until_committed("1.1.0");
    until("it runs, and not as a trial", || world.supervisor.runs("blinky") == Some(("1.1.0".into(), Slot::B, false)));
}

#[test]
fn a_release_that_is_not_to_blame_is_undone_and_tried_again() {
    for script in [
        Script::StartFails(Reason::NotVerified),
        Script::StartFails(Reason::StartFailed),
        Script::Ends(Reason::Stopped),
    ] {
        let mut world = World::new();
        world.repo.release("blinky", "1.0.0");
        world.start().until_committed("1.0.0");
        world.supervisor.set("1.1.0", script);
        world.repo.release("blinky", "1.1.0");
        world.check();
        world.until_outcome(Outcome::RolledBack);
        assert!(world.payload().rejected.is_empty(), "{script:?}");
        world.supervisor.set("1.1.0", Script::Healthy);
        world.check();
        world.until_committed("1.1.0");
    }
}

#[test]
fn a_first_release_that_fails_leaves_nothing_running() {
    let mut world = World::new();
    world.supervisor.set("1.0.0", Script::Ends(Reason::Trap));
    world.repo.release("blinky", "1.0.0");
    world.start();
    assert_eq!(world.until_outcome(Outcome::RolledBack).reason, Some(Reason::Trap));
    assert!(world.supervisor.runs("blinky").is_none());
    assert_eq!(world.state().committed(), None);
    assert_eq!(world.state().trial(), None);
}

#[test]
fn what_was_rolled_back_is_tried_again_only_when_its_metadata_changes() {
    let mut world = World::new();
    world.supervisor.set("1.0.0", Script::Ends(Reason::Trap));
    world.repo.release("blinky", "1.0.0");
    world.start().until_outcome(Outcome::RolledBack);
    world.check();
    world.check();
    assert_eq!(world.supervisor.calls("start"), 1);
    assert_eq!(world.attempts().len(), 1);

    world.supervisor.set("1.0.0", Script::Healthy);
    world.repo.amend("blinky", "1.0.0", |custom| custom["note"] = json!("checked again"));
    world.check();
    world.until_committed("1.0.0");
}

#[test]
fn a_withdrawn_release_gives_way_to_a_lower_one() {
    let mut world = World::new();
    world.repo.release("blinky", "1.0.0");
    world.repo.release("blinky", "1.1.0");
    world.start().until_committed("1.1.0");
    world.repo.withdraw("blinky", "1.1.0");
    world.check();
    world.until_committed("1.0.0");
}

#[test]
fn a_withdrawn_release_without_a_replacement_keeps_running_and_the_status_says_so() {
    let mut world = World::new();
    world.repo.release("blinky", "1.0.0");
    world.start().until_committed("1.0.0");
    world.repo.withdraw("blinky", "1.0.0");
    world.check();
    assert_eq!(world.payload().committed, "1.0.0");
    assert!(world.shared().status().last_error.contains("withdrawn"), "{:?}", world.shared().status());
    assert!(world.supervisor.runs("blinky").is_some());
}

#[test]
fn a_release_withdrawn_during_its_trial_is_undone() {
    let mut world = World::new();
    world.supervisor.set("1.0.0", Script::Silent);
    world.repo.release("blinky", "1.0.0");
    world.start();
    until("the trial runs", || world.supervisor.runs("blinky").is_some());
    world.repo.withdraw("blinky", "1.0.0");
    world.check();
    let attempt = world.until_outcome(Outcome::RolledBack);
    assert_eq!(attempt.reason, Some(Reason::Withdrawn));
    assert!(attempt.message.contains("bad batch"), "{}", attempt.message);
    assert!(world.supervisor.runs("blinky").is_none());
    assert!(world.state().rejected().is_empty());
}

#[test]
fn a_trial_of_one_payload_holds_up_no_other() {
    let mut world = World::new();
    world.wanted = vec!["blinky", "other"];
    // Healthy but for a day.
    world.config.confirmation_min_s = 86_400;
    world.repo.release("blinky", "1.0.0");
    world.start();
    until("the first trial runs", || world.supervisor.runs("blinky").is_some());
    world.repo.release("other", "1.0.0");
    world.check();
    until("the second trial runs beside it", || world.supervisor.runs("other").is_some());
    assert!(world.supervisor.runs("blinky").unwrap().2);
    assert_eq!(world.shared().status().activity, "trial");
    world.check();
    assert_eq!((world.supervisor.calls("start blinky"), world.supervisor.calls("start other")), (1, 1));
}

#[test]
fn a_release_for_another_board_is_not_taken() {
    let mut world = World::new();
    let manifest = common::repo::manifest("blinky", "2.0.0").replace("[entry]", "boards = [\"other\"]\n[entry]");
    world.repo.release("blinky", "1.0.0");
    let module = common::repo::payload("blinky", "2.0.0");
    let packed = iotwasm_payload::pack(&module, &manifest).unwrap();
    world.repo.add(&packed, |_| {});
    world.repo.publish_role();
    world.start().until_committed("1.0.0");
}

#[test]
fn a_supervisor_that_comes_back_costs_a_boot() {
    let mut world = World::new();
    world.supervisor.set("1.0.0", Script::Silent);
    world.repo.release("blinky", "1.0.0");
    world.start();
    until("the trial runs", || world.supervisor.runs("blinky").is_some());
    assert_eq!(world.state().trial().unwrap().2, 2);
    world.supervisor.set("1.0.0", Script::Healthy);
    world.up = None;
    world.up = Some(world.supervisor.up());
    world.until_committed("1.0.0");
    assert_eq!(world.supervisor.calls("start blinky A true"), 2);
}

#[test]
fn a_supervisor_that_goes_away_again_and_again_ends_the_trial() {
    let mut world = World::new();
    world.config.trial_boots = 2;
    world.supervisor.set("1.0.0", Script::Silent);
    world.repo.release("blinky", "1.0.0");
    world.start();
    for start in 1..=2 {
        until("the trial runs", || world.supervisor.calls("start blinky A true") == start);
        world.up = None;
        world.up = Some(world.supervisor.up());
    }
    assert_eq!(world.until_outcome(Outcome::RolledBack).reason, Some(Reason::SupervisorLost));
    assert_eq!(world.state().trial(), None);
}

#[test]
fn a_supervisor_that_is_never_there_does_not_blame_the_release() {
    let mut world = World::new();
    world.up = None;
    world.config.supervisor_patience_s = 1;
    world.repo.release("blinky", "1.0.0");
    world.start();
    assert_eq!(world.until_outcome(Outcome::RolledBack).reason, Some(Reason::SupervisorLost));
    assert!(world.state().rejected().is_empty());
    world.up = Some(world.supervisor.up());
    world.check();
    world.until_committed("1.0.0");
}

#[test]
fn a_committed_payload_that_was_altered_is_installed_again() {
    let mut world = World::new();
    world.repo.release("blinky", "1.0.0");
    world.start().until_committed("1.0.0");
    std::fs::write(world.data().join("payloads/blinky/a/payload.wasm"), "\0asm, but not as we know it").unwrap();
    world.check();
    until("it is committed in the other slot", || world.state().committed().is_some_and(|(s, _)| s.as_str() == "b"));
}

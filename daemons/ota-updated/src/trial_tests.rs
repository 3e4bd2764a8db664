//! Tests of the trial: each rule by itself, then random worlds.

use proptest::prelude::*;

use super::*;

const CONFIRMATION: Duration = Duration::from_secs(300);
const PATIENCE: Duration = Duration::from_secs(60);
const RULES: Rules = Rules { confirmation: CONFIRMATION, heartbeat: Duration::from_secs(30), patience: PATIENCE };

fn at(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn status(phase: Phase, health: Health) -> PayloadStatus {
    PayloadStatus {
        payload: "blinky".into(),
        slot: Slot::B,
        version: "1.0.0".into(),
        sha256: String::new(),
        trial: true,
        phase,
        health,
        message: "because".into(),
        reason: None,
        starts: 7,
        crashes: 0,
        pid: 1,
        start_ms: 1,
        self_test_ms: 0,
        interruption_ms: 0,
        since: String::new(),
        hold_s: 0,
    }
}

fn ended(phase: Phase, reason: Option<Reason>) -> PayloadStatus {
    PayloadStatus { reason, ..status(phase, Health::Healthy) }
}

/// A trial that was started at second 0.
fn running() -> Trial {
    let (mut trial, action) = Trial::resume(RULES, Slot::B, 3, at(0));
    assert_eq!(action, Action::Connect { until: PATIENCE });
    assert_eq!(trial.step(at(0), Event::Connected), Action::SpendBoot);
    assert_eq!(trial.step(at(0), Event::BootSpent { boots_left: 2 }), Action::Start);
    let action = trial.step(at(0), Event::Started(status(Phase::Running, Health::Healthy)));
    assert_eq!(action, Action::Wait { until: Some(CONFIRMATION) });
    trial
}

fn reason_of(action: &Action) -> Option<(Reason, bool)> {
    match action {
        Action::RollBack { reason, remember, .. } => Some((*reason, *remember)),
        _ => None,
    }
}

#[test]
fn healthy_to_the_end_is_committed() {
    let mut trial = running();
    assert_eq!(trial.step(at(299), Event::Tick), Action::Wait { until: Some(CONFIRMATION) });
    assert_eq!(trial.step(at(300), Event::Tick), Action::Commit);
    assert!(trial.is_over());
    assert_eq!(trial.step(at(301), Event::Seen(ended(Phase::Failed, None))), Action::Wait { until: None });
}

#[test]
fn a_payload_that_has_not_reported_is_not_committed_before_it_does() {
    let (mut trial, _) = Trial::resume(RULES, Slot::B, 3, at(0));
    trial.step(at(0), Event::Connected);
    trial.step(at(0), Event::BootSpent { boots_left: 2 });
    trial.step(at(0), Event::Started(status(Phase::Running, Health::Unknown)));
    assert!(matches!(trial.step(at(400), Event::Tick), Action::Wait { .. }));
    assert_eq!(trial.step(at(401), Event::Seen(status(Phase::Running, Health::Healthy))), Action::Commit);
}

#[test]
fn a_degraded_payload_begins_its_confirmation_again() {
    let mut trial = running();
    trial.step(at(200), Event::Seen(status(Phase::Running, Health::Degraded)));
    assert!(matches!(trial.step(at(300), Event::Tick), Action::Wait { .. }));
    let action = trial.step(at(310), Event::Seen(status(Phase::Running, Health::Healthy)));
    assert_eq!(action, Action::Wait { until: Some(at(500)) });
    assert_eq!(trial.step(at(500), Event::Tick), Action::Commit);
}

#[test]
fn a_payload_that_stays_degraded_is_rolled_back_in_the_end() {
    let mut trial = running();
    let action = trial.step(at(1), Event::Seen(status(Phase::Running, Health::Degraded)));
    let Action::Wait { until: Some(until) } = action else { panic!("{action:?}") };
    assert_eq!(until, CONFIRMATION * 4 + at(60));
    assert_eq!(reason_of(&trial.step(until, Event::Tick)), Some((Reason::ReportedFailed, true)));
}

#[test]
fn every_end_of_the_payload_is_a_rollback_with_its_reason() {
    for reason in Reason::ALL {
        let mut trial = running();
        let action = trial.step(at(10), Event::Seen(ended(Phase::Failed, Some(reason))));
        let innocent = [Reason::Withdrawn, Reason::Stopped, Reason::StartFailed, Reason::NotVerified];
        let remember = !innocent.contains(&reason);
        assert_eq!(reason_of(&action), Some((reason, remember)));
    }
    let mut trial = running();
    let action = trial.step(at(10), Event::Seen(status(Phase::Running, Health::Failed)));
    assert_eq!(reason_of(&action), Some((Reason::ReportedFailed, true)));
    let mut trial = running();
    let action = trial.step(at(10), Event::Seen(ended(Phase::Stopped, None)));
    assert_eq!(reason_of(&action), Some((Reason::Stopped, false)));
}

#[test]
fn a_start_that_fails_is_a_rollback_with_its_reason() {
    let (mut trial, _) = Trial::resume(RULES, Slot::B, 1, at(0));
    trial.step(at(0), Event::Connected);
    trial.step(at(0), Event::BootSpent { boots_left: 0 });
    let failed = Event::StartFailed { reason: Reason::SelfTestFailed, message: "returned 3".into() };
    assert_eq!(reason_of(&trial.step(at(1), failed)), Some((Reason::SelfTestFailed, true)));
}

#[test]
fn news_of_the_old_release_do_not_concern_the_trial() {
    let old = PayloadStatus { slot: Slot::A, trial: false, starts: 6, ..ended(Phase::Stopped, Some(Reason::Stopped)) };
    let (mut trial, _) = Trial::resume(RULES, Slot::B, 3, at(0));
    trial.step(at(0), Event::Connected);
    trial.step(at(0), Event::BootSpent { boots_left: 2 });
    assert_eq!(trial.step(at(0), Event::Seen(old.clone())), Action::Wait { until: None });
    trial.step(at(0), Event::Started(status(Phase::Running, Health::Healthy)));
    assert_eq!(trial.step(at(1), Event::Seen(old)), Action::Wait { until: Some(CONFIRMATION) });
}

#[test]
fn something_else_started_in_its_place_ends_the_trial() {
    let other = PayloadStatus { slot: Slot::A, trial: false, starts: 8, ..status(Phase::Running, Health::Healthy) };
    assert_eq!(reason_of(&running().step(at(1), Event::Seen(other))), Some((Reason::Stopped, false)));
}

#[test]
fn a_lost_supervisor_costs_a_boot_and_the_whole_period_again() {
    let mut trial = running();
    assert_eq!(trial.step(at(290), Event::Lost), Action::Connect { until: at(350) });
    assert_eq!(trial.step(at(295), Event::Tick), Action::Connect { until: at(350) });
    assert_eq!(trial.step(at(296), Event::Connected), Action::SpendBoot);
    assert_eq!(trial.step(at(296), Event::BootSpent { boots_left: 1 }), Action::Start);
    let action = trial.step(at(300), Event::Started(status(Phase::Running, Health::Healthy)));
    assert_eq!(action, Action::Wait { until: Some(at(600)) });
}

#[test]
fn a_supervisor_that_stays_away_ends_the_trial() {
    let mut trial = running();
    trial.step(at(10), Event::Lost);
    assert_eq!(reason_of(&trial.step(at(70), Event::Tick)), Some((Reason::SupervisorLost, true)));
}

#[test]
fn a_supervisor_lost_on_the_last_boot_ends_the_trial() {
    let (mut trial, _) = Trial::resume(RULES, Slot::B, 1, at(0));
    trial.step(at(0), Event::Connected);
    trial.step(at(0), Event::BootSpent { boots_left: 0 });
    trial.step(at(1), Event::Lost);
    assert_eq!(reason_of(&trial.step(at(2), Event::Connected)), Some((Reason::SupervisorLost, true)));
}

#[test]
fn a_supervisor_that_was_never_there_does_not_blame_the_release() {
    let (mut trial, _) = Trial::resume(RULES, Slot::B, 3, at(0));
    assert_eq!(reason_of(&trial.step(PATIENCE, Event::Tick)), Some((Reason::SupervisorLost, false)));
}

#[test]
fn a_trial_without_boots_is_rolled_back_at_once() {
    let (trial, action) = Trial::resume(RULES, Slot::B, 0, at(0));
    assert_eq!(reason_of(&action), Some((Reason::NoBootsLeft, true)));
    assert!(trial.is_over());
}

#[test]
fn a_withdrawal_ends_the_trial_in_every_state_and_is_not_held_against_it() {
    let withdrawn = || Event::Withdrawn { message: "bad batch".into() };
    assert_eq!(reason_of(&running().step(at(1), withdrawn())), Some((Reason::Withdrawn, false)));
    let (mut trial, _) = Trial::resume(RULES, Slot::B, 3, at(0));
    assert_eq!(reason_of(&trial.step(at(1), withdrawn())), Some((Reason::Withdrawn, false)));
}

/// What a random world does in one step, besides letting time pass.
fn events() -> impl Strategy<Value = Event> {
    let phase =
        prop::sample::select(vec![Phase::Starting, Phase::SelfTest, Phase::Running, Phase::Failed, Phase::Stopped]);
    let health = prop::sample::select(vec![Health::Unknown, Health::Healthy, Health::Degraded, Health::Failed]);
    let seen = (phase, health, 5..9i64, any::<bool>()).prop_map(|(phase, health, starts, trial)| PayloadStatus {
        starts,
        trial,
        ..status(phase, health)
    });
    prop_oneof![
        4 => Just(Event::Tick),
        4 => Just(Event::Seen(status(Phase::Running, Health::Healthy))),
        1 => seen.prop_map(Event::Seen),
        2 => Just(Event::Lost),
        4 => Just(Event::Connected),
        1 => Just(Event::StartFailed { reason: Reason::Trap, message: String::new() }),
        4 => Just(Event::Started(status(Phase::Running, Health::Healthy))),
    ]
}

proptest! {
    /// Whatever happens in whatever order, with the daemon killed anywhere: no more starts than boots on the disk, no
    /// commit before a whole period since the last start was had, and nothing after the end.
    #[test]
    fn no_world_breaks_the_rules(
        boots in 0..5u8,
        world in prop::collection::vec((events(), 0..200u64, prop::bool::weighted(0.05)), 0..60),
    ) {
        let (mut disk, mut now, mut starts, mut started_at) = (boots, Duration::ZERO, 0u8, None);
        let (mut trial, mut action) = Trial::resume(RULES, Slot::B, disk, now);
        for (event, pause, killed) in world {
            now += Duration::from_secs(pause);
            if killed && !trial.is_over() {
                // All that survives is the count on the disk.
                started_at = None;
                (trial, action) = Trial::resume(RULES, Slot::B, disk, now);
            }
            let over = trial.is_over();
            let event = match action {
                // The one event that is ours to give.
                Action::SpendBoot => {
                    prop_assert!(disk > 0, "a boot is spent that is not there");
                    disk -= 1;
                    Event::BootSpent { boots_left: disk }
                }
                _ => event,
            };
            if let (Event::Started(_), State::Starting) = (&event, &trial.state) {
                started_at = Some(now);
            }
            if matches!(event, Event::Lost) && !over {
                started_at = None;
            }
            action = trial.step(now, event);
            match &action {
                _ if over => prop_assert_eq!(&action, &Action::Wait { until: None }),
                Action::Start => starts += 1,
                Action::Commit => {
                    let since = started_at.expect("committed without a start");
                    prop_assert!(now >= since + CONFIRMATION);
                }
                Action::Wait { until: Some(until) } => prop_assert!(*until > now),
                _ => {}
            }
            prop_assert!(starts <= boots);
            prop_assert_eq!(trial.is_over(), over || matches!(action, Action::Commit | Action::RollBack { .. }));
        }
    }

    /// A world that does nothing but answer never waits for ever.
    #[test]
    fn a_silent_world_ends_every_trial(boots in 0..5u8, health in prop::sample::select(vec![Health::Unknown, Health::Healthy, Health::Degraded])) {
        let (mut trial, mut action) = Trial::resume(RULES, Slot::B, boots, Duration::ZERO);
        let (mut disk, mut now) = (boots, Duration::ZERO);
        for _ in 0..20 {
            action = match action {
                Action::Connect { .. } => trial.step(now, Event::Connected),
                Action::SpendBoot => { disk -= 1; trial.step(now, Event::BootSpent { boots_left: disk }) }
                Action::Start => trial.step(now, Event::Started(status(Phase::Running, health))),
                Action::Wait { until } => { now = until.expect("nothing is awaited"); trial.step(now, Event::Tick) }
                Action::Commit | Action::RollBack { .. } => break,
            };
        }
        prop_assert!(trial.is_over());
    }
}

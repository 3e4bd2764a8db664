//! Tests of the firmware's trial: each rule by itself, then random worlds.

use proptest::prelude::*;

use super::*;

const RULES: Rules = Rules {
    confirmation: Duration::from_secs(100),
    ready_within: Duration::from_secs(300),
    server_within: Some(Duration::from_secs(900)),
};

fn at(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn sight(unit: Condition, payload: Condition, start: u64, counts: (i64, i64)) -> Event {
    let unit = Unit { name: "capd.service".into(), condition: unit, start };
    let payload = Payload { id: "blinky".into(), condition: payload, counts };
    Event::Seen(Sight { units: Ok(vec![unit]), payloads: Ok(vec![payload]) })
}

fn well() -> Event {
    sight(Condition::Well, Condition::Well, 1, (1, 0))
}

fn daemon(condition: Condition) -> Event {
    sight(condition, Condition::Well, 1, (1, 0))
}

fn payload(condition: Condition) -> Event {
    sight(Condition::Well, condition, 1, (1, 0))
}

fn not_yet() -> Condition {
    Condition::NotYet("activating".into())
}

fn failed() -> Condition {
    Condition::Failed("trap: unreachable".into())
}

fn reason(action: &Action) -> Option<(Reason, bool)> {
    match action {
        Action::RollBack { reason, remember, .. } => Some((*reason, *remember)),
        _ => None,
    }
}

/// A trial that is well since second 10, the server reached.
fn confirming() -> Trial {
    let mut trial = Trial::new(RULES, LONGEST);
    assert_eq!(trial.step(at(5), Event::ServerReached), Action::Wait);
    assert_eq!(trial.step(at(10), well()), Action::Wait);
    trial
}

#[test]
fn well_to_the_end_is_kept() {
    let mut trial = confirming();
    assert_eq!(trial.step(at(109), well()), Action::Wait);
    assert_eq!(trial.step(at(110), well()), Action::Keep);
    assert!(trial.is_over());
    assert_eq!(trial.step(at(111), payload(failed())), Action::Wait);
}

#[test]
fn a_daemon_that_is_not_there_in_time_ends_it_and_is_named() {
    let mut trial = Trial::new(RULES, LONGEST);
    assert_eq!(trial.step(at(299), daemon(not_yet())), Action::Wait);
    let action = trial.step(at(300), daemon(not_yet()));
    assert_eq!(reason(&action), Some((Reason::DaemonNotReady, true)));
    assert!(matches!(action, Action::RollBack { message, .. } if message.contains("capd.service: activating")));
}

#[test]
fn a_payload_that_is_not_there_in_time_ends_it_and_is_named() {
    let mut trial = Trial::new(RULES, LONGEST);
    // A daemon that restarts, a payload that crashes at first: there is time until everything was well once.
    assert_eq!(trial.step(at(10), payload(failed())), Action::Wait);
    let action = trial.step(at(300), payload(failed()));
    assert_eq!(reason(&action), Some((Reason::PayloadFailed, true)));
    assert!(matches!(action, Action::RollBack { message, .. } if message.contains("blinky: trap: unreachable")));
}

#[test]
fn a_failure_after_everything_was_well_ends_it_at_once() {
    assert_eq!(reason(&confirming().step(at(20), payload(failed()))), Some((Reason::PayloadFailed, true)));
    assert_eq!(reason(&confirming().step(at(20), daemon(failed()))), Some((Reason::DaemonNotReady, true)));
}

#[test]
fn a_crash_between_two_looks_is_seen_by_its_count() {
    let crashed = sight(Condition::Well, Condition::Well, 1, (2, 1));
    assert_eq!(reason(&confirming().step(at(20), crashed)), Some((Reason::PayloadFailed, true)));
}

#[test]
fn every_break_begins_the_period_again() {
    let breaks = [
        daemon(not_yet()),
        payload(not_yet()),
        sight(Condition::Well, Condition::Well, 2, (1, 0)),
        sight(Condition::Well, Condition::Well, 1, (2, 0)),
        Event::Seen(Sight { units: Err("the bus is away".into()), payloads: Ok(Vec::new()) }),
    ];
    for event in breaks {
        let mut trial = confirming();
        assert_eq!(trial.step(at(100), event.clone()), Action::Wait);
        assert_eq!(trial.step(at(110), well()), Action::Wait, "{event:?}");
        assert_eq!(trial.step(at(209), well()), Action::Wait, "{event:?}");
        assert_eq!(trial.step(at(210), well()), Action::Keep, "{event:?}");
    }
}

#[test]
fn a_device_that_flaps_is_not_waited_for_for_ever() {
    let mut trial = confirming();
    let mut now = at(10);
    let action = loop {
        now += at(50);
        let event = if now.as_secs() % 100 == 10 { daemon(not_yet()) } else { well() };
        match trial.step(now, event) {
            Action::Wait => assert!(now < at(2000)),
            action => break action,
        }
    };
    assert_eq!(reason(&action), Some((Reason::DaemonNotReady, true)));
}

#[test]
fn a_device_that_flaps_is_given_up_before_the_trial_is_ended_from_outside() {
    let mut trial = Trial::new(Rules { confirmation: at(1000), ready_within: at(600), server_within: None }, LONGEST);
    let mut now = at(0);
    let action = loop {
        now += at(40);
        let event = if now.as_secs().is_multiple_of(400) { daemon(not_yet()) } else { well() };
        match trial.step(now, event) {
            Action::Wait => assert!(now < LONGEST),
            action => break action,
        }
    };
    assert_eq!((now, reason(&action)), (LONGEST, Some((Reason::DaemonNotReady, true))));
}

#[test]
fn without_the_server_nothing_is_kept_where_it_counts() {
    let mut trial = Trial::new(RULES, LONGEST);
    for second in 1..90 {
        assert_eq!(trial.step(at(second * 10), well()), Action::Wait);
    }
    assert!(trial.reached().contains("server"));
    assert_eq!(reason(&trial.step(at(900), well())), Some((Reason::ServerUnreachable, true)));
    let mut trial = Trial::new(Rules { server_within: None, ..RULES }, LONGEST);
    trial.step(at(0), well());
    assert_eq!(trial.step(at(100), well()), Action::Keep);
}

#[test]
fn a_server_that_is_reached_late_is_enough() {
    let mut trial = Trial::new(RULES, LONGEST);
    trial.step(at(10), well());
    assert_eq!(trial.step(at(880), well()), Action::Wait);
    assert_eq!(trial.step(at(890), Event::ServerReached), Action::Keep);
}

#[test]
fn a_withdrawal_ends_it_and_is_not_held_against_it() {
    let withdrawn = || Event::Withdrawn { message: "bad batch".into() };
    assert_eq!(reason(&confirming().step(at(11), withdrawn())), Some((Reason::Withdrawn, false)));
    assert_eq!(reason(&Trial::new(RULES, LONGEST).step(at(11), withdrawn())), Some((Reason::Withdrawn, false)));
}

fn conditions() -> impl Strategy<Value = Condition> {
    prop_oneof![8 => Just(Condition::Well), 1 => Just(not_yet()), 1 => Just(failed())]
}

proptest! {
    /// Whatever happens: nothing is kept before a whole period without a break was had with the server reached, and every
    /// trial that is looked at ends in bounded time.
    #[test]
    fn no_world_breaks_the_rules(
        world in prop::collection::vec((conditions(), conditions(), 1..3u64, 1..60u64), 1..200),
        server in 0..2000u64,
    ) {
        let (mut trial, mut now, mut reached) = (Trial::new(RULES, LONGEST), at(0), false);
        let mut well_since: Option<(Duration, u64)> = None;
        for (unit, payload, start, pause) in world.into_iter().chain(std::iter::repeat_n((not_yet(), Condition::Well, 1, 60), 50)) {
            now += at(pause);
            let mut actions = Vec::new();
            if !reached && now >= at(server) {
                reached = true;
                actions.push(trial.step(now, Event::ServerReached));
            }
            let good = unit == Condition::Well && payload == Condition::Well;
            well_since = match well_since {
                Some((since, old)) if good && old == start => Some((since, start)),
                // What was asked a moment ago still counts for the action above.
                _ => {
                    if actions.contains(&Action::Keep) {
                        prop_assert!(well_since.is_some_and(|(since, _)| now >= since + RULES.confirmation));
                    }
                    good.then_some((now, start))
                }
            };
            actions.push(trial.step(now, sight(unit, payload, start, (1, 0))));
            for action in &actions {
                if *action == Action::Keep {
                    prop_assert!(reached);
                    prop_assert!(actions[0] == Action::Keep || well_since.is_some_and(|(since, _)| now >= since + RULES.confirmation));
                }
            }
            if trial.is_over() {
                break;
            }
            prop_assert!(now <= at(900 + 60));
        }
        prop_assert!(trial.is_over());
    }
}

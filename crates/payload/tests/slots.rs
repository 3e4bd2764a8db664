//! The slot machine under any sequence of events.
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use iotwasm_payload::slot::{Event, MAX_BOOTS, MAX_REJECTED, NO_BOOTS_LEFT, PayloadState, SlotState, StateError};
use iotwasm_payload::{Digest, Release, Slot};
use proptest::prelude::*;

fn release(n: u64) -> Release {
    Release {
        target: format!("acme/blinky/blinky-1.{n}.0.wasm").parse().unwrap(),
        length: n,
        sha256: Digest::of(&n.to_le_bytes()),
        custom: Digest::of(b"signed"),
    }
}

fn any_slot() -> impl Strategy<Value = Slot> {
    prop_oneof![Just(Slot::A), Just(Slot::B)]
}

fn any_event() -> impl Strategy<Value = Event> {
    prop_oneof![
        any_slot().prop_map(|slot| Event::WriteStarted { slot }),
        (any_slot(), 0..8u64, 0..12u8).prop_map(|(slot, n, boots)| Event::Installed {
            slot,
            release: release(n),
            boots
        }),
        any_slot().prop_map(|slot| Event::TrialStarted { slot }),
        (any_slot(), "[a-z_]{0,100}").prop_map(|(slot, reason)| Event::TrialFailed { slot, reason }),
        any_slot().prop_map(|slot| Event::TrialAbandoned { slot }),
        any_slot().prop_map(|slot| Event::NoBootsLeft { slot }),
        any_slot().prop_map(|slot| Event::Confirmed { slot }),
    ]
}

/// What must hold between any state and the next.
fn check_step(before: &PayloadState, event: &Event, after: &PayloadState) {
    let count = |state: &PayloadState, wanted: fn(SlotState) -> bool| {
        Slot::ALL.into_iter().filter(|s| wanted(state.slot(*s).state)).count()
    };
    assert!(count(after, |s| s == SlotState::Committed) <= 1, "{after}");
    assert!(count(after, |s| matches!(s, SlotState::Trial { .. })) <= 1, "{after}");
    // Once committed, always committed; and by nothing but a confirmation is it another slot or another release.
    if let Some((slot, release)) = before.committed() {
        let (now, still) = after.committed().expect("something stays committed");
        if !matches!(event, Event::Confirmed { .. }) {
            assert_eq!((slot, release), (now, still), "{before} / {event} / {after}");
        }
        // What is committed is never written.
        if let Event::WriteStarted { slot: written } | Event::Installed { slot: written, .. } = event {
            assert_ne!(*written, slot);
        }
    }
    if let Some((slot, release, boots)) = after.trial() {
        assert!(boots <= MAX_BOOTS);
        assert!(!after.is_rejected(release));
        assert_ne!(after.committed().map(|(s, _)| s), Some(slot));
    }
    // A trial's boots only ever go down.
    if let (Some((a, ra, na)), Some((b, rb, nb))) = (before.trial(), after.trial()) {
        assert_eq!((a, ra), (b, rb));
        assert!(nb <= na);
    }
    assert!(after.rejected().len() <= MAX_REJECTED);
    assert_eq!(after.writable().is_none(), after.trial().is_some());
    if let Some(slot) = after.writable() {
        assert_eq!(after.slot(slot).state, SlotState::Inactive);
    }
}

proptest! {
    #[test]
    fn invariants_hold_after_any_events(events in prop::collection::vec(any_event(), 0..60)) {
        let mut state = PayloadState::default();
        for event in &events {
            match state.apply(event) {
                Ok(next) => {
                    check_step(&state, event, &next);
                    state = next;
                }
                Err(refused) => {
                    prop_assert_eq!(&*refused.state, &state);
                    prop_assert_eq!(&*refused.event, event);
                    let text = refused.to_string();
                    prop_assert!(text.contains(&state.to_string()) && text.contains(&event.to_string()));
                }
            }
            let json = state.to_json().unwrap();
            prop_assert_eq!(&PayloadState::from_json(&json).unwrap(), &state);
        }
    }

    #[test]
    fn any_bytes_are_a_state_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = PayloadState::from_json(&bytes);
    }
}

fn after(events: &[Event]) -> PayloadState {
    events.iter().fold(PayloadState::default(), |state, event| state.apply(event).unwrap())
}

fn installed(slot: Slot, n: u64) -> [Event; 3] {
    [
        Event::WriteStarted { slot },
        Event::Installed { slot, release: release(n), boots: 2 },
        Event::TrialStarted { slot },
    ]
}

#[test]
fn a_trial_that_is_confirmed_takes_over() {
    let mut events = installed(Slot::A, 1).to_vec();
    events.push(Event::Confirmed { slot: Slot::A });
    let first = after(&events);
    assert_eq!(first.committed(), Some((Slot::A, &release(1))));
    assert_eq!(first.writable(), Some(Slot::B));
    events.extend(installed(Slot::B, 2));
    let trial = after(&events);
    assert_eq!(trial.committed(), Some((Slot::A, &release(1))));
    assert_eq!(trial.trial(), Some((Slot::B, &release(2), 1)));
    assert_eq!(trial.writable(), None);
    let second = trial.apply(&Event::Confirmed { slot: Slot::B }).unwrap();
    assert_eq!(second.committed(), Some((Slot::B, &release(2))));
    assert_eq!(second.slot(Slot::A).state, SlotState::Inactive);
}

#[test]
fn trial_with_no_boots_left_falls_back() {
    let mut events = installed(Slot::A, 1).to_vec();
    events.push(Event::Confirmed { slot: Slot::A });
    events.extend(installed(Slot::B, 2));
    let one_left = after(&events);
    let too_early = one_left.apply(&Event::NoBootsLeft { slot: Slot::B }).unwrap_err();
    assert_eq!(
        too_early.to_string(),
        "no boots left (b) does not fit the slots: a committed blinky 1.1.0, b trial(1) blinky 1.2.0"
    );
    let none_left = one_left.apply(&Event::TrialStarted { slot: Slot::B }).unwrap();
    assert!(none_left.apply(&Event::TrialStarted { slot: Slot::B }).is_err());
    let back = none_left.apply(&Event::NoBootsLeft { slot: Slot::B }).unwrap();
    assert_eq!(back.committed(), Some((Slot::A, &release(1))));
    assert_eq!(back.rejected()[0].reason, NO_BOOTS_LEFT);
    assert!(back.is_rejected(&release(2)));
}

#[test]
fn a_rolled_back_release_is_refused_until_its_metadata_changes() {
    let mut events = installed(Slot::A, 1).to_vec();
    events.push(Event::TrialFailed { slot: Slot::A, reason: "trap".into() });
    let state = after(&events);
    let again = Event::Installed { slot: Slot::A, release: release(1), boots: 2 };
    assert!(state.apply(&again).is_err());
    let changed = Release { custom: Digest::of(b"signed anew"), ..release(1) };
    state.apply(&Event::Installed { slot: Slot::A, release: changed, boots: 2 }).unwrap();
}

#[test]
fn an_abandoned_trial_is_not_held_against_the_release() {
    let mut events = installed(Slot::A, 1).to_vec();
    events.push(Event::TrialAbandoned { slot: Slot::A });
    let state = after(&events);
    assert!(state.rejected().is_empty());
    state.apply(&Event::Installed { slot: Slot::A, release: release(1), boots: 1 }).unwrap();
}

#[test]
fn the_oldest_rejections_are_forgotten_first() {
    let mut state = PayloadState::default();
    for n in 0..MAX_REJECTED as u64 + 3 {
        let install = Event::Installed { slot: Slot::A, release: release(n), boots: 1 };
        state = state.apply(&install).unwrap();
        state = state.apply(&Event::TrialFailed { slot: Slot::A, reason: "trap".into() }).unwrap();
    }
    assert_eq!(state.rejected().len(), MAX_REJECTED);
    assert!(!state.is_rejected(&release(2)) && state.is_rejected(&release(3)));
}

fn json(state: &PayloadState) -> serde_json::Value {
    serde_json::from_slice(&state.to_json().unwrap()).unwrap()
}

fn parse(value: &serde_json::Value) -> Result<PayloadState, StateError> {
    PayloadState::from_json(value.to_string().as_bytes())
}

#[test]
fn fields_of_newer_firmware_are_carried_along() {
    let mut value = json(&after(&installed(Slot::A, 1)));
    value["format"] = 9.into();
    value["wave"] = serde_json::json!({"place": 3});
    value["a"]["measured"] = true.into();
    let state = parse(&value).unwrap().apply(&Event::Confirmed { slot: Slot::A }).unwrap();
    let again = json(&state);
    assert_eq!((&again["wave"], &again["a"]["measured"]), (&value["wave"], &value["a"]["measured"]));
    assert_eq!(again["format"], 9);
}

#[test]
fn a_state_that_needs_newer_firmware_says_so() {
    let mut value = json(&PayloadState::default());
    value["min_reader"] = 2.into();
    value["a"] = "quite another shape".into();
    assert!(matches!(parse(&value), Err(StateError::TooNew { min_reader: 2 })));
}

#[test]
fn states_that_contradict_themselves_are_refused() {
    let committed = {
        let mut events = installed(Slot::A, 1).to_vec();
        events.push(Event::Confirmed { slot: Slot::A });
        json(&after(&events))
    };
    let mut both = committed.clone();
    both["b"] = both["a"].clone();
    let mut no_release = committed.clone();
    no_release["a"].as_object_mut().unwrap().remove("release");
    let mut trials = json(&after(&installed(Slot::A, 1)));
    trials["b"] = trials["a"].clone();
    let mut boots = json(&after(&installed(Slot::A, 1)));
    boots["a"]["state"] = serde_json::json!({"trial": {"boots_left": 200}});
    for value in [both, no_release, trials, boots] {
        assert!(matches!(parse(&value), Err(StateError::Contradiction { .. })), "{value}");
    }
    let mut unknown = committed;
    unknown["a"]["state"] = "perhaps".into();
    assert!(matches!(parse(&unknown), Err(StateError::Syntax { .. })));
}

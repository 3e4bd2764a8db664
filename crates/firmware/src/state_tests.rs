//! Tests of the state: each rule by itself, then a device with power cuts.

use proptest::prelude::*;
use serde_json::json;

use super::*;

fn bundle(minor: u64) -> Bundle {
    let digest = Digest::from_bytes([u8::try_from(minor).unwrap(); 32]);
    Bundle { version: Version::new(1, minor, 0), sha256: digest, custom: digest }
}

fn started(minor: u64) -> Event {
    Event::InstallStarted { bundle: bundle(minor), slot: Slot::B, from: Version::new(1, 0, 0) }
}

fn rolled_back(blame: Blame) -> Event {
    Event::RolledBack { reason: "daemon_not_ready".into(), message: "capd".into(), blame }
}

fn after(events: &[Event]) -> FirmwareState {
    events.iter().fold(FirmwareState::default(), |state, event| state.apply(event).unwrap())
}

const BOOTS: u8 = 2;
const HERE: Boot = Boot { slot: Slot::B, is_trial: true, is_unordered: false };
const BACK: Boot = Boot { slot: Slot::A, is_trial: false, is_unordered: false };
const FIRST: Boot = Boot { slot: Slot::B, is_trial: false, is_unordered: false };
const LOST: Boot = Boot { slot: Slot::B, is_trial: true, is_unordered: true };
const OLD: Version = Version::new(1, 0, 0);
const NEW: Version = Version::new(1, 1, 0);

#[test]
fn a_good_update_is_committed_and_the_other_slot_has_what_ran_before() {
    let state = after(&[started(1), Event::Installed { boots: BOOTS }, Event::Booted, Event::Committed]);
    assert_eq!(state.state(), &State::Idle);
    assert_eq!(state.other(), Some(&Version::new(1, 0, 0)));
    assert!(state.rejected().is_empty());
}

#[test]
fn every_start_knows_what_to_do() {
    let installing = after(&[started(1)]);
    let installed = installing.apply(&Event::Installed { boots: BOOTS }).unwrap();
    let trial = installed.apply(&Event::Booted).unwrap();
    let undone = trial.apply(&rolled_back(Blame::Release)).unwrap();
    let committed = Start::Catch(Event::Committed);
    for (state, boot, start) in [
        (&FirmwareState::default(), BACK, Start::Nothing),
        (&FirmwareState::default(), HERE, Start::Adopt),
        (&installing, BACK, Start::Undo),
        (&installing, HERE, Start::Catch(Event::Installed { boots: BOOTS })),
        (&installing, FIRST, Start::Catch(Event::InstallFailed)),
        (&installed, BACK, Start::Ask),
        (&installed, HERE, Start::Catch(Event::Booted)),
        (&installed, FIRST, committed.clone()),
        (&trial, BACK, Start::Ask),
        (&trial, HERE, Start::Trial),
        (&trial, FIRST, committed),
        (&undone, BACK, Start::Close),
        (&undone, HERE, Start::LeaveAgain),
        (&undone, FIRST, Start::Catch(Event::Closed)),
    ] {
        let running = if boot.slot == Slot::A { OLD } else { NEW };
        let found = state.at_start(boot, &running, BOOTS);
        assert_eq!(found, start, "{} {boot:?}", state.state());
        if let Start::Catch(event) = found {
            assert!(state.apply(&event).is_ok());
        }
    }
}

#[test]
fn what_was_not_kept_is_left_where_the_boot_order_was_lost() {
    let installed = [started(1), Event::Installed { boots: 1 }];
    let undone = [Event::Booted, rolled_back(Blame::Release), Event::Closed];
    let lost = [Event::Booted, Event::BootLost];
    for end in [&[Event::GivenUp] as &[Event], &undone, &lost] {
        let state = after(&[&installed, end].concat());
        assert_eq!((state.state(), state.unkept()), (&State::Idle, Some(Slot::B)));
        let read = FirmwareState::from_json(&state.to_json().unwrap()).unwrap();
        assert_eq!(read.at_start(LOST, &NEW, BOOTS), Start::LeaveAgain);
        // Not for ever: where it is started again all the same, it is judged. The other one's boot ends that.
        let mut left = state.clone();
        for _ in 0..MAX_LEAVES {
            assert_eq!(left.at_start(LOST, &NEW, BOOTS), Start::LeaveAgain);
            left = FirmwareState::from_json(&left.apply(&Event::Left).unwrap().to_json().unwrap()).unwrap();
        }
        assert!(left.was_left_in_vain() && left.apply(&Event::Left).is_err());
        assert_eq!(left.at_start(LOST, &NEW, BOOTS), Start::Adopt);
        assert_eq!(left.at_start(BACK, &OLD, BOOTS), Start::Catch(Event::Returned));
        assert_eq!(left.apply(&Event::Returned).unwrap(), state);
        // Whoever chose it by hand had a reason to.
        assert_eq!(state.at_start(HERE, &NEW, BOOTS), Start::Adopt);
        let adopted = Event::Adopted { slot: Slot::B };
        assert_eq!(state.at_start(FIRST, &NEW, BOOTS), Start::Catch(adopted.clone()));
        assert_eq!(state.apply(&adopted).unwrap().unkept(), None);
        assert_eq!(state.apply(&Event::Adopted { slot: Slot::A }).unwrap().unkept(), Some(Slot::B));
        assert_eq!(state.at_start(BACK, &OLD, BOOTS), Start::Nothing);
    }
    assert_eq!(after(&[started(1)]).unkept(), Some(Slot::B));
    let kept = after(&[&installed as &[Event], &[Event::Booted, Event::Committed]].concat());
    assert_eq!(kept.unkept(), None);
    // The power went before anything was written, and the boot order with it: nothing is known to be whole there.
    let installing = after(&[started(1)]);
    for version in [OLD, NEW] {
        assert_eq!(installing.at_start(LOST, &version, BOOTS), Start::Catch(Event::InstallFailed));
    }
    assert_eq!(installing.apply(&Event::InstallFailed).unwrap().at_start(LOST, &OLD, BOOTS), Start::LeaveAgain);
    let undone = after(&[&installed as &[Event], &undone[..2]].concat());
    assert_eq!(undone.at_start(LOST, &NEW, BOOTS), Start::Catch(Event::Closed));
    // What newer firmware wrote says so much, too.
    let newer = |text: &str| FirmwareState::salvage(text.as_bytes(), &OLD).unkept();
    assert_eq!(newer(r#"{"min_reader": 9, "unkept": "b"}"#), Some(Slot::B));
    assert_eq!(newer(r#"{"min_reader": 9, "state": {"name": "hovering", "slot": "a"}}"#), Some(Slot::A));
    assert_eq!(newer(r#"{"min_reader": 9, "state": {"name": "idle"}}"#), None);
}

#[test]
fn other_firmware_in_the_slot_is_adopted_and_not_taken_for_what_was_installed() {
    let installing = after(&[started(1)]);
    let installed = installing.apply(&Event::Installed { boots: BOOTS }).unwrap();
    let trial = installed.apply(&Event::Booted).unwrap();
    let undone = trial.apply(&rolled_back(Blame::Release)).unwrap();
    for state in [installing, installed, trial, undone] {
        let other = Version::new(1, 0, 9);
        assert_eq!(state.at_start(FIRST, &other, BOOTS), Start::Catch(Event::Replaced));
        // In a trial it is no more than any other that is not well.
        let is_trial = matches!(state.state(), State::Trial { .. });
        let expected = if is_trial { Start::Refuse } else { state.at_start(HERE, &NEW, BOOTS) };
        assert_eq!(state.at_start(HERE, &other, BOOTS), expected);
        let replaced = state.apply(&Event::Replaced).unwrap();
        assert_eq!((replaced.state(), replaced.other()), (&State::Idle, Some(&OLD)));
        assert_eq!(replaced.rejected(), state.rejected());
    }
    assert!(FirmwareState::default().apply(&Event::Replaced).is_err());
}

#[test]
fn a_lost_boot_is_tried_again_until_none_is_left() {
    let mut state = after(&[started(1), Event::Installed { boots: 2 }, Event::Booted]);
    state = state.apply(&Event::Reached { text: "every daemon is ready".into() }).unwrap();
    state = state.apply(&Event::BootLost).unwrap();
    assert!(matches!(state.state(), State::Installed { boots_left: 1, reached, .. } if reached.contains("ready")));
    // Until the bootloader is told of the next one, there is none that could be lost.
    assert_eq!(state.at_start(BACK, &OLD, BOOTS), Start::Arm);
    assert!(state.apply(&Event::BootLost).is_err());
    state = state.apply(&Event::Armed).unwrap();
    assert_eq!(state.at_start(BACK, &OLD, BOOTS), Start::Ask);
    state = state.apply(&Event::Booted).unwrap().apply(&Event::BootLost).unwrap();
    assert_eq!(state.state(), &State::Idle);
    assert_eq!(state.rejected()[0].reason, BOOT_FAILED);
    assert!(state.apply(&started(1)).is_err() && state.apply(&started(2)).is_ok());
}

#[test]
fn a_rollback_is_remembered_only_if_the_release_is_to_blame() {
    let trial = after(&[started(1), Event::Installed { boots: 2 }, Event::Booted]);
    assert!(trial.apply(&rolled_back(Blame::Nobody)).unwrap().rejected().is_empty());
    let state = trial.apply(&rolled_back(Blame::Release)).unwrap();
    assert_eq!(state.rejected().len(), 1);
    assert!(matches!(state.state(), State::RolledBack { message, .. } if message == "capd"));
}

#[test]
fn a_doubt_counts_the_third_time_unless_it_was_kept_meanwhile() {
    let once = |state: &FirmwareState, end: &[Event]| {
        let events = [started(1), Event::Installed { boots: 2 }, Event::Booted];
        events.iter().chain(end).fold(state.clone(), |state, event| state.apply(event).unwrap())
    };
    let fails = [rolled_back(Blame::Doubt), Event::Closed];
    let twice = once(&once(&FirmwareState::default(), &fails), &fails);
    assert!(twice.rejected().is_empty());
    assert_eq!(FirmwareState::from_json(&twice.to_json().unwrap()).unwrap(), twice);
    let replaced = once(&twice, &[Event::Replaced]);
    assert_eq!(replaced.rejected()[0].reason, REPLACED);
    let rejected = once(&twice, &fails);
    assert!(rejected.is_rejected(&bundle(1)) && rejected.doubts.is_empty());
    assert_eq!(rejected.rejected()[0].reason, "daemon_not_ready");
    // Kept once, it begins anew; and others are not concerned.
    let kept = once(&twice, &[Event::Committed]);
    assert!(kept.doubts.is_empty() && once(&kept, &fails).rejected().is_empty());
    assert!(!rejected.is_rejected(&bundle(2)));
}

#[test]
fn a_refusal_carries_both_sides() {
    let err = FirmwareState::default().apply(&Event::Committed).unwrap_err();
    assert_eq!(err.to_string(), "committed does not fit the firmware's state: idle");
}

#[test]
fn fields_of_newer_formats_are_carried_along() {
    let mut value: Value = serde_json::from_slice(&after(&[started(1)]).to_json().unwrap()).unwrap();
    value["format"] = json!(7);
    value["wave"] = json!({"n": 3});
    let state = FirmwareState::from_json(value.to_string().as_bytes()).unwrap();
    let state = state.apply(&Event::InstallFailed).unwrap();
    let written: Value = serde_json::from_slice(&state.to_json().unwrap()).unwrap();
    assert_eq!((&written["format"], &written["wave"]["n"]), (&json!(7), &json!(3)));
}

#[test]
fn a_state_that_does_not_say_whether_it_is_armed_is() {
    let state = after(&[started(1), Event::Installed { boots: 2 }]);
    let mut value: Value = serde_json::from_slice(&state.to_json().unwrap()).unwrap();
    assert_eq!(value["state"].as_object_mut().unwrap().remove("armed"), Some(json!(true)));
    assert_eq!(FirmwareState::from_json(value.to_string().as_bytes()).unwrap(), state);
    let lost = after(&[started(1), Event::Installed { boots: 2 }, Event::BootLost]);
    assert_eq!(FirmwareState::from_json(&lost.to_json().unwrap()).unwrap(), lost);
}

#[test]
fn of_a_state_that_is_too_new_or_unknown_the_rejected_are_salvaged() {
    let trial = after(&[started(1), Event::Installed { boots: 2 }, Event::Booted]);
    let mut value: Value =
        serde_json::from_slice(&trial.apply(&rolled_back(Blame::Release)).unwrap().to_json().unwrap()).unwrap();
    value["rejected"].as_array_mut().unwrap().push(json!({"something": "else"}));
    value["state"] = json!({"name": "floating"});
    let bytes = value.to_string();
    assert!(matches!(FirmwareState::from_json(bytes.as_bytes()), Err(StateError::Syntax { .. })));
    value["min_reader"] = json!(9);
    let newer = value.to_string();
    assert!(matches!(FirmwareState::from_json(newer.as_bytes()), Err(StateError::TooNew { min_reader: 9 })));
    for bytes in [bytes, newer] {
        let salvaged = FirmwareState::salvage(bytes.as_bytes(), &Version::new(1, 0, 0));
        assert_eq!(salvaged.state(), &State::Idle);
        assert!(salvaged.is_rejected(&bundle(1)) && salvaged.rejected().len() == 1);
    }
    assert_eq!(FirmwareState::salvage(b"{", &Version::new(1, 0, 0)), FirmwareState::default());
}

#[test]
fn what_dies_after_writing_what_nobody_else_reads_is_tried_three_times() {
    let old = Version::new(1, 0, 0);
    let mut bytes = after(&[started(1), Event::Installed { boots: 2 }, Event::Booted]).to_json().unwrap();
    for times in 1..=MAX_DOUBTS {
        let mut value: Value = serde_json::from_slice(&bytes).unwrap();
        let own = value["state"]["bundle"]["version"].as_str().unwrap().parse().unwrap();
        value["min_reader"] = json!(9);
        let newer = value.to_string();
        assert!(!FirmwareState::salvage(newer.as_bytes(), &own).is_rejected(&bundle(1)), "it is what runs");
        let salvaged = FirmwareState::salvage(newer.as_bytes(), &old);
        assert_eq!((salvaged.state(), salvaged.is_rejected(&bundle(1))), (&State::Idle, times == MAX_DOUBTS));
        if times == MAX_DOUBTS {
            break;
        }
        let again = [started(1), Event::Installed { boots: 2 }, Event::Booted];
        let tried = again.iter().fold(salvaged, |state, event| state.apply(event).unwrap());
        bytes = tried.to_json().unwrap();
    }
}

#[test]
fn a_state_that_cannot_be_is_refused() {
    let mut value: Value =
        serde_json::from_slice(&after(&[started(1), Event::Installed { boots: 2 }]).to_json().unwrap()).unwrap();
    for boots in [0, 11] {
        value["state"]["boots_left"] = json!(boots);
        assert!(FirmwareState::from_json(value.to_string().as_bytes()).is_err(), "{boots}");
    }
    assert!(matches!(FirmwareState::from_json(&vec![b' '; MAX_STATE_BYTES + 1]), Err(StateError::TooLong)));
}

/// A device as far as its firmware slots go: the boot order, what boots next, and the two slots.
#[derive(Debug, Clone)]
struct Device {
    disk: FirmwareState,
    first: Slot,
    next: Option<Slot>,
    booted: Slot,
    /// Version (minor) in each slot, and whether it is whole.
    slots: [(u64, bool); 2],
    boots: u32,
    /// Boots of what was installed last, since then.
    had: u8,
    /// Whether somebody put something there that never was the first.
    by_hand: [bool; 2],
    is_unordered: bool,
}

impl Device {
    fn reset(&mut self) {
        self.booted = self.next.take().unwrap_or(self.first);
        self.is_unordered = false;
        self.boots += 1;
        self.had += u8::from(self.disk.state().slot() == Some(self.booted));
    }

    fn boot(&self) -> Boot {
        let is_trial = self.booted != self.first;
        Boot { slot: self.booted, is_trial, is_unordered: self.is_unordered }
    }

    /// The power goes, and the bootloader's variables with it: it starts the slot that it finds first, and the order is made anew.
    fn lose_variables(&mut self) {
        if !self.slots[0].1 || self.by_hand[0] {
            return;
        }
        let is_unkept = self.disk.state().slot() == Some(Slot::A) || self.disk.unkept() == Some(Slot::A);
        (self.first, self.next, self.booted) = (if is_unkept { Slot::B } else { Slot::A }, None, Slot::A);
        (self.is_unordered, self.boots) = (true, self.boots + 1);
        // The boot that it was to have next is lost as well.
        self.had += 1;
    }

    fn put_first(&mut self) {
        self.first = self.booted;
        self.by_hand[self.booted as usize] = false;
    }

    fn running(&self) -> u64 {
        self.slots[self.booted as usize].0
    }

    fn apply(&mut self, event: &Event) {
        if *event == Event::Committed {
            let bundle = self.disk.state().bundle().unwrap();
            assert_eq!(bundle.version.minor, self.running(), "something else is committed: {self:?}");
        }
        let known = self.disk.rejected().len();
        self.disk = self.disk.apply(event).unwrap();
        match event {
            Event::InstallStarted { .. } => self.had = 0,
            Event::BootLost if self.disk.rejected().len() > known => {
                assert!(self.had >= BOOTS, "boots are counted that it never had: {self:?}");
            }
            _ => {}
        }
    }

    /// Somebody puts another version, whole, into the slot that does not run and is not the first.
    fn replace(&mut self, version: u64) {
        let slot = self.booted.other();
        if slot != self.first {
            self.slots[slot as usize] = (version, true);
            self.by_hand[slot as usize] = true;
        }
    }
}

/// What the firmware of each version does in its trial.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Nature {
    Good,
    Bad,
    Dead,
    /// Well, but its bootloader cannot be told.
    Unmarkable,
}

const NATURES: [Nature; 4] = [Nature::Good, Nature::Bad, Nature::Dead, Nature::Unmarkable];

/// One step of the daemon, as the edges do it, after a start or between two; the reset comes anywhere between steps.
fn step(device: &mut Device, natures: &[Nature], fresh: &mut bool) {
    let nature = natures[usize::try_from(device.running()).unwrap()];
    if device.booted != device.first && nature == Nature::Dead {
        return device.reset();
    }
    if *fresh {
        match device.disk.at_start(device.boot(), &Version::new(1, device.running(), 0), BOOTS) {
            Start::Nothing | Start::Trial | Start::Adopt => *fresh = false,
            Start::Catch(event) => device.apply(&event),
            Start::Undo => {
                device.next = Some(device.booted);
                device.apply(&Event::InstallFailed);
            }
            Start::Ask if device.next == device.disk.state().slot() => *fresh = false,
            Start::Ask => device.apply(&Event::BootLost),
            Start::Arm if device.next != device.disk.state().slot() => device.next = device.disk.state().slot(),
            Start::Arm => device.apply(&Event::Armed),
            Start::Refuse => device.apply(&rolled_back(Blame::Doubt)),
            Start::LeaveAgain => {
                if device.disk.state() == &State::Idle {
                    device.apply(&Event::Left);
                }
                device.reset();
            }
            Start::Close => device.apply(&Event::Closed),
        }
        return;
    }
    let here = device.disk.state().slot() == Some(device.booted);
    match device.disk.state().clone() {
        State::Idle if device.booted != device.first && nature == Nature::Good => device.put_first(),
        // What is adopted and not well is ended from outside.
        State::Idle if device.booted != device.first => device.reset(),
        State::Idle => {
            let running = device.running();
            let newer = (running + 1..natures.len() as u64).rev().find(|n| !device.disk.is_rejected(&bundle(*n)));
            let Some(newer) = newer else { return };
            let (slot, from) = (device.booted.other(), Version::new(1, running, 0));
            device.apply(&Event::InstallStarted { bundle: bundle(newer), slot, from });
            device.slots[slot as usize] = (newer, false);
            device.by_hand[slot as usize] = false;
        }
        State::Installing { slot, .. } if !device.slots[slot as usize].1 => device.slots[slot as usize].1 = true,
        State::Installing { slot, .. } if device.next != Some(slot) => device.next = Some(slot),
        State::Installing { .. } => device.apply(&Event::Installed { boots: BOOTS }),
        State::Installed { .. } => device.apply(&Event::Booted),
        State::Trial { .. } if !here => device.reset(),
        State::Trial { .. } if nature == Nature::Bad => device.apply(&rolled_back(Blame::Release)),
        State::Trial { .. } if nature == Nature::Unmarkable => device.apply(&rolled_back(Blame::Doubt)),
        State::Trial { .. } if device.first != device.booted => device.put_first(),
        State::Trial { .. } => device.apply(&Event::Committed),
        State::RolledBack { .. } => device.reset(),
    }
}

proptest! {
    /// Whatever the firmware does, wherever the power goes and takes the bootloader's variables along, and whatever somebody puts
    /// into the slot that does not run: what comes first in the boot order is always whole and was once well, nothing is committed
    /// but what runs, no boot is counted that was not had, and with the power on the device ends with the best version that is not
    /// bad.
    #[test]
    fn no_power_cut_leaves_a_device_without_firmware(
        natures in prop::collection::vec(prop::sample::select(NATURES.to_vec()), 1..4),
        cuts in prop::collection::vec((0..12usize, prop::option::weighted(0.2, 0..4u64), prop::bool::weighted(0.2)), 0..8),
    ) {
        let natures: Vec<Nature> = std::iter::once(Nature::Good).chain(natures).collect();
        let mut device = Device {
            disk: FirmwareState::default(), first: Slot::A, next: None, booted: Slot::A, slots: [(0, true), (0, true)], boots: 0, had: 0,
            by_hand: [false; 2], is_unordered: false,
        };
        let mut fresh = true;
        let check = |device: &Device| {
            let (version, whole) = device.slots[device.first as usize];
            prop_assert!(whole, "{device:?}");
            prop_assert_eq!(natures[usize::try_from(version).unwrap()], Nature::Good);
            prop_assert!(device.slots[device.booted as usize].1, "a half-written slot is booted: {device:?}");
            prop_assert!(FirmwareState::from_json(&device.disk.to_json().unwrap()).unwrap() == device.disk);
            Ok(())
        };
        for (cut, replaced, is_lost) in cuts {
            for _ in 0..cut {
                let boots = device.boots;
                step(&mut device, &natures, &mut fresh);
                fresh |= device.boots != boots;
                check(&device)?;
            }
            if let Some(version) = replaced {
                device.replace(version % natures.len() as u64);
            }
            device.reset();
            if is_lost {
                device.lose_variables();
            }
            fresh = true;
            check(&device)?;
        }
        for _ in 0..300 {
            let boots = device.boots;
            step(&mut device, &natures, &mut fresh);
            fresh |= device.boots != boots;
            check(&device)?;
        }
        prop_assert_eq!(device.disk.state(), &State::Idle);
        prop_assert_eq!(device.booted, device.first);
        let rejected = |n: u64| device.disk.is_rejected(&bundle(n));
        let best = (0..natures.len() as u64).rev().find(|n| natures[usize::try_from(*n).unwrap()] == Nature::Good && !rejected(*n));
        // A good one may have lost every boot of its trial to power cuts; then it is remembered, too.
        prop_assert_eq!(Some(device.running()), best.max(Some(device.running())));
        prop_assert!((device.running() + 1..natures.len() as u64).all(rejected));
    }
}

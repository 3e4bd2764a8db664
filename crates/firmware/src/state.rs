//! What the device's firmware slots are for. Pure: no clock, no file, no bus, no bootloader.
//!
//! There are two slots. One is booted; what the other one holds is in one of five states, and every change is one
//! [`Event`] given to [`FirmwareState::apply`]. The bootloader knows one thing of its own, which slot comes first; what a
//! boot finds there and here together says what happened meanwhile: [`FirmwareState::at_start`].
//!
//! ## The file's format
//!
//! The state is kept as JSON. Firmware falls back beneath it, so older code must cope with what newer code wrote: fields
//! that are unknown here are carried along unchanged, and `min_reader` names the oldest format number that still reads the
//! file rightly. Whoever raises it keeps `rejected` as it is: [`FirmwareState::salvage`] is how older code keeps from trying
//! again what newer code found to be bad.

use std::fmt;

use iotwasm_values::{Digest, Slot, shorten};
use semver::Version;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// The format that this code writes and the newest that it knows.
pub const FORMAT: u32 = 1;
/// Most releases remembered as rolled back; the oldest is forgotten first.
pub const MAX_REJECTED: usize = 32;
/// How often a release may fail for a cause that says nothing about it until it counts as rejected all the same: a device must
/// not install and restart for ever.
pub const MAX_DOUBTS: u8 = 3;
/// How often firmware that was not kept is left because the boot order was lost, before the other slot has run: a bootloader that
/// forgets what it is told would start it for ever.
pub const MAX_LEAVES: u8 = 3;
/// Most boots that a trial may have.
pub const MAX_BOOTS: u8 = 10;
/// Longest state file, in bytes: far above what the bounds allow, so that only damage is ever cut off.
pub const MAX_STATE_BYTES: usize = 64 * 1024;
/// Longest text kept in a state, in bytes.
pub const MAX_TEXT: usize = 512;
/// Longest name of a reason, in bytes.
pub const MAX_REASON: usize = 64;

/// The name of a slot in the bootloader.
#[must_use]
pub fn boot_name(slot: Slot) -> &'static str {
    match slot {
        Slot::A => "slot-a",
        Slot::B => "slot-b",
    }
}

/// The name of a slot in RAUC.
#[must_use]
pub fn rauc_name(slot: Slot) -> &'static str {
    match slot {
        Slot::A => "rootfs.0",
        Slot::B => "rootfs.1",
    }
}

fn is_zero(number: &u8) -> bool {
    *number == 0
}

/// What a state means that does not say whether it is armed: every one was, before that was written down.
fn yes() -> bool {
    true
}

/// One published bundle: which bytes, and which words were signed about them.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Bundle {
    /// Its version.
    pub version: Version,
    /// SHA-256 of the bundle.
    pub sha256: Digest,
    /// Digest of the signed custom object, the hash of `release.json` in it.
    pub custom: Digest,
}

impl fmt::Display for Bundle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "firmware {}", self.version)
    }
}

/// What the slot that is not (or was not) running is for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "name", rename_all = "snake_case")]
pub enum State {
    /// Nothing is under way.
    Idle,
    /// A bundle is being written to a slot.
    Installing {
        /// What.
        bundle: Bundle,
        /// Where.
        slot: Slot,
    },
    /// Written, whole, and waiting for a boot of its trial.
    Installed {
        /// What.
        bundle: Bundle,
        /// Where.
        slot: Slot,
        /// How often it may still be booted: at least once.
        boots_left: u8,
        /// Whether the bootloader was told of its next boot. If not, none can have been lost.
        #[serde(default = "yes")]
        armed: bool,
        /// How far it got in an earlier boot.
        #[serde(default)]
        reached: String,
    },
    /// Being tried: its boot is ordered, or it runs.
    Trial {
        /// What.
        bundle: Bundle,
        /// Where.
        slot: Slot,
        /// How often it may be booted beside this boot.
        boots_left: u8,
        /// How far it got.
        #[serde(default)]
        reached: String,
    },
    /// The trial was ended by the new firmware itself; the boot of the old one is ordered.
    RolledBack {
        /// What.
        bundle: Bundle,
        /// Where.
        slot: Slot,
        /// Why: a reason's name on the wire.
        reason: String,
        /// Why, for people.
        #[serde(default)]
        message: String,
    },
}

impl State {
    /// The bundle that it is about.
    #[must_use]
    pub fn bundle(&self) -> Option<&Bundle> {
        match self {
            Self::Idle => None,
            Self::Installing { bundle, .. }
            | Self::Installed { bundle, .. }
            | Self::Trial { bundle, .. }
            | Self::RolledBack { bundle, .. } => Some(bundle),
        }
    }

    /// The slot that it is about.
    #[must_use]
    pub fn slot(&self) -> Option<Slot> {
        match self {
            Self::Idle => None,
            Self::Installing { slot, .. }
            | Self::Installed { slot, .. }
            | Self::Trial { slot, .. }
            | Self::RolledBack { slot, .. } => Some(*slot),
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Idle => f.write_str("idle"),
            Self::Installing { bundle, slot } => write!(f, "installing {bundle} (slot {slot})"),
            Self::Installed { bundle, slot, boots_left, .. } => {
                write!(f, "{bundle} installed, {boots_left} boots left (slot {slot})")
            }
            Self::Trial { bundle, slot, boots_left, .. } => {
                write!(f, "{bundle} in trial, {boots_left} boots left (slot {slot})")
            }
            Self::RolledBack { bundle, slot, reason, .. } => write!(f, "{bundle} rolled back: {reason} (slot {slot})"),
        }
    }
}

/// A bundle that was rolled back, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rejected {
    /// Which. It counts as rejected as long as both of its digests are the same.
    pub bundle: Bundle,
    /// Why: a reason's name on the wire, at most [`MAX_REASON`] bytes.
    pub reason: String,
    /// Fields of newer formats, carried along.
    #[serde(flatten)]
    extra: Map<String, Value>,
}

/// A release that failed, maybe by no fault of its own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Doubt {
    bundle: Bundle,
    /// How often: 1 to [`MAX_DOUBTS`].
    times: u8,
    #[serde(flatten)]
    extra: Map<String, Value>,
}

/// What a rollback says about the release.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Blame {
    /// It is bad, and never tried again.
    Release,
    /// Maybe nothing: it counts the [`MAX_DOUBTS`]th time.
    Doubt,
    /// Nothing.
    Nobody,
}

/// True if one of these is the same bytes under the same signed words.
#[must_use]
pub fn is_rejected(rejected: &[Rejected], bundle: &Bundle) -> bool {
    rejected.iter().any(|r| is_same(&r.bundle, bundle))
}

/// True if these are the same bytes under the same signed words.
fn is_same(one: &Bundle, other: &Bundle) -> bool {
    (one.sha256, one.custom) == (other.sha256, other.custom)
}

/// What happened. Each is applied, and the new state written to the disk, before it is acted upon.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A slot is about to be written: what it held is gone.
    InstallStarted {
        /// What.
        bundle: Bundle,
        /// Where.
        slot: Slot,
        /// The version that runs.
        from: Version,
    },
    /// It could not be written, or was not to be: nothing will be booted.
    InstallFailed,
    /// It was written, whole, and the next boot goes to it.
    Installed {
        /// How often it may be booted: 1 to [`MAX_BOOTS`].
        boots: u8,
    },
    /// What was installed is given up before its boot, by no fault of its own.
    GivenUp,
    /// Its slot is about to be booted, or is found to have been. Costs a boot.
    Booted,
    /// It got so far.
    Reached {
        /// For people.
        text: String,
    },
    /// A boot of it was lost, nobody knows how: the old firmware runs, and wrote down nothing.
    BootLost,
    /// The bootloader was told to boot it once more.
    Armed,
    /// The trial is over: kept.
    Committed,
    /// The trial is over: undone.
    RolledBack {
        /// Why, as named on the wire.
        reason: String,
        /// Why, for people.
        message: String,
        /// Whether the release is to blame.
        blame: Blame,
    },
    /// The old firmware runs again and has taken note.
    Closed,
    /// Its slot was booted as the first of the boot order, and holds other firmware.
    Replaced,
    /// What runs comes first in the boot order although nobody committed it.
    Adopted {
        /// Its slot.
        slot: Slot,
    },
    /// The boot order was lost, and what runs was never kept: the other slot is about to be booted for it.
    Left,
    /// That slot runs.
    Returned,
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InstallStarted { bundle, slot, .. } => write!(f, "installation of {bundle} started (slot {slot})"),
            Self::InstallFailed => f.write_str("installation failed"),
            Self::Installed { boots } => write!(f, "installed with {boots} boots"),
            Self::GivenUp => f.write_str("given up"),
            Self::Booted => f.write_str("booted"),
            Self::Reached { text } => write!(f, "reached: {text}"),
            Self::BootLost => f.write_str("boot lost"),
            Self::Armed => f.write_str("armed"),
            Self::Committed => f.write_str("committed"),
            Self::RolledBack { reason, .. } => write!(f, "rolled back: {reason}"),
            Self::Closed => f.write_str("closed"),
            Self::Replaced => f.write_str("replaced by other firmware"),
            Self::Adopted { slot } => write!(f, "adopted (slot {slot})"),
            Self::Left => f.write_str("left for the other slot"),
            Self::Returned => f.write_str("the slot that was kept runs"),
        }
    }
}

/// An event that does not fit the state.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{event} does not fit the firmware's state: {state}")]
pub struct IllegalTransition {
    /// The state as it is and stays.
    pub state: Box<State>,
    /// What was to happen.
    pub event: Box<Event>,
}

/// Reason kept for a release whose boots were all lost.
pub const BOOT_FAILED: &str = "boot_failed";

/// Reason kept for a release whose slot held other firmware each time that it was booted: or that says another version than
/// its bundle.
pub const REPLACED: &str = "replaced";

/// Reason kept for a release that wrote down what this firmware cannot read, and is not what runs.
pub const UNREADABLE: &str = "unreadable_state";

/// What is known when the daemon starts, beside the state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Boot {
    /// The slot that was booted.
    pub slot: Slot,
    /// Whether it is not the first of the boot order.
    pub is_trial: bool,
    /// Whether there was no boot order: nothing said what to boot.
    pub is_unordered: bool,
}

/// What a start has to do about the state it finds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Start {
    /// Nothing.
    Nothing,
    /// These events say what happened meanwhile; then look again.
    Catch(Event),
    /// The trial goes on.
    Trial,
    /// What was to be tried says that it is another version: it is undone.
    Refuse,
    /// A slot runs that nobody committed and no state tells of: it is judged, and committed if it is well.
    Adopt,
    /// An installation was broken off, and may have gone through all the same: the bootloader is told to stay here.
    Undo,
    /// Ask the bootloader: if the new slot is still next, its boot has not been had; else it is lost.
    Ask,
    /// A boot of it was lost, and the bootloader is to be told of the next one.
    Arm,
    /// What runs was undone or never tried, and is to be left for the other slot: the order to was not carried out yet, or was
    /// lost with all the others.
    LeaveAgain,
    /// The old firmware is back, and the new one had written down why.
    Close,
}

/// The state of the firmware slots.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Raw", into = "Raw")]
pub struct FirmwareState {
    state: State,
    rejected: Vec<Rejected>,
    /// Releases that failed less than [`MAX_DOUBTS`] times, maybe by no fault of their own; oldest first.
    doubts: Vec<Doubt>,
    /// Version in the slot that is not running, as far as is known.
    other: Option<Version>,
    /// Version that ran when what is under way began.
    from: Option<Version>,
    /// Slot with firmware that was installed and not committed, whatever became of it. The script that makes the boot order reads
    /// this, too.
    unkept: Option<Slot>,
    /// How often it was left because the boot order was lost, since the other slot ran: at most [`MAX_LEAVES`].
    left: u8,
    format: u32,
    min_reader: u32,
    extra: Map<String, Value>,
}

/// [`FirmwareState`] as it is written.
#[derive(Serialize, Deserialize)]
struct Raw {
    format: u32,
    min_reader: u32,
    state: State,
    #[serde(default)]
    rejected: Vec<Rejected>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    doubts: Vec<Doubt>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    other: Option<Version>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    from: Option<Version>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    unkept: Option<Slot>,
    #[serde(default, skip_serializing_if = "is_zero")]
    left: u8,
    #[serde(flatten)]
    extra: Map<String, Value>,
}

/// Why a file is not a state.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// Longer than [`MAX_STATE_BYTES`].
    #[error("the firmware's state has more than {MAX_STATE_BYTES} bytes")]
    TooLong,
    /// Not JSON, or not ours.
    #[error("could not parse the firmware's state")]
    Syntax {
        /// What and where.
        #[source]
        err: serde_json::Error,
    },
    /// Written by newer firmware in a way that this one would misread.
    #[error("the firmware's state needs a reader of format {min_reader}; this firmware knows {FORMAT}")]
    TooNew {
        /// Which format it needs.
        min_reader: u32,
    },
    /// It says something that cannot be.
    #[error("the firmware's state contradicts itself: {what}")]
    Contradiction {
        /// What.
        what: &'static str,
    },
}

impl Default for FirmwareState {
    fn default() -> Self {
        Self {
            state: State::Idle,
            rejected: Vec::new(),
            doubts: Vec::new(),
            other: None,
            from: None,
            unkept: None,
            left: 0,
            format: FORMAT,
            min_reader: FORMAT,
            extra: Map::new(),
        }
    }
}

impl FirmwareState {
    /// Reads what [`Self::to_json`] wrote.
    pub fn from_json(bytes: &[u8]) -> Result<Self, StateError> {
        /// What must be readable in every format, before the rest is looked at.
        #[derive(Deserialize)]
        struct Header {
            min_reader: u32,
        }
        if bytes.len() > MAX_STATE_BYTES {
            return Err(StateError::TooLong);
        }
        let header: Header = serde_json::from_slice(bytes).map_err(|err| StateError::Syntax { err })?;
        if header.min_reader > FORMAT {
            return Err(StateError::TooNew { min_reader: header.min_reader });
        }
        let raw: Raw = serde_json::from_slice(bytes).map_err(|err| StateError::Syntax { err })?;
        Self::try_from(raw)
    }

    /// Of a file that [`Self::from_json`] refuses, what was rolled back, as far as it can be read: an idle state that still
    /// keeps from trying it again. What was under way there and is not what runs may have failed: that counts as a doubt, so
    /// that newer firmware which writes such a file and dies is not tried for ever.
    #[must_use]
    pub fn salvage(bytes: &[u8], running: &Version) -> Self {
        let value: Option<Value> =
            if bytes.len() > MAX_STATE_BYTES { None } else { serde_json::from_slice(bytes).ok() };
        let value = value.unwrap_or_default();
        let entries = |name: &str| value.get(name).and_then(Value::as_array).into_iter().flatten();
        let mut state = Self::default();
        let rejected = entries("rejected").filter_map(|entry| Rejected::deserialize(entry).ok());
        rejected.for_each(|rejected| state.remember(rejected));
        state.doubts = entries("doubts").filter_map(|entry| Doubt::deserialize(entry).ok()).collect();
        let under_way = value.pointer("/state/bundle").and_then(|bundle| Bundle::deserialize(bundle).ok());
        if let Some(bundle) = under_way.filter(|bundle| bundle.version != *running && !state.is_rejected(bundle)) {
            state.blame(Blame::Doubt, &bundle, UNREADABLE);
        }
        let surplus = state.doubts.len().saturating_sub(MAX_REJECTED);
        state.doubts.drain(..surplus);
        let slots = ["/unkept", "/state/slot"].into_iter().filter_map(|name| value.pointer(name));
        state.unkept = slots.filter_map(|slot| Slot::deserialize(slot).ok()).next();
        state
    }

    /// The state as JSON, for people to read as well.
    pub fn to_json(&self) -> Result<Vec<u8>, StateError> {
        let mut text = serde_json::to_vec_pretty(self).map_err(|err| StateError::Syntax { err })?;
        text.push(b'\n');
        Ok(text)
    }

    /// What is under way.
    #[must_use]
    pub fn state(&self) -> &State {
        &self.state
    }

    /// Releases that were rolled back, oldest first.
    #[must_use]
    pub fn rejected(&self) -> &[Rejected] {
        &self.rejected
    }

    /// The version in the slot that does not run, where it is known.
    #[must_use]
    pub fn other(&self) -> Option<&Version> {
        self.other.as_ref()
    }

    /// The slot with firmware that was installed and not committed, if there is one.
    #[must_use]
    pub fn unkept(&self) -> Option<Slot> {
        self.unkept
    }

    /// Whether the slot that was not kept was left for the other one as often as it may be, and the other one has not run since.
    #[must_use]
    pub fn was_left_in_vain(&self) -> bool {
        self.left >= MAX_LEAVES
    }

    /// True if these bytes were rolled back under the same signed words.
    #[must_use]
    pub fn is_rejected(&self, bundle: &Bundle) -> bool {
        is_rejected(&self.rejected, bundle)
    }

    /// What to do about this state in this boot of this version. `boots` is how many boots a trial has.
    #[must_use]
    pub fn at_start(&self, boot: Boot, running: &Version, boots: u8) -> Start {
        let here = self.state.slot() == Some(boot.slot);
        if here && boot.is_unordered {
            // Nobody chose what runs. An installation may not have begun with it, or may have been in its middle; what was undone is
            // undone.
            match &self.state {
                State::Installing { .. } => return Start::Catch(Event::InstallFailed),
                State::RolledBack { .. } => return Start::Catch(Event::Closed),
                _ => {}
            }
        }
        if here && self.state.bundle().is_some_and(|bundle| bundle.version != *running) {
            match (&self.state, boot.is_trial) {
                // The old firmware is first in the boot order, and is not given up for what nobody signed for.
                (State::Trial { .. }, true) => return Start::Refuse,
                (_, true) => {}
                // Nothing of what was written down is about what runs.
                (_, false) => return Start::Catch(Event::Replaced),
            }
        }
        let is_unkept = self.unkept == Some(boot.slot);
        match (&self.state, here, boot.is_trial) {
            // Nobody chose it: where there is no boot order, firmware starts the first slot that it finds.
            (State::Idle, _, _) if boot.is_unordered && is_unkept && !self.was_left_in_vain() => Start::LeaveAgain,
            (State::Idle, _, false) if is_unkept && !boot.is_unordered => {
                Start::Catch(Event::Adopted { slot: boot.slot })
            }
            (State::Idle, _, false) if self.left > 0 && !is_unkept => Start::Catch(Event::Returned),
            (State::Idle, _, false) => Start::Nothing,
            (State::Idle, _, true) => Start::Adopt,
            // It is the first of the boot order: it was marked good just before a stop, whatever was written down.
            (State::Installed { .. } | State::Trial { .. }, true, false) => Start::Catch(Event::Committed),
            (State::Installing { .. }, true, false) => Start::Catch(Event::InstallFailed),
            (State::RolledBack { .. }, true, false) => Start::Catch(Event::Closed),
            // Only a whole bundle is ever made next, so it was written to its end.
            (State::Installing { .. }, true, true) => Start::Catch(Event::Installed { boots }),
            (State::Installed { .. }, true, true) => Start::Catch(Event::Booted),
            (State::Trial { .. }, true, true) => Start::Trial,
            (State::RolledBack { .. }, true, true) => Start::LeaveAgain,
            (State::Installing { .. }, false, _) => Start::Undo,
            (State::Installed { armed: false, .. }, false, _) => Start::Arm,
            (State::Installed { .. } | State::Trial { .. }, false, _) => Start::Ask,
            (State::RolledBack { .. }, false, _) => Start::Close,
        }
    }

    /// The state after an event. Does not write to the disk: the caller does, before it acts.
    pub fn apply(&self, event: &Event) -> Result<Self, IllegalTransition> {
        let illegal = || IllegalTransition { state: Box::new(self.state.clone()), event: Box::new(event.clone()) };
        let mut next = self.clone();
        next.state = match (event, self.state.clone()) {
            (Event::InstallStarted { bundle, slot, from }, State::Idle) if !self.is_rejected(bundle) => {
                (next.other, next.from, next.unkept) = (None, Some(from.clone()), Some(*slot));
                next.left = 0;
                State::Installing { bundle: bundle.clone(), slot: *slot }
            }
            (Event::InstallFailed, State::Installing { .. }) => State::Idle,
            (Event::Installed { boots }, State::Installing { bundle, slot }) if (1..=MAX_BOOTS).contains(boots) => {
                next.other = Some(bundle.version.clone());
                State::Installed { bundle, slot, boots_left: *boots, armed: true, reached: String::new() }
            }
            // Also where its boot was spent and did not come.
            (Event::GivenUp, State::Installed { .. } | State::Trial { .. }) => State::Idle,
            (Event::Booted, State::Installed { bundle, slot, boots_left, reached, .. }) => {
                State::Trial { bundle, slot, boots_left: boots_left.saturating_sub(1), reached }
            }
            (Event::Reached { text }, State::Trial { bundle, slot, boots_left, .. }) => {
                State::Trial { bundle, slot, boots_left, reached: shorten(text, MAX_TEXT) }
            }
            (Event::BootLost, State::Installed { armed: false, .. }) => return Err(illegal()),
            (Event::BootLost, State::Installed { bundle, slot, boots_left, reached, .. }) if boots_left > 1 => {
                State::Installed { bundle, slot, boots_left: boots_left - 1, armed: false, reached }
            }
            (Event::BootLost, State::Trial { bundle, slot, boots_left, reached }) if boots_left > 0 => {
                State::Installed { bundle, slot, boots_left, armed: false, reached }
            }
            (Event::Armed, State::Installed { bundle, slot, boots_left, reached, .. }) => {
                State::Installed { bundle, slot, boots_left, armed: true, reached }
            }
            (Event::BootLost, State::Installed { bundle, .. } | State::Trial { bundle, .. }) => {
                next.blame(Blame::Release, &bundle, BOOT_FAILED);
                State::Idle
            }
            (Event::Committed, State::Installed { bundle, .. } | State::Trial { bundle, .. }) => {
                next.doubts.retain(|doubt| !is_same(&doubt.bundle, &bundle));
                (next.other, next.unkept) = (self.from.clone(), None);
                State::Idle
            }
            (Event::RolledBack { reason, message, blame }, State::Trial { bundle, slot, .. }) => {
                let reason = shorten(reason, MAX_REASON);
                next.blame(*blame, &bundle, &reason);
                State::RolledBack { bundle, slot, reason, message: shorten(message, MAX_TEXT) }
            }
            (Event::Closed, State::RolledBack { .. }) => State::Idle,
            (Event::Replaced, state) if state != State::Idle => {
                // An image that says another version than its bundle looks the same. What was undone is judged already.
                if let (Some(bundle), false) = (state.bundle(), matches!(state, State::RolledBack { .. })) {
                    next.blame(Blame::Doubt, bundle, REPLACED);
                }
                (next.other, next.unkept) = (self.from.clone(), None);
                State::Idle
            }
            (Event::Adopted { slot }, State::Idle) => {
                next.unkept = self.unkept.filter(|unkept| unkept != slot);
                next.left = 0;
                State::Idle
            }
            (Event::Left, State::Idle) if self.left < MAX_LEAVES => {
                next.left += 1;
                State::Idle
            }
            (Event::Returned, State::Idle) => {
                next.left = 0;
                State::Idle
            }
            _ => return Err(illegal()),
        };
        Ok(next)
    }

    /// The version that ran when what is under way began.
    #[must_use]
    pub fn from(&self) -> Option<&Version> {
        self.from.as_ref()
    }

    fn blame(&mut self, blame: Blame, bundle: &Bundle, reason: &str) {
        let at = self.doubts.iter().position(|doubt| is_same(&doubt.bundle, bundle));
        let times = at.map_or(0, |at| self.doubts[at].times).saturating_add(1);
        match blame {
            Blame::Nobody => {}
            Blame::Doubt if times < MAX_DOUBTS => {
                let extra = at.map_or_else(Map::new, |at| self.doubts.remove(at).extra);
                self.doubts.push(Doubt { bundle: bundle.clone(), times, extra });
                let surplus = self.doubts.len().saturating_sub(MAX_REJECTED);
                self.doubts.drain(..surplus);
            }
            Blame::Doubt | Blame::Release => {
                self.doubts.retain(|doubt| !is_same(&doubt.bundle, bundle));
                self.remember(Rejected { bundle: bundle.clone(), reason: reason.to_owned(), extra: Map::new() });
            }
        }
    }

    fn remember(&mut self, rejected: Rejected) {
        self.rejected.retain(|old| !is_rejected(std::slice::from_ref(&rejected), &old.bundle));
        self.rejected.push(rejected);
        let surplus = self.rejected.len().saturating_sub(MAX_REJECTED);
        self.rejected.drain(..surplus);
    }
}

impl TryFrom<Raw> for FirmwareState {
    type Error = StateError;

    fn try_from(raw: Raw) -> Result<Self, StateError> {
        let no = |what| Err(StateError::Contradiction { what });
        if raw.min_reader > FORMAT {
            return Err(StateError::TooNew { min_reader: raw.min_reader });
        }
        match &raw.state {
            State::Installed { boots_left, .. } if !(1..=MAX_BOOTS).contains(boots_left) => {
                return no("what is installed has no boots, or more than can be");
            }
            State::Trial { boots_left, .. } if *boots_left >= MAX_BOOTS => {
                return no("a trial has more boots than can be");
            }
            _ => {}
        }
        let mut rejected = raw.rejected;
        let surplus = rejected.len().saturating_sub(MAX_REJECTED);
        rejected.drain(..surplus);
        let Raw { format, min_reader, state, mut doubts, other, from, unkept, left, extra, .. } = raw;
        let left = left.min(MAX_LEAVES);
        let surplus = doubts.len().saturating_sub(MAX_REJECTED);
        doubts.drain(..surplus);
        Ok(Self { state, rejected, doubts, other, from, unkept, left, format, min_reader, extra })
    }
}

impl From<FirmwareState> for Raw {
    fn from(state: FirmwareState) -> Self {
        // A newer writer's format number is kept with its fields: they are still there for it.
        let FirmwareState { state, rejected, doubts, other, from, unkept, left, format, min_reader, extra } = state;
        Self { format, min_reader, state, rejected, doubts, other, from, unkept, left, extra }
    }
}

#[cfg(test)]
#[path = "state_tests.rs"]
mod tests;

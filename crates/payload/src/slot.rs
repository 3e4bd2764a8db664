//! Payload slot states. Pure: no clock, no file, no bus.
//!
//! A payload has two slots. At most one is committed, at most one is in trial, and once something was committed there
//! is always a committed slot: a trial is tried beside what works and never instead of it. Every change is one
//! [`Event`] given to [`PayloadState::apply`]; what does not fit is refused with both sides.
//!
//! ## The file's format
//!
//! The state is kept as JSON. Firmware may be rolled back beneath it, so older code must cope with what newer code
//! wrote: fields that are unknown here are carried along unchanged, and `min_reader` names the oldest format number
//! that still reads the file rightly. Newer code that changes the meaning of a field raises it, and older code then
//! says [`StateError::TooNew`] instead of guessing.

use std::fmt;

use iotwasm_values::{Digest, Slot, shorten};
use semver::Version;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::target::TargetName;

/// The format that this code writes and the newest that it knows.
pub const FORMAT: u32 = 1;
/// Most releases remembered as rolled back; the oldest is forgotten first.
pub const MAX_REJECTED: usize = 32;
/// Most boots that a trial may have.
pub const MAX_BOOTS: u8 = 10;
/// Longest state file, in bytes: far above what the bounds allow, so that only damage is ever cut off.
pub const MAX_STATE_BYTES: usize = 128 * 1024;
/// Longest reason kept with a rejected release, in bytes.
pub const MAX_REASON: usize = 64;

/// What a slot is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SlotState {
    /// Nothing runs from it; it may be written.
    Inactive,
    /// It is being tried, or waits for its trial.
    Trial {
        /// How many more times the trial may be started.
        boots_left: u8,
    },
    /// It runs.
    Committed,
}

impl fmt::Display for SlotState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Inactive => f.write_str("inactive"),
            Self::Trial { boots_left } => write!(f, "trial({boots_left})"),
            Self::Committed => f.write_str("committed"),
        }
    }
}

/// One signed file: which target, which bytes, and which words were signed about them.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Release {
    /// The target's name, and in it vendor, id and version.
    pub target: TargetName,
    /// Length of the file, in bytes.
    pub length: u64,
    /// SHA-256 of the file.
    pub sha256: Digest,
    /// Digest of the signed custom object ([`crate::target::custom_digest`]).
    pub custom: Digest,
}

impl Release {
    /// Its version.
    pub fn version(&self) -> &Version {
        &self.target.version
    }
}

impl fmt::Display for Release {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.target.id, self.target.version)
    }
}

/// A slot: its state, and what was last written to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SlotContent {
    /// What it is for.
    pub state: SlotState,
    /// What lies in it. Always known for a trial and for what is committed; a guess for an inactive slot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub release: Option<Release>,
    /// Fields of newer formats, carried along.
    #[serde(flatten)]
    extra: Map<String, Value>,
}

/// A release that was rolled back, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rejected {
    /// Which. It counts as rejected as long as both of its digests are the same.
    pub release: Release,
    /// Why: a reason's name on the wire, at most [`MAX_REASON`] bytes.
    pub reason: String,
}

/// The slots of one payload.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Raw", into = "Raw")]
pub struct PayloadState {
    slots: [SlotContent; 2],
    rejected: Vec<Rejected>,
    /// Format and the like, of whoever wrote it.
    format: u32,
    min_reader: u32,
    extra: Map<String, Value>,
}

/// [`PayloadState`] as it is written.
#[derive(Serialize, Deserialize)]
struct Raw {
    format: u32,
    min_reader: u32,
    a: SlotContent,
    b: SlotContent,
    #[serde(default)]
    rejected: Vec<Rejected>,
    #[serde(flatten)]
    extra: Map<String, Value>,
}

/// Why a file is not a state.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// Longer than [`MAX_STATE_BYTES`].
    #[error("the slot state has more than {MAX_STATE_BYTES} bytes")]
    TooLong,
    /// Not JSON, or not ours.
    #[error("could not parse the slot state")]
    Syntax {
        /// What and where.
        #[source]
        err: serde_json::Error,
    },
    /// Written by newer firmware in a way that this one would misread.
    #[error("the slot state needs a reader of format {min_reader}; this firmware knows {FORMAT}: update the firmware")]
    TooNew {
        /// Which format it needs.
        min_reader: u32,
    },
    /// It says something that cannot be.
    #[error("the slot state contradicts itself: {what}")]
    Contradiction {
        /// What.
        what: &'static str,
    },
}

/// What happened. Each is applied, and the new state written to the disk, before it is acted upon.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The slot is about to be written: what it held is gone.
    WriteStarted {
        /// Where.
        slot: Slot,
    },
    /// A release was written, whole, and is to be tried.
    Installed {
        /// Where.
        slot: Slot,
        /// What.
        release: Release,
        /// How often the trial may be started: 1 to [`MAX_BOOTS`].
        boots: u8,
    },
    /// The trial is about to be started. Costs a boot.
    TrialStarted {
        /// Where.
        slot: Slot,
    },
    /// The trial failed by the payload's doing: undone and remembered.
    TrialFailed {
        /// Where.
        slot: Slot,
        /// Why, as named on the wire.
        reason: String,
    },
    /// The trial ended by no fault of the payload (withdrawn meanwhile, no longer wanted): undone, not remembered.
    TrialAbandoned {
        /// Where.
        slot: Slot,
    },
    /// The trial is to be started again, but has no boots left: undone and remembered.
    NoBootsLeft {
        /// Where.
        slot: Slot,
    },
    /// The trial stayed healthy to the end.
    Confirmed {
        /// Where.
        slot: Slot,
    },
}

impl Event {
    /// Which slot it concerns.
    pub fn slot(&self) -> Slot {
        match self {
            Self::WriteStarted { slot }
            | Self::Installed { slot, .. }
            | Self::TrialStarted { slot }
            | Self::TrialFailed { slot, .. }
            | Self::TrialAbandoned { slot }
            | Self::NoBootsLeft { slot }
            | Self::Confirmed { slot } => *slot,
        }
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::WriteStarted { slot } => write!(f, "write started ({slot})"),
            Self::Installed { slot, release, boots } => write!(f, "installed {release} with {boots} boots ({slot})"),
            Self::TrialStarted { slot } => write!(f, "trial started ({slot})"),
            Self::TrialFailed { slot, reason } => write!(f, "trial failed: {reason} ({slot})"),
            Self::TrialAbandoned { slot } => write!(f, "trial abandoned ({slot})"),
            Self::NoBootsLeft { slot } => write!(f, "no boots left ({slot})"),
            Self::Confirmed { slot } => write!(f, "confirmed ({slot})"),
        }
    }
}

/// An event that does not fit the state.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{event} does not fit the slots: {state}")]
pub struct IllegalTransition {
    /// The slots as they are and stay.
    pub state: Box<PayloadState>,
    /// What was to happen.
    pub event: Box<Event>,
}

/// Reason kept for a trial whose boots ran out.
pub const NO_BOOTS_LEFT: &str = "no_boots_left";

impl Default for PayloadState {
    fn default() -> Self {
        let empty = SlotContent { state: SlotState::Inactive, release: None, extra: Map::new() };
        Self {
            slots: [empty.clone(), empty],
            rejected: Vec::new(),
            format: FORMAT,
            min_reader: FORMAT,
            extra: Map::new(),
        }
    }
}

impl PayloadState {
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

    /// The state as JSON, for people to read as well.
    pub fn to_json(&self) -> Result<Vec<u8>, StateError> {
        let mut text = serde_json::to_vec_pretty(self).map_err(|err| StateError::Syntax { err })?;
        text.push(b'\n');
        Ok(text)
    }

    /// One slot.
    pub fn slot(&self, slot: Slot) -> &SlotContent {
        &self.slots[slot as usize]
    }

    /// What runs.
    pub fn committed(&self) -> Option<(Slot, &Release)> {
        self.find(|state| state == SlotState::Committed)
    }

    /// What is being tried, and how many more times it may be started.
    pub fn trial(&self) -> Option<(Slot, &Release, u8)> {
        let (slot, release) = self.find(|state| matches!(state, SlotState::Trial { .. }))?;
        match self.slot(slot).state {
            SlotState::Trial { boots_left } => Some((slot, release, boots_left)),
            _ => None,
        }
    }

    /// The slot to write next: the one that is not committed. None during a trial.
    pub fn writable(&self) -> Option<Slot> {
        if self.trial().is_some() {
            return None;
        }
        Some(self.committed().map_or(Slot::A, |(slot, _)| slot.other()))
    }

    /// Releases that were rolled back, oldest first.
    pub fn rejected(&self) -> &[Rejected] {
        &self.rejected
    }

    /// True if these bytes were rolled back under the same signed words.
    pub fn is_rejected(&self, release: &Release) -> bool {
        is_rejected(&self.rejected, release)
    }

    fn find(&self, wanted: impl Fn(SlotState) -> bool) -> Option<(Slot, &Release)> {
        Slot::ALL.into_iter().find_map(|slot| {
            let content = self.slot(slot);
            if wanted(content.state) { content.release.as_ref().map(|release| (slot, release)) } else { None }
        })
    }

    /// The state after an event. Does not write to the disk: the caller does, before it acts.
    pub fn apply(&self, event: &Event) -> Result<Self, IllegalTransition> {
        let illegal = || IllegalTransition { state: Box::new(self.clone()), event: Box::new(event.clone()) };
        let mut next = self.clone();
        let slot = event.slot();
        let state = self.slot(slot).state;
        match (event, state) {
            (Event::WriteStarted { .. }, SlotState::Inactive) if self.trial().is_none() => {
                next.slots[slot as usize].release = None;
            }
            (Event::Installed { release, boots, .. }, SlotState::Inactive)
                if self.trial().is_none() && (1..=MAX_BOOTS).contains(boots) && !self.is_rejected(release) =>
            {
                let content = &mut next.slots[slot as usize];
                content.release = Some(release.clone());
                content.state = SlotState::Trial { boots_left: *boots };
            }
            (Event::TrialStarted { .. }, SlotState::Trial { boots_left }) if boots_left > 0 => {
                next.slots[slot as usize].state = SlotState::Trial { boots_left: boots_left - 1 };
            }
            (Event::TrialFailed { reason, .. }, SlotState::Trial { .. }) => next.undo(slot, Some(reason)),
            (Event::TrialAbandoned { .. }, SlotState::Trial { .. }) => next.undo(slot, None),
            (Event::NoBootsLeft { .. }, SlotState::Trial { boots_left: 0 }) => next.undo(slot, Some(NO_BOOTS_LEFT)),
            (Event::Confirmed { .. }, SlotState::Trial { .. }) => {
                next.slots[slot as usize].state = SlotState::Committed;
                next.slots[slot.other() as usize].state = SlotState::Inactive;
            }
            _ => return Err(illegal()),
        }
        Ok(next)
    }

    /// Ends the trial of a slot; with a reason, its release is remembered.
    fn undo(&mut self, slot: Slot, reason: Option<&str>) {
        let content = &mut self.slots[slot as usize];
        content.state = SlotState::Inactive;
        if let (Some(release), Some(reason)) = (&content.release, reason) {
            let rejected = Rejected { release: release.clone(), reason: shorten(reason, MAX_REASON) };
            self.rejected.push(rejected);
            let surplus = self.rejected.len().saturating_sub(MAX_REJECTED);
            self.rejected.drain(..surplus);
        }
    }
}

/// True if one of these is the same bytes under the same signed words.
pub fn is_rejected(rejected: &[Rejected], release: &Release) -> bool {
    rejected.iter().any(|r| r.release.sha256 == release.sha256 && r.release.custom == release.custom)
}

impl fmt::Display for PayloadState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, slot) in Slot::ALL.into_iter().enumerate() {
            let content = self.slot(slot);
            write!(f, "{}{slot} {}", if i == 0 { "" } else { ", " }, content.state)?;
            if let Some(release) = &content.release {
                write!(f, " {release}")?;
            }
        }
        Ok(())
    }
}

impl TryFrom<Raw> for PayloadState {
    type Error = StateError;

    fn try_from(raw: Raw) -> Result<Self, StateError> {
        let no = |what| Err(StateError::Contradiction { what });
        if raw.min_reader > FORMAT {
            return Err(StateError::TooNew { min_reader: raw.min_reader });
        }
        let slots = [raw.a, raw.b];
        if slots.iter().all(|s| s.state == SlotState::Committed) {
            return no("both slots are committed");
        }
        if slots.iter().all(|s| matches!(s.state, SlotState::Trial { .. })) {
            return no("both slots are in trial");
        }
        if slots.iter().any(|s| s.state != SlotState::Inactive && s.release.is_none()) {
            return no("a slot in use names no release");
        }
        if slots.iter().any(|s| matches!(s.state, SlotState::Trial { boots_left } if boots_left > MAX_BOOTS)) {
            return no("a trial has more boots than can be");
        }
        let mut rejected = raw.rejected;
        let surplus = rejected.len().saturating_sub(MAX_REJECTED);
        rejected.drain(..surplus);
        Ok(Self { slots, rejected, format: raw.format, min_reader: raw.min_reader, extra: raw.extra })
    }
}

impl From<PayloadState> for Raw {
    fn from(state: PayloadState) -> Self {
        let [a, b] = state.slots;
        // A newer writer's format number is kept with its fields: they are still there for it.
        Self { format: state.format, min_reader: state.min_reader, a, b, rejected: state.rejected, extra: state.extra }
    }
}

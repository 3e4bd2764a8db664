//! The firmware level: found, verified twice, written by RAUC to the other slot, tried, kept or undone.
//!
//! Pure core: [`trial`] (what a trial needs to be kept), [`when`] (when a restart may be), and the choice of a release and
//! the state of the slots, which are `iotwasm-firmware`'s. Edges around it: [`machine`] (what the device says), [`store`]
//! (the file), `rauc` and `systemd` (the bus), `relay` (the bundle's way). `desk` is the worker's end, and `install` runs on its
//! thread; `keeper` is a thread of its own from the moment that something waits for a restart until it is kept or undone; `gate`
//! keeps its restart and trials of payloads apart.

mod ahead;
mod bus;
pub(crate) mod desk;
mod due;
mod gate;
mod http;
mod install;
mod keeper;
mod look;
pub mod machine;
pub mod rauc;
mod relay;
pub mod store;
mod systemd;
pub mod trial;
pub mod when;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use iotwasm_api::Reason;
use iotwasm_api::ota::{Attempt, FirmwareInfo, Level, Outcome};
use iotwasm_api::supervisor;
use iotwasm_firmware::Slot;
use iotwasm_firmware::state::{Boot, Bundle, Event, FirmwareState, Start, State};
use iotwasm_kit::{info, report, warn};

use crate::Settings;
use crate::journal::blank;
use crate::shared::{Shared, now_text};
use machine::Machine;
use store::Store;

/// The slot as the interfaces name it.
fn to_api(slot: Slot) -> supervisor::Slot {
    match slot {
        Slot::A => supervisor::Slot::A,
        Slot::B => supervisor::Slot::B,
    }
}

/// The firmware of this device. Whoever owns this alone changes what becomes of it.
#[derive(Debug)]
pub(crate) struct Firmware {
    settings: Arc<Settings>,
    shared: Arc<Shared>,
    quit: Arc<AtomicBool>,
    machine: Machine,
    store: Store,
    /// What a restart waits for, as it was told last.
    waiting_for: String,
    /// Why what was under way could not go on, or is left as it is.
    trouble: String,
}

impl Firmware {
    /// What the device says of its firmware; none where the image has none that could be updated.
    pub(crate) fn open(settings: &Arc<Settings>, shared: &Arc<Shared>, quit: &Arc<AtomicBool>) -> Option<Self> {
        let mut machine = match Machine::read(&settings.places) {
            Ok(machine) => machine,
            Err(why) => {
                info!("firmware is not updated on this device: {why}");
                return None;
            }
        };
        let store = Store::open(&settings.places.firmware_state, &machine.version);
        // The boot order was lost, and nobody has kept this firmware.
        let unkept = [store.state().state().slot(), store.state().unkept()];
        let is_unkept = unkept.contains(&Some(machine.boot.slot));
        machine.boot.is_trial |= machine.boot.is_unordered && is_unkept;
        let (settings, shared, quit) = (Arc::clone(settings), Arc::clone(shared), Arc::clone(quit));
        let (waiting_for, trouble) = (String::new(), String::new());
        let firmware = Self { settings, shared, quit, machine, store, waiting_for, trouble };
        firmware.show();
        if !firmware.machine.boot.is_trial {
            firmware.tell_kept(machine::KEPT);
        }
        Some(firmware)
    }

    /// Which firmware this device may take.
    pub(crate) fn compatible(&self) -> &str {
        &self.machine.compatible
    }

    /// Whether this boot is a trial of what runs.
    pub(crate) fn is_trial_boot(&self) -> bool {
        self.machine.boot.is_trial
    }

    /// What is under way, if it can be withdrawn.
    pub(crate) fn bundle(&self) -> Option<&Bundle> {
        match self.state().state() {
            State::Idle | State::RolledBack { .. } => None,
            state => state.bundle(),
        }
    }

    /// What has to be done about what the disk says.
    pub(crate) fn start(&self) -> Start {
        let Machine { boot, version, .. } = &self.machine;
        self.state().at_start(*boot, version, self.settings.config.firmware.trial_boots)
    }

    fn state(&self) -> &FirmwareState {
        self.store.state()
    }

    fn slot(&self) -> Slot {
        self.machine.boot.slot
    }

    /// Changes the state, on the disk first.
    fn apply(&mut self, event: &Event) -> Result<(), store::Error> {
        self.store.apply(event)?;
        self.show();
        Ok(())
    }

    /// This boot is no trial any more.
    fn keep(&mut self) {
        self.machine.boot = Boot { is_trial: false, is_unordered: false, ..self.machine.boot };
        self.tell_kept(machine::KEPT);
        self.show();
    }

    /// Keeps the root timer from ending this boot, with the word why.
    fn tell_kept(&self, word: &str) {
        let path = &self.settings.places.kept;
        if let Err(err) = std::fs::write(path, word) {
            warn!("could not make {}: {err}", path.display());
        }
    }

    /// What a restart waits for; told once for each cause.
    fn wait_for(&mut self, cause: String) {
        if self.waiting_for != cause {
            if !cause.is_empty() {
                info!("the restart into new firmware waits for {cause}");
            }
            self.waiting_for = cause;
            self.show();
        }
    }

    fn show(&self) {
        self.shared.set_firmware(self.info());
    }

    fn info(&self) -> FirmwareInfo {
        let state = self.state();
        let here = state.state().slot() == Some(self.slot());
        let (other_state, boots) = match state.state() {
            State::Installing { .. } => ("installing", 0),
            State::Installed { boots_left, .. } => ("installed", *boots_left),
            State::Trial { boots_left, .. } => (if here { "committed" } else { "installed" }, *boots_left),
            State::RolledBack { .. } if here => ("committed", 0),
            State::Idle | State::RolledBack { .. } => ("inactive", 0),
        };
        let text = |version: Option<&semver::Version>| version.map_or_else(String::new, ToString::to_string);
        let waits = matches!(state.state(), State::Installed { .. } | State::Trial { .. }) && !here;
        FirmwareInfo {
            compatible: self.machine.compatible.clone(),
            version: self.machine.version.to_string(),
            slot: to_api(self.slot()),
            state: if self.machine.boot.is_trial { "trial" } else { "committed" }.to_owned(),
            installed: if waits { text(state.state().bundle().map(|bundle| &bundle.version)) } else { String::new() },
            waiting_for: self.waiting_for.clone(),
            // In its trial, the other slot has what ran before.
            other_version: text(if here { state.from() } else { state.other() }),
            other_state: other_state.to_owned(),
            boots_left: boots.into(),
            rejected: state
                .rejected()
                .iter()
                .map(|r| format!("{} {} ({})", r.bundle.version, r.bundle.sha256, r.reason))
                .collect(),
        }
    }

    /// Whether the history has an attempt with this bundle that goes on.
    fn is_open(&self, bundle: &Bundle) -> bool {
        self.shared.open_firmware_attempt().is_some_and(|open| open.sha256 == bundle.sha256.to_string())
    }

    /// The attempt in the history that this bundle belongs to; a new one if the history was lost.
    fn attempt(&self, bundle: &Bundle) -> i64 {
        let sha256 = bundle.sha256.to_string();
        match self.shared.open_firmware_attempt() {
            Some(open) if open.sha256 == sha256 => open.number,
            other => {
                if let Some(other) = other {
                    self.shared.fail(other.number, Outcome::Failed, "something else took its place".to_owned());
                }
                let attempt = blank("", Outcome::Trial, String::new(), &now_text());
                let from = self.state().from().map_or_else(String::new, ToString::to_string);
                let slot = self.state().state().slot().map(to_api);
                let version = bundle.version.to_string();
                let level = Level::Firmware;
                self.shared.note(Attempt { level, version, sha256, from_version: from, slot, ..attempt })
            }
        }
    }

    /// At start: ends the attempt that the history says goes on, if the disk says that it does not.
    pub(crate) fn close_old_attempt(&self) {
        let Some(open) = self.shared.open_firmware_attempt() else { return };
        let is = |bundle: &Bundle| bundle.sha256.to_string() == open.sha256;
        if self.state().state().bundle().is_some_and(is) || self.start() == Start::Adopt {
            return;
        }
        if let Some(rejected) = self.state().rejected().iter().rev().find(|rejected| is(&rejected.bundle)) {
            let reason = Reason::ALL.into_iter().find(|reason| reason.as_str() == rejected.reason);
            let message = "rolled back just before the daemon stopped".to_owned();
            self.close(open.number, Outcome::RolledBack, reason, message);
        } else if open.outcome == Outcome::Trial && open.version == self.machine.version.to_string() {
            let message = "kept just before the daemon stopped".to_owned();
            self.close(open.number, Outcome::Committed, None, message);
        } else {
            let message = "interrupted by a stop of the device or of this daemon".to_owned();
            self.shared.fail(open.number, Outcome::Failed, message);
        }
    }

    /// The attempt goes on.
    fn tell(&self, attempt: i64, message: String) {
        self.shared.update(attempt, |attempt| (attempt.outcome, attempt.message) = (Outcome::Trial, message));
    }

    /// The attempt is over.
    fn close(&self, attempt: i64, outcome: Outcome, reason: Option<Reason>, message: String) {
        self.shared.update(attempt, |a| {
            (a.outcome, a.reason, a.message, a.ended) = (outcome, reason, message, now_text());
        });
    }

    /// Writes down what has happened where nothing can be done about a failure: the next start finds out again.
    fn note(&mut self, event: &Event) -> bool {
        match self.apply(event) {
            Ok(()) => {
                self.trouble.clear();
                true
            }
            Err(err) => {
                let text = report::chain(&err);
                warn!("{text}");
                self.set_trouble(text);
                false
            }
        }
    }

    /// It could not go on. Checks tell it again until it does: each of them tells how it went itself.
    fn set_trouble(&mut self, text: String) {
        self.shared.set_error(text.clone());
        self.trouble = text;
    }

    /// Whether the daemon stops.
    fn is_quitting(&self) -> bool {
        self.quit.load(Ordering::Relaxed)
    }

    /// The rules for restarts.
    fn rules(&self) -> when::Rules {
        let config = &self.settings.config.firmware;
        when::Rules {
            windows: config.windows.clone(),
            minimum_battery: config.minimum_battery_percent,
            delay_max: Duration::from_secs(config.delay_max_s),
        }
    }
}

//! The worker's end of the firmware: who has it, and what a check does about it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Sender;
use std::thread::JoinHandle;

use iotwasm_api::ota::{Attempt, Level, Outcome};
use iotwasm_firmware::state::{Bundle, Start, State};
use iotwasm_kit::{error, warn};
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

use super::Firmware;
use super::gate::Gate;
use super::install::{Memory, is_withdrawn};
use super::keeper::{Command, Keeper};
use crate::Settings;
use crate::install::Failure;
use crate::journal::blank;
use crate::pulse::Pulse;
use crate::repository::Repository;
use crate::shared::{Shared, now_text};
use crate::worker::{Order, TRIAL_STACK};

/// What the worker has of the firmware.
#[derive(Debug)]
pub(crate) struct Desk {
    settings: Arc<Settings>,
    shared: Arc<Shared>,
    pulse: Arc<Pulse>,
    quit: Arc<AtomicBool>,
    orders: Sender<Order>,
    side: Side,
    memory: Memory,
    /// The last thread left although there was more to do: RAUC, the bootloader or the disk could not do what was asked.
    is_stuck: bool,
    /// Payloads were passed over for the thread's sake.
    passed_over: bool,
}

/// Who has the firmware.
#[derive(Debug)]
enum Side {
    /// Nobody: the image has none that could be updated.
    Nobody,
    /// The worker: nothing is under way, or what is could not go on.
    Here(Box<Firmware>),
    /// A thread of its own.
    There {
        is_trial_boot: bool,
        compatible: String,
        bundle: Option<Bundle>,
        commands: UnboundedSender<Command>,
        gate: Arc<Gate>,
        thread: JoinHandle<Firmware>,
    },
}

/// Tells the worker that the firmware's thread ended, however it did.
struct Farewell(Sender<Order>);

impl Drop for Farewell {
    fn drop(&mut self) {
        // A worker that has left needs no farewell.
        let _ = self.0.send(Order::FirmwareEnded);
    }
}

impl Desk {
    /// Reads what the device says of its firmware.
    pub(crate) fn open(
        settings: &Arc<Settings>,
        shared: &Arc<Shared>,
        pulse: &Arc<Pulse>,
        quit: &Arc<AtomicBool>,
        orders: Sender<Order>,
    ) -> Self {
        let mut desk = Self {
            settings: Arc::clone(settings),
            shared: Arc::clone(shared),
            pulse: Arc::clone(pulse),
            quit: Arc::clone(quit),
            orders,
            side: Side::Nobody,
            memory: Memory::default(),
            is_stuck: false,
            passed_over: false,
        };
        desk.reopen();
        desk
    }

    fn reopen(&mut self) {
        let firmware = Firmware::open(&self.settings, &self.shared, &self.quit);
        self.side = firmware.map_or(Side::Nobody, |here| Side::Here(Box::new(here)));
    }

    /// Whether nothing is under way, or what is waits for its window or for power, which may take a week: only then payloads
    /// may be installed and tried.
    pub(crate) fn is_quiet(&self) -> bool {
        match &self.side {
            Side::Nobody | Side::Here(_) => true,
            Side::There { gate, .. } => gate.is_open(),
        }
    }

    /// Counts a trial of a payload that is about to begin; whether it may, for the firmware's thread may just have come to
    /// its restart.
    pub(crate) fn begin_trial(&mut self) -> bool {
        let count = || self.shared.trial_begins();
        let may_begin = match &self.side {
            Side::Nobody | Side::Here(_) => {
                count();
                true
            }
            Side::There { gate, .. } => gate.pass(count),
        };
        self.passed_over |= !may_begin;
        may_begin
    }

    /// Whether a check may go on to install payloads.
    pub(crate) fn may_install_payloads(&mut self) -> bool {
        let may_install = self.is_quiet();
        self.passed_over |= !may_install;
        may_install
    }

    /// The firmware waits for its window or for power from now on; whether a check is due for the payloads that were passed
    /// over.
    pub(crate) fn waits(&mut self) -> bool {
        std::mem::take(&mut self.passed_over)
    }

    /// Whether this boot is a trial of what runs.
    pub(crate) fn is_trial_boot(&self) -> bool {
        match &self.side {
            Side::Nobody => false,
            Side::Here(firmware) => firmware.is_trial_boot(),
            Side::There { is_trial_boot, .. } => *is_trial_boot,
        }
    }

    /// Whether what runs was committed by nobody and was not well the last time.
    fn is_adopted(&self) -> bool {
        let Side::Here(firmware) = &self.side else { return false };
        // What cannot be left either, because that cannot be written down.
        let is_idle = *firmware.state().state() == State::Idle;
        firmware.start() == Start::Adopt || is_idle && firmware.start() == Start::LeaveAgain
    }

    /// At start: whatever the disk says goes on from there, and the history is made to agree with it.
    pub(crate) fn take_up(&mut self) {
        if let Side::Here(firmware) = &self.side {
            firmware.close_old_attempt();
        }
        self.look_after();
    }

    /// Whether payloads may be installed and tried in a check that begins. What goes on with the firmware comes before them,
    /// unless it could not go on the last time: trouble with RAUC or the bootloader must not keep payloads from the device.
    /// In a release's trial they wait all the same; not where what runs was adopted and is not well: a payload may be what it
    /// lacks.
    pub(crate) fn begin_check(&mut self) -> bool {
        let is_unwell = self.is_stuck && self.is_adopted();
        if !self.is_stuck || (self.is_trial_boot() && !is_unwell) {
            self.look_after();
        }
        let may_try = self.is_quiet() && (!self.is_trial_boot() || is_unwell);
        self.passed_over |= !may_try;
        may_try
    }

    /// Gives the firmware to a thread of its own, if there is anything to do about it. What was adopted is not judged while
    /// a payload is tried on it.
    pub(crate) fn look_after(&mut self) {
        if self.is_adopted() && self.shared.trials() > 0 {
            return;
        }
        let mut firmware = match std::mem::replace(&mut self.side, Side::Nobody) {
            Side::Here(firmware) if firmware.start() != Start::Nothing => *firmware,
            other => {
                self.side = other;
                return;
            }
        };
        firmware.trouble.clear();
        let (commands, receiver) = unbounded_channel();
        let (compatible, bundle) = (firmware.compatible().to_owned(), firmware.bundle().cloned());
        let is_trial_boot = firmware.is_trial_boot();
        let farewell = Farewell(self.orders.clone());
        let gate = Arc::new(Gate::default());
        let keeper = Keeper {
            firmware,
            commands: receiver,
            later: VecDeque::new(),
            gate: Arc::clone(&gate),
            orders: self.orders.clone(),
        };
        let spawned =
            std::thread::Builder::new().name("firmware".to_owned()).stack_size(TRIAL_STACK).spawn(move || {
                // The whole of it: its end is what counts.
                let _farewell = farewell;
                keeper.run()
            });
        match spawned {
            Ok(thread) => self.side = Side::There { is_trial_boot, compatible, bundle, commands, gate, thread },
            // What is on the disk stays as it is, and the next check tries again.
            Err(err) => {
                error!("could not look after the firmware: {err}");
                self.is_stuck = true;
                self.reopen();
            }
        }
    }

    /// Takes the firmware back; whether a check is due at once. If what is under way could not go on, one is due only for
    /// the payloads that were passed over: the firmware is taken up after them, or by the next check in its own time.
    pub(crate) fn ended(&mut self) -> bool {
        if let Side::There { thread, .. } = std::mem::replace(&mut self.side, Side::Nobody) {
            match thread.join() {
                Ok(firmware) => self.side = Side::Here(Box::new(firmware)),
                Err(_) => {
                    error!("the thread of the firmware panicked");
                    self.reopen();
                }
            }
        }
        self.is_stuck = matches!(&self.side, Side::Here(firmware) if firmware.start() != Start::Nothing);
        let passed_over = std::mem::take(&mut self.passed_over);
        !self.is_stuck || (passed_over && !self.is_trial_boot())
    }

    /// Tells the firmware's thread what the metadata says.
    pub(crate) fn tell(&self, repository: &mut Repository) {
        let Side::There { compatible, bundle, commands, .. } = &self.side else { return };
        // The thread may have just ended by itself.
        let _ = commands.send(Command::ServerReached);
        let Some(bundle) = bundle else { return };
        match is_withdrawn(repository, compatible, bundle) {
            Ok(Some(reason)) => {
                let _ = commands.send(Command::Withdrawn(reason));
            }
            Ok(None) => {}
            Err(failure) => warn!("{}", failure.message),
        }
    }

    /// Installs firmware, if there is any to install and it may be now; or takes up what could not go on the last time.
    pub(crate) fn check(
        &mut self,
        repository: &mut Repository,
        held: Option<String>,
        errors: &mut Vec<String>,
        remarks: &mut Vec<String>,
    ) {
        let Side::Here(firmware) = &mut self.side else { return };
        if !firmware.trouble.is_empty() {
            remarks.push(firmware.trouble.clone());
        }
        if firmware.start() != Start::Nothing {
            if !self.quit.load(Ordering::Relaxed) {
                self.look_after();
                self.tell(repository);
            }
            return;
        }
        let advice = match firmware.plan(repository, &self.memory) {
            Ok(advice) => advice,
            Err(Failure { outcome: Outcome::Installing, .. }) => return,
            Err(Failure { outcome, message }) => {
                let attempt = blank("", outcome, message.clone(), &now_text());
                self.shared.note(Attempt { level: Level::Firmware, ..attempt });
                errors.push(message);
                return;
            }
        };
        remarks.extend(advice.remark);
        let Some(plan) = advice.plan else { return };
        if let Some(why) = held {
            errors.push(why);
            return;
        }
        if self.quit.load(Ordering::Relaxed) || !firmware.may_install() {
            return;
        }
        match firmware.install(&plan, repository, &mut self.memory, &self.pulse) {
            Ok(()) | Err(Failure { outcome: Outcome::Installing, .. }) => {}
            // What is refused for good is no trouble with the network.
            Err(Failure { outcome: Outcome::Refused, message }) => remarks.push(message),
            Err(Failure { message, .. }) => errors.push(message),
        }
        if !self.quit.load(Ordering::Relaxed) {
            self.look_after();
        }
    }

    /// The daemon stops.
    pub(crate) fn leave(self) {
        if let Side::There { commands, thread, .. } = self.side {
            // The thread may have ended by itself.
            let _ = commands.send(Command::Quit);
            let _ = thread.join();
        }
    }
}

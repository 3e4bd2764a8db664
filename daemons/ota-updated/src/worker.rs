//! The work: when to check, what to install, whom to let try it. One thread; it alone talks to the repository.
//!
//! Payloads are installed one after the other, and their trials then run beside each other (and beside later checks), so
//! a confirmation period of a day holds up nothing. A payload whose trial runs is left alone by the worker, except that
//! it is told of a withdrawal: there are never two trials of one payload.
//!
//! Firmware is installed after the payloads. From then on until it is kept or undone, a thread of its own looks after it, and
//! the worker installs nothing: a trial of firmware must not be disturbed by one of a payload, nor the other way round. But
//! while its restart waits for a window or for power, which may take a week, payloads are installed and tried as ever; and
//! when that thread could not go on, and no firmware is in its trial, a check does the payloads first.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use iotwasm_api::Reason;
use iotwasm_api::ota::{Attempt, Level, Outcome};
use iotwasm_kit::{error, report, warn};
use iotwasm_payload::manifest::Health;
use iotwasm_payload::slot::PayloadState;
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

use crate::firmware::desk::Desk;
use crate::install::{Failure, Installer};
use crate::pulse::Pulse;
use crate::schedule::{Schedule, random};
use crate::shared::{Activity, Shared, now_text};
use crate::slots::Slots;
use crate::supervisor::Supervisor;
use crate::trial::Rules;
use crate::trier::{Command, Job};
use crate::{Settings, repository};

/// Longest self-test that a manifest may ask for; what is assumed of a payload that cannot be read any more.
const LONGEST_SELF_TEST: Duration = Duration::from_secs(120);
/// Stack of a trial's thread, in bytes: it holds an event loop and short JSON.
pub(crate) const TRIAL_STACK: usize = 512 * 1024;

/// What others may tell the worker.
#[derive(Debug)]
pub enum Order {
    /// Look for updates now.
    CheckNow,
    /// A trial's thread has ended.
    Ended {
        /// Whose.
        payload: String,
        /// Why it could not go on, if so.
        error: Option<String>,
    },
    /// The firmware's thread waits for a window or for power, and payloads may be tried meanwhile.
    FirmwareWaits,
    /// The firmware's thread has ended.
    FirmwareEnded,
    /// Leave, at the next safe point.
    Quit,
}

/// The worker's end of things.
#[derive(Debug)]
pub struct Worker {
    settings: Arc<Settings>,
    shared: Arc<Shared>,
    pulse: Arc<Pulse>,
    quit: Arc<AtomicBool>,
    orders: Receiver<Order>,
    sender: Sender<Order>,
    schedule: Schedule,
    installer: Installer,
    trials: BTreeMap<String, Running>,
    firmware: Desk,
}

/// A trial's thread.
#[derive(Debug)]
struct Running {
    commands: UnboundedSender<Command>,
    thread: JoinHandle<()>,
    /// Or it only sees to it that the right slot runs.
    is_trial: bool,
    /// A check passed the payload over meanwhile.
    passed_over: bool,
}

/// Tells the worker that a trial's thread ended, however it did.
struct Farewell {
    payload: String,
    error: Option<String>,
    orders: Sender<Order>,
}

impl Drop for Farewell {
    fn drop(&mut self) {
        let (payload, error) = (std::mem::take(&mut self.payload), self.error.take());
        // A worker that has left needs no farewell.
        let _ = self.orders.send(Order::Ended { payload, error });
    }
}

impl Worker {
    /// A worker; [`Self::run`] sets it to work. `quit` is raised together with [`Order::Quit`], for what is under way.
    ///
    /// # Errors
    ///
    /// If the repository client cannot be set up: a pinned root or CA file that is no good.
    pub fn new(
        settings: Arc<Settings>,
        shared: Arc<Shared>,
        pulse: Arc<Pulse>,
        quit: Arc<AtomicBool>,
        (sender, orders): (Sender<Order>, Receiver<Order>),
    ) -> Result<Self, repository::Error> {
        let config = &settings.config;
        let schedule = Schedule::new(
            Duration::from_secs(config.poll_interval_s),
            config.poll_jitter_percent,
            Duration::from_secs(config.first_check_s),
        );
        let installer = Installer::new(&settings, &shared, &pulse, &quit)?;
        // Before the first caller asks.
        for wanted in &settings.wanted {
            if let Ok(slots) = Slots::open(&settings.places.payloads, wanted.clone()) {
                shared.set_payload(slots.info());
            }
        }
        let firmware = Desk::open(&settings, &shared, &pulse, &quit, sender.clone());
        let trials = BTreeMap::new();
        Ok(Self { settings, shared, pulse, quit, orders, sender, schedule, installer, trials, firmware })
    }

    /// Works until it is told to quit.
    pub fn run(mut self) {
        // The time that a trial of firmware has to reach the repository runs already.
        let pause = if self.firmware.is_trial_boot() { Duration::ZERO } else { self.schedule.first(random()) };
        self.take_up();
        let mut next = Instant::now() + pause;
        loop {
            let idle = self.settings.config.repositories.is_empty();
            self.shared.set_next_check((!idle).then_some(next));
            let wait = if idle { Duration::from_secs(3600) } else { next.saturating_duration_since(Instant::now()) };
            self.pulse.alive(wait);
            let order = match self.orders.recv_timeout(wait) {
                Ok(order) => order,
                Err(RecvTimeoutError::Timeout) if idle => {
                    self.firmware.look_after();
                    continue;
                }
                Err(RecvTimeoutError::Timeout) => Order::CheckNow,
                Err(RecvTimeoutError::Disconnected) => break,
            };
            match order {
                Order::CheckNow => next = Instant::now() + self.check(),
                Order::Ended { payload, error } => {
                    if self.ended(&payload, error) {
                        next = Instant::now();
                    }
                }
                Order::FirmwareWaits => {
                    if self.firmware_waits() {
                        next = Instant::now();
                    }
                }
                Order::FirmwareEnded => {
                    if self.firmware_ended() {
                        next = Instant::now();
                    }
                }
                Order::Quit => break,
            }
            if self.quit.load(Ordering::Relaxed) {
                break;
            }
        }
        for running in self.trials.into_values() {
            // The thread may have ended by itself.
            let _ = running.commands.send(Command::Quit);
            let _ = running.thread.join();
        }
        self.firmware.leave();
    }

    /// At start: whatever the disk says goes on from there, and the history is made to agree with it.
    fn take_up(&mut self) {
        let settings = Arc::clone(&self.settings);
        let is_trial_boot = self.firmware.is_trial_boot();
        for wanted in &settings.wanted {
            match Slots::open(&settings.places.payloads, wanted.clone()) {
                Ok(slots) => {
                    close_old_attempt(&self.shared, slots.id(), slots.state());
                    // What is committed runs by itself; a trial waits until the firmware's is over.
                    if !is_trial_boot || slots.state().trial().is_none() {
                        self.look_after(slots);
                    }
                }
                Err(err) => {
                    error!("{}", report::chain(&err));
                    self.shared.set_error(report::chain(&err));
                }
            }
        }
        for attempt in self.shared.open_attempts() {
            let is_wanted = |id: &str| settings.wanted.iter().any(|wanted| wanted.id.as_str() == id);
            if attempt.level == Level::Payload && !is_wanted(&attempt.payload) {
                let message = "the payload is no longer configured".to_owned();
                self.shared.fail(attempt.number, Outcome::Failed, message);
            }
        }
        // Last: a restart waits for the trials that went on.
        self.firmware.take_up();
    }

    /// Gives a payload to a thread of its own, which carries its trial or sees to it that the right slot runs. False if its
    /// trial must wait until the firmware's is over.
    fn look_after(&mut self, slots: Slots) -> bool {
        let id = slots.id().to_owned();
        let is_trial = slots.state().trial().is_some();
        if is_trial && !self.firmware.begin_trial() {
            return false;
        }
        let in_use = slots.state().trial().map(|(slot, ..)| slot).or(slots.state().committed().map(|(slot, _)| slot));
        let manifest = in_use.and_then(|slot| slots.manifest(slot));
        let health = manifest.as_ref().map_or_else(Health::default, |m| m.health.clone());
        let (commands, receiver) = unbounded_channel();
        let job = Job {
            slots,
            rules: Rules {
                confirmation: self.settings.config.confirmation(health.confirmation()),
                heartbeat: health.heartbeat(),
                patience: Duration::from_secs(self.settings.config.supervisor_patience_s),
            },
            self_test: manifest.map_or(LONGEST_SELF_TEST, |m| m.limits.self_test()),
            supervisor: Supervisor::at(&self.settings.places.supervisor),
            shared: Arc::clone(&self.shared),
            commands: receiver,
            early: None,
        };
        let farewell = Farewell { payload: id.clone(), error: None, orders: self.sender.clone() };
        let spawned =
            std::thread::Builder::new().name(format!("trial-{id}")).stack_size(TRIAL_STACK).spawn(move || {
                // The whole of it: its end is what counts.
                let mut farewell = farewell;
                if let Err(err) = job.run() {
                    farewell.error = Some(report::chain(&err));
                }
            });
        match spawned {
            Ok(thread) => {
                self.trials.insert(id, Running { commands, thread, is_trial, passed_over: false });
            }
            // What is on the disk stays as it is, and the next check tries again.
            Err(err) => {
                error!("could not look after {id}: {err}");
                if is_trial {
                    self.shared.trial_ends();
                }
            }
        }
        true
    }

    /// Whether a check passed this payload over meanwhile, so that another is due.
    fn ended(&mut self, payload: &str, error: Option<String>) -> bool {
        let mut passed_over = false;
        if let Some(running) = self.trials.remove(payload) {
            passed_over = running.passed_over;
            if running.is_trial {
                self.shared.trial_ends();
            }
            if running.thread.join().is_err() {
                error!("the thread of {payload} panicked");
            }
        }
        if let Some(error) = error {
            error!("{payload}: {error}");
            self.shared.set_error(error);
        }
        passed_over
    }

    /// Whether a check is due: payloads were passed over meanwhile.
    fn firmware_waits(&mut self) -> bool {
        self.take_up_trials();
        self.firmware.waits()
    }

    /// Whether a check is due: payloads were passed over meanwhile.
    fn firmware_ended(&mut self) -> bool {
        let is_over = self.firmware.ended();
        self.take_up_trials();
        is_over
    }

    /// Trials of payloads that waited for the firmware are taken up by the next check; without a repository there is none.
    fn take_up_trials(&mut self) {
        let may_try = self.firmware.is_quiet() && !self.firmware.is_trial_boot();
        if !self.settings.config.repositories.is_empty() || !may_try {
            return;
        }
        let settings = Arc::clone(&self.settings);
        for wanted in &settings.wanted {
            if !self.trials.contains_key(wanted.id.as_str())
                && let Ok(slots) = Slots::open(&settings.places.payloads, wanted.clone())
                && slots.state().trial().is_some()
            {
                self.look_after(slots);
            }
        }
    }

    /// One check of everything; how long to wait until the next.
    fn check(&mut self) -> Duration {
        self.shared.set_next_check(None);
        self.shared.set_activity(Activity::Checking);
        let result = if self.settings.config.repositories.is_empty() {
            Err("no repository is configured; set `repositories` in ota-updated.toml".to_owned())
        } else {
            self.check_all()
        };
        self.installer.rest();
        let pause = match &result {
            Ok(_) => self.schedule.after_success(random()),
            Err(_) if self.firmware.is_trial_boot() => self.schedule.after_failure_in_haste(random()),
            Err(_) => self.schedule.after_failure(random()),
        };
        self.shared.check_ended(match result {
            Ok(remark) => remark,
            Err(error) => Some(error),
        });
        pause
    }

    /// Ok with a remark if there is something to say although all went well.
    fn check_all(&mut self) -> Result<Option<String>, String> {
        if let Err(failure) = self.installer.refresh() {
            if failure.outcome == Outcome::Installing {
                // Interrupted by a stop of the daemon: nothing happened that is worth a word.
                return Err(failure.message);
            }
            let attempt = crate::journal::blank("", failure.outcome, failure.message.clone(), &now_text());
            self.shared.note(Attempt { level: Level::Repository, ..attempt });
            // What goes on with the firmware needs no repository.
            self.firmware.look_after();
            return Err(failure.message);
        }
        // While the repository was asked, trials may have ended.
        let waiting: Vec<Order> = self.orders.try_iter().collect();
        for order in waiting {
            match order {
                // It is about to be looked at.
                Order::Ended { payload, error } => {
                    self.ended(&payload, error);
                }
                Order::FirmwareWaits => {
                    self.firmware_waits();
                }
                Order::FirmwareEnded => {
                    self.firmware_ended();
                }
                Order::Quit => self.quit.store(true, Ordering::Relaxed),
                // This very check is later than the order.
                Order::CheckNow => {}
            }
        }
        let (mut plans, mut errors, mut remarks) = (Vec::new(), Vec::new(), Vec::new());
        let may_try = self.firmware.begin_check();
        self.firmware.tell(self.installer.repository());
        let settings = Arc::clone(&self.settings);
        let mut held = None;
        for wanted in &settings.wanted {
            // Not over the chains that older firmware left, while newer firmware is only tried.
            if !self.firmware.is_trial_boot() {
                held = self.installer.renew_chains(wanted).err().or(held);
            }
            if let Some(running) = self.trials.get_mut(wanted.id.as_str()) {
                running.passed_over = true;
                if let Some(reason) = self.installer.trial_withdrawn(wanted) {
                    // The thread may have just ended by itself.
                    let _ = running.commands.send(Command::Withdrawn(reason));
                }
                continue;
            }
            let slots = match Slots::open(&settings.places.payloads, wanted.clone()) {
                Ok(slots) => slots,
                Err(err) => {
                    errors.push(report::chain(&err));
                    continue;
                }
            };
            if !may_try {
                continue;
            }
            if slots.state().trial().is_some() {
                self.look_after(slots);
                continue;
            }
            match self.installer.plan(slots) {
                Ok((plan, remark)) => {
                    plans.extend(plan);
                    remarks.extend(remark);
                }
                Err(Failure { outcome, message }) => {
                    let attempt = crate::journal::blank(wanted.id.as_str(), outcome, message.clone(), &now_text());
                    self.shared.note(attempt);
                    errors.push(message);
                }
            }
        }
        self.installer.drop_other_downloads(&plans);
        for plan in plans {
            // The firmware's restart may have become due while another payload was fetched.
            if self.quit.load(Ordering::Relaxed) || !self.firmware.may_install_payloads() {
                break;
            }
            let attempt = Attempt {
                version: plan.release().version().to_string(),
                sha256: plan.release().sha256.to_string(),
                from_version: plan.slots().info().committed,
                ..crate::journal::blank(plan.slots().id(), Outcome::Installing, plan.why().to_owned(), &now_text())
            };
            let number = self.shared.note(attempt);
            match self.installer.install(plan) {
                Ok(slots) => {
                    self.shared.set_payload(slots.info());
                    if !self.look_after(slots) {
                        let message = "installed; its trial waits until the firmware's is over".to_owned();
                        self.shared.update(number, |attempt| attempt.message = message);
                    }
                }
                Err(Failure { outcome, message }) => {
                    if outcome == Outcome::Installing {
                        // Interrupted by a stop of the daemon: the download goes on after the next start.
                        self.shared.fail(number, Outcome::Failed, message);
                        break;
                    }
                    self.shared.fail(number, outcome, message.clone());
                    // What is refused for good is no trouble with the network.
                    if outcome == Outcome::Refused { remarks.push(message) } else { errors.push(message) }
                }
            }
        }
        self.shared.set_activity(Activity::Checking);
        self.firmware.check(self.installer.repository(), held, &mut errors, &mut remarks);
        self.shared.set_activity(Activity::Checking);
        for remark in &remarks {
            warn!("{remark}");
        }
        if errors.is_empty() { Ok((!remarks.is_empty()).then(|| remarks.join("; "))) } else { Err(errors.join("; ")) }
    }
}

/// Ends the attempt that the history says goes on, if the disk says that it does not: the daemon was stopped between
/// the two.
fn close_old_attempt(shared: &Shared, id: &str, state: &PayloadState) {
    let Some(open) = shared.open_attempt(id) else { return };
    let is = |sha256: &str| sha256 == open.sha256;
    if state.trial().is_some_and(|(_, release, _)| is(&release.sha256.to_string())) {
        return;
    }
    if state.committed().is_some_and(|(_, release)| is(&release.sha256.to_string())) {
        shared.update(open.number, |a| {
            (a.outcome, a.ended) = (Outcome::Committed, now_text());
            a.message = "committed just before the daemon stopped".to_owned();
        });
        return;
    }
    if let Some(rejected) = state.rejected().iter().rev().find(|r| is(&r.release.sha256.to_string())) {
        let reason = Reason::ALL.into_iter().find(|reason| reason.as_str() == rejected.reason);
        shared.update(open.number, |a| {
            (a.outcome, a.reason, a.ended) = (Outcome::RolledBack, reason, now_text());
            a.message = "rolled back just before the daemon stopped".to_owned();
        });
        return;
    }
    shared.fail(open.number, Outcome::Failed, "interrupted by a stop of the device or of this daemon".to_owned());
}

//! Carries firmware from its installation through its restart and its trial to being kept or undone: does what
//! [`super::trial`], [`super::when`] and the state of the slots say, against the disk, the bus and the supervisor. Runs on a
//! thread of its own for as long as that takes; while it runs it alone owns the firmware's state, and the worker installs
//! nothing, unless the restart waits for what payloads cannot do anything about: see [`super::gate`].

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::Duration;

use iotwasm_api::Reason;
use iotwasm_api::ota::Outcome;
use iotwasm_firmware::state::{Blame, Bundle, Event, Start, State};
use iotwasm_kit::{error, info, report, warn};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::Instant;

use super::due::Due;
use super::gate::Gate;
use super::look::look;
use super::rauc::{Error, Rauc};
use super::systemd::Systemd;
use super::trial::{self, Action, Rules, Trial};
use super::when::{Payloads, Wait};
use super::{Firmware, machine};
use crate::shared::Stage;
use crate::supervisor::Supervisor;
use crate::worker::Order;

/// Pause between two looks.
const PAUSE: Duration = Duration::from_secs(1);
/// Pause between two attempts at a RAUC that cannot do what it is asked.
const AGAIN: Duration = Duration::from_secs(2);
/// How long RAUC is asked again before that is given up.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long an ordered restart may take before it is ordered again: units take their time to stop.
const RESTART: Duration = Duration::from_secs(600);
/// How often it is ordered before that is given up.
const ORDERS: u32 = 3;

/// What the worker may tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Command {
    /// The signed metadata withdraws the release.
    Withdrawn(String),
    /// The metadata was brought up to date.
    ServerReached,
    /// The daemon stops: leave everything as it is.
    Quit,
}

/// Whether there may be more to do.
enum Next {
    Look,
    Leave,
}

/// The firmware, and the worker's commands.
#[derive(Debug)]
pub(crate) struct Keeper {
    /// What is looked after.
    pub(crate) firmware: Firmware,
    /// What the worker has to say.
    pub(crate) commands: UnboundedReceiver<Command>,
    /// What it had to say while there was no time for it.
    pub(crate) later: VecDeque<Command>,
    /// Open while trials of payloads may begin.
    pub(crate) gate: Arc<Gate>,
    /// What the worker is told.
    pub(crate) orders: Sender<Order>,
}

/// What was seen of a wait for the restart.
#[derive(Debug)]
struct Waiting {
    attempt: i64,
    /// Since when nothing but payloads' wishes has stood in the way.
    due: Option<Due>,
    /// Everything else allowed the restart once, and the trial of a payload did not. None begins any more until it is had:
    /// else each window could find one under way, and the restart would never come.
    was_put_off: bool,
}

impl Keeper {
    /// Does what is to be done, and gives the firmware back.
    pub(crate) fn run(mut self) -> Firmware {
        match tokio::runtime::Builder::new_current_thread().enable_all().build() {
            Ok(runtime) => tokio::task::LocalSet::new().block_on(&runtime, self.work()),
            Err(err) => error!("could not set up the firmware's event loop: {err}"),
        }
        self.firmware.shared.set_stage(None);
        self.firmware
    }

    async fn work(&mut self) {
        loop {
            let next = match self.firmware.start() {
                Start::Nothing => return,
                Start::Catch(event) => self.catch(&event),
                Start::Trial => self.carry(false).await,
                Start::Refuse => self.refuse().await,
                Start::Adopt => self.carry(true).await,
                Start::Undo => self.undo().await,
                Start::Ask => self.ask().await,
                Start::Arm => self.arm().await,
                Start::LeaveAgain => self.restart_into_old().await,
                Start::Close => self.close_rolled_back(),
            };
            if matches!(next, Next::Leave) {
                return;
            }
        }
    }

    /// What is under way.
    fn bundle(&self) -> Option<Bundle> {
        self.firmware.state().state().bundle().cloned()
    }

    /// The attempt that is under way.
    fn attempt(&self) -> Option<i64> {
        self.bundle().map(|bundle| self.firmware.attempt(&bundle))
    }

    /// Takes note of what happened while nobody looked.
    fn catch(&mut self, event: &Event) -> Next {
        if *event == Event::Closed {
            warn!("firmware runs that was undone: the boot order has it first, or is lost");
            return self.close_rolled_back();
        }
        // The attempt of what was undone is over already.
        let is_open = self.bundle().is_some_and(|bundle| self.firmware.is_open(&bundle));
        let attempt = if *event == Event::Replaced && !is_open { None } else { self.attempt() };
        if !self.firmware.note(event) {
            return Next::Leave;
        }
        if let (Event::Replaced, Some(attempt)) = (event, attempt) {
            let message = format!("another firmware ({}) was put into its slot", self.firmware.machine.version);
            self.firmware.shared.fail(attempt, Outcome::Failed, message);
        }
        if let (Event::Committed, Some(attempt)) = (event, attempt) {
            let message = "kept just before the device stopped".to_owned();
            self.firmware.close(attempt, Outcome::Committed, None, message);
        }
        if let (Event::InstallFailed, Some(attempt)) = (event, attempt) {
            let message = "interrupted by a stop of the device".to_owned();
            self.firmware.shared.fail(attempt, Outcome::Failed, message);
        }
        Next::Look
    }

    /// What was booted says another version than what was installed: whoever put it there, or its maker's mistake, it is not
    /// what was published.
    async fn refuse(&mut self) -> Next {
        let message = format!("it was booted, and says that it is {}", self.firmware.machine.version);
        let attempt = self.attempt();
        self.roll_back(attempt, Reason::NotVerified, message, Blame::Doubt).await
    }

    /// The new firmware undid itself, and wrote down why.
    fn close_rolled_back(&mut self) -> Next {
        let State::RolledBack { bundle, reason, message, .. } = self.firmware.state().state().clone() else {
            return Next::Look;
        };
        // What newer firmware wrote may be a reason that is not known here; its name is told all the same.
        let known = Reason::ALL.into_iter().find(|known| known.as_str() == reason);
        let message = if known.is_some() { message } else { format!("{reason}: {message}") };
        if let Some(open) =
            self.firmware.shared.open_firmware_attempt().filter(|a| a.sha256 == bundle.sha256.to_string())
        {
            self.firmware.close(open.number, Outcome::RolledBack, known, message);
        }
        if self.firmware.note(&Event::Closed) { Next::Look } else { Next::Leave }
    }

    /// An installation was broken off. It may have gone through: the next boot is made to stay here.
    async fn undo(&mut self) -> Next {
        let slot = self.firmware.slot().other();
        match self.insist(async |rauc: &Rauc| rauc.is_next(slot).await).await {
            Ok(false) => {}
            Ok(true) => {
                if let Err(left) = self.stay().await {
                    return left;
                }
            }
            Err(left) => return left,
        }
        if let Some(open) = self.firmware.shared.open_firmware_attempt() {
            let message = "interrupted by a stop of the device or of this daemon".to_owned();
            self.firmware.shared.fail(open.number, Outcome::Failed, message);
        }
        if self.firmware.note(&Event::InstallFailed) { Next::Look } else { Next::Leave }
    }

    /// New firmware is in the other slot: if its boot is still to come, it is waited for, and ordered when it may be. Else it
    /// was had and came to nothing.
    async fn ask(&mut self) -> Next {
        let slot = self.firmware.slot().other();
        match self.insist(async |rauc: &Rauc| rauc.is_next(slot).await).await {
            Ok(true) => self.wait_to_restart().await,
            Ok(false) => self.boot_lost().await,
            Err(left) => left,
        }
    }

    async fn boot_lost(&mut self) -> Next {
        let state = self.firmware.state().state().clone();
        let (State::Trial { bundle, reached, .. } | State::Installed { bundle, reached, .. }) = state else {
            return Next::Look;
        };
        let attempt = self.firmware.attempt(&bundle);
        if !self.firmware.note(&Event::BootLost) {
            return Next::Leave;
        }
        let reached = if reached.is_empty() { "it never came so far as to write anything down" } else { &reached };
        if let State::Installed { boots_left, .. } = *self.firmware.state().state() {
            let message = format!("a boot of it was lost ({reached}); {boots_left} boots left");
            warn!("{bundle}: {message}");
            self.firmware.tell(attempt, message);
            return Next::Look;
        }
        let message = format!("every boot of it was lost; the last: {reached}");
        self.firmware.close(attempt, Outcome::RolledBack, Some(Reason::BootFailed), message);
        Next::Look
    }

    /// The bootloader is told of the next boot, and that is written down: a stop before it costs none. Whether it holds is
    /// asked next.
    async fn arm(&mut self) -> Next {
        if let Err(left) = self.insist(async |rauc: &Rauc| rauc.mark("active", "other").await).await {
            return left;
        }
        if self.firmware.note(&Event::Armed) { Next::Look } else { Next::Leave }
    }

    /// Waits until the device may be restarted, and has it restarted.
    async fn wait_to_restart(&mut self) -> Next {
        let Some(attempt) = self.attempt() else { return Next::Look };
        let mut waiting = Waiting { attempt, due: None, was_put_off: false };
        self.firmware.shared.set_stage(Some(Stage::Waiting));
        let boots = loop {
            while let Some(command) = self.heard() {
                match command {
                    Command::Withdrawn(message) => return self.give_up(attempt, message).await,
                    Command::ServerReached => {}
                    Command::Quit => return Next::Leave,
                }
            }
            match self.may_restart(&mut waiting).await {
                Ok(()) => break self.spend_boot(),
                Err(wait) => self.firmware.wait_for(wait.to_string()),
            }
            if let Some(next) = self.pause(PAUSE).await {
                match next {
                    Command::Withdrawn(message) => return self.give_up(attempt, message).await,
                    Command::ServerReached => {}
                    Command::Quit => return Next::Leave,
                }
            }
        };
        self.firmware.wait_for(String::new());
        let Some(boots) = boots else { return Next::Leave };
        self.firmware.tell(attempt, format!("restarting into it; {boots} more boots left"));
        self.restart().await
    }

    /// Whether the device may be restarted now. Payloads are tried as long as that is up to the window or to power.
    async fn may_restart(&mut self, waiting: &mut Waiting) -> Result<(), Wait> {
        let (rules, moment) = (self.firmware.rules(), machine::moment());
        let power = machine::power(&self.firmware.settings.places.power_supplies);
        // Before trials are counted: none may begin between that and the restart.
        self.let_payloads(rules.may_install(moment, power).is_err() && !waiting.was_put_off);
        // A supervisor that is not there delays nothing.
        let status = Supervisor::at(&self.firmware.settings.places.supervisor).status().await.ok();
        let hold = status.and_then(|status| {
            let mut payloads = status.payloads.into_iter();
            payloads.find(|payload| payload.hold_s > 0).map(|payload| payload.payload)
        });
        let payloads = Payloads { trials: self.firmware.shared.trials(), hold };
        let since = waiting.due.as_ref().map_or(Duration::ZERO, Due::elapsed);
        let may = rules.may_reboot(since, moment, power, &payloads);
        waiting.was_put_off |= matches!(may, Err(Wait::PayloadTrial));
        if matches!(may, Ok(()) | Err(Wait::Payload { .. })) && waiting.due.is_none() {
            let settings = &self.firmware.settings;
            waiting.due = Some(Due::of(&settings.places.restart_due, waiting.attempt, (settings.uptime)()));
        }
        may
    }

    /// Lets trials of payloads begin, or none any more.
    fn let_payloads(&self, may_try: bool) {
        if !may_try {
            self.gate.shut();
        } else if self.gate.open() {
            // A worker that has left tries nothing anyway.
            let _ = self.orders.send(Order::FirmwareWaits);
        }
    }

    /// Writes down that a boot is spent, unless it was before.
    fn spend_boot(&mut self) -> Option<u8> {
        if matches!(self.firmware.state().state(), State::Installed { .. }) && !self.firmware.note(&Event::Booted) {
            return None;
        }
        match self.firmware.state().state() {
            State::Trial { boots_left, .. } => Some(*boots_left),
            _ => None,
        }
    }

    /// What is installed is not wanted any more: the next boot stays here.
    async fn give_up(&mut self, attempt: i64, message: String) -> Next {
        self.firmware.wait_for(String::new());
        if let Err(left) = self.stay().await {
            return left;
        }
        if !self.firmware.note(&Event::GivenUp) {
            return Next::Leave;
        }
        self.firmware.close(attempt, Outcome::RolledBack, Some(Reason::Withdrawn), message);
        Next::Look
    }

    /// The next boot stays here.
    async fn stay(&mut self) -> Result<(), Next> {
        // In efi-use-bootnext mode RAUC makes "active" the next boot and only that; made of the slot that runs, it takes
        // the place of the one that the installation asked for, and the boot order has this slot first anyway.
        let slot = self.firmware.slot();
        let stays = self
            .insist(async |rauc: &Rauc| {
                rauc.mark("active", "booted").await?;
                rauc.is_next(slot).await
            })
            .await?;
        if !stays {
            let text =
                "the bootloader was told to stay with this firmware, and still has the other as the next to boot";
            warn!("{text}");
            self.firmware.set_trouble(text.to_owned());
            return Err(Next::Leave);
        }
        Ok(())
    }

    /// Orders a restart, and waits for it. Never comes back but to leave: told to, or because nothing comes of it.
    async fn restart(&mut self) -> Next {
        self.firmware.shared.set_stage(Some(Stage::Rebooting));
        let path = self.firmware.settings.places.reboot.clone();
        for _ in 0..ORDERS {
            info!("restarting the device");
            // Made anew each time: it is the making that is watched.
            let _ = std::fs::remove_file(&path);
            if let Err(err) = std::fs::write(&path, "") {
                error!("could not order a restart by {}: {err}", path.display());
            }
            if self.must_quit(RESTART).await {
                return Next::Leave;
            }
        }
        let waited = RESTART.as_secs() * u64::from(ORDERS);
        let text = format!("a restart was ordered {ORDERS} times, and the device still runs after {waited} s");
        error!("{text}");
        self.firmware.set_trouble(text);
        Next::Leave
    }

    /// The trial of what runs, or the adoption of what runs without anybody having committed it.
    async fn carry(&mut self, is_adopted: bool) -> Next {
        let attempt = if is_adopted { None } else { self.attempt() };
        let config = &self.firmware.settings.config;
        let asks_server = config.firmware.require_server && !config.repositories.is_empty();
        let rules = Rules {
            confirmation: Duration::from_secs(config.firmware.confirmation_s),
            ready_within: Duration::from_secs(config.firmware.ready_within_s),
            server_within: asks_server.then(|| Duration::from_secs(config.firmware.server_within_s)),
        };
        if !is_adopted && config.firmware.require_server && config.repositories.is_empty() {
            // It came from a repository, and would be the last that ever came.
            let message = "its settings name no repository, so no other could follow it: set `repositories`, or require_server = false \
                 below [firmware]"
                .to_owned();
            return self.roll_back(attempt, Reason::ServerUnreachable, message, Blame::Release).await;
        }
        if is_adopted {
            info!("slot {} runs although nobody committed it; it is kept if it is well", self.firmware.slot());
        }
        if let Some(attempt) = attempt {
            let period = rules.confirmation.as_secs();
            self.firmware.tell(attempt, format!("in trial: everything well for {period} s keeps it"));
        }
        self.firmware.shared.set_stage(Some(Stage::Trial));
        // What is adopted may become well as long as it runs.
        let limit = if is_adopted { Duration::MAX } else { trial::time_left((self.firmware.settings.uptime)()) };
        let (origin, mut trial, mut told) = (Instant::now(), Trial::new(rules, limit), String::new());
        let mut systemd = Systemd::at(&self.firmware.settings.places.bus);
        loop {
            let seen = trial::Event::Seen(look(&self.firmware.settings, &mut systemd).await);
            let mut action = trial.step(origin.elapsed(), seen);
            if action == Action::Wait {
                let reached = trial.reached();
                if reached != told {
                    told.clone_from(&reached);
                    info!("firmware in trial: {reached}");
                    if !is_adopted {
                        self.firmware.note(&Event::Reached { text: reached });
                    }
                }
                action = match self.pause(PAUSE).await {
                    None => continue,
                    Some(Command::ServerReached) => trial.step(origin.elapsed(), trial::Event::ServerReached),
                    // What is adopted has no release that could be told apart from others.
                    Some(Command::Withdrawn(_)) if is_adopted => continue,
                    Some(Command::Withdrawn(message)) => {
                        trial.step(origin.elapsed(), trial::Event::Withdrawn { message })
                    }
                    Some(Command::Quit) => return Next::Leave,
                };
            }
            return match action {
                Action::Wait => continue,
                Action::Keep => self.keep(attempt).await,
                Action::RollBack { reason, message, .. } if is_adopted => self.leave_adopted(reason, &message),
                Action::RollBack { reason, message, remember } => {
                    let blame = if remember { Blame::Release } else { Blame::Nobody };
                    self.roll_back(attempt, reason, message, blame).await
                }
            };
        }
    }

    /// What runs is well: it comes first from now on.
    async fn keep(&mut self, attempt: Option<i64>) -> Next {
        let slot = self.firmware.slot();
        let marked = self
            .insist(async |rauc: &Rauc| {
                rauc.mark("good", "booted").await?;
                rauc.is_next(slot).await
            })
            .await;
        let trouble = match marked {
            Ok(true) => None,
            Ok(false) => Some("the bootloader does not have it first although it was marked good".to_owned()),
            Err(Next::Leave) if self.firmware.is_quitting() => return Next::Leave,
            Err(_) => Some("RAUC could not mark it good".to_owned()),
        };
        match (trouble, attempt) {
            (None, Some(attempt)) => {
                // If this cannot be written: the next boot finds it first in the boot order, and takes it for kept.
                self.firmware.note(&Event::Committed);
                self.firmware.keep();
                let period = self.firmware.settings.config.firmware.confirmation_s;
                let message = format!("everything was well for {period} s");
                self.firmware.close(attempt, Outcome::Committed, None, message);
                Next::Look
            }
            (None, None) => {
                if self.firmware.state().unkept() == Some(slot) {
                    self.firmware.note(&Event::Adopted { slot });
                }
                self.firmware.keep();
                self.close_adopted();
                Next::Look
            }
            (Some(message), None) => self.leave_adopted(Reason::MarkFailed, &message),
            // The bootloader's fault, or RAUC's; unless it is only so with this release.
            (Some(message), attempt) => self.roll_back(attempt, Reason::MarkFailed, message, Blame::Doubt).await,
        }
    }

    /// An attempt that the history has open although the state was lost.
    fn close_adopted(&self) {
        let Some(open) = self.firmware.shared.open_firmware_attempt() else { return };
        if open.version == self.firmware.machine.version.to_string() {
            let message = "its state was lost; it was well all the same".to_owned();
            self.firmware.close(open.number, Outcome::Committed, None, message);
        } else {
            self.firmware.shared.fail(open.number, Outcome::Failed, "its state was lost".to_owned());
        }
    }

    /// What runs was committed by nobody and is not well. It goes on as well as it can, and is looked at again at the next check;
    /// nothing is installed over the other slot, which is the first of the boot order, and the end of the trial boot from outside
    /// gives that one another chance.
    fn leave_adopted(&mut self, reason: Reason, message: &str) -> Next {
        let text = format!(
            "the firmware in slot {} was never committed and is not well: {reason}: {message}",
            self.firmware.slot()
        );
        error!("{text}");
        // Nothing is wrong with the device but the network, or it was restarted for this before and came back: then it is not restarted
        // again.
        if reason == Reason::ServerUnreachable || self.firmware.state().was_left_in_vain() {
            self.firmware.tell_kept("tolerated");
        }
        self.firmware.set_trouble(text);
        Next::Leave
    }

    /// What runs is undone: written down, told, and restarted into what ran before.
    async fn roll_back(&mut self, attempt: Option<i64>, reason: Reason, message: String, blame: Blame) -> Next {
        error!("this firmware is undone: {reason}: {message}");
        let event = Event::RolledBack { reason: reason.as_str().to_owned(), message: message.clone(), blame };
        // A disk that takes no more must not keep bad firmware: the device is restarted all the same.
        self.firmware.note(&event);
        if let Some(attempt) = attempt {
            self.firmware.close(attempt, Outcome::RolledBack, Some(reason), message);
        }
        self.restart_into_old().await
    }

    /// Out of firmware that is undone, into what ran before. Mostly the boot order has that first. It has not if marking this
    /// firmware good took effect although it seemed to fail: then only BootNext leads back. The old firmware finds itself not
    /// the first there, and makes itself the first if it is well.
    async fn restart_into_old(&mut self) -> Next {
        if *self.firmware.state().state() == State::Idle {
            return self.leave_unkept().await;
        }
        // A bootloader that cannot be told has most likely not been told of this firmware either.
        self.mark_other().await;
        self.restart().await
    }

    /// The boot order was lost, and what runs was never kept: the slot that was is to run. That is counted, for a bootloader that
    /// forgets what it is told would start this one for ever.
    async fn leave_unkept(&mut self) -> Next {
        let slot = self.firmware.slot();
        warn!(
            "the boot order was lost, and the firmware in slot {slot} was never kept: slot {} is to run",
            slot.other()
        );
        if !self.firmware.note(&Event::Left) {
            // The device is of use as it is, and is not restarted without a bound.
            self.firmware.tell_kept("tolerated");
            return Next::Leave;
        }
        self.mark_other().await;
        self.restart().await
    }

    /// Has the other slot booted next, if the bootloader can be told.
    async fn mark_other(&self) {
        let marked = match Rauc::connect(&self.firmware.settings.places.bus).await {
            Ok(rauc) => rauc.mark("active", "other").await,
            Err(err) => Err(err),
        };
        if let Err(err) = marked {
            warn!("{}", report::chain(&err));
        }
    }

    /// Has RAUC do something, again and again until it can or patience ends; then the next check takes it up.
    async fn insist<T>(&mut self, work: impl AsyncFn(&Rauc) -> Result<T, Error>) -> Result<T, Next> {
        let end = Instant::now() + PATIENCE;
        loop {
            let done = match Rauc::connect(&self.firmware.settings.places.bus).await {
                Ok(rauc) => work(&rauc).await,
                Err(err) => Err(err),
            };
            let err = match done {
                Ok(done) => return Ok(done),
                Err(err) => report::chain(&err),
            };
            warn!("{err}");
            if Instant::now() >= end {
                self.firmware.set_trouble(err);
                return Err(Next::Leave);
            }
            if self.must_quit(AGAIN).await {
                return Err(Next::Leave);
            }
        }
    }

    /// A command that is there already.
    fn heard(&mut self) -> Option<Command> {
        self.later.pop_front().or_else(|| self.commands.try_recv().ok())
    }

    /// Waits so long, whatever else is said, and puts that by; at once true if the daemon stops.
    async fn must_quit(&mut self, limit: Duration) -> bool {
        let end = Instant::now() + limit;
        loop {
            match tokio::time::timeout_at(end, self.commands.recv()).await {
                // Nobody is left to say anything.
                Ok(Some(Command::Quit) | None) => return true,
                Ok(Some(command)) if self.later.contains(&command) => {}
                Ok(Some(command)) => self.later.push_back(command),
                Err(_) => return false,
            }
        }
    }

    /// Waits for a command, and no longer than this.
    async fn pause(&mut self, limit: Duration) -> Option<Command> {
        if let Some(command) = self.later.pop_front() {
            return Some(command);
        }
        match tokio::time::timeout(limit, self.commands.recv()).await {
            Ok(Some(command)) => Some(command),
            // Nobody is left to say anything.
            Ok(None) => Some(Command::Quit),
            Err(_) => None,
        }
    }
}

#[cfg(test)]
#[path = "keeper_tests.rs"]
mod tests;

//! One payload's life as a state machine. Pure: time is passed in, and what has to be done comes out as [`Action`]s.
//! Owns the rules (who is restarted, who is stopped, what a caller is told); never a process, a file or a socket.
//!
//! Each run of a payload has a generation. A new one is prepared (verified, sandboxed, its module loaded) while the old
//! one still works; only then is the old one stopped and the new one begun, so that a swap costs little more than the
//! new one's self-test, and a slot that does not verify costs nothing.
//!
//! The edge owes exactly one [`Event::Ended`] for each [`Action::Prepare`], when the last process of that generation has
//! gone, whatever became of it.

pub mod backoff;
mod status;
#[cfg(test)]
mod tests;

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use iotwasm_api::{
    Reason,
    supervisor::{Health, Slot},
};

use self::backoff::Backoff;
pub use self::status::seconds_until;

/// Time for verifying, sandboxing and loading: a slow board with a large module needs seconds.
pub const PREPARE_LIMIT: Duration = Duration::from_secs(60);
/// Beyond the runner's own limit for the self-test: we step in only when the runner itself hangs.
pub const SELF_TEST_GRACE: Duration = Duration::from_secs(2);

/// Numbers the runs of one payload.
pub type Generation = u64;
/// Names a caller that waits for an answer.
pub type Ticket = u64;

/// The times that a payload's manifest sets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Terms {
    /// For the whole self-test.
    pub self_test: Duration,
    /// Between two healthy reports.
    pub heartbeat: Duration,
    /// To leave its loop after a stop was asked for.
    pub stop: Duration,
}

/// What was verified.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Identity {
    /// Version in the signed manifest.
    pub version: String,
    /// SHA-256 in hex.
    pub sha256: String,
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct End {
    /// The kind.
    pub reason: Reason,
    /// What happened, for people.
    pub message: String,
}

impl End {
    fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self { reason, message: message.into() }
    }
}

/// What a guest says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// How it feels.
    pub health: Health,
    /// Its message.
    pub message: String,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// Somebody orders this slot to run.
    Start {
        /// Which.
        slot: Slot,
        /// Not to be restarted when it ends.
        trial: bool,
        /// Who waits for the answer; none at boot.
        ticket: Option<Ticket>,
    },
    /// Somebody orders it to stop.
    Stop {
        /// Who waits for the answer.
        ticket: Ticket,
    },
    /// Somebody orders the trial in this slot to be treated as committed.
    Confirm {
        /// Which.
        slot: Slot,
        /// Who waits for the answer.
        ticket: Ticket,
    },
    /// Verified, sandboxed and loaded; waits for [`Action::Begin`].
    Prepared {
        /// Which run.
        generation: Generation,
        /// Its times.
        terms: Terms,
        /// What it is.
        identity: Identity,
    },
    /// The self-test passed.
    SelfTestPassed {
        /// Which run.
        generation: Generation,
    },
    /// The guest reported its health.
    Reported {
        /// Which run.
        generation: Generation,
        /// What it said.
        report: Report,
    },
    /// The guest asks that the device not be restarted, in place of what it asked before.
    Held {
        /// Which run.
        generation: Generation,
        /// For so long; zero releases.
        time: Duration,
    },
    /// Its directories hold more than their quota.
    OverQuota {
        /// Which run.
        generation: Generation,
        /// Which directory, how much.
        message: String,
    },
    /// Its last process has gone, or it could not even be made.
    Ended {
        /// Which run.
        generation: Generation,
        /// How.
        end: End,
    },
    /// Time went on; see [`Machine::wake`].
    Tick,
}

/// What has to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Verify the slot, make the runner and load the module.
    Prepare {
        /// The new run.
        generation: Generation,
        /// Its slot.
        slot: Slot,
    },
    /// Let the self-test begin.
    Begin {
        /// Which run.
        generation: Generation,
    },
    /// Ask the guest to leave its loop.
    AskStop {
        /// Which run.
        generation: Generation,
    },
    /// End every process of it at once.
    Kill {
        /// Which run.
        generation: Generation,
    },
    /// Answer an order to start.
    Started {
        /// Who waits.
        ticket: Ticket,
        /// Past its self-test, or why not.
        outcome: Result<(), End>,
    },
    /// Answer an order to stop.
    Stopped {
        /// Who waits.
        ticket: Ticket,
    },
    /// Answer an order to confirm.
    Confirmed {
        /// Who waits.
        ticket: Ticket,
        /// Done, or the state that does not allow it.
        outcome: Result<(), String>,
    },
    /// Count an end that nobody ordered.
    Count {
        /// Its kind.
        reason: Reason,
    },
}

/// A run past [`Action::Begin`].
#[derive(Debug, Clone)]
struct Alive {
    generation: Generation,
    slot: Slot,
    trial: bool,
    ticket: Option<Ticket>,
    ordered: Instant,
    began: Instant,
    /// When its predecessor was asked to make room.
    asked: Option<Instant>,
    terms: Terms,
    identity: Identity,
    stage: Stage,
    stopping: Option<Stopping>,
    /// Until then it asks that the device not be restarted.
    held_until: Option<Instant>,
}

#[derive(Debug, Clone, Copy)]
enum Stage {
    SelfTest { until: Instant },
    Running { since: Instant, heartbeat_until: Instant },
}

/// It was asked to stop, or killed.
#[derive(Debug, Clone)]
struct Stopping {
    /// When to kill it; none once that is done.
    kill_at: Option<Instant>,
    /// Why we end it; none where somebody ordered it.
    cause: Option<End>,
}

/// Nothing runs.
#[derive(Debug, Clone)]
struct Down {
    slot: Slot,
    trial: bool,
    identity: Identity,
    kind: DownKind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum DownKind {
    Stopped,
    Failed,
    Backoff { until: Instant },
}

#[derive(Debug, Clone)]
enum Current {
    Alive(Alive),
    Down(Down),
}

/// The run that is to be the next.
#[derive(Debug, Clone)]
struct Next {
    generation: Generation,
    slot: Slot,
    trial: bool,
    ticket: Option<Ticket>,
    ordered: Instant,
    until: Instant,
    prepared: Option<(Terms, Identity)>,
    /// Killed because it took too long.
    overdue: bool,
}

/// One payload.
#[derive(Debug)]
pub struct Machine {
    current: Current,
    next: Option<Next>,
    /// Runs that were given up before they began and whose processes have not gone yet.
    leaving: BTreeSet<Generation>,
    generation: Generation,
    backoff: Backoff,
    stop_tickets: Vec<Ticket>,
    report: Report,
    last_end: Option<End>,
    starts: i64,
    crashes: i64,
    times: Times,
    /// When the run that is alive was asked to make room for the next.
    asked: Option<Instant>,
}

/// How long the last start took, in milliseconds.
#[derive(Debug, Clone, Copy, Default)]
struct Times {
    /// From the order until the self-test passed.
    start: i64,
    /// The self-test alone.
    self_test: i64,
    /// From asking the old run to make room until the self-test passed.
    interruption: i64,
}

fn milliseconds(from: Instant, to: Instant) -> i64 {
    i64::try_from(to.duration_since(from).as_millis()).unwrap_or(i64::MAX)
}

impl Machine {
    /// A payload that has not been started yet.
    #[must_use]
    pub fn new(slot: Slot) -> Self {
        Self {
            current: Current::Down(Down { slot, trial: false, identity: Identity::default(), kind: DownKind::Stopped }),
            next: None,
            leaving: BTreeSet::new(),
            generation: 0,
            backoff: Backoff::default(),
            stop_tickets: Vec::new(),
            report: Report { health: Health::Unknown, message: String::new() },
            last_end: None,
            starts: 0,
            crashes: 0,
            times: Times::default(),
            asked: None,
        }
    }

    /// When [`Event::Tick`] is due.
    #[must_use]
    pub fn wake(&self) -> Option<Instant> {
        let current = match &self.current {
            Current::Alive(alive) => match (&alive.stopping, alive.stage) {
                (Some(stopping), _) => stopping.kill_at,
                (None, Stage::SelfTest { until }) => Some(until),
                (None, Stage::Running { heartbeat_until, .. }) => Some(heartbeat_until),
            },
            Current::Down(Down { kind: DownKind::Backoff { until }, .. }) if self.next.is_none() => Some(*until),
            Current::Down(_) => None,
        };
        let next = self.next.as_ref().filter(|next| next.prepared.is_none() && !next.overdue).map(|next| next.until);
        current.into_iter().chain(next).min()
    }

    /// The run whose processes serve the payload now, if one does.
    #[must_use]
    pub fn alive(&self) -> Option<Generation> {
        match &self.current {
            Current::Alive(alive) => Some(alive.generation),
            Current::Down(_) => None,
        }
    }

    /// Until when the run that is alive asks that the device not be restarted, also if that has passed. None after a
    /// release.
    #[must_use]
    pub fn held_until(&self) -> Option<Instant> {
        match &self.current {
            Current::Alive(alive) => alive.held_until,
            Current::Down(_) => None,
        }
    }

    /// True when no process of this payload is left and none is being made.
    #[must_use]
    pub fn is_quiet(&self) -> bool {
        self.alive().is_none() && self.next.is_none() && self.leaving.is_empty()
    }

    /// The only way anything changes.
    pub fn apply(&mut self, event: Event, now: Instant) -> Vec<Action> {
        let mut out = Vec::new();
        match event {
            Event::Start { slot, trial, ticket } => self.start(slot, trial, ticket, now, &mut out),
            Event::Stop { ticket } => self.stop(ticket, now, &mut out),
            Event::Confirm { slot, ticket } => {
                let outcome = self.confirm(slot);
                out.push(Action::Confirmed { ticket, outcome });
            }
            Event::Prepared { generation, terms, identity } => {
                if let Some(next) = self.next.as_mut().filter(|next| next.generation == generation && !next.overdue) {
                    next.prepared = Some((terms, identity));
                }
            }
            Event::SelfTestPassed { generation } => self.self_test_passed(generation, now, &mut out),
            Event::Reported { generation, report } => self.reported(generation, report, now, &mut out),
            Event::Held { generation, time } => self.held(generation, time, now),
            Event::OverQuota { generation, message } => {
                self.fail(generation, End::new(Reason::StorageQuota, message), now, &mut out);
            }
            Event::Ended { generation, end } => self.ended(generation, end, now, &mut out),
            Event::Tick => self.tick(now, &mut out),
        }
        self.advance(now, &mut out);
        out
    }

    fn start(&mut self, slot: Slot, trial: bool, ticket: Option<Ticket>, now: Instant, out: &mut Vec<Action>) {
        self.backoff.reset();
        self.give_up_next("another order to start took its place", out);
        self.prepare(slot, trial, ticket, now, out);
    }

    fn prepare(&mut self, slot: Slot, trial: bool, ticket: Option<Ticket>, now: Instant, out: &mut Vec<Action>) {
        self.generation += 1;
        let (generation, until) = (self.generation, now + PREPARE_LIMIT);
        let next = Next { generation, slot, trial, ticket, ordered: now, until, prepared: None, overdue: false };
        self.next = Some(next);
        out.push(Action::Prepare { generation, slot });
    }

    /// Drop the run that was to be the next, if there is one.
    fn give_up_next(&mut self, why: &str, out: &mut Vec<Action>) {
        let Some(next) = self.next.take() else { return };
        self.asked = None;
        self.leaving.insert(next.generation);
        out.push(Action::Kill { generation: next.generation });
        if let Some(ticket) = next.ticket {
            out.push(Action::Started { ticket, outcome: Err(End::new(Reason::Stopped, why)) });
        }
    }

    fn stop(&mut self, ticket: Ticket, now: Instant, out: &mut Vec<Action>) {
        self.backoff.reset();
        self.give_up_next("an order to stop took its place", out);
        self.stop_tickets.push(ticket);
        match &mut self.current {
            Current::Alive(alive) => alive.ask_stop(None, now, out),
            Current::Down(down) => down.kind = DownKind::Stopped,
        }
    }

    fn confirm(&mut self, slot: Slot) -> Result<(), String> {
        match &mut self.current {
            Current::Alive(alive) => match (alive.stage, &alive.stopping) {
                (Stage::Running { .. }, None) if alive.slot == slot => {
                    alive.trial = false;
                    Ok(())
                }
                (_, Some(_)) => Err("it is being stopped; only a running trial can be confirmed".to_owned()),
                (Stage::SelfTest { .. }, None) => Err("its self-test has not passed yet".to_owned()),
                (Stage::Running { .. }, None) => Err("the other slot runs; confirm the one that does".to_owned()),
            },
            Current::Down(_) => Err("it does not run; only a running trial can be confirmed".to_owned()),
        }
    }

    fn self_test_passed(&mut self, generation: Generation, now: Instant, out: &mut Vec<Action>) {
        let Current::Alive(alive) = &mut self.current else { return };
        if alive.generation != generation || !matches!(alive.stage, Stage::SelfTest { .. }) {
            return;
        }
        alive.stage = Stage::Running { since: now, heartbeat_until: now + alive.terms.heartbeat };
        if alive.stopping.is_some() {
            return;
        }
        self.times = Times {
            start: milliseconds(alive.ordered, now),
            self_test: milliseconds(alive.began, now),
            interruption: alive.asked.map_or(0, |asked| milliseconds(asked, now)),
        };
        if let Some(ticket) = alive.ticket.take() {
            out.push(Action::Started { ticket, outcome: Ok(()) });
        }
    }

    fn reported(&mut self, generation: Generation, report: Report, now: Instant, out: &mut Vec<Action>) {
        let Current::Alive(alive) = &mut self.current else { return };
        if alive.generation != generation || alive.stopping.is_some() {
            return;
        }
        if let (Health::Healthy | Health::Degraded, Stage::Running { heartbeat_until, .. }) =
            (report.health, &mut alive.stage)
        {
            *heartbeat_until = now + alive.terms.heartbeat;
        }
        let failed = (report.health == Health::Failed).then(|| match alive.stage {
            Stage::SelfTest { .. } => End::new(Reason::SelfTestFailed, report.message.clone()),
            Stage::Running { .. } => End::new(Reason::ReportedFailed, report.message.clone()),
        });
        self.report = report;
        if let Some(end) = failed {
            self.fail(generation, end, now, out);
        }
    }

    /// Whoever is being stopped may still need the time that it has for that.
    fn held(&mut self, generation: Generation, time: Duration, now: Instant) {
        if let Current::Alive(alive) = &mut self.current
            && alive.generation == generation
        {
            alive.held_until = (!time.is_zero()).then(|| now + time);
        }
    }

    /// End what runs because of something it did; gently, since the runner still answers.
    fn fail(&mut self, generation: Generation, end: End, now: Instant, out: &mut Vec<Action>) {
        if let Current::Alive(alive) = &mut self.current
            && alive.generation == generation
            && alive.stopping.is_none()
        {
            alive.ask_stop(Some(end), now, out);
        }
    }

    fn ended(&mut self, generation: Generation, end: End, now: Instant, out: &mut Vec<Action>) {
        if self.leaving.remove(&generation) {
            return;
        }
        if self.next.as_ref().is_some_and(|next| next.generation == generation) {
            self.next_ended(end, now, out);
        } else if self.alive() == Some(generation) {
            self.current_ended(end, now, out);
        }
    }

    /// The next run ended before it began: what runs now goes on.
    fn next_ended(&mut self, end: End, now: Instant, out: &mut Vec<Action>) {
        let Some(next) = self.next.take() else { return };
        self.asked = None;
        let end = if next.overdue {
            End::new(Reason::StartFailed, format!("was not ready within {} s", PREPARE_LIMIT.as_secs()))
        } else {
            end
        };
        self.crashes += 1;
        out.push(Action::Count { reason: end.reason });
        if let Current::Down(down) = &mut self.current
            && !(next.trial && matches!(down.kind, DownKind::Backoff { .. }))
        {
            // What does not verify, or asks for too much, will do so in a second too; only a new slot content helps, and
            // that comes with an order of its own.
            let hopeless = matches!(end.reason, Reason::NotVerified | Reason::BadPayload | Reason::CapabilityRefused);
            let kind = if next.trial || hopeless {
                DownKind::Failed
            } else {
                DownKind::Backoff { until: now + self.backoff.after_run_of(Duration::ZERO) }
            };
            let identity = next.prepared.map(|(_, identity)| identity).unwrap_or_default();
            *down = Down { slot: next.slot, trial: next.trial, identity, kind };
            self.last_end = Some(end.clone());
        }
        if let Some(ticket) = next.ticket {
            out.push(Action::Started { ticket, outcome: Err(end) });
        }
    }

    fn current_ended(&mut self, end: End, now: Instant, out: &mut Vec<Action>) {
        let Current::Alive(alive) = &self.current else { return };
        let alive = alive.clone();
        let ran = match alive.stage {
            Stage::SelfTest { .. } => Duration::ZERO,
            Stage::Running { since, .. } => now.duration_since(since),
        };
        let (end, kind) = match alive.stopping {
            Some(Stopping { cause: None, .. }) => (End::new(Reason::Stopped, "stopped by order"), DownKind::Stopped),
            stopping => {
                let end = stopping.and_then(|stopping| stopping.cause).unwrap_or(end);
                self.crashes += 1;
                out.push(Action::Count { reason: end.reason });
                let kind = if alive.trial {
                    DownKind::Failed
                } else {
                    DownKind::Backoff { until: now + self.backoff.after_run_of(ran) }
                };
                (end, kind)
            }
        };
        if let Some(ticket) = alive.ticket {
            out.push(Action::Started { ticket, outcome: Err(end.clone()) });
        }
        let (slot, trial, identity) = (alive.slot, alive.trial, alive.identity);
        self.current = Current::Down(Down { slot, trial, identity, kind });
        self.last_end = Some(end);
    }

    fn tick(&mut self, now: Instant, out: &mut Vec<Action>) {
        if let Some(next) = self.next.as_mut().filter(|next| next.prepared.is_none() && !next.overdue)
            && next.until <= now
        {
            next.overdue = true;
            out.push(Action::Kill { generation: next.generation });
        }
        match &mut self.current {
            Current::Alive(alive) => alive.tick(now, out),
            Current::Down(Down { kind: DownKind::Backoff { until }, slot, .. }) => {
                let (due, slot) = (*until <= now, *slot);
                if due && self.next.is_none() {
                    self.prepare(slot, false, None, now, out);
                }
            }
            Current::Down(_) => {}
        }
    }

    /// After every event: begin the next run when it is ready and the floor is free, free the floor when it is not, and
    /// answer those who wait for silence.
    fn advance(&mut self, now: Instant, out: &mut Vec<Action>) {
        if self.next.as_ref().is_some_and(|next| next.prepared.is_some()) {
            match &mut self.current {
                Current::Alive(alive) if alive.stopping.is_none() => {
                    self.asked = Some(now);
                    alive.ask_stop(None, now, out);
                }
                Current::Alive(_) => {}
                Current::Down(_) => self.begin(now, out),
            }
        }
        // What runs and is not being stopped was started by a later order: it keeps no caller of a stop waiting.
        let going =
            matches!(&self.current, Current::Alive(Alive { stopping: Some(_), .. })) || !self.leaving.is_empty();
        if !going {
            out.extend(self.stop_tickets.drain(..).map(|ticket| Action::Stopped { ticket }));
        }
    }

    fn begin(&mut self, now: Instant, out: &mut Vec<Action>) {
        let Some(Next { generation, slot, trial, ticket, ordered, prepared: Some((terms, identity)), .. }) =
            self.next.take()
        else {
            return;
        };
        self.starts += 1;
        self.report = Report { health: Health::Unknown, message: String::new() };
        let stage = Stage::SelfTest { until: now + terms.self_test + SELF_TEST_GRACE };
        self.current = Current::Alive(Alive {
            generation,
            slot,
            trial,
            ticket,
            ordered,
            began: now,
            asked: self.asked.take(),
            terms,
            identity,
            stage,
            stopping: None,
            held_until: None,
        });
        out.push(Action::Begin { generation });
    }
}

impl Alive {
    /// Ask it to leave its loop, and set the time to kill it. An order outweighs an earlier cause of our own: what
    /// somebody wanted gone is not restarted.
    fn ask_stop(&mut self, cause: Option<End>, now: Instant, out: &mut Vec<Action>) {
        match &mut self.stopping {
            Some(stopping) => {
                if cause.is_none() {
                    stopping.cause = None;
                }
            }
            None => {
                self.stopping = Some(Stopping { kill_at: Some(now + self.terms.stop), cause });
                out.push(Action::AskStop { generation: self.generation });
            }
        }
    }

    fn tick(&mut self, now: Instant, out: &mut Vec<Action>) {
        let generation = self.generation;
        if let Some(stopping) = &mut self.stopping {
            if stopping.kill_at.is_some_and(|at| at <= now) {
                stopping.kill_at = None;
                out.push(Action::Kill { generation });
            }
            return;
        }
        let cause = match self.stage {
            Stage::SelfTest { until } if until <= now => {
                let limit = self.terms.self_test.as_millis();
                End::new(Reason::SelfTestFailed, format!("the self-test did not end within {limit} ms"))
            }
            Stage::Running { heartbeat_until, .. } if heartbeat_until <= now => {
                let limit = self.terms.heartbeat.as_secs();
                End::new(Reason::HeartbeatMissed, format!("no healthy report for {limit} s"))
            }
            _ => return,
        };
        self.stopping = Some(Stopping { kill_at: None, cause: Some(cause) });
        out.push(Action::Kill { generation });
    }
}

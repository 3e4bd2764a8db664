//! One payload's trial: what to do next, from what is on the disk and what the supervisor tells. Pure: no clock, no
//! file, no socket; [`crate::trier`] does what this says.
//!
//! The rule that everything here serves: a boot is written down before it is spent, a release is kept only after it was
//! healthy for a whole confirmation period under one supervisor, and every other way ends in a rollback with a reason.

use std::time::Duration;

use iotwasm_api::Reason;
use iotwasm_api::supervisor::{Health, PayloadStatus, Phase, Slot};

/// A payload that is never healthy for a whole confirmation period, though never failing either, is rolled back after
/// this many of them (and two heartbeats, for one that reports seldom).
const PERIODS: u32 = 4;

/// How one trial is judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rules {
    /// How long it must be healthy without a break.
    pub confirmation: Duration,
    /// How long a payload may be silent before the supervisor ends it.
    pub heartbeat: Duration,
    /// How long to wait for a supervisor that is not there.
    pub patience: Duration,
}

/// Something that happened. Times are of one steady clock, from any origin.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// The supervisor answers, and its news are being followed.
    Connected,
    /// The supervisor is gone: not there to connect to, or the connection broke. What it ran is not known any more.
    Lost,
    /// The boot is on the disk; so many are left.
    BootSpent {
        /// After this one.
        boots_left: u8,
    },
    /// `Start` replied: the self-test passed.
    Started(PayloadStatus),
    /// `Start` replied that it failed.
    StartFailed {
        /// The kind of failure.
        reason: Reason,
        /// What happened.
        message: String,
    },
    /// News of the payload.
    Seen(PayloadStatus),
    /// The signed metadata no longer wants this release.
    Withdrawn {
        /// What it says.
        message: String,
    },
    /// Time has passed.
    Tick,
}

/// What to do next. Each is asked for once; the event that answers it is named.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Connect and follow the news, then [`Event::Connected`]; until this time, then [`Event::Tick`].
    Connect {
        /// End of the patience.
        until: Duration,
    },
    /// Write down that a boot is spent, then [`Event::BootSpent`].
    SpendBoot,
    /// Order the start, then [`Event::Started`] or [`Event::StartFailed`].
    Start,
    /// Wait for an event, or for this time and [`Event::Tick`].
    Wait {
        /// When to look again, if nothing happens; without one the trial waits for the answer to an earlier action.
        until: Option<Duration>,
    },
    /// Keep it. The trial is over.
    Commit,
    /// Undo it. The trial is over.
    RollBack {
        /// Why.
        reason: Reason,
        /// Why, for people.
        message: String,
        /// Whether the release is to blame, and so must not be tried again.
        remember: bool,
    },
}

/// A trial under way.
#[derive(Debug, Clone)]
pub struct Trial {
    rules: Rules,
    slot: Slot,
    boots_left: u8,
    /// Whether it was ever ordered to start.
    tried: bool,
    state: State,
}

#[derive(Debug, Clone, PartialEq)]
enum State {
    Connecting { until: Duration },
    Spending,
    Starting,
    Watching(Watch),
    Over,
}

#[derive(Debug, Clone, PartialEq)]
struct Watch {
    /// The supervisor's count of starts that is this start: news with a lower one are older than it.
    starts: i64,
    /// Since when nothing spoke against it.
    since: Duration,
    /// When patience with a payload that is neither well nor failing ends.
    end: Duration,
    health: Health,
}

impl Trial {
    /// Takes up a trial that the disk tells of, new or old: the only thing to know is how many boots it has left.
    #[must_use]
    pub fn resume(rules: Rules, slot: Slot, boots_left: u8, now: Duration) -> (Self, Action) {
        let mut trial = Self { rules, slot, boots_left, tried: boots_left == 0, state: State::Over };
        let action = if boots_left == 0 {
            trial.undo(Reason::NoBootsLeft, "every boot of the trial ended before it was healthy for long enough")
        } else {
            trial.connect(now)
        };
        (trial, action)
    }

    /// Whether it has been decided.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.state == State::Over
    }

    /// The one function that moves a trial.
    pub fn step(&mut self, now: Duration, event: Event) -> Action {
        match (self.state.clone(), event) {
            (State::Over, _) => Action::Wait { until: None },
            (_, Event::Withdrawn { message }) => self.undo(Reason::Withdrawn, &message),

            (State::Connecting { .. }, Event::Connected) if self.boots_left == 0 => {
                self.undo(Reason::SupervisorLost, "the supervisor went away during the last boot of the trial")
            }
            (State::Connecting { .. }, Event::Connected) => {
                self.state = State::Spending;
                Action::SpendBoot
            }
            (State::Connecting { until }, _) if now < until => Action::Connect { until },
            (State::Connecting { .. }, _) => {
                let patience = self.rules.patience.as_secs();
                self.undo(Reason::SupervisorLost, &format!("the supervisor was not there for {patience} s"))
            }

            (_, Event::Lost) => self.connect(now),

            (State::Spending, Event::BootSpent { boots_left }) => {
                self.boots_left = boots_left;
                self.tried = true;
                self.state = State::Starting;
                Action::Start
            }
            // What runs until the start is answered is the old release, or nothing: its news do not concern the trial.
            (State::Starting, Event::Started(status)) => self.started(now, &status),
            (State::Starting, Event::StartFailed { reason, message }) => self.undo(reason, &message),
            (State::Spending | State::Starting, _) => Action::Wait { until: None },

            (State::Watching(watch), Event::Seen(status)) => self.seen(now, watch, &status),
            (State::Watching(watch), _) => self.judge(now, watch),
        }
    }

    fn connect(&mut self, now: Duration) -> Action {
        let until = now + self.rules.patience;
        self.state = State::Connecting { until };
        Action::Connect { until }
    }

    fn started(&mut self, now: Duration, status: &PayloadStatus) -> Action {
        let end = now + self.rules.confirmation * PERIODS + self.rules.heartbeat * 2;
        let watch = Watch { starts: status.starts, since: now, end, health: Health::Unknown };
        self.seen(now, watch, status)
    }

    fn seen(&mut self, now: Duration, mut watch: Watch, status: &PayloadStatus) -> Action {
        if status.starts < watch.starts {
            return self.judge(now, watch);
        }
        if status.starts > watch.starts || status.slot != self.slot || !status.trial {
            return self.undo(Reason::Stopped, "somebody started something else in its place");
        }
        match status.phase {
            Phase::Starting | Phase::SelfTest => {}
            Phase::Running if status.health == Health::Failed => {
                return self.undo(Reason::ReportedFailed, &status.message);
            }
            Phase::Running => {
                if status.health == Health::Degraded {
                    watch.since = now;
                }
                watch.health = status.health;
            }
            Phase::Backoff | Phase::Failed => {
                return self.undo(status.reason.unwrap_or(Reason::Killed), &status.message);
            }
            Phase::Stopped => return self.undo(status.reason.unwrap_or(Reason::Stopped), &status.message),
        }
        self.judge(now, watch)
    }

    /// Whether the time has come.
    fn judge(&mut self, now: Duration, watch: Watch) -> Action {
        let due = watch.since + self.rules.confirmation;
        if now >= due && watch.health == Health::Healthy {
            self.state = State::Over;
            return Action::Commit;
        }
        if now >= watch.end {
            return self.undo(
                Reason::ReportedFailed,
                &format!("not once healthy for a whole confirmation period in {PERIODS} of them"),
            );
        }
        // While it is degraded, or has not reported, only news can bring the end nearer.
        let until = if watch.health == Health::Healthy { due.min(watch.end) } else { watch.end };
        self.state = State::Watching(watch);
        Action::Wait { until: Some(until) }
    }

    fn undo(&mut self, reason: Reason, message: &str) -> Action {
        self.state = State::Over;
        // Says anything about the release: not a withdrawal, a stop by hand, a process that could not be made, a disk
        // that altered what was verified when it was written, or a supervisor that was never there.
        let innocent =
            matches!(reason, Reason::Withdrawn | Reason::Stopped | Reason::StartFailed | Reason::NotVerified);
        let remember = self.tried && !innocent;
        Action::RollBack { reason, message: message.to_owned(), remember }
    }
}

#[cfg(test)]
#[path = "trial_tests.rs"]
mod tests;

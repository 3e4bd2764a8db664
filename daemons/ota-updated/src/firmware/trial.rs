//! The trial of new firmware: what to do next, from what is seen of the device. Pure: no clock, no file, no socket;
//! [`super::keeper`] does what this says.
//!
//! The rule that everything here serves: new firmware is kept only after all of it was well at once, without a break, for a
//! whole confirmation period; every other way ends in a rollback with a reason, and in bounded time.

use std::time::Duration;

use iotwasm_api::Reason;

/// Firmware that is never well for a whole confirmation period, though never failing either, is rolled back after this many, and never
/// later than after [`LONGEST`].
const PERIODS: u32 = 4;

/// Latest end of a trial, from its boot on: two minutes less than the half hour at which one that nobody decided is ended from
/// outside, and then nobody could say why.
pub const LONGEST: Duration = Duration::from_secs(28 * 60);

/// Longest that the times of [`Rules`] may be together: a boot that takes three minutes to the start of the trial leaves as much.
pub const LONGEST_RULES: Duration = Duration::from_secs(25 * 60);

/// How long a trial may take that begins so long after the boot.
#[must_use]
pub fn time_left(uptime: Duration) -> Duration {
    LONGEST.saturating_sub(uptime)
}

/// How one trial is judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rules {
    /// How long everything must be well without a break.
    pub confirmation: Duration,
    /// How long it may take until everything is well for the first time.
    pub ready_within: Duration,
    /// How long it may take until the update server was reached; none if that does not count.
    pub server_within: Option<Duration>,
}

/// How a part of the device is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Condition {
    /// As it should be.
    Well,
    /// Not yet, or not at the moment.
    NotYet(String),
    /// It has failed.
    Failed(String),
}

/// A unit that must be there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unit {
    /// Its name.
    pub name: String,
    /// How it is.
    pub condition: Condition,
    /// Tells one start of it from another.
    pub start: u64,
}

/// A payload that must run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Payload {
    /// Its id.
    pub id: String,
    /// How it is.
    pub condition: Condition,
    /// The supervisor's counts of its starts and of its crashes.
    pub counts: (i64, i64),
}

/// The device as it is seen at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sight {
    /// Every unit that must be there, or why nobody can tell.
    pub units: Result<Vec<Unit>, String>,
    /// Every payload that must run, or why nobody can tell.
    pub payloads: Result<Vec<Payload>, String>,
}

/// Something that happened. Times are of one steady clock, from the trial's start on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A look at the device.
    Seen(Sight),
    /// The metadata was brought up to date from the server.
    ServerReached,
    /// The signed metadata no longer wants this release.
    Withdrawn {
        /// What it says.
        message: String,
    },
}

/// What to do next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Look again.
    Wait,
    /// Keep it. The trial is over.
    Keep,
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
    /// When it ends whatever is seen, see [`LONGEST`].
    limit: Duration,
    server: bool,
    /// When everything was well for the first time.
    first: Option<Duration>,
    /// Since when everything is well, and what was seen then.
    well: Option<(Duration, Starts)>,
    /// What was wrong last.
    trouble: Trouble,
    over: bool,
}

/// Which starts of units and payloads are looked at: another one is a break.
type Starts = (Vec<(String, u64)>, Vec<(String, (i64, i64))>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Trouble {
    reason: Reason,
    message: String,
    is_failure: bool,
}

impl Sight {
    /// What is wrong, if anything is; a failure before what may still come.
    fn trouble(&self) -> Option<Trouble> {
        let cannot_tell = |reason, message: &String| Trouble { reason, message: message.clone(), is_failure: false };
        let mut found: Vec<Trouble> = Vec::new();
        match &self.units {
            Err(why) => found.push(cannot_tell(Reason::DaemonNotReady, why)),
            Ok(units) => found
                .extend(units.iter().filter_map(|unit| trouble(Reason::DaemonNotReady, &unit.name, &unit.condition))),
        }
        match &self.payloads {
            Err(why) => found.push(cannot_tell(Reason::PayloadFailed, why)),
            Ok(payloads) => found.extend(
                payloads.iter().filter_map(|payload| trouble(Reason::PayloadFailed, &payload.id, &payload.condition)),
            ),
        }
        let failure = found.iter().position(|trouble| trouble.is_failure);
        (!found.is_empty()).then(|| found.swap_remove(failure.unwrap_or(0)))
    }

    fn starts(&self) -> Starts {
        let units = self.units.iter().flatten().map(|unit| (unit.name.clone(), unit.start)).collect();
        let payloads = self.payloads.iter().flatten().map(|payload| (payload.id.clone(), payload.counts)).collect();
        (units, payloads)
    }
}

fn trouble(reason: Reason, name: &str, condition: &Condition) -> Option<Trouble> {
    let (why, is_failure) = match condition {
        Condition::Well => return None,
        Condition::NotYet(why) => (why, false),
        Condition::Failed(why) => (why, true),
    };
    Some(Trouble { reason, message: format!("{name}: {why}"), is_failure })
}

impl Trial {
    /// A trial that begins, or begins again: nothing of what was seen before this daemon's start counts. It is decided within
    /// `limit`.
    #[must_use]
    pub fn new(rules: Rules, limit: Duration) -> Self {
        let message = "the device was never looked at".to_owned();
        let trouble = Trouble { reason: Reason::DaemonNotReady, message, is_failure: false };
        Self { rules, limit, server: rules.server_within.is_none(), first: None, well: None, trouble, over: false }
    }

    /// Whether it has been decided.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.over
    }

    /// How far it is, for people.
    #[must_use]
    pub fn reached(&self) -> String {
        match (&self.well, self.server) {
            (None, _) if self.first.is_none() => self.trouble.message.clone(),
            (None, _) => format!("was well before; {}", self.trouble.message),
            (Some(_), false) => "everything is well; the update server was not reached yet".to_owned(),
            (Some(_), true) => "everything is well; the confirmation period runs".to_owned(),
        }
    }

    /// The one function that moves a trial.
    pub fn step(&mut self, now: Duration, event: Event) -> Action {
        if self.over {
            return Action::Wait;
        }
        match event {
            Event::Withdrawn { message } => return self.undo(Reason::Withdrawn, message, false),
            Event::ServerReached => self.server = true,
            Event::Seen(sight) => {
                if let Some(failure) = self.see(now, &sight) {
                    return self.undo(failure.reason, failure.message, true);
                }
            }
        }
        self.judge(now)
    }

    /// Takes note of a look; gives the failure that ends the trial at once, if there is one.
    fn see(&mut self, now: Duration, sight: &Sight) -> Option<Trouble> {
        let starts = sight.starts();
        if let Some(trouble) = sight.trouble() {
            self.trouble = trouble;
            self.well = None;
            // Before everything was well once, what failed may still come: a daemon that is started again, a payload that
            // waits for it.
            return (self.trouble.is_failure && self.first.is_some()).then(|| self.trouble.clone());
        }
        let crashed = self.well.as_ref().and_then(|(_, before)| crashed(before, &starts));
        if let Some(id) = crashed {
            let message = format!("{id}: it crashed and was started again");
            return Some(Trouble { reason: Reason::PayloadFailed, message, is_failure: true });
        }
        if self.first.is_none() {
            self.first = Some(now);
            self.trouble.message = format!("everything was well only after {} s", now.as_secs());
        }
        match &self.well {
            Some((_, before)) if *before == starts => {}
            Some((_, before)) => {
                self.trouble = restarted(before, &starts);
                self.well = Some((now, starts));
            }
            None => self.well = Some((now, starts)),
        }
        None
    }

    /// Whether the time has come.
    fn judge(&mut self, now: Duration) -> Action {
        let confirmed = self.well.as_ref().is_some_and(|(since, _)| now >= *since + self.rules.confirmation);
        if confirmed && self.server {
            self.over = true;
            return Action::Keep;
        }
        if let Some(within) = self.server_within().filter(|within| !self.server && now >= *within) {
            let message = format!("the update server was not reached within {} s", within.as_secs());
            return self.undo(Reason::ServerUnreachable, message, true);
        }
        let Trouble { reason, message, .. } = self.trouble.clone();
        match self.first {
            None if now >= self.rules.ready_within.min(self.limit) => {
                let within = self.rules.ready_within.min(self.limit).as_secs();
                self.undo(reason, format!("not ready within {within} s: {message}"), true)
            }
            // One that is well and only waits for the server is not flapping.
            Some(first) if !confirmed && now >= self.flapping(first) => {
                let limit = self.flapping(first).as_secs();
                let message = format!("not once well for a whole confirmation period within {limit} s: {message}");
                self.undo(reason, message, true)
            }
            _ => Action::Wait,
        }
    }

    fn server_within(&self) -> Option<Duration> {
        self.rules.server_within.map(|within| within.min(self.limit))
    }

    /// When one that is never well for a whole period is given up.
    fn flapping(&self, first: Duration) -> Duration {
        (first + self.rules.confirmation * PERIODS + self.rules.ready_within).min(self.limit)
    }

    fn undo(&mut self, reason: Reason, message: String, remember: bool) -> Action {
        self.over = true;
        Action::RollBack { reason, message, remember }
    }
}

/// The payload whose count of crashes rose while the same supervisor counted.
fn crashed<'a>(before: &Starts, now: &'a Starts) -> Option<&'a str> {
    let old = |id: &str| before.1.iter().find(|(other, _)| other == id).map(|(_, counts)| *counts);
    let rose = |(id, counts): &&(String, (i64, i64))| old(id).is_some_and(|old| counts.0 > old.0 && counts.1 > old.1);
    now.1.iter().find(rose).map(|(id, _)| id.as_str())
}

/// What a break without a failure was.
fn restarted(before: &Starts, now: &Starts) -> Trouble {
    let unit = now.0.iter().find(|unit| !before.0.contains(unit)).map(|(name, _)| name);
    let payload = now.1.iter().find(|payload| !before.1.contains(payload)).map(|(id, _)| id);
    let reason = if unit.is_some() { Reason::DaemonNotReady } else { Reason::PayloadFailed };
    let name = unit.or(payload).map_or("the list of what must run", String::as_str);
    Trouble { reason, message: format!("{name}: it was started again"), is_failure: false }
}

#[cfg(test)]
#[path = "trial_tests.rs"]
mod tests;

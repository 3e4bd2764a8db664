//! Time with a floor, for a device whose clock may be missing, stopped, or set by somebody else.
//!
//! The floor is always a lower bound of the true time: the image's build time, or a signing time that the repository
//! signed, plus however long the device has been running since. It is never taken from the wall clock, so a clock that
//! once jumped ahead and back does no lasting harm; and it rises with every accepted timestamp and every hour of
//! running, so metadata expires even where no clock exists.

use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};

/// The device's clocks. Implementations must not block.
pub trait Clock {
    /// Wall-clock time; may be wrong in either direction.
    fn wall(&self) -> Timestamp;
    /// Time since a fixed point; MUST never step back while the process lives. It may stand still in suspend.
    fn running(&self) -> Duration;
}

/// The system's own clocks.
#[derive(Debug, Clone)]
pub struct SystemClock {
    start: Instant,
}

impl Default for SystemClock {
    fn default() -> Self {
        SystemClock { start: Instant::now() }
    }
}

impl Clock for SystemClock {
    fn wall(&self) -> Timestamp {
        Timestamp::now()
    }

    fn running(&self) -> Duration {
        self.start.elapsed()
    }
}

/// A clock and a floor: what the client takes for the present.
pub struct Time {
    clock: Box<dyn Clock + Send>,
    base: Timestamp,
    started: Duration,
    floor: Timestamp,
    /// Reading of `clock.running()` at which `floor` was a lower bound.
    at: Duration,
}

impl std::fmt::Debug for Time {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Time").field("base", &self.base).field("floor", &self.floor()).finish_non_exhaustive()
    }
}

impl Time {
    /// Time by the system's clock, never before `build_time` (when the image was built).
    pub fn system(build_time: Timestamp) -> Self {
        Time::new(SystemClock::default(), build_time)
    }

    /// Time by `clock`, never before `build_time`.
    pub fn new(clock: impl Clock + Send + 'static, build_time: Timestamp) -> Self {
        let at = clock.running();
        Time { clock: Box::new(clock), base: build_time, started: at, floor: build_time, at }
    }

    /// The later of the wall clock and the image's build time plus the time run since.
    pub fn clock(&self) -> Timestamp {
        self.clock.wall().max(self.since(self.base, self.started))
    }

    /// Lower bound of the true time: the floor at its last raise, plus the time run since.
    pub fn floor(&self) -> Timestamp {
        self.since(self.floor, self.at)
    }

    /// The later of the clock and the floor.
    pub fn now(&self) -> Timestamp {
        self.clock().max(self.floor())
    }

    /// Raises the floor to `seen`, a time known to be past. A lower one changes nothing.
    pub fn raise(&mut self, seen: Timestamp) {
        if seen > self.floor() {
            self.floor = seen;
            self.at = self.clock.running();
        }
    }

    /// Lowers a floor that cannot be true, because metadata that was just signed expires before it.
    pub(crate) fn cap(&mut self, expires: Timestamp, signed_at: Option<Timestamp>) {
        if self.floor() > expires {
            self.floor = signed_at.map_or(self.base, |time| time.max(self.base));
            self.at = self.clock.running();
        }
    }

    fn since(&self, time: Timestamp, at: Duration) -> Timestamp {
        let run = self.clock.running().saturating_sub(at);
        SignedDuration::try_from(run).ok().and_then(|run| time.checked_add(run).ok()).unwrap_or(time)
    }
}

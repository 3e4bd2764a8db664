//! How often an actuator may be written: a token bucket. Pure: time is passed in, as the reading of a monotonic clock.
//!
//! Counts in units of a write divided by the nanoseconds of a minute, so that nothing is ever rounded: over any time t no
//! more than burst + rate·t writes pass, exactly.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Units of one write.
const WRITE: u128 = 60_000_000_000;

/// How often something may be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rate {
    /// Writes in a minute, in the long run.
    pub writes_per_minute: u32,
    /// Writes that may follow each other at once.
    pub burst: u32,
}

/// A bucket of writes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenBucket {
    rate: Rate,
    /// Units in the bucket; at most the burst.
    level: u128,
    /// When the level was last raised.
    at: Duration,
}

/// A bucket's state, to be kept while the payload is away.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BucketState {
    /// Units in the bucket: 60 000 000 000 are one write.
    pub level: u64,
    /// Reading of the monotonic clock to which the level belongs.
    pub at: Duration,
}

/// Not now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("too many writes; the next may come in {} ms", wait.as_millis())]
pub struct TooSoon {
    /// After this much time one more may pass, if nobody else takes it.
    pub wait: Duration,
}

impl TokenBucket {
    /// A full bucket.
    #[must_use]
    pub fn new(rate: Rate, now: Duration) -> Self {
        Self { rate, level: u128::from(rate.burst) * WRITE, at: now }
    }

    /// A bucket as it was left, with what it earned since; never more than the burst of the rate that holds now. The state
    /// of another boot, whose clock is ahead of this one, has earned nothing.
    #[must_use]
    pub fn restore(rate: Rate, state: BucketState, now: Duration) -> Self {
        let full = u128::from(rate.burst) * WRITE;
        let mut bucket = Self { rate, level: u128::from(state.level).min(full), at: state.at.min(now) };
        bucket.earn(now);
        bucket
    }

    /// The state, to be restored later. Keep it as long as the device runs: without it a restart would be a full bucket.
    #[must_use]
    pub fn state(&self) -> BucketState {
        // A board's burst is at most 60 000 writes: it cannot exceed 64 bits. More would be kept as the most that they hold.
        BucketState { level: u64::try_from(self.level).unwrap_or(u64::MAX), at: self.at }
    }

    /// How often it lets something pass.
    #[must_use]
    pub fn rate(&self) -> Rate {
        self.rate
    }

    /// Takes one write.
    ///
    /// # Errors
    /// None is left; says when one will be.
    pub fn take(&mut self, now: Duration) -> Result<(), TooSoon> {
        self.ready(now)?;
        self.level -= WRITE;
        Ok(())
    }

    /// Takes one write from this bucket and from another, or from neither: a payload's own and the board's.
    ///
    /// # Errors
    /// One of them has none left; says when both will have.
    pub fn take_with(&mut self, other: &mut Self, now: Duration) -> Result<(), TooSoon> {
        match (self.ready(now), other.ready(now)) {
            (Ok(()), Ok(())) => {
                self.level -= WRITE;
                other.level -= WRITE;
                Ok(())
            }
            (Err(one), Err(two)) => Err(TooSoon { wait: one.wait.max(two.wait) }),
            (Err(err), Ok(())) | (Ok(()), Err(err)) => Err(err),
        }
    }

    fn ready(&mut self, now: Duration) -> Result<(), TooSoon> {
        self.earn(now);
        if self.level >= WRITE {
            return Ok(());
        }
        let rate = u128::from(self.rate.writes_per_minute);
        let nanos = if rate == 0 { u128::MAX } else { (WRITE - self.level).div_ceil(rate) };
        Err(TooSoon { wait: u64::try_from(nanos).map_or(Duration::MAX, Duration::from_nanos) })
    }

    /// A clock that goes back earns nothing until it has caught up.
    fn earn(&mut self, now: Duration) {
        let Some(passed) = now.checked_sub(self.at) else { return };
        let earned = passed.as_nanos().saturating_mul(u128::from(self.rate.writes_per_minute));
        self.level = self.level.saturating_add(earned).min(u128::from(self.rate.burst) * WRITE);
        self.at = now;
    }
}

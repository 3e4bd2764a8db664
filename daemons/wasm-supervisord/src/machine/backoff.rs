//! How long to wait before a payload that ended is started again. Pure.

use std::time::Duration;

/// First pause: long enough that a payload that dies at once does not eat the processor.
const FIRST: Duration = Duration::from_secs(1);
/// Longest pause: a broken sensor that was plugged in again is back in service within this time.
const LONGEST: Duration = Duration::from_secs(300);
/// Whoever ran this long had recovered: its next end counts as a first one.
pub const RECOVERED_AFTER: Duration = LONGEST;

/// Doubles with each end that follows closely on a start.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Backoff {
    streak: u32,
}

impl Backoff {
    /// The pause after a run that lasted `ran` past its self-test (zero if it never passed one).
    pub fn after_run_of(&mut self, ran: Duration) -> Duration {
        if ran >= RECOVERED_AFTER {
            self.reset();
        }
        let pause = FIRST.saturating_mul(1 << self.streak.min(16)).min(LONGEST);
        self.streak = self.streak.saturating_add(1);
        pause
    }

    /// Forget earlier ends: somebody gave an order.
    pub fn reset(&mut self) {
        self.streak = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubles_from_a_second_to_five_minutes() {
        let mut backoff = Backoff::default();
        let pauses: Vec<u64> = (0..11).map(|_| backoff.after_run_of(Duration::ZERO).as_secs()).collect();
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300]);
    }

    #[test]
    fn a_long_run_starts_over() {
        let mut backoff = Backoff::default();
        for _ in 0..5 {
            backoff.after_run_of(Duration::ZERO);
        }
        assert_eq!(backoff.after_run_of(RECOVERED_AFTER - Duration::from_millis(1)).as_secs(), 32);
        assert_eq!(backoff.after_run_of(RECOVERED_AFTER).as_secs(), 1);
    }
}

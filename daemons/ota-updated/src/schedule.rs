//! When to look for updates: the interval with its jitter, the first check after a start, and the pause after a
//! failure. Pure: no clock, no randomness of its own; the caller gives a random number and waits.

use std::time::Duration;

/// First pause after a failed check; doubled for each further one, up to the interval.
const FIRST_PAUSE: Duration = Duration::from_secs(30);

/// Plans the checks of one device.
///
/// Jitter matters more than it looks: a fleet that comes back from a power failure together would otherwise ask the
/// server in step for ever.
#[derive(Debug, Clone)]
pub struct Schedule {
    interval: Duration,
    jitter_percent: u8,
    first: Duration,
    failures: u32,
}

impl Schedule {
    /// `first` bounds the random pause before the first check; `jitter_percent` is how far, at most, a pause is moved
    /// either way.
    #[must_use]
    pub fn new(interval: Duration, jitter_percent: u8, first: Duration) -> Self {
        Self { interval, jitter_percent: jitter_percent.min(100), first, failures: 0 }
    }

    /// How long to wait before the first check after a start.
    #[must_use]
    pub fn first(&self, random: u64) -> Duration {
        self.first.mul_f64(unit(random))
    }

    /// How long to wait after a check that reached the repository, whatever it found there.
    pub fn after_success(&mut self, random: u64) -> Duration {
        self.failures = 0;
        self.moved(self.interval, random)
    }

    /// How long to wait after a check that did not.
    pub fn after_failure(&mut self, random: u64) -> Duration {
        let pause = FIRST_PAUSE.saturating_mul(1 << self.failures.min(20)).min(self.interval);
        self.failures = self.failures.saturating_add(1);
        self.moved(pause, random)
    }

    /// The same where time runs out: as after the first failure, each time.
    pub fn after_failure_in_haste(&mut self, random: u64) -> Duration {
        self.failures = 0;
        self.after_failure(random)
    }

    fn moved(&self, pause: Duration, random: u64) -> Duration {
        let reach = f64::from(self.jitter_percent) / 100.0;
        pause.mul_f64(1.0 - reach + 2.0 * reach * unit(random))
    }
}

/// A random number as a fraction from 0 to 1.
fn unit(random: u64) -> f64 {
    // The upper 53 bits are what an f64 holds exactly.
    #[expect(clippy::cast_precision_loss, reason = "53 bits fit")]
    let numerator = (random >> 11) as f64;
    numerator / ((1u64 << 53) - 1) as f64
}

/// A random number, good enough to spread a fleet's requests and for nothing else.
#[must_use]
pub fn random() -> u64 {
    use std::hash::{BuildHasher, Hasher};
    // The standard library seeds each hasher's keys from the system's random numbers.
    std::collections::hash_map::RandomState::new().build_hasher().finish()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    fn schedule() -> Schedule {
        Schedule::new(HOUR, 20, Duration::from_secs(60))
    }

    #[test]
    fn extremes_of_the_random_number_give_the_extremes_of_the_pause() {
        let mut s = schedule();
        assert_eq!(s.after_success(0), HOUR.mul_f64(0.8));
        assert_eq!(s.after_success(u64::MAX), HOUR.mul_f64(1.2));
        assert_eq!(s.first(0), Duration::ZERO);
        assert_eq!(s.first(u64::MAX), Duration::from_secs(60));
    }

    #[test]
    fn failures_double_the_pause_up_to_the_interval_and_success_resets_it() {
        let mut s = Schedule::new(HOUR, 0, Duration::ZERO);
        let pauses: Vec<u64> = (0..9).map(|_| s.after_failure(0).as_secs()).collect();
        assert_eq!(pauses, [30, 60, 120, 240, 480, 960, 1920, 3600, 3600]);
        assert_eq!(s.after_success(0), HOUR);
        assert_eq!(s.after_failure(0).as_secs(), 30);
    }

    #[test]
    fn in_haste_no_pause_grows() {
        let mut s = Schedule::new(HOUR, 0, Duration::ZERO);
        assert_eq!([(); 3].map(|()| s.after_failure_in_haste(0).as_secs()), [30; 3]);
    }

    #[test]
    fn an_interval_below_the_first_pause_bounds_it() {
        let mut s = Schedule::new(Duration::from_secs(5), 0, Duration::ZERO);
        assert_eq!(s.after_failure(0).as_secs(), 5);
    }

    proptest! {
        #[test]
        fn no_pause_leaves_the_bounds(randoms in proptest::collection::vec((any::<u64>(), any::<bool>()), 1..40)) {
            let mut s = schedule();
            for (random, ok) in randoms {
                let pause = if ok { s.after_success(random) } else { s.after_failure(random) };
                prop_assert!(pause >= FIRST_PAUSE.mul_f64(0.8) && pause <= HOUR.mul_f64(1.2));
            }
        }
    }
}

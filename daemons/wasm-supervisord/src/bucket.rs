//! A token bucket: how many messages of a payload pass, and how many were left out. Pure: time is passed in.

use std::time::{Duration, Instant};

/// So many at once, then one for each interval.
#[derive(Debug, Clone)]
pub struct Bucket {
    burst: u32,
    interval: Duration,
    tokens: u32,
    /// When the last token was added.
    filled: Instant,
    dropped: u32,
}

impl Bucket {
    /// A full bucket.
    #[must_use]
    pub fn new(burst: u32, per_second: u32, now: Instant) -> Self {
        let interval = Duration::from_secs(1) / per_second.max(1);
        Self { burst, interval, tokens: burst, filled: now, dropped: 0 }
    }

    /// Whether one more may pass. What may not is counted.
    pub fn take(&mut self, now: Instant) -> bool {
        let earned = now.saturating_duration_since(self.filled).as_nanos() / self.interval.as_nanos().max(1);
        let earned = u32::try_from(earned).unwrap_or(u32::MAX);
        if earned >= self.burst - self.tokens {
            self.tokens = self.burst;
            self.filled = now;
        } else {
            self.tokens += earned;
            self.filled += self.interval * earned;
        }
        if self.tokens == 0 {
            self.dropped = self.dropped.saturating_add(1);
            return false;
        }
        self.tokens -= 1;
        true
    }

    /// One that was let through did not get anywhere.
    pub fn lost(&mut self) {
        self.dropped = self.dropped.saturating_add(1);
    }

    /// How many were left out since the last time this was asked.
    pub fn dropped(&mut self) -> Option<u32> {
        Some(std::mem::take(&mut self.dropped)).filter(|count| *count > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_burst_passes_and_then_only_the_rate() {
        let start = Instant::now();
        let mut bucket = Bucket::new(3, 10, start);
        let passed = (0..5).filter(|_| bucket.take(start)).count();
        assert_eq!((passed, bucket.dropped(), bucket.dropped()), (3, Some(2), None));
        assert!(!bucket.take(start + Duration::from_millis(99)));
        assert!(bucket.take(start + Duration::from_millis(100)));
        assert!(!bucket.take(start + Duration::from_millis(150)));
        assert!(bucket.take(start + Duration::from_millis(200)));
    }

    proptest! {
        #[test]
        fn never_more_than_burst_and_rate(steps in prop::collection::vec(0..300u64, 1..200)) {
            let start = Instant::now();
            let mut bucket = Bucket::new(5, 10, start);
            let (mut now, mut passed) = (start, 0u128);
            for step in &steps {
                now += Duration::from_millis(*step);
                passed += u128::from(bucket.take(now));
            }
            prop_assert!(passed <= 5 + (now - start).as_millis() / 100);
        }
    }
}

//! Proof that the worker is alive: it says how long its present step may take, and the watchdog is fed until then.
//! A long download keeps moving the limit with each chunk; a hung step lets it pass, and systemd restarts the daemon.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Slack on every limit: a busy machine schedules late.
const SLACK: Duration = Duration::from_secs(20);

/// Shared between the worker, which moves it, and the main loop, which reads it.
#[derive(Debug)]
pub struct Pulse {
    origin: Instant,
    /// Milliseconds after `origin` by which the worker will have moved it again.
    limit_ms: AtomicU64,
}

impl Pulse {
    /// A pulse that is alive for `within` from now.
    #[must_use]
    pub fn new(within: Duration) -> Self {
        let pulse = Self { origin: Instant::now(), limit_ms: AtomicU64::new(0) };
        pulse.alive(within);
        pulse
    }

    /// The caller is alive and will say so again within this time.
    pub fn alive(&self, within: Duration) {
        let limit = self.origin.elapsed().saturating_add(within).saturating_add(SLACK);
        self.limit_ms.store(u64::try_from(limit.as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// Whether the limit has not passed yet.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        self.is_alive_at(Instant::now())
    }

    fn is_alive_at(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.origin).as_millis() <= u128::from(self.limit_ms.load(Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_that_overruns_its_limit_is_dead_and_progress_revives_it() {
        let pulse = Pulse::new(Duration::from_secs(5));
        let late = pulse.origin + Duration::from_secs(5) + SLACK + Duration::from_secs(1);
        assert!(pulse.is_alive());
        assert!(!pulse.is_alive_at(late));
        pulse.alive(Duration::from_secs(60));
        assert!(pulse.is_alive_at(late));
    }
}

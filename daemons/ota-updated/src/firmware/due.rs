//! Since when a restart has been due: in a file that a restart of the daemon leaves, and one of the device does not.

use std::path::Path;
use std::time::Duration;

use iotwasm_kit::warn;
use tokio::time::Instant;

/// A restart that nothing but payloads' wishes delays.
#[derive(Debug)]
pub(super) struct Due {
    since: Instant,
}

impl Due {
    /// The moment that was written down for this attempt; if there is none, it is now and written down. `uptime` is how long
    /// the device has been running.
    pub(super) fn of(path: &Path, attempt: i64, uptime: Duration) -> Self {
        let now = Instant::now();
        let text = std::fs::read_to_string(path).unwrap_or_default();
        let elapsed = written(&text, attempt).and_then(|at| uptime.checked_sub(at));
        if let Some(since) = elapsed.and_then(|elapsed| now.checked_sub(elapsed)) {
            return Self { since };
        }
        if let Err(err) = std::fs::write(path, format!("{attempt} {}\n", uptime.as_secs())) {
            warn!(
                "could not write {}: {err}; payloads may delay the restart anew after one of this daemon",
                path.display()
            );
        }
        Self { since: now }
    }

    /// How long it has been due.
    pub(super) fn elapsed(&self) -> Duration {
        self.since.elapsed()
    }
}

/// The uptime that a text of ours has for this attempt.
fn written(text: &str, attempt: i64) -> Option<Duration> {
    let (of, at) = text.trim_end().split_once(' ')?;
    (of.parse() == Ok(attempt)).then_some(())?;
    at.parse().ok().map(Duration::from_secs)
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[tokio::test(start_paused = true)]
    async fn a_moment_outlives_the_daemon_and_not_the_attempt_or_the_boot() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("due");
        assert_eq!(Due::of(&path, 7, seconds(100)).elapsed(), Duration::ZERO);
        assert_eq!(Due::of(&path, 7, seconds(160)).elapsed(), seconds(60));
        // Another attempt, then the same in an uptime that cannot be.
        assert_eq!(Due::of(&path, 8, seconds(170)).elapsed(), Duration::ZERO);
        assert_eq!(Due::of(&path, 8, seconds(30)).elapsed(), Duration::ZERO);
        assert_eq!(Due::of(&path, 8, seconds(40)).elapsed(), seconds(10));
        for bad in ["", "8", "8 x", "8 -1", "x 5"] {
            std::fs::write(&path, bad).unwrap();
            assert_eq!(Due::of(&path, 8, seconds(50)).elapsed(), Duration::ZERO, "{bad:?}");
        }
    }

    #[test]
    fn a_file_that_cannot_be_written_is_no_obstacle() {
        let dir = tempfile::tempdir().unwrap();
        assert!(Due::of(dir.path(), 7, seconds(100)).elapsed() < seconds(60));
    }
}

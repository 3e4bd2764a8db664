//! Waiting for conditions. The one place of the harness where time passes.

use std::thread;
use std::time::{Duration, Instant};

use crate::error::{Error, Result, chain};

/// What looking at a condition gave.
pub enum Look<T> {
    /// It holds.
    Is(T),
    /// Not yet; what was seen instead.
    NotYet(String),
}

/// Looks until the condition holds. An error of a look counts as "not yet": a device that restarts does not answer.
pub fn until<T>(what: &str, limit: Duration, mut look: impl FnMut() -> Result<Look<T>>) -> Result<T> {
    let started = Instant::now();
    let mut pause = Duration::from_millis(50);
    loop {
        let last = match look() {
            Ok(Look::Is(value)) => return Ok(value),
            Ok(Look::NotYet(seen)) => seen,
            Err(error) => chain(&error),
        };
        if started.elapsed() > limit {
            return Err(Error::Timeout { what: what.to_owned(), limit, last });
        }
        thread::sleep(pause);
        // A look costs the device something, and another device on this machine, too: the longer it takes, the fewer.
        let most = (started.elapsed() / 10).clamp(Duration::from_millis(500), Duration::from_secs(2));
        pause = (pause * 3 / 2).min(most);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn condition_that_comes_true_gives_its_value() {
        let mut looks = 0;
        let value = until("third look", Duration::from_secs(5), || {
            looks += 1;
            Ok(if looks == 3 { Look::Is(looks) } else { Look::NotYet(looks.to_string()) })
        });
        assert_eq!(value.unwrap(), 3);
    }

    #[test]
    fn timeout_tells_what_was_seen_last() {
        let error = until::<()>("never", Duration::ZERO, || Ok(Look::NotYet("rain".into()))).unwrap_err();
        assert!(matches!(error, Error::Timeout { last, .. } if last == "rain"));
    }
}

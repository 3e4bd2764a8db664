//! Waiting, the one place where a payload gives the processor back.

use core::time::Duration;

use crate::abi;

/// Whether to go on after a wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use = "a payload that does not stop when it is told to is killed"]
pub enum Wait {
    /// The time has passed, the fuel is full again.
    Continue,
    /// The device wants the payload to end: save what must be saved and return from `run`.
    Stop,
}

/// Sleeps. When it returns, the fuel of the next wake-up is full.
///
/// A payload that wants to be asked often whether it should stop waits briefly; one that has nothing to do waits long,
/// but no longer than its heartbeat allows.
pub fn wait(time: Duration) -> Wait {
    match abi::wait(milliseconds(time)) {
        abi::OK => Wait::Continue,
        // `stopping` is the only refusal there is. Should a later host know another, then stopping is right as well:
        // going on would be a loop that never sleeps.
        _ => Wait::Stop,
    }
}

/// Whole milliseconds, rounded up: a wait that is not zero sleeps.
pub(crate) fn milliseconds(time: Duration) -> i64 {
    i64::try_from(time.as_nanos().div_ceil(1_000_000)).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::{Duration, milliseconds};

    #[test]
    fn a_wait_is_rounded_up_and_never_overflows() {
        assert_eq!(milliseconds(Duration::ZERO), 0);
        assert_eq!(milliseconds(Duration::from_nanos(1)), 1);
        assert_eq!(milliseconds(Duration::from_micros(1_001)), 2);
        assert_eq!(milliseconds(Duration::from_secs(3)), 3_000);
        assert_eq!(milliseconds(Duration::MAX), i64::MAX);
    }
}

//! Asks that the device not be restarted for a while: a valve is open, a batch is under way.
//!
//! Before an update of the firmware restarts the device, it waits for every payload that holds it, but no longer than the
//! device's settings allow. It is a wish, then, and no promise; and a power cut asks nobody. What must not be left as it is
//! needs a safe value in the board file.
//!
//! It keeps neither the payload's own update nor an order to stop it from ending it: then `wait` says [`Stop`].
//!
//! [`Stop`]: crate::Wait::Stop

use core::time::Duration;

use crate::abi;
use crate::error::{Error, check};

/// The longest that can be asked for at once.
pub const LONGEST: Duration = Duration::from_secs(3600);
/// After this long there is room again for what a payload says, in milliseconds.
const ROOM_AGAIN_MS: u32 = 1000;

/// Asks that the device not be restarted for so long from now, rounded up to whole seconds. It takes the place of what was
/// asked for before, shorter or longer, and ends with the payload.
///
/// # Errors
/// [`Error::BadArgument`] for more than [`LONGEST`]: ask again before the time is up. [`Error::TooSoon`] when the payload
/// says too much, in holds, reports and log lines together. Either way what was asked for before still counts.
pub fn hold(time: Duration) -> Result<(), Error> {
    let seconds = i32::try_from(time.as_nanos().div_ceil(1_000_000_000)).unwrap_or(i32::MAX);
    check(abi::hold_restart(seconds)).map_err(|error| match error {
        Error::TooSoon { .. } => Error::TooSoon { retry_ms: ROOM_AGAIN_MS },
        other => other,
    })
}

/// The device may be restarted.
pub fn release() {
    // A release is always taken.
    let _ = abi::hold_restart(0);
}

#[cfg(test)]
mod tests {
    use super::{Duration, Error, LONGEST, hold, release};
    use crate::testing::{self, Call};

    #[test]
    fn a_hold_is_rounded_up_and_bounded_and_a_release_is_none() {
        testing::reset();
        hold(Duration::from_millis(1)).unwrap();
        hold(LONGEST).unwrap();
        for beyond in [LONGEST + Duration::from_nanos(1), Duration::from_secs(1 << 32), Duration::MAX] {
            assert_eq!(hold(beyond), Err(Error::BadArgument));
        }
        release();
        let held = [1, 3600, 0].map(|seconds| Call::HoldRestart { seconds });
        assert_eq!(testing::take(), held);
    }
}

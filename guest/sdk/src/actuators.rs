//! Actuators: what moves, heats or switches. Every write is judged and counted by the device.

use core::fmt::Display;

use crate::error::{Error, check};
use crate::sensors::MAX_VALUE;
use crate::{abi, message::Message};

/// Writes a value to an actuator.
///
/// When the payload's session ends, for whatever reason, the device writes the actuator's safe value if the board file has
/// one.
///
/// # Errors
/// [`Error::TooSoon`] says when the next write may pass; [`Error::BadValue`] for a value that board, tier or manifest do not
/// have; [`Error::NotFound`], [`Error::NotAllowed`], [`Error::AlreadyInUse`], …
pub fn write(actuator: &str, value: impl Display) -> Result<(), Error> {
    let value = Message::<{ MAX_VALUE + 1 }>::of(value);
    let text = core::str::from_utf8(value.as_bytes()).unwrap_or_default();
    if text.len() > MAX_VALUE {
        return Err(Error::TooLong);
    }
    let mut retry_ms = 0;
    check(abi::actuators::write(actuator, text, &mut retry_ms)).map_err(|error| match error {
        Error::TooSoon { .. } => Error::TooSoon { retry_ms },
        other => other,
    })
}

#[cfg(test)]
mod tests {
    use core::time::Duration;

    use super::{Error, write};
    use crate::testing::{self, Actuator, Call};

    #[test]
    fn writes_pass_until_the_burst_is_used_and_again_after_the_time_that_was_said() {
        testing::reset();
        testing::stop_after(10);
        testing::add_actuator("pump", Actuator::new(&["0", "1"]).limit(6, 2));
        write("pump", 1).unwrap();
        write("pump", 0).unwrap();
        assert_eq!(write("pump", 1), Err(Error::TooSoon { retry_ms: 10_000 }));
        let _ = crate::wait(Duration::from_millis(9_999));
        assert_eq!(write("pump", 1), Err(Error::TooSoon { retry_ms: 1 }));
        let _ = crate::wait(Duration::from_millis(1));
        write("pump", 1).unwrap();
        let written: Vec<_> = testing::take().into_iter().filter(|c| matches!(c, Call::Actuate { .. })).collect();
        let pump = |value: &str| Call::Actuate { actuator: "pump".into(), value: value.into() };
        assert_eq!(written, [pump("1"), pump("0"), pump("1")]);
    }

    #[test]
    fn wrong_values_and_names_are_told_apart() {
        testing::reset();
        testing::add_actuator("pump", Actuator::new(&["0", "1"]));
        assert_eq!(write("pump", 2), Err(Error::BadValue));
        assert_eq!(write("pump", "1".repeat(65)), Err(Error::TooLong));
        assert_eq!(write("valve", 1), Err(Error::NotFound));
        testing::fail_next("pump", Error::AlreadyInUse);
        assert_eq!(write("pump", 1), Err(Error::AlreadyInUse));
        assert_eq!(testing::take(), []);
    }
}

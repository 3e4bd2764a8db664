//! What the device answers when it did not do what was asked: one list for sensors, lines, buses and actuators.

use core::fmt;

/// Why the device did not do it. Its `Display` says what to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Error {
    /// -1: a buffer is not within the payload's memory. Never with this crate's functions.
    BadPointer,
    /// -2: a handle, a flag or a time that does not exist.
    BadArgument,
    /// -3: a name of more than 129 bytes, a value of more than 64, or more at once than the board allows.
    TooLong,
    /// -4: the device wants the payload to end.
    Stopping,
    /// -5: the buffer does not hold the answer, and is unchanged.
    BufferTooSmall {
        /// What would hold it, in bytes.
        needed: u32,
    },
    /// -6: the board has nothing of this name, or the sensor no such value.
    NotFound,
    /// -7: the manifest does not ask for it.
    NotAllowed,
    /// -8: the manifest asks for it, but not to be used like this.
    ModeNotAllowed,
    /// -9: another payload has it now, or has set it otherwise.
    AlreadyInUse,
    /// -10: not a value of its kind, or none of those that may be written. Also what cannot be parsed as the type asked for.
    BadValue,
    /// -11: written too often.
    TooSoon {
        /// When the next may pass, in milliseconds from now.
        retry_ms: u32,
    },
    /// -12: the sensor is off.
    NotOn,
    /// -13: the device is not there any more.
    Gone,
    /// -14: nothing was done, because the daemon that keeps the peripherals is away for a moment.
    Unavailable,
    /// -15: the device or its driver failed.
    HardwareFault,
    /// -16: the device or its driver cannot do this.
    NotSupported,
    /// -17: there was no edge in time.
    TimedOut,
    /// -20: I2C: the bus is not as it should be.
    Bus,
    /// -21: I2C: another master took the bus.
    ArbitrationLoss,
    /// -22: I2C: nobody acknowledged the address.
    NoAcknowledgeAddress,
    /// -23: I2C: the device did not acknowledge a byte.
    NoAcknowledgeData,
    /// -24: I2C: something was not acknowledged; it is not known what.
    NoAcknowledge,
    /// -25: I2C, SPI: bytes came faster than they were taken.
    Overrun,
    /// -26: I2C, SPI: another error of the bus.
    Other,
    /// -30: SPI: two masters on the bus.
    ModeFault,
    /// -31: SPI: what came was not framed as it should be.
    FrameFormat,
    /// -32: SPI: the device could not be selected.
    ChipSelectFault,
    /// A number that this version of the crate does not know.
    Unknown(i32),
}

impl Error {
    /// The error with this number. The details that travel beside some numbers are 0.
    #[must_use]
    pub const fn from_number(number: i32) -> Self {
        match number {
            -1 => Self::BadPointer,
            -2 => Self::BadArgument,
            -3 => Self::TooLong,
            -4 => Self::Stopping,
            -5 => Self::BufferTooSmall { needed: 0 },
            -6 => Self::NotFound,
            -7 => Self::NotAllowed,
            -8 => Self::ModeNotAllowed,
            -9 => Self::AlreadyInUse,
            -10 => Self::BadValue,
            -11 => Self::TooSoon { retry_ms: 0 },
            -12 => Self::NotOn,
            -13 => Self::Gone,
            -14 => Self::Unavailable,
            -15 => Self::HardwareFault,
            -16 => Self::NotSupported,
            -17 => Self::TimedOut,
            -20 => Self::Bus,
            -21 => Self::ArbitrationLoss,
            -22 => Self::NoAcknowledgeAddress,
            -23 => Self::NoAcknowledgeData,
            -24 => Self::NoAcknowledge,
            -25 => Self::Overrun,
            -26 => Self::Other,
            -30 => Self::ModeFault,
            -31 => Self::FrameFormat,
            -32 => Self::ChipSelectFault,
            other => Self::Unknown(other),
        }
    }

    /// Its number.
    #[must_use]
    pub const fn number(self) -> i32 {
        match self {
            Self::BadPointer => -1,
            Self::BadArgument => -2,
            Self::TooLong => -3,
            Self::Stopping => -4,
            Self::BufferTooSmall { .. } => -5,
            Self::NotFound => -6,
            Self::NotAllowed => -7,
            Self::ModeNotAllowed => -8,
            Self::AlreadyInUse => -9,
            Self::BadValue => -10,
            Self::TooSoon { .. } => -11,
            Self::NotOn => -12,
            Self::Gone => -13,
            Self::Unavailable => -14,
            Self::HardwareFault => -15,
            Self::NotSupported => -16,
            Self::TimedOut => -17,
            Self::Bus => -20,
            Self::ArbitrationLoss => -21,
            Self::NoAcknowledgeAddress => -22,
            Self::NoAcknowledgeData => -23,
            Self::NoAcknowledge => -24,
            Self::Overrun => -25,
            Self::Other => -26,
            Self::ModeFault => -30,
            Self::FrameFormat => -31,
            Self::ChipSelectFault => -32,
            Self::Unknown(number) => number,
        }
    }
}

/// What a host function returned, as a result. What is not negative is success, so that a later host may count.
pub(crate) fn check(number: i32) -> Result<(), Error> {
    if number >= 0 { Ok(()) } else { Err(Error::from_number(number)) }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::BadPointer => "a buffer outside the memory; give one of the payload's own",
            Self::BadArgument => "a bad handle, flag or time; get the handle anew, see the documentation",
            Self::TooLong => "too long; send less at once, the board file says how much",
            Self::Stopping => "the device wants the payload to end; return from run",
            Self::BufferTooSmall { needed } => return write!(f, "the answer has {needed} bytes; give a larger buffer"),
            Self::NotFound => "the board has no such name; compare it with the board file",
            Self::NotAllowed => "not granted; ask for it in the manifest's [capabilities]",
            Self::ModeNotAllowed => {
                "granted, but not for this use; ask for it in the manifest, if board and tier allow it"
            }
            Self::AlreadyInUse => "another payload has it; try again later",
            Self::BadValue => "not a value that is allowed here, or not of the type asked for; see the board file",
            Self::TooSoon { retry_ms } => return write!(f, "too many writes; try again in {retry_ms} ms"),
            Self::NotOn => "the sensor is off; turn it on first",
            Self::Gone => "the device is not there; report degraded and try again later",
            Self::Unavailable => "peripherals are away for a moment; nothing was done, try again",
            Self::HardwareFault => "the hardware or its driver failed; look at the kernel's log",
            Self::NotSupported => "the hardware or its driver cannot do this",
            Self::TimedOut => "nothing happened in time; wait again",
            Self::Bus => "I2C bus error; check wires and pull-ups",
            Self::ArbitrationLoss => "I2C arbitration lost to another master; try again",
            Self::NoAcknowledgeAddress => "no I2C device answers; check power, wires and the board's address",
            Self::NoAcknowledgeData => "the I2C device refused a byte; check what was sent to it",
            Self::NoAcknowledge => "the I2C device did not acknowledge; check power, wires and what was sent",
            Self::Overrun => "the bus was too fast for its receiver; transfer less at once",
            Self::Other => "the bus failed; look at the kernel's log",
            Self::ModeFault => "SPI mode fault: two masters on the bus",
            Self::FrameFormat => "SPI frame error; compare mode and word length with the board file",
            Self::ChipSelectFault => "the SPI device could not be selected; check its chip select",
            Self::Unknown(number) => return write!(f, "error {number}; a newer SDK may know it"),
        })
    }
}

impl core::error::Error for Error {}

impl embedded_hal::digital::Error for Error {
    fn kind(&self) -> embedded_hal::digital::ErrorKind {
        embedded_hal::digital::ErrorKind::Other
    }
}

impl embedded_hal::i2c::Error for Error {
    fn kind(&self) -> embedded_hal::i2c::ErrorKind {
        use embedded_hal::i2c::{ErrorKind, NoAcknowledgeSource};
        match self {
            Self::Bus => ErrorKind::Bus,
            Self::ArbitrationLoss => ErrorKind::ArbitrationLoss,
            Self::NoAcknowledgeAddress => ErrorKind::NoAcknowledge(NoAcknowledgeSource::Address),
            Self::NoAcknowledgeData => ErrorKind::NoAcknowledge(NoAcknowledgeSource::Data),
            Self::NoAcknowledge => ErrorKind::NoAcknowledge(NoAcknowledgeSource::Unknown),
            Self::Overrun => ErrorKind::Overrun,
            _ => ErrorKind::Other,
        }
    }
}

impl embedded_hal::spi::Error for Error {
    fn kind(&self) -> embedded_hal::spi::ErrorKind {
        use embedded_hal::spi::ErrorKind;
        match self {
            Self::Overrun => ErrorKind::Overrun,
            Self::ModeFault => ErrorKind::ModeFault,
            Self::FrameFormat => ErrorKind::FrameFormat,
            Self::ChipSelectFault => ErrorKind::ChipSelectFault,
            _ => ErrorKind::Other,
        }
    }
}

#[cfg(test)]
mod tests {
    use embedded_hal::i2c::{Error as _, ErrorKind, NoAcknowledgeSource};

    use super::{Error, check};
    use crate::{Failure, MAX_FAILURE};

    #[test]
    fn every_number_comes_back_and_no_two_errors_share_one() {
        let mut texts = std::collections::BTreeSet::new();
        for number in (-40..0).chain([i32::MIN]) {
            let error = Error::from_number(number);
            assert_eq!(error.number(), number);
            assert_eq!(check(number), Err(error));
            assert!(texts.insert(error.to_string()), "{error}");
            assert_eq!(Failure::from(error).message(), error.to_string(), "longer than {MAX_FAILURE} bytes");
        }
        let unknown = |n: &i32| matches!(Error::from_number(*n), Error::Unknown(_));
        assert_eq!((-40..0).filter(|n| !unknown(n)).count(), 27);
        assert_eq!(check(0), Ok(()));
    }

    #[test]
    fn i2c_kinds_say_what_was_not_acknowledged() {
        let source = |number| match embedded_hal::i2c::Error::kind(&Error::from_number(number)) {
            ErrorKind::NoAcknowledge(source) => Some(source),
            _ => None,
        };
        assert_eq!(source(-22), Some(NoAcknowledgeSource::Address));
        assert_eq!(source(-23), Some(NoAcknowledgeSource::Data));
        assert_eq!(source(-24), Some(NoAcknowledgeSource::Unknown));
        assert_eq!(source(-7), None);
        assert_eq!(ErrorKind::Bus, Error::Bus.kind());
    }
}

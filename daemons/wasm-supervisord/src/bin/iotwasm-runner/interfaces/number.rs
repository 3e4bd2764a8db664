//! The numbers that functions return to guests: one list for every module. Zero is success.

use iotwasm_session::Error;

/// Done.
pub(crate) const OK: i32 = 0;
/// A pointer and a length that do not lie within the guest's memory.
pub(crate) const BAD_POINTER: i32 = -1;
/// An argument out of its range: an unknown flag, a handle that nothing belongs to, a text that is not UTF-8.
pub(crate) const BAD_ARGUMENT: i32 = -2;
/// A name, a value or a message that is too long.
pub(crate) const TOO_LONG: i32 = -3;
/// The guest was asked to leave its loop.
pub(crate) const STOPPING: i32 = -4;
/// The answer does not fit; its length was written all the same.
pub(crate) const BUFFER_TOO_SMALL: i32 = -5;
/// The board has nothing of this name (wasi-gpio: undefined-pin-label).
pub(crate) const NOT_FOUND: i32 = -6;
/// The board has it, but it was not granted (pin-not-allowed).
pub(crate) const NOT_ALLOWED: i32 = -7;
/// It was granted, but not this way (pin-mode-not-allowed).
pub(crate) const MODE_NOT_ALLOWED: i32 = -8;
/// Somebody else has it now (already-in-use).
pub(crate) const ALREADY_IN_USE: i32 = -9;
/// A value of another type, or none of those that were granted.
pub(crate) const BAD_VALUE: i32 = -10;
/// Written, or asked, too often.
pub(crate) const TOO_SOON: i32 = -11;
/// The sensor is not on.
pub(crate) const NOT_ON: i32 = -12;
/// The device is not there.
pub(crate) const GONE: i32 = -13;
/// capd cannot be reached at this moment.
pub(crate) const UNAVAILABLE: i32 = -14;
/// The device, or its driver, failed (hardware-fault).
pub(crate) const HARDWARE_FAULT: i32 = -15;
/// The device cannot do this (pin-mode-not-available).
pub(crate) const NOT_SUPPORTED: i32 = -16;
/// Nothing happened in time.
pub(crate) const TIMED_OUT: i32 = -17;
/// wasi-i2c: bus.
pub(crate) const BUS: i32 = -20;
/// wasi-i2c: arbitration-loss.
pub(crate) const ARBITRATION_LOSS: i32 = -21;
/// wasi-i2c: no-acknowledge(address).
pub(crate) const NO_ACKNOWLEDGE_ADDRESS: i32 = -22;
/// wasi-i2c: no-acknowledge(data).
pub(crate) const NO_ACKNOWLEDGE_DATA: i32 = -23;
/// wasi-i2c: no-acknowledge(unknown).
pub(crate) const NO_ACKNOWLEDGE: i32 = -24;
/// wasi-i2c, wasi-spi: overrun.
pub(crate) const OVERRUN: i32 = -25;
/// wasi-i2c, wasi-spi: other. wasi-spi's mode-fault (-30), frame-format (-31) and chip-select-fault (-32) are reserved:
/// Linux does not tell them apart.
pub(crate) const OTHER: i32 = -26;

/// The number of what capd answered.
pub(super) fn of(err: Error) -> i32 {
    match err {
        Error::NotFound => NOT_FOUND,
        Error::NotAllowed => NOT_ALLOWED,
        Error::ModeNotAllowed => MODE_NOT_ALLOWED,
        Error::AlreadyInUse => ALREADY_IN_USE,
        Error::BadValue => BAD_VALUE,
        Error::TooSoon { .. } => TOO_SOON,
        Error::NotOn => NOT_ON,
        Error::Gone => GONE,
        Error::NotSupported => NOT_SUPPORTED,
        Error::TooLong => TOO_LONG,
        Error::BadRequest => BAD_ARGUMENT,
        Error::HardwareFault => HARDWARE_FAULT,
        Error::Bus => BUS,
        Error::ArbitrationLoss => ARBITRATION_LOSS,
        Error::NoAcknowledgeAddress => NO_ACKNOWLEDGE_ADDRESS,
        Error::NoAcknowledgeData => NO_ACKNOWLEDGE_DATA,
        Error::NoAcknowledge => NO_ACKNOWLEDGE,
        Error::Overrun => OVERRUN,
        Error::Other => OTHER,
    }
}

/// What a function of the guest comes to: done, or the number that says why not.
pub(super) type Outcome<T = ()> = Result<T, i32>;

/// The number of an outcome.
pub(super) fn returned(outcome: Outcome) -> i32 {
    outcome.err().unwrap_or(OK)
}

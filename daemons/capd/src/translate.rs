//! From what a judge or a device says to what a guest is told, and to the one word under which a denial is counted.

use iotwasm_grant::{
    grant::{Output, ValueDenial},
    i2c::I2cDenial,
    spi::SpiDenial,
};
use iotwasm_session::Error;
use rustix::io::Errno;

use crate::devices::Fault;

/// What the guest is told, and under which word it is counted.
pub(crate) struct Verdict {
    pub(crate) error: Error,
    pub(crate) reason: &'static str,
}

const fn verdict(error: Error, reason: &'static str) -> Verdict {
    Verdict { error, reason }
}

pub(crate) fn value(denial: &ValueDenial) -> Verdict {
    match denial {
        ValueDenial::ReadOnly => verdict(Error::ModeNotAllowed, "mode"),
        ValueDenial::WrongKind { .. } | ValueDenial::NotAllowed { .. } => verdict(Error::BadValue, "value"),
    }
}

pub(crate) fn i2c(denial: &I2cDenial) -> Verdict {
    match denial {
        I2cDenial::Transfer { .. } => verdict(Error::ModeNotAllowed, "transfer"),
        I2cDenial::Empty => verdict(Error::BadRequest, "malformed"),
        I2cDenial::TooMany { .. } | I2cDenial::TooLong { .. } => verdict(Error::TooLong, "length"),
        I2cDenial::Shape { .. } | I2cDenial::Register { .. } => verdict(Error::ModeNotAllowed, "register"),
    }
}

pub(crate) fn spi(denial: &SpiDenial) -> Verdict {
    match denial {
        SpiDenial::Transfer { .. } => verdict(Error::ModeNotAllowed, "transfer"),
        SpiDenial::Empty | SpiDenial::BrokenWord { .. } => verdict(Error::BadRequest, "malformed"),
        SpiDenial::TooMany { .. } | SpiDenial::TooLong { .. } => verdict(Error::TooLong, "length"),
    }
}

/// What a device's fault is to a guest.
pub(crate) fn fault(fault: &Fault) -> Error {
    match fault {
        Fault::Gone { .. } | Fault::Ambiguous { .. } => Error::Gone,
        Fault::Busy { .. } => Error::AlreadyInUse,
        Fault::Unsupported { .. } => Error::NotSupported,
        Fault::Io { .. } if fault.errno() == Some(Errno::INVAL) => Error::BadValue,
        Fault::Io { .. } => Error::HardwareFault,
    }
}

/// What an I2C transfer's fault is to a guest: the kernel's fault codes (Documentation/i2c/fault-codes.rst) in the words of
/// wasi-i2c.
pub(crate) fn i2c_fault(of: &Fault) -> Error {
    let Fault::Io { .. } = of else { return fault(of) };
    match of.errno() {
        Some(Errno::NXIO) => Error::NoAcknowledgeAddress,
        Some(Errno::REMOTEIO) => Error::NoAcknowledge,
        Some(Errno::AGAIN) => Error::ArbitrationLoss,
        Some(Errno::IO | Errno::TIMEDOUT | Errno::PROTO) => Error::Bus,
        Some(Errno::OVERFLOW) => Error::Overrun,
        Some(Errno::NODEV) => Error::Gone,
        _ => Error::Other,
    }
}

/// What an actuator's fault is to a guest: in the words of what it drives.
pub(crate) fn output_fault(output: &Output, of: &Fault) -> Error {
    match output {
        Output::Register { .. } => i2c_fault(of),
        Output::Line(_) | Output::File { .. } => fault(of),
    }
}

/// What an SPI transfer's fault is to a guest.
pub(crate) fn spi_fault(of: &Fault) -> Error {
    match of {
        Fault::Io { .. } if of.errno() == Some(Errno::OVERFLOW) => Error::Overrun,
        Fault::Io { .. } => Error::Other,
        other => fault(other),
    }
}

//! The device's peripherals as this daemon uses them: lines, I2C and SPI through character devices, sensors through
//! sysfs. Does what it is told; what may be done was judged before.

pub mod gpio;
pub mod i2c;
pub mod iio;
pub mod spi;

use std::{
    fs::File,
    io,
    path::{Path, PathBuf},
};

use iotwasm_grant::{
    board::{I2cPlace, Line, SpiDevice},
    i2c::Message,
};
use iotwasm_session::{Direction, SpiOperation};
use rustix::io::Errno;

/// Why a device did not do what it should.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// The kernel has no such device, or not any more.
    #[error("{what} is not there")]
    Gone {
        /// In words.
        what: String,
    },
    /// The board file's words fit more than one device.
    #[error("{what} is there more than once; say in the board file which one is meant")]
    Ambiguous {
        /// In words.
        what: String,
    },
    /// Somebody else has it: another process, or a driver of the kernel.
    #[error("{what} is in use")]
    Busy {
        /// In words.
        what: String,
    },
    /// The hardware or its driver cannot do this.
    #[error("{what} cannot do this: {why}")]
    Unsupported {
        /// In words.
        what: String,
        /// What it cannot do.
        why: &'static str,
    },
    /// The kernel refuses.
    #[error("{what} failed")]
    Io {
        /// In words.
        what: String,
        /// The cause.
        #[source]
        err: io::Error,
    },
}

impl Fault {
    /// From an error of the kernel.
    pub(crate) fn of(what: impl Into<String>, err: io::Error) -> Self {
        let what = what.into();
        match Errno::from_io_error(&err) {
            Some(Errno::NOENT | Errno::NODEV | Errno::NXIO) => Self::Gone { what },
            Some(Errno::BUSY) => Self::Busy { what },
            Some(Errno::OPNOTSUPP | Errno::NOTTY) => Self::Unsupported { what, why: "the driver does not offer it" },
            _ => Self::Io { what, err },
        }
    }

    /// The error of the kernel, if it is one.
    #[must_use]
    pub fn errno(&self) -> Option<Errno> {
        match self {
            Self::Io { err, .. } => Errno::from_io_error(err),
            _ => None,
        }
    }
}

/// A leased line.
pub trait LineLease: Send {
    /// The descriptor of the line request, for this line alone.
    fn file(&self) -> &File;

    /// Turns it round, with the board's bias and drive.
    ///
    /// # Errors
    /// The kernel refuses; the line is as it was.
    fn set_direction(&self, direction: Direction) -> Result<(), Fault>;

    /// Queues edges of an input; neither stops it. The line is an input afterwards.
    ///
    /// # Errors
    /// The kernel refuses, or the chip has no interrupts; the line is as it was.
    fn watch(&self, rising: bool, falling: bool) -> Result<(), Fault>;

    /// Sets an output's level.
    ///
    /// # Errors
    /// The kernel refuses.
    fn set(&self, active: bool) -> Result<(), Fault>;
}

/// Lines and buses. Implementations MUST reach exactly the device that is named, MUST refuse one that a driver of the
/// kernel has, and may block for as long as a transfer takes.
pub trait Buses: Send + Sync {
    /// Leases a line: nobody else can, until the lease is dropped and all copies of its descriptor are closed.
    ///
    /// # Errors
    /// It is not there, or leased.
    fn line(&self, line: &Line, direction: Direction) -> Result<Box<dyn LineLease>, Fault>;

    /// Sends the messages of one transaction. Gives what the reads brought, one after the other.
    ///
    /// # Errors
    /// The bus or the device did not take it.
    fn i2c(&self, place: &I2cPlace, messages: &[Message]) -> Result<Vec<u8>, Fault>;

    /// Carries out one transaction. Gives what reads and transfers brought, one after the other.
    ///
    /// # Errors
    /// The bus did not take it.
    fn spi(&self, device: &SpiDevice, operations: &[SpiOperation]) -> Result<Vec<u8>, Fault>;

    /// Closes every device of I2C and SPI that is open and none of these: an adapter whose device is open cannot go, and
    /// what a name means is looked up anew when a device is opened. A transfer under way ends first; MUST NOT wait for it.
    fn keep(&self, needed: &OnBuses);

    /// Whether a line is there.
    ///
    /// # Errors
    /// Why not.
    fn has_line(&self, line: &Line) -> Result<(), Fault>;

    /// Whether an adapter is there, and no driver of the kernel has the address.
    ///
    /// # Errors
    /// Why not.
    fn has_i2c(&self, place: &I2cPlace) -> Result<(), Fault>;

    /// Whether a chip select is there.
    ///
    /// # Errors
    /// Why not.
    fn has_spi(&self, device: &SpiDevice) -> Result<(), Fault>;
}

/// Places on buses.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct OnBuses {
    /// Of I2C devices.
    pub i2c: Vec<I2cPlace>,
    /// SPI devices.
    pub spi: Vec<SpiDevice>,
}

/// The kernel's.
#[derive(Debug)]
pub struct Kernel {
    dev: PathBuf,
    sys: PathBuf,
    i2c: i2c::Open,
    spi: spi::Open,
}

impl Kernel {
    /// Of the device that this runs on.
    #[must_use]
    pub fn new() -> Self {
        Self { dev: "/dev".into(), sys: "/sys".into(), i2c: i2c::Open::default(), spi: spi::Open::default() }
    }
}

impl Default for Kernel {
    fn default() -> Self {
        Self::new()
    }
}

impl Buses for Kernel {
    fn line(&self, line: &Line, direction: Direction) -> Result<Box<dyn LineLease>, Fault> {
        Ok(Box::new(gpio::Lease::take(&self.dev, line, direction)?))
    }

    fn i2c(&self, place: &I2cPlace, messages: &[Message]) -> Result<Vec<u8>, Fault> {
        self.i2c.transfer(&self.dev, &self.sys, place, messages)
    }

    fn spi(&self, device: &SpiDevice, operations: &[SpiOperation]) -> Result<Vec<u8>, Fault> {
        self.spi.transfer(&self.dev, device, operations)
    }

    fn keep(&self, needed: &OnBuses) {
        self.i2c.keep(&needed.i2c);
        self.spi.keep(&self.dev, &needed.spi);
    }

    fn has_line(&self, line: &Line) -> Result<(), Fault> {
        gpio::find(&self.dev, line).map(drop)
    }

    fn has_i2c(&self, place: &I2cPlace) -> Result<(), Fault> {
        i2c::is_free(&self.dev, &self.sys, place)
    }

    fn has_spi(&self, device: &SpiDevice) -> Result<(), Fault> {
        spi::node(&self.dev, device).metadata().map(drop).map_err(|err| Fault::of(spi::words(device), err))
    }
}

/// The text of a small file of sysfs, without its newline.
pub(crate) fn text(path: &Path) -> io::Result<String> {
    let mut text = std::fs::read_to_string(path)?;
    text.truncate(text.trim_end().len());
    Ok(text)
}

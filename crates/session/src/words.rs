//! Requests, answers, errors, and how they are written (postcard 1).

use std::{fmt, marker::PhantomData};

use serde::{
    Deserialize, Deserializer, Serialize,
    de::{Error as _, SeqAccess, Visitor},
};

/// Longest packet either way, in bytes: the longest SPI transaction (64 KiB) or the longest table, with their numbers.
pub const MAX_PACKET: usize = 160 * 1024;
/// Longest name that is passed on, in bytes. Granted names are at most 64; a pair of them has a dot between.
pub const MAX_NAME: usize = 129;
/// Longest text of a value, in bytes.
pub const MAX_VALUE: usize = 64;
/// Most operations of a transaction. A packet with more is no request.
pub const MAX_OPERATIONS: usize = 128;

/// What a runner asks. Indices are places in the [`Table`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Request {
    /// Begin: answered with [`Reply::Claimed`] and, beside it, one descriptor: the activity file. Its byte at a sensor's
    /// index is 1 while the runner reads that sensor through a descriptor, and 0 otherwise.
    ///
    /// Waits until sessions whose runner has gone are closed, so that a release that follows another finds its lines free.
    Claim,
    /// The guest asked for something that its grant does not have. Counted as a denial and answered with the error that
    /// the guest gets: [`Error::NotFound`] if the board has no such thing, else [`Error::NotAllowed`], or for
    /// [`Why::Mode`] [`Error::ModeNotAllowed`].
    Denied {
        /// Of which kind.
        kind: Kind,
        /// Its name, for a sensor's value `sensor.value`. At most [`MAX_NAME`] bytes.
        name: String,
        /// What was wrong.
        why: Why,
    },
    /// Use a sensor. Answered with [`Reply::On`] and a descriptor for each value that may be read.
    TurnOn {
        /// Which.
        sensor: u16,
    },
    /// Use it no more. Answered with [`Reply::Done`].
    TurnOff {
        /// Which.
        sensor: u16,
    },
    /// Ask for [`Reply::State`].
    State {
        /// Which.
        sensor: u16,
    },
    /// Write a value of a sensor that is on.
    Config {
        /// Which.
        sensor: u16,
        /// Which of its channels.
        channel: u16,
        /// As text; at most [`MAX_VALUE`] bytes.
        value: String,
    },
    /// Lease a line. Answered with [`Reply::Done`] and one descriptor: the line request.
    OpenLine {
        /// Which.
        line: u16,
        /// Which way.
        direction: Direction,
    },
    /// Turn a leased line round; one that was granted both ways.
    SetDirection {
        /// Which.
        line: u16,
        /// Which way.
        direction: Direction,
    },
    /// Have edges of a leased input queued on its descriptor; neither stops it.
    Watch {
        /// Which.
        line: u16,
        /// From inactive to active.
        rising: bool,
        /// From active to inactive.
        falling: bool,
    },
    /// End a lease.
    CloseLine {
        /// Which.
        line: u16,
    },
    /// Talk to an I2C device: one transaction. Answered with [`Reply::Bytes`].
    I2c {
        /// Which.
        device: u16,
        /// In this order; at most [`MAX_OPERATIONS`].
        #[serde(deserialize_with = "few")]
        operations: Vec<I2cOperation>,
    },
    /// Talk to an SPI device: one transaction. Answered with [`Reply::Bytes`].
    Spi {
        /// Which.
        device: u16,
        /// In this order; at most [`MAX_OPERATIONS`].
        #[serde(deserialize_with = "few")]
        operations: Vec<SpiOperation>,
    },
    /// Write an actuator.
    Actuate {
        /// Which.
        actuator: u16,
        /// As text; at most [`MAX_VALUE`] bytes.
        value: String,
    },
}

/// Kinds of things, by the manifest's tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Kind {
    /// `sensors`
    Sensor,
    /// `gpio`
    Gpio,
    /// `i2c`
    I2c,
    /// `spi`
    Spi,
    /// `actuators`
    Actuator,
}

/// What is wrong with something that a guest asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Why {
    /// The grant has no such name.
    Name,
    /// The grant has it, but not to be used like this: a line the other way, a value that may only be written.
    Mode,
}

/// Which way a line is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Direction {
    /// As an input.
    In,
    /// As an output, with this level at first: active, inactive, or as it stands.
    Out(Option<bool>),
}

/// One operation of an I2C transaction.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum I2cOperation {
    /// So many bytes from the device.
    Read(u32),
    /// These bytes to the device.
    Write(Vec<u8>),
}

/// One operation of an SPI transaction.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum SpiOperation {
    /// So many bytes from the device; zeros go out.
    Read(u32),
    /// These bytes to the device; what comes in is dropped.
    Write(Vec<u8>),
    /// Both at once: these bytes out, as many in.
    Transfer(Vec<u8>),
    /// So many nanoseconds of nothing, with the chip selected.
    DelayNs(u32),
}

/// What capd answers.
pub type Answer = Result<Reply, Error>;

/// What capd answers when it did what was asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reply {
    /// What was granted.
    Claimed(Table),
    /// Done, with nothing to say.
    Done,
    /// The sensor is on. Beside it a descriptor for each of these channels, in this order.
    On {
        /// Which channels may be read.
        readable: Vec<u16>,
    },
    /// What a sensor is doing.
    State(SensorState),
    /// What the reads (and, on SPI, the transfers) of a transaction brought, one after the other.
    Bytes(Vec<u8>),
}

/// What a sensor is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum SensorState {
    /// Nobody uses it, or it is not there.
    Stopped,
    /// On.
    Alive,
    /// On, and being read or set at this moment.
    Working,
    /// On, and suspended by the kernel until it is needed.
    Sleeping,
}

/// Why capd did not do what was asked. The I2C and SPI errors are those of wasi-i2c and wasi-spi.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum Error {
    /// The board has no such thing.
    #[error("there is no such thing")]
    NotFound,
    /// It was not granted.
    #[error("it was not granted")]
    NotAllowed,
    /// It was granted, but not this way.
    #[error("it was not granted this way")]
    ModeNotAllowed,
    /// Somebody else has it now.
    #[error("it is in use")]
    AlreadyInUse,
    /// Not a value of its kind, or none that was granted.
    #[error("the value is not allowed")]
    BadValue,
    /// Written too often.
    #[error("too many writes; the next may come in {wait_ms} ms")]
    TooSoon {
        /// When the next may pass, in milliseconds from now.
        wait_ms: u32,
    },
    /// The sensor is not on, or the line not leased.
    #[error("it is not on")]
    NotOn,
    /// The device is not there.
    #[error("the device is not there")]
    Gone,
    /// The hardware, or its driver, cannot do this.
    #[error("the device cannot do this")]
    NotSupported,
    /// Longer than the board allows.
    #[error("it is too long")]
    TooLong,
    /// Nothing to transfer, or a broken word.
    #[error("it is not well formed")]
    BadRequest,
    /// The hardware failed.
    #[error("the hardware failed")]
    HardwareFault,
    /// I2C: a bus error.
    #[error("bus error")]
    Bus,
    /// I2C: arbitration was lost.
    #[error("arbitration lost")]
    ArbitrationLoss,
    /// I2C: nobody acknowledged the address.
    #[error("no acknowledge of the address")]
    NoAcknowledgeAddress,
    /// I2C: the device did not acknowledge the data.
    #[error("no acknowledge of the data")]
    NoAcknowledgeData,
    /// I2C: something was not acknowledged.
    #[error("no acknowledge")]
    NoAcknowledge,
    /// I2C, SPI: a receive buffer was overrun.
    #[error("overrun")]
    Overrun,
    /// I2C, SPI: something else.
    #[error("another error of the bus")]
    Other,
}

/// What was granted. A place in a list is what a [`Request`] means by an index.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Table {
    /// Sensors.
    pub sensors: Vec<Sensor>,
    /// Lines.
    pub lines: Vec<Line>,
    /// I2C devices.
    pub i2c: Vec<Device>,
    /// SPI devices.
    pub spi: Vec<Device>,
    /// Actuators, by name.
    pub actuators: Vec<String>,
}

/// A sensor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sensor {
    /// Its name.
    pub name: String,
    /// What was granted of it, capabilities first.
    pub channels: Vec<Channel>,
}

/// One value of a sensor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Channel {
    /// Its name.
    pub name: String,
    /// A capability; else an attribute.
    pub capability: bool,
    /// May be read.
    pub read: bool,
    /// May be written.
    pub write: bool,
    /// What its values are.
    pub kind: ValueKind,
    /// Their unit; empty for none.
    pub unit: String,
}

/// What values are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ValueKind {
    /// Whole numbers.
    Integer,
    /// Numbers.
    Decimal,
    /// Words.
    Text,
}

/// A line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    /// Its name.
    pub name: String,
    /// May be an input.
    pub input: bool,
    /// May be an output.
    pub output: bool,
}

/// An I2C or SPI device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Device {
    /// Its name.
    pub name: String,
    /// Longest message (I2C) or transaction (SPI), in bytes.
    pub max_length: u32,
    /// SPI: clock polarity and phase, 0 to 3. 0 for I2C.
    pub mode: u8,
    /// SPI: clock in hertz. 0 for I2C.
    pub speed_hz: u32,
}

/// Writes a message. `None` if it would be longer than [`MAX_PACKET`].
#[must_use]
pub fn encode<T: Serialize>(message: &T) -> Option<Vec<u8>> {
    postcard::to_allocvec(message).ok().filter(|packet| packet.len() <= MAX_PACKET)
}

/// Reads a message; `None` if it is none, or something follows it.
#[must_use]
pub fn decode<'a, T: Deserialize<'a>>(packet: &'a [u8]) -> Option<T> {
    if packet.len() > MAX_PACKET {
        return None;
    }
    postcard::take_from_bytes(packet).ok().filter(|(_, rest)| rest.is_empty()).map(|(message, _)| message)
}

/// A list that is at most [`MAX_OPERATIONS`] long: an operation takes two bytes of a packet and many times that of memory.
fn few<'de, D: Deserializer<'de>, T: Deserialize<'de>>(from: D) -> Result<Vec<T>, D::Error> {
    struct Few<T>(PhantomData<T>);

    impl<'de, T: Deserialize<'de>> Visitor<'de> for Few<T> {
        type Value = Vec<T>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "at most {MAX_OPERATIONS} operations")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Vec<T>, A::Error> {
            let mut list = Vec::with_capacity(seq.size_hint().unwrap_or(0).min(MAX_OPERATIONS));
            while let Some(item) = seq.next_element()? {
                if list.len() == MAX_OPERATIONS {
                    return Err(A::Error::invalid_length(MAX_OPERATIONS + 1, &self));
                }
                list.push(item);
            }
            Ok(list)
        }
    }

    from.deserialize_seq(Few(PhantomData))
}

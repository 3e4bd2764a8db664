//! The board file: what exists on this board, by logical name, and the limits that hold for everyone.
//!
//! Parsing is total; an unknown key is an error that names it. What fits together is checked in `board_check`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::access::{Access, Direction, I2cTransfer, SpiTransfer};
use crate::error::{ParseError, from_toml};
use crate::name::Name;
use crate::value::{Allowed, Kind, Value};

/// Longest message of an I2C device that says nothing else, in bytes: what SMBus has.
const DEFAULT_I2C_LENGTH: u32 = 32;
/// Longest transfer of an SPI device that says nothing else, in bytes: spidev's own default.
const DEFAULT_SPI_LENGTH: u32 = 4096;

/// What a board has. Read one with [`Board::parse`] or [`crate::load::board`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Board {
    /// The board's name, as payloads name it in `boards`: 1 to 64 of A-Z, a-z, 0-9, '-', '_' and '.'. Required.
    pub name: String,
    /// One line for people. Default empty; at most 256 bytes.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// Sensors: IIO devices of the kernel. Default none; at most 64.
    #[serde(default)]
    pub sensors: BTreeMap<Name, Sensor>,
    /// GPIO lines. Default none; at most 256.
    #[serde(default)]
    pub gpio: BTreeMap<Name, Line>,
    /// I2C devices that payloads drive themselves. Default none; at most 64.
    #[serde(default)]
    pub i2c: BTreeMap<Name, I2cDevice>,
    /// SPI devices. Default none; at most 64.
    #[serde(default)]
    pub spi: BTreeMap<Name, SpiDevice>,
    /// What moves or heats something: reached by judged, counted writes alone. Default none; at most 64.
    #[serde(default)]
    pub actuators: BTreeMap<Name, Actuator>,
}

/// A sensor: one IIO device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sensor {
    /// One line for people. Default empty; at most 256 bytes.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// The device's `name` attribute in sysfs. Required; 1 to 64 printable ASCII characters.
    pub iio: String,
    /// Where it sits: needed when several devices have this name. Default: the one device with this name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<Parent>,
    /// What it senses: temperature, humidity, … Default none; at most 32.
    #[serde(default)]
    pub capabilities: BTreeMap<Name, Channel>,
    /// How it is set: oversampling, sampling frequency, … Default none; at most 32. `capabilities`, `attributes` and
    /// `state` are the runtime's own names and cannot be used here or above.
    #[serde(default)]
    pub attributes: BTreeMap<Name, Channel>,
}

/// The bus that a sensor sits on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Parent {
    /// `{ i2c = { bus = …, address = … } }`
    I2c(I2cPlace),
    /// `{ spi = { bus = …, chip_select = … } }`
    Spi(SpiPlace),
}

/// A device's place on an I2C bus.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct I2cPlace {
    /// Which adapter. Required.
    pub bus: I2cBus,
    /// 7-bit address, 0x08 to 0x77. Required.
    pub address: u8,
}

/// A device's place on an SPI bus.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SpiPlace {
    /// Number of the bus. Required.
    pub bus: u16,
    /// Number of the chip select. Required.
    pub chip_select: u16,
}

/// An I2C adapter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged, expecting = "the adapter's name in sysfs, or its number")]
pub enum I2cBus {
    /// Its number: `1` is `/dev/i2c-1`. Only where the device tree fixes the numbers.
    Number(u16),
    /// Its `name` attribute in sysfs: 1 to 64 printable ASCII characters. The same after every boot.
    Name(String),
}

impl fmt::Display for I2cBus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => number.fmt(f),
            Self::Name(name) => write!(f, "{name:?}"),
        }
    }
}

/// A capability or an attribute of a sensor: one file of its device's folder in sysfs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Channel {
    /// The file below the device's folder, such as `in_temp_input`. Required.
    pub file: String,
    /// Unit of the file's values, such as `m°C`. Default none (a count, a ratio); at most 32 bytes.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub unit: String,
    /// What its values are: `"integer"`, `"decimal"` or `"text"`. Required.
    pub kind: Kind,
    /// `"read"`, `"write"` or `"read-write"`. Default read.
    #[serde(default = "read_only")]
    pub access: Access,
    /// What may be written: a list or a range. Required where it may be written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub values: Option<Allowed>,
}

fn read_only() -> Access {
    Access::Read
}

/// A GPIO line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Line {
    /// The chip's label, as gpioinfo shows it. Required; 1 to 64 printable ASCII characters.
    pub chip: String,
    /// The line's name in the kernel, or its offset on the chip. Required; one way for all lines of a chip.
    pub line: LineId,
    /// `"in"`, `"out"` or `"both"`. Required.
    pub direction: Direction,
    /// True if a low level means 1. Default false.
    #[serde(default)]
    pub active_low: bool,
    /// `"as-is"`, `"disabled"`, `"pull-up"` or `"pull-down"`. Default as-is.
    #[serde(default)]
    pub bias: Bias,
    /// `"push-pull"`, `"open-drain"` or `"open-source"`. Default push-pull.
    #[serde(default)]
    pub drive: Drive,
}

/// A line of a chip.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged, expecting = "the line's name in the kernel, or its offset")]
pub enum LineId {
    /// Its offset on the chip.
    Offset(u32),
    /// Its name: 1 to 32 printable ASCII characters.
    Name(String),
}

/// The bias of a line.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Bias {
    /// As the firmware left it.
    #[default]
    AsIs,
    /// None.
    Disabled,
    /// To the supply.
    PullUp,
    /// To ground.
    PullDown,
}

/// How an output drives its line.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Drive {
    /// Both levels.
    #[default]
    PushPull,
    /// Low alone.
    OpenDrain,
    /// High alone.
    OpenSource,
}

/// An I2C device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct I2cDevice {
    /// Which adapter: its name in sysfs or its number. Required.
    pub bus: I2cBus,
    /// 7-bit address, 0x08 to 0x77. Required.
    pub address: u8,
    /// Of `"read"`, `"write"`, `"write_read"`. Required, at least one. Without `write`, what goes out in a `write_read` is
    /// a register's address and no more.
    pub transfers: BTreeSet<I2cTransfer>,
    /// Longest message in bytes, a register's address included. Default 32; 1 to 8192.
    #[serde(default = "default_i2c_length")]
    pub max_length: u32,
    /// Registers that may be reached. Default: no rule, every byte is the payload's own business. With rules, a plain
    /// `read` is impossible, because it does not say which register.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub registers: Option<Vec<RegisterRange>>,
    /// Bytes of a register's address, the most significant first. Default 1; 1 or 2.
    #[serde(default = "one")]
    pub register_address_bytes: u8,
    /// Bytes of a register's value. Default 1; 1 to 4.
    #[serde(default = "one")]
    pub register_value_bytes: u8,
    /// True if the device goes on to the next register when a write is longer than one value. Default false, and then a
    /// write is one value: some devices (the BME280) take what follows as another register's address.
    #[serde(default)]
    pub write_increments: bool,
}

fn default_i2c_length() -> u32 {
    DEFAULT_I2C_LENGTH
}

fn one() -> u8 {
    1
}

/// Registers that follow each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RegisterRange {
    /// First register. Required.
    pub from: u16,
    /// Last register, itself included. Required.
    pub to: u16,
    /// `"read"`, `"write"` or `"read-write"`. Required.
    pub access: Access,
}

/// An SPI device. Its configuration is the board's, never the payload's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SpiDevice {
    /// Number of the bus. Required.
    pub bus: u16,
    /// Number of the chip select. Required.
    pub chip_select: u16,
    /// Clock polarity and phase, 0 to 3. Default 0.
    #[serde(default)]
    pub mode: u8,
    /// Clock in hertz. Required; 1 000 to 100 000 000.
    pub speed_hz: u32,
    /// Bits of a word: 8, 16 or 32. Default 8.
    #[serde(default = "eight")]
    pub bits_per_word: u8,
    /// Of `"read"`, `"write"`, `"transfer"`. Required, at least one.
    pub transfers: BTreeSet<SpiTransfer>,
    /// Longest transaction in bytes, all its operations together. Default 4096; 1 to 65 536.
    #[serde(default = "default_spi_length")]
    pub max_length: u32,
}

fn eight() -> u8 {
    8
}

fn default_spi_length() -> u32 {
    DEFAULT_SPI_LENGTH
}

/// An actuator: something that a payload writes to one judged value at a time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Actuator {
    /// One line for people. Default empty; at most 256 bytes.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// What is written: `{ line = "…" }`, `{ attribute = { sensor = "…", name = "…" } }` or
    /// `{ register = { device = "…", register = … } }`. Required. From then on nobody can write it in another way.
    pub drives: Target,
    /// Writes in a minute in the long run, by all payloads together: no minute sees more than these and `burst`. Required;
    /// 1 to 60 000.
    pub writes_per_minute: u32,
    /// Writes that may follow each other at once. Default 1; 1 to `writes_per_minute`.
    #[serde(default = "one_write")]
    pub burst: u32,
    /// What may be written: a list or a range. Required.
    pub values: Allowed,
    /// What is written when a session ends, for whatever reason; one of `values`. Default: it is left as it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub safe: Option<Value>,
}

fn one_write() -> u32 {
    1
}

/// What an actuator writes to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Target {
    /// A line of `gpio` that may be an output; its values are 0 and 1.
    Line(Name),
    /// A writable capability or attribute of a sensor.
    Attribute(AttributeTarget),
    /// A register of a device of `i2c` that has register rules, none of which lets payloads write it.
    Register(RegisterTarget),
}

/// A capability or attribute of a sensor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AttributeTarget {
    /// Which sensor. Required.
    pub sensor: Name,
    /// Its capability or attribute. Required.
    pub name: Name,
}

/// A register of an I2C device; as wide as the device's `register_value_bytes`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RegisterTarget {
    /// Which device. Required.
    pub device: Name,
    /// Which register. Required.
    pub register: u16,
    /// Order of its bytes: `"big-endian"` or `"little-endian"`. Default big-endian.
    #[serde(default)]
    pub order: ByteOrder,
}

/// Order of a register's bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ByteOrder {
    /// The most significant first.
    #[default]
    BigEndian,
    /// The least significant first.
    LittleEndian,
}

impl Board {
    /// Parses and checks a board file.
    ///
    /// # Errors
    /// Names the key.
    pub fn parse(bytes: &[u8]) -> Result<Self, ParseError> {
        let board: Self = from_toml(bytes)?;
        crate::board_check::check(&board)?;
        Ok(board)
    }

    /// The actuator that this line, attribute or register belongs to.
    pub(crate) fn actuator_at(&self, matches: impl Fn(&Target) -> bool) -> Option<&Name> {
        self.actuators.iter().find(|(_, actuator)| matches(&actuator.drives)).map(|(name, _)| name)
    }

    /// The actuator that drives this line.
    #[must_use]
    pub fn actuator_of_line(&self, line: &Name) -> Option<&Name> {
        self.actuator_at(|target| matches!(target, Target::Line(name) if name == line))
    }

    /// The actuator that drives this capability or attribute.
    #[must_use]
    pub fn actuator_of_attribute(&self, sensor: &Name, name: &Name) -> Option<&Name> {
        self.actuator_at(|target| matches!(target, Target::Attribute(at) if at.sensor == *sensor && at.name == *name))
    }
}

impl Sensor {
    /// A capability or attribute.
    #[must_use]
    pub fn channel(&self, name: &Name) -> Option<&Channel> {
        self.capabilities.get(name).or_else(|| self.attributes.get(name))
    }
}

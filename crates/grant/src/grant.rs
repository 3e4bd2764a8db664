//! What was granted, as the daemon that holds the devices acts on it. Made by [`crate::grant()`] alone: who holds one knows
//! that it was asked for, that its signer may grant it, and that the board has it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::Serialize;

use crate::access::{Access, Direction, I2cTransfer, SpiTransfer};
use crate::board::{Bias, ByteOrder, Channel, Drive, I2cDevice, I2cPlace, Line, LineId, Parent, SpiDevice};
use crate::bucket::Rate;
use crate::name::Name;
use crate::value::{Allowed, Kind, Value};

/// Everything that one payload may do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Grant {
    pub(crate) sensors: BTreeMap<Name, SensorGrant>,
    pub(crate) gpio: BTreeMap<Name, LineGrant>,
    pub(crate) i2c: BTreeMap<Name, I2cGrant>,
    pub(crate) spi: BTreeMap<Name, SpiGrant>,
    pub(crate) actuators: BTreeMap<Name, ActuatorGrant>,
}

impl Grant {
    /// Sensors, by name.
    #[must_use]
    pub fn sensors(&self) -> &BTreeMap<Name, SensorGrant> {
        &self.sensors
    }

    /// Lines, by name.
    #[must_use]
    pub fn gpio(&self) -> &BTreeMap<Name, LineGrant> {
        &self.gpio
    }

    /// I2C devices, by name.
    #[must_use]
    pub fn i2c(&self) -> &BTreeMap<Name, I2cGrant> {
        &self.i2c
    }

    /// SPI devices, by name.
    #[must_use]
    pub fn spi(&self) -> &BTreeMap<Name, SpiGrant> {
        &self.spi
    }

    /// Actuators, by name.
    #[must_use]
    pub fn actuators(&self) -> &BTreeMap<Name, ActuatorGrant> {
        &self.actuators
    }

    /// True if nothing was asked for.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.sensors.is_empty()
            && self.gpio.is_empty()
            && self.i2c.is_empty()
            && self.spi.is_empty()
            && self.actuators.is_empty()
    }
}

/// What may be done with a sensor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SensorGrant {
    pub(crate) iio: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) parent: Option<Parent>,
    pub(crate) capabilities: BTreeMap<Name, ChannelGrant>,
    pub(crate) attributes: BTreeMap<Name, ChannelGrant>,
}

impl SensorGrant {
    /// The device's `name` attribute in sysfs.
    #[must_use]
    pub fn iio(&self) -> &str {
        &self.iio
    }

    /// Where the device sits, if the board says so.
    #[must_use]
    pub fn parent(&self) -> Option<&Parent> {
        self.parent.as_ref()
    }

    /// The capabilities that were granted, and no others.
    #[must_use]
    pub fn capabilities(&self) -> &BTreeMap<Name, ChannelGrant> {
        &self.capabilities
    }

    /// The attributes that were granted, and no others.
    #[must_use]
    pub fn attributes(&self) -> &BTreeMap<Name, ChannelGrant> {
        &self.attributes
    }

    /// A capability or an attribute: they have no name in common.
    #[must_use]
    pub fn channel(&self, name: &str) -> Option<&ChannelGrant> {
        self.capabilities.get(name).or_else(|| self.attributes.get(name))
    }
}

/// What may be done with one value of a sensor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct ChannelGrant {
    /// The board's, with the access that was granted.
    pub(crate) channel: Channel,
}

impl ChannelGrant {
    /// The file below the device's folder in sysfs.
    #[must_use]
    pub fn file(&self) -> &str {
        &self.channel.file
    }

    /// Unit of its values; empty for none.
    #[must_use]
    pub fn unit(&self) -> &str {
        &self.channel.unit
    }

    /// What its values are.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.channel.kind
    }

    /// What was granted.
    #[must_use]
    pub fn access(&self) -> Access {
        self.channel.access
    }

    /// What may be written; `None` if nothing may.
    #[must_use]
    pub fn values(&self) -> Option<&Allowed> {
        self.channel.values.as_ref()
    }

    /// Judges a write.
    ///
    /// # Errors
    /// It may not be written, or not with this value.
    pub fn judge_write(&self, value: &Value) -> Result<(), ValueDenial> {
        match &self.channel.values {
            Some(allowed) if self.channel.access.writes() => judge(value, self.channel.kind, allowed),
            _ => Err(ValueDenial::ReadOnly),
        }
    }
}

/// Why a value may not be written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ValueDenial {
    /// It may be read alone.
    #[error("it may only be read")]
    ReadOnly,
    /// Of another kind.
    #[error("{value} is not {kind}")]
    WrongKind {
        /// What was to be written.
        value: Value,
        /// What is taken.
        kind: Kind,
    },
    /// Not among what was granted.
    #[error("{value} is not allowed; {allowed} is")]
    NotAllowed {
        /// What was to be written.
        value: Value,
        /// What was granted.
        allowed: Allowed,
    },
}

fn judge(value: &Value, kind: Kind, allowed: &Allowed) -> Result<(), ValueDenial> {
    if !value.is(kind) {
        return Err(ValueDenial::WrongKind { value: value.clone(), kind });
    }
    if !allowed.contains(value) {
        return Err(ValueDenial::NotAllowed { value: value.clone(), allowed: allowed.clone() });
    }
    Ok(())
}

/// A line, and which way it may be used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct LineGrant {
    /// The board's, with the direction that was granted.
    pub(crate) line: Line,
}

impl LineGrant {
    /// The board's line, with the direction that was granted.
    #[must_use]
    pub fn wiring(&self) -> &Line {
        &self.line
    }

    /// The chip's label.
    #[must_use]
    pub fn chip(&self) -> &str {
        &self.line.chip
    }

    /// Which line of the chip.
    #[must_use]
    pub fn line(&self) -> &LineId {
        &self.line.line
    }

    /// What was granted.
    #[must_use]
    pub fn direction(&self) -> Direction {
        self.line.direction
    }

    /// True if a low level means 1.
    #[must_use]
    pub fn active_low(&self) -> bool {
        self.line.active_low
    }

    /// Its bias, fixed by the board.
    #[must_use]
    pub fn bias(&self) -> Bias {
        self.line.bias
    }

    /// How it is driven, fixed by the board.
    #[must_use]
    pub fn drive(&self) -> Drive {
        self.line.drive
    }
}

/// An I2C device, and how it may be talked to; [`crate::i2c`] has its judge.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct I2cGrant {
    /// The board's, with the transfers that were granted.
    pub(crate) device: I2cDevice,
}

impl I2cGrant {
    /// Where it sits.
    #[must_use]
    pub fn place(&self) -> I2cPlace {
        I2cPlace { bus: self.device.bus.clone(), address: self.device.address }
    }

    /// What was granted.
    #[must_use]
    pub fn transfers(&self) -> &BTreeSet<I2cTransfer> {
        &self.device.transfers
    }

    /// Longest message, in bytes.
    #[must_use]
    pub fn max_length(&self) -> u32 {
        self.device.max_length
    }
}

/// An SPI device, and how it may be talked to; [`crate::spi`] has its judge.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct SpiGrant {
    /// The board's, with the transfers that were granted.
    pub(crate) device: SpiDevice,
}

impl SpiGrant {
    /// Its bus, chip select, mode, clock and word, all fixed by the board, with the transfers that were granted.
    #[must_use]
    pub fn device(&self) -> &SpiDevice {
        &self.device
    }
}

/// An actuator, and what may be written to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ActuatorGrant {
    pub(crate) output: Output,
    pub(crate) kind: Kind,
    pub(crate) values: Allowed,
    pub(crate) rate: Rate,
    pub(crate) board_rate: Rate,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) safe: Option<Value>,
}

/// What an actuator writes to, with all that is needed to write it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Output {
    /// A line, set to 0 or 1.
    Line(Line),
    /// A file of a sensor's device.
    File {
        /// The device's `name` attribute in sysfs.
        iio: String,
        /// Where the device sits, if the board says so.
        #[serde(skip_serializing_if = "Option::is_none")]
        parent: Option<Parent>,
        /// The file below the device's folder.
        file: String,
    },
    /// A register of an I2C device.
    Register {
        /// Where it sits.
        place: I2cPlace,
        /// Which register.
        register: u16,
        /// Bytes of the register's address.
        address_bytes: u8,
        /// Bytes of its value.
        value_bytes: u8,
        /// Order of these.
        order: ByteOrder,
    },
}

impl ActuatorGrant {
    /// What it writes to.
    #[must_use]
    pub fn output(&self) -> &Output {
        &self.output
    }

    /// What its values are.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// What may be written.
    #[must_use]
    pub fn values(&self) -> &Allowed {
        &self.values
    }

    /// How often this payload may write.
    #[must_use]
    pub fn rate(&self) -> Rate {
        self.rate
    }

    /// How often all payloads together may.
    #[must_use]
    pub fn board_rate(&self) -> Rate {
        self.board_rate
    }

    /// What is to be written when the session ends; it costs nothing of the rate.
    #[must_use]
    pub fn safe(&self) -> Option<&Value> {
        self.safe.as_ref()
    }

    /// Judges a value. How often is the business of a [`crate::TokenBucket`].
    ///
    /// # Errors
    /// Not this value.
    pub fn judge_write(&self, value: &Value) -> Result<(), ValueDenial> {
        judge(value, self.kind, &self.values)
    }
}

impl Output {
    /// The one message that writes a value to a register, its address first; `None` if this is no register or the value
    /// does not fit in it.
    #[must_use]
    pub fn register_message(&self, value: &Value) -> Option<Vec<u8>> {
        let Self::Register { register, address_bytes, value_bytes, order, .. } = self else { return None };
        let value = u64::try_from(value.as_i64()?).ok()?;
        let width = usize::from(*value_bytes).min(8);
        let bytes = value.to_be_bytes();
        let (high, low) = bytes.split_at(8 - width);
        if high.iter().any(|byte| *byte != 0) {
            return None;
        }
        let mut message = register.to_be_bytes()[2 - usize::from(*address_bytes).min(2)..].to_vec();
        match order {
            ByteOrder::BigEndian => message.extend(low.iter()),
            ByteOrder::LittleEndian => message.extend(low.iter().rev()),
        }
        Some(message)
    }
}

/// Everything, one line each, in the words of a manifest.
impl fmt::Display for Grant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, sensor) in &self.sensors {
            let words: Vec<String> = sensor
                .capabilities
                .iter()
                .chain(&sensor.attributes)
                .map(|(name, channel)| match channel.values() {
                    Some(values) => format!("{name} ({}, {values})", channel.access()),
                    None => format!("{name} ({})", channel.access()),
                })
                .collect();
            writeln!(f, "sensor {name}: {}", words.join(", "))?;
        }
        for (name, line) in &self.gpio {
            writeln!(f, "line {name}: {}", line.direction())?;
        }
        let words = |items: Vec<String>| items.join(", ");
        for (name, device) in &self.i2c {
            writeln!(f, "I2C device {name}: {}", words(device.transfers().iter().map(ToString::to_string).collect()))?;
        }
        for (name, spi) in &self.spi {
            let transfers: &BTreeSet<SpiTransfer> = &spi.device.transfers;
            writeln!(f, "SPI device {name}: {}", words(transfers.iter().map(ToString::to_string).collect()))?;
        }
        for (name, actuator) in &self.actuators {
            let Rate { writes_per_minute, burst } = actuator.rate;
            write!(f, "actuator {name}: {}, {writes_per_minute} writes in a minute, {burst} at once", actuator.values)?;
            match &actuator.safe {
                Some(safe) => writeln!(f, "; {safe} when the session ends")?,
                None => writeln!(f)?,
            }
        }
        Ok(())
    }
}

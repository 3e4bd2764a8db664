//! What a payload asks for: the `[capabilities]` table of its manifest, by the names of the board file.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::access::{Access, Direction, I2cTransfer, SpiTransfer};
use crate::error::{Invalid, ParseError, at_most, from_toml};
use crate::name::Name;
use crate::value::Allowed;

/// Most sensors that a payload may ask for.
pub const MAX_SENSORS: usize = 32;
/// Most capabilities, and most attributes, of one sensor.
pub const MAX_CHANNELS: usize = 32;
/// Most lines: what one line request of the kernel holds.
pub const MAX_LINES: usize = 64;
/// Most I2C devices, and most SPI devices.
pub const MAX_DEVICES: usize = 16;
/// Most actuators.
pub const MAX_ACTUATORS: usize = 32;

/// The capabilities table. Default: nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Request {
    /// Sensors. Default none; at most [`MAX_SENSORS`].
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub sensors: BTreeMap<Name, SensorRequest>,
    /// Lines: `"in"`, `"out"` or `"both"`. Default none; at most [`MAX_LINES`].
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub gpio: BTreeMap<Name, Direction>,
    /// I2C devices: of `"read"`, `"write"`, `"write_read"`. Default none; at most [`MAX_DEVICES`].
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub i2c: BTreeMap<Name, BTreeSet<I2cTransfer>>,
    /// SPI devices: of `"read"`, `"write"`, `"transfer"`. Default none; at most [`MAX_DEVICES`].
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub spi: BTreeMap<Name, BTreeSet<SpiTransfer>>,
    /// Actuators. Default none; at most [`MAX_ACTUATORS`].
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub actuators: BTreeMap<Name, ActuatorRequest>,
}

/// What is asked of a sensor: at least one capability or attribute.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SensorRequest {
    /// Capabilities: `"read"`, `"write"` or `"read-write"`. Default none; at most [`MAX_CHANNELS`].
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub capabilities: BTreeMap<Name, Access>,
    /// Attributes, in the same words. Default none; at most [`MAX_CHANNELS`].
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub attributes: BTreeMap<Name, Access>,
}

/// What is asked of an actuator.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ActuatorRequest {
    /// Most writes in a minute. Required; 1 to 60 000.
    pub writes_per_minute: u32,
    /// What it will write: a list, `[0, 1]`, or a range, `{ min = 0, max = 100 }`. Required.
    pub values: Allowed,
}

impl Request {
    /// Parses and checks a capabilities table by itself.
    ///
    /// # Errors
    /// Names the key.
    pub fn parse(bytes: &[u8]) -> Result<Self, ParseError> {
        let request: Self = from_toml(bytes)?;
        request.check()?;
        Ok(request)
    }

    /// Nothing is asked for.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Checks what the grammar leaves open, for a request that was read as part of something else.
    ///
    /// # Errors
    /// Names the key below `capabilities`.
    pub fn check(&self) -> Result<(), Invalid> {
        at_most("sensors", self.sensors.len(), MAX_SENSORS)?;
        at_most("gpio", self.gpio.len(), MAX_LINES)?;
        at_most("i2c", self.i2c.len(), MAX_DEVICES)?;
        at_most("spi", self.spi.len(), MAX_DEVICES)?;
        at_most("actuators", self.actuators.len(), MAX_ACTUATORS)?;
        for (name, sensor) in &self.sensors {
            sensor.check(&format!("sensors.{name}"))?;
        }
        for (name, direction) in &self.gpio {
            if *direction == Direction::None {
                return Err(Invalid::new(
                    format!("gpio.{name}"),
                    "ask for \"in\", \"out\" or \"both\", or leave it out",
                ));
            }
        }
        for (name, transfers) in &self.i2c {
            if transfers.is_empty() {
                return Err(Invalid::new(
                    format!("i2c.{name}"),
                    "ask for at least one of \"read\", \"write\", \"write_read\"",
                ));
            }
        }
        for (name, transfers) in &self.spi {
            if transfers.is_empty() {
                return Err(Invalid::new(
                    format!("spi.{name}"),
                    "ask for at least one of \"read\", \"write\", \"transfer\"",
                ));
            }
        }
        for (name, actuator) in &self.actuators {
            let rate = actuator.writes_per_minute;
            if !(1..=60_000).contains(&rate) {
                let rule = format!("is {rate}; it must be from 1 to 60000 (writes in a minute)");
                return Err(Invalid::new(format!("actuators.{name}.writes_per_minute"), rule));
            }
        }
        Ok(())
    }
}

impl SensorRequest {
    fn check(&self, key: &str) -> Result<(), Invalid> {
        if self.capabilities.is_empty() && self.attributes.is_empty() {
            return Err(Invalid::new(key, "ask for at least one capability or attribute, or leave the sensor out"));
        }
        for (table, channels) in [("capabilities", &self.capabilities), ("attributes", &self.attributes)] {
            at_most(&format!("{key}.{table}"), channels.len(), MAX_CHANNELS)?;
            for (name, access) in channels {
                let key = format!("{key}.{table}.{name}");
                if crate::board_check::UNIVERSAL.contains(&name.as_str()) {
                    return Err(Invalid::new(key, "every sensor that is granted has this; it need not be asked for"));
                }
                if *access == Access::None {
                    return Err(Invalid::new(key, "ask for \"read\", \"write\" or \"read-write\", or leave it out"));
                }
            }
        }
        Ok(())
    }
}

//! A tier: the ceiling of one signing role, over the names of the board file. Default: nothing.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::access::{Access, Direction, I2cTransfer, SpiTransfer};
use crate::error::{Invalid, ParseError, at_most, from_toml};
use crate::name::{Name, Pattern};
use crate::value::Allowed;

/// Most entries of one kind in a tier.
const MAX_ENTRIES: usize = 256;

/// What one signing role may ever grant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Tier {
    role: Name,
    /// `None` without a file: such a role may grant nothing.
    ceiling: Option<Ceiling>,
}

/// The content of a tier's file. Every table is by name; `"*"` stands for the names that have no line of their own, and a
/// line of its own stands in for `"*"` altogether, so that an exception can only take away what it does not say.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Ceiling {
    /// One line for people. Default empty; at most 256 bytes.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// Sensors. Default none; at most 256 entries, as everywhere below.
    pub sensors: BTreeMap<Pattern, SensorCeiling>,
    /// Lines: `"in"`, `"out"`, `"both"` or `"none"`. Default none.
    pub gpio: BTreeMap<Pattern, Direction>,
    /// I2C devices: of `"read"`, `"write"`, `"write_read"`. Default none.
    pub i2c: BTreeMap<Pattern, BTreeSet<I2cTransfer>>,
    /// SPI devices: of `"read"`, `"write"`, `"transfer"`. Default none.
    pub spi: BTreeMap<Pattern, BTreeSet<SpiTransfer>>,
    /// Actuators. Default none.
    pub actuators: BTreeMap<Pattern, ActuatorCeiling>,
}

/// What a tier may grant of a sensor.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SensorCeiling {
    /// Capabilities: `"read"`, `"write"`, `"read-write"` or `"none"`. Default none.
    pub capabilities: BTreeMap<Pattern, Access>,
    /// Attributes, in the same words. Default none.
    pub attributes: BTreeMap<Pattern, Access>,
}

/// What a tier may grant of an actuator.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ActuatorCeiling {
    /// Most writes in a minute for one payload. Required; 0 (none at all) to 60 000.
    pub writes_per_minute: u32,
    /// What may be written: a list or a range. Default: what the board allows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub values: Option<Allowed>,
}

impl Tier {
    /// The tier of a role that has no file: it may grant nothing.
    #[must_use]
    pub fn absent(role: Name) -> Self {
        Self { role, ceiling: None }
    }

    /// Parses and checks a role's file.
    ///
    /// # Errors
    /// Names the key.
    pub fn parse(role: Name, bytes: &[u8]) -> Result<Self, ParseError> {
        let ceiling: Ceiling = from_toml(bytes)?;
        ceiling.check()?;
        Ok(Self { role, ceiling: Some(ceiling) })
    }

    /// Whose tier it is.
    #[must_use]
    pub fn role(&self) -> &Name {
        &self.role
    }

    /// False if the role has no file.
    #[must_use]
    pub fn exists(&self) -> bool {
        self.ceiling.is_some()
    }

    /// The content of its file.
    #[must_use]
    pub fn ceiling(&self) -> Option<&Ceiling> {
        self.ceiling.as_ref()
    }

    /// What it may grant of a capability.
    #[must_use]
    pub fn capability(&self, sensor: &Name, name: &Name) -> Access {
        self.sensor(sensor).and_then(|ceiling| lookup(&ceiling.capabilities, name)).copied().unwrap_or_default()
    }

    /// What it may grant of an attribute.
    #[must_use]
    pub fn attribute(&self, sensor: &Name, name: &Name) -> Access {
        self.sensor(sensor).and_then(|ceiling| lookup(&ceiling.attributes, name)).copied().unwrap_or_default()
    }

    /// What it may grant of a line.
    #[must_use]
    pub fn line(&self, name: &Name) -> Direction {
        self.ceiling.as_ref().and_then(|ceiling| lookup(&ceiling.gpio, name)).copied().unwrap_or_default()
    }

    /// What it may grant of an I2C device.
    #[must_use]
    pub fn i2c(&self, name: &Name) -> BTreeSet<I2cTransfer> {
        self.ceiling.as_ref().and_then(|ceiling| lookup(&ceiling.i2c, name)).cloned().unwrap_or_default()
    }

    /// What it may grant of an SPI device.
    #[must_use]
    pub fn spi(&self, name: &Name) -> BTreeSet<SpiTransfer> {
        self.ceiling.as_ref().and_then(|ceiling| lookup(&ceiling.spi, name)).cloned().unwrap_or_default()
    }

    /// What it may grant of an actuator; `None` for nothing.
    #[must_use]
    pub fn actuator(&self, name: &Name) -> Option<&ActuatorCeiling> {
        let ceiling = self.ceiling.as_ref().and_then(|ceiling| lookup(&ceiling.actuators, name));
        ceiling.filter(|ceiling| ceiling.writes_per_minute > 0)
    }

    fn sensor(&self, name: &Name) -> Option<&SensorCeiling> {
        self.ceiling.as_ref().and_then(|ceiling| lookup(&ceiling.sensors, name))
    }
}

fn lookup<'a, T>(table: &'a BTreeMap<Pattern, T>, name: &Name) -> Option<&'a T> {
    table.get(&Pattern::Exactly(name.clone())).or_else(|| table.get(&Pattern::Any))
}

impl Ceiling {
    fn check(&self) -> Result<(), Invalid> {
        if self.description.len() > 256 || self.description.chars().any(char::is_control) {
            return Err(Invalid::new("description", "use at most 256 bytes on one line"));
        }
        at_most("sensors", self.sensors.len(), MAX_ENTRIES)?;
        at_most("gpio", self.gpio.len(), MAX_ENTRIES)?;
        at_most("i2c", self.i2c.len(), MAX_ENTRIES)?;
        at_most("spi", self.spi.len(), MAX_ENTRIES)?;
        at_most("actuators", self.actuators.len(), MAX_ENTRIES)?;
        for (name, sensor) in &self.sensors {
            at_most(&format!("sensors.{name}.capabilities"), sensor.capabilities.len(), MAX_ENTRIES)?;
            at_most(&format!("sensors.{name}.attributes"), sensor.attributes.len(), MAX_ENTRIES)?;
        }
        for (name, actuator) in &self.actuators {
            if actuator.writes_per_minute > 60_000 {
                let key = format!("actuators.{name}.writes_per_minute");
                let rule =
                    format!("is {}; it must be from 0 to 60000 (writes in a minute)", actuator.writes_per_minute);
                return Err(Invalid::new(key, rule));
            }
        }
        Ok(())
    }
}

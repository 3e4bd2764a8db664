//! Sensors that a test plays.

use super::{Call, fill, number, with};
use crate::Error;
use crate::sensors::MAX_VALUE;

/// A sensor. What it has can be changed with [`set_sensor`].
#[derive(Debug, Clone, Default)]
pub struct Sensor {
    channels: Vec<Channel>,
    on: bool,
}

#[derive(Debug, Clone)]
struct Channel {
    name: String,
    unit: String,
    value: String,
    capability: bool,
    /// `None` for one that may only be read; empty for one that takes any value.
    values: Option<Vec<String>>,
}

impl Sensor {
    /// One without anything.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// With a capability that reads as this text. An empty unit is none.
    #[must_use]
    pub fn capability(self, name: &str, unit: &str, value: &str) -> Self {
        self.with(name, unit, value, true, None)
    }

    /// With an attribute that may only be read.
    #[must_use]
    pub fn attribute(self, name: &str, unit: &str, value: &str) -> Self {
        self.with(name, unit, value, false, None)
    }

    /// With an attribute that may be read and set to these values; to any if there are none.
    #[must_use]
    pub fn setting(self, name: &str, unit: &str, value: &str, values: &[&str]) -> Self {
        let values = values.iter().map(|&value| value.to_owned()).collect();
        self.with(name, unit, value, false, Some(values))
    }

    fn with(mut self, name: &str, unit: &str, value: &str, capability: bool, values: Option<Vec<String>>) -> Self {
        let (name, unit, value) = (name.to_owned(), unit.to_owned(), value.to_owned());
        self.channels.push(Channel { name, unit, value, capability, values });
        self
    }

    fn channel(&mut self, name: &str) -> Result<&mut Channel, Error> {
        self.channels.iter_mut().find(|channel| channel.name == name).ok_or(Error::NotFound)
    }

    fn list(&self, capabilities: bool) -> String {
        let lines: Vec<_> = self.channels.iter().filter(|c| c.capability == capabilities).map(Channel::line).collect();
        lines.join("\n")
    }
}

impl Channel {
    fn line(&self) -> String {
        let access = if self.values.is_some() { "read-write" } else { "read" };
        let line = format!("{} {access} {}", self.name, self.unit);
        line.trim_end().to_owned()
    }
}

/// Adds a sensor, or replaces the one of this name.
pub fn add_sensor(name: &str, sensor: Sensor) {
    with(|world| world.sensors.insert(name.to_owned(), sensor));
}

/// What a value of a sensor reads as from now on.
///
/// # Panics
/// There is no such sensor, or it has no such value.
pub fn set_sensor(name: &str, what: &str, value: &str) {
    with(|world| {
        let sensor = world.sensors.get_mut(name).unwrap_or_else(|| panic!("the test has added no sensor {name}"));
        let channel = sensor.channel(what).unwrap_or_else(|_| panic!("the sensor {name} has no {what}"));
        channel.value = value.to_owned();
    });
}

/// What a value of a sensor is, for looking at what a payload has set.
#[must_use]
pub fn sensor_value(name: &str, what: &str) -> Option<String> {
    with(|world| world.sensors.get_mut(name)?.channel(what).ok().map(|channel| channel.value.clone()))
}

fn on_sensor<T>(name: &str, work: impl FnOnce(&mut Sensor) -> Result<T, Error>) -> Result<T, Error> {
    with(|world| {
        world.failure(name)?;
        work(world.sensors.get_mut(name).ok_or(Error::NotFound)?)
    })
}

pub(crate) fn get_sensors(buffer: &mut [u8], length: &mut u32) -> i32 {
    let names: Vec<_> = with(|world| world.sensors.keys().cloned().collect());
    number(fill(&names.join("\n"), buffer, length))
}

pub(crate) fn turn_on(name: &str) -> i32 {
    number(on_sensor(name, |sensor| {
        sensor.on = true;
        Ok(())
    }))
}

pub(crate) fn turn_off(name: &str) -> i32 {
    number(on_sensor(name, |sensor| {
        sensor.on = false;
        Ok(())
    }))
}

pub(crate) fn config(name: &str, attribute: &str, value: &str) -> i32 {
    let result = on_sensor(name, |sensor| {
        if value.len() > MAX_VALUE {
            return Err(Error::TooLong);
        }
        if matches!(attribute, "capabilities" | "attributes" | "state") {
            return Err(Error::ModeNotAllowed);
        }
        let on = sensor.on;
        let channel = sensor.channel(attribute)?;
        let values = channel.values.as_ref().ok_or(Error::ModeNotAllowed)?;
        if !on {
            return Err(Error::NotOn);
        }
        if !values.is_empty() && !values.iter().any(|one| one == value) {
            return Err(Error::BadValue);
        }
        channel.value = value.to_owned();
        Ok(())
    });
    if result.is_ok() {
        super::record(Call::Config {
            sensor: name.to_owned(),
            attribute: attribute.to_owned(),
            value: value.to_owned(),
        });
    }
    number(result)
}

pub(crate) fn read(name: &str, what: &str, buffer: &mut [u8], length: &mut u32) -> i32 {
    number(on_sensor(name, |sensor| {
        let value = match what {
            "capabilities" => sensor.list(true),
            "attributes" => sensor.list(false),
            "state" => if sensor.on { "Alive" } else { "Stopped" }.to_owned(),
            _ => {
                let on = sensor.on;
                let value = sensor.channel(what)?.value.clone();
                if !on {
                    return Err(Error::NotOn);
                }
                value
            }
        };
        fill(&value, buffer, length)
    }))
}

//! What exists: the board file's things with what the kernel says of them now.

use std::sync::Arc;

use iotwasm_api::capabilities::{Kind, Thing};
use iotwasm_grant::{
    Access, Board,
    board::{Channel, I2cPlace, Target},
};
use iotwasm_kit::report;

use crate::{
    actuators::Actuators,
    devices::{Buses, Fault},
    registry::Registry,
    sensors::Sensors,
};

/// Whether the board has a thing of this kind and name.
#[must_use]
pub fn has(board: &Board, kind: Kind, name: &str) -> bool {
    match kind {
        Kind::Sensors => board.sensors.contains_key(name),
        Kind::Gpio => board.gpio.contains_key(name),
        Kind::I2c => board.i2c.contains_key(name),
        Kind::Spi => board.spi.contains_key(name),
        Kind::Actuators => board.actuators.contains_key(name),
    }
}

/// Whether a sensor of the board has this capability or attribute.
#[must_use]
pub fn has_value(board: &Board, sensor: &str, value: &str) -> bool {
    board.sensors.get(sensor).is_some_and(|s| s.capabilities.contains_key(value) || s.attributes.contains_key(value))
}

/// Names of everything, by kind.
pub fn names(board: &Board) -> impl Iterator<Item = (Kind, String)> {
    let of = |kind: Kind, names: Vec<String>| names.into_iter().map(move |name| (kind, name));
    of(Kind::Sensors, board.sensors.keys().map(ToString::to_string).collect())
        .chain(of(Kind::Gpio, board.gpio.keys().map(ToString::to_string).collect()))
        .chain(of(Kind::I2c, board.i2c.keys().map(ToString::to_string).collect()))
        .chain(of(Kind::Spi, board.spi.keys().map(ToString::to_string).collect()))
        .chain(of(Kind::Actuators, board.actuators.keys().map(ToString::to_string).collect()))
}

/// Looks at things.
pub struct Inventory {
    /// What the board has.
    pub board: Arc<Board>,
    /// Its buses.
    pub buses: Arc<dyn Buses>,
    /// Its sensors.
    pub sensors: Arc<Sensors>,
    /// Its actuators.
    pub actuators: Arc<Actuators>,
    /// Who uses them.
    pub registry: Arc<Registry>,
}

impl Inventory {
    /// Everything that the board has. Asks the kernel about each, so it takes some milliseconds.
    #[must_use]
    pub fn things(&self) -> Vec<Thing> {
        let leases = self.registry.leases();
        let users = |kind: Kind, name: &str| {
            let capability = format!("{}.{name}", kind.as_str());
            leases.iter().filter(|(_, lease)| *lease == capability).map(|(payload, _)| payload.clone()).collect()
        };
        let thing = |kind, name: &str, description: &str, details, found: Result<(), Fault>, users| Thing {
            kind,
            name: name.to_owned(),
            description: description.to_owned(),
            details,
            present: found.is_ok(),
            message: found.err().map(|err| report::chain(&err)).unwrap_or_default(),
            value: if kind == Kind::Actuators { self.actuators.value(name) } else { String::new() },
            users,
        };
        let mut things = Vec::new();
        for (name, sensor) in &self.board.sensors {
            let found = self.sensors.find(name.as_str()).map(drop);
            let channels = sensor.capabilities.iter().chain(&sensor.attributes);
            let details: Vec<String> = channels.map(|(name, channel)| channel_words(name.as_str(), channel)).collect();
            let users = self.sensors.users(name.as_str());
            things.push(thing(Kind::Sensors, name.as_str(), &sensor.description, details.join(", "), found, users));
        }
        for (name, line) in &self.board.gpio {
            let found = self.buses.has_line(line);
            let details = format!("line, {}", line.direction);
            things.push(thing(Kind::Gpio, name.as_str(), "", details, found, users(Kind::Gpio, name.as_str())));
        }
        for (name, device) in &self.board.i2c {
            let place = I2cPlace { bus: device.bus.clone(), address: device.address };
            let transfers: Vec<String> = device.transfers.iter().map(ToString::to_string).collect();
            let details = format!("address {:#04x} on {}: {}", device.address, device.bus, transfers.join(", "));
            things.push(thing(Kind::I2c, name.as_str(), "", details, self.buses.has_i2c(&place), Vec::new()));
        }
        for (name, device) in &self.board.spi {
            let transfers: Vec<String> = device.transfers.iter().map(ToString::to_string).collect();
            let details = format!(
                "bus {}, chip select {}, mode {}, {} Hz: {}",
                device.bus,
                device.chip_select,
                device.mode,
                device.speed_hz,
                transfers.join(", ")
            );
            things.push(thing(Kind::Spi, name.as_str(), "", details, self.buses.has_spi(device), Vec::new()));
        }
        for (name, actuator) in &self.board.actuators {
            let found =
                match &actuator.drives {
                    Target::Line(line) => self.board.gpio.get(line).map(|line| self.buses.has_line(line)),
                    Target::Attribute(at) => Some(self.sensors.find(at.sensor.as_str()).map(drop)),
                    Target::Register(at) => self.board.i2c.get(&at.device).map(|device| {
                        self.buses.has_i2c(&I2cPlace { bus: device.bus.clone(), address: device.address })
                    }),
                };
            let found = found.unwrap_or_else(|| Err(Fault::Gone { what: "what it drives".into() }));
            let safe = actuator.safe.as_ref().map(|safe| format!(", safe at {safe}")).unwrap_or_default();
            let details = format!(
                "takes {}, {} writes in a minute, {} at once{safe}",
                actuator.values, actuator.writes_per_minute, actuator.burst
            );
            things.push(thing(Kind::Actuators, name.as_str(), &actuator.description, details, found, Vec::new()));
        }
        things
    }
}

fn channel_words(name: &str, channel: &Channel) -> String {
    let unit = if channel.unit.is_empty() { String::new() } else { format!(" in {}", channel.unit) };
    match (&channel.values, channel.access) {
        (Some(values), access) if access.writes() => format!("{name}{unit} ({access}, {values})"),
        (_, Access::Read) => format!("{name}{unit}"),
        (_, access) => format!("{name}{unit} ({access})"),
    }
}

//! The decision: everything that was asked for, or nothing and the complete list of what is too much.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;

use crate::access::{Access, list};
use crate::board::{Actuator, Board, Channel, Target};
use crate::bucket::Rate;
use crate::grant::{ActuatorGrant, ChannelGrant, Grant, I2cGrant, LineGrant, Output, SensorGrant, SpiGrant};
use crate::name::Name;
use crate::refusal::{Allows, Refusal, Side};
use crate::request::{ActuatorRequest, Request};
use crate::tier::Tier;
use crate::value::{Allowed, Kind};

/// Grants a request: all of it, or nothing. It is never narrowed.
///
/// # Errors
/// Everything that is too much, each with who refuses it and what would be allowed; never empty.
pub fn grant(request: &Request, tier: &Tier, board: &Board) -> Result<Grant, Vec<Refusal>> {
    let mut refusals = beyond_tier(request, tier);
    let (grant, beyond) = on_board(request, board);
    refusals.extend(beyond);
    if refusals.is_empty() {
        return Ok(grant);
    }
    // What tier and board say about one thing stands together.
    refusals.sort_by(|a, b| a.key.cmp(&b.key));
    Err(refusals)
}

/// Everything in a request that a board refuses, whoever signs it; empty if nothing.
#[must_use]
pub fn beyond_board(request: &Request, board: &Board) -> Vec<Refusal> {
    on_board(request, board).1
}

/// Everything in a request that a tier refuses, whatever the board; empty if nothing.
#[must_use]
pub fn beyond_tier(request: &Request, tier: &Tier) -> Vec<Refusal> {
    let mut desk = Desk::new(Side::Tier(tier.role().clone()), !tier.exists());
    for (sensor, asked) in &request.sensors {
        for (name, access) in &asked.capabilities {
            let allowed = tier.capability(sensor, name);
            desk.words(format!("sensors.{sensor}.capabilities.{name}"), access, &allowed, allowed.covers(*access));
        }
        for (name, access) in &asked.attributes {
            let allowed = tier.attribute(sensor, name);
            desk.words(format!("sensors.{sensor}.attributes.{name}"), access, &allowed, allowed.covers(*access));
        }
    }
    for (name, direction) in &request.gpio {
        let allowed = tier.line(name);
        desk.words(format!("gpio.{name}"), direction, &allowed, allowed.covers(*direction));
    }
    for (name, transfers) in &request.i2c {
        desk.transfers(format!("i2c.{name}"), transfers, &tier.i2c(name));
    }
    for (name, transfers) in &request.spi {
        desk.transfers(format!("spi.{name}"), transfers, &tier.spi(name));
    }
    for (name, asked) in &request.actuators {
        let key = format!("actuators.{name}");
        match tier.actuator(name) {
            None => desk.refuse(key, table(asked), Allows::Nothing),
            Some(ceiling) => {
                desk.rate(&key, asked.writes_per_minute, ceiling.writes_per_minute);
                if let Some(values) = ceiling.values.as_ref().filter(|values| !values.covers(&asked.values)) {
                    desk.refuse(format!("{key}.values"), asked.values.to_string(), Allows::Only(values.to_string()));
                }
            }
        }
    }
    desk.refusals
}

/// What a board has of a request, and everything that it refuses. The former is a grant only if the latter is empty.
fn on_board(request: &Request, board: &Board) -> (Grant, Vec<Refusal>) {
    let mut desk = Desk::new(Side::Board(board.name.clone()), false);
    let mut grant = Grant {
        sensors: BTreeMap::new(),
        gpio: BTreeMap::new(),
        i2c: BTreeMap::new(),
        spi: BTreeMap::new(),
        actuators: BTreeMap::new(),
    };
    for (name, asked) in &request.sensors {
        let key = format!("sensors.{name}");
        let Some(sensor) = board.sensors.get(name) else {
            let names: Vec<String> = asked.capabilities.keys().chain(asked.attributes.keys()).map(quoted).collect();
            desk.refuse(key, format!("[{}]", names.join(", ")), missing(&board.sensors));
            continue;
        };
        let guard = |channel: &Name| board.actuator_of_attribute(name, channel);
        let capabilities =
            desk.channels(&format!("{key}.capabilities"), &asked.capabilities, &sensor.capabilities, guard);
        let attributes = desk.channels(&format!("{key}.attributes"), &asked.attributes, &sensor.attributes, guard);
        let granted = SensorGrant { iio: sensor.iio.clone(), parent: sensor.parent.clone(), capabilities, attributes };
        grant.sensors.insert(name.clone(), granted);
    }
    for (name, direction) in &request.gpio {
        let key = format!("gpio.{name}");
        let Some(line) = board.gpio.get(name) else {
            desk.refuse(key, quoted(direction), missing(&board.gpio));
            continue;
        };
        // Even as an input: to ask the kernel for it would take it away from the actuator.
        if let Some(actuator) = board.actuator_of_line(name) {
            desk.refuse(key, quoted(direction), Allows::AsActuator(actuator.clone()));
            continue;
        }
        desk.words(key, direction, &line.direction, line.direction.covers(*direction));
        let mut line = line.clone();
        line.direction = *direction;
        grant.gpio.insert(name.clone(), LineGrant { line });
    }
    for (name, transfers) in &request.i2c {
        let key = format!("i2c.{name}");
        let Some(device) = board.i2c.get(name) else {
            desk.refuse(key, list(transfers), missing(&board.i2c));
            continue;
        };
        desk.transfers(key, transfers, &device.transfers);
        let mut device = device.clone();
        device.transfers.clone_from(transfers);
        grant.i2c.insert(name.clone(), I2cGrant { device });
    }
    for (name, transfers) in &request.spi {
        let key = format!("spi.{name}");
        let Some(device) = board.spi.get(name) else {
            desk.refuse(key, list(transfers), missing(&board.spi));
            continue;
        };
        desk.transfers(key, transfers, &device.transfers);
        let mut device = device.clone();
        device.transfers.clone_from(transfers);
        grant.spi.insert(name.clone(), SpiGrant { device });
    }
    for (name, asked) in &request.actuators {
        let key = format!("actuators.{name}");
        let Some((actuator, (output, kind))) =
            board.actuators.get(name).and_then(|actuator| Some((actuator, output(board, actuator)?)))
        else {
            desk.refuse(key, table(asked), missing(&board.actuators));
            continue;
        };
        desk.rate(&key, asked.writes_per_minute, actuator.writes_per_minute);
        if !asked.values.is(kind) || !actuator.values.covers(&asked.values) {
            let allowed = values_in_words(kind, &actuator.values);
            desk.refuse(format!("{key}.values"), asked.values.to_string(), Allows::Only(allowed));
        }
        let granted = ActuatorGrant {
            output,
            kind,
            values: asked.values.clone(),
            rate: Rate {
                writes_per_minute: asked.writes_per_minute,
                burst: actuator.burst.min(asked.writes_per_minute),
            },
            board_rate: Rate { writes_per_minute: actuator.writes_per_minute, burst: actuator.burst },
            safe: actuator.safe.clone(),
        };
        grant.actuators.insert(name.clone(), granted);
    }
    (grant, desk.refusals)
}

/// All that a board lets anyone do with an actuator; `None` if it has none of this name.
#[must_use]
pub fn actuator_of(board: &Board, name: &Name) -> Option<ActuatorGrant> {
    let actuator = board.actuators.get(name)?;
    let (output, kind) = output(board, actuator)?;
    let rate = Rate { writes_per_minute: actuator.writes_per_minute, burst: actuator.burst };
    let (values, safe) = (actuator.values.clone(), actuator.safe.clone());
    Some(ActuatorGrant { output, kind, values, rate, board_rate: rate, safe })
}

/// What an actuator writes to and the kind of its values; `None` if it leads nowhere, which a parsed board's never does.
fn output(board: &Board, actuator: &Actuator) -> Option<(Output, Kind)> {
    match &actuator.drives {
        Target::Line(name) => Some((Output::Line(board.gpio.get(name)?.clone()), Kind::Integer)),
        Target::Attribute(at) => {
            let sensor = board.sensors.get(&at.sensor)?;
            let channel = sensor.channel(&at.name)?;
            let output =
                Output::File { iio: sensor.iio.clone(), parent: sensor.parent.clone(), file: channel.file.clone() };
            Some((output, channel.kind))
        }
        Target::Register(at) => {
            let device = board.i2c.get(&at.device)?;
            let output = Output::Register {
                place: crate::board::I2cPlace { bus: device.bus.clone(), address: device.address },
                register: at.register,
                address_bytes: device.register_address_bytes,
                value_bytes: device.register_value_bytes,
                order: at.order,
            };
            Some((output, Kind::Integer))
        }
    }
}

fn quoted(word: impl Display) -> String {
    format!("\"{word}\"")
}

fn table(asked: &ActuatorRequest) -> String {
    format!("{{ writes_per_minute = {}, values = {} }}", asked.writes_per_minute, asked.values)
}

fn values_in_words(kind: Kind, values: &Allowed) -> String {
    match (kind, values) {
        (Kind::Integer, Allowed::Range(_)) => format!("whole numbers in {values}"),
        _ => values.to_string(),
    }
}

fn missing<T>(table: &BTreeMap<Name, T>) -> Allows {
    Allows::Missing { has: table.keys().map(ToString::to_string).collect() }
}

/// Where the refusals of one side are collected.
struct Desk {
    by: Side,
    /// The role has no tier: then that is what every refusal says.
    no_tier: bool,
    refusals: Vec<Refusal>,
}

impl Desk {
    fn new(by: Side, no_tier: bool) -> Self {
        Self { by, no_tier, refusals: Vec::new() }
    }

    fn refuse(&mut self, key: String, asked: String, allows: Allows) {
        let allows = if self.no_tier { Allows::NoTier } else { allows };
        self.refusals.push(Refusal { key: format!("capabilities.{key}"), asked, by: self.by.clone(), allows });
    }

    fn words<T: Display + Default + PartialEq>(&mut self, key: String, asked: &T, allowed: &T, covered: bool) {
        if !covered {
            let allows = if *allowed == T::default() { Allows::Nothing } else { Allows::Only(quoted(allowed)) };
            self.refuse(key, quoted(asked), allows);
        }
    }

    fn transfers<T: Display + Ord>(&mut self, key: String, asked: &BTreeSet<T>, allowed: &BTreeSet<T>) {
        if !asked.is_subset(allowed) {
            let allows = if allowed.is_empty() { Allows::Nothing } else { Allows::Only(list(allowed)) };
            self.refuse(key, list(asked), allows);
        }
    }

    fn rate(&mut self, key: &str, asked: u32, allowed: u32) {
        if asked > allowed {
            self.refuse(
                format!("{key}.writes_per_minute"),
                asked.to_string(),
                Allows::Only(format!("at most {allowed}")),
            );
        }
    }

    fn channels<'a>(
        &mut self,
        key: &str,
        asked: &BTreeMap<Name, Access>,
        board: &BTreeMap<Name, Channel>,
        actuator: impl Fn(&Name) -> Option<&'a Name>,
    ) -> BTreeMap<Name, ChannelGrant> {
        let mut granted = BTreeMap::new();
        for (name, access) in asked {
            let key = format!("{key}.{name}");
            let Some(channel) = board.get(name) else {
                self.refuse(key, quoted(access), missing(board));
                continue;
            };
            if let Some(actuator) = actuator(name).filter(|_| access.writes()) {
                self.refuse(key, quoted(access), Allows::AsActuator(actuator.clone()));
                continue;
            }
            self.words(key, access, &channel.access, channel.access.covers(*access));
            let values = channel.values.clone().filter(|_| access.writes());
            granted
                .insert(name.clone(), ChannelGrant { channel: Channel { access: *access, values, ..channel.clone() } });
        }
        granted
    }
}

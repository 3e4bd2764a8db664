//! What a board file must be beyond its grammar: numbers within their bounds, names that lead somewhere, and no second way
//! to what an actuator guards.

use std::collections::BTreeMap;
use std::fmt::Display;

use crate::access::{Access, Direction};
use crate::board::{
    Actuator, Board, Channel, I2cBus, I2cDevice, I2cPlace, Line, LineId, Parent, Sensor, SpiDevice, SpiPlace, Target,
};
use crate::error::{Invalid, at_most};
use crate::name::Name;
use crate::value::{Allowed, Kind, Number, Value};

const MAX_LINES: usize = 256;
const MAX_OTHERS: usize = 64;
const MAX_CHANNELS: usize = 32;
const MAX_REGISTER_RANGES: usize = 64;
/// Longest file name of a sensor's channel, in bytes.
const MAX_FILE: usize = 128;
/// Names of a sensor that the runtime answers itself.
pub(crate) const UNIVERSAL: [&str; 3] = ["capabilities", "attributes", "state"];

type Checked = Result<(), Invalid>;

fn bad(key: impl Into<String>, rule: impl Into<String>) -> Checked {
    Err(Invalid::new(key, rule))
}

fn within<T: PartialOrd + Display>(key: String, value: T, min: T, max: T, unit: &str) -> Checked {
    if value < min || value > max {
        return bad(key, format!("is {value}; it must be from {min} to {max} ({unit})"));
    }
    Ok(())
}

fn label(key: String, text: &str, most: usize) -> Checked {
    let plain = text.bytes().all(|b| b == b' ' || b.is_ascii_graphic());
    if !(1..=most).contains(&text.len()) || !plain {
        return bad(key, format!("use 1 to {most} printable ASCII characters"));
    }
    Ok(())
}

fn prose(key: String, text: &str, most: usize) -> Checked {
    if text.len() > most || text.chars().any(char::is_control) {
        return bad(key, format!("use at most {most} bytes on one line"));
    }
    Ok(())
}

/// Refuses a board that breaks a rule, and names the key.
pub(crate) fn check(board: &Board) -> Checked {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    if !(1..=64).contains(&board.name.len()) || !board.name.bytes().all(plain) {
        return bad("name", "use 1 to 64 of A-Z, a-z, 0-9, '-', '_' and '.'");
    }
    prose("description".into(), &board.description, 256)?;
    at_most("sensors", board.sensors.len(), MAX_OTHERS)?;
    at_most("gpio", board.gpio.len(), MAX_LINES)?;
    at_most("i2c", board.i2c.len(), MAX_OTHERS)?;
    at_most("spi", board.spi.len(), MAX_OTHERS)?;
    at_most("actuators", board.actuators.len(), MAX_OTHERS)?;
    board.sensors.iter().try_for_each(|(name, sensor)| check_sensor(&format!("sensors.{name}"), sensor))?;
    board.gpio.iter().try_for_each(|(name, line)| check_line(&format!("gpio.{name}"), line))?;
    board.i2c.iter().try_for_each(|(name, device)| check_i2c(&format!("i2c.{name}"), device))?;
    board.spi.iter().try_for_each(|(name, device)| check_spi(&format!("spi.{name}"), device))?;
    check_one_name_each(board)?;
    board.actuators.iter().try_for_each(|(name, actuator)| check_actuator(board, name, actuator))
}

fn check_sensor(key: &str, sensor: &Sensor) -> Checked {
    prose(format!("{key}.description"), &sensor.description, 256)?;
    label(format!("{key}.iio"), &sensor.iio, 64)?;
    if let Some(Parent::I2c(place)) = &sensor.parent {
        check_place(&format!("{key}.parent.i2c"), &place.bus, place.address)?;
    }
    at_most(&format!("{key}.capabilities"), sensor.capabilities.len(), MAX_CHANNELS)?;
    at_most(&format!("{key}.attributes"), sensor.attributes.len(), MAX_CHANNELS)?;
    let mut files = BTreeMap::new();
    for (table, channels) in [("capabilities", &sensor.capabilities), ("attributes", &sensor.attributes)] {
        for (name, channel) in channels {
            let key = format!("{key}.{table}.{name}");
            if UNIVERSAL.contains(&name.as_str()) {
                return bad(key, "every sensor has this from the runtime; use another name");
            }
            if table == "attributes" && sensor.capabilities.contains_key(name) {
                return bad(key, "a capability of this sensor has this name; payloads could not tell them apart");
            }
            check_channel(&key, channel)?;
            if let Some(other) = files.insert(&channel.file, name) {
                return bad(format!("{key}.file"), format!("{other} is this file already; give each file one name"));
            }
        }
    }
    Ok(())
}

fn check_channel(key: &str, channel: &Channel) -> Checked {
    let part_ok = |part: &str| {
        let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
        !part.is_empty() && !part.starts_with('.') && part.bytes().all(plain)
    };
    let parts = channel.file.split('/').count();
    if channel.file.len() > MAX_FILE || parts > 2 || !channel.file.split('/').all(part_ok) {
        return bad(format!("{key}.file"), "name a file below the device's folder, such as in_temp_input");
    }
    prose(format!("{key}.unit"), &channel.unit, 32)?;
    if channel.access == Access::None {
        return bad(format!("{key}.access"), "write \"read\", \"write\" or \"read-write\"");
    }
    match &channel.values {
        None if channel.access.writes() => {
            bad(format!("{key}.values"), "say what may be written, as a list or a range")
        }
        Some(_) if !channel.access.writes() => {
            bad(format!("{key}.values"), "it is never written; leave this out, or set access")
        }
        Some(values) if !values.is(channel.kind) => {
            bad(format!("{key}.values"), format!("each value must be {}", channel.kind))
        }
        _ => Ok(()),
    }
}

fn check_line(key: &str, line: &Line) -> Checked {
    label(format!("{key}.chip"), &line.chip, 64)?;
    if let LineId::Name(name) = &line.line {
        label(format!("{key}.line"), name, 32)?;
    }
    if line.direction == Direction::None {
        return bad(format!("{key}.direction"), "write \"in\", \"out\" or \"both\"");
    }
    Ok(())
}

fn check_place(key: &str, bus: &I2cBus, address: u8) -> Checked {
    if let I2cBus::Name(name) = bus {
        label(format!("{key}.bus"), name, 64)?;
    }
    if !(0x08..=0x77).contains(&address) {
        return bad(format!("{key}.address"), format!("is {address:#04x}; it must be from 0x08 to 0x77 (7 bits)"));
    }
    Ok(())
}

fn check_i2c(key: &str, device: &I2cDevice) -> Checked {
    check_place(key, &device.bus, device.address)?;
    if device.transfers.is_empty() {
        return bad(format!("{key}.transfers"), "name at least one of \"read\", \"write\", \"write_read\"");
    }
    within(format!("{key}.max_length"), device.max_length, 1, 8192, "bytes")?;
    within(format!("{key}.register_address_bytes"), device.register_address_bytes, 1, 2, "bytes")?;
    within(format!("{key}.register_value_bytes"), device.register_value_bytes, 1, 4, "bytes")?;
    let Some(ranges) = &device.registers else { return Ok(()) };
    if ranges.is_empty() {
        return bad(format!("{key}.registers"), "name at least one range, or leave this out for no rule");
    }
    at_most(&format!("{key}.registers"), ranges.len(), MAX_REGISTER_RANGES)?;
    let last = if device.register_address_bytes == 1 { 0xff } else { 0xffff };
    for (i, range) in ranges.iter().enumerate() {
        let key = format!("{key}.registers[{i}]");
        if range.from > range.to || range.to > last {
            return bad(key, format!("it must go from a register to one at or after it, at most {last:#x}"));
        }
        if range.access == Access::None {
            return bad(format!("{key}.access"), "write \"read\", \"write\" or \"read-write\"");
        }
        if ranges[..i].iter().any(|other| other.from <= range.to && range.from <= other.to) {
            return bad(key, "it overlaps a range before it");
        }
    }
    Ok(())
}

fn check_spi(key: &str, device: &SpiDevice) -> Checked {
    within(format!("{key}.mode"), device.mode, 0, 3, "SPI mode")?;
    within(format!("{key}.speed_hz"), device.speed_hz, 1_000, 100_000_000, "hertz")?;
    if ![8, 16, 32].contains(&device.bits_per_word) {
        return bad(format!("{key}.bits_per_word"), format!("is {}; it must be 8, 16 or 32", device.bits_per_word));
    }
    if device.transfers.is_empty() {
        return bad(format!("{key}.transfers"), "name at least one of \"read\", \"write\", \"transfer\"");
    }
    within(format!("{key}.max_length"), device.max_length, 1, 65_536, "bytes")
}

/// A second name for one thing would be a way around the rules of the first.
fn check_one_name_each(board: &Board) -> Checked {
    let mut lines: Vec<(&Name, &Line)> = Vec::new();
    for (name, line) in &board.gpio {
        for (other, before) in lines.iter().filter(|(_, before)| before.chip == line.chip) {
            let key = format!("gpio.{name}.line");
            match (&before.line, &line.line) {
                (LineId::Name(a), LineId::Name(b)) if a == b => {
                    return bad(key, format!("gpio.{other} is this line already"));
                }
                (LineId::Offset(a), LineId::Offset(b)) if a == b => {
                    return bad(key, format!("gpio.{other} is this line already"));
                }
                (LineId::Name(_), LineId::Offset(_)) | (LineId::Offset(_), LineId::Name(_)) => {
                    return bad(
                        key,
                        format!("gpio.{other} is on this chip; use names for all its lines, or offsets for all"),
                    );
                }
                _ => {}
            }
        }
        lines.push((name, line));
    }

    let mut i2c: Vec<(String, I2cPlace)> = Vec::new();
    let mut spi: Vec<(String, SpiPlace)> = Vec::new();
    let mut iio: Vec<(&Name, &Sensor)> = Vec::new();
    for (name, sensor) in &board.sensors {
        for (other, before) in iio.iter().filter(|(_, before)| before.iio == sensor.iio) {
            if sensor.parent.is_none() || before.parent.is_none() {
                let rule = format!("sensors.{other} has this name too; tell the two apart with parent");
                return bad(format!("sensors.{name}.iio"), rule);
            }
        }
        iio.push((name, sensor));
        match &sensor.parent {
            Some(Parent::I2c(place)) => add_i2c(&mut i2c, format!("sensors.{name}"), place.clone())?,
            Some(Parent::Spi(place)) => add_spi(&mut spi, format!("sensors.{name}"), *place)?,
            None => {}
        }
    }
    for (name, device) in &board.i2c {
        let place = I2cPlace { bus: device.bus.clone(), address: device.address };
        add_i2c(&mut i2c, format!("i2c.{name}"), place)?;
    }
    for (name, device) in &board.spi {
        let place = SpiPlace { bus: device.bus, chip_select: device.chip_select };
        add_spi(&mut spi, format!("spi.{name}"), place)?;
    }
    Ok(())
}

fn add_i2c(taken: &mut Vec<(String, I2cPlace)>, key: String, place: I2cPlace) -> Checked {
    for (other, before) in taken.iter().filter(|(_, before)| before.address == place.address) {
        match (&before.bus, &place.bus) {
            (I2cBus::Name(a), I2cBus::Name(b)) if a != b => {}
            (I2cBus::Number(a), I2cBus::Number(b)) if a != b => {}
            (I2cBus::Name(_), I2cBus::Name(_)) | (I2cBus::Number(_), I2cBus::Number(_)) => {
                return bad(key, format!("{other} is at this address already"));
            }
            _ => {
                return bad(
                    key,
                    format!("{other} has this address; name both buses, or number both, to show that they differ"),
                );
            }
        }
    }
    taken.push((key, place));
    Ok(())
}

fn add_spi(taken: &mut Vec<(String, SpiPlace)>, key: String, place: SpiPlace) -> Checked {
    if let Some((other, _)) = taken.iter().find(|(_, before)| *before == place) {
        return bad(key, format!("{other} is at this chip select already"));
    }
    taken.push((key, place));
    Ok(())
}

fn check_actuator(board: &Board, name: &Name, actuator: &Actuator) -> Checked {
    let key = format!("actuators.{name}");
    prose(format!("{key}.description"), &actuator.description, 256)?;
    within(format!("{key}.writes_per_minute"), actuator.writes_per_minute, 1, 60_000, "writes in a minute")?;
    within(format!("{key}.burst"), actuator.burst, 1, actuator.writes_per_minute, "writes")?;
    let (kind, limits) = check_target(board, &key, actuator)?;
    if !actuator.values.is(kind) {
        return bad(format!("{key}.values"), format!("each value must be {kind}"));
    }
    if !limits.covers(&actuator.values) {
        return bad(format!("{key}.values"), format!("what it drives takes {limits}"));
    }
    if let Some(safe) = &actuator.safe
        && !(safe.is(kind) && actuator.values.contains(safe))
    {
        return bad(format!("{key}.safe"), format!("is {safe}; it must be one of values: {}", actuator.values));
    }
    let same = |target: &Target| match (target, &actuator.drives) {
        // The order of its bytes does not make it another register.
        (Target::Register(a), Target::Register(b)) => a.device == b.device && a.register == b.register,
        (a, b) => a == b,
    };
    match board.actuators.iter().find(|(other, at)| *other != name && same(&at.drives)) {
        Some((other, _)) => {
            bad(format!("{key}.drives"), format!("actuators.{other} drives this too; give it one name"))
        }
        None => Ok(()),
    }
}

/// The kind of value that an actuator's target takes, and its outermost limits.
fn check_target(board: &Board, key: &str, actuator: &Actuator) -> Result<(Kind, Allowed), Invalid> {
    match &actuator.drives {
        Target::Line(line) => {
            let key = format!("{key}.drives.line");
            let found = board.gpio.get(line).ok_or_else(|| Invalid::new(&key, format!("there is no gpio.{line}")))?;
            if !found.direction.outputs() {
                return Err(Invalid::new(key, format!("gpio.{line} is no output")));
            }
            Ok((Kind::Integer, Allowed::Values([Value::from(0), Value::from(1)].into())))
        }
        Target::Attribute(at) => {
            let key = format!("{key}.drives.attribute");
            let channel = board.sensors.get(&at.sensor).and_then(|sensor| sensor.channel(&at.name));
            let channel = channel.ok_or_else(|| {
                Invalid::new(&key, format!("sensors.{} has nothing of the name {}", at.sensor, at.name))
            })?;
            let writable = channel.values.clone().filter(|_| channel.access.writes());
            let values =
                writable.ok_or_else(|| Invalid::new(key, format!("{}.{} is not writable", at.sensor, at.name)))?;
            Ok((channel.kind, values))
        }
        Target::Register(at) => {
            let key = format!("{key}.drives.register");
            let device = board
                .i2c
                .get(&at.device)
                .ok_or_else(|| Invalid::new(&key, format!("there is no i2c.{}", at.device)))?;
            let Some(ranges) = &device.registers else {
                let rule = format!(
                    "give i2c.{} rules for its registers: without them every payload writes this one",
                    at.device
                );
                return Err(Invalid::new(key, rule));
            };
            if device.register_address_bytes == 1 && at.register > 0xff {
                return Err(Invalid::new(key, format!("registers of i2c.{} go to 0xff", at.device)));
            }
            if ranges.iter().any(|range| range.access.writes() && (range.from..=range.to).contains(&at.register)) {
                let rule = format!("a rule of i2c.{} lets payloads write this register; take it out there", at.device);
                return Err(Invalid::new(key, rule));
            }
            let max = Number::whole((1_i64 << (8 * device.register_value_bytes.min(4))) - 1);
            let max = max.map_err(|err| Invalid::new(key, err.to_string()))?;
            Ok((Kind::Integer, Allowed::Range(crate::value::Range { min: Number::from(0), max })))
        }
    }
}

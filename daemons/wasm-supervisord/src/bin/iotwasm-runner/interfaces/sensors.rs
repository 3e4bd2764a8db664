//! The module `iotwasm_sensors`: the sensor interface. A value is read from the descriptor that capd opened for it when
//! the sensor was turned on; everything else is asked of capd.

use std::{fmt::Write as _, os::fd::OwnedFd};

use iotwasm_payload::interfaces::SENSORS;
use iotwasm_session::{Kind, MAX_VALUE, Reply, Request, SensorChannel, SensorState, Why};
use iotwasm_wasmedge::{HostModule, Memory};
use rustix::io::Errno;

use super::{
    memory::{self, Buffer},
    number::{self, Outcome, returned},
    session::{Peripherals, Place, Shared},
};

/// Longest value that a file of sysfs gives, in bytes.
const LONGEST_VALUE: usize = 4096;
/// What every sensor answers, on or not.
const CAPABILITIES: &str = "capabilities";
const ATTRIBUTES: &str = "attributes";
const STATE: &str = "state";

/// A sensor as the guest sees it.
#[derive(Debug, Default)]
pub(super) struct Sensor {
    /// The guest turned it on.
    on: bool,
    /// By the channels' places, those that can be read; none if this session's capd does not know yet that it is on.
    values: Option<Vec<Option<OwnedFd>>>,
}

impl Sensor {
    /// Close what came over the session.
    pub(super) fn release(&mut self) {
        self.values = None;
    }
}

/// The module.
pub(super) fn module(shared: &Shared) -> HostModule {
    let [list, on, off, set, get] = [(); 5].map(|()| shared.clone());
    let mut value = vec![0; LONGEST_VALUE];
    HostModule::new(SENSORS)
        .function("get_sensors", move |caller, (pointer, size, length_out): (i32, i32, i32)| {
            let buffer = Buffer { pointer, size, length_out };
            let listed = |mut memory: Memory<'_>| {
                let peripherals = list.lock();
                let names: Vec<_> = peripherals.table().sensors.iter().map(|sensor| sensor.name.as_str()).collect();
                buffer.check(&mut memory)?;
                buffer.put(&mut memory, names.join("\n").as_bytes())
            };
            Ok(returned(memory::of(caller).and_then(listed)))
        })
        .function("turn_on", move |caller, (name, length): (i32, i32)| {
            let turn_on = |memory: Memory<'_>| {
                let peripherals = &mut *on.lock();
                let place = granted(peripherals, memory::name(&memory, name, length)?, None)?;
                peripherals.sensors[place.index()].on = true;
                let done = turn_on(peripherals, place);
                // Without capd nobody knows whether it can be turned on; what was refused is off.
                if !matches!(done, Ok(()) | Err(number::UNAVAILABLE)) {
                    peripherals.sensors[place.index()].on = false;
                }
                done
            };
            Ok(returned(memory::of(caller).and_then(turn_on)))
        })
        .function("turn_off", move |caller, (name, length): (i32, i32)| {
            let turn_off = |memory: Memory<'_>| {
                let peripherals = &mut *off.lock();
                let place = granted(peripherals, memory::name(&memory, name, length)?, None)?;
                let sensor = &mut peripherals.sensors[place.index()];
                let known = sensor.values.is_some();
                *sensor = Sensor::default();
                match known.then(|| peripherals.order(&Request::TurnOff { sensor: place.wire() })) {
                    // The end of a session turns it off, too.
                    None | Some(Err(number::UNAVAILABLE)) => Ok(()),
                    Some(done) => done,
                }
            };
            Ok(returned(memory::of(caller).and_then(turn_off)))
        })
        .function("config", move |caller, (name, n, attribute, a, value, v): (i32, i32, i32, i32, i32, i32)| {
            let config = |memory: Memory<'_>| {
                let name = memory::name(&memory, name, n)?;
                let attribute = memory::name(&memory, attribute, a)?;
                let value = memory::text(&memory, value, v, MAX_VALUE)?;
                config(&mut set.lock(), name, attribute, value)
            };
            Ok(returned(memory::of(caller).and_then(config)))
        })
        .function(
            "read",
            move |caller, (name, n, of, o, pointer, size, length_out): (i32, i32, i32, i32, i32, i32, i32)| {
                let buffer = Buffer { pointer, size, length_out };
                let read = |mut memory: Memory<'_>| {
                    buffer.check(&mut memory)?;
                    let peripherals = &mut *get.lock();
                    let (name, of) = (memory::name(&memory, name, n)?, memory::name(&memory, of, o)?);
                    let place = granted(peripherals, name, Some(of))?;
                    if let Some(text) = universal(peripherals, place, of)? {
                        return buffer.put(&mut memory, text.as_bytes());
                    }
                    let channel = channel(peripherals, place, of, |channel| channel.read)?;
                    let length = read(peripherals, place, channel, &mut value)?;
                    buffer.put(&mut memory, &value[..length])
                };
                Ok(returned(memory::of(caller).and_then(read)))
            },
        )
}

/// The place of a sensor; a denial if it was not granted.
fn granted(peripherals: &mut Peripherals, name: &str, value: Option<&str>) -> Outcome<Place> {
    Place::find(&peripherals.table().sensors, |sensor| sensor.name == name).ok_or_else(|| match value {
        Some(value) => peripherals.denied(Kind::Sensor, &format!("{name}.{value}"), Why::Name),
        None => peripherals.denied(Kind::Sensor, name, Why::Name),
    })
}

/// The place of one of a sensor's values; a denial if it was not granted, or not this way.
fn channel(
    peripherals: &mut Peripherals,
    place: Place,
    name: &str,
    fits: impl Fn(&SensorChannel) -> bool,
) -> Outcome<Place> {
    let sensor = &peripherals.table().sensors[place.index()];
    let why = match Place::find(&sensor.channels, |channel| channel.name == name) {
        Some(channel) if fits(&sensor.channels[channel.index()]) => return Ok(channel),
        Some(_) => Why::Mode,
        None => Why::Name,
    };
    let name = format!("{}.{name}", sensor.name);
    Err(peripherals.denied(Kind::Sensor, &name, why))
}

/// Have capd turn it on, and keep what it hands over.
fn turn_on(peripherals: &mut Peripherals, place: Place) -> Outcome {
    // Closed first: there is room for one set of descriptors.
    peripherals.sensors[place.index()].release();
    let (reply, descriptors) = peripherals.ask_for_descriptors(&Request::TurnOn { sensor: place.wire() })?;
    let mut values = Vec::new();
    values.resize_with(peripherals.table().sensors[place.index()].channels.len(), || None);
    match reply {
        Reply::On { readable } if readable.len() == descriptors.len() => {
            for (channel, descriptor) in readable.into_iter().zip(descriptors) {
                let Some(value) = values.get_mut(usize::from(channel)) else { return Err(peripherals.broken()) };
                *value = Some(descriptor);
            }
        }
        _ => return Err(peripherals.broken()),
    }
    peripherals.sensors[place.index()].values = Some(values);
    Ok(())
}

/// Whether it is on; after the loss of a session it is turned on again here.
fn be_on(peripherals: &mut Peripherals, place: Place) -> Outcome {
    match &peripherals.sensors[place.index()] {
        Sensor { on: true, values: Some(_) } => Ok(()),
        Sensor { on: true, values: None } => turn_on(peripherals, place),
        Sensor { on: false, .. } => Err(number::NOT_ON),
    }
}

fn config(peripherals: &mut Peripherals, name: &str, attribute: &str, value: &str) -> Outcome {
    let place = granted(peripherals, name, Some(attribute))?;
    if [CAPABILITIES, ATTRIBUTES, STATE].contains(&attribute) {
        return Err(number::MODE_NOT_ALLOWED);
    }
    let channel = channel(peripherals, place, attribute, |channel| channel.write)?;
    be_on(peripherals, place)?;
    let (sensor, channel, value) = (place.wire(), channel.wire(), value.to_owned());
    peripherals.order(&Request::Config { sensor, channel, value })
}

/// What every sensor answers about itself; `None` for another name.
fn universal(peripherals: &mut Peripherals, place: Place, name: &str) -> Outcome<Option<String>> {
    let capabilities = match name {
        CAPABILITIES => true,
        ATTRIBUTES => false,
        STATE => return state(peripherals, place).map(|state| Some(state.to_owned())),
        _ => return Ok(None),
    };
    let mut text = String::new();
    let channels = &peripherals.table().sensors[place.index()].channels;
    for channel in channels.iter().filter(|channel| channel.capability == capabilities) {
        let access = match (channel.read, channel.write) {
            (true, true) => "read-write",
            (false, true) => "write",
            (_, false) => "read",
        };
        let (line, space) = (if text.is_empty() { "" } else { "\n" }, if channel.unit.is_empty() { "" } else { " " });
        // Writing to a String cannot fail.
        let _ = write!(text, "{line}{} {access}{space}{}", channel.name, channel.unit);
    }
    Ok(Some(text))
}

fn state(peripherals: &mut Peripherals, place: Place) -> Outcome<&'static str> {
    if peripherals.sensors[place.index()].on {
        be_on(peripherals, place)?;
    }
    match peripherals.ask(&Request::State { sensor: place.wire() })? {
        Reply::State(state) => Ok(match state {
            SensorState::Stopped => "Stopped",
            SensorState::Alive => "Alive",
            SensorState::Working => "Working",
            SensorState::Sleeping => "Sleeping",
        }),
        _ => Err(peripherals.broken()),
    }
}

/// Read a value; gives its length without the line's end. A device that has gone may be back under another descriptor,
/// so that is tried once.
fn read(peripherals: &mut Peripherals, place: Place, channel: Place, value: &mut [u8]) -> Outcome<usize> {
    be_on(peripherals, place)?;
    let mut result = read_once(peripherals, place, channel, value);
    if matches!(result, Err(Errno::NODEV | Errno::NXIO)) {
        turn_on(peripherals, place)?;
        result = read_once(peripherals, place, channel, value);
    }
    match result {
        Ok(length) => Ok(value[..length].strip_suffix(b"\n").map_or(length, <[u8]>::len)),
        Err(Errno::NODEV | Errno::NXIO) => Err(number::GONE),
        Err(_) => Err(number::HARDWARE_FAULT),
    }
}

fn read_once(peripherals: &Peripherals, place: Place, channel: Place, value: &mut [u8]) -> rustix::io::Result<usize> {
    let values = peripherals.sensors[place.index()].values.as_ref();
    // What was granted to be read and cannot be opened is a file that is not there.
    let descriptor = values.and_then(|values| values.get(channel.index())?.as_ref()).ok_or(Errno::NODEV)?;
    peripherals.set_active(place.index(), true);
    let result = rustix::io::retry_on_intr(|| rustix::io::pread(descriptor, &mut *value, 0));
    peripherals.set_active(place.index(), false);
    result
}

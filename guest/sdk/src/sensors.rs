//! The sensor interface: list, turn on, read, configure, turn off.
//!
//! A sensor has capabilities, which it senses, and attributes, which say how it is set. Which of them a payload sees is what
//! its manifest asks for. Three attributes belong to every sensor, on or off: `capabilities`, `attributes` and `state`.
//!
//! ```
//! # use iotwasm_guest::{sensors::Sensor, testing};
//! # testing::add_sensor("climate", testing::Sensor::new().capability("humidity", "m%", "46100")
//! #     .setting("humidity_oversampling", "", "1", &["1", "2"]));
//! let climate = Sensor::get("climate")?.turn_on()?;
//! climate.config("humidity_oversampling", 2)?;
//! let milli_percent: f64 = climate.read("humidity")?;
//! # assert_eq!(milli_percent, 46_100.0);
//! # Ok::<(), iotwasm_guest::Error>(())
//! ```
//!
//! Values are the kernel driver's own, in the unit that the board file gives, and travel as text. Nothing here needs a heap.

use core::fmt::Display;
use core::str::FromStr;

use crate::error::{Error, check};
use crate::{abi, message::Message};

/// Longest value that is written, in bytes; also what [`Sensor::read`] holds.
pub const MAX_VALUE: usize = 64;

const CAPABILITIES: &str = "capabilities";
const ATTRIBUTES: &str = "attributes";
const STATE: &str = "state";

/// A sensor that was granted.
///
/// It is only a name: it may be copied, and dropping it does not turn the sensor off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sensor<'n> {
    name: &'n str,
}

impl<'n> Sensor<'n> {
    /// The sensor with this name of the board file.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::NotAllowed`].
    pub fn get(name: &'n str) -> Result<Self, Error> {
        let sensor = Self { name };
        match sensor.state() {
            // It exists; a reading says the rest.
            Ok(_) | Err(Error::Gone | Error::Unavailable) => Ok(sensor),
            Err(error) => Err(error),
        }
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &'n str {
        self.name
    }

    /// Has it ready to be read. Of no effect on one that is on.
    ///
    /// # Errors
    /// [`Error::Gone`], [`Error::Unavailable`], …
    pub fn turn_on(self) -> Result<Self, Error> {
        check(abi::sensors::turn_on(self.name)).map(|()| self)
    }

    /// Ends this payload's use of it. It goes on for other payloads.
    ///
    /// # Errors
    /// [`Error::Unavailable`], …
    pub fn turn_off(self) -> Result<(), Error> {
        check(abi::sensors::turn_off(self.name))
    }

    /// Reads a capability or an attribute as a number, or as anything else that can be parsed.
    ///
    /// A file of kind `decimal` may have a point: read it as `f64`.
    ///
    /// # Errors
    /// [`Error::NotOn`] before it was turned on; [`Error::BadValue`] if the text is no `T`; [`Error::Gone`], …
    pub fn read<T: FromStr>(&self, what: &str) -> Result<T, Error> {
        let mut buffer = [0; MAX_VALUE];
        self.read_text(what, &mut buffer)?.trim().parse().map_err(|_| Error::BadValue)
    }

    /// Reads a capability or an attribute as text.
    ///
    /// # Errors
    /// As [`Self::read`]; [`Error::BufferTooSmall`] says how much would do.
    pub fn read_text<'b>(&self, what: &str, buffer: &'b mut [u8]) -> Result<&'b str, Error> {
        let mut length = 0;
        let number = abi::sensors::read(self.name, what, buffer, &mut length);
        filled(number, buffer, length)
    }

    /// Sets an attribute (or a capability that may be written). It is this payload's until it turns the sensor off or ends;
    /// when the last payload has left the sensor, it is as it was before.
    ///
    /// # Errors
    /// [`Error::ModeNotAllowed`] for what may only be read; [`Error::BadValue`] for a value that the board or the manifest
    /// does not have; [`Error::AlreadyInUse`] if another payload has set it to another value; [`Error::NotOn`], …
    pub fn config(&self, attribute: &str, value: impl Display) -> Result<(), Error> {
        let value = Message::<{ MAX_VALUE + 1 }>::of(value);
        match core::str::from_utf8(value.as_bytes()) {
            Ok(text) if text.len() <= MAX_VALUE => check(abi::sensors::config(self.name, attribute, text)),
            _ => Err(Error::TooLong),
        }
    }

    /// What it is doing.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::NotAllowed`], [`Error::Unavailable`].
    pub fn state(&self) -> Result<State, Error> {
        self.read(STATE)
    }

    /// What it senses, as far as it was granted. 1 KiB is enough for most; at most 32 lines of about 80 bytes.
    ///
    /// # Errors
    /// [`Error::BufferTooSmall`], …
    pub fn capabilities<'b>(&self, buffer: &'b mut [u8]) -> Result<Channels<'b>, Error> {
        self.read_text(CAPABILITIES, buffer).map(|text| Channels(text.lines()))
    }

    /// How it can be set, as far as it was granted, in the same way.
    ///
    /// # Errors
    /// [`Error::BufferTooSmall`], …
    pub fn attributes<'b>(&self, buffer: &'b mut [u8]) -> Result<Channels<'b>, Error> {
        self.read_text(ATTRIBUTES, buffer).map(|text| Channels(text.lines()))
    }
}

/// The names of all sensors that were granted.
///
/// # Errors
/// [`Error::BufferTooSmall`], …
pub fn list(buffer: &mut [u8]) -> Result<Names<'_>, Error> {
    let mut length = 0;
    let number = abi::sensors::get_sensors(buffer, &mut length);
    filled(number, buffer, length).map(|text| Names(text.lines()))
}

/// The text that the host wrote into a buffer.
pub(crate) fn filled(number: i32, buffer: &[u8], length: u32) -> Result<&str, Error> {
    check(number).map_err(|error| match error {
        Error::BufferTooSmall { .. } => Error::BufferTooSmall { needed: length },
        other => other,
    })?;
    let text = buffer.get(..length as usize).ok_or(Error::BufferTooSmall { needed: length })?;
    core::str::from_utf8(text).map_err(|_| Error::BadValue)
}

/// What a sensor is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Off: nobody uses it, or it is not there.
    Stopped,
    /// On.
    Alive,
    /// On, and being read or set at this moment.
    Working,
    /// On, and suspended by the kernel until it is needed.
    Sleeping,
}

impl FromStr for State {
    type Err = Error;

    fn from_str(word: &str) -> Result<Self, Error> {
        match word {
            "Stopped" => Ok(Self::Stopped),
            "Alive" => Ok(Self::Alive),
            "Working" => Ok(Self::Working),
            "Sleeping" => Ok(Self::Sleeping),
            _ => Err(Error::BadValue),
        }
    }
}

/// Names, one after the other.
#[derive(Debug, Clone)]
pub struct Names<'b>(pub(crate) core::str::Lines<'b>);

impl<'b> Iterator for Names<'b> {
    type Item = &'b str;

    fn next(&mut self) -> Option<&'b str> {
        self.0.next()
    }
}

/// One value of a sensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Channel<'b> {
    /// Its name.
    pub name: &'b str,
    /// It may be read.
    pub read: bool,
    /// It may be written.
    pub write: bool,
    /// Its unit, if it has one.
    pub unit: Option<&'b str>,
}

/// Values of a sensor, one after the other.
#[derive(Debug, Clone)]
pub struct Channels<'b>(core::str::Lines<'b>);

impl<'b> Iterator for Channels<'b> {
    type Item = Channel<'b>;

    fn next(&mut self) -> Option<Channel<'b>> {
        // `name access unit`, and a unit may have spaces in it.
        let mut words = self.0.next()?.splitn(3, ' ');
        let name = words.next()?;
        let access = words.next().unwrap_or_default();
        let (read, write) = (access.starts_with("read"), access.ends_with("write"));
        Some(Channel { name, read, write, unit: words.next() })
    }
}

#[cfg(test)]
mod tests {
    use super::{Channel, Error, Sensor, State, list};
    use crate::testing::{self, Call};

    fn climate() -> Sensor<'static> {
        testing::reset();
        testing::add_sensor(
            "climate",
            testing::Sensor::new()
                .capability("temperature", "m°C", "25080")
                .capability("pressure", "kPa", "100.653000000")
                .setting("temperature_oversampling", "", "1", &["1", "2", "4"])
                .attribute("label", "", "a label"),
        );
        Sensor::get("climate").unwrap()
    }

    #[test]
    fn a_sensor_is_turned_on_read_and_turned_off() {
        let climate = climate();
        assert_eq!(climate.state(), Ok(State::Stopped));
        assert_eq!(climate.read::<f64>("temperature"), Err(Error::NotOn));
        let climate = climate.turn_on().unwrap();
        assert_eq!(climate.state(), Ok(State::Alive));
        assert_eq!(climate.read("temperature"), Ok(25_080));
        assert_eq!(climate.read("pressure"), Ok(100.653));
        assert_eq!(climate.read::<i64>("pressure"), Err(Error::BadValue));
        testing::set_sensor("climate", "temperature", "-5");
        assert_eq!(climate.read("temperature"), Ok(-5));
        climate.turn_off().unwrap();
        assert_eq!(climate.state(), Ok(State::Stopped));
    }

    #[test]
    fn names_that_are_not_there_are_told_apart_from_failures() {
        let climate = climate().turn_on().unwrap();
        assert_eq!(Sensor::get("weather"), Err(Error::NotFound));
        assert_eq!(climate.read::<f64>("humidity"), Err(Error::NotFound));
        assert_eq!(Sensor::get(&"x".repeat(130)), Err(Error::TooLong));
        for error in [Error::Gone, Error::Unavailable, Error::NotAllowed] {
            testing::fail_next("climate", error);
            assert_eq!(climate.read::<f64>("temperature"), Err(error));
        }
        assert_eq!(climate.read("temperature"), Ok(25_080));
    }

    #[test]
    fn a_setting_takes_its_values_only() {
        let climate = climate();
        assert_eq!(climate.config("temperature_oversampling", 2), Err(Error::NotOn));
        let climate = climate.turn_on().unwrap();
        climate.config("temperature_oversampling", 2).unwrap();
        assert_eq!(climate.read("temperature_oversampling"), Ok(2));
        assert_eq!(climate.config("temperature_oversampling", 3), Err(Error::BadValue));
        assert_eq!(climate.config("temperature_oversampling", "2".repeat(65)), Err(Error::TooLong));
        assert_eq!(climate.config("temperature", 1), Err(Error::ModeNotAllowed));
        assert_eq!(climate.config("state", "Alive"), Err(Error::ModeNotAllowed));
        let set = |value: &str| Call::Config {
            sensor: "climate".into(),
            attribute: "temperature_oversampling".into(),
            value: value.into(),
        };
        assert_eq!(testing::take(), [set("2")]);
        assert_eq!(testing::sensor_value("climate", "temperature_oversampling").as_deref(), Some("2"));
    }

    #[test]
    fn lists_need_no_heap_and_say_how_much_they_need() {
        let climate = climate();
        testing::add_sensor("dummy", testing::Sensor::new());
        let mut buffer = [0; 128];
        assert_eq!(list(&mut buffer).unwrap().collect::<Vec<_>>(), ["climate", "dummy"]);
        assert_eq!(list(&mut [0; 5]).unwrap_err(), Error::BufferTooSmall { needed: 13 });
        let capabilities: Vec<_> = climate.capabilities(&mut buffer).unwrap().collect();
        let read = |name, unit| Channel { name, read: true, write: false, unit };
        assert_eq!(capabilities, [read("temperature", Some("m°C")), read("pressure", Some("kPa"))]);
        let attributes: Vec<_> = climate.attributes(&mut buffer).unwrap().collect();
        let setting = Channel { name: "temperature_oversampling", read: true, write: true, unit: None };
        assert_eq!(attributes, [setting, read("label", None)]);
        let mut small = [7; 3];
        let climate = climate.turn_on().unwrap();
        assert_eq!(climate.read_text("label", &mut small), Err(Error::BufferTooSmall { needed: 7 }));
        assert_eq!(small, [7; 3]);
        testing::reset();
        assert_eq!(list(&mut buffer).unwrap().count(), 0);
    }
}

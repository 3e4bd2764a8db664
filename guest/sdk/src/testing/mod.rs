//! A device to test a payload on, on the author's machine. Present on every target but wasm32, where the device itself
//! answers.
//!
//! It records what the payload asks for, and plays what a test puts there: sensors, lines, I2C and SPI devices, actuators.
//! It answers with the numbers of a real device, but it is only one: there is no manifest, so what a test does not add does
//! not exist ([`fail_next`] makes any other error). Waiting takes no time; the device's clock goes on all the same.
//!
//! ```
//! use iotwasm_guest::{gpio::State, testing};
//!
//! testing::reset();
//! testing::add_sensor("climate", testing::Sensor::new().capability("humidity", "m%", "46100"));
//! testing::add_line("button", testing::Line::In);
//! testing::add_i2c("eeprom", testing::Registers::new(&[(0x10, &[1, 2, 3])]));
//! testing::add_actuator("pump", testing::Actuator::new(&["0", "1"]).limit(6, 2));
//! // What happens while the payload waits: somebody presses the button during its third wait.
//! testing::each_wait(|wait| {
//!     if wait == 3 {
//!         testing::set_line("button", State::Active);
//!     }
//! });
//! testing::stop_after(10);
//! // Now run the payload, then look at testing::take().
//! ```
//!
//! Each thread, and so each test, has a device of its own.

use std::cell::RefCell;
use std::collections::BTreeMap;

use crate::Error;
use crate::abi::OK;

pub(crate) mod actuators;
pub(crate) mod gpio;
pub(crate) mod i2c;
pub(crate) mod sensors;
pub(crate) mod spi;

pub use actuators::{Actuator, add_actuator};
pub use gpio::{Line, add_line, is_leased, line, set_line};
pub use i2c::{I2cDevice, Registers, add_i2c};
pub use sensors::{Sensor, add_sensor, sensor_value, set_sensor};
pub use spi::{Loopback, SpiDevice, add_spi};

/// One call of a host function. Of those to peripherals, the ones that changed something are recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Call {
    /// A health report.
    Health {
        /// 0 healthy, 1 degraded, 2 failed, 3 self-test passed, 4 self-test failed.
        status: i32,
        /// Its words.
        message: String,
    },
    /// A log line.
    Log {
        /// Syslog's level.
        level: i32,
        /// Its words.
        message: String,
    },
    /// A wait.
    Wait {
        /// For how long, in milliseconds.
        milliseconds: i64,
    },
    /// A wish that the device not be restarted.
    HoldRestart {
        /// For how long, in seconds; 0 is a release.
        seconds: i32,
    },
    /// A pause, as drivers make them. It is no wake-up and is not counted as one.
    Delay {
        /// For how long, in nanoseconds.
        nanoseconds: u64,
    },
    /// A wait for an edge; not recorded for one that was queued or that nobody waited for.
    NextEvent {
        /// Of which line.
        label: String,
        /// For how long, in milliseconds.
        milliseconds: i64,
    },
    /// An output was set, also by getting it with a state.
    SetLine {
        /// Which.
        label: String,
        /// To what.
        state: crate::gpio::State,
    },
    /// A setting of a sensor was written.
    Config {
        /// Which sensor.
        sensor: String,
        /// Which setting.
        attribute: String,
        /// What.
        value: String,
    },
    /// An actuator was written.
    Actuate {
        /// Which.
        actuator: String,
        /// What.
        value: String,
    },
}

/// What happens at each wait.
type Happening = Box<dyn FnMut(u64)>;

#[derive(Default)]
struct World {
    calls: Vec<Call>,
    /// Waits that still end with `Continue`.
    waits_left: u64,
    /// Waits so far.
    waits: u64,
    happening: Option<Happening>,
    /// The device's clock, in nanoseconds.
    now_ns: u64,
    /// Errors to come, by the name of what they happen to.
    failures: Vec<(String, Error)>,
    sensors: BTreeMap<String, Sensor>,
    gpio: gpio::Lines,
    i2c: Vec<i2c::Entry>,
    spi: Vec<spi::Entry>,
    actuators: BTreeMap<String, Actuator>,
}

thread_local! {
    static WORLD: RefCell<World> = RefCell::default();
}

fn with<T>(work: impl FnOnce(&mut World) -> T) -> T {
    WORLD.with_borrow_mut(work)
}

/// Forgets everything: calls, peripherals, the clock.
pub fn reset() {
    // What is dropped may be a test's own device, which may call back: not while the world is borrowed.
    drop(with(std::mem::take));
}

/// Has the payload stopped after this many waits; at first it is stopped at once. Waiting for an edge that does not come
/// counts as well.
pub fn stop_after(waits: u64) {
    with(|world| world.waits_left = waits);
}

/// Every call since the last `take`.
#[must_use]
pub fn take() -> Vec<Call> {
    with(|world| std::mem::take(&mut world.calls))
}

/// Does something during each wait, with its number, the first being 1. This is where lines change and sensors read
/// something else.
pub fn each_wait(happening: impl FnMut(u64) + 'static) {
    with(|world| world.happening = Some(Box::new(happening)));
}

/// Has the next call that names this sensor, line, device or actuator fail. Once for each time it is said.
pub fn fail_next(name: &str, error: Error) {
    with(|world| world.failures.push((name.to_owned(), error)));
}

impl World {
    /// The failure that is to happen to this, if any; or a name that no host takes.
    fn failure(&mut self, name: &str) -> Result<(), Error> {
        if name.len() > MAX_NAME {
            return Err(Error::TooLong);
        }
        match self.failures.iter().position(|(to, _)| to == name) {
            Some(at) => Err(self.failures.remove(at).1),
            None => Ok(()),
        }
    }
}

/// Longest name that a host takes, in bytes.
const MAX_NAME: usize = 129;

/// The number for a result.
fn number(result: Result<(), Error>) -> i32 {
    result.map_or_else(Error::number, |()| OK)
}

/// Writes a list of names, or one text, as a host does.
fn fill(text: &str, buffer: &mut [u8], length: &mut u32) -> Result<(), Error> {
    *length = text.len() as u32;
    let space = buffer.get_mut(..text.len()).ok_or(Error::BufferTooSmall { needed: *length })?;
    space.copy_from_slice(text.as_bytes());
    Ok(())
}

fn record(call: Call) -> i32 {
    with(|world| world.calls.push(call));
    OK
}

fn text(message: &[u8]) -> String {
    String::from_utf8_lossy(message).into_owned()
}

pub(crate) fn health(status: i32, message: &[u8]) -> i32 {
    record(Call::Health { status, message: text(message) })
}

pub(crate) fn log(level: i32, message: &[u8]) -> i32 {
    record(Call::Log { level, message: text(message) })
}

pub(crate) fn wait(milliseconds: i64) -> i32 {
    record(Call::Wait { milliseconds });
    number(sleep(milliseconds))
}

/// Longest hold that a device takes at once, in seconds.
const MAX_HOLD_S: i32 = 3600;

pub(crate) fn hold_restart(seconds: i32) -> i32 {
    if (0..=MAX_HOLD_S).contains(&seconds) {
        record(Call::HoldRestart { seconds })
    } else {
        number(Err(Error::BadArgument))
    }
}

pub(crate) fn delay(nanoseconds: u64) -> i32 {
    with(|world| world.now_ns = world.now_ns.saturating_add(nanoseconds));
    record(Call::Delay { nanoseconds })
}

/// One wait: the clock goes on, and what the test has planned for it happens.
fn sleep(milliseconds: i64) -> Result<(), Error> {
    let (wait, happening) = with(|world| {
        world.waits_left = world.waits_left.checked_sub(1).ok_or(Error::Stopping)?;
        world.waits += 1;
        let ns = u64::try_from(milliseconds).unwrap_or(0).saturating_mul(1_000_000);
        world.now_ns = world.now_ns.saturating_add(ns);
        Ok((world.waits, world.happening.take()))
    })?;
    if let Some(mut happening) = happening {
        happening(wait);
        with(|world| world.happening = world.happening.take().or(Some(happening)));
    }
    Ok(())
}

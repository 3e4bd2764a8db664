//! Hostile: tries everything that it was not granted, and everything that is badly formed. Each poke has the one number
//! that it must be answered with; what it got it logs, a line for each kind of peripheral, and a summary at the end:
//!
//! ```text
//! pokes: gpio: get an unknown line -6, get a line that is not granted -7, …
//! pokes: 107 of 107 were answered as they should be
//! ```
//!
//! It calls the host functions directly, since the SDK would not let it.

use core::fmt::Write as _;
use core::time::Duration;

use iotwasm_guest::{Failure, Payload, Wait, health, log, payload, wait};

mod host;

use host::Memory;

/// Longest part of a log line, in bytes: the SDK cuts lines at 512.
const LINE: usize = 440;
/// Calls of a flood.
const FLOOD: u32 = 1_000;

/// What was poked so far.
#[derive(Default)]
struct Pokes {
    tried: u32,
    right: u32,
    kind: &'static str,
    line: String,
}

impl Pokes {
    /// What follows is of this kind.
    fn kind(&mut self, kind: &'static str) {
        self.flush();
        self.kind = kind;
        // A wake-up of its own for each kind: pokes are many, and the slowest machine has its limits, too.
        let _ = wait(Duration::ZERO);
    }

    /// Notes what a poke was answered with.
    fn poke(&mut self, what: &str, expected: i32, number: i32) {
        self.tried += 1;
        if number == expected {
            self.right += 1;
        } else {
            log::error(format_args!("pokes: {}: {what}: answered {number}, should be {expected}", self.kind));
        }
        if self.line.len() + what.len() > LINE {
            self.flush();
        }
        let comma = if self.line.is_empty() { "" } else { ", " };
        let _ = write!(self.line, "{comma}{what} {number}");
    }

    fn flush(&mut self) {
        if !self.line.is_empty() {
            log::info(format_args!("pokes: {}: {}", self.kind, self.line));
            self.line.clear();
        }
    }

    fn sensors(&mut self, m: &mut Memory) {
        use host::sensors::{config, get_sensors, read, turn_off, turn_on};
        self.kind("sensors");
        let out = m.out;
        let [climate, temperature, oversampling] =
            ["climate", "temperature", "temperature_oversampling"].map(|t| m.text(t));
        let [one, three] = ["1", "3"].map(|t| m.text(t));
        let get = |name: (i32, i32), what: (i32, i32)| read(name.0, name.1, what.0, what.1, m.buffer, 64, out);
        let set = |name: (i32, i32), what: (i32, i32), value: (i32, i32)| {
            config(name.0, name.1, what.0, what.1, value.0, value.1)
        };
        let on = |name: (i32, i32)| turn_on(name.0, name.1);
        self.poke("turn on an unknown sensor", -6, on(m.text("weather")));
        self.poke("turn on one that is not granted", -7, on(m.text("dummy")));
        self.poke("read before it is on", -12, get(climate, temperature));
        self.poke("turn on", 0, on(climate));
        self.poke("read", 0, get(climate, temperature));
        self.poke("read a value that is not granted", -7, get(climate, m.text("pressure")));
        self.poke("read an unknown value", -6, get(climate, m.text("co2")));
        self.poke("read of an unknown sensor", -6, get(m.text("weather"), temperature));
        self.poke("set what is only read", -8, set(climate, temperature, one));
        self.poke("set the state", -8, set(climate, m.text("state"), m.text("Alive")));
        self.poke("set a value that is not among them", -10, set(climate, oversampling, three));
        self.poke("set no number", -10, set(climate, oversampling, m.text("1; reboot")));
        self.poke("set 65 bytes", -3, set(climate, oversampling, (m.long, 65)));
        self.poke("set what is not UTF-8", -2, set(climate, oversampling, m.not_text));
        self.poke("a path as a name", -6, get(climate, m.text("../../../../../etc/passwd")));
        self.poke("a name of 130 bytes", -3, on((m.long, 130)));
        self.poke("a name of 10 MB", -3, on((m.long, host::LONG)));
        self.poke("a name of 4 GB", -3, on((climate.0, -1)));
        self.poke("a name that is not UTF-8", -2, on(m.not_text));
        self.poke("a name outside the memory", -1, on((-16, 8)));
        self.poke("a name over the end of the memory", -1, on((-4, 8)));
        self.poke("no buffer", -5, read(climate.0, climate.1, temperature.0, temperature.1, 0, 0, out));
        self.poke("a buffer outside", -1, read(climate.0, climate.1, temperature.0, temperature.1, -16, 64, out));
        self.poke("a length outside", -1, read(climate.0, climate.1, temperature.0, temperature.1, m.buffer, 64, -2));
        self.poke("a list without a buffer", -5, get_sensors(0, 0, out));
        self.poke("a list outside", -1, get_sensors(-8, 4096, out));
        self.poke("turn off", 0, turn_off(climate.0, climate.1));
        self.poke("read when it is off", -12, get(climate, temperature));
    }

    fn gpio(&mut self, m: &mut Memory) {
        use host::gpio::{drop, get, next_event, read, set_pin_mode, set_state, watch};
        /// Flags of `get`.
        const IN: i32 = 1;
        const OUT: i32 = 2;
        const ACTIVE: i32 = 4;
        const INACTIVE: i32 = 8;
        self.kind("gpio");
        let out = m.out;
        let (door, spare) = (m.text("door"), m.text("spare1"));
        let line = |label: (i32, i32), flags: i32| get(label.0, label.1, flags, out);
        self.poke("get an unknown line", -6, line(m.text("window"), IN));
        self.poke("get one that is not granted", -7, line(m.text("led"), OUT));
        self.poke("get an actuator's line", -7, line(m.text("valve"), OUT));
        self.poke("get by a number", -6, line(m.text("0"), OUT));
        self.poke("get by a chip", -6, line(m.text("/dev/gpiochip0"), OUT));
        self.poke("get an input as an output", -8, line(door, OUT));
        self.poke("get both ways", -2, line(door, IN | OUT));
        self.poke("an unknown flag", -2, line(door, IN | 16));
        self.poke("an input with a level", -2, line(door, IN | ACTIVE));
        self.poke("two levels", -2, line(spare, OUT | ACTIVE | INACTIVE));
        self.poke("a pin out of the memory", -1, get(door.0, door.1, IN, -2));
        self.poke("a pin that was not got", -2, read(0, out));
        self.poke("get", 0, line(door, IN));
        let input = m.word();
        self.poke("get", 0, line(spare, OUT | INACTIVE));
        let output = m.word();
        self.poke("set an input", -8, set_state(input, 1));
        self.poke("turn an input round", -8, set_pin_mode(input, OUT));
        self.poke("turn an output round", -8, set_pin_mode(output, IN));
        self.poke("turn into a third", -2, set_pin_mode(output, 3));
        self.poke("a third state", -2, set_state(output, 2));
        self.poke("watch an output", -8, watch(output, 1));
        self.poke("watch a third edge", -2, watch(input, 4));
        self.poke("read to nowhere", -1, read(input, -2));
        self.poke("pin 1000", -2, read(1000, out));
        self.poke("pin -1", -2, read(-1, out));
        self.poke("wait a negative time", -2, next_event(input, -1, m.buffer));
        self.poke("an event outside", -1, next_event(input, 0, -8));
        self.poke("no event", -17, next_event(input, 0, m.buffer));
        self.poke("drop", 0, drop(input));
        self.poke("drop again", -2, drop(input));
        self.poke("read what was dropped", -2, read(input, out));
        self.poke("drop", 0, drop(output));
    }

    fn i2c(&mut self, m: &mut Memory) {
        use host::i2c::{open, read, transaction, write, write_read};
        self.kind("i2c");
        let (out, buffer) = (m.out, m.buffer);
        let device = |name: (i32, i32)| open(name.0, name.1, out);
        self.poke("open an unknown device", -6, device(m.text("fan")));
        self.poke("open a sensor", -6, device(m.text("climate")));
        self.poke("open by a bus", -6, device(m.text("/dev/i2c-0")));
        self.poke("a device that was not opened", -2, read(77, buffer, 1));
        self.poke("open", 0, device(m.text("eeprom")));
        let eeprom = m.word();
        let data = |m: &Memory, bytes: &[u8]| m.bytes(bytes);
        let (at_0, at_ef, at_f0) = (data(m, &[0x00]), data(m, &[0xef]), data(m, &[0xf0]));
        self.poke("write_read", 0, write_read(eeprom, at_0.0, at_0.1, buffer, 8));
        self.poke("write", -8, write(eeprom, at_0.0, at_0.1));
        self.poke("read without a register", -8, read(eeprom, buffer, 1));
        self.poke("read the actuator's register", -8, write_read(eeprom, at_f0.0, at_f0.1, buffer, 1));
        self.poke("read on into it", -8, write_read(eeprom, at_ef.0, at_ef.1, buffer, 2));
        let wide = data(m, &[0x00, 0x01]);
        self.poke("write before a read", -8, write_read(eeprom, wide.0, wide.1, buffer, 1));
        self.poke("read more than the board allows", -3, write_read(eeprom, at_0.0, at_0.1, buffer, 33));
        self.poke("read 70 000 bytes", -3, write_read(eeprom, at_0.0, at_0.1, m.long, 70_000));
        self.poke("read nothing", -2, write_read(eeprom, at_0.0, at_0.1, buffer, 0));
        self.poke("a buffer outside", -1, write_read(eeprom, at_0.0, at_0.1, -4, 8));
        let (third, outside) = (m.operations(&[[2, buffer, 1]]), m.operations(&[[0, -4, 8]]));
        self.poke("no operations", -2, transaction(eeprom, third, 0));
        self.poke("an unknown operation", -2, transaction(eeprom, third, 1));
        self.poke("an operation outside", -1, transaction(eeprom, outside, 1));
        self.poke("operations outside", -1, transaction(eeprom, -4, 1));
        self.poke("129 operations", -3, transaction(eeprom, third, 129));
        self.poke("4 billion operations", -3, transaction(eeprom, third, -1));
        let write_again = m.operations(&[[1, at_0.0, 1], [0, buffer, 1], [1, wide.0, 2]]);
        self.poke("a write behind a read", -8, transaction(eeprom, write_again, 3));
    }

    fn spi(&mut self, m: &mut Memory) {
        use host::spi::{configure, get_device_names, open_device, read, transaction, transfer, write};
        self.kind("spi");
        let (out, buffer) = (m.out, m.buffer);
        let device = |name: (i32, i32)| open_device(name.0, name.1, out);
        self.poke("open an unknown device", -6, device(m.text("display")));
        self.poke("a device that was not opened", -2, read(77, buffer, 1));
        self.poke("a list without a buffer", -5, get_device_names(0, 0, out));
        self.poke("open", 0, device(m.text("loop")));
        let looped = m.word();
        self.poke("another clock", -8, configure(looped, 50_000_000, 0, 0));
        self.poke("another mode", -8, configure(looped, 1_000_000, 3, 0));
        self.poke("mode 4", -2, configure(looped, 1_000_000, 4, 0));
        self.poke("write", -8, write(looped, buffer, 1));
        self.poke("read", -8, read(looped, buffer, 1));
        self.poke("transfer nothing", -2, transfer(looped, buffer, buffer, 0));
        self.poke("transfer 70 000 bytes", -3, transfer(looped, m.long, m.long, 70_000));
        self.poke("transfer from outside", -1, transfer(looped, -4, buffer, 8));
        self.poke("transfer to outside", -1, transfer(looped, buffer, -4, 8));
        let (fifth, late) = (m.operations(&[[4, buffer, 1]]), m.operations(&[[3, buffer, 1]]));
        self.poke("an unknown operation", -2, transaction(looped, fifth, 1));
        self.poke("a delay with a pointer", -2, transaction(looped, late, 1));
    }

    fn actuators(&mut self, m: &mut Memory) {
        use host::actuators::write;
        self.kind("actuators");
        let out = m.out;
        let dimmer = m.text("dimmer");
        let set = |name: (i32, i32), value: (i32, i32)| write(name.0, name.1, value.0, value.1, out);
        self.poke("write an unknown actuator", -6, set(m.text("engine"), m.text("1")));
        self.poke("write one that is not granted", -7, set(m.text("pump"), m.text("1")));
        self.poke("more than was granted", -10, set(dimmer, m.text("101")));
        self.poke("less than nothing", -10, set(dimmer, m.text("-1")));
        self.poke("half a step", -10, set(dimmer, m.text("0.5")));
        self.poke("no number", -10, set(dimmer, m.text("full")));
        self.poke("nothing", -10, set(dimmer, m.text("")));
        self.poke("65 bytes", -3, set(dimmer, (m.long, 65)));
        self.poke("a retry outside", -1, write(dimmer.0, dimmer.1, dimmer.0, 1, -2));
        let one = m.text("1");
        let mut passed = 0_u32;
        let mut last = 0;
        for _ in 0..FLOOD {
            last = set(dimmer, one);
            passed += u32::from(last == 0);
        }
        self.poke("a flood", -11, last);
        self.flush();
        log::info(format_args!("pokes: {passed} of {FLOOD} writes passed"));
    }

    /// Denials, one after the other, as fast as they come.
    fn flood(&mut self, m: &mut Memory) {
        self.kind("flood");
        let window = m.text("window");
        let number = (0..FLOOD).map(|_| host::gpio::get(window.0, window.1, 1, m.out)).max();
        self.poke("get an unknown line a thousand times", -6, number.unwrap_or_default());
    }
}

impl Payload for Pokes {
    fn self_test(&mut self) -> Result<(), Failure> {
        Ok(())
    }

    fn run(&mut self) {
        health::healthy("about to poke");
        let mut memory = Memory::new();
        self.sensors(&mut memory);
        self.gpio(&mut memory);
        self.i2c(&mut memory);
        self.spi(&mut memory);
        self.actuators(&mut memory);
        self.flood(&mut memory);
        self.flush();
        let Self { tried, right, .. } = *self;
        let summary = format!("pokes: {right} of {tried} were answered as they should be");
        log::info(&summary);
        let report = if right == tried { health::healthy } else { health::degraded };
        report(&summary);
        while wait(Duration::from_secs(1)) == Wait::Continue {
            report(&summary);
        }
    }
}

payload!(Pokes);

//! Measures what one operation costs a payload: reading a sensor, switching a line, a transfer on a bus. What it finds it
//! logs, once, and then it only stays healthy.
//!
//! A line for each: `bench-io: read climate.temperature: 23456 ns (1000 operations)`. The figure is the median of the
//! rounds, so that something else that ran meanwhile does not count.

use core::time::Duration;
use std::time::Instant;

use iotwasm_guest::gpio::{Output, State};
use iotwasm_guest::i2c::Device;
use iotwasm_guest::sensors::Sensor;
use iotwasm_guest::{Error, Failure, Payload, Wait, fail, health, info, payload, wait};

/// Rounds of each measurement. Odd, so that one is in the middle.
const ROUNDS: usize = 5;
/// Operations of each measurement, all rounds together, unless the environment says otherwise.
const COUNT: u32 = 1_000;
/// What a transfer brings, in bytes.
const BYTES: usize = 8;

struct Bench {
    count: u32,
    climate: Sensor<'static>,
    dummy: Sensor<'static>,
    line: Output,
    eeprom: Device,
}

#[derive(Default)]
struct BenchIo(Option<Bench>);

impl Payload for BenchIo {
    fn self_test(&mut self) -> Result<(), Failure> {
        let count = match std::env::var("COUNT") {
            Err(_) => COUNT,
            Ok(text) => match text.parse() {
                Ok(count) => count,
                Err(_) => fail!("COUNT is {text:?}, which is no number"),
            },
        };
        let mut bench = Bench {
            count: count.max(ROUNDS as u32),
            climate: Sensor::get("climate")?.turn_on()?,
            dummy: Sensor::get("dummy")?.turn_on()?,
            line: Output::get("spare2", State::Inactive)?,
            eeprom: Device::open("eeprom")?,
        };
        bench.all(1)?;
        self.0 = Some(bench);
        Ok(())
    }

    fn run(&mut self) {
        let Some(bench) = &mut self.0 else { return };
        match bench.all(bench.count) {
            Ok(figures) => {
                for (what, ns) in figures {
                    info!("bench-io: {what}: {ns} ns ({} operations)", bench.count);
                }
                info!("bench-io: done");
                health::healthy("measured");
            }
            Err(error) => health::degraded(format_args!("could not measure: {error}")),
        }
        while wait(Duration::from_secs(1)) == Wait::Continue {
            health::healthy("measured");
        }
    }
}

impl Bench {
    fn all(&mut self, count: u32) -> Result<[(&'static str, u64); 5], Error> {
        let Self { climate, dummy, line, eeprom, .. } = self;
        let mut text = [0; 64];
        Ok([
            ("read climate.temperature", measure(count, || climate.read_text("temperature", &mut text).map(drop))?),
            ("read dummy.voltage", measure(count, || dummy.read_text("voltage", &mut text).map(drop))?),
            ("set line", {
                let mut state = State::Inactive;
                measure(count, || {
                    state = !state;
                    line.set(state)
                })?
            }),
            ("read line", measure(count, || line.read().map(drop))?),
            ("i2c write_read of 8 bytes", measure(count, || eeprom.write_read(&[0], &mut [0; BYTES]))?),
        ])
    }
}

/// Nanoseconds of one operation. Each round begins with a wait, so that it has all of its fuel and time.
fn measure(count: u32, mut operation: impl FnMut() -> Result<(), Error>) -> Result<u64, Error> {
    let each = count.div_ceil(ROUNDS as u32);
    let mut rounds = [0; ROUNDS];
    for round in &mut rounds {
        if wait(Duration::ZERO) == Wait::Stop {
            return Err(Error::Stopping);
        }
        let start = Instant::now();
        for _ in 0..each {
            operation()?;
        }
        *round = u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX) / u64::from(each);
    }
    rounds.sort_unstable();
    Ok(rounds[ROUNDS / 2])
}

payload!(BenchIo);

//! Uses its peripherals as fast as it can: a line, a sensor, a bus. What it is denied while they are away for a moment it
//! counts, and goes on; anything else is a failure.
#![no_std]

use core::time::Duration;

use iotwasm_guest::gpio::{Output, State};
use iotwasm_guest::i2c::Device;
use iotwasm_guest::sensors::Sensor;
use iotwasm_guest::{Error, Failure, Payload, Wait, health, payload, wait};

/// Rounds of each wake-up: little enough for the slowest machine.
const ROUNDS: u32 = 50;
/// Wake-ups between two reports.
const REPORT: u32 = 20;

#[derive(Default)]
struct Hammers {
    done: u32,
    away: u32,
}

impl Hammers {
    /// One use of a peripheral.
    fn count(&mut self, used: Result<(), Error>) -> Result<(), Error> {
        match used {
            Ok(()) => self.done = self.done.wrapping_add(1),
            Err(Error::Unavailable) => self.away = self.away.wrapping_add(1),
            Err(error) => return Err(error),
        }
        Ok(())
    }

    fn hammer(&mut self) -> Result<(), Error> {
        let line = Output::get("spare2", State::Inactive)?;
        let sensor = Sensor::get("dummy")?.turn_on()?;
        let eeprom = Device::open("eeprom")?;
        let mut turn = 0_u32;
        while wait(Duration::ZERO) == Wait::Continue {
            for _ in 0..ROUNDS {
                self.count(line.toggle())?;
                self.count(sensor.read_text("voltage", &mut [0; 64]).map(drop))?;
                self.count(eeprom.write_read(&[0], &mut [0; 8]))?;
            }
            if turn % REPORT == 0 {
                health::healthy(format_args!("{} done, {} while they were away", self.done, self.away));
            }
            turn = turn.wrapping_add(1);
        }
        Ok(())
    }
}

impl Payload for Hammers {
    fn self_test(&mut self) -> Result<(), Failure> {
        Device::open("eeprom")?.write_read(&[0], &mut [0; 1])?;
        Ok(())
    }

    fn run(&mut self) {
        if let Err(error) = self.hammer() {
            health::failed(error);
        }
    }
}

payload!(Hammers);

#[cfg(test)]
mod tests {
    use iotwasm_guest::Error;

    use super::Hammers;

    #[test]
    fn what_is_away_is_counted_and_anything_else_ends_it() {
        let mut hammers = Hammers::default();
        hammers.count(Ok(())).unwrap();
        hammers.count(Err(Error::Unavailable)).unwrap();
        assert_eq!((hammers.done, hammers.away), (1, 1));
        assert_eq!(hammers.count(Err(Error::Gone)), Err(Error::Gone));
    }
}

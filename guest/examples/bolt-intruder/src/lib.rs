//! Another vendor's: signed as it should be, but its manifest asks for what its tier may not grant (the light, and a pump
//! as fast as the board allows), beside a line that it may have. All of it is refused, so none of this ever runs.
#![no_std]

use core::time::Duration;

use iotwasm_guest::gpio::{Output, State};
use iotwasm_guest::{Failure, Payload, Wait, actuators, health, payload, wait};

#[derive(Default)]
struct Intruder;

impl Payload for Intruder {
    fn self_test(&mut self) -> Result<(), Failure> {
        Output::get("led", State::Active)?;
        actuators::write("pump", 1)?;
        Ok(())
    }

    fn run(&mut self) {
        while wait(Duration::from_secs(1)) == Wait::Continue {
            health::healthy("in");
        }
    }
}

payload!(Intruder);

//! A payload in the entry style `command`: an ordinary program with a `main`, which reports its own self-test. The SDK's
//! `command` does that for a type that implements `Payload`.

use core::time::Duration;

use iotwasm_guest::{Failure, Payload, Wait, fail, health, wait};

/// Litres for each pulse of the meter.
const LITRES_PER_PULSE: u32 = 10;

#[derive(Default)]
struct Meter {
    litres: u32,
}

impl Payload for Meter {
    fn self_test(&mut self) -> Result<(), Failure> {
        if LITRES_PER_PULSE.checked_mul(u32::from(u16::MAX)).is_none() {
            fail!("a day's pulses do not fit");
        }
        Ok(())
    }

    fn run(&mut self) {
        while wait(Duration::from_secs(1)) == Wait::Continue {
            self.litres = self.litres.wrapping_add(LITRES_PER_PULSE);
            // Standard output goes to the journal as well.
            println!("{} litres", self.litres);
            health::healthy(format_args!("{} litres", self.litres));
        }
    }
}

fn main() {
    iotwasm_guest::command::<Meter>();
}

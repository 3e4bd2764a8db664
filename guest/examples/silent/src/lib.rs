//! Defective: healthy at first, then it goes on without a heartbeat.
#![no_std]

use core::time::Duration;

use iotwasm_guest::{Failure, Payload, Wait, health, payload, wait};

/// Healthy for this long, in seconds: past the self-test, and within any confirmation period worth the name.
const HEALTHY_S: u32 = 5;

#[derive(Default)]
struct Silent;

impl Payload for Silent {
    fn self_test(&mut self) -> Result<(), Failure> {
        Ok(())
    }

    fn run(&mut self) {
        for second in 0..HEALTHY_S {
            health::healthy(format_args!("{} s before the defect", HEALTHY_S - second));
            if wait(Duration::from_secs(1)) == Wait::Stop {
                return;
            }
        }
        while wait(Duration::from_millis(500)) == Wait::Continue {}
    }
}

payload!(Silent);

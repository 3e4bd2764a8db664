//! Defective: healthy at first, then a loop without end uses all its fuel.
#![no_std]

use core::time::Duration;

use iotwasm_guest::{Failure, Payload, Wait, health, payload, wait};

/// Healthy for this long, in seconds: past the self-test, and within any confirmation period worth the name.
const HEALTHY_S: u32 = 5;

#[derive(Default)]
struct Spins;

impl Payload for Spins {
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
        let mut turns = 0_u64;
        loop {
            turns = core::hint::black_box(turns).wrapping_add(1);
        }
    }
}

payload!(Spins);

//! Hostile: logs and reports as fast as it can. It keeps to its fuel, so what must hold is everything around it: the
//! journal, the supervisor, and the processor time of the others.
#![no_std]

use core::time::Duration;

use iotwasm_guest::{Failure, Payload, Wait, health, info, payload, wait};

/// Lines between two waits of a millisecond.
const LINES: u32 = 1_000;

#[derive(Default)]
struct Floods;

impl Payload for Floods {
    fn self_test(&mut self) -> Result<(), Failure> {
        Ok(())
    }

    fn run(&mut self) {
        let mut line = 0_u64;
        while wait(Duration::from_millis(1)) == Wait::Continue {
            for _ in 0..LINES {
                line += 1;
                info!("line {line} of a flood");
                health::healthy(line);
            }
        }
    }
}

payload!(Floods);

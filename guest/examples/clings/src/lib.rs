//! Defective: whatever it does, it never lets the device be restarted.
#![no_std]

use core::time::Duration;

use iotwasm_guest::{Failure, Payload, Wait, health, payload, restart, wait};

/// What it asks for, each time anew.
const HOLD: Duration = Duration::from_secs(3600);
/// Between two wishes. Well below the manifest's heartbeat of 10 s.
const PERIOD: Duration = Duration::from_secs(1);

#[derive(Default)]
struct Clings;

impl Payload for Clings {
    fn self_test(&mut self) -> Result<(), Failure> {
        Ok(())
    }

    fn run(&mut self) {
        loop {
            if let Err(error) = restart::hold(HOLD) {
                return health::failed(error);
            }
            health::healthy("the device must never be restarted");
            if wait(PERIOD) == Wait::Stop {
                return;
            }
        }
    }
}

payload!(Clings);

//! Defective: its self-test never ends. Each wait refills its fuel, so that only the clock can tell.
#![no_std]

use core::time::Duration;

use iotwasm_guest::{Failure, Payload, Wait, fail, payload, wait};

#[derive(Default)]
struct HangsSelfTest;

impl Payload for HangsSelfTest {
    fn self_test(&mut self) -> Result<(), Failure> {
        while wait(Duration::from_millis(100)) == Wait::Continue {}
        fail!("stopped in the middle of the self-test")
    }

    fn run(&mut self) {}
}

payload!(HangsSelfTest);

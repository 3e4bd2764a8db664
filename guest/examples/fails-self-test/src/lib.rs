//! Defective: its self-test says no. Never to be kept.
#![no_std]

use iotwasm_guest::{Failure, Payload, fail, payload};

#[derive(Default)]
struct FailsSelfTest;

impl Payload for FailsSelfTest {
    fn self_test(&mut self) -> Result<(), Failure> {
        fail!("the valve does not answer")
    }

    fn run(&mut self) {}
}

payload!(FailsSelfTest);

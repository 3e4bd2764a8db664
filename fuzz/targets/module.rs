//! A module from a stranger: inspecting and checking never panic and never take memory out of proportion.
#![no_main]

use iotwasm_payload::{Policy, check, inspect};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let _ = inspect(bytes);
    let _ = check(bytes, &Policy::default());
});

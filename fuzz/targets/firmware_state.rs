//! A firmware state that a power cut, newer firmware or an attacker left: no panic; what is accepted can be written again, and
//! what can be saved of the rest is a state like any other.
#![no_main]

use iotwasm_firmware::state::FirmwareState;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let running = "1.0.0".parse().expect("a version");
    let state = FirmwareState::from_json(bytes).unwrap_or_else(|_| FirmwareState::salvage(bytes, &running));
    let written = state.to_json().expect("a state can be written");
    assert_eq!(FirmwareState::from_json(&written).expect("and read again"), state);
});

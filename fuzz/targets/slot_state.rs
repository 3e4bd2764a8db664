//! A slot state that a power cut, a newer firmware or an attacker left: no panic; what is accepted can be written again.
#![no_main]

use iotwasm_payload::PayloadState;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    if let Ok(state) = PayloadState::from_json(bytes) {
        let written = state.to_json().expect("an accepted state can be written");
        assert_eq!(PayloadState::from_json(&written).expect("and read again"), state);
    }
});

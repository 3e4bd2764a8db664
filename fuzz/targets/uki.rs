//! A UKI from a stranger: no panic, whatever its headers say; and the hash of an image that parses can be taken.
#![no_main]

use iotwasm_firmware::predict::{Pe, predict};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    if let Ok(pe) = Pe::parse(bytes) {
        pe.authenticode();
    }
    let _ = predict(bytes);
});

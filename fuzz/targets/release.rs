//! A release.json from a stranger: no panic, and what is accepted survives being written and read again.
#![no_main]

use iotwasm_firmware::Release;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    if let Ok(release) = Release::parse(bytes) {
        let written = release.to_json().expect("an accepted release can be written");
        assert_eq!(Release::parse(&written).expect("and read again"), release);
    }
});

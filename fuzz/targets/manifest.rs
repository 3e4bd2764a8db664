//! A manifest from a stranger: no panic, and what is accepted survives being written and read again.
#![no_main]

use iotwasm_payload::Manifest;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    if let Ok(manifest) = Manifest::parse(bytes) {
        let text = manifest.to_toml().expect("an accepted manifest can be written");
        assert_eq!(Manifest::parse(text.as_bytes()).expect("and read again"), manifest);
    }
});

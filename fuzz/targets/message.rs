//! A packet from a runner that its payload has taken over: no panic, bounded, and what is understood is understood the same
//! way when it is written and read again.
#![no_main]

use wasm_supervisord::protocol::FromRunner;

libfuzzer_sys::fuzz_target!(|packet: &[u8]| {
    if let Ok(message) = FromRunner::decode(packet) {
        let again = FromRunner::decode(&message.encode()).expect("what was decoded can be encoded");
        assert_eq!(again.encode(), message.encode());
    }
});

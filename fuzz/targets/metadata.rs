//! TUF metadata from a server that is not trusted yet: refused or read, never a crash; and patterns of delegations, whose
//! answers must agree with each other.
#![no_main]

use iotwasm_trust::{parse, pattern};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let _ = parse::root(bytes);
    let _ = parse::timestamp(bytes);
    let _ = parse::snapshot(bytes);
    let _ = parse::targets(bytes);
    if let Ok(text) = std::str::from_utf8(bytes)
        && let Some((one, other)) = text.split_once('\n')
    {
        // Both patterns match this path, so they have it in common.
        if !pattern::is_pattern(other) && pattern::matches(one, other) {
            assert!(pattern::intersects(one, other), "{one:?} matches {other:?} and does not intersect it");
        }
        assert_eq!(pattern::intersects(one, other), pattern::intersects(other, one), "{one:?} and {other:?}");
    }
});

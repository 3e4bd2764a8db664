//! What every payload has, as far as it needs no capd.

use wasm_supervisord::protocol::{FromRunner, MAX_HOLD_S};

use super::{super::number::*, Guest};

const HOLD: &str = "iotwasm.iotwasm_hold_restart";

fn held(guest: &Guest) -> Vec<u16> {
    let seconds = |message| if let FromRunner::Hold { seconds } = message { Some(seconds) } else { None };
    guest.heard().into_iter().filter_map(seconds).collect()
}

#[test]
fn a_hold_is_told_up_to_its_bound_and_refused_beyond() {
    let mut guest = Guest::new();
    for (seconds, number) in [
        (1, OK),
        (i64::from(MAX_HOLD_S), OK),
        (i64::from(MAX_HOLD_S) + 1, BAD_ARGUMENT),
        (65_536 + 1, BAD_ARGUMENT),
        (i64::from(i32::MAX), BAD_ARGUMENT),
        (-1, BAD_ARGUMENT),
        (0, OK),
    ] {
        assert_eq!(guest.call(HOLD, &[seconds]), number, "{seconds}");
    }
    assert_eq!(held(&guest), [1, MAX_HOLD_S, 0]);
}

#[test]
fn a_release_without_a_hold_is_no_news() {
    let mut guest = Guest::new();
    assert_eq!(guest.repeat(HOLD, &[0], Some(100)), OK);
    assert_eq!(guest.heard(), []);
}

#[test]
fn who_holds_too_often_is_told_and_can_still_release() {
    let mut guest = Guest::new();
    assert_eq!(guest.repeat(HOLD, &[60], Some(10_000)), TOO_SOON);
    let told = held(&guest);
    assert!((16..1000).contains(&told.len()) && told.iter().all(|seconds| *seconds == 60), "{}", told.len());
    assert_eq!(guest.repeat(HOLD, &[0], Some(1000)), OK);
    assert_eq!(held(&guest), [0], "once for all of them");
}

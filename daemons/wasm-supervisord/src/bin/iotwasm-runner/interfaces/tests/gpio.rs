use std::time::{Duration, Instant};

use iotwasm_session::{Direction, Kind, Request, Why};
use wasm_supervisord::protocol::{FromRunner, ToRunner};

use super::{super::number::*, Guest, MEMORY, args};
use crate::capd::{Oddity, denied};

const OUT: i64 = 8;
const EVENT: i64 = 64;
const LONG: i64 = 60_000;

fn get(guest: &mut Guest, label: &str, flags: i64) -> Result<i64, i32> {
    let label = guest.text(label);
    match guest.call("gpio.get", &args(&[&label, &[flags, OUT]])) {
        OK => Ok(guest.number(OUT as u32).into()),
        number => Err(number),
    }
}

/// An event as the kernel writes it.
fn kernel_event(time: u64, edge: u32, line_sequence: u32) -> Vec<u8> {
    let mut event = time.to_le_bytes().to_vec();
    for word in [edge, 17, 99, line_sequence, 1, 2, 3, 4, 5, 6] {
        event.extend(word.to_le_bytes());
    }
    event
}

/// An event as the guest gets it.
fn event(time: u64, edge: u32, line_sequence: u32) -> Vec<u8> {
    let mut event = time.to_le_bytes().to_vec();
    event.extend(edge.to_le_bytes());
    event.extend(line_sequence.to_le_bytes());
    event.extend([0; 8]);
    event
}

fn opened(line: u16, direction: Direction) -> Request {
    Request::OpenLine { line, direction }
}

fn watched(line: u16, rising: bool, falling: bool) -> Request {
    Request::Watch { line, rising, falling }
}

#[test]
fn a_line_is_leased_as_its_flags_say() {
    let mut guest = Guest::new();
    assert_eq!(get(&mut guest, "button", 1), Ok(1));
    assert_eq!(get(&mut guest, "led", 2 | 4), Ok(2));
    assert_eq!(get(&mut guest, "spare", 2 | 8), Ok(3));
    let expected =
        [opened(0, Direction::In), opened(1, Direction::Out(Some(true))), opened(2, Direction::Out(Some(false)))];
    assert_eq!(guest.capd.asked(), expected);
}

#[test]
fn without_a_direction_a_line_that_was_granted_one_way_is_used_that_way() {
    let mut guest = Guest::new();
    assert_eq!(get(&mut guest, "button", 0), Ok(1));
    assert_eq!(get(&mut guest, "led", 4), Ok(2));
    assert_eq!(get(&mut guest, "spare", 0), Err(BAD_ARGUMENT));
    assert_eq!(guest.capd.asked(), [opened(0, Direction::In), opened(1, Direction::Out(Some(true)))]);
}

#[test]
fn flags_that_make_no_sense_are_refused() {
    let mut guest = Guest::new();
    for (label, flags) in [
        ("spare", 3),
        ("button", 3),
        ("spare", 16),
        ("spare", -1),
        ("button", 1 | 4),
        ("button", 8),
        ("spare", 2 | 4 | 8),
    ] {
        assert_eq!(get(&mut guest, label, flags), Err(BAD_ARGUMENT), "{label} {flags}");
    }
    assert_eq!(guest.capd.asked(), []);
}

#[test]
fn a_line_that_was_not_granted_or_not_this_way_is_denied() {
    let mut guest = Guest::new();
    assert_eq!(get(&mut guest, "nothing", 1), Err(NOT_FOUND));
    assert_eq!(get(&mut guest, "secret", 1), Err(NOT_ALLOWED));
    assert_eq!(get(&mut guest, "button", 2), Err(MODE_NOT_ALLOWED));
    assert_eq!(get(&mut guest, "led", 1), Err(MODE_NOT_ALLOWED));
    let gpio = |name, why| denied(Kind::Gpio, name, why);
    let expected =
        [gpio("nothing", Why::Name), gpio("secret", Why::Name), gpio("button", Why::Mode), gpio("led", Why::Mode)];
    assert_eq!(guest.capd.asked(), expected);
}

#[test]
fn a_pin_that_is_got_again_is_the_same_and_turns_round() {
    let mut guest = Guest::new();
    let pin = get(&mut guest, "spare", 1).unwrap();
    assert_eq!(get(&mut guest, "spare", 1), Ok(pin));
    assert_eq!(guest.capd.asked(), [opened(2, Direction::In)]);
    assert_eq!(get(&mut guest, "spare", 2 | 4), Ok(pin));
    assert_eq!(get(&mut guest, "spare", 2), Ok(pin));
    assert_eq!(guest.call("gpio.set_pin_mode", &[pin, 2]), OK);
    assert_eq!(guest.call("gpio.set_pin_mode", &[pin, 1]), OK);
    let turned = |direction| Request::SetDirection { line: 2, direction };
    assert_eq!(guest.capd.asked(), [turned(Direction::Out(Some(true))), turned(Direction::In)]);
    for mode in [0, 3, -1] {
        assert_eq!(guest.call("gpio.set_pin_mode", &[pin, mode]), BAD_ARGUMENT);
    }
}

#[test]
fn a_mode_that_was_not_granted_is_denied() {
    let mut guest = Guest::new();
    let pin = get(&mut guest, "button", 1).unwrap();
    guest.capd.asked();
    assert_eq!(guest.call("gpio.set_pin_mode", &[pin, 2]), MODE_NOT_ALLOWED);
    assert_eq!(guest.call("gpio.set_state", &[pin, 1]), MODE_NOT_ALLOWED);
    let led = get(&mut guest, "led", 2).unwrap();
    assert_eq!(guest.call("gpio.watch", &[led, 1]), MODE_NOT_ALLOWED);
    let button = denied(Kind::Gpio, "button", Why::Mode);
    let expected = [button.clone(), button, opened(1, Direction::Out(None)), denied(Kind::Gpio, "led", Why::Mode)];
    assert_eq!(guest.capd.asked(), expected);
}

#[test]
fn a_line_that_faces_the_other_way_has_to_be_turned_first() {
    let mut guest = Guest::new();
    let pin = get(&mut guest, "spare", 1).unwrap();
    assert_eq!(guest.call("gpio.set_state", &[pin, 1]), MODE_NOT_ALLOWED);
    assert_eq!(guest.call("gpio.set_pin_mode", &[pin, 2]), OK);
    assert_eq!(guest.call("gpio.watch", &[pin, 1]), MODE_NOT_ALLOWED);
    assert!(!guest.capd.asked().iter().any(|request| matches!(request, Request::Denied { .. })));
}

/// The fake's lines are pipes, which take no device command: that it was tried shows as a fault. Levels of real lines are
/// for the scenarios on a device.
#[test]
fn a_level_is_one_command_to_the_descriptor() {
    let mut guest = Guest::new();
    let (input, output) = (get(&mut guest, "button", 1).unwrap(), get(&mut guest, "led", 2).unwrap());
    guest.capd.asked();
    assert_eq!(guest.call("gpio.read", &[input, OUT]), HARDWARE_FAULT);
    assert_eq!(guest.call("gpio.read", &[output, OUT]), HARDWARE_FAULT);
    assert_eq!(guest.call("gpio.set_state", &[output, 0]), HARDWARE_FAULT);
    assert_eq!(guest.call("gpio.set_state", &[output, 2]), BAD_ARGUMENT);
    assert_eq!(guest.call("gpio.read", &[input, MEMORY - 3]), BAD_POINTER);
    assert_eq!(guest.capd.asked(), []);
}

#[test]
fn handles_that_nothing_belongs_to_are_refused() {
    let mut guest = Guest::new();
    let pin = get(&mut guest, "led", 2).unwrap();
    for pin in [0, 1, 3, 4, -1, i64::from(u32::MAX), i64::from(i32::MAX), pin + 65_536] {
        assert_eq!(guest.call("gpio.read", &[pin, OUT]), BAD_ARGUMENT, "{pin}");
        assert_eq!(guest.call("gpio.set_state", &[pin, 1]), BAD_ARGUMENT);
        assert_eq!(guest.call("gpio.set_pin_mode", &[pin, 2]), BAD_ARGUMENT);
        assert_eq!(guest.call("gpio.watch", &[pin, 1]), BAD_ARGUMENT);
        assert_eq!(guest.call("gpio.next_event", &[pin, 0, EVENT]), BAD_ARGUMENT);
        assert_eq!(guest.call("gpio.drop", &[pin]), BAD_ARGUMENT);
    }
}

#[test]
fn a_pin_that_was_dropped_is_no_pin_until_it_is_got_again() {
    let mut guest = Guest::new();
    let pin = get(&mut guest, "led", 2).unwrap();
    assert_eq!(guest.call("gpio.drop", &[pin]), OK);
    assert_eq!(guest.call("gpio.drop", &[pin]), BAD_ARGUMENT);
    assert_eq!(get(&mut guest, "led", 2), Ok(pin));
    let (open, close) = (opened(1, Direction::Out(None)), Request::CloseLine { line: 1 });
    assert_eq!(guest.capd.asked(), [open.clone(), close, open]);
}

#[test]
fn bad_labels_and_pointers_are_refused_without_asking() {
    let mut guest = Guest::new();
    let label = guest.text("led");
    assert_eq!(guest.call("gpio.get", &args(&[&label, &[2, MEMORY - 3]])), BAD_POINTER);
    assert_eq!(guest.call("gpio.get", &[0, 10_000_000, 2, OUT]), TOO_LONG);
    assert_eq!(guest.call("gpio.get", &[MEMORY, 1, 2, OUT]), BAD_POINTER);
    let label = guest.text([0xff]);
    assert_eq!(guest.call("gpio.get", &args(&[&label, &[2, OUT]])), BAD_ARGUMENT);
    assert_eq!(guest.capd.asked(), []);
}

#[test]
fn what_capd_answers_to_a_lease_is_passed_on() {
    let mut guest = Guest::new();
    guest.capd.be_odd(Oddity::Say(Err(iotwasm_session::Error::AlreadyInUse), 0));
    assert_eq!(get(&mut guest, "led", 2), Err(ALREADY_IN_USE));
    assert_eq!(guest.call("gpio.read", &[2, OUT]), BAD_ARGUMENT);
    guest.capd.be_odd(Oddity::Say(Err(iotwasm_session::Error::NotSupported), 0));
    assert_eq!(get(&mut guest, "led", 2), Err(NOT_SUPPORTED));
}

#[test]
fn events_come_in_their_order_and_as_the_guest_expects_them() {
    let mut guest = Guest::new();
    let pin = get(&mut guest, "button", 1).unwrap();
    assert_eq!(guest.call("gpio.watch", &[pin, 3]), OK);
    guest.capd.event(0, &kernel_event(1_234_567_890_123, 1, 1));
    guest.capd.event(0, &kernel_event(u64::MAX, 2, u32::MAX));
    assert_eq!(guest.call("gpio.next_event", &[pin, LONG, EVENT]), OK);
    assert_eq!(guest.get(EVENT as u32, 24), event(1_234_567_890_123, 1, 1));
    assert_eq!(guest.call("gpio.next_event", &[pin, 0, EVENT]), OK);
    assert_eq!(guest.get(EVENT as u32, 24), event(u64::MAX, 2, u32::MAX));
    assert_eq!(guest.call("gpio.next_event", &[pin, 0, EVENT]), TIMED_OUT);
    assert_eq!(guest.call("gpio.next_event", &[pin, 10, EVENT]), TIMED_OUT);
    assert_eq!(guest.call("gpio.watch", &[pin, 0]), OK);
    let expected = [opened(0, Direction::In), watched(0, true, true), watched(0, false, false)];
    assert_eq!(guest.capd.asked(), expected);
    for edges in [4, -1] {
        assert_eq!(guest.call("gpio.watch", &[pin, edges]), BAD_ARGUMENT);
    }
}

#[test]
fn bad_waits_for_an_event_are_refused_at_once() {
    let mut guest = Guest::new();
    let pin = get(&mut guest, "button", 1).unwrap();
    assert_eq!(guest.call("gpio.next_event", &[pin, -1, EVENT]), BAD_ARGUMENT);
    assert_eq!(guest.call("gpio.next_event", &[pin, i64::MIN, EVENT]), BAD_ARGUMENT);
    assert_eq!(guest.call("gpio.next_event", &[pin, LONG, MEMORY - 23]), BAD_POINTER);
    assert_eq!(guest.call("gpio.next_event", &[pin, 0, MEMORY - 24]), TIMED_OUT);
}

#[test]
fn half_an_event_is_a_fault() {
    let mut guest = Guest::new();
    let pin = get(&mut guest, "button", 1).unwrap();
    guest.capd.event(0, &kernel_event(1, 1, 1)[..40]);
    assert_eq!(guest.call("gpio.next_event", &[pin, LONG, EVENT]), HARDWARE_FAULT);
}

#[test]
fn a_stop_ends_the_wait_for_an_event_and_every_later_wait() {
    let mut guest = Guest::new();
    let pin = get(&mut guest, "button", 1).unwrap();
    guest.capd.event(0, &kernel_event(1, 1, 1));
    guest.tell(&ToRunner::Stop, None);
    assert_eq!(guest.call("gpio.next_event", &[pin, LONG, EVENT]), STOPPING);
    assert_eq!(guest.call("gpio.next_event", &[pin, LONG, EVENT]), STOPPING);
    assert_eq!(guest.call("iotwasm.iotwasm_wait", &[LONG]), STOPPING);
}

#[test]
fn a_session_that_ends_ends_the_wait_and_the_next_one_waits_for_another() {
    let mut guest = Guest::new();
    let pin = get(&mut guest, "button", 1).unwrap();
    assert_eq!(guest.call("gpio.watch", &[pin, 1]), OK);
    guest.capd.asked();
    guest.capd.crash();
    assert_eq!(guest.call("gpio.next_event", &[pin, LONG, EVENT]), UNAVAILABLE);
    assert_eq!(guest.heard(), [FromRunner::SessionLost]);
    assert_eq!(guest.call("gpio.next_event", &[pin, 10, EVENT]), UNAVAILABLE);
    assert_eq!(guest.heard(), []);
    // The line is leased and watched as before.
    let (capd, control) = (guest.capd.clone(), guest.control.try_clone().unwrap());
    let later = std::thread::spawn(move || {
        super::tell(&control, &ToRunner::Session, Some(capd.session()));
        let expected = [Request::Claim, opened(0, Direction::In), watched(0, true, false)];
        let (mut asked, until) = (Vec::new(), Instant::now() + Duration::from_secs(60));
        while asked != expected {
            assert!(Instant::now() < until, "{asked:?}");
            asked.extend(capd.asked());
            std::thread::yield_now();
        }
        capd.event(0, &kernel_event(5, 1, 1));
    });
    assert_eq!(guest.call("gpio.next_event", &[pin, LONG, EVENT]), OK);
    assert_eq!(guest.get(EVENT as u32, 24), event(5, 1, 1));
    later.join().unwrap();
}

#[test]
fn an_output_is_leased_again_as_it_stands() {
    let mut guest = Guest::new();
    let pin = get(&mut guest, "led", 2 | 4).unwrap();
    guest.capd.crash();
    guest.renew();
    guest.capd.asked();
    // At its first use it is found out that the lease has gone; a wait finds it out, too.
    assert_eq!(guest.call("iotwasm.iotwasm_wait", &[0]), OK);
    assert_eq!(guest.call("gpio.set_state", &[pin, 1]), HARDWARE_FAULT);
    assert_eq!(guest.capd.asked(), [Request::Claim, opened(1, Direction::Out(None))]);
}

#[test]
fn a_lease_that_cannot_be_watched_is_given_back() {
    let mut guest = Guest::new();
    let pin = get(&mut guest, "button", 1).unwrap();
    assert_eq!(guest.call("gpio.watch", &[pin, 2]), OK);
    guest.capd.crash();
    assert_eq!(guest.call("iotwasm.iotwasm_wait", &[0]), OK);
    guest.renew();
    assert_eq!(guest.call("iotwasm.iotwasm_wait", &[0]), OK);
    guest.capd.asked();
    let reply = |answer| Oddity::Say(answer, 0);
    guest.capd.be_odd(Oddity::Say(Ok(iotwasm_session::Reply::Done), 1));
    guest.capd.be_odd(reply(Err(iotwasm_session::Error::HardwareFault)));
    assert_eq!(guest.call("gpio.read", &[pin, OUT]), HARDWARE_FAULT);
    let close = Request::CloseLine { line: 0 };
    assert_eq!(guest.capd.asked(), [opened(0, Direction::In), watched(0, false, true), close]);
}

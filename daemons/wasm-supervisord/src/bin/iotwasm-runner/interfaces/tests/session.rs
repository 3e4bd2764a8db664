use std::time::{Duration, Instant};

use iotwasm_payload::interfaces::Val;
use iotwasm_session::{Reply, Request, Table};
use proptest::prelude::*;
use wasm_supervisord::protocol::{FromRunner, ToRunner};

use super::{super::number::*, Guest, MEMORY, args, interfaces};
use crate::capd::{Capd, Oddity, table};

/// One call for each kind of question, with what makes it possible.
fn questions(guest: &mut Guest) -> Vec<(&'static str, Vec<i64>)> {
    let [climate, rate, state, led, valve, eeprom, adc, nothing] =
        ["climate", "rate", "state", "led", "valve", "eeprom", "adc", "nothing"].map(|name| guest.text(name));
    vec![
        ("sensors.turn_on", climate.to_vec()),
        ("sensors.config", args(&[&climate, &rate, &rate])),
        ("sensors.read", args(&[&climate, &state, &[64, 64, 8]])),
        ("sensors.read", args(&[&climate, &rate, &[64, 64, 8]])),
        ("gpio.get", args(&[&led, &[2 | 4, 8]])),
        ("i2c.read", vec![1, 64, 4]),
        ("i2c.open", args(&[&nothing, &[8]])),
        ("spi.write", vec![1, 64, 4]),
        ("spi.open_device", args(&[&nothing, &[8]])),
        ("actuators.write", args(&[&valve, &rate, &[0]])),
        ("sensors.turn_on", nothing.to_vec()),
        // The devices themselves need no session.
        ("i2c.open", args(&[&eeprom, &[8]])),
        ("spi.open_device", args(&[&adc, &[8]])),
    ]
}

#[test]
fn a_capd_that_dies_in_the_middle_of_any_question_is_followed_by_the_next() {
    let mut guest = Guest::new();
    let questions = questions(&mut guest);
    let climate = questions[0].1.clone();
    assert_eq!(guest.call("sensors.turn_on", &climate), OK);
    for (function, args) in &questions[..11] {
        guest.capd.be_odd(Oddity::Die);
        // The value of a sensor that is on needs no question, so nothing is noticed.
        if *function == "sensors.read" && args[2] != questions[2].1[2] {
            assert_eq!(guest.call(function, args), OK);
            assert_eq!(guest.call("sensors.turn_on", &climate), UNAVAILABLE);
        } else {
            assert_eq!(guest.call(function, args), UNAVAILABLE, "{function}");
        }
        assert_eq!(guest.heard(), [FromRunner::SessionLost], "{function}");
        assert_eq!(guest.call(function, args), UNAVAILABLE, "{function}, without a session");
        assert_eq!(guest.heard(), [], "it is said once");
        guest.renew();
        assert_ne!(guest.call(function, args), UNAVAILABLE, "{function}, with another session");
        assert_eq!(guest.heard(), []);
    }
}

#[test]
fn what_is_given_back_while_capd_dies_is_given_back() {
    for (open, close) in [("gpio.get", "gpio.drop"), ("sensors.turn_on", "sensors.turn_off")] {
        let mut guest = Guest::new();
        let (led, climate) = (guest.text("led"), guest.text("climate"));
        let (opens, closes) =
            if open == "gpio.get" { (args(&[&led, &[2, 8]]), vec![2]) } else { (climate.to_vec(), climate.to_vec()) };
        assert_eq!(guest.call(open, &opens), OK);
        guest.capd.be_odd(Oddity::Die);
        assert_eq!(guest.call(close, &closes), OK);
        assert_eq!(guest.heard(), [FromRunner::SessionLost]);
        guest.renew();
        assert_eq!(guest.call(open, &opens), OK);
    }
}

#[test]
fn nonsense_from_capd_ends_the_session() {
    let table = || Box::new(table());
    for oddity in [
        Oddity::Babble,
        Oddity::Say(Ok(Reply::Done), 0),
        Oddity::Say(Ok(Reply::Claimed(*table())), 1),
        Oddity::Say(Ok(Reply::On { readable: vec![0] }), 0),
        Oddity::Say(Ok(Reply::On { readable: vec![0] }), 2),
        Oddity::Say(Ok(Reply::On { readable: vec![4] }), 1),
        Oddity::Say(Ok(Reply::On { readable: vec![u16::MAX] }), 1),
    ] {
        let mut guest = Guest::new();
        let climate = guest.text("climate");
        let what = format!("{oddity:?}");
        guest.capd.be_odd(oddity);
        assert_eq!(guest.call("sensors.turn_on", &climate), UNAVAILABLE, "{what}");
        assert_eq!(guest.heard(), [FromRunner::SessionLost], "{what}");
    }
    for (function, arguments, oddity) in [
        ("gpio.get", vec![2, 8], Oddity::Say(Ok(Reply::Done), 0)),
        ("gpio.get", vec![2, 8], Oddity::Say(Ok(Reply::Done), 2)),
        ("i2c.read", vec![1, 64, 4], Oddity::Say(Ok(Reply::Bytes(vec![0; 3])), 0)),
        ("i2c.read", vec![1, 64, 4], Oddity::Say(Ok(Reply::Bytes(vec![0; 5])), 0)),
        ("spi.write", vec![1, 64, 4], Oddity::Say(Ok(Reply::Bytes(vec![0; 1])), 0)),
        ("spi.write", vec![1, 64, 4], Oddity::Say(Ok(Reply::Bytes(vec![])), 1)),
    ] {
        let mut guest = Guest::new();
        let led = guest.text("led");
        let arguments = if function == "gpio.get" { args(&[&led, &arguments]) } else { arguments };
        guest.capd.be_odd(oddity);
        assert_eq!(guest.call(function, &arguments), UNAVAILABLE, "{function}");
        assert_eq!(guest.heard(), [FromRunner::SessionLost], "{function}");
    }
}

#[test]
fn an_answer_to_a_denial_that_allows_it_is_nonsense() {
    let mut guest = Guest::new();
    let nothing = guest.text("nothing");
    guest.capd.be_odd(Oddity::Say(Ok(Reply::Done), 0));
    assert_eq!(guest.call("sensors.turn_on", &nothing), UNAVAILABLE);
    assert_eq!(guest.heard(), [FromRunner::SessionLost]);
}

#[test]
fn a_capd_that_never_answers_is_given_up_and_a_late_answer_is_not_taken_for_another() {
    let mut guest = Guest::new();
    let climate = guest.text("climate");
    guest.capd.be_odd(Oddity::Silence);
    let asked = Instant::now();
    assert_eq!(guest.call("sensors.turn_on", &climate), UNAVAILABLE);
    assert!(asked.elapsed() >= Duration::from_secs(5), "{:?}", asked.elapsed());
    assert_eq!(guest.heard(), [FromRunner::SessionLost]);
    assert_eq!(guest.call("sensors.turn_on", &climate), UNAVAILABLE);
    guest.renew();
    assert_eq!(guest.call("sensors.turn_on", &climate), OK);
}

#[test]
fn a_sensor_that_was_on_is_turned_on_again_when_it_is_next_read() {
    let mut guest = Guest::new();
    let (climate, rate) = (guest.text("climate"), guest.text("rate"));
    assert_eq!(guest.call("sensors.turn_on", &climate), OK);
    guest.capd.crash();
    // A wait notices the end, and takes the next session.
    assert_eq!(guest.call("iotwasm.iotwasm_wait", &[1]), OK);
    assert_eq!(guest.heard(), [FromRunner::SessionLost]);
    guest.capd.asked();
    guest.renew();
    assert_eq!(guest.call("iotwasm.iotwasm_wait", &[0]), OK);
    assert_eq!(guest.capd.asked(), [Request::Claim]);
    assert_eq!(guest.call("sensors.read", &args(&[&climate, &rate, &[64, 64, 8]])), OK);
    assert_eq!(guest.capd.asked(), [Request::TurnOn { sensor: 0 }]);
}

#[test]
fn a_stop_between_two_sessions_is_not_forgotten() {
    let mut guest = Guest::new();
    let climate = guest.text("climate");
    guest.capd.crash();
    assert_eq!(guest.call("sensors.turn_on", &climate), UNAVAILABLE);
    guest.tell(&ToRunner::Stop, None);
    guest.renew();
    assert_eq!(guest.call("sensors.turn_on", &climate), UNAVAILABLE);
    assert_eq!(guest.call("iotwasm.iotwasm_wait", &[60_000]), STOPPING);
    assert_eq!(guest.call("sensors.turn_on", &climate), OK);
}

#[test]
fn a_session_without_its_socket_is_no_session() {
    let mut guest = Guest::new();
    let climate = guest.text("climate");
    guest.capd.crash();
    assert_eq!(guest.call("sensors.turn_on", &climate), UNAVAILABLE);
    guest.heard();
    guest.tell(&ToRunner::Session, None);
    assert_eq!(guest.call("sensors.turn_on", &climate), UNAVAILABLE);
    assert_eq!(guest.heard(), []);
}

#[test]
fn another_table_is_not_taken() {
    let mut guest = Guest::new();
    let climate = guest.text("climate");
    guest.capd.crash();
    assert_eq!(guest.call("sensors.turn_on", &climate), UNAVAILABLE);
    assert_eq!(guest.heard(), [FromRunner::SessionLost]);
    let other = Capd::of(Table { sensors: vec![], ..table() });
    guest.tell(&ToRunner::Session, Some(other.session()));
    assert_eq!(guest.call("sensors.turn_on", &climate), UNAVAILABLE);
    assert_eq!(guest.heard(), [FromRunner::SessionLost]);
    guest.renew();
    assert_eq!(guest.call("sensors.turn_on", &climate), OK);
}

#[test]
fn a_thousand_calls_at_full_speed_are_a_thousand_questions_and_no_more() {
    let mut guest = Guest::new();
    let (climate, rate, nothing) = (guest.text("climate"), guest.text("rate"), guest.text("nothing"));
    assert_eq!(guest.call("sensors.turn_on", &climate), OK);
    for _ in 0..1000 {
        assert_eq!(guest.call("gpio.get", &args(&[&nothing, &[1, 8]])), NOT_FOUND);
        assert_eq!(guest.call("sensors.read", &args(&[&climate, &rate, &[64, 64, 8]])), OK);
    }
    assert_eq!(guest.capd.asked().len(), 1001);
    assert_eq!(guest.heard(), []);
}

/// Numbers that are interesting as pointers, lengths, handles and flags.
fn any_number() -> impl Strategy<Value = i64> {
    prop_oneof![
        0..70i64,
        Just(MEMORY),
        (MEMORY - 64)..(MEMORY + 64),
        Just(i64::from(i32::MAX)),
        Just(i64::from(u32::MAX)),
        any::<i32>().prop_map(i64::from),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 20, ..ProptestConfig::default() })]
    #[test]
    fn no_arguments_end_the_guest_or_the_session(
        memory in prop::collection::vec(any::<u8>(), 0..4096),
        calls in prop::collection::vec((any::<prop::sample::Index>(), prop::collection::vec(any_number(), 8)), 200),
    ) {
        let functions: Vec<_> = interfaces()
            .filter(|interface| interface.module != "iotwasm")
            .flat_map(|interface| interface.functions.iter().map(|function| (interface.module, function)))
            .collect();
        let mut guest = Guest::new();
        guest.put(0, &memory);
        for (function, args) in questions(&mut guest) {
            guest.call(function, &args);
        }
        for (which, numbers) in calls {
            let (module, function) = which.get(&functions);
            // A wait is as long as its argument says.
            let args: Vec<_> = function.params.iter().zip(&numbers).map(|(param, number)| match param {
                Val::I32 => *number,
                Val::I64 => number % 2,
            }).collect();
            let name = format!("{}.{}", module.strip_prefix("iotwasm_").unwrap(), function.name);
            let number = guest.call(&name, &args);
            prop_assert!((-32..=0).contains(&number), "{name} {args:?}: {number}");
            prop_assert_ne!(number, UNAVAILABLE, "{} {:?}", name, args);
        }
        prop_assert_eq!(guest.heard(), []);
    }
}

use embedded_hal::digital::{InputPin, OutputPin, StatefulOutputPin};

use super::{Duration, Edges, Error, Event, InOut, Input, Mode, Next, Output, State};
use crate::testing::{self, Call, Line};

const SECOND: Duration = Duration::from_secs(1);

fn board() {
    testing::reset();
    testing::add_line("led", Line::Out);
    testing::add_line("button", Line::In);
    testing::add_line("spare", Line::Both);
}

#[test]
fn an_output_is_set_and_read_back() {
    board();
    let mut led = Output::get("led", State::Active).unwrap();
    assert_eq!(testing::line("led"), State::Active);
    led.toggle().unwrap();
    assert_eq!((testing::line("led"), led.read()), (State::Inactive, Ok(State::Inactive)));
    led.set_high().unwrap();
    assert_eq!((led.is_set_high(), led.is_set_low()), (Ok(true), Ok(false)));
    StatefulOutputPin::toggle(&mut led).unwrap();
    let set = |state| Call::SetLine { label: "led".into(), state };
    let all = [State::Active, State::Inactive, State::Active, State::Inactive].map(set);
    assert_eq!(testing::take(), all);
}

#[test]
fn a_line_stays_as_it_stands_and_is_leased_until_it_is_dropped() {
    board();
    drop(Output::get("led", State::Active).unwrap());
    assert!(!testing::is_leased("led"));
    let led = Output::get_as_it_stands("led").unwrap();
    assert!(testing::is_leased("led"));
    assert_eq!(led.read(), Ok(State::Active));
}

#[test]
fn an_input_is_read_and_cannot_be_made_an_output() {
    board();
    let mut button = Input::get("button").unwrap();
    assert_eq!(button.read(), Ok(State::Inactive));
    testing::set_line("button", State::Active);
    assert_eq!((button.is_high(), button.is_low()), (Ok(true), Ok(false)));
    assert_eq!(Output::get("button", State::Active).unwrap_err(), Error::ModeNotAllowed);
    assert_eq!(Input::get("led").unwrap_err(), Error::ModeNotAllowed);
    assert_eq!(Input::get("window").unwrap_err(), Error::NotFound);
}

#[test]
fn a_line_of_both_ways_is_turned_round() {
    board();
    let mut spare = InOut::get_as_input("spare").unwrap();
    assert_eq!(spare.set(State::Active), Err(Error::ModeNotAllowed));
    spare.set_mode(Mode::Out).unwrap();
    spare.set_high().unwrap();
    assert_eq!(testing::line("spare"), State::Active);
    assert_eq!(spare.watch(Edges::Both), Err(Error::ModeNotAllowed));
    spare.set_mode(Mode::In).unwrap();
    spare.watch(Edges::Both).unwrap();
    drop(spare);
    let spare = InOut::get_as_output("spare", State::Inactive).unwrap();
    assert_eq!(spare.read(), Ok(State::Inactive));
}

#[test]
fn edges_that_are_watched_are_queued_with_their_times() {
    board();
    testing::stop_after(10);
    let button = Input::get("button").unwrap();
    testing::set_line("button", State::Active);
    testing::set_line("button", State::Inactive);
    button.watch(Edges::Rising).unwrap();
    assert_eq!(button.next_event(Duration::ZERO), Ok(Next::Nothing));
    let _ = crate::wait(SECOND);
    for state in [State::Active, State::Inactive, State::Active] {
        testing::set_line("button", state);
    }
    let edge = |sequence| Next::Edge(Event { time: SECOND, rising: true, sequence });
    assert_eq!(button.next_event(SECOND), Ok(edge(1)));
    assert_eq!(button.next_event(SECOND), Ok(edge(2)));
    assert_eq!(button.next_event(SECOND), Ok(Next::Nothing));
    button.watch(Edges::None).unwrap();
    testing::set_line("button", State::Inactive);
    assert_eq!(button.next_event(Duration::ZERO), Ok(Next::Nothing));
}

#[test]
fn waiting_for_an_edge_ends_with_a_stop_and_so_does_the_wait_after_it() {
    board();
    testing::stop_after(1);
    testing::each_wait(|wait| {
        if wait == 1 {
            testing::set_line("button", State::Active);
        }
    });
    let button = Input::get("button").unwrap();
    button.watch(Edges::Both).unwrap();
    assert!(matches!(button.next_event(SECOND), Ok(Next::Edge(Event { rising: true, .. }))));
    assert_eq!(button.next_event(SECOND), Ok(Next::Stop));
    assert_eq!(crate::wait(SECOND), crate::Wait::Stop);
    let asked = Call::NextEvent { label: "button".into(), milliseconds: 1_000 };
    assert_eq!(testing::take(), [asked.clone(), asked, Call::Wait { milliseconds: 1_000 }]);
}

#[test]
fn a_lease_that_another_payload_has_is_refused() {
    board();
    testing::fail_next("led", Error::AlreadyInUse);
    assert_eq!(Output::get("led", State::Active).unwrap_err(), Error::AlreadyInUse);
    let led = Output::get("led", State::Active).unwrap();
    testing::fail_next("led", Error::Unavailable);
    assert_eq!(led.set(State::Inactive), Err(Error::Unavailable));
    led.set(State::Inactive).unwrap();
}

//! How many sessions a payload may have, and which of them may be used.

use std::time::Duration;

use crate::fakes::{Bench, EVERYTHING, at};
use capd::registry::Full;
use iotwasm_payload::Slot;
use iotwasm_session::{Direction, Error, Reply, Request};

#[test]
fn a_runner_that_keeps_its_sessions_gets_no_more_of_them_and_uses_one() {
    let bench = Bench::new();
    let kept = bench.claimed("p", EVERYTHING);
    let mut second = bench.open("p", EVERYTHING);
    assert_eq!(second.ask(Request::Claim), Err(Error::AlreadyInUse));
    assert_eq!(bench.denied("session", "in_use"), 1);
    let open = Request::OpenLine { line: at::LED, direction: Direction::Out(None) };
    assert_eq!(second.ask(open), Err(Error::BadRequest), "it was not claimed");
    for _ in 0..2 {
        let refused = bench.try_open("p", Slot::A, EVERYTHING).err().unwrap();
        assert_eq!(refused, Full::OfSlot { payload: "p".parse().unwrap() });
    }
    let mut update = bench.try_open("p", Slot::B, EVERYTHING).unwrap();
    update.claim();
    drop(kept);
    second.claim();
}

#[test]
fn a_session_whose_descriptor_nobody_has_taken_counts() {
    let bench = Bench::new();
    let in_flight = [bench.open("p", EVERYTHING), bench.open("p", EVERYTHING)];
    assert!(bench.try_open("p", Slot::A, EVERYTHING).is_err());
    drop(in_flight);
    assert!(bench.try_open("p", Slot::A, EVERYTHING).is_ok(), "nobody can get them any more");
}

#[test]
fn a_session_that_is_lost_is_followed_by_the_next_as_often_as_it_happens() {
    let bench = Bench::new();
    for _ in 0..20 {
        let mut lost = bench.claimed("p", EVERYTHING);
        let open = Request::OpenLine { line: at::LED, direction: Direction::Out(None) };
        assert_eq!(lost.ask(open), Ok(Reply::Done));
    }
}

#[test]
fn who_opens_a_session_waits_a_moment_for_the_one_that_is_about_to_end() {
    let bench = Bench::new();
    let (one, two) = (bench.claimed("p", EVERYTHING), bench.open("p", EVERYTHING));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            std::thread::sleep(Duration::from_millis(50));
            drop(one);
        });
        assert!(bench.try_open("p", Slot::A, EVERYTHING).is_ok());
    });
    drop(two);
}

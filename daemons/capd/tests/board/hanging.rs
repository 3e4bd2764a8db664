//! A device that hangs holds up who uses it, and nobody else.

use std::{
    fs::{File, OpenOptions},
    path::Path,
    time::{Duration, Instant},
};

use crate::fakes::{Bench, EVERYTHING, OTHERS, Runner, at};
use iotwasm_session::{Reply, Request, SensorState};
use rustix::fs::{CWD, FileType, Mode};

/// Less than what a session or a caller waits for at most, in any place.
const SOON: Duration = Duration::from_millis(1500);

/// Does all that a payload can do which has none of the devices that hang; the safe value is written at its end.
fn works(bench: &Bench, payload: &str) {
    let began = Instant::now();
    let mut runner = bench.claimed(payload, OTHERS);
    assert_eq!(runner.ask(Request::TurnOn { sensor: 0 }), Ok(Reply::On { readable: vec![0] }));
    assert_eq!(runner.actuate(0, "1"), Ok(Reply::Done));
    drop(runner);
    bench.until_level("horn", false);
    assert!(began.elapsed() < SOON, "{:?}", began.elapsed());
}

/// The inventory and the list of sessions are there.
fn answers(bench: &Bench) {
    let began = Instant::now();
    let things = bench.inventory().things();
    assert!(things.iter().all(|thing| thing.present));
    let world = &bench.world;
    assert!(!world.registry.shown(|id| world.sensors.of(id)).is_empty());
    assert!(began.elapsed() < SOON, "{:?}", began.elapsed());
}

#[test]
fn a_safe_value_that_hangs_holds_up_no_other_payload_and_no_caller() {
    let bench = Bench::new();
    let mut runner = bench.claimed("stuck", EVERYTHING);
    assert_eq!(runner.actuate(at::VALVE, "1"), Ok(Reply::Done));
    let hung = bench.fake.hang("valve");
    drop(runner);
    works(&bench, "other");
    answers(&bench);
    let began = Instant::now();
    assert!(bench.world.actuators.settle(), "what hangs already is left alone");
    bench.claimed("same", EVERYTHING);
    assert!(began.elapsed() < Duration::from_secs(4), "a runner gives capd up after 5 s: {:?}", began.elapsed());
    drop(hung);
    bench.until_sessions(0);
    assert_eq!(bench.fake.level("valve"), Some(false));
}

#[test]
fn a_write_that_hangs_holds_up_no_other_payload_and_no_caller() {
    let bench = Bench::new();
    let mut stuck = bench.claimed("stuck", EVERYTHING);
    let hung = bench.fake.hang("valve");
    send(&mut stuck, Request::Actuate { actuator: at::VALVE, value: "1".into() });
    works(&bench, "other");
    answers(&bench);
    drop(hung);
    assert_eq!(stuck.channel.receive(Some(Duration::from_secs(20))).unwrap().message, Ok(Reply::Done));
}

#[test]
fn what_a_session_owes_is_written_while_another_of_its_devices_hangs() {
    let bench = Bench::new();
    let both = "[actuators]\nvalve = { writes_per_minute = 60, values = [0, 1] }\n\
                horn = { writes_per_minute = 60, values = [0, 1] }\n";
    let mut runner = bench.claimed("both", both);
    assert_eq!(runner.actuate(0, "1"), Ok(Reply::Done));
    assert_eq!(runner.actuate(1, "1"), Ok(Reply::Done));
    // The first of the two that its end writes.
    let hung = bench.fake.hang("horn");
    drop(runner);
    let until = Instant::now() + Duration::from_secs(20);
    while bench.fake.level("valve") != Some(false) {
        assert!(Instant::now() < until);
        bench.world.actuators.settle();
    }
    drop(hung);
    bench.until_level("horn", false);
}

#[test]
fn a_sensor_that_hangs_while_it_is_set_holds_up_no_other_payload_and_no_caller() {
    let bench = Bench::new();
    let mut stuck = bench.claimed("stuck", EVERYTHING);
    assert!(stuck.ask(Request::TurnOn { sensor: at::CLIMATE }).is_ok());
    let fifo = hanging(&bench.file("oversampling"));
    let value = "4".to_owned();
    send(&mut stuck, Request::Config { sensor: at::CLIMATE, channel: at::OVERSAMPLING, value });
    let mut watcher = bench.claimed("watcher", EVERYTHING);
    let working = Ok(Reply::State(SensorState::Working));
    let until = Instant::now() + Duration::from_secs(20);
    while watcher.ask(Request::State { sensor: at::CLIMATE }) != working {
        assert!(Instant::now() < until);
    }
    works(&bench, "other");
    answers(&bench);
    // Who uses the same sensor and sets nothing is not held up by its end either.
    bench.until_sessions(2);
    drop(watcher);
    bench.until_sessions(1);
    drop(stuck);
    free(&fifo);
    bench.until_sessions(0);
}

#[test]
fn a_sensor_that_hangs_while_it_is_put_back_holds_up_neither_safe_values_nor_who_comes_next() {
    let bench = Bench::new();
    let mut runner = bench.claimed("p", EVERYTHING);
    assert!(runner.ask(Request::TurnOn { sensor: at::CLIMATE }).is_ok());
    let set = Request::Config { sensor: at::CLIMATE, channel: at::OVERSAMPLING, value: "4".into() };
    assert_eq!(runner.ask(set), Ok(Reply::Done));
    assert_eq!(runner.actuate(at::VALVE, "1"), Ok(Reply::Done));
    let fifo = hanging(&bench.file("oversampling"));
    drop(runner);
    bench.until_level("valve", false);
    let began = Instant::now();
    let mut next = bench.claimed("p", EVERYTHING);
    assert!(next.ask(Request::TurnOn { sensor: at::CLIMATE }).is_ok());
    answers(&bench);
    assert!(began.elapsed() < SOON, "{:?}", began.elapsed());
    drop(next);
    free(&fifo);
    bench.until_sessions(0);
}

fn send(runner: &mut Runner, request: Request) {
    runner.channel.send(&request, &[]).unwrap();
}

/// A file that nobody can open until [`free`].
fn hanging(file: &Path) -> std::path::PathBuf {
    std::fs::remove_file(file).unwrap();
    rustix::fs::mknodat(CWD, file, FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
    file.to_owned()
}

/// Who waits at the file finds it empty; from now on it is a plain one.
fn free(file: &Path) {
    let fifo = OpenOptions::new().read(true).write(true).open(file).unwrap();
    std::fs::remove_file(file).unwrap();
    File::create(file).unwrap();
    drop(fifo);
}

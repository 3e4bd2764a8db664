//! A runner's requests, answered over a real socket, against a board of fakes.

use std::{io::Write, os::unix::fs::FileExt, sync::atomic::Ordering, time::Duration};

use crate::fakes::{Bench, EVERYTHING, Reached, at};
use iotwasm_grant::i2c::Message;
use iotwasm_session::{
    Direction, Error, I2cOperation, Kind, MAX_OPERATIONS, ReceiveError, Reply, Request, SendError, SensorState,
    SpiOperation, Why,
};
use rustix::net::SendFlags;

#[test]
fn nothing_is_answered_before_the_claim_and_the_table_is_what_was_granted() {
    let bench = Bench::new();
    let mut runner = bench.open("p", EVERYTHING);
    assert_eq!(runner.ask(Request::TurnOn { sensor: at::CLIMATE }), Err(Error::BadRequest));
    let (table, activity) = runner.claim();
    assert_eq!(activity.metadata().unwrap().len(), 1);
    let names: Vec<_> = table.sensors[0].channels.iter().map(|c| (&*c.name, c.capability, c.read, c.write)).collect();
    let expected = [
        ("humidity", true, true, false),
        ("temperature", true, true, false),
        ("oversampling", false, true, true),
        ("secret", false, false, true),
    ];
    assert_eq!(names, expected);
    let lines: Vec<_> = table.lines.iter().map(|l| (&*l.name, l.input, l.output)).collect();
    assert_eq!(lines, [("door", true, false), ("led", false, true), ("spare", true, true)]);
    assert_eq!(table.actuators, ["dimmer", "valve"]);
    assert_eq!((table.spi[0].max_length, table.spi[0].speed_hz), (64, 1_000_000));
}

#[test]
fn a_sensor_gives_descriptors_that_read_its_values_and_cannot_write_them() {
    let bench = Bench::new();
    let mut runner = bench.claimed("p", EVERYTHING);
    let (answer, descriptors) = runner.ask_for(Request::TurnOn { sensor: at::CLIMATE });
    assert_eq!(answer, Ok(Reply::On { readable: vec![0, 1, 2] }));
    assert_eq!(descriptors.len(), 3, "what may only be written has no descriptor");
    let mut temperature = std::fs::File::from(descriptors.into_iter().nth(1).unwrap());
    let mut bytes = [0; 16];
    assert_eq!(temperature.read_at(&mut bytes, 0).unwrap(), 6);
    assert_eq!(&bytes[..6], b"25080\n");
    assert!(temperature.write_all(b"1").is_err());
}

#[test]
fn a_value_is_set_only_within_what_the_board_allows_and_put_back_by_the_last_who_leaves() {
    let bench = Bench::new();
    let (mut one, mut two) = (bench.claimed("one", EVERYTHING), bench.claimed("two", EVERYTHING));
    let set = |channel, value: &str| Request::Config { sensor: at::CLIMATE, channel, value: value.into() };
    assert_eq!(one.ask(set(at::OVERSAMPLING, "4")), Err(Error::NotOn));
    for runner in [&mut one, &mut two] {
        assert!(runner.ask(Request::TurnOn { sensor: at::CLIMATE }).is_ok());
    }
    for (value, error) in
        [("3", Error::BadValue), ("x", Error::BadValue), ("4\n1", Error::BadValue), ("", Error::BadValue)]
    {
        assert_eq!(one.ask(set(at::OVERSAMPLING, value)), Err(error), "{value:?}");
    }
    assert_eq!(one.ask(set(1, "4")), Err(Error::ModeNotAllowed), "a capability is read");
    assert_eq!(one.ask(set(at::SECRET, "7")), Ok(Reply::Done));
    assert_eq!(one.ask(set(at::OVERSAMPLING, "4")), Ok(Reply::Done));
    assert_eq!(bench.text("oversampling"), "4");
    assert_eq!(two.ask(set(at::OVERSAMPLING, "1")), Err(Error::AlreadyInUse));
    assert_eq!(two.ask(set(at::OVERSAMPLING, "4")), Ok(Reply::Done), "the same value harms nobody");
    assert_eq!(two.ask(set(at::SECRET, "8")), Err(Error::AlreadyInUse), "what cannot be read has an owner, too");
    assert_eq!(bench.denied("sensors.climate.oversampling", "owned"), 1);
    drop(one);
    bench.until_sessions(1);
    assert_eq!(bench.text("oversampling"), "4", "somebody still uses it");
    assert_eq!(two.ask(set(at::OVERSAMPLING, "1")), Ok(Reply::Done), "who set it has gone");
    assert_eq!(two.ask(Request::TurnOff { sensor: at::CLIMATE }), Ok(Reply::Done));
    assert_eq!(bench.text("oversampling"), "2", "as it was before anyone came");
    assert_eq!(two.ask(Request::TurnOff { sensor: at::CLIMATE }), Err(Error::NotOn));
}

#[test]
fn the_state_follows_who_uses_the_sensor_and_what_the_kernel_does_with_it() {
    let bench = Bench::new();
    let mut watcher = bench.claimed("watcher", EVERYTHING);
    let mut reader = bench.open("reader", EVERYTHING);
    let (_, activity) = reader.claim();
    let mut state = || watcher.ask(Request::State { sensor: at::CLIMATE });
    let is = |state| Ok(Reply::State(state));
    assert_eq!(state(), is(SensorState::Stopped));
    reader.ask(Request::TurnOn { sensor: at::CLIMATE }).unwrap();
    assert_eq!(state(), is(SensorState::Alive));
    activity.write_all_at(&[1], 0).unwrap();
    assert_eq!(state(), is(SensorState::Working));
    activity.write_all_at(&[0], 0).unwrap();
    std::fs::write(bench.dir.path().join("devices/power/runtime_status"), "suspended\n").unwrap();
    assert_eq!(state(), is(SensorState::Sleeping));
    std::fs::remove_file(bench.dir.path().join("bus/iio/devices/iio:device0")).unwrap();
    assert_eq!(state(), is(SensorState::Stopped), "it was unplugged");
    assert_eq!(reader.ask(Request::TurnOn { sensor: at::CLIMATE }), Err(Error::Gone));
}

#[test]
fn a_line_is_leased_as_granted_to_one_session_until_it_ends() {
    let bench = Bench::new();
    let (mut one, mut two) = (bench.claimed("one", EVERYTHING), bench.claimed("two", EVERYTHING));
    let open = |line, direction| Request::OpenLine { line, direction };
    assert_eq!(one.ask(open(at::DOOR, Direction::Out(None))), Err(Error::ModeNotAllowed));
    assert_eq!(one.ask(open(at::LED, Direction::In)), Err(Error::ModeNotAllowed));
    assert_eq!(bench.denied("gpio.door", "mode"), 1);
    let (answer, descriptors) = one.ask_for(open(at::SPARE, Direction::In));
    assert_eq!((answer, descriptors.len()), (Ok(Reply::Done), 1));
    assert_eq!(one.ask(open(at::SPARE, Direction::In)), Err(Error::AlreadyInUse));
    assert_eq!(two.ask(open(at::SPARE, Direction::In)), Err(Error::AlreadyInUse));
    let (denials, _) = bench.world.notices.denials();
    assert!(denials.iter().any(|d| d.reason == "in_use" && d.message == "one has leased it"), "{denials:?}");
    let turn = Request::SetDirection { line: at::SPARE, direction: Direction::Out(Some(true)) };
    assert_eq!(one.ask(turn.clone()), Ok(Reply::Done));
    assert_eq!(two.ask(turn), Err(Error::NotOn));
    assert_eq!(one.ask(Request::CloseLine { line: at::SPARE }), Ok(Reply::Done));
    assert_eq!(two.ask(open(at::SPARE, Direction::In)), Ok(Reply::Done));
    drop(two);
    bench.until_sessions(1);
    assert_eq!(one.ask(open(at::SPARE, Direction::In)), Ok(Reply::Done));
}

#[test]
fn only_inputs_have_edges() {
    let bench = Bench::new();
    let mut runner = bench.claimed("p", EVERYTHING);
    let watch = |line| Request::Watch { line, rising: true, falling: false };
    assert_eq!(runner.ask(watch(at::DOOR)), Err(Error::NotOn));
    runner.ask(Request::OpenLine { line: at::DOOR, direction: Direction::In }).unwrap();
    assert_eq!(runner.ask(watch(at::DOOR)), Ok(Reply::Done));
    assert_eq!(runner.ask(watch(at::LED)), Err(Error::ModeNotAllowed));
}

#[test]
fn bytes_reach_a_device_only_within_the_rules_of_its_registers() {
    let bench = Bench::new();
    let mut runner = bench.claimed("p", EVERYTHING);
    let mut i2c = |operations: Vec<I2cOperation>| runner.ask(Request::I2c { device: 0, operations });
    let write = |bytes: &[u8]| I2cOperation::Write(bytes.to_vec());
    assert_eq!(i2c(vec![write(&[0x10]), I2cOperation::Read(4)]), Ok(Reply::Bytes(vec![0xab; 4])));
    for (operations, error) in [
        (vec![write(&[0x10, 1])], Error::ModeNotAllowed),
        (vec![write(&[0xf0, 1])], Error::ModeNotAllowed),
        (vec![write(&[0x1f]), I2cOperation::Read(2)], Error::ModeNotAllowed),
        (vec![I2cOperation::Read(1)], Error::ModeNotAllowed),
        (vec![write(&[0]), I2cOperation::Read(u32::MAX)], Error::TooLong),
        (vec![], Error::BadRequest),
        (vec![I2cOperation::Read(0); MAX_OPERATIONS + 1], Error::BadRequest),
    ] {
        assert_eq!(i2c(operations.clone()), Err(error), "{:?}", operations.first());
    }
    let reached = bench.fake.reached.lock().unwrap().clone();
    let messages = vec![Message::Write(vec![0x10]), Message::Read(4)];
    assert_eq!(reached, [Reached::I2c { address: 0x50, messages }]);
}

#[test]
fn spi_transactions_have_the_boards_length_and_what_the_bus_says_comes_back() {
    let bench = Bench::new();
    let mut runner = bench.claimed("p", EVERYTHING);
    let mut spi = |operations: Vec<SpiOperation>| runner.ask(Request::Spi { device: 0, operations });
    let transfer = vec![SpiOperation::Transfer(vec![1, 2]), SpiOperation::DelayNs(500), SpiOperation::Read(1)];
    assert_eq!(spi(transfer), Ok(Reply::Bytes(vec![1, 2, 0])));
    assert_eq!(spi(vec![SpiOperation::Write(vec![0; 65])]), Err(Error::TooLong));
    assert_eq!(spi(vec![SpiOperation::DelayNs(1); 65]), Err(Error::TooLong));
    assert_eq!(spi(vec![SpiOperation::DelayNs(1)]), Err(Error::BadRequest));
    bench.fake.broken.store(true, Ordering::SeqCst);
    assert_eq!(spi(vec![SpiOperation::Write(vec![0])]), Err(Error::Other));
    let read = vec![I2cOperation::Write(vec![0]), I2cOperation::Read(1)];
    assert_eq!(runner.ask(Request::I2c { device: 0, operations: read }), Err(Error::NoAcknowledgeAddress));
}

#[test]
fn an_actuators_rate_holds_across_a_restart_of_its_payload() {
    let bench = Bench::new();
    let mut runner = bench.claimed("p", EVERYTHING);
    for value in ["1", "0", "1"] {
        assert_eq!(runner.actuate(at::VALVE, value), Ok(Reply::Done));
    }
    let Err(Error::TooSoon { wait_ms }) = runner.actuate(at::VALVE, "0") else { panic!() };
    assert!((1..=1000).contains(&wait_ms), "{wait_ms}");
    drop(runner);
    bench.until_sessions(0);
    let mut again = bench.claimed("p", EVERYTHING);
    assert!(matches!(again.actuate(at::VALVE, "0"), Err(Error::TooSoon { .. })));
    let mut other = bench.claimed("q", EVERYTHING);
    assert!(matches!(other.actuate(at::VALVE, "0"), Err(Error::TooSoon { .. })), "the board's own rate is for all");
    assert_eq!(bench.denied("actuators.valve", "rate"), 3);
}

#[test]
fn after_a_restart_of_the_daemon_nothing_passes_that_was_not_earned_since() {
    let bench = Bench::started(Some(capd::clock::now()));
    let mut runner = bench.claimed("p", EVERYTHING);
    assert!(matches!(runner.actuate(at::VALVE, "1"), Err(Error::TooSoon { .. })));
}

#[test]
fn an_actuator_takes_only_granted_values_and_each_counts_once() {
    let bench = Bench::new();
    let mut runner = bench.claimed("p", EVERYTHING);
    let long = "1".repeat(100);
    for value in ["2", "-1", "0.5", "on", "", "1 ", &long] {
        assert_eq!(runner.actuate(at::VALVE, value), Err(Error::BadValue), "{value:?}");
    }
    assert_eq!(runner.actuate(at::DIMMER, "101"), Err(Error::BadValue), "the manifest asked for at most 100");
    assert_eq!(runner.actuate(at::DIMMER, "100"), Ok(Reply::Done));
    let messages = vec![Message::Write(vec![0xf0, 100])];
    assert_eq!(*bench.fake.reached.lock().unwrap(), [Reached::I2c { address: 0x50, messages }]);
    assert_eq!(bench.denied("actuators.valve", "value"), 7);
}

#[test]
fn the_safe_value_is_written_when_who_wrote_last_has_gone() {
    let bench = Bench::new();
    bench.world.actuators.settle();
    assert_eq!(bench.fake.level("valve"), Some(false), "at the start");
    let (mut one, mut two) = (bench.claimed("one", EVERYTHING), bench.claimed("two", EVERYTHING));
    assert_eq!(one.actuate(at::VALVE, "1"), Ok(Reply::Done));
    assert_eq!(two.actuate(at::VALVE, "1"), Ok(Reply::Done));
    drop(one);
    bench.until_sessions(1);
    assert_eq!(bench.fake.level("valve"), Some(true), "another payload answers for it now");
    drop(two);
    bench.until_sessions(0);
    assert_eq!(bench.fake.level("valve"), Some(false));
}

#[test]
fn a_safe_value_that_the_device_did_not_take_is_tried_again() {
    let bench = Bench::new();
    let mut runner = bench.claimed("p", EVERYTHING);
    assert_eq!(runner.actuate(at::VALVE, "1"), Ok(Reply::Done));
    bench.fake.broken.store(true, Ordering::SeqCst);
    drop(runner);
    bench.until_sessions(0);
    assert_eq!(bench.fake.level("valve"), Some(true));
    bench.fake.broken.store(false, Ordering::SeqCst);
    bench.world.actuators.settle();
    assert_eq!(bench.fake.level("valve"), Some(false));
}

#[test]
fn an_actuator_that_comes_back_without_a_session_gets_its_safe_value_again() {
    let bench = Bench::new();
    let written = || {
        let reached = bench.fake.reached.lock().unwrap();
        reached.iter().filter(|one| matches!(one, Reached::Line { name, .. } if name == "valve")).count()
    };
    assert!(bench.world.actuators.settle() && bench.world.actuators.settle());
    assert_eq!(written(), 1);
    bench.fake.unplug("valve");
    assert!(bench.world.actuators.settle() && bench.world.actuators.settle());
    assert_eq!(written(), 2);
}

#[test]
fn an_actuators_fault_is_told_in_the_words_of_what_it_drives() {
    let bench = Bench::new();
    let mut runner = bench.claimed("p", EVERYTHING);
    bench.fake.broken.store(true, Ordering::SeqCst);
    assert_eq!(runner.actuate(at::VALVE, "1"), Err(Error::HardwareFault), "a line");
    assert_eq!(runner.actuate(at::DIMMER, "1"), Err(Error::NoAcknowledgeAddress), "a register on I2C");
}

#[test]
fn a_buss_device_stays_open_as_long_as_a_session_was_granted_it() {
    let bench = Bench::new();
    let (one, two) = (bench.claimed("one", EVERYTHING), bench.claimed("two", "[i2c]\neeprom = [\"write_read\"]\n"));
    let kept = || {
        let kept = bench.fake.kept.lock().unwrap();
        (kept.i2c.iter().map(|place| place.address).collect::<Vec<_>>(), kept.spi.len())
    };
    bench.world.close_unused();
    assert!(kept().0.contains(&0x50) && kept().1 == 1);
    drop(one);
    bench.until_sessions(1);
    bench.world.close_unused();
    assert_eq!(kept(), (vec![0x50], 0));
    drop(two);
    bench.until_sessions(0);
    bench.world.close_unused();
    assert_eq!(kept(), (vec![], 0));
}

#[test]
fn a_session_that_begins_waits_for_the_one_whose_runner_has_gone() {
    for _ in 0..50 {
        let bench = Bench::new();
        let mut old = bench.claimed("p", EVERYTHING);
        let mut new = bench.open("p", EVERYTHING);
        old.ask(Request::OpenLine { line: at::LED, direction: Direction::Out(None) }).unwrap();
        old.actuate(at::VALVE, "1").unwrap();
        drop(old);
        new.claim();
        assert_eq!(bench.fake.level("valve"), Some(false), "safe before the next one begins");
        let open = Request::OpenLine { line: at::LED, direction: Direction::Out(None) };
        assert_eq!(new.ask(open), Ok(Reply::Done));
    }
}

#[test]
fn what_a_guest_asks_for_without_a_grant_is_counted_and_named_right() {
    let bench = Bench::new();
    let mut runner = bench.claimed("p", "[gpio]\ndoor = \"in\"\n");
    let mut denied = |kind, name: &str, why| runner.ask(Request::Denied { kind, name: name.into(), why });
    assert_eq!(denied(Kind::Gpio, "led", Why::Name), Err(Error::NotAllowed));
    assert_eq!(denied(Kind::Gpio, "nothing", Why::Name), Err(Error::NotFound));
    assert_eq!(denied(Kind::Gpio, "door", Why::Mode), Err(Error::ModeNotAllowed));
    assert_eq!(denied(Kind::Sensor, "climate.temperature", Why::Name), Err(Error::NotAllowed));
    assert_eq!(denied(Kind::Sensor, "climate.radiation", Why::Name), Err(Error::NotFound));
    assert_eq!(denied(Kind::Sensor, "climate.../../etc", Why::Name), Err(Error::NotFound));
    for n in 0..300 {
        denied(Kind::Actuator, &format!("made-up-{n}\n"), Why::Name).unwrap_err();
    }
    assert_eq!(bench.denied("gpio.led", "not_granted"), 1);
    assert_eq!(bench.denied("sensors.climate", "not_granted"), 1);
    assert_eq!(bench.denied("sensors.climate", "unknown"), 2);
    assert_eq!(bench.denied("actuators.?", "unknown"), 300, "made-up names share one count");
    assert_eq!(bench.denied("session", "protocol"), 0);
}

#[test]
fn numbers_outside_the_table_are_denied() {
    let bench = Bench::new();
    let mut runner = bench.claimed("p", "[gpio]\ndoor = \"in\"\n");
    for request in [
        Request::TurnOn { sensor: 0 },
        Request::TurnOff { sensor: 9 },
        Request::State { sensor: 0 },
        Request::Config { sensor: 0, channel: 0, value: "1".into() },
        Request::OpenLine { line: 1, direction: Direction::In },
        Request::SetDirection { line: u16::MAX, direction: Direction::In },
        Request::Watch { line: 1, rising: true, falling: true },
        Request::CloseLine { line: 1 },
        Request::I2c { device: 0, operations: vec![I2cOperation::Read(1)] },
        Request::Spi { device: 0, operations: vec![SpiOperation::Read(1)] },
        Request::Actuate { actuator: 0, value: "1".into() },
    ] {
        assert_eq!(runner.ask(request.clone()), Err(Error::NotAllowed), "{request:?}");
    }
    assert!(bench.fake.reached.lock().unwrap().is_empty());
}

#[test]
fn a_runner_that_sends_nonsense_is_answered_no_more_but_keeps_its_leases_until_it_ends() {
    let bench = Bench::new();
    let (mut bad, mut good) = (bench.claimed("bad", EVERYTHING), bench.claimed("good", EVERYTHING));
    bad.ask(Request::OpenLine { line: at::SPARE, direction: Direction::In }).unwrap();
    bad.actuate(at::VALVE, "1").unwrap();
    for n in 0..16 {
        let nonsense: &[u8] = if n % 2 == 0 { b"\xffnonsense" } else { b"" };
        rustix::net::send(&bad.channel, nonsense, SendFlags::NOSIGNAL).unwrap();
        assert_eq!(bad.channel.receive(Some(Duration::from_secs(20))).unwrap().message, Err(Error::BadRequest));
    }
    // Whether it is still let in is a matter of time; it is not answered.
    let _ = bad.channel.send(&Request::State { sensor: 0 }, &[]);
    assert!(matches!(bad.channel.receive(Some(Duration::from_millis(200))), Err(ReceiveError::TimedOut)));
    assert_eq!(bench.fake.level("valve"), Some(false), "what it switched on is safe, though it lives");
    let open = Request::OpenLine { line: at::SPARE, direction: Direction::In };
    assert_eq!(good.ask(open.clone()), Err(Error::AlreadyInUse));
    drop(bad);
    bench.until_sessions(1);
    assert_eq!(good.ask(open), Ok(Reply::Done));
    assert!(bench.denied("session", "protocol") >= 16);
}

#[test]
fn a_session_is_claimed_once() {
    let bench = Bench::new();
    let mut runner = bench.claimed("p", EVERYTHING);
    assert_eq!(runner.ask(Request::Claim), Err(Error::BadRequest));
    assert_eq!(bench.denied("session", "protocol"), 1);
    assert!(runner.ask(Request::State { sensor: 0 }).is_ok());
}

#[test]
fn a_runner_that_reads_no_answers_holds_up_nobody() {
    for question in [Request::State { sensor: at::CLIMATE }, Request::TurnOn { sensor: at::CLIMATE }] {
        let bench = Bench::new();
        let (mut deaf, mut good) = (bench.claimed("deaf", EVERYTHING), bench.claimed("good", EVERYTHING));
        while !matches!(deaf.channel.send(&question, &[]), Err(SendError::Closed)) {}
        assert!(good.ask(Request::TurnOn { sensor: at::CLIMATE }).is_ok());
        // It is a break of the protocol; what waits for it is little.
        let mut waiting = 0;
        while let Ok(received) = deaf.channel.receive(Some(Duration::from_millis(200))) {
            waiting += received.descriptors.len();
        }
        assert!(waiting < 64, "{waiting} descriptors wait");
        assert_eq!(bench.denied("session", "protocol"), 1);
        drop(deaf);
        bench.until_sessions(1);
    }
}

#[test]
fn sessions_end_when_the_daemon_leaves_and_none_begins_any_more() {
    let bench = Bench::new();
    let mut runner = bench.claimed("p", EVERYTHING);
    runner.actuate(at::VALVE, "1").unwrap();
    assert!(bench.world.registry.shut_down(Duration::from_secs(20)));
    assert_eq!(bench.fake.level("valve"), Some(false));
    assert!(matches!(runner.channel.receive(None), Err(ReceiveError::Closed)));
}

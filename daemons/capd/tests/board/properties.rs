//! Whatever a runner asks, in whatever order: only what was granted reaches a device.

use crate::fakes::{Bench, Reached};
use iotwasm_grant::i2c::Message;
use iotwasm_session::{Direction, I2cOperation, Kind, Request, SpiOperation, Why};
use proptest::prelude::*;

/// A part of what the board has.
const SOME: &str = r#"
[gpio]
door = "in"
spare = "out"
[i2c]
eeprom = ["write_read"]
[spi]
loop = ["write"]
[actuators]
valve = { writes_per_minute = 60, values = [1] }
"#;

fn any_direction() -> impl Strategy<Value = Direction> {
    prop_oneof![Just(Direction::In), any::<Option<bool>>().prop_map(Direction::Out)]
}

fn any_request() -> impl Strategy<Value = Request> {
    let bytes = || prop::collection::vec(any::<u8>(), 0..5);
    let i2c = prop_oneof![(0..40_u32).prop_map(I2cOperation::Read), bytes().prop_map(I2cOperation::Write)];
    let spi = prop_oneof![
        (0..80_u32).prop_map(SpiOperation::Read),
        bytes().prop_map(SpiOperation::Write),
        bytes().prop_map(SpiOperation::Transfer),
    ];
    let value = prop_oneof![Just("0".to_owned()), Just("1".to_owned()), "[0-9a-z.-]{0,4}"];
    prop_oneof![
        Just(Request::Claim),
        (0..3_u16).prop_map(|sensor| Request::TurnOn { sensor }),
        (0..4_u16, any_direction()).prop_map(|(line, direction)| Request::OpenLine { line, direction }),
        (0..4_u16, any_direction()).prop_map(|(line, direction)| Request::SetDirection { line, direction }),
        (0..4_u16, any::<bool>()).prop_map(|(line, rising)| Request::Watch { line, rising, falling: true }),
        (0..4_u16).prop_map(|line| Request::CloseLine { line }),
        (0..2_u16, prop::collection::vec(i2c, 0..4))
            .prop_map(|(device, operations)| Request::I2c { device, operations }),
        (0..2_u16, prop::collection::vec(spi, 0..4))
            .prop_map(|(device, operations)| Request::Spi { device, operations }),
        (0..2_u16, value).prop_map(|(actuator, value)| Request::Actuate { actuator, value }),
        ".{0,20}".prop_map(|name| Request::Denied { kind: Kind::Gpio, name, why: Why::Name }),
    ]
}

/// Within what [`SOME`] asks for and the board's rules for it.
fn is_granted(reached: &Reached) -> bool {
    match reached {
        Reached::Line { name, direction } => match &**name {
            "door" => *direction == Direction::In,
            "spare" => matches!(direction, Direction::Out(_)),
            // As an actuator, with its one value or the safe one.
            "valve" => matches!(direction, Direction::Out(Some(_))),
            _ => false,
        },
        Reached::Watched { name } => name == "door",
        Reached::Set { name, .. } => name == "valve",
        Reached::I2c { address, messages } => {
            *address == 0x50
                && messages.chunks(2).all(|pair| match pair {
                    [Message::Write(out), Message::Read(length)] => {
                        out.len() == 1 && usize::from(out[0]) + *length <= 0x20 && *length > 0
                    }
                    _ => false,
                })
        }
        Reached::Spi(operations) => {
            operations.iter().all(|operation| matches!(operation, SpiOperation::Write(bytes) if !bytes.is_empty()))
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn nothing_beyond_the_grant_reaches_a_device(requests in prop::collection::vec(any_request(), 1..60)) {
        let bench = Bench::new();
        let mut runner = bench.claimed("p", SOME);
        for request in requests {
            let _ = runner.ask(request);
        }
        drop(runner);
        bench.until_sessions(0);
        let reached = bench.fake.reached.lock().unwrap().clone();
        for one in &reached {
            prop_assert!(is_granted(one), "{:?}", one);
        }
        let written = |one: &&Reached| match one {
            Reached::Set { active: true, .. } => true,
            Reached::Line { name, direction } => name == "valve" && *direction == Direction::Out(Some(true)),
            _ => false,
        };
        // The burst of three, and what the time that this takes earns.
        prop_assert!(reached.iter().filter(written).count() <= 3 + 5);
        prop_assert_ne!(bench.fake.level("valve"), Some(true), "safe at the end");
    }
}

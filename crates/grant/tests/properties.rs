//! Grants of random requests under random tiers on random boards.
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod common;

use std::collections::BTreeMap;

use common::name;
use iotwasm_grant::board::{
    Actuator, AttributeTarget, Channel, I2cBus, I2cDevice, Line, LineId, RegisterRange, RegisterTarget, Sensor,
    SpiDevice, Target,
};
use iotwasm_grant::request::{ActuatorRequest, SensorRequest};
use iotwasm_grant::tier::{ActuatorCeiling, Ceiling, SensorCeiling};
use iotwasm_grant::value::Range;
use iotwasm_grant::{
    Access, Allowed, Allows, Board, Direction, Grant, I2cTransfer, Kind, Name, Pattern, Refusal, Request, Side,
    SpiTransfer, Tier, Value, beyond_board, beyond_tier, grant,
};
use proptest::collection::{btree_map, btree_set};
use proptest::prelude::*;
use proptest::sample::select;

// Boards and tiers have much and requests ask for little: otherwise nearly everything would be refused.

/// Few names, so that boards, tiers and requests often mean the same thing.
fn names() -> impl Strategy<Value = Name> {
    select(vec!["a", "b", "c"]).prop_map(name)
}

fn patterns() -> impl Strategy<Value = Pattern> {
    prop_oneof![2 => Just(Pattern::Any), 3 => names().prop_map(Pattern::Exactly)]
}

fn some_access() -> impl Strategy<Value = Access> {
    select(vec![Access::Read, Access::Write, Access::ReadWrite, Access::ReadWrite, Access::ReadWrite])
}

fn little_access() -> impl Strategy<Value = Access> {
    select(vec![Access::Read, Access::Read, Access::Write, Access::ReadWrite])
}

fn some_direction() -> impl Strategy<Value = Direction> {
    select(vec![Direction::In, Direction::Out, Direction::Both, Direction::Both, Direction::Both])
}

fn little_direction() -> impl Strategy<Value = Direction> {
    select(vec![Direction::In, Direction::Out, Direction::Out, Direction::Both])
}

fn numbers() -> impl Strategy<Value = Allowed> {
    prop_oneof![
        btree_set((0..4).prop_map(Value::from), 1..4).prop_map(Allowed::Values),
        (0..4, 0..4)
            .prop_map(|(a, b): (i32, i32)| { Allowed::Range(Range { min: a.min(b).into(), max: a.max(b).into() }) }),
    ]
}

fn words() -> impl Strategy<Value = Allowed> {
    let word = select(vec!["x", "y"]).prop_map(|word| Value::Text(word.to_owned()));
    btree_set(word, 1..3).prop_map(Allowed::Values)
}

fn allowed() -> impl Strategy<Value = Allowed> {
    let fraction = Just(Allowed::Range(Range { min: "0.5".parse().unwrap(), max: "2.5".parse().unwrap() }));
    prop_oneof![8 => numbers(), 1 => words(), 1 => fraction]
}

fn i2c_transfers(count: std::ops::Range<usize>) -> impl Strategy<Value = std::collections::BTreeSet<I2cTransfer>> {
    btree_set(select(vec![I2cTransfer::Read, I2cTransfer::Write, I2cTransfer::WriteRead]), count)
}

fn spi_transfers(count: std::ops::Range<usize>) -> impl Strategy<Value = std::collections::BTreeSet<SpiTransfer>> {
    btree_set(select(vec![SpiTransfer::Read, SpiTransfer::Write, SpiTransfer::Transfer]), count)
}

fn channels(prefix: &'static str) -> impl Strategy<Value = BTreeMap<Name, Channel>> {
    let values = prop_oneof![
        3 => numbers().prop_map(|values| (Kind::Integer, values)),
        1 => words().prop_map(|values| (Kind::Text, values)),
    ];
    btree_map(names(), (some_access(), values), 0..4).prop_map(move |channels| {
        let channel = |(name, (access, (kind, values))): (Name, (Access, (Kind, Allowed)))| {
            // Capabilities and attributes of one sensor share no name.
            let name: Name = format!("{prefix}{name}").parse().unwrap();
            let values = access.writes().then_some(values);
            (name.clone(), Channel { file: name.to_string(), unit: String::new(), kind, access, values })
        };
        channels.into_iter().map(channel).collect()
    })
}

/// Many, because the board's rules refuse most of them.
fn actuators() -> impl Strategy<Value = Vec<(Name, Actuator)>> {
    let target = prop_oneof![
        names().prop_map(Target::Line),
        (names(), names(), any::<bool>()).prop_map(|(sensor, name, capability)| {
            let name = format!("{}{name}", if capability { "c" } else { "t" }).parse().unwrap();
            Target::Attribute(AttributeTarget { sensor, name })
        }),
        (names(), 0..4_u16).prop_map(|(device, register)| {
            Target::Register(RegisterTarget { device, register, order: Default::default() })
        }),
    ];
    let level = btree_set((0..2).prop_map(Value::from), 1..3).prop_map(Allowed::Values);
    let values = prop_oneof![level, allowed()];
    let candidate = (names(), target, 1..100_u32, 1..9_u32, values);
    prop::collection::vec(candidate, 0..16).prop_map(|actuators| {
        let actuator = |(name, drives, rate, burst, values): (Name, Target, u32, u32, Allowed)| {
            let actuator = Actuator {
                description: String::new(),
                drives,
                writes_per_minute: rate,
                burst: burst.min(rate),
                values,
                safe: None,
            };
            (name, actuator)
        };
        actuators.into_iter().map(actuator).collect()
    })
}

fn boards() -> impl Strategy<Value = Board> {
    let sensors = btree_map(names(), (channels("c"), channels("t")), 1..4);
    let gpio = btree_map(names(), some_direction(), 1..4);
    let i2c = btree_map(names(), (i2c_transfers(2..4), any::<bool>(), some_access()), 0..4);
    let spi = btree_map(names(), spi_transfers(2..4), 0..4);
    (sensors, gpio, i2c, spi, actuators()).prop_map(|(sensors, gpio, i2c, spi, actuators)| {
        let mut board = Board::parse(b"name = 'random'").unwrap();
        board.sensors = sensors
            .into_iter()
            .map(|(name, (capabilities, attributes))| {
                let iio = name.to_string();
                (name, Sensor { description: String::new(), iio, parent: None, capabilities, attributes })
            })
            .collect();
        board.gpio = gpio
            .into_iter()
            .map(|(name, direction)| {
                let line = LineId::Name(name.to_string());
                let (active_low, bias, drive) = Default::default();
                (name, Line { chip: "chip".into(), line, direction, active_low, bias, drive })
            })
            .collect();
        board.i2c = (0x20..)
            .zip(i2c)
            .map(|(address, (name, (transfers, rules, access)))| {
                let device = I2cDevice {
                    bus: I2cBus::Number(1),
                    address,
                    transfers,
                    max_length: 32,
                    registers: rules.then(|| vec![RegisterRange { from: 0, to: 1, access }]),
                    register_address_bytes: 1,
                    register_value_bytes: 1,
                    write_increments: false,
                };
                (name, device)
            })
            .collect();
        board.spi = (0..)
            .zip(spi)
            .map(|(chip_select, (name, transfers))| {
                let (bus, mode, speed_hz, bits_per_word, max_length) = (0, 0, 1_000_000, 8, 4096);
                (name, SpiDevice { bus, chip_select, mode, speed_hz, bits_per_word, transfers, max_length })
            })
            .collect();
        // Those actuators that the board's own rules accept.
        for (name, actuator) in actuators {
            if board.actuators.contains_key(&name) {
                continue;
            }
            board.actuators.insert(name.clone(), actuator);
            if Board::parse(toml::to_string(&board).unwrap().as_bytes()).is_err() {
                board.actuators.remove(&name);
            }
        }
        Board::parse(toml::to_string(&board).unwrap().as_bytes()).unwrap()
    })
}

fn channel_patterns(prefix: &'static str) -> impl Strategy<Value = BTreeMap<Pattern, Access>> {
    let pattern = patterns().prop_map(move |pattern| match pattern {
        Pattern::Exactly(name) => Pattern::Exactly(format!("{prefix}{name}").parse().unwrap()),
        Pattern::Any => Pattern::Any,
    });
    btree_map(pattern, prop_oneof![1 => Just(Access::None), 9 => some_access()], 0..4)
}

fn ceilings() -> impl Strategy<Value = Ceiling> {
    let sensor = (channel_patterns("c"), channel_patterns("t"))
        .prop_map(|(capabilities, attributes)| SensorCeiling { capabilities, attributes });
    let actuator = (prop_oneof![1 => Just(0), 9 => 1..100_u32], prop::option::weighted(0.3, allowed()))
        .prop_map(|(writes_per_minute, values)| ActuatorCeiling { writes_per_minute, values });
    (
        btree_map(patterns(), sensor, 1..5),
        btree_map(patterns(), prop_oneof![1 => Just(Direction::None), 9 => some_direction()], 1..5),
        btree_map(patterns(), i2c_transfers(0..4), 1..5),
        btree_map(patterns(), spi_transfers(0..4), 1..5),
        btree_map(patterns(), actuator, 1..5),
    )
        .prop_map(|(sensors, gpio, i2c, spi, actuators)| Ceiling {
            description: String::new(),
            sensors,
            gpio,
            i2c,
            spi,
            actuators,
        })
}

fn tier_of(ceiling: &Ceiling) -> Tier {
    Tier::parse(name("role"), toml::to_string(ceiling).unwrap().as_bytes()).unwrap()
}

fn channel_requests(prefix: &'static str) -> impl Strategy<Value = BTreeMap<Name, Access>> {
    let name = names().prop_map(move |name| format!("{prefix}{name}").parse().unwrap());
    btree_map(name, little_access(), 0..4)
}

fn requests() -> impl Strategy<Value = Request> {
    let sensor = (channel_requests("c"), channel_requests("t"))
        .prop_filter("asks for something", |(capabilities, attributes)| {
            !capabilities.is_empty() || !attributes.is_empty()
        })
        .prop_map(|(capabilities, attributes)| SensorRequest { capabilities, attributes });
    let level = (0..2).prop_map(|level| Allowed::Values([Value::from(level)].into()));
    let actuator = (1..30_u32, prop_oneof![3 => level, 1 => allowed()])
        .prop_map(|(writes_per_minute, values)| ActuatorRequest { writes_per_minute, values });
    (
        btree_map(names(), sensor, 0..4),
        btree_map(names(), little_direction(), 0..4),
        btree_map(names(), i2c_transfers(1..3), 0..4),
        btree_map(names(), spi_transfers(1..3), 0..4),
        btree_map(names(), actuator, 0..4),
    )
        .prop_map(|(sensors, gpio, i2c, spi, actuators)| Request { sensors, gpio, i2c, spi, actuators })
}

/// The request without what these refusals name.
fn without(request: &Request, refusals: &[Refusal]) -> Request {
    let mut rest = request.clone();
    for refusal in refusals {
        let parts: Vec<&str> = refusal.key.split('.').collect();
        match parts.as_slice() {
            ["capabilities", "sensors", sensor, table, channel] => {
                if let Some(asked) = rest.sensors.get_mut(*sensor) {
                    let table = if *table == "capabilities" { &mut asked.capabilities } else { &mut asked.attributes };
                    table.remove(*channel);
                    if asked.capabilities.is_empty() && asked.attributes.is_empty() {
                        rest.sensors.remove(*sensor);
                    }
                }
            }
            ["capabilities", "sensors", sensor] => drop(rest.sensors.remove(*sensor)),
            ["capabilities", "gpio", name] => drop(rest.gpio.remove(*name)),
            ["capabilities", "i2c", name] => drop(rest.i2c.remove(*name)),
            ["capabilities", "spi", name] => drop(rest.spi.remove(*name)),
            ["capabilities", "actuators", name, ..] => drop(rest.actuators.remove(*name)),
            other => panic!("a refusal of {other:?}"),
        }
    }
    rest
}

/// Each thing that is asked for, alone.
fn single(request: &Request) -> Vec<Request> {
    let none = Request::default();
    let mut all = Vec::new();
    for (sensor, asked) in &request.sensors {
        let alone = |asked| Request { sensors: [(sensor.clone(), asked)].into(), ..none.clone() };
        for (name, access) in &asked.capabilities {
            let capabilities = [(name.clone(), *access)].into();
            all.push(alone(SensorRequest { capabilities, ..SensorRequest::default() }));
        }
        for (name, access) in &asked.attributes {
            let attributes = [(name.clone(), *access)].into();
            all.push(alone(SensorRequest { attributes, ..SensorRequest::default() }));
        }
    }
    let (gpio, i2c, spi) = (request.gpio.clone(), request.i2c.clone(), request.spi.clone());
    all.extend(gpio.into_iter().map(|one| Request { gpio: [one].into(), ..none.clone() }));
    all.extend(i2c.into_iter().map(|one| Request { i2c: [one].into(), ..none.clone() }));
    all.extend(spi.into_iter().map(|one| Request { spi: [one].into(), ..none.clone() }));
    let actuators = request.actuators.clone();
    all.extend(actuators.into_iter().map(|one| Request { actuators: [one].into(), ..none.clone() }));
    all
}

/// Values around the limits that the generators use.
fn samples() -> Vec<Value> {
    let mut samples: Vec<Value> = (-1..6).map(Value::from).collect();
    samples.extend(["0.5", "1.5", "2.5", "3.5"].map(|text| Value::from_text(Kind::Decimal, text).unwrap()));
    samples.extend(["x", "y", "z"].map(|text| Value::from_text(Kind::Text, text).unwrap()));
    samples
}

/// Everything of a grant is in the request, the tier and the board; told by what can be done, not by how it was decided.
fn check_grant(grant: &Grant, request: &Request, tier: &Tier, board: &Board) -> Result<(), TestCaseError> {
    for (name, sensor) in grant.sensors() {
        let (asked, has) = (&request.sensors[name], &board.sensors[name]);
        prop_assert_eq!(sensor.iio(), &has.iio);
        for (channels, asked, has, capability) in [
            (sensor.capabilities(), &asked.capabilities, &has.capabilities, true),
            (sensor.attributes(), &asked.attributes, &has.attributes, false),
        ] {
            for (channel, granted) in channels {
                let ceiling = if capability { tier.capability(name, channel) } else { tier.attribute(name, channel) };
                for side in [asked[channel], ceiling, has[channel].access] {
                    prop_assert!(!granted.access().reads() || side.reads());
                    prop_assert!(!granted.access().writes() || side.writes());
                }
                let writes = samples().into_iter().filter(|value| granted.judge_write(value).is_ok());
                for value in writes {
                    prop_assert!(granted.access().writes() && value.is(has[channel].kind));
                    prop_assert!(has[channel].values.as_ref().unwrap().contains(&value));
                    prop_assert!(board.actuator_of_attribute(name, channel).is_none(), "an actuator by the back door");
                }
            }
        }
    }
    for (name, granted) in grant.gpio() {
        for side in [request.gpio[name], tier.line(name), board.gpio[name].direction] {
            prop_assert!(!granted.direction().inputs() || side.inputs());
            prop_assert!(!granted.direction().outputs() || side.outputs());
        }
        prop_assert!(board.actuator_of_line(name).is_none(), "an actuator by the back door");
    }
    for (name, granted) in grant.i2c() {
        for transfer in granted.transfers() {
            for side in [&request.i2c[name], &tier.i2c(name), &board.i2c[name].transfers] {
                prop_assert!(side.contains(transfer));
            }
        }
        prop_assert_eq!(granted.place().address, board.i2c[name].address);
    }
    for (name, granted) in grant.spi() {
        for transfer in &granted.device().transfers {
            for side in [&request.spi[name], &tier.spi(name), &board.spi[name].transfers] {
                prop_assert!(side.contains(transfer));
            }
        }
    }
    for (name, granted) in grant.actuators() {
        let (asked, ceiling, has) = (&request.actuators[name], tier.actuator(name).unwrap(), &board.actuators[name]);
        let rates = [asked.writes_per_minute, ceiling.writes_per_minute, has.writes_per_minute];
        prop_assert_eq!(Some(&granted.rate().writes_per_minute), rates.iter().min());
        prop_assert!(granted.rate().burst <= has.burst);
        for value in samples().into_iter().filter(|value| granted.judge_write(value).is_ok()) {
            let tier_ok = ceiling.values.as_ref().is_none_or(|values| values.contains(&value));
            prop_assert!(asked.values.contains(&value) && tier_ok && has.values.contains(&value));
        }
    }
    Ok(())
}

/// Everything that either tier may grant.
fn either(one: &Tier, other: &Tier) -> Ceiling {
    let access = |a: Access, b: Access| match (a.reads() || b.reads(), a.writes() || b.writes()) {
        (true, true) => Access::ReadWrite,
        (true, false) => Access::Read,
        (false, true) => Access::Write,
        (false, false) => Access::None,
    };
    let direction = |a: Direction, b: Direction| match (a.inputs() || b.inputs(), a.outputs() || b.outputs()) {
        (true, true) => Direction::Both,
        (true, false) => Direction::In,
        (false, true) => Direction::Out,
        (false, false) => Direction::None,
    };
    let all = ["a", "b", "c"].map(name);
    let mut wide = Ceiling::default();
    for at in &all {
        let pattern = Pattern::Exactly(at.clone());
        let mut sensor = SensorCeiling::default();
        for channel in &all {
            let [c, t] = ["c", "t"].map(|prefix| name(&format!("{prefix}{channel}")));
            let (a, b) = (one.capability(at, &c), other.capability(at, &c));
            sensor.capabilities.insert(Pattern::Exactly(c), access(a, b));
            let (a, b) = (one.attribute(at, &t), other.attribute(at, &t));
            sensor.attributes.insert(Pattern::Exactly(t), access(a, b));
        }
        wide.sensors.insert(pattern.clone(), sensor);
        wide.gpio.insert(pattern.clone(), direction(one.line(at), other.line(at)));
        wide.i2c.insert(pattern.clone(), one.i2c(at).union(&other.i2c(at)).copied().collect());
        wide.spi.insert(pattern.clone(), one.spi(at).union(&other.spi(at)).copied().collect());
        let rate = [one, other].iter().filter_map(|tier| tier.actuator(at)).map(|a| a.writes_per_minute).max();
        let actuator = ActuatorCeiling { writes_per_minute: rate.unwrap_or(0), values: None };
        wide.actuators.insert(pattern, actuator);
    }
    wide
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, ..ProptestConfig::default() })]

    #[test]
    fn a_grant_is_within_request_tier_and_board(board in boards(), ceiling in ceilings(), request in requests()) {
        let tier = tier_of(&ceiling);
        match grant(&request, &tier, &board) {
            Ok(granted) => check_grant(&granted, &request, &tier, &board)?,
            Err(refusals) => {
                prop_assert!(!refusals.is_empty());
                let rest = without(&request, &refusals);
                prop_assert!(rest != request, "a refusal names something that was asked for");
                // The list was complete: what it does not name is granted.
                let granted = grant(&rest, &tier, &board);
                prop_assert!(granted.is_ok(), "after {:#?} there is still {:#?}", refusals, granted);
                check_grant(&granted.unwrap(), &rest, &tier, &board)?;
            }
        }
    }

    /// Each thing is judged by itself: a request's refusals are those of its parts, from both sides.
    #[test]
    fn refusals_are_those_of_the_parts(board in boards(), ceiling in ceilings(), request in requests()) {
        let tier = tier_of(&ceiling);
        let told: Vec<(String, bool)> = grant(&request, &tier, &board).err().unwrap_or_default()
            .into_iter().map(|r| (r.key, matches!(r.by, Side::Tier(_)))).collect();
        for one in single(&request) {
            for refusal in [beyond_tier(&one, &tier), beyond_board(&one, &board)].concat() {
                prop_assert!(refusal.allows != Allows::NoTier);
                let it = (refusal.key, matches!(refusal.by, Side::Tier(_)));
                prop_assert!(told.contains(&it), "{:?} is missing in {:?}", it, told);
            }
        }
    }

    #[test]
    fn a_wider_tier_never_refuses_what_a_narrower_one_granted(
        board in boards(), narrow in ceilings(), more in ceilings(), request in requests(),
    ) {
        let (narrow, more) = (tier_of(&narrow), tier_of(&more));
        let wide = tier_of(&either(&narrow, &more));
        let keys = |refusals: Vec<Refusal>| refusals.into_iter().map(|refusal| refusal.key).collect::<Vec<_>>();
        let (few, many) = (keys(beyond_tier(&request, &wide)), keys(beyond_tier(&request, &narrow)));
        for key in &few {
            // A narrow tier may refuse an actuator as a whole where the wide one refuses its rate.
            prop_assert!(many.iter().any(|other| key.starts_with(other.as_str())), "{:?} {:?}", few, many);
        }
        // And so for a grant, also of what the narrow tier leaves of the request.
        let refusals = grant(&request, &narrow, &board).err().unwrap_or_default();
        let rest = without(&request, &refusals);
        prop_assert_eq!(grant(&rest, &wide, &board), grant(&rest, &narrow, &board));
    }
}

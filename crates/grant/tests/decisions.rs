//! Requests that are granted, and one fixture for each way of asking for too much.

mod common;

use common::{REQUEST, TIER, board, everything, granted, name, request, tier, words};
use iotwasm_grant::board::{I2cBus, LineId};
use iotwasm_grant::grant::{Output, ValueDenial};
use iotwasm_grant::{Access, Allows, Direction, I2cTransfer, Kind, Rate, Side, Tier, Value, grant};

/// The refusals, in words, of a request on the board under the tier of the tests.
fn refused(text: &str) -> Vec<String> {
    words(&grant(&request(text), &tier(TIER), &board()).expect_err(text))
}

#[test]
fn what_tier_and_board_both_have_is_granted_as_asked() {
    let grant = grant(&request(REQUEST), &tier(TIER), &board()).unwrap();
    let climate = &grant.sensors()["climate"];
    assert_eq!((climate.iio(), climate.capabilities().len(), climate.attributes().len()), ("bme280", 2, 1));
    let temperature = climate.channel("temperature").unwrap();
    assert_eq!((temperature.file(), temperature.unit(), temperature.access()), ("in_temp_input", "m°C", Access::Read));
    assert!(climate.channel("mode").is_none(), "not asked for");
    let led = &grant.gpio()["led"];
    assert_eq!((led.chip(), led.line(), led.direction()), ("chip", &LineId::Name("led".into()), Direction::Out));
    let eeprom = &grant.i2c()["eeprom"];
    assert_eq!((eeprom.place().address, eeprom.place().bus), (0x50, I2cBus::Name("adapter".into())));
    assert_eq!(grant.spi()["display"].device().transfers.len(), 1);
    let valve = &grant.actuators()["valve"];
    assert_eq!(valve.rate(), Rate { writes_per_minute: 6, burst: 5 });
    assert_eq!(valve.board_rate(), Rate { writes_per_minute: 60, burst: 5 });
    assert_eq!(valve.safe(), Some(&Value::from(0)));
    assert!(matches!(valve.output(), Output::Line(line) if line.active_low));
    let text = grant.to_string();
    assert!(
        text.contains("actuator valve: [0, 1], 6 writes in a minute, 5 at once; 0 when the session ends"),
        "{text}"
    );
    assert!(text.contains("sensor climate: humidity (read), temperature (read), oversampling (read-write"), "{text}");
}

#[test]
fn nothing_asked_is_nothing_granted_even_without_a_tier() {
    assert!(grant(&request(""), &Tier::absent(name("bolt")), &board()).unwrap().is_empty());
}

#[test]
fn a_role_without_a_tier_may_grant_nothing() {
    let refusals = grant(&request(REQUEST), &Tier::absent(name("bolt")), &board()).unwrap_err();
    assert_eq!(refusals.len(), 9, "{refusals:#?}");
    assert!(refusals.iter().all(|r| r.allows == Allows::NoTier && r.by == Side::Tier(name("bolt"))));
    assert!(refusals[0].to_string().contains("has no tier (bolt.toml)"), "{}", refusals[0]);
}

#[test]
fn each_excess_is_refused_by_who_has_less() {
    for (text, expected) in [
        (
            "gpio.door = 'out'",
            "capabilities.gpio.door = \"out\": the board bench has no such thing; it has button, led, spare, valve",
        ),
        ("gpio.button = 'out'", "gpio.button = \"out\": the board bench allows \"in\"; ask for no more than that"),
        ("gpio.led = 'both'", "gpio.led = \"both\": the board bench allows \"out\""),
        (
            "gpio.spare = 'out'",
            "gpio.spare = \"out\": the tier acme allows \"in\"; ask for no more than that, or have acme.toml widened",
        ),
        ("sensors.climate.capabilities.temperature = 'read-write'", "the tier acme allows \"read\""),
        (
            "sensors.climate.capabilities.co2 = 'read'",
            "capabilities.co2 = \"read\": the board bench has no such thing; it has humidity, temperature",
        ),
        ("sensors.climate.attributes.mode = 'write'", "the tier acme allows nothing of it"),
        ("sensors.climate.attributes.mode = 'read'", "the board bench allows \"write\""),
        (
            "sensors.attic.capabilities.temperature = 'read'",
            "sensors.attic = [\"temperature\"]: the board bench has no such thing; it has climate, dac",
        ),
        ("i2c.eeprom = ['read']", "i2c.eeprom = [\"read\"]: the board bench allows [\"write\", \"write_read\"]"),
        ("i2c.open = ['write']", "the tier acme allows [\"read\", \"write_read\"]"),
        ("i2c.fan = ['write_read']", "the tier acme allows nothing of it"),
        ("spi.display = ['read']", "spi.display = [\"read\"]: the board bench allows [\"write\", \"transfer\"]"),
        ("spi.display = ['transfer']", "the tier acme allows [\"write\"]"),
        ("spi.radio = ['write']", "it has display"),
        (
            "actuators.valve = { writes_per_minute = 31, values = [0] }",
            "actuators.valve.writes_per_minute = 31: the tier acme allows at most 30",
        ),
        (
            "actuators.heater = { writes_per_minute = 11, values = [0] }",
            "heater.writes_per_minute = 11: the board bench allows at most 10",
        ),
        (
            "actuators.heater = { writes_per_minute = 1, values = { min = 0, max = 51 } }",
            "heater.values = { min = 0, max = 51 }: the tier acme allows { min = 0, max = 50 }",
        ),
        (
            "actuators.valve = { writes_per_minute = 1, values = [0, 2] }",
            "valve.values = [0, 2]: the board bench allows [0, 1]",
        ),
        (
            "actuators.fan = { writes_per_minute = 1, values = [0.5] }",
            "fan.values = [0.5]: the board bench allows whole numbers in { min = 0, max = 255 }",
        ),
        ("actuators.pump = { writes_per_minute = 1, values = [0] }", "it has fan, heater, valve"),
    ] {
        let refusals = refused(text);
        assert!(refusals.iter().any(|words| words.contains(expected)), "{text}: {refusals:#?}");
    }
}

#[test]
fn an_actuator_cannot_be_reached_as_a_line_or_an_attribute() {
    for text in ["gpio.valve = 'out'", "gpio.valve = 'in'"] {
        let refusals = words(&grant(&request(text), &everything(), &board()).unwrap_err());
        assert_eq!(refusals.len(), 1);
        assert!(refusals[0].contains("this is an actuator; ask for capabilities.actuators.valve"), "{refusals:?}");
    }
    for access in ["write", "read-write"] {
        let asked = request(&format!("sensors.dac.attributes.heat = '{access}'"));
        let refusals = grant(&asked, &everything(), &board()).unwrap_err();
        assert_eq!(refusals[0].allows, Allows::AsActuator(name("heater")));
    }
    let heat = granted("sensors.dac.attributes.heat = 'read'");
    let heat = heat.sensors()["dac"].channel("heat").unwrap();
    assert_eq!(heat.judge_write(&Value::from(1)), Err(ValueDenial::ReadOnly));
}

#[test]
fn a_refusal_lists_everything_and_grants_nothing() {
    let refusals = refused(
        "gpio = { led = 'out', door = 'out', button = 'both' }\ni2c = { fan = ['read'] }\n\
         actuators.valve = { writes_per_minute = 100, values = [7] }",
    );
    // The door: tier and board? The tier's star has it, so the board alone. The fan: both. The valve: twice by rate.
    let keys: Vec<&str> = refusals.iter().map(|words| words.split(' ').next().unwrap()).collect();
    let expected = [
        "capabilities.actuators.valve.values",
        "capabilities.actuators.valve.writes_per_minute",
        "capabilities.actuators.valve.writes_per_minute",
        "capabilities.gpio.button",
        "capabilities.gpio.door",
        "capabilities.i2c.fan",
        "capabilities.i2c.fan",
    ];
    assert_eq!(keys, expected, "{refusals:#?}");
    assert!(refusals[1].contains("tier acme") && refusals[2].contains("board bench"), "{refusals:#?}");
}

#[test]
fn a_burst_is_the_boards_but_never_more_than_a_minutes_writes() {
    let grant = granted("actuators.valve = { writes_per_minute = 2, values = [1] }");
    let valve = &grant.actuators()["valve"];
    assert_eq!((valve.rate().burst, valve.board_rate().burst), (2, 5));
    assert!(valve.judge_write(&Value::from(1)).is_ok());
    assert!(valve.judge_write(&Value::from(0)).is_err(), "the board allows it, but nobody asked");
}

#[test]
fn values_are_judged_by_kind_and_set() {
    let grant = granted(
        "sensors.climate.attributes = { oversampling = 'read-write', mode = 'write' }\n\
         actuators.heater = { writes_per_minute = 1, values = { min = 0, max = 100 } }",
    );
    let climate = &grant.sensors()["climate"];
    let oversampling = climate.channel("oversampling").unwrap();
    let number = |text: &str| Value::from_text(Kind::Decimal, text).unwrap();
    assert!(oversampling.judge_write(&number("4")).is_ok());
    assert!(matches!(oversampling.judge_write(&number("3")), Err(ValueDenial::NotAllowed { .. })));
    let word = Value::from_text(Kind::Text, "4").unwrap();
    assert!(matches!(oversampling.judge_write(&word), Err(ValueDenial::WrongKind { .. })));
    let mode = climate.channel("mode").unwrap();
    assert!(mode.judge_write(&Value::from_text(mode.kind(), "fast").unwrap()).is_ok());
    assert!(mode.judge_write(&Value::from_text(mode.kind(), "fast ").unwrap()).is_err());
    let heater = &grant.actuators()["heater"];
    assert_eq!(heater.kind(), Kind::Integer);
    assert!(heater.judge_write(&number("100")).is_ok() && heater.judge_write(&number("0")).is_ok());
    for bad in ["-1", "101", "0.5", "100.000000001"] {
        assert!(heater.judge_write(&number(bad)).is_err(), "{bad}");
    }
    assert!(matches!(heater.output(), Output::File { iio, file, .. } if iio == "dac" && file == "out_voltage0_raw"));
}

#[test]
fn a_register_is_written_with_its_address_first() {
    let grant = granted("actuators.fan = { writes_per_minute = 1, values = [0, 7] }");
    let fan = grant.actuators()["fan"].output();
    assert_eq!(fan.register_message(&Value::from(7)), Some(vec![0x30, 7]));
    assert_eq!(fan.register_message(&Value::from(256)), None);
    assert_eq!(fan.register_message(&Value::from(-1)), None);
    let wide = |order, value| {
        Output::Register {
            place: granted("i2c.fan = ['write']").i2c()["fan"].place(),
            register: 0x0102,
            address_bytes: 2,
            value_bytes: 2,
            order,
        }
        .register_message(&Value::from(value))
    };
    use iotwasm_grant::board::ByteOrder::{BigEndian, LittleEndian};
    assert_eq!(wide(BigEndian, 0x0304), Some(vec![1, 2, 3, 4]));
    assert_eq!(wide(LittleEndian, 0x0304), Some(vec![1, 2, 4, 3]));
}

#[test]
fn a_grant_and_a_refusal_can_be_told_as_json() {
    let grant = granted(REQUEST);
    let json = serde_json::to_value(&grant).unwrap();
    assert_eq!(json["sensors"]["climate"]["capabilities"]["temperature"]["access"], "read");
    assert_eq!(json["i2c"]["eeprom"]["transfers"], serde_json::json!(["write", "write_read"]));
    assert_eq!(json["actuators"]["valve"]["rate"]["writes_per_minute"], 6);
    assert_eq!(grant.i2c()["eeprom"].transfers(), &[I2cTransfer::Write, I2cTransfer::WriteRead].into());
    let refusals = iotwasm_grant::grant(&request("gpio.door = 'in'"), &tier(TIER), &board()).unwrap_err();
    let json = serde_json::to_value(&refusals[0]).unwrap();
    assert_eq!(json["by"]["board"], "bench");
    assert_eq!(json["allows"]["missing"]["has"][0], "button");
}

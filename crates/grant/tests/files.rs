//! Board files, tiers and requests: what is accepted, and each mistake with the words that it gets.

mod common;

use common::{BOARD, REQUEST, TIER, board, chain, name, request, tier};
use iotwasm_grant::board::{Bias, LineId, Target};
use iotwasm_grant::error::MAX_TEXT;
use iotwasm_grant::{Access, Board, Direction, I2cTransfer, ParseError, Request, Tier, load};
use proptest::prelude::*;

/// The board with this text in place of that.
fn wrong_board(from: &str, to: &str) -> String {
    assert!(BOARD.contains(from), "{from:?} is not in the board");
    chain(&Board::parse(BOARD.replacen(from, to, 1).as_bytes()).expect_err(to))
}

#[test]
fn every_key_of_a_board_is_read_and_has_its_default() {
    let board = board();
    let climate = &board.sensors["climate"];
    assert_eq!((climate.iio.as_str(), climate.parent.is_some()), ("bme280", true));
    assert_eq!(climate.capabilities["temperature"].access, Access::Read);
    let button = &board.gpio["button"];
    assert_eq!((button.direction, button.bias, button.active_low), (Direction::In, Bias::PullUp, false));
    assert_eq!(button.line, LineId::Name("button".into()));
    assert!(board.gpio["valve"].active_low);
    assert_eq!((board.i2c["eeprom"].max_length, board.i2c["open"].max_length), (16, 32));
    assert_eq!((board.spi["display"].mode, board.spi["display"].bits_per_word), (0, 16));
    assert_eq!((board.actuators["valve"].burst, board.actuators["heater"].burst), (5, 1));
    assert_eq!(board.actuators["valve"].drives, Target::Line(name("valve")));
    let again = toml::to_string(&board).unwrap();
    assert_eq!(Board::parse(again.as_bytes()).unwrap(), board, "{again}");
}

#[test]
fn the_smallest_board_is_a_name() {
    let board = Board::parse(b"name = 'x'").unwrap();
    assert!(board.gpio.is_empty() && board.actuators.is_empty());
}

#[test]
fn an_unknown_key_of_a_board_is_named() {
    for from in [
        "name = \"bench\"",
        "iio = \"bme280\"",
        "bus = \"adapter\", address = 0x76",
        "kind = \"decimal\"",
        "chip = \"chip\"",
        "address = 0x50",
        "from = 0x00",
        "chip_select = 1",
        "burst = 5",
        "device = \"fan\"",
        "sensor = \"dac\"",
        "min = 0",
    ] {
        let separator = if BOARD.lines().any(|line| line == from) { "\n" } else { ", " };
        let err = wrong_board(from, &format!("{from}{separator}typo = 1"));
        assert!(err.contains("typo"), "{from}: {err}");
    }
}

#[test]
fn each_mistake_in_a_board_is_named_with_its_key() {
    for (from, to, key) in [
        ("\"bench\"", "\"a b\"", "name: "),
        ("iio = \"bme280\"", "iio = \"\"", "sensors.climate.iio"),
        ("address = 0x76", "address = 0x78", "sensors.climate.parent.i2c.address"),
        ("in_temp_input", "../../../kernel", "sensors.climate.capabilities.temperature.file"),
        ("in_temp_input", "/etc/passwd", "sensors.climate.capabilities.temperature.file"),
        ("in_temp_input", "..", "sensors.climate.capabilities.temperature.file"),
        ("in_humidityrelative_input", "in_temp_input", "humidity is this file already"),
        ("access = \"read-write\", values = [1, 2, 4, 8, 16]", "access = \"read-write\"", "oversampling.values"),
        ("unit = \"m%\", kind = \"decimal\"", "unit = \"m%\", kind = \"decimal\", values = [1]", "humidity.values"),
        ("[1, 2, 4, 8, 16]", "[1, 2.5]", "each value must be a whole number"),
        ("[\"fast\", \"slow\"]", "[1]", "each value must be a word"),
        ("humidity = {", "state = {", "every sensor has this from the runtime"),
        ("mode = {", "temperature = {", "could not tell them apart"),
        ("access = \"write\"", "access = \"none\"", "sensors.climate.attributes.mode.access"),
        ("direction = \"in\"", "direction = \"none\"", "gpio.button.direction"),
        ("direction = \"in\"", "direction = \"sideways\"", "sideways"),
        ("line = \"button\"", "line = \"\"", "gpio.button.line"),
        ("line = \"button\"", "line = -1", "the line's name in the kernel, or its offset"),
        ("bus = 3", "bus = -3", "the adapter's name in sysfs, or its number"),
        ("address = 0x50", "address = 0x03", "i2c.eeprom.address"),
        ("address = 0x50", "address = 0x150", "address"),
        ("max_length = 16", "max_length = 0", "i2c.eeprom.max_length"),
        ("max_length = 16", "max_length = 8193", "i2c.eeprom.max_length"),
        ("max_length = 16", "register_address_bytes = 3", "i2c.eeprom.register_address_bytes"),
        ("max_length = 16", "register_value_bytes = 5", "i2c.eeprom.register_value_bytes"),
        ("transfers = [\"read\", \"write\", \"write_read\"]", "transfers = []", "i2c.open.transfers"),
        ("transfers = [\"read\", \"write\", \"write_read\"]", "transfers = [\"erase\"]", "erase"),
        ("from = 0x10, to = 0x1f", "from = 0x0f, to = 0x1f", "i2c.eeprom.registers[1]"),
        ("from = 0x10, to = 0x1f", "from = 0x1f, to = 0x10", "i2c.eeprom.registers[1]"),
        ("from = 0x30, to = 0x3f", "from = 0x30, to = 0x100", "i2c.eeprom.registers[3]"),
        ("to = 0x3f, access = \"write\"", "to = 0x3f, access = \"none\"", "i2c.eeprom.registers[3].access"),
        ("speed_hz = 1_000_000", "speed_hz = 1", "spi.display.speed_hz"),
        ("chip_select = 1", "chip_select = 1\nmode = 4", "spi.display.mode"),
        ("bits_per_word = 16", "bits_per_word = 12", "spi.display.bits_per_word"),
        ("transfers = [\"write\", \"transfer\"]", "transfers = []", "spi.display.transfers"),
        ("max_length = 64", "max_length = 0", "spi.display.max_length"),
        ("writes_per_minute = 60", "writes_per_minute = 0", "actuators.valve.writes_per_minute"),
        ("writes_per_minute = 60", "writes_per_minute = 60001", "actuators.valve.writes_per_minute"),
        ("burst = 5", "burst = 61", "actuators.valve.burst"),
        ("burst = 5", "burst = 0", "actuators.valve.burst"),
        ("values = [0, 1]\nsafe = 0", "values = [0, 2]\nsafe = 0", "what it drives takes [0, 1]"),
        ("values = [0, 1]\nsafe = 0", "values = [0, 0.5]\nsafe = 0", "each value must be a whole number"),
        ("values = [0, 1]\nsafe = 0", "values = [0, 1]\nsafe = 2", "actuators.valve.safe"),
        (
            "values = { min = 0, max = 100 }\nsafe = 0",
            "values = { min = 0, max = 5000 }\nsafe = 0",
            "actuators.heater.values",
        ),
        ("values = { min = 0, max = 255 }", "values = { min = 0, max = 256 }", "actuators.fan.values"),
        ("{ line = \"valve\" }", "{ line = \"missing\" }", "there is no gpio.missing"),
        ("{ line = \"valve\" }", "{ line = \"button\" }", "gpio.button is no output"),
        ("{ line = \"valve\" }", "{ lamp = \"valve\" }", "lamp"),
        ("name = \"heat\"", "name = \"cold\"", "nothing of the name cold"),
        ("device = \"fan\"", "device = \"missing\"", "there is no i2c.missing"),
        ("register = 0x30", "register = 0x100", "registers of i2c.fan go to 0xff"),
    ] {
        let err = wrong_board(from, to);
        assert!(err.contains(key), "{to}: {err}");
    }
}

#[test]
fn a_second_way_to_what_an_actuator_guards_is_refused() {
    // The same line, sensor or device under another name.
    for (from, to, words) in [
        ("line = \"spare\"", "line = \"valve\"", "is this line already"),
        ("line = \"spare\"", "line = 2", "use names for all its lines, or offsets for all"),
        ("address = 0x20", "address = 0x50", "i2c.eeprom is at this address already"),
        ("address = 0x20", "address = 0x76", "sensors.climate is at this address already"),
        ("address = 0x20", "address = 0x2c", "name both buses, or number both"),
        ("iio = \"dac\"", "iio = \"bme280\"", "tell the two apart with parent"),
    ] {
        let err = wrong_board(from, to);
        assert!(err.contains(words), "{to}: {err}");
    }
    // A register that payloads may write anyway, or that has no rule at all.
    let err = wrong_board("register = 0x30", "register = 0x20");
    assert!(err.contains("a rule of i2c.fan lets payloads write this register"), "{err}");
    let err = wrong_board("device = \"fan\", register = 0x30", "device = \"open\", register = 0x30");
    assert!(err.contains("give i2c.open rules for its registers"), "{err}");
    // Two actuators for one thing would be two rates for it.
    // The order of its bytes does not make it another register.
    let twice = format!(
        "{BOARD}\n[actuators.fan2]\ndrives = {{ register = {{ device = 'fan', register = 0x30, order = 'little-endian' }} }}\n\
         writes_per_minute = 1\nvalues = [0]\n"
    );
    let err = chain(&Board::parse(twice.as_bytes()).unwrap_err());
    assert!(err.contains("actuators.fan2 drives this too"), "{err}");
}

#[test]
fn a_tier_names_what_it_has_and_a_star_the_rest() {
    let tier = tier(TIER);
    let climate = name("climate");
    assert_eq!(tier.capability(&climate, &name("anything")), Access::Read);
    assert_eq!(tier.attribute(&climate, &name("oversampling")), Access::ReadWrite);
    assert_eq!(tier.attribute(&climate, &name("mode")), Access::None);
    assert_eq!(tier.capability(&name("dac"), &name("anything")), Access::None);
    assert_eq!((tier.line(&name("led")), tier.line(&name("spare"))), (Direction::Both, Direction::In));
    assert_eq!(tier.i2c(&name("eeprom")), [I2cTransfer::Write, I2cTransfer::WriteRead].into());
    assert!(tier.i2c(&name("fan")).is_empty() && tier.actuator(&name("pump")).is_none());
}

#[test]
fn a_line_of_its_own_stands_in_for_the_star_altogether() {
    let tier = tier(
        "sensors.'*' = { capabilities.'*' = 'read', attributes.'*' = 'read' }\nsensors.climate = {}\n\
         gpio = { '*' = 'both', door = 'none' }\ni2c = { '*' = ['read'], fan = [] }\n\
         actuators = { '*' = { writes_per_minute = 9 }, valve = { writes_per_minute = 0 } }",
    );
    assert_eq!(tier.capability(&name("other"), &name("x")), Access::Read);
    assert_eq!(tier.capability(&name("climate"), &name("x")), Access::None);
    assert_eq!(tier.line(&name("door")), Direction::None);
    assert!(tier.i2c(&name("fan")).is_empty() && !tier.i2c(&name("eeprom")).is_empty());
    assert!(tier.actuator(&name("valve")).is_none() && tier.actuator(&name("pump")).is_some());
}

#[test]
fn each_mistake_in_a_tier_is_named() {
    for (text, words) in [
        ("typo = 1", "typo"),
        ("sensors.climate.typo = {}", "typo"),
        ("gpio = { 'led*' = 'in' }", "led*"),
        ("gpio = { led = 'in-out' }", "in-out"),
        ("i2c = { a = ['read', 'erase'] }", "erase"),
        ("actuators = { a = {} }", "writes_per_minute"),
        ("actuators = { a = { writes_per_minute = 60001 } }", "actuators.a.writes_per_minute is 60001"),
        ("actuators = { a = { writes_per_minute = 1, values = [] } }", "at least one"),
        ("description = \"two\\nlines\"", "description"),
    ] {
        let err = chain(&Tier::parse(name("acme"), text.as_bytes()).expect_err(text)).replace(": is", " is");
        assert!(err.contains(words), "{text}: {err}");
    }
}

#[test]
fn a_request_is_read_and_written_again() {
    let asked = request(REQUEST);
    assert!(!asked.is_empty() && request("").is_empty());
    assert_eq!(asked.gpio["button"], Direction::In);
    let again = toml::to_string(&asked).unwrap();
    assert_eq!(request(&again), asked, "{again}");
}

#[test]
fn each_mistake_in_a_request_is_named() {
    let many = |line: &str| (0..100).map(|n| line.replace('#', &n.to_string())).collect::<String>();
    for (text, words) in [
        ("gpoi = {}", "gpoi"),
        ("sensors.climate.capability = {}", "capability"),
        ("sensors.climate = {}", "sensors.climate: ask for at least one"),
        ("sensors.climate.capabilities.state = 'read'", "need not be asked for"),
        ("sensors.climate.capabilities.temperature = 'none'", "sensors.climate.capabilities.temperature"),
        ("sensors.'*'.capabilities.temperature = 'read'", "is not a name"),
        ("gpio.led = 'none'", "gpio.led"),
        ("gpio.LED = 'in'", "is not a name"),
        ("gpio.'../x' = 'in'", "is not a name"),
        ("gpio = { lines = [{ name = 'led' }] }", "lines"),
        ("i2c.eeprom = []", "i2c.eeprom"),
        ("spi.display = []", "spi.display"),
        ("i2c.eeprom = 'read'", "eeprom"),
        ("actuators.valve = { writes_per_minute = 0, values = [0] }", "actuators.valve.writes_per_minute"),
        ("actuators.valve = { writes_per_minute = 60001, values = [0] }", "actuators.valve.writes_per_minute"),
        ("actuators.valve = { writes_per_minute = 1 }", "values"),
        ("actuators.valve = { writes_per_minute = 1, values = [0], burst = 5 }", "burst"),
        ("actuators.valve = { writes_per_minute = 1, values = [1979-05-27] }", "values"),
        (&many("gpio.l# = 'in'\n"), "gpio: has 100 entries; at most 64"),
        (&many("sensors.s#.capabilities.a = 'read'\n"), "sensors: has 100"),
        (&many("sensors.s.capabilities.c# = 'read'\n"), "sensors.s.capabilities: has 100"),
        (&many("i2c.d# = ['read']\n"), "i2c: has 100"),
        (&many("spi.d# = ['read']\n"), "spi: has 100"),
        (&many("actuators.a# = { writes_per_minute = 1, values = [0] }\n"), "actuators: has 100"),
    ] {
        let err = chain(&Request::parse(text.as_bytes()).expect_err(text));
        assert!(err.contains(words), "{text}: {err}");
    }
}

#[test]
fn what_is_too_long_or_no_text_is_not_parsed() {
    let long = vec![b'#'; MAX_TEXT + 1];
    assert!(matches!(Board::parse(&long), Err(ParseError::TooLong { .. })));
    assert!(matches!(Request::parse(&long), Err(ParseError::TooLong { .. })));
    assert!(matches!(Tier::parse(name("acme"), b"\xff"), Err(ParseError::NotText { .. })));
    let deep = format!("x = {}1{}", "[".repeat(5000), "]".repeat(5000));
    assert!(Board::parse(deep.as_bytes()).is_err() && Request::parse(deep.as_bytes()).is_err());
}

#[test]
fn files_are_found_by_role_and_errors_name_them() {
    let dir = tempfile::tempdir().unwrap();
    let put = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).unwrap();
    put("acme.toml", TIER);
    put("bolt.toml", "gpio = 1");
    put("board.toml", BOARD);
    put("long.toml", &"#".repeat(MAX_TEXT + 1));
    assert!(load::tier(dir.path(), name("acme")).unwrap().exists());
    assert!(!load::tier(dir.path(), name("nobody")).unwrap().exists());
    assert_eq!(load::board(&dir.path().join("board.toml")).unwrap(), board());
    for (result, words) in [
        (load::tier(dir.path(), name("bolt")), "bolt.toml"),
        (load::tier(dir.path(), name("long")), "at most"),
        (load::tier(&dir.path().join("nowhere"), name("acme")), "nowhere"),
    ] {
        let err = chain(&result.unwrap_err());
        assert!(err.contains(words), "{err}");
    }
    assert!(chain(&load::board(&dir.path().join("no.toml")).unwrap_err()).contains("no.toml"));
    assert!(chain(&load::board(&dir.path().join("bolt.toml")).unwrap_err()).contains("gpio"));
}

proptest! {
    #[test]
    fn any_bytes_are_a_file_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = Board::parse(&bytes);
        let _ = Tier::parse(name("acme"), &bytes);
        let _ = Request::parse(&bytes);
    }

    /// Files with some of their characters exchanged: where they still parse, what they are written as means the same.
    #[test]
    fn an_altered_file_still_means_one_thing(changes in prop::collection::vec((any::<prop::sample::Index>(), "[ -~\n]"), 1..4)) {
        let altered = |text: &str| {
            let mut bytes = text.as_bytes().to_vec();
            for (at, with) in &changes {
                let at = at.index(bytes.len());
                bytes[at] = with.as_bytes()[0];
            }
            bytes
        };
        if let Ok(board) = Board::parse(&altered(BOARD)) {
            prop_assert_eq!(Board::parse(toml::to_string(&board).unwrap().as_bytes()).unwrap(), board);
        }
        if let Ok(tier) = Tier::parse(name("acme"), &altered(TIER)) {
            let again = toml::to_string(tier.ceiling().unwrap()).unwrap();
            prop_assert_eq!(Tier::parse(name("acme"), again.as_bytes()).unwrap(), tier);
        }
        if let Ok(request) = Request::parse(&altered(REQUEST)) {
            prop_assert_eq!(Request::parse(toml::to_string(&request).unwrap().as_bytes()).unwrap(), request);
        }
    }
}

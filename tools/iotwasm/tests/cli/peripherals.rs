//! `iotwasm payload check` with a board and tiers, from outside: on the boards and tiers that devices run with.

use crate::common::Bench;

const BOARDS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../board-configs");
const TIERS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../meta-iotwasm/recipes-iotwasm/capd/files/tiers.d");

const WANTED: &str = "[capabilities]
sensors.climate.capabilities = { temperature = 'read', humidity = 'read' }
gpio.led = 'out'
actuators.valve = { writes_per_minute = 6, values = [0, 1] }
";

/// A payload that asks for this; its own keys stand before the tables.
fn payload(bench: &Bench, vendor: &str, id: &str, capabilities: &str) -> String {
    bench.payload_of(vendor, id, "1.0.0", capabilities)
}

fn board() -> String {
    format!("{BOARDS}/qemu-x86-64.toml")
}

#[test]
fn what_the_device_will_grant_is_shown_before_publishing() {
    let bench = Bench::new();
    let file = payload(&bench, "acme", "climate", WANTED);
    let check = ["payload", "check", "--board", &board(), "--tiers", TIERS, &file];
    let words = bench.run(&check).ok().out;
    for line in [
        "accepted",
        "signed by acme",
        "+ sensor climate: humidity (read), temperature (read)",
        "+ line led: out",
        "+ actuator valve: [0, 1], 6 writes in a minute, 5 at once; 0 when the session ends",
    ] {
        assert!(words.contains(line), "{line} is not in {words}");
    }
    let json = bench.run(&[&["--json"], &check[..]].concat()).ok();
    let json: serde_json::Value = serde_json::from_str(&json.out).unwrap();
    let payload = &json["payloads"][0];
    assert_eq!((&payload["accepted"], &payload["role"]), (&true.into(), &"acme".into()));
    assert_eq!(payload["grants"]["actuators"]["valve"]["rate"]["writes_per_minute"], 6);
    assert_eq!(payload["refusals"], serde_json::json!([]));
}

#[test]
fn a_second_vendor_is_refused_the_first_ones_line_with_everything_else_that_is_too_much() {
    let bench = Bench::new();
    let file = payload(&bench, "bolt", "greedy", &format!("{WANTED}gpio.window = 'in'\n"));
    let check = ["payload", "check", "--board", &board(), "--tiers", TIERS, &file];
    let words = bench.run(&check).fails(1, "1 of 1 payloads are refused").out;
    for line in [
        "capabilities.gpio.led = \"out\": the tier bolt allows nothing of it; leave it out, or have bolt.toml widened",
        "capabilities.gpio.window = \"in\": the board qemu-x86-64 has no such thing; it has button, door, led",
        "capabilities.gpio.window = \"in\": the tier bolt allows nothing",
        "capabilities.actuators.valve = { writes_per_minute = 6, values = [0, 1] }: the tier bolt allows nothing",
    ] {
        assert!(words.contains(line), "{line} is not in {words}");
    }
    assert!(!words.contains("temperature"), "what is allowed is not listed: {words}");
    let json = bench.run(&[&["--json"], &check[..]].concat()).fails(1, "\"code\":1");
    let json: serde_json::Value = serde_json::from_str(&json.out).unwrap();
    let payload = &json["payloads"][0];
    assert_eq!((&payload["accepted"], &payload["grants"]), (&false.into(), &serde_json::Value::Null));
    let refusals = payload["refusals"].as_array().unwrap();
    assert_eq!(refusals.len(), 4);
    assert_eq!(refusals[1]["key"], "capabilities.gpio.led");
    assert_eq!(refusals[1]["by"]["tier"], "bolt");
    assert_eq!(refusals[1]["allows"], "nothing");
    // The same payload under another role's signature.
    bench.run(&[&check[..], &["--role", "acme"]].concat()).fails(1, "1 of 1");
    // A role that nobody gave a tier.
    let other = bench.run(&[&check[..], &["--role", "cargo"]].concat()).fails(1, "1 of 1").out;
    assert!(other.contains("the role cargo has no tier (cargo.toml)"), "{other}");
}

#[test]
fn a_board_or_the_tiers_alone_say_what_they_can() {
    let bench = Bench::new();
    let file = payload(&bench, "bolt", "greedy", &format!("{WANTED}gpio.window = 'in'\n"));
    let board = bench.run(&["payload", "check", "--board", &board(), &file]).fails(1, "1 of 1").out;
    assert!(board.contains("gpio.window") && !board.contains("gpio.led"), "{board}");
    let tiers = bench.run(&["payload", "check", "--tiers", TIERS, &file]).fails(1, "1 of 1").out;
    assert!(tiers.contains("gpio.led") && !tiers.contains("the board"), "{tiers}");
    // A board by its name alone has no peripherals to judge by.
    bench.run(&["payload", "check", "--board", "qemu-x86-64", &file]).ok();
    bench.run(&["payload", "check", "--role", "acme", &file]).fails(64, "--tiers");
}

#[test]
fn a_board_file_also_says_which_board_it_is() {
    let bench = Bench::new();
    let file = payload(&bench, "acme", "elsewhere", "boards = ['other']");
    let words = bench.run(&["payload", "check", "--board", &board(), &file]).fails(1, "1 of 1").out;
    assert!(words.contains("not for qemu-x86-64"), "{words}");
}

#[test]
fn a_mistake_is_named_with_its_file_and_its_key() {
    let bench = Bench::new();
    let file = payload(&bench, "acme", "climate", WANTED);
    std::fs::write(bench.path("board.toml"), "name = 'x'\ngpoi = {}\n").unwrap();
    std::fs::create_dir(bench.path("tiers")).unwrap();
    std::fs::write(bench.path("tiers/acme.toml"), "gpio = { led = 'upwards' }\n").unwrap();
    let check = |args: &[&str]| bench.run(&[&["payload", "check"], args, &[&file]].concat());
    let run = check(&["--board", "board.toml"]).fails(78, "in board.toml");
    assert!(run.err.contains("gpoi"), "{run:?}");
    let run = check(&["--tiers", "tiers"]).fails(78, "tiers/acme.toml");
    assert!(run.err.contains("upwards"), "{run:?}");
    check(&["--tiers", "nowhere"]).fails(78, "could not read nowhere");
    check(&["--board", "nowhere.toml"]).fails(78, "could not read nowhere.toml");
    // And in a manifest: before anything is packed.
    let text = std::fs::read_to_string(bench.path("manifest.toml")).unwrap();
    std::fs::write(bench.path("manifest.toml"), text.replace("'out'", "'outwards'")).unwrap();
    let pack = ["payload", "pack", "--wasm", "good.wasm", "--manifest", "manifest.toml"];
    bench.run(&pack).fails(78, "outwards");
}

#[test]
fn every_board_and_tier_of_the_project_is_right() {
    let bench = Bench::new();
    let asks = "[capabilities]\nsensors.climate.capabilities.temperature = 'read'\n";
    let file = payload(&bench, "acme", "climate", asks);
    let mut boards = 0;
    for entry in std::fs::read_dir(BOARDS).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "toml") {
            let board = path.to_str().unwrap();
            for role in ["acme", "bolt"] {
                bench.run(&["payload", "check", "--board", board, "--tiers", TIERS, "--role", role, &file]).ok();
            }
            boards += 1;
        }
    }
    assert!(boards >= 2);
}

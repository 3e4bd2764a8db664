//! The manifest's parser: every key, every cap, and anything else.

use iotwasm_payload::Manifest;
use iotwasm_payload::manifest::{Access, EntryStyle, MAX_MANIFEST, ManifestError};
use proptest::prelude::*;

const SMALLEST: &str = "id = \"blinky\"\nvendor = \"acme\"\nversion = \"1.2.3\"\n[entry]\nstyle = \"reactor\"\n";

const FULL: &str = r#"
id = "blinky"
vendor = "acme"
version = "1.2.3-rc.1"
description = "Blinks"
boards = ["qemu-x86-64", "board_2"]
[entry]
style = "command"
[limits]
memory_pages = 64
fuel = 1_000_000
wake_up_ms = 10
self_test_ms = 20
stop_ms = 0
[health]
heartbeat_s = 5
confirmation_s = 60
[wasi]
environment = { LANG = "C", _x9 = "" }
[[wasi.directories]]
name = "state"
guest = "/state"
access = "read-write"
quota_kib = 64
[[wasi.directories]]
name = "config"
guest = "/etc/app"
[capabilities.sensors.climate]
capabilities = { temperature = "read" }
attributes = { oversampling = "read-write" }
[capabilities.gpio]
led = "out"
[capabilities.i2c]
eeprom = ["write_read"]
[capabilities.actuators]
valve = { writes_per_minute = 6, values = [0, 1] }
heater = { writes_per_minute = 1, values = { min = 0, max = 0.5 } }
"#;

fn error(text: &str) -> String {
    let err = Manifest::parse(text.as_bytes()).expect_err(text);
    let mut words = err.to_string();
    let mut source = std::error::Error::source(&err);
    while let Some(cause) = source {
        words = format!("{words}: {cause}");
        source = cause.source();
    }
    words
}

/// The smallest manifest with some lines more, at the top or at the end.
fn with(top: &str, end: &str) -> String {
    format!("{top}\n{SMALLEST}{end}\n")
}

#[test]
fn the_smallest_manifest_has_the_defaults() {
    let manifest = Manifest::parse(SMALLEST.as_bytes()).unwrap();
    assert_eq!((manifest.id.as_str(), manifest.vendor.as_str()), ("blinky", "acme"));
    assert_eq!(manifest.entry.style, EntryStyle::Reactor);
    assert_eq!((manifest.limits.memory_pages, manifest.limits.fuel), (32, 50_000_000));
    assert_eq!((manifest.limits.wake_up_ms, manifest.limits.self_test_ms, manifest.limits.stop_ms), (1000, 5000, 2000));
    assert_eq!((manifest.health.heartbeat_s, manifest.health.confirmation_s), (30, 300));
    assert!(!manifest.has_wasi() && manifest.capabilities.is_empty() && manifest.runs_on("anything"));
}

#[test]
fn every_key_is_read_and_written_again() {
    let manifest = Manifest::parse(FULL.as_bytes()).unwrap();
    let wasi = manifest.wasi.as_ref().unwrap();
    assert_eq!(wasi.environment["LANG"], "C");
    assert_eq!(wasi.directories[0].quota_bytes(), Some(64 * 1024));
    assert_eq!((wasi.directories[1].access, wasi.directories[1].quota_bytes()), (Access::ReadOnly, None));
    assert!(manifest.runs_on("board_2") && !manifest.runs_on("board_3"));
    assert_eq!(manifest.capabilities.gpio["led"].to_string(), "out");
    assert_eq!(manifest.capabilities.actuators["valve"].writes_per_minute, 6);
    let again = manifest.to_toml().unwrap();
    assert_eq!(Manifest::parse(again.as_bytes()).unwrap(), manifest, "{again}");
}

#[test]
fn an_unknown_key_is_an_error_that_names_it() {
    for (top, end) in [
        ("memory_pagse = 1", ""),
        ("", "[entry2]"),
        ("", "[limits]\nmemory_pagse = 1"),
        ("", "[health]\nmemory_pagse = 1"),
        ("", "[wasi]\nmemory_pagse = 1"),
        ("", "[[wasi.directories]]\nname = \"a\"\nguest = \"/a\"\nmemory_pagse = 1"),
        ("", "memory_pagse = 1"),
        ("", "[capabilities]\nmemory_pagse = 1"),
        ("", "[capabilities.sensors.climate]\nmemory_pagse = 1"),
        ("", "[capabilities.actuators.valve]\nmemory_pagse = 1"),
    ] {
        let words = error(&with(top, end));
        assert!(words.contains("memory_pagse") || words.contains("entry2"), "{words}");
    }
}

#[test]
fn a_missing_key_is_an_error_that_names_it() {
    for key in ["id", "vendor", "version", "style"] {
        let text: String = SMALLEST.lines().filter(|l| !l.starts_with(key)).map(|l| format!("{l}\n")).collect();
        assert!(error(&text).contains(key), "{key}");
    }
}

#[test]
fn numbers_have_their_caps() {
    for (table, key, least, most) in [
        ("limits", "memory_pages", 1u64, 1024u64),
        ("limits", "fuel", 1000, 10_000_000_000),
        ("limits", "wake_up_ms", 1, 60_000),
        ("limits", "self_test_ms", 1, 120_000),
        ("limits", "stop_ms", 0, 30_000),
        ("health", "heartbeat_s", 1, 3600),
        ("health", "confirmation_s", 1, 86_400),
    ] {
        let text = |value: u64| with("", &format!("[{table}]\n{key} = {value}"));
        for value in [least, most] {
            Manifest::parse(text(value).as_bytes()).unwrap();
        }
        for value in [least.checked_sub(1), Some(most + 1)].into_iter().flatten() {
            let words = error(&text(value));
            assert!(words.contains(&format!("{table}.{key} is {value}")), "{words}");
        }
        error(&with("", &format!("[{table}]\n{key} = -1")));
    }
}

#[test]
fn texts_have_their_rules() {
    let long = "x".repeat(257);
    let variable = "v".repeat(1025);
    for (top, end, key) in [
        (format!("description = \"{long}\""), String::new(), "description"),
        ("description = \"two\\nlines\"".into(), String::new(), "description"),
        ("boards = [\"a b\"]".into(), String::new(), "boards[0]"),
        ("boards = [\"\"]".into(), String::new(), "boards[0]"),
        (String::new(), "[wasi]\nenvironment = { \"A=B\" = \"1\" }".into(), "wasi.environment.A=B"),
        (String::new(), "[wasi]\nenvironment = { \"1A\" = \"1\" }".into(), "wasi.environment.1A"),
        (String::new(), "[wasi]\nenvironment = { A = \"\\u0000\" }".into(), "wasi.environment.A"),
        (String::new(), format!("[wasi]\nenvironment = {{ A = \"{variable}\" }}"), "wasi.environment.A"),
    ] {
        assert!(error(&with(&top, &end)).contains(key), "{key}");
    }
    let build = SMALLEST.replace("1.2.3", "1.2.3+4");
    assert!(error(&build).contains("version"));
    let escaping = SMALLEST.replace("blinky", "../blinky");
    assert!(error(&escaping).contains("payload id"));
}

#[test]
fn a_directory_cannot_be_mistaken_for_another() {
    let one = |guest: &str| format!("[[wasi.directories]]\nname = \"a\"\nguest = \"{guest}\"\n");
    for guest in ["state", "", "/", "//", "/a/", "/a//b", "/a/../b", "/./a", "/a:/etc", "/a\\\\b", "/a b", "/ä"] {
        assert!(error(&with("", &one(guest))).contains("wasi.directories[0].guest"), "{guest}");
    }
    let two = |other: &str| with("", &format!("{}{other}", one("/a")));
    for other in ["/a", "/a/b"] {
        let text = two(&format!("[[wasi.directories]]\nname = \"b\"\nguest = \"{other}\""));
        assert!(error(&text).contains("overlaps"), "{other}");
    }
    assert!(error(&two(&one("/b"))).contains("wasi.directories[1].name"));
    Manifest::parse(two("[[wasi.directories]]\nname = \"b\"\nguest = \"/ab\"").as_bytes()).unwrap();
    let quota =
        |access: &str, quota: u32| with("", &format!("{}access = \"{access}\"\nquota_kib = {quota}", one("/a")));
    assert!(error(&quota("read-only", 64)).contains("wasi.directories[0].quota_kib"));
    assert!(error(&quota("read-write", 3)).contains("wasi.directories[0].quota_kib"));
    assert!(error(&quota("read-write", 65_537)).contains("wasi.directories[0].quota_kib"));
    Manifest::parse(quota("read-write", 65_536).as_bytes()).unwrap();
}

#[test]
fn a_manifest_that_is_too_long_is_not_parsed() {
    let text = format!("{SMALLEST}#{}", "x".repeat(MAX_MANIFEST));
    assert!(matches!(Manifest::parse(text.as_bytes()), Err(ManifestError::TooLong { .. })));
    assert!(matches!(Manifest::parse(b"\xff"), Err(ManifestError::NotText { .. })));
}

#[test]
fn capabilities_have_their_rules() {
    for (line, key) in [
        ("gpio.led = 'none'", "capabilities.gpio.led: ask for"),
        ("gpio.led = 'sideways'", "sideways"),
        ("gpio.LED = 'out'", "is not a name"),
        ("i2c.eeprom = []", "capabilities.i2c.eeprom: ask for"),
        ("sensors.climate = {}", "capabilities.sensors.climate: ask for"),
        (
            "actuators.valve = { writes_per_minute = 0, values = [0] }",
            "capabilities.actuators.valve.writes_per_minute: is 0",
        ),
        ("actuators.valve = { writes_per_minute = 1, values = { min = 1, max = 0 } }", "the range is empty"),
    ] {
        let words = error(&with("", &format!("[capabilities]\n{line}")));
        assert!(words.contains(key), "{line}: {words}");
    }
}

proptest! {
    #[test]
    fn any_bytes_are_a_manifest_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = Manifest::parse(&bytes);
    }

    /// A manifest with some of its characters exchanged: where it still parses, it is within all bounds, and what it
    /// is written as means the same.
    #[test]
    fn an_altered_manifest_still_means_one_thing(
        changes in prop::collection::vec((0..FULL.len(), "[ -~\n]"), 1..4),
    ) {
        let mut text = FULL.as_bytes().to_vec();
        for (at, with) in changes {
            text[at] = with.as_bytes()[0];
        }
        if let Ok(manifest) = Manifest::parse(&text) {
            let again = Manifest::parse(manifest.to_toml().unwrap().as_bytes()).unwrap();
            prop_assert_eq!(again, manifest);
        }
    }

    #[test]
    fn deep_tables_are_an_error(depth in 1..2000usize) {
        let text = with("", &format!("[capabilities]\nx = {}1{}", "[".repeat(depth), "]".repeat(depth)));
        prop_assert!(Manifest::parse(text.as_bytes()).is_err());
    }
}

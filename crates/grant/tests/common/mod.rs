//! A board with one of everything, a tier and a request that fit it, and what the tests do with them.

#![expect(
    clippy::unwrap_used,
    dead_code,
    reason = "each test file takes its part, and a failed unwrap is a failed test"
)]

use iotwasm_grant::{Board, Grant, Name, Refusal, Request, Tier};

pub(crate) const BOARD: &str = r#"
name = "bench"

[sensors.climate]
iio = "bme280"
parent = { i2c = { bus = "adapter", address = 0x76 } }
[sensors.climate.capabilities]
temperature = { file = "in_temp_input", unit = "m°C", kind = "decimal" }
humidity = { file = "in_humidityrelative_input", unit = "m%", kind = "decimal" }
[sensors.climate.attributes]
oversampling = { file = "in_temp_oversampling_ratio", kind = "integer", access = "read-write", values = [1, 2, 4, 8, 16] }
mode = { file = "in_mode", kind = "text", access = "write", values = ["fast", "slow"] }

[sensors.dac]
iio = "dac"
[sensors.dac.attributes]
heat = { file = "out_voltage0_raw", kind = "integer", access = "read-write", values = { min = 0, max = 4095 } }

[gpio]
button = { chip = "chip", line = "button", direction = "in", bias = "pull-up" }
led = { chip = "chip", line = "led", direction = "out" }
valve = { chip = "chip", line = "valve", direction = "out", active_low = true }
spare = { chip = "chip", line = "spare", direction = "both" }

[i2c.eeprom]
bus = "adapter"
address = 0x50
transfers = ["write", "write_read"]
max_length = 16
write_increments = true
registers = [
    { from = 0x00, to = 0x0f, access = "read-write" },
    { from = 0x10, to = 0x1f, access = "read" },
    { from = 0x20, to = 0x2f, access = "read-write" },
    { from = 0x30, to = 0x3f, access = "write" },
]

[i2c.fan]
bus = 3
address = 0x2c
transfers = ["write", "write_read"]
registers = [{ from = 0x00, to = 0x0f, access = "read" }, { from = 0x20, to = 0x20, access = "read-write" }]

[i2c.open]
bus = "adapter"
address = 0x20
transfers = ["read", "write", "write_read"]

[spi.display]
bus = 0
chip_select = 1
speed_hz = 1_000_000
bits_per_word = 16
transfers = ["write", "transfer"]
max_length = 64

[actuators.valve]
drives = { line = "valve" }
writes_per_minute = 60
burst = 5
values = [0, 1]
safe = 0

[actuators.heater]
drives = { attribute = { sensor = "dac", name = "heat" } }
writes_per_minute = 10
values = { min = 0, max = 100 }
safe = 0

[actuators.fan]
drives = { register = { device = "fan", register = 0x30 } }
writes_per_minute = 30
values = { min = 0, max = 255 }
"#;

pub(crate) const TIER: &str = r#"
[sensors.climate]
capabilities = { "*" = "read" }
attributes = { oversampling = "read-write" }
[gpio]
"*" = "both"
spare = "in"
[i2c]
eeprom = ["write", "write_read"]
open = ["read", "write_read"]
[spi]
"*" = ["write"]
[actuators]
valve = { writes_per_minute = 30 }
heater = { writes_per_minute = 60, values = { min = 0, max = 50 } }
fan = { writes_per_minute = 30 }
"#;

pub(crate) const REQUEST: &str = r#"
[sensors.climate]
capabilities = { temperature = "read", humidity = "read" }
attributes = { oversampling = "read-write" }
[gpio]
button = "in"
led = "out"
[i2c]
eeprom = ["write", "write_read"]
[spi]
display = ["write"]
[actuators]
valve = { writes_per_minute = 6, values = [0, 1] }
heater = { writes_per_minute = 10, values = { min = 0, max = 50 } }
"#;

pub(crate) fn name(text: &str) -> Name {
    text.parse().unwrap()
}

pub(crate) fn board() -> Board {
    Board::parse(BOARD.as_bytes()).unwrap()
}

pub(crate) fn tier(text: &str) -> Tier {
    Tier::parse(name("acme"), text.as_bytes()).unwrap()
}

pub(crate) fn request(text: &str) -> Request {
    Request::parse(text.as_bytes()).unwrap()
}

/// A tier that refuses nothing.
pub(crate) fn everything() -> Tier {
    tier(
        r#"
        sensors."*" = { capabilities."*" = "read-write", attributes."*" = "read-write" }
        gpio."*" = "both"
        i2c."*" = ["read", "write", "write_read"]
        spi."*" = ["read", "write", "transfer"]
        actuators."*" = { writes_per_minute = 60000 }
        "#,
    )
}

/// What is granted of this request on the board by a tier that refuses nothing.
pub(crate) fn granted(text: &str) -> Grant {
    iotwasm_grant::grant(&request(text), &everything(), &board()).unwrap()
}

/// The refusals in words.
pub(crate) fn words(refusals: &[Refusal]) -> Vec<String> {
    refusals.iter().map(ToString::to_string).collect()
}

/// An error and its causes on one line.
pub(crate) fn chain(err: &dyn std::error::Error) -> String {
    let mut text = err.to_string();
    let mut cause = err.source();
    while let Some(err) = cause {
        text = format!("{text}: {err}");
        cause = err.source();
    }
    text
}

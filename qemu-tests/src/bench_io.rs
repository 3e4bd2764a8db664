//! What reaching a peripheral costs a payload, beside the same operation in a native C program in the same device, in one
//! run.
//!
//! The simulated devices answer at once, so the difference is all there is to see. A real BME280 on a 400 kHz bus takes its
//! time: that is added to both sides for the ratio that a product would see. Times in an emulated processor are not a
//! product's, so they are held to their limits only where a real one runs the guest; the runner's own measurement, which
//! needs no guest, is held to them everywhere.

use std::collections::BTreeMap;

use crate::accel::Accel;
use crate::bench::resident;
use crate::device::{SETTLE_LIMIT, Settings};
use crate::error::{Error, Result};
use crate::repo::Release;
use crate::row::Row;
use crate::vm::Vm;
use crate::wait::{Look, until};
use crate::world::World;

/// The payload that measures.
const BENCH: &str = "bench-io";
/// Operations of each kind in a round of the native program, and rounds.
const NATIVE: &str = "1000 5";
/// Bits of one byte on an I2C bus, its acknowledge included, and of start, repeated start and stop.
const BYTE: f64 = 9.0;
const FRAME: f64 = 3.0;
/// Nanoseconds of a bit at 400 kHz.
const BIT_NS: f64 = 2500.0;
/// What the sandbox may add, in microseconds: to a read through a descriptor, and through capd.
const DESCRIPTOR_LIMIT_US: f64 = 5.0;
const CAPD_LIMIT_US: f64 = 30.0;
/// Ours divided by native, with the bus time added to both.
const RATIO_LIMIT: f64 = 1.01;

/// Time on the bus of reading so many bytes from a register: two addresses, the register, the bytes.
fn bus_ns(bytes: f64) -> f64 {
    ((3.0 + bytes) * BYTE + FRAME) * BIT_NS
}

/// Measures. The device is left with this payload alone.
pub(crate) fn measure(world: &mut World) -> Result<Vec<Row>> {
    let accel = world.vm.accel();
    eprintln!("bench: peripherals from a payload and natively");
    let repo = world.begin(&Settings { poll_s: 3600, ..Settings::of(BENCH) })?;
    repo.publish(&Release::new(BENCH, BENCH, "1.0.0"))?;
    let vm = &mut world.vm;
    vm.check_now()?;
    vm.expect_verdict(BENCH, "1.0.0", "committed")?;
    let ours = figures(vm)?;
    let ours = |what: &str| ours.get(what).copied().ok_or_else(|| missing(what));
    let pid = vm.payload(BENCH)?.map_or(0, |payload| payload.pid).to_string();
    let (memory, _) = resident(vm, &pid)?;
    // The payload holds its line, so it stops while the native program does the same.
    vm.call::<serde_json::Value>("supervisor", "io.iotwasm.Supervisor.Stop", &serde_json::json!({"payload": BENCH}))?;
    let native = native(vm)?;
    let native_of = |what: &str| native.get(what).copied().ok_or_else(|| missing(what));
    let held = |row: Row, limit| if accel == Accel::Kvm { row.at_most(limit) } else { row };
    let mut rows = Vec::new();
    for (name, ours, native, bytes, limit) in [
        ("reading a sensor", ours("read climate.temperature")?, native_of("read_ns")?, Some(3.0), DESCRIPTOR_LIMIT_US),
        ("setting a line", ours("set line")?, native_of("toggle_ns")?, None, DESCRIPTOR_LIMIT_US),
        (
            "an I2C write_read of 8 bytes",
            ours("i2c write_read of 8 bytes")?,
            native_of("write_read_ns")?,
            Some(8.0),
            CAPD_LIMIT_US,
        ),
    ] {
        rows.push(Row::plain(&format!("{name} from a payload"), ours / 1e3, "µs").beside("native C", native / 1e3));
        rows.push(held(Row::plain(&format!("{name}: what the sandbox adds"), (ours - native) / 1e3, "µs"), limit));
        if let Some(bytes) = bytes {
            let bus = bus_ns(bytes);
            let ratio = (ours + bus) / (native + bus);
            let name = format!("{name}: ratio with {:.0} µs of a 400 kHz bus on both sides", bus / 1e3);
            rows.push(held(Row::plain(&name, ratio, "×"), RATIO_LIMIT));
        }
    }
    let round_trip = native_of("round_trip_ns")? / 1e3;
    rows.push(Row::plain("a packet to another process and one back, natively", round_trip, "µs"));
    let native_memory = native_of("pss_kib")? * 1024.0 / 1e6;
    rows.push(
        Row::plain("proportional memory of the payload's runner", memory, "MB").beside("native C", native_memory),
    );
    Ok(rows)
}

/// What the payload found, in nanoseconds for each operation.
fn figures(vm: &mut Vm) -> Result<BTreeMap<String, f64>> {
    until("the payload's figures", SETTLE_LIMIT, || {
        let text = vm.sh(&format!("journalctl --no-pager -q -o cat IOTWASM_PAYLOAD={BENCH}"))?;
        if !text.lines().any(|line| line == "bench-io: done") {
            return Ok(Look::NotYet(text.lines().last().unwrap_or_default().to_owned()));
        }
        Ok(Look::Is(text.lines().filter_map(figure).collect()))
    })
}

/// `bench-io: read line: 1234 ns (1000 operations)`
fn figure(line: &str) -> Option<(String, f64)> {
    let (what, rest) = line.strip_prefix("bench-io: ")?.rsplit_once(": ")?;
    Some((what.to_owned(), rest.split_once(" ns")?.0.parse().ok()?))
}

/// What the native program found.
fn native(vm: &mut Vm) -> Result<BTreeMap<String, f64>> {
    let text = vm.sh(&format!(
        "set -e; name=$(grep -lx bme280 /sys/bus/iio/devices/*/name)
         bus=$(basename $(dirname $(grep -lx 'SMBus stub driver' /sys/bus/i2c/devices/i2c-*/name)))
         /usr/libexec/iotwasm/native-io {NATIVE} ${{name%/name}}/in_temp_input iotwasm-sim spare2 /dev/$bus 0x50 0x00"
    ))?;
    let pair = |line: &str| {
        let (name, value) = line.split_once(' ')?;
        Some((name.to_owned(), value.parse().ok()?))
    };
    Ok(text.lines().filter_map(pair).collect())
}

fn missing(what: &str) -> Error {
    Error::Unreadable { what: "the figures", text: format!("{what} is missing") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_figure_is_read_from_the_payloads_words() {
        let line = "bench-io: i2c write_read of 8 bytes: 4321 ns (1000 operations)";
        assert_eq!(figure(line), Some(("i2c write_read of 8 bytes".into(), 4321.0)));
        assert_eq!(figure("bench-io: done"), None);
    }

    #[test]
    fn eight_bytes_take_a_quarter_of_a_millisecond_on_the_bus() {
        assert!((bus_ns(8.0) - 255_000.0).abs() < 1.0);
    }
}

//! What a guest pays for a peripheral, with the real capd at the other end of the session and nothing behind it: the
//! device's own time is left out. `make bench` runs it; see there what it is held to.

use std::{
    fs::File,
    os::{fd::OwnedFd, unix::fs::FileExt},
    path::Path,
    sync::Arc,
    time::Instant,
};

use capd::{
    actuators::Actuators,
    authorize::Authorized,
    clock,
    devices::{Buses, Fault, LineLease, iio::Iio},
    notices::Notices,
    registry::Registry,
    sensors::Sensors,
    session::{self, World},
};
use iotwasm_grant::{
    Board, Request, Tier,
    board::{I2cPlace, Line, SpiDevice},
    grant,
    i2c::Message,
};
use iotwasm_kit::metrics::Registry as Metrics;
use iotwasm_session::{Direction, I2cOperation, SpiOperation, pair};

use super::{super::number::*, Guest, args};
use crate::capd::{Capd, table};

const BOARD: &str = r#"
name = "bench"
[sensors.climate]
iio = "bme280"
capabilities.temperature = { file = "in_temp_input", kind = "integer", unit = "m°C" }
[i2c.eeprom]
bus = 1
address = 0x50
transfers = ["write_read"]
"#;
const TIER: &str = r#"
[sensors."*"]
capabilities = { "*" = "read" }
[i2c]
"*" = ["write_read"]
"#;
const REQUEST: &str = r#"
[sensors.climate]
capabilities = { temperature = "read" }
[i2c]
eeprom = ["write_read"]
"#;
/// Operations in a round, and rounds; the median counts. Together fewer than capd lets a session ask at once.
const COUNT: i32 = 2_000;
const ROUNDS: usize = 9;

/// Devices that answer at once.
#[derive(Debug)]
struct Nothing;

impl Buses for Nothing {
    fn line(&self, _line: &Line, _direction: Direction) -> Result<Box<dyn LineLease>, Fault> {
        Err(Fault::Gone { what: "line".into() })
    }

    fn i2c(&self, _place: &I2cPlace, messages: &[Message]) -> Result<Vec<u8>, Fault> {
        let read = |message: &Message| if let Message::Read(length) = message { *length } else { 0 };
        Ok(vec![0xab; messages.iter().map(read).sum()])
    }

    fn spi(&self, _device: &SpiDevice, _operations: &[SpiOperation]) -> Result<Vec<u8>, Fault> {
        Ok(Vec::new())
    }

    fn has_line(&self, _line: &Line) -> Result<(), Fault> {
        Ok(())
    }

    fn has_i2c(&self, _place: &I2cPlace) -> Result<(), Fault> {
        Ok(())
    }

    fn has_spi(&self, _device: &SpiDevice) -> Result<(), Fault> {
        Ok(())
    }
}

/// A session with the real capd, over a folder in the place of /sys.
fn real_session(sys: &Path) -> OwnedFd {
    let device = sys.join("devices/iio:device0");
    for folder in [&device.join("power"), &sys.join("bus/iio/devices")] {
        std::fs::create_dir_all(folder).unwrap();
    }
    std::fs::write(device.join("name"), "bme280\n").unwrap();
    std::fs::write(device.join("in_temp_input"), "25080\n").unwrap();
    std::os::unix::fs::symlink(&device, sys.join("bus/iio/devices/iio:device0")).unwrap();
    let board = Arc::new(Board::parse(BOARD.as_bytes()).unwrap());
    let tier = Tier::parse("acme".parse().unwrap(), TIER.as_bytes()).unwrap();
    let grant = grant(&Request::parse(REQUEST.as_bytes()).unwrap(), &tier, &board).unwrap();
    let (buses, iio): (Arc<dyn Buses>, _) = (Arc::new(Nothing), Iio::new(sys));
    let notices = Arc::new(Notices::new("dev".into(), Metrics::in_dir(sys, "capd")));
    let actuators = Actuators::new(&board, Arc::clone(&buses), iio.clone(), Arc::clone(&notices), None, clock::now());
    let world = Arc::new(World {
        sensors: Arc::new(Sensors::new(&board, iio)),
        actuators: Arc::new(actuators),
        registry: Arc::new(Registry::default()),
        board,
        buses,
        notices,
    });
    let (theirs, channel) = pair().unwrap();
    let (payload, version) = ("bench".parse().unwrap(), "1.0.0".into());
    let authorized = Authorized { payload, version, sha256: "00".into(), role: "acme".into(), grant };
    let entry = world.registry.add(authorized, &channel).unwrap();
    session::begin(world, entry, channel).unwrap();
    theirs
}

/// Nanoseconds of one operation.
fn measure(mut round: impl FnMut()) -> f64 {
    let mut took: Vec<f64> = (0..ROUNDS)
        .map(|_| {
            let start = Instant::now();
            round();
            start.elapsed().as_secs_f64() * 1e9 / f64::from(COUNT)
        })
        .collect();
    took.sort_by(f64::total_cmp);
    took[ROUNDS / 2]
}

/// Rows of `make bench`: what is added to what a native program needs, and the ratio when a real device's time on a
/// 400 kHz bus is added to both.
fn rows(name: &str, ours: f64, native: f64, limit_us: f64, bus_us: f64) {
    let (added, ratio) = ((ours - native) / 1e3, (bus_us * 1e3 + ours) / (bus_us * 1e3 + native));
    row(&format!("{name}: what the sandbox adds"), added, "µs", limit_us);
    row(&format!("{name}: ratio with {bus_us} µs of a bus"), ratio, "×", 1.01);
}

fn row(name: &str, value: f64, unit: &str, limit: f64) {
    let met = value <= limit;
    println!(
        r#"{{"name":"outside the emulation, {name}","value":{value:.4},"unit":"{unit}","target":"≤ {limit} {unit}","met":{met}}}"#
    );
}

#[test]
#[ignore = "measures"]
fn measure_peripherals() {
    let sys = tempfile::tempdir().unwrap();
    let mut guest = Guest::with(Capd::of(table()), real_session(sys.path()));
    let (climate, temperature, eeprom) = (guest.text("climate"), guest.text("temperature"), guest.text("eeprom"));
    assert_eq!(guest.call("sensors.turn_on", &climate), OK);
    let read = args(&[&climate, &temperature, &[64, 64, 8]]);
    let ours = measure(|| assert_eq!(guest.repeat("sensors.read", &read, Some(COUNT)), OK));
    let file = File::open(sys.path().join("devices/iio:device0/in_temp_input")).unwrap();
    let native = measure(|| (0..COUNT).for_each(|_| assert_eq!(file.read_at(&mut [0; 64], 0).unwrap(), 6)));
    // Three bytes of a register, and eight: addresses, register and bytes of nine bits each, and what frames them.
    rows("a sensor's value through a descriptor", ours, native, 5.0, 142.5);

    assert_eq!(guest.call("i2c.open", &args(&[&eeprom, &[16]])), OK);
    let handle = i64::from(guest.number(16));
    let register = guest.text([0]);
    let transfer = args(&[&[handle], &register, &[64, 8]]);
    let ours = measure(|| assert_eq!(guest.repeat("i2c.write_read", &transfer, Some(COUNT)), OK));
    rows("an I2C write_read of 8 bytes through capd", ours, 0.0, 30.0, 255.0);

    // What two threads need to pass a word to each other and back: the floor of any broker.
    let (theirs, mut capd) = pair().unwrap();
    let mut runner: iotwasm_session::Channel<iotwasm_session::Request, iotwasm_session::Answer> =
        iotwasm_session::Channel::new(theirs);
    let echo = std::thread::spawn(move || {
        while capd.receive(None).is_ok() {
            capd.send(&Ok(iotwasm_session::Reply::Bytes(vec![0; 8])), &[]).unwrap();
        }
    });
    let request = iotwasm_session::Request::I2c { device: 0, operations: vec![I2cOperation::Read(8)] };
    let floor = measure(|| {
        for _ in 0..COUNT {
            runner.send(&request, &[]).unwrap();
            runner.receive(None).unwrap();
        }
    });
    drop(runner);
    echo.join().unwrap();
    println!(
        r#"{{"name":"outside the emulation, one question and its answer over a session's socket","value":{:.3},"unit":"µs"}}"#,
        floor / 1e3
    );
}

//! Reads a sensor: temperature, humidity and pressure of the board's `climate`, in words that an operator reads.
#![no_std]

use core::time::Duration;

use iotwasm_guest::self_test::test_sensor;
use iotwasm_guest::sensors::Sensor;
use iotwasm_guest::{Error, Failure, Payload, Wait, health, info, payload, wait, warn};

const SENSOR: &str = "climate";
/// How often it reads. Well below the manifest's heartbeat of 10 s.
const PERIOD: Duration = Duration::from_secs(2);

/// What the sensor says, in the board file's units.
struct Climate {
    milli_celsius: f64,
    milli_percent: f64,
    kilopascal: f64,
}

impl Climate {
    fn read(sensor: Sensor<'_>) -> Result<Self, Error> {
        Ok(Self {
            milli_celsius: sensor.read("temperature")?,
            milli_percent: sensor.read("humidity")?,
            kilopascal: sensor.read("pressure")?,
        })
    }
}

impl core::fmt::Display for Climate {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let (celsius, percent) = (self.milli_celsius / 1000.0, self.milli_percent / 1000.0);
        write!(f, "{celsius:.2} °C, {percent:.1} % humidity, {:.2} kPa", self.kilopascal)
    }
}

#[derive(Default)]
struct Reports;

impl Payload for Reports {
    fn self_test(&mut self) -> Result<(), Failure> {
        // What the chip can measure, without the ends of its scale.
        test_sensor(SENSOR, "temperature", -39_000.0..=84_000.0)?;
        test_sensor(SENSOR, "humidity", 1_000.0..=99_000.0)?;
        test_sensor(SENSOR, "pressure", 31.0..=109.0)?;
        Ok(())
    }

    fn run(&mut self) {
        let mut readings = 0_u32;
        while wait(PERIOD) == Wait::Continue {
            // Turning on what is on costs little, and a sensor that was away comes back with it.
            match Sensor::get(SENSOR).and_then(Sensor::turn_on).and_then(Climate::read) {
                Ok(climate) => {
                    health::healthy(&climate);
                    if readings % 30 == 0 {
                        info!("{climate}");
                    }
                    readings = readings.wrapping_add(1);
                }
                Err(error) => {
                    // It may pass: the payload goes on, and whoever looks at the device sees why there are no values.
                    warn!("{SENSOR}: {error}");
                    health::degraded(format_args!("{SENSOR}: {error}"));
                }
            }
        }
    }
}

payload!(Reports);

#[cfg(test)]
mod tests {
    extern crate std;

    use std::string::ToString;
    use std::vec::Vec;

    use iotwasm_guest::testing::{self, Call};
    use iotwasm_guest::{Error, Payload};

    use super::{Reports, SENSOR};

    fn board() {
        testing::reset();
        let sensor = testing::Sensor::new()
            .capability("temperature", "m°C", "25080")
            .capability("humidity", "m%", "46100")
            .capability("pressure", "kPa", "100.653000000");
        testing::add_sensor(SENSOR, sensor);
    }

    #[test]
    fn readings_are_reported_in_words() {
        board();
        testing::stop_after(1);
        assert!(Reports.self_test().is_ok());
        Reports.run();
        let report = "25.08 °C, 46.1 % humidity, 100.65 kPa".to_string();
        assert!(testing::take().contains(&Call::Health { status: 0, message: report }));
    }

    #[test]
    fn a_sensor_that_is_stuck_fails_the_self_test() {
        board();
        testing::set_sensor(SENSOR, "humidity", "0");
        let failure = Reports.self_test().unwrap_err();
        assert_eq!(failure.message(), "climate: humidity is 0, not within 1000 and 99000");
    }

    #[test]
    fn a_sensor_that_is_away_degrades_and_comes_back() {
        board();
        testing::stop_after(2);
        testing::each_wait(|wait| {
            if wait == 1 {
                // Once when it is looked up, which still works then, and once when it is turned on.
                testing::fail_next(SENSOR, Error::Unavailable);
                testing::fail_next(SENSOR, Error::Unavailable);
            }
        });
        Reports.run();
        let status = |call| if let Call::Health { status, .. } = call { Some(status) } else { None };
        let health: Vec<_> = testing::take().into_iter().filter_map(status).collect();
        assert_eq!(health, [1, 0]);
    }
}

//! A driver from the registry, unchanged, on a device that the board leaves to payloads: a BME280 without a driver in the
//! kernel. The driver is written for embedded-hal and knows nothing of the device that it runs on.
#![no_std]

use core::time::Duration;

use bme280_rs::{Bme280, CHIP_ID, Configuration, Oversampling, Sample, SensorMode};
use iotwasm_guest::delay::Delay;
use iotwasm_guest::i2c::Bus;
use iotwasm_guest::{Error, Failure, Payload, Wait, fail, health, info, payload, wait};

/// Its name in the board file, where its bus and its address are.
const DEVICE: &str = "climate2";
/// How often it reads. Well below the manifest's heartbeat of 10 s.
const PERIOD: Duration = Duration::from_secs(2);

type Driver = Bme280<Bus, Delay>;

#[derive(Default)]
struct Weather {
    driver: Option<Driver>,
}

struct Reading {
    celsius: f32,
    percent: f32,
    pascal: f32,
}

impl core::fmt::Display for Reading {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let Self { celsius, percent, pascal } = self;
        write!(f, "{celsius:.2} °C, {percent:.1} % humidity, {:.2} kPa", pascal / 1000.0)
    }
}

fn begin() -> Result<Driver, Error> {
    let mut driver = Bme280::new(Bus::open(DEVICE)?, Delay);
    driver.init()?;
    driver.set_sampling_configuration(
        Configuration::default()
            .with_temperature_oversampling(Oversampling::Oversample1)
            .with_pressure_oversampling(Oversampling::Oversample1)
            .with_humidity_oversampling(Oversampling::Oversample1)
            .with_sensor_mode(SensorMode::Normal),
    )?;
    Ok(driver)
}

impl Payload for Weather {
    fn self_test(&mut self) -> Result<(), Failure> {
        let mut driver = begin()?;
        let id = driver.chip_id()?;
        if id != CHIP_ID {
            fail!("{DEVICE} says that it is {id:#04x}, a BME280 is {CHIP_ID:#04x}");
        }
        match driver.read_sample()? {
            Sample { temperature: Some(celsius), .. } if (-39.0..84.0).contains(&celsius) => {}
            Sample { temperature, .. } => fail!("{DEVICE} measures {temperature:?} °C"),
        }
        self.driver = Some(driver);
        Ok(())
    }

    fn run(&mut self) {
        let Some(driver) = &mut self.driver else { return };
        let mut readings = 0_u32;
        while wait(PERIOD) == Wait::Continue {
            match driver.read_sample() {
                Ok(Sample { temperature: Some(celsius), humidity: Some(percent), pressure: Some(pascal) }) => {
                    let reading = Reading { celsius, percent, pascal };
                    health::healthy(&reading);
                    if readings % 30 == 0 {
                        info!("{reading}");
                    }
                    readings = readings.wrapping_add(1);
                }
                Ok(_) => health::degraded(format_args!("{DEVICE} leaves out a value")),
                Err(error) => health::degraded(format_args!("{DEVICE}: {error}")),
            }
        }
    }
}

payload!(Weather);

#[cfg(test)]
mod tests {
    extern crate std;

    use std::vec::Vec;

    use iotwasm_guest::testing::{self, Call, Registers};
    use iotwasm_guest::{Error, Payload};

    use super::{DEVICE, Weather};

    /// Calibration and raw values of a chip in a room; the temperature's are the data sheet's example.
    fn chip() -> Registers {
        let registers = Registers::new(&[
            (0xd0, &[0x60]),
            (
                0x88,
                &[
                    0x70, 0x6b, 0x43, 0x67, 0x18, 0xfc, 0x7d, 0x8e, 0x43, 0xd6, 0xd0, 0x0b, 0x27, 0x0b, 0x8c, 0x00,
                    0xf9, 0xff, 0x8c, 0x3c, 0xf8, 0xc6, 0x70, 0x17, 0x00, 0x4b,
                ],
            ),
            (0xe1, &[0x6e, 0x01, 0x00, 0x13, 0x29, 0x03, 0x1e]),
            (0xf7, &[0x65, 0x5a, 0xc0, 0x7e, 0xed, 0x00, 0x7a, 0x9a]),
        ]);
        testing::reset();
        testing::add_i2c(DEVICE, registers.clone());
        registers
    }

    fn reports() -> Vec<(i32, std::string::String)> {
        let report = |call| if let Call::Health { status, message } = call { Some((status, message)) } else { None };
        testing::take().into_iter().filter_map(report).collect()
    }

    #[test]
    fn the_driver_measures_what_the_chip_holds() {
        let registers = chip();
        testing::stop_after(1);
        let mut weather = Weather::default();
        weather.self_test().unwrap();
        weather.run();
        let reports = reports();
        assert!(reports[0].1.starts_with("25.08 °C, "), "{reports:?}");
        assert!(reports[0].1.ends_with("100.65 kPa"), "{reports:?}");
        // Normal mode, everything once.
        assert_eq!((registers.get(0xf2), registers.get(0xf4)), (0b001, 0b0010_0111));
    }

    #[test]
    fn another_chip_fails_the_self_test_with_its_id() {
        chip().set(0xd0, &[0x58]);
        let failure = Weather::default().self_test().unwrap_err();
        assert_eq!(failure.message(), "climate2 says that it is 0x58, a BME280 is 0x60");
    }

    #[test]
    fn a_chip_that_does_not_answer_is_said_to_be_silent() {
        chip();
        testing::fail_next(DEVICE, Error::NotAllowed);
        assert!(Weather::default().self_test().is_err());
        let mut weather = Weather::default();
        weather.self_test().unwrap();
        testing::stop_after(2);
        testing::each_wait(|wait| {
            if wait == 1 {
                testing::fail_next(DEVICE, Error::NoAcknowledgeAddress);
            }
        });
        weather.run();
        let reports = reports();
        assert_eq!((reports[0].0, reports[1].0), (1, 0));
        assert!(reports[0].1.starts_with("climate2: no I2C device answers"), "{reports:?}");
    }
}

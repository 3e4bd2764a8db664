//! Questions for a self-test. Each failure says what was found, since its words are all that the device's history keeps.
//!
//! ```
//! # use iotwasm_guest::{Failure, testing};
//! # testing::add_sensor("climate", testing::Sensor::new().capability("humidity", "m%", "46100"));
//! # testing::add_line("door", testing::Line::In);
//! # fn self_test() -> Result<(), Failure> {
//! use iotwasm_guest::self_test::{test_gpio_read, test_sensor};
//!
//! test_sensor("climate", "humidity", 1_000.0..=99_000.0)?;
//! test_gpio_read("door")?;
//! # Ok(())
//! # }
//! # self_test().unwrap();
//! ```

use core::ops::RangeInclusive;

use crate::gpio::{Input, State};
use crate::sensors::Sensor;
use crate::{Failure, fail};

/// The line can be leased as an input and read. It is not held afterwards. Its state.
///
/// # Errors
/// Which line, and why not.
pub fn test_gpio_read(label: &str) -> Result<State, Failure> {
    match Input::get(label).and_then(|line| line.read()) {
        Ok(state) => Ok(state),
        Err(error) => fail!("line {label}: {error}"),
    }
}

/// The sensor answers, and what it says is plausible. It is left on. The value, in the board's unit.
///
/// A sensor that is broken or unplugged often reads as the end of its scale: leave the ends out of the range.
///
/// # Errors
/// Which sensor, and what it said or why it said nothing.
pub fn test_sensor(name: &str, capability: &str, plausible: RangeInclusive<f64>) -> Result<f64, Failure> {
    let value = Sensor::get(name).and_then(Sensor::turn_on).and_then(|sensor| sensor.read::<f64>(capability));
    match value {
        Ok(value) if plausible.contains(&value) => Ok(value),
        Ok(value) => {
            fail!("{name}: {capability} is {value}, not within {} and {}", plausible.start(), plausible.end())
        }
        Err(error) => fail!("{name}: {capability}: {error}"),
    }
}

/// A file can be made in the directory, holds what is written to it, and can be removed.
///
/// # Errors
/// Which directory, and what failed.
#[cfg(feature = "std")]
pub fn test_storage_writable(directory: impl AsRef<std::path::Path>) -> Result<(), Failure> {
    use std::io::Write as _;

    const CONTENT: &[u8] = b"written by the self-test";
    let directory = directory.as_ref();
    let file = directory.join(".self-test");
    let round_trip = || {
        let mut new = std::fs::File::create(&file)?;
        new.write_all(CONTENT)?;
        new.sync_all()?;
        let read = std::fs::read(&file)?;
        std::fs::remove_file(&file)?;
        Ok::<_, std::io::Error>(read == CONTENT)
    };
    match round_trip() {
        Ok(true) => Ok(()),
        Ok(false) => fail!("{}: a file does not hold what was written", directory.display()),
        Err(error) => fail!("{}: could not write: {error}", directory.display()),
    }
}

#[cfg(test)]
mod tests {
    use super::{test_gpio_read, test_sensor};
    use crate::gpio::State;
    use crate::{Error, testing};

    fn words<T: std::fmt::Debug>(result: Result<T, crate::Failure>) -> String {
        result.unwrap_err().message().to_owned()
    }

    #[test]
    fn a_sensor_passes_within_its_range_and_is_quoted_outside() {
        testing::reset();
        testing::add_sensor("climate", testing::Sensor::new().capability("humidity", "m%", "46100"));
        assert_eq!(test_sensor("climate", "humidity", 1_000.0..=99_000.0).unwrap(), 46_100.0);
        testing::set_sensor("climate", "humidity", "0");
        assert_eq!(
            words(test_sensor("climate", "humidity", 1_000.0..=99_000.0)),
            "climate: humidity is 0, not within 1000 and 99000"
        );
        testing::set_sensor("climate", "humidity", "NaN");
        assert!(words(test_sensor("climate", "humidity", 1_000.0..=99_000.0)).contains("NaN"));
        testing::fail_next("climate", Error::NotAllowed);
        assert_eq!(
            words(test_sensor("climate", "humidity", 0.0..=1.0)),
            "climate: humidity: not granted; ask for it in the manifest's [capabilities]"
        );
    }

    #[test]
    fn a_line_is_read_and_given_back() {
        testing::reset();
        testing::add_line("door", testing::Line::In);
        testing::add_line("led", testing::Line::Out);
        testing::set_line("door", State::Active);
        assert_eq!(test_gpio_read("door").unwrap(), State::Active);
        assert!(!testing::is_leased("door"));
        assert!(words(test_gpio_read("led")).starts_with("line led: granted, but not for this use"));
        assert!(words(test_gpio_read("gate")).starts_with("line gate: the board has no such name"));
    }

    #[cfg(feature = "std")]
    #[test]
    fn storage_that_can_be_written_is_left_as_it_was() {
        use super::test_storage_writable;
        let directory = std::env::temp_dir().join(format!("iotwasm-guest-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        test_storage_writable(&directory).unwrap();
        assert_eq!(std::fs::read_dir(&directory).unwrap().count(), 0);
        std::fs::remove_dir(&directory).unwrap();
        assert!(words(test_storage_writable(&directory)).contains("could not write"));
    }
}

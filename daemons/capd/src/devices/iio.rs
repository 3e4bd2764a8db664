//! Sensors: devices of the kernel's IIO subsystem, each a folder of sysfs with a file for each value.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use iotwasm_grant::board::Parent;
use rustix::fs::OFlags;

use super::{Fault, i2c, text};

/// Longest value that is read, in bytes: a file of sysfs is one page.
const MAX_READ: u64 = 4096;

/// Where sensors are looked for.
#[derive(Debug, Clone)]
pub struct Iio {
    sys: PathBuf,
}

impl Iio {
    /// Below a mounted sysfs.
    #[must_use]
    pub fn new(sys: impl Into<PathBuf>) -> Self {
        Self { sys: sys.into() }
    }

    /// The folder of the device with this name, at this place if the board says so.
    ///
    /// # Errors
    /// There is none, or more than one.
    pub fn find(&self, name: &str, parent: Option<&Parent>) -> Result<PathBuf, Fault> {
        let what = || match parent {
            Some(Parent::I2c(place)) => format!("sensor {name:?} at {:#04x} on {}", place.address, place.bus),
            Some(Parent::Spi(place)) => format!("sensor {name:?} on SPI {}.{}", place.bus, place.chip_select),
            None => format!("sensor {name:?}"),
        };
        let failed = |err| Fault::of(what(), err);
        let beside = match parent {
            Some(Parent::I2c(place)) => Some(format!("{}-{:04x}", i2c::number(&self.sys, &place.bus)?, place.address)),
            Some(Parent::Spi(place)) => Some(format!("spi{}.{}", place.bus, place.chip_select)),
            None => None,
        };
        let mut found = None;
        for entry in std::fs::read_dir(self.sys.join("bus/iio/devices")).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            if !text(&path.join("name")).is_ok_and(|text| text == name) {
                continue;
            }
            let Ok(path) = path.canonicalize() else { continue };
            let sits = |beside: &String| path.parent().is_some_and(|parent| parent.ends_with(beside));
            if beside.as_ref().is_none_or(sits) && found.replace(path).is_some() {
                return Err(Fault::Ambiguous { what: what() });
            }
        }
        found.ok_or_else(|| Fault::Gone { what: what() })
    }

    /// Opens a file of a device's folder for reading, and for nothing else.
    ///
    /// # Errors
    /// It is not there, or may not be read.
    pub fn open(&self, folder: &Path, file: &str) -> Result<File, Fault> {
        open(OpenOptions::new().read(true), folder, file)
    }

    /// Reads a value.
    ///
    /// # Errors
    /// It is not there, or the device does not answer.
    pub fn read(&self, folder: &Path, file: &str) -> Result<String, Fault> {
        let mut value = String::new();
        let read = self.open(folder, file)?.take(MAX_READ).read_to_string(&mut value);
        read.map_err(|err| Fault::of(words(folder, file), err))?;
        value.truncate(value.trim_end().len());
        Ok(value)
    }

    /// Writes a value.
    ///
    /// # Errors
    /// It is not there, or the driver does not take the value.
    pub fn write(&self, folder: &Path, file: &str, value: &str) -> Result<(), Fault> {
        let written = open(OpenOptions::new().write(true), folder, file)?.write_all(value.as_bytes());
        written.map_err(|err| Fault::of(words(folder, file), err))
    }

    /// Whether the kernel has put the device to sleep (runtime power management).
    #[must_use]
    pub fn is_suspended(&self, folder: &Path) -> bool {
        // The device that sleeps is the one on the bus; the IIO device above it has no power of its own.
        let of = |folder: &Path| text(&folder.join("power/runtime_status"));
        folder.parent().is_some_and(|bus| of(bus).is_ok_and(|status| status == "suspended"))
    }
}

fn open(options: &mut OpenOptions, folder: &Path, file: &str) -> Result<File, Fault> {
    let flags = i32::try_from((OFlags::NOFOLLOW | OFlags::CLOEXEC).bits()).unwrap_or_default();
    options.custom_flags(flags).open(folder.join(file)).map_err(|err: io::Error| Fault::of(words(folder, file), err))
}

fn words(folder: &Path, file: &str) -> String {
    format!("{file} of {}", folder.file_name().unwrap_or_default().to_string_lossy())
}

#[cfg(test)]
mod tests {
    use super::*;
    use iotwasm_grant::board::{I2cBus, I2cPlace};
    use std::os::unix::fs::symlink;

    fn sysfs() -> tempfile::TempDir {
        let sys = tempfile::tempdir().unwrap();
        let bus = sys.path().join("bus/iio/devices");
        std::fs::create_dir_all(&bus).unwrap();
        std::fs::create_dir_all(sys.path().join("bus/i2c/devices/i2c-1")).unwrap();
        std::fs::write(sys.path().join("bus/i2c/devices/i2c-1/name"), "stub\n").unwrap();
        for (number, at, name) in [(0, "1-0076", "bme280"), (1, "1-0077", "bme280"), (2, "x", "other")] {
            let device = sys.path().join(format!("devices/i2c-1/{at}/iio:device{number}"));
            std::fs::create_dir_all(&device).unwrap();
            std::fs::write(device.join("name"), format!("{name}\n")).unwrap();
            std::fs::write(device.join("in_temp_input"), format!("{number}\n")).unwrap();
            symlink(&device, bus.join(format!("iio:device{number}"))).unwrap();
        }
        sys
    }

    #[test]
    fn a_sensor_is_found_by_name_and_place_and_never_guessed() {
        let sys = sysfs();
        let iio = Iio::new(sys.path());
        let at = |address| Parent::I2c(I2cPlace { bus: I2cBus::Name("stub".into()), address });
        let found = iio.find("bme280", Some(&at(0x77))).unwrap();
        assert_eq!(iio.read(&found, "in_temp_input").unwrap(), "1");
        assert!(iio.find("other", None).is_ok());
        assert!(matches!(iio.find("bme280", None), Err(Fault::Ambiguous { .. })));
        assert!(matches!(iio.find("bme280", Some(&at(0x10))), Err(Fault::Gone { .. })));
        assert!(matches!(iio.find("nothing", None), Err(Fault::Gone { .. })));
    }

    #[test]
    fn a_descriptor_that_was_opened_for_reading_cannot_write() {
        let sys = sysfs();
        let iio = Iio::new(sys.path());
        let folder = iio.find("other", None).unwrap();
        let mut file = iio.open(&folder, "in_temp_input").unwrap();
        assert!(file.write_all(b"9").is_err());
        symlink("/etc/passwd", folder.join("link")).unwrap();
        assert!(iio.open(&folder, "link").is_err(), "a link leads elsewhere");
    }
}

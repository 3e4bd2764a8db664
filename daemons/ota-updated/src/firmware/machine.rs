//! What this device says about itself: which slot was booted, which firmware it is, how large the slots are, where the power
//! comes from. Edges to files; what they say is read by pure functions.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use iotwasm_firmware::Slot;
use iotwasm_firmware::image;
use iotwasm_firmware::release::Release;
use iotwasm_firmware::state::{Boot, boot_name};
use jiff::tz::TimeZone;
use rustix::time::{ClockId, clock_gettime};
use semver::Version;

use super::when::{Moment, Power};
use crate::Places;

/// What [`Places::kept`] says where this boot is no trial any more. Where it says anything else, the boot is only not to be ended
/// from outside.
pub(super) const KEPT: &str = "kept";

/// The firmware that runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Machine {
    /// The slot that was booted, and whether it is the first of the boot order.
    pub boot: Boot,
    /// Its version.
    pub version: Version,
    /// Which firmware this device may take.
    pub compatible: String,
}

/// Why this image has no firmware that could be updated.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{} {what}", path.display())]
pub struct NoFirmware {
    path: PathBuf,
    what: &'static str,
}

impl Machine {
    /// Reads what the initrd and the image say.
    ///
    /// # Errors
    ///
    /// Names the first file that is not there or does not say what it should.
    pub fn read(places: &Places) -> Result<Self, NoFirmware> {
        let text = |path: &Path| {
            let no = |_| NoFirmware { path: path.to_owned(), what: "could not be read" };
            fs::read_to_string(path).map_err(no)
        };
        let no = |path: &Path, what| NoFirmware { path: path.to_owned(), what };
        let (slot, os, rauc) = (&places.booted_slot, &places.os_release, &places.rauc_config);
        let slot = booted_slot(&text(slot)?).ok_or_else(|| no(slot, "names no slot"))?;
        let version = image::version(&text(os)?).ok_or_else(|| no(os, "has no IMAGE_VERSION that is a version"))?;
        let compatible = image::compatible(&text(rauc)?).ok_or_else(|| no(rauc, "has no compatible in [system]"))?;
        let is_kept = fs::read_to_string(&places.kept).is_ok_and(|word| word == KEPT);
        let is_trial = places.trial_boot.exists() && !is_kept;
        let is_unordered = places.unordered_boot.exists() && !is_kept;
        Ok(Self { boot: Boot { slot, is_trial, is_unordered }, version, compatible })
    }
}

fn booted_slot(text: &str) -> Option<Slot> {
    let name = text.lines().find_map(|line| line.trim().strip_prefix("RAUC_SLOT="))?;
    Slot::ALL.into_iter().find(|slot| boot_name(*slot) == name)
}

/// A slot's partition is too small for a release.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the partition {name} has {size} bytes, and the release needs {needed}")]
pub struct TooSmall {
    name: String,
    size: u64,
    needed: u64,
}

/// Whether a slot's partitions can hold a release. Partitions that are not there are for RAUC to complain about.
///
/// # Errors
///
/// If one is too small.
pub fn check_partitions(block_devices: &Path, slot: Slot, release: &Release) -> Result<(), TooSmall> {
    let files = [("root", release.files.rootfs.length), ("esp", release.files.esp.length)];
    for (kind, needed) in files {
        let name = format!("{kind}-{slot}");
        match partition_size(block_devices, &name) {
            Some(size) if size < needed => return Err(TooSmall { name, size, needed }),
            _ => {}
        }
    }
    Ok(())
}

/// Size in bytes of the partition of this name.
fn partition_size(block_devices: &Path, name: &str) -> Option<u64> {
    let wanted = format!("PARTNAME={name}");
    let device = fs::read_dir(block_devices).ok()?.flatten().map(|entry| entry.path()).find(|path| {
        fs::read_to_string(path.join("uevent")).is_ok_and(|text| text.lines().any(|line| line == wanted))
    })?;
    // The kernel counts in 512 bytes here, whatever the device's own blocks are.
    fs::read_to_string(device.join("size")).ok()?.trim().parse::<u64>().ok()?.checked_mul(512)
}

/// Where the power comes from now.
#[must_use]
pub fn power(power_supplies: &Path) -> Power {
    let mut power = Power::default();
    let Ok(entries) = fs::read_dir(power_supplies) else { return power };
    for path in entries.flatten().map(|entry| entry.path()) {
        let read = |name: &str| fs::read_to_string(path.join(name)).unwrap_or_default().trim().to_owned();
        // The battery of a mouse is not the device's.
        if read("scope") == "Device" {
            continue;
        }
        if read("type") == "Battery" {
            // One that does not say how full it is says nothing.
            let capacity = read("capacity").parse::<u8>().ok();
            power.battery = power.battery.max(capacity);
        } else {
            power.mains |= read("online") == "1";
        }
    }
    power
}

/// How long the device has been running, sleep included.
#[must_use]
pub fn uptime() -> Duration {
    let now = clock_gettime(ClockId::Boottime);
    Duration::new(now.tv_sec.try_into().unwrap_or_default(), now.tv_nsec.try_into().unwrap_or_default())
}

/// The present moment of the week, in UTC.
#[must_use]
pub fn moment() -> Moment {
    let now = jiff::Timestamp::now().to_zoned(TimeZone::UTC);
    let day = u8::try_from(now.weekday().to_monday_zero_offset()).unwrap_or_default();
    let number = |n: i8| u16::try_from(n).unwrap_or_default();
    Moment { day, minute: number(now.hour()) * 60 + number(now.minute()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_initrd_says_is_read() {
        assert_eq!(booted_slot("RAUC_SLOT=slot-b\n"), Some(Slot::B));
        assert_eq!(booted_slot("RAUC_SLOT=slot-c\n"), None);
    }

    #[test]
    fn power_is_what_the_kernel_says() {
        let dir = tempfile::tempdir().unwrap();
        let supply = |name: &str, files: &[(&str, &str)]| {
            fs::create_dir_all(dir.path().join(name)).unwrap();
            for (file, text) in files {
                fs::write(dir.path().join(name).join(file), format!("{text}\n")).unwrap();
            }
        };
        assert_eq!(power(dir.path()), Power::default());
        supply("hidpp", &[("type", "Battery"), ("capacity", "99"), ("scope", "Device")]);
        supply("BAT0", &[("type", "Battery"), ("capacity", "12")]);
        supply("BAT1", &[("type", "Battery")]);
        supply("AC", &[("type", "Mains"), ("online", "0")]);
        assert_eq!(power(dir.path()), Power { mains: false, battery: Some(12) });
        supply("usb", &[("type", "USB"), ("online", "1")]);
        assert_eq!(power(dir.path()), Power { mains: true, battery: Some(12) });
        assert_eq!(power(Path::new("/nowhere")), Power::default());
    }

    #[test]
    fn a_partition_is_found_by_its_name() {
        let dir = tempfile::tempdir().unwrap();
        for (device, name, size) in [("vda1", "esp-a", "2048"), ("vda3", "root-a", "8"), ("vda4", "root-b", "16")] {
            fs::create_dir(dir.path().join(device)).unwrap();
            fs::write(dir.path().join(device).join("uevent"), format!("MAJOR=1\nPARTNAME={name}\n")).unwrap();
            fs::write(dir.path().join(device).join("size"), format!("{size}\n")).unwrap();
        }
        assert_eq!(partition_size(dir.path(), "root-b"), Some(8192));
        assert_eq!(partition_size(dir.path(), "root"), None);
    }
}

//! Firmware whose initrd stands still: before systemd there is nobody but the hardware's watchdog.

use std::fs;
use std::path::Path;
use std::process::Command;

use super::Scenario;
use super::firmware::{boots_of, prepare, settings};
use super::forge::Forged;
use crate::error::{Error, Result};
use crate::steps::Steps;
use crate::uefi::Uefi;
use crate::vm::run;
use crate::world::{COUNTER, World};

/// Longer than the others: the initrd gives itself two minutes.
pub(crate) const INITRD_HANG: Scenario = Scenario {
    name: "firmware-initrd-hang",
    about: "an initrd that stands still is ended by the hardware's watchdog, and the old firmware runs",
    run: initrd_hang,
};

/// The firmware that is made of the first one.
const VERSION: &str = "9.1.0";
/// What its initrd says, and then nothing more.
const WORDS: &str = "initrd: stands still";

fn initrd_hang(world: &mut World, steps: &mut Steps) -> Result<()> {
    world.replace_device(Uefi::Plain)?;
    let (repo, now, _) = prepare(world, COUNTER, &settings(COUNTER, 1, &[]))?;
    steps.must("a firmware whose initrd stands still is published", || {
        let forged = Forged::new(world, &now, VERSION)?;
        replace_initrd(&forged.uki(), &standing_still(world)?)?;
        forged.with_its_uki(world)?;
        repo.publish_firmware(&forged.folder)
    })?;
    let vm = &mut world.vm;
    steps.step("it is undone", "rolled_back: boot_failed", || vm.firmware_verdict(VERSION))?;
    steps.step("the old one runs, and it never did", &format!("{now}, 0 boots"), || {
        Ok(format!("{}, {} boots", vm.firmware()?.version, boots_of(vm, VERSION)?))
    })?;
    steps.step("its initrd was started, and reset without a word of the kernel", "reset", || {
        let log = vm.serial_log();
        let console = fs::read(&log).map_err(Error::file("read", &log))?;
        let console = String::from_utf8_lossy(&console).into_owned();
        let after = console.split(WORDS).nth(1).unwrap_or_default();
        let rest = after.split("BdsDxe").next().unwrap_or_default();
        let orderly = rest.contains("reboot: ") || rest.contains("Kernel panic") || after.len() == rest.len();
        Ok(if orderly { format!("{WORDS}{rest}") } else { "reset".into() })
    })?;
    steps.step("the payload runs", "1.0.0 running, healthy", || vm.wait_running(COUNTER, "1.0.0"))
}

/// The image's own initrd, whose program ends right after the line that arms the watchdog.
fn standing_still(world: &World) -> Result<Vec<u8>> {
    let folder = world.scratch("initrd")?;
    let packed = fs::canonicalize(world.built.folder.join("image/initrd.zst"))
        .map_err(Error::file("find", world.built.folder.join("image/initrd.zst")))?;
    let shell = |script: &str| {
        run(Command::new("bash").args(["-euo", "pipefail", "-c", script, "bash"]).arg(&packed).current_dir(&folder))
    };
    shell("mkdir tree; cd tree; zstd -dcq \"$1\" | cpio -idm --quiet")?;
    let init = folder.join("tree/init");
    let text = fs::read_to_string(&init).map_err(Error::file("read", &init))?;
    let armed = text.lines().position(|line| line.contains(">/dev/watchdog"));
    let armed = armed.ok_or_else(|| Error::Unreadable { what: "the initrd's program", text: text.clone() })?;
    let kept: Vec<&str> = text.lines().take(armed + 1).collect();
    let text = format!("{}\necho '{WORDS}' >/dev/console\nwhile :; do sleep 3600; done\n", kept.join("\n"));
    fs::write(&init, text).map_err(Error::file("write", &init))?;
    // It must not be longer than the one whose place it takes, and nothing of that is needed any more.
    shell("cd tree; rm bin/dmsetup; find . | cpio -o -H newc --quiet -R 0:0 | zstd -q --ultra -22 -o ../initrd.new")?;
    let new = folder.join("initrd.new");
    fs::read(&new).map_err(Error::file("read", &new))
}

/// Puts it into the section of the kernel image, with zeros behind it, which the kernel passes over.
fn replace_initrd(uki: &Path, initrd: &[u8]) -> Result<()> {
    let mut image = fs::read(uki).map_err(Error::file("read", uki))?;
    let section =
        section(&image, b".initrd\0").and_then(|(from, length)| image.get_mut(from..from.checked_add(length)?));
    let section = section.filter(|section| section.len() >= initrd.len());
    let section = section.ok_or_else(|| Error::Unreadable {
        what: "a kernel image",
        text: format!("no section .initrd for {} bytes", initrd.len()),
    })?;
    section.fill(0);
    section[..initrd.len()].copy_from_slice(initrd);
    fs::write(uki, image).map_err(Error::file("write", uki))
}

/// Where a section of a PE image is in its file (PE format, COFF file header and section table).
fn section(image: &[u8], name: &[u8; 8]) -> Option<(usize, usize)> {
    let number = |at: usize, bytes: usize| {
        let field = image.get(at..at.checked_add(bytes)?)?;
        Some(field.iter().rev().fold(0, |sum, &byte| sum * 256 + usize::from(byte)))
    };
    let header = number(0x3c, 4)?;
    let (sections, optional) = (number(header + 6, 2)?, number(header + 20, 2)?);
    let mut entries = (0..sections).map(|n| header + 24 + optional + n * 40);
    let entry = entries.find(|&entry| image.get(entry..entry + 8) == Some(name.as_slice()))?;
    Some((number(entry + 20, 4)?, number(entry + 8, 4)?))
}

#[cfg(test)]
mod tests {
    use super::section;

    #[test]
    fn a_section_is_found_by_its_name() {
        let mut image = vec![0; 0x40];
        image[0x3c] = 0x40;
        image.extend(b"PE\0\0\x64\x86\x02\0");
        image.extend([0; 12]);
        image.extend([4, 0, 0, 0]); // Optional header of four bytes, characteristics.
        image.extend([0; 4]);
        for (name, size, place) in [(b".linux\0\0", 7u32, 1u32), (b".initrd\0", 0x1234, 0x5678)] {
            image.extend(name);
            image.extend(size.to_le_bytes());
            image.extend([0; 8]);
            image.extend(place.to_le_bytes());
            image.extend([0; 16]);
        }
        assert_eq!(section(&image, b".initrd\0"), Some((0x5678, 0x1234)));
        assert_eq!(section(&image, b".nobody\0"), None);
        assert_eq!(section(&image[..60], b".initrd\0"), None);
    }
}

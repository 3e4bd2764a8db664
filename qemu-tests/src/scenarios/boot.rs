//! The device itself: verified boot, its slot, its TPM, its units.

use std::fs;

use iotwasm_firmware::Release;

use super::Scenario;
use crate::device::UNITS;
use crate::error::{Error, Result};
use crate::steps::Steps;
use crate::vm::Vm;
use crate::world::World;

/// The chain from firmware to root file system holds, and is measured as predicted.
pub(crate) const VERIFIED_BOOT: Scenario =
    Scenario { name: "verified-boot", about: "verity, slot, TPM and units of a fresh device", run: verified_boot };

/// Boots a fresh device and looks at what it rests on.
pub(crate) fn verified_boot(world: &mut World, steps: &mut Steps) -> Result<()> {
    steps.step("a fresh device boots", "running", || {
        world.ensure_booted()?;
        world.vm.settle()
    })?;
    let vm = &mut world.vm;
    steps.step("the root file system is verified", "verity V", || {
        Ok(words_from(&vm.run(&["dmsetup", "status", "root"])?, 2))
    })?;
    // Begin, length, "verity", version, two devices, two sizes of blocks, data, place of the tree, algorithm, root hash, salt.
    let table = vm.run(&["dmsetup", "table", "root"])?;
    let release = release(world, FIRST)?;
    let vm = &mut world.vm;
    steps.step("its root hash is the release's", &release.verity.root_hash.to_string(), || {
        Ok(table.split_whitespace().nth(11).unwrap_or_default().to_owned())
    })?;
    steps.step("a block that does not verify restarts the machine", "1 restart_on_corruption", || {
        Ok(words_from(&table, 13))
    })?;
    steps.step("the root file system cannot be written", "read-only", || {
        let output = vm.exec(&["touch", "/usr/share/iotwasm/x"])?;
        Ok(if output.stderr.contains("Read-only") { "read-only".into() } else { format!("{output:?}") })
    })?;
    steps.step("the device knows its slot", "RAUC_SLOT=slot-a", || {
        Ok(String::from_utf8_lossy(&vm.get("/run/iot/slot")?).trim().to_owned())
    })?;
    as_predicted(vm, steps, &release, false)?;
    steps.step("PCR 15 is untouched", &"0".repeat(64), || pcr(vm, 15))?;
    for unit in UNITS {
        steps.step(&format!("{unit} is ready"), "active", || {
            Ok(vm.exec(&["systemctl", "is-active", &format!("{unit}.service")])?.stdout.trim().to_owned())
        })?;
        steps.step(&format!("{unit} is confined (exposure below 2.0)"), "below 2.0", || exposure(vm, unit))?;
    }
    steps.step("the hardware's watchdog waits for systemd", "i6300ESB timer, active, 120 s, fed by systemd", || {
        let shown = vm
            .sh("cd /sys/class/watchdog/watchdog0 && echo \"$(cat identity), $(cat state), $(cat timeout) s, \
             $(systemctl show --property=RuntimeWatchdogUSec)\"")?;
        Ok(shown.trim().replace("RuntimeWatchdogUSec=2min", "fed by systemd"))
    })?;
    steps.step("a trial that nobody decides ends after half an hour", "OnBootUSec=30min", || {
        let shown =
            vm.run(&["systemctl", "show", "--value", "--property=TimersMonotonic", "iotwasm-trial-deadline.timer"])?;
        Ok(shown.split_whitespace().nth(1).unwrap_or_default().to_owned())
    })?;
    // systemd-resolved answers this name itself: nobody outside is asked.
    steps.step("names are resolved", "127.0.0.53", || {
        let found = vm.run(&["getent", "ahostsv4", "_localdnsstub"])?;
        Ok(found.split_whitespace().next().unwrap_or_default().to_owned())
    })?;
    steps.step("nothing failed to start", "0", || {
        Ok(vm.sh("systemctl --failed --plain --no-legend | wc -l")?.trim().to_owned())
    })
}

/// A line from this word on.
fn words_from(line: &str, first: usize) -> String {
    line.split_whitespace().skip(first).collect::<Vec<_>>().join(" ")
}

/// The version that the disk has in both slots.
pub(crate) const FIRST: &str = "1.0.0";

/// What the maker says about a firmware version.
pub(crate) fn release(world: &World, version: &str) -> Result<Release> {
    let path = world.built.folder.join("image/releases").join(version).join("release.json");
    let bytes = fs::read(&path).map_err(Error::file("read", &path))?;
    Release::parse(&bytes)
        .map_err(|err| Error::Unreadable { what: "release.json", text: format!("{}: {err}", path.display()) })
}

/// The boot, with Secure Boot on or off, left what the release predicts, and nothing ran that it does not list.
pub(crate) fn as_predicted(vm: &mut Vm, steps: &mut Steps, release: &Release, secure_boot: bool) -> Result<()> {
    let text = |digest: Option<iotwasm_firmware::Digest>| digest.map_or_else(|| "none".into(), |d| d.to_string());
    let version = &release.version;
    steps
        .step(&format!("PCR 4 is what release {version} predicts"), &text(release.pcr4(secure_boot)), || pcr(vm, 4))?;
    steps.step(&format!("PCR 11 is what release {version} predicts"), &text(release.pcr11("sysinit:ready")), || {
        pcr(vm, 11)
    })?;
    steps.step("IMA measured nothing that the release does not list", "nothing else", || {
        let payloads = vm.sh("sha256sum /data/iotwasm/payloads/*/*/payload.wasm 2>/dev/null || true")?;
        let log = vm.get(IMA_LOG)?;
        let log = String::from_utf8_lossy(&log);
        let (mut listed, mut others) = (0, Vec::new());
        for line in log.lines() {
            let mut words = line.split(' ').skip(3);
            let (Some(hash), Some(path)) = (words.next(), words.next()) else { continue };
            let hash = hash.strip_prefix("sha256:").unwrap_or(hash);
            if release.measured(path).is_some_and(|known| known.to_string() == hash) {
                listed += 1;
            } else if path != "boot_aggregate" && !payloads.contains(&format!("{hash}  {path}")) {
                others.push(path.to_owned());
            }
        }
        Ok(match (listed, others.is_empty()) {
            (0..50, _) => format!("only {listed} entries in the log"),
            (_, true) => "nothing else".into(),
            _ => others.join(" "),
        })
    })
}

/// What the kernel has measured, a line for each.
pub(crate) const IMA_LOG: &str = "/sys/kernel/security/integrity/ima/ascii_runtime_measurements";

pub(crate) fn pcr(vm: &mut Vm, number: u8) -> Result<String> {
    let text = vm.run(&["tpm2_pcrread", &format!("sha256:{number}")])?;
    let value = text.rsplit("0x").next().unwrap_or_default().trim().to_lowercase();
    if value.len() == 64 { Ok(value) } else { Err(Error::Unreadable { what: "a PCR", text }) }
}

/// `systemd-analyze security` ends with "… exposure level for x.service: 1.1 OK".
fn exposure(vm: &mut Vm, unit: &str) -> Result<String> {
    let text = vm.run(&["systemd-analyze", "security", "--no-pager", &format!("{unit}.service")])?;
    let level = text.rsplit(&format!("{unit}.service:")).next().and_then(|t| t.split_whitespace().next());
    match level.and_then(|l| l.parse::<f64>().ok()) {
        Some(level) if level < 2.0 => Ok("below 2.0".into()),
        Some(level) => Ok(level.to_string()),
        None => Err(Error::Unreadable { what: "the exposure level", text }),
    }
}

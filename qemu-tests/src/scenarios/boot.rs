//! The device itself: verified boot, its slot, its TPM, its units.

use std::collections::BTreeMap;
use std::fs;

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
    steps.step("the root file system is verified", "verified", || {
        let status = vm.run(&["veritysetup", "status", "root"])?;
        Ok(field(&status, "status:"))
    })?;
    let release = fs::read_to_string(world.built.folder.join("image/verity"))
        .map_err(Error::file("read", "build/image/verity"))?;
    let hash = release.split(':').next().unwrap_or_default().to_owned();
    steps.step("its root hash is the release's", &hash, || {
        Ok(field(&vm.run(&["veritysetup", "status", "root"])?, "root hash:"))
    })?;
    steps.step("the root file system cannot be written", "read-only", || {
        let output = vm.exec(&["touch", "/usr/share/iotwasm/x"])?;
        Ok(if output.stderr.contains("Read-only") { "read-only".into() } else { format!("{output:?}") })
    })?;
    steps.step("the device knows its slot", "RAUC_SLOT=slot-a", || {
        Ok(String::from_utf8_lossy(&vm.get("/run/iot/slot")?).trim().to_owned())
    })?;
    let predicted = predicted_pcr11(world)?;
    let vm = &mut world.vm;
    steps.step("PCR 11 is what the release predicts", &predicted, || pcr(vm, 11))?;
    steps.step("PCR 15 is untouched", &"0".repeat(64), || pcr(vm, 15))?;
    for unit in UNITS {
        steps.step(&format!("{unit} is ready"), "active", || {
            Ok(vm.exec(&["systemctl", "is-active", &format!("{unit}.service")])?.stdout.trim().to_owned())
        })?;
        steps.step(&format!("{unit} is confined (exposure below 2.0)"), "below 2.0", || exposure(vm, unit))?;
    }
    // systemd-resolved answers this name itself: nobody outside is asked.
    steps.step("names are resolved", "127.0.0.53", || {
        let found = vm.run(&["getent", "ahostsv4", "_localdnsstub"])?;
        Ok(found.split_whitespace().next().unwrap_or_default().to_owned())
    })?;
    steps.step("nothing failed to start", "0", || {
        Ok(vm.sh("systemctl --failed --plain --no-legend | wc -l")?.trim().to_owned())
    })
}

fn field(text: &str, name: &str) -> String {
    let line = text.lines().find_map(|l| l.trim().strip_prefix(name));
    line.unwrap_or("missing").trim().to_owned()
}

fn predicted_pcr11(world: &World) -> Result<String> {
    let path = world.built.folder.join("image/pcr11.json");
    let text = fs::read_to_string(&path).map_err(Error::file("read", path))?;
    let values: BTreeMap<String, String> =
        serde_json::from_str(&text).map_err(|_| Error::Unreadable { what: "pcr11.json", text: text.clone() })?;
    values.get("sysinit:ready").cloned().ok_or(Error::Unreadable { what: "pcr11.json", text })
}

fn pcr(vm: &mut Vm, number: u8) -> Result<String> {
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

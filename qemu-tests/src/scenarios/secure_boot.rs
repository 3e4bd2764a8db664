//! Secure Boot: a device that takes the OEM's keys in the factory, and from then on starts nothing that they did not sign.

use std::fs;
use std::path::Path;
use std::process::Command;

use super::Scenario;
use super::boot::{FIRST, IMA_LOG, as_predicted, pcr, release};
use super::firmware::{boots_of, prepare, settings, uki_offset};
use super::forge::{Forged, strangers_keys};
use crate::error::{Error, Result};
use crate::repo::Repo;
use crate::steps::Steps;
use crate::uefi::Uefi;
use crate::vm::{BOOT_LIMIT, BootOptions, Vm, run};
use crate::wait::{Look, until};
use crate::world::{COUNTER, World};

/// From setup mode to a device that refuses.
pub(crate) const SECURE_BOOT: Scenario = Scenario {
    name: "secure-boot",
    about: "keys are enrolled; lockdown, measurements, an update; unsigned, strangers', altered and revoked images do not start",
    run: secure_boot,
};

const EFIVARS: &str = "/sys/firmware/efi/efivars";
const GLOBAL: &str = "8be4df61-93ca-11d2-aa0d-00e098032b8c";
const DATABASE: &str = "d719b2cb-3d3a-4596-a3bc-dad00e67656f";
/// A word for the kernel that nobody signed, with an end like that of a signed command line; and an order to systemd.
const WORD: &str = "rdinit=/bin/sh --";
const ORDER: &str = "io.systemd.credential:tmpfiles.extra=f /run/smuggled";
/// A module of the image that nothing loads by itself, and a copy of it without its signature.
const MODULE: &str = "test_power";
const UNSIGNED: &str = "/run/unsigned.ko";
/// The firmware that is taken.
const NEXT: &str = "1.1.0";

fn secure_boot(world: &mut World, steps: &mut Steps) -> Result<()> {
    world.replace_device(Uefi::SecureBoot)?;
    let with_word = BootOptions { kernel: vec![WORD.into()], ..BootOptions::default() };
    steps.must("a fresh device starts", || world.vm.boot_with(&with_word).map(drop))?;
    let (repo, ..) = prepare(world, COUNTER, &settings(COUNTER, 1, &[]))?;
    let keys = world.built.folder.join("release-keys/uki");
    let vm = &mut world.vm;
    let open = in_setup_mode(vm, steps)?;
    steps.must("its own Linux enrols db, KEK and at last PK", || {
        for (name, vendor) in [("db", DATABASE), ("KEK", GLOBAL), ("PK", GLOBAL)] {
            write_variable(vm, name, vendor, false, &keys.join(name).with_extension("auth"))?;
        }
        Ok(())
    })?;
    steps.step("a word for the kernel that the machine adds stops the boot", "stopped", || {
        vm.shutdown()?;
        vm.power_on(&with_word)?;
        until("the initrd's refusal", BOOT_LIMIT, || {
            let console = console(vm)?;
            let refused = console.contains("initrd: the command line has words that nobody signed; rebooting");
            Ok(if refused { Look::Is("stopped".into()) } else { Look::NotYet(last_line(&console)) })
        })
    })?;
    steps.must("without it, it starts", || {
        vm.boot_with(&BootOptions { smbios: vec![ORDER.into()], ..BootOptions::default() })?;
        vm.settle().map(drop)
    })?;
    steps.step("Secure Boot is on", "1, setup mode 0", || state(vm))?;
    let first = release(world, FIRST)?;
    let vm = &mut world.vm;
    as_predicted(vm, steps, &first, true)?;
    // With Secure Boot on, the kernel has rules of its own, which measure modules and may refuse a policy that is not signed.
    steps.step("the image's own policy of measurements was taken", "capd is measured", || {
        let log = String::from_utf8_lossy(&vm.get(IMA_LOG)?).into_owned();
        Ok(if log.contains(" /usr/bin/capd") { "capd is measured" } else { "no program is measured" }.into())
    })?;
    steps.step("PCR 7 tells the keys", "another", || {
        Ok(if pcr(vm, 7)? == open { "the same" } else { "another" }.into())
    })?;
    locked_down(world, steps)?;
    updated(world, steps, &repo)?;
    altered(world, steps)?;
    revoked(world, steps)?;
    refused(world, steps, &repo)
}

/// What holds before there are keys. Gives PCR 7.
fn in_setup_mode(vm: &mut Vm, steps: &mut Steps) -> Result<String> {
    steps.step("it has no keys yet", "0, setup mode 1", || state(vm))?;
    steps.step("a word for the kernel that the machine adds is behind the end of its own", "behind", || {
        let words = String::from_utf8_lossy(&vm.get("/proc/cmdline")?).into_owned();
        Ok(if words.trim_end().ends_with(&format!(" -- {WORD}")) { "behind".into() } else { words })
    })?;
    steps.step("the kernel is not locked down", "none", || lockdown(vm))?;
    steps.step("a module that nobody signed is loaded", "loaded", || {
        copy_without_signature(vm)?;
        load(vm, UNSIGNED)
    })?;
    pcr(vm, 7)
}

/// What follows from Secure Boot in the kernel and for the variables.
fn locked_down(world: &mut World, steps: &mut Steps) -> Result<()> {
    let stranger = strangers_keys(world)?.join("uki/db.auth");
    let by_db = world.scratch("by-db")?.join("db.auth");
    signed_by_db(&world.built.folder, &stranger.with_extension("pem"), &by_db)?;
    let vm = &mut world.vm;
    steps.step("an order to systemd from the machine is there, and not obeyed", "there, not obeyed", || {
        vm.sh("grep -q tmpfiles.extra /sys/firmware/dmi/entries/11-*/raw")?;
        let obeyed = vm.exec(&["test", "-e", "/run/smuggled"])?.code == 0;
        Ok(if obeyed { "there, and obeyed" } else { "there, not obeyed" }.into())
    })?;
    steps.step("the kernel is locked down", "integrity", || lockdown(vm))?;
    steps.step("the module that nobody signed is refused", "Loading of unsigned module is rejected", || {
        copy_without_signature(vm)?;
        let outcome = load(vm, UNSIGNED)?;
        let reason = vm.sh("dmesg | grep -o 'Loading of .* is rejected' | tail -n 1")?;
        Ok(if outcome == "loaded" { outcome } else { reason.trim().to_owned() })
    })?;
    steps.step("the same with the OEM's signature is loaded", "loaded", || {
        let path = vm.run(&["modinfo", "-n", MODULE])?;
        load(vm, path.trim())
    })?;
    steps.step("and so were those of the peripherals, and all else started", "active, 0 failed", || {
        let peripherals = vm.exec(&["systemctl", "is-active", "qemu-peripherals.service"])?.stdout;
        let failed = vm.sh("systemctl --failed --plain --no-legend | wc -l")?;
        Ok(format!("{}, {} failed", peripherals.trim(), failed.trim()))
    })?;
    for (who, update, append) in [("a stranger", &stranger, false), ("who signs images", &by_db, true)] {
        steps.step(&format!("{who} cannot change db"), "refused, db as before", || {
            let path = format!("{EFIVARS}/db-{DATABASE}");
            let before = vm.get(&path)?;
            let outcome = match write_variable(vm, "db", DATABASE, append, update) {
                Err(Error::Command { output, .. }) if output.contains("Permission denied") => "refused".to_owned(),
                other => format!("{other:?}"),
            };
            Ok(format!("{outcome}, db {}", if vm.get(&path)? == before { "as before" } else { "changed" }))
        })?;
    }
    Ok(())
}

fn updated(world: &mut World, steps: &mut Steps, repo: &Repo) -> Result<()> {
    let next = release(world, NEXT)?;
    repo.publish_firmware(&world.built.firmware(NEXT))?;
    let vm = &mut world.vm;
    steps.step(&format!("firmware {NEXT} is installed, tried and kept"), "committed", || vm.firmware_verdict(NEXT))?;
    as_predicted(vm, steps, &next, true)?;
    steps.step("the payload runs on it", "1.0.0 running, healthy", || vm.wait_running(COUNTER, "1.0.0"))
}

/// Firmware that the OEM's other keys signed, each of which UEFI does not start.
fn refused(world: &mut World, steps: &mut Steps, repo: &Repo) -> Result<()> {
    let strangers = strangers_keys(world)?.join("uki/db");
    type Spoil<'a> = Box<dyn Fn(&Forged) -> Result<()> + 'a>;
    let attempts: [(&str, &str, Spoil<'_>); 2] = [
        ("whose UKI nobody signed", "9.0.1", Box::new(|forged| unsign(&forged.uki()))),
        (
            "whose UKI a stranger signed",
            "9.0.2",
            Box::new(|forged| {
                unsign(&forged.uki())?;
                run(Command::new("sbsign")
                    .arg("--key")
                    .arg(strangers.with_extension("key"))
                    .arg("--cert")
                    .arg(strangers.with_extension("pem"))
                    .arg("--output")
                    .arg(forged.uki())
                    .arg(forged.uki()))
                .map(drop)
            }),
        ),
    ];
    for (what, version, spoil) in &attempts {
        steps.must(&format!("a firmware {what} is published by the OEM"), || {
            let forged = Forged::new(world, NEXT, version)?;
            spoil(&forged)?;
            forged.with_its_uki(world)?;
            repo.publish_firmware(&forged.folder)
        })?;
        does_not_start(world, steps, version)?;
    }
    let vm = &mut world.vm;
    steps.step("none of them is tried again", "2 attempts", || {
        vm.wait_checks(&world.server, 3)?;
        let tried = vm.history()?.iter().filter(|a| a.level == "firmware" && a.version != NEXT).count();
        Ok(format!("{tried} attempts"))
    })?;
    steps.step("the payload runs", "1.0.0 running, healthy", || vm.wait_running(COUNTER, "1.0.0"))
}

/// A signed image with one other byte: the firmware in the other slot, which was the first.
fn altered(world: &mut World, steps: &mut Steps) -> Result<()> {
    let esp = world.built.firmware(FIRST).join("esp.img");
    let image = fs::read(&esp).map_err(Error::file("read", &esp))?;
    // Well within the kernel: UEFI reads headers before it looks at a signature.
    let place = uki_offset(&image)? + (4 << 20);
    let byte = image[place];
    let vm = &mut world.vm;
    let device = format!("/dev/disk/by-partlabel/esp-{}", if vm.firmware()?.slot == "a" { "b" } else { "a" });
    let write = |vm: &mut Vm, byte: u8| {
        vm.sh(&format!("printf '\\{byte:03o}' | dd of={device} bs=1 seek={place} conv=notrunc,fsync status=none"))
            .map(drop)
    };
    steps.step(
        &format!("the signed UKI of firmware {FIRST} is in the other slot"),
        "the byte that is altered",
        || {
            let found = vm.sh(&format!("od -An -tu1 -j {place} -N 1 {device}"))?;
            Ok(if found.trim() == byte.to_string() { "the byte that is altered".into() } else { found })
        },
    )?;
    let before = refusals(vm)?;
    steps.must("one byte of it is altered, and the device restarts into it", || {
        write(vm, !byte)?;
        boot_other(vm)
    })?;
    refused_once(vm, steps, before)?;
    steps.step("what ran before runs", NEXT, || vm.wait_firmware(NEXT).map(|_| NEXT.into()))?;
    steps.must("the byte is put back", || write(vm, byte))
}

/// The other slot is the next to boot, and the device restarts.
fn boot_other(vm: &mut Vm) -> Result<()> {
    vm.run(&["rauc", "status", "mark-active", "other"])?;
    vm.reboot()?;
    vm.settle().map(drop)
}

/// A release that the OEM signed with every key and took back for good by an update of dbx: the one in the other slot.
fn revoked(world: &mut World, steps: &mut Steps) -> Result<()> {
    let uki = world.built.firmware(FIRST).join("uki.efi");
    let update = world.scratch("dbx")?.join("dbx.auth");
    let vm = &mut world.vm;
    steps.must(&format!("dbx gets the hash of firmware {FIRST}, which is in the other slot"), || {
        dbx_update(&world.built.folder, &uki, &update)?;
        write_variable(vm, "dbx", DATABASE, true, &update)
    })?;
    let before = refusals(vm)?;
    steps.must("the other slot is to be booted next, and the device restarts", || boot_other(vm))?;
    refused_once(vm, steps, before)?;
    steps.step("firmware that is not revoked runs", NEXT, || vm.wait_firmware(NEXT).map(|_| NEXT.into()))
}

/// The device tries it, is refused by UEFI, and comes back in the firmware that it had.
fn does_not_start(world: &mut World, steps: &mut Steps, version: &str) -> Result<()> {
    let vm = &mut world.vm;
    let before = refusals(vm)?;
    steps.step("it is undone", "rolled_back: boot_failed", || vm.firmware_verdict(version))?;
    refused_once(vm, steps, before)?;
    steps.step("the old firmware runs, and it never did", &format!("{NEXT}, 0 boots"), || {
        Ok(format!("{}, {} boots", vm.firmware()?.version, boots_of(vm, version)?))
    })
}

fn refused_once(vm: &Vm, steps: &mut Steps, before: usize) -> Result<()> {
    steps.step("UEFI refused it", "1 time", || Ok(format!("{} time", refusals(vm)? - before)))
}

/// How often UEFI refused to start something since power-on.
fn refusals(vm: &Vm) -> Result<usize> {
    let is_refusal = |line: &&str| line.contains("BdsDxe: failed to load") && line.contains("Access Denied");
    Ok(console(vm)?.lines().filter(is_refusal).count())
}

fn unsign(uki: &Path) -> Result<()> {
    run(Command::new("sbattach").arg("--remove").arg(uki)).map(drop)
}

/// The old firmware's hash for dbx, by who may say so.
fn dbx_update(built: &Path, uki: &Path, out: &Path) -> Result<()> {
    let text = run(Command::new(built.join("bin/iotwasm-release")).args(["predict", "--json"]).arg(uki))?;
    let said: Option<serde_json::Value> = serde_json::from_str(&text).ok();
    let hash = said.as_ref().and_then(|said| said[0]["authenticode"].as_str());
    let hash = hash.ok_or_else(|| Error::Unreadable { what: "a prediction", text: text.clone() })?;
    append(built, "dbx", "KEK", out, &["--image", hash])
}

/// A certificate for db, by who may sign images and nothing else.
fn signed_by_db(built: &Path, certificate: &Path, out: &Path) -> Result<()> {
    append(built, "db", "db", out, &[&certificate.display().to_string()])
}

/// An addition to a variable, signed by one of the OEM's keys.
fn append(built: &Path, variable: &str, signer: &str, out: &Path, more: &[&str]) -> Result<()> {
    let signer = built.join("release-keys/uki").join(signer);
    run(Command::new(built.join("bin/iotwasm-release"))
        .args(["efi-update", "--variable", variable, "--append", "--time", "2026-01-01T00:00:00Z"])
        .arg("--cert")
        .arg(signer.with_extension("pem"))
        .arg("--key")
        .arg(signer.with_extension("key"))
        .arg("--out")
        .arg(out)
        .args(more))
    .map(drop)
}

/// Writes a signed update to a variable, as docs/releases.md has it: the attributes and the update in one write.
fn write_variable(vm: &mut Vm, name: &str, vendor: &str, append: bool, update: &Path) -> Result<()> {
    let bytes = fs::read(update).map_err(Error::file("read", update))?;
    vm.put("/run/update.auth", 0o600, &bytes)?;
    let attributes = if append { r"\147" } else { r"\047" };
    let path = format!("{EFIVARS}/{name}-{vendor}");
    vm.sh(&format!(
        r"[ ! -e {path} ] || chattr -i {path}
          {{ printf '{attributes}\000\000\000'; cat /run/update.auth; }} | dd of={path} bs=64k iflag=fullblock status=none"
    ))
    .map(drop)
}

/// SecureBoot and SetupMode, as UEFI says.
fn state(vm: &mut Vm) -> Result<String> {
    let mut value = |name: &str| {
        let bytes = vm.get(&format!("{EFIVARS}/{name}-{GLOBAL}"))?;
        Ok::<_, Error>(bytes.last().copied().unwrap_or_default())
    };
    Ok(format!("{}, setup mode {}", value("SecureBoot")?, value("SetupMode")?))
}

/// The level of lockdown, which stands in brackets.
fn lockdown(vm: &mut Vm) -> Result<String> {
    let text = String::from_utf8_lossy(&vm.get("/sys/kernel/security/lockdown")?).into_owned();
    let level = text.split_once('[').and_then(|(_, rest)| rest.split_once(']'));
    Ok(level.map_or(text.clone(), |(level, _)| level.to_owned()))
}

fn console(vm: &Vm) -> Result<String> {
    let log = vm.serial_log();
    let bytes = fs::read(&log).map_err(Error::file("read", &log))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn last_line(console: &str) -> String {
    console.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or_default().to_owned()
}

/// Loads a module and unloads it; or what insmod said.
fn load(vm: &mut Vm, path: &str) -> Result<String> {
    let output = vm.exec(&["insmod", path])?;
    if output.code == 0 {
        vm.run(&["rmmod", MODULE])?;
        return Ok("loaded".into());
    }
    let said = output.stderr.trim();
    Ok(said.rsplit(": ").next().unwrap_or_default().to_owned())
}

/// What stands behind a signed module: the length of the signature, and the words that end it.
fn copy_without_signature(vm: &mut Vm) -> Result<()> {
    const WORDS: &[u8] = b"~Module signature appended~\n";
    const NUMBERS: usize = 12;
    let path = vm.run(&["modinfo", "-n", MODULE])?;
    let module = vm.get(path.trim())?;
    let signed = module.strip_suffix(WORDS).and_then(|rest| {
        let (rest, numbers) = rest.split_at_checked(rest.len().checked_sub(NUMBERS)?)?;
        let length = numbers.last_chunk::<4>().map(|bytes| u32::from_be_bytes(*bytes) as usize)?;
        rest.get(..rest.len().checked_sub(length)?)
    });
    let bare = signed.ok_or_else(|| Error::Unreadable { what: "a module", text: "it has no signature".into() })?;
    vm.put(UNSIGNED, 0o600, bare)
}

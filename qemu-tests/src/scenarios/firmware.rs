//! Updates of the firmware itself: RAUC, boot slots, trials over reboots, and every way in which they go wrong.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::thread::sleep;
use std::time::Duration;

use serde_json::{Value, json};

use super::Scenario;
use super::boot::{IMA_LOG, as_predicted, release};
use super::forge::{Forged, small_bundle, strangers_keys};
use crate::device::{OtaStatus, SETTLE_LIMIT, Settings};
use crate::error::{Error, Result};
use crate::random::Random;
use crate::repo::{COMPATIBLE, Release, Repo};
use crate::steps::Steps;
use crate::uefi::Uefi;
use crate::vm::{Vm, run};
use crate::wait::{Look, until};
use crate::world::{COUNTER, World};

/// Two updates and a withdrawal.
pub(crate) const UPDATE: Scenario = Scenario {
    name: "firmware-update",
    about: "a fresh device takes two firmware updates in a row, each measured as predicted, and goes back from one withdrawn",
    run: update,
};

/// Bundles that must not be installed.
pub(crate) const REFUSED: Scenario = Scenario {
    name: "firmware-refused",
    about: "bundles by strangers, for others, older, truncated; another release.json; a full disk: nothing changes",
    run: refused,
};

/// A firmware whose daemons never get ready, and a bad payload beside it.
pub(crate) const UNWELL: Scenario = Scenario {
    name: "firmware-unwell",
    about: "a payload and a firmware go wrong together: both are undone, each for its own reason",
    run: unwell,
};

/// A firmware that lacks what a payload needs.
pub(crate) const MISSING_DRIVER: Scenario = Scenario {
    name: "firmware-missing-driver",
    about: "a payload that only the old firmware can run takes the new one back",
    run: missing_driver,
};

/// Boots that end nowhere.
pub(crate) const DEAD_ENDS: Scenario = Scenario {
    name: "firmware-dead-ends",
    about: "panic, emergency, hang, no judge, altered root, broken root, broken UKI: each ends in the old firmware",
    run: dead_ends,
};

/// Power cuts.
pub(crate) const POWER_CUTS: Scenario = Scenario {
    name: "firmware-power-cuts",
    about: "power cut at random moments of install and first boots (IOTWASM_POWER_CUTS, default 10): the update ends well",
    run: power_cuts,
};

/// The two that devices go to and fro between; the first is the one that a fresh device is updated to.
const VERSIONS: [&str; 2] = ["1.1.0", "1.2.0"];
/// The file in the device with the faults to come.
const FAULTS: &str = "/data/qemu-tests/faults";

/// Settings of a device that tries firmware quickly.
pub(super) fn settings(payload: &str, boots: u32, more: &[&str]) -> Settings {
    let mut lines = vec![
        "[firmware]".to_owned(),
        format!("trial_boots = {boots}"),
        "confirmation_s = 5".to_owned(),
        "server_within_s = 300".to_owned(),
    ];
    lines.extend(more.iter().map(|&line| line.to_owned()));
    Settings { more: lines, ..Settings::of(payload) }
}

/// A device with a payload committed, and the two versions that come next: the one that runs, and the one to publish.
pub(super) fn prepare(world: &mut World, payload: &str, settings: &Settings) -> Result<(Repo, String, &'static str)> {
    let repo = world.begin(settings)?;
    world.vm.sh("rm -f /data/qemu-tests/faults /data/qemu-tests/boots")?;
    repo.publish(&Release::new(payload, payload, "1.0.0"))?;
    world.vm.expect_verdict(payload, "1.0.0", "committed")?;
    let now = world.vm.firmware()?.version;
    let next = if now == VERSIONS[0] { VERSIONS[1] } else { VERSIONS[0] };
    Ok((repo, now, next))
}

/// Publishes a version so that a device with `now` takes it: if it is not newer, `now` is withdrawn.
fn offer(world: &World, repo: &Repo, now: &str, next: &str) -> Result<()> {
    if now > next {
        repo.publish_firmware(&world.built.firmware(now))?;
    }
    repo.publish_firmware(&world.built.firmware(next))?;
    if now > next {
        repo.withdraw_firmware(now, "a scenario goes back")?;
    }
    Ok(())
}

fn update(world: &mut World, steps: &mut Steps) -> Result<()> {
    world.replace_device(Uefi::Plain)?;
    let (repo, _, _) = prepare(world, COUNTER, &settings(COUNTER, 1, &[]))?;
    let mut slots = ["b", "a"].into_iter();
    let mut pcr11 = Vec::new();
    for version in VERSIONS {
        let release = release(world, version)?;
        let bundle = release.files.bundle.as_ref().map_or(0, |bundle| bundle.file.length);
        world.server.forget();
        repo.publish_firmware(&world.built.firmware(version))?;
        let vm = &mut world.vm;
        steps.step(&format!("firmware {version} is installed, tried and kept"), "committed", || {
            vm.firmware_verdict(version)
        })?;
        let slot = slots.next().unwrap_or_default();
        steps.step("it runs from the other slot", slot, || vm.wait_firmware(version))?;
        steps.step("RAUC agrees", &format!("booted slot-{slot}, next slot-{slot}, good"), || rauc_says(vm))?;
        as_predicted(vm, steps, &release, false)?;
        pcr11.push(release.pcr11("sysinit:ready").map(|digest| digest.to_string()));
        steps.step("the payload runs on it", "1.0.0 running, healthy", || vm.wait_running(COUNTER, "1.0.0"))?;
        steps.step("not more than a seventh of the bundle was fetched", "little", || {
            let fetched = world.server.sent(".raucb");
            println!("    ({fetched} of {bundle} bytes)");
            let little = fetched > 0 && fetched * 7 < bundle;
            Ok(if little { "little".into() } else { format!("{fetched} of {bundle} bytes") })
        })?;
    }
    // The last one differs from the one before in one byte of capd.
    steps.step("one byte of a daemon changes PCR 11", "different", || {
        Ok(if pcr11[0] == pcr11[1] { "the same" } else { "different" }.into())
    })?;
    let (old, new) = (release(world, VERSIONS[0])?, release(world, VERSIONS[1])?);
    steps.step("and the hash by which IMA knows it", "the new one", || {
        let log = world.vm.get(IMA_LOG)?;
        let log = String::from_utf8_lossy(&log).into_owned();
        let has = |release: &iotwasm_firmware::Release| {
            release.measured("/usr/bin/capd").is_some_and(|hash| log.contains(&hash.to_string()))
        };
        Ok(match (has(&old), has(&new)) {
            (false, true) => "the new one".into(),
            other => format!("{other:?}"),
        })
    })?;
    steps.must("the new firmware is withdrawn", || repo.withdraw_firmware(VERSIONS[1], "too many bytes changed"))?;
    let vm = &mut world.vm;
    steps.step("the device goes back to the one before", "b", || vm.wait_firmware(VERSIONS[0]))?;
    steps.step("the field engineer reads about both levels", "firmware and payload", || {
        let status = vm.run(&["iotwasm", "device", "status"])?;
        let both = status.contains(VERSIONS[0]) && status.contains(COUNTER) && status.contains(COMPATIBLE);
        Ok(if both { "firmware and payload".into() } else { status })
    })?;
    steps.step("and the story of each attempt", "3 committed", || {
        let history = vm.run(&["iotwasm", "device", "history", "--firmware"])?;
        Ok(format!("{} committed", history.matches("committed").count()))
    })
}

/// One update, for the demonstration.
pub(crate) fn story_update(world: &mut World, steps: &mut Steps) -> Result<()> {
    let (repo, now, next) = prepare(world, COUNTER, &settings(COUNTER, 1, &[]))?;
    let release = release(world, next)?;
    world.server.forget();
    offer(world, &repo, &now, next)?;
    let vm = &mut world.vm;
    steps.step(&format!("firmware {next} is installed, tried and kept"), "committed", || vm.firmware_verdict(next))?;
    let fetched = world.server.sent(".raucb");
    let bundle = release.files.bundle.as_ref().map_or(0, |bundle| bundle.file.length);
    println!("    (fetched {:.1} of {:.1} MB)", fetched as f64 / 1e6, bundle as f64 / 1e6);
    as_predicted(vm, steps, &release, false)?;
    steps.step("the payload runs on it", "1.0.0 running, healthy", || vm.wait_running(COUNTER, "1.0.0"))
}

/// One firmware that is bad, for the demonstration.
pub(crate) fn story_rollback(world: &mut World, steps: &mut Steps) -> Result<()> {
    let (repo, now, next) = prepare(world, COUNTER, &settings(COUNTER, 1, &[]))?;
    steps.must(&format!("firmware {next} is published; its kernel will panic"), || {
        world.vm.put(FAULTS, 0o644, format!("{next} panic\n").as_bytes())?;
        offer(world, &repo, &now, next)
    })?;
    let vm = &mut world.vm;
    steps.step("it is undone", "rolled_back: boot_failed", || vm.firmware_verdict(next))?;
    steps.step("the old firmware runs", &now, || Ok(vm.firmware()?.version))?;
    steps.step("and the payload on it", "1.0.0 running, healthy", || vm.wait_running(COUNTER, "1.0.0"))?;
    steps.must("the device tells", || {
        for command in ["status", "history"] {
            println!("{}", vm.run(&["iotwasm", "device", command])?);
        }
        Ok(())
    })
}

/// What RAUC's own tool says about the slots.
fn rauc_says(vm: &mut Vm) -> Result<String> {
    let text = vm.run(&["rauc", "status", "--output-format=json"])?;
    let status: Value = serde_json::from_str(text.lines().last().unwrap_or_default())
        .map_err(|_| Error::Unreadable { what: "rauc status", text: text.clone() })?;
    let text_of = |value: &Value| value.as_str().unwrap_or("none").to_owned();
    let primary = text_of(&status["boot_primary"]);
    let slots = status["slots"].as_array().cloned().unwrap_or_default();
    let slot = slots.iter().find_map(|slot| slot.get(primary.as_str())).cloned().unwrap_or_default();
    Ok(format!(
        "booted {}, next {}, {}",
        text_of(&status["booted"]),
        text_of(&slot["bootname"]),
        text_of(&slot["boot_status"])
    ))
}

fn refused(world: &mut World, steps: &mut Steps) -> Result<()> {
    let (repo, now, next) = prepare(world, COUNTER, &settings(COUNTER, 1, &[]))?;

    for user in ["iotwasm-wasm", "iotwasm-cap", "nobody"] {
        steps.step(&format!("{user} may not drive RAUC"), "Access denied", || {
            let call = ["setpriv", "--reuid", user, "--clear-groups", "busctl", "call", "de.pengutronix.rauc", "/"];
            let method = ["de.pengutronix.rauc.Installer", "Mark", "ss", "good", "booted"];
            let output = world.vm.exec(&[&call[..], &method[..]].concat())?;
            let denied = output.code != 0 && output.stderr.contains("Access denied");
            Ok(if denied { "Access denied".into() } else { format!("{output:?}") })
        })?;
    }
    for folder in ["/data", "/var", "/tmp", "/run", "/dev/shm"] {
        steps.step(&format!("nothing executes from {folder}"), "denied", || {
            let line = format!("cp /usr/bin/true {folder}/x && {folder}/x; code=$?; rm -f {folder}/x; exit $code");
            let output = world.vm.exec(&["sh", "-c", &line])?;
            Ok(if output.code == 126 { "denied".into() } else { format!("{output:?}") })
        })?;
    }

    let forged = Forged::new(world, next, "9.0.1")?;
    steps.step("a bundle by a stranger, in metadata by the OEM, is refused", "refused", || {
        let keys = strangers_keys(world)?;
        let to = forged.folder.join("resigned");
        run(Command::new("rauc")
            .args(["resign", "--no-verify"])
            .arg(format!("--cert={}", keys.join("rauc/signer.pem").display()))
            .arg(format!("--key={}", keys.join("rauc/signer.key").display()))
            .arg(format!("--intermediate={}", keys.join("rauc/intermediate.pem").display()))
            .arg(forged.bundle())
            .arg(&to))?;
        fs::rename(&to, forged.bundle()).map_err(Error::file("rename", &to))?;
        forged.describe()?;
        repo.publish_firmware(&forged.folder)?;
        world.vm.firmware_verdict("9.0.1")
    })?;

    for (what, version, compatible, inner) in [
        ("a bundle for another product is refused", "9.0.2", "another-product", "9.0.2"),
        ("an older bundle under a new name is refused", "9.0.3", COMPATIBLE, "1.0.0"),
    ] {
        let forged = Forged::new(world, next, version)?;
        steps.step(what, "refused", || {
            small_bundle(world, &forged.bundle(), compatible, inner)?;
            forged.describe()?;
            repo.publish_firmware(&forged.folder)?;
            world.vm.firmware_verdict(version)
        })?;
    }

    steps.step("metadata by the OEM and another release.json on the server: not installed", "failed", || {
        let forged = Forged::new(world, next, "9.0.4")?;
        small_bundle(world, &forged.bundle(), COMPATIBLE, "9.0.4")?;
        forged.describe()?;
        repo.publish_firmware(&forged.folder)?;
        let bundle = Repo::bundle_in(&repo.served(), "9.0.4")?;
        let folder = bundle.parent().unwrap_or(Path::new("."));
        for entry in fs::read_dir(folder).map_err(Error::file("read", folder))? {
            let path = entry.map_err(Error::file("read", folder))?.path();
            if path.to_string_lossy().ends_with("-9.0.4.json") {
                let text = fs::read_to_string(&path).map_err(Error::file("read", &path))?;
                fs::write(&path, text.replacen("\"secure_boot\":false", "\"secure_boot\":true ", 1))
                    .map_err(Error::file("write", &path))?;
            }
        }
        world.vm.firmware_verdict("9.0.4")
    })?;
    repo.withdraw_firmware("9.0.4", "spoiled")?;

    // From here on the real one, which would be taken if it arrived.
    steps.must("the data partition is filled up to its last 2 MiB", || {
        let fill = "rm -f /data/fill; left=$(df -k --output=avail /data | tail -n 1); fallocate -l $((left - 2048))K /data/fill";
        world.vm.sh(fill).map(drop)
    })?;
    offer(world, &repo, &now, next)?;
    steps.step("with a full data partition nothing is installed", "told", || {
        attempt_says(&mut world.vm, next, "", &["too full"])
    })?;
    let served = Repo::bundle_in(&repo.served(), next)?;
    let whole = fs::read(&served).map_err(Error::file("read", &served))?;
    let before = said(&mut world.vm, next)?;
    steps.must("a truncated bundle is on the server, and there is room again", || {
        fs::write(&served, &whole[..whole.len() / 2]).map_err(Error::file("write", &served))?;
        world.vm.sh("rm -f /data/fill").map(drop)
    })?;
    steps.step("a truncated bundle is not installed", "told", || {
        attempt_says(&mut world.vm, next, &before, &["416", "range"])
    })?;
    let before = said(&mut world.vm, next)?;
    steps.must("the server has a bundle with other contents and the right length", || {
        let mut altered = whole.clone();
        for byte in altered.iter_mut().skip(20_000_000).step_by(4096).take(4000) {
            *byte ^= 0x55;
        }
        fs::write(&served, &altered).map_err(Error::file("write", &served))
    })?;
    steps.step("altered contents are not installed", "told", || {
        attempt_says(&mut world.vm, next, &before, &["RAUC:"])
    })?;
    steps.step("the device is what it was", &format!("{now} committed, nothing installed"), || {
        let firmware = world.vm.firmware()?;
        Ok(format!(
            "{} {}, {}",
            firmware.version,
            firmware.state,
            if firmware.installed.is_empty() { "nothing installed" } else { &firmware.installed }
        ))
    })?;
    steps.step("its payload never stopped", "1.0.0 running, healthy", || world.vm.wait_running(COUNTER, "1.0.0"))
}

/// What the newest attempt with that version says.
fn said(vm: &mut Vm, version: &str) -> Result<String> {
    Ok(vm.firmware_attempt(version)?.map(|a| format!("{}: {}", a.verdict(), a.message)).unwrap_or_default())
}

/// Waits until the newest attempt with that version has ended, says something else than `before`, and one of the words.
fn attempt_says(vm: &mut Vm, version: &str, before: &str, words: &[&str]) -> Result<String> {
    until(&format!("an attempt with {version} that says one of {words:?}"), SETTLE_LIMIT, || {
        let said = said(vm, version)?;
        let over = !said.starts_with("installing") && !said.starts_with("trial") && said != before;
        let told = over && words.iter().any(|word| said.contains(word));
        Ok(if told { Look::Is("told".to_owned()) } else { Look::NotYet(said) })
    })
}

fn unwell(world: &mut World, steps: &mut Steps) -> Result<()> {
    let (repo, now, next) = prepare(world, COUNTER, &settings(COUNTER, 3, &["ready_within_s = 30"]))?;
    steps.must("a firmware whose capd never answers, and a payload that fails its self-test", || {
        world.vm.put(FAULTS, 0o644, format!("{next} deaf\n").as_bytes())?;
        repo.publish(&Release::new("fails-self-test", COUNTER, "1.1.0"))?;
        offer(world, &repo, &now, next)
    })?;
    let vm = &mut world.vm;
    steps.step("the firmware is undone", "rolled_back: daemon_not_ready", || vm.firmware_verdict(next))?;
    steps.step("the old one runs", "committed", || vm.wait_firmware(&now).map(|_| "committed".into()))?;
    steps.step("the payload is undone", "rolled_back: self_test_failed", || vm.verdict(COUNTER, "1.1.0"))?;
    steps.step("its old version runs", "1.0.0 running, healthy", || vm.wait_running(COUNTER, "1.0.0"))?;
    let attempts = vm.history()?.iter().filter(|a| a.level == "firmware").count();
    steps.step("the firmware is not tried again", &format!("1 boot, {attempts} attempt"), || {
        vm.wait_checks(&world.server, 3)?;
        let after = vm.history()?.iter().filter(|a| a.level == "firmware").count();
        Ok(format!("{} boot, {after} attempt", boots_of(vm, next)?))
    })?;
    steps.step("and is told as undone", "told", || {
        let rejected = vm.firmware()?.rejected;
        Ok(if rejected.iter().any(|release| release.contains(next)) { "told".into() } else { format!("{rejected:?}") })
    })?;
    steps.step("the payload's trial was over before the firmware's began", "over", || {
        let ended = vm.history()?.into_iter().find(|a| a.level == "payload" && a.version == "1.1.0").map(|a| a.ended);
        let log = vm.sh("cat /data/qemu-tests/boots")?;
        let boot = log.lines().find(|line| line.starts_with(next)).and_then(|line| line.split(' ').nth(1));
        Ok(match (ended, boot) {
            (Some(ended), Some(boot)) if !ended.is_empty() && ended.as_str() <= boot => "over".into(),
            other => format!("{other:?}"),
        })
    })
}

fn missing_driver(world: &mut World, steps: &mut Steps) -> Result<()> {
    let payload = "irrigation";
    let (repo, now, next) = prepare(world, payload, &settings(payload, 3, &["ready_within_s = 30"]))?;
    steps.must("a firmware without the driver of the payload's lines", || {
        world.vm.put(FAULTS, 0o644, format!("{next} driverless\n").as_bytes())?;
        offer(world, &repo, &now, next)
    })?;
    let vm = &mut world.vm;
    steps.step("the firmware is undone", "rolled_back: payload_failed", || vm.firmware_verdict(next))?;
    steps.step("the history names the payload", "named", || {
        let message = vm.firmware_attempt(next)?.map(|a| a.message).unwrap_or_default();
        Ok(if message.contains(payload) { "named".into() } else { message })
    })?;
    steps.step("the old one runs", "committed", || vm.wait_firmware(&now).map(|_| "committed".into()))?;
    steps.step("and with it the payload", "1.0.0 running, healthy", || vm.wait_running(payload, "1.0.0"))
}

/// How often that version was booted, as the boots tell.
pub(super) fn boots_of(vm: &mut Vm, version: &str) -> Result<usize> {
    let log = vm.sh("cat /data/qemu-tests/boots 2>/dev/null || true")?;
    Ok(log.lines().filter(|line| line.split(' ').next() == Some(version)).count())
}

fn dead_ends(world: &mut World, steps: &mut Steps) -> Result<()> {
    // Each dead end costs a boot of one and the same trial.
    let ends = 7;
    let (repo, now, next) = prepare(world, COUNTER, &settings(COUNTER, ends, &[]))?;
    let release = release(world, next)?;
    let other = if world.vm.firmware()?.slot == "a" { "b" } else { "a" };
    let esp = world.built.firmware(next).join("esp.img");
    let image = fs::read(&esp).map_err(Error::file("read", &esp))?;
    let uki =
        image.windows(4).step_by(512).position(|head| head == b"MZ\x90\0" || &head[..2] == b"MZ").unwrap_or(0) * 512;
    // Close before the end of the data: the daemons. Behind the data: the superblock of the tree of hashes.
    let (daemons, tree) = (release.verity.hash_offset - 1_200 * 1024, release.verity.hash_offset);
    let faults = format!(
        "{next} panic\n{next} emergency\n{next} hang\n{next} no-judge\n\
         {now} alter root-{other} {daemons}\n{now} none\n\
         {now} restore root-{other} {daemons}\n{now} alter root-{other} {tree}\n{now} none\n\
         {now} restore root-{other} {tree}\n{now} alter esp-{other} {uki}\n{now} none\n"
    );
    // Between the four faults of the new one, the old one has none.
    steps.must("a firmware with seven dead ends is published", || {
        world.vm.put(FAULTS, 0o644, faults.as_bytes())?;
        offer(world, &repo, &now, next)
    })?;
    let vm = &mut world.vm;
    steps.step("every boot of it is lost, and it is given up", "rolled_back: boot_failed", || {
        vm.firmware_verdict(next)
    })?;
    steps.step("the old one runs", "committed", || vm.wait_firmware(&now).map(|_| "committed".into()))?;
    steps
        .step("after each dead end the old one came back", &ends.to_string(), || Ok(boots_of(vm, &now)?.to_string()))?;
    let log = vm.serial_log();
    let console = fs::read(&log).map_err(Error::file("read", &log))?;
    let console = String::from_utf8_lossy(&console).into_owned();
    for (what, words) in [
        ("the panic", "sysrq triggered crash"),
        ("the emergency", "boot failed; rebooting"),
        ("the trial that nobody judged", "the firmware trial was not decided in time"),
        ("the altered root file system", "is corrupted"),
        ("the initrd that cannot open it", "does not verify; rebooting"),
        ("the kernel image that UEFI cannot load", "BdsDxe: failed to load"),
    ] {
        steps.step(&format!("the console has {what}"), "yes", || {
            Ok(if console.contains(words) { "yes" } else { "no" }.into())
        })?;
    }
    steps.step("the hang was ended by the hardware's watchdog, without a word of the kernel", "reset", || {
        let after = console.split("fault: hang").nth(1).unwrap_or_default();
        let rest = after.split("BdsDxe").next().unwrap_or_default();
        let orderly = rest.contains("reboot: ") || rest.contains("Kernel panic") || after.len() == rest.len();
        Ok(if orderly { rest.to_owned() } else { "reset".into() })
    })?;
    steps.step("the payload runs", "1.0.0 running, healthy", || vm.wait_running(COUNTER, "1.0.0"))
}

fn power_cuts(world: &mut World, steps: &mut Steps) -> Result<()> {
    let cuts = std::env::var("IOTWASM_POWER_CUTS").ok().and_then(|n| n.parse().ok()).unwrap_or(10);
    let (repo, now, next) = prepare(world, COUNTER, &settings(COUNTER, 10, &[]))?;
    let mut random = Random::from_environment();
    println!("  (IOTWASM_SEED={})", random.seed());
    offer(world, &repo, &now, next)?;
    for cut in 0..cuts {
        let moment = random.within(LONGEST_LIFE, cut % 10, 10);
        let vm = &mut world.vm;
        // Not for a condition: the moment is what is random here.
        sleep(moment);
        let doing =
            vm.glance_call::<OtaStatus>("GetStatus", &json!({})).map_or_else(|_| "booting".to_owned(), |s| s.activity);
        let name = format!("power cut {} of {cuts} after {:.0} s ({doing})", cut + 1, moment.as_secs_f64());
        steps.must(&name, || {
            vm.power_cut()?;
            vm.power_on(&crate::vm::BootOptions::default())
        })?;
    }
    let vm = &mut world.vm;
    steps.step("the update ends well", "committed", || vm.wait_firmware(next).map(|_| "committed".into()))?;
    steps.step("RAUC agrees", "good", || Ok(rauc_says(vm)?.rsplit(", ").next().unwrap_or_default().to_owned()))?;
    steps.step("the payload runs", "1.0.0 running, healthy", || vm.wait_running(COUNTER, "1.0.0"))
}

/// Longest time from power to its next cut: a boot, an installation, the boot after it.
const LONGEST_LIFE: Duration = Duration::from_secs(80);

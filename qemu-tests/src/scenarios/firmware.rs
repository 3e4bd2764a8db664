//! Updates of the firmware itself: RAUC, boot slots, trials over reboots, and every way in which they go wrong.

use std::fs;
use std::thread::sleep;
use std::time::Duration;

use serde_json::{Value, json};

use super::Scenario;
use super::boot::{IMA_LOG, as_predicted, release};
use super::forge::sha256;
use crate::device::{FIRMWARE_LIMIT, OtaStatus, SETTLE_LIMIT, Settings};
use crate::error::{Error, Result};
use crate::random::Random;
use crate::repo::{COMPATIBLE, Release, Repo};
use crate::server::Fault;
use crate::steps::Steps;
use crate::uefi::Uefi;
use crate::vm::Vm;
use crate::wait::{Look, until};
use crate::world::{COUNTER, World};

/// Two updates and a withdrawal.
pub(crate) const UPDATE: Scenario = Scenario {
    name: "firmware-update",
    about: "a fresh device takes two firmware updates in a row, each measured as predicted, and goes back from one withdrawn",
    run: update,
};

/// A firmware with a daemon that stops answering, and a bad payload beside it.
pub(crate) const UNWELL: Scenario = Scenario {
    name: "firmware-unwell",
    about: "a bad payload, and a firmware with a daemon that hangs: both are undone, each for its own reason",
    run: unwell,
};

/// A firmware that lacks what a payload needs.
pub(crate) const MISSING_DRIVER: Scenario = Scenario {
    name: "firmware-missing-driver",
    about: "a payload that only the old firmware can run takes the new one back",
    run: missing_driver,
};

/// A firmware without a network.
pub(crate) const UNREACHABLE: Scenario = Scenario {
    name: "firmware-unreachable",
    about: "a payload may delay the restart so long and no longer; a firmware without a network is undone",
    run: unreachable,
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
pub(super) const VERSIONS: [&str; 2] = ["1.1.0", "1.2.0"];
/// The file in the device with the faults to come.
const FAULTS: &str = "/data/qemu-tests/faults";

/// Settings of a device that tries firmware quickly; `more` comes before what is usual here.
pub(super) fn settings(payload: &str, boots: u32, more: &[&str]) -> Settings {
    let key = |line: &str| line.split(" = ").next().unwrap_or_default().to_owned();
    let usual = [format!("trial_boots = {boots}"), "confirmation_s = 5".to_owned(), "server_within_s = 300".to_owned()];
    let usual = usual.into_iter().filter(|line| !more.iter().any(|given| key(given) == key(line)));
    let given = more.iter().map(|&line| line.to_owned());
    let lines = std::iter::once("[firmware]".to_owned()).chain(given).chain(usual).collect();
    Settings { more: lines, ..Settings::of(payload) }
}

/// A device with a payload committed, and the two versions that come next: the one that runs, and the one to publish.
pub(super) fn prepare(world: &mut World, payload: &str, settings: &Settings) -> Result<(Repo, String, &'static str)> {
    let repo = world.begin(settings)?;
    world.vm.sh("rm -f /data/qemu-tests/faults /data/qemu-tests/boots /data/qemu-tests/ends")?;
    repo.publish(&Release::new(payload, payload, "1.0.0"))?;
    world.vm.expect_verdict(payload, "1.0.0", "committed")?;
    let now = world.vm.firmware()?.version;
    let next = if now == VERSIONS[0] { VERSIONS[1] } else { VERSIONS[0] };
    Ok((repo, now, next))
}

/// Publishes a version so that a device with `now` takes it: if it is not newer, `now` is withdrawn.
pub(super) fn offer(world: &World, repo: &Repo, now: &str, next: &str) -> Result<()> {
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
        steps.step("its journal was copied until then, and no longer", &format!("firmware {version}"), || {
            until("the end of the copy", FIRMWARE_LIMIT, || {
                let unit = vm.exec(&["systemctl", "is-active", "iotwasm-trial-journal.service"])?;
                Ok(if unit.stdout.trim() == "inactive" { Look::Is(()) } else { Look::NotYet(unit.stdout) })
            })?;
            Ok(trial_journals(vm, &format!("firmware {version} trial: in trial"))?.join(", "))
        })?;
        as_predicted(vm, steps, &release, false)?;
        pcr11.push(release.pcr11("sysinit:ready").map(|digest| digest.to_string()));
        steps.step("the payload runs on it", "1.0.0 running, healthy", || vm.wait_running(COUNTER, "1.0.0"))?;
        steps.step("IMA has it by its hash", "1", || {
            let hash = sha256(&Repo::target_in(&repo.served(), COUNTER, "1.0.0")?)?;
            let entry = format!(" sha256:{hash} /data/iotwasm/payloads/{COUNTER}/");
            let log = vm.get(IMA_LOG)?;
            Ok(String::from_utf8_lossy(&log).matches(&entry).count().to_string())
        })?;
        // The first brings another version and nothing else: what changes with each release must move nothing, and nobody but
        // RAUC may read the bundle as it is streamed. The second has another byte in one daemon.
        let limit = if version == VERSIONS[0] { 5 } else { 15 };
        steps.step(&format!("not more than {limit} % of the bundle was fetched"), "little", || {
            let fetched = world.server.sent(".raucb");
            println!("    ({fetched} of {bundle} bytes)");
            let little = fetched > 0 && fetched * 100 <= bundle * limit;
            Ok(if little { "little".into() } else { format!("{fetched} of {bundle} bytes") })
        })?;
    }
    // The last one differs from the one before in one byte of capd, and in its version. That the byte alone changes PCR 11 is
    // for the tests of iotwasm-release.
    steps.step("PCR 11 tells the one from the other", "different", || {
        Ok(if pcr11[0] == pcr11[1] { "the same" } else { "different" }.into())
    })?;
    let (old, new) = (release(world, VERSIONS[0])?, release(world, VERSIONS[1])?);
    steps.step("IMA knows the daemon with another byte by its new hash", "the new one", || {
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
pub(super) fn rauc_says(vm: &mut Vm) -> Result<String> {
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

fn unwell(world: &mut World, steps: &mut Steps) -> Result<()> {
    // Longer than the 6 s after which systemd takes capd for dead there.
    let confirmation = "confirmation_s = 10";
    let (repo, now, next) = prepare(world, COUNTER, &settings(COUNTER, 3, &["ready_within_s = 30", confirmation]))?;
    steps.must("a firmware whose capd stops answering, and a payload that fails its self-test", || {
        world.vm.put(FAULTS, 0o644, format!("{next} deaf\n").as_bytes())?;
        repo.publish(&Release::new("fails-self-test", COUNTER, "1.1.0"))?;
        offer(world, &repo, &now, next)
    })?;
    let vm = &mut world.vm;
    steps.step("the firmware is undone", "rolled_back: daemon_not_ready", || vm.firmware_verdict(next))?;
    steps.step("the daemon's watchdog had seen it", "capd.service: Watchdog timeout (limit 6s)!", || {
        Ok(vm.sh("cat /data/qemu-tests/ends")?.trim().to_owned())
    })?;
    steps.step("the journal of its boot has outlived it, to the reason", &format!("firmware {next}"), || {
        Ok(trial_journals(vm, "this firmware is undone: daemon_not_ready")?.join(", "))
    })?;
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
    // UEFI then starts slot a, in which here is what was undone, if an update went into slot b before.
    let slot = vm.firmware()?.slot;
    steps.must(&format!("the EFI variables are lost, while slot {slot} runs"), || {
        vm.power_cut()?;
        vm.lose_variables()?;
        vm.power_on(&crate::vm::BootOptions::default())
    })?;
    steps.step("what was kept runs", &format!("{now} in slot {slot}"), || {
        let runs = vm.wait_firmware(&now)?;
        Ok(format!("{} in slot {runs}", vm.firmware()?.version))
    })?;
    let boots = if slot == "b" { 2 } else { 1 };
    steps.step("slot a was started first, whatever is in it", &format!("{boots} boots of {next}"), || {
        Ok(format!("{} boots of {next}", boots_of(vm, next)?))
    })?;
    steps.step("RAUC agrees", &format!("booted slot-{slot}, next slot-{slot}, good"), || rauc_says(vm))?;
    steps.step("its payload runs", "1.0.0 running, healthy", || vm.wait_running(COUNTER, "1.0.0"))
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

fn unreachable(world: &mut World, steps: &mut Steps) -> Result<()> {
    let payload = "clings";
    let rules = ["delay_max_s = 20", "server_within_s = 30"];
    let (repo, now, next) = prepare(world, payload, &settings(payload, 3, &rules))?;
    steps.must("a firmware without the driver of the network, and a payload that always asks for an hour", || {
        world.vm.put(FAULTS, 0o644, format!("{next} offline\n").as_bytes())?;
        offer(world, &repo, &now, next)
    })?;
    let vm = &mut world.vm;
    let asks = "payload clings, which asks not to be interrupted";
    steps.step("the restart waits for the payload", asks, || waits_for(vm, asks))?;
    let undone = "rolled_back: server_unreachable";
    steps.step("but not longer than configured, and the firmware is undone", undone, || vm.firmware_verdict(next))?;
    steps.step("after one boot", "1", || Ok(boots_of(vm, next)?.to_string()))?;
    steps.step("the old one runs", "committed", || vm.wait_firmware(&now).map(|_| "committed".into()))?;
    steps.step("it has its network", "reached", || {
        vm.wait_checks(&world.server, 1)?;
        let error = vm.ota_status()?.last_error;
        Ok(if error.is_empty() { "reached".into() } else { error })
    })?;
    steps.step("and with it the payload", "1.0.0 running, healthy", || vm.wait_running(payload, "1.0.0"))
}

/// Waits until the firmware waits for that.
pub(super) fn waits_for(vm: &mut Vm, what: &str) -> Result<String> {
    until(&format!("the firmware to wait for {what:?}"), SETTLE_LIMIT, || {
        let firmware = vm.firmware()?;
        Ok(if firmware.waiting_for == what {
            Look::Is(firmware.waiting_for)
        } else {
            Look::NotYet(format!("{firmware:?}"))
        })
    })
}

/// The firmware of each of the last boots in a trial whose journal has these words.
fn trial_journals(vm: &mut Vm, words: &str) -> Result<Vec<String>> {
    let firsts =
        vm.sh(&format!("for log in $(grep -l '{words}' /data/iotwasm/trials/*.log); do head -n 1 $log; done"))?;
    Ok(firsts.lines().map(|line| line.split(" in slot-").next().unwrap_or_default().to_owned()).collect())
}

/// Where an ESP has its kernel image: the only file in it, in one piece.
pub(super) fn uki_offset(esp: &[u8]) -> Result<usize> {
    let sectors = esp.windows(2).step_by(512);
    let found = sectors.enumerate().find(|(_, head)| head == b"MZ").map(|(sector, _)| sector * 512);
    found.ok_or_else(|| Error::Unreadable { what: "an ESP", text: "it has no kernel image".into() })
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
    let uki = uki_offset(&image)?;
    // Close before the end of the data: the daemons. Behind the data: the superblock of the tree of hashes.
    let (daemons, tree) = (release.verity.hash_offset - 1_200 * 1024, release.verity.hash_offset);
    let faults = format!(
        "{next} newer\n{next} panic\n{next} emergency\n{next} hang\n{next} no-judge\n\
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
    // The boots after these may have come far enough to leave one, or not.
    for (boot, words) in [
        ("hung", "fault: hang"),
        ("nobody judged", "the firmware trial was not decided in time"),
        ("was an emergency", "boot failed; rebooting"),
    ] {
        steps.step(
            &format!("the journal of the boot that {boot} has outlived it"),
            &format!("firmware {next}"),
            || Ok(trial_journals(vm, words)?.join(", ")),
        )?;
    }
    steps.step("what newer firmware wrote into the states is still in them", "2 files", || {
        let files =
            vm.sh("grep -l '\"region\": \"eu\"' /data/iotwasm/ota/firmware.json /data/iotwasm/payloads/*/state.json")?;
        Ok(format!("{} files", files.lines().count()))
    })?;
    steps.step("the payload runs", "1.0.0 running, healthy", || vm.wait_running(COUNTER, "1.0.0"))
}

/// While it is installed.
const INSTALLING: &str = "installing";
/// From the order to restart until the confirmation period.
const FIRST_BOOT: &str = "first boot";
/// The old firmware runs, and nothing is installed.
const BETWEEN: &str = "between";

/// Power cuts in one update, the last of them in its first boots, of which each costs two: the old firmware comes between.
const ROUND: u32 = 10;
/// The one while it is installed that takes the EFI variables along; so does the first of the first boots.
const LOST: u32 = 1;
/// How many of them are for the first boots.
const IN_BOOTS: u32 = 3;

fn power_cuts(world: &mut World, steps: &mut Steps) -> Result<()> {
    let mut left = std::env::var("IOTWASM_POWER_CUTS").ok().and_then(|n| n.parse().ok()).unwrap_or(ROUND);
    let mut random = Random::from_environment();
    println!("  (IOTWASM_SEED={})", random.seed());
    while left > 0 {
        let cuts = left.min(ROUND);
        cut_update(world, steps, &mut random, cuts)?;
        left -= cuts;
    }
    Ok(())
}

/// One update with that many power cuts.
fn cut_update(world: &mut World, steps: &mut Steps, random: &mut Random, cuts: u32) -> Result<()> {
    // From the factory: no slot has blocks of the new firmware already, which would make the installation short.
    world.replace_device(Uefi::Plain)?;
    // Longer than the longest wait for a cut: the update is not over before the cuts are.
    let settings = settings(COUNTER, 10, &["confirmation_s = 45"]);
    let (repo, now, next) = prepare(world, COUNTER, &settings)?;
    // Slow enough for most of the cuts to come before it is installed.
    world.server.set_fault_for(Fault::Slow(75_000), Some(".raucb"));
    offer(world, &repo, &now, next)?;
    let installs = cuts.saturating_sub(IN_BOOTS).max(cuts.div_ceil(2));
    let mut seen = Vec::new();
    for cut in 0..cuts {
        let wanted = if cut < installs { INSTALLING } else { FIRST_BOOT };
        if cut == installs {
            world.server.set_fault(Fault::None);
        }
        let vm = &mut world.vm;
        let phase = wait_for_phase(vm, next, wanted)?;
        let moment = match phase {
            INSTALLING => random.within(INSTALL, cut, installs),
            _ => random.within(BOOT, cut.saturating_sub(installs), cuts - installs),
        };
        // Not for a condition: the moment is what is random here.
        sleep(moment);
        let phase = phase_now(vm, next, phase);
        // The machine's battery is empty, too: the boot order is gone, and who was to be next.
        let is_lost = cut == LOST || cut == installs;
        let with = if is_lost { ", and the EFI variables are lost" } else { "" };
        let name = format!("power cut {} of {cuts}: {phase}, after {:.0} s{with}", cut + 1, moment.as_secs_f64());
        steps.must(&name, || {
            vm.power_cut()?;
            if is_lost {
                vm.lose_variables()?;
            }
            vm.power_on(&crate::vm::BootOptions::default())
        })?;
        seen.push(phase);
    }
    let vm = &mut world.vm;
    steps.step("the update ends well", "committed", || vm.wait_firmware(next).map(|_| "committed".into()))?;
    steps.step("both were cut: installations and first boots", "both", || {
        let of = |wanted| seen.iter().filter(|phase| **phase == wanted).count();
        let (installs, boots) = (of(INSTALLING), of(FIRST_BOOT));
        let enough = cuts < ROUND || (installs >= 3 && boots >= 2);
        Ok(if enough { "both".into() } else { format!("{installs} and {boots}") })
    })?;
    steps.step("the boot entries were made anew", "slot-a slot-b", || {
        let entries = vm.sh("efibootmgr | sed -n 's/^Boot....[* ] *\\(slot-[ab]\\).*/\\1/p' | sort | xargs")?;
        Ok(entries.trim().to_owned())
    })?;
    steps.step("RAUC agrees", "good", || Ok(rauc_says(vm)?.rsplit(", ").next().unwrap_or_default().to_owned()))?;
    steps.step("the payload runs", "1.0.0 running, healthy", || vm.wait_running(COUNTER, "1.0.0"))
}

/// Waits until the update is that far, or further; gives which.
fn wait_for_phase(vm: &mut Vm, next: &str, phase: &'static str) -> Result<&'static str> {
    until(&format!("the update to be in the phase {phase}"), FIRMWARE_LIMIT, || {
        let status = vm.glance_call::<OtaStatus>("GetStatus", &json!({}))?;
        if let Some(undone) = status.firmware.as_ref().and_then(|firmware| firmware.undone(next)) {
            return Ok(Look::Is(Err(undone)));
        }
        Ok(match status.activity.as_str() {
            "installing_firmware" if phase == INSTALLING => Look::Is(Ok(INSTALLING)),
            "rebooting" => Look::Is(Ok(FIRST_BOOT)),
            _ if runs(&status, next) => Look::Is(Ok(FIRST_BOOT)),
            other => Look::NotYet(other.to_owned()),
        })
    })?
}

fn runs(status: &OtaStatus, version: &str) -> bool {
    status.firmware.as_ref().is_some_and(|firmware| firmware.version == version)
}

/// What the power is about to be cut in, some time after that phase.
fn phase_now(vm: &mut Vm, next: &str, before: &'static str) -> &'static str {
    match vm.glance_call::<OtaStatus>("GetStatus", &json!({})) {
        Ok(status) if status.activity == "installing_firmware" => INSTALLING,
        Ok(status) if status.activity == "rebooting" || runs(&status, next) => FIRST_BOOT,
        Ok(_) => BETWEEN,
        // It does not answer: it boots, if it was about to.
        Err(_) if before == FIRST_BOOT => FIRST_BOOT,
        Err(_) => BETWEEN,
    }
}

/// About as long as an installation takes here.
const INSTALL: Duration = Duration::from_secs(18);
/// About as long as a restart takes here, to the beginning of the confirmation period.
const BOOT: Duration = Duration::from_secs(40);

//! When a firmware update may happen: maintenance windows, the battery, and payloads that ask not to be interrupted.

use serde_json::{Value, json};

use super::Scenario;
use super::firmware::{VERSIONS, offer, prepare, rauc_says, settings, waits_for};
use crate::device::{FIRMWARE_LIMIT, SETTLE_LIMIT, Settings};
use crate::error::Result;
use crate::repo::{Release, Repo};
use crate::steps::Steps;
use crate::vm::Vm;
use crate::wait::{Look, until};
use crate::world::World;

/// A device that has better things to do than to restart.
pub(crate) const WHEN: Scenario = Scenario {
    name: "firmware-when",
    about: "an update waits for its window, for power, for payloads; then it goes through; one withdrawn as it waits is given up",
    run: when,
};

/// The payload that asks for 20 s after its start.
const HOLDS: &str = "holds";
/// The payload's trial, longer than an installation of firmware takes.
const PAYLOAD_TRIAL_S: u64 = 120;

fn when(world: &mut World, steps: &mut Steps) -> Result<()> {
    world.ensure_booted()?;
    let closed = closed_window(&mut world.vm)?;
    let (repo, now, next) = prepare(world, HOLDS, &settings(HOLDS, 1, &[&format!("windows = [\"{closed}\"]")]))?;
    on_battery(&mut world.vm)?;
    world.server.forget();
    offer(world, &repo, &now, next)?;
    steps.step(&format!("outside its window ({closed}) the device waits"), "a maintenance window", || {
        waits_for(&mut world.vm, "a maintenance window")
    })?;
    battery(&mut world.vm, 20)?;
    world.vm.adjust(&settings(HOLDS, 1, &[]))?;
    let low = "power: the battery has 20 %, and 30 % are needed";
    steps.step("without a window it waits for power", low, || waits_for(&mut world.vm, low))?;
    steps.step("nothing was fetched so far, and nothing is installed", "0 bytes, \"\"", || {
        Ok(format!("{} bytes, {:?}", world.server.sent(".raucb"), world.vm.firmware()?.installed))
    })?;
    steps.must("a payload begins a trial, and the battery is charged", || {
        let tries = Settings { confirmation_s: PAYLOAD_TRIAL_S, ..settings(HOLDS, 1, &[]) };
        world.vm.adjust(&tries)?;
        repo.publish(&Release::new(HOLDS, HOLDS, "1.1.0"))?;
        until("the payload's trial", SETTLE_LIMIT, || {
            let tried = world.vm.history()?.into_iter().find(|a| a.level == "payload" && a.version == "1.1.0");
            let outcome = tried.map(|attempt| attempt.outcome).unwrap_or_default();
            Ok(if outcome == "trial" { Look::Is(()) } else { Look::NotYet(outcome) })
        })?;
        battery(&mut world.vm, 80)
    })?;
    let trial = "the trial of a payload";
    steps.step("firmware is installed, and its boot waits for the end of the trial", trial, || {
        waits_for(&mut world.vm, trial)
    })?;
    steps.must("the battery runs low", || battery(&mut world.vm, 10))?;
    steps.step("the payload is kept", "committed", || world.vm.verdict(HOLDS, "1.1.0"))?;
    let low = "power: the battery has 10 %, and 30 % are needed";
    steps.step("what is installed waits for power", low, || waits_for(&mut world.vm, low))?;
    steps.step("it is told as installed", next, || Ok(world.vm.firmware()?.installed))?;
    steps.must("a payload asks for time, and the device is plugged in", || {
        world.vm.sh("systemctl restart wasm-supervisord.service")?;
        until("the payload's wish", SETTLE_LIMIT, || {
            let status: Value = world.vm.call("supervisor", "io.iotwasm.Supervisor.GetStatus", &json!({}))?;
            let hold = status["payloads"][0]["hold_s"].as_i64().unwrap_or(0);
            Ok(if hold > 0 { Look::Is(()) } else { Look::NotYet(status.to_string()) })
        })?;
        plugged_in(&mut world.vm)
    })?;
    let asks = "payload holds, which asks not to be interrupted";
    steps.step("the restart waits for the payload", asks, || waits_for(&mut world.vm, asks))?;
    steps.step("then it comes, and the firmware is kept", "committed", || world.vm.firmware_verdict(next))?;
    steps.step("the payload runs on it", "1.1.0 running, healthy", || world.vm.wait_running(HOLDS, "1.1.0"))?;
    withdrawn(world, steps, &repo, next)?;
    // For whatever comes next on this device.
    plugged_in(&mut world.vm)?;
    world.vm.configure(&Settings::of(HOLDS))
}

/// What is withdrawn while it waits for its boot is not booted any more, and the bootloader knows.
fn withdrawn(world: &mut World, steps: &mut Steps, repo: &Repo, now: &str) -> Result<()> {
    let next = if now == VERSIONS[0] { VERSIONS[1] } else { VERSIONS[0] };
    let slot = world.vm.firmware()?.slot;
    let low = "power: the battery has 10 %, and 30 % are needed";
    steps.step("the battery runs low while the next one is installed, whose boot waits", low, || {
        on_battery(&mut world.vm)?;
        world.vm.sh(
            "systemd-run --quiet --unit=qemu-monitor sh -c 'exec iotwasm device monitor >/data/qemu-tests/monitor.log'",
        )?;
        offer(world, repo, now, next)?;
        until("the installation", FIRMWARE_LIMIT, || {
            let activity = world.vm.ota_status()?.activity;
            Ok(if activity == "installing_firmware" { Look::Is(()) } else { Look::NotYet(activity) })
        })?;
        battery(&mut world.vm, 10)?;
        waits_for(&mut world.vm, low)
    })?;
    steps.step("the field engineer sees how far it is, in percent and in RAUC's words", "on its way", || {
        let log = world.vm.sh("systemctl stop qemu-monitor.service; cat /data/qemu-tests/monitor.log")?;
        let percents = log.lines().filter_map(|line| line.split(" %: ").next()?.rsplit(' ').next()?.parse::<u8>().ok());
        let on_its_way = percents.filter(|percent| (1..100).contains(percent)).count();
        Ok(if on_its_way > 0 && log.contains("Updating slot") { "on its way".into() } else { log })
    })?;
    let other = if slot == "a" { "b" } else { "a" };
    let primary = |vm: &mut Vm| {
        let said = rauc_says(vm)?;
        Ok(said.rsplit_once(", ").map_or(said.clone(), |(slots, _)| slots.to_owned()))
    };
    let vm = &mut world.vm;
    steps.step("RAUC has it as the next", &format!("booted slot-{slot}, next slot-{other}"), || primary(vm))?;
    steps.must("it is withdrawn", || repo.withdraw_firmware(next, "found bad before anybody had it"))?;
    steps.step("it is given up", "rolled_back: withdrawn", || vm.firmware_verdict(next))?;
    steps.step("RAUC stays with what runs", &format!("booted slot-{slot}, next slot-{slot}"), || primary(vm))
}

/// A device that has its charger again.
fn plugged_in(vm: &mut Vm) -> Result<()> {
    vm.sh("echo on >/sys/module/test_power/parameters/ac_online").map(drop)
}

/// A device that has only its battery, and that well charged.
fn on_battery(vm: &mut Vm) -> Result<()> {
    vm.sh("modprobe -r test_power; modprobe test_power ac_online=off usb_online=off")?;
    battery(vm, 80)
}

/// A window that begins in two hours and lasts one.
fn closed_window(vm: &mut Vm) -> Result<String> {
    let hour: u32 = vm.sh("date -u +%H")?.trim().parse().unwrap_or(0);
    Ok(format!("{:02}:00-{:02}:00", (hour + 2) % 24, (hour + 3) % 24))
}

fn battery(vm: &mut Vm, percent: u32) -> Result<()> {
    vm.sh(&format!("echo {percent} >/sys/module/test_power/parameters/battery_capacity")).map(drop)
}

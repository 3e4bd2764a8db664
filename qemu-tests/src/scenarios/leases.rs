//! What becomes of leases when something goes away: a sensor, a payload, capd itself.

use std::thread::sleep;
use std::time::Duration;

use super::Scenario;
use super::capabilities::{install, says, settings};
use super::hardware::{level, number, replug, sh, unplug};
use crate::device::SETTLE_LIMIT;
use crate::error::Result;
use crate::random::Random;
use crate::repo::{Release, Repo};
use crate::steps::Steps;
use crate::vm::Vm;
use crate::wait::{Look, until};
use crate::world::World;

/// Leases end, and begin anew.
pub(super) const LEASES: Scenario = Scenario {
    name: "leases",
    about: "a sensor unplugged, payloads and capd killed: payloads go on, actuators are safe, rates hold",
    run: |world, steps| {
        let repo = install(world, steps, &TENANTS)?;
        sensor_gone(&mut world.vm, steps)?;
        pump(&mut world.vm, steps)?;
        capd_killed(world, &repo, steps)
    },
};

/// What runs all the time.
const TENANTS: [&str; 3] = ["climate", "c-humidity", "irrigation"];
/// What keeps capd busy while it is killed.
const LOAD: &str = "hammers";
/// The pump's writes at once, and in each minute: the board's numbers.
const BURST: u64 = 2;
const PER_MINUTE: u64 = 6;
/// How often capd is killed.
const KILLS: u32 = 4;

/// Each tenant's process and how often it was started.
fn processes(vm: &mut Vm, ids: &[&str]) -> Result<String> {
    let all = vm.payloads()?;
    let of = |id: &&str| all.iter().find(|p| p.payload == *id).map(|p| format!("{id} {} ({} starts)", p.pid, p.starts));
    Ok(ids.iter().filter_map(of).collect::<Vec<_>>().join(", "))
}

fn sensor_gone(vm: &mut Vm, steps: &mut Steps) -> Result<()> {
    let before = processes(vm, &TENANTS)?;
    steps.must("the sensor is unplugged", || unplug(vm))?;
    for id in ["climate", "c-humidity"] {
        steps.step(&format!("{id}: says so, and goes on"), "degraded", || health(vm, id, "degraded"))?;
    }
    steps.step("capd says that it is not there", "not there", || {
        let thing = vm.thing("sensors", "climate")?;
        Ok(if thing.present || thing.message.is_empty() { format!("{thing:?}") } else { "not there".into() })
    })?;
    steps.must("it is back", || replug(vm))?;
    for id in ["climate", "c-humidity"] {
        steps.step(&format!("{id}: reads again"), "healthy", || health(vm, id, "healthy"))?;
    }
    steps.step("nobody was started again", &before, || processes(vm, &TENANTS))
}

/// The pump's safe value and its rate, over crashes of the payload that has it and of capd.
fn pump(vm: &mut Vm, steps: &mut Steps) -> Result<()> {
    let (from, writes) = (seconds(vm)?, pump_writes(vm)?);
    for (who, unit) in [("its payload", None), ("capd", Some("capd.service"))] {
        steps.step("the pump runs", "1", || pump_level(vm, "1"))?;
        steps.step(&format!("{who} is killed: the pump is at its safe value"), "0", || {
            match unit {
                Some(unit) => vm.sh(&format!("systemctl kill -s KILL {unit}"))?,
                None => {
                    let pid = vm.payload("irrigation")?.map_or(0, |payload| payload.pid);
                    vm.sh(&format!("kill -9 {pid}"))?
                }
            };
            pump_level(vm, "0")
        })?;
        steps.step("capd said that it did this", "yes", || {
            until("capd's word", SETTLE_LIMIT, || {
                let line = sh(vm, "journalctl --no-pager -q -o cat -u capd | grep -v '^session\\|denied' | tail -n 8")?;
                let said = line.contains("actuators.pump was set to its safe value 0");
                Ok(if said { Look::Is("yes".into()) } else { Look::NotYet(line) })
            })
        })?;
    }
    steps.step("and it runs again, for irrigation goes on", "1", || pump_level(vm, "1"))?;
    steps.step("over both, it was written no more often than it may be", "yes", || {
        let (now, passed) = (seconds(vm)?, pump_writes(vm)? - writes);
        let most = BURST + (now - from + 1) * PER_MINUTE / 60 + 1;
        Ok(if passed <= most { "yes".into() } else { format!("{passed} in {} s", now - from) })
    })
}

/// capd is killed again and again while payloads use it as fast as they can.
fn capd_killed(world: &mut World, repo: &Repo, steps: &mut Steps) -> Result<()> {
    let mut all = TENANTS.to_vec();
    all.push(LOAD);
    world.vm.adjust(&settings(&all))?;
    repo.publish(&Release::new(LOAD, LOAD, "1.0.0"))?;
    let vm = &mut world.vm;
    steps.step(&format!("{LOAD}: it is installed and kept"), "committed", || vm.verdict(LOAD, "1.0.0"))?;
    steps.step(&format!("{LOAD}: it runs"), "1.0.0 running, healthy", || vm.wait_running(LOAD, "1.0.0"))?;
    let before = processes(vm, &all)?;
    let mut random = Random::from_environment();
    println!("  (IOTWASM_SEED={})", random.seed());
    for round in 0..KILLS {
        let restarts = format!("{} restarts", restarts(vm)? + 1);
        steps.step("capd is killed while it is busy, and is back", &restarts, || {
            // Not for a condition: the moment is what is random here.
            sleep(random.within(Duration::from_secs(2), 0, 1));
            vm.sh("systemctl kill -s KILL capd.service")?;
            until("capd", SETTLE_LIMIT, || {
                let state = sh(vm, "systemctl is-active capd.service || true")?;
                let now = format!("{} restarts", self::restarts(vm)?);
                Ok(if state == "active" && now == restarts { Look::Is(now) } else { Look::NotYet(state) })
            })
        })?;
        steps.step(&format!("round {}: every payload has a session again", round + 1), "all claimed", || {
            until("the sessions", SETTLE_LIMIT, || {
                let sessions = vm.sessions()?;
                let has = |id: &&str| sessions.iter().any(|session| session.payload == **id && session.claimed);
                let missing: Vec<&str> = all.iter().copied().filter(|id| !has(id)).collect();
                Ok(if missing.is_empty() { Look::Is("all claimed".into()) } else { Look::NotYet(missing.join(", ")) })
            })
        })?;
        for id in &all {
            steps.step(&format!("{id}: goes on"), "healthy", || health(vm, id, "healthy"))?;
        }
    }
    steps.step(&format!("{LOAD}: it was in the middle of its work, and counted what was away"), "yes", || {
        let said = vm.payload(LOAD)?.map(|payload| payload.message).unwrap_or_default();
        let counts: Vec<u64> = said.split_whitespace().filter_map(|word| word.parse().ok()).collect();
        Ok(if matches!(counts.as_slice(), [done, away] if *done > 0 && *away > 0) { "yes".into() } else { said })
    })?;
    steps.step("climate: what it reads is right", "25.08 °C", || {
        says(vm, "climate", "25.08 °C").map(|said| said.split(',').next().unwrap_or_default().to_owned())
    })?;
    steps.step("nobody was started again", &before, || processes(vm, &all))
}

/// Waits until a payload feels so and runs.
fn health(vm: &mut Vm, id: &str, wanted: &str) -> Result<String> {
    until(&format!("{id} to be {wanted}"), SETTLE_LIMIT, || {
        let Some(payload) = vm.payload(id)? else { return Ok(Look::NotYet("not there".into())) };
        let is = payload.phase == "running" && payload.health == wanted;
        Ok(if is { Look::Is(payload.health) } else { Look::NotYet(format!("{}: {}", payload.health, payload.message)) })
    })
}

fn pump_level(vm: &mut Vm, wanted: &str) -> Result<String> {
    until(&format!("the pump at {wanted}"), SETTLE_LIMIT, || {
        let seen = level(vm, "pump")?;
        Ok(if seen == wanted { Look::Is(seen) } else { Look::NotYet(seen) })
    })
}

/// Writes of the pump that passed, by irrigation's own words: they outlive capd.
fn pump_writes(vm: &mut Vm) -> Result<u64> {
    let lines = "journalctl --no-pager -q -o cat IOTWASM_PAYLOAD=irrigation | grep -c '^pump: wrote' || true";
    number(&sh(vm, lines)?, "the number of writes")
}

fn restarts(vm: &mut Vm) -> Result<u64> {
    number(&sh(vm, "systemctl show --value -p NRestarts capd.service")?, "the number of restarts")
}

/// The device's own clock, in seconds.
fn seconds(vm: &mut Vm) -> Result<u64> {
    number(&sh(vm, "cut -d. -f1 /proc/uptime")?, "the uptime")
}

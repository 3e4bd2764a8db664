//! Everything that can stop a device in the middle: power cuts, reboots, dead daemons.

use std::thread::sleep;
use std::time::{Duration, Instant};

use super::Scenario;
use crate::device::{SETTLE_LIMIT, Settings};
use crate::error::Result;
use crate::random::Random;
use crate::repo::Release;
use crate::server::Fault;
use crate::steps::Steps;
use crate::vm::Vm;
use crate::wait::{Look, until};
use crate::world::{COUNTER, World};

/// A reboot costs a boot of the trial; with none left it is undone.
pub(crate) const REBOOT_IN_TRIAL: Scenario = Scenario {
    name: "reboot-in-trial",
    about: "a trial goes on after a reboot, and is undone when its boots are used up",
    run: reboot_in_trial,
};

/// Daemons die.
pub(crate) const DEAD_DAEMONS: Scenario = Scenario {
    name: "killed-daemons",
    about: "daemons killed at random moments of updates: every update ends well, one payload always runs",
    run: dead_daemons,
};

/// Power cuts.
pub(crate) const POWER_CUTS: Scenario = Scenario {
    name: "power-cuts",
    about: "power cut at random moments of download, write, trial and commit (IOTWASM_POWER_CUTS, default 10)",
    run: power_cuts,
};

/// The daemons that an update goes through.
const UPDATING: [&str; 2] = ["ota-updated", "wasm-supervisord"];
/// Bytes a second of a server that is slow enough for a cut in the middle of a download.
const SLOW: usize = 20_000;

fn reboot_in_trial(world: &mut World, steps: &mut Steps) -> Result<()> {
    let old = world.stand(5)?;
    let settings = Settings { confirmation_s: 3600, more: vec!["trial_boots = 2".to_owned()], ..Settings::of(COUNTER) };
    world.vm.adjust(&settings)?;
    let (repo, new) = world.next_version()?;
    repo.publish(&Release::new(COUNTER, COUNTER, &new))?;
    let vm = &mut world.vm;
    let running = format!("{new} running, healthy");
    steps.step("a newer version is in its trial", &running, || vm.wait_running(COUNTER, &new))?;
    steps.step("it is not committed", &old, || vm.committed(COUNTER))?;
    steps.must("the device restarts", || vm.reboot())?;
    steps.step("the trial goes on", &running, || vm.wait_running(COUNTER, &new))?;
    steps.must("the device loses its power", || {
        vm.power_cut()?;
        vm.boot().map(drop)
    })?;
    steps.step("no boots are left: the trial is undone", "rolled_back: no_boots_left", || vm.verdict(COUNTER, &new))?;
    steps.step("the old version runs", &format!("{old} running, healthy"), || vm.wait_running(COUNTER, &old))
}

fn dead_daemons(world: &mut World, steps: &mut Steps) -> Result<()> {
    world.stand(5)?;
    // Being killed costs a trial a boot: enough for all that comes.
    let settings = Settings { more: vec!["trial_boots = 10".to_owned()], ..Settings::of(COUNTER) };
    world.vm.adjust(&settings)?;
    world.server.set_fault_for(Fault::Slow(SLOW), Some("/targets/"));
    let mut random = Random::from_environment();
    println!("  (IOTWASM_SEED={})", random.seed());
    for round in 0..4u32 {
        let unit = UPDATING[round as usize % 2];
        let (repo, new) = world.next_version()?;
        repo.publish(&Release::new(COUNTER, COUNTER, &new))?;
        let vm = &mut world.vm;
        let name = format!("{unit} is killed three times during an update: the update ends well");
        steps.step(&name, &new, || {
            for part in 0..3 {
                // Not for a condition: the moment is what is random here.
                sleep(random.within(Duration::from_secs(9), part, 3) / (part + 1));
                vm.sh(&format!("systemctl kill -s KILL {unit}.service"))?;
            }
            // An attempt that was interrupted is told as failed; another follows it.
            vm.wait_committed(COUNTER, &new)
        })?;
        steps.step("the new version runs", &format!("{new} running, healthy"), || vm.wait_running(COUNTER, &new))?;
        world.now_stands(&new);
    }
    Ok(())
}

fn power_cuts(world: &mut World, steps: &mut Steps) -> Result<()> {
    let cuts = std::env::var("IOTWASM_POWER_CUTS").ok().and_then(|n| n.parse().ok()).unwrap_or(10);
    cut_power(world, steps, cuts)
}

/// Cuts the power that many times during updates, the moments spread over their length.
pub(crate) fn cut_power(world: &mut World, steps: &mut Steps, cuts: u32) -> Result<()> {
    let mut old = world.stand(5)?;
    world.vm.adjust(&Settings { more: vec!["trial_boots = 10".to_owned()], ..Settings::of(COUNTER) })?;
    world.server.set_fault_for(Fault::Slow(SLOW), Some("/targets/"));
    let mut random = Random::from_environment();
    println!("  (IOTWASM_SEED={})", random.seed());

    // How long an update takes here when nothing happens: the cuts are spread over that.
    let started = Instant::now();
    let mut whole = Duration::ZERO;
    steps.step("an update without a cut, to know its length", "committed", || {
        let (repo, new) = world.next_version()?;
        repo.publish(&Release::new(COUNTER, COUNTER, &new))?;
        let verdict = world.vm.verdict(COUNTER, &new)?;
        whole = started.elapsed();
        world.now_stands(&new);
        old = new;
        Ok(verdict)
    })?;
    // Two cuts in each update: the second while the device makes up for the first.
    let mut new = String::new();
    for cut in 0..cuts {
        let begun = Instant::now();
        let whole = if cut % 2 == 0 { whole } else { whole / 2 };
        if cut % 2 == 0 {
            let (repo, version) = world.next_version()?;
            repo.publish(&Release::new(COUNTER, COUNTER, &version))?;
            new = version;
        }
        let moment = random.within(whole, cut / 2, cuts.div_ceil(2));
        let World { vm, server, .. } = world;
        // Not for a condition: the moment is what is random here.
        sleep(moment.saturating_sub(begun.elapsed()));
        let doing = vm.ota_status().map_or_else(|_| "unknown".to_owned(), |s| s.activity);
        let name = format!(
            "power cut {} of {cuts} after {:.1} s ({doing}): a payload runs at once",
            cut + 1,
            moment.as_secs_f64()
        );
        // Without a server: the device starts by itself.
        steps.step(&name, "old or new, healthy", || {
            vm.power_cut()?;
            server.set_fault(Fault::Vanished);
            vm.boot()?;
            some_version_runs(vm, &[&old, &new])
        })?;
        server.set_fault_for(Fault::Slow(SLOW), Some("/targets/"));
        if cut % 2 == 0 && cut + 1 < cuts {
            continue;
        }
        steps.step("and the update ends well", &new, || vm.wait_committed(COUNTER, &new))?;
        world.now_stands(&new);
        old.clone_from(&new);
    }
    Ok(())
}

fn some_version_runs(vm: &mut Vm, versions: &[&str]) -> Result<String> {
    until("a payload that runs", SETTLE_LIMIT, || {
        let payload = vm.payload(COUNTER)?;
        let good = payload
            .as_ref()
            .is_some_and(|p| p.phase == "running" && p.health == "healthy" && versions.contains(&p.version.as_str()));
        Ok(if good { Look::Is("old or new, healthy".into()) } else { Look::NotYet(format!("{payload:?}")) })
    })
}

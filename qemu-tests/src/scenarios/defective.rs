//! Payloads that are bad: each is tried, found out, undone with its own reason, and not tried again.

use super::Scenario;
use crate::error::Result;
use crate::repo::Release;
use crate::steps::Steps;
use crate::vm::Vm;
use crate::world::{COUNTER, World};

/// Longer than any of the examples stays healthy.
const CONFIRMATION_S: u64 = 120;

/// Failing self-test.
pub(crate) const SELF_TEST: Scenario = Scenario {
    name: "failing-self-test",
    about: "a payload whose self-test fails is undone before it runs",
    run: |w, s| undone(w, s, "fails-self-test", &[], "self_test_failed"),
};

/// Trap during confirmation.
pub(crate) const TRAP: Scenario = Scenario {
    name: "trap-in-trial",
    about: "a payload that traps during its confirmation period is undone",
    run: |w, s| undone(w, s, "traps-late", &[], "trap"),
};

/// Out of fuel.
pub(crate) const FUEL: Scenario = Scenario {
    name: "out-of-fuel",
    about: "a payload that computes without end is undone",
    run: |w, s| undone(w, s, "spins", &[], "out_of_fuel"),
};

/// Endless memory, of the runtime.
pub(crate) const MEMORY: Scenario = Scenario {
    name: "endless-memory",
    about: "a payload that makes the runtime take memory without end meets its cgroup's limit, alone",
    run: |w, s| undone(w, s, "hungry", &[], "out_of_memory"),
};

/// Missed heartbeat.
pub(crate) const HEARTBEAT: Scenario = Scenario {
    name: "missed-heartbeat",
    about: "a payload that falls silent is undone",
    run: |w, s| undone(w, s, "silent", &["health.heartbeat_s=5"], "heartbeat_missed"),
};

/// The others.
pub(crate) const OTHERS: Scenario = Scenario {
    name: "other-defects",
    about: "growing to the page limit, returning, lingering, reporting failure, hanging in the self-test",
    run: |w, s| {
        undone(w, s, "grows", &[], "trap")?;
        undone(w, s, "exits", &[], "exited")?;
        undone(w, s, "lingers", &[], "wall_clock")?;
        undone(w, s, "reports-failed", &[], "reported_failed")?;
        undone(w, s, "hangs-self-test", &[], "self_test_failed")
    },
};

fn undone(world: &mut World, steps: &mut Steps, example: &str, set: &[&str], reason: &str) -> Result<()> {
    let old = world.stand(CONFIRMATION_S)?;
    let rollbacks = |vm: &mut Vm| {
        let labels = [("reason", reason)];
        Ok(vm.metric("ota-updated", "iot_ota_rollback_total", &labels)?.unwrap_or(0.0))
    };
    let before = rollbacks(&mut world.vm)?;
    let (repo, new) = world.next_version()?;
    let mut release = Release::new(example, COUNTER, &new);
    for setting in set {
        release = release.with(*setting);
    }
    repo.publish(&release)?;
    let vm = &mut world.vm;
    let verdict = format!("rolled_back: {reason}");
    steps.step(&format!("{example}: it is tried and undone"), &verdict, || vm.verdict(COUNTER, &new))?;
    let running = format!("{old} running, healthy");
    steps.step(&format!("{example}: the old version runs again"), &running, || vm.wait_running(COUNTER, &old))?;
    steps.step(&format!("{example}: the rollback is counted under its reason"), "1", || {
        Ok((rollbacks(vm)? - before).to_string())
    })?;
    let attempts = vm.history()?.len();
    let server = &world.server;
    steps.step(&format!("{example}: it is not tried again"), "no new attempt", || {
        vm.wait_checks(server, 2)?;
        let now = vm.history()?.len();
        Ok(if now == attempts { "no new attempt".into() } else { format!("{} new attempts", now - attempts) })
    })
}

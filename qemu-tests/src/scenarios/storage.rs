//! The data partition: altered by someone, or full.

use super::Scenario;
use crate::device::SETTLE_LIMIT;
use crate::error::Result;
use crate::repo::Release;
use crate::server::Fault;
use crate::steps::Steps;
use crate::vm::Vm;
use crate::wait::{Look, until};
use crate::world::{COUNTER, World};

/// Someone had the disk in their hands.
pub(super) const ALTERED: Scenario = Scenario {
    name: "altered-payload",
    about: "a payload, then its metadata, changed on the data partition before the boot: neither runs",
    run: altered,
};

/// No room.
pub(super) const FULL_DISK: Scenario =
    Scenario { name: "full-disk", about: "a disk too full is refused before anything is touched", run: full_disk };

/// The payload itself.
const FLIPPED_BIT: (&str, &str) = (
    "the payload has a flipped bit",
    "f=$s/payload.wasm; printf '\\377' | dd of=$f bs=1 seek=$(($(stat -c %s $f) / 2)) conv=notrunc status=none",
);
/// What vouches for it.
const CHANGED_METADATA: (&str, &str) = (
    "the signed metadata has a changed digit",
    "f=$(ls $s/chain/*acme.json | head -n1); sed -i 's/\"length\": *[0-9]/\"length\":9/; s/\"length\":[0-9]/\"length\":9/' $f",
);

fn altered(world: &mut World, steps: &mut Steps) -> Result<()> {
    alter_payload(world, steps)?;
    alter(world, steps, CHANGED_METADATA)
}

/// Changes the payload of a device that is off.
pub(crate) fn alter_payload(world: &mut World, steps: &mut Steps) -> Result<()> {
    alter(world, steps, FLIPPED_BIT)
}

fn alter(world: &mut World, steps: &mut Steps, (what, change): (&str, &str)) -> Result<()> {
    let version = world.stand(5)?;
    // Without a server: what is shown is what the device does by itself.
    world.server.set_fault(Fault::Vanished);
    let World { vm, server, .. } = world;
    let slot = vm.payload(COUNTER)?.map_or_else(String::new, |p| p.slot);
    let script = format!("set -e; s=/data/iotwasm/payloads/counter/{slot}; {change}; sync");
    steps.must(&format!("in a device that is off, {what}"), || {
        vm.sh("systemctl stop ota-updated.service wasm-supervisord.service")?;
        vm.sh(&script)?;
        vm.power_cut()?;
        vm.boot().map(drop)
    })?;
    steps.step("it does not run, and the supervisor says why", "failed: not_verified", || refused(vm))?;
    steps.step("no process runs it", "0", || {
        let count = "n=0; for c in /proc/[0-9]*/comm; do \
                     [ \"$(cat $c 2>/dev/null)\" != iotwasm-runner ] || n=$((n+1)); done; echo $n";
        Ok(vm.sh(count)?.trim().to_owned())
    })?;
    server.set_fault(Fault::None);
    steps.step("with the server back, the device repairs itself", &format!("{version} running, healthy"), || {
        vm.wait_running(COUNTER, &version)
    })
}

fn refused(vm: &mut Vm) -> Result<String> {
    until("the supervisor's verdict", SETTLE_LIMIT, || {
        let seen = vm
            .payload(COUNTER)?
            .map_or_else(|| "not there".into(), |p| format!("{}: {}", p.phase, p.reason.unwrap_or_default()));
        Ok(if seen.starts_with("failed") || seen.starts_with("running") || seen.starts_with("backoff") {
            Look::Is(seen)
        } else {
            Look::NotYet(seen)
        })
    })
}

fn full_disk(world: &mut World, steps: &mut Steps) -> Result<()> {
    let old = world.stand(5)?;
    world
        .vm
        .sh("free=$(df --output=avail -k /data | tail -n1); fallocate -l $((free - 1024))K /data/filler && sync")?;
    let listing = "cd /data/iotwasm/payloads && find . -type f | sort | xargs sha256sum | sha256sum";
    let before = world.vm.sh(listing)?;
    let (repo, new) = world.next_version()?;
    repo.publish(&Release::new(COUNTER, COUNTER, &new))?;
    let vm = &mut world.vm;
    steps.step("with 1 MiB left, the device refuses, and says why", "refused", || {
        until("a refusal for want of room", SETTLE_LIMIT, || {
            let error = vm.ota_status()?.last_error;
            let attempt = vm.history()?.into_iter().find(|a| a.version == new);
            let said = format!("{error} {}", attempt.map(|a| a.message).unwrap_or_default());
            let wanted = ["disk", "space", "room", "free"].iter().any(|w| said.contains(w));
            Ok(if wanted { Look::Is("refused".into()) } else { Look::NotYet(said) })
        })
    })?;
    steps.step("the slots are as they were", &before, || vm.sh(listing))?;
    steps.step("the payload runs", &format!("{old} running, healthy"), || vm.wait_running(COUNTER, &old))?;
    vm.sh("rm /data/filler && sync")?;
    steps.step("with room again, the release is installed", &new, || {
        vm.check_now()?;
        vm.wait_committed(COUNTER, &new)
    })?;
    world.now_stands(&new);
    Ok(())
}

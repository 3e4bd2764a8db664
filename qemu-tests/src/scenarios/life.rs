//! The ordinary life of a payload: installed, updated, kept, withdrawn.

use std::fs;

use super::Scenario;
use crate::device::Settings;
use crate::error::{Error, Result};
use crate::repo::Release;
use crate::steps::Steps;
use crate::vm::Vm;
use crate::world::{COUNTER, World};

/// A fresh device installs what it is configured to run.
pub(crate) const FIRST_INSTALL: Scenario = Scenario {
    name: "first-install",
    about: "a fresh device finds, tries and keeps its payload, and keeps it over a reboot without a network",
    run: first_install,
};

/// A newer version replaces the old one and its state goes on.
pub(crate) const UPDATE: Scenario = Scenario {
    name: "update",
    about: "a newer version is tried, kept, and goes on with the old one's data",
    run: update,
};

/// Only a withdrawal lets a device go back.
pub(crate) const WITHDRAWAL: Scenario = Scenario {
    name: "withdrawal",
    about: "a withdrawn version gives way to the highest that is left",
    run: withdrawal,
};

/// A key of the repository is replaced, with devices in the field.
pub(crate) const ROTATION: Scenario = Scenario {
    name: "key-rotation",
    about: "devices follow when keys of root, timestamp and vendor are replaced",
    run: rotation,
};

/// Where the image has its root of trust.
const PINNED_ROOT: &str = "/usr/share/iotwasm/root.json";

/// See [`FIRST_INSTALL`].
pub(crate) fn first_install(world: &mut World, steps: &mut Steps) -> Result<()> {
    let repo = world.begin(&Settings::of(COUNTER))?;
    steps.step("a device without payloads runs none", "0", || Ok(world.vm.payloads()?.len().to_string()))?;
    repo.publish(&Release::new(COUNTER, COUNTER, "1.0.0"))?;
    let vm = &mut world.vm;
    steps.step("it installs what is published", "committed", || vm.verdict(COUNTER, "1.0.0"))?;
    steps.step("it runs", "1.0.0 running, healthy", || vm.wait_running(COUNTER, "1.0.0"))?;
    steps.step("the journal has the payload's words, with its id", "yes", || {
        let lines =
            vm.sh("journalctl --no-pager -q IOTWASM_PAYLOAD=counter | grep -c 'counter 1.0.0 begins' || true")?;
        Ok(if lines.trim() == "0" { "no".into() } else { "yes".into() })
    })?;
    steps.step("metrics tell the version", "1", || {
        let labels = [("payload_id", COUNTER), ("version", "1.0.0")];
        Ok(vm
            .metric("ota-updated", "iot_device_payload_version", &labels)?
            .map_or_else(|| "missing".into(), |v| v.to_string()))
    })?;
    steps.step("the runner is confined", "no_new_privs 1, seccomp 2, no capabilities", || confinement(vm))?;
    world.server.set_fault(crate::server::Fault::Vanished);
    world.mirror.set_fault(crate::server::Fault::Vanished);
    let vm = &mut world.vm;
    let id = vm.sh("cat /data/iotwasm/device-id")?;
    steps.must("the device restarts, and the servers are gone", || vm.reboot())?;
    steps.step("the payload runs all the same", "1.0.0 running, healthy", || vm.wait_running(COUNTER, "1.0.0"))?;
    steps.step("it is the same device", id.trim(), || Ok(vm.sh("cat /data/iotwasm/device-id")?.trim().to_owned()))
}

/// What the kernel says of the runner's process.
fn confinement(vm: &mut Vm) -> Result<String> {
    let pid = vm.payload(COUNTER)?.map_or(0, |p| p.pid);
    let status = vm.sh(&format!("cat /proc/{pid}/status"))?;
    let field =
        |name: &str| status.lines().find_map(|l| l.strip_prefix(name)).map(|v| v.trim().to_owned()).unwrap_or_default();
    let capabilities =
        if field("CapEff:").trim_start_matches('0').is_empty() { "no capabilities" } else { "capabilities" };
    Ok(format!("no_new_privs {}, seccomp {}, {capabilities}", field("NoNewPrivs:"), field("Seccomp:")))
}

/// See [`UPDATE`].
pub(crate) fn update(world: &mut World, steps: &mut Steps) -> Result<()> {
    let old = world.stand(5)?;
    let count = count(&mut world.vm)?;
    let (repo, new) = world.next_version()?;
    repo.publish(&Release::new(COUNTER, COUNTER, &new).with(format!("wasi.environment.VERSION={new}")))?;
    let vm = &mut world.vm;
    steps.step("a newer version is tried and kept", "committed", || vm.verdict(COUNTER, &new))?;
    steps.step("it runs", &format!("{new} running, healthy"), || vm.wait_running(COUNTER, &new))?;
    steps.step("the device tells the new version", &new, || vm.committed(COUNTER))?;
    steps.step("its data went on", "yes", || {
        let now = self::count(vm)?;
        Ok(if now >= count && count > 0 { "yes".into() } else { format!("{count} before, {now} now") })
    })?;
    steps.step("the old version is still in the other slot", "yes", || {
        let slots = vm.sh("ls /data/iotwasm/payloads/counter/*/payload.wasm | wc -l")?;
        Ok(if slots.trim() == "2" { "yes".into() } else { format!("{} slots after {old}", slots.trim()) })
    })?;
    world.now_stands(&new);
    Ok(())
}

/// How far the counter has counted, from its directory.
fn count(vm: &mut Vm) -> Result<u64> {
    let text = vm.sh("cat /data/iotwasm/storage/counter/state/count")?;
    text.trim().parse().map_err(|_| crate::error::Error::Unreadable { what: "the count", text })
}

fn withdrawal(world: &mut World, steps: &mut Steps) -> Result<()> {
    let old = world.stand(5)?;
    let (repo, new) = world.next_version()?;
    repo.publish(&Release::new(COUNTER, COUNTER, &new))?;
    let vm = &mut world.vm;
    steps.step("a newer version is kept", "committed", || vm.verdict(COUNTER, &new))?;
    world.standing_repo()?.withdraw(COUNTER, &new, "found wanting")?;
    let vm = &mut world.vm;
    let back = format!("{old} running, healthy");
    steps.step("after its withdrawal the device goes back", &back, || vm.wait_running(COUNTER, &old))?;
    steps.step("and keeps the older one", &old, || {
        vm.verdict(COUNTER, &old)?;
        vm.committed(COUNTER)
    })
}

fn rotation(world: &mut World, steps: &mut Steps) -> Result<()> {
    world.stand(5)?;
    for role in ["timestamp", "acme", "root"] {
        let (repo, new) = world.next_version()?;
        // Root has several keys: any of them.
        let key = if role == "root" { Some(repo.first_key("root")?) } else { None };
        let mut arguments = vec![role];
        if let Some(key) = &key {
            arguments.extend(["--replace", key]);
        }
        repo.rotate(&arguments)?;
        repo.publish(&Release::new(COUNTER, COUNTER, &new))?;
        let vm = &mut world.vm;
        steps.step(&format!("after {role} has a new key, updates go on"), "committed", || vm.verdict(COUNTER, &new))?;
        world.now_stands(&new);
    }
    next_image(world, steps)
}

/// An image that pins the newest root trusts no key that was replaced, and has to run what was committed before.
fn next_image(world: &mut World, steps: &mut Steps) -> Result<()> {
    let standing = world.stand(5)?;
    steps.must("timestamp has a new key, nothing else is published, and the device asks", || {
        world.standing_repo()?.rotate(&["timestamp"])?;
        world.vm.wait_checks(&world.server, 2)
    })?;
    let newest = world.standing_repo()?.metadata("root")?.pop();
    let newest = newest.ok_or_else(|| Error::Unreadable { what: "metadata", text: "there is no root".into() })?;
    let newest = fs::read(&newest).map_err(Error::file("read", &newest))?;
    let vm = &mut world.vm;
    let running = format!("{standing} running, healthy");
    steps.step("under the newest root, as the next image pins it, it runs", &running, || {
        vm.put("/run/newest-root.json", 0o644, &newest)?;
        vm.sh(&format!(
            "mount --bind /run/newest-root.json {PINNED_ROOT} && systemctl restart wasm-supervisord.service"
        ))?;
        vm.wait_running(COUNTER, &standing)
    })?;
    let unit = "wasm-supervisord.service";
    vm.sh(&format!("systemctl stop {unit} && umount {PINNED_ROOT} && systemctl start {unit}"))?;
    vm.wait_running(COUNTER, &standing).map(drop)
}

//! Servers that fail: every failure ends with the release installed once the server, or another one, is there.

use std::time::Duration;

use super::Scenario;
use crate::device::{SETTLE_LIMIT, Settings};
use crate::error::Result;
use crate::repo::Release;
use crate::server::{Fault, Server};
use crate::steps::Steps;
use crate::wait::{Look, until};
use crate::world::{COUNTER, World};

/// A server that falls silent, one that hangs up, one that is gone, and each coming back.
pub(super) const UNRELIABLE: Scenario = Scenario {
    name: "unreliable-server",
    about: "a server stalls, truncates, vanishes and comes back: the download goes on where it stopped",
    run: unreliable,
};

/// The first server is gone, the mirror serves.
pub(super) const MIRROR: Scenario =
    Scenario { name: "mirror-failover", about: "with the first server gone or broken, the mirror serves", run: mirror };

/// How much of a payload arrives before the fault, in bytes: more than a head, less than any example.
const PART: usize = 6000;

fn unreliable(world: &mut World, steps: &mut Steps) -> Result<()> {
    world.stand(5)?;
    let settings = Settings { more: vec!["stall_timeout_s = 5".to_owned()], ..Settings::of(COUNTER) };
    world.vm.adjust(&settings)?;
    world.server.set_fault_for(Fault::StallAt(PART), Some("/targets/"));
    let (repo, new) = world.next_version()?;
    repo.publish(&Release::new(COUNTER, COUNTER, &new))?;
    world.server.forget();
    let World { vm, server, .. } = world;
    steps.step("the server stalls in the middle of a payload: the device says so", "an error", || {
        failed(vm, &format!("{COUNTER}-{new}.wasm"))
    })?;
    server.set_fault(Fault::None);
    steps.step("when the server is well again, the release is installed", &new, || vm.wait_committed(COUNTER, &new))?;
    steps.step("the download went on where it had stopped", "resumed", || Ok(resumed(server)))?;
    world.now_stands(&new);

    world.server.set_fault_for(Fault::TruncateAfter(PART), Some("/targets/"));
    let (repo, new) = world.next_version()?;
    repo.publish(&Release::new(COUNTER, COUNTER, &new))?;
    world.server.forget();
    let World { vm, server, .. } = world;
    steps.step("the server truncates every answer: piece by piece the release is installed", &new, || {
        vm.wait_committed(COUNTER, &new)
    })?;
    steps.step("each piece went on where the last had ended", "resumed", || Ok(resumed(server)))?;
    server.set_fault(Fault::None);
    world.now_stands(&new);

    world.server.set_fault(Fault::Vanished);
    let (repo, new) = world.next_version()?;
    repo.publish(&Release::new(COUNTER, COUNTER, &new))?;
    let World { vm, server, .. } = world;
    steps.step("the server is gone: the device says so", "an error", || failed(vm, "metadata"))?;
    steps.step("the payload does not care", "healthy", || {
        Ok(vm.payload(COUNTER)?.map_or_else(|| "gone".into(), |p| p.health))
    })?;
    server.set_fault(Fault::None);
    steps.step("the server is back: the release is installed", &new, || vm.wait_committed(COUNTER, &new))?;
    world.now_stands(&new);
    Ok(())
}

/// Whether a payload was asked for from its middle.
fn resumed(server: &Server) -> String {
    let resumed = server.seen().iter().any(|s| s.path.contains("/targets/") && s.from.is_some_and(|f| f > 0));
    if resumed { "resumed".into() } else { format!("{:?}", server.seen()) }
}

/// Waits until a check has failed with an error about this.
fn failed(vm: &mut crate::vm::Vm, about: &str) -> Result<String> {
    until(&format!("an error about {about}"), SETTLE_LIMIT, || {
        let error = vm.ota_status()?.last_error;
        Ok(if error.contains(about) { Look::Is("an error".into()) } else { Look::NotYet(format!("{error:?}")) })
    })
}

fn mirror(world: &mut World, steps: &mut Steps) -> Result<()> {
    world.stand(5)?;
    let settings = Settings {
        mirror: true,
        more: vec!["stall_timeout_s = 5".to_owned(), "connect_timeout_s = 5".to_owned()],
        ..Settings::of(COUNTER)
    };
    world.vm.adjust(&settings)?;
    for (fault, only, name) in [
        (Fault::Vanished, None, "is gone"),
        (Fault::Unavailable, None, "answers 503"),
        (Fault::StallAt(PART), Some("/targets/"), "stalls in the middle of payloads"),
    ] {
        world.server.set_fault_for(fault, only);
        let (repo, new) = world.next_version()?;
        repo.publish(&Release::new(COUNTER, COUNTER, &new))?;
        world.mirror.forget();
        let World { vm, mirror, .. } = world;
        steps.step(&format!("the first server {name}: the release is installed"), "committed", || {
            vm.verdict(COUNTER, &new)
        })?;
        steps.step("the payload came from the mirror", "yes", || {
            Ok(if mirror.count("/targets/") > 0 { "yes".into() } else { format!("{:?}", mirror.seen()) })
        })?;
        world.now_stands(&new);
    }
    world.server.set_fault(Fault::None);
    world.vm.adjust(&Settings::of(COUNTER))?;
    let World { vm, server, .. } = world;
    steps.must("the first server is asked again when it is well", || {
        server.forget();
        until("a request", Duration::from_secs(120), || {
            vm.ota_status()?;
            Ok(if server.count(".root.json") > 0 { Look::Is(()) } else { Look::NotYet("none".into()) })
        })
    })
}

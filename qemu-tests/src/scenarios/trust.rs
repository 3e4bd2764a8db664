//! Attacks on the repository: each is refused, changes nothing, and leaves the device able to take the next honest
//! release.

use std::fs;

use super::Scenario;
use crate::error::{Error, Result};
use crate::repo::{Release, Repo};
use crate::steps::Steps;
use crate::world::{COUNTER, World};

/// Metadata signed by nobody we trust.
pub(crate) const FORGED: Scenario = Scenario {
    name: "forged-repository",
    about: "metadata signed with other keys is refused",
    run: |world, steps| {
        attacked(world, steps, &["valid signatures"], |world| {
            let forged = world.forged_repo()?;
            forged.publish(&Release::new(COUNTER, COUNTER, "9.0.0"))?;
            world.serve(&forged.served());
            Ok(())
        })
    },
};

/// A root that the pinned one did not sign.
pub(crate) const WRONG_ROOT: Scenario = Scenario {
    name: "wrong-root",
    about: "a newer root that the pinned root did not sign is refused",
    run: |world, steps| {
        attacked(world, steps, &["valid signatures"], |world| {
            let forged = world.forged_repo()?;
            forged.publish(&Release::new(COUNTER, COUNTER, "9.0.0"))?;
            let newest = forged.metadata("root")?.len() + world.standing_repo()?.metadata("root")?.len();
            // Newer than anything that the device has, so that it looks at it.
            for _ in 1..newest + 1 {
                forged.rotate(&["timestamp"])?;
            }
            world.serve(&forged.served());
            Ok(())
        })
    },
};

/// A payload that is not the signed one.
pub(crate) const FORGED_PAYLOAD: Scenario = Scenario {
    name: "forged-payload",
    about: "a payload with a flipped bit is refused before it touches a slot",
    run: |world, steps| {
        attacked(world, steps, &["hash", "sha256", "digest"], |world| {
            let (repo, new) = world.next_version()?;
            repo.publish(&Release::new(COUNTER, COUNTER, &new))?;
            let copy = repo.snapshot("attack")?;
            let file = Repo::target_in(&copy, COUNTER, &new)?;
            let mut bytes = fs::read(&file).map_err(Error::file("read", &file))?;
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
            fs::write(&file, bytes).map_err(Error::file("write", &file))?;
            world.serve(&copy);
            Ok(())
        })
    },
};

/// Metadata past its date.
pub(crate) const EXPIRED: Scenario = Scenario {
    name: "expired-repository",
    about: "metadata past its date is refused",
    run: |world, steps| {
        attacked(world, steps, &["expired"], |world| {
            let fork = world.standing_repo()?.fork("attack")?;
            fork.refresh(&["--expires-at", "2026-01-01T00:00:00Z"])?;
            world.serve(&fork.served());
            Ok(())
        })
    },
};

/// Yesterday's metadata.
pub(crate) const ROLLED_BACK: Scenario = Scenario {
    name: "rolled-back-repository",
    about: "older metadata than was seen is refused",
    run: |world, steps| {
        attacked(world, steps, &["goes back"], |world| {
            let repo = world.standing_repo()?;
            let old = repo.snapshot("old")?;
            repo.refresh(&[])?;
            world.serve(&world.standing_repo()?.served());
            let World { vm, server, .. } = world;
            vm.wait_checks(server, 1)?;
            world.serve(&old);
            Ok(())
        })
    },
};

/// No news for too long.
pub(crate) const FROZEN: Scenario = Scenario {
    name: "frozen-repository",
    about: "a server that repeats itself is found out when the timestamp expires",
    run: |world, steps| {
        attacked(world, steps, &["expired"], |world| {
            let repo = world.standing_repo()?;
            repo.refresh(&["--timestamp-expires", "30s"])?;
            let copy = repo.snapshot("attack")?;
            world.serve(&copy);
            // Accepted while it is news.
            let World { vm, server, .. } = world;
            vm.wait_checks(server, 1)
        })
    },
};

/// Files of different days.
pub(crate) const MIXED: Scenario = Scenario {
    name: "mixed-repository",
    about: "an old vendor's role under a new snapshot is refused",
    run: |world, steps| {
        attacked(world, steps, &["bytes where", "hash", "version"], |world| {
            let (repo, new) = world.next_version()?;
            repo.publish(&Release::new(COUNTER, COUNTER, &new))?;
            let copy = repo.snapshot("attack")?;
            let versions = Repo::metadata_in(&copy, "acme")?;
            let [.., old, new] = versions.as_slice() else {
                return Err(Error::Unreadable { what: "versions of acme", text: format!("{versions:?}") });
            };
            fs::copy(old, new).map_err(Error::file("write", new))?;
            world.serve(&copy);
            Ok(())
        })
    },
};

/// Runs an attack on the standing device; whatever it is, nothing may change but the device's last error.
fn attacked(
    world: &mut World,
    steps: &mut Steps,
    words: &[&'static str],
    attack: impl FnOnce(&mut World) -> Result<()>,
) -> Result<()> {
    let old = world.stand(5)?;
    let before = world.vm.payload(COUNTER)?;
    attack(world)?;
    let World { vm, server, .. } = world;
    steps.step("the device refuses, and says why", "refused", || vm.wait_refused(words).map(|_| "refused".into()))?;
    steps.step("it goes on refusing", "refused", || {
        vm.wait_checks(server, 2)?;
        vm.wait_refused(words).map(|_| "refused".into())
    })?;
    steps.step("the payload was not even restarted", "same process", || {
        let now = vm.payload(COUNTER)?;
        let id = |p: &Option<crate::device::Running>| p.as_ref().map(|p| (p.pid, p.version.clone()));
        Ok(if id(&now) == id(&before) { "same process".into() } else { format!("{before:?} became {now:?}") })
    })?;
    steps.step("no other version was committed", &old, || vm.committed(COUNTER))?;
    let served = world.standing_repo()?.served();
    let (repo, new) = world.next_version()?;
    repo.publish(&Release::new(COUNTER, COUNTER, &new))?;
    world.serve(&served);
    let vm = &mut world.vm;
    steps.step("the next honest release is taken", "committed", || vm.verdict(COUNTER, &new))?;
    world.now_stands(&new);
    Ok(())
}

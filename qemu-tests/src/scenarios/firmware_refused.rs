//! Bundles that must not be installed, by whom RAUC may be driven, and what is never executed.

use std::fs;
use std::path::Path;
use std::process::Command;

use super::Scenario;
use super::boot::release;
use super::firmware::{VERSIONS, offer, prepare, settings};
use super::forge::{Forged, small_bundle, strangers_keys};
use crate::device::SETTLE_LIMIT;
use crate::error::{Error, Result};
use crate::repo::{COMPATIBLE, Repo};
use crate::server::Fault;
use crate::steps::Steps;
use crate::vm::{Vm, run};
use crate::wait::{Look, until};
use crate::world::{COUNTER, World};

/// Bundles that must not be installed.
pub(crate) const REFUSED: Scenario = Scenario {
    name: "firmware-refused",
    about: "bundles by strangers, for others, older, truncated; another release.json; a full disk: nothing changes",
    run: refused,
};

fn refused(world: &mut World, steps: &mut Steps) -> Result<()> {
    // The one that differs more from what the device has: more of it is fetched.
    let (repo, now, _) = prepare(world, COUNTER, &settings(COUNTER, 1, &[]))?;
    let next = if now == VERSIONS[1] { VERSIONS[0] } else { VERSIONS[1] };

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
        verdict_for(&mut world.vm, "9.0.1", "signature")
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
            verdict_for(&mut world.vm, version, &format!("RAUC says that it is {compatible} {inner}"))
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
        verdict_for(&mut world.vm, "9.0.4", "not what was signed")
    })?;
    repo.withdraw_firmware("9.0.4", "spoiled")?;

    // From here on the real one, which would be taken if it arrived.
    steps.must("the data partition is filled up to its last 2 MiB", || {
        let fill = "rm -f /data/fill; left=$(df -k --output=avail /data | tail -n 1); fallocate -l $((left - 2048))K /data/fill";
        world.vm.sh(fill).map(drop)
    })?;
    offer(world, &repo, &now, next)?;
    steps.step("with a full data partition nothing is installed", "told", || {
        attempt_says(&mut world.vm, next, 0, |message| message.contains("too full"))
    })?;
    let served = Repo::bundle_in(&repo.served(), next)?;
    let whole = fs::read(&served).map_err(Error::file("read", &served))?;
    let before = newest(&mut world.vm, next)?;
    steps.must("a truncated bundle is on the server, and there is room again", || {
        fs::write(&served, &whole[..whole.len() / 2]).map_err(Error::file("write", &served))?;
        world.vm.sh("rm -f /data/fill").map(drop)
    })?;
    steps.step("a truncated bundle is not installed", "told", || {
        attempt_says(&mut world.vm, next, before, |message| message.contains("416") || message.contains("range"))
    })?;
    let contents = release(world, next)?.files.bundle.map_or(0, |bundle| bundle.payload_length) as usize;
    steps.must(
        "the bundle is the right one, and while it is installed another of its length takes its place",
        || {
            fs::write(&served, &whole).map_err(Error::file("write", &served))?;
            world.server.set_fault_for(Fault::Slow(1_000_000), Some(".raucb"));
            world.server.forget();
            until("the installation to be under way", SETTLE_LIMIT, || {
                let sent = world.server.sent(".raucb");
                Ok(if sent > 300_000 { Look::Is(()) } else { Look::NotYet(format!("{sent} bytes")) })
            })?;
            let mut altered = whole.clone();
            for byte in altered[64 * 1024..contents].iter_mut().step_by(4096) {
                *byte ^= 0x55;
            }
            fs::write(&served, &altered).map_err(Error::file("write", &served))?;
            world.server.set_fault(Fault::None);
            Ok(())
        },
    )?;
    let before = newest(&mut world.vm, next)? - 1;
    steps.step("what was replaced between check and use is not installed", "told", || {
        // Not for the connection that ended, of which the first attempt may tell.
        attempt_says(&mut world.vm, next, before, |message| message.contains("RAUC:") && !message.contains("a mirror:"))
    })?;
    steps.must("a repository by a stranger has the firmware that the OEM's RAUC key signed", || {
        let stranger = world.forged_repo()?;
        stranger.add_firmware()?;
        stranger.publish_firmware(&world.built.firmware(next))?;
        world.serve(&stranger.served());
        // An attempt that is under way on the OEM's word would find there what it wants, and rightly take it.
        world.server.set_fault_for(Fault::NotFound, Some(".raucb"));
        Ok(())
    })?;
    steps.step("what RAUC would take and TUF does not is not even fetched", "0 bytes", || {
        // From the first refusal on, no attempt is under way.
        world.vm.wait_refused(&["valid signatures"])?;
        world.server.set_fault(Fault::None);
        world.server.forget();
        world.vm.wait_checks(&world.server, 2)?;
        Ok(format!("{} bytes", world.server.sent(".raucb")))
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

/// The number of the newest attempt with that version.
fn newest(vm: &mut Vm, version: &str) -> Result<i64> {
    Ok(vm.firmware_attempt(version)?.map_or(0, |attempt| attempt.number))
}

/// The verdict about that version, with what was said if that was not for this cause.
fn verdict_for(vm: &mut Vm, version: &str, cause: &str) -> Result<String> {
    let verdict = vm.firmware_verdict(version)?;
    let message = vm.firmware_attempt(version)?.map(|attempt| attempt.message).unwrap_or_default();
    Ok(if message.contains(cause) { verdict } else { format!("{verdict}: {message}") })
}

/// Waits until an attempt with that version that is newer than `before` has ended and says so.
fn attempt_says(vm: &mut Vm, version: &str, before: i64, says_so: impl Fn(&str) -> bool) -> Result<String> {
    until(&format!("an attempt with {version} for its cause"), SETTLE_LIMIT, || {
        let Some(attempt) = vm.firmware_attempt(version)?.filter(|attempt| attempt.number > before) else {
            return Ok(Look::NotYet("no newer attempt".into()));
        };
        let told = attempt.is_over() && says_so(&attempt.message);
        let said = format!("{}: {}", attempt.verdict(), attempt.message);
        Ok(if told { Look::Is("told".to_owned()) } else { Look::NotYet(said) })
    })
}

//! Measurements of a firmware update: what the relay costs beside RAUC alone, and what a small change has to fetch.

use std::path::Path;
use std::time::Duration;

use crate::device::Settings;
use crate::error::{Error, Result};
use crate::repo::{Release, Repo};
use crate::row::Row;
use crate::scenarios::forge::Forged;
use crate::uefi::Uefi;
use crate::vm::{SERVER_URL, Vm};
use crate::world::{COUNTER, World};

/// How much longer than RAUC alone an installation through the update daemon may take.
const INSTALL_LIMIT: f64 = 1.05;
/// Part of a bundle that a change of one daemon may fetch, in percent.
const FETCH_LIMIT: f64 = 15.0;
/// How long RAUC may take alone.
const ALONE: Duration = Duration::from_secs(900);

/// Replaces the device by a fresh one and updates it.
pub(crate) fn measure(world: &mut World) -> Result<Vec<Row>> {
    eprintln!("bench: an installation of firmware by RAUC alone");
    world.replace_device(Uefi::Plain)?;
    let more = |enabled: bool| Settings {
        more: vec![format!("[firmware]\nenabled = {enabled}\nconfirmation_s = 1")],
        ..Settings::of(COUNTER)
    };
    let repo = world.begin(&more(false))?;
    repo.publish(&Release::new(COUNTER, COUNTER, "1.0.0"))?;
    world.vm.expect_verdict(COUNTER, "1.0.0", "committed")?;
    // Every byte of this bundle is fetched, whatever the slots hold.
    let whole = Forged::new(world, "1.1.0", "1.1.0")?;
    whole.with_its_images(world, false)?;
    repo.publish_firmware(&whole.folder)?;
    let alone = alone(world, &repo)?;

    eprintln!("bench: the same through the update daemon");
    // The next boot is that of the slot that runs again, and RAUC is where nothing reaches it but the relay.
    world.vm.sh(
        "rauc status mark-active booted; rm -rf /run/systemd/system/rauc.service.d; systemctl daemon-reload; \
         systemctl stop rauc.service; rm -rf /data/rauc/*; echo 3 >/proc/sys/vm/drop_caches; \
         systemd-run --quiet sh -c 'exec journalctl --follow --lines=0 --output=short-unix --unit=ota-updated.service \
         >/data/qemu-tests/ota.log'",
    )?;
    world.server.forget();
    world.vm.adjust(&more(true))?;
    expect_committed(&mut world.vm, "1.1.0")?;
    let log = world.vm.sh("cat /data/qemu-tests/ota.log; rm -f /data/qemu-tests/ota.log")?;
    let ours = seconds(&log).ok_or(Error::Unreadable { what: "the update daemon's journal", text: log })?;
    let fetched = world.server.sent(".raucb");
    let bundle = length(&whole.folder.join("firmware.raucb"))?;
    if (fetched as f64) < bundle * 0.95 {
        let text = format!("only {fetched} of {bundle} bytes were fetched");
        return Err(Error::Unreadable { what: "the installation as a measure", text });
    }

    eprintln!("bench: a change of one daemon");
    world.server.forget();
    repo.publish_firmware(&world.built.firmware("1.2.0"))?;
    expect_committed(&mut world.vm, "1.2.0")?;
    let small = world.server.sent(".raucb") as f64;
    let next = length(&world.built.firmware("1.2.0").join("firmware.raucb"))?;
    let mb = bundle / 1e6;
    Ok(vec![
        Row::plain("installation of firmware through the update daemon, all of it fetched", ours, "s").at_most_times(
            "rauc install of the same bundle",
            alone,
            INSTALL_LIMIT,
        ),
        Row::plain("throughput of it", mb / ours, "MB/s").beside("rauc install of the same bundle", mb / alone),
        Row::plain("fetched for a change of one daemon, of the bundle", small / next * 100.0, "%").at_most(FETCH_LIMIT),
    ])
}

fn length(path: &Path) -> Result<f64> {
    Ok(std::fs::metadata(path).map_err(Error::file("read", path))?.len() as f64)
}

fn expect_committed(vm: &mut Vm, version: &str) -> Result<()> {
    match vm.firmware_verdict(version)? {
        verdict if verdict == "committed" => Ok(()),
        seen => Err(Error::Step { step: format!("firmware {version}"), expected: "committed".into(), seen }),
    }
}

/// Seconds that RAUC needs by itself, streaming from the server.
fn alone(world: &mut World, repo: &Repo) -> Result<f64> {
    let served = repo.served();
    let bundle = Repo::bundle_in(&served, "1.1.0")?;
    let path = bundle.strip_prefix(&served).map_err(|_| Error::Unreadable { what: "the path", text: String::new() })?;
    let vm = &mut world.vm;
    vm.sh(
        "mkdir -p /run/systemd/system/rauc.service.d; printf '[Service]\\nIPAddressAllow=any\\n' >/run/systemd/system/rauc.service.d/bench.conf; \
         systemctl daemon-reload; systemctl stop rauc.service; echo 3 >/proc/sys/vm/drop_caches",
    )?;
    let clock = "cut -d' ' -f1 /proc/uptime";
    let line = format!("{clock}; rauc install {SERVER_URL}/{} >&2 && {clock}", path.display());
    let output = vm.exec_for(&["sh", "-c", &line], b"", ALONE)?;
    let times: Vec<f64> = output.stdout.lines().filter_map(|l| l.trim().parse().ok()).collect();
    let &[before, after] = times.as_slice() else {
        return Err(Error::Command { command: "rauc install".into(), code: output.code, output: output.stderr });
    };
    Ok(after - before)
}

/// How long the installation took that the update daemon's journal tells of, from the attempt's begin to its last word, its times
/// in seconds since 1970.
fn seconds(log: &str) -> Option<f64> {
    let time = |words: &str| {
        let line = log.lines().find(|line| line.contains(words))?;
        line.split_whitespace().next()?.parse::<f64>().ok()
    };
    Some(time(" trial: installed, ")? - time(" installing: newer ")?)
}

#[cfg(test)]
mod tests {
    use super::seconds;

    #[test]
    fn the_journal_tells_how_long_an_installation_took() {
        let log = "1.5 x ota-updated[1]: firmware 1.1.0 installing: newer than what runs\n\
                   2.0 x ota-updated[1]: firmware: installation of firmware 1.1.0 started (slot b)\n\
                   9.0 x ota-updated[1]: firmware 1.1.0 trial: installed, fetched 48.4 of 48.4 MB; it waits\n";
        assert_eq!(seconds(log), Some(7.5));
        assert_eq!(seconds("1.5 x ota-updated[1]: firmware 1.1.0 installing: newer than what runs\n"), None);
    }
}

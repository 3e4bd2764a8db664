//! Measurements of a firmware update: what the relay costs beside RAUC alone, and what a small change has to fetch.

use std::time::Duration;

use crate::device::Settings;
use crate::error::{Error, Result};
use crate::repo::{Release, Repo};
use crate::row::Row;
use crate::uefi::Uefi;
use crate::vm::{SERVER_URL, Vm};
use crate::wait::{Look, until};
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
    repo.publish_firmware(&world.built.firmware("1.1.0"))?;
    let alone = alone(world, &repo)?;

    eprintln!("bench: the same through the update daemon");
    // Both slots and what RAUC knows of them as they were.
    let line = "for part in root esp; do dd if=/dev/disk/by-partlabel/$part-a of=/dev/disk/by-partlabel/$part-b bs=1M conv=fsync status=none; done; \
         rauc status mark-active booted; rm -rf /run/systemd/system/rauc.service.d; systemctl daemon-reload; systemctl stop rauc.service; \
         rm -rf /data/rauc/*; echo 3 >/proc/sys/vm/drop_caches; \
         systemd-run --quiet sh -c 'exec journalctl --follow --lines=0 --output=short-unix --unit=rauc.service >/data/qemu-tests/rauc.log'";
    let output = world.vm.exec_for(&["sh", "-c", line], b"", ALONE)?;
    if output.code != 0 {
        return Err(Error::Command {
            command: "the other slot as it was".into(),
            code: output.code,
            output: output.stderr,
        });
    }
    world.server.forget();
    world.vm.adjust(&more(true))?;
    expect_committed(&mut world.vm, "1.1.0")?;
    let log = world.vm.sh("cat /data/qemu-tests/rauc.log; rm -f /data/qemu-tests/rauc.log")?;
    let ours = seconds(&log).ok_or_else(|| Error::Unreadable { what: "RAUC's journal", text: log.clone() })?;
    let first = world.server.sent(".raucb") as f64;

    eprintln!("bench: a change of one daemon");
    world.server.forget();
    repo.publish_firmware(&world.built.firmware("1.2.0"))?;
    expect_committed(&mut world.vm, "1.2.0")?;
    let second = world.server.sent(".raucb") as f64;
    let bundle = std::fs::metadata(world.built.firmware("1.2.0").join("firmware.raucb"));
    let bundle = bundle.map_err(Error::file("read", "firmware.raucb"))?.len() as f64;
    Ok(vec![
        Row::plain("installation of firmware through the update daemon", ours, "s").at_most_times(
            "rauc install of the same bundle",
            alone,
            INSTALL_LIMIT,
        ),
        Row::plain("fetched for the first update, of the bundle", first / bundle * 100.0, "%"),
        Row::plain("fetched for a change of one daemon, of the bundle", second / bundle * 100.0, "%")
            .at_most(FETCH_LIMIT),
    ])
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
         systemctl daemon-reload; systemctl restart rauc.service; echo 3 >/proc/sys/vm/drop_caches",
    )?;
    let line = format!("rauc install {SERVER_URL}/{}", path.display());
    vm.exec_for(&["sh", "-c", &line], b"", ALONE)?;
    until("RAUC's journal", Duration::from_secs(60), || {
        let log = vm.sh("journalctl --no-pager --output=short-unix --unit=rauc.service")?;
        Ok(seconds(&log).map_or_else(|| Look::NotYet(log.clone()), Look::Is))
    })
}

/// How long the installation took that RAUC's journal tells of, its times in seconds since 1970.
fn seconds(log: &str) -> Option<f64> {
    let time = |word: &str| {
        let line = log.lines().find(|line| line.contains(": installing ") && line.ends_with(word))?;
        line.split_whitespace().next()?.parse::<f64>().ok()
    };
    Some(time(": finished")? - time(": started")?)
}

#[cfg(test)]
mod tests {
    use super::seconds;

    #[test]
    fn the_journal_tells_how_long_an_installation_took() {
        let log = "1.5 x rauc[1]: installing http://a/b: started\n2.0 x rauc[1]: installing http://a/b: Updating slots\n\
                   9.0 x rauc[1]: installing http://a/b: finished\n";
        assert_eq!(seconds(log), Some(7.5));
        assert_eq!(seconds("1.5 x rauc[1]: installing http://a/b: started\n"), None);
    }
}

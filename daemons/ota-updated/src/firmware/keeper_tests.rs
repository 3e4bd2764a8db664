//! Tests of what takes the keeper long, with a clock that runs ahead; all else is tested with a bus and a bootloader.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use iotwasm_kit::metrics::Registry;
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

use super::*;
use crate::config::Config;
use crate::shared::Shared;
use crate::{Places, Settings};

/// A keeper on a device without a bus.
fn keeper(dir: &std::path::Path) -> (Keeper, UnboundedSender<Command>) {
    for (name, text) in [
        ("slot", "RAUC_SLOT=slot-a\n"),
        ("os-release", "IMAGE_VERSION=1.0.0\n"),
        ("system.conf", "[system]\ncompatible=gw\n"),
    ] {
        std::fs::write(dir.join(name), text).unwrap();
    }
    let places = Places {
        pinned_root: dir.join("root.json"),
        metadata: dir.join("metadata"),
        downloads: dir.join("download"),
        history: dir.join("history.json"),
        payloads: dir.join("payloads"),
        supervisor: dir.join("supervisor.sock"),
        firmware_state: dir.join("firmware.json"),
        booted_slot: dir.join("slot"),
        trial_boot: dir.join("trial"),
        unordered_boot: dir.join("unordered"),
        os_release: dir.join("os-release"),
        rauc_config: dir.join("system.conf"),
        reboot: dir.join("reboot"),
        kept: dir.join("kept"),
        restart_due: dir.join("restart-due"),
        bus: format!("unix:path={}", dir.join("nobody.sock").display()),
        block_devices: dir.join("block"),
        power_supplies: dir.join("power"),
    };
    let build_time = "2026-01-01T00:00:00Z".parse().unwrap();
    let settings = Arc::new(Settings {
        config: Config::default(),
        wanted: Vec::new(),
        places,
        build_time,
        uptime: || Duration::ZERO,
    });
    let metrics = Registry::in_dir(dir, "ota-updated");
    let history = dir.join("history.json");
    let shared = Arc::new(Shared::new("dev-1".into(), "board".into(), history, metrics));
    let firmware = Firmware::open(&settings, &shared, &Arc::new(AtomicBool::new(false))).unwrap();
    let (sender, commands) = unbounded_channel();
    let (gate, orders) = (Arc::default(), std::sync::mpsc::channel().0);
    (Keeper { firmware, commands, later: VecDeque::new(), gate, orders }, sender)
}

#[tokio::test(start_paused = true)]
async fn a_restart_that_does_not_come_is_ordered_three_times_and_given_up() {
    let dir = tempfile::tempdir().unwrap();
    let (mut keeper, sender) = keeper(dir.path());
    let (path, shared) = (dir.path().join("reboot"), Arc::clone(&keeper.firmware.shared));
    let begun = Instant::now();
    let mut orders = 0;
    let watch = async {
        loop {
            if path.exists() {
                std::fs::remove_file(&path).unwrap();
                orders += 1;
            }
            // What the worker says meanwhile changes nothing.
            sender.send(Command::ServerReached).unwrap();
            tokio::time::sleep(Duration::from_secs(7)).await;
        }
    };
    tokio::select! {
        next = keeper.restart() => assert!(matches!(next, Next::Leave)),
        () = watch => {}
    }
    assert_eq!((orders, begun.elapsed().as_secs()), (3, 1800));
    assert!(shared.status().last_error.contains("a restart was ordered 3 times"));
    assert_eq!(keeper.later, [Command::ServerReached]);
}

#[tokio::test(start_paused = true)]
async fn what_is_said_while_rauc_is_asked_again_is_kept_for_later() {
    let dir = tempfile::tempdir().unwrap();
    let (mut keeper, sender) = keeper(dir.path());
    let withdrawn = Command::Withdrawn("bad batch".into());
    for command in [Command::ServerReached, withdrawn.clone(), Command::ServerReached] {
        sender.send(command).unwrap();
    }
    let begun = Instant::now();
    assert!(keeper.insist(async |rauc: &Rauc| rauc.primary().await).await.is_err());
    assert!(begun.elapsed() >= PATIENCE);
    assert_eq!(keeper.pause(PAUSE).await, Some(Command::ServerReached));
    assert_eq!(keeper.heard(), Some(withdrawn));
    assert_eq!(keeper.heard(), None);
    sender.send(Command::Quit).unwrap();
    let begun = Instant::now();
    assert!(matches!(keeper.restart().await, Next::Leave));
    assert_eq!(begun.elapsed(), Duration::ZERO);
}

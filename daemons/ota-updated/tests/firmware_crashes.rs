//! The daemon is stopped, or the power cut, at every point of an update of the firmware where it talks to anybody: the device
//! always comes to the same end, and what comes first in the boot order is always whole.

#![expect(clippy::unwrap_used, reason = "test code outside of test functions")]

mod common;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use common::bus::{Bus, Services, Shared, Stage};
use common::firmware::{Device, set_up_boot};
use common::supervisor::Supervisor;
use common::{copy, settings, start, until};
use iotwasm_firmware::state::{FirmwareState, State};

/// Runs that go on beside each other: they mostly wait.
const BESIDE: usize = 6;

/// The device at one moment: its data partition, what the initrd wrote, and the bootloader with both slots.
#[derive(Clone)]
struct Moment {
    what: String,
    folder: PathBuf,
    stage: Stage,
}

struct Moments {
    dir: PathBuf,
    taken: Mutex<Vec<Moment>>,
    stage: Shared,
}

impl Moments {
    /// Takes one before every answer of the web server about firmware, of RAUC, and of the supervisor.
    fn watch(device: &Device) -> Arc<Self> {
        let dir = device.world.dir.path().to_owned();
        let stage = Arc::clone(&device.stage);
        let moments = Arc::new(Self { dir, taken: Mutex::default(), stage });
        let [web, rauc, supervisor] = [(); 3].map(|()| Arc::clone(&moments));
        device.world.supervisor.stage.lock().unwrap().hook = Some(Arc::new(move |call| supervisor.take(call, None)));
        device.world.web.set(|behaviour| {
            behaviour.hook = Some(Arc::new(move |path| {
                if path.contains("firmware") {
                    web.take(path, None);
                }
            }));
        });
        device.stage.lock().unwrap().hook = Some(Arc::new(move |stage, call| rauc.take(call, Some(stage))));
        moments
    }

    fn take(&self, what: &str, stage: Option<&Stage>) {
        // RAUC holds its own while it calls.
        let stage = stage.cloned().unwrap_or_else(|| self.stage.lock().unwrap().clone());
        let mut taken = self.taken.lock().unwrap();
        // RAUC reads blocks many times, and the trial looks at the device again and again.
        if taken.iter().filter(|moment| moment.what == what).count() >= 3 {
            return;
        }
        let folder = self.dir.join("moments").join(taken.len().to_string());
        copy(&self.dir.join("data"), &folder.join("data"));
        copy(&self.dir.join("run"), &folder.join("run"));
        taken.push(Moment { what: what.to_owned(), folder, stage: Stage { hook: None, ..stage } });
    }
}

/// Starts a device anew from a moment, by a start of the daemon or by one of the whole device, plays every restart that it
/// orders, and waits until it is right.
fn go_on(device: &Device, moment: &Moment, power_cut: bool, right: &(dyn Fn(&Stage, &FirmwareState) -> bool + Sync)) {
    let dir = moment.folder.join(if power_cut { "cut" } else { "stopped" });
    copy(&moment.folder.join("data"), &dir.join("data"));
    copy(&moment.folder.join("run"), &dir.join("run"));
    std::fs::write(dir.join("root.json"), device.world.repo.root_json()).unwrap();
    let bus = Bus::start(&dir);
    let stage = Arc::new(Mutex::new(moment.stage.clone()));
    // RAUC is another process: what it was doing ends with the relay, or with the power.
    let half = |stage: &mut Stage| stage.slots.iter().any(Option::is_none);
    let _services = Services::start(&bus.address, &stage);
    let supervisor = Supervisor::new(dir.join("data/payloads"), dir.join("supervisor.sock"));
    let mut up = Some(supervisor.up());
    if power_cut {
        stage.lock().unwrap().reset();
        set_up_boot(&dir.join("run"), &stage.lock().unwrap());
    }
    let begin = || start(&dir, settings(&dir, &dir.join("data"), &device.world.config, &["blinky"]));
    let mut daemon = Some(begin());
    let state = || std::fs::read(dir.join("data/firmware.json")).ok().map(|b| FirmwareState::from_json(&b).unwrap());
    until(&format!("the device goes on rightly after {:?} ({power_cut})", moment.what), || {
        let first = stage.lock().unwrap().first;
        assert!(stage.lock().unwrap().slots[first as usize].is_some(), "a half-written slot comes first");
        if dir.join("run/reboot").exists() {
            daemon.take().unwrap().stop();
            up = None;
            up = Some(supervisor.up());
            stage.lock().unwrap().reset();
            set_up_boot(&dir.join("run"), &stage.lock().unwrap());
            daemon = Some(begin());
        }
        let state = state().unwrap_or_default();
        let now = stage.lock().unwrap().clone();
        state.state() == &State::Idle && !half(&mut now.clone()) && now.booted == now.first && right(&now, &state)
    });
    let daemon = daemon.unwrap();
    until("no attempt is left open", || daemon.shared().open_attempts().is_empty());
    until("the boot is kept", || dir.join("run/kept").exists());
    daemon.stop();
    drop(up);
}

fn go_on_from_every_moment(device: &Device, moments: &Moments, right: impl Fn(&Stage, &FirmwareState) -> bool + Sync) {
    device.world.web.set(|web| web.hook = None);
    device.stage.lock().unwrap().hook = None;
    device.world.supervisor.stage.lock().unwrap().hook = None;
    let taken = moments.taken.lock().unwrap().clone();
    assert!(taken.len() >= 10, "only {} moments", taken.len());
    let runs: Vec<(&Moment, bool)> = taken
        .iter()
        .flat_map(|moment| [(moment, false), (moment, true)])
        // Where a restart was ordered, there is no way but that.
        .filter(|(moment, power_cut)| *power_cut || !Path::new(&moment.folder).join("run/reboot").exists())
        .collect();
    let right: &(dyn Fn(&Stage, &FirmwareState) -> bool + Sync) = &right;
    for some in runs.chunks(BESIDE) {
        std::thread::scope(|scope| {
            for (moment, power_cut) in some {
                scope.spawn(move || go_on(device, moment, *power_cut, right));
            }
        });
    }
}

fn device() -> Device {
    let mut device = Device::new();
    device.world.repo.release("blinky", "1.0.0");
    device.start();
    device.world.until_committed("1.0.0");
    device.world.repo.release_firmware("1.1.0");
    device
}

#[test]
fn a_stop_or_a_power_cut_at_any_moment_of_a_good_update_ends_in_its_commit() {
    let mut device = device();
    let moments = Moments::watch(&device);
    device.restart();
    device.until_kept("1.1.0");
    device.world.stop();
    go_on_from_every_moment(&device, &moments, |stage, state| {
        stage.slots[stage.first as usize].as_deref() == Some("1.1.0") && state.rejected().is_empty()
    });
}

#[test]
fn a_stop_or_a_power_cut_at_any_moment_of_a_bad_update_ends_in_its_rollback() {
    let mut device = device();
    device.world.config.firmware.ready_within_s = 1;
    device.world.stop();
    device.start();
    // Only trials look.
    device.set_unit("capd.service", "inactive");
    let moments = Moments::watch(&device);
    device.restart();
    device.until_outcome(iotwasm_api::ota::Outcome::RolledBack);
    device.restart();
    device.until_kept("1.0.0");
    device.world.stop();
    go_on_from_every_moment(&device, &moments, |stage, state| {
        stage.slots[stage.first as usize].as_deref() == Some("1.0.0") && state.rejected().len() == 1
    });
}

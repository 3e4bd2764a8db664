//! The daemon is stopped at every point where it talks to anybody, and killed at random: it always goes on rightly.

#![expect(clippy::unwrap_used, reason = "test code outside of test functions")]

mod common;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use common::supervisor::{Script, Supervisor};
use common::{World, copy, settings, start, state, until};
use iotwasm_api::Reason;
use iotwasm_api::ota::Outcome;
use iotwasm_payload::Slot;
use iotwasm_payload::slot::Event;
use iotwasm_payload::store::{Reader, Writer};
use iotwasm_payload::{Digest, PayloadId};

/// Copies of the data partition, each taken while the daemon waited for an answer.
struct Moments {
    from: PathBuf,
    to: PathBuf,
    taken: Mutex<Vec<(String, PathBuf)>>,
}

impl Moments {
    /// Takes one before every answer of the web server and of the supervisor.
    fn watch(world: &World) -> Arc<Self> {
        let to = world.dir.path().join("moments");
        let moments = Arc::new(Self { from: world.data(), to, taken: Mutex::default() });
        let (web, calls) = (Arc::clone(&moments), Arc::clone(&moments));
        world.web.set(|behaviour| behaviour.hook = Some(Arc::new(move |path| web.take(path))));
        world.supervisor.stage.lock().unwrap().hook = Some(Arc::new(move |call| calls.take(call)));
        moments
    }

    fn take(&self, what: &str) {
        let mut taken = self.taken.lock().unwrap();
        let folder = self.to.join(taken.len().to_string());
        copy(&self.from, &folder);
        taken.push((what.to_owned(), folder));
    }
}

/// What runs on the disk must be a whole file, as signed, at every moment.
fn assert_whole(data: &Path) {
    let id: PayloadId = "blinky".parse().unwrap();
    let state = state(data, "blinky");
    let reader = Reader::new(data.join("payloads"));
    let slots = [state.committed().map(|(s, r)| (s, r.clone())), state.trial().map(|(s, r, _)| (s, r.clone()))];
    for (slot, release) in slots.into_iter().flatten() {
        let bytes = reader.payload(&id, slot).unwrap().expect("a slot in use is empty");
        assert_eq!(Digest::of(&bytes), release.sha256);
        let root = std::fs::read(data.parent().unwrap().join("root.json"));
        if let Ok(root) = root {
            let chain = reader.chain(&id, slot);
            iotwasm_trust::chain::verify(&root, &chain, &release.target.to_string()).unwrap();
        }
    }
}

/// Starts a device anew from each moment, with a supervisor that starts as after a reboot, and lets it go on.
fn go_on_from_every_moment(world: &World, moments: &Moments, right: impl Fn(&str, &Path, &Supervisor) -> bool) {
    world.web.set(|web| web.hook = None);
    let taken = moments.taken.lock().unwrap().clone();
    assert!(taken.len() >= 8, "only {} moments", taken.len());
    for (n, (what, data)) in taken.iter().enumerate() {
        std::fs::write(moments.to.join("root.json"), world.repo.root_json()).unwrap();
        assert_whole(data);
        let dir = world.dir.path().join(format!("again-{n}"));
        std::fs::create_dir(&dir).unwrap();
        std::fs::write(dir.join("root.json"), world.repo.root_json()).unwrap();
        let supervisor = Supervisor::new(data.join("payloads"), dir.join("supervisor.sock"));
        supervisor.stage.lock().unwrap().scripts.clone_from(&world.supervisor.stage.lock().unwrap().scripts);
        let up = supervisor.up();
        let daemon = start(&dir, settings(&dir, data, &world.config, &["blinky"]));
        until(&format!("the device goes on rightly after a stop at {what:?}"), || right(what, data, &supervisor));
        until("no attempt is left open", || daemon.shared().open_attempts().is_empty());
        assert_whole(data);
        daemon.stop();
        drop(up);
    }
}

#[test]
fn a_stop_at_any_moment_of_a_good_update_ends_in_its_commit() {
    let mut world = World::new();
    world.repo.release("blinky", "1.0.0");
    world.start().until_committed("1.0.0");
    world.repo.release("blinky", "1.1.0");
    let moments = Moments::watch(&world);
    world.check();
    world.until_committed("1.1.0");
    world.stop();
    go_on_from_every_moment(&world, &moments, |_, data, supervisor| {
        let committed = state(data, "blinky").committed().map(|(_, release)| release.version().to_string());
        let runs = supervisor.runs("blinky").is_some_and(|(version, _, trial)| version == "1.1.0" && !trial);
        committed.as_deref() == Some("1.1.0") && runs
    });
}

#[test]
fn a_stop_at_any_moment_of_a_bad_update_ends_in_its_rollback() {
    let mut world = World::new();
    world.repo.release("blinky", "1.0.0");
    world.start().until_committed("1.0.0");
    world.supervisor.set("1.1.0", Script::Ends(Reason::Trap));
    world.repo.release("blinky", "1.1.0");
    let moments = Moments::watch(&world);
    world.check();
    world.until_outcome(Outcome::RolledBack);
    until("the old release runs", || {
        world.supervisor.runs("blinky").is_some_and(|(v, _, trial)| v == "1.0.0" && !trial)
    });
    world.stop();
    go_on_from_every_moment(&world, &moments, |_, data, supervisor| {
        let state = state(data, "blinky");
        let committed = state.committed().map(|(_, release)| release.version().to_string());
        let runs = supervisor.runs("blinky").is_some_and(|(version, _, trial)| version == "1.0.0" && !trial);
        committed.as_deref() == Some("1.0.0") && state.rejected().len() == 1 && state.trial().is_none() && runs
    });
}

#[test]
fn a_trial_whose_boots_are_spent_is_rolled_back_without_another_start() {
    let mut world = World::new();
    world.repo.release("blinky", "1.0.0");
    world.start().until_committed("1.0.0");
    world.supervisor.set("1.1.0", Script::Silent);
    world.repo.release("blinky", "1.1.0");
    world.check();
    until("the trial runs", || world.supervisor.runs("blinky").is_some_and(|(v, ..)| v == "1.1.0"));
    world.stop();
    let id: PayloadId = "blinky".parse().unwrap();
    let (writer, mut spent) = (Writer::new(world.data().join("payloads")), world.state());
    while spent.trial().unwrap().2 > 0 {
        spent = spent.apply(&Event::TrialStarted { slot: Slot::B }).unwrap();
    }
    writer.save_state(&id, &spent).unwrap();
    let starts = world.supervisor.calls("start blinky B true");
    world.start();
    let attempt = world.until_outcome(Outcome::RolledBack);
    assert_eq!(attempt.reason, Some(Reason::NoBootsLeft));
    assert_eq!(world.supervisor.calls("start blinky B true"), starts);
    until("the old release runs", || {
        world.supervisor.runs("blinky").is_some_and(|(v, _, trial)| v == "1.0.0" && !trial)
    });
}

#[test]
fn a_slot_half_written_is_written_again() {
    let mut world = World::new();
    world.repo.release("blinky", "1.0.0");
    world.start().until_committed("1.0.0");
    world.stop();
    let id: PayloadId = "blinky".parse().unwrap();
    let writing = world.state().apply(&Event::WriteStarted { slot: Slot::B }).unwrap();
    Writer::new(world.data().join("payloads")).save_state(&id, &writing).unwrap();
    let slot = world.data().join("payloads/blinky/b");
    std::fs::create_dir_all(slot.join("chain")).unwrap();
    std::fs::write(slot.join("payload.wasm"), "half").unwrap();
    world.repo.release("blinky", "1.1.0");
    world.start().until_committed("1.1.0");
}

/// Where the child of [`killed_at_random_it_still_gets_there`] finds its device, and the repository's URL.
const DEVICE: &str = "OTA_TEST_DEVICE";
const URL: &str = "OTA_TEST_URL";

#[test]
#[ignore = "not a test: the daemon in a process of its own, for the test below to kill"]
fn the_daemon_in_a_process_of_its_own() {
    let (Ok(dir), Ok(url)) = (std::env::var(DEVICE), std::env::var(URL)) else { return };
    let dir = Path::new(&dir);
    let config = config(url);
    let daemon = start(dir, settings(dir, &dir.join("data"), &config, &["blinky"]));
    until("the parent kills this process", || {
        daemon.check_now();
        std::thread::sleep(Duration::from_millis(100));
        false
    });
}

fn config(url: String) -> ota_updated::config::Config {
    ota_updated::config::Config {
        repositories: vec![url],
        first_check_s: 0,
        trial_boots: 10,
        disk_reserve_kib: 0,
        ..Default::default()
    }
}

#[test]
fn killed_at_random_it_still_gets_there() {
    let mut world = World::new();
    let dir = world.dir.path().to_owned();
    world.repo.release("blinky", "1.0.0");
    // Kills within the first second, again and again, in steps that do not fit the daemon's own; then it is left alone.
    for release in ["1.0.0", "1.1.0"] {
        if release != "1.0.0" {
            world.repo.release("blinky", release);
        }
        for kill in 0..8u64 {
            let mut child = spawn(&dir, &world.web.url);
            std::thread::sleep(Duration::from_millis(20 + (kill * 137) % 700));
            child.kill().unwrap();
            child.wait().unwrap();
            assert_whole(&dir.join("data"));
            let state = state(&dir.join("data"), "blinky");
            assert!(release == "1.0.0" || state.committed().is_some(), "the committed release is lost: {state}");
        }
        let mut child = spawn(&dir, &world.web.url);
        until("it is committed", || {
            let state = state(&dir.join("data"), "blinky");
            assert!(state.rejected().is_empty(), "a good release was rolled back: {state}");
            state.committed().is_some_and(|(_, r)| r.version().to_string() == release)
        });
        let runs = || world.supervisor.runs("blinky").is_some_and(|(v, _, trial)| v == release && !trial);
        until("and runs", runs);
        child.kill().unwrap();
        child.wait().unwrap();
    }
}

fn spawn(dir: &Path, url: &str) -> std::process::Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "--ignored", "the_daemon_in_a_process_of_its_own"])
        .env(DEVICE, dir)
        .env(URL, url)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

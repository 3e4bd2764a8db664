//! Firmware that is installed and waits for its restart, and what becomes of payloads meanwhile.

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use common::firmware::Device;
use common::until;
use iotwasm_api::ota::Outcome;
use iotwasm_api::supervisor::Slot;
use ota_updated::firmware::machine;

/// A device with firmware 1.1.0 installed, whose restart waits for the payload `blinky` 1.0.0. It checks when it is told to.
fn waiting() -> Device {
    let mut device = Device::new();
    device.world.config.poll_interval_s = 86_400;
    device.world.config.stall_timeout_s = 60;
    device.world.config.firmware.delay_max_s = 3600;
    device.world.wanted.push("other");
    device.world.repo.release("blinky", "1.0.0");
    device.start();
    device.world.until_committed("1.0.0");
    device.world.supervisor.hold("blinky", 3600);
    device.world.repo.release_firmware("1.1.0");
    device.world.check();
    until("it waits", || device.info().waiting_for.contains("blinky"));
    device
}

#[track_caller]
fn until_waiting_for(device: &Device, cause: &str) {
    until(cause, || device.info().waiting_for.contains(cause));
}

/// Whether anything was tried with a payload.
fn is_touched(device: &Device, id: &str) -> bool {
    device.world.attempts().iter().any(|attempt| attempt.payload == id)
}

#[test]
fn payloads_are_updated_while_a_restart_waits_for_its_window() {
    let mut device = waiting();
    device.world.stop();
    let day = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"][usize::from(machine::moment().day + 3) % 7];
    device.world.config.firmware.windows = vec![format!("{day} 00:00-24:00").parse().unwrap()];
    device.start();
    until_waiting_for(&device, "a maintenance window");
    for version in ["1.1.0", "1.2.0"] {
        device.world.repo.release("blinky", version);
        device.world.check();
        device.world.until_committed(version);
    }
    assert_eq!(
        (device.info().installed.as_str(), device.info().waiting_for.as_str()),
        ("1.1.0", "a maintenance window")
    );
    assert!(!device.run("reboot").exists());
    device.world.stop();
    device.world.config.firmware.windows.clear();
    device.start().restart();
    device.until_kept("1.1.0");
    device.world.until_committed("1.2.0");
}

#[test]
fn a_payload_that_was_passed_over_is_looked_at_as_soon_as_the_restart_waits_for_power() {
    let mut device = waiting();
    device.world.repo.release("blinky", "1.1.0");
    device.world.check();
    assert_eq!(device.world.supervisor.runs("blinky").unwrap(), ("1.0.0".into(), Slot::A, false));
    device.set_battery(12);
    device.world.until_committed("1.1.0");
    until_waiting_for(&device, "the battery has 12 %");
    device.set_battery(80);
    device.restart();
    device.until_kept("1.1.0");
}

#[test]
fn a_trial_that_was_in_the_way_once_is_the_last_before_the_restart() {
    let mut device = waiting();
    device.world.stop();
    device.set_battery(12);
    device.world.config.confirmation_min_s = 3600;
    device.start();
    until_waiting_for(&device, "power");
    device.world.repo.release("blinky", "1.1.0");
    device.world.check();
    until("the payload is tried", || device.world.supervisor.runs("blinky").is_some_and(|(.., is_trial)| is_trial));
    device.set_battery(80);
    until_waiting_for(&device, "the trial of a payload");
    device.world.repo.release("other", "1.0.0");
    device.world.check();
    assert!(!is_touched(&device, "other"));
    // Or each time there would be another.
    device.set_battery(12);
    until_waiting_for(&device, "power");
    device.world.check();
    assert!(!is_touched(&device, "other"));
    device.set_battery(80);
    until_waiting_for(&device, "the trial of a payload");
    assert!(!device.run("reboot").exists());
    device.world.repo.withdraw("blinky", "1.1.0");
    device.world.check();
    device.restart();
    device.until_kept("1.1.0");
    until("the payload is tried", || device.world.supervisor.runs("other").is_some());
}

#[test]
fn a_payload_that_is_fetched_when_power_comes_back_is_not_tried_before_the_restart_waits_for_power_again() {
    let mut device = waiting();
    device.set_battery(12);
    until_waiting_for(&device, "power");
    // The server answers when the test says so.
    let (asked, answer) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
    let (is_asked, may_answer) = (Arc::clone(&asked), Arc::clone(&answer));
    device.world.web.set(|web| {
        web.hook = Some(Arc::new(move |path: &str| {
            if path.ends_with("other-1.0.0.wasm") {
                is_asked.store(true, Ordering::Relaxed);
                until("the test says so", || may_answer.load(Ordering::Relaxed));
            }
        }));
    });
    device.world.repo.release("other", "1.0.0");
    device.world.daemon.as_ref().unwrap().check_now();
    until("the payload is fetched", || asked.load(Ordering::Relaxed));
    device.set_battery(80);
    until_waiting_for(&device, "blinky");
    answer.store(true, Ordering::Relaxed);
    let attempt = |device: &Device| device.world.attempts().into_iter().find(|attempt| attempt.payload == "other");
    until("it is installed", || attempt(&device).is_some_and(|attempt| attempt.message.contains("its trial waits")));
    assert!(device.world.supervisor.runs("other").is_none());
    device.set_battery(12);
    until("it is committed", || attempt(&device).is_some_and(|attempt| attempt.outcome == Outcome::Committed));
    device.set_battery(80);
    device.world.supervisor.hold("blinky", 0);
    device.restart();
    device.until_kept("1.1.0");
}

#[test]
fn a_restart_of_the_daemon_gives_payloads_no_more_time() {
    let mut device = waiting();
    device.world.stop();
    device.world.uptime = || Duration::from_secs(3600);
    device.start();
    until("a restart is ordered", || device.run("reboot").exists());
    device.world.uptime = || Duration::ZERO;
    device.restart();
    device.until_kept("1.1.0");
}

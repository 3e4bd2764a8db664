//! Firmware against a RAUC that reads and verifies, on a bus of its own: what is kept, what is undone, and why.

mod common;

use std::sync::atomic::Ordering;
use std::time::Duration;

use common::bus::Script;
use common::firmware::Device;
use common::supervisor::Script as PayloadScript;
use common::until;
use iotwasm_api::Reason;
use iotwasm_api::ota::Outcome;
use iotwasm_firmware::Slot;
use iotwasm_firmware::state::{MAX_LEAVES, State};

/// A device that was told to restart into its new firmware.
fn before_its_boot(version: &str, configure: impl FnOnce(&mut Device)) -> Device {
    let mut device = Device::new();
    configure(&mut device);
    device.world.repo.release("blinky", "1.0.0");
    device.start();
    device.world.until_committed("1.0.0");
    device.world.repo.release_firmware(version);
    until("a restart is ordered", || device.run("reboot").exists());
    device
}

/// A device whose new firmware is about to be tried.
fn in_trial(version: &str, change: impl FnOnce(&mut Device)) -> Device {
    let mut device = before_its_boot(version, |_| {});
    device.reset();
    change(&mut device);
    device.start();
    device
}

/// The trial must end with this reason and the old firmware running, and the release must not be tried again.
#[track_caller]
fn is_undone(device: &mut Device, reason: Reason, words: &str) {
    let attempt = device.until_outcome(Outcome::RolledBack);
    assert_eq!(attempt.reason, Some(reason), "{}", attempt.message);
    assert!(attempt.message.contains(words), "{words:?} is not in {:?}", attempt.message);
    for unit in ["capd.service", "wasm-supervisord.service"] {
        device.set_unit(unit, "active");
    }
    device.restart();
    device.until_kept("1.0.0");
    until("its state is closed", || device.state().state() == &State::Idle);
    assert_eq!(device.attempts().len(), 1, "{:?}", device.attempts());
    assert!(device.info().rejected[0].starts_with("1.1.0") && device.info().rejected[0].contains(reason.as_str()));
    let installs = device.calls("install");
    device.world.check();
    device.world.check();
    assert_eq!(device.calls("install"), installs);
    assert!(device.world.metrics().contains("level=\"firmware\",reason="));
}

#[test]
fn a_newer_release_is_streamed_tried_and_kept() {
    let mut device = Device::new();
    device.world.repo.release("blinky", "1.0.0");
    device.start();
    device.world.until_committed("1.0.0");
    let (_, mut news) = device.world.shared().subscribe();
    device.world.repo.release_firmware("1.1.0");
    until("RAUC's progress is told", || {
        news.try_recv().is_ok_and(|news| (news.percent, news.detail.as_str()) == (20, "Checking bundle"))
    });
    device.restart();
    device.until_kept("1.1.0");
    let attempt = device.until_outcome(Outcome::Committed);
    assert_eq!((attempt.version.as_str(), attempt.from_version.as_str()), ("1.1.0", "1.0.0"));
    assert_eq!(device.state().state(), &State::Idle);
    assert_eq!(device.stage.lock().unwrap().first, Slot::B);
    let info = device.info();
    assert_eq!((info.other_version.as_str(), info.other_state.as_str()), ("1.0.0", "inactive"));
    let metrics = device.world.metrics();
    assert!(metrics.contains("iot_device_firmware_version{device_id=\"dev-1\",version=\"1.1.0\"} 1"), "{metrics}");
    assert!(metrics.contains("level=\"firmware\",outcome=\"committed\"} 1"), "{metrics}");
    // And again, into the other slot.
    device.world.repo.release_firmware("1.2.0");
    device.restart();
    device.until_kept("1.2.0");
    assert_eq!(device.stage.lock().unwrap().first, Slot::A);
}

#[test]
fn a_daemon_that_is_not_ready_undoes_it() {
    let mut device = in_trial("1.1.0", |device| device.set_unit("capd.service", "activating"));
    is_undone(&mut device, Reason::DaemonNotReady, "capd.service: activating");
}

#[test]
fn an_image_that_requires_no_unit_is_undone() {
    let mut device = in_trial("1.1.0", |device| {
        device.stage.lock().unwrap().units.retain(|name, _| name == "sysinit.target");
    });
    is_undone(&mut device, Reason::DaemonNotReady, "boot-complete.target requires no unit");
}

#[test]
fn a_daemon_that_fails_after_it_was_ready_undoes_it() {
    let mut device = in_trial("1.1.0", |device| device.world.config.firmware.confirmation_s = 600);
    until(
        "everything is well",
        || matches!(device.state().state(), State::Trial { reached, .. } if reached.contains("confirmation period runs")),
    );
    device.set_unit("wasm-supervisord.service", "failed");
    is_undone(&mut device, Reason::DaemonNotReady, "wasm-supervisord.service: failed");
}

#[test]
fn a_trial_that_begins_long_after_the_boot_is_undone_before_that_is_ended_from_outside() {
    let mut device = in_trial("1.1.0", |device| {
        device.world.config.firmware.confirmation_s = 600;
        // Three seconds are left.
        device.world.uptime = || Duration::from_secs(28 * 60 - 3);
    });
    until("it is undone", || device.attempts().iter().any(|attempt| attempt.outcome == Outcome::RolledBack));
    device.world.uptime = || Duration::ZERO;
    is_undone(&mut device, Reason::DaemonNotReady, "not once well for a whole confirmation period within 3 s");
}

#[test]
fn a_payload_that_only_the_old_firmware_can_run_undoes_it() {
    let mut device = in_trial("1.1.0", |device| {
        // As the supervisor of the new firmware has it.
        device.world.up = None;
        device.world.supervisor.set("1.0.0", PayloadScript::StartFails(Reason::NotVerified));
        device.world.up = Some(device.world.supervisor.up());
    });
    let attempt = device.until_outcome(Outcome::RolledBack);
    device.world.supervisor.set("1.0.0", PayloadScript::Healthy);
    assert!(attempt.message.contains("blinky: not_verified"), "{}", attempt.message);
    is_undone(&mut device, Reason::PayloadFailed, "blinky");
    assert_eq!(device.world.payload().committed, "1.0.0");
}

#[test]
fn a_server_that_cannot_be_reached_undoes_it() {
    let mut device = in_trial("1.1.0", |device| {
        device.world.config.firmware.server_within_s = 3;
        device.world.web.set(|web| web.down = true);
    });
    until("it is undone", || !device.attempts().is_empty() && device.attempts()[0].outcome == Outcome::RolledBack);
    device.world.web.set(|web| web.down = false);
    is_undone(&mut device, Reason::ServerUnreachable, "not reached within 3 s");
}

#[test]
fn a_trial_does_not_wait_for_its_first_check() {
    let device = in_trial("1.1.0", |device| device.world.config.first_check_s = 86_400);
    device.until_kept("1.1.0");
}

#[test]
fn a_bootloader_that_cannot_be_told_undoes_it_and_it_is_tried_again() {
    let mut device = in_trial("1.1.0", |device| device.stage.lock().unwrap().script = Script::CannotMark);
    let attempt = device.until_outcome(Outcome::RolledBack);
    assert_eq!(attempt.reason, Some(Reason::MarkFailed));
    assert!(attempt.message.contains("could not mark it good"), "{}", attempt.message);
    until("a restart is ordered", || device.run("reboot").exists());
    device.stage.lock().unwrap().script = Script::Works;
    device.restart();
    device.until_kept("1.0.0");
    assert!(device.info().rejected.is_empty());
    device.restart();
    device.until_kept("1.1.0");
    assert_eq!(device.attempts().len(), 2, "{:?}", device.attempts());
}

#[test]
fn what_was_marked_good_although_that_seemed_to_fail_does_not_come_up_again() {
    let mut device = in_trial("1.1.0", |device| device.stage.lock().unwrap().script = Script::MarksAndDenies);
    let attempt = device.until_outcome(Outcome::RolledBack);
    assert_eq!(attempt.reason, Some(Reason::MarkFailed));
    assert_eq!(device.stage.lock().unwrap().first, Slot::B);
    until("a restart is ordered", || device.run("reboot").exists());
    device.stage.lock().unwrap().script = Script::Works;
    device.world.config.firmware.enabled = false;
    device.reset();
    assert_eq!(device.stage.lock().unwrap().booted, Slot::A);
    device.start();
    // It is not the first, and makes itself that.
    device.until_kept("1.0.0");
    assert_eq!(device.stage.lock().unwrap().first, Slot::A);
    assert_eq!(device.state().state(), &State::Idle);
}

#[test]
fn a_release_that_is_withdrawn_in_its_trial_is_undone_and_not_held_against_it() {
    let mut device = in_trial("1.1.0", |device| device.world.config.firmware.confirmation_s = 600);
    until("the trial runs", || matches!(device.state().state(), State::Trial { .. }));
    device.world.repo.withdraw_firmware("1.1.0");
    let attempt = device.until_outcome(Outcome::RolledBack);
    assert_eq!(attempt.reason, Some(Reason::Withdrawn));
    assert!(attempt.message.contains("bad batch"), "{}", attempt.message);
    device.restart();
    device.until_kept("1.0.0");
    assert!(device.info().rejected.is_empty());
}

#[test]
fn a_boot_that_is_lost_is_tried_again_until_none_is_left() {
    let mut device = in_trial("1.1.0", |_| {});
    device.world.stop();
    // It came up twice and said nothing more: the bootloader goes back each time.
    for boot in 0..2 {
        device.reset();
        assert_eq!(device.stage.lock().unwrap().booted, Slot::A);
        device.start();
        if boot == 0 {
            until("it is tried again", || device.run("reboot").exists());
            device.reset();
            assert_eq!(device.stage.lock().unwrap().booted, Slot::B);
        }
    }
    let attempt = device.until_outcome(Outcome::RolledBack);
    assert_eq!(attempt.reason, Some(Reason::BootFailed));
    device.until_kept("1.0.0");
    assert!(device.info().rejected[0].contains("boot_failed"));
    device.world.check();
    assert_eq!(device.calls("install"), 1);
}

#[test]
fn a_stop_before_the_bootloader_is_told_of_the_next_boot_costs_none() {
    let mut device = in_trial("1.1.0", |_| {});
    device.world.stop();
    device.reset();
    device.stage.lock().unwrap().script = Script::CannotMark;
    device.start();
    until("the boot is lost", || device.calls("mark active") > 0);
    assert!(matches!(device.state().state(), State::Installed { boots_left: 1, armed: false, .. }));
    // Twice over: the stop, and the power cut.
    device.world.stop();
    device.reset();
    device.stage.lock().unwrap().script = Script::Works;
    device.start().restart();
    device.until_kept("1.1.0");
}

#[test]
fn a_restart_of_the_daemon_costs_no_boot() {
    let mut device = in_trial("1.1.0", |device| device.world.config.firmware.confirmation_s = 600);
    until("the trial runs", || matches!(device.state().state(), State::Trial { boots_left: 1, .. }));
    device.world.stop();
    device.world.config.firmware.confirmation_s = 1;
    device.start();
    device.until_kept("1.1.0");
    assert_eq!(device.calls("mark active"), 0);
}

#[test]
fn a_restart_waits_for_the_trial_of_a_payload_and_none_begins_meanwhile() {
    let mut device = Device::new();
    device.world.config.confirmation_min_s = 3600;
    device.world.repo.release("blinky", "1.0.0");
    device.start();
    until("the payload is tried", || device.world.supervisor.runs("blinky").is_some());
    device.world.repo.release_firmware("1.1.0");
    until("firmware waits", || device.info().waiting_for == "the trial of a payload");
    assert_eq!(device.info().installed, "1.1.0");
    device.world.wanted.push("other");
    device.world.repo.release("other", "1.0.0");
    device.world.stop();
    device.start();
    until("firmware waits again", || !device.info().waiting_for.is_empty());
    device.world.check();
    assert!(device.world.supervisor.runs("other").is_none());
    assert!(!device.run("reboot").exists());
}

#[test]
fn no_trial_of_a_payload_begins_in_that_of_firmware() {
    let mut device = in_trial("1.1.0", |device| device.world.config.firmware.confirmation_s = 600);
    let begun = device.count_trials();
    device.world.repo.release("blinky", "1.1.0");
    for _ in 0..3 {
        device.world.check();
    }
    assert_eq!(device.world.supervisor.runs("blinky").unwrap().0, "1.0.0");
    assert!(matches!(device.state().state(), State::Trial { .. }));
    device.world.stop();
    device.world.config.firmware.confirmation_s = 1;
    device.start();
    device.until_kept("1.1.0");
    device.world.until_committed("1.1.0");
    assert_eq!(begun.load(Ordering::Relaxed), 0);
}

#[test]
fn a_trial_of_a_payload_that_a_power_cut_ended_goes_on_after_that_of_firmware() {
    let mut device = Device::new();
    device.world.repo.release("blinky", "1.0.0");
    device.start();
    device.world.until_committed("1.0.0");
    device.world.stop();
    device.world.config.confirmation_min_s = 3600;
    device.world.repo.release("blinky", "1.1.0");
    device.start();
    until("the payload is tried", || device.world.supervisor.runs("blinky").is_some_and(|(.., is_trial)| is_trial));
    device.world.repo.release_firmware("1.1.0");
    until("firmware waits", || device.info().waiting_for == "the trial of a payload");
    device.reset();
    let begun = device.count_trials();
    device.world.config.confirmation_min_s = 0;
    device.world.config.firmware.confirmation_s = 600;
    device.start();
    for _ in 0..3 {
        device.world.check();
    }
    assert!(device.world.state().trial().is_some());
    assert_eq!(device.world.supervisor.runs("blinky").unwrap().0, "1.0.0");
    device.world.stop();
    device.world.config.firmware.confirmation_s = 1;
    device.start();
    device.until_kept("1.1.0");
    device.world.until_committed("1.1.0");
    assert_eq!(begun.load(Ordering::Relaxed), 0);
}

#[test]
fn a_restart_waits_for_a_payload_that_asks_for_it_and_not_for_ever() {
    let mut device = Device::new();
    device.world.config.firmware.delay_max_s = 2;
    device.world.repo.release("blinky", "1.0.0");
    device.start();
    device.world.until_committed("1.0.0");
    device.world.supervisor.hold("blinky", 60);
    device.world.repo.release_firmware("1.1.0");
    until("it waits", || device.info().waiting_for.contains("blinky"));
    assert!(!device.run("reboot").exists());
    assert_eq!(device.world.shared().status().activity, "waiting_to_reboot");
    device.restart();
    device.until_kept("1.1.0");
}

#[test]
fn a_low_battery_and_a_closed_window_put_it_off() {
    let mut device = Device::new();
    device.set_battery(12);
    device.world.repo.release_firmware("1.1.0");
    device.start();
    until("it waits", || device.info().waiting_for.contains("the battery has 12 %, and 30 % are needed"));
    assert!(device.attempts().is_empty() && device.calls("install") == 0);
    device.set_battery(80);
    device.restart();
    device.until_kept("1.1.0");
}

#[test]
fn what_is_withdrawn_before_its_first_boot_is_given_up() {
    let mut device = Device::new();
    device.world.config.firmware.delay_max_s = 3600;
    device.world.repo.release("blinky", "1.0.0");
    device.start();
    device.world.until_committed("1.0.0");
    device.world.supervisor.hold("blinky", 3600);
    device.world.repo.release_firmware("1.1.0");
    until("it waits", || !device.info().waiting_for.is_empty());
    device.world.repo.withdraw_firmware("1.1.0");
    let attempt = device.until_outcome(Outcome::RolledBack);
    assert_eq!(attempt.reason, Some(Reason::Withdrawn));
    assert_eq!(device.state().state(), &State::Idle);
    assert!(device.state().rejected().is_empty());
    device.reset();
    device.start();
    device.until_kept("1.0.0");
}

#[test]
fn what_is_withdrawn_is_not_given_up_before_the_bootloader_really_stays() {
    let mut device = Device::new();
    device.world.config.firmware.delay_max_s = 3600;
    device.world.repo.release("blinky", "1.0.0");
    device.start();
    device.world.until_committed("1.0.0");
    device.world.supervisor.hold("blinky", 3600);
    device.world.repo.release_firmware("1.1.0");
    until("it waits", || !device.info().waiting_for.is_empty());
    device.stage.lock().unwrap().script = Script::ForgetsActive;
    device.world.repo.withdraw_firmware("1.1.0");
    until("the bootloader was told again", || device.calls("mark active booted") > 1);
    until("that is told", || device.world.shared().status().last_error.contains("still has the other"));
    assert!(matches!(device.state().state(), State::Installed { .. }));
    device.stage.lock().unwrap().script = Script::Works;
    until("it is given up", || device.state().state() == &State::Idle);
    assert_eq!(device.stage.lock().unwrap().next, Some(Slot::A));
}

#[test]
fn a_withdrawn_release_that_runs_gives_way_to_a_lower_one() {
    let mut device = Device::new();
    device.world.repo.release_firmware("1.0.0");
    device.world.repo.release_firmware("0.9.5");
    device.world.repo.release_firmware("0.9.0");
    device.start();
    device.world.check();
    assert_eq!(device.calls("install"), 0);
    device.world.repo.withdraw_firmware("1.0.0");
    device.restart();
    device.until_kept("0.9.5");
}

#[test]
fn what_runs_though_nobody_committed_it_is_kept_if_it_is_well() {
    let mut device = Device::new();
    {
        let mut stage = device.stage.lock().unwrap();
        stage.slots[1] = Some("1.1.0".into());
        stage.next = Some(Slot::B);
    }
    device.reset();
    device.start();
    device.until_kept("1.1.0");
    assert_eq!(device.stage.lock().unwrap().first, Slot::B);
    assert!(device.attempts().is_empty());
}

#[test]
fn what_was_never_tried_is_not_kept_because_the_boot_order_was_lost() {
    let mut device = before_its_boot("1.1.0", |_| {});
    device.reset_without_variables(Slot::B);
    device.set_unit("capd.service", "activating");
    device.start();
    is_undone(&mut device, Reason::DaemonNotReady, "capd.service: activating");
    assert_eq!(device.stage.lock().unwrap().first, Slot::A);
}

#[test]
fn what_was_never_tried_is_not_kept_by_a_second_reset_after_the_boot_order_was_lost() {
    let mut device = before_its_boot("1.1.0", |device| device.world.config.firmware.trial_boots = 1);
    device.reset_without_variables(Slot::B);
    device.set_unit("capd.service", "activating");
    device.start();
    until("its trial has begun", || matches!(device.state().state(), State::Trial { .. }));
    device.reset();
    device.start();
    device.until_outcome(Outcome::RolledBack);
    device.set_unit("capd.service", "active");
    device.until_kept("1.0.0");
    assert_eq!(device.stage.lock().unwrap().first, Slot::A);
}

#[test]
fn firmware_waits_until_what_vouches_for_the_payloads_holds_under_the_new_root() {
    let mut device = Device::new();
    device.world.repo.release("blinky", "1.0.0");
    device.start().world.until_committed("1.0.0");
    // The image that comes next pins the new root; the vendor's role cannot be had.
    device.world.repo.rotate_timestamp();
    device.world.repo.publish_forged_role();
    device.world.repo.release_firmware("1.1.0");
    device.world.check();
    until("that is told", || device.world.shared().status().last_error.contains("is renewed under the new root"));
    assert_eq!(device.calls("install"), 0);
    device.world.repo.publish_role();
    device.world.check();
    until("it is installed", || device.calls("install") == 1);
}

#[test]
fn what_was_undone_is_not_kept_because_the_boot_order_was_lost() {
    let mut device = in_trial("1.1.0", |device| device.set_unit("capd.service", "failed"));
    is_undone(&mut device, Reason::DaemonNotReady, "capd.service");
    // Everything would be well by now.
    device.reset_without_variables(Slot::B);
    device.start();
    assert_eq!((device.info().version, device.info().state), ("1.1.0".to_owned(), "trial".to_owned()));
    device.restart();
    device.until_kept("1.0.0");
    assert_eq!(device.stage.lock().unwrap().first, Slot::A);
    assert_eq!(device.attempts().len(), 1);
}

#[test]
fn what_was_undone_runs_on_where_the_bootloader_starts_it_again_and_again() {
    let mut device = in_trial("1.1.0", |device| device.set_unit("capd.service", "failed"));
    is_undone(&mut device, Reason::DaemonNotReady, "capd.service");
    device.stage.lock().unwrap().script = Script::CannotMark;
    device.set_unit("capd.service", "failed");
    for _ in 0..MAX_LEAVES {
        device.reset_without_variables(Slot::B);
        device.start();
        until("a restart is ordered", || device.run("reboot").exists());
    }
    device.reset_without_variables(Slot::B);
    device.start();
    until("it is left alone", || device.run("kept").exists());
    assert!(!device.run("reboot").exists(), "it restarts for ever");
    assert_eq!(device.state().unkept(), Some(Slot::B));
    until("the status says so", || device.world.shared().status().last_error.contains("was never committed"));
    // Payloads go on.
    device.world.repo.release("blinky", "1.0.0");
    device.world.check();
    device.world.until_committed("1.0.0");
    assert_eq!(device.calls("install"), 1);
    // And once the other one runs, all is as it was.
    device.stage.lock().unwrap().script = Script::Works;
    device.set_unit("capd.service", "active");
    device.reset();
    device.start();
    device.until_kept("1.0.0");
    until("that is written down", || !device.state().was_left_in_vain());
}

#[test]
fn what_was_undone_and_is_chosen_by_hand_is_kept_if_it_is_well() {
    let mut device = in_trial("1.1.0", |device| device.set_unit("capd.service", "failed"));
    is_undone(&mut device, Reason::DaemonNotReady, "capd.service");
    device.stage.lock().unwrap().next = Some(Slot::B);
    device.reset();
    device.start();
    device.until_kept("1.1.0");
    until("that is written down", || device.state().unkept().is_none());
    // Now the loss of the boot order is nothing to it.
    device.reset_without_variables(Slot::B);
    device.start();
    device.until_kept("1.1.0");
}

#[test]
fn a_device_from_the_factory_has_no_boot_order_and_is_kept_as_it_is() {
    let mut device = Device::new();
    device.reset_without_variables(Slot::A);
    device.set_unit("capd.service", "activating");
    device.start();
    device.until_kept("1.0.0");
}

#[test]
fn what_runs_though_nobody_committed_it_waits_for_the_server_and_is_no_less_a_trial_after_a_crash() {
    let mut device = Device::new();
    {
        let mut stage = device.stage.lock().unwrap();
        stage.slots[1] = Some("1.1.0".into());
        stage.next = Some(Slot::B);
    }
    device.world.config.firmware.server_within_s = 1;
    device.world.web.set(|web| web.down = true);
    device.reset();
    device.start();
    until("it is told", || device.world.shared().status().last_error.contains("server_unreachable"));
    // Only the network is missing: the device is not restarted for that.
    until("it is left alone", || device.run("kept").exists());
    device.world.stop();
    device.world.repo.release_firmware("1.2.0");
    device.world.config.firmware.server_within_s = 60;
    device.world.web.set(|web| web.down = false);
    device.start();
    until("it is kept", || device.stage.lock().unwrap().first == Slot::B);
    // Over the first slot nothing was installed before that.
    let stage = device.stage.lock().unwrap();
    let place = |part: &str| stage.calls.iter().position(|call| call.contains(part));
    let kept = place("mark good").expect("it was marked");
    assert!(place("install").is_none_or(|install| install > kept), "{:?}", stage.calls);
}

#[test]
fn a_trial_of_what_says_another_version_is_undone() {
    let mut device = Device::new();
    device.world.repo.release_firmware("1.1.0");
    device.start();
    until("a restart is ordered", || device.run("reboot").exists());
    device.world.stop();
    device.stage.lock().unwrap().slots[1] = Some("1.1.1".into());
    device.reset();
    device.start();
    until("a restart is ordered", || device.run("reboot").exists());
    let attempt = device.attempts().remove(0);
    assert_eq!((attempt.version.as_str(), attempt.outcome), ("1.1.0", Outcome::RolledBack));
    assert_eq!(attempt.reason, Some(Reason::NotVerified));
    assert!(attempt.message.contains("says that it is 1.1.1"), "{}", attempt.message);
    // Once is no proof against the release: somebody may have put that there.
    assert!(device.state().rejected().is_empty());
    device.reset();
    let stage = device.stage.lock().unwrap();
    assert_eq!((stage.booted, stage.first), (Slot::A, Slot::A));
}

#[test]
fn what_runs_though_nobody_committed_it_is_left_alone_if_it_is_not_well() {
    let mut device = Device::new();
    device.world.config.poll_interval_s = 86_400;
    device.stage.lock().unwrap().next = Some(Slot::B);
    device.set_unit("capd.service", "failed");
    device.reset();
    device.start();
    until("it is told", || device.world.shared().status().last_error.contains("capd.service: failed"));
    // A check that finds nothing wrong does not hide it.
    device.world.check();
    assert!(device.world.shared().status().last_error.contains("capd.service: failed"));
    assert_eq!(device.stage.lock().unwrap().first, Slot::A);
    // Nothing is installed over the slot that is first, and the end of trial boots gives that one another chance.
    device.world.repo.release_firmware("1.1.0");
    device.world.check();
    assert_eq!(device.calls("install"), 0);
    assert!(!device.run("kept").exists() && !device.run("reboot").exists());
    // A payload may be what it lacks: those go on.
    device.world.repo.release("blinky", "1.0.0");
    until("it is left alone", || device.world.shared().status().activity == "idle");
    device.world.check();
    device.world.until_committed("1.0.0");
    assert_eq!(device.calls("install"), 0);
}

#[test]
fn firmware_without_a_repository_would_be_the_last_and_is_undone() {
    let mut repositories = Vec::new();
    let mut device = in_trial("1.1.0", |device| repositories = std::mem::take(&mut device.world.config.repositories));
    device.until_outcome(Outcome::RolledBack);
    device.world.config.repositories = repositories;
    is_undone(&mut device, Reason::ServerUnreachable, "its settings name no repository");
}

#[test]
fn a_full_disk_does_not_keep_bad_firmware() {
    let mut device = in_trial("1.1.0", |device| {
        device.set_unit("capd.service", "activating");
        device.world.config.firmware.ready_within_s = 5;
    });
    until(
        "the trial has written how far it is",
        || matches!(device.state().state(), State::Trial { reached, .. } if reached.contains("capd")),
    );
    // A folder stands where the temporary file must go.
    let part = device.world.data().join(".firmware.json.new");
    std::fs::create_dir(&part).unwrap();
    until("a restart is ordered", || device.run("reboot").exists());
    std::fs::remove_dir(&part).unwrap();
    device.set_unit("capd.service", "active");
    device.reset();
    assert_eq!(device.stage.lock().unwrap().booted, Slot::A);
}

#[test]
fn without_its_files_there_is_no_firmware_level_and_payloads_work() {
    let mut device = Device::new();
    std::fs::remove_file(device.run("slot")).unwrap();
    device.world.repo.release_firmware("1.1.0");
    device.world.repo.release("blinky", "1.0.0");
    device.start();
    device.world.until_committed("1.0.0");
    assert_eq!(device.world.shared().status().firmware, None);
    assert!(device.stage.lock().unwrap().calls.is_empty());
}

#[test]
fn firmware_that_is_switched_off_is_not_installed() {
    let mut device = Device::new();
    device.world.config.firmware.enabled = false;
    device.world.repo.release_firmware("1.1.0");
    device.start();
    device.world.check();
    assert!(device.stage.lock().unwrap().calls.is_empty());
}

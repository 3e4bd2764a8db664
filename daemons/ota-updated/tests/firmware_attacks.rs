//! What a mirror, a stranger or a careless maker may do to the firmware: nothing that TUF and RAUC did not both sign, and
//! nothing that was not published whole.

#![expect(clippy::unwrap_used, reason = "test code outside of test functions")]

mod common;

use common::bus::Script;
use common::firmware::{COMPATIBLE, Device, Made, make};
use common::repo::TestRepo;
use common::until;
use common::web::Web;
use iotwasm_api::ota::{Attempt, Outcome};
use iotwasm_firmware::Digest;
use iotwasm_firmware::Slot;
use iotwasm_firmware::state::{Bundle, Event, FirmwareState, State};

/// The next check must end like this, with these words, and with nothing changed that boots.
#[track_caller]
fn comes_to(device: &mut Device, outcome: Outcome, words: &str) -> Attempt {
    device.start();
    until(&format!("the newest attempt says {words:?}"), || {
        device.attempts().first().is_some_and(|a| a.outcome == outcome && a.message.contains(words))
    });
    let attempt = device.attempts().remove(0);
    until("its state is undone", || device.state().state() == &State::Idle);
    let stage = device.stage.lock().unwrap();
    assert_eq!((stage.next, stage.booted), (None, stage.first));
    assert!(!device.run("reboot").exists());
    drop(stage);
    assert!(device.state().rejected().is_empty());
    attempt
}

/// A refused release is not fetched again.
#[track_caller]
fn is_left_alone(device: &Device) {
    let (calls, requests) = (device.calls(""), device.world.web.requests_of("/targets/firmware").len());
    device.world.check();
    device.world.check();
    assert_eq!((device.calls(""), device.world.web.requests_of("/targets/firmware").len()), (calls, requests));
}

fn sha256(bytes: &[u8]) -> Digest {
    Digest::from_bytes(*iotwasm_payload::Digest::of(bytes).as_bytes())
}

/// Publishes a bundle with a `release.json` that is not quite its own, and a custom object that fits it.
fn publish(device: &mut Device, version: &str, made: &Made) {
    let json = made.release.to_json().unwrap();
    device.world.repo.add_release(version, &made.bundle, &json, sha256(&json));
    device.world.repo.publish_firmware();
}

#[test]
fn a_bundle_of_a_stranger_that_tuf_accepts_is_refused_by_rauc() {
    let mut device = Device::new();
    device.world.repo.release_made(&make("1.1.0", COMPATIBLE, "somebody"));
    comes_to(&mut device, Outcome::Refused, "signature verification failed");
    assert_eq!((device.calls("inspect"), device.calls("install")), (1, 0));
    is_left_alone(&device);
    // The next one is taken.
    device.world.repo.release_firmware("1.1.1");
    device.restart();
    device.until_kept("1.1.1");
}

#[test]
fn a_bundle_that_rauc_would_take_and_tuf_does_not_name_is_never_fetched() {
    let mut device = Device::new();
    // A whole repository of a stranger's, with a bundle that the maker signed for RAUC.
    let other = device.world.dir.path().join("other");
    TestRepo::new(&other).release_firmware("1.1.0");
    device.world.web.set(|web| web.dir = other);
    device.start();
    until("the repository is refused", || device.world.shared().status().last_error.contains("valid signatures"));
    assert!(device.calls("") == 0 && device.world.web.requests_of("/targets/").is_empty());
}

#[test]
fn a_vendor_of_payloads_cannot_publish_firmware() {
    let mut device = Device::new();
    let made = make("1.1.0", COMPATIBLE, "us");
    let json = made.release.to_json().unwrap();
    device.world.repo.add_release("1.1.0", &made.bundle, &json, sha256(&json));
    // Named by the vendor's role, not by the one for firmware, which is never published.
    for name in ["firmware/gw/gw-1.1.0.raucb", "firmware/gw/gw-1.1.0.json"] {
        let info = device.world.repo.firmware.target(name).unwrap();
        device.world.repo.role.add_target(name, &info);
    }
    device.world.repo.publish_role();
    device.start();
    device.world.check();
    assert!(device.attempts().is_empty() && device.calls("") == 0);
}

#[test]
fn a_bundle_that_is_swapped_between_inspection_and_installation_is_not_installed() {
    for (version, first) in [("1.1.0", 3), ("1.0.5", 1), ("1.1.0", 2)] {
        let mut device = Device::new();
        device.world.repo.release_firmware("1.1.0");
        // As long as the published one, and well signed for RAUC: an older release, or this one with other blocks.
        let mut other = make(version, COMPATIBLE, "us").bundle;
        if version == "1.1.0" {
            other[150_000] ^= 1;
        }
        assert_eq!(other.len(), std::fs::metadata(device.world.repo.bundle_file("1.1.0")).unwrap().len() as usize);
        device.world.web.set(|web| web.swap_bundle = Some((first, other)));
        comes_to(&mut device, Outcome::Failed, "Input/output error");
        // The mirror is well again: nothing was held against the release.
        device.world.web.set(|web| web.swap_bundle = None);
        device.restart();
        device.until_kept("1.1.0");
    }
}

#[test]
fn a_mirror_with_another_end_is_left_out_and_the_next_one_taken() {
    let mut device = Device::new();
    device.world.repo.release_firmware("1.1.0");
    let other = make("1.0.5", COMPATIBLE, "us").bundle;
    device.world.web.set(|web| web.swap_bundle = Some((0, other)));
    comes_to(&mut device, Outcome::Failed, "other bytes at the end");
    assert_eq!(device.calls("inspect"), 0);
    device.world.stop();
    let mirror = Web::serve(device.world.repo.dir.clone());
    device.world.config.repositories.push(mirror.url.clone());
    device.start().restart();
    device.until_kept("1.1.0");
    let asked = device.world.web.requests_of(".raucb").len();
    assert!(asked < 8 && mirror.requests_of(".raucb").len() > 3, "{asked}");
}

#[test]
fn mirrors_that_alter_blocks_do_not_keep_a_release_from_the_device() {
    // Three of them would use up what a single mirror is granted.
    for bad in [1, 3] {
        let mut device = Device::new();
        device.world.repo.release_firmware("1.1.0");
        let mut altered = make("1.1.0", COMPATIBLE, "us").bundle;
        altered[150_000] ^= 1;
        let mirrors: Vec<Web> = (0..=bad).map(|_| Web::serve(device.world.repo.dir.clone())).collect();
        for mirror in &mirrors[..bad] {
            mirror.set(|web| web.swap_bundle = Some((0, altered.clone())));
        }
        device.world.config.repositories = mirrors.iter().map(|mirror| mirror.url.clone()).collect();
        device.start().restart();
        device.until_kept("1.1.0");
        // One attempt with each, and the last one's was good.
        assert_eq!(device.calls("install"), bad + 1);
        assert!(device.attempts().iter().all(|attempt| attempt.outcome != Outcome::Refused));
    }
}

#[test]
fn an_installation_that_failed_for_another_reason_begins_with_the_next_mirror_as_well() {
    let mut device = Device::new();
    device.stage.lock().unwrap().script = Script::Busy;
    device.world.repo.release_firmware("1.1.0");
    let mirror = Web::serve(device.world.repo.dir.clone());
    device.world.config.repositories.push(mirror.url.clone());
    device.start();
    until("the first mirror is asked", || !device.world.web.requests_of(".raucb").is_empty());
    until("the next mirror is asked", || !mirror.requests_of(".raucb").is_empty());
}

#[test]
fn a_mirror_that_ignores_ranges_lies_about_the_length_or_breaks_off_has_failed() {
    let mut device = Device::new();
    device.world.repo.release_firmware("1.1.0");
    device.world.web.set(|web| web.ignores_ranges = true);
    comes_to(&mut device, Outcome::Failed, "does not know ranges");
    device.world.stop();
    device.world.web.set(|web| (web.ignores_ranges, web.lies_about_length) = (false, true));
    comes_to(&mut device, Outcome::Failed, "which was not asked for");
    device.world.stop();
    device.world.web.set(|web| web.lies_about_length = false);
    let file = device.world.repo.bundle_file("1.1.0");
    let whole = std::fs::read(&file).unwrap();
    std::fs::write(&file, &whole[..whole.len() - 100]).unwrap();
    comes_to(&mut device, Outcome::Failed, "firmware/gw/gw-1.1.0.raucb");
    std::fs::write(&file, whole).unwrap();
    device.restart();
    device.until_kept("1.1.0");
}

#[test]
fn a_description_that_is_not_the_one_in_the_signed_object_is_refused() {
    let mut device = Device::new();
    let made = make("1.1.0", COMPATIBLE, "us");
    let json = made.release.to_json().unwrap();
    device.world.repo.add_release("1.1.0", &made.bundle, &json, sha256(b"another release.json"));
    device.world.repo.publish_firmware();
    comes_to(&mut device, Outcome::Refused, "not the one that was signed with the bundle");
    is_left_alone(&device);
    assert_eq!(device.calls(""), 0);
}

#[test]
fn an_older_bundle_under_a_new_name_is_refused() {
    // Signed by both, but what the maker's key signed under the name of 1.1.0 is 0.9.5: by its description,
    let mut device = Device::new();
    publish(&mut device, "1.1.0", &make("0.9.5", COMPATIBLE, "us"));
    comes_to(&mut device, Outcome::Refused, "says another version");
    assert_eq!(device.calls(""), 0);
    // or only by the bundle itself.
    let mut device = Device::new();
    let mut made = make("0.9.5", COMPATIBLE, "us");
    made.release.version = "1.1.0".parse().unwrap();
    publish(&mut device, "1.1.0", &made);
    comes_to(&mut device, Outcome::Refused, "RAUC says that it is gw 0.9.5");
    assert_eq!(device.calls("install"), 0);
    is_left_alone(&device);
}

#[test]
fn a_bundle_for_another_compatible_is_refused() {
    let mut device = Device::new();
    publish(&mut device, "1.1.0", &make("1.1.0", "other", "us"));
    comes_to(&mut device, Outcome::Refused, "says another compatible");
    let mut device = Device::new();
    let mut made = make("1.1.0", "other", "us");
    made.release.compatible = COMPATIBLE.into();
    publish(&mut device, "1.1.0", &made);
    comes_to(&mut device, Outcome::Refused, "RAUC says that it is other 1.1.0");
}

#[test]
fn a_description_of_another_bundle_or_of_none_is_refused() {
    for (change, words) in
        [(0, "another length of the bundle"), (1, "another hash of the bundle"), (2, "built without a bundle")]
    {
        let mut device = Device::new();
        let mut made = make("1.1.0", COMPATIBLE, "us");
        match (change, made.release.files.bundle.as_mut().unwrap()) {
            (0, bundle) => bundle.file.length += 1,
            (1, bundle) => bundle.file.sha256 = sha256(b"another bundle"),
            _ => made.release.files.bundle = None,
        }
        publish(&mut device, "1.1.0", &made);
        comes_to(&mut device, Outcome::Refused, words);
        assert_eq!(device.calls(""), 0);
    }
}

#[test]
fn a_release_that_the_slot_cannot_hold_is_put_off_with_both_figures() {
    let mut device = Device::new();
    let partition = device.run("block/vda4");
    std::fs::create_dir_all(&partition).unwrap();
    std::fs::write(partition.join("uevent"), "PARTNAME=root-b\n").unwrap();
    std::fs::write(partition.join("size"), "8\n").unwrap();
    device.world.repo.release_firmware("1.1.0");
    comes_to(&mut device, Outcome::Failed, "root-b has 4096 bytes, and the release needs 8192");
    assert_eq!(device.calls(""), 0);
}

#[test]
fn a_data_partition_that_is_full_puts_it_off() {
    let mut device = Device::new();
    device.world.config.disk_reserve_kib = 1024 * 1024 * 1024;
    device.world.repo.release_firmware("1.1.0");
    comes_to(&mut device, Outcome::Failed, "too full");
    assert_eq!(device.calls(""), 0);
}

#[test]
fn a_rauc_that_dies_or_is_busy_is_a_failure_and_not_a_refusal() {
    let mut device = Device::new();
    device.stage.lock().unwrap().script = Script::Busy;
    device.world.repo.release_firmware("1.1.0");
    comes_to(&mut device, Outcome::Failed, "lready processing a different method");
    device.stage.lock().unwrap().script = Script::Dies;
    until("it dies", || device.calls("died") == 1);
    until("that is told", || device.attempts()[0].message.contains("RAUC ended in the middle"));
    device.services = None;
    {
        let mut stage = device.stage.lock().unwrap();
        stage.script = Script::Works;
        stage.calls.push("started again".into());
    }
    device.services = Some(common::bus::Services::start(&device.bus.address, &device.stage));
    device.restart();
    device.until_kept("1.1.0");
}

#[test]
fn a_rauc_that_dies_each_time_is_tried_three_times() {
    let mut device = Device::new();
    device.stage.lock().unwrap().script = Script::Dies;
    device.world.repo.release_firmware("1.1.0");
    device.start();
    for times in 1..=3 {
        until("it dies", || device.calls("died") == times);
        device.services = None;
        device.stage.lock().unwrap().calls.push("started again".into());
        device.services = Some(common::bus::Services::start(&device.bus.address, &device.stage));
    }
    until("it is refused", || {
        device.attempts()[0].outcome == Outcome::Refused && device.attempts()[0].message.contains("RAUC ended")
    });
    until("its state is undone", || device.state().state() == &State::Idle);
    assert!(device.state().rejected().is_empty());
    is_left_alone(&device);
}

#[test]
fn without_a_bus_payloads_are_updated_all_the_same() {
    let mut device = Device::new();
    device.services = None;
    device.world.repo.release_firmware("1.1.0");
    device.world.repo.release("blinky", "1.0.0");
    comes_to(&mut device, Outcome::Failed, "RAUC could not be asked");
    device.world.until_committed("1.0.0");
}

#[test]
fn without_a_bus_payloads_are_updated_whatever_is_under_way_with_the_firmware() {
    let digest = Digest::from_bytes([7; 32]);
    let bundle = Bundle { version: "1.1.0".parse().unwrap(), sha256: digest, custom: digest };
    let started = Event::InstallStarted { bundle, slot: Slot::B, from: "1.0.0".parse().unwrap() };
    let installing = FirmwareState::default().apply(&started).unwrap();
    let installed = installing.apply(&Event::Installed { boots: 2 }).unwrap();
    // Beside each other: each waits until RAUC's patience is over.
    let mut devices = [installing, installed].map(|state| {
        let mut device = Device::new();
        device.services = None;
        {
            let mut stage = device.stage.lock().unwrap();
            stage.slots[1] = Some("1.1.0".into());
            stage.next = Some(Slot::B);
        }
        std::fs::write(device.world.data().join("firmware.json"), state.to_json().unwrap()).unwrap();
        device.world.repo.release("blinky", "1.0.0");
        device.start();
        device
    });
    for device in &mut devices {
        device.world.until_committed("1.0.0");
        assert!(!device.run("reboot").exists());
        device.services = Some(common::bus::Services::start(&device.bus.address, &device.stage));
    }
    // With RAUC there, what was under way goes on.
    let [installing, mut installed] = devices;
    until("the installation is undone", || installing.state().state() == &State::Idle);
    assert_eq!(installing.stage.lock().unwrap().next, Some(Slot::A));
    installed.restart();
    installed.until_kept("1.1.0");
}

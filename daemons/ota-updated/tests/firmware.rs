//! Firmware against a RAUC that reads and verifies, on a bus of its own: what is kept, what is undone, and why.

#![expect(clippy::unwrap_used, reason = "test code outside of test functions")]

mod common;

use common::bus::Script;
use common::firmware::{COMPATIBLE, Device, make};
use common::supervisor::Script as PayloadScript;
use common::until;
use iotwasm_api::Reason;
use iotwasm_api::ota::Outcome;
use iotwasm_firmware::state::{Slot, State};

#[test]
fn a_newer_release_is_streamed_tried_and_kept() {
    let mut device = Device::new();
    device.world.repo.release_firmware("1.1.0");
    device.world.repo.release("blinky", "1.0.0");
    device.start().restart();
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

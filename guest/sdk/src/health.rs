//! How the payload feels. Every report is also the heartbeat that the manifest's `health.heartbeat_s` asks for.

use core::fmt::Display;

use crate::{abi, message::Message};

pub(crate) const HEALTHY: i32 = 0;
pub(crate) const DEGRADED: i32 = 1;
pub(crate) const FAILED: i32 = 2;
pub(crate) const SELF_TEST_PASSED: i32 = 3;
pub(crate) const SELF_TEST_FAILED: i32 = 4;

/// All is well.
pub fn healthy(message: impl Display) {
    report(HEALTHY, message);
}

/// It works, but not as it should: a sensor is missing, a value is old.
pub fn degraded(message: impl Display) {
    report(DEGRADED, message);
}

/// It has failed and cannot go on. A trial is rolled back; a committed payload is started again.
pub fn failed(message: impl Display) {
    report(FAILED, message);
}

pub(crate) fn report(status: i32, message: impl Display) {
    // A report is refused only for a bad pointer, status or length, and none of these can happen here.
    let _ = abi::health(status, <Message>::of(message).as_bytes());
}

//! What a payload asked of its device, for tests on the author's machine. Present on every target but wasm32, where the
//! device itself answers.
//!
//! Each thread, and so each test, has a recording of its own. Waiting takes no time.

use std::cell::RefCell;

/// One call of a host function.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Call {
    /// A health report.
    Health {
        /// 0 healthy, 1 degraded, 2 failed, 3 self-test passed, 4 self-test failed.
        status: i32,
        /// Its words.
        message: String,
    },
    /// A log line.
    Log {
        /// Syslog's level.
        level: i32,
        /// Its words.
        message: String,
    },
    /// A wait.
    Wait {
        /// For how long, in milliseconds.
        milliseconds: i64,
    },
}

#[derive(Default)]
struct Recording {
    calls: Vec<Call>,
    /// Waits that still end with `Continue`.
    waits_left: u64,
}

thread_local! {
    static RECORDING: RefCell<Recording> = RefCell::default();
}

/// Has the payload stopped after this many waits; at first it is stopped at once.
pub fn stop_after(waits: u64) {
    RECORDING.with_borrow_mut(|recording| recording.waits_left = waits);
}

/// Every call since the last `take`.
#[must_use]
pub fn take() -> Vec<Call> {
    RECORDING.with_borrow_mut(|recording| std::mem::take(&mut recording.calls))
}

fn record(call: Call) -> i32 {
    RECORDING.with_borrow_mut(|recording| recording.calls.push(call));
    0
}

fn text(message: &[u8]) -> String {
    String::from_utf8_lossy(message).into_owned()
}

pub(crate) fn health(status: i32, message: &[u8]) -> i32 {
    record(Call::Health { status, message: text(message) })
}

pub(crate) fn log(level: i32, message: &[u8]) -> i32 {
    record(Call::Log { level, message: text(message) })
}

pub(crate) fn wait(milliseconds: i64) -> i32 {
    /// The device wants the payload to stop.
    const STOPPING: i32 = -4;
    record(Call::Wait { milliseconds });
    RECORDING.with_borrow_mut(|recording| match recording.waits_left.checked_sub(1) {
        Some(left) => {
            recording.waits_left = left;
            0
        }
        None => STOPPING,
    })
}

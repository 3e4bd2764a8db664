//! The host functions of ABI version 1, as they are imported. Nothing else in the crate is unsafe towards the host.

/// Result of a host function that did what it was asked.
pub(crate) const OK: i32 = 0;

/// A health report: the status, and a message in UTF-8.
pub(crate) fn health(status: i32, message: &[u8]) -> i32 {
    imp::health(status, message)
}

/// A log line with a syslog level.
pub(crate) fn log(level: i32, message: &[u8]) -> i32 {
    imp::log(level, message)
}

/// Sleeps, and has the fuel refilled.
pub(crate) fn wait(milliseconds: i64) -> i32 {
    imp::wait(milliseconds)
}

#[cfg(target_arch = "wasm32")]
mod imp {
    #[link(wasm_import_module = "iotwasm")]
    unsafe extern "C" {
        fn iotwasm_health(status: i32, message: *const u8, length: usize) -> i32;
        fn iotwasm_log(level: i32, message: *const u8, length: usize) -> i32;
        safe fn iotwasm_wait(milliseconds: i64) -> i32;
    }

    pub(super) fn health(status: i32, message: &[u8]) -> i32 {
        // SAFETY: pointer and length are of one live slice, and the host only reads.
        unsafe { iotwasm_health(status, message.as_ptr(), message.len()) }
    }

    pub(super) fn log(level: i32, message: &[u8]) -> i32 {
        // SAFETY: pointer and length are of one live slice, and the host only reads.
        unsafe { iotwasm_log(level, message.as_ptr(), message.len()) }
    }

    pub(super) fn wait(milliseconds: i64) -> i32 {
        iotwasm_wait(milliseconds)
    }
}

#[cfg(not(target_arch = "wasm32"))]
use crate::testing as imp;

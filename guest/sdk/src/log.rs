//! Log lines. They go to the device's journal with the payload's id; the levels are syslog's.
//!
//! The macros take a format: `iotwasm_guest::info!("tank at {level} %")`.

use core::fmt::Display;

use crate::{abi, message::Message};

const ERROR: i32 = 3;
const WARNING: i32 = 4;
const INFO: i32 = 6;
const DEBUG: i32 = 7;

/// Something went wrong and was not mended.
pub fn error(message: impl Display) {
    line(ERROR, message);
}

/// Something that should be looked at.
pub fn warn(message: impl Display) {
    line(WARNING, message);
}

/// Something worth knowing.
pub fn info(message: impl Display) {
    line(INFO, message);
}

/// Something for whoever mends the payload.
pub fn debug(message: impl Display) {
    line(DEBUG, message);
}

fn line(level: i32, message: impl Display) {
    // The host drops lines of a payload that floods the journal; a payload must not stop for that.
    let _ = abi::log(level, <Message>::of(message).as_bytes());
}

/// [`log::error`](crate::log::error) with a format.
#[macro_export]
macro_rules! error {
    ($($words:tt)*) => { $crate::log::error(::core::format_args!($($words)*)) };
}

/// [`log::warn`](crate::log::warn) with a format.
#[macro_export]
macro_rules! warn {
    ($($words:tt)*) => { $crate::log::warn(::core::format_args!($($words)*)) };
}

/// [`log::info`](crate::log::info) with a format.
#[macro_export]
macro_rules! info {
    ($($words:tt)*) => { $crate::log::info(::core::format_args!($($words)*)) };
}

/// [`log::debug`](crate::log::debug) with a format.
#[macro_export]
macro_rules! debug {
    ($($words:tt)*) => { $crate::log::debug(::core::format_args!($($words)*)) };
}

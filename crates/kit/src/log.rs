//! Messages for people, on standard error. Under systemd each line carries its priority (sd-daemon(3)), so that
//! `journalctl -p warning` works.

use std::{fmt::Arguments, io::Write, sync::OnceLock};

/// Priority of a line, as in syslog(3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// Something failed.
    Error = 3,
    /// Something is not as it should be.
    Warning = 4,
    /// Worth knowing.
    Info = 6,
    /// For whoever looks for a fault.
    Debug = 7,
}

fn to_journal() -> bool {
    static JOURNAL: OnceLock<bool> = OnceLock::new();
    *JOURNAL.get_or_init(|| std::env::var_os("JOURNAL_STREAM").is_some())
}

fn debug_wanted() -> bool {
    static WANTED: OnceLock<bool> = OnceLock::new();
    *WANTED.get_or_init(|| std::env::var_os("IOTWASM_DEBUG").is_some_and(|v| v != "0"))
}

/// Write one line. Debug lines are written only where IOTWASM_DEBUG is set. Use the macros.
pub fn line(level: Level, text: Arguments<'_>) {
    if level == Level::Debug && !debug_wanted() {
        return;
    }
    let text = text.to_string().replace('\n', " ");
    let mut out = std::io::stderr().lock();
    // Nothing can be done about a standard error that is gone, and a daemon must not end for it.
    let _ = if to_journal() { writeln!(out, "<{}>{text}", level as u8) } else { writeln!(out, "{text}") };
}

/// Something failed.
#[macro_export]
macro_rules! error { ($($arg:tt)*) => { $crate::log::line($crate::log::Level::Error, format_args!($($arg)*)) } }
/// Something is not as it should be.
#[macro_export]
macro_rules! warn { ($($arg:tt)*) => { $crate::log::line($crate::log::Level::Warning, format_args!($($arg)*)) } }
/// Worth knowing.
#[macro_export]
macro_rules! info { ($($arg:tt)*) => { $crate::log::line($crate::log::Level::Info, format_args!($($arg)*)) } }
/// For whoever looks for a fault.
#[macro_export]
macro_rules! debug { ($($arg:tt)*) => { $crate::log::line($crate::log::Level::Debug, format_args!($($arg)*)) } }

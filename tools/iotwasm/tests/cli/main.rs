//! The command from outside: its binary in folders of its own, judged by the project's own TUF client.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on ends")]

mod common;
mod device;
mod firmware;
mod interruption;
mod keys;
mod payload;
mod peripherals;
mod publishing;
mod rotation;

//! A device in a folder, with real signatures, the real runner and its real sandbox.
#![expect(clippy::unwrap_used, reason = "a test that cannot set its device up has failed")]

#[expect(dead_code, reason = "the runner's own tests use the rest")]
#[path = "../capd/mod.rs"]
mod capd;
mod payloads;
mod peripherals;
mod service;
mod support;

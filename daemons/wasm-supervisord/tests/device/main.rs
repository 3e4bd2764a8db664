//! A device in a folder, with real signatures, the real runner and its real sandbox.
#![expect(clippy::unwrap_used, reason = "a test that cannot set its device up has failed")]

mod payloads;
mod service;
mod support;

//! The command from outside: small trees, real tools, and the tools' own judgement of what came out.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on ends")]

mod build;
mod bundle;
mod common;
mod efi_update;
mod keys;
mod refusals;
mod reproducible;

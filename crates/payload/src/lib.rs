//! What a payload is, on the wire and on the disk: the manifest inside the .wasm, packing and static checks, the signed
//! target that names it, the slot states and the slot store.
//!
//! Knows no engine, no network and no clock. Of trust it knows only what the signed metadata says about a payload
//! ([`target`]); verifying that metadata is the business of the crate iotwasm-trust.

pub mod check;
pub mod choice;
mod disk;
pub mod id;
pub mod interfaces;
pub mod manifest;
pub mod pack;
#[cfg(test)]
mod power_cut_tests;
pub mod scan;
mod sections;
pub mod slot;
pub mod store;
pub mod target;
mod wanted;

pub use check::{Checked, Finding, Policy, Refused, check};
pub use id::{PayloadId, Vendor};
pub use iotwasm_values::{Digest, NotADigest, NotASlot, Slot};
pub use manifest::Manifest;
pub use pack::{inspect, pack};
pub use slot::{PayloadState, Release};
pub use target::PayloadTarget;
pub use wanted::Wanted;

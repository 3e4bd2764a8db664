//! capd: holds the device's pins, buses and sensors, and lets each payload reach what its signer may grant.
//!
//! [`authorize`] decides what a payload may do, from its stored chain, its signer's tier and the board. [`session`] serves
//! one payload's runner, one thread each, so that a bus that hangs holds up only who uses it; it judges every request with
//! the grant and answers with descriptors where the kernel enforces the rest. [`sensors`] and [`actuators`] are what
//! sessions share; [`registry`] knows every session; [`board`] tells what exists; [`notices`] counts and tells what
//! happened. [`devices`] is the kernel's side. [`service`] answers others over Varlink.
//!
//! It never runs a payload, never looks at what one does with a value, and nothing else on the device opens a peripheral.

pub mod actuators;
pub mod authorize;
pub mod board;
pub mod clock;
pub mod config;
pub mod daemon;
pub mod devices;
pub mod notices;
pub mod registry;
pub mod sensors;
pub mod service;
pub mod session;
mod translate;

pub use daemon::main;

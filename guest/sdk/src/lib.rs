//! Everything a payload needs to talk to the device it runs on: a self-test, health reports, log lines, waiting, and the
//! peripherals that its manifest asks for ([`sensors`], [`gpio`], [`i2c`], [`spi`], [`actuators`]).
//!
//! A payload implements [`Payload`] and names itself with [`payload!`]:
//!
//! ```
//! use core::time::Duration;
//! use iotwasm_guest::{Failure, Payload, Wait, health, payload, wait};
//!
//! #[derive(Default)]
//! struct Blinky {
//!     on: bool,
//! }
//!
//! impl Payload for Blinky {
//!     fn self_test(&mut self) -> Result<(), Failure> {
//!         Ok(())
//!     }
//!
//!     fn run(&mut self) {
//!         while wait(Duration::from_secs(1)) == Wait::Continue {
//!             self.on = !self.on;
//!             health::healthy(if self.on { "on" } else { "off" });
//!         }
//!     }
//! }
//!
//! payload!(Blinky);
//! # iotwasm_guest::testing::stop_after(2);
//! # Blinky::default().run();
//! ```
//!
//! A type without a self-test does not compile. On `wasm32-wasip1` with the `std` feature the standard library's files
//! and environment work within what the manifest asks for; without `std` the crate is `no_std` and needs no WASI.
//!
//! On any other target than wasm32 the crate records what the payload does instead of doing it, so that a payload can be
//! tested with `cargo test` on the author's machine: see [`testing`].
#![cfg_attr(all(not(feature = "std"), target_arch = "wasm32"), no_std)]

mod abi;
pub mod actuators;
pub mod delay;
mod error;
#[doc(hidden)]
pub mod export;
pub mod gpio;
pub mod health;
pub mod i2c;
pub mod log;
mod message;
pub mod restart;
pub mod self_test;
pub mod sensors;
pub mod spi;
#[cfg(feature = "std")]
pub mod storage;
#[cfg(not(target_arch = "wasm32"))]
pub mod testing;
mod wait;

/// The traits that drivers are written for, in the version that this crate implements.
pub use embedded_hal;
pub use error::Error;
pub use export::command;
pub use message::{Failure, MAX_FAILURE, MAX_MESSAGE};
pub use wait::{Wait, wait};

/// The guide's examples are tests.
#[cfg(doctest)]
#[doc = include_str!("../../../docs/peripherals.md")]
struct Peripherals;

/// A payload: the logic that a device runs.
///
/// `Default` makes it, before the self-test. It is made once; `self_test` and `run` see the same value.
pub trait Payload: Default {
    /// Proves that the payload can do its work on this device: that its files are there, its sensors answer, its
    /// configuration makes sense. It must end within the manifest's `limits.self_test_ms`.
    ///
    /// # Errors
    /// What is wrong. A release whose self-test fails in its trial is undone, and this message says why in the history.
    fn self_test(&mut self) -> Result<(), Failure>;

    /// Works until [`wait`] says [`Wait::Stop`], then returns. Returning earlier counts as a crash.
    ///
    /// Between two waits it may use `limits.fuel` instructions and `limits.wake_up_ms` of time, and at least every
    /// `health.heartbeat_s` it must report its health.
    fn run(&mut self);
}

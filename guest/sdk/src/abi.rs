//! The host functions of ABI version 1. On wasm32 they are imported; elsewhere `testing` plays the device.
//!
//! Nothing else in the crate is unsafe towards the host.

/// Result of a host function that did what it was asked.
pub(crate) const OK: i32 = 0;

/// An edge, as the host writes it down.
#[derive(Debug, Clone, Copy, Default)]
#[repr(C)]
pub(crate) struct RawEvent {
    /// `CLOCK_MONOTONIC`, in nanoseconds.
    pub(crate) timestamp_ns: u64,
    /// 1 rising, 2 falling.
    pub(crate) edge: u32,
    /// Counts the line's edges; a gap means that some were lost.
    pub(crate) sequence: u32,
    pub(crate) reserved: u64,
}

const _: () = assert!(size_of::<RawEvent>() == 24);

#[cfg(target_arch = "wasm32")]
mod wasm;
#[cfg(target_arch = "wasm32")]
pub(crate) use wasm::{actuators, delay, gpio, health, hold_restart, i2c, log, sensors, spi, wait};

#[cfg(not(target_arch = "wasm32"))]
pub(crate) use crate::testing::{actuators, delay, gpio, health, hold_restart, i2c, log, sensors, spi, wait};

//! What a guest can import, one file for each interface. What its manifest does not ask for is not offered; the static
//! check has already made sure that the module imports nothing else.
//!
//! A peripheral's function first judges what the guest gave it, then looks the thing up in what was granted, and then
//! uses its descriptor or asks capd. None of them waits, but for capd's answer; only `iotwasm_wait` and `next_event` do.

mod actuators;
mod gpio;
mod i2c;
pub(crate) mod lifecycle;
mod memory;
mod number;
mod operations;
mod sensors;
pub(crate) mod session;
mod spi;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use iotwasm_payload::interfaces;
use iotwasm_wasmedge::HostModule;
use wasm_supervisord::protocol::Setup;

use lifecycle::Life;
use session::Shared;

/// The host modules of a payload.
pub(crate) fn modules(life: &Arc<Life>, setup: &Setup, peripherals: Option<&Shared>) -> Vec<HostModule> {
    let mut modules = vec![lifecycle::module(life, peripherals.cloned())];
    if let Some(shared) = peripherals {
        modules.extend(setup.interfaces.iter().filter_map(|module| match module.as_str() {
            interfaces::SENSORS => Some(sensors::module(shared)),
            interfaces::GPIO => Some(gpio::module(shared)),
            interfaces::I2C => Some(i2c::module(shared)),
            interfaces::SPI => Some(spi::module(shared)),
            interfaces::ACTUATORS => Some(actuators::module(shared)),
            _ => None,
        }));
    }
    modules
}

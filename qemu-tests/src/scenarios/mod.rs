//! The scenarios, in the order in which they run: each a list of steps on a device that is shared where that is harmless.

pub(crate) mod account;
pub(crate) mod boot;
pub(crate) mod capabilities;
pub(crate) mod crash;
pub(crate) mod defective;
pub(crate) mod firmware;
mod firmware_hang;
mod firmware_refused;
mod firmware_when;
pub(crate) mod forge;
mod hardware;
pub(crate) mod hostile;
mod hostile_runner;
mod leases;
pub(crate) mod life;
mod network;
mod peripherals;
mod secure_boot;
pub(crate) mod storage;
pub(crate) mod trust;

use crate::error::Result;
use crate::steps::Steps;
use crate::world::World;

/// One scenario.
#[derive(Debug, Clone, Copy)]
pub struct Scenario {
    /// Its name, for `--filter`.
    pub name: &'static str,
    /// What it shows, in one line.
    pub about: &'static str,
    /// Its steps.
    pub run: fn(&mut World, &mut Steps) -> Result<()>,
}

/// Every scenario, in lanes that share nothing: each has a device of its own.
pub const LANES: [(&str, &[Scenario]); 3] = [("run", PAYLOADS), ("firmware", FIRMWARE), (LONG, LONG_ONES)];

/// The lane that runs only when it is asked for, or one of its scenarios.
pub const LONG: &str = "long";

/// The device, its payloads and what they may do; last some of the firmware's, for lanes of about one length.
const PAYLOADS: &[Scenario] = &[
    boot::VERIFIED_BOOT,
    peripherals::PERIPHERALS,
    capabilities::GRANTED,
    capabilities::DENIED,
    leases::LEASES,
    hostile_runner::HOSTILE_RUNNER,
    life::FIRST_INSTALL,
    life::UPDATE,
    account::ACCOUNT,
    defective::SELF_TEST,
    defective::TRAP,
    defective::FUEL,
    defective::MEMORY,
    defective::HEARTBEAT,
    defective::OTHERS,
    hostile::HOSTILE,
    trust::FORGED,
    trust::WRONG_ROOT,
    trust::FORGED_PAYLOAD,
    trust::EXPIRED,
    trust::ROLLED_BACK,
    trust::FROZEN,
    trust::MIXED,
    network::UNRELIABLE,
    network::MIRROR,
    storage::FULL_DISK,
    life::WITHDRAWAL,
    life::ROTATION,
    crash::DEAD_DAEMONS,
    crash::REBOOT_IN_TRIAL,
    crash::POWER_CUTS,
    storage::ALTERED,
    firmware_refused::REFUSED,
    firmware_when::WHEN,
    firmware::UNWELL,
    firmware::MISSING_DRIVER,
];

/// The firmware beneath them, wherever a device is made or broken for it.
const FIRMWARE: &[Scenario] =
    &[firmware::UPDATE, firmware::DEAD_ENDS, firmware::POWER_CUTS, firmware::UNREACHABLE, secure_boot::SECURE_BOOT];

/// What takes longer than an integrator's CI may.
const LONG_ONES: &[Scenario] = &[firmware_hang::INITRD_HANG];

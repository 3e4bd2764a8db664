//! The scenarios, in the order in which they run: each a list of steps on a device that is shared where that is harmless.

mod boot;

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

/// Every scenario.
pub const ALL: &[Scenario] = &[boot::VERIFIED_BOOT];

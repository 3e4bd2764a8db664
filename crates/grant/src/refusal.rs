//! One thing that a payload asked for and may not have, who refuses it, and what would be allowed.

use std::fmt;

use serde::Serialize;

use crate::name::Name;

/// A refusal. A request that is refused comes back with all of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Refusal {
    /// Where the manifest asks: `capabilities.gpio.door`.
    pub key: String,
    /// What it asks, as a manifest writes it: `"out"`.
    pub asked: String,
    /// Who refuses.
    pub by: Side,
    /// What would be allowed.
    pub allows: Allows,
}

/// Who refuses.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Side {
    /// The tier of this role.
    Tier(Name),
    /// The board of this name.
    Board(String),
}

/// What would be allowed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Allows {
    /// Nothing: the tier does not name it, or excepts it.
    Nothing,
    /// Nothing: the role has no file among the tiers.
    NoTier,
    /// The board does not have it; it has these in its place.
    Missing {
        /// The names that there are.
        has: Vec<String>,
    },
    /// This, as a manifest writes it.
    Only(String),
    /// Writing it as this actuator, which counts and judges each write.
    AsActuator(Name),
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} = {}: ", self.key, self.asked)?;
        match (&self.by, &self.allows) {
            (Side::Tier(role), Allows::NoTier) => {
                write!(f, "the role {role} has no tier ({role}.toml) on this device, so it may grant nothing")
            }
            (Side::Tier(role), Allows::Only(less)) => {
                write!(f, "the tier {role} allows {less}; ask for no more than that, or have {role}.toml widened")
            }
            (Side::Tier(role), _) => {
                write!(f, "the tier {role} allows nothing of it; leave it out, or have {role}.toml widened")
            }
            (Side::Board(board), Allows::Missing { has }) if has.is_empty() => {
                write!(f, "the board {board} has no such thing, nor any other of its kind")
            }
            (Side::Board(board), Allows::Missing { has }) => {
                write!(f, "the board {board} has no such thing; it has {}", has.join(", "))
            }
            (Side::Board(board), Allows::Only(less)) => {
                write!(f, "the board {board} allows {less}; ask for no more than that")
            }
            (Side::Board(board), Allows::AsActuator(name)) => {
                write!(f, "on the board {board} this is an actuator; ask for capabilities.actuators.{name}")
            }
            (Side::Board(board), _) => write!(f, "the board {board} allows nothing of it; leave it out"),
        }
    }
}

//! One of two places, of which one is in use while the other may be written.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// One of the two places where a payload, or firmware, can lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Slot {
    /// Slot `a`.
    A,
    /// Slot `b`.
    B,
}

impl Slot {
    /// Both.
    pub const ALL: [Self; 2] = [Self::A, Self::B];

    /// The other one.
    #[must_use]
    pub fn other(self) -> Self {
        match self {
            Self::A => Self::B,
            Self::B => Self::A,
        }
    }

    /// Its name on the disk and on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::A => "a",
            Self::B => "b",
        }
    }
}

impl fmt::Display for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Slot {
    type Err = NotASlot;

    fn from_str(text: &str) -> Result<Self, NotASlot> {
        Self::ALL.into_iter().find(|slot| slot.as_str() == text).ok_or(NotASlot)
    }
}

/// Neither `a` nor `b`.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("a slot is a or b")]
pub struct NotASlot;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_has_one_name_everywhere() {
        for slot in Slot::ALL {
            assert_eq!(slot.to_string().parse(), Ok(slot));
            assert_eq!(serde_json::to_string(&slot).unwrap(), format!("\"{slot}\""));
            assert_ne!(slot.other(), slot);
        }
        assert_eq!("c".parse::<Slot>(), Err(NotASlot));
    }
}

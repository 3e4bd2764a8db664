//! The words for what may be done: access, direction, transfers. The same words in a board file, a tier and a manifest.

use std::collections::BTreeSet;
use std::fmt;

use serde::{Deserialize, Serialize};

/// What may be done with a value.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Access {
    /// Nothing: only in a tier, where it makes an exception from `"*"`.
    #[default]
    None,
    /// `"read"`.
    Read,
    /// `"write"`.
    Write,
    /// `"read-write"`.
    ReadWrite,
}

impl Access {
    /// May be read.
    #[must_use]
    pub fn reads(self) -> bool {
        matches!(self, Self::Read | Self::ReadWrite)
    }

    /// May be written.
    #[must_use]
    pub fn writes(self) -> bool {
        matches!(self, Self::Write | Self::ReadWrite)
    }

    /// All of `other` is in this.
    #[must_use]
    pub fn covers(self, other: Self) -> bool {
        (self.reads() || !other.reads()) && (self.writes() || !other.writes())
    }
}

impl fmt::Display for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "none",
            Self::Read => "read",
            Self::Write => "write",
            Self::ReadWrite => "read-write",
        })
    }
}

/// Which way a line may be used.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Direction {
    /// Not at all: only in a tier, where it makes an exception from `"*"`.
    #[default]
    None,
    /// `"in"`: read its level, wait for its edges.
    In,
    /// `"out"`: set its level.
    Out,
    /// `"both"`: either, and change between them.
    Both,
}

impl Direction {
    /// May be an input.
    #[must_use]
    pub fn inputs(self) -> bool {
        matches!(self, Self::In | Self::Both)
    }

    /// May be an output.
    #[must_use]
    pub fn outputs(self) -> bool {
        matches!(self, Self::Out | Self::Both)
    }

    /// All of `other` is in this.
    #[must_use]
    pub fn covers(self, other: Self) -> bool {
        (self.inputs() || !other.inputs()) && (self.outputs() || !other.outputs())
    }
}

impl fmt::Display for Direction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "none",
            Self::In => "in",
            Self::Out => "out",
            Self::Both => "both",
        })
    }
}

/// A kind of I2C transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum I2cTransfer {
    /// Bytes from the device, from wherever it stands.
    Read,
    /// Bytes to the device.
    Write,
    /// A register's address to the device, then bytes from it, with a repeated start between.
    WriteRead,
}

impl fmt::Display for I2cTransfer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::WriteRead => "write_read",
        })
    }
}

/// A kind of SPI operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SpiTransfer {
    /// Words from the device; zeros go out.
    Read,
    /// Words to the device; what comes in is dropped.
    Write,
    /// Both at once.
    Transfer,
}

impl fmt::Display for SpiTransfer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Transfer => "transfer",
        })
    }
}

/// Words of a set, as a manifest writes them: `["read", "write"]`.
pub(crate) fn list<T: fmt::Display>(items: &BTreeSet<T>) -> String {
    let words: Vec<String> = items.iter().map(|item| format!("\"{item}\"")).collect();
    format!("[{}]", words.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_covers_less_and_never_the_other_way_round() {
        use Access::{None, Read, ReadWrite, Write};
        for (more, less) in [(ReadWrite, Read), (ReadWrite, Write), (Read, None), (Write, None), (Read, Read)] {
            assert!(more.covers(less), "{more} {less}");
        }
        for (one, other) in [(Read, Write), (Write, Read), (Read, ReadWrite), (None, Read)] {
            assert!(!one.covers(other), "{one} {other}");
        }
        assert!(Direction::Both.covers(Direction::In) && !Direction::In.covers(Direction::Out));
        assert!(!Direction::Out.covers(Direction::Both) && Direction::In.covers(Direction::None));
    }
}

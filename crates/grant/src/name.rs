//! Logical names: what payloads, tiers and boards call a peripheral. Checked once, here, when they are made.

use std::borrow::Borrow;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Longest name, in bytes.
pub const MAX_NAME: usize = 63;

/// A name that breaks the rule for names.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{name:?} is not a name: use 1 to 63 of a-z, 0-9, '_' and '-', beginning with a letter")]
pub struct BadName {
    /// What was given, shortened.
    pub name: String,
}

/// A logical name: `[a-z][a-z0-9_-]{0,62}`. Also the name of a signing role.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Name(String);

impl Name {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Name {
    type Err = BadName;

    fn from_str(text: &str) -> Result<Self, BadName> {
        let bytes = text.as_bytes();
        let plain = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'_' | b'-');
        if (1..=MAX_NAME).contains(&bytes.len()) && bytes[0].is_ascii_lowercase() && bytes.iter().all(plain) {
            Ok(Self(text.to_owned()))
        } else {
            Err(BadName { name: text.chars().take(80).collect() })
        }
    }
}

impl TryFrom<String> for Name {
    type Error = BadName;

    fn try_from(text: String) -> Result<Self, BadName> {
        text.parse()
    }
}

impl From<Name> for String {
    fn from(name: Name) -> Self {
        name.0
    }
}

impl Borrow<str> for Name {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a line of a tier is about: one name, or `"*"`, everything of the kind that has no line of its own.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Pattern {
    /// `"*"`.
    Any,
    /// Exactly this.
    Exactly(Name),
}

impl TryFrom<String> for Pattern {
    type Error = BadName;

    fn try_from(text: String) -> Result<Self, BadName> {
        if text == "*" { Ok(Self::Any) } else { text.parse().map(Self::Exactly) }
    }
}

impl From<Pattern> for String {
    fn from(pattern: Pattern) -> Self {
        pattern.to_string()
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("*"),
            Self::Exactly(name) => name.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_could_leave_their_folder_or_their_line_are_refused() {
        let long = "a".repeat(64);
        for bad in ["", ".", "..", "a/b", "a.b", "a\0", "a\nb", "A", "1a", "-a", "_a", "*", "ä", "a b", long.as_str()]
        {
            assert!(bad.parse::<Name>().is_err(), "{bad:?}");
        }
        for good in ["a", "led", "sampling_frequency", "a-1", &"a".repeat(63)] {
            assert_eq!(good.parse::<Name>().unwrap().as_str(), good);
        }
    }

    #[test]
    fn a_star_is_a_pattern_only_when_alone() {
        assert_eq!(Pattern::try_from("*".to_owned()), Ok(Pattern::Any));
        assert!(Pattern::try_from("a*".to_owned()).is_err());
    }
}

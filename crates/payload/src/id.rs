//! Names that end up in paths, target names and role names: checked once, here, when they are made.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Longest id or vendor, in bytes: a DNS label's limit, so that either fits in host names, paths and role names.
pub const MAX_NAME: usize = 63;

/// A name that breaks the rule for names.
#[derive(Debug, Clone, thiserror::Error, PartialEq, Eq)]
#[error("{name:?} is not a {what}: use 1 to 63 of a-z, 0-9 and '-', beginning with a letter")]
pub struct BadName {
    /// Which kind of name was expected.
    pub what: &'static str,
    /// What was given, shortened.
    pub name: String,
}

/// True for `[a-z][a-z0-9-]{0,62}`.
fn is_name(text: &str) -> bool {
    let bytes = text.as_bytes();
    (1..=MAX_NAME).contains(&bytes.len())
        && bytes[0].is_ascii_lowercase()
        && bytes.iter().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || *b == b'-')
}

macro_rules! name {
    ($(#[$doc:meta])* $type:ident, $what:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $type(String);

        impl $type {
            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $type {
            type Err = BadName;

            fn from_str(text: &str) -> Result<Self, BadName> {
                if is_name(text) {
                    Ok(Self(text.to_owned()))
                } else {
                    Err(BadName { what: $what, name: text.chars().take(80).collect() })
                }
            }
        }

        impl TryFrom<String> for $type {
            type Error = BadName;

            fn try_from(text: String) -> Result<Self, BadName> {
                text.parse()
            }
        }

        impl From<$type> for String {
            fn from(name: $type) -> Self {
                name.0
            }
        }

        impl AsRef<str> for $type {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

name! {
    /// Which payload: the slot folder's name. `[a-z][a-z0-9-]{0,62}`.
    PayloadId, "payload id"
}
name! {
    /// Who signs a payload: also the name of the delegated TUF role. `[a-z][a-z0-9-]{0,62}`.
    Vendor, "vendor"
}
name! {
    /// The name of a WASI directory in the device's storage. `[a-z][a-z0-9-]{0,62}`.
    DirectoryName, "directory name"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_could_leave_their_folder_are_refused() {
        let long = "a".repeat(64);
        for bad in ["", ".", "..", "a/b", "a\0", "A", "1a", "-a", "a_b", "ä", "a b", long.as_str()] {
            assert!(bad.parse::<PayloadId>().is_err(), "{bad:?}");
        }
        for good in ["a", "blinky", "a-1", &"a".repeat(63)] {
            assert_eq!(good.parse::<Vendor>().unwrap().as_str(), good);
        }
    }
}

//! A SHA-256 as a value: 64 lower-case hex digits wherever it is written down.

use std::fmt;
#[cfg(feature = "hash")]
use std::io::{self, Read};
use std::str::FromStr;

use serde::{Deserialize, Serialize};
#[cfg(feature = "hash")]
use sha2::{Digest as _, Sha256};

/// A SHA-256, or a PCR of the sha256 bank. What it was taken of is for its holder to know.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Digest([u8; 32]);

/// Not 64 lower-case hex digits.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{text:?} is not a SHA-256 (64 lower-case hex digits)")]
pub struct NotADigest {
    /// What was given, shortened.
    pub text: String,
}

impl Digest {
    /// A PCR after a reset.
    pub const ZERO: Self = Self([0; 32]);

    /// The digest of these bytes.
    #[cfg(feature = "hash")]
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    /// The digest of everything the reader gives, and how many bytes that was.
    ///
    /// # Errors
    /// The reader's.
    #[cfg(feature = "hash")]
    pub fn of_reader(reader: &mut dyn Read) -> io::Result<(Self, u64)> {
        let (mut hasher, mut buffer, mut length) = (Sha256::new(), vec![0; 64 * 1024], 0u64);
        loop {
            match reader.read(&mut buffer) {
                Ok(0) => return Ok((Self(hasher.finalize().into()), length)),
                Ok(n) => {
                    hasher.update(&buffer[..n]);
                    length += n as u64;
                }
                Err(err) if err.kind() == io::ErrorKind::Interrupted => {}
                Err(err) => return Err(err),
            }
        }
    }

    /// A digest that something else computed, for example the TUF client.
    #[must_use]
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The 32 bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Digest({self})")
    }
}

impl FromStr for Digest {
    type Err = NotADigest;

    fn from_str(text: &str) -> Result<Self, NotADigest> {
        let mut bytes = [0; 32];
        // One spelling for one value: whoever compares text compares values.
        let lower = !text.bytes().any(|b| b.is_ascii_uppercase());
        match hex::decode_to_slice(text, &mut bytes) {
            Ok(()) if lower => Ok(Self(bytes)),
            _ => Err(NotADigest { text: text.chars().take(80).collect() }),
        }
    }
}

impl TryFrom<String> for Digest {
    type Error = NotADigest;

    fn try_from(text: String) -> Result<Self, NotADigest> {
        text.parse()
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> Self {
        digest.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_has_one_spelling() {
        let text = "ab".repeat(32);
        assert_eq!(text.parse::<Digest>().unwrap().to_string(), text);
        for bad in [text.to_uppercase(), text[1..].to_owned(), format!("{text}00"), "zz".repeat(32), String::new()] {
            assert!(bad.parse::<Digest>().is_err(), "{bad}");
        }
    }
}

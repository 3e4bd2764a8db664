//! Why a text is no board file, no tier and no request.

/// A value that breaks its key's rule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{key}: {rule}")]
pub struct Invalid {
    /// The key, with its tables.
    pub key: String,
    /// The rule, and what to write instead.
    pub rule: String,
}

impl Invalid {
    pub(crate) fn new(key: impl Into<String>, rule: impl Into<String>) -> Self {
        Self { key: key.into(), rule: rule.into() }
    }
}

/// Why a text does not say what it must.
#[derive(Debug, thiserror::Error)]
pub enum ParseError {
    /// Longer than such a file can be.
    #[error("it has {length} bytes; at most {limit} are read")]
    TooLong {
        /// Its length, in bytes.
        length: usize,
        /// The limit, in bytes.
        limit: usize,
    },
    /// Not UTF-8.
    #[error("it is not UTF-8")]
    NotText {
        /// Where.
        #[source]
        err: std::str::Utf8Error,
    },
    /// Not TOML, a key missing, a key unknown, or a value of the wrong kind.
    #[error("could not parse it")]
    Syntax {
        /// What and where; names the key.
        #[source]
        err: Box<toml::de::Error>,
    },
    /// Each value is right by itself, but one breaks a rule.
    #[error(transparent)]
    Invalid(#[from] Invalid),
}

/// Longest board file, tier or request, in bytes: people write them.
pub const MAX_TEXT: usize = 256 * 1024;

pub(crate) fn from_toml<T: serde::de::DeserializeOwned>(bytes: &[u8]) -> Result<T, ParseError> {
    if bytes.len() > MAX_TEXT {
        return Err(ParseError::TooLong { length: bytes.len(), limit: MAX_TEXT });
    }
    let text = std::str::from_utf8(bytes).map_err(|err| ParseError::NotText { err })?;
    toml::from_str(text).map_err(|err| ParseError::Syntax { err: Box::new(err) })
}

/// Refuses more of something than its limit.
pub(crate) fn at_most(key: &str, count: usize, limit: usize) -> Result<(), Invalid> {
    if count > limit {
        return Err(Invalid::new(key, format!("has {count} entries; at most {limit} are allowed")));
    }
    Ok(())
}

//! What can go wrong, with the address it went wrong at.

use std::fmt;
use std::io;
use std::path::PathBuf;

/// An error of a transfer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The server has no such file (404, 403, 410).
    #[error("{url} was not found (status {status})")]
    NotFound {
        /// The address.
        url: String,
        /// The HTTP status.
        status: u16,
    },
    /// The server answered with a status that is of no use.
    #[error("{url} was answered with status {status}")]
    Status {
        /// The address.
        url: String,
        /// The HTTP status.
        status: u16,
    },
    /// More bytes than allowed.
    #[error("{url} is longer than {limit} bytes")]
    TooLong {
        /// The address.
        url: String,
        /// Bytes allowed.
        limit: u64,
    },
    /// The file ended early.
    #[error("{url} ended after {found} of {expected} bytes")]
    Truncated {
        /// The address.
        url: String,
        /// Bytes expected.
        expected: u64,
        /// Bytes there are now.
        found: u64,
    },
    /// The server answered a range request with something else than what was asked for.
    #[error("{url} was answered with the range {range:?}, which was not asked for")]
    WrongRange {
        /// The address.
        url: String,
        /// The Content-Range header.
        range: String,
    },
    /// The server sent the whole file although a part of it was asked for.
    #[error("{url} was answered whole; its server does not know ranges, which firmware needs")]
    NoRange {
        /// The address.
        url: String,
    },
    /// No connection, a broken one, a timeout, a certificate that does not hold.
    #[error("could not transfer {url}")]
    Transport {
        /// The address.
        url: String,
        /// What the HTTP library said.
        #[source]
        source: Box<ureq::Error>,
    },
    /// The whole transfer took longer than allowed.
    #[error("{path} took longer than {seconds} s")]
    Deadline {
        /// The path asked for.
        path: String,
        /// Seconds allowed.
        seconds: u64,
    },
    /// The caller raised the cancellation flag.
    #[error("the transfer of {path} was cancelled")]
    Cancelled {
        /// The path asked for.
        path: String,
    },
    /// Several mirrors were asked, and none delivered.
    #[error("no mirror delivered {path}")]
    NoMirror {
        /// The path asked for.
        path: String,
        /// What each of them did.
        #[source]
        failures: Failures,
    },
    /// The local file could not be written.
    #[error("could not write the download of {path}")]
    File {
        /// The path asked for.
        path: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A base URL that is not http or https with a host.
    #[error("{url:?} is not an http or https address")]
    Url {
        /// The text.
        url: String,
    },
    /// There is no URL to ask.
    #[error("no repository address is configured")]
    NoUrl,
    /// The CA file could not be used.
    #[error("could not read certificates from {path}; set the CA file in the configuration or use the system's")]
    Ca {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A proxy variable that cannot be understood.
    #[error("the environment variable {variable} does not hold a proxy's address")]
    Proxy {
        /// The variable.
        variable: String,
    },
}

impl Error {
    /// True when every mirror that answered said that there is no such file.
    pub fn is_not_found(&self) -> bool {
        match self {
            Error::NotFound { .. } => true,
            Error::NoMirror { failures, .. } => failures.0.iter().any(Error::is_not_found),
            _ => false,
        }
    }

    /// The limit that a file broke at every mirror that delivered it.
    pub(crate) fn too_long(&self) -> Option<u64> {
        match self {
            Error::TooLong { limit, .. } => Some(*limit),
            Error::NoMirror { failures, .. } => failures.0.iter().find_map(Error::too_long),
            _ => None,
        }
    }

    /// True when no other mirror could do better.
    pub(crate) fn is_final(&self) -> bool {
        matches!(self, Error::File { .. } | Error::Cancelled { .. } | Error::Deadline { .. })
    }
}

/// What each mirror did, in the order they were asked.
#[derive(Debug)]
pub struct Failures(pub Vec<Error>);

impl fmt::Display for Failures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, failure) in self.0.iter().enumerate() {
            let separator = if i == 0 { "" } else { "; " };
            write!(f, "{separator}{failure}")?;
            // These are siblings, so nobody walks down from each: the causes are told here or nowhere.
            let mut cause = std::error::Error::source(failure);
            while let Some(err) = cause {
                write!(f, ": {err}")?;
                cause = err.source();
            }
        }
        Ok(())
    }
}

impl std::error::Error for Failures {}

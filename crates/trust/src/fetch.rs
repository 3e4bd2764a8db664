//! The edge to the network: one blocking call.

use std::error::Error as StdError;

/// Where metadata comes from.
///
/// The client calls it for the steps of TUF 5.3.3, 5.4.1, 5.5.1 and 5.6.1. Nothing that it returns is trusted.
pub trait Fetch {
    /// Returns the file at `path` (relative to the metadata URL, already percent-encoded).
    ///
    /// MUST stop reading after `max_len` bytes and then fail (or return no more than `max_len + 1` bytes, which the
    /// client refuses). MUST answer [`FetchError::NotFound`], and nothing else, when the repository says that there is no
    /// such file: that is how the end of the root chain is told from a broken line.
    fn fetch(&mut self, path: &str, max_len: u64) -> Result<Vec<u8>, FetchError>;
}

impl<F: Fetch + ?Sized> Fetch for &mut F {
    fn fetch(&mut self, path: &str, max_len: u64) -> Result<Vec<u8>, FetchError> {
        (**self).fetch(path, max_len)
    }
}

/// Why a file did not arrive.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FetchError {
    /// The repository has no such file.
    #[error("not found")]
    NotFound,
    /// The file is longer than allowed.
    #[error("longer than {limit} bytes")]
    TooLong {
        /// Bytes allowed.
        limit: u64,
    },
    /// Anything else: no network, a server error, a timeout.
    #[error("the transfer failed")]
    Transport(#[source] Box<dyn StdError + Send + Sync>),
}

//! What can go wrong, each with its object. Sources are never part of the text: whoever reports an error prints the chain.

use std::io;
use std::path::PathBuf;

/// An error of the TUF client, of the store or of an offline chain.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Metadata that the repository or the disk offered was refused. What was trusted before is still trusted.
    #[error("metadata of role {role} was refused")]
    Refused {
        /// The role's name as its delegator spells it.
        role: String,
        /// The reason.
        #[source]
        why: Refusal,
    },
    /// A file that trusted metadata promises is not on the repository (or not in the chain).
    #[error("{path} is missing")]
    Missing {
        /// Name relative to the metadata URL, or within the chain folder.
        path: String,
    },
    /// A file could not be fetched.
    #[error("could not fetch {path}")]
    Fetch {
        /// Name relative to the metadata URL.
        path: String,
        /// What the transport said.
        #[source]
        source: crate::FetchError,
    },
    /// The root given as anchor is not usable.
    #[error("the pinned root is not usable; build the image with a root.json that meets its own threshold")]
    PinnedRoot {
        /// The reason.
        #[source]
        why: Refusal,
    },
    /// A delegated role that alone could answer for the target could not be trusted (TUF 5.6.7: end the search).
    #[error("nothing can be said of {target}, because delegated role {role} could not be used")]
    Undecided {
        /// The target asked for.
        target: String,
        /// The role in the way.
        role: String,
        /// The reason.
        #[source]
        why: Refusal,
    },
    /// No trusted role names this target.
    #[error("no trusted role names the target {target}")]
    NoSuchTarget {
        /// The target asked for.
        target: String,
    },
    /// A target name or a role name that could leave its folder or another file's place.
    #[error("the name {name:?} is not safe to use as a path")]
    UnsafeName {
        /// The name.
        name: String,
    },
    /// The trusted root is older than one seen before: an old chain was put back.
    #[error("the chain ends at root version {found}, but version {floor} was seen before")]
    BelowFloor {
        /// Root version that the chain reaches.
        found: u64,
        /// Newest root version known.
        floor: u64,
    },
    /// Something was asked that needs a refresh first.
    #[error("no refresh has succeeded yet")]
    NotRefreshed,
    /// The store or a chain folder could not be read or written.
    #[error("could not {operation} {path}")]
    Io {
        /// What was tried: read, write, rename, remove, sync, open.
        operation: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

impl Error {
    /// Why metadata was refused, if that is what happened.
    pub fn refusal(&self) -> Option<&Refusal> {
        match self {
            Error::Refused { why, .. } | Error::PinnedRoot { why } | Error::Undecided { why, .. } => Some(why),
            _ => None,
        }
    }

    /// True when the network, not the repository's content, is the likely cause: worth trying again soon.
    pub fn is_transient(&self) -> bool {
        matches!(self, Error::Fetch { .. } | Error::Missing { .. })
    }
}

/// Why one piece of metadata (or one target) was refused; the numbers are those of the TUF specification 1.0.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// Not JSON, not the expected shape, or a field out of range.
    #[error("malformed: {0}")]
    Malformed(String),
    /// `_type` or the major version of `spec_version` is not what this role must have.
    #[error("expected {expected}, found {found:?}")]
    WrongType {
        /// What the file had to be.
        expected: String,
        /// What it said.
        found: String,
    },
    /// Fewer valid signatures than the threshold (5.3.4, 5.4.2, 5.5.3, 5.6.3).
    #[error("{valid} valid signatures where root or delegator asks for {threshold}")]
    Threshold {
        /// Signatures that verified, each key counted once.
        valid: u64,
        /// Signatures needed.
        threshold: u64,
    },
    /// The same key id signs twice: the array is not what the specification allows (4.2.1).
    #[error("key id {0} signs more than once")]
    DuplicateSignature(String),
    /// Past its expiry at the update's start time (5.3.10, 5.4.4, 5.5.6, 5.6.5).
    #[error("expired at {expired} (it is now {now})")]
    Expired {
        /// Expiry in the metadata.
        expired: jiff::Timestamp,
        /// Time the update started at, after the floor was applied.
        now: jiff::Timestamp,
    },
    /// A version lower than one trusted before (5.4.3, 5.5.5).
    #[error("{what} goes back from version {trusted} to {offered}")]
    Rollback {
        /// The file whose version went back.
        what: String,
        /// Version trusted before.
        trusted: u64,
        /// Version offered now.
        offered: u64,
    },
    /// A file listed before is no longer listed (5.5.5).
    #[error("{0} is no longer listed")]
    Unlisted(String),
    /// The version is not the one that was promised (5.3.5, 5.5.4, 5.6.4).
    #[error("version {found} where {expected} was promised")]
    WrongVersion {
        /// Promised by the file name, the timestamp or the snapshot.
        expected: u64,
        /// Found inside.
        found: u64,
    },
    /// Longer than the limit or not as long as promised.
    #[error("{found} bytes where {expected} were promised or allowed")]
    Length {
        /// Promised or allowed.
        expected: u64,
        /// Received (at least).
        found: u64,
    },
    /// A hash differs (5.5.2, 5.6.2, 5.7.3).
    #[error("the {0} hash differs")]
    Hash(&'static str),
    /// No hash of a kind we can check.
    #[error("no sha256 or sha512 hash")]
    NoUsableHash,
    /// The delegated role is not in the snapshot, so it must not be used (5.6.2).
    #[error("not listed in the snapshot")]
    NotInSnapshot,
    /// Listed, but not on the repository.
    #[error("not found on the repository")]
    NotFound,
    /// More delegated roles than the limit would have to be asked (5.6.7.1).
    #[error("more than {0} delegated roles would have to be asked")]
    TooManyRoles(usize),
    /// A role name that would take the place of another file.
    #[error("the role name is not allowed")]
    RoleName,
    /// No root metadata connects the files to the anchor.
    #[error("not signed by keys that root version {0} trusts; fetch it anew from the repository")]
    NotUnderRoot(u64),
}

//! What lies in a payload's slot, judged from the metadata chain beside it and the root of trust on the verified root file
//! system, by nobody else's word. For everyone who acts on a payload: who runs it, and who lets it touch something.
//!
//! Owns no file and keeps nothing: it reads once, and what it gives is what it read. Expiry does not count here: a device
//! without a network keeps working.

use std::{io, path::PathBuf};

use iotwasm_api::Reason;
use iotwasm_payload::{
    Digest, Manifest, PayloadId, PayloadTarget, Policy, Refused, Slot,
    pack::{self, PackError},
    store::{Reader, StoreError},
    target::{CUSTOM_KEY, TargetError},
};

/// What is needed to judge a slot.
#[derive(Debug, Clone)]
pub struct Verifier {
    /// The slots, which we only read.
    pub store: Reader,
    /// The root of trust on the verified root file system.
    pub pinned_root: PathBuf,
    /// The board's name.
    pub board: String,
}

/// A payload that its signer vouches for, whatever its code is. Made by [`Verifier::vouch`] alone.
#[derive(Debug)]
pub struct Vouched {
    manifest: Manifest,
    digest: Digest,
    role: String,
}

impl Vouched {
    /// The manifest, for good.
    #[must_use]
    pub fn into_manifest(self) -> Manifest {
        self.manifest
    }

    /// Its SHA-256.
    #[must_use]
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// The role that signed it.
    #[must_use]
    pub fn role(&self) -> &str {
        &self.role
    }
}

/// A payload that may run. Made by [`Verifier::verify`] alone.
#[derive(Debug)]
pub struct Verified {
    manifest: Manifest,
    digest: Digest,
    bytes: Vec<u8>,
}

impl Verified {
    /// The manifest, for good.
    #[must_use]
    pub fn into_manifest(self) -> Manifest {
        self.manifest
    }

    /// Its SHA-256.
    #[must_use]
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// The bytes that were verified.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

/// Why a slot may not run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The slot could not be read.
    #[error("could not read slot {slot} of {payload}")]
    Read {
        /// Whose.
        payload: PayloadId,
        /// Which.
        slot: Slot,
        /// The cause.
        #[source]
        err: StoreError,
    },
    /// Nothing is there.
    #[error("there is nothing in slot {slot} of {payload}")]
    Empty {
        /// Whose.
        payload: PayloadId,
        /// Which.
        slot: Slot,
    },
    /// The pinned root is missing.
    #[error("could not read the pinned root {}; it is part of the image", path.display())]
    PinnedRoot {
        /// Where it should be.
        path: PathBuf,
        /// The cause.
        #[source]
        err: io::Error,
    },
    /// The chain does not vouch for the target.
    #[error("the stored metadata does not vouch for {target}")]
    Chain {
        /// Which target.
        target: String,
        /// The cause.
        #[source]
        err: iotwasm_trust::Error,
    },
    /// The bytes are not those that were signed.
    #[error("the stored payload is not what was signed as {target}")]
    Bytes {
        /// Which target.
        target: String,
        /// The cause.
        #[source]
        err: iotwasm_trust::Refusal,
    },
    /// Signed words and manifest do not fit together.
    #[error("the signed words about {target} do not fit")]
    Target {
        /// Which target.
        target: String,
        /// The cause.
        #[source]
        err: TargetError,
    },
    /// It is another payload than its folder says.
    #[error("the slot of {payload} holds a release of {found}")]
    OtherPayload {
        /// Whose slot.
        payload: PayloadId,
        /// What it holds.
        found: PayloadId,
    },
    /// Not for this board.
    #[error("{target} is signed for other boards than {board}")]
    OtherBoard {
        /// Which target.
        target: String,
        /// This board.
        board: String,
    },
    /// There is no manifest inside that can be read.
    #[error("the manifest inside {target} could not be read")]
    Manifest {
        /// Which target.
        target: String,
        /// The cause.
        #[source]
        err: PackError,
    },
    /// The module breaks the rules.
    #[error("the module breaks the rules for payloads")]
    Module {
        /// Which ones.
        #[source]
        err: Refused,
    },
}

impl Error {
    /// The kind of failure that callers and metrics are told.
    #[must_use]
    pub fn reason(&self) -> Reason {
        match self {
            Self::Read { .. } => Reason::StartFailed,
            Self::Empty { .. } | Self::PinnedRoot { .. } | Self::Chain { .. } | Self::Bytes { .. } => {
                Reason::NotVerified
            }
            Self::Target { .. }
            | Self::OtherPayload { .. }
            | Self::OtherBoard { .. }
            | Self::Manifest { .. }
            | Self::Module { .. } => Reason::BadPayload,
        }
    }
}

/// What the chain vouches for, before anyone has looked inside.
struct Signed {
    target: String,
    custom: PayloadTarget,
    role: String,
    bytes: Vec<u8>,
}

impl Signed {
    /// Checks that the manifest inside the file says what was signed.
    fn agrees_with(&self, manifest: &Manifest) -> Result<(), Error> {
        self.custom.agrees_with(manifest).map_err(|err| Error::Target { target: self.target.clone(), err })
    }
}

impl Verifier {
    /// Judge what lies in a slot, for who runs it: who signed it, that it is whole, and that its code keeps to the rules.
    /// Reads up to a few MB and checks signatures: not for the loop's own thread.
    ///
    /// # Errors
    /// Why it may not run.
    pub fn verify(&self, payload: &PayloadId, slot: Slot) -> Result<Verified, Error> {
        let signed = self.signed(payload, slot)?;
        let policy = Policy { board: Some(self.board.clone()), ..Policy::default() };
        let checked = iotwasm_payload::check(&signed.bytes, &policy).map_err(|err| Error::Module { err })?;
        signed.agrees_with(checked.manifest())?;
        Ok(Verified { manifest: checked.into_manifest(), digest: Digest::of(&signed.bytes), bytes: signed.bytes })
    }

    /// Judge what lies in a slot, for who lets it touch something: all that [`Self::verify`] asks, but of its code. That is
    /// for who runs it, and what may be touched does not depend on it.
    ///
    /// # Errors
    /// Why its signer does not vouch for it on this board.
    pub fn vouch(&self, payload: &PayloadId, slot: Slot) -> Result<Vouched, Error> {
        let signed = self.signed(payload, slot)?;
        let manifest =
            pack::manifest_of(&signed.bytes).map_err(|err| Error::Manifest { target: signed.target.clone(), err })?;
        if !manifest.runs_on(&self.board) {
            return Err(Error::OtherBoard { target: signed.target, board: self.board.clone() });
        }
        signed.agrees_with(&manifest)?;
        Ok(Vouched { manifest, digest: Digest::of(&signed.bytes), role: signed.role })
    }

    /// Checks the chain, the bytes and the signed words.
    fn signed(&self, payload: &PayloadId, slot: Slot) -> Result<Signed, Error> {
        let read = |err| Error::Read { payload: payload.clone(), slot, err };
        let empty = || Error::Empty { payload: payload.clone(), slot };
        // The state only says what to look for; what it says is believed once the chain vouches for it.
        let state = self.store.state(payload).map_err(read)?.ok_or_else(empty)?;
        let name = state.slot(slot).release.as_ref().ok_or_else(empty)?.target.clone();
        let bytes = self.store.payload(payload, slot).map_err(read)?.ok_or_else(empty)?;
        let target = name.to_string();
        if name.id != *payload {
            return Err(Error::OtherPayload { payload: payload.clone(), found: name.id });
        }
        let root = std::fs::read(&self.pinned_root)
            .map_err(|err| Error::PinnedRoot { path: self.pinned_root.clone(), err })?;
        let signed = iotwasm_trust::chain::verify(&root, &self.store.chain(payload, slot), &target)
            .map_err(|err| Error::Chain { target: target.clone(), err })?;
        signed.verify(&bytes).map_err(|err| Error::Bytes { target: target.clone(), err })?;
        let words = |err| Error::Target { target: target.clone(), err };
        let custom = signed.custom.as_ref().and_then(|custom| custom.get(CUSTOM_KEY));
        // A release that was withdrawn after it was accepted is ota-updated's to replace: stopping what works before
        // there is something better is no rollback.
        let custom = PayloadTarget::from_custom(custom).map_err(words)?;
        custom.agrees_with_name(&name).map_err(words)?;
        if !custom.runs_on(&self.board) {
            return Err(Error::OtherBoard { target, board: self.board.clone() });
        }
        Ok(Signed { target, custom, role: signed.signer().to_owned(), bytes })
    }
}

//! From a payload's slot to what it may do: the stored chain, the signer's tier, the board.

use std::{path::PathBuf, sync::Arc};

use iotwasm_api::{Reason, supervisor};
use iotwasm_grant::{Board, Grant, Name, Refusal, grant, load};
use iotwasm_kit::report;
use iotwasm_payload::{PayloadId, Slot};
use iotwasm_verify::Verifier;

/// What decides.
#[derive(Debug, Clone)]
pub struct Authority {
    /// Judges slots.
    pub verifier: Verifier,
    /// What the board has.
    pub board: Arc<Board>,
    /// Folder of the tiers.
    pub tiers: PathBuf,
}

/// A payload and all that it may do, as [`Authority::authorize`] found it.
#[derive(Debug)]
pub struct Authorized {
    /// Which payload.
    pub payload: PayloadId,
    /// Where it lies.
    pub slot: Slot,
    /// Version in its manifest.
    pub version: String,
    /// SHA-256 in hex.
    pub sha256: String,
    /// The role that signed it.
    pub role: String,
    /// What it may do.
    pub grant: Grant,
}

/// Why there is no grant.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// An argument cannot be one.
    #[error("{0} is no payload id")]
    NoPayload(String),
    /// It could not be verified now.
    #[error("the slot could not be judged")]
    Unjudged(#[source] iotwasm_verify::Error),
    /// It does not verify.
    #[error("the slot does not verify")]
    NotVerified(#[source] iotwasm_verify::Error),
    /// It verifies, but it is another one than the caller means.
    #[error("the slot holds {found}, not {asked}; it was changed meanwhile")]
    OtherBytes {
        /// SHA-256 in the slot.
        found: String,
        /// SHA-256 asked for.
        asked: String,
    },
    /// The tier of its role could not be read.
    #[error("could not read the tier of the role {role}")]
    Tier {
        /// Which.
        role: String,
        /// The cause.
        #[source]
        err: load::LoadError,
    },
    /// The role's name can have no tier.
    #[error("the role {role:?} can have no tier: name it with a-z, 0-9, '_' and '-'")]
    RoleName {
        /// Which.
        role: String,
    },
    /// It asks for too much.
    #[error("it asks for more than it may have: {}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Refused(Vec<Refusal>),
}

impl Authority {
    /// Judges what lies in a slot, which must have this hash. Reads up to a few MB and checks signatures.
    ///
    /// # Errors
    /// Why there is no grant; for what is too much, all of it.
    pub fn authorize(&self, payload: &str, slot: supervisor::Slot, sha256: &str) -> Result<Authorized, Error> {
        let payload: PayloadId = payload.parse().map_err(|_| Error::NoPayload(payload.chars().take(80).collect()))?;
        let slot = match slot {
            supervisor::Slot::A => Slot::A,
            supervisor::Slot::B => Slot::B,
        };
        let vouched = self.verifier.vouch(&payload, slot).map_err(|err| match err.reason() {
            Reason::StartFailed => Error::Unjudged(err),
            _ => Error::NotVerified(err),
        })?;
        let found = vouched.digest().to_string();
        if found != sha256 {
            return Err(Error::OtherBytes { found, asked: sha256.chars().take(64).collect() });
        }
        let role = vouched.role().to_owned();
        let name: Name = role.parse().map_err(|_| Error::RoleName { role: role.clone() })?;
        let tier = load::tier(&self.tiers, name).map_err(|err| Error::Tier { role: role.clone(), err })?;
        let manifest = vouched.into_manifest();
        let grant = grant(&manifest.capabilities, &tier, &self.board).map_err(Error::Refused)?;
        Ok(Authorized { payload, slot, version: manifest.version.to_string(), sha256: found, role, grant })
    }
}

impl Error {
    /// With all causes.
    #[must_use]
    pub fn words(&self) -> String {
        report::chain(self)
    }
}

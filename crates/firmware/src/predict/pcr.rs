//! A PCR as the TPM computes it.

use iotwasm_values::Digest;
use sha2::{Digest as _, Sha256};

/// One extension of a PCR.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// What it is, for people: the event log's words where it has any.
    pub what: String,
    /// What the PCR is extended with.
    pub digest: Digest,
}

impl Event {
    /// An event whose digest is that of these bytes.
    pub fn of(what: impl Into<String>, bytes: &[u8]) -> Self {
        Self { what: what.into(), digest: Digest::of(bytes) }
    }
}

/// The PCR's value after these events, from its reset: each time SHA-256 of the old value and the event's digest (TPM 2.0
/// Library, Part 1, "Extend of a PCR").
pub fn replay(events: &[Event]) -> Digest {
    events.iter().fold(Digest::ZERO, |pcr, event| {
        let sum = Sha256::new().chain_update(pcr.as_bytes()).chain_update(event.digest.as_bytes());
        Digest::from_bytes(sum.finalize().into())
    })
}

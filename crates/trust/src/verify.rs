//! Signatures and thresholds (TUF 4.2.1, 5.3.4).
//!
//! The signature is checked over the canonical form of the JSON as received, not over a struct parsed from it, so fields
//! that we do not know stay covered. Keys of a kind that we cannot check are as if absent; a key listed under two ids
//! counts once.

use std::collections::HashMap;
use std::num::NonZeroU64;

use serde::Deserialize;
use serde_json::{Map, Value};

use crate::Refusal;
use crate::key::{Key, canonical};

/// A metadata file, read but not trusted.
#[derive(Debug)]
pub(crate) struct Envelope {
    pub(crate) signed: Value,
    signatures: Vec<Entry>,
}

#[derive(Debug, Deserialize)]
struct Entry {
    keyid: String,
    #[serde(default)]
    sig: String,
}

#[derive(Deserialize)]
struct File {
    signed: Value,
    signatures: Vec<Entry>,
}

impl Envelope {
    pub(crate) fn parse(bytes: &[u8]) -> Result<Envelope, Refusal> {
        let file: File = serde_json::from_slice(bytes).map_err(|err| Refusal::Malformed(err.to_string()))?;
        Ok(Envelope { signed: file.signed, signatures: file.signatures })
    }
}

/// The keys and the threshold that a delegator names for a role.
#[derive(Debug, Clone)]
pub(crate) struct Signers {
    /// By the id as listed.
    keys: HashMap<String, Key>,
    threshold: NonZeroU64,
}

impl Signers {
    /// Takes the keys called `ids` from a delegator's key list.
    pub(crate) fn pick(list: &Map<String, Value>, ids: &[String], threshold: u64) -> Result<Signers, Refusal> {
        let threshold = NonZeroU64::new(threshold).ok_or_else(|| Refusal::Malformed("threshold is 0".into()))?;
        let mut keys = HashMap::new();
        for id in ids {
            // A key type or scheme from the future must not make the whole file unreadable (TUF 4.2).
            if let Some(key) = list.get(id).and_then(Key::read) {
                keys.insert(id.clone(), key);
            }
        }
        Ok(Signers { keys, threshold })
    }

    /// True if a key that could sign before no longer can: the rotation of TUF 5.3.11.
    pub(crate) fn lost_any_of(&self, before: &Signers) -> bool {
        before.keys.values().any(|old| !self.keys.values().any(|new| new.id == old.id))
    }

    /// Checks that a threshold of keys signed the file.
    pub(crate) fn check(&self, file: &Envelope) -> Result<(), Refusal> {
        let mut seen: Vec<&str> = Vec::new();
        let mut claims: Vec<(&Key, Vec<u8>)> = Vec::new();
        for entry in &file.signatures {
            if seen.contains(&entry.keyid.as_str()) {
                return Err(Refusal::DuplicateSignature(entry.keyid.clone()));
            }
            seen.push(&entry.keyid);
            // An unreadable signature is worth nothing, and no more than that: others may reach the threshold.
            let (Some(key), Ok(sig)) = (self.keys.get(&entry.keyid), hex::decode(&entry.sig)) else { continue };
            if !claims.iter().any(|(other, _)| other.id == key.id) {
                claims.push((key, sig));
            }
        }
        let message = canonical(&file.signed).map_err(|err| Refusal::Malformed(err.to_string()))?;
        let valid = claims.iter().filter(|(key, sig)| key.made(sig, &message)).count() as u64;
        let threshold = self.threshold.get();
        if valid >= threshold { Ok(()) } else { Err(Refusal::Threshold { valid, threshold }) }
    }
}

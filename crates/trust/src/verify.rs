//! Signatures and thresholds (TUF 4.2.1, 5.3.4). The cryptography and the canonical form are `tough`'s.
//!
//! The signature is checked over the canonical form of the JSON as received, not over a struct parsed from it, so fields
//! that we do not know stay covered. Keys of a kind that we cannot check are as if absent; a key listed under two ids
//! counts once.

use std::collections::HashMap;
use std::num::NonZeroU64;

use serde::{Deserialize, Serialize, Serializer};
use serde_json::{Map, Value};
use tough::schema::decoded::{Decoded, Hex};
use tough::schema::key::Key;
use tough::schema::{Error as ToughError, Role, RoleKeys, RoleType, Root, Signature, Signed};

use crate::Refusal;

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

/// The JSON that signatures are made over.
#[cfg(feature = "repo")]
pub(crate) fn canonical(signed: &Value) -> Result<Vec<u8>, Refusal> {
    Raw(signed).canonical_form().map_err(|err| Refusal::Malformed(err.to_string()))
}

/// The keys and the threshold that a delegator names for a role.
#[derive(Debug, Clone)]
pub(crate) struct Signers {
    /// Id as listed → the key's true id and the key.
    keys: HashMap<String, (Decoded<Hex>, Key)>,
    threshold: NonZeroU64,
}

impl Signers {
    /// Takes the keys called `ids` from a delegator's key list.
    pub(crate) fn pick(list: &Map<String, Value>, ids: &[String], threshold: u64) -> Result<Signers, Refusal> {
        let threshold = NonZeroU64::new(threshold).ok_or_else(|| Refusal::Malformed("threshold is 0".into()))?;
        let mut keys = HashMap::new();
        for id in ids {
            let Some(value) = list.get(id) else { continue };
            // A key type or scheme from the future must not make the whole file unreadable (TUF 4.2).
            let Ok(key) = Key::deserialize(value) else { continue };
            let Ok(true_id) = key.key_id() else { continue };
            keys.insert(id.clone(), (true_id, key));
        }
        Ok(Signers { keys, threshold })
    }

    /// True if a key that could sign before no longer can: the rotation of TUF 5.3.11.
    pub(crate) fn lost_any_of(&self, before: &Signers) -> bool {
        before.keys.values().any(|(old, _)| !self.keys.values().any(|(new, _)| new == old))
    }

    /// Checks that a threshold of keys signed the file.
    pub(crate) fn check(&self, file: &Envelope) -> Result<(), Refusal> {
        let mut seen: Vec<&str> = Vec::new();
        let mut signatures: Vec<Signature> = Vec::new();
        for entry in &file.signatures {
            if seen.contains(&entry.keyid.as_str()) {
                return Err(Refusal::DuplicateSignature(entry.keyid.clone()));
            }
            seen.push(&entry.keyid);
            // An unreadable signature is worth nothing, and no more than that: others may reach the threshold.
            let (Some((id, _)), Ok(sig)) = (self.keys.get(&entry.keyid), entry.sig.parse()) else { continue };
            if !signatures.iter().any(|other| other.keyid == *id) {
                signatures.push(Signature { keyid: id.clone(), sig });
            }
        }
        let judge = self.judge();
        match judge.verify_role(&Signed { signed: Raw(&file.signed), signatures }) {
            Ok(()) => Ok(()),
            Err(ToughError::SignatureThreshold { threshold, valid, .. }) => {
                Err(Refusal::Threshold { valid, threshold })
            }
            Err(other) => Err(Refusal::Malformed(other.to_string())),
        }
    }

    /// A root that knows one role: the way to `tough`'s signature check, which is a method of its root type.
    fn judge(&self) -> Root {
        let keyids = self.keys.values().map(|(id, _)| id.clone()).collect();
        let role = RoleKeys { keyids, threshold: self.threshold, _extra: HashMap::new() };
        Root {
            spec_version: String::new(),
            consistent_snapshot: true,
            version: NonZeroU64::MIN,
            expires: jiff::Timestamp::UNIX_EPOCH,
            keys: self.keys.values().cloned().collect(),
            roles: HashMap::from([(Raw::TYPE, role)]),
            _extra: HashMap::new(),
        }
    }
}

/// JSON as received, in the place of one of `tough`'s roles. Only its serialisation is ever used.
struct Raw<'a>(&'a Value);

impl Serialize for Raw<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl Role for Raw<'_> {
    const TYPE: RoleType = RoleType::Targets;

    fn expires(&self) -> jiff::Timestamp {
        jiff::Timestamp::UNIX_EPOCH
    }

    fn version(&self) -> NonZeroU64 {
        NonZeroU64::MIN
    }

    fn filename(&self, _consistent_snapshot: bool) -> String {
        String::new()
    }
}

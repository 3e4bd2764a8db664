//! The fields that a client needs of each role (TUF 4.3-4.6), read from JSON that is not trusted yet.
//!
//! Lenient where the specification is: unknown fields stay, and neither a hash nor a key of an unknown kind makes a file
//! unreadable.

use std::collections::HashMap;

use jiff::Timestamp as Time;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::key::sha256;
use crate::verify::Signers;
use crate::{Hashes, Refusal, pattern};

/// Extra field of our timestamps: when it was signed. A floor for clocks, nothing else.
pub(crate) const SIGNED_AT: &str = "x-iotwasm-signed-at";

/// What every role has.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Header {
    #[serde(rename = "_type")]
    kind: String,
    spec_version: String,
    pub(crate) version: u64,
    pub(crate) expires: Time,
}

impl Header {
    fn read(kind: &str, signed: &Value) -> Result<Header, Refusal> {
        let header: Header = read(signed)?;
        if header.kind != kind {
            return Err(Refusal::WrongType { expected: kind.into(), found: header.kind });
        }
        // 4.2: clients must not use metadata of another major version.
        if header.spec_version.split('.').next() != Some("1") {
            return Err(Refusal::WrongType { expected: "spec_version 1.x".into(), found: header.spec_version });
        }
        if header.version == 0 {
            return Err(Refusal::Malformed("version is 0".into()));
        }
        Ok(header)
    }

    /// Freeze check against the update's start time.
    pub(crate) fn check_expiry(&self, now: Time) -> Result<(), Refusal> {
        if self.expires > now { Ok(()) } else { Err(Refusal::Expired { expired: self.expires, now }) }
    }
}

/// Root (4.3).
#[derive(Debug, Clone)]
pub(crate) struct Root {
    pub(crate) header: Header,
    pub(crate) consistent_snapshot: bool,
    pub(crate) root: Signers,
    pub(crate) timestamp: Signers,
    pub(crate) snapshot: Signers,
    pub(crate) targets: Signers,
}

impl Root {
    pub(crate) fn read(signed: &Value) -> Result<Root, Refusal> {
        #[derive(Deserialize)]
        struct Body {
            #[serde(default)]
            consistent_snapshot: bool,
            keys: Map<String, Value>,
            roles: HashMap<String, RoleKeys>,
        }
        let header = Header::read("root", signed)?;
        let body: Body = read(signed)?;
        let signers = |role: &str| {
            let keys = body.roles.get(role).ok_or_else(|| Refusal::Malformed(format!("no role {role}")))?;
            Signers::pick(&body.keys, &keys.keyids, keys.threshold)
        };
        Ok(Root {
            header,
            consistent_snapshot: body.consistent_snapshot,
            root: signers("root")?,
            timestamp: signers("timestamp")?,
            snapshot: signers("snapshot")?,
            targets: signers("targets")?,
        })
    }
}

#[derive(Deserialize)]
struct RoleKeys {
    keyids: Vec<String>,
    threshold: u64,
}

/// What a snapshot or timestamp promises of another file.
#[derive(Debug, Clone)]
pub(crate) struct Meta {
    pub(crate) version: u64,
    pub(crate) length: Option<u64>,
    pub(crate) hashes: Option<Hashes>,
}

impl Meta {
    fn read_map(map: HashMap<String, RawMeta>) -> Result<HashMap<String, Meta>, Refusal> {
        map.into_iter().map(|(file, raw)| Ok((file, raw.check()?))).collect()
    }

    /// Length and hashes of a file against the promise (5.5.2, 5.6.2).
    pub(crate) fn check(&self, bytes: &[u8]) -> Result<(), Refusal> {
        if let Some(length) = self.length
            && length != bytes.len() as u64
        {
            return Err(Refusal::Length { expected: length, found: bytes.len() as u64 });
        }
        self.hashes.as_ref().map_or(Ok(()), |hashes| hashes.check(bytes))
    }
}

#[derive(Deserialize)]
struct RawMeta {
    version: u64,
    length: Option<u64>,
    hashes: Option<Value>,
}

impl RawMeta {
    fn check(self) -> Result<Meta, Refusal> {
        if self.version == 0 {
            return Err(Refusal::Malformed("version is 0".into()));
        }
        let hashes = self.hashes.as_ref().map(Hashes::parse).transpose()?;
        Ok(Meta { version: self.version, length: self.length, hashes })
    }
}

/// Timestamp (4.6).
#[derive(Debug, Clone)]
pub(crate) struct Timestamp {
    pub(crate) header: Header,
    pub(crate) snapshot: Meta,
    pub(crate) signed_at: Option<Time>,
}

impl Timestamp {
    pub(crate) fn read(signed: &Value) -> Result<Timestamp, Refusal> {
        #[derive(Deserialize)]
        struct Body {
            meta: HashMap<String, RawMeta>,
        }
        let header = Header::read("timestamp", signed)?;
        let body: Body = read(signed)?;
        let snapshot = Meta::read_map(body.meta)?
            .remove("snapshot.json")
            .ok_or_else(|| Refusal::Malformed("names no snapshot.json".into()))?;
        let signed_at = signed.get(SIGNED_AT).and_then(Value::as_str).and_then(|text| text.parse().ok());
        // A signing time past the expiry is nonsense, and must not become a floor.
        let signed_at = signed_at.filter(|time| *time < header.expires);
        Ok(Timestamp { header, snapshot, signed_at })
    }
}

/// Snapshot (4.4).
#[derive(Debug, Clone)]
pub(crate) struct Snapshot {
    pub(crate) header: Header,
    pub(crate) meta: HashMap<String, Meta>,
}

impl Snapshot {
    pub(crate) fn read(signed: &Value) -> Result<Snapshot, Refusal> {
        #[derive(Deserialize)]
        struct Body {
            meta: HashMap<String, RawMeta>,
        }
        let header = Header::read("snapshot", signed)?;
        let body: Body = read(signed)?;
        Ok(Snapshot { header, meta: Meta::read_map(body.meta)? })
    }

    /// The promise for a targets role's file, by the role's plain name.
    pub(crate) fn role(&self, role: &str) -> Option<&Meta> {
        self.meta.get(&format!("{role}.json"))
    }
}

/// Targets, top-level or delegated (4.5).
#[derive(Debug, Clone)]
pub(crate) struct Targets {
    pub(crate) header: Header,
    pub(crate) targets: HashMap<String, RawTarget>,
    pub(crate) delegations: Vec<Delegation>,
}

/// A target's entry; its hashes are read when it is asked for, so that one odd entry harms only itself.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct RawTarget {
    pub(crate) length: u64,
    pub(crate) hashes: Value,
    pub(crate) custom: Option<Value>,
}

/// A delegation to a further role.
#[derive(Debug, Clone)]
pub(crate) struct Delegation {
    pub(crate) name: String,
    pub(crate) signers: Signers,
    pub(crate) paths: Paths,
    pub(crate) terminating: bool,
}

/// The targets that a delegation covers.
#[derive(Debug, Clone)]
pub(crate) enum Paths {
    Patterns(Vec<String>),
    HashPrefixes(Vec<String>),
}

impl Paths {
    /// Whether `target` is covered.
    pub(crate) fn cover(&self, target: &str) -> bool {
        match self {
            Paths::Patterns(patterns) => patterns.iter().any(|pattern| pattern::matches(pattern, target)),
            Paths::HashPrefixes(prefixes) => {
                let hash = hex::encode(sha256(target.as_bytes()));
                prefixes.iter().any(|prefix| !prefix.is_empty() && hash.starts_with(&prefix.to_ascii_lowercase()))
            }
        }
    }

    /// Whether some name that matches `wanted` may be covered.
    pub(crate) fn may_cover(&self, wanted: &str) -> bool {
        match self {
            Paths::Patterns(patterns) => patterns.iter().any(|pattern| pattern::intersects(pattern, wanted)),
            Paths::HashPrefixes(_) => pattern::is_pattern(wanted) || self.cover(wanted),
        }
    }
}

impl Targets {
    pub(crate) fn read(signed: &Value) -> Result<Targets, Refusal> {
        #[derive(Deserialize)]
        struct Body {
            targets: HashMap<String, RawTarget>,
            delegations: Option<RawDelegations>,
        }
        #[derive(Deserialize)]
        struct RawDelegations {
            keys: Map<String, Value>,
            // Absent where the delegator uses succinct hash bins (TAP 15), which we do not follow.
            #[serde(default)]
            roles: Vec<RawDelegation>,
        }
        #[derive(Deserialize)]
        struct RawDelegation {
            name: String,
            keyids: Vec<String>,
            threshold: u64,
            #[serde(default)]
            terminating: bool,
            paths: Option<Vec<String>>,
            path_hash_prefixes: Option<Vec<String>>,
        }
        let header = Header::read("targets", signed)?;
        let body: Body = read(signed)?;
        let mut delegations = Vec::new();
        if let Some(raw) = body.delegations {
            for role in raw.roles {
                let paths = match (role.paths, role.path_hash_prefixes) {
                    (Some(paths), None) => Paths::Patterns(paths),
                    (None, Some(prefixes)) => Paths::HashPrefixes(prefixes),
                    _ => {
                        let text = format!("delegation {} needs either paths or path_hash_prefixes", role.name);
                        return Err(Refusal::Malformed(text));
                    }
                };
                let signers = Signers::pick(&raw.keys, &role.keyids, role.threshold)?;
                delegations.push(Delegation { name: role.name, signers, paths, terminating: role.terminating });
            }
        }
        Ok(Targets { header, targets: body.targets, delegations })
    }
}

fn read<T: DeserializeOwned>(signed: &Value) -> Result<T, Refusal> {
    // Deserialising from a reference copies only what T keeps.
    T::deserialize(signed).map_err(|err| Refusal::Malformed(err.to_string()))
}

//! One metadata file in the making: edit it, sign it, turn it into bytes. Nothing here touches the disk.

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::{Key, PublicKey, RepoError};
use crate::key::{canonical, sha256};
use crate::schema::SIGNED_AT;
use crate::{Hashes, names};

/// Version of the TUF specification that we write.
pub const SPEC_VERSION: &str = "1.0.33";

/// A metadata file of any role. `signed` is open to every edit, so that tests can make what no tool should.
#[derive(Debug, Clone, PartialEq)]
pub struct Document {
    /// The role's name: `root`, `timestamp`, `snapshot`, `targets` or a delegated one.
    pub role: String,
    /// The `signed` object.
    pub signed: Map<String, Value>,
    /// Key id and signature in hex, in the file's order.
    pub signatures: Vec<(String, String)>,
}

/// A delegation as the delegator writes it.
#[derive(Debug, Clone)]
pub struct Delegation {
    /// The delegated role.
    pub name: String,
    /// Keys that may sign it.
    pub keys: Vec<PublicKey>,
    /// How many of them must.
    pub threshold: u64,
    /// Path patterns; `*` and `?` never match `/`.
    pub paths: Vec<String>,
    /// Whether later delegations are ignored for these paths.
    pub terminating: bool,
}

/// What targets metadata says of a file.
#[derive(Debug, Clone, PartialEq)]
pub struct TargetInfo {
    /// Length in bytes.
    pub length: u64,
    /// Hashes, at least one.
    pub hashes: Hashes,
    /// Whatever the signer adds.
    pub custom: Option<Value>,
}

impl TargetInfo {
    /// Describes bytes by length and SHA-256.
    pub fn of(bytes: &[u8], custom: Option<Value>) -> TargetInfo {
        let hashes = Hashes { sha256: Some(sha256(bytes)), sha512: None };
        TargetInfo { length: bytes.len() as u64, hashes, custom }
    }

    fn to_json(&self) -> Value {
        let mut hashes = Map::new();
        if let Some(hash) = self.hashes.sha256 {
            hashes.insert("sha256".into(), hex::encode(hash).into());
        }
        if let Some(hash) = self.hashes.sha512 {
            hashes.insert("sha512".into(), hex::encode(hash).into());
        }
        let mut target = json!({"length": self.length, "hashes": hashes});
        if let Some(custom) = &self.custom {
            target["custom"] = custom.clone();
        }
        target
    }
}

impl Document {
    fn new(role: &str, kind: &str, expires: Timestamp, rest: Value) -> Document {
        let mut signed = Map::new();
        signed.insert("_type".into(), kind.into());
        signed.insert("spec_version".into(), SPEC_VERSION.into());
        signed.insert("version".into(), 1.into());
        signed.insert("expires".into(), stamp(expires).into());
        if let Value::Object(rest) = rest {
            signed.extend(rest);
        }
        Document { role: role.into(), signed, signatures: Vec::new() }
    }

    /// A first root without roles; give it all four with [`Document::set_role`].
    pub fn new_root(expires: Timestamp) -> Document {
        Document::new("root", "root", expires, json!({"consistent_snapshot": true, "keys": {}, "roles": {}}))
    }

    /// A first targets file: `role` is `targets` or a delegated role's name.
    pub fn new_targets(role: &str, expires: Timestamp) -> Document {
        Document::new(role, "targets", expires, json!({"targets": {}}))
    }

    /// A first snapshot; list every targets file with [`Document::set_meta`].
    pub fn new_snapshot(expires: Timestamp) -> Document {
        Document::new("snapshot", "snapshot", expires, json!({"meta": {}}))
    }

    /// A first timestamp; name the snapshot with [`Document::set_meta`].
    pub fn new_timestamp(expires: Timestamp) -> Document {
        Document::new("timestamp", "timestamp", expires, json!({"meta": {}}))
    }

    /// Reads a metadata file without checking its signatures.
    pub fn parse(role: &str, bytes: &[u8]) -> Result<Document, RepoError> {
        let bad = || RepoError::NotMetadata { role: role.into() };
        let mut file: Map<String, Value> = serde_json::from_slice(bytes).map_err(|_| bad())?;
        let Some(Value::Object(signed)) = file.remove("signed") else { return Err(bad()) };
        let list = file.get("signatures").and_then(Value::as_array).ok_or_else(bad)?;
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let signatures = list.iter().map(|entry| (text(&entry["keyid"]), text(&entry["sig"]))).collect();
        Ok(Document { role: role.into(), signed, signatures })
    }

    /// The file's bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        let signatures: Vec<Value> = self.signatures.iter().map(|(id, sig)| json!({"keyid": id, "sig": sig})).collect();
        let mut bytes = format!("{:#}", json!({"signatures": signatures, "signed": self.signed})).into_bytes();
        bytes.push(b'\n');
        bytes
    }

    /// The name on the repository: `N.role.json`, or `timestamp.json`.
    pub fn file_name(&self) -> String {
        names::remote(&self.role, (self.role != "timestamp").then(|| self.version()))
    }

    /// The version.
    pub fn version(&self) -> u64 {
        self.signed.get("version").and_then(Value::as_u64).unwrap_or(0)
    }

    /// Sets the version; signatures no longer hold.
    pub fn set_version(&mut self, version: u64) -> &mut Document {
        self.signed.insert("version".into(), version.into());
        self
    }

    /// Raises the version by one; signatures no longer hold.
    pub fn bump(&mut self) -> &mut Document {
        self.set_version(self.version() + 1)
    }

    /// When it expires.
    pub fn expires(&self) -> Option<Timestamp> {
        self.signed.get("expires")?.as_str()?.parse().ok()
    }

    /// Sets the expiry (whole seconds); signatures no longer hold.
    pub fn set_expires(&mut self, expires: Timestamp) -> &mut Document {
        self.signed.insert("expires".into(), stamp(expires).into());
        self
    }

    /// Writes down when this timestamp is signed: devices without a clock take it as a floor of time.
    pub fn set_signed_at(&mut self, now: Timestamp) -> &mut Document {
        self.signed.insert(SIGNED_AT.into(), stamp(now).into());
        self
    }

    /// Replaces all signatures by those of `keys`.
    pub fn sign<'a>(&mut self, keys: impl IntoIterator<Item = &'a Key>) -> &mut Document {
        self.signatures.clear();
        for key in keys {
            self.add_signature(key);
        }
        self
    }

    /// Adds one signature beside those that are there (a further root key, perhaps on another machine).
    pub fn add_signature(&mut self, key: &Key) -> &mut Document {
        let id = key.id();
        self.signatures.retain(|(other, _)| *other != id);
        let sig = key.sign(&self.canonical());
        self.signatures.push((id, sig));
        self
    }

    /// The bytes that signatures are made over.
    pub fn canonical(&self) -> Vec<u8> {
        // Everything that `Value` can hold serialises; only a float would not, and then no signature should verify.
        canonical(&Value::Object(self.signed.clone())).unwrap_or_default()
    }

    // Root.

    /// Sets keys and threshold of a top-level role. Keys that no role uses any more are dropped.
    pub fn set_role(&mut self, role: &str, keys: &[PublicKey], threshold: u64) -> &mut Document {
        let ids: Vec<String> = keys.iter().map(PublicKey::id).collect();
        for key in keys {
            self.entry("keys").insert(key.id(), key.to_json());
        }
        self.entry("roles").insert(role.into(), json!({"keyids": ids, "threshold": threshold}));
        let used: Vec<Value> =
            self.entry("roles").values().filter_map(|role| role["keyids"].as_array().cloned()).flatten().collect();
        self.entry("keys").retain(|id, _| used.iter().any(|used| used == id));
        self
    }

    /// Key ids and threshold of a top-level role.
    pub fn role_keys(&self, role: &str) -> Option<(Vec<String>, u64)> {
        keys_of(self.signed.get("roles")?.get(role)?)
    }

    // Targets.

    /// Adds or replaces a target.
    pub fn add_target(&mut self, name: &str, target: &TargetInfo) -> &mut Document {
        self.entry("targets").insert(name.into(), target.to_json());
        self
    }

    /// Removes a target; returns whether it was there.
    pub fn remove_target(&mut self, name: &str) -> bool {
        self.entry("targets").remove(name).is_some()
    }

    /// A target by name.
    pub fn target(&self, name: &str) -> Option<TargetInfo> {
        let target = self.signed.get("targets")?.get(name)?;
        Some(TargetInfo {
            length: target["length"].as_u64()?,
            hashes: Hashes::parse(&target["hashes"]).ok()?,
            custom: target.get("custom").cloned(),
        })
    }

    /// The names of all targets, sorted.
    pub fn target_names(&self) -> Vec<String> {
        let targets = self.signed.get("targets").and_then(Value::as_object);
        let mut names: Vec<String> = targets.into_iter().flat_map(|map| map.keys().cloned()).collect();
        names.sort();
        names
    }

    /// Adds a delegation at the end, or replaces the one of that name in its place.
    pub fn delegate(&mut self, delegation: &Delegation) -> &mut Document {
        let ids: Vec<String> = delegation.keys.iter().map(PublicKey::id).collect();
        let role = json!({
            "name": delegation.name, "keyids": ids, "threshold": delegation.threshold,
            "paths": delegation.paths, "terminating": delegation.terminating,
        });
        let keys: Vec<(String, Value)> = delegation.keys.iter().map(|key| (key.id(), key.to_json())).collect();
        let (map, list) = self.delegations();
        map.extend(keys);
        match list.iter_mut().find(|other| other["name"] == delegation.name.as_str()) {
            Some(place) => *place = role,
            None => list.push(role),
        }
        let used: Vec<Value> = list.iter().filter_map(|role| role["keyids"].as_array().cloned()).flatten().collect();
        self.delegations().0.retain(|id, _| used.iter().any(|used| used == id));
        self
    }

    /// Removes a delegation; returns whether it was there.
    pub fn undelegate(&mut self, name: &str) -> bool {
        let (_, list) = self.delegations();
        let before = list.len();
        list.retain(|role| role["name"] != name);
        list.len() != before
    }

    /// The names of delegated roles, in order.
    pub fn delegated(&self) -> Vec<String> {
        let list = self.signed.get("delegations").and_then(|delegations| delegations["roles"].as_array());
        list.into_iter().flatten().filter_map(|role| role["name"].as_str().map(str::to_owned)).collect()
    }

    /// Key ids and threshold of a delegated role.
    pub fn delegated_keys(&self, name: &str) -> Option<(Vec<String>, u64)> {
        let list = self.signed.get("delegations")?["roles"].as_array()?;
        keys_of(list.iter().find(|role| role["name"] == name)?)
    }

    // Snapshot and timestamp.

    /// Lists a metadata file (`targets.json`, `vendor.json`, `snapshot.json`) with its version, length and SHA-256.
    pub fn set_meta(&mut self, file: &str, version: u64, bytes: Option<&[u8]>) -> &mut Document {
        let mut meta = json!({"version": version});
        if let Some(bytes) = bytes {
            meta["length"] = bytes.len().into();
            meta["hashes"] = json!({"sha256": hex::encode(sha256(bytes))});
        }
        self.entry("meta").insert(file.into(), meta);
        self
    }

    /// The listed version of a metadata file.
    pub fn meta_version(&self, file: &str) -> Option<u64> {
        self.signed.get("meta")?.get(file)?["version"].as_u64()
    }

    fn entry(&mut self, key: &str) -> &mut Map<String, Value> {
        let place = self.signed.entry(key).or_insert_with(|| json!({}));
        if !place.is_object() {
            *place = json!({});
        }
        match place {
            Value::Object(map) => map,
            _ => unreachable!("made an object above"),
        }
    }

    fn delegations(&mut self) -> (&mut Map<String, Value>, &mut Vec<Value>) {
        let place = self.entry("delegations");
        if !place.get("keys").is_some_and(Value::is_object) {
            place.insert("keys".into(), json!({}));
        }
        if !place.get("roles").is_some_and(Value::is_array) {
            place.insert("roles".into(), json!([]));
        }
        let mut keys = None;
        let mut roles = None;
        for (name, value) in place.iter_mut() {
            match value {
                Value::Object(map) if name == "keys" => keys = Some(map),
                Value::Array(list) if name == "roles" => roles = Some(list),
                _ => {}
            }
        }
        match (keys, roles) {
            (Some(keys), Some(roles)) => (keys, roles),
            _ => unreachable!("both made above"),
        }
    }
}

fn keys_of(role: &Value) -> Option<(Vec<String>, u64)> {
    let ids = role["keyids"].as_array()?.iter().filter_map(|id| id.as_str().map(str::to_owned)).collect();
    Some((ids, role["threshold"].as_u64()?))
}

/// Whole seconds: TUF's date format has no fraction (4.2.1).
fn stamp(time: Timestamp) -> String {
    time.round(jiff::Unit::Second).unwrap_or(time).to_string()
}

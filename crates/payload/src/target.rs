//! What signed metadata says about a payload: the target's name and its `custom` object.
//!
//! The words here are trusted because a TUF role signed them; the manifest inside the file has to agree with them.
//! Pure: no file, no network, no signature.

use std::fmt;
use std::str::FromStr;

use iotwasm_values::{Digest, shorten};
use semver::Version;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::id::{PayloadId, Vendor};
use crate::manifest::{Manifest, check_boards};

/// Key of our object in a target's `custom`.
pub const CUSTOM_KEY: &str = "iotwasm";
/// Longest reason of a withdrawal that is kept, in bytes.
pub const MAX_REASON: usize = 256;

/// What the signed metadata says about a payload: the object under [`CUSTOM_KEY`].
///
/// Keys that this version does not know are ignored here, so that publishers may add some, but they count in
/// [`custom_digest`], so that a change of them is a change of the metadata.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PayloadTarget {
    /// What the target is. Anything but a payload is another consumer's business.
    pub kind: Kind,
    /// Which payload.
    pub id: PayloadId,
    /// Whose.
    pub vendor: Vendor,
    /// Its version.
    pub version: Version,
    /// Boards that may take it; empty means any.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub boards: Vec<String>,
    /// Present when nobody should run this version any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub withdrawn: Option<Withdrawn>,
}

/// What kind of target it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A payload.
    Payload,
}

/// A version that its vendor took back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Withdrawn {
    /// Why, for people.
    #[serde(default)]
    pub reason: String,
}

/// Why a target is not a payload, or not the one it should be.
#[derive(Debug, thiserror::Error)]
pub enum TargetError {
    /// The name does not have our shape.
    #[error("{name:?} is not a payload's target name; expected <vendor>/<id>/<id>-<version>.wasm")]
    Name {
        /// The name, shortened.
        name: String,
    },
    /// The `custom` object has no [`CUSTOM_KEY`].
    #[error("the target's metadata has no custom object \"{CUSTOM_KEY}\"")]
    Missing,
    /// The object does not parse.
    #[error("the target's custom object \"{CUSTOM_KEY}\" is malformed")]
    Malformed {
        /// What is wrong with it.
        #[source]
        err: serde_json::Error,
    },
    /// The object breaks a rule.
    #[error("the target's custom object \"{CUSTOM_KEY}\" is malformed: {rule}")]
    Rule {
        /// Which.
        rule: String,
    },
    /// Two of name, signed metadata and manifest disagree.
    #[error("{field} is {signed:?} in the signed metadata, but {other:?} in the {place}")]
    Disagree {
        /// Which field.
        field: &'static str,
        /// What was signed.
        signed: String,
        /// What the other place says.
        other: String,
        /// The other place.
        place: &'static str,
    },
}

/// A payload's TUF target name, `<vendor>/<id>/<id>-<version>.wasm`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TargetName {
    /// Whose.
    pub vendor: Vendor,
    /// Which payload.
    pub id: PayloadId,
    /// Which version.
    pub version: Version,
}

impl fmt::Display for TargetName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}-{}.wasm", self.vendor, self.id, self.id, self.version)
    }
}

impl FromStr for TargetName {
    type Err = TargetError;

    fn from_str(name: &str) -> Result<Self, TargetError> {
        let parse = || {
            let (vendor, rest) = name.split_once('/')?;
            let (id, file) = rest.split_once('/')?;
            let version = file.strip_prefix(id)?.strip_prefix('-')?.strip_suffix(".wasm")?;
            let version = Version::parse(version).ok().filter(|v| v.build.is_empty())?;
            Some(Self { vendor: vendor.parse().ok()?, id: id.parse().ok()?, version })
        };
        // Only the one spelling that Display gives: two names for one payload would be two answers to one question.
        (name.len() <= 256)
            .then(parse)
            .flatten()
            .filter(|parsed| parsed.to_string() == name)
            .ok_or_else(|| TargetError::Name { name: name.chars().take(256).collect() })
    }
}

impl TryFrom<String> for TargetName {
    type Error = TargetError;

    fn try_from(name: String) -> Result<Self, TargetError> {
        name.parse()
    }
}

impl From<TargetName> for String {
    fn from(name: TargetName) -> Self {
        name.to_string()
    }
}

impl PayloadTarget {
    /// What a publisher signs for this manifest.
    pub fn of_manifest(manifest: &Manifest) -> Self {
        Self {
            kind: Kind::Payload,
            id: manifest.id.clone(),
            vendor: manifest.vendor.clone(),
            version: manifest.version.clone(),
            boards: manifest.boards.clone(),
            withdrawn: None,
        }
    }

    /// From the value under [`CUSTOM_KEY`] of a target's `custom`, if there is one.
    pub fn from_custom(value: Option<&Value>) -> Result<Self, TargetError> {
        let value = value.ok_or(TargetError::Missing)?;
        let mut target: Self = Self::deserialize(value).map_err(|err| TargetError::Malformed { err })?;
        check_boards(&target.boards).map_err(|err| TargetError::Rule { rule: err.to_string() })?;
        if let Some(withdrawn) = &mut target.withdrawn {
            withdrawn.reason = shorten(&withdrawn.reason, MAX_REASON);
        }
        Ok(target)
    }

    /// The value to sign under [`CUSTOM_KEY`].
    pub fn to_custom(&self) -> Result<Value, serde_json::Error> {
        serde_json::to_value(self)
    }

    /// The target name of this payload.
    pub fn name(&self) -> TargetName {
        TargetName { vendor: self.vendor.clone(), id: self.id.clone(), version: self.version.clone() }
    }

    /// True if this board may take it.
    pub fn runs_on(&self, board: &str) -> bool {
        self.boards.is_empty() || self.boards.iter().any(|b| b == board)
    }

    /// Checks that the target's name says the same as its signed custom object.
    pub fn agrees_with_name(&self, name: &TargetName) -> Result<(), TargetError> {
        same("vendor", &self.vendor, &name.vendor, "target name")?;
        same("id", &self.id, &name.id, "target name")?;
        same("version", &self.version, &name.version, "target name")
    }

    /// Checks that the manifest inside the file says what was signed.
    pub fn agrees_with(&self, manifest: &Manifest) -> Result<(), TargetError> {
        same("vendor", &self.vendor, &manifest.vendor, "manifest")?;
        same("id", &self.id, &manifest.id, "manifest")?;
        same("version", &self.version, &manifest.version, "manifest")
    }
}

fn same<T: PartialEq + ToString>(
    field: &'static str,
    signed: &T,
    other: &T,
    place: &'static str,
) -> Result<(), TargetError> {
    if signed == other {
        return Ok(());
    }
    Err(TargetError::Disagree { field, signed: signed.to_string(), other: other.to_string(), place })
}

/// Digest of a signed custom value, the same for any order of keys. A changed digest means changed metadata, and with
/// it a rolled-back release may be tried again.
pub fn custom_digest(value: &Value) -> Digest {
    let mut text = String::new();
    canonical(value, &mut text);
    Digest::of(text.as_bytes())
}

fn canonical(value: &Value, out: &mut String) {
    match value {
        Value::Object(map) => {
            let mut keys: Vec<_> = map.iter().collect();
            keys.sort_by_key(|(key, _)| key.as_str());
            out.push('{');
            for (key, value) in keys {
                out.push_str(&Value::from(key.as_str()).to_string());
                out.push(':');
                canonical(value, out);
                out.push(',');
            }
            out.push('}');
        }
        Value::Array(items) => {
            out.push('[');
            for item in items {
                canonical(item, out);
                out.push(',');
            }
            out.push(']');
        }
        scalar => out.push_str(&scalar.to_string()),
    }
}

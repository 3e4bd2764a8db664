//! What signed metadata says about a release: two targets, the bundle and its `release.json`, with their `custom` objects.
//!
//! Both are signed by the TUF role [`ROLE`], which signs nothing else; what a vendor of payloads signs lies under other
//! names and can be neither. The bundle's object holds the hash of `release.json`, and `release.json` that of the bundle:
//! whoever has one knows which other belongs to it.

use std::fmt;
use std::str::FromStr;

use iotwasm_values::{Digest, shorten};
use semver::Version;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::release::{is_compatible, is_version};

/// The delegated role that signs firmware, and the folder of its targets.
pub const ROLE: &str = "firmware";
/// Key of our object in a target's `custom`.
pub const CUSTOM_KEY: &str = "iotwasm";
/// Longest reason of a withdrawal that is kept, in bytes.
pub const MAX_REASON: usize = 256;

/// What the signed metadata says about a bundle: the object under [`CUSTOM_KEY`]. Keys that this version does not know are
/// ignored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FirmwareTarget {
    /// Always `firmware`.
    pub kind: Kind,
    /// Which devices may take it.
    pub compatible: String,
    /// Its version.
    pub version: Version,
    /// SHA-256 of its `release.json`.
    pub release: Digest,
    /// Present when nobody should run this version any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub withdrawn: Option<Withdrawn>,
}

/// What kind of target it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A bundle.
    Firmware,
}

/// A version that its maker took back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Withdrawn {
    /// Why, for people; one line of at most [`MAX_REASON`] bytes.
    #[serde(default)]
    pub reason: String,
}

/// Which of a release's two targets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Part {
    /// The RAUC bundle.
    Bundle,
    /// `release.json`.
    Release,
}

/// A target name of the role: `firmware/<compatible>/<compatible>-<version>.raucb`, or `.json`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TargetName {
    /// Which devices.
    pub compatible: String,
    /// Which version.
    pub version: Version,
    /// Which file.
    pub part: Part,
}

/// Why a target is not firmware, or not the one it should be.
#[derive(Debug, thiserror::Error)]
pub enum TargetError {
    /// The name does not have our shape.
    #[error("{name:?} is not a firmware target's name; expected firmware/<compatible>/<compatible>-<version>.raucb")]
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
    /// The object breaks a rule of the format, or says another thing than the target's name.
    #[error("the target's custom object \"{CUSTOM_KEY}\": {field} {rule}")]
    Rule {
        /// Which field.
        field: &'static str,
        /// What it breaks.
        rule: &'static str,
    },
}

impl FirmwareTarget {
    /// From the value under [`CUSTOM_KEY`] of a target's `custom`, if there is one; it has to say what the name says.
    pub fn from_custom(value: Option<&Value>, name: &TargetName) -> Result<Self, TargetError> {
        let value = value.ok_or(TargetError::Missing)?;
        let mut target = Self::deserialize(value).map_err(|err| TargetError::Malformed { err })?;
        let rule = |holds: bool, field, rule| if holds { Ok(()) } else { Err(TargetError::Rule { field, rule }) };
        rule(target.compatible == name.compatible, "compatible", "is not what the target's name says")?;
        rule(target.version == name.version, "version", "is not what the target's name says")?;
        rule(name.part == Part::Bundle, "kind", "belongs to a bundle, and the name is another file's")?;
        if let Some(withdrawn) = &mut target.withdrawn {
            withdrawn.reason = shorten(&withdrawn.reason, MAX_REASON);
        }
        Ok(target)
    }

    /// The value to sign under [`CUSTOM_KEY`].
    pub fn to_custom(&self) -> Result<Value, serde_json::Error> {
        serde_json::to_value(self)
    }
}

impl TargetName {
    /// The name of the same release's other target, or of this one.
    #[must_use]
    pub fn part(&self, part: Part) -> Self {
        Self { part, ..self.clone() }
    }
}

impl fmt::Display for TargetName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { compatible, version, part } = self;
        let end = match part {
            Part::Bundle => "raucb",
            Part::Release => "json",
        };
        write!(f, "{ROLE}/{compatible}/{compatible}-{version}.{end}")
    }
}

impl FromStr for TargetName {
    type Err = TargetError;

    fn from_str(name: &str) -> Result<Self, TargetError> {
        let parse = || {
            let (compatible, file) = name.strip_prefix(ROLE)?.strip_prefix('/')?.split_once('/')?;
            let rest = file.strip_prefix(compatible)?.strip_prefix('-')?;
            let (version, part) = match (rest.strip_suffix(".raucb"), rest.strip_suffix(".json")) {
                (Some(version), _) => (version, Part::Bundle),
                (_, Some(version)) => (version, Part::Release),
                _ => return None,
            };
            let version = Version::parse(version).ok().filter(is_version)?;
            is_compatible(compatible).then(|| Self { compatible: compatible.to_owned(), version, part })
        };
        // Only the one spelling that Display gives.
        let short = || name.chars().take(256).collect();
        parse().filter(|parsed| parsed.to_string() == name).ok_or_else(|| TargetError::Name { name: short() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_name_has_one_spelling() {
        for good in ["firmware/acme-gw/acme-gw-1.2.3.raucb", "firmware/A_b.c/A_b.c-1.0.0-rc.1.json"] {
            assert_eq!(good.parse::<TargetName>().unwrap().to_string(), good);
        }
        for bad in [
            "firmware/a/b-1.0.0.raucb",
            "firmware/a/a-1.0.raucb",
            "firmware/a/a-01.0.0.raucb",
            "firmware/a/a-1.0.0+b.raucb",
            "firmware/a/a-1.0.0.wasm",
            "firmware/../..-1.0.0.raucb",
            "acme/a/a-1.0.0.raucb",
            "firmware/a/x/a-1.0.0.raucb",
            "",
        ] {
            assert!(bad.parse::<TargetName>().is_err(), "{bad}");
        }
    }

    #[test]
    fn the_object_says_what_the_name_says_or_is_refused() {
        let name: TargetName = "firmware/a/a-1.0.0.raucb".parse().unwrap();
        let good =
            json!({"kind": "firmware", "compatible": "a", "version": "1.0.0", "release": "ab".repeat(32), "x": 1});
        let target = FirmwareTarget::from_custom(Some(&good), &name).unwrap();
        assert_eq!(FirmwareTarget::from_custom(Some(&target.to_custom().unwrap()), &name).unwrap(), target);
        let with = |key: &str, value: Value| {
            let mut bad = good.clone();
            bad[key] = value;
            FirmwareTarget::from_custom(Some(&bad), &name)
        };
        assert!(with("kind", json!("payload")).is_err());
        assert!(with("compatible", json!("b")).is_err());
        assert!(with("version", json!("1.0.1")).is_err());
        assert!(with("release", json!("AB".repeat(32))).is_err());
        assert!(FirmwareTarget::from_custom(None, &name).is_err());
        assert!(FirmwareTarget::from_custom(Some(&good), &name.part(Part::Release)).is_err());
        let reason =
            with("withdrawn", json!({"reason": format!("a\nb{}", "é".repeat(200))})).unwrap().withdrawn.unwrap();
        assert!(reason.reason.starts_with("a b") && reason.reason.len() <= MAX_REASON);
    }
}

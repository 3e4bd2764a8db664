//! The manifest: what a payload says about itself, TOML in the custom section `iotwasm.manifest`.
//!
//! Parsing is total and bounded: any bytes give a [`Manifest`] whose every number is within its cap, or an error that
//! names the key. Unknown keys are errors, so that a limit with a typing error is never a limit left out.

use std::collections::BTreeMap;
use std::time::Duration;

use iotwasm_grant::Request;
use semver::Version;
use serde::{Deserialize, Serialize};

use crate::id::{DirectoryName, PayloadId, Vendor};

/// Name of the custom section that carries the manifest.
pub const SECTION: &str = "iotwasm.manifest";
/// Longest manifest, in bytes: it is parsed on the device before anything is known to be sane.
pub const MAX_MANIFEST: usize = 64 * 1024;
/// Longest description, in bytes.
pub const MAX_DESCRIPTION: usize = 256;
/// Most boards that a manifest may list, and the longest name of one in bytes.
pub const MAX_BOARDS: usize = 64;
const MAX_BOARD_NAME: usize = 64;
/// Most WASI directories of a payload.
pub const MAX_DIRECTORIES: usize = 8;
/// Most environment variables of a payload, and the longest name and value in bytes.
pub const MAX_VARIABLES: usize = 64;
const MAX_VARIABLE_NAME: usize = 64;
const MAX_VARIABLE_VALUE: usize = 1024;
/// Longest path of a directory as the guest sees it, in bytes.
const MAX_GUEST_PATH: usize = 128;

/// What a payload says about itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Which payload this is; names its slots on the device. Required.
    pub id: PayloadId,
    /// Whose delegated role signs it. Required.
    pub vendor: Vendor,
    /// Semantic version without build metadata (that has no order, so no update could be told from it). Required.
    pub version: Version,
    /// One line for people. Default empty; at most [`MAX_DESCRIPTION`] bytes.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// Boards that it runs on; empty (the default) means any. At most [`MAX_BOARDS`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub boards: Vec<String>,
    /// How it is entered. Required.
    pub entry: Entry,
    /// What one run may use. Every limit has a default.
    #[serde(default)]
    pub limits: Limits,
    /// How it proves itself healthy. Every period has a default.
    #[serde(default)]
    pub health: Health,
    /// WASI preview 1: absent means that a reactor may not import it; a command always has it (without directories).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wasi: Option<Wasi>,
    /// Peripherals that it asks for, by the names of the board file. Default none.
    #[serde(default, skip_serializing_if = "Request::is_empty")]
    pub capabilities: Request,
}

/// How a payload is entered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// `"reactor"` or `"command"`. Required.
    pub style: EntryStyle,
}

/// The two shapes of a payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EntryStyle {
    /// Exports `iotwasm_self_test` and `iotwasm_run`.
    Reactor,
    /// Exports `_start`, which reports its own self-test with `iotwasm_health`.
    Command,
}

impl EntryStyle {
    /// The name in a manifest.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Reactor => "reactor",
            Self::Command => "command",
        }
    }
}

/// What one run may use.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Largest linear memory, in pages of 64 KiB. Default 32 (2 MiB); 1 to 1024 (64 MiB).
    pub memory_pages: u32,
    /// Fuel for each wake-up, in instructions of cost one. Default 50 000 000 (about a second on a fast board);
    /// 1 000 to 10 000 000 000. The self-test and `_initialize` have this much too.
    pub fuel: u64,
    /// Wall clock of one wake-up, in milliseconds: from one return of `iotwasm_wait` to the next call of it.
    /// Default 1000; 1 to 60 000.
    pub wake_up_ms: u32,
    /// Wall clock of the whole self-test, in milliseconds. Default 5000; 1 to 120 000.
    pub self_test_ms: u32,
    /// Time to leave the loop after a stop was asked for, in milliseconds; then it is killed. Default 2000; 0 to 30 000.
    pub stop_ms: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self { memory_pages: 32, fuel: 50_000_000, wake_up_ms: 1000, self_test_ms: 5000, stop_ms: 2000 }
    }
}

impl Limits {
    /// [`Self::wake_up_ms`].
    pub fn wake_up(&self) -> Duration {
        Duration::from_millis(self.wake_up_ms.into())
    }

    /// [`Self::self_test_ms`].
    pub fn self_test(&self) -> Duration {
        Duration::from_millis(self.self_test_ms.into())
    }

    /// [`Self::stop_ms`].
    pub fn stop(&self) -> Duration {
        Duration::from_millis(self.stop_ms.into())
    }
}

/// How a payload proves itself healthy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Health {
    /// Longest time between two healthy reports, in seconds. Default 30; 1 to 3600.
    pub heartbeat_s: u32,
    /// How long a trial must stay healthy before it is committed, in seconds. Default 300; 1 to 86 400 (a day).
    pub confirmation_s: u32,
}

impl Default for Health {
    fn default() -> Self {
        Self { heartbeat_s: 30, confirmation_s: 300 }
    }
}

impl Health {
    /// [`Self::heartbeat_s`].
    pub fn heartbeat(&self) -> Duration {
        Duration::from_secs(self.heartbeat_s.into())
    }

    /// [`Self::confirmation_s`].
    pub fn confirmation(&self) -> Duration {
        Duration::from_secs(self.confirmation_s.into())
    }
}

/// WASI preview 1, as far as the payload wants it. No arguments, no sockets, no inherited environment.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Wasi {
    /// The whole environment. Default empty; at most [`MAX_VARIABLES`], names `[A-Za-z_][A-Za-z0-9_]*` up to 64 bytes,
    /// values up to 1024 bytes.
    pub environment: BTreeMap<String, String>,
    /// Directories. Default none; at most [`MAX_DIRECTORIES`].
    pub directories: Vec<Directory>,
}

/// One directory of the device's storage, shown to the guest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Directory {
    /// Its name in the device's storage; the payload keeps it across updates. Required.
    pub name: DirectoryName,
    /// Where the guest sees it: absolute, printable ASCII without ':' and '\\', no empty, `.` or `..` part. Required.
    pub guest: String,
    /// `"read-only"` or `"read-write"`. Default read-only.
    #[serde(default)]
    pub access: Access,
    /// How much the guest may keep there, in KiB. Only with read-write. Default 256; 4 to 65 536 (64 MiB).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quota_kib: Option<u32>,
}

/// Quota of a read-write directory that names none, in KiB.
pub const DEFAULT_QUOTA_KIB: u32 = 256;

impl Directory {
    /// The quota in bytes, or `None` for a read-only directory.
    pub fn quota_bytes(&self) -> Option<u64> {
        match self.access {
            Access::ReadOnly => None,
            Access::ReadWrite => Some(u64::from(self.quota_kib.unwrap_or(DEFAULT_QUOTA_KIB)) * 1024),
        }
    }
}

/// What the guest may do with a directory.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Access {
    /// Read.
    #[default]
    ReadOnly,
    /// Read, write, create and remove.
    ReadWrite,
}

/// Why some bytes are not a manifest.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// Longer than [`MAX_MANIFEST`].
    #[error("the manifest has {length} bytes; at most {MAX_MANIFEST} are read")]
    TooLong {
        /// Its length, in bytes.
        length: usize,
    },
    /// Not UTF-8.
    #[error("the manifest is not UTF-8")]
    NotText {
        /// Where.
        #[source]
        err: std::str::Utf8Error,
    },
    /// Not TOML, a key missing, a key unknown, or a value of the wrong kind.
    #[error("could not parse the manifest")]
    Syntax {
        /// What and where; names the key.
        #[source]
        err: Box<toml::de::Error>,
    },
    /// A number outside its range.
    #[error("{key} is {value}; it must be from {min} to {max} ({unit})")]
    OutOfRange {
        /// The key, with its table.
        key: String,
        /// What the manifest says.
        value: u64,
        /// Least.
        min: u64,
        /// Most.
        max: u64,
        /// Of what.
        unit: &'static str,
    },
    /// A value that breaks its key's rule.
    #[error("{key}: {rule}")]
    Invalid {
        /// The key, with its table.
        key: String,
        /// The rule.
        rule: String,
    },
}

impl Manifest {
    /// Parses and checks the text of a manifest.
    pub fn parse(bytes: &[u8]) -> Result<Self, ManifestError> {
        if bytes.len() > MAX_MANIFEST {
            return Err(ManifestError::TooLong { length: bytes.len() });
        }
        let text = std::str::from_utf8(bytes).map_err(|err| ManifestError::NotText { err })?;
        let manifest: Self = toml::from_str(text).map_err(|err| ManifestError::Syntax { err: Box::new(err) })?;
        manifest.validate()?;
        Ok(manifest)
    }

    /// The manifest as TOML, defaults written out.
    pub fn to_toml(&self) -> Result<String, toml::ser::Error> {
        toml::to_string_pretty(self)
    }

    /// True if it may run on this board.
    pub fn runs_on(&self, board: &str) -> bool {
        self.boards.is_empty() || self.boards.iter().any(|b| b == board)
    }

    /// True if it may import WASI.
    pub fn has_wasi(&self) -> bool {
        self.wasi.is_some() || self.entry.style == EntryStyle::Command
    }

    fn validate(&self) -> Result<(), ManifestError> {
        if !self.version.build.is_empty() {
            return Err(invalid("version", "leave out the build metadata ('+…'): it has no order"));
        }
        if self.version.to_string().len() > 64 {
            return Err(invalid("version", "at most 64 bytes"));
        }
        if self.description.len() > MAX_DESCRIPTION || self.description.chars().any(char::is_control) {
            return Err(invalid("description", "at most 256 bytes on one line"));
        }
        check_boards(&self.boards)?;
        let l = &self.limits;
        within("limits.memory_pages", l.memory_pages.into(), 1, 1024, "pages of 64 KiB")?;
        within("limits.fuel", l.fuel, 1_000, 10_000_000_000, "instructions")?;
        within("limits.wake_up_ms", l.wake_up_ms.into(), 1, 60_000, "milliseconds")?;
        within("limits.self_test_ms", l.self_test_ms.into(), 1, 120_000, "milliseconds")?;
        within("limits.stop_ms", l.stop_ms.into(), 0, 30_000, "milliseconds")?;
        within("health.heartbeat_s", self.health.heartbeat_s.into(), 1, 3600, "seconds")?;
        within("health.confirmation_s", self.health.confirmation_s.into(), 1, 86_400, "seconds")?;
        self.wasi.as_ref().map_or(Ok(()), Wasi::validate)?;
        let beyond = |err: iotwasm_grant::Invalid| invalid(format!("capabilities.{}", err.key), &err.rule);
        self.capabilities.check().map_err(beyond)
    }
}

impl Wasi {
    fn validate(&self) -> Result<(), ManifestError> {
        within("wasi.environment", self.environment.len() as u64, 0, MAX_VARIABLES as u64, "variables")?;
        for (name, value) in &self.environment {
            let key = || format!("wasi.environment.{}", name.chars().take(MAX_VARIABLE_NAME).collect::<String>());
            let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
            if name.is_empty()
                || name.len() > MAX_VARIABLE_NAME
                || !name.bytes().all(plain)
                || name.as_bytes()[0].is_ascii_digit()
            {
                return Err(invalid(key(), "a name is 1 to 64 of A-Z, a-z, 0-9 and '_', not beginning with a digit"));
            }
            if value.len() > MAX_VARIABLE_VALUE || value.contains('\0') {
                return Err(invalid(key(), "a value has at most 1024 bytes, none of them zero"));
            }
        }
        within("wasi.directories", self.directories.len() as u64, 0, MAX_DIRECTORIES as u64, "directories")?;
        for (i, directory) in self.directories.iter().enumerate() {
            directory.validate(i)?;
            for other in &self.directories[..i] {
                if other.name == directory.name {
                    return Err(invalid(format!("wasi.directories[{i}].name"), "another directory has this name"));
                }
                if inside(&other.guest, &directory.guest) || inside(&directory.guest, &other.guest) {
                    return Err(invalid(format!("wasi.directories[{i}].guest"), "it overlaps another directory"));
                }
            }
        }
        Ok(())
    }
}

impl Directory {
    fn validate(&self, index: usize) -> Result<(), ManifestError> {
        let key = |field: &str| format!("wasi.directories[{index}].{field}");
        // ':' separates guest from host path where the engine takes a preopened directory.
        let plain = |b: u8| b.is_ascii_graphic() && b != b':' && b != b'\\';
        let path = &self.guest;
        let parts_ok =
            path.strip_prefix('/').is_some_and(|rest| rest.split('/').all(|p| !p.is_empty() && p != "." && p != ".."));
        if path.len() > MAX_GUEST_PATH || !path.bytes().all(plain) || !parts_ok {
            return Err(invalid(
                key("guest"),
                "an absolute path such as /state: no ':', '\\', '.', '..' or empty part",
            ));
        }
        match (self.access, self.quota_kib) {
            (Access::ReadOnly, Some(_)) => Err(invalid(key("quota_kib"), "only a read-write directory has a quota")),
            (Access::ReadWrite, Some(q)) => within(&key("quota_kib"), q.into(), 4, 65_536, "KiB"),
            (_, None) => Ok(()),
        }
    }
}

/// Checks a list of boards, wherever it stands (the manifest, the signed target).
pub(crate) fn check_boards(boards: &[String]) -> Result<(), ManifestError> {
    within("boards", boards.len() as u64, 0, MAX_BOARDS as u64, "boards")?;
    for (i, board) in boards.iter().enumerate() {
        let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
        if board.is_empty() || board.len() > MAX_BOARD_NAME || !board.bytes().all(plain) {
            return Err(invalid(format!("boards[{i}]"), "a board is 1 to 64 of A-Z, a-z, 0-9, '-', '_' and '.'"));
        }
    }
    Ok(())
}

/// True if `path` is `base` or below it.
fn inside(base: &str, path: &str) -> bool {
    path.strip_prefix(base).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

fn invalid(key: impl Into<String>, rule: &str) -> ManifestError {
    ManifestError::Invalid { key: key.into(), rule: rule.to_owned() }
}

fn within(key: &str, value: u64, min: u64, max: u64, unit: &'static str) -> Result<(), ManifestError> {
    if (min..=max).contains(&value) {
        Ok(())
    } else {
        Err(ManifestError::OutOfRange { key: key.to_owned(), value, min, max, unit })
    }
}

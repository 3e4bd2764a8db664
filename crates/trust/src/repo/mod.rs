//! The repository's side: keys, signing, publishing. For the `iotwasm` command and for tests (feature `repo`).
//!
//! Consistent snapshots always. Layout below the repository's folder (which any web server can serve):
//!
//! ```text
//! metadata/<N>.root.json  metadata/timestamp.json  metadata/<N>.snapshot.json  metadata/<N>.<role>.json
//! targets/<dir>/<sha256>.<file>
//! ```
//!
//! Publishing writes every new file beside the old ones and replaces `timestamp.json` last, so clients see the old
//! repository or the new one and nothing between.

mod document;
mod keys;
mod memory;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use jiff::Timestamp;

pub use document::{Delegation, Document, SPEC_VERSION, TargetInfo};
pub use keys::{Key, PublicKey};
pub use memory::MemoryFetch;

use crate::disk::write_atomically;
use crate::names;

/// What can go wrong on the repository's side.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RepoError {
    /// A file or folder could not be used.
    #[error("could not {operation} {path}")]
    Io {
        /// What was tried.
        operation: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A key file is not an Ed25519 key in PEM.
    #[error("not an Ed25519 key in PEM")]
    NotAKey,
    /// The cryptographic library failed.
    #[error("could not {operation}")]
    Crypto {
        /// What was tried.
        operation: &'static str,
    },
    /// A file is not TUF metadata.
    #[error("the file of role {role} is not TUF metadata")]
    NotMetadata {
        /// The role.
        role: String,
    },
    /// The repository lacks a role's file.
    #[error("the repository has no metadata of role {role}")]
    NoRole {
        /// The role.
        role: String,
    },
    /// A target name that could leave its folder, or a role name that would need escaping in a URL.
    #[error("the target name {name:?} is not safe to use as a path")]
    UnsafeName {
        /// The name.
        name: String,
    },
}

impl RepoError {
    pub(crate) fn io(operation: &'static str, path: &Path, source: io::Error) -> RepoError {
        RepoError::Io { operation, path: path.into(), source }
    }
}

/// Keys and lifetimes of the roles that sign at every publication.
#[derive(Debug)]
pub struct Online<'a> {
    /// Keys of the snapshot role.
    pub snapshot: &'a [Key],
    /// Keys of the timestamp role.
    pub timestamp: &'a [Key],
    /// When the new snapshot expires.
    pub snapshot_expires: Timestamp,
    /// When the new timestamp expires.
    pub timestamp_expires: Timestamp,
    /// The present: written into the timestamp as the time of signing.
    pub now: Timestamp,
}

/// A repository in a folder.
#[derive(Debug, Clone)]
pub struct Repo {
    dir: PathBuf,
}

impl Repo {
    /// Opens the folder, and makes it where it is missing.
    pub fn open(dir: impl Into<PathBuf>) -> Result<Repo, RepoError> {
        let repo = Repo { dir: dir.into() };
        for folder in [repo.metadata(), repo.targets()] {
            fs::create_dir_all(&folder).map_err(|err| RepoError::io("create", &folder, err))?;
        }
        Ok(repo)
    }

    /// Folder of the metadata.
    pub fn metadata(&self) -> PathBuf {
        self.dir.join("metadata")
    }

    /// Folder of the target files.
    pub fn targets(&self) -> PathBuf {
        self.dir.join("targets")
    }

    /// The newest root.
    pub fn root(&self) -> Result<Document, RepoError> {
        let folder = self.metadata();
        let entries = fs::read_dir(&folder).map_err(|err| RepoError::io("read", &folder, err))?;
        let versions = entries.filter_map(|entry| {
            let name = entry.ok()?.file_name().into_string().ok()?;
            name.strip_suffix(".root.json")?.parse::<u64>().ok()
        });
        let newest = versions.max().ok_or_else(|| RepoError::NoRole { role: "root".into() })?;
        self.read("root", Some(newest))
    }

    /// The current timestamp.
    pub fn timestamp(&self) -> Result<Document, RepoError> {
        self.read("timestamp", None)
    }

    /// The snapshot that the timestamp names.
    pub fn snapshot(&self) -> Result<Document, RepoError> {
        let version = self.timestamp()?.meta_version("snapshot.json");
        self.read("snapshot", Some(version.ok_or_else(|| RepoError::NoRole { role: "snapshot".into() })?))
    }

    /// A targets role (`targets` or a delegated one) in the version that the snapshot names.
    pub fn role(&self, role: &str) -> Result<Document, RepoError> {
        let version = self.snapshot()?.meta_version(&format!("{role}.json"));
        self.read(role, Some(version.ok_or_else(|| RepoError::NoRole { role: role.into() })?))
    }

    /// A given version of a role's file.
    pub fn read(&self, role: &str, version: Option<u64>) -> Result<Document, RepoError> {
        let path = self.metadata().join(names::remote(role, version));
        match fs::read(&path) {
            Ok(bytes) => Document::parse(role, &bytes),
            Err(err) if err.kind() == io::ErrorKind::NotFound => Err(RepoError::NoRole { role: role.into() }),
            Err(err) => Err(RepoError::io("read", &path, err)),
        }
    }

    /// Writes one metadata file under its version's name, atomically.
    pub fn write(&self, document: &Document) -> Result<PathBuf, RepoError> {
        if names::encode(&document.role) != document.role {
            return Err(RepoError::UnsafeName { name: document.role.clone() });
        }
        let path = self.metadata().join(document.file_name());
        write_atomically(&path, &document.to_bytes()).map_err(|err| RepoError::io("write", &path, err))?;
        Ok(path)
    }

    /// Puts a target's bytes in their place and describes them.
    pub fn add_target_file(
        &self,
        name: &str,
        bytes: &[u8],
        custom: Option<serde_json::Value>,
    ) -> Result<TargetInfo, RepoError> {
        if !names::is_safe_target(name) {
            return Err(RepoError::UnsafeName { name: name.into() });
        }
        let info = TargetInfo::of(bytes, custom);
        // The plain name, not the percent-encoded one of the URL: a web server decodes before it looks.
        let (dir, file) = name.rsplit_once('/').unwrap_or(("", name));
        let path = self.targets().join(dir).join(format!("{}.{file}", info.hashes.name()));
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).map_err(|err| RepoError::io("create", folder, err))?;
        }
        write_atomically(&path, bytes).map_err(|err| RepoError::io("write", &path, err))?;
        Ok(info)
    }

    /// Publishes signed targets roles: writes them, then a new snapshot that lists them, then a new timestamp.
    ///
    /// With no roles it renews snapshot and timestamp. On an empty repository it makes the first of both.
    pub fn publish(&self, roles: &[&Document], online: &Online<'_>) -> Result<(), RepoError> {
        let (mut snapshot, mut timestamp) = match self.timestamp() {
            Ok(timestamp) => {
                let mut snapshot = self.snapshot()?;
                snapshot.bump();
                (snapshot, timestamp)
            }
            Err(RepoError::NoRole { .. }) => {
                let mut timestamp = Document::new_timestamp(online.timestamp_expires);
                timestamp.set_version(0);
                (Document::new_snapshot(online.snapshot_expires), timestamp)
            }
            Err(other) => return Err(other),
        };
        for role in roles {
            self.write(role)?;
            snapshot.set_meta(&format!("{}.json", role.role), role.version(), Some(&role.to_bytes()));
        }
        snapshot.set_expires(online.snapshot_expires).sign(online.snapshot);
        self.write(&snapshot)?;
        timestamp.bump().set_expires(online.timestamp_expires).set_signed_at(online.now);
        timestamp.set_meta("snapshot.json", snapshot.version(), Some(&snapshot.to_bytes())).sign(online.timestamp);
        self.write(&timestamp)?;
        Ok(())
    }

    /// Renews the timestamp alone (its lifetime is the shortest).
    pub fn renew_timestamp(&self, online: &Online<'_>) -> Result<(), RepoError> {
        let mut timestamp = self.timestamp()?;
        timestamp.bump().set_expires(online.timestamp_expires).set_signed_at(online.now).sign(online.timestamp);
        self.write(&timestamp).map(|_| ())
    }
}

//! Opening a repository: its lock, and the check that what is in it was signed by its own roles.
//!
//! A repository lies where a web server can reach it. Without this check, whoever can write there could have us sign
//! what they put in.

use std::fs::File;
use std::path::{Path, PathBuf};

use iotwasm_firmware::target::ROLE as FIRMWARE;
use iotwasm_trust::repo::{Document, PublicKey, Repo, RepoError};
use jiff::Timestamp;
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use serde_json::Value;

use super::Error;

/// A repository that is locked, and whose top-level metadata is signed as it must be. Expiry does not count here: what
/// has expired is what a refresh is for.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) repo: Repo,
    pub(crate) root: Document,
    pub(crate) timestamp: Document,
    pub(crate) snapshot: Document,
    pub(crate) targets: Document,
    /// The time of the change.
    pub(crate) now: Timestamp,
    path: PathBuf,
    _lock: File,
}

/// Keys and threshold of a role, from whoever delegates to it.
#[derive(Debug, Clone)]
pub(crate) struct Signers {
    pub(crate) role: String,
    pub(crate) ids: Vec<String>,
    pub(crate) threshold: u64,
    pub(crate) keys: Vec<PublicKey>,
}

impl Opened {
    pub(crate) fn open(path: &Path) -> Result<Self, Error> {
        Self::open_trusting(path, "", &[])
    }

    /// As [`Self::open`], where signatures of one role may also be made by keys of our own: a rotation of its key that
    /// was cut short has left it so.
    pub(crate) fn open_trusting(path: &Path, role: &str, own: &[PublicKey]) -> Result<Self, Error> {
        if !is_repository(path) {
            return Err(Error::NoRepository { path: path.to_owned() });
        }
        let _lock = lock(path)?;
        let repo = open_folder(path)?;
        let used = |err| Error::Use { path: path.to_owned(), err };
        let root = repo.root().map_err(used)?;
        let timestamp = repo.timestamp().map_err(used)?;
        let snapshot = repo.snapshot().map_err(used)?;
        let targets = repo.role("targets").map_err(used)?;
        let opened =
            Self { repo, root, timestamp, snapshot, targets, now: Timestamp::now(), path: path.to_owned(), _lock };
        for document in [&opened.root, &opened.timestamp, &opened.snapshot, &opened.targets] {
            let mut signers = opened.signers(&document.role)?;
            if document.role == role {
                signers.keys.extend_from_slice(own);
            }
            verify(document, &signers)?;
        }
        listed(&opened.timestamp, "snapshot.json", &opened.snapshot)?;
        listed(&opened.snapshot, "targets.json", &opened.targets)?;
        Ok(opened)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Wraps what the repository's folder answers.
    pub(crate) fn used<T>(&self, result: Result<T, RepoError>) -> Result<T, Error> {
        result.map_err(|err| Error::Use { path: self.path.clone(), err })
    }

    /// The names of the vendors, in the order in which they were added. The role of firmware is none: what it signs is no
    /// payload.
    pub(crate) fn vendors(&self) -> Vec<String> {
        self.delegated().into_iter().filter(|role| role != FIRMWARE).collect()
    }

    /// The names of all roles below targets.
    pub(crate) fn delegated(&self) -> Vec<String> {
        self.targets.delegated()
    }

    /// The metadata of a vendor, or of firmware, verified.
    pub(crate) fn vendor(&self, vendor: &str) -> Result<Document, Error> {
        let signers = self.signers(vendor)?;
        let document = self.used(self.repo.role(vendor))?;
        verify(&document, &signers)?;
        listed(&self.snapshot, &format!("{vendor}.json"), &document)?;
        Ok(document)
    }

    /// Who signs a role: a top-level one, or a vendor's.
    pub(crate) fn signers(&self, role: &str) -> Result<Signers, Error> {
        let (listed, keys) = match self.root.role_keys(role) {
            Some(listed) => (listed, self.root.signed.get("keys")),
            None => {
                let listed =
                    self.targets.delegated_keys(role).ok_or_else(|| Error::NoVendor { vendor: role.to_owned() })?;
                (listed, self.targets.signed.get("delegations").and_then(|d| d.get("keys")))
            }
        };
        let (ids, threshold) = listed;
        let key = |id: &String| PublicKey::from_json(keys?.get(id)?).ok().filter(|key| key.id() == *id);
        let keys = ids.iter().filter_map(key).collect();
        Ok(Signers { role: role.to_owned(), ids, threshold, keys })
    }
}

/// True where there is a repository that clients can see.
pub(crate) fn is_repository(path: &Path) -> bool {
    path.join("metadata/timestamp.json").is_file()
}

pub(crate) fn open_folder(path: &Path) -> Result<Repo, Error> {
    Repo::open(path).map_err(|err| Error::Use { path: path.to_owned(), err })
}

/// Takes the folder's lock, which ends with the process; waits while another has it.
pub(crate) fn lock(path: &Path) -> Result<File, Error> {
    let failed = |err: std::io::Error| Error::Lock { path: path.to_owned(), err };
    let folder = File::open(path).map_err(failed)?;
    match flock(&folder, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(Errno::WOULDBLOCK) => {
            iotwasm_kit::info!("waiting for another iotwasm that uses {}", path.display());
            flock(&folder, FlockOperation::LockExclusive).map_err(|errno| failed(errno.into()))?;
        }
        Err(errno) => return Err(failed(errno.into())),
    }
    Ok(folder)
}

fn verify(document: &Document, signers: &Signers) -> Result<(), Error> {
    let message = document.canonical();
    let signed = |key: &&PublicKey| {
        let id = key.id();
        document.signatures.iter().any(|(other, signature)| *other == id && key.made(signature, &message))
    };
    let mut valid: Vec<String> = signers.keys.iter().filter(signed).map(PublicKey::id).collect();
    valid.sort();
    valid.dedup();
    if signers.threshold > 0 && valid.len() as u64 >= signers.threshold {
        return Ok(());
    }
    Err(Error::Altered {
        role: document.role.clone(),
        file: document.file_name(),
        found: valid.len(),
        threshold: signers.threshold,
    })
}

/// Checks that a file is of the version that its lister names, and says so itself.
fn listed(lister: &Document, name: &str, document: &Document) -> Result<(), Error> {
    let kind = match document.role.as_str() {
        top @ ("snapshot" | "timestamp" | "root") => top,
        _ => "targets",
    };
    let is_kind = document.signed.get("_type").and_then(Value::as_str) == Some(kind);
    if is_kind && lister.meta_version(name) == Some(document.version()) {
        return Ok(());
    }
    Err(Error::NotListed { file: document.file_name() })
}

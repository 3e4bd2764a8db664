//! Private keys in folders: one file for each key, named after its role and the beginning of its id.
//!
//! Which role a key signs for is decided by the metadata that lists its id, never by the file's name: the name is for
//! people. So a rotation renames nothing, and a key that is trusted no longer is just one that nothing lists.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use iotwasm_kit::report::{Code, Failure};
use iotwasm_trust::repo::{Key, PublicKey, RepoError};

/// Digits of the key id in a file's name: enough to tell an owner's keys apart.
const SHORT_ID: usize = 8;

/// Why keys could not be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("could not read the key folder {}", path.display())]
    ReadFolder {
        path: PathBuf,
        #[source]
        err: io::Error,
    },
    #[error("could not make the key folder {}", path.display())]
    MakeFolder {
        path: PathBuf,
        #[source]
        err: io::Error,
    },
    #[error(
        "others can read the key file {} (mode {mode:04o}); think whether they have, then run chmod 600 on it",
        path.display()
    )]
    NotPrivate { path: PathBuf, mode: u32 },
    #[error("could not load the key {}", path.display())]
    Load {
        path: PathBuf,
        #[source]
        err: RepoError,
    },
    #[error("could not make a key")]
    Make {
        #[source]
        err: RepoError,
    },
    #[error("could not save the key {}", path.display())]
    Save {
        path: PathBuf,
        #[source]
        err: RepoError,
    },
    #[error(
        "{} is a key of role {role} already; to replace it, run iotwasm repo rotate-key {role}",
        path.display()
    )]
    Exists { role: String, path: PathBuf },
}

impl Failure for Error {
    fn exit_code(&self) -> Code {
        match self {
            Self::NotPrivate { .. } | Self::Load { .. } => Code::Config,
            _ => Code::Other,
        }
    }
}

/// One key file.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) path: PathBuf,
    /// The role in the file's name.
    pub(crate) role: String,
    pub(crate) public: PublicKey,
    /// The TUF key id.
    pub(crate) id: String,
}

/// All keys of some folders.
#[derive(Debug, Default)]
pub(crate) struct Keyring {
    entries: Vec<Entry>,
}

impl Keyring {
    /// Reads every `*.pem` of the folders.
    pub(crate) fn load(folders: &[PathBuf]) -> Result<Self, Error> {
        let mut entries = Vec::new();
        for folder in folders {
            let failed = |err| Error::ReadFolder { path: folder.clone(), err };
            for file in fs::read_dir(folder).map_err(failed)? {
                let path = file.map_err(failed)?.path();
                if path.extension().is_some_and(|extension| extension == "pem") {
                    entries.push(Entry::load(path)?);
                }
            }
        }
        entries.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(Self { entries })
    }

    pub(crate) fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The entries whose ids are listed. A key that is in two folders counts once.
    pub(crate) fn listed(&self, ids: &[String]) -> Vec<&Entry> {
        let mut found: Vec<&Entry> = Vec::new();
        for entry in &self.entries {
            if ids.contains(&entry.id) && !found.iter().any(|other| other.id == entry.id) {
                found.push(entry);
            }
        }
        found
    }

    /// The entries whose files are named after a role.
    pub(crate) fn named<'a>(&'a self, role: &'a str) -> impl Iterator<Item = &'a Entry> + 'a {
        self.entries.iter().filter(move |entry| entry.role == role)
    }
}

impl Entry {
    fn load(path: PathBuf) -> Result<Self, Error> {
        let mode =
            fs::metadata(&path).map_err(|err| Error::ReadFolder { path: path.clone(), err })?.permissions().mode()
                & 0o777;
        if mode & 0o077 != 0 {
            return Err(Error::NotPrivate { path, mode });
        }
        let public = Key::load(&path).map_err(|err| Error::Load { path: path.clone(), err })?.public();
        let stem = path.file_stem().unwrap_or_default().to_string_lossy();
        let role = stem.rsplit_once('-').map_or(stem.as_ref(), |(role, _)| role).to_owned();
        let id = public.id();
        Ok(Self { path, role, public, id })
    }

    /// The private key, read when it is needed and not before.
    pub(crate) fn key(&self) -> Result<Key, Error> {
        Key::load(&self.path).map_err(|err| Error::Load { path: self.path.clone(), err })
    }
}

/// Makes a key of a role and saves it.
pub(crate) fn generate(folder: &Path, role: &str) -> Result<Entry, Error> {
    let key = Key::generate().map_err(|err| Error::Make { err })?;
    let (public, id) = (key.public(), key.id());
    let path = folder.join(format!("{role}-{}.pem", &id[..SHORT_ID]));
    key.save(&path).map_err(|err| Error::Save { path: path.clone(), err })?;
    Ok(Entry { path, role: role.to_owned(), public, id })
}

/// Makes the folder, for its owner alone, if it is missing.
pub(crate) fn make_folder(folder: &Path) -> Result<(), Error> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .map_err(|err| Error::MakeFolder { path: folder.to_owned(), err })
}

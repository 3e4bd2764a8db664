//! The client's files: the very bytes that the repository signed, one file a role.
//!
//! ```text
//! root.json  timestamp.json  snapshot.json  targets.json  <role>.json   what is trusted now
//! roots/<N>.root.json                                                   every root since the first pinned one
//! floor                                                                 lower bound of the time, RFC 3339
//! ```
//!
//! Nothing here is trusted for lying here: the core checks every signature again from the pinned root on. A file that is
//! damaged, cut off or unreadable is as good as absent.

use std::path::{Path, PathBuf};

use crate::core::StoreFile;
use crate::disk::Disk;
use crate::{Error, names};

/// Longest floor file: a time in RFC 3339.
const FLOOR_BYTES: u64 = 64;

/// The files of one client in one folder.
pub(crate) struct Store<D> {
    folder: PathBuf,
    disk: D,
}

impl<D: Disk> Store<D> {
    pub(crate) fn open(folder: &Path, mut disk: D) -> Result<Store<D>, Error> {
        let roots = folder.join("roots");
        disk.make_folder(&roots).map_err(|source| io("make", &roots, source))?;
        disk.sync_folder(folder).map_err(|source| io("sync", folder, source))?;
        Ok(Store { folder: folder.into(), disk })
    }

    /// Where a file lies.
    pub(crate) fn path(&self, file: &StoreFile) -> PathBuf {
        let name = match file {
            StoreFile::Root => "root.json".into(),
            StoreFile::RootVersion(version) => format!("roots/{version}.root.json"),
            StoreFile::Timestamp => "timestamp.json".into(),
            StoreFile::Snapshot => "snapshot.json".into(),
            StoreFile::Targets(role) => names::local(role),
            StoreFile::Floor => "floor".into(),
        };
        self.folder.join(name)
    }

    /// The file's bytes; None if it cannot be read for whatever reason.
    pub(crate) fn load(&self, file: &StoreFile, max: u64) -> Option<Vec<u8>> {
        self.disk.read(&self.path(file), max).ok()
    }

    /// Puts the bytes in the file's place, durably. The same bytes again are not written again: flash wears.
    pub(crate) fn persist(&mut self, file: &StoreFile, bytes: &[u8]) -> Result<(), Error> {
        if self.load(file, bytes.len() as u64).as_deref() == Some(bytes) {
            return Ok(());
        }
        let path = self.path(file);
        self.disk.replace(&path, bytes).map_err(|source| io("write", &path, source))
    }

    /// Removes the file, durably.
    pub(crate) fn remove(&mut self, file: &StoreFile) -> Result<(), Error> {
        let path = self.path(file);
        self.disk.remove(&path).map_err(|source| io("remove", &path, source))?;
        self.disk.sync_folder(&self.folder).map_err(|source| io("sync", &self.folder, source))
    }

    pub(crate) fn load_floor(&self) -> Option<jiff::Timestamp> {
        let bytes = self.load(&StoreFile::Floor, FLOOR_BYTES)?;
        std::str::from_utf8(&bytes).ok()?.trim().parse().ok()
    }

    pub(crate) fn persist_floor(&mut self, floor: jiff::Timestamp) -> Result<(), Error> {
        let floor = floor.round(jiff::Unit::Second).unwrap_or(floor);
        self.persist(&StoreFile::Floor, format!("{floor}\n").as_bytes())
    }
}

pub(crate) fn io(operation: &'static str, path: &Path, source: std::io::Error) -> Error {
    Error::Io { operation, path: path.into(), source }
}

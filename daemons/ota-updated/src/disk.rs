//! The room on the data partition, and the folder of downloads. Edges, and one calculation.

use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use iotwasm_kit::warn;

/// What went wrong with which file.
#[derive(Debug, thiserror::Error)]
#[error("could not {action} {}", path.display())]
pub struct Error {
    action: &'static str,
    path: PathBuf,
    #[source]
    err: io::Error,
}

fn at<'a>(action: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> Error + 'a {
    move |err| Error { action, path: path.to_owned(), err }
}

/// What an installation needs of the disk, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    /// The payload.
    pub length: u64,
    /// Its metadata chain.
    pub chain: u64,
    /// So much of it was fetched before.
    pub fetched: u64,
    /// The slot gives so much back when it is cleared.
    pub freed: u64,
    /// What must stay free.
    pub reserve: u64,
}

/// The disk is too full.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "the data partition is too full: {} KiB are needed ({} KiB of them stay free), and {} KiB are free",
    needed.div_ceil(1024), reserve / 1024, free / 1024
)]
pub struct TooFull {
    /// Bytes needed, the reserve among them.
    needed: u64,
    /// Bytes of the reserve.
    reserve: u64,
    /// Bytes free.
    free: u64,
}

impl Room {
    /// Whether so many free bytes are enough.
    ///
    /// The file may be there twice for a moment: where downloads and slots are mounts of their own, it is copied.
    ///
    /// # Errors
    ///
    /// If not.
    pub fn check(&self, free: u64) -> Result<(), TooFull> {
        let download = self.length.saturating_sub(self.fetched);
        let slot = self.length.saturating_add(self.chain).saturating_sub(self.freed);
        let needed = download.saturating_add(slot).saturating_add(self.reserve);
        if free < needed { Err(TooFull { needed, reserve: self.reserve, free }) } else { Ok(()) }
    }
}

/// Bytes that can still be written on the file system of this path.
///
/// # Errors
///
/// If it cannot be asked.
pub fn free(path: &Path) -> Result<u64, Error> {
    let stat = rustix::fs::statvfs(path).map_err(|err| at("measure", path)(err.into()))?;
    Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
}

/// Length of a file, 0 if there is none.
#[must_use]
pub fn length(path: &Path) -> u64 {
    fs::symlink_metadata(path).map_or(0, |meta| if meta.is_file() { meta.len() } else { 0 })
}

/// A file that should have this length, whole; a longer one is read one byte too far, so that a check of it fails.
///
/// # Errors
///
/// If it cannot be read.
pub fn read(path: &Path, length: u64) -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::with_capacity(usize::try_from(length).unwrap_or(0));
    let file = fs::File::open(path).map_err(at("open", path))?;
    file.take(length.saturating_add(1)).read_to_end(&mut bytes).map_err(at("read", path))?;
    Ok(bytes)
}

/// Removes a file if it is there.
pub fn remove(path: &Path) {
    match fs::remove_file(path) {
        Err(err) if err.kind() != io::ErrorKind::NotFound => warn!("could not remove {}: {err}", path.display()),
        _ => {}
    }
}

/// Removes every file of a folder whose name is not wanted.
pub fn keep_only(folder: &Path, wanted: impl Fn(&str) -> bool) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        if !entry.file_name().to_str().is_some_and(&wanted) {
            remove(&entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROOM: Room = Room { length: 1000, chain: 100, fetched: 0, freed: 0, reserve: 50 };

    #[test]
    fn download_slot_chain_and_reserve_must_fit() {
        assert!(ROOM.check(2150).is_ok());
        let err = ROOM.check(2149).unwrap_err();
        assert_eq!(err, TooFull { needed: 2150, reserve: 50, free: 2149 });
        assert!(err.to_string().contains("3 KiB are needed") && err.to_string().contains("2 KiB are free"), "{err}");
    }

    #[test]
    fn what_was_fetched_and_what_the_slot_gives_back_count() {
        assert!(Room { fetched: 600, ..ROOM }.check(1550).is_ok());
        assert!(Room { fetched: 600, ..ROOM }.check(1549).is_err());
        assert!(Room { freed: 5000, ..ROOM }.check(1050).is_ok());
    }

    #[test]
    fn only_wanted_downloads_are_kept() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["aa", "aa.etag", "bb", "cc.part"] {
            fs::write(dir.path().join(name), "x").unwrap();
        }
        keep_only(dir.path(), |name| name.starts_with("aa"));
        let mut left: Vec<_> = fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        left.sort();
        assert_eq!(left, ["aa", "aa.etag"]);
    }
}

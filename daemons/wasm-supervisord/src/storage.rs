//! The folders that payloads keep things in: made before a start, measured while it runs.
//!
//! The kernel bounds the length of each file (RLIMIT_FSIZE), for a whole process alike: at the largest quota of its
//! folders. How much all files hold is measured, see [`crate::meter`]: between two measurements a guest can add as many
//! files of that length as the disk takes. So the free space is watched too, and more often.

use std::{
    fs, io,
    os::unix::fs::{DirBuilderExt, MetadataExt},
    path::{Path, PathBuf},
};

use iotwasm_payload::Manifest;

/// Most entries that are counted: a folder with more is over its quota whatever they weigh, and counting ends.
const MAX_ENTRIES: usize = 10_000;
/// What an entry counts at least, in bytes, so that empty files are not free: a block of the file system.
const MIN_ENTRY: u64 = 4096;
/// Deepest nesting that is followed; deeper counts as over.
const MAX_DEPTH: usize = 32;

/// A folder of a payload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Folder {
    /// Where it is.
    pub host: PathBuf,
    /// Where the guest sees it.
    pub guest: String,
    /// Most bytes in it; none where it is read-only.
    pub quota: Option<u64>,
}

/// A folder that could not be made ready.
#[derive(Debug, thiserror::Error)]
#[error("could not make the folder {} ready", path.display())]
pub struct Error {
    /// Which.
    pub path: PathBuf,
    /// The cause.
    #[source]
    pub err: io::Error,
}

/// The folders that a manifest asks for, below `root/<id>`.
#[must_use]
pub fn folders(root: &Path, manifest: &Manifest) -> Vec<Folder> {
    let base = root.join(manifest.id.as_str());
    let directories = manifest.wasi.iter().flat_map(|wasi| &wasi.directories);
    directories
        .map(|directory| Folder {
            host: base.join(directory.name.as_str()),
            guest: directory.guest.clone(),
            quota: directory.quota_bytes(),
        })
        .collect()
}

/// Make the folders that are missing, for our own user alone. What is there must be a folder and no link.
///
/// # Errors
/// Names the folder.
pub fn make(folders: &[Folder]) -> Result<(), Error> {
    for folder in folders {
        let fail = |err| Error { path: folder.host.clone(), err };
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder.host).map_err(fail)?;
        if !fs::symlink_metadata(&folder.host).map_err(fail)?.is_dir() {
            return Err(fail(io::ErrorKind::NotADirectory.into()));
        }
    }
    Ok(())
}

/// Bytes below a folder; links are counted, not followed. More than can be counted is `u64::MAX`.
#[must_use]
pub fn used(folder: &Path) -> u64 {
    let (mut total, mut entries) = (0u64, 0usize);
    let mut pending = vec![(folder.to_owned(), 0)];
    while let Some((path, depth)) = pending.pop() {
        // What vanished meanwhile weighs nothing.
        let Ok(list) = fs::read_dir(&path) else { continue };
        for entry in list.flatten() {
            let Ok(metadata) = entry.metadata() else { continue };
            entries += 1;
            if entries > MAX_ENTRIES || depth >= MAX_DEPTH {
                return u64::MAX;
            }
            // A sparse file counts as what it takes, not as what it pretends.
            let weight = if metadata.is_dir() { 0 } else { metadata.blocks() * 512 };
            total = total.saturating_add(weight.max(MIN_ENTRY));
            if metadata.is_dir() {
                pending.push((entry.path(), depth + 1));
            }
        }
    }
    total
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(dir: &Path, quota: u64) -> Folder {
        Folder { host: dir.join("p/state"), guest: "/state".into(), quota: Some(quota) }
    }

    #[test]
    fn a_folder_is_made_for_its_owner_alone() {
        let dir = tempfile::tempdir().unwrap();
        let folder = folder(dir.path(), 1);
        make(std::slice::from_ref(&folder)).unwrap();
        make(std::slice::from_ref(&folder)).unwrap();
        assert_eq!(fs::metadata(&folder.host).unwrap().mode() & 0o777, 0o700);
    }

    #[test]
    fn a_link_in_the_place_of_a_folder_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let folder = folder(dir.path(), 1);
        fs::create_dir_all(folder.host.parent().unwrap()).unwrap();
        std::os::unix::fs::symlink("/etc", &folder.host).unwrap();
        assert!(make(&[folder]).is_err());
    }

    #[test]
    fn files_in_every_depth_count_and_empty_ones_are_not_free() {
        let dir = tempfile::tempdir().unwrap();
        let folder = folder(dir.path(), 64 * 1024);
        fs::create_dir_all(folder.host.join("a/b")).unwrap();
        fs::write(folder.host.join("a/b/c"), vec![1; 40 * 1024]).unwrap();
        assert!((40 * 1024..=64 * 1024).contains(&used(&folder.host)));
        for n in 0..16 {
            fs::write(folder.host.join(format!("{n}")), "").unwrap();
        }
        assert!(used(&folder.host) > 64 * 1024);
    }

    #[test]
    fn a_link_out_of_the_folder_is_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let folder = folder(dir.path(), 64 * 1024);
        fs::create_dir_all(&folder.host).unwrap();
        fs::write(dir.path().join("big"), vec![1; 1024 * 1024]).unwrap();
        std::os::unix::fs::symlink(dir.path(), folder.host.join("out")).unwrap();
        assert!(used(&folder.host) <= 64 * 1024);
    }

    #[test]
    fn nesting_without_end_is_over() {
        let dir = tempfile::tempdir().unwrap();
        let folder = folder(dir.path(), u64::MAX - 1);
        let deep = (0..40).fold(folder.host.clone(), |path, _| path.join("d"));
        fs::create_dir_all(deep).unwrap();
        assert_eq!(used(&folder.host), u64::MAX);
    }
}

//! The edge to the disk: reading with a bound, and writing so that a power cut leaves the old file or the new one.

use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags};

/// Ending of files not yet in their place. No metadata file ends so; leftovers are overwritten by the next write.
const TEMPORARY: &str = "new";

/// The steps that change a disk, one by one, so that a test can stop between any two.
pub(crate) trait Disk {
    /// Reads a file whole, if it is there and not longer than `max` bytes. MUST NOT follow a symbolic link.
    fn read(&self, path: &Path, max: u64) -> io::Result<Vec<u8>>;
    /// Makes or empties a file, writes it and syncs it.
    fn write(&mut self, path: &Path, bytes: &[u8]) -> io::Result<()>;
    /// Puts a file in the place of another.
    fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file; one that is not there is no error.
    fn remove(&mut self, path: &Path) -> io::Result<()>;
    /// Makes a folder; one that is there is no error.
    fn make_folder(&mut self, path: &Path) -> io::Result<()>;
    /// Syncs a folder's entries.
    fn sync_folder(&mut self, path: &Path) -> io::Result<()>;

    /// Temporary file, sync, rename, sync of the folder.
    fn replace(&mut self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let new = temporary(path);
        self.write(&new, bytes)?;
        self.rename(&new, path)?;
        self.sync_folder(parent(path))
    }
}

fn temporary(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(TEMPORARY);
    name.into()
}

fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// The disk itself.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct RealDisk;

impl Disk for RealDisk {
    fn read(&self, path: &Path, max: u64) -> io::Result<Vec<u8>> {
        read_bounded(path, max)
    }

    fn write(&mut self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let mut file = File::create(path)?;
        file.write_all(bytes)?;
        file.sync_all()
    }

    fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&mut self, path: &Path) -> io::Result<()> {
        match fs::remove_file(path) {
            Err(err) if err.kind() != io::ErrorKind::NotFound => Err(err),
            _ => Ok(()),
        }
    }

    fn make_folder(&mut self, path: &Path) -> io::Result<()> {
        fs::create_dir_all(path)
    }

    fn sync_folder(&mut self, path: &Path) -> io::Result<()> {
        File::open(path)?.sync_all()
    }
}

/// Reads a regular file of at most `max` bytes. Refuses symbolic links, and devices and pipes, which could be endless.
pub(crate) fn read_bounded(path: &Path, max: u64) -> io::Result<Vec<u8>> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
    read_open(rustix::fs::openat(CWD, path, flags, Mode::empty())?, max)
}

/// As [`read_bounded`], from an open descriptor.
pub(crate) fn read_open(fd: OwnedFd, max: u64) -> io::Result<Vec<u8>> {
    let file = File::from(fd);
    let meta = file.metadata()?;
    if !meta.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
    }
    let mut bytes = Vec::with_capacity(meta.len().min(max) as usize);
    file.take(max.saturating_add(1)).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > max {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("longer than {max} bytes")));
    }
    Ok(bytes)
}

/// [`Disk::replace`] on the real disk.
#[cfg(feature = "repo")]
pub(crate) fn write_atomically(path: &Path, bytes: &[u8]) -> io::Result<()> {
    RealDisk.replace(path, bytes)
}

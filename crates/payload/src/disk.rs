//! The operations on a disk that the store's safety rests on, each one step of a sequence that power may cut.

use std::fs;
use std::io::{self, Read};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

/// Slots are the updater's to write, and its group's (the supervisor's) to read.
const DIR_MODE: u32 = 0o750;
const FILE_MODE: u32 = 0o640;
/// Deepest folder of a chain and most entries of one: what is synced after the exporter ran.
const MAX_DEPTH: usize = 8;

/// What the store needs of a disk. Only the syncs promise anything about a power cut.
///
/// Contract: `rename` and `exchange` are atomic; after `sync_file` the file's bytes are there for good, after `sync_dir` the folder's
/// entries; nothing else is. `remove_*` of what is not there succeeds.
pub trait Disk {
    /// True if something is there.
    fn exists(&self, path: &Path) -> bool;
    /// Creates one folder, mode 0750.
    fn create_dir(&self, path: &Path) -> io::Result<()>;
    /// Creates a file that must not exist, mode 0640, and writes all of it.
    fn write_new(&self, path: &Path, content: &mut dyn Read) -> io::Result<()>;
    /// Moves a file to a place that must be free, mode 0640, or copies it if it lies on another file system. Its group goes
    /// with it: the kernel tells payloads from other files by that.
    fn take(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Replaces a file.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Two folders change places, at once.
    fn exchange(&self, one: &Path, other: &Path) -> io::Result<()>;
    /// Removes a file.
    fn remove_file(&self, path: &Path) -> io::Result<()>;
    /// Removes a folder with all that is in it; follows no link.
    fn remove_tree(&self, path: &Path) -> io::Result<()>;
    /// Makes a file's bytes permanent.
    fn sync_file(&self, path: &Path) -> io::Result<()>;
    /// Makes a folder's entries permanent.
    fn sync_dir(&self, path: &Path) -> io::Result<()>;
    /// Both, for everything below a folder; sets the modes as well.
    fn sync_tree(&self, path: &Path) -> io::Result<()>;
    /// Bytes that an unprivileged writer can still write on the file system of this path, or of the nearest folder above
    /// it that exists.
    fn free(&self, path: &Path) -> io::Result<u64>;
}

/// The disk of the machine.
#[derive(Debug, Clone, Copy)]
pub struct RealDisk;

impl Disk for RealDisk {
    fn exists(&self, path: &Path) -> bool {
        fs::symlink_metadata(path).is_ok()
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        fs::DirBuilder::new().mode(DIR_MODE).create(path)?;
        set_mode(path, DIR_MODE)
    }

    fn write_new(&self, path: &Path, content: &mut dyn Read) -> io::Result<()> {
        let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(FILE_MODE).open(path)?;
        file.set_permissions(fs::Permissions::from_mode(FILE_MODE))?;
        io::copy(content, &mut file).map(drop)
    }

    fn take(&self, from: &Path, to: &Path) -> io::Result<()> {
        match fs::rename(from, to) {
            Ok(()) => set_mode(to, FILE_MODE),
            // Two bind mounts of one file system (a unit's ReadWritePaths) are apart for rename as well.
            Err(err) if err.kind() == io::ErrorKind::CrossesDevices => {
                let mut source = crate::store::open(from)?;
                self.write_new(to, &mut source)?;
                give_group(to, source.metadata()?.gid())
            }
            Err(err) => Err(err),
        }
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn exchange(&self, one: &Path, other: &Path) -> io::Result<()> {
        use rustix::fs::{CWD, RenameFlags, renameat_with};
        Ok(renameat_with(CWD, one, CWD, other, RenameFlags::EXCHANGE)?)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        gone(fs::remove_file(path))
    }

    fn remove_tree(&self, path: &Path) -> io::Result<()> {
        match fs::symlink_metadata(path) {
            Ok(meta) if meta.is_dir() => gone(fs::remove_dir_all(path)),
            Ok(_) => gone(fs::remove_file(path)),
            Err(err) => gone(Err(err)),
        }
    }

    fn sync_file(&self, path: &Path) -> io::Result<()> {
        crate::store::open(path)?.sync_all()
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        fs::File::open(path)?.sync_all()
    }

    fn sync_tree(&self, path: &Path) -> io::Result<()> {
        sync_tree(path, MAX_DEPTH)
    }

    fn free(&self, path: &Path) -> io::Result<u64> {
        let there = path.ancestors().find(|p| p.exists()).unwrap_or(Path::new("/"));
        let stat = rustix::fs::statvfs(there)?;
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }
}

fn sync_tree(path: &Path, depth: usize) -> io::Result<()> {
    if depth == 0 {
        return Err(io::Error::other("too many folders within each other"));
    }
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        let (kind, path) = (entry.file_type()?, entry.path());
        if kind.is_dir() {
            set_mode(&path, DIR_MODE)?;
            sync_tree(&path, depth - 1)?;
        } else if kind.is_file() {
            set_mode(&path, FILE_MODE)?;
            RealDisk.sync_file(&path)?;
        } else {
            return Err(io::Error::other("neither a file nor a folder"));
        }
    }
    RealDisk.sync_dir(path)
}

/// Gives a file or folder its rights, which the umask of the process may have narrowed. A folder keeps its setgid bit,
/// which hands the reader's group on to what is made in it; a right bit is not set again, as a unit may not set it.
fn set_mode(path: &Path, mode: u32) -> io::Result<()> {
    const RIGHTS: u32 = 0o777;
    let now = fs::symlink_metadata(path)?.permissions().mode();
    if now & RIGHTS == mode {
        return Ok(());
    }
    fs::set_permissions(path, fs::Permissions::from_mode(now & 0o2000 | mode))
}

fn give_group(path: &Path, group: u32) -> io::Result<()> {
    if fs::symlink_metadata(path)?.gid() == group {
        return Ok(());
    }
    std::os::unix::fs::chown(path, None, Some(group))
}

/// Success if it is not there.
fn gone(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(err) if err.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A folder whose setgid bit hands its group on, as the device's payload folder does; none where this user may not.
    fn shared_folder() -> Option<(tempfile::TempDir, u32)> {
        let folder = tempfile::tempdir().unwrap();
        let group = fs::metadata(folder.path()).unwrap().gid() + 1;
        std::os::unix::fs::chown(folder.path(), None, Some(group)).ok()?;
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o2750)).unwrap();
        Some((folder, group))
    }

    fn group_and_mode(path: &Path) -> (u32, u32) {
        let meta = fs::metadata(path).unwrap();
        (meta.gid(), meta.mode() & 0o7777)
    }

    #[test]
    fn what_is_made_below_a_shared_folder_stays_readable_for_its_group() {
        let Some((folder, group)) = shared_folder() else { return };
        let (slot, chain) = (folder.path().join("slot"), folder.path().join("slot/chain"));
        RealDisk.create_dir(&slot).unwrap();
        fs::create_dir(&chain).unwrap();
        fs::write(chain.join("root.json"), "{}").unwrap();
        RealDisk.write_new(&slot.join("new"), &mut &b"x"[..]).unwrap();
        let elsewhere = tempfile::tempdir_in(folder.path().parent().unwrap()).unwrap();
        fs::write(elsewhere.path().join("fetched"), "y").unwrap();
        RealDisk.take(&elsewhere.path().join("fetched"), &slot.join("taken")).unwrap();
        RealDisk.sync_tree(&slot).unwrap();
        for dir in [&slot, &chain] {
            assert_eq!(group_and_mode(dir), (group, 0o2750), "{}", dir.display());
        }
        for file in [slot.join("new"), chain.join("root.json")] {
            assert_eq!(group_and_mode(&file), (group, 0o640), "{}", file.display());
        }
        // What was fetched keeps the group that it was fetched into.
        assert_eq!(group_and_mode(&slot.join("taken")), (group_and_mode(elsewhere.path()).0, 0o640));
    }
}

//! Files that survive a power cut: temporary file, fsync, rename, fsync of the folder.
//! A reader sees the old content or the new, whole; never a mixture.

use std::{
    fs::{File, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

/// What went wrong with which file.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The path has no folder or no file name.
    #[error("{} is not a path of a file in a folder", path.display())]
    NotAFile {
        /// The path given.
        path: PathBuf,
    },
    /// Creating or writing the temporary file failed; the old content is untouched.
    #[error("could not write {}", path.display())]
    Write {
        /// The temporary file.
        path: PathBuf,
        /// The cause.
        #[source]
        err: io::Error,
    },
    /// The rename failed; the old content is untouched.
    #[error("could not put {} in place", path.display())]
    Rename {
        /// The file to be replaced.
        path: PathBuf,
        /// The cause.
        #[source]
        err: io::Error,
    },
    /// The folder could not be synced: the new content is there but may be lost by a power cut.
    #[error("could not sync the folder {}", path.display())]
    SyncDir {
        /// The folder.
        path: PathBuf,
        /// The cause.
        #[source]
        err: io::Error,
    },
}

/// Replace the content of `path` by `bytes`, with permission bits `mode`.
///
/// There is one temporary name for each file, so one writer for each file; a temporary file that a power cut left
/// behind is overwritten by the next write.
///
/// # Errors
/// Names the step and the file. Only [`Error::SyncDir`] leaves the new content in place.
pub fn write(path: &Path, bytes: &[u8], mode: u32) -> Result<(), Error> {
    let not_a_file = || Error::NotAFile { path: path.to_owned() };
    let dir = path.parent().ok_or_else(not_a_file)?;
    let name = path.file_name().ok_or_else(not_a_file)?;
    let mut temporary_name = std::ffi::OsString::from(".");
    temporary_name.push(name);
    temporary_name.push(".new");
    let temporary = dir.join(temporary_name);

    write_synced(&temporary, bytes, mode).map_err(|err| Error::Write { path: temporary.clone(), err })?;
    std::fs::rename(&temporary, path).map_err(|err| Error::Rename { path: path.to_owned(), err })?;
    sync_dir(dir)
}

fn write_synced(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    // A left-over with other permission bits would keep them: make it anew.
    match std::fs::remove_file(path) {
        Err(err) if err.kind() != io::ErrorKind::NotFound => return Err(err),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
    file.write_all(bytes)?;
    // The umask may have taken bits away.
    file.set_permissions(std::os::unix::fs::PermissionsExt::from_mode(mode))?;
    file.sync_all()
}

/// A regular file of at most `limit` bytes; `None` if there is none. Follows no link and waits for nobody: what lies on a data
/// partition may be anything.
///
/// # Errors
/// It cannot be read; or it is longer or no regular file, which is [`io::ErrorKind::InvalidData`].
pub fn read(path: &Path, limit: u64) -> io::Result<Option<Vec<u8>>> {
    use std::io::Read;

    use rustix::fs::{Mode, OFlags};
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let file = match rustix::fs::open(path, flags, Mode::empty()) {
        Ok(file) => File::from(file),
        Err(rustix::io::Errno::NOENT) => return Ok(None),
        Err(rustix::io::Errno::LOOP) => return Err(io::Error::new(io::ErrorKind::InvalidData, "it is a link")),
        Err(err) => return Err(err.into()),
    };
    if !file.metadata()?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "it is not a regular file"));
    }
    let mut bytes = Vec::new();
    file.take(limit.saturating_add(1)).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > limit {
        return Err(io::Error::new(io::ErrorKind::InvalidData, format!("it has more than {limit} bytes")));
    }
    Ok(Some(bytes))
}

/// Make renames and removals in a folder durable.
///
/// # Errors
/// [`Error::SyncDir`].
pub fn sync_dir(dir: &Path) -> Result<(), Error> {
    let dir = if dir.as_os_str().is_empty() { Path::new(".") } else { dir };
    File::open(dir).and_then(|d| d.sync_all()).map_err(|err| Error::SyncDir { path: dir.to_owned(), err })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn replaces_content_and_sets_the_mode() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state.json");
        write(&path, b"one", 0o600).unwrap();
        write(&path, b"two", 0o640).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"two");
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o640);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_left_over_of_a_power_cut_is_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        std::fs::write(dir.path().join(".f.new"), b"torn").unwrap();
        write(&path, b"whole", 0o644).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"whole");
        assert!(!dir.path().join(".f.new").exists());
    }

    #[test]
    fn a_failure_names_the_file_and_leaves_the_old_content() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        write(&path, b"old", 0o644).unwrap();
        // A folder stands where the temporary file must go.
        std::fs::create_dir(dir.path().join(".f.new")).unwrap();
        let err = write(&path, b"new", 0o644).unwrap_err();
        assert!(err.to_string().contains(".f.new"), "{err}");
        assert_eq!(std::fs::read(&path).unwrap(), b"old");
    }
}

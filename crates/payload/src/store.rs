//! The slot store: where payloads lie on the data partition, and how they get there.
//!
//! ```text
//! <root>/<id>/state.json         the slot states; replaced as a whole
//! <root>/<id>/{a,b}/payload.wasm the file as signed
//! <root>/<id>/{a,b}/chain/       the metadata that verifies it
//! <root>/<id>/{a,b}/chain.other/ the one before, or the next one while it is written
//! ```
//!
//! Owns the order of writes: whatever instant the power goes, the committed slot and a readable state remain. Only
//! [`Writer`] can write, and only to a slot that the state says is inactive; [`Reader`] has no function that writes.
//! Never decides what to install, and trusts nothing that it reads: it bounds it and leaves verifying to its caller.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use iotwasm_values::{Digest, Slot};

use crate::disk::{Disk, RealDisk};
use crate::id::PayloadId;
use crate::slot::{MAX_STATE_BYTES, PayloadState, Release, SlotState, StateError};

/// Name of the payload in its slot.
pub const PAYLOAD_FILE: &str = "payload.wasm";
/// Name of the metadata's folder in a slot.
pub const CHAIN_FOLDER: &str = "chain";
/// Name of the folder that changes places with it.
const OTHER_CHAIN_FOLDER: &str = "chain.other";
/// Name of the state's file.
pub const STATE_FILE: &str = "state.json";
/// The state while it is being written.
const STATE_PART: &str = "state.json.part";
/// Largest payload that is stored or read, in bytes; the static checks refuse more anyway.
pub const MAX_PAYLOAD: u64 = 8 * 1024 * 1024;
/// What has to stay free on the partition when a payload is written, in bytes: room for states, metadata and the
/// payloads' own files, and for the file system itself.
pub const RESERVE: u64 = 2 * 1024 * 1024;
/// Room that is set aside for a chain, in bytes, beside the payload.
pub const CHAIN_ROOM: u64 = 1024 * 1024;
/// Most payloads that are listed: far above what a device runs, so that a filled folder is not read for ever.
const MAX_PAYLOADS: usize = 256;

/// Why the store could not do what it should.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// An operation on the disk failed.
    #[error("could not {action} {path}")]
    Disk {
        /// Which operation.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why.
        #[source]
        err: io::Error,
    },
    /// A file is larger than it may be.
    #[error("{path} has more than {limit} bytes")]
    TooLarge {
        /// Which.
        path: PathBuf,
        /// How many it may have.
        limit: u64,
    },
    /// A state cannot be read.
    #[error("could not use {path}")]
    State {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        err: StateError,
    },
    /// The slot is not to be written.
    #[error("slot {slot} is {state}; only an inactive slot is written")]
    SlotInUse {
        /// Which.
        slot: Slot,
        /// What it is for.
        state: SlotState,
    },
    /// The file to install is not the one that was signed.
    #[error("{path} has {length} bytes and SHA-256 {sha256}, which is not the file of {release}")]
    OtherFile {
        /// Which.
        path: PathBuf,
        /// Its length.
        length: u64,
        /// Its digest.
        sha256: Digest,
        /// What was expected.
        release: Box<Release>,
    },
    /// Too little room.
    #[error("{needed} bytes are needed for the payload, but the disk has {free} free of which {RESERVE} are reserved")]
    DiskFull {
        /// How many are needed.
        needed: u64,
        /// How many there are.
        free: u64,
    },
    /// The chain could not be exported.
    #[error("could not write the metadata chain to {path}")]
    Chain {
        /// Where to.
        path: PathBuf,
        /// Why.
        #[source]
        err: io::Error,
    },
}

impl StoreError {
    /// True if the disk is full: found before, or by a write.
    pub fn is_disk_full(&self) -> bool {
        match self {
            Self::DiskFull { .. } => true,
            Self::Disk { err, .. } | Self::Chain { err, .. } => {
                matches!(err.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
            }
            _ => false,
        }
    }
}

fn disk<'a>(action: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> StoreError + 'a {
    move |err| StoreError::Disk { action, path: path.to_owned(), err }
}

/// Where things lie below a root.
#[derive(Debug, Clone)]
struct Layout {
    root: PathBuf,
}

impl Layout {
    fn home(&self, id: &PayloadId) -> PathBuf {
        self.root.join(id.as_str())
    }

    fn state(&self, id: &PayloadId) -> PathBuf {
        self.home(id).join(STATE_FILE)
    }

    fn slot(&self, id: &PayloadId, slot: Slot) -> PathBuf {
        self.home(id).join(slot.as_str())
    }
}

/// Reads the store. Follows no symbolic link: whoever could plant one could not yet read what it points to.
#[derive(Debug, Clone)]
pub struct Reader {
    layout: Layout,
}

impl Reader {
    /// A reader of the store at this root, for example `iotwasm_kit::paths::PAYLOADS`.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { layout: Layout { root: root.into() } }
    }

    /// Every payload that has a folder, by name. A store that is not there yet has none.
    pub fn payloads(&self) -> Result<Vec<PayloadId>, StoreError> {
        let root = &self.layout.root;
        let entries = match std::fs::read_dir(root) {
            Ok(entries) => entries,
            Err(err) if err.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(err) => return Err(disk("list", root)(err)),
        };
        let mut ids = Vec::new();
        for entry in entries.take(MAX_PAYLOADS) {
            let entry = entry.map_err(disk("list", root))?;
            let is_dir = entry.file_type().is_ok_and(|ty| ty.is_dir());
            // Whatever else lies there (lost+found) is not ours.
            if let (true, Some(Ok(id))) = (is_dir, entry.file_name().to_str().map(str::parse)) {
                ids.push(id);
            }
        }
        ids.sort();
        Ok(ids)
    }

    /// The state of a payload; `None` if it never had one.
    pub fn state(&self, id: &PayloadId) -> Result<Option<PayloadState>, StoreError> {
        let path = self.layout.state(id);
        let Some(bytes) = read(&path, MAX_STATE_BYTES as u64)? else { return Ok(None) };
        PayloadState::from_json(&bytes).map(Some).map_err(|err| StoreError::State { path, err })
    }

    /// The bytes of a slot's payload, whatever they are; `None` if there are none. At most [`MAX_PAYLOAD`].
    pub fn payload(&self, id: &PayloadId, slot: Slot) -> Result<Option<Vec<u8>>, StoreError> {
        read(&self.layout.slot(id, slot).join(PAYLOAD_FILE), MAX_PAYLOAD)
    }

    /// The folder with a slot's metadata chain.
    pub fn chain(&self, id: &PayloadId, slot: Slot) -> PathBuf {
        self.layout.slot(id, slot).join(CHAIN_FOLDER)
    }
}

/// Writes the store. There is one in the whole system: ota-updated's.
#[derive(Debug)]
pub struct Writer<D = RealDisk> {
    layout: Layout,
    reader: Reader,
    disk: D,
}

impl Writer {
    /// The writer of the store at this root.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self::with_disk(root, RealDisk)
    }
}

impl<D: Disk> Writer<D> {
    /// A writer on another disk; only tests have one.
    pub(crate) fn with_disk(root: impl Into<PathBuf>, disk: D) -> Self {
        let layout = Layout { root: root.into() };
        Self { reader: Reader { layout: layout.clone() }, layout, disk }
    }

    /// The same store, to read.
    pub fn reader(&self) -> &Reader {
        &self.reader
    }

    /// Replaces the state of a payload. On return it survives a power cut; on error the old one still stands.
    pub fn save_state(&self, id: &PayloadId, state: &PayloadState) -> Result<(), StoreError> {
        let path = self.layout.state(id);
        let bytes = state.to_json().map_err(|err| StoreError::State { path: path.clone(), err })?;
        let home = self.home(id)?;
        let part = home.join(STATE_PART);
        // A part left by a power cut is not appended to.
        self.disk.remove_file(&part).map_err(disk("remove", &part))?;
        self.disk.write_new(&part, &mut bytes.as_slice()).map_err(disk("write", &part))?;
        self.disk.sync_file(&part).map_err(disk("sync", &part))?;
        self.disk.rename(&part, &path).map_err(disk("replace", &path))?;
        self.disk.sync_dir(&home).map_err(disk("sync", &home))
    }

    /// Refuses if there is too little room for a payload of this length, with the room that its slot would give back.
    /// Touches nothing.
    pub fn check_room(&self, id: &PayloadId, slot: Slot, length: u64) -> Result<(), StoreError> {
        let root = &self.layout.root;
        let free = self.disk.free(root).map_err(disk("measure", root))?;
        // What lies in the slot goes before the new file comes; a link or an odd file counts for nothing.
        let old = self.layout.slot(id, slot).join(PAYLOAD_FILE);
        let back = std::fs::symlink_metadata(&old).ok().filter(std::fs::Metadata::is_file).map_or(0, |m| m.len());
        let needed = length.saturating_add(CHAIN_ROOM);
        if free.saturating_add(back) < needed.saturating_add(RESERVE) {
            return Err(StoreError::DiskFull { needed, free });
        }
        Ok(())
    }

    /// Writes a release to a slot: the downloaded file, then its metadata chain. On return both survive a power cut.
    ///
    /// `state` is what the disk says: the slot has to be inactive in it and [`crate::slot::Event::WriteStarted`] applied
    /// and saved. The file is moved if it lies on the same file system, else copied and left; its length and digest are
    /// compared with the release first. `export_chain` writes files into the empty folder that it is given.
    pub fn write_slot(
        &self,
        id: &PayloadId,
        state: &PayloadState,
        slot: Slot,
        release: &Release,
        downloaded: &Path,
        export_chain: impl FnOnce(&Path) -> io::Result<()>,
    ) -> Result<(), StoreError> {
        let in_use = state.slot(slot).state;
        if in_use != SlotState::Inactive {
            return Err(StoreError::SlotInUse { slot, state: in_use });
        }
        same_file(downloaded, release)?;
        self.check_room(id, slot, release.length)?;
        let home = self.home(id)?;
        let folder = self.layout.slot(id, slot);
        self.disk.remove_tree(&folder).map_err(disk("clear", &folder))?;
        self.disk.create_dir(&folder).map_err(disk("create", &folder))?;
        let payload = folder.join(PAYLOAD_FILE);
        self.disk.take(downloaded, &payload).map_err(disk("write", &payload))?;
        self.disk.sync_file(&payload).map_err(disk("sync", &payload))?;
        let chain = folder.join(CHAIN_FOLDER);
        self.disk.create_dir(&chain).map_err(disk("create", &chain))?;
        export_chain(&chain).map_err(|err| StoreError::Chain { path: chain.clone(), err })?;
        self.disk.sync_tree(&chain).map_err(disk("sync", &chain))?;
        self.disk.sync_dir(&folder).map_err(disk("sync", &folder))?;
        self.disk.sync_dir(&home).map_err(disk("sync", &home))
    }

    /// Writes the metadata of what lies in a slot anew, whatever the slot is for: the payload stays as it is, and at any instant
    /// one of both chains is there, whole. On return the new one survives a power cut; on error the old one still stands. What
    /// was there before stays beside it until the next time, for whoever is reading it.
    pub fn renew_chain(
        &self,
        id: &PayloadId,
        slot: Slot,
        export_chain: impl FnOnce(&Path) -> io::Result<()>,
    ) -> Result<(), StoreError> {
        let root = &self.layout.root;
        let free = self.disk.free(root).map_err(disk("measure", root))?;
        if free < CHAIN_ROOM.saturating_add(RESERVE) {
            return Err(StoreError::DiskFull { needed: CHAIN_ROOM, free });
        }
        let folder = self.layout.slot(id, slot);
        let (chain, other) = (folder.join(CHAIN_FOLDER), folder.join(OTHER_CHAIN_FOLDER));
        self.disk.remove_tree(&other).map_err(disk("clear", &other))?;
        self.disk.create_dir(&other).map_err(disk("create", &other))?;
        export_chain(&other).map_err(|err| StoreError::Chain { path: other.clone(), err })?;
        self.disk.sync_tree(&other).map_err(disk("sync", &other))?;
        self.disk.exchange(&other, &chain).map_err(disk("replace", &chain))?;
        self.disk.sync_dir(&folder).map_err(disk("sync", &folder))
    }

    /// Removes a payload with all that it has, its memory of what was rolled back too.
    pub fn remove(&self, id: &PayloadId) -> Result<(), StoreError> {
        let home = self.layout.home(id);
        // The state goes first: without it nothing is run from what may be left.
        let state = self.layout.state(id);
        self.disk.remove_file(&state).map_err(disk("remove", &state))?;
        if self.disk.exists(&home) {
            self.disk.sync_dir(&home).map_err(disk("sync", &home))?;
        }
        self.disk.remove_tree(&home).map_err(disk("remove", &home))?;
        self.disk.sync_dir(&self.layout.root).map_err(disk("sync", &self.layout.root))
    }

    /// The payload's folder, made if it is not there.
    fn home(&self, id: &PayloadId) -> Result<PathBuf, StoreError> {
        let home = self.layout.home(id);
        if !self.disk.exists(&home) {
            self.disk.create_dir(&home).map_err(disk("create", &home))?;
            self.disk.sync_dir(&self.layout.root).map_err(disk("sync", &self.layout.root))?;
        }
        Ok(home)
    }
}

/// Checks that a file is the release's, so that a download that was damaged or exchanged never reaches a slot.
fn same_file(path: &Path, release: &Release) -> Result<(), StoreError> {
    let mut file = open(path).map_err(disk("open", path))?.take(MAX_PAYLOAD + 1);
    let (sha256, length) = Digest::of_reader(&mut file).map_err(disk("read", path))?;
    if length > MAX_PAYLOAD {
        return Err(StoreError::TooLarge { path: path.to_owned(), limit: MAX_PAYLOAD });
    }
    if (sha256, length) != (release.sha256, release.length) {
        let release = Box::new(release.clone());
        return Err(StoreError::OtherFile { path: path.to_owned(), length, sha256, release });
    }
    Ok(())
}

/// Opens a regular file, itself and not what a link points to, without waiting for a pipe's other end.
pub(crate) fn open(path: &Path) -> io::Result<File> {
    use rustix::fs::{Mode, OFlags};
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let file = File::from(rustix::fs::open(path, flags, Mode::empty())?);
    if file.metadata()?.is_file() { Ok(file) } else { Err(io::Error::other("not a regular file")) }
}

/// A whole file of at most `limit` bytes; `None` if it is not there. Neither it nor its folder may be a link.
fn read(path: &Path, limit: u64) -> Result<Option<Vec<u8>>, StoreError> {
    let folder = path.parent().filter(|p| *p != OsStr::new("")).unwrap_or(Path::new("."));
    let absent = |err: io::Error, path: &Path| match err.kind() {
        io::ErrorKind::NotFound => Ok(None),
        _ => Err(disk("open", path)(err)),
    };
    match std::fs::symlink_metadata(folder) {
        Ok(meta) if meta.is_dir() => {}
        Ok(_) => return absent(io::ErrorKind::NotADirectory.into(), folder),
        Err(err) => return absent(err, folder),
    }
    let file = match open(path) {
        Ok(file) => file,
        Err(err) => return absent(err, path),
    };
    let mut bytes = Vec::new();
    file.take(limit + 1).read_to_end(&mut bytes).map_err(disk("read", path))?;
    if bytes.len() as u64 > limit {
        return Err(StoreError::TooLarge { path: path.to_owned(), limit });
    }
    Ok(Some(bytes))
}

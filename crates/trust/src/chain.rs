//! The metadata chain that lies beside a stored payload, and its check without a network.
//!
//! Whoever runs a payload checks by itself that the roles under the image's root vouch for it; the word of the process that
//! fetched it is not enough. Expiry does not count here: what was accepted once may run on a device that is offline.
//!
//! A chain is a folder with `<N>.root.json` for the roots that were known (from the pinned one on), `timestamp.json`,
//! `snapshot.json`, `targets.json` and a `<role>.json` for every delegated role that the search for the target asked.
//!
//! # Which root counts
//!
//! The check starts at the pinned root and follows `<N+1>.root.json` as far as it leads. Then every file must verify under
//! the root reached. So there are two cases besides the plain one:
//!
//! * The image is older than the chain (a firmware rollback): the roots in the chain lead from it to the newer one.
//! * The image is newer than the chain: older roots in the chain are ignored, and the files must verify under the pinned
//!   root as they are. They do as long as it has not withdrawn the keys that signed them. If it has, the check fails with
//!   [`Refusal::NotUnderRoot`]: a key that was withdrawn vouches for nothing any more. Whoever keeps a chain therefore exports
//!   it anew when a refresh has brought a newer root: before an image that pins it can reach the device.
//!
//! An export has the roots before the pinned one, too, as far as the store has them: firmware that goes back to an older image
//! needs them.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{CWD, Mode, OFlags};

use crate::core::StoreFile;
use crate::disk::{Disk, RealDisk, read_open};
use crate::schema::Root;
use crate::search::{Outcome, Tree};
use crate::store::{Store, io as io_error};
use crate::{Error, Limits, Refusal, Target, check, names};

/// What must not be gone back behind (design decision 13): whoever keeps the newest values seen passes them in.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Floor {
    /// Newest root version seen.
    pub root: u64,
}

/// A target whose chain held.
#[derive(Debug, Clone, PartialEq)]
pub struct Verified {
    /// The target.
    pub target: Target,
    /// Version of the root that everything was checked under: the next floor.
    pub root: u64,
}

/// Checks that the chain in `folder` vouches for the target `name` under the pinned root.
///
/// Reads only regular files of bounded size directly in `folder`; follows no symbolic links.
pub fn verify(pinned_root: &[u8], folder: &Path, name: &str) -> Result<Target, Error> {
    verify_above(pinned_root, folder, name, Floor::default()).map(|verified| verified.target)
}

/// As [`verify`], and refuses a chain that ends at an older root than one seen before.
pub fn verify_above(pinned_root: &[u8], folder: &Path, name: &str, floor: Floor) -> Result<Verified, Error> {
    let limits = Limits::default();
    let chain = Folder::open(folder)?;
    if !names::is_safe_target(name) {
        return Err(Error::UnsafeName { name: name.into() });
    }
    let root = chain.newest_root(pinned_root, &limits)?;
    let version = root.header.version;
    if version < floor.root {
        return Err(Error::BelowFloor { found: version, floor: floor.root });
    }
    let judge = |role: &str| {
        let role = role.to_owned();
        move |why| match why {
            Refusal::Threshold { .. } => Error::Refused { role, why: Refusal::NotUnderRoot(version) },
            why => Error::Refused { role, why },
        }
    };
    let bytes = chain.read("timestamp.json", limits.timestamp_bytes)?;
    let timestamp = check::timestamp(&root, &bytes).map_err(judge("timestamp"))?;
    let bytes = chain.read("snapshot.json", limits.snapshot_bytes)?;
    let snapshot = check::snapshot(&root, &timestamp.snapshot, &bytes).map_err(judge("snapshot"))?;
    let promised = |role: &str| {
        snapshot.role(role).ok_or_else(|| Error::Refused { role: role.into(), why: Refusal::NotInSnapshot })
    };
    let bytes = chain.read("targets.json", limits.targets_bytes)?;
    let top = check::targets(&root.targets, promised("targets")?, &bytes).map_err(judge("targets"))?;
    let mut tree = Tree::new(top, root.consistent_snapshot, limits.delegated_roles);
    loop {
        let need = match tree.find(name) {
            Outcome::Found(target) => return Ok(Verified { target, root: version }),
            Outcome::Missing => return Err(Error::NoSuchTarget { target: name.into() }),
            Outcome::Bad(role, why) => return Err(Error::Undecided { target: name.into(), role, why }),
            Outcome::Need(need) => need,
        };
        let role = need.last().cloned().unwrap_or_default();
        let refused = |why| Error::Refused { role: role.clone(), why };
        names::check_delegated(&role).map_err(refused)?;
        let promised = promised(&role)?;
        let bytes = chain.read(&names::local(&role), limits.targets_bytes)?;
        let delegation = tree.delegation(&need).ok_or_else(|| refused(Refusal::NotInSnapshot))?;
        let targets = check::targets(&delegation.signers, promised, &bytes).map_err(refused)?;
        tree.insert(need, Ok(targets));
    }
}

/// The folder of a chain, opened once: what is read lies in it even if somebody swaps it meanwhile.
struct Folder<'a> {
    path: &'a Path,
    fd: OwnedFd,
}

impl Folder<'_> {
    fn open(path: &Path) -> Result<Folder<'_>, Error> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(CWD, path, flags, Mode::empty());
        Ok(Folder { path, fd: fd.map_err(|err| io_error("open", path, err.into()))? })
    }

    fn read(&self, name: &str, max: u64) -> Result<Vec<u8>, Error> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let read = rustix::fs::openat(&self.fd, name, flags, Mode::empty()).map_err(io::Error::from);
        match read.and_then(|fd| read_open(fd, max)) {
            Ok(bytes) => Ok(bytes),
            Err(err) if err.kind() == io::ErrorKind::NotFound => Err(Error::Missing { path: name.into() }),
            Err(err) => Err(io_error("read", &self.path.join(name), err)),
        }
    }

    /// The pinned root, or the newest that signatures lead to from it.
    fn newest_root(&self, pinned_root: &[u8], limits: &Limits) -> Result<Root, Error> {
        let mut root = check::pinned_root(pinned_root).map_err(|why| Error::PinnedRoot { why })?;
        for _ in 0..limits.root_rotations {
            let next = names::remote("root", Some(root.header.version.saturating_add(1)));
            match self.read(&next, limits.root_bytes) {
                Ok(bytes) => {
                    root =
                        check::next_root(&root, &bytes).map_err(|why| Error::Refused { role: "root".into(), why })?;
                }
                Err(Error::Missing { .. }) => break,
                Err(other) => return Err(other),
            }
        }
        Ok(root)
    }
}

/// Copies from the store what [`verify`] needs, durably, and checks the copy.
///
/// The folder must exist and should be empty. It is complete only when this returns; a caller that must survive a power cut
/// writes into a folder that nothing refers to yet.
pub(crate) fn export<D: Disk>(
    store: &Store<D>,
    pinned_root: &[u8],
    target: &Target,
    folder: &Path,
) -> Result<(), Error> {
    let limits = Limits::default();
    let mut disk = RealDisk;
    let mut copy = |name: &str, bytes: &[u8]| {
        let path = folder.join(name);
        disk.write(&path, bytes).map_err(|source| io_error("write", &path, source))
    };
    let mut root = check::pinned_root(pinned_root).map_err(|why| Error::PinnedRoot { why })?;
    let pinned = root.header.version;
    copy(&names::remote("root", Some(pinned)), pinned_root)?;
    loop {
        let version = root.header.version.saturating_add(1);
        let Some(bytes) = store.load(&StoreFile::RootVersion(version), limits.root_bytes) else { break };
        // What another repository left in the store leads nowhere.
        let Ok(next) = check::next_root(&root, &bytes) else { break };
        copy(&names::remote("root", Some(version)), &bytes)?;
        root = next;
    }
    for version in (1..pinned).rev() {
        let Some(bytes) = store.load(&StoreFile::RootVersion(version), limits.root_bytes) else { break };
        copy(&names::remote("root", Some(version)), &bytes)?;
    }
    let mut files = vec![StoreFile::Timestamp, StoreFile::Snapshot, StoreFile::Targets("targets".into())];
    files.extend(target.roles.iter().skip(1).map(|role| StoreFile::Targets(role.clone())));
    let mut tried = 0;
    loop {
        for file in files.drain(..) {
            let path = store.path(&file);
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let bytes = store.load(&file, limits.targets_bytes).ok_or(Error::Missing { path: name.clone() })?;
            copy(&name, &bytes)?;
        }
        // Roles that were asked before the signer without naming the target belong to the proof, too: the check itself
        // says which.
        match verify(pinned_root, folder, &target.name) {
            Ok(_) => break,
            Err(Error::Missing { path }) if tried < limits.delegated_roles => {
                tried += 1;
                let role = names::decode_local(&path).ok_or(Error::Missing { path })?;
                files.push(StoreFile::Targets(role));
            }
            Err(other) => return Err(other),
        }
    }
    disk.sync_folder(folder).map_err(|source| io_error("sync", folder, source))
}

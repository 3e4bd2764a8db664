//! The client that daemons use: the core, a store on disk and a [`Fetch`], put together.

use std::path::Path;

use jiff::SignedDuration;

use crate::core::{Action, Answer, Core, Start};
use crate::disk::{Disk, RealDisk};
use crate::store::Store;
use crate::{Error, Fetch, FetchError, Limits, Refusal, Target, Time, chain};

/// The floor of time is written at most this often while nothing else changes.
const FLOOR_STEP: SignedDuration = SignedDuration::from_mins(30);

/// A TUF client. Keep one for as long as the process lives: it carries the floor of time from one refresh to the next.
pub struct Updater<F> {
    inner: Inner<F, RealDisk>,
}

impl<F: std::fmt::Debug> std::fmt::Debug for Updater<F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Updater")
            .field("time", &self.inner.time)
            .field("fetch", &self.inner.fetch)
            .finish_non_exhaustive()
    }
}

/// What a refresh came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refreshed {
    /// Version of the trusted root.
    pub root: u64,
    /// Version of the trusted timestamp.
    pub timestamp: u64,
    /// Version of the trusted snapshot.
    pub snapshot: u64,
    /// When the trusted timestamp expires: without a newer one, a refresh fails from then on.
    pub expires: jiff::Timestamp,
}

impl<F: Fetch> Updater<F> {
    /// Opens the store in `folder` (made where it is missing) under the root that the image carries.
    ///
    /// The stored roots are followed as far as signatures lead from `pinned_root`; nothing in the folder can be so damaged
    /// that opening fails for it, only a folder that cannot be written or a pinned root that is no good.
    pub fn open(folder: &Path, pinned_root: &[u8], time: Time, limits: Limits, fetch: F) -> Result<Self, Error> {
        Ok(Updater { inner: Inner::open(folder, pinned_root, time, limits, fetch, RealDisk)? })
    }

    /// Brings the metadata of root, timestamp, snapshot and targets up to date (TUF 5.1-5.6.6).
    ///
    /// After an error the store holds what was accepted before and what was accepted up to the error, both good; trying
    /// again later goes on from there. Searches are refused until a refresh succeeds.
    pub fn refresh(&mut self) -> Result<Refreshed, Error> {
        self.inner.refresh()
    }

    /// Finds a target by name (TUF 5.6.7), fetching delegated roles that could have signed it. None: no trusted role names
    /// it. [`Error::Undecided`]: a role that covers it cannot be used, so nothing can be said of it.
    pub fn find(&mut self, name: &str) -> Result<Option<Target>, Error> {
        self.inner.core.start_find(name)?;
        self.inner.run()?;
        match self.inner.core.find(name) {
            Ok(target) => Ok(Some(target)),
            Err(Error::NoSuchTarget { .. }) => Ok(None),
            Err(other) => Err(other),
        }
    }

    /// Finds every target whose name matches a pattern (`acme/blinky/*`; `*` and `?` never match `/`), sorted by name. Each
    /// is what [`Updater::find`] would give; those that `find` could not decide are left out, and the roles to blame are
    /// in [`Updater::failures`]. Fetches only the delegated roles whose paths could match.
    pub fn search(&mut self, pattern: &str) -> Result<Vec<Target>, Error> {
        self.inner.core.start_search(pattern)?;
        self.inner.run()?;
        self.inner.core.search(pattern)
    }

    /// Delegated roles asked since the last refresh that could not be used, with the reason: they harm only their targets.
    pub fn failures(&self) -> Vec<(String, Refusal)> {
        self.inner.core.failures()
    }

    /// Writes into `folder` the metadata that proves `name` to somebody without a network; see [`chain`].
    pub fn export_chain(&mut self, name: &str, folder: &Path) -> Result<Target, Error> {
        let target = self.find(name)?.ok_or_else(|| Error::NoSuchTarget { target: name.into() })?;
        chain::export(&self.inner.store, &self.inner.pinned_root, &target, folder)?;
        Ok(target)
    }

    /// Version of the trusted root.
    pub fn root_version(&self) -> u64 {
        self.inner.core.root_version()
    }

    /// What this client takes for the present.
    pub fn now(&self) -> jiff::Timestamp {
        self.inner.time.now()
    }

    /// The transport, to reconfigure it or to fetch targets with it.
    pub fn fetch_mut(&mut self) -> &mut F {
        &mut self.inner.fetch
    }

    /// Drops all metadata from memory until the next refresh; the store and the floor of time stay.
    pub fn release(&mut self) {
        self.inner.core.release();
    }
}

/// [`Updater`] over any disk, so that a test can pull the plug.
pub(crate) struct Inner<F, D> {
    pub(crate) core: Core,
    pub(crate) store: Store<D>,
    pub(crate) time: Time,
    pub(crate) fetch: F,
    pinned_root: Vec<u8>,
    limits: Limits,
}

impl<F: Fetch, D: Disk> Inner<F, D> {
    pub(crate) fn open(
        folder: &Path,
        pinned_root: &[u8],
        mut time: Time,
        limits: Limits,
        fetch: F,
        disk: D,
    ) -> Result<Self, Error> {
        // A pinned root that is no good must be told before anything is written.
        let core = Core::open(pinned_root, limits.clone())?;
        let store = Store::open(folder, disk)?;
        if let Some(floor) = store.load_floor() {
            time.raise(floor);
        }
        let mut inner = Inner { core, store, time, fetch, pinned_root: pinned_root.into(), limits };
        inner.run()?;
        Ok(inner)
    }

    pub(crate) fn refresh(&mut self) -> Result<Refreshed, Error> {
        // From the disk anew, not from memory: what could not be persisted last time must not count as trusted.
        self.core = Core::open(&self.pinned_root, self.limits.clone())?;
        self.run()?;
        self.core.start(Start { clock: self.time.clock(), learned: self.time.floor() });
        let outcome = self.run();
        if let (Ok(()), Some(expires)) = (&outcome, self.core.timestamp_expires()) {
            self.time.cap(expires, self.core.signed_at());
        }
        let kept = self.keep_floor();
        outcome?;
        kept?;
        let (timestamp, snapshot) = self.core.versions();
        match (timestamp, snapshot, self.core.timestamp_expires()) {
            (Some(timestamp), Some(snapshot), Some(expires)) => {
                Ok(Refreshed { root: self.core.root_version(), timestamp, snapshot, expires })
            }
            _ => Err(Error::NotRefreshed),
        }
    }

    /// Writes the floor down when it has moved: time that the device ran is time that passed, whatever its clock says.
    fn keep_floor(&mut self) -> Result<(), Error> {
        if let Some(signed_at) = self.core.signed_at() {
            self.time.raise(signed_at);
        }
        let floor = self.time.floor();
        let moved = self.store.load_floor().is_none_or(|old| floor.duration_since(old).abs() >= FLOOR_STEP);
        if moved { self.store.persist_floor(floor) } else { Ok(()) }
    }

    pub(crate) fn run(&mut self) -> Result<(), Error> {
        loop {
            match self.core.next() {
                Action::Done => return Ok(()),
                Action::Persist(file, bytes) => self.store.persist(&file, &bytes)?,
                Action::Remove(file) => self.store.remove(&file)?,
                Action::Load(file, max) => {
                    let answer = self.store.load(&file, max).map_or(Answer::NotFound, Answer::Bytes);
                    self.core.answer(answer)?;
                }
                Action::Fetch(path, max) => match self.fetch.fetch(&path, max) {
                    Ok(bytes) => self.core.answer(Answer::Bytes(bytes))?,
                    Err(FetchError::NotFound) => self.core.answer(Answer::NotFound)?,
                    Err(FetchError::TooLong { limit }) => self.core.too_long(limit)?,
                    Err(source) => return Err(Error::Fetch { path, source }),
                },
            }
        }
    }
}

//! The client workflow of TUF 5.1-5.6 as a state machine without I/O.
//!
//! [`Core::next`] says what to do; reads are answered with [`Core::answer`]. Writes need no answer, but MUST be durable
//! before `next` is called again: the order of writes is what makes a power cut harmless.

mod workflow;

use std::collections::VecDeque;

use jiff::{SignedDuration, Timestamp as Time};

use crate::check;
use crate::schema::{Meta, Root, Snapshot, Timestamp};
use crate::search::{Chain, Outcome, Tree};
use crate::{Error, Limits, Refusal, Target, names};

/// A file of the store.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum StoreFile {
    /// The newest root whose consequences have been drawn.
    Root,
    /// One version of the root, kept for ever: the chain from any pinned root to the newest.
    RootVersion(u64),
    /// The timestamp.
    Timestamp,
    /// The snapshot.
    Snapshot,
    /// A targets role, `targets` or a delegated one.
    Targets(String),
    /// The lower bound of the time.
    Floor,
}

/// What the core wants done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Read a file of the store, of at most so many bytes. A file that cannot be read is as good as absent.
    Load(StoreFile, u64),
    /// Fetch a file from the repository, of at most so many bytes; the path is relative to the metadata URL.
    Fetch(String, u64),
    /// Replace a file of the store by these very bytes.
    Persist(StoreFile, Vec<u8>),
    /// Remove a file of the store, if it is there.
    Remove(StoreFile),
    /// Nothing more: what was started is finished.
    Done,
}

/// The answer to [`Action::Load`] and [`Action::Fetch`]. (A broken transfer is not an answer: give up, start again later.)
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// The file.
    Bytes(Vec<u8>),
    /// There is no such file.
    NotFound,
}

/// What the device knows of the time at which an update starts (TUF 5.1); fixed for the update's whole length.
#[derive(Debug, Clone, Copy)]
pub struct Start {
    /// The later of the wall clock and the image's build time.
    pub clock: Time,
    /// Lower bound learned from signed times and from running. It is believed only until the trusted timestamp has just
    /// expired: enough to see a freeze, and not enough for a corrupt value to lock out newer metadata. It is not believed
    /// at all without a timestamp, or once the timestamp's key was replaced.
    pub learned: Time,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Phase {
    LoadRootVersion,
    LoadRoot,
    LoadTimestamp,
    Idle,
    FetchRoot { taken: u32 },
    FetchTimestamp,
    LoadSnapshot,
    FetchSnapshot,
    LoadTargets,
    FetchTargets,
    Ready,
    Search(Query),
    LoadDelegated(Query, Chain),
    FetchDelegated(Query, Chain),
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Query {
    Find(String),
    Search(String),
}

/// The state machine. Holds what is trusted; forgets everything else.
#[derive(Debug)]
pub struct Core {
    limits: Limits,
    phase: Phase,
    queue: VecDeque<Action>,
    start: Option<Start>,
    root: Root,
    root_bytes: Vec<u8>,
    timestamp: Option<Timestamp>,
    /// For rollback checks only, until it is the one that the timestamp names.
    snapshot: Option<Snapshot>,
    tree: Option<Tree>,
}

impl Core {
    /// Starts from the root that the image carries, and asks for what the store has (TUF 5.2).
    pub fn open(pinned_root: &[u8], limits: Limits) -> Result<Core, Error> {
        let root = check::pinned_root(pinned_root).map_err(|why| Error::PinnedRoot { why })?;
        let version = root.header.version;
        Ok(Core {
            limits,
            phase: Phase::LoadRootVersion,
            queue: VecDeque::from([Action::Persist(StoreFile::RootVersion(version), pinned_root.to_vec())]),
            start: None,
            root,
            root_bytes: pinned_root.to_vec(),
            timestamp: None,
            snapshot: None,
            tree: None,
        })
    }

    /// Starts an update (TUF 5.1), after everything that [`Core::open`] asked for was answered.
    pub fn start(&mut self, start: Start) {
        let learned = self.timestamp.as_ref().map_or(start.clock, |timestamp| {
            let just_expired = timestamp.header.expires.saturating_add(SignedDuration::from_secs(1));
            let learned = timestamp.signed_at.map_or(start.learned, |signed_at| signed_at.max(start.learned));
            learned.min(just_expired.unwrap_or(timestamp.header.expires))
        });
        self.start = Some(Start { learned, ..start });
        self.queue.clear();
        self.tree = None;
        self.phase = Phase::FetchRoot { taken: 0 };
    }

    /// Starts to load what is needed to find one target.
    pub fn start_find(&mut self, name: &str) -> Result<(), Error> {
        if !names::is_safe_target(name) {
            return Err(Error::UnsafeName { name: name.into() });
        }
        self.start_query(Query::Find(name.into()))
    }

    /// Starts to load what is needed to find all targets that match a pattern.
    pub fn start_search(&mut self, pattern: &str) -> Result<(), Error> {
        self.start_query(Query::Search(pattern.into()))
    }

    fn start_query(&mut self, query: Query) -> Result<(), Error> {
        if self.tree.is_none() {
            return Err(Error::NotRefreshed);
        }
        self.queue.clear();
        self.phase = Phase::Search(query);
        Ok(())
    }

    /// The target, once its search is done.
    pub fn find(&self, name: &str) -> Result<Target, Error> {
        match self.tree.as_ref().ok_or(Error::NotRefreshed)?.find(name) {
            Outcome::Found(target) => Ok(target),
            Outcome::Bad(role, why) => Err(Error::Undecided { target: name.into(), role, why }),
            Outcome::Missing => Err(Error::NoSuchTarget { target: name.into() }),
            Outcome::Need(_) => Err(Error::NotRefreshed),
        }
    }

    /// The targets, once their search is done. Names that could leave their folder are left out.
    pub fn search(&self, pattern: &str) -> Result<Vec<Target>, Error> {
        match self.tree.as_ref().ok_or(Error::NotRefreshed)?.search(pattern) {
            Outcome::Found(mut targets) => {
                targets.retain(|target| names::is_safe_target(&target.name));
                Ok(targets)
            }
            _ => Err(Error::NotRefreshed),
        }
    }

    /// Drops the metadata of targets roles; searches need a new update.
    pub fn release(&mut self) {
        self.tree = None;
        self.snapshot = None;
        self.phase = Phase::Idle;
    }

    /// Delegated roles that were asked since the last update and could not be used.
    pub fn failures(&self) -> Vec<(String, Refusal)> {
        let failures = self.tree.iter().flat_map(Tree::failures);
        let mut failures: Vec<_> = failures.map(|(role, why)| (role.to_owned(), why.clone())).collect();
        failures.sort_by(|one, other| one.0.cmp(&other.0));
        failures.dedup();
        failures
    }

    /// Version of the trusted root.
    pub fn root_version(&self) -> u64 {
        self.root.header.version
    }

    /// Versions of the trusted timestamp and snapshot.
    pub fn versions(&self) -> (Option<u64>, Option<u64>) {
        let timestamp = self.timestamp.as_ref().map(|role| role.header.version);
        (timestamp, self.snapshot.as_ref().map(|role| role.header.version))
    }

    /// When the trusted timestamp says that it was signed.
    pub fn signed_at(&self) -> Option<Time> {
        self.timestamp.as_ref()?.signed_at
    }

    /// When the trusted timestamp expires.
    pub fn timestamp_expires(&self) -> Option<Time> {
        self.timestamp.as_ref().map(|role| role.header.expires)
    }

    /// What to do next.
    #[expect(clippy::should_implement_trait, reason = "an iterator would take the answers nowhere")]
    pub fn next(&mut self) -> Action {
        if let Some(action) = self.queue.pop_front() {
            return action;
        }
        if let Phase::Search(query) = &self.phase {
            self.phase = self.advance(query.clone());
            if let Some(action) = self.queue.pop_front() {
                return action;
            }
        }
        let limits = &self.limits;
        let next_root = self.root.header.version.saturating_add(1);
        match &self.phase {
            Phase::LoadRootVersion => Action::Load(StoreFile::RootVersion(next_root), limits.root_bytes),
            Phase::LoadRoot => Action::Load(StoreFile::Root, limits.root_bytes),
            Phase::FetchRoot { .. } => Action::Fetch(names::remote("root", Some(next_root)), limits.root_bytes),
            Phase::LoadTimestamp => Action::Load(StoreFile::Timestamp, limits.timestamp_bytes),
            Phase::FetchTimestamp => Action::Fetch(names::remote("timestamp", None), limits.timestamp_bytes),
            Phase::LoadSnapshot => Action::Load(StoreFile::Snapshot, limits.snapshot_bytes),
            Phase::FetchSnapshot => self.fetch("snapshot", self.promised_snapshot(), limits.snapshot_bytes),
            Phase::LoadTargets => Action::Load(StoreFile::Targets("targets".into()), limits.targets_bytes),
            Phase::FetchTargets => self.fetch("targets", self.promised("targets"), limits.targets_bytes),
            Phase::LoadDelegated(_, chain) => Action::Load(StoreFile::Targets(last(chain)), limits.targets_bytes),
            Phase::FetchDelegated(_, chain) => {
                self.fetch(&last(chain), self.promised(&last(chain)), limits.targets_bytes)
            }
            Phase::Idle | Phase::Ready | Phase::Search(_) => Action::Done,
        }
    }

    fn fetch(&self, role: &str, promised: Option<&Meta>, limit: u64) -> Action {
        let Some(promised) = promised else { return Action::Done };
        let version = self.root.consistent_snapshot.then_some(promised.version);
        Action::Fetch(names::remote(role, version), promised.length.unwrap_or(limit).min(limit))
    }

    fn promised_snapshot(&self) -> Option<&Meta> {
        self.timestamp.as_ref().map(|timestamp| &timestamp.snapshot)
    }

    fn promised(&self, role: &str) -> Option<&Meta> {
        self.snapshot.as_ref()?.role(role)
    }

    /// Takes the answer to the last `Load` or `Fetch`. After an error the update is over: nothing doubtful is trusted, and
    /// everything persisted so far is good.
    pub fn answer(&mut self, answer: Answer) -> Result<(), Error> {
        let name = self.next_name().unwrap_or_default();
        match self.phase.clone() {
            Phase::LoadRootVersion => self.stored_root_version(answer),
            Phase::LoadRoot => self.stored_root(answer),
            Phase::FetchRoot { taken } => return self.new_root(answer, taken),
            Phase::LoadTimestamp => {
                // What does not verify under the trusted root is as good as absent, whatever spoiled it.
                self.timestamp = bytes(answer).and_then(|bytes| check::timestamp(&self.root, &bytes).ok());
                self.phase = Phase::Idle;
            }
            Phase::FetchTimestamp => return self.new_timestamp(expect(answer, name)?),
            Phase::LoadSnapshot => self.stored_snapshot(answer),
            Phase::FetchSnapshot => return self.new_snapshot(expect(answer, name)?),
            Phase::LoadTargets => self.stored_targets(answer)?,
            Phase::FetchTargets => return self.new_targets(expect(answer, name)?),
            Phase::LoadDelegated(query, chain) => self.stored_delegated(query, chain, answer),
            Phase::FetchDelegated(query, chain) => self.new_delegated(query, chain, answer),
            Phase::Idle | Phase::Ready | Phase::Search(_) => {}
        }
        Ok(())
    }

    /// Name of the file being fetched, for error reports.
    fn next_name(&self) -> Option<String> {
        let version = |meta: Option<&Meta>| meta.filter(|_| self.root.consistent_snapshot).map(|meta| meta.version);
        match &self.phase {
            Phase::FetchTimestamp => Some(names::remote("timestamp", None)),
            Phase::FetchSnapshot => Some(names::remote("snapshot", version(self.promised_snapshot()))),
            Phase::FetchTargets => Some(names::remote("targets", version(self.promised("targets")))),
            _ => None,
        }
    }

    /// Records that the file asked for would not arrive whole: too long for its limit. Other roles stay usable.
    pub fn too_long(&mut self, limit: u64) -> Result<(), Error> {
        let why = Refusal::Length { expected: limit, found: limit.saturating_add(1) };
        match self.phase.clone() {
            Phase::FetchDelegated(query, chain) => {
                if let Some(tree) = &mut self.tree {
                    tree.insert(chain, Err(why));
                }
                self.phase = Phase::Search(query);
                Ok(())
            }
            Phase::FetchRoot { .. } => Err(refused("root", why)),
            Phase::FetchTimestamp => Err(refused("timestamp", why)),
            Phase::FetchSnapshot => Err(refused("snapshot", why)),
            _ => Err(refused("targets", why)),
        }
    }
}

fn refused(role: &str, why: Refusal) -> Error {
    Error::Refused { role: role.into(), why }
}

fn last(chain: &[String]) -> String {
    chain.last().cloned().unwrap_or_default()
}

fn bytes(answer: Answer) -> Option<Vec<u8>> {
    match answer {
        Answer::Bytes(bytes) => Some(bytes),
        Answer::NotFound => None,
    }
}

fn expect(answer: Answer, path: String) -> Result<Vec<u8>, Error> {
    bytes(answer).ok_or(Error::Missing { path })
}

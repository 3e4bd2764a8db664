//! A small world for tests: a repository in memory, a store in a temporary folder, and a clock that the test sets.

#![expect(
    unreachable_pub,
    dead_code,
    clippy::unwrap_used,
    reason = "each test file takes what it needs of the common world"
)]

use std::sync::{Arc, Mutex};
use std::time::Duration;

use iotwasm_trust::repo::{Delegation, Document, Key, MemoryFetch, TargetInfo};
use iotwasm_trust::{Clock, Error, Limits, Refreshed, Target, Time, Updater};
use jiff::{SignedDuration, Timestamp};
use tempfile::TempDir;

/// The present at the start of every test.
pub fn start() -> Timestamp {
    "2026-03-01T12:00:00Z".parse().unwrap()
}

pub fn days(n: i64) -> Timestamp {
    start() + SignedDuration::from_hours(24 * n)
}

/// A clock that stands still until the test moves it.
#[derive(Clone)]
pub struct TestClock(Arc<Mutex<(Timestamp, Duration)>>);

impl TestClock {
    pub fn new() -> TestClock {
        TestClock(Arc::new(Mutex::new((start(), Duration::ZERO))))
    }

    pub fn set_wall(&self, wall: Timestamp) {
        self.0.lock().unwrap().0 = wall;
    }

    pub fn run(&self, time: Duration) {
        self.0.lock().unwrap().1 += time;
    }
}

impl Clock for TestClock {
    fn wall(&self) -> Timestamp {
        self.0.lock().unwrap().0
    }

    fn running(&self) -> Duration {
        self.0.lock().unwrap().1
    }
}

/// One key for each role (three for root), the newest documents, and what the server has.
pub struct World {
    pub root_keys: Vec<Key>,
    pub targets_key: Key,
    pub snapshot_key: Key,
    pub timestamp_key: Key,
    pub root: Document,
    pub targets: Document,
    pub snapshot: Document,
    pub timestamp: Document,
    pub server: MemoryFetch,
    pub pinned: Vec<u8>,
    pub store: TempDir,
    pub clock: TestClock,
    pub build_time: Timestamp,
}

impl World {
    pub fn new() -> World {
        let root_keys: Vec<Key> = (0..3).map(|_| Key::generate().unwrap()).collect();
        let [targets_key, snapshot_key, timestamp_key] = [(); 3].map(|()| Key::generate().unwrap());
        let mut root = Document::new_root(days(365));
        let public: Vec<_> = root_keys.iter().map(Key::public).collect();
        root.set_role("root", &public, 2)
            .set_role("targets", &[targets_key.public()], 1)
            .set_role("snapshot", &[snapshot_key.public()], 1)
            .set_role("timestamp", &[timestamp_key.public()], 1)
            .sign(&root_keys[..2]);
        let mut world = World {
            pinned: root.to_bytes(),
            root_keys,
            targets_key,
            snapshot_key,
            timestamp_key,
            root,
            targets: Document::new_targets("targets", days(90)),
            snapshot: Document::new_snapshot(days(30)),
            timestamp: Document::new_timestamp(days(7)),
            server: MemoryFetch::default(),
            store: tempfile::tempdir().unwrap(),
            clock: TestClock::new(),
            build_time: days(-30),
        };
        world.server.put(&world.root.clone());
        world.targets.set_version(0);
        world.snapshot.set_version(0);
        world.timestamp.set_version(0);
        world.targets.add_target("hello.txt", &TargetInfo::of(b"hello", None));
        world.publish_targets();
        world
    }

    /// A client of its own over the world's store and clock.
    pub fn updater(&self) -> Updater<MemoryFetch> {
        self.try_updater().unwrap()
    }

    pub fn try_updater(&self) -> Result<Updater<MemoryFetch>, Error> {
        let time = Time::new(self.clock.clone(), self.build_time);
        Updater::open(self.store.path(), &self.pinned, time, Limits::default(), self.server.clone())
    }

    pub fn refresh(&self) -> Result<Refreshed, Error> {
        self.try_updater()?.refresh()
    }

    pub fn find(&self, name: &str) -> Result<Option<Target>, Error> {
        let mut updater = self.updater();
        updater.refresh()?;
        updater.find(name)
    }

    /// A new version of root, signed by the given keys.
    pub fn publish_root(&mut self, signers: &[&Key]) {
        self.root.bump().sign(signers.iter().copied());
        self.server.put(&self.root);
    }

    /// New versions of targets, snapshot and timestamp.
    pub fn publish_targets(&mut self) {
        self.targets.bump().sign([&self.targets_key]);
        self.list(&self.targets.clone());
        self.publish_snapshot();
    }

    /// New versions of a delegated role, snapshot and timestamp.
    pub fn publish_role(&mut self, role: &Document) {
        self.list(role);
        self.publish_snapshot();
    }

    /// Puts a signed targets file on the server and in the snapshot to come.
    pub fn list(&mut self, role: &Document) {
        self.server.put(role);
        self.snapshot.set_meta(&format!("{}.json", role.role), role.version(), Some(&role.to_bytes()));
    }

    pub fn publish_snapshot(&mut self) {
        self.snapshot.bump().sign([&self.snapshot_key]);
        self.server.put(&self.snapshot);
        self.timestamp.set_meta("snapshot.json", self.snapshot.version(), Some(&self.snapshot.to_bytes()));
        self.publish_timestamp();
    }

    pub fn publish_timestamp(&mut self) {
        self.timestamp.bump().sign([&self.timestamp_key]);
        self.server.put(&self.timestamp);
    }

    /// Delegates `paths` from the top-level targets to a new role with one target each; returns its key.
    pub fn delegate(&mut self, name: &str, paths: &[&str], terminating: bool, targets: &[&str]) -> (Key, Document) {
        let key = Key::generate().unwrap();
        self.targets.delegate(&delegation(name, &key, paths, terminating));
        let role = role(name, &key, targets);
        self.list(&role);
        self.publish_targets();
        (key, role)
    }

    /// The version of a file in the store.
    pub fn stored(&self, role: &str) -> Option<u64> {
        let bytes = std::fs::read(self.store.path().join(format!("{role}.json"))).ok()?;
        Some(Document::parse(role, &bytes).unwrap().version())
    }
}

pub fn delegation(name: &str, key: &Key, paths: &[&str], terminating: bool) -> Delegation {
    Delegation {
        name: name.into(),
        keys: vec![key.public()],
        threshold: 1,
        paths: paths.iter().map(|path| (*path).into()).collect(),
        terminating,
    }
}

/// A signed first version of a delegated role; every target's content is the role's name.
pub fn role(name: &str, key: &Key, targets: &[&str]) -> Document {
    let mut role = Document::new_targets(name, days(90));
    for target in targets {
        role.add_target(target, &TargetInfo::of(name.as_bytes(), None));
    }
    role.sign([key]);
    role
}

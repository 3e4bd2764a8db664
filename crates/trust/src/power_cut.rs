//! Tests that pull the plug: after every single step on the disk, and in the middle of every write.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;

use crate::core::StoreFile;
use crate::disk::Disk;
use crate::repo::{Document, Key, MemoryFetch, TargetInfo};
use crate::updater::Inner;
use crate::{Clock, Error, Limits, Refusal, Time};

/// What survives a cut, and what was written since the last sync.
#[derive(Clone, Default)]
struct State {
    files: BTreeMap<PathBuf, Vec<u8>>,
    /// Renames and removals that no sync of a folder has made durable yet, with what was there before.
    unsynced: Vec<(PathBuf, Option<Vec<u8>>)>,
    steps: usize,
    cut_after: Option<usize>,
}

/// A disk in memory that fails for good after so many steps. What was not synced is then lost, or was half written.
#[derive(Clone, Default)]
struct FakeDisk(Rc<RefCell<State>>);

impl FakeDisk {
    fn cut_after(&self, steps: Option<usize>) {
        let mut state = self.0.borrow_mut();
        state.cut_after = steps;
        state.steps = 0;
    }

    /// Power is back: the folder entries that were not synced are as they were, or not, as `kept` says.
    fn restart(&self, kept: bool) {
        let mut state = self.0.borrow_mut();
        let lost: Vec<_> = state.unsynced.drain(..).collect();
        if !kept {
            for (path, before) in lost.into_iter().rev() {
                match before {
                    Some(bytes) => state.files.insert(path, bytes),
                    None => state.files.remove(&path),
                };
            }
        }
        state.cut_after = None;
    }

    fn step(&self) -> io::Result<std::cell::RefMut<'_, State>> {
        let mut state = self.0.borrow_mut();
        if state.cut_after.is_some_and(|limit| state.steps >= limit) {
            return Err(io::Error::other("the power is off"));
        }
        state.steps += 1;
        Ok(state)
    }
}

impl Disk for FakeDisk {
    fn read(&self, path: &Path, max: u64) -> io::Result<Vec<u8>> {
        let state = self.0.borrow();
        let bytes = state.files.get(path).ok_or(io::ErrorKind::NotFound)?;
        if bytes.len() as u64 > max { Err(io::ErrorKind::FileTooLarge.into()) } else { Ok(bytes.clone()) }
    }

    fn write(&mut self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        // Two steps, so that a cut can leave half of it.
        self.step()?.files.insert(path.into(), bytes[..bytes.len() / 2].to_vec());
        self.step()?.files.insert(path.into(), bytes.to_vec());
        Ok(())
    }

    fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.step()?;
        let bytes = state.files.remove(from).ok_or(io::ErrorKind::NotFound)?;
        let before = state.files.insert(to.into(), bytes);
        state.unsynced.push((to.into(), before));
        Ok(())
    }

    fn remove(&mut self, path: &Path) -> io::Result<()> {
        let mut state = self.step()?;
        if let Some(before) = state.files.remove(path) {
            state.unsynced.push((path.into(), Some(before)));
        }
        Ok(())
    }

    fn make_folder(&mut self, _path: &Path) -> io::Result<()> {
        self.step().map(|_| ())
    }

    fn sync_folder(&mut self, path: &Path) -> io::Result<()> {
        self.step()?.unsynced.retain(|(file, _)| file.parent() != Some(path));
        Ok(())
    }
}

fn start() -> Timestamp {
    "2026-03-01T12:00:00Z".parse().unwrap()
}

struct Noon;

impl Clock for Noon {
    fn wall(&self) -> Timestamp {
        start()
    }

    fn running(&self) -> std::time::Duration {
        std::time::Duration::ZERO
    }
}

/// A repository with one key for each role and one delegated role.
struct Repository {
    keys: BTreeMap<&'static str, Key>,
    documents: BTreeMap<&'static str, Document>,
    server: MemoryFetch,
    pinned: Vec<u8>,
}

const ROLES: [&str; 5] = ["root", "timestamp", "snapshot", "targets", "acme"];

impl Repository {
    fn new() -> Repository {
        let keys: BTreeMap<_, _> = ROLES.iter().map(|role| (*role, Key::generate().unwrap())).collect();
        let expires = start() + SignedDuration::from_hours(24 * 100);
        let mut root = Document::new_root(expires);
        for role in &ROLES[..4] {
            root.set_role(role, &[keys[role].public()], 1);
        }
        root.sign([&keys["root"]]);
        let mut targets = Document::new_targets("targets", expires);
        targets.delegate(&crate::repo::Delegation {
            name: "acme".into(),
            keys: vec![keys["acme"].public()],
            threshold: 1,
            paths: vec!["acme/*".into()],
            terminating: false,
        });
        let mut acme = Document::new_targets("acme", expires);
        acme.add_target("acme/a", &TargetInfo::of(b"a", None));
        let mut repository = Repository {
            pinned: root.to_bytes(),
            documents: BTreeMap::from([
                ("root", root.clone()),
                ("timestamp", Document::new_timestamp(expires)),
                ("snapshot", Document::new_snapshot(expires)),
                ("targets", targets),
                ("acme", acme),
            ]),
            keys,
            server: MemoryFetch::default(),
        };
        repository.server.put(&root);
        repository.publish(&["acme", "targets"]);
        repository
    }

    /// New versions of the roles, the snapshot and the timestamp.
    fn publish(&mut self, roles: &[&str]) {
        for role in roles {
            let document = self.sign(role);
            let file = format!("{role}.json");
            self.edit("snapshot").set_meta(&file, document.version(), Some(&document.to_bytes()));
        }
        let snapshot = self.sign("snapshot");
        self.edit("timestamp").set_meta("snapshot.json", snapshot.version(), Some(&snapshot.to_bytes()));
        self.sign("timestamp");
    }

    fn edit(&mut self, role: &str) -> &mut Document {
        self.documents.get_mut(role).unwrap()
    }

    fn sign(&mut self, role: &str) -> Document {
        let document = self.documents.get_mut(role).unwrap();
        document.bump().sign([&self.keys[role]]);
        self.server.put(document);
        document.clone()
    }

    /// Replaces the key of an online role.
    fn rotate(&mut self, role: &'static str) {
        let key = Key::generate().unwrap();
        self.edit("root").set_role(role, &[key.public()], 1);
        self.keys.insert(role, key);
        self.sign("root");
        self.publish(&["targets"]);
    }

    fn update(&self, disk: &FakeDisk) -> Result<(), Error> {
        let time = Time::new(Noon, start());
        let mut client =
            Inner::open(Path::new("/store"), &self.pinned, time, Limits::default(), self.server.clone(), disk.clone())?;
        client.refresh()?;
        client.core.start_find("acme/a")?;
        client.run()?;
        client.core.find("acme/a").map(|_| ())
    }
}

fn stored(disk: &FakeDisk) -> BTreeMap<String, u64> {
    let state = disk.0.borrow();
    let files = ["root", "timestamp", "snapshot", "targets", "acme"];
    let version = |role: &str| {
        let bytes = state.files.get(&PathBuf::from(format!("/store/{role}.json")))?;
        Some((role.to_owned(), Document::parse(role, bytes).ok()?.version()))
    };
    files.into_iter().filter_map(version).collect()
}

/// Runs an update that is cut after every possible number of steps, and shows that the next one works.
fn cut_everywhere(repository: &Repository, before: &FakeDisk, check: impl Fn(&FakeDisk)) -> usize {
    let mut cuts = 0;
    for steps in 0.. {
        for kept in [false, true] {
            let disk = FakeDisk(Rc::new(RefCell::new(before.0.borrow().clone())));
            disk.cut_after(Some(steps));
            let outcome = repository.update(&disk);
            disk.restart(kept);
            check(&disk);
            repository.update(&disk).unwrap_or_else(|err| panic!("after {steps} steps, kept {kept}: {err:?}"));
            check(&disk);
            if outcome.is_ok() {
                return cuts;
            }
            cuts += 1;
        }
    }
    cuts
}

#[test]
fn cut_anywhere_in_the_first_update_leaves_a_store_that_works() {
    let cuts = cut_everywhere(&Repository::new(), &FakeDisk::default(), |_| {});
    assert!(cuts > 40, "only {cuts} places were tried");
}

#[test]
fn cut_anywhere_never_lowers_a_version() {
    let mut repository = Repository::new();
    let disk = FakeDisk::default();
    repository.update(&disk).unwrap();
    let old = stored(&disk);
    repository.sign("root");
    repository.publish(&["acme", "targets"]);
    cut_everywhere(&repository, &disk, |disk| {
        let new = stored(disk);
        for (role, version) in &old {
            assert!(new.get(role) >= Some(version), "{role} from {version} to {:?}", new.get(role));
        }
    });
}

#[test]
fn cut_anywhere_in_a_key_replacement_still_recovers_from_fast_forward() {
    for role in ["timestamp", "snapshot"] {
        let mut repository = Repository::new();
        repository.edit("timestamp").set_version(1000);
        repository.edit("snapshot").set_version(1000);
        repository.publish(&[]);
        let disk = FakeDisk::default();
        repository.update(&disk).unwrap();
        assert_eq!(stored(&disk)["snapshot"], 1001);
        repository.edit("timestamp").set_version(5);
        repository.edit("snapshot").set_version(5);
        repository.rotate(role);
        cut_everywhere(&repository, &disk, |_| {});
        repository.update(&disk).unwrap();
        assert_eq!((stored(&disk)["timestamp"], stored(&disk)["snapshot"]), (6, 6));
    }
}

#[test]
fn root_chain_has_no_gap_after_a_cut() {
    let mut repository = Repository::new();
    let disk = FakeDisk::default();
    repository.update(&disk).unwrap();
    for _ in 0..3 {
        repository.sign("root");
    }
    cut_everywhere(&repository, &disk, |disk| {
        let state = disk.0.borrow();
        let newest = stored(disk)["root"];
        for version in 1..=newest {
            let path = PathBuf::from(format!("/store/roots/{version}.root.json"));
            assert!(state.files.contains_key(&path), "root {version} of {newest}");
        }
    });
}

/// Something that happens to a repository, its network or the device.
#[derive(Debug, Clone, Copy)]
enum Event {
    Publish,
    RenewTimestamp,
    NewRoot,
    /// The server shows an older timestamp again.
    Replay(usize),
    /// A file is missing for one update.
    Lose(usize),
    CutPower(usize),
    Update,
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        Just(Event::Publish),
        Just(Event::RenewTimestamp),
        Just(Event::NewRoot),
        (0..10_usize).prop_map(Event::Replay),
        (0..10_usize).prop_map(Event::Lose),
        (0..60_usize).prop_map(Event::CutPower),
        Just(Event::Update),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn no_order_of_events_lowers_a_version(events in proptest::collection::vec(event(), 1..24)) {
        let mut repository = Repository::new();
        let mut timestamps = vec![repository.server.files["timestamp.json"].clone()];
        let disk = FakeDisk::default();
        let mut seen: BTreeMap<String, u64> = BTreeMap::new();
        for event in events {
            match event {
                Event::Publish => repository.publish(&["acme", "targets"]),
                Event::RenewTimestamp => {
                    repository.sign("timestamp");
                }
                Event::NewRoot => {
                    repository.sign("root");
                }
                Event::Replay(n) => {
                    let old = timestamps[n % timestamps.len()].clone();
                    let new = repository.server.files.insert("timestamp.json".into(), old);
                    let outcome = repository.update(&disk);
                    if let Some(new) = new {
                        repository.server.files.insert("timestamp.json".into(), new);
                    }
                    let refused = outcome.as_ref().err().and_then(Error::refusal);
                    prop_assert!(outcome.is_ok() || matches!(refused, Some(Refusal::Rollback { .. })), "{outcome:?}");
                }
                Event::Lose(n) => {
                    let names: Vec<String> = repository.server.files.keys().cloned().collect();
                    let name = &names[n % names.len()];
                    let bytes = repository.server.files.remove(name);
                    let _ = repository.update(&disk);
                    if let Some(bytes) = bytes {
                        repository.server.files.insert(name.clone(), bytes);
                    }
                }
                Event::CutPower(steps) => {
                    disk.cut_after(Some(steps));
                    let _ = repository.update(&disk);
                    disk.restart(steps % 2 == 0);
                }
                Event::Update => {
                    let outcome = repository.update(&disk);
                    prop_assert!(outcome.is_ok(), "{outcome:?}");
                }
            }
            timestamps.push(repository.server.files["timestamp.json"].clone());
            let now = stored(&disk);
            for (role, version) in &seen {
                prop_assert!(now.get(role) >= Some(version), "{role} fell from {version} at {event:?}");
            }
            seen = now;
        }
        repository.update(&disk).unwrap();
    }
}

#[test]
fn names_in_the_store_are_distinct() {
    let store = crate::store::Store::open(Path::new("/store"), FakeDisk::default()).unwrap();
    let files = [
        StoreFile::Root,
        StoreFile::RootVersion(1),
        StoreFile::Timestamp,
        StoreFile::Snapshot,
        StoreFile::Targets("targets".into()),
        StoreFile::Targets("floor".into()),
        StoreFile::Targets("roots/1.root".into()),
        StoreFile::Targets("timestamp.json.new".into()),
        StoreFile::Floor,
    ];
    let paths: BTreeSet<_> = files.iter().map(|file| store.path(file)).collect();
    assert_eq!(paths.len(), files.len());
}

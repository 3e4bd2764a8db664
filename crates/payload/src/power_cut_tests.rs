//! The store on a disk that loses power after any single operation, and with it whatever was not synced.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use iotwasm_values::{Digest, Slot};

use crate::disk::Disk;
use crate::id::PayloadId;
use crate::slot::{Event, PayloadState, Release, SlotState};
use crate::store::{PAYLOAD_FILE, Reader, StoreError, Writer};

type Inode = usize;

/// A file or folder as processes see it, and as it would be found after a power cut.
#[derive(Clone)]
enum Node {
    File { now: Vec<u8>, synced: Option<Vec<u8>> },
    Dir { now: BTreeMap<String, Inode>, synced: BTreeMap<String, Inode> },
}

#[derive(Clone)]
struct Model {
    nodes: Vec<Node>,
    /// How many more operations succeed.
    left: usize,
    done: usize,
}

/// A disk in memory. Inode 0 is the store's root, which is there for good.
#[derive(Clone)]
struct PoweredDisk(Rc<RefCell<Model>>);

const ROOT: &str = "/store";

fn power_cut() -> io::Error {
    io::Error::other("power cut")
}

impl Model {
    fn entries(&mut self, dir: Inode) -> &mut BTreeMap<String, Inode> {
        match &mut self.nodes[dir] {
            Node::Dir { now, .. } => now,
            Node::File { .. } => panic!("not a folder"),
        }
    }

    fn find(&mut self, path: &Path) -> Option<Inode> {
        let below = path.strip_prefix(ROOT).expect("within the store");
        below.iter().try_fold(0, |dir, name| self.entries(dir).get(name.to_str()?).copied())
    }

    fn parent(&mut self, path: &Path) -> io::Result<(Inode, String)> {
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        let parent = self.find(path.parent().unwrap());
        parent.map(|dir| (dir, name)).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn add(&mut self, path: &Path, node: Node) -> io::Result<Inode> {
        let (dir, name) = self.parent(path)?;
        let inode = self.nodes.len();
        if self.entries(dir).contains_key(&name) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        self.nodes.push(node);
        self.entries(dir).insert(name, inode);
        Ok(inode)
    }

    fn sync(&mut self, inode: Inode) {
        match &mut self.nodes[inode] {
            Node::File { now, synced } => *synced = Some(now.clone()),
            Node::Dir { now, synced } => *synced = now.clone(),
        }
    }

    fn sync_all(&mut self, inode: Inode) {
        if let Node::Dir { now, .. } = &self.nodes[inode] {
            let children: Vec<_> = now.values().copied().collect();
            children.into_iter().for_each(|child| self.sync_all(child));
        }
        self.sync(inode);
    }

    /// Writes to a real folder what a power cut leaves: of everything not synced, any part.
    fn leave(&self, inode: Inode, to: &Path, dice: &mut Dice) {
        match &self.nodes[inode] {
            Node::File { now, synced } => {
                let left = match (synced, dice.roll(3)) {
                    (Some(synced), _) if synced == now => now.clone(),
                    (_, 0) => now.clone(),
                    (Some(synced), 1) => synced.clone(),
                    (None, 1) => Vec::new(),
                    _ => now[..dice.roll(now.len() + 1)].to_vec(),
                };
                fs::write(to, left).unwrap();
            }
            Node::Dir { now, synced } => {
                fs::create_dir_all(to).unwrap();
                let names: std::collections::BTreeSet<_> = now.keys().chain(synced.keys()).collect();
                for name in names {
                    let (new, old) = (now.get(name), synced.get(name));
                    if let Some(child) = if new == old || dice.roll(2) == 0 { new } else { old } {
                        self.leave(*child, &to.join(name), dice);
                    }
                }
            }
        }
    }
}

/// A small generator of numbers, the same for the same seed.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % sides
    }
}

impl PoweredDisk {
    fn new(left: usize) -> Self {
        let root = Node::Dir { now: BTreeMap::new(), synced: BTreeMap::new() };
        Self(Rc::new(RefCell::new(Model { nodes: vec![root], left, done: 0 })))
    }

    /// Does an operation if there is still power. `torn` is what it does when the power goes in its middle.
    fn step<T>(
        &self,
        operation: impl FnOnce(&mut Model) -> io::Result<T>,
        torn: impl FnOnce(&mut Model),
    ) -> io::Result<T> {
        let mut model = self.0.borrow_mut();
        if model.left == 0 {
            return Err(power_cut());
        }
        model.left -= 1;
        model.done += 1;
        if model.left == 0 {
            torn(&mut model);
            return Err(power_cut());
        }
        operation(&mut model)
    }

    fn create(&self, path: &Path, content: Vec<u8>) -> io::Result<()> {
        let half = content[..content.len() / 2].to_vec();
        self.step(
            |model| model.add(path, Node::File { now: content, synced: None }).map(drop),
            |model| drop(model.add(path, Node::File { now: half, synced: None })),
        )
    }

    fn there(model: &mut Model, path: &Path) -> io::Result<Inode> {
        model.find(path).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let remove = |model: &mut Model| {
            if let Ok((dir, name)) = model.parent(path) {
                model.entries(dir).remove(&name);
            }
        };
        self.step(
            |model| {
                remove(model);
                Ok(())
            },
            // In the middle of a folder's removal some of its files are gone.
            |model| {
                if let Some(inode) = model.find(path)
                    && let Node::Dir { now, .. } = &mut model.nodes[inode]
                {
                    now.pop_first();
                }
            },
        )
    }
}

impl Disk for PoweredDisk {
    fn exists(&self, path: &Path) -> bool {
        self.0.borrow_mut().find(path).is_some()
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        let node = Node::Dir { now: BTreeMap::new(), synced: BTreeMap::new() };
        self.step(|model| model.add(path, node).map(drop), |_| ())
    }

    fn write_new(&self, path: &Path, content: &mut dyn Read) -> io::Result<()> {
        let mut bytes = Vec::new();
        content.read_to_end(&mut bytes)?;
        self.create(path, bytes)
    }

    fn take(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.create(to, fs::read(from)?)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.step(
            |model| {
                let inode = Self::there(model, from)?;
                let (old_dir, old) = model.parent(from)?;
                let (dir, name) = model.parent(to)?;
                model.entries(old_dir).remove(&old);
                model.entries(dir).insert(name, inode);
                Ok(())
            },
            |_| (),
        )
    }

    fn exchange(&self, one: &Path, other: &Path) -> io::Result<()> {
        self.step(
            |model| {
                let (first, second) = (Self::there(model, one)?, Self::there(model, other)?);
                for (path, inode) in [(one, second), (other, first)] {
                    let (dir, name) = model.parent(path)?;
                    model.entries(dir).insert(name, inode);
                }
                Ok(())
            },
            |_| (),
        )
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.remove(path)
    }

    fn remove_tree(&self, path: &Path) -> io::Result<()> {
        self.remove(path)
    }

    fn sync_file(&self, path: &Path) -> io::Result<()> {
        self.step(|model| Self::there(model, path).map(|inode| model.sync(inode)), |_| ())
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.sync_file(path)
    }

    fn sync_tree(&self, path: &Path) -> io::Result<()> {
        self.step(|model| Self::there(model, path).map(|inode| model.sync_all(inode)), |_| ())
    }

    fn free(&self, _: &Path) -> io::Result<u64> {
        Ok(u64::MAX)
    }
}

fn id() -> PayloadId {
    "blinky".parse().unwrap()
}

fn content(n: u8) -> Vec<u8> {
    vec![n; 100 + usize::from(n)]
}

fn release(n: u8) -> Release {
    Release {
        target: format!("acme/blinky/blinky-{n}.0.0.wasm").parse().unwrap(),
        length: content(n).len() as u64,
        sha256: Digest::of(&content(n)),
        custom: Digest::of(b"signed"),
    }
}

/// Chain files of a release: names and contents.
fn chain(n: u8) -> [(&'static str, Vec<u8>); 2] {
    [("root.json", vec![n; 40]), ("targets.json", vec![n; 60])]
}

/// What the updater does, from whatever state it finds: install each of these, and commit it or roll it back.
fn update<D: Disk>(
    store: &Writer<D>,
    mut state: PayloadState,
    plan: &[(u8, bool)],
    export: &dyn Fn(u8, &Path) -> io::Result<()>,
    downloads: &Path,
) -> Result<PayloadState, StoreError> {
    let step = |state: &PayloadState, event: Event| {
        let next = state.apply(&event).unwrap();
        store.save_state(&id(), &next).map(|()| next)
    };
    if let Some((slot, ..)) = state.trial() {
        state = step(&state, Event::TrialAbandoned { slot })?;
    }
    for (n, good) in plan {
        let slot = state.writable().unwrap();
        if state.is_rejected(&release(*n)) {
            continue;
        }
        let downloaded = downloads.join("part");
        fs::write(&downloaded, content(*n)).unwrap();
        state = step(&state, Event::WriteStarted { slot })?;
        store.write_slot(&id(), &state, slot, &release(*n), &downloaded, |folder| export(*n, folder))?;
        state = step(&state, Event::Installed { slot, release: release(*n), boots: 3 })?;
        state = step(&state, Event::TrialStarted { slot })?;
        let end = if *good { Event::Confirmed { slot } } else { Event::TrialFailed { slot, reason: "trap".into() } };
        state = step(&state, end)?;
    }
    Ok(state)
}

const PLAN: &[(u8, bool)] = &[(1, true), (2, false), (3, true), (4, true), (5, false)];

/// Checks what a power cut left, and tells which release is committed.
fn check(root: &Path, what: &str) -> Option<u8> {
    let reader = Reader::new(root);
    let state =
        reader.state(&id()).unwrap_or_else(|err| panic!("{what}: {err}: {:?}", std::error::Error::source(&err)));
    let state = state?;
    for slot in Slot::ALL {
        let content = state.slot(slot);
        if content.state == SlotState::Inactive {
            continue;
        }
        // Both what runs and what is tried is whole, with its chain.
        let release = content.release.as_ref().unwrap();
        let bytes = reader.payload(&id(), slot).unwrap().unwrap_or_else(|| panic!("{what}: {slot} has no payload"));
        assert_eq!(Digest::of(&bytes), release.sha256, "{what}: {slot}");
        for (name, text) in chain(release.version().major as u8) {
            assert_eq!(fs::read(reader.chain(&id(), slot).join(name)).unwrap(), text, "{what}: {slot} {name}");
        }
    }
    state.committed().map(|(_, release)| release.version().major as u8)
}

#[test]
fn a_power_cut_after_any_operation_leaves_a_runnable_payload() {
    let downloads = tempfile::tempdir().unwrap();
    let run = |disk: &PoweredDisk| {
        let store = Writer::with_disk(ROOT, disk.clone());
        let export = |n: u8, folder: &Path| {
            chain(n).into_iter().try_for_each(|(name, text)| disk.create(&folder.join(name), text))
        };
        update(&store, PayloadState::default(), PLAN, &export, downloads.path())
    };
    let whole = PoweredDisk::new(usize::MAX);
    let end = run(&whole).unwrap();
    assert_eq!(end.committed().unwrap().1, &release(4));
    let operations = whole.0.borrow().done;
    assert!(operations > 100, "{operations}");

    let mut committed_before = None;
    for cut in 1..=operations {
        let disk = PoweredDisk::new(cut);
        run(&disk).unwrap_err();
        let mut seen = Vec::new();
        for seed in 0..12 {
            let left = tempfile::tempdir().unwrap();
            disk.0.borrow().leave(0, left.path(), &mut Dice(cut as u64 * 1000 + seed));
            let what = format!("cut {cut} of {operations}, seed {seed}");
            let committed = check(left.path(), &what);
            // Nothing that was committed is ever lost, whatever of the last step arrived.
            assert!(committed >= committed_before, "{what}: {committed:?} after {committed_before:?}");
            seen.push(committed);
            recover(left.path(), downloads.path(), &what);
        }
        committed_before = seen.into_iter().min().unwrap();
    }
    assert_eq!(committed_before, Some(4));
}

#[test]
fn a_power_cut_while_a_chain_is_renewed_leaves_one_of_both_whole() {
    let downloads = tempfile::tempdir().unwrap();
    let run = |disk: &PoweredDisk| {
        let store = Writer::with_disk(ROOT, disk.clone());
        let export = |n: u8, folder: &Path| {
            chain(n).into_iter().try_for_each(|(name, text)| disk.create(&folder.join(name), text))
        };
        let state = update(&store, PayloadState::default(), &[(1, true)], &export, downloads.path())?;
        let (slot, _) = state.committed().unwrap();
        let installed = disk.0.borrow().done;
        // Twice: the second time there is one from before.
        for n in [2, 3] {
            store.renew_chain(&id(), slot, |folder| export(n, folder))?;
        }
        Ok::<_, StoreError>((slot, installed))
    };
    let whole = PoweredDisk::new(usize::MAX);
    let (slot, installed) = run(&whole).unwrap();
    let operations = whole.0.borrow().done;
    let mut seen = Vec::new();
    for cut in installed + 1..=operations {
        let disk = PoweredDisk::new(cut);
        run(&disk).unwrap_err();
        for seed in 0..12 {
            let left = tempfile::tempdir().unwrap();
            disk.0.borrow().leave(0, left.path(), &mut Dice(cut as u64 * 1000 + seed));
            let reader = Reader::new(left.path());
            assert_eq!(reader.payload(&id(), slot).unwrap(), Some(content(1)));
            let folder = reader.chain(&id(), slot);
            let found = (1..=3).find(|&n| {
                chain(n).into_iter().all(|(name, text)| fs::read(folder.join(name)).is_ok_and(|bytes| bytes == text))
            });
            seen.push(found.unwrap_or_else(|| panic!("cut {cut} of {operations}, seed {seed}: no chain is whole")));
        }
    }
    assert!((1..=3).all(|n| seen.contains(&n)));
}

#[test]
fn a_chain_that_cannot_be_exported_leaves_the_one_that_is_there() {
    let (root, downloads) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let store = Writer::new(root.path());
    let export =
        |n: u8, folder: &Path| chain(n).into_iter().try_for_each(|(name, text)| fs::write(folder.join(name), text));
    let state = update(&store, PayloadState::default(), &[(1, true)], &export, downloads.path()).unwrap();
    let (slot, _) = state.committed().unwrap();
    store.renew_chain(&id(), slot, |_| Err(io::Error::other("a role is missing"))).unwrap_err();
    assert_eq!(check(root.path(), "not exported"), Some(1));
    let other = |n: u8, folder: &Path| fs::write(folder.join("root.json"), [n]);
    store.renew_chain(&id(), slot, |folder| other(2, folder)).unwrap();
    assert_eq!(fs::read(store.reader().chain(&id(), slot).join("root.json")).unwrap(), [2]);
}

/// The updater, started again on the real disk after the power cut, gets to the same end.
fn recover(root: &Path, downloads: &Path, what: &str) {
    let store = Writer::new(root);
    let state = store.reader().state(&id()).unwrap().unwrap_or_default();
    let done = state.committed().map_or(0, |(_, release)| release.version().major as u8);
    let plan: Vec<_> = PLAN.iter().copied().filter(|(n, _)| *n > done).collect();
    let export =
        |n: u8, folder: &Path| chain(n).into_iter().try_for_each(|(name, text)| fs::write(folder.join(name), text));
    let end = update(&store, state, &plan, &export, downloads).unwrap_or_else(|err| panic!("{what}: {err}"));
    assert_eq!(end.committed().unwrap().1, &release(4), "{what}");
    assert_eq!(check(root, what), Some(4));
}

#[test]
fn the_model_loses_what_was_not_synced() {
    // Otherwise the test above could not fail.
    let disk = PoweredDisk::new(usize::MAX);
    let path = PathBuf::from(ROOT).join(PAYLOAD_FILE);
    disk.write_new(&path, &mut &b"12345678"[..]).unwrap();
    let left = |seed| {
        let to = tempfile::tempdir().unwrap();
        disk.0.borrow().leave(0, to.path(), &mut Dice(seed));
        fs::read(to.path().join(PAYLOAD_FILE)).ok()
    };
    let seen: Vec<_> = (0..64).map(left).collect();
    assert!(seen.contains(&None) && seen.contains(&Some(b"12345678".to_vec())));
    assert!(seen.iter().flatten().any(|bytes| bytes.len() < 8));
    disk.sync_file(&path).unwrap();
    disk.sync_dir(Path::new(ROOT)).unwrap();
    assert!((0..64).map(left).all(|bytes| bytes == Some(b"12345678".to_vec())));
}

//! The slot store on a real disk: what it refuses, and what it leaves behind.
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::fs;
use std::io;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use iotwasm_payload::slot::{Event, PayloadState, SlotState};
use iotwasm_payload::store::{MAX_PAYLOAD, Reader, StoreError, Writer};
use iotwasm_payload::{Digest, PayloadId, Release, Slot};

const WASM: &[u8] = b"\0asm\x01\0\0\0";

fn id() -> PayloadId {
    "blinky".parse().unwrap()
}

fn release() -> Release {
    Release {
        target: "acme/blinky/blinky-1.0.0.wasm".parse().unwrap(),
        length: WASM.len() as u64,
        sha256: Digest::of(WASM),
        custom: Digest::of(b"signed"),
    }
}

fn export(folder: &Path) -> io::Result<()> {
    fs::create_dir(folder.join("roots"))?;
    fs::write(folder.join("roots/1.root.json"), "{}")?;
    fs::write(folder.join("targets.json"), "{}")
}

struct Place {
    tmp: tempfile::TempDir,
    store: Writer,
}

impl Place {
    fn new() -> Self {
        let tmp = tempfile::tempdir().unwrap();
        fs::create_dir(tmp.path().join("payloads")).unwrap();
        let store = Writer::new(tmp.path().join("payloads"));
        Self { tmp, store }
    }

    fn download(&self, bytes: &[u8]) -> std::path::PathBuf {
        let path = self.tmp.path().join("download");
        fs::write(&path, bytes).unwrap();
        path
    }

    fn install(&self) -> Result<(), StoreError> {
        let state = PayloadState::default();
        self.store.write_slot(&id(), &state, Slot::A, &release(), &self.download(WASM), export)
    }

    fn path(&self, below: &str) -> std::path::PathBuf {
        self.tmp.path().join("payloads/blinky").join(below)
    }
}

#[test]
fn what_was_written_is_read() {
    let place = Place::new();
    place.install().unwrap();
    let event = Event::Installed { slot: Slot::A, release: release(), boots: 3 };
    let state = PayloadState::default().apply(&event).unwrap();
    place.store.save_state(&id(), &state).unwrap();
    let reader = Reader::new(place.tmp.path().join("payloads"));
    assert_eq!(reader.payloads().unwrap(), [id()]);
    assert_eq!(reader.state(&id()).unwrap(), Some(state));
    assert_eq!(reader.payload(&id(), Slot::A).unwrap().unwrap(), WASM);
    assert_eq!(reader.payload(&id(), Slot::B).unwrap(), None);
    assert_eq!(fs::read(reader.chain(&id(), Slot::A).join("roots/1.root.json")).unwrap(), b"{}");
    // The download was moved, and nothing half-written is left.
    assert!(!place.tmp.path().join("download").exists() && !place.path("state.json.part").exists());
    place.store.remove(&id()).unwrap();
    assert_eq!(reader.payloads().unwrap(), []);
    place.store.remove(&id()).unwrap();
}

#[test]
fn the_group_may_read_and_others_may_not() {
    let place = Place::new();
    place.install().unwrap();
    place.store.save_state(&id(), &PayloadState::default()).unwrap();
    let mode = |below: &str| fs::metadata(place.path(below)).unwrap().permissions().mode() & 0o7777;
    for dir in ["", "a", "a/chain", "a/chain/roots"] {
        assert_eq!(mode(dir), 0o750, "{dir}");
    }
    for file in ["state.json", "a/payload.wasm", "a/chain/targets.json", "a/chain/roots/1.root.json"] {
        assert_eq!(mode(file), 0o640, "{file}");
    }
}

#[test]
fn a_slot_in_use_is_not_written() {
    let place = Place::new();
    place.install().unwrap();
    let installed = Event::Installed { slot: Slot::A, release: release(), boots: 3 };
    let trial = PayloadState::default().apply(&installed).unwrap();
    let committed = trial.apply(&Event::Confirmed { slot: Slot::A }).unwrap();
    for state in [trial, committed] {
        let result = place.store.write_slot(&id(), &state, Slot::A, &release(), &place.download(WASM), export);
        assert!(matches!(result, Err(StoreError::SlotInUse { slot: Slot::A, .. })));
        assert_eq!(place.store.reader().payload(&id(), Slot::A).unwrap().unwrap(), WASM);
        assert_ne!(state.slot(Slot::A).state, SlotState::Inactive);
    }
}

#[test]
fn another_file_than_the_signed_one_never_reaches_a_slot() {
    let place = Place::new();
    let state = PayloadState::default();
    for bytes in [&b""[..], b"\0asm\x01\0\0\x01", b"\0asm\x01\0\0\0\0"] {
        let result = place.store.write_slot(&id(), &state, Slot::A, &release(), &place.download(bytes), export);
        assert!(matches!(result, Err(StoreError::OtherFile { .. })));
    }
    let link = place.tmp.path().join("link");
    symlink(place.download(WASM), &link).unwrap();
    let result = place.store.write_slot(&id(), &state, Slot::A, &release(), &link, export);
    assert!(matches!(result, Err(StoreError::Disk { action: "open", .. })));
    assert!(!place.path("a").exists());
}

#[test]
fn a_disk_too_full_is_refused_before_anything_is_touched() {
    let place = Place::new();
    place.install().unwrap();
    let result = place.store.check_room(&id(), Slot::A, u64::MAX / 2);
    assert!(result.as_ref().is_err_and(StoreError::is_disk_full), "{result:?}");
    place.store.check_room(&id(), Slot::A, 1).unwrap();
    assert_eq!(place.store.reader().payload(&id(), Slot::A).unwrap().unwrap(), WASM);
}

#[test]
fn a_chain_that_cannot_be_exported_is_an_error() {
    let place = Place::new();
    let state = PayloadState::default();
    let full = |_: &Path| Err(io::ErrorKind::StorageFull.into());
    let result = place.store.write_slot(&id(), &state, Slot::A, &release(), &place.download(WASM), full);
    assert!(result.is_err_and(|err| matches!(err, StoreError::Chain { .. }) && err.is_disk_full()));
    let odd = |folder: &Path| symlink("/etc/passwd", folder.join("root.json"));
    let result = place.store.write_slot(&id(), &state, Slot::A, &release(), &place.download(WASM), odd);
    assert!(matches!(result, Err(StoreError::Disk { action: "sync", .. })));
}

#[test]
fn links_and_oversized_files_are_not_read() {
    let place = Place::new();
    place.install().unwrap();
    let reader = place.store.reader();
    let payload = place.path("a/payload.wasm");
    fs::OpenOptions::new().write(true).open(&payload).unwrap().set_len(MAX_PAYLOAD + 1).unwrap();
    assert!(matches!(reader.payload(&id(), Slot::A), Err(StoreError::TooLarge { .. })));
    let elsewhere = place.download(WASM);
    fs::remove_file(&payload).unwrap();
    symlink(&elsewhere, &payload).unwrap();
    assert!(matches!(reader.payload(&id(), Slot::A), Err(StoreError::Disk { .. })));
    // A slot that is a link to a folder with a payload in it.
    fs::rename(place.path("a"), place.tmp.path().join("moved")).unwrap();
    fs::remove_file(place.tmp.path().join("moved/payload.wasm")).unwrap();
    fs::write(place.tmp.path().join("moved/payload.wasm"), WASM).unwrap();
    symlink(place.tmp.path().join("moved"), place.path("a")).unwrap();
    assert!(matches!(reader.payload(&id(), Slot::A), Err(StoreError::Disk { .. })));
    // Nor does writing the slot follow the link.
    place.install().unwrap();
    assert!(!fs::symlink_metadata(place.path("a")).unwrap().is_symlink());
    assert!(place.tmp.path().join("moved/payload.wasm").exists());
}

#[test]
fn a_damaged_state_is_an_error_and_a_missing_one_is_none() {
    let place = Place::new();
    let reader = place.store.reader();
    assert_eq!(reader.state(&id()).unwrap(), None);
    place.store.save_state(&id(), &PayloadState::default()).unwrap();
    fs::write(place.path("state.json"), "{").unwrap();
    assert!(matches!(reader.state(&id()), Err(StoreError::State { .. })));
    // Whatever else lies in the store is not a payload.
    fs::write(place.tmp.path().join("payloads/file"), "").unwrap();
    fs::create_dir(place.tmp.path().join("payloads/lost+found")).unwrap();
    symlink("/etc", place.tmp.path().join("payloads/link")).unwrap();
    assert_eq!(reader.payloads().unwrap(), [id()]);
    assert_eq!(Reader::new("/nonexistent").payloads().unwrap(), []);
}

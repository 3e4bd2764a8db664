//! A device in a folder: a repository's keys, signed payloads in slots, and a supervisor that runs them with the real
//! runner. Only the cells are a fake: control groups need a delegated subtree, which the reference image has.

use std::{
    cell::RefCell,
    collections::VecDeque,
    fs,
    future::Future,
    os::unix::net::UnixDatagram,
    path::{Path, PathBuf},
    rc::Rc,
    sync::Once,
    time::Duration,
};

use iotwasm_api::supervisor::{Event as Notice, PayloadStatus};
use iotwasm_kit::metrics::Registry;
use iotwasm_payload::{
    Digest, Manifest, PayloadId, PayloadState, PayloadTarget, Release, Slot, Wanted,
    slot::Event,
    store::{Reader, Writer},
    target::{CUSTOM_KEY, custom_digest},
};
use iotwasm_trust::repo::{Delegation, Document, Key, TargetInfo};
use iotwasm_verify::Verifier;
use tokio::sync::mpsc;
use wasm_supervisord::{
    capabilities::{self, Capabilities, Opening},
    cgroup::{Bounds, Cell, Cells, Error as CellError, Starved},
    config,
    journal::Journal,
    meter::Rules,
    notices::Notices,
    run::Edges,
    supervisor::Supervisor,
};

use crate::capd::Capd;

pub(crate) const BOARD: &str = "bench-board";
/// Far more than anything here takes on a busy machine; what waits for it fails.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Run a test on a loop as the daemon has, and without the device commands that it gives up. Says so, and does nothing, on a kernel without Landlock: there the runner
/// refuses to run at all.
pub(crate) fn on_loop(test: impl Future<Output = ()>) {
    if !wasm_supervisord::sandbox::is_available() {
        eprintln!("SKIPPED: this kernel has no Landlock, so no runner starts");
        return;
    }
    static CONFINED: Once = Once::new();
    CONFINED.call_once(|| wasm_supervisord::sandbox::ioctls::confine().unwrap());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let whole = async { tokio::time::timeout(PATIENCE * 2, test).await.expect("the test hangs") };
    tokio::task::LocalSet::new().block_on(&runtime, whole);
}

/// Who opens sessions in capd's place: answers with the errors that were asked for, one for each call, then with sessions.
#[derive(Clone)]
pub(crate) struct Door {
    pub(crate) capd: Capd,
    errors: Rc<RefCell<VecDeque<capabilities::Error>>>,
    calls: Rc<RefCell<Vec<(String, Slot, String)>>>,
}

impl Door {
    /// Refuse the next call; the one after that for the second time, and so on.
    pub(crate) fn refuse(&self, err: capabilities::Error) {
        self.errors.borrow_mut().push_back(err);
    }

    /// Payload, slot and hash of each call so far.
    pub(crate) fn calls(&self) -> Vec<(String, Slot, String)> {
        self.calls.borrow().clone()
    }
}

impl Capabilities for Door {
    fn open<'a>(&'a self, payload: &'a PayloadId, slot: Slot, sha256: &'a str) -> Opening<'a> {
        self.calls.borrow_mut().push((payload.to_string(), slot, sha256.to_owned()));
        let answer = match self.errors.borrow_mut().pop_front() {
            Some(err) => Err(err),
            None => Ok(self.capd.session()),
        };
        Box::pin(std::future::ready(answer))
    }
}

/// Cells without walls.
struct OpenCells;
struct OpenCell;

impl Cells for OpenCells {
    fn make(&self, _name: &str, _bounds: &Bounds) -> Result<Box<dyn Cell>, CellError> {
        Ok(Box::new(OpenCell))
    }
}

impl Cell for OpenCell {
    fn admit(&self, _pid: u32) -> Result<(), CellError> {
        Ok(())
    }

    fn kill(&self) -> Result<(), CellError> {
        Ok(())
    }

    fn starved(&self) -> Option<Starved> {
        None
    }

    fn remove(&self) -> Result<(), CellError> {
        Ok(())
    }
}

/// A device.
pub(crate) struct Device {
    dir: tempfile::TempDir,
    root_key: Key,
    vendor_key: Key,
    journal: UnixDatagram,
    lines: RefCell<Vec<String>>,
    pub(crate) door: Door,
}

impl Device {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("metrics")).unwrap();
        let journal = UnixDatagram::bind(dir.path().join("journal")).unwrap();
        journal.set_nonblocking(true).unwrap();
        let device = Self {
            root_key: Key::generate().unwrap(),
            vendor_key: Key::generate().unwrap(),
            journal,
            lines: RefCell::default(),
            door: Door { capd: Capd::of(crate::capd::table()), errors: Rc::default(), calls: Rc::default() },
            dir,
        };
        fs::write(device.path("root.json"), device.root().to_bytes()).unwrap();
        device
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A folder of a payload.
    pub(crate) fn storage(&self, id: &str, name: &str) -> PathBuf {
        self.path("storage").join(id).join(name)
    }

    /// What payloads have said so far.
    pub(crate) fn journal(&self) -> Vec<String> {
        let mut buffer = [0; 65536];
        while let Ok(n) = self.journal.recv(&mut buffer) {
            self.lines.borrow_mut().push(String::from_utf8(buffer[..n].to_vec()).unwrap());
        }
        self.lines.borrow().clone()
    }

    /// Wait until somebody said this.
    pub(crate) async fn heard(&self, text: &str) -> String {
        let wait = async {
            loop {
                if let Some(line) = self.journal().into_iter().find(|line| line.contains(text)) {
                    return line;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(PATIENCE, wait).await.unwrap_or_else(|_| panic!("nobody said {text:?}"))
    }

    fn expires() -> jiff::Timestamp {
        // Long past: what was accepted once runs without a network and without a clock.
        "2020-01-01T00:00:00Z".parse().unwrap()
    }

    fn root(&self) -> Document {
        let mut root = Document::new_root(Self::expires());
        for role in ["root", "timestamp", "snapshot", "targets"] {
            root.set_role(role, &[self.root_key.public()], 1);
        }
        root.sign([&self.root_key]);
        root
    }

    /// The chain beside a payload, signed with `vendor_key`.
    fn write_chain(&self, folder: &Path, name: &str, bytes: &[u8], custom: serde_json::Value, vendor_key: &Key) {
        let target = TargetInfo::of(bytes, Some(serde_json::json!({ CUSTOM_KEY: custom })));
        let mut vendor = Document::new_targets("acme", Self::expires());
        vendor.add_target(name, &target).sign([vendor_key]);
        let mut targets = Document::new_targets("targets", Self::expires());
        let delegation = Delegation {
            name: "acme".into(),
            keys: vec![self.vendor_key.public()],
            threshold: 1,
            paths: vec!["acme/*/*".into()],
            terminating: true,
        };
        targets.delegate(&delegation).sign([&self.root_key]);
        let mut snapshot = Document::new_snapshot(Self::expires());
        snapshot.set_meta("targets.json", 1, None).set_meta("acme.json", 1, None).sign([&self.root_key]);
        let mut timestamp = Document::new_timestamp(Self::expires());
        timestamp.set_meta("snapshot.json", 1, Some(&snapshot.to_bytes())).sign([&self.root_key]);
        for (file, document) in [
            ("1.root.json", self.root()),
            ("timestamp.json", timestamp),
            ("snapshot.json", snapshot),
            ("targets.json", targets),
            ("acme.json", vendor),
        ] {
            fs::write(folder.join(file), document.to_bytes()).unwrap();
        }
    }

    /// Sign a payload and put it into the slot that is free; committed at once if `committed`. Gives the slot.
    pub(crate) fn install(&self, payload: &Payload, committed: bool) -> Slot {
        self.install_signed_by(payload, committed, &self.vendor_key)
    }

    /// As [`Self::install`], signed by somebody whom the repository never heard of.
    pub(crate) fn install_forged(&self, payload: &Payload) -> Slot {
        self.install_signed_by(payload, false, &Key::generate().unwrap())
    }

    fn install_signed_by(&self, payload: &Payload, committed: bool, vendor_key: &Key) -> Slot {
        let bytes = payload.pack();
        let manifest = Manifest::parse(payload.manifest().as_bytes()).unwrap();
        let custom = PayloadTarget { boards: payload.boards.clone(), ..PayloadTarget::of_manifest(&manifest) };
        let name = custom.name();
        let custom = custom.to_custom().unwrap();
        let release = Release {
            target: name.clone(),
            length: bytes.len() as u64,
            sha256: Digest::of(&bytes),
            custom: custom_digest(&custom),
        };
        let (id, writer) = (manifest.id, Writer::new(self.path("payloads")));
        let mut state = writer.reader().state(&id).unwrap().unwrap_or_default();
        let slot = state.writable().unwrap();
        let apply = |state: &mut PayloadState, event: Event| {
            *state = state.apply(&event).unwrap();
            writer.save_state(&id, state).unwrap();
        };
        fs::create_dir_all(self.path("payloads")).unwrap();
        apply(&mut state, Event::WriteStarted { slot });
        let download = self.path("download");
        fs::write(&download, &bytes).unwrap();
        let export = |folder: &Path| {
            self.write_chain(folder, &name.to_string(), &bytes, custom, vendor_key);
            Ok(())
        };
        writer.write_slot(&id, &state, slot, &release, &download, export).unwrap();
        apply(&mut state, Event::Installed { slot, release, boots: 3 });
        apply(&mut state, Event::TrialStarted { slot });
        if committed {
            apply(&mut state, Event::Confirmed { slot });
        }
        slot
    }

    /// The bytes of a slot.
    pub(crate) fn slot_file(&self, id: &str, slot: Slot) -> PathBuf {
        self.path("payloads").join(id).join(slot.as_str()).join("payload.wasm")
    }

    pub(crate) fn supervisor(&self) -> Bench {
        let edges = Edges {
            cells: Box::new(OpenCells),
            runner: env!("CARGO_BIN_EXE_iotwasm-runner").into(),
            verifier: Verifier {
                store: Reader::new(self.path("payloads")),
                pinned_root: self.path("root.json"),
                board: BOARD.into(),
            },
            capabilities: Box::new(self.door.clone()),
            journal: Rc::new(Journal::at(&self.path("journal"))),
            storage: Rules {
                root: self.path("storage"),
                check: Duration::from_millis(50),
                reserve: 0,
                ledger: Rc::default(),
            },
            settings: config::Runner::default(),
        };
        let notices = Rc::new(Notices::new("dev-1".into(), Registry::in_dir(&self.path("metrics"), "s")));
        let (_, events) = notices.subscribe();
        let supervisor = Rc::new(Supervisor::new(Rc::new(edges), notices));
        Bench { supervisor, events }
    }
}

/// A supervisor and the events of it since it began.
pub(crate) struct Bench {
    pub(crate) supervisor: Rc<Supervisor>,
    pub(crate) events: mpsc::Receiver<Notice>,
}

impl Bench {
    /// Boot a device that is configured to run the payloads of the tests.
    pub(crate) async fn boot(&self) {
        let wanted =
            ["probe", "first", "second"].map(|id| Wanted { id: id.parse().unwrap(), vendor: "acme".parse().unwrap() });
        self.supervisor.boot(&wanted).await;
    }

    /// Wait for an event that fits.
    pub(crate) async fn event(&mut self, what: &str, fits: impl Fn(&PayloadStatus) -> bool) -> PayloadStatus {
        let mut seen = Vec::new();
        let wait = async {
            loop {
                let event = self.events.recv().await.expect("the events are read fast enough").status;
                if fits(&event) {
                    return event;
                }
                seen.push((event.phase, event.reason, event.message));
            }
        };
        match tokio::time::timeout(PATIENCE, wait).await {
            Ok(status) => status,
            Err(_) => panic!("no event shows that it is {what}; seen: {seen:?}"),
        }
    }
}

/// A payload in the making.
#[derive(Clone)]
pub(crate) struct Payload {
    pub(crate) id: &'static str,
    pub(crate) version: &'static str,
    pub(crate) style: &'static str,
    pub(crate) boards: Vec<String>,
    /// Lines below the manifest's head.
    pub(crate) settings: String,
    pub(crate) wat: String,
}

/// The imports that every payload may have, a memory, and a message of eleven bytes at 0.
const HEAD: &str = r#"
    (import "iotwasm" "iotwasm_health" (func $health (param i32 i32 i32) (result i32)))
    (import "iotwasm" "iotwasm_log" (func $log (param i32 i32 i32) (result i32)))
    (import "iotwasm" "iotwasm_wait" (func $wait (param i64) (result i32)))
    (import "iotwasm" "iotwasm_hold_restart" (func $hold (param i32) (result i32)))
"#;
const BODY: &str = r#"
    (memory (export "memory") 1)
    (data (i32.const 0) "all is well")
    (func $report (drop (call $health (i32.const 0) (i32.const 0) (i32.const 11))))
"#;

/// Report health every few milliseconds until told to stop.
pub(crate) const WORK: &str = "(loop $l (call $report) (br_if $l (i32.ne (call $wait (i64.const 20)) (i32.const -4))))";
/// Spin for ever.
pub(crate) const SPIN: &str = "(loop $l (br $l))";

impl Payload {
    /// A reactor whose self-test and run are these.
    pub(crate) fn reactor(self_test: &str, run: &str) -> Self {
        Self::with("", self_test, run)
    }

    /// A reactor with further imports and definitions.
    pub(crate) fn with(more: &str, self_test: &str, run: &str) -> Self {
        let (imports, rest) = more.split_once("---").unwrap_or(("", more));
        let wat = format!(
            r#"(module {HEAD} {imports} {BODY} {rest}
                (func (export "iotwasm_self_test") (result i32) {self_test})
                (func (export "iotwasm_run") {run}))"#
        );
        Self::of("reactor", wat)
    }

    /// A command whose `_start` is this.
    pub(crate) fn command(start: &str) -> Self {
        Self::of("command", format!(r#"(module {HEAD} {BODY} (func (export "_start") {start}))"#))
    }

    fn of(style: &'static str, wat: String) -> Self {
        Self { id: "probe", version: "1.0.0", style, boards: vec![], settings: String::new(), wat }
    }

    pub(crate) fn id(mut self, id: &'static str) -> Self {
        self.id = id;
        self
    }

    pub(crate) fn version(mut self, version: &'static str) -> Self {
        self.version = version;
        self
    }

    pub(crate) fn settings(mut self, settings: &str) -> Self {
        self.settings = settings.into();
        self
    }

    fn manifest(&self) -> String {
        format!(
            "id = {:?}\nvendor = \"acme\"\nversion = {:?}\nentry = {{ style = {:?} }}\n{}\n",
            self.id, self.version, self.style, self.settings
        )
    }

    pub(crate) fn pack(&self) -> Vec<u8> {
        let wasm = wat::parse_str(&self.wat).unwrap();
        iotwasm_payload::pack(&wasm, &self.manifest()).unwrap()
    }
}

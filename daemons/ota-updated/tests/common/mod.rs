//! A device in a folder: a repository on a web server, a supervisor that plays, and the daemon between them.

#![allow(
    dead_code,
    unreachable_pub,
    missing_docs,
    clippy::unwrap_used,
    clippy::allow_attributes,
    reason = "test code, of which each test binary uses its own part"
)]

pub mod bus;
pub mod firmware;
pub mod repo;
pub mod supervisor;
pub mod web;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use iotwasm_api::ota::{Attempt, Outcome, PayloadInfo};
use iotwasm_kit::metrics::Registry;
use iotwasm_payload::Wanted;
use iotwasm_payload::slot::PayloadState;
use iotwasm_payload::store::Reader;
use ota_updated::config::Config;
use ota_updated::shared::Shared;
use ota_updated::{Daemon, Places, Settings};

use repo::TestRepo;
use supervisor::{Supervisor, Up};
use web::Web;

/// How long anything may take: far more than it does, because machines that test are busy.
pub const LIMIT: Duration = Duration::from_secs(60);

/// Something to be called at a certain point of somebody else's work.
pub type Hook = std::sync::Arc<dyn Fn(&str) + Send + Sync>;

pub const BOARD: &str = "qemu-x86-64";

/// Waits for a condition.
#[track_caller]
pub fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let end = Instant::now() + LIMIT;
    while !condition() {
        assert!(Instant::now() < end, "waited in vain until {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

pub struct World {
    pub dir: tempfile::TempDir,
    pub repo: TestRepo,
    pub web: Web,
    pub supervisor: Supervisor,
    pub up: Option<Up>,
    pub config: Config,
    pub wanted: Vec<&'static str>,
    /// How long the device has been running, as it says.
    pub uptime: fn() -> Duration,
    pub daemon: Option<Daemon>,
}

impl World {
    /// A device that is to run `blinky`, with nothing installed and nothing published.
    pub fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let repo = TestRepo::new(&dir.path().join("repo"));
        let web = Web::serve(dir.path().join("repo"));
        let data = dir.path().join("data");
        std::fs::create_dir_all(data.join("payloads")).unwrap();
        std::fs::write(dir.path().join("root.json"), repo.root_json()).unwrap();
        let supervisor = Supervisor::new(data.join("payloads"), dir.path().join("supervisor.sock"));
        let config = Config {
            repositories: vec![web.url.clone()],
            first_check_s: 0,
            connect_timeout_s: 5,
            stall_timeout_s: 5,
            supervisor_patience_s: 30,
            disk_reserve_kib: 0,
            ..Config::default()
        };
        let up = Some(supervisor.up());
        Self { dir, repo, web, supervisor, up, config, wanted: vec!["blinky"], uptime: || Duration::ZERO, daemon: None }
    }

    pub fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    pub fn settings(&self) -> Settings {
        let settings = settings(self.dir.path(), &self.data(), &self.config, &self.wanted);
        Settings { uptime: self.uptime, ..settings }
    }

    /// Starts the daemon, which checks at once.
    pub fn start(&mut self) -> &Self {
        self.daemon = Some(start(self.dir.path(), self.settings()));
        self
    }

    pub fn stop(&mut self) {
        if let Some(daemon) = self.daemon.take() {
            daemon.stop();
        }
    }

    pub fn shared(&self) -> &Shared {
        self.daemon.as_ref().unwrap().shared()
    }

    /// Orders a check and waits until one that began after the order has ended.
    #[track_caller]
    pub fn check(&self) {
        // Counted before the order, for the check may begin before we look; nothing else begins one meanwhile.
        until("no check is under way", || !self.shared().is_checking());
        let requests = self.web.requests_of(".root.json").len();
        self.daemon.as_ref().unwrap().check_now();
        until("a check has begun", || self.web.requests_of(".root.json").len() > requests);
        until("the check has ended", || !self.shared().is_checking());
    }

    #[track_caller]
    pub fn until_committed(&self, version: &str) {
        until(&format!("{version} is committed"), || self.payload().committed == version);
        until("its history says so", || {
            self.attempts().iter().any(|a| a.outcome == Outcome::Committed && a.version == version)
        });
        let runs = || self.supervisor.runs("blinky").is_some_and(|(v, _, trial)| v == version && !trial);
        until("it runs as committed", runs);
    }

    pub fn payload(&self) -> PayloadInfo {
        self.shared().status().payloads.into_iter().find(|p| p.payload == "blinky").unwrap()
    }

    pub fn attempts(&self) -> Vec<Attempt> {
        self.shared().attempts(None, None, 1000)
    }

    /// Waits for an attempt that came to this outcome, and gives the newest one.
    #[track_caller]
    pub fn until_outcome(&self, outcome: Outcome) -> Attempt {
        until(outcome.as_str(), || self.attempts().iter().any(|a| a.outcome == outcome));
        self.attempts().into_iter().find(|a| a.outcome == outcome).unwrap()
    }

    /// What the disk says.
    pub fn state(&self) -> PayloadState {
        state(&self.data(), "blinky")
    }

    pub fn downloads(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.data().join("download")).unwrap();
        entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect()
    }

    pub fn metrics(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("ota-updated.prom")).unwrap()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.stop();
    }
}

pub fn settings(dir: &Path, data: &Path, config: &Config, wanted: &[&str]) -> Settings {
    Settings {
        config: config.clone(),
        wanted: wanted.iter().map(|id| Wanted { id: id.parse().unwrap(), vendor: "acme".parse().unwrap() }).collect(),
        places: Places {
            pinned_root: dir.join("root.json"),
            metadata: data.join("metadata"),
            downloads: data.join("download"),
            history: data.join("history.json"),
            payloads: data.join("payloads"),
            supervisor: dir.join("supervisor.sock"),
            firmware_state: data.join("firmware.json"),
            booted_slot: dir.join("run/slot"),
            trial_boot: dir.join("run/trial"),
            unordered_boot: dir.join("run/unordered"),
            os_release: dir.join("run/os-release"),
            rauc_config: dir.join("run/system.conf"),
            reboot: dir.join("run/reboot"),
            kept: dir.join("run/kept"),
            restart_due: dir.join("run/restart-due"),
            bus: format!("unix:path={}", dir.join("bus.sock").display()),
            block_devices: dir.join("run/block"),
            power_supplies: dir.join("run/power"),
        },
        build_time: "2026-01-01T00:00:00Z".parse().unwrap(),
        uptime: || Duration::ZERO,
    }
}

pub fn start(dir: &Path, settings: Settings) -> Daemon {
    let metrics = Registry::in_dir(dir, "ota-updated");
    let shared = Shared::new("dev-1".into(), BOARD.into(), settings.places.history.clone(), metrics);
    Daemon::start(settings, shared).unwrap()
}

pub fn state(data: &Path, id: &str) -> PayloadState {
    Reader::new(data.join("payloads")).state(&id.parse().unwrap()).unwrap().unwrap_or_default()
}

/// Copies a folder as it is at this moment.
pub fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

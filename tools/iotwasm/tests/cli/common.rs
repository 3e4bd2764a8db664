//! A bench for the command: folders of its own, the binary, and a client that judges what it publishes.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use iotwasm_trust::{Fetch, FetchError, Limits, Target, Time, Updater};
use tempfile::TempDir;

/// The smallest good payload.
const GOOD: &str = r#"(module
    (import "iotwasm" "iotwasm_wait" (func $wait (param i64) (result i32)))
    (memory (export "memory") 1 1)
    (func (export "iotwasm_self_test") (result i32) (i32.const 0))
    (func (export "iotwasm_run") (loop $again (br_if $again (i32.eqz (call $wait (i64.const 1000)))))))"#;

pub(crate) struct Bench {
    pub(crate) dir: TempDir,
}

/// What a run of the command came to.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl From<Output> for Run {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code().unwrap_or(-1),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

impl Run {
    #[track_caller]
    pub(crate) fn ok(self) -> Self {
        assert_eq!(self.code, 0, "{self:#?}");
        self
    }

    #[track_caller]
    pub(crate) fn fails(self, code: i32, words: &str) -> Self {
        assert_eq!(self.code, code, "{self:#?}");
        assert!(self.err.contains(words), "{words:?} is not in {self:#?}");
        self
    }
}

impl Bench {
    pub(crate) fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    /// With keys and a repository of the vendor acme.
    pub(crate) fn with_repository() -> Self {
        let bench = Self::new();
        bench.run(&["keys", "generate", "--dir", "keys", "root", "targets", "snapshot", "timestamp", "acme"]).ok();
        bench.repo("init", &["--vendor", "acme"]).ok();
        bench
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_iotwasm"));
        command.args(args).current_dir(self.dir.path());
        command
    }

    pub(crate) fn run(&self, args: &[&str]) -> Run {
        self.command(args).output().unwrap().into()
    }

    /// `iotwasm repo COMMAND --repo repo --keys keys ARGS`
    pub(crate) fn repo(&self, command: &str, args: &[&str]) -> Run {
        let mut all = vec!["repo", command, "--repo", "repo", "--keys", "keys"];
        all.extend(args);
        self.run(&all)
    }

    /// Packs the good payload as this version of acme's counter; returns the file's name.
    pub(crate) fn payload(&self, version: &str) -> String {
        self.payload_of("acme", "counter", version, "")
    }

    pub(crate) fn payload_of(&self, vendor: &str, id: &str, version: &str, more: &str) -> String {
        std::fs::write(self.path("good.wasm"), wat::parse_str(GOOD).unwrap()).unwrap();
        let manifest =
            format!("id = '{id}'\nvendor = '{vendor}'\nversion = '{version}'\n{more}\n[entry]\nstyle = 'reactor'\n");
        std::fs::write(self.path("manifest.toml"), manifest).unwrap();
        let name = format!("{id}-{version}.wasm");
        self.run(&["payload", "pack", "--wasm", "good.wasm", "--manifest", "manifest.toml", "-o", &name]).ok();
        name
    }

    /// A client that trusts the first root and has nothing yet.
    pub(crate) fn device(&self) -> Device {
        Device::new(self.path("repo"), &self.path("repo/metadata/1.root.json"))
    }

    pub(crate) fn keys_of(&self, role: &str) -> Vec<PathBuf> {
        let mut files: Vec<PathBuf> = std::fs::read_dir(self.path("keys"))
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.file_name().unwrap().to_str().unwrap().starts_with(&format!("{role}-")))
            .collect();
        files.sort();
        files
    }
}

/// The files of a repository, as a web server gives them.
struct Folder(PathBuf);

impl Fetch for Folder {
    fn fetch(&mut self, path: &str, max: u64) -> Result<Vec<u8>, FetchError> {
        match std::fs::read(self.0.join("metadata").join(path)) {
            Ok(bytes) if bytes.len() as u64 > max => Err(FetchError::TooLong { limit: max }),
            Ok(bytes) => Ok(bytes),
            Err(_) => Err(FetchError::NotFound),
        }
    }
}

/// The project's own client: what it accepts, devices do.
pub(crate) struct Device {
    repo: PathBuf,
    updater: Updater<Folder>,
    _store: TempDir,
}

impl Device {
    pub(crate) fn new(repo: PathBuf, root: &Path) -> Self {
        let store = tempfile::tempdir().unwrap();
        let time = Time::system("2026-01-01T00:00:00Z".parse().unwrap());
        let root = std::fs::read(root).unwrap();
        let updater = Updater::open(store.path(), &root, time, Limits::default(), Folder(repo.clone())).unwrap();
        Self { repo, updater, _store: store }
    }

    /// Refreshes; the error in words if it is refused.
    pub(crate) fn refresh(&mut self) -> Result<(), String> {
        self.updater.refresh().map(|_| ()).map_err(|err| iotwasm_kit::report::chain(&err))
    }

    /// Everything of a payload that a refresh finds, with each file read and verified.
    #[track_caller]
    pub(crate) fn sees(&mut self, pattern: &str) -> Vec<Target> {
        self.refresh().unwrap();
        let targets = self.updater.search(pattern).unwrap();
        for target in &targets {
            let bytes = std::fs::read(self.repo.join("targets").join(&target.remote_path)).unwrap();
            target.verify(&bytes).unwrap();
        }
        targets
    }

    #[track_caller]
    pub(crate) fn names(&mut self, pattern: &str) -> Vec<String> {
        self.sees(pattern).into_iter().map(|target| target.name).collect()
    }
}

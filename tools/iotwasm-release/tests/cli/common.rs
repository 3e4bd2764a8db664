//! A bench for the command: a tree, a kernel that is a PE image of the build root, and test keys that are made once.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use iotwasm_firmware::Release;
use tempfile::TempDir;

const KERNEL: &str = "/usr/lib/systemd/boot/efi/systemd-bootx64.efi";
pub(crate) const RUNNER: &str = "usr/libexec/iotwasm/iotwasm-runner";

pub(crate) struct Bench {
    pub(crate) dir: TempDir,
}

#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
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

/// Runs any program.
pub(crate) fn run(command: &mut Command) -> Run {
    let program = command.get_program().to_string_lossy().into_owned();
    let output =
        command.output().unwrap_or_else(|err| panic!("{program} (is it in scripts/buildroot.packages?): {err}"));
    Run {
        code: output.status.code().unwrap_or(-1),
        out: String::from_utf8_lossy(&output.stdout).into_owned(),
        err: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

pub(crate) fn release_command() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_iotwasm-release"));
    command.env_remove("SOURCE_DATE_EPOCH");
    command
}

/// Bytes that do not compress, the same for the same seed.
pub(crate) fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(2).wrapping_add(1);
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as u8
    };
    (0..length).map(|_| next()).collect()
}

/// Test keys, made once for all tests of a run.
pub(crate) fn keys() -> &'static Path {
    static KEYS: OnceLock<TempDir> = OnceLock::new();
    let dir = KEYS.get_or_init(|| {
        let dir = tempfile::tempdir().unwrap();
        run(release_command().arg("keys").arg("--out").arg(dir.path().join("keys"))).ok();
        dir
    });
    // The folder lives as long as the process: nothing else could say when the last test is done with it.
    Box::leak(dir.path().join("keys").into_boxed_path())
}

impl Bench {
    pub(crate) fn new() -> Self {
        let bench = Self { dir: tempfile::tempdir().unwrap() };
        bench.write("initrd", &noise(1, 3000), 0o644);
        bench.write("os-release", b"ID=test\n", 0o644);
        bench.tree("tree");
        bench
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, bytes: &[u8], mode: u32) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, bytes).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    }

    /// A root tree with one of everything that matters.
    pub(crate) fn tree(&self, name: &str) {
        let files: [(&str, &[u8], u32); 10] = [
            ("usr/bin/tool", b"#!/bin/sh\nexit 0\n", 0o755),
            ("usr/bin/ota-updated", &noise(2, 70_000), 0o755),
            (RUNNER, &noise(3, 50_000), 0o711),
            ("usr/lib/libc.so.6", b"\x7fELF and so on", 0o644),
            ("usr/lib/modules/6.12/a.ko.xz", b"\xfd7zXZ", 0o644),
            ("usr/lib/os-release", b"ID=test\nIMAGE_VERSION=1.2.3\n", 0o644),
            ("etc/rauc/system.conf", b"[system]\ncompatible=test-board\n", 0o644),
            ("usr/share/data", &noise(4, 300_000), 0o644),
            ("etc/a file", b"x", 0o644),
            ("tmp/left-behind", b"by the build", 0o755),
        ];
        for (file, bytes, mode) in files {
            self.write(&format!("{name}/{file}"), bytes, mode);
        }
        for empty in ["proc", "sys", "dev", "run", "boot"] {
            fs::create_dir_all(self.path(name).join(empty)).unwrap();
        }
        std::os::unix::fs::symlink("usr/bin", self.path(name).join("bin")).unwrap();
    }

    /// A build of `tree` into `out`, with a bundle; more arguments may follow, and override.
    pub(crate) fn command(&self, tree: &str, out: &str) -> Command {
        let mut command = self.bare(tree, out);
        for (option, file) in [("cert", "signer.pem"), ("key", "signer.key"), ("intermediate", "intermediate.pem")] {
            command.arg(format!("--rauc-{option}")).arg(keys().join("rauc").join(file));
        }
        command
    }

    /// The same without keys.
    pub(crate) fn bare(&self, tree: &str, out: &str) -> Command {
        let mut command = release_command();
        command.args([
            "build",
            "--kernel",
            KERNEL,
            "--uname",
            "6.12.0",
            "--compatible",
            "test-board",
            "--version",
            "1.2.3",
        ]);
        command.args(["--time", "2026-03-01T00:00:00Z", "--cmdline", "console=ttyS0 quiet", "--esp-size", "34"]);
        for (option, name) in [("root", tree), ("initrd", "initrd"), ("os-release", "os-release"), ("out", out)] {
            command.arg(format!("--{option}")).arg(self.path(name));
        }
        command
    }

    pub(crate) fn build(&self, tree: &str, out: &str) -> Release {
        run(&mut self.command(tree, out)).ok();
        self.release(out)
    }

    pub(crate) fn release(&self, out: &str) -> Release {
        Release::parse(&fs::read(self.path(out).join("release.json")).unwrap()).unwrap()
    }

    pub(crate) fn read(&self, name: &str) -> Vec<u8> {
        fs::read(self.path(name)).unwrap()
    }
}

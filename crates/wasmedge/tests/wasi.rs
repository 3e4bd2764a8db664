//! What a guest reaches through WASI, and what it does not.
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod common;

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use common::{FUEL, instance};
use iotwasm_wasmedge::{Engine, Error, HostModule, Instance, Limits, Outcome, Preopen, Value, Wasi};

/// Opens, and so on, a path that the test wrote to address 1024; each gives WASI's errno.
const WAT: &str = r#"(module
    (import "wasi_snapshot_preview1" "path_open"
        (func $open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "path_unlink_file" (func $unlink (param i32 i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "path_create_directory" (func $mkdir (param i32 i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "path_symlink" (func $symlink (param i32 i32 i32 i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "path_rename" (func $rename (param i32 i32 i32 i32 i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "fd_read" (func $read (param i32 i32 i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "fd_prestat_dir_name" (func $name (param i32 i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "args_sizes_get" (func $args (param i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "environ_sizes_get" (func $envs (param i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "environ_get" (func $env (param i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
    (import "test" "path" (func $path (param i32) (result i32)))
    (import "test" "show" (func $show (param i32 i32)))
    (memory (export "memory") 1)
    (global $length (mut i32) (i32.const 0))
    (func $prepare (global.set $length (call $path (i32.const 1024))))
    ;; oflags: 1 creates; rights: 2 reads, 64 writes
    (func (export "open") (param $dir i32) (param $oflags i32) (param $rights i64) (result i32)
        (call $prepare)
        (call $open (local.get $dir) (i32.const 1) (i32.const 1024) (global.get $length) (local.get $oflags)
            (local.get $rights) (local.get $rights) (i32.const 0) (i32.const 0)))
    (func (export "unlink") (param $dir i32) (result i32)
        (call $prepare) (call $unlink (local.get $dir) (i32.const 1024) (global.get $length)))
    (func (export "mkdir") (param $dir i32) (result i32)
        (call $prepare) (call $mkdir (local.get $dir) (i32.const 1024) (global.get $length)))
    (func (export "symlink") (param $dir i32) (result i32)
        (call $prepare)
        (call $symlink (i32.const 1024) (global.get $length) (local.get $dir) (i32.const 2048) (i32.const 1)))
    (func (export "rename") (param $dir i32) (result i32)
        (call $prepare)
        (call $rename (local.get $dir) (i32.const 1024) (global.get $length) (local.get $dir) (i32.const 2048)
            (i32.const 1)))
    ;; reads from, or writes to, the file opened last
    (func (export "read") (result i32)
        (i32.store (i32.const 16) (i32.const 4096)) (i32.store (i32.const 20) (i32.const 100))
        (if (call $read (i32.load (i32.const 0)) (i32.const 16) (i32.const 1) (i32.const 24)) (then (return (i32.const -1))))
        (call $show (i32.const 4096) (i32.load (i32.const 24)))
        (i32.load (i32.const 24)))
    (func (export "write") (result i32)
        (i32.store (i32.const 16) (i32.const 2048)) (i32.store (i32.const 20) (i32.const 1))
        (call $write (i32.load (i32.const 0)) (i32.const 16) (i32.const 1) (i32.const 24)))
    (func (export "name") (param $dir i32) (result i32)
        (if (call $name (local.get $dir) (i32.const 4096) (i32.const 2)) (then (return (i32.const -1))))
        (call $show (i32.const 4096) (i32.const 2))
        (i32.const 0))
    (func (export "args") (result i32) (drop (call $args (i32.const 32) (i32.const 36))) (i32.load (i32.const 36)))
    (func (export "env") (result i32)
        (drop (call $envs (i32.const 32) (i32.const 36))) (drop (call $env (i32.const 5000) (i32.const 6000)))
        (call $show (i32.const 6000) (i32.load (i32.const 36)))
        (i32.load (i32.const 32)))
    (func (export "exit") (param i32) (call $exit (local.get 0)) (unreachable))
    (data (i32.const 2048) "x"))"#;

struct Guest {
    instance: Instance,
    path: std::sync::mpsc::Sender<Vec<u8>>,
    shown: std::sync::mpsc::Receiver<Vec<u8>>,
}

impl Guest {
    fn new(wasi: &Wasi) -> Self {
        let (path, paths) = std::sync::mpsc::channel::<Vec<u8>>();
        let (show, shown) = std::sync::mpsc::channel();
        let host = HostModule::new("test")
            .function("path", move |caller, (at,): (i32,)| {
                let path = paths.recv().unwrap();
                caller.memory().unwrap().write(at, path.len() as i32).unwrap().copy_from_slice(&path);
                Ok(path.len() as i32)
            })
            .function("show", move |caller, (at, length): (i32, i32)| {
                show.send(caller.memory().unwrap().read(at, length).unwrap().to_vec()).unwrap();
                Ok(())
            });
        Self { instance: instance(FUEL, WAT, vec![host], Some(wasi)), path, shown }
    }

    fn call(&mut self, name: &str, args: &[Value]) -> i32 {
        match self.instance.call(name, args, None).unwrap() {
            Outcome::Returned(values) => match values[..] {
                [Value::I32(v)] => v,
                _ => panic!("{values:?}"),
            },
            other => panic!("{other:?}"),
        }
    }

    /// The descriptor of a preopened directory, whose order is the library's choice.
    fn dir(&mut self, name: &str) -> i32 {
        for dir in [FIRST, FIRST + 1] {
            assert_eq!(self.call("name", &[Value::I32(dir)]), 0);
            // The library leaves out the slash in front; libc in the guest does so too when it looks a path up.
            if self.shown.recv().unwrap() == name.as_bytes()[1..] {
                return dir;
            }
        }
        panic!("{name} is not preopened");
    }

    fn at(&mut self, name: &str, dir: i32, path: &str) -> i32 {
        self.path.send(path.into()).unwrap();
        self.call(name, &[Value::I32(dir)])
    }

    fn open(&mut self, dir: i32, path: &str, oflags: i32, rights: i64) -> i32 {
        self.path.send(path.into()).unwrap();
        self.call("open", &[Value::I32(dir), Value::I32(oflags), Value::I64(rights)])
    }
}

const CREATE: i32 = 1;
const TRUNCATE: i32 = 8;
const READ: i64 = 2;
const WRITE: i64 = 64;
/// Where preopened directories begin.
const FIRST: i32 = 3;

struct Folders {
    _tmp: tempfile::TempDir,
    secret: PathBuf,
    ro: PathBuf,
    rw: PathBuf,
}

fn folders() -> Folders {
    let tmp = tempfile::tempdir().unwrap();
    let make = |name: &str| {
        let path = tmp.path().join(name);
        fs::create_dir(&path).unwrap();
        path
    };
    let (ro, rw) = (make("ro"), make("rw"));
    let secret = tmp.path().join("secret");
    fs::write(&secret, "secret").unwrap();
    fs::write(ro.join("plain"), "hello").unwrap();
    for dir in [&ro, &rw] {
        symlink("../secret", dir.join("relative")).unwrap();
        symlink(&secret, dir.join("absolute")).unwrap();
        symlink(tmp.path(), dir.join("up")).unwrap();
    }
    Folders { secret, ro, rw, _tmp: tmp }
}

fn preopen(guest: &str, host: &Path, read_only: bool) -> Preopen {
    Preopen { guest: guest.into(), host: host.into(), read_only }
}

fn both(folders: &Folders) -> Wasi {
    let preopens = vec![preopen("/ro", &folders.ro, true), preopen("/rw", &folders.rw, false)];
    Wasi { environment: vec![("COLOUR".into(), "blue=green".into())], preopens }
}

#[test]
fn a_read_only_directory_is_read() {
    let folders = folders();
    let mut guest = Guest::new(&both(&folders));
    let ro = guest.dir("/ro");
    assert_eq!(guest.open(ro, "plain", 0, READ), 0);
    assert_eq!(guest.call("read", &[]), 5);
    assert_eq!(guest.shown.recv().unwrap(), b"hello");
}

#[test]
fn a_read_only_directory_is_not_written() {
    let folders = folders();
    let mut guest = Guest::new(&both(&folders));
    let ro = guest.dir("/ro");
    assert_ne!(guest.open(ro, "new", CREATE, WRITE), 0);
    assert_ne!(guest.open(ro, "new", CREATE, READ), 0);
    assert_ne!(guest.at("unlink", ro, "plain"), 0);
    assert_ne!(guest.at("mkdir", ro, "folder"), 0);
    assert_ne!(guest.at("symlink", ro, "/etc"), 0);
    assert_ne!(guest.at("rename", ro, "plain"), 0);
    if guest.open(ro, "plain", 0, READ | WRITE) == 0 {
        assert_ne!(guest.call("write", &[]), 0);
    }
    let truncated = guest.open(ro, "plain", TRUNCATE, READ | WRITE);
    assert_eq!(fs::read(folders.ro.join("plain")).unwrap(), b"hello", "truncation gave {truncated}");
    assert_eq!(fs::read_dir(&folders.ro).unwrap().count(), 4);
}

#[test]
fn a_read_write_directory_is_written() {
    let folders = folders();
    let mut guest = Guest::new(&both(&folders));
    let rw = guest.dir("/rw");
    assert_eq!(guest.open(rw, "new", CREATE, READ | WRITE), 0);
    assert_eq!(guest.call("write", &[]), 0);
    assert_eq!(fs::read(folders.rw.join("new")).unwrap(), b"x");
    assert_eq!(guest.at("mkdir", rw, "folder"), 0);
    assert_eq!(guest.at("unlink", rw, "new"), 0);
    assert!(!folders.rw.join("new").exists() && folders.rw.join("folder").is_dir());
}

#[test]
fn no_path_leads_out_of_a_directory() {
    let folders = folders();
    let mut guest = Guest::new(&both(&folders));
    let (ro, rw) = (guest.dir("/ro"), guest.dir("/rw"));
    let secret = folders.secret.to_str().unwrap().to_owned();
    for dir in [ro, rw] {
        for path in
            ["../secret", "up/secret", "relative", "absolute", "./../secret", "up/../secret", &secret, "/etc/passwd"]
        {
            assert_ne!(guest.open(dir, path, 0, READ), 0, "{dir} {path}");
        }
    }
    // Nor through a link that the guest made.
    if guest.at("symlink", rw, "../secret") == 0 {
        assert_ne!(guest.open(rw, "x", 0, READ), 0);
        assert_eq!(guest.at("unlink", rw, "x"), 0);
    }
    if guest.at("symlink", rw, "/etc") == 0 {
        assert_ne!(guest.open(rw, "x/passwd", 0, READ), 0);
    }
    assert_ne!(guest.open(rw, "../ro/new", CREATE, WRITE), 0);
    // There is no third directory.
    assert_ne!(guest.open(FIRST + 2, "plain", 0, READ), 0);
    assert_eq!(fs::read(&folders.secret).unwrap(), b"secret");
}

#[test]
fn arguments_and_environment_are_not_inherited() {
    let folders = folders();
    let mut guest = Guest::new(&both(&folders));
    // One argument of one byte: an empty program name, which the library puts there by itself.
    assert_eq!(guest.call("args", &[]), 1);
    assert_eq!(guest.call("env", &[]), 1);
    assert_eq!(guest.shown.recv().unwrap(), b"COLOUR=blue=green\0");
    let mut bare = Guest::new(&Wasi::default());
    assert_eq!(bare.call("env", &[]), 0);
    assert_ne!(bare.open(FIRST, "plain", 0, READ), 0);
}

#[test]
fn an_exit_code_is_an_outcome() {
    for code in [0, 7] {
        let mut guest = Guest::new(&Wasi::default());
        let outcome = guest.instance.call("exit", &[Value::I32(code)], None).unwrap();
        assert_eq!(outcome, Outcome::Exited(code as u32));
    }
}

#[test]
fn texts_that_would_change_the_meaning_of_a_preopen_are_refused() {
    let folders = folders();
    let engine = Engine::new(Limits { fuel: FUEL, memory_pages: 1 }).unwrap();
    let module = engine.load(b"\0asm\x01\0\0\0").unwrap();
    let refused = |wasi: Wasi| module.instantiate(vec![], Some(&wasi)).map(drop).unwrap_err();
    let with = |preopen| Wasi { preopens: vec![preopen], ..Wasi::default() };
    let colon = folders.rw.join("a:b");
    fs::create_dir(&colon).unwrap();
    assert!(matches!(refused(with(preopen("/a", &colon, true))), Error::Text { .. }));
    assert!(matches!(refused(with(preopen("/a:/etc", &folders.ro, true))), Error::Text { .. }));
    assert!(matches!(refused(with(preopen("/a\0", &folders.ro, true))), Error::Text { .. }));
    assert!(matches!(refused(with(preopen("/a", &folders.secret, true))), Error::Preopen { .. }));
    assert!(matches!(refused(with(preopen("/a", &folders.ro.join("none"), true))), Error::Preopen { .. }));
    let environment = vec![("A=B".to_owned(), "c".to_owned())];
    assert!(matches!(refused(Wasi { environment, ..Wasi::default() }), Error::Text { .. }));
}

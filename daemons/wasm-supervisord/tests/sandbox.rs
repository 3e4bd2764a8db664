//! A hostile program in the runner's place: the same sandbox, then everything it must not do. Each act is first done
//! without the sandbox, where it succeeds: an act that fails anyway would prove nothing.

use std::{
    fs, io,
    net::UdpSocket,
    os::unix::{net::UnixListener, process::CommandExt, process::ExitStatusExt},
    path::Path,
    process::{Command, ExitCode, ExitStatus},
};

use wasm_supervisord::sandbox::{self, Rules};

/// Exit codes of the child.
const DONE: u8 = 0;
const DENIED: u8 = 13;

/// What may become of an act in the sandbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Done,
    Denied,
    /// Ended by the system call filter.
    Killed,
}

const ACTS: &[(&str, Fate)] = &[
    ("read own folder", Fate::Done),
    ("write own folder", Fate::Done),
    ("make a thread", Fate::Done),
    ("read fixed folder", Fate::Done),
    ("write fixed folder", Fate::Denied),
    ("read the password file", Fate::Denied),
    ("list the root", Fate::Denied),
    ("make a file elsewhere", Fate::Denied),
    ("make a long file", Fate::Denied),
    ("open a network socket", Fate::Killed),
    ("open a local socket", Fate::Killed),
    ("run a program", Fate::Killed),
    ("become a program", Fate::Killed),
    ("signal its parent", Fate::Killed),
    ("make memory executable", Fate::Killed),
];

fn act(name: &str, own: &Path, fixed: &Path) -> io::Result<()> {
    match name {
        "read own folder" => fs::read(own.join("there")).map(drop),
        "write own folder" => fs::write(own.join("new"), "x"),
        "make a thread" => std::thread::Builder::new().spawn(|| {})?.join().map_err(|_| io::Error::other("panicked")),
        "read fixed folder" => fs::read(fixed.join("there")).map(drop),
        "write fixed folder" => fs::write(fixed.join("new"), "x"),
        "read the password file" => fs::read("/etc/passwd").map(drop),
        "list the root" => fs::read_dir("/").map(drop),
        "make a file elsewhere" => fs::write(own.with_file_name("elsewhere"), "x"),
        "make a long file" => fs::File::create(own.join("long"))?.set_len(1024 * 1024),
        "open a network socket" => UdpSocket::bind("127.0.0.1:0").map(drop),
        "open a local socket" => UnixListener::bind(own.join("socket")).map(drop),
        "run a program" => Command::new("/bin/true").status().map(drop),
        // On success the other program's exit code is ours.
        "become a program" => Err(Command::new("/bin/true").exec()),
        "signal its parent" => {
            let parent = rustix::process::getppid().ok_or(io::ErrorKind::NotFound)?;
            Ok(rustix::process::test_kill_process(parent)?)
        }
        "make memory executable" => memmap2::MmapMut::map_anon(4096)?.make_exec().map(drop),
        _ => unreachable!("no such act"),
    }
}

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().collect();
    if let [_, marker, name, sandboxed, own, fixed] = &args[..]
        && marker == "--act"
    {
        return child(name, sandboxed == "true", Path::new(own), Path::new(fixed));
    }
    if !sandbox::is_available() {
        eprintln!("SKIPPED: this kernel has no Landlock, so no runner starts");
        return ExitCode::SUCCESS;
    }
    let mut failures = 0;
    for (name, fate) in ACTS {
        let without = fate_of(run(name, false));
        let within = fate_of(run(name, true));
        let ok = without == Some(Fate::Done) && within == Some(*fate);
        println!("sandbox: {name}: without {without:?}, within {within:?}{}", if ok { "" } else { ", WRONG" });
        failures += u32::from(!ok);
    }
    if failures == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn run(name: &str, sandboxed: bool) -> ExitStatus {
    let dir = tempfile::tempdir().expect("a folder");
    let (own, fixed) = (dir.path().join("own"), dir.path().join("fixed"));
    for folder in [&own, &fixed] {
        fs::create_dir(folder).expect("a folder");
        fs::write(folder.join("there"), "x").expect("a file");
    }
    Command::new(std::env::current_exe().expect("own path"))
        .args(["--act", name, if sandboxed { "true" } else { "false" }])
        .args([&own, &fixed])
        .status()
        .expect("the child runs")
}

fn fate_of(status: ExitStatus) -> Option<Fate> {
    match (status.code(), status.signal()) {
        (Some(code), _) if code == i32::from(DONE) => Some(Fate::Done),
        (Some(code), _) if code == i32::from(DENIED) => Some(Fate::Denied),
        (_, Some(libc::SIGSYS)) => Some(Fate::Killed),
        // The kernel's own answer to a file beyond the limit.
        (_, Some(libc::SIGXFSZ)) => Some(Fate::Denied),
        _ => None,
    }
}

fn child(name: &str, sandboxed: bool, own: &Path, fixed: &Path) -> ExitCode {
    if sandboxed {
        let directories = [(own, true), (fixed, false)];
        let rules = Rules { directories: &directories, data_bytes: 256 << 20, file_bytes: 64 * 1024, open_files: 64 };
        if let Err(err) = sandbox::enter(&rules).and_then(|()| sandbox::seal()) {
            eprintln!("{}", iotwasm_kit::report::chain(&err));
            return ExitCode::FAILURE;
        }
    }
    match act(name, own, fixed) {
        Ok(()) => ExitCode::from(DONE),
        Err(err) if err.kind() == io::ErrorKind::PermissionDenied => ExitCode::from(DENIED),
        Err(err) => {
            eprintln!("{name}: {err}");
            ExitCode::FAILURE
        }
    }
}

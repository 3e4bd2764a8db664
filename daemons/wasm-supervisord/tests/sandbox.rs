//! A hostile program in the runner's place: the same sandbox, then everything it must not do. Each act is first done
//! without the sandbox, where it succeeds: an act that fails anyway would prove nothing. And the same for what the
//! supervisor gives up for itself and for everything that it starts.

use std::{
    fs, io,
    io::IsTerminal,
    net::UdpSocket,
    os::unix::{
        net::{UnixDatagram, UnixListener, UnixStream},
        process::{CommandExt, ExitStatusExt},
    },
    path::Path,
    process::{Command, ExitCode, ExitStatus},
};

use gpiocdev_uapi::v2::{LineConfig, LineValues, get_line_values, set_line_config, set_line_values};
use landlock::{CompatLevel, Compatible, Ruleset, RulesetAttr, Scope};
use rustix::process::{PidfdFlags, Resource, Signal};
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

/// In the supervisor's place.
const SUPERVISED: &[(&str, Fate)] = &[
    ("read the level of a line", Fate::Done),
    ("set the level of a line", Fate::Done),
    ("turn a line round", Fate::Denied),
    ("let a child turn a line round", Fate::Denied),
    ("make a socket non-blocking", Fate::Done),
    ("ask for a terminal", Fate::Done),
    ("run a program", Fate::Done),
];

/// In the place of the thread that starts a runner.
const STARTED: &[(&str, Fate)] = &[
    ("make a thread", Fate::Done),
    ("run a program", Fate::Done),
    ("make a pair of sockets", Fate::Denied),
    ("open a local socket", Fate::Denied),
    ("signal its parent by descriptor", Fate::Denied),
    ("limit itself", Fate::Done),
    ("limit its parent", Fate::Denied),
    ("move a file to another folder", Fate::Done),
    ("end itself", Fate::Done),
];

/// The same, where the kernel's Landlock knows signals.
const SCOPED: &[(&str, Fate)] = &[("signal its parent", Fate::Denied)];

/// In a runner's place.
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
    ("read the level of a line", Fate::Done),
    ("set the level of a line", Fate::Done),
    ("turn a line round", Fate::Killed),
    ("ask for a terminal", Fate::Done),
    ("open a network socket", Fate::Killed),
    ("open a local socket", Fate::Killed),
    ("run a program", Fate::Killed),
    ("become a program", Fate::Killed),
    ("signal its parent", Fate::Killed),
    ("make memory executable", Fate::Killed),
];

fn act(name: &str, own: &Path, fixed: &Path, line: &fs::File) -> io::Result<()> {
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
        "read the level of a line" => asked(get_line_values(line, &mut LineValues { bits: 0, mask: 1 })),
        "set the level of a line" => asked(set_line_values(line, &LineValues { bits: 1, mask: 1 })),
        "turn a line round" => asked(set_line_config(line, LineConfig::default())),
        "let a child turn a line round" => match fate_of(run("turn a line round", "none")) {
            Some(Fate::Done) => Ok(()),
            Some(Fate::Denied) => Err(io::ErrorKind::PermissionDenied.into()),
            other => Err(io::Error::other(format!("{other:?}"))),
        },
        "make a socket non-blocking" => UnixStream::pair()?.0.set_nonblocking(true),
        "ask for a terminal" => {
            // What it answers depends on where this runs.
            let _ = io::stderr().is_terminal();
            Ok(())
        }
        "open a network socket" => UdpSocket::bind("127.0.0.1:0").map(drop),
        "open a local socket" => UnixListener::bind(own.join("socket")).map(drop),
        "run a program" => Command::new("/bin/true").status().map(drop),
        // On success the other program's exit code is ours.
        "become a program" => Err(Command::new("/bin/true").exec()),
        "signal its parent" => {
            let parent = rustix::process::getppid().ok_or(io::ErrorKind::NotFound)?;
            Ok(rustix::process::test_kill_process(parent)?)
        }
        "make a pair of sockets" => UnixDatagram::pair().map(drop),
        "signal its parent by descriptor" => {
            let parent = rustix::process::getppid().ok_or(io::ErrorKind::NotFound)?;
            let parent = rustix::process::pidfd_open(parent, PidfdFlags::empty())?;
            // One that does nothing to a process that was not stopped.
            Ok(rustix::process::pidfd_send_signal(parent, Signal::CONT)?)
        }
        "limit itself" => Ok(rustix::process::setrlimit(Resource::Core, rustix::process::getrlimit(Resource::Core))?),
        "limit its parent" => {
            let parent = rustix::process::getppid();
            let limit = rustix::process::getrlimit(Resource::Core);
            Ok(rustix::process::prlimit(parent, Resource::Core, limit).map(drop)?)
        }
        "move a file to another folder" => fs::rename(own.join("there"), own.with_file_name("moved")),
        "end itself" => Ok(rustix::process::test_kill_process(rustix::process::getpid())?),
        "make memory executable" => memmap2::MmapMut::map_anon(4096)?.make_exec().map(drop),
        _ => unreachable!("no such act"),
    }
}

/// Whether a device command got to its descriptor.
fn asked(outcome: gpiocdev_uapi::Result<()>) -> io::Result<()> {
    match outcome {
        Err(gpiocdev_uapi::Error::Os(errno)) if errno.0 == libc::ENOTTY => Ok(()),
        Err(gpiocdev_uapi::Error::Os(errno)) => Err(io::Error::from_raw_os_error(errno.0)),
        other => Err(io::Error::other(format!("{other:?}"))),
    }
}

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().collect();
    if let [_, marker, name, sandbox, own, fixed] = &args[..]
        && marker == "--act"
    {
        return child(name, sandbox, Path::new(own), Path::new(fixed));
    }
    let mut failures = try_all("supervisor", SUPERVISED) + try_all("started", STARTED);
    let ruleset = Ruleset::default().set_compatibility(CompatLevel::HardRequirement);
    if ruleset.scope(Scope::Signal).is_ok() {
        failures += try_all("started", SCOPED);
    } else {
        eprintln!("SKIPPED: this kernel's Landlock does not scope signals");
    }
    if sandbox::is_available() {
        failures += try_all("runner", ACTS);
    } else {
        eprintln!("SKIPPED: this kernel has no Landlock, so no runner starts");
    }
    if failures == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Gives how many acts did not have their fate.
fn try_all(sandbox: &str, acts: &[(&str, Fate)]) -> u32 {
    let mut failures = 0;
    for (name, fate) in acts {
        let without = fate_of(run(name, "none"));
        let within = fate_of(run(name, sandbox));
        let ok = without == Some(Fate::Done) && within == Some(*fate);
        println!("{sandbox}: {name}: without {without:?}, within {within:?}{}", if ok { "" } else { ", WRONG" });
        failures += u32::from(!ok);
    }
    failures
}

fn run(name: &str, sandbox: &str) -> ExitStatus {
    let dir = tempfile::tempdir().expect("a folder");
    let (own, fixed) = (dir.path().join("own"), dir.path().join("fixed"));
    for folder in [&own, &fixed] {
        fs::create_dir(folder).expect("a folder");
        fs::write(folder.join("there"), "x").expect("a file");
    }
    Command::new(std::env::current_exe().expect("own path"))
        .args(["--act", name, sandbox])
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

fn child(name: &str, sandbox: &str, own: &Path, fixed: &Path) -> ExitCode {
    // Not a line, but open before the sandbox closes, as a line is that capd hands over: a device command that gets to it
    // is answered with ENOTTY.
    let line = fs::File::open("/dev/null").expect("/dev/null");
    let directories = [(own, true), (fixed, false)];
    let rules = Rules { directories: &directories, data_bytes: 256 << 20, file_bytes: 64 * 1024, open_files: 64 };
    let entered = match sandbox {
        "runner" => sandbox::enter(&rules).and_then(|()| sandbox::seal()),
        "supervisor" => sandbox::ioctls::confine(),
        "started" => sandbox::children::give_up(),
        "none" => Ok(()),
        _ => unreachable!("no such sandbox"),
    };
    if let Err(err) = entered {
        eprintln!("{}", iotwasm_kit::report::chain(&err));
        return ExitCode::FAILURE;
    }
    match act(name, own, fixed, &line) {
        Ok(()) => ExitCode::from(DONE),
        Err(err) if err.kind() == io::ErrorKind::PermissionDenied => ExitCode::from(DENIED),
        Err(err) => {
            eprintln!("{name}: {err}");
            ExitCode::FAILURE
        }
    }
}

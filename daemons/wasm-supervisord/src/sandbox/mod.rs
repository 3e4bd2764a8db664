//! What a runner gives up before it looks at one byte of its payload, and what it never had. Owns the order of the steps
//! and their strictness; knows nothing of WebAssembly.
//!
//! [`hide`] and [`ioctls::confine`] in the supervisor, before it starts anything; [`children::give_up`] in the thread that
//! starts a runner; in the runner [`hide`] first of all, [`enter`] while the process has one thread, then [`seal`]. Nothing
//! here can be undone, and a step that fails ends the runner: half a sandbox is none.

pub mod children;
pub mod ioctls;
pub mod system_calls;
pub mod tracing;

use std::{io, path::Path};

use iotwasm_kit::report::{Code, Failure};
use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible, PathBeneath, PathFd, Ruleset, RulesetAttr,
    RulesetCreated, RulesetCreatedAttr, RulesetStatus, Scope,
};
use rustix::{
    process::{DumpableBehavior, Resource, Rlimit},
    thread::{CapabilitySet, CapabilitySets},
};

/// The oldest Landlock that we run guests under (Linux 6.2): it also governs truncation.
const REQUIRED_ABI: ABI = ABI::V3;
/// The newest Landlock that we know; what an older kernel lacks is left out.
const NEWEST_ABI: ABI = ABI::V7;

/// What the process keeps.
#[derive(Debug, Clone, Copy)]
pub struct Rules<'a> {
    /// Folders it may use, and whether it may write them.
    pub directories: &'a [(&'a Path, bool)],
    /// Most private memory, in bytes.
    pub data_bytes: u64,
    /// Longest file it may write, in bytes.
    pub file_bytes: u64,
    /// Most open descriptors.
    pub open_files: u64,
}

/// The step that failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A resource limit.
    #[error("could not set the limit {what}")]
    Limit {
        /// Which.
        what: &'static str,
        /// The cause.
        #[source]
        err: io::Error,
    },
    /// Capabilities or no_new_privs.
    #[error("could not give up {what}")]
    Privileges {
        /// Which.
        what: &'static str,
        /// The cause.
        #[source]
        err: io::Error,
    },
    /// A folder of the guest.
    #[error("could not open {path}; it is made before the runner starts")]
    Directory {
        /// Which.
        path: String,
        /// The cause.
        #[source]
        err: landlock::PathFdError,
    },
    /// Landlock.
    #[error(
        "could not enter a Landlock domain; the kernel needs CONFIG_SECURITY_LANDLOCK (6.2 or newer) and landlock in its lsm= list"
    )]
    Landlock(#[source] landlock::RulesetError),
    /// Landlock is there but enforces nothing.
    #[error("the kernel does not enforce Landlock; add landlock to its lsm= list")]
    NotEnforced,
    /// The system call filter.
    #[error("could not install the system call filter")]
    SystemCalls(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl Failure for Error {
    fn exit_code(&self) -> Code {
        Code::DeviceMissing
    }
}

/// Let no other process of this user look into this one, at its memory or its descriptors.
///
/// # Errors
/// The kernel refuses.
pub fn hide() -> Result<(), Error> {
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)
        .map_err(|err| Error::Privileges { what: "being dumpable", err: err.into() })
}

/// Give up privileges, bound resources, close the file system and the network. One thread may exist.
///
/// # Errors
/// Names the step; the process must then end.
pub fn enter(rules: &Rules<'_>) -> Result<(), Error> {
    limits(rules)?;
    hide()?;
    let privileges = |what| move |err: rustix::io::Errno| Error::Privileges { what, err: err.into() };
    rustix::thread::set_no_new_privs(true).map_err(privileges("new privileges"))?;
    rustix::thread::clear_ambient_capability_set().map_err(privileges("ambient capabilities"))?;
    let none = CapabilitySet::empty();
    let nothing = CapabilitySets { effective: none, permitted: none, inheritable: none };
    // Under the daemon's own system call filter capset() is refused, and there is nothing to give up.
    let held = rustix::thread::capabilities(None).map_err(privileges("capabilities"))?;
    if held != nothing {
        rustix::thread::set_capabilities(None, nothing).map_err(privileges("capabilities"))?;
    }
    landlock(rules.directories)
}

/// Close the system calls, for every thread that there is or will be.
///
/// # Errors
/// The kernel refuses the filter; the process must then end.
pub fn seal() -> Result<(), Error> {
    system_calls::install().map_err(Error::SystemCalls)
}

fn limits(rules: &Rules<'_>) -> Result<(), Error> {
    for (what, resource, value) in [
        ("core file size", Resource::Core, 0),
        ("open files", Resource::Nofile, rules.open_files),
        ("locked memory", Resource::Memlock, 0),
        ("message queues", Resource::Msgqueue, 0),
        // Not the address space: the engine reserves gigabytes for each memory without using them.
        ("data", Resource::Data, rules.data_bytes),
        ("file size", Resource::Fsize, rules.file_bytes),
    ] {
        let limit = Rlimit { current: Some(value), maximum: Some(value) };
        rustix::process::setrlimit(resource, limit).map_err(|err| Error::Limit { what, err: err.into() })?;
    }
    Ok(())
}

/// Whether this kernel has the Landlock that [`enter`] needs.
#[must_use]
pub fn is_available() -> bool {
    ruleset().is_ok()
}

fn ruleset() -> Result<RulesetCreated, Error> {
    Ruleset::default()
        .set_compatibility(CompatLevel::HardRequirement)
        .handle_access(AccessFs::from_all(REQUIRED_ABI))
        .map_err(Error::Landlock)?
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(NEWEST_ABI))
        .and_then(|ruleset| ruleset.handle_access(AccessNet::from_all(NEWEST_ABI)))
        .and_then(|ruleset| ruleset.scope(Scope::from_all(NEWEST_ABI)))
        .and_then(Ruleset::create)
        .map_err(Error::Landlock)
}

fn landlock(directories: &[(&Path, bool)]) -> Result<(), Error> {
    let mut ruleset = ruleset()?;
    for (path, writable) in directories {
        let fd = PathFd::new(path).map_err(|err| Error::Directory { path: path.display().to_string(), err })?;
        ruleset = ruleset.add_rule(PathBeneath::new(fd, access(*writable))).map_err(Error::Landlock)?;
    }
    let status = ruleset.restrict_self().map_err(Error::Landlock)?;
    if status.ruleset == RulesetStatus::NotEnforced { Err(Error::NotEnforced) } else { Ok(()) }
}

/// Plain files and folders: nothing that runs, no device, no socket.
fn access(writable: bool) -> BitFlags<AccessFs> {
    let read = AccessFs::ReadFile | AccessFs::ReadDir;
    if !writable {
        return read;
    }
    let never = AccessFs::Execute | AccessFs::MakeChar | AccessFs::MakeBlock | AccessFs::MakeSock | AccessFs::MakeFifo;
    AccessFs::from_all(REQUIRED_ABI) & !never
}

//! What no process of a runner has, whatever program runs in the runner's place: ways to other processes and services.
//!
//! A runner shuts itself in before it looks at its payload; this holds even if it does not. The supervisor's user may call
//! capd, and a runner has that user: without this, a program in a runner's place could ask capd for a session of its own.
//! Calls fail instead of ending the process, because the standard library starts programs under this filter.
//!
//! Two walls. The filter takes whole calls away, and those arguments that it can judge. It cannot judge whom `kill` and
//! `tgkill` mean: which process is the own one is not known before it is made, and abort() needs them. That is the part of
//! a Landlock domain, one for each child: what is in it signals and traces nothing outside, neither the supervisor nor
//! another runner. Signals are in it from Linux 6.12 on; before that a program in a runner's place can end its
//! neighbours and the supervisor, which systemd starts again, until the runner's own filter closes that. Where there is no
//! Landlock at all no runner goes on, but a program in its place would.

use std::collections::BTreeMap;

use landlock::{
    Access, AccessFs, BitFlags, CompatLevel, Compatible, PathBeneath, PathFd, Ruleset, RulesetAttr, RulesetCreatedAttr,
    Scope,
};
use seccompiler::{SeccompCmpOp, SeccompRule};

use super::{
    Error, NEWEST_ABI,
    system_calls::{Problem, condition, refusing},
};

/// Ways to speak to anyone but over what was handed over, to look into or act on other processes, and into kernel interfaces
/// that filters cannot see into.
const REFUSED: &[i64] = &[
    libc::SYS_socket,
    // A pair of datagram sockets sends to any path. The standard library starts a program that is named by its path
    // without one.
    libc::SYS_socketpair,
    libc::SYS_connect,
    libc::SYS_bind,
    libc::SYS_listen,
    libc::SYS_accept,
    libc::SYS_accept4,
    // To capd a session whose end is shut looks like one that is closed, and its leases are others' to have.
    libc::SYS_shutdown,
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_pidfd_getfd,
    libc::SYS_kcmp,
    libc::SYS_tkill,
    libc::SYS_rt_sigqueueinfo,
    libc::SYS_rt_tgsigqueueinfo,
    libc::SYS_pidfd_send_signal,
    libc::SYS_process_madvise,
    libc::SYS_process_mrelease,
    libc::SYS_move_pages,
    libc::SYS_migrate_pages,
    libc::SYS_setpriority,
    libc::SYS_ioprio_set,
    libc::SYS_sched_setaffinity,
    libc::SYS_sched_setattr,
    libc::SYS_sched_setparam,
    libc::SYS_sched_setscheduler,
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_userfaultfd,
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_keyctl,
    libc::SYS_open_by_handle_at,
    libc::SYS_unshare,
    libc::SYS_setns,
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
];

/// Commands of fcntl that let a descriptor send signals: any signal, to any process.
const OWNERS: [i32; 3] = [libc::F_SETOWN, F_SETOWN_EX, F_SETSIG];
/// Of asm-generic/fcntl.h, as the next.
const F_SETSIG: i32 = 10;
const F_SETOWN_EX: i32 = 15;

/// Give this up, in this thread and in every process that it starts. Takes new privileges away, too. What two threads start
/// is apart from each other; what one starts is not.
///
/// # Errors
/// The kernel refuses the filter, or the domain where it has Landlock; nothing may be started then.
pub fn give_up() -> Result<(), Error> {
    enter_domain()?;
    install().map_err(Error::SystemCalls)
}

/// As much of a domain as the kernel has: it takes no file away.
fn enter_domain() -> Result<(), Error> {
    // With another domain below it, one that does not speak of moving files between folders forbids it. And a domain has
    // to handle something of files where there are no scopes yet.
    let moving = BitFlags::from(AccessFs::Refer);
    let root = PathFd::new("/").map_err(|err| Error::Directory { path: "/".to_owned(), err })?;
    Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(moving)
        .and_then(|ruleset| ruleset.scope(Scope::from_all(NEWEST_ABI)))
        .and_then(Ruleset::create)
        .and_then(|ruleset| ruleset.add_rule(PathBeneath::new(root, moving)))
        .and_then(|ruleset| ruleset.restrict_self())
        .map_err(Error::Landlock)?;
    Ok(())
}

fn install() -> Result<(), Problem> {
    let mut rules: BTreeMap<_, _> = REFUSED.iter().map(|call| (*call, Vec::new())).collect();
    let owners = OWNERS.map(|command| rule(1, SeccompCmpOp::Eq, command.unsigned_abs().into()));
    rules.insert(libc::SYS_fcntl, owners.into_iter().collect::<Result<_, _>>()?);
    // The limits of other processes; the own ones are those of process 0.
    rules.insert(libc::SYS_prlimit64, vec![rule(0, SeccompCmpOp::Ne, 0)?]);
    Ok(seccompiler::apply_filter(&refusing(rules)?)?)
}

fn rule(argument: u8, compare: SeccompCmpOp, value: u64) -> Result<SeccompRule, Problem> {
    Ok(SeccompRule::new(vec![condition(argument, compare, value)?])?)
}

//! What no process of a runner has, whatever program runs in the runner's place: ways to other processes and services.
//!
//! A runner shuts itself in before it looks at its payload; this holds even if it does not. The supervisor's user may call
//! capd, and a runner has that user: without this, a program in a runner's place could ask capd for a session of its own.
//! Calls fail instead of ending the process, because the standard library starts programs under this filter.

use seccompiler::SeccompAction;

use super::{
    Error,
    system_calls::{Problem, compile},
};

/// Ways to speak to anyone but over what was handed over, to look into or act on other processes, and into kernel interfaces
/// that filters cannot see into.
const REFUSED: &[i64] = &[
    libc::SYS_socket,
    libc::SYS_connect,
    libc::SYS_bind,
    libc::SYS_listen,
    libc::SYS_accept,
    libc::SYS_accept4,
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_pidfd_getfd,
    libc::SYS_kcmp,
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

/// Give these calls up, in this thread and in every process that it starts. Takes new privileges away, too.
///
/// # Errors
/// The kernel refuses the filter; nothing may be started then.
pub fn give_up() -> Result<(), Error> {
    install().map_err(Error::SystemCalls)
}

fn install() -> Result<(), Problem> {
    let rules = REFUSED.iter().map(|call| (*call, Vec::new())).collect();
    let refused = SeccompAction::Errno(libc::EPERM.unsigned_abs());
    Ok(seccompiler::apply_filter(&compile(rules, SeccompAction::Allow, refused)?)?)
}

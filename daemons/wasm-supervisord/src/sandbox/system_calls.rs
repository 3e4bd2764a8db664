//! The system calls that a runner keeps: what the engine's interpreter, WASI within folders, and our own channel need.
//!
//! Everything else ends the process (SIGSYS): a payload cannot make a system call of its own, so a call outside this
//! list means that the engine was broken into. What harmless code only probes for fails softly instead.

use std::{collections::BTreeMap, error::Error};

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    TargetArch, sock_filter,
};

use super::ioctls::{GPIO_GET_VALUES, GPIO_SET_VALUES};

/// Calls that are allowed whatever their arguments.
const PLAIN: &[i64] = &[
    // Memory. No mapping can be executable: see `rules`.
    libc::SYS_brk,
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_madvise,
    // Files that are open.
    libc::SYS_read,
    libc::SYS_readv,
    libc::SYS_pread64,
    libc::SYS_preadv,
    libc::SYS_write,
    libc::SYS_writev,
    libc::SYS_pwrite64,
    libc::SYS_pwritev,
    libc::SYS_lseek,
    libc::SYS_fstat,
    libc::SYS_fsync,
    libc::SYS_fdatasync,
    libc::SYS_ftruncate,
    libc::SYS_fallocate,
    libc::SYS_fadvise64,
    libc::SYS_fcntl,
    libc::SYS_dup,
    libc::SYS_dup3,
    libc::SYS_close,
    libc::SYS_getdents64,
    // Paths, which Landlock narrows to the guest's folders.
    libc::SYS_openat,
    libc::SYS_newfstatat,
    libc::SYS_faccessat,
    libc::SYS_faccessat2,
    libc::SYS_statx,
    libc::SYS_fstatfs,
    libc::SYS_mkdirat,
    libc::SYS_unlinkat,
    libc::SYS_renameat2,
    libc::SYS_linkat,
    libc::SYS_symlinkat,
    libc::SYS_readlinkat,
    libc::SYS_utimensat,
    // Waiting.
    libc::SYS_ppoll,
    libc::SYS_epoll_create1,
    libc::SYS_epoll_ctl,
    libc::SYS_epoll_pwait,
    libc::SYS_timerfd_create,
    libc::SYS_timerfd_settime,
    libc::SYS_nanosleep,
    libc::SYS_clock_nanosleep,
    libc::SYS_sched_yield,
    libc::SYS_futex,
    libc::SYS_restart_syscall,
    // Clocks and random numbers.
    libc::SYS_clock_gettime,
    libc::SYS_clock_getres,
    libc::SYS_gettimeofday,
    libc::SYS_getrandom,
    // The control socket and the session, which are open already; none can be made.
    libc::SYS_sendto,
    libc::SYS_sendmsg,
    libc::SYS_recvfrom,
    libc::SYS_recvmsg,
    // The process itself.
    libc::SYS_getpid,
    libc::SYS_gettid,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sigaltstack,
    libc::SYS_exit,
    libc::SYS_exit_group,
    // A new thread's first steps; see `rules` for making one.
    libc::SYS_set_robust_list,
    libc::SYS_rseq,
];

/// The same under their older names, which only this architecture has.
#[cfg(target_arch = "x86_64")]
const OLDER: &[i64] = &[libc::SYS_poll, libc::SYS_epoll_wait, libc::SYS_renameat, libc::SYS_time];
#[cfg(target_arch = "aarch64")]
const OLDER: &[i64] = &[libc::SYS_renameat];
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
const OLDER: &[i64] = &[];

/// Calls that the C library only probes for: they fail as on a kernel that lacks them.
const PROBED: &[i64] = &[
    libc::SYS_clone3,
    libc::SYS_membarrier,
    libc::SYS_prlimit64,
    libc::SYS_sched_getaffinity,
    libc::SYS_sysinfo,
    libc::SYS_uname,
];

pub(super) type Problem = Box<dyn Error + Send + Sync>;

/// Install the filters for every thread of this process.
pub(super) fn install() -> Result<(), Problem> {
    // The strictest answer of all filters counts, so the soft refusals need a filter of their own.
    let probed = PROBED.iter().map(|call| (*call, Vec::new())).collect();
    for program in [
        compile(probed, SeccompAction::Allow, SeccompAction::Errno(libc::ENOSYS.unsigned_abs()))?,
        compile(rules()?, SeccompAction::KillProcess, SeccompAction::Allow)?,
    ] {
        seccompiler::apply_filter_all_threads(&program)?;
    }
    Ok(())
}

fn compile(
    rules: BTreeMap<i64, Vec<SeccompRule>>,
    otherwise: SeccompAction,
    matching: SeccompAction,
) -> Result<BpfProgram, Problem> {
    let arch = TargetArch::try_from(std::env::consts::ARCH)?;
    Ok(SeccompFilter::new(rules, otherwise, matching, arch)?.try_into()?)
}

/// The numbers of the x32 ABI have this bit, and no others do. Kernels with that ABI take its calls from an ordinary process
/// too, past a filter that looks for the ordinary numbers.
const X32: u32 = 0x4000_0000;

/// A filter that lets everything but this pass, and no call of the x32 ABI. What it refuses fails as not permitted.
pub(super) fn refusing(rules: BTreeMap<i64, Vec<SeccompRule>>) -> Result<BpfProgram, Problem> {
    const EPERM: u32 = libc::EPERM.unsigned_abs();
    let step = |code: u32, jf: u8, k: u32| Ok::<_, Problem>(sock_filter { code: code.try_into()?, jt: 0, jf, k });
    // The number is the first field of what a filter is given. Jumps are relative, so the other filter can follow.
    let mut program = vec![
        step(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0)?,
        step(libc::BPF_JMP | libc::BPF_JSET | libc::BPF_K, 1, X32)?,
        step(libc::BPF_RET | libc::BPF_K, 0, libc::SECCOMP_RET_ERRNO | EPERM)?,
    ];
    program.extend(compile(rules, SeccompAction::Allow, SeccompAction::Errno(EPERM))?);
    Ok(program)
}

fn rules() -> Result<BTreeMap<i64, Vec<SeccompRule>>, Problem> {
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> =
        PLAIN.iter().chain(OLDER).chain(PROBED).map(|call| (*call, Vec::new())).collect();
    let not_executable =
        || condition(2, SeccompCmpOp::MaskedEq(libc::PROT_EXEC.unsigned_abs().into()), 0).map(|c| vec![c]);
    rules.insert(libc::SYS_mmap, vec![SeccompRule::new(not_executable()?)?]);
    rules.insert(libc::SYS_mprotect, vec![SeccompRule::new(not_executable()?)?]);
    // The engine runs each call on a thread of its own. A thread is no process: it shares everything, this filter too.
    let thread = u64::from(libc::CLONE_THREAD.unsigned_abs());
    let only_threads = condition(0, SeccompCmpOp::MaskedEq(thread), thread)?;
    rules.insert(libc::SYS_clone, vec![SeccompRule::new(vec![only_threads])?]);
    let named = condition(0, SeccompCmpOp::Eq, libc::PR_SET_NAME.unsigned_abs().into())?;
    rules.insert(libc::SYS_prctl, vec![SeccompRule::new(vec![named])?]);
    // The levels of a line that was granted; whether a descriptor is a terminal, for line buffering.
    let commands = [GPIO_GET_VALUES.into(), GPIO_SET_VALUES.into(), libc::TCGETS, libc::TCGETS2];
    let commands = commands.map(|command| Ok(SeccompRule::new(vec![condition(1, SeccompCmpOp::Eq, command)?])?));
    rules.insert(libc::SYS_ioctl, commands.into_iter().collect::<Result<_, Problem>>()?);
    // The runner ends itself when its guest is over its time, and abort() signals itself; nobody else can be meant.
    let own = u64::from(std::process::id());
    for call in [libc::SYS_kill, libc::SYS_tgkill] {
        rules.insert(call, vec![SeccompRule::new(vec![condition(0, SeccompCmpOp::Eq, own)?])?]);
    }
    Ok(rules)
}

pub(super) fn condition(argument: u8, compare: SeccompCmpOp, value: u64) -> Result<SeccompCondition, Problem> {
    Ok(SeccompCondition::new(argument, SeccompCmpArgLen::Dword, compare, value)?)
}

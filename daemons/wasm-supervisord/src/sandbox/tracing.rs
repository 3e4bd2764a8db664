//! Whether this system lets a process trace another of its user. Runners and the supervisor share a user and hide from each
//! other by themselves; this is the wall behind that, and it is the system's, so here it is only looked at.

use std::{fmt, fs};

use rustix::process::PTracer;

/// Not there under `ProcSubset=pid`, which the unit has: then it is known that Yama is there, and not how strict it is.
const PTRACE_SCOPE: &str = "/proc/sys/kernel/yama/ptrace_scope";

/// What is lacking, in words that say what to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lacking {
    /// Yama is not in the kernel, or not enabled.
    Yama,
    /// It is, and allows everything.
    Strictness,
}

impl fmt::Display for Lacking {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Yama => {
                "the kernel has no Yama: a process may trace every other one of its user that does not hide; \
                 build it with CONFIG_SECURITY_YAMA and add yama to its lsm= list"
            }
            Self::Strictness => {
                "kernel.yama.ptrace_scope is 0: a process may trace every other one of its user that does not hide; \
                 set it to 2 in /usr/lib/sysctl.d"
            }
        })
    }
}

/// What this system lacks, as far as can be seen.
#[must_use]
pub fn lacking() -> Option<Lacking> {
    // Only Yama knows this command. It takes back a permission that was never given.
    let yama = rustix::process::set_ptracer(PTracer::None).is_ok();
    judge(yama, fs::read_to_string(PTRACE_SCOPE).ok().as_deref())
}

fn judge(yama: bool, scope: Option<&str>) -> Option<Lacking> {
    match (yama, scope.map(str::trim)) {
        (false, _) => Some(Lacking::Yama),
        (true, Some("0")) => Some(Lacking::Strictness),
        (true, _) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kernel_without_yama_and_one_where_it_allows_everything_are_told_apart() {
        assert_eq!(judge(false, None), Some(Lacking::Yama));
        assert_eq!(judge(true, Some("0\n")), Some(Lacking::Strictness));
        assert_eq!(judge(true, Some("2\n")), None);
        assert_eq!(judge(true, None), None, "the unit does not see the file");
    }

    #[test]
    fn what_the_kernel_answers_agrees_with_its_files() {
        assert_eq!(lacking() == Some(Lacking::Yama), !std::path::Path::new(PTRACE_SCOPE).exists());
    }
}

//! What the end of a runner is called. Pure.

use std::{os::unix::process::ExitStatusExt, process::ExitStatus};

use iotwasm_api::Reason;

use crate::{machine::End, protocol::Ending};

/// What is known when the last process has gone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remains {
    /// What the runner said last.
    pub last_word: Option<(Ending, String)>,
    /// How it left.
    pub status: ExitStatus,
    /// Kills by the memory bound of its cell.
    pub memory_kills: u64,
    /// The bound, in bytes.
    pub memory_bytes: u64,
}

/// Signals that tell more than their number (they are the same on every Linux that we run on).
const SIGABRT: i32 = libc::SIGABRT;
const SIGXFSZ: i32 = libc::SIGXFSZ;
const SIGSYS: i32 = libc::SIGSYS;

/// Name the end. The kernel's word goes before the runner's.
#[must_use]
pub fn classify(remains: &Remains) -> End {
    let end = |reason, message: String| End { reason, message };
    if remains.memory_kills > 0 {
        let limit = remains.memory_bytes / (1024 * 1024);
        return end(Reason::OutOfMemory, format!("used more than its {limit} MiB of memory"));
    }
    if let Some((ending, message)) = &remains.last_word {
        let reason = match ending {
            Ending::Trap => Reason::Trap,
            Ending::OutOfFuel => Reason::OutOfFuel,
            Ending::WallClock => Reason::WallClock,
            // Whoever leaves without having been asked has exited.
            Ending::Exited | Ending::Stopped => Reason::Exited,
            Ending::SelfTestFailed => Reason::SelfTestFailed,
            Ending::BadPayload => Reason::BadPayload,
            Ending::SetupFailed => Reason::StartFailed,
        };
        return end(reason, message.clone());
    }
    match (remains.status.signal(), remains.status.code()) {
        (Some(SIGXFSZ), _) => end(Reason::StorageQuota, "wrote a file longer than its quota".to_owned()),
        (Some(SIGSYS), _) => end(Reason::Killed, "made a system call that its sandbox forbids (SIGSYS)".to_owned()),
        (Some(SIGABRT), _) => {
            end(Reason::Killed, "the runtime aborted, as it does when it cannot allocate (SIGABRT)".to_owned())
        }
        (Some(signal), _) => end(Reason::Killed, format!("the runner was ended by signal {signal}")),
        (None, code) => {
            let code = code.unwrap_or_default();
            end(Reason::StartFailed, format!("the runner left with {code} and without a word"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn remains(status: i32) -> Remains {
        Remains { last_word: None, status: ExitStatus::from_raw(status), memory_kills: 0, memory_bytes: 32 << 20 }
    }

    #[test]
    fn the_memory_bound_goes_before_everything_else() {
        let last_word = Some((Ending::Trap, "x".to_owned()));
        let end = classify(&Remains { memory_kills: 1, last_word, ..remains(libc::SIGKILL) });
        assert_eq!((end.reason, end.message.as_str()), (Reason::OutOfMemory, "used more than its 32 MiB of memory"));
    }

    #[test]
    fn the_last_word_goes_before_the_signal() {
        let last_word = Some((Ending::WallClock, "too long".to_owned()));
        assert_eq!(classify(&Remains { last_word, ..remains(libc::SIGKILL) }).reason, Reason::WallClock);
    }

    #[test]
    fn signals_and_codes_have_their_own_words() {
        for (status, reason) in [
            (libc::SIGKILL, Reason::Killed),
            (libc::SIGSYS, Reason::Killed),
            (libc::SIGXFSZ, Reason::StorageQuota),
            (64 << 8, Reason::StartFailed),
        ] {
            assert_eq!(classify(&remains(status)).reason, reason);
        }
    }
}

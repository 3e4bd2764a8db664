//! What the end of a runner is called. Pure.

use std::{os::unix::process::ExitStatusExt, process::ExitStatus};

use iotwasm_api::Reason;

use crate::{cgroup::Starved, machine::End, protocol::Ending};

/// What is known when the last process has gone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remains {
    /// What the runner said last.
    pub last_word: Option<(Ending, String)>,
    /// How it left.
    pub status: ExitStatus,
    /// Whether the kernel ended it for want of memory.
    pub starved: Option<Starved>,
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
    match remains.starved {
        Some(Starved::ByItself) => {
            let limit = remains.memory_bytes / (1024 * 1024);
            return end(Reason::OutOfMemory, format!("used more than its {limit} MiB of memory"));
        }
        // All payloads together, or the whole device: the kernel chose this one, which kept to its own bound.
        Some(Starved::ByOthers) => {
            let message = "ended within its own memory bound, because all payloads together reached the service's \
                           (MemoryMax of wasm-supervisord.service), or the device has no memory left";
            return end(Reason::Killed, message.to_owned());
        }
        None => {}
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
            Ending::Internal => Reason::Killed,
        };
        return end(reason, message.clone());
    }
    match (remains.status.signal(), remains.status.code()) {
        (Some(SIGXFSZ), _) => end(Reason::StorageQuota, "wrote a file longer than its quota".to_owned()),
        (Some(SIGSYS), _) => end(Reason::Killed, "made a system call that its sandbox forbids (SIGSYS)".to_owned()),
        (Some(SIGABRT), _) => {
            let message = "the runner aborted (SIGABRT): the engine could not allocate, or an internal error; see the \
                           payload's lines in the journal";
            end(Reason::Killed, message.to_owned())
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
        Remains { last_word: None, status: ExitStatus::from_raw(status), starved: None, memory_bytes: 32 << 20 }
    }

    #[test]
    fn the_memory_bound_goes_before_everything_else() {
        let last_word = Some((Ending::Trap, "x".to_owned()));
        let end = classify(&Remains { starved: Some(Starved::ByItself), last_word, ..remains(libc::SIGKILL) });
        assert_eq!((end.reason, end.message.as_str()), (Reason::OutOfMemory, "used more than its 32 MiB of memory"));
    }

    #[test]
    fn who_is_ended_for_want_of_the_services_memory_is_not_blamed() {
        let end = classify(&Remains { starved: Some(Starved::ByOthers), ..remains(libc::SIGKILL) });
        assert_eq!(end.reason, Reason::Killed);
        assert!(end.message.contains("MemoryMax"), "{}", end.message);
    }

    #[test]
    fn an_abort_is_told_as_what_it_was_or_may_have_been() {
        let end = classify(&remains(libc::SIGABRT));
        assert_eq!(end.reason, Reason::Killed);
        assert!(end.message.contains("allocate") && end.message.contains("internal error"), "{}", end.message);
        let last_word = Some((Ending::Internal, "internal error: oops".to_owned()));
        let end = classify(&Remains { last_word, ..remains(libc::SIGABRT) });
        assert_eq!((end.reason, end.message.as_str()), (Reason::Killed, "internal error: oops"));
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

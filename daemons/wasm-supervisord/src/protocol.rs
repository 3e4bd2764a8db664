//! What the supervisor and a runner say to each other, one message in one packet of a seqpacket socket.
//!
//! The runner holds code that we do not trust, so what comes from it is bounded, plain and checked; decoding is total.
//! Pure: no socket. The payload's bytes travel as a sealed memory file beside [`ToRunner::Setup`]; a session with capd
//! beside it, or beside [`ToRunner::Session`].

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Longest message of a guest, in bytes: the guest contract's bound.
pub const MAX_GUEST_MESSAGE: usize = 4096;
/// Longest time for which a guest can ask at once that the device not be restarted, in seconds: one that forgets to
/// release delays an update of the firmware by no more.
pub const MAX_HOLD_S: u16 = 3600;
/// Longest packet from a runner.
pub const MAX_FROM_RUNNER: usize = MAX_GUEST_MESSAGE + 8;
/// Longest packet to a runner: the manifest (at most 64 KiB) written as JSON, with room for escapes.
pub const MAX_TO_RUNNER: usize = 160 * 1024;

/// What a runner is told.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case")]
pub enum ToRunner {
    /// Go into the sandbox and load the module; first message, with the module's memory file, and behind it the session
    /// if there is one.
    Setup(Box<Setup>),
    /// Run the self-test, then the payload.
    Begin,
    /// Leave the loop.
    Stop,
    /// The session that comes beside this takes the place of the one that was lost.
    Session,
}

/// All that a runner knows of its payload.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Setup {
    /// Payload id.
    pub payload: String,
    /// True for the entry style `command`.
    pub command: bool,
    /// True if WASI may be imported.
    pub wasi: bool,
    /// Largest linear memory, in pages of 64 KiB.
    pub memory_pages: u32,
    /// Fuel of one wake-up.
    pub fuel: u64,
    /// Wall clock of one wake-up.
    pub wake_up_ms: u32,
    /// Wall clock of the self-test, and of loading.
    pub self_test_ms: u32,
    /// Most private memory of the process, in bytes.
    pub data_bytes: u64,
    /// Longest file it may write, in bytes.
    pub file_bytes: u64,
    /// The guest's environment.
    pub environment: BTreeMap<String, String>,
    /// The guest's directories.
    pub directories: Vec<Directory>,
    /// A session with capd comes too.
    pub session: bool,
    /// Modules of functions that the guest may import: those of [`iotwasm_payload::interfaces`] that its manifest asks
    /// for.
    pub interfaces: Vec<String>,
    /// Most open descriptors.
    pub open_files: u64,
}

/// A directory of the guest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Directory {
    /// Where the guest sees it.
    pub guest: String,
    /// Where it is.
    pub host: String,
    /// May be written.
    pub writable: bool,
}

/// What a guest says of itself, with the guest contract's numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Feeling {
    /// Works; also the heartbeat.
    Healthy = 0,
    /// Works, but not as it should.
    Degraded = 1,
    /// Has failed.
    Failed = 2,
}

/// How the runner says its guest ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Ending {
    /// Unreachable, out of bounds, division by zero, stack exhausted.
    Trap = 0,
    /// All fuel of one wake-up used.
    OutOfFuel = 1,
    /// Longer than the wall clock of one wake-up.
    WallClock = 2,
    /// Returned or exited by itself.
    Exited = 3,
    /// The self-test did not pass.
    SelfTestFailed = 4,
    /// The module cannot be loaded.
    BadPayload = 5,
    /// The runner could not set itself up.
    SetupFailed = 6,
    /// Left its loop after it was asked to.
    Stopped = 7,
    /// The runner itself, or a host function, failed: a defect of ours.
    Internal = 8,
}

/// What a runner tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FromRunner {
    /// In its sandbox, module loaded, waiting for [`ToRunner::Begin`].
    Loaded,
    /// The self-test passed.
    SelfTestPassed,
    /// The guest reported its health.
    Health {
        /// How it feels.
        feeling: Feeling,
        /// Its message.
        message: String,
    },
    /// The guest asks that the device not be restarted, in place of what it asked before.
    Hold {
        /// For so long from now, at most [`MAX_HOLD_S`]; 0 releases.
        seconds: u16,
    },
    /// A line for the journal.
    Log {
        /// Priority as in syslog(3): 3 error, 4 warning, 6 info, 7 debug.
        level: u8,
        /// The line.
        message: String,
    },
    /// So many messages of the guest were left out, because there were too many.
    Dropped {
        /// Since the last time.
        count: u32,
    },
    /// The last word before the process ends.
    Ended {
        /// How.
        ending: Ending,
        /// For people.
        message: String,
    },
    /// The session with capd is over; another is needed.
    SessionLost,
}

/// A packet that is no message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// Nothing in it.
    #[error("an empty packet")]
    Empty,
    /// Longer than any message.
    #[error("a packet of more than {MAX_FROM_RUNNER} bytes")]
    TooLong,
    /// No such message.
    #[error("a packet of the unknown kind {0}")]
    Kind(u8),
    /// A field outside its range, or missing.
    #[error("a packet of kind {0} with a wrong field")]
    Field(u8),
}

const LOADED: u8 = 1;
const SELF_TEST_PASSED: u8 = 2;
const HEALTH: u8 = 3;
const LOG: u8 = 4;
const DROPPED: u8 = 5;
const ENDED: u8 = 6;
const SESSION_LOST: u8 = 7;
const HOLD: u8 = 8;

impl FromRunner {
    /// The packet. Messages are cut at [`MAX_GUEST_MESSAGE`].
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let with_text = |kind: u8, field: u8, text: &str| {
            let text = &text.as_bytes()[..text.floor_char_boundary(MAX_GUEST_MESSAGE)];
            [&[kind, field], text].concat()
        };
        match self {
            Self::Loaded => vec![LOADED],
            Self::SelfTestPassed => vec![SELF_TEST_PASSED],
            Self::Health { feeling, message } => with_text(HEALTH, *feeling as u8, message),
            Self::Log { level, message } => with_text(LOG, *level, message),
            Self::Dropped { count } => [&[DROPPED][..], &count.to_le_bytes()].concat(),
            Self::Ended { ending, message } => with_text(ENDED, *ending as u8, message),
            Self::SessionLost => vec![SESSION_LOST],
            Self::Hold { seconds } => [&[HOLD][..], &seconds.to_le_bytes()].concat(),
        }
    }

    /// The message in a packet.
    ///
    /// # Errors
    /// It is none.
    pub fn decode(packet: &[u8]) -> Result<Self, Malformed> {
        if packet.len() > MAX_FROM_RUNNER {
            return Err(Malformed::TooLong);
        }
        let (&kind, rest) = packet.split_first().ok_or(Malformed::Empty)?;
        let wrong = Malformed::Field(kind);
        let field = || rest.split_first().map(|(field, text)| (*field, lossy(text))).ok_or(wrong);
        Ok(match kind {
            LOADED => Self::Loaded,
            SELF_TEST_PASSED => Self::SelfTestPassed,
            HEALTH => {
                let (feeling, message) = field()?;
                Self::Health { feeling: Feeling::from_number(feeling).ok_or(wrong)?, message }
            }
            LOG => {
                let (level, message) = field()?;
                if level > 7 {
                    return Err(wrong);
                }
                Self::Log { level, message }
            }
            DROPPED => Self::Dropped { count: u32::from_le_bytes(rest.try_into().map_err(|_| wrong)?) },
            ENDED => {
                let (ending, message) = field()?;
                Self::Ended { ending: Ending::from_number(ending).ok_or(wrong)?, message }
            }
            SESSION_LOST => Self::SessionLost,
            HOLD => {
                let seconds = u16::from_le_bytes(rest.try_into().map_err(|_| wrong)?);
                if seconds > MAX_HOLD_S {
                    return Err(wrong);
                }
                Self::Hold { seconds }
            }
            kind => return Err(Malformed::Kind(kind)),
        })
    }
}

fn lossy(text: &[u8]) -> String {
    String::from_utf8_lossy(text).into_owned()
}

impl Feeling {
    /// From the guest contract's number.
    #[must_use]
    pub fn from_number(number: u8) -> Option<Self> {
        [Self::Healthy, Self::Degraded, Self::Failed].into_iter().find(|feeling| *feeling as u8 == number)
    }
}

impl Ending {
    fn from_number(number: u8) -> Option<Self> {
        use Ending::*;
        [Trap, OutOfFuel, WallClock, Exited, SelfTestFailed, BadPayload, SetupFailed, Stopped, Internal]
            .into_iter()
            .find(|ending| *ending as u8 == number)
    }
}

impl ToRunner {
    /// The packet, or `None` when it would be longer than [`MAX_TO_RUNNER`].
    #[must_use]
    pub fn encode(&self) -> Option<Vec<u8>> {
        serde_json::to_vec(self).ok().filter(|packet| packet.len() <= MAX_TO_RUNNER)
    }

    /// The message in a packet; `None` when it is none.
    #[must_use]
    pub fn decode(packet: &[u8]) -> Option<Self> {
        serde_json::from_slice(packet).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn any_message() -> impl Strategy<Value = FromRunner> {
        let text = ".{0,200}";
        prop_oneof![
            Just(FromRunner::Loaded),
            Just(FromRunner::SelfTestPassed),
            Just(FromRunner::SessionLost),
            (0..3u8, text)
                .prop_map(|(n, message)| FromRunner::Health { feeling: Feeling::from_number(n).unwrap(), message }),
            (0..8u8, text).prop_map(|(level, message)| FromRunner::Log { level, message }),
            any::<u32>().prop_map(|count| FromRunner::Dropped { count }),
            (0..=MAX_HOLD_S).prop_map(|seconds| FromRunner::Hold { seconds }),
            (0..9u8, text)
                .prop_map(|(n, message)| FromRunner::Ended { ending: Ending::from_number(n).unwrap(), message }),
        ]
    }

    proptest! {
        #[test]
        fn what_a_runner_says_comes_back(message in any_message()) {
            prop_assert_eq!(FromRunner::decode(&message.encode()), Ok(message));
        }

        #[test]
        fn any_bytes_decode_or_are_refused(packet in prop::collection::vec(any::<u8>(), 0..6000)) {
            let _ = FromRunner::decode(&packet);
            let _ = ToRunner::decode(&packet);
        }
    }

    #[test]
    fn a_long_message_is_cut_between_characters() {
        let message = "ä".repeat(MAX_GUEST_MESSAGE);
        let packet = FromRunner::Log { level: 6, message }.encode();
        assert!(packet.len() <= MAX_FROM_RUNNER);
        let FromRunner::Log { message, .. } = FromRunner::decode(&packet).unwrap() else { panic!() };
        assert_eq!(message, "ä".repeat(MAX_GUEST_MESSAGE / 2));
    }

    #[test]
    fn a_hold_beyond_the_bound_is_no_message() {
        let packet = FromRunner::Hold { seconds: MAX_HOLD_S + 1 }.encode();
        assert_eq!(FromRunner::decode(&packet), Err(Malformed::Field(HOLD)));
    }

    #[test]
    fn a_setup_that_is_too_long_is_not_sent() {
        let setup = |len: usize| {
            ToRunner::Setup(Box::new(Setup {
                payload: "p".repeat(len),
                command: false,
                wasi: false,
                memory_pages: 1,
                fuel: 1,
                wake_up_ms: 1,
                self_test_ms: 1,
                data_bytes: 1,
                file_bytes: 0,
                environment: BTreeMap::new(),
                directories: vec![],
                session: false,
                interfaces: vec![],
                open_files: 64,
            }))
        };
        assert_eq!(setup(MAX_TO_RUNNER).encode(), None);
        let fits = setup(10);
        assert_eq!(ToRunner::decode(&fits.encode().unwrap()), Some(fits));
    }
}

//! `io.iotwasm.Capabilities`, served by capd: what exists, what is granted to whom, what was denied; and sessions for
//! the supervisor.

use std::os::fd::OwnedFd;

use futures_util::Stream;
use serde::{Deserialize, Serialize};
use zlink::introspect::{self, CustomType};

use crate::supervisor::Slot;

/// The interface's name.
pub const INTERFACE: &str = "io.iotwasm.Capabilities";

/// The kinds of things that a board has, in the words of the board file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, CustomType)]
#[serde(rename_all = "snake_case")]
#[zlink(rename_all = "snake_case")]
pub enum Kind {
    /// A sensor.
    Sensors,
    /// A line.
    Gpio,
    /// An I2C device.
    I2c,
    /// An SPI device.
    Spi,
    /// An actuator.
    Actuators,
}

impl Kind {
    /// The word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Sensors => "sensors",
            Self::Gpio => "gpio",
            Self::I2c => "i2c",
            Self::Spi => "spi",
            Self::Actuators => "actuators",
        }
    }
}

/// One thing of the board.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, CustomType)]
pub struct Thing {
    /// Of which kind.
    pub kind: Kind,
    /// Its name in the board file.
    pub name: String,
    /// The board file's words about it.
    pub description: String,
    /// What it is, one line for people: values with their units, direction, transfers, allowed values.
    pub details: String,
    /// Whether the kernel has it now.
    pub present: bool,
    /// Why not, or empty.
    pub message: String,
    /// What was written to it last; empty for what is no actuator, or was not written yet.
    pub value: String,
    /// Payloads that use it now.
    pub users: Vec<String>,
}

/// A payload's session.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, CustomType)]
pub struct Session {
    /// Counts up; never used twice while capd runs.
    pub session: i64,
    /// Payload id.
    pub payload: String,
    /// Version in its signed manifest.
    pub version: String,
    /// SHA-256 of the payload in hex.
    pub sha256: String,
    /// The role that signed it, whose tier is its ceiling.
    pub role: String,
    /// Whether its runner uses it; before that it waits for the payload that it is to replace.
    pub claimed: bool,
    /// When it was opened, RFC 3339.
    pub since: String,
    /// What it may do, one line each.
    pub grants: Vec<String>,
    /// What it has leased or turned on: `gpio.led`, `sensors.climate`.
    pub leases: Vec<String>,
    /// Requests so far.
    pub requests: i64,
    /// Denials so far.
    pub denials: i64,
}

/// Something that was denied: all denials of one payload, thing and reason together.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, CustomType)]
pub struct Denial {
    /// Payload id.
    pub payload: String,
    /// What was asked for: `gpio.door`, `sensors.climate.pressure`; `session` for a broken protocol.
    pub capability: String,
    /// Why, in one word: `not_granted`, `rate`, `value`, `register`, `transfer`, `refused`, …
    pub reason: String,
    /// For people; of the last one.
    pub message: String,
    /// How many.
    pub count: i64,
    /// When the last one was, RFC 3339.
    pub last: String,
}

/// Kinds of events.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, CustomType)]
#[serde(rename_all = "snake_case")]
#[zlink(rename_all = "snake_case")]
pub enum EventKind {
    /// A session was opened.
    Opened,
    /// A session's runner began to use it.
    Claimed,
    /// A session ended.
    Closed,
    /// Something was leased or turned on.
    Leased,
    /// A lease ended, or something was turned off.
    Released,
    /// Something was denied. Those of one payload, thing and reason are told at most once a second.
    Denied,
    /// An actuator was written.
    Wrote,
    /// An actuator's safe value was written by capd itself.
    Safe,
    /// Something of the board is not there, or there again.
    Device,
}

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, CustomType)]
pub struct Event {
    /// Counts up by one for each event. Of a payload that does very much some are left out, which shows as a gap.
    pub sequence: i64,
    /// When, RFC 3339.
    pub time: String,
    /// What.
    pub kind: EventKind,
    /// Payload id; empty if none is concerned.
    pub payload: String,
    /// Which thing, as in [`Denial::capability`]; empty if none.
    pub capability: String,
    /// For people.
    pub message: String,
}

/// Reply of `GetBoard`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, introspect::Type)]
pub struct Board {
    /// The board's name.
    pub name: String,
    /// One line about it.
    pub description: String,
    /// Everything that it has.
    pub things: Vec<Thing>,
}

/// Reply of `GetSessions`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, introspect::Type)]
pub struct Sessions {
    /// Every session that is open.
    pub sessions: Vec<Session>,
}

/// Reply of `GetDenials`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, introspect::Type)]
pub struct Denials {
    /// Since capd began, the newest first; the oldest are forgotten.
    pub denials: Vec<Denial>,
    /// All together, those forgotten too.
    pub total: i64,
}

/// Reply of `OpenSession`; the session's socket is the one descriptor beside it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, introspect::Type)]
pub struct Opened {
    /// Which session.
    pub session: i64,
    /// What it may do, one line each.
    pub grants: Vec<String>,
}

/// Reply of `Monitor`, one for each event.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, introspect::Type)]
pub struct Monitored {
    /// What happened.
    pub event: Event,
}

/// What a call can fail with.
#[derive(Debug, Clone, PartialEq, zlink::ReplyError, introspect::ReplyError)]
#[zlink(interface = "io.iotwasm.Capabilities")]
pub enum CapabilitiesError {
    /// The caller's user may not make this call.
    PermissionDenied {
        /// The caller's user id.
        uid: i64,
    },
    /// An argument is out of its range.
    InvalidArgument {
        /// Which, and what it must be.
        message: String,
    },
    /// What is stored for the payload is not what was signed, or not what the caller verified.
    NotVerified {
        /// What does not fit.
        message: String,
    },
    /// The manifest asks for more than its signer may grant or the board has.
    Refused {
        /// Everything that is too much, one line each.
        refusals: Vec<String>,
    },
    /// No session can be opened now.
    Unavailable {
        /// Why.
        message: String,
    },
}

/// Client of `io.iotwasm.Capabilities`.
#[zlink::proxy("io.iotwasm.Capabilities")]
pub trait CapabilitiesProxy {
    /// What the board has.
    async fn get_board(&mut self) -> zlink::Result<Result<Board, CapabilitiesError>>;

    /// Who has which session.
    async fn get_sessions(&mut self) -> zlink::Result<Result<Sessions, CapabilitiesError>>;

    /// What was denied.
    async fn get_denials(&mut self) -> zlink::Result<Result<Denials, CapabilitiesError>>;

    /// Verify what lies in a payload's slot, which must have this hash, and open a session with what its signer, the
    /// board and its manifest agree on; or refuse it whole. The session's socket comes beside the reply. Nothing is
    /// leased before the runner claims it.
    #[zlink(return_fds)]
    async fn open_session(
        &mut self,
        payload: &str,
        slot: Slot,
        sha256: &str,
    ) -> zlink::Result<(Result<Opened, CapabilitiesError>, Vec<OwnedFd>)>;

    /// Every event as it happens.
    #[zlink(more)]
    async fn monitor(
        &mut self,
    ) -> zlink::Result<impl Stream<Item = zlink::Result<Result<Monitored, CapabilitiesError>>>>;
}

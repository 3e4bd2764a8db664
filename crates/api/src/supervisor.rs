//! `io.iotwasm.Supervisor`, served by wasm-supervisord: start, stop and watch payloads.

use futures_util::Stream;
use serde::{Deserialize, Serialize};
use zlink::introspect::{self, CustomType};

use crate::Reason;

/// The interface's name.
pub const INTERFACE: &str = "io.iotwasm.Supervisor";

/// A payload slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, CustomType)]
#[serde(rename_all = "snake_case")]
#[zlink(rename_all = "snake_case")]
pub enum Slot {
    /// Slot a.
    A,
    /// Slot b.
    B,
}

/// What a payload is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, CustomType)]
#[serde(rename_all = "snake_case")]
#[zlink(rename_all = "snake_case")]
pub enum Phase {
    /// Verified, and its runner is being set up.
    Starting,
    /// The self-test runs.
    SelfTest,
    /// The self-test passed and the payload runs; `health` says how it feels.
    Running,
    /// Ended; a committed payload is started again after a pause.
    Backoff,
    /// Ended and not started again: a trial that failed, or what does not verify.
    Failed,
    /// Stopped because somebody asked.
    Stopped,
}

/// How a running payload says it feels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, CustomType)]
#[serde(rename_all = "snake_case")]
#[zlink(rename_all = "snake_case")]
pub enum Health {
    /// Nothing reported yet.
    Unknown,
    /// Healthy.
    Healthy,
    /// Works, but not as it should.
    Degraded,
    /// Has failed.
    Failed,
}

/// One payload as the supervisor sees it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, CustomType)]
pub struct PayloadStatus {
    /// Payload id.
    pub payload: String,
    /// The slot that runs, or ran last.
    pub slot: Slot,
    /// Version in its signed manifest; empty when it does not verify.
    pub version: String,
    /// SHA-256 of the payload in hex; empty when it does not verify.
    pub sha256: String,
    /// Whether it runs as a trial, which is not restarted when it ends.
    pub trial: bool,
    /// What it is doing.
    pub phase: Phase,
    /// What it reported last.
    pub health: Health,
    /// Its last health message, or the cause of its end.
    pub message: String,
    /// Why it ended last, if it did.
    pub reason: Option<Reason>,
    /// Starts since the supervisor began.
    pub starts: i64,
    /// Crashes since the supervisor began.
    pub crashes: i64,
    /// Process id of the runner, 0 if none.
    pub pid: i64,
    /// Milliseconds from the order to start until its self-test passed, of the last start.
    pub start_ms: i64,
    /// Milliseconds of that for the self-test.
    pub self_test_ms: i64,
    /// Milliseconds from asking the run that it replaced to stop until its self-test passed; 0 where it replaced none.
    pub interruption_ms: i64,
    /// Time of the last change, RFC 3339.
    pub since: String,
    /// Seconds for which it asks that the device not be restarted; 0 none.
    #[serde(default)]
    pub hold_s: i64,
}

/// Something that happened to a payload.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, CustomType)]
pub struct Event {
    /// Counts up by one for each event, so that a gap is seen.
    pub sequence: i64,
    /// The payload after the event.
    pub status: PayloadStatus,
}

/// Reply of `GetStatus`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, introspect::Type)]
pub struct Status {
    /// Every payload known.
    pub payloads: Vec<PayloadStatus>,
}

/// Reply of `Start`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, introspect::Type)]
pub struct Started {
    /// The payload, running and past its self-test.
    pub status: PayloadStatus,
}

/// Reply of `Monitor`, one for each event; the first replies give the present state of every payload, with sequence 0.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, introspect::Type)]
pub struct Monitored {
    /// What happened.
    pub event: Event,
}

/// What a call can fail with.
#[derive(Debug, Clone, PartialEq, zlink::ReplyError, introspect::ReplyError)]
#[zlink(interface = "io.iotwasm.Supervisor")]
pub enum SupervisorError {
    /// The caller's user may not make this call.
    PermissionDenied {
        /// The caller's user id.
        uid: i64,
    },
    /// No such payload, or none in that slot.
    NoSuchPayload {
        /// The id asked for.
        payload: String,
    },
    /// An argument is out of its range.
    InvalidArgument {
        /// Which, and what it must be.
        message: String,
    },
    /// It did not start, or its self-test did not pass; it does not run now.
    StartFailed {
        /// The kind of failure.
        reason: Reason,
        /// What happened, for people.
        message: String,
    },
    /// Not in a state that allows the call: confirm what does not run as a trial.
    WrongState {
        /// The present state and what would be needed.
        message: String,
    },
}

/// Client of `io.iotwasm.Supervisor`.
#[zlink::proxy("io.iotwasm.Supervisor")]
pub trait SupervisorProxy {
    /// Every payload known.
    async fn get_status(&mut self) -> zlink::Result<Result<Status, SupervisorError>>;

    /// Stop what runs of this payload and start the given slot; replies when the self-test has passed, or with
    /// `StartFailed`. A trial that ends later is not restarted.
    async fn start(
        &mut self,
        payload: &str,
        slot: Slot,
        trial: bool,
    ) -> zlink::Result<Result<Started, SupervisorError>>;

    /// Treat the running trial as committed from now on.
    async fn confirm(&mut self, payload: &str, slot: Slot) -> zlink::Result<Result<Started, SupervisorError>>;

    /// Stop a payload; replies when its last process has gone. Stopping what does not run is no error.
    async fn stop(&mut self, payload: &str) -> zlink::Result<Result<(), SupervisorError>>;

    /// The present state of every payload, then every event as it happens.
    #[zlink(more)]
    async fn monitor(&mut self)
    -> zlink::Result<impl Stream<Item = zlink::Result<Result<Monitored, SupervisorError>>>>;
}

//! Connections to the daemons, and what can go wrong with a call.

use std::future::Future;
use std::io;

use iotwasm_api::capabilities::CapabilitiesError;
use iotwasm_api::ota::OtaError;
use iotwasm_api::supervisor::SupervisorError;
use zlink::tokio::unix::Connection;

/// Why a daemon could not be asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("could not start")]
    Runtime {
        #[source]
        err: io::Error,
    },
    #[error(
        "could not reach {daemon} at {socket}; is this an iotwasm device, and are you root or in the socket's group?"
    )]
    Connect {
        daemon: &'static str,
        socket: String,
        #[source]
        err: Cause,
    },
    #[error("{daemon} did not answer")]
    Call {
        daemon: &'static str,
        #[source]
        err: Cause,
    },
    #[error("{daemon} refused: {why}")]
    Refused { daemon: &'static str, why: String },
    #[error("could not run journalctl")]
    Journal {
        #[source]
        err: io::Error,
    },
}

/// Whatever was under an error.
type Cause = Box<dyn std::error::Error + Send + Sync>;

impl Error {
    /// A call that got no reply. zlink says the words of what is under its errors itself: of an I/O error, only those are
    /// kept, or they would be said twice.
    pub(crate) fn call(daemon: &'static str, err: zlink::Error) -> Self {
        Self::Call { daemon, err: cause(err) }
    }
}

fn cause(err: zlink::Error) -> Cause {
    match err {
        zlink::Error::Io(err) => err.into(),
        other => other.into(),
    }
}

pub(crate) const OTA: &str = "ota-updated";
pub(crate) const SUPERVISOR: &str = "wasm-supervisord";
pub(crate) const CAPD: &str = "capd";

/// Runs a conversation to its end.
pub(crate) fn run<T>(conversation: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|err| Error::Runtime { err })?;
    runtime.block_on(conversation)
}

pub(crate) async fn connect(daemon: &'static str) -> Result<Connection, Error> {
    use iotwasm_kit::paths::{CAPABILITIES_SOCKET, OTA_SOCKET, SUPERVISOR_SOCKET};
    let (default, variable) = match daemon {
        OTA => (OTA_SOCKET, "IOTWASM_OTA_SOCKET"),
        CAPD => (CAPABILITIES_SOCKET, "IOTWASM_CAPABILITIES_SOCKET"),
        _ => (SUPERVISOR_SOCKET, "IOTWASM_SUPERVISOR_SOCKET"),
    };
    let socket = std::env::var(variable).unwrap_or_else(|_| default.to_owned());
    zlink::tokio::unix::connect(&socket).await.map_err(|err| Error::Connect { daemon, socket, err: cause(err) })
}

/// What ota-updated said, or why it did not.
pub(crate) fn ota<T>(reply: zlink::Result<Result<T, OtaError>>) -> Result<T, Error> {
    reply.map_err(|err| Error::call(OTA, err))?.map_err(|err| {
        let why = match err {
            OtaError::PermissionDenied { uid } => denied(uid),
            OtaError::InvalidArgument { message } => message,
        };
        Error::Refused { daemon: OTA, why }
    })
}

/// What the supervisor said, or why it did not.
pub(crate) fn supervisor<T>(reply: zlink::Result<Result<T, SupervisorError>>) -> Result<T, Error> {
    reply.map_err(|err| Error::call(SUPERVISOR, err))?.map_err(|err| {
        let why = match err {
            SupervisorError::PermissionDenied { uid } => denied(uid),
            SupervisorError::InvalidArgument { message } | SupervisorError::WrongState { message } => message,
            SupervisorError::NoSuchPayload { payload } => format!("there is no payload {payload}"),
            SupervisorError::StartFailed { reason, message } => format!("the start failed: {reason}: {message}"),
        };
        Error::Refused { daemon: SUPERVISOR, why }
    })
}

/// What capd said, or why it did not.
pub(crate) fn capd<T>(reply: zlink::Result<Result<T, CapabilitiesError>>) -> Result<T, Error> {
    reply.map_err(|err| Error::call(CAPD, err))?.map_err(|err| {
        let why = match err {
            CapabilitiesError::PermissionDenied { uid } => denied(uid),
            CapabilitiesError::InvalidArgument { message }
            | CapabilitiesError::NotVerified { message }
            | CapabilitiesError::Unavailable { message } => message,
            CapabilitiesError::Refused { refusals } => refusals.join("; "),
        };
        Error::Refused { daemon: CAPD, why }
    })
}

fn denied(uid: i64) -> String {
    format!("the user with uid {uid} may not do that; the daemon's settings say who may")
}

//! The edge to capd: opens the sessions through which runners reach what their payloads were granted. Holds no
//! connection and no session; decides nothing about who may do what.

use std::{
    future::Future,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    pin::Pin,
    time::Duration,
};

use iotwasm_api::{
    Reason,
    capabilities::{CapabilitiesError, CapabilitiesProxy, Opened},
};
use iotwasm_payload::{PayloadId, Slot};
use tokio::time::timeout;
use zlink::tokio::unix;

use crate::keeper::wire_slot;

/// How long capd may take: it verifies a slot of a few MB, as we do.
const LIMIT: Duration = Duration::from_secs(5);

/// Why there is no session.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The manifest asks for more than it may.
    #[error("it asks for what it may not have: {}", .0.join("; "))]
    Refused(Vec<String>),
    /// What is stored is not what was signed, or not what we verified.
    #[error("capd did not verify it: {0}")]
    NotVerified(String),
    /// Nobody answers at its socket, or the connection broke.
    #[error("could not reach capd at {}; see systemctl status capd", path.display())]
    Unreachable {
        /// The socket.
        path: PathBuf,
        /// The cause.
        #[source]
        err: zlink::Error,
    },
    /// No reply in time.
    #[error("capd did not open a session within {} s", LIMIT.as_secs())]
    Timeout,
    /// It cannot now, or not for us.
    #[error("capd opened no session: {0}")]
    Unavailable(String),
}

impl Error {
    /// The kind of failure that callers and metrics are told.
    #[must_use]
    pub fn reason(&self) -> Reason {
        match self {
            Self::Refused(_) => Reason::CapabilityRefused,
            Self::NotVerified(_) => Reason::NotVerified,
            Self::Unreachable { .. } | Self::Timeout | Self::Unavailable(_) => Reason::StartFailed,
        }
    }
}

impl From<CapabilitiesError> for Error {
    fn from(err: CapabilitiesError) -> Self {
        match err {
            CapabilitiesError::Refused { refusals } => Self::Refused(refusals),
            CapabilitiesError::NotVerified { message } => Self::NotVerified(message),
            CapabilitiesError::PermissionDenied { uid } => {
                Self::Unavailable(format!("uid {uid} may not; see the access list of capd.toml"))
            }
            CapabilitiesError::InvalidArgument { message } | CapabilitiesError::Unavailable { message } => {
                Self::Unavailable(message)
            }
        }
    }
}

/// A session on its way: the runner's end of it.
pub type Opening<'a> = Pin<Box<dyn Future<Output = Result<OwnedFd, Error>> + 'a>>;

/// Who opens sessions: capd, or a fake of it in tests.
pub trait Capabilities {
    /// Open a session for what lies in a payload's slot and has this hash (hex).
    ///
    /// The future MUST end within seconds whatever the other side does, and MUST give a session of its own each time; one
    /// that is dropped leaves nothing behind. Nothing is leased before the runner claims the session. An error of
    /// [`Error::Refused`] means that another try comes to the same.
    fn open<'a>(&'a self, payload: &'a PayloadId, slot: Slot, sha256: &'a str) -> Opening<'a>;
}

/// capd by its socket. Each call makes its own connection, so that capd may come and go.
#[derive(Debug, Clone)]
pub struct Capd {
    path: PathBuf,
}

impl Capd {
    /// The one that listens here.
    #[must_use]
    pub fn at(path: &Path) -> Self {
        Self { path: path.to_owned() }
    }

    async fn call(&self, payload: &PayloadId, slot: Slot, sha256: &str) -> Result<OwnedFd, Error> {
        let unreachable = |err| Error::Unreachable { path: self.path.clone(), err };
        let mut connection = unix::connect(&self.path).await.map_err(unreachable)?;
        let (opened, fds) =
            connection.open_session(payload.as_str(), wire_slot(slot), sha256).await.map_err(unreachable)?;
        let Opened { session, .. } = opened?;
        let missing = || Error::Unavailable(format!("session {session} came without its socket"));
        fds.into_iter().next().ok_or_else(missing)
    }
}

impl Capabilities for Capd {
    fn open<'a>(&'a self, payload: &'a PayloadId, slot: Slot, sha256: &'a str) -> Opening<'a> {
        Box::pin(async move { timeout(LIMIT, self.call(payload, slot, sha256)).await.map_err(|_| Error::Timeout)? })
    }
}

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
pub const LIMIT: Duration = Duration::from_secs(5);

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
    #[error("capd did not open a session within {} ms", .0.as_millis())]
    Timeout(Duration),
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
            Self::Unreachable { .. } | Self::Timeout(_) | Self::Unavailable(_) => Reason::StartFailed,
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
    limit: Duration,
}

impl Capd {
    /// The one that listens here, and how long it may take.
    #[must_use]
    pub fn at(path: &Path, limit: Duration) -> Self {
        Self { path: path.to_owned(), limit }
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
        Box::pin(async move {
            let called = timeout(self.limit, self.call(payload, slot, sha256)).await;
            called.unwrap_or(Err(Error::Timeout(self.limit)))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{
        io::{IoSlice, Read},
        mem::MaybeUninit,
        os::{fd::AsFd, unix::net::UnixListener},
        thread::{self, JoinHandle},
    };

    use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags};

    const SHORT: Duration = Duration::from_millis(50);
    const LONG: Duration = Duration::from_secs(60);

    /// Someone who answers one call with these bytes, and a descriptor beside them. Gives the call.
    fn answer(path: &Path, reply: &'static str, descriptors: usize) -> JoinHandle<String> {
        let listener = UnixListener::bind(path).unwrap();
        thread::spawn(move || {
            let (mut socket, _) = listener.accept().unwrap();
            let (mut call, mut byte) = (Vec::new(), [1]);
            while socket.read(&mut byte).unwrap() == 1 && byte != [0] {
                call.extend(byte);
            }
            let null = std::fs::File::open("/dev/null").unwrap();
            let fds = vec![null.as_fd(); descriptors];
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
            let mut beside = SendAncillaryBuffer::new(&mut space);
            assert!(fds.is_empty() || beside.push(SendAncillaryMessage::ScmRights(&fds)));
            let packet = [reply.as_bytes(), &[0]].concat();
            rustix::net::sendmsg(&socket, &[IoSlice::new(&packet)], &mut beside, SendFlags::NOSIGNAL).unwrap();
            String::from_utf8(call).unwrap()
        })
    }

    fn opened(path: &Path, limit: Duration) -> Result<OwnedFd, Error> {
        let capd = Capd::at(path, limit);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async { capd.open(&"probe".parse().unwrap(), Slot::B, "abc").await })
    }

    fn refusal(reply: &'static str) -> Error {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("capd.sock");
        let server = answer(&path, reply, 0);
        let err = opened(&path, LONG).unwrap_err();
        server.join().unwrap();
        err
    }

    #[test]
    fn a_session_comes_beside_the_reply() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("capd.sock");
        let server = answer(&path, r#"{"parameters":{"session":7,"grants":["gpio.led: out"]}}"#, 1);
        let session = opened(&path, LONG).unwrap();
        assert!(rustix::fs::fstat(&session).is_ok());
        let call: serde_json::Value = serde_json::from_str(&server.join().unwrap()).unwrap();
        assert_eq!(call["method"], "io.iotwasm.Capabilities.OpenSession");
        assert_eq!(call["parameters"], serde_json::json!({"payload": "probe", "slot": "b", "sha256": "abc"}));
    }

    #[test]
    fn refusals_are_told_whole_and_are_final() {
        let err = refusal(
            r#"{"error":"io.iotwasm.Capabilities.Refused","parameters":{"refusals":["gpio.a: x","i2c.b: y"]}}"#,
        );
        assert_eq!(err.to_string(), "it asks for what it may not have: gpio.a: x; i2c.b: y");
        assert_eq!(err.reason(), Reason::CapabilityRefused);
    }

    #[test]
    fn every_other_error_has_its_reason() {
        for (reply, reason) in [
            (r#"{"error":"io.iotwasm.Capabilities.NotVerified","parameters":{"message":"m"}}"#, Reason::NotVerified),
            (r#"{"error":"io.iotwasm.Capabilities.Unavailable","parameters":{"message":"m"}}"#, Reason::StartFailed),
            (
                r#"{"error":"io.iotwasm.Capabilities.InvalidArgument","parameters":{"message":"m"}}"#,
                Reason::StartFailed,
            ),
            (r#"{"error":"io.iotwasm.Capabilities.PermissionDenied","parameters":{"uid":7}}"#, Reason::StartFailed),
            (r#"{"error":"io.iotwasm.Other.Thing","parameters":{}}"#, Reason::StartFailed),
            (r#"{"parameters":{"session":7,"grants":[]}}"#, Reason::StartFailed),
            ("nonsense", Reason::StartFailed),
        ] {
            assert_eq!(refusal(reply).reason(), reason, "{reply}");
        }
    }

    #[test]
    fn who_is_not_there_or_never_answers_is_not_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("capd.sock");
        assert!(matches!(opened(&path, LONG), Err(Error::Unreachable { .. })));
        let _listener = UnixListener::bind(&path).unwrap();
        let err = opened(&path, SHORT).unwrap_err();
        assert!(matches!(err, Error::Timeout(_)), "{err}");
        assert_eq!(err.reason(), Reason::StartFailed);
    }
}

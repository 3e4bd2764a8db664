//! The edge to wasm-supervisord: one call, one connection; and its news as a queue.

use std::future::Future;
use std::path::{Path, PathBuf};
use std::time::Duration;

use futures_util::{StreamExt, pin_mut};
use iotwasm_api::supervisor::{
    Monitored, PayloadStatus, Phase, Slot, Started, Status, SupervisorError, SupervisorProxy,
};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use zlink::tokio::unix::{self, Connection};

/// How long a call may take that does not wait for a payload.
const CALL: Duration = Duration::from_secs(30);
/// How long stopping may take: the longest deadline that a manifest may set, and the time to kill and reap.
const STOP: Duration = Duration::from_secs(60);
/// How long a start may take besides the self-test: verifying, loading, and stopping what ran before.
const START: Duration = Duration::from_secs(120);
/// News that wait to be read. The supervisor's own queue is bounded too; a full one only makes it wait.
const NEWS: usize = 64;

/// Why a call came to nothing.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nobody answers at its socket.
    #[error("could not reach wasm-supervisord at {}", path.display())]
    Connect {
        /// The socket.
        path: PathBuf,
        /// The cause.
        #[source]
        err: zlink::Error,
    },
    /// The connection broke, or the reply was no reply.
    #[error("the call {method} to wasm-supervisord broke off")]
    Broken {
        /// Which call.
        method: &'static str,
        /// The cause.
        #[source]
        err: zlink::Error,
    },
    /// No reply in time.
    #[error("wasm-supervisord did not reply to {method} within {} s", limit.as_secs())]
    Timeout {
        /// Which call.
        method: &'static str,
        /// How long was waited.
        limit: Duration,
    },
    /// It refused.
    #[error("wasm-supervisord refused {method}: {}", refusal_text(err))]
    Refused {
        /// Which call.
        method: &'static str,
        /// What it said.
        err: SupervisorError,
    },
}

/// What a refusal says, for people.
fn refusal_text(err: &SupervisorError) -> String {
    match err {
        SupervisorError::PermissionDenied { uid } => format!("uid {uid} may not"),
        SupervisorError::NoSuchPayload { payload } => format!("it knows no payload {payload}"),
        SupervisorError::InvalidArgument { message } | SupervisorError::WrongState { message } => message.clone(),
        SupervisorError::StartFailed { reason, message } => format!("{reason}: {message}"),
    }
}

/// A supervisor by its socket. Holds no connection: each call makes its own, so that one that takes long, or is given
/// up, cannot confuse the next.
#[derive(Debug, Clone)]
pub struct Supervisor {
    path: PathBuf,
}

impl Supervisor {
    /// The supervisor that listens here.
    #[must_use]
    pub fn at(path: &Path) -> Self {
        Self { path: path.to_owned() }
    }

    async fn connect(&self) -> Result<Connection, Error> {
        unix::connect(&self.path).await.map_err(|err| Error::Connect { path: self.path.clone(), err })
    }

    /// Every payload known to it.
    pub async fn status(&self) -> Result<Status, Error> {
        let mut connection = self.connect().await?;
        finish("GetStatus", CALL, connection.get_status()).await
    }

    /// Starts a slot and waits until its self-test has passed.
    pub async fn start(&self, payload: &str, slot: Slot, trial: bool, self_test: Duration) -> Result<Started, Error> {
        let mut connection = self.connect().await?;
        finish("Start", START + self_test, connection.start(payload, slot, trial)).await
    }

    /// Tells it that the trial is committed.
    pub async fn confirm(&self, payload: &str, slot: Slot) -> Result<Started, Error> {
        let mut connection = self.connect().await?;
        finish("Confirm", CALL, connection.confirm(payload, slot)).await
    }

    /// Stops a payload and waits until its last process has gone.
    pub async fn stop(&self, payload: &str) -> Result<(), Error> {
        let mut connection = self.connect().await?;
        finish("Stop", STOP, connection.stop(payload)).await
    }

    /// Follows its news. Must be called within a `LocalSet`.
    pub async fn news(&self) -> Result<News, Error> {
        let mut connection = self.connect().await?;
        let (sender, queue) = mpsc::channel(NEWS);
        let task = tokio::task::spawn_local(async move {
            let Ok(stream) = connection.monitor().await else { return };
            pin_mut!(stream);
            while let Some(Ok(Ok(Monitored { event }))) = stream.next().await {
                if sender.send(event.status).await.is_err() {
                    return;
                }
            }
        });
        Ok(News { queue, task })
    }

    /// Makes it run what the disk says is committed, and nothing else, of this payload. Needed when this daemon was
    /// stopped between writing down what is to run and saying so; otherwise it finds everything right and does nothing.
    pub async fn settle(&self, payload: &str, committed: Option<Slot>, self_test: Duration) -> Result<(), Error> {
        let status = self.status().await?.payloads.into_iter().find(|p| p.payload == payload);
        match settling(committed, status.as_ref()) {
            Settling::Nothing => Ok(()),
            Settling::Stop => self.stop(payload).await,
            Settling::Confirm(slot) => self.confirm(payload, slot).await.map(drop),
            Settling::Start(slot) => self.start(payload, slot, false, self_test).await.map(drop),
        }
    }
}

/// What the supervisor must be told so that the right thing runs.
#[derive(Debug, PartialEq, Eq)]
enum Settling {
    Nothing,
    Stop,
    Confirm(Slot),
    Start(Slot),
}

fn settling(committed: Option<Slot>, status: Option<&PayloadStatus>) -> Settling {
    let up = |phase| matches!(phase, Phase::Starting | Phase::SelfTest | Phase::Running | Phase::Backoff);
    match (committed, status) {
        (None, Some(status)) if up(status.phase) => Settling::Stop,
        (None, _) => Settling::Nothing,
        (Some(slot), Some(status)) if status.slot == slot && status.trial && up(status.phase) => {
            Settling::Confirm(slot)
        }
        // It has decided on what is committed by itself: running, waiting to run again, or refused as unverifiable.
        (Some(slot), Some(status)) if status.slot == slot && !status.trial && status.phase != Phase::Stopped => {
            Settling::Nothing
        }
        (Some(slot), _) => Settling::Start(slot),
    }
}

async fn finish<T>(
    method: &'static str,
    limit: Duration,
    call: impl Future<Output = zlink::Result<Result<T, SupervisorError>>>,
) -> Result<T, Error> {
    match timeout(limit, call).await {
        Err(_) => Err(Error::Timeout { method, limit }),
        Ok(Err(err)) => Err(Error::Broken { method, err }),
        Ok(Ok(Err(err))) => Err(Error::Refused { method, err }),
        Ok(Ok(Ok(reply))) => Ok(reply),
    }
}

/// The supervisor's news, as long as it lives.
#[derive(Debug)]
pub struct News {
    queue: mpsc::Receiver<PayloadStatus>,
    task: JoinHandle<()>,
}

impl News {
    /// The next news; none when the supervisor is gone.
    pub async fn next(&mut self) -> Option<PayloadStatus> {
        self.queue.recv().await
    }
}

impl Drop for News {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[cfg(test)]
mod tests {
    use iotwasm_api::supervisor::Health;

    use super::*;

    fn status(slot: Slot, trial: bool, phase: Phase) -> PayloadStatus {
        PayloadStatus {
            payload: "blinky".into(),
            slot,
            version: String::new(),
            sha256: String::new(),
            trial,
            phase,
            health: Health::Unknown,
            message: String::new(),
            reason: None,
            starts: 1,
            crashes: 0,
            pid: 0,
            start_ms: 0,
            self_test_ms: 0,
            interruption_ms: 0,
            since: String::new(),
            hold_s: 0,
        }
    }

    #[test]
    fn what_runs_is_made_to_agree_with_what_is_committed() {
        use Settling::{Confirm, Nothing, Start, Stop};
        for (committed, running, expected) in [
            (None, None, Nothing),
            (None, Some(status(Slot::A, true, Phase::Running)), Stop),
            (None, Some(status(Slot::A, true, Phase::Failed)), Nothing),
            (Some(Slot::A), None, Start(Slot::A)),
            (Some(Slot::A), Some(status(Slot::A, false, Phase::Running)), Nothing),
            (Some(Slot::A), Some(status(Slot::A, false, Phase::Backoff)), Nothing),
            (Some(Slot::A), Some(status(Slot::A, false, Phase::Failed)), Nothing),
            (Some(Slot::A), Some(status(Slot::A, false, Phase::Stopped)), Start(Slot::A)),
            (Some(Slot::A), Some(status(Slot::A, true, Phase::Running)), Confirm(Slot::A)),
            (Some(Slot::A), Some(status(Slot::A, true, Phase::Failed)), Start(Slot::A)),
            (Some(Slot::A), Some(status(Slot::B, true, Phase::Running)), Start(Slot::A)),
            (Some(Slot::A), Some(status(Slot::B, false, Phase::Running)), Start(Slot::A)),
        ] {
            assert_eq!(settling(committed, running.as_ref()), expected, "{committed:?} {running:?}");
        }
    }
}

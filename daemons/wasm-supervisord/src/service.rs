//! `io.iotwasm.Supervisor` over Varlink: who may call what, and the words of the answers.

#![expect(missing_docs, reason = "the service macro makes types without documentation of their own")]

use std::rc::Rc;

use futures_util::{Stream, StreamExt, stream};
use iotwasm_api::{
    Reason,
    supervisor::{Event, Health, Monitored, PayloadStatus, Phase, Slot, Started, Status, SupervisorError},
};
use iotwasm_kit::{access::Grants, varlink::Peer};
use zlink::Reply;

use crate::supervisor::{Refused, Supervisor};

/// One caller's connection.
pub struct Service {
    supervisor: Rc<Supervisor>,
    grants: Rc<Grants>,
    peer: Peer,
}

impl Service {
    /// For this caller.
    #[must_use]
    pub fn new(supervisor: Rc<Supervisor>, grants: Rc<Grants>, peer: Peer) -> Self {
        Self { supervisor, grants, peer }
    }

    fn observe(&self) -> Result<(), SupervisorError> {
        self.permit(self.grants.may_observe(self.peer.uid))
    }

    fn control(&self) -> Result<(), SupervisorError> {
        self.permit(self.grants.may_control(self.peer.uid))
    }

    fn permit(&self, may: bool) -> Result<(), SupervisorError> {
        if may { Ok(()) } else { Err(SupervisorError::PermissionDenied { uid: self.peer.uid.into() }) }
    }

    fn events(&self, more: bool) -> Result<Events, SupervisorError> {
        self.observe()?;
        if !more {
            let message = "Monitor replies many times: call it with the flag \"more\"".to_owned();
            return Err(SupervisorError::InvalidArgument { message });
        }
        let (present, events) = self.supervisor.notices().subscribe();
        let present = present.into_iter().map(|status| Event { sequence: 0, status });
        let later = stream::unfold(events, |mut events| async { events.recv().await.map(|event| (event, events)) });
        let replies = stream::iter(present)
            .chain(later)
            .map(|event| Ok(Reply::new(Some(Monitored { event })).set_continues(Some(true))));
        // It ends only for who falls behind, and who falls behind must be told.
        let end = stream::once(async {
            let message = "events were not read fast enough and some are lost; call Monitor again".to_owned();
            Err(SupervisorError::WrongState { message })
        });
        Ok(Box::pin(replies.chain(end)))
    }
}

type Events = std::pin::Pin<Box<dyn Stream<Item = Result<Reply<Monitored>, SupervisorError>>>>;

#[zlink::service(
    interface = "io.iotwasm.Supervisor",
    vendor = "iotwasm",
    product = "wasm-supervisord",
    version = env!("CARGO_PKG_VERSION"),
    url = "https://iotwasm.io/",
    types = [Slot, Phase, Health, Reason, PayloadStatus, Event]
)]
impl Service {
    /// Every payload known.
    async fn get_status(&self) -> Result<Status, SupervisorError> {
        self.observe()?;
        Ok(Status { payloads: self.supervisor.notices().all() })
    }

    /// Stop what runs of this payload and start the given slot; replies when the self-test has passed.
    async fn start(&self, payload: String, slot: Slot, trial: bool) -> Result<Started, SupervisorError> {
        self.control()?;
        let status = self.supervisor.start(&payload, slot, trial).await.map_err(refusal)?;
        Ok(Started { status })
    }

    /// Treat the running trial as committed from now on.
    async fn confirm(&self, payload: String, slot: Slot) -> Result<Started, SupervisorError> {
        self.control()?;
        let status = self.supervisor.confirm(&payload, slot).await.map_err(refusal)?;
        Ok(Started { status })
    }

    /// Stop a payload; replies when its last process has gone.
    async fn stop(&self, payload: String) -> Result<(), SupervisorError> {
        self.control()?;
        self.supervisor.stop(&payload).await.map_err(refusal)
    }

    /// The present state of every payload, then every event as it happens.
    #[zlink(more)]
    async fn monitor(&self, more: bool) -> impl Stream<Item = Result<Reply<Monitored>, SupervisorError>> + Unpin {
        self.events(more).unwrap_or_else(|err| Box::pin(stream::once(async { Err(err) })))
    }
}

fn refusal(refused: Refused) -> SupervisorError {
    match refused {
        Refused::NoSuchPayload(payload) => SupervisorError::NoSuchPayload { payload },
        Refused::TooMany => SupervisorError::WrongState { message: refused.to_string() },
        Refused::WrongState(message) => SupervisorError::WrongState { message },
        Refused::NotStarted(end) => SupervisorError::StartFailed { reason: end.reason, message: end.message },
    }
}

//! `io.iotwasm.Capabilities` over Varlink: who may call what, and the words of the answers.

#![expect(missing_docs, reason = "the service macro makes types without documentation of their own")]

use std::{os::fd::OwnedFd, rc::Rc, sync::Arc, time::Duration};

use futures_util::{Stream, StreamExt, stream};
use iotwasm_api::{
    capabilities::{
        Board, CapabilitiesError, Denial, Denials, Event, EventKind, Kind, Monitored, Opened, Session, Sessions, Thing,
    },
    supervisor::Slot,
};
use iotwasm_kit::{access::Grants, varlink::Peer};
use tokio::sync::Semaphore;
use zlink::Reply;

use crate::{
    authorize::{self, Authority, Authorized},
    board::{self, Inventory},
    notices::Denied,
    registry,
    session::{self, World},
};

/// How long the inventory may take: some milliseconds, unless a device hangs.
const LOOKING: Duration = Duration::from_secs(5);

/// What answers need.
pub struct Desk {
    /// Decides what a payload may do.
    pub authority: Authority,
    /// What sessions share.
    pub world: Arc<World>,
    /// Looks at what exists.
    pub inventory: Arc<Inventory>,
    /// One look at a time: if a device hangs, the threads beside the loop are not all used up with looking at it.
    pub looking: Arc<Semaphore>,
    /// Who may call.
    pub grants: Grants,
}

/// One caller's connection.
pub struct Service {
    desk: Rc<Desk>,
    peer: Peer,
}

type Events = std::pin::Pin<Box<dyn Stream<Item = Result<Reply<Monitored>, CapabilitiesError>>>>;

impl Service {
    /// For this caller.
    #[must_use]
    pub fn new(desk: Rc<Desk>, peer: Peer) -> Self {
        Self { desk, peer }
    }

    fn permit(&self, may: bool) -> Result<(), CapabilitiesError> {
        if may { Ok(()) } else { Err(CapabilitiesError::PermissionDenied { uid: self.peer.uid.into() }) }
    }

    fn observe(&self) -> Result<(), CapabilitiesError> {
        self.permit(self.desk.grants.may_observe(self.peer.uid))
    }

    async fn open(
        &self,
        payload: String,
        slot: Slot,
        sha256: String,
    ) -> Result<(Opened, Vec<OwnedFd>), CapabilitiesError> {
        self.permit(self.desk.grants.may_control(self.peer.uid))?;
        let authority = self.desk.authority.clone();
        let asked = payload.clone();
        // It reads and hashes a payload: not on the thread that answers everyone.
        let registry = Arc::clone(&self.desk.world.registry);
        let authorized = aside(move || {
            let authorized = authority.authorize(&asked, slot, &sha256)?;
            registry.make_room(&authorized.payload, authorized.slot);
            Ok(authorized)
        });
        let authorized = authorized.await?;
        let authorized = authorized.map_err(|err| self.refusal(&payload, err))?;
        let lines = registry::grants(&authorized);
        let unavailable = |message: String| CapabilitiesError::Unavailable { message };
        let (socket, session) = self.begin(authorized).map_err(unavailable)?;
        Ok((Opened { session, grants: lines }, vec![socket]))
    }

    async fn look(&self) -> Result<Vec<Thing>, CapabilitiesError> {
        let inventory = Arc::clone(&self.desk.inventory);
        let given_up = |_| CapabilitiesError::Unavailable { message: "the daemon is about to stop".to_owned() };
        let permit = Arc::clone(&self.desk.looking).acquire_owned().await.map_err(given_up)?;
        aside(move || {
            // Held by who looks, not by who asked and may have gone.
            let _permit = permit;
            inventory.things()
        })
        .await
    }

    fn begin(&self, authorized: Authorized) -> Result<(OwnedFd, i64), String> {
        let world = &self.desk.world;
        let (socket, channel) = iotwasm_session::pair().map_err(|err| err.to_string())?;
        let entry = world.registry.add(authorized, &channel).map_err(|err| err.to_string())?;
        let (id, payload) = (entry.id, entry.authorized.payload.to_string());
        iotwasm_kit::info!(
            "session {id} for {payload} {}, signed by {}",
            entry.authorized.version,
            entry.authorized.role
        );
        world.notices.sessions(world.registry.count());
        world.notices.post(EventKind::Opened, &payload, "", &format!("session {id}"));
        session::begin(Arc::clone(world), entry, channel).map_err(|err| err.to_string())?;
        Ok((socket, i64::try_from(id).unwrap_or(i64::MAX)))
    }

    fn refusal(&self, payload: &str, err: authorize::Error) -> CapabilitiesError {
        let message = err.words();
        match err {
            authorize::Error::NoPayload(_) => CapabilitiesError::InvalidArgument { message },
            authorize::Error::Unjudged(_) | authorize::Error::Tier { .. } => CapabilitiesError::Unavailable { message },
            authorize::Error::NotVerified(_) | authorize::Error::OtherBytes { .. } => {
                CapabilitiesError::NotVerified { message }
            }
            authorize::Error::RoleName { .. } => CapabilitiesError::Refused { refusals: vec![message] },
            authorize::Error::Refused(refusals) => {
                for refusal in &refusals {
                    let capability = capability(&self.desk.world.board, &refusal.key);
                    let denied = Denied { capability, reason: "refused", message: refusal.to_string() };
                    self.desk.world.notices.deny(payload, denied);
                }
                CapabilitiesError::Refused { refusals: refusals.iter().map(ToString::to_string).collect() }
            }
        }
    }

    fn events(&self, more: bool) -> Result<Events, CapabilitiesError> {
        self.observe()?;
        if !more {
            let message = "Monitor replies many times: call it with the flag \"more\"".to_owned();
            return Err(CapabilitiesError::InvalidArgument { message });
        }
        let events = self.desk.world.notices.subscribe();
        let events = stream::unfold(events, |mut events| async { events.recv().await.map(|event| (event, events)) });
        let replies = events.map(|event| Ok(Reply::new(Some(Monitored { event })).set_continues(Some(true))));
        // It ends only for who falls behind, and who falls behind must be told.
        let end = stream::once(async {
            let message = "events were not read fast enough and some are lost; call Monitor again".to_owned();
            Err(CapabilitiesError::Unavailable { message })
        });
        Ok(Box::pin(replies.chain(end)))
    }
}

#[zlink::service(
    interface = "io.iotwasm.Capabilities",
    vendor = "iotwasm",
    product = "capd",
    version = env!("CARGO_PKG_VERSION"),
    url = "https://iotwasm.io/",
    types = [Slot, Kind, EventKind, Thing, Session, Denial, Event]
)]
impl Service {
    /// What the board has.
    async fn get_board(&self) -> Result<Board, CapabilitiesError> {
        self.observe()?;
        let things = tokio::time::timeout(LOOKING, self.look()).await;
        let things = things.unwrap_or_else(|_| {
            let message = format!("a device does not answer within {} s", LOOKING.as_secs());
            Err(CapabilitiesError::Unavailable { message })
        })?;
        let board = &self.desk.world.board;
        Ok(Board { name: board.name.clone(), description: board.description.clone(), things })
    }

    /// Who has which session.
    async fn get_sessions(&self) -> Result<Sessions, CapabilitiesError> {
        self.observe()?;
        let world = &self.desk.world;
        Ok(Sessions { sessions: world.registry.shown(|id| world.sensors.of(id)) })
    }

    /// What was denied.
    async fn get_denials(&self) -> Result<Denials, CapabilitiesError> {
        self.observe()?;
        let (denials, total) = self.desk.world.notices.denials();
        Ok(Denials { denials, total })
    }

    /// Verify a payload's slot, which must have this hash, and open a session with what its signer, the board and its
    /// manifest agree on. Its socket comes beside the reply.
    #[zlink(return_fds)]
    async fn open_session(
        &self,
        payload: String,
        slot: Slot,
        sha256: String,
    ) -> (Result<Opened, CapabilitiesError>, Vec<OwnedFd>) {
        match self.open(payload, slot, sha256).await {
            Ok((opened, descriptors)) => (Ok(opened), descriptors),
            Err(err) => (Err(err), Vec::new()),
        }
    }

    /// Every event as it happens.
    #[zlink(more)]
    async fn monitor(&self, more: bool) -> impl Stream<Item = Result<Reply<Monitored>, CapabilitiesError>> + Unpin {
        self.events(more).unwrap_or_else(|err| Box::pin(stream::once(async { Err(err) })))
    }
}

/// Does something that may wait for a device or the disk on a thread beside the loop.
async fn aside<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, CapabilitiesError> {
    let lost = |_| CapabilitiesError::Unavailable { message: "the work was given up".to_owned() };
    tokio::task::spawn_blocking(work).await.map_err(lost)
}

/// `capabilities.gpio.door` as it is counted: `gpio.door`, or `gpio.?` where the board has no door.
fn capability(of: &iotwasm_grant::Board, key: &str) -> String {
    let mut parts = key.split('.').skip(1);
    let (kind, name) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    let known = [Kind::Sensors, Kind::Gpio, Kind::I2c, Kind::Spi, Kind::Actuators].into_iter();
    let exists = known.filter(|known| known.as_str() == kind).any(|kind| board::has(of, kind, name));
    format!("{kind}.{}", if exists { name } else { "?" })
}

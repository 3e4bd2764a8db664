//! Every open session: who has which, and how one that is to begin waits for those that are about to end.

use std::{
    collections::{BTreeMap, BTreeSet},
    os::fd::{AsFd, OwnedFd},
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicI64, Ordering},
    },
    time::{Duration, Instant},
};

use iotwasm_api::capabilities::Session as Shown;
use iotwasm_grant::{
    Grant,
    grant::{I2cGrant, Output},
};
use iotwasm_payload::{PayloadId, Slot};
use iotwasm_session::{Answer, Channel, Request};
use rustix::net::Shutdown;

use crate::{authorize::Authorized, devices::OnBuses};

/// Most sessions: the supervisor runs at most 64 payloads, and each may have a release that waits for its turn.
pub const MAX_SESSIONS: usize = 128;
/// Most sessions of one payload's slot, those that are about to end too: the one in use, and one that waits for its turn
/// when the slot is started anew. Of each slot, so that a payload that keeps its sessions cannot hinder its own update.
pub const MAX_OF_SLOT: usize = 2;
/// How long a session waits for one whose runner has gone and that holds something it has, too: a transfer that it had
/// begun, and safe values. Well below the time after which a runner gives capd up.
const CLOSING: Duration = Duration::from_secs(2);
/// How long who opens a session waits for one to end: a runner says that it lost one when it is about to close it.
const GRACE: Duration = Duration::from_millis(500);

/// What everyone may see of a session.
#[derive(Debug)]
pub struct Entry {
    /// Its number.
    pub id: u64,
    /// What it may do.
    pub authorized: Authorized,
    /// When it was opened, RFC 3339.
    pub since: String,
    /// A runner uses it.
    pub claimed: AtomicBool,
    /// Requests so far.
    pub requests: AtomicI64,
    /// Denials so far.
    pub denials: AtomicI64,
    /// Lines that are leased.
    pub leases: Mutex<Vec<String>>,
    /// Actuators that it wrote, and may have to make safe when it ends.
    pub written: Mutex<BTreeSet<String>>,
    /// A second descriptor of capd's end.
    socket: OwnedFd,
}

impl Entry {
    /// The runner's end is closed: its process has gone, or it let go.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        iotwasm_session::is_closed(self.socket.as_fd())
    }

    fn is_of(&self, payload: &PayloadId, slot: Slot) -> bool {
        self.authorized.payload == *payload && self.authorized.slot == slot
    }

    /// Whether it holds a line or answers for an actuator that this grant has, too.
    fn holds_of(&self, grant: &Grant) -> bool {
        let leases = self.leases.lock().unwrap_or_else(PoisonError::into_inner);
        let has_line = |lease: &String| lease.strip_prefix("gpio.").is_some_and(|line| grant.gpio().contains_key(line));
        leases.iter().any(has_line) || {
            let written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
            written.iter().any(|actuator| grant.actuators().contains_key(actuator.as_str()))
        }
    }

    /// Ends the session: its thread sees the end of the socket.
    pub fn shut_down(&self) {
        // It fails only for a socket that is closed already.
        let _ = rustix::net::shutdown(&self.socket, Shutdown::Both);
    }

    fn shown(&self, sensors: Vec<String>) -> Shown {
        let mut leases = self.leases.lock().unwrap_or_else(PoisonError::into_inner).clone();
        leases.extend(sensors.into_iter().map(|name| format!("sensors.{name}")));
        Shown {
            session: i64::try_from(self.id).unwrap_or(i64::MAX),
            payload: self.authorized.payload.to_string(),
            version: self.authorized.version.clone(),
            sha256: self.authorized.sha256.clone(),
            role: self.authorized.role.clone(),
            claimed: self.claimed.load(Ordering::Relaxed),
            since: self.since.clone(),
            grants: grants(&self.authorized),
            leases,
            requests: self.requests.load(Ordering::Relaxed),
            denials: self.denials.load(Ordering::Relaxed),
        }
    }
}

/// What a payload may do, one line each.
#[must_use]
pub fn grants(authorized: &Authorized) -> Vec<String> {
    authorized.grant.to_string().lines().map(str::to_owned).collect()
}

/// Every session.
#[derive(Debug, Default)]
pub struct Registry {
    inner: Mutex<Inner>,
    closed: Condvar,
}

#[derive(Debug, Default)]
struct Inner {
    next: u64,
    leaving: bool,
    sessions: BTreeMap<u64, Arc<Entry>>,
}

impl Inner {
    /// Whether a slot has as many sessions as it may.
    fn is_full(&self, payload: &PayloadId, slot: Slot) -> bool {
        self.sessions.values().filter(|entry| entry.is_of(payload, slot)).count() >= MAX_OF_SLOT
    }
}

/// No more sessions.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Full {
    /// Too many.
    #[error("{MAX_SESSIONS} sessions are open, which is the most")]
    TooMany,
    /// This slot has its share.
    #[error("{payload} has {MAX_OF_SLOT} sessions for this slot, which is the most; its runner must close one first")]
    OfSlot {
        /// Whose.
        payload: PayloadId,
    },
    /// The daemon is about to stop.
    #[error("the daemon is about to stop")]
    Leaving,
}

impl Registry {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a session.
    ///
    /// # Errors
    /// There are too many, in all or of this slot, or its socket could not be duplicated.
    pub fn add(&self, authorized: Authorized, channel: &Channel<Answer, Request>) -> Result<Arc<Entry>, Full> {
        let mut inner = self.lock();
        if inner.leaving {
            return Err(Full::Leaving);
        }
        if inner.sessions.len() >= MAX_SESSIONS {
            return Err(Full::TooMany);
        }
        if inner.is_full(&authorized.payload, authorized.slot) {
            return Err(Full::OfSlot { payload: authorized.payload });
        }
        let socket = channel.as_fd().try_clone_to_owned().map_err(|_| Full::TooMany)?;
        inner.next += 1;
        let entry = Arc::new(Entry {
            id: inner.next,
            authorized,
            since: jiff::Timestamp::now().to_string(),
            claimed: AtomicBool::new(false),
            requests: AtomicI64::new(0),
            denials: AtomicI64::new(0),
            leases: Mutex::default(),
            written: Mutex::default(),
            socket,
        });
        inner.sessions.insert(entry.id, Arc::clone(&entry));
        Ok(entry)
    }

    /// A session is closed: nothing of it is held any more. Gives how many there are now.
    pub fn remove(&self, id: u64) -> u32 {
        let mut inner = self.lock();
        inner.sessions.remove(&id);
        self.closed.notify_all();
        u32::try_from(inner.sessions.len()).unwrap_or(u32::MAX)
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> u32 {
        u32::try_from(self.lock().sessions.len()).unwrap_or(u32::MAX)
    }

    /// Waits for a moment until a slot may have another session. Does not promise that: [`Self::add`] decides.
    pub fn make_room(&self, payload: &PayloadId, slot: Slot) {
        self.wait_while(GRACE, |inner| inner.is_full(payload, slot));
    }

    /// Waits until no session whose runner has gone holds something that this one was granted, too, so that it finds its
    /// lines free and its safe values written. A device that hangs makes it wait no longer than a runner does.
    pub fn settle(&self, own: &Entry) {
        let grant = &own.authorized.grant;
        self.wait_while(CLOSING, |inner| {
            inner.sessions.values().any(|entry| entry.id != own.id && entry.is_closed() && entry.holds_of(grant))
        });
    }

    /// Makes a session the one that is used for its slot; false if another is, whose runner has not gone.
    pub fn claim(&self, own: &Entry) -> bool {
        let inner = self.lock();
        let used = |entry: &&Arc<Entry>| entry.id != own.id && entry.claimed.load(Ordering::Relaxed);
        let Authorized { payload, slot, .. } = &own.authorized;
        let taken = inner.sessions.values().filter(used).any(|entry| entry.is_of(payload, *slot) && !entry.is_closed());
        if !taken {
            own.claimed.store(true, Ordering::Relaxed);
        }
        !taken
    }

    /// A session that ends has let go of its lines, or of its actuators.
    pub fn released(&self) {
        // With the lock: who has just looked waits by now.
        let _inner = self.lock();
        self.closed.notify_all();
    }

    /// Without the lock while it waits.
    fn wait_while(&self, limit: Duration, busy: impl Fn(&Inner) -> bool) {
        let until = Instant::now() + limit;
        let mut inner = self.lock();
        while busy(&inner) {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            inner = self.closed.wait_timeout(inner, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Every session that is open.
    fn entries(&self) -> Vec<Arc<Entry>> {
        self.lock().sessions.values().cloned().collect()
    }

    /// What some session was granted on a bus, or drives there: nothing else needs to be open.
    #[must_use]
    pub fn on_buses(&self) -> OnBuses {
        let mut granted = OnBuses::default();
        for entry in self.entries() {
            let grant = &entry.authorized.grant;
            granted.i2c.extend(grant.i2c().values().map(I2cGrant::place));
            granted.i2c.extend(grant.actuators().values().filter_map(|actuator| match actuator.output() {
                Output::Register { place, .. } => Some(place.clone()),
                Output::Line(_) | Output::File { .. } => None,
            }));
            granted.spi.extend(grant.spi().values().map(|spi| spi.device().clone()));
        }
        granted
    }

    /// Ends every session and takes no more; waits until all are closed. True if they were in time.
    pub fn shut_down(&self, limit: Duration) -> bool {
        let until = Instant::now() + limit;
        let mut inner = self.lock();
        inner.leaving = true;
        for entry in inner.sessions.values() {
            entry.shut_down();
        }
        while !inner.sessions.is_empty() {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            inner = self.closed.wait_timeout(inner, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }

    /// Every session as others may see it; `sensors` are those that a session uses.
    #[must_use]
    pub fn shown(&self, sensors: impl Fn(u64) -> Vec<String>) -> Vec<Shown> {
        self.entries().iter().map(|entry| entry.shown(sensors(entry.id))).collect()
    }

    /// Who has leased what: payload and `gpio.led`.
    #[must_use]
    pub fn leases(&self) -> Vec<(String, String)> {
        let of = |entry: &Arc<Entry>| {
            let leases = entry.leases.lock().unwrap_or_else(PoisonError::into_inner).clone();
            let payload = entry.authorized.payload.to_string();
            leases.into_iter().map(move |lease| (payload.clone(), lease)).collect::<Vec<_>>()
        };
        self.entries().iter().flat_map(of).collect()
    }
}

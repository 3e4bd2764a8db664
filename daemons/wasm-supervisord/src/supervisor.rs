//! All payloads: finds the one that is meant, makes its task, starts at boot what is committed, stops everything at the
//! end.

use std::{cell::RefCell, collections::BTreeMap, rc::Rc};

use iotwasm_api::supervisor::{PayloadStatus, Slot};
use iotwasm_kit::report;
use iotwasm_payload::{PayloadId, Wanted};
use tokio::sync::{mpsc, oneshot};

use crate::{
    keeper::{self, Command, keep, wire_slot},
    machine::End,
    notices::Notices,
    run::Edges,
};

/// Most payloads: each may hold a process, and a device runs a handful.
const MAX_PAYLOADS: usize = 64;

/// Why an order could not be carried out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// There is none, or nothing in that slot.
    #[error("there is no payload {0}, or nothing in that slot")]
    NoSuchPayload(String),
    /// No more tasks.
    #[error("{MAX_PAYLOADS} payloads are the most that are run")]
    TooMany,
    /// The state does not allow it.
    #[error("{0}")]
    WrongState(String),
    /// It did not start.
    #[error("{}: {}", .0.reason, .0.message)]
    NotStarted(End),
}

/// All payloads.
pub struct Supervisor {
    edges: Rc<Edges>,
    notices: Rc<Notices>,
    keepers: RefCell<BTreeMap<PayloadId, mpsc::Sender<Command>>>,
}

impl Supervisor {
    /// None yet.
    #[must_use]
    pub fn new(edges: Rc<Edges>, notices: Rc<Notices>) -> Self {
        Self { edges, notices, keepers: RefCell::default() }
    }

    /// What is posted.
    #[must_use]
    pub fn notices(&self) -> &Notices {
        &self.notices
    }

    /// Order every payload that is configured and has a committed slot to start, and wait for none of them. What cannot
    /// be read is said and left out: one damaged state must not stop the other payloads.
    pub async fn boot(&self, wanted: &[Wanted]) {
        let store = &self.edges.verifier.store;
        let ids = match store.payloads() {
            Ok(ids) => ids,
            Err(err) => {
                iotwasm_kit::error!("no payload is started: {}", report::chain(&err));
                return;
            }
        };
        for id in ids {
            match store.state(&id) {
                Ok(Some(state)) => {
                    let Some((slot, release)) = state.committed() else { continue };
                    let vendor = &release.target.vendor;
                    if !wanted.iter().any(|wanted| wanted.id == id && wanted.vendor == *vendor) {
                        iotwasm_kit::warn!("{id} of {vendor} is not started: no file in payloads.d asks for it");
                        continue;
                    }
                    let command = Command::Start { slot: wire_slot(slot), trial: false, reply: None };
                    if let Err(err) = self.send(&id, wire_slot(slot), command).await {
                        iotwasm_kit::error!("{id} is not started: {err}");
                    }
                }
                Ok(None) => {}
                Err(err) => iotwasm_kit::error!("{id} is not started: {}", report::chain(&err)),
            }
        }
    }

    /// Run a slot; returns when the self-test has passed.
    ///
    /// # Errors
    /// It did not start, with the reason.
    pub async fn start(&self, payload: &str, slot: Slot, trial: bool) -> Result<PayloadStatus, Refused> {
        let id = parse(payload)?;
        // An order for what was never there is the caller's mistake and no failed start.
        let slot_on_disk = keeper::slot_of(slot);
        if matches!(self.edges.verifier.store.state(&id), Ok(state) if state
            .as_ref()
            .is_none_or(|state| state.slot(slot_on_disk).release.is_none()))
        {
            return Err(Refused::NoSuchPayload(payload.to_owned()));
        }
        let (reply, answer) = oneshot::channel();
        self.send(&id, slot, Command::Start { slot, trial, reply: Some(reply) }).await?;
        match answer.await {
            Ok(outcome) => outcome.map_err(Refused::NotStarted),
            Err(_) => Err(leaving()),
        }
    }

    /// Stop a payload; returns when its last process has gone. One that is not known does not run.
    ///
    /// # Errors
    /// The id cannot be one.
    pub async fn stop(&self, payload: &str) -> Result<(), Refused> {
        let id = parse(payload)?;
        let keeper = self.keepers.borrow().get(&id).cloned();
        if let Some(keeper) = keeper {
            let (reply, answer) = oneshot::channel();
            if keeper.send(Command::Stop { reply }).await.is_ok() {
                // Its task ends only with the daemon, and its processes with it.
                let _ = answer.await;
            }
        }
        Ok(())
    }

    /// Treat a running trial as committed.
    ///
    /// # Errors
    /// It does not run as a trial in that slot.
    pub async fn confirm(&self, payload: &str, slot: Slot) -> Result<PayloadStatus, Refused> {
        let id = parse(payload)?;
        let keeper = self.keepers.borrow().get(&id).cloned();
        let keeper = keeper.ok_or_else(|| Refused::NoSuchPayload(payload.to_owned()))?;
        let (reply, answer) = oneshot::channel();
        keeper.send(Command::Confirm { slot, reply }).await.map_err(|_| leaving())?;
        match answer.await {
            Ok(outcome) => outcome.map_err(Refused::WrongState),
            Err(_) => Err(leaving()),
        }
    }

    /// Stop every payload within its own deadline.
    pub async fn stop_all(&self) {
        let ids: Vec<PayloadId> = self.keepers.borrow().keys().cloned().collect();
        let stops = ids.iter().map(|id| self.stop(id.as_str()));
        futures_util::future::join_all(stops).await;
    }

    async fn send(&self, id: &PayloadId, slot: Slot, command: Command) -> Result<(), Refused> {
        let known = self.keepers.borrow().get(id).cloned();
        let keeper = match known {
            Some(keeper) => keeper,
            None => {
                let mut keepers = self.keepers.borrow_mut();
                if keepers.len() >= MAX_PAYLOADS {
                    return Err(Refused::TooMany);
                }
                let keeper = keep(id.clone(), slot, Rc::clone(&self.edges), Rc::clone(&self.notices));
                keepers.insert(id.clone(), keeper.clone());
                keeper
            }
        };
        keeper.send(command).await.map_err(|_| leaving())
    }
}

fn parse(payload: &str) -> Result<PayloadId, Refused> {
    payload.parse().map_err(|_| Refused::NoSuchPayload(payload.chars().take(80).collect()))
}

fn leaving() -> Refused {
    Refused::WrongState("the supervisor is leaving".to_owned())
}

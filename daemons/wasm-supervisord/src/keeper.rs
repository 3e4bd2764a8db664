//! One payload's task: gives the machine its events, does what it says, and answers who waits.

use std::{cell::RefCell, collections::BTreeMap, rc::Rc, time::Instant};

use iotwasm_api::supervisor::{PayloadStatus, Phase, Slot};
use iotwasm_payload::PayloadId;
use tokio::sync::{mpsc, oneshot};

use crate::{
    machine::{Action, End, Event, Generation, Machine, Ticket},
    notices::Notices,
    run::{self, Edges, News, Order, Which},
};

/// Orders that wait; callers wait for their answer anyway.
const QUEUE: usize = 16;

/// What a payload's task is asked.
#[derive(Debug)]
pub enum Command {
    /// Run this slot.
    Start {
        /// Which.
        slot: Slot,
        /// As a trial.
        trial: bool,
        /// Answered when the self-test has passed, or will not; none at boot.
        reply: Option<oneshot::Sender<Result<PayloadStatus, End>>>,
    },
    /// Stop.
    Stop {
        /// Answered when the last process has gone.
        reply: oneshot::Sender<()>,
    },
    /// Treat the trial as committed.
    Confirm {
        /// Which slot.
        slot: Slot,
        /// The status, or the state that does not allow it.
        reply: oneshot::Sender<Result<PayloadStatus, String>>,
    },
}

enum Waiting {
    Start(oneshot::Sender<Result<PayloadStatus, End>>),
    Stop(oneshot::Sender<()>),
    Confirm(oneshot::Sender<Result<PayloadStatus, String>>),
}

struct Run {
    orders: mpsc::UnboundedSender<Order>,
    pid: u32,
}

/// One payload.
struct Keeper {
    id: PayloadId,
    edges: Rc<Edges>,
    notices: Rc<Notices>,
    machine: Machine,
    runs: BTreeMap<Generation, Run>,
    waiting: RefCell<BTreeMap<Ticket, Waiting>>,
    tickets: Ticket,
    news: mpsc::Sender<(Generation, News)>,
}

/// Start a payload's task. It lives as long as the sender.
#[must_use]
pub fn keep(id: PayloadId, slot: Slot, edges: Rc<Edges>, notices: Rc<Notices>) -> mpsc::Sender<Command> {
    let (sender, commands) = mpsc::channel(QUEUE);
    let (news, events) = mpsc::channel(QUEUE);
    notices.introduce(id.as_str());
    let keeper = Keeper {
        id,
        edges,
        notices,
        machine: Machine::new(slot),
        runs: BTreeMap::new(),
        waiting: RefCell::default(),
        tickets: 0,
        news,
    };
    tokio::task::spawn_local(keeper.work(commands, events));
    sender
}

impl Keeper {
    async fn work(mut self, mut commands: mpsc::Receiver<Command>, mut events: mpsc::Receiver<(Generation, News)>) {
        loop {
            let event = tokio::select! {
                command = commands.recv() => match command {
                    Some(command) => self.take(command),
                    // The daemon ends; runs end with their senders.
                    None => return,
                },
                Some((generation, news)) = events.recv() => match self.translate(generation, news) {
                    Some(event) => event,
                    None => continue,
                },
                () = wake(self.machine.wake()) => Event::Tick,
            };
            let actions = self.machine.apply(event, Instant::now());
            self.post();
            for action in actions {
                self.act(action);
            }
        }
    }

    fn ticket(&mut self, waiting: Waiting) -> Ticket {
        self.tickets += 1;
        self.waiting.borrow_mut().insert(self.tickets, waiting);
        self.tickets
    }

    fn take(&mut self, command: Command) -> Event {
        match command {
            Command::Start { slot, trial, reply } => {
                let ticket = reply.map(|reply| self.ticket(Waiting::Start(reply)));
                Event::Start { slot, trial, ticket }
            }
            Command::Stop { reply } => Event::Stop { ticket: self.ticket(Waiting::Stop(reply)) },
            Command::Confirm { slot, reply } => Event::Confirm { slot, ticket: self.ticket(Waiting::Confirm(reply)) },
        }
    }

    fn translate(&mut self, generation: Generation, news: News) -> Option<Event> {
        Some(match news {
            News::Process(pid) => {
                if let Some(run) = self.runs.get_mut(&generation) {
                    run.pid = pid;
                }
                return None;
            }
            News::Prepared(terms, identity) => Event::Prepared { generation, terms, identity },
            News::SelfTestPassed => Event::SelfTestPassed { generation },
            News::Reported(report) => Event::Reported { generation, report },
            News::Held(time) => Event::Held { generation, time },
            News::OverQuota(message) => Event::OverQuota { generation, message },
            News::Ended(end) => {
                self.runs.remove(&generation);
                // The running one goes on, so that its status does not tell.
                if self.machine.alive() != Some(generation) {
                    iotwasm_kit::info!("{}: run {generation} ended, {}: {}", self.id, end.reason, end.message);
                }
                Event::Ended { generation, end }
            }
        })
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Prepare { generation, slot } => self.prepare(generation, slot),
            Action::Begin { generation } => self.order(generation, Order::Begin),
            Action::AskStop { generation } => self.order(generation, Order::AskStop),
            Action::Kill { generation } => self.order(generation, Order::Kill),
            Action::Count { reason } => self.notices.count(self.id.as_str(), reason),
            Action::Started { ticket, outcome } => {
                let status = self.status();
                if let Some(Waiting::Start(reply)) = self.waiting.borrow_mut().remove(&ticket) {
                    // A caller that went away needs no answer.
                    let _ = reply.send(outcome.map(|()| status));
                }
            }
            Action::Stopped { ticket } => {
                if let Some(Waiting::Stop(reply)) = self.waiting.borrow_mut().remove(&ticket) {
                    let _ = reply.send(());
                }
            }
            Action::Confirmed { ticket, outcome } => {
                let status = self.status();
                if let Some(Waiting::Confirm(reply)) = self.waiting.borrow_mut().remove(&ticket) {
                    let _ = reply.send(outcome.map(|()| status));
                }
            }
        }
    }

    fn order(&self, generation: Generation, order: Order) {
        if let Some(run) = self.runs.get(&generation) {
            // A run that has just gone tells so by itself.
            let _ = run.orders.send(order);
        }
    }

    fn prepare(&mut self, generation: Generation, slot: Slot) {
        let (orders, receiver) = mpsc::unbounded_channel();
        self.runs.insert(generation, Run { orders, pid: 0 });
        let which = Which { payload: self.id.clone(), slot: slot_of(slot), cell: format!("{}.{generation}", self.id) };
        let (edges, news) = (Rc::clone(&self.edges), self.news.clone());
        tokio::task::spawn_local(async move {
            let tell = async |piece: News| {
                // Nobody listens only when the daemon ends.
                let _ = news.send((generation, piece)).await;
            };
            run::run(&edges, &which, receiver, tell).await;
        });
    }

    fn status(&self) -> PayloadStatus {
        let pid = self.machine.alive().and_then(|generation| self.runs.get(&generation)).map_or(0, |run| run.pid);
        let since = self.notices.of(self.id.as_str()).map(|status| status.since).unwrap_or_default();
        self.machine.status(self.id.as_str(), pid, since, Instant::now())
    }

    fn post(&self) {
        let before = self.notices.of(self.id.as_str());
        let status = self.status();
        if before.is_none_or(|before| before.phase != status.phase) {
            tell(&status);
        }
        self.notices.post(status, self.machine.held_until());
    }
}

/// One line for each change of phase.
fn tell(status: &PayloadStatus) {
    let PayloadStatus { payload, phase, version, slot, message, .. } = status;
    match (phase, status.reason) {
        (Phase::Backoff | Phase::Failed, Some(reason)) => {
            iotwasm_kit::warn!("{payload}: {phase:?}, slot {slot:?} {version}: {reason}: {message}");
        }
        _ => iotwasm_kit::info!("{payload}: {phase:?}, slot {slot:?} {version}"),
    }
}

async fn wake(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}

/// A slot's name on the disk for its name on the wire.
#[must_use]
pub fn slot_of(slot: Slot) -> iotwasm_payload::Slot {
    match slot {
        Slot::A => iotwasm_payload::Slot::A,
        Slot::B => iotwasm_payload::Slot::B,
    }
}

/// A slot's name on the wire for its name on the disk.
#[must_use]
pub fn wire_slot(slot: iotwasm_payload::Slot) -> Slot {
    match slot {
        iotwasm_payload::Slot::A => Slot::A,
        iotwasm_payload::Slot::B => Slot::B,
    }
}

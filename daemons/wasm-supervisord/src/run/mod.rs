//! One run of a payload, from the order to prepare it until its last process has gone. Owns the runner's process, its
//! cell and what it says; decides nothing about what comes next (see [`crate::machine`]).

mod session;
mod setup;
mod stream;

use std::{
    os::fd::{AsFd, OwnedFd},
    path::PathBuf,
    rc::Rc,
    time::{Duration, Instant},
};

use iotwasm_api::{Reason, supervisor::Health};
use iotwasm_kit::{log::Level, report};
use iotwasm_payload::{PayloadId, Slot};
use iotwasm_verify::Verifier;
use tokio::sync::mpsc;

use self::{session::Sessions, stream::Stream};
use crate::{
    bucket::Bucket,
    capabilities::Capabilities,
    cgroup::{Bounds, Cell, Cells, Starved},
    config,
    ending::{Remains, classify},
    journal::{Journal, Voice},
    machine::{End, Identity, Report, Terms},
    meter::{Meter, Rules},
    process::Process,
    protocol::{Ending, Feeling, FromRunner, ToRunner},
    storage,
    verify::{self, Verified},
};

/// Between a runner's last word and its end; then it is killed.
const AFTER_LAST_WORD: Duration = Duration::from_secs(1);
/// Messages of one runner at once, and then for each second. The runner itself lets fewer through; this is for one that
/// was broken into.
const BURST: u32 = 256;
const PER_SECOND: u32 = 64;
/// How long the last processes of a cell may take to go after they were killed.
const CELL_EMPTY: Duration = Duration::from_secs(5);

/// The world that runs need.
pub struct Edges {
    /// Makes the cells.
    pub cells: Box<dyn Cells>,
    /// The runner's program.
    pub runner: PathBuf,
    /// Judges slots.
    pub verifier: Verifier,
    /// Opens sessions for those that ask for peripherals.
    pub capabilities: Box<dyn Capabilities>,
    /// Takes what payloads say.
    pub journal: Rc<Journal>,
    /// Where payloads' folders are, and how they are measured.
    pub storage: Rules,
    /// What every runner gets.
    pub settings: config::Runner,
}

/// What a run is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// Run the self-test.
    Begin,
    /// Leave the loop.
    AskStop,
    /// End at once.
    Kill,
}

/// What a run tells. [`News::Ended`] comes once and last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum News {
    /// The runner's process.
    Process(u32),
    /// Verified, sandboxed, loaded.
    Prepared(Terms, Identity),
    /// The self-test passed.
    SelfTestPassed,
    /// The guest's health.
    Reported(Report),
    /// The guest asks that the device not be restarted for so long; zero releases.
    Held(Duration),
    /// It wrote more to its folders than it may.
    OverQuota(String),
    /// The last process has gone.
    Ended(End),
}

/// Which run.
#[derive(Debug, Clone)]
pub struct Which {
    /// Whose.
    pub payload: PayloadId,
    /// From where.
    pub slot: Slot,
    /// Name of its cell.
    pub cell: String,
}

/// Run it to its end. `orders` must stay open as long as the run; when it closes, the run is killed.
pub async fn run(edges: &Edges, which: &Which, mut orders: mpsc::UnboundedReceiver<Order>, news: impl AsyncFn(News)) {
    let end = match Run::prepare(edges, which, &mut orders, &news).await {
        Ok(run) => run.follow(orders, &news).await,
        Err(end) => end,
    };
    news(News::Ended(end)).await;
}

struct Run<'a> {
    process: Process,
    /// None for a payload that asks for no peripherals.
    sessions: Option<Sessions<'a>>,
    cell: Box<dyn Cell>,
    bounds: Bounds,
    meter: Meter,
    ready: Option<(Terms, Identity)>,
    voice: Voice,
    bucket: Bucket,
    last_word: Option<(Ending, String)>,
    /// It broke the protocol.
    broken: Option<End>,
}

impl<'a> Run<'a> {
    /// Make the process first: it sets itself up while the slot is verified.
    async fn prepare(
        edges: &'a Edges,
        which: &'a Which,
        orders: &mut mpsc::UnboundedReceiver<Order>,
        news: &impl AsyncFn(News),
    ) -> Result<Self, End> {
        let process = Process::spawn(&edges.runner).map_err(|err| failed(&err))?;
        news(News::Process(process.id())).await;
        let verified = {
            let (verifier, payload, slot) = (edges.verifier.clone(), which.payload.clone(), which.slot);
            let verify = tokio::task::spawn_blocking(move || verify::verify(&verifier, &payload, slot));
            tokio::select! {
                verified = verify => verified.map_err(|err| failed(&err))?,
                _ = killed(orders) => return Err(given_up()),
            }
        };
        let verified = verified.map_err(|err| End { reason: err.reason(), message: report::chain(&err) })?;
        if verified.manifest().capabilities.is_empty() {
            return Self::hand_over(edges, which, process, verified, None);
        }
        let opened = tokio::select! {
            opened = Sessions::open(&*edges.capabilities, which, verified.digest().to_string()) => opened,
            _ = killed(orders) => return Err(given_up()),
        };
        let session = opened.map_err(|err| {
            let message = crate::journal::escape(&report::chain(&err));
            End { reason: err.reason(), message }
        })?;
        Self::hand_over(edges, which, process, verified, Some(session))
    }

    /// Put the process in its cell and give it its payload.
    fn hand_over(
        edges: &'a Edges,
        which: &'a Which,
        mut process: Process,
        verified: Verified,
        session: Option<(Sessions<'a>, OwnedFd)>,
    ) -> Result<Self, End> {
        let manifest = verified.manifest();
        let folders = storage::folders(&edges.storage.root, manifest);
        storage::make(&folders).map_err(|err| failed(&err))?;
        let bounds = setup::bounds(&edges.settings, manifest, verified.length());
        let ready = (
            Terms {
                self_test: manifest.limits.self_test(),
                heartbeat: manifest.health.heartbeat(),
                stop: manifest.limits.stop(),
            },
            Identity { version: manifest.version.to_string(), sha256: verified.digest().to_string() },
        );
        let meter = Meter::new(edges.storage.clone(), which.payload.as_str(), &ready.1.sha256, &folders);
        let setup = ToRunner::Setup(Box::new(setup::setup(manifest, &folders, &bounds)));
        let cell = edges.cells.make(&which.cell, &bounds).map_err(|err| failed(&err))?;
        let module = verified.into_module();
        let (sessions, session) = session.unzip();
        let fds: Vec<_> = std::iter::once(&module).chain(&session).map(AsFd::as_fd).collect();
        let handed = cell
            .admit(process.id())
            .map_err(|err| failed(&err))
            .and_then(|()| process.send(&setup, &fds).map_err(|err| failed(&err)));
        if let Err(mut end) = handed {
            let words = process.last_words();
            if !words.is_empty() {
                end.message = format!("{}: {}", end.message, crate::journal::escape(&words));
            }
            if let Err(err) = cell.remove() {
                iotwasm_kit::warn!("{}", report::chain(&err));
            }
            return Err(end);
        }
        let now = Instant::now();
        Ok(Self {
            process,
            sessions,
            cell,
            bounds,
            meter,
            ready: Some(ready),
            voice: Voice::new(Rc::clone(&edges.journal), which.payload.as_str(), now),
            bucket: Bucket::new(BURST, PER_SECOND, now),
            last_word: None,
            broken: None,
        })
    }

    /// Carry orders in and news out until the process has gone.
    async fn follow(mut self, mut orders: mpsc::UnboundedReceiver<Order>, news: &impl AsyncFn(News)) -> End {
        let (mut stdout, mut stderr) = (Stream::new(&mut self.process.stdout), Stream::new(&mut self.process.stderr));
        let measures = self.meter.has_work();
        let mut measure = tokio::time::interval(self.meter.pace());
        measure.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut kill_at = None;
        let mut heard_out = false;
        loop {
            tokio::select! {
                order = orders.recv() => self.obey(order.unwrap_or(Order::Kill), news).await,
                message = self.process.receive(), if !heard_out => match message {
                    Some(Ok(message)) => {
                        self.hear(message, news).await;
                        if self.last_word.is_some() && kill_at.is_none() {
                            kill_at = Some(tokio::time::Instant::now() + AFTER_LAST_WORD);
                        }
                    }
                    Some(Err(err)) => self.broke_protocol(&err.to_string()),
                    // It closed its end, so it is about to go.
                    None => {
                        heard_out = true;
                        kill_at.get_or_insert(tokio::time::Instant::now() + AFTER_LAST_WORD);
                    }
                },
                () = stdout.read() => stdout.speak(&mut self.voice, Level::Info),
                () = stderr.read() => stderr.speak(&mut self.voice, Level::Warning),
                _ = measure.tick(), if measures => {
                    if let Some(stop) = self.meter.look(Instant::now()) {
                        news(News::OverQuota(stop.message)).await;
                        if stop.at_once {
                            self.kill();
                        }
                    }
                }
                session = Sessions::next(&mut self.sessions) => {
                    // A runner that takes no message is about to go.
                    let _ = self.process.send(&ToRunner::Session, &[session.as_fd()]);
                }
                () = sleep_until(kill_at) => {
                    kill_at = None;
                    self.kill();
                }
                () = self.process.gone() => break,
            }
        }
        let status = self.process.reap();
        // What it said before it went is still in the socket and the pipes.
        while let Some(Ok(message)) = self.process.try_receive() {
            self.hear(message, news).await;
        }
        stdout.finish(&mut self.voice, Level::Info);
        stderr.finish(&mut self.voice, Level::Warning);
        let starved = self.clear().await;
        let remains =
            Remains { last_word: self.last_word.take(), status, starved, memory_bytes: self.bounds.memory_bytes };
        self.broken.take().unwrap_or_else(|| classify(&remains))
    }

    /// Empty the cell and remove it. Gives whether the kernel ended anything in it for want of memory.
    async fn clear(&self) -> Option<Starved> {
        let starved = self.cell.starved();
        if let Err(err) = self.cell.kill() {
            iotwasm_kit::warn!("{}", report::chain(&err));
        }
        // The kernel ends the last ones in its own time.
        let until = Instant::now() + CELL_EMPTY;
        while let Err(err) = self.cell.remove() {
            if Instant::now() >= until {
                iotwasm_kit::error!("a cell stays behind: {}", report::chain(&err));
                break;
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        starved
    }

    async fn obey(&mut self, order: Order, news: &impl AsyncFn(News)) {
        let message = match order {
            Order::Begin => {
                // What ran before has gone, so that the folders are this run's from now on.
                if let Some(stop) = self.meter.begin(Instant::now()) {
                    return news(News::OverQuota(stop.message)).await;
                }
                ToRunner::Begin
            }
            Order::AskStop => ToRunner::Stop,
            Order::Kill => return self.kill(),
        };
        if self.process.send(&message, &[]).is_err() {
            // It does not take orders any more: its end, or the machine's deadline, follows.
            iotwasm_kit::debug!("a runner took no order");
        }
    }

    async fn hear(&mut self, message: FromRunner, news: &impl AsyncFn(News)) {
        let now = Instant::now();
        match message {
            FromRunner::Loaded => {
                if let Some((terms, identity)) = self.ready.take() {
                    news(News::Prepared(terms, identity)).await;
                }
            }
            FromRunner::SelfTestPassed => news(News::SelfTestPassed).await,
            FromRunner::Health { feeling, message } => {
                // A failure is heard always: it ends the run.
                if feeling == Feeling::Failed || self.bucket.take(now) {
                    let health = match feeling {
                        Feeling::Healthy => Health::Healthy,
                        Feeling::Degraded => Health::Degraded,
                        Feeling::Failed => Health::Failed,
                    };
                    news(News::Reported(Report { health, message: crate::journal::escape(&message) })).await;
                }
            }
            FromRunner::Hold { seconds } => {
                if self.bucket.take(now) {
                    news(News::Held(Duration::from_secs(seconds.into()))).await;
                }
            }
            FromRunner::Log { level, message } => {
                if self.bucket.take(now) {
                    self.voice.say(priority(level), &message, now);
                }
            }
            FromRunner::Dropped { count } => {
                let text = format!("(left out {count} reports and log lines: this payload sends too many)");
                self.voice.say(Level::Warning, &text, now);
            }
            FromRunner::SessionLost => match &mut self.sessions {
                Some(sessions) => sessions.lost(now),
                None => self.broke_protocol("news of a session that it never had"),
            },
            FromRunner::Ended { ending, message } => {
                self.last_word.get_or_insert((ending, crate::journal::escape(&message)));
            }
        }
    }

    /// Only a runner that was broken into sends such a thing.
    fn broke_protocol(&mut self, what: &str) {
        let message = format!("the runner sent {what}");
        self.broken.get_or_insert(End { reason: Reason::Killed, message });
        self.kill();
    }

    fn kill(&self) {
        if let Err(err) = self.cell.kill() {
            iotwasm_kit::warn!("{}", report::chain(&err));
        }
        self.process.kill();
    }
}

/// Resolves when the run is to be killed.
async fn killed(orders: &mut mpsc::UnboundedReceiver<Order>) {
    while let Some(order) = orders.recv().await {
        if order == Order::Kill {
            return;
        }
    }
}

async fn sleep_until(at: Option<tokio::time::Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

fn failed(err: &dyn std::error::Error) -> End {
    End { reason: Reason::StartFailed, message: report::chain(err) }
}

fn given_up() -> End {
    End { reason: Reason::Stopped, message: "given up before it was ready".to_owned() }
}

fn priority(level: u8) -> Level {
    match level {
        0..=3 => Level::Error,
        4 => Level::Warning,
        5 | 6 => Level::Info,
        _ => Level::Debug,
    }
}

//! One run of a payload, from the order to prepare it until its last process has gone. Owns the runner's process, its
//! cell and what it says; decides nothing about what comes next (see [`crate::machine`]).

use std::{
    path::PathBuf,
    rc::Rc,
    time::{Duration, Instant},
};

use iotwasm_api::{Reason, supervisor::Health};
use iotwasm_kit::{log::Level, report};
use iotwasm_payload::{Manifest, PayloadId, Slot, manifest::EntryStyle};
use iotwasm_verify::Verifier;
use tokio::{io::AsyncReadExt, net::unix::pipe, sync::mpsc};

use crate::{
    bucket::Bucket,
    cgroup::{Bounds, Cell, Cells, Starved},
    config,
    ending::{Remains, classify},
    journal::{Journal, Lines, Voice},
    machine::{End, Identity, Report, Terms},
    meter::{Meter, Rules},
    process::Process,
    protocol::{Directory, Ending, Feeling, FromRunner, Setup, ToRunner},
    storage::{self, Folder},
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
/// Private memory beyond the cell's bound that the process may map: thread stacks that are mostly never touched. The
/// cell is the wall; this only keeps absurd requests from being granted.
const DATA_BEYOND: u64 = 64 * 1024 * 1024;
/// What the engine keeps for each byte of a module, generously.
const MODULE_FACTOR: u64 = 16;

/// The world that runs need.
pub struct Edges {
    /// Makes the cells.
    pub cells: Box<dyn Cells>,
    /// The runner's program.
    pub runner: PathBuf,
    /// Judges slots.
    pub verifier: Verifier,
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

struct Run {
    process: Process,
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

impl Run {
    /// Make the process first: it sets itself up while the slot is verified.
    async fn prepare(
        edges: &Edges,
        which: &Which,
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
        Self::hand_over(edges, which, process, verified)
    }

    /// Put the process in its cell and give it its payload.
    fn hand_over(edges: &Edges, which: &Which, mut process: Process, verified: Verified) -> Result<Self, End> {
        let manifest = verified.manifest();
        let folders = storage::folders(&edges.storage.root, manifest);
        storage::make(&folders).map_err(|err| failed(&err))?;
        let bounds = bounds(&edges.settings, manifest, verified.length());
        let ready = (
            Terms {
                self_test: manifest.limits.self_test(),
                heartbeat: manifest.health.heartbeat(),
                stop: manifest.limits.stop(),
            },
            Identity { version: manifest.version.to_string(), sha256: verified.digest().to_string() },
        );
        let meter = Meter::new(edges.storage.clone(), which.payload.as_str(), &ready.1.sha256, &folders);
        let setup = ToRunner::Setup(Box::new(setup(manifest, &folders, &bounds)));
        let cell = edges.cells.make(&which.cell, &bounds).map_err(|err| failed(&err))?;
        let handed = cell
            .admit(process.id())
            .map_err(|err| failed(&err))
            .and_then(|()| process.send(&setup, Some(&verified.into_module())).map_err(|err| failed(&err)));
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
        if self.process.send(&message, None).is_err() {
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
            FromRunner::Log { level, message } => {
                if self.bucket.take(now) {
                    self.voice.say(priority(level), &message, now);
                }
            }
            FromRunner::Dropped { count } => {
                let text = format!("(left out {count} reports and log lines: this payload sends too many)");
                self.voice.say(Level::Warning, &text, now);
            }
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

fn bounds(settings: &config::Runner, manifest: &Manifest, length: u64) -> Bounds {
    let pages = u64::from(manifest.limits.memory_pages) * 64 * 1024;
    let overhead = u64::from(settings.overhead_mib) * 1024 * 1024;
    Bounds {
        memory_bytes: pages + overhead + length * MODULE_FACTOR,
        tasks: settings.tasks,
        cpu_percent: settings.cpu_percent,
    }
}

fn setup(manifest: &Manifest, folders: &[Folder], bounds: &Bounds) -> Setup {
    let limits = &manifest.limits;
    Setup {
        payload: manifest.id.to_string(),
        command: manifest.entry.style == EntryStyle::Command,
        wasi: manifest.has_wasi(),
        memory_pages: limits.memory_pages,
        fuel: limits.fuel,
        wake_up_ms: limits.wake_up_ms,
        self_test_ms: limits.self_test_ms,
        data_bytes: bounds.memory_bytes + DATA_BEYOND,
        // One limit for the whole process: that of the roomiest folder.
        file_bytes: folders.iter().filter_map(|folder| folder.quota).max().unwrap_or(0),
        environment: manifest.wasi.as_ref().map(|wasi| wasi.environment.clone()).unwrap_or_default(),
        directories: folders
            .iter()
            .map(|folder| Directory {
                guest: folder.guest.clone(),
                host: folder.host.display().to_string(),
                writable: folder.quota.is_some(),
            })
            .collect(),
        // Names, words and numbers: all of it is JSON.
        capabilities: serde_json::to_value(&manifest.capabilities).unwrap_or_default(),
    }
}

/// A pipe on its way to the journal.
struct Stream {
    pipe: Option<pipe::Receiver>,
    buffer: Vec<u8>,
    lines: Lines,
}

impl Stream {
    fn new(pipe: &mut Option<pipe::Receiver>) -> Self {
        Self { pipe: pipe.take(), buffer: Vec::with_capacity(4096), lines: Lines::default() }
    }

    /// Some bytes have come. Safe to give up halfway: nothing is taken out before it resolves.
    async fn read(&mut self) {
        self.buffer.clear();
        match &mut self.pipe {
            Some(pipe) => {
                if !matches!(pipe.read_buf(&mut self.buffer).await, Ok(n) if n > 0) {
                    self.pipe = None;
                }
            }
            None => std::future::pending().await,
        }
    }

    fn speak(&mut self, voice: &mut Voice, level: Level) {
        let now = Instant::now();
        self.lines.push(&self.buffer, |line| voice.say(level, line, now));
    }

    /// What is left when the process has gone: at most what a pipe holds.
    fn finish(&mut self, voice: &mut Voice, level: Level) {
        let now = Instant::now();
        let mut bytes = [0; 4096];
        while let Some(Ok(n @ 1..)) = self.pipe.as_ref().map(|pipe| pipe.try_read(&mut bytes)) {
            self.lines.push(&bytes[..n], |line| voice.say(level, line, now));
        }
        self.lines.flush(&mut |line: &str| voice.say(level, line, now));
    }
}

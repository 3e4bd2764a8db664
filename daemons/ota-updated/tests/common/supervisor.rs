//! A supervisor that speaks real Varlink and runs nothing: it plays what the test wrote down for each version.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use futures_util::Stream;
use futures_util::stream::{self, BoxStream, StreamExt};
use iotwasm_api::Reason;
use iotwasm_api::supervisor::{Event, Health, Monitored, PayloadStatus, Phase, Slot, Started, Status, SupervisorError};
use iotwasm_kit::varlink;
use iotwasm_payload::pack;
use iotwasm_payload::store::Reader;
use tokio::sync::{broadcast, oneshot};
use zlink::Reply;

/// How a version behaves. The default is to be healthy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Script {
    #[default]
    Healthy,
    StartFails(Reason),
    /// Ends right after its start.
    Ends(Reason),
    ReportsFailed,
    /// Healthy until the very moment at which its trial is to be confirmed.
    EndsAtConfirm,
    /// Never reports anything.
    Silent,
}

pub struct Stage {
    payloads: PathBuf,
    pub scripts: BTreeMap<String, Script>,
    pub running: BTreeMap<String, PayloadStatus>,
    pub calls: Vec<String>,
    starts: i64,
    sequence: i64,
    news: broadcast::Sender<Monitored>,
    /// Called at each call.
    pub hook: Option<super::Hook>,
}

impl Stage {
    fn called(&mut self, call: String) {
        if let Some(hook) = self.hook.clone() {
            hook(&call);
        }
        self.calls.push(call);
    }

    fn show(&mut self, status: PayloadStatus) {
        self.sequence += 1;
        self.running.insert(status.payload.clone(), status.clone());
        let _ = self.news.send(Monitored { event: Event { sequence: self.sequence, status } });
    }

    fn end(&mut self, payload: &str, phase: Phase, reason: Reason) {
        if let Some(status) = self.running.get(payload).cloned().filter(|s| s.phase == Phase::Running) {
            let message = format!("ended: {reason}");
            self.show(PayloadStatus { phase, reason: Some(reason), message, pid: 0, ..status });
        }
    }
}

#[derive(Clone)]
pub struct Supervisor {
    pub stage: Arc<Mutex<Stage>>,
    pub socket: PathBuf,
}

/// A supervisor that is up; dropping it closes its socket and every connection.
pub struct Up {
    quit: Option<oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
    socket: PathBuf,
}

impl Drop for Up {
    fn drop(&mut self) {
        drop(self.quit.take());
        self.thread.take().unwrap().join().unwrap();
        let _ = std::fs::remove_file(&self.socket);
    }
}

impl Supervisor {
    pub fn new(payloads: PathBuf, socket: PathBuf) -> Self {
        let stage = Stage {
            payloads,
            scripts: BTreeMap::new(),
            running: BTreeMap::new(),
            calls: Vec::new(),
            starts: 0,
            sequence: 0,
            news: broadcast::channel(64).0,
            hook: None,
        };
        Self { stage: Arc::new(Mutex::new(stage)), socket }
    }

    /// Starts as the real one does: nothing runs but what is committed on the disk.
    pub fn up(&self) -> Up {
        {
            let mut stage = self.stage.lock().unwrap();
            stage.running.clear();
            stage.news = broadcast::channel(64).0;
            stage.starts = 0;
            let reader = Reader::new(&stage.payloads);
            for id in reader.payloads().unwrap() {
                if let Some((slot, _)) = reader.state(&id).unwrap().unwrap_or_default().committed() {
                    let slot = if slot == iotwasm_payload::Slot::A { Slot::A } else { Slot::B };
                    let _ = play(&mut stage, id.as_str(), slot, false);
                }
            }
        }
        let listener = std::os::unix::net::UnixListener::bind(&self.socket).unwrap();
        let (quit, quitting) = oneshot::channel::<()>();
        let stage = Arc::clone(&self.stage);
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            tokio::task::LocalSet::new().block_on(&runtime, async {
                tokio::select! {
                    served = varlink::serve(listener, varlink::Limits::default(), |_| Service(Arc::clone(&stage))) => {
                        served.unwrap();
                    }
                    _ = quitting => {}
                }
            });
        });
        Up { quit: Some(quit), thread: Some(thread), socket: self.socket.clone() }
    }

    pub fn set(&self, version: &str, script: Script) {
        self.stage.lock().unwrap().scripts.insert(version.into(), script);
    }

    /// The payload asks not to be interrupted for so many seconds.
    pub fn hold(&self, id: &str, seconds: i64) {
        let mut stage = self.stage.lock().unwrap();
        let status = stage.running.get(id).cloned().unwrap();
        stage.show(PayloadStatus { hold_s: seconds, ..status });
    }

    pub fn calls(&self, part: &str) -> usize {
        self.stage.lock().unwrap().calls.iter().filter(|call| call.contains(part)).count()
    }

    /// What runs of a payload: version, slot, and whether as a trial.
    pub fn runs(&self, id: &str) -> Option<(String, Slot, bool)> {
        let stage = self.stage.lock().unwrap();
        let status = stage.running.get(id).filter(|s| s.phase == Phase::Running)?;
        Some((status.version.clone(), status.slot, status.trial))
    }
}

/// Plays a start: what the real one would tell, up to its reply.
fn play(stage: &mut Stage, id: &str, slot: Slot, trial: bool) -> Result<Started, SupervisorError> {
    let folder = if slot == Slot::A { iotwasm_payload::Slot::A } else { iotwasm_payload::Slot::B };
    let bytes = Reader::new(&stage.payloads).payload(&id.parse().unwrap(), folder).unwrap();
    let Some(bytes) = bytes else { return Err(SupervisorError::NoSuchPayload { payload: id.into() }) };
    let version = pack::manifest_of(&bytes).unwrap().version.to_string();
    let script = stage.scripts.get(&version).copied().unwrap_or_default();
    stage.end(id, Phase::Stopped, Reason::Stopped);
    stage.starts += 1;
    let status = PayloadStatus {
        payload: id.into(),
        slot,
        version,
        sha256: String::new(),
        trial,
        phase: Phase::Starting,
        health: Health::Unknown,
        message: String::new(),
        reason: None,
        starts: stage.starts,
        crashes: 0,
        pid: 1000 + stage.starts,
        start_ms: 1,
        self_test_ms: 0,
        interruption_ms: 0,
        hold_s: 0,
        since: String::new(),
    };
    stage.show(status.clone());
    stage.show(PayloadStatus { phase: Phase::SelfTest, ..status.clone() });
    if let Script::StartFails(reason) = script {
        stage.show(PayloadStatus { phase: Phase::Failed, reason: Some(reason), ..status });
        return Err(SupervisorError::StartFailed { reason, message: "as written down".into() });
    }
    let health = if script == Script::Silent { Health::Unknown } else { Health::Healthy };
    let status = PayloadStatus { phase: Phase::Running, health, ..status };
    stage.show(status.clone());
    match script {
        // The end is told before the reply: the worst order for whoever listens.
        Script::Ends(reason) => stage.end(id, Phase::Failed, reason),
        Script::ReportsFailed => stage.show(PayloadStatus { health: Health::Failed, ..status.clone() }),
        _ => {}
    }
    Ok(Started { status })
}

struct Service(Arc<Mutex<Stage>>);

#[zlink::service(interface = "io.iotwasm.Supervisor", types = [PayloadStatus, Slot, Phase, Health, Event, Reason])]
impl Service {
    async fn get_status(&self) -> Result<Status, SupervisorError> {
        let mut stage = self.0.lock().unwrap();
        stage.called("status".into());
        Ok(Status { payloads: stage.running.values().cloned().collect() })
    }

    async fn start(&self, payload: String, slot: Slot, trial: bool) -> Result<Started, SupervisorError> {
        let mut stage = self.0.lock().unwrap();
        stage.called(format!("start {payload} {slot:?} {trial}"));
        play(&mut stage, &payload, slot, trial)
    }

    async fn confirm(&self, payload: String, slot: Slot) -> Result<Started, SupervisorError> {
        let mut stage = self.0.lock().unwrap();
        stage.called(format!("confirm {payload} {slot:?}"));
        let trial = stage.running.get(&payload).filter(|s| s.trial).map(|s| s.version.clone());
        if trial.is_some_and(|version| stage.scripts.get(&version) == Some(&Script::EndsAtConfirm)) {
            stage.end(&payload, Phase::Failed, Reason::Trap);
        }
        match stage.running.get(&payload).cloned() {
            Some(status) if status.slot == slot && status.phase == Phase::Running => {
                let status = PayloadStatus { trial: false, ..status };
                stage.show(status.clone());
                Ok(Started { status })
            }
            _ => Err(SupervisorError::WrongState { message: "not running".into() }),
        }
    }

    async fn stop(&self, payload: String) -> Result<(), SupervisorError> {
        let mut stage = self.0.lock().unwrap();
        stage.called(format!("stop {payload}"));
        stage.end(&payload, Phase::Stopped, Reason::Stopped);
        Ok(())
    }

    #[zlink(more)]
    async fn monitor(&self, _more: bool) -> impl Stream<Item = Result<Reply<Monitored>, SupervisorError>> + Unpin {
        self.monitored()
    }
}

impl Service {
    fn monitored(&self) -> BoxStream<'static, Result<Reply<Monitored>, SupervisorError>> {
        let mut stage = self.0.lock().unwrap();
        stage.called("monitor".into());
        let news = stage.news.subscribe();
        let present: Vec<Monitored> = stage
            .running
            .values()
            .map(|status| Monitored { event: Event { sequence: 0, status: status.clone() } })
            .collect();
        let rest = stream::unfold(news, |mut news| async move { Some((news.recv().await.ok()?, news)) });
        let reply = |item| Ok(Reply::new(Some(item)).set_continues(Some(true)));
        stream::iter(present).chain(rest).map(reply).boxed()
    }
}

//! What the daemon knows of itself, shared between the work (which changes it) and the Varlink service (which shows
//! it): activity, payloads, history, metrics. Decides nothing.

use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use iotwasm_api::Reason;
use iotwasm_api::ota::{Attempt, FirmwareInfo, Level, Monitored, Outcome, PayloadInfo, Status};
use iotwasm_kit::metrics::{Kind, Registry};
use iotwasm_kit::{info, report, warn};
use jiff::Timestamp;
use tokio::sync::broadcast;

use crate::journal::Journal;

/// News kept for a client that reads slowly; it misses the ones beyond that, and then gets the present state.
const NEWS: usize = 64;
/// Shortest time between two news of a download's progress.
const PROGRESS_PAUSE: Duration = Duration::from_millis(200);

const VERSION: &str = "iot_device_payload_version";
const FIRMWARE: &str = "iot_device_firmware_version";
const ATTEMPTS: &str = "iot_ota_attempts_total";
const ROLLBACKS: &str = "iot_ota_rollback_total";

/// What the worker does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activity {
    /// Nothing; a trial may be under way all the same.
    Idle,
    /// Fetching and verifying metadata.
    Checking,
    /// Fetching a payload.
    Downloading,
    /// Verifying a payload and writing it to its slot.
    Installing,
    /// Having RAUC verify firmware and write it to the other slot.
    InstallingFirmware,
}

/// What goes on with the firmware beside the worker's own activity.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// It is installed and waits for the restart.
    Waiting,
    /// The restart is ordered.
    Rebooting,
    /// It runs and is tried.
    Trial,
}

/// Everything that is shown to others.
#[derive(Debug)]
pub struct Shared {
    device_id: String,
    board: String,
    history: PathBuf,
    inner: Mutex<Inner>,
    news: broadcast::Sender<Monitored>,
}

#[derive(Debug)]
struct Inner {
    activity: Activity,
    stage: Option<Stage>,
    trials: usize,
    downloaded: u64,
    total: u64,
    percent: i64,
    detail: String,
    progress_told: Option<Instant>,
    last_check: String,
    last_error: String,
    next_check: Option<Instant>,
    payloads: Vec<PayloadInfo>,
    firmware: Option<FirmwareInfo>,
    journal: Journal,
    metrics: Registry,
}

/// The present time in the form that the interface uses.
#[must_use]
pub fn now_text() -> String {
    Timestamp::from_second(Timestamp::now().as_second()).unwrap_or_default().to_string()
}

/// Whether an attempt with this outcome is over: only then it counts.
fn is_end(outcome: Outcome) -> bool {
    !matches!(outcome, Outcome::Installing | Outcome::Trial)
}

/// What an attempt of this level may end as: a repository is only ever refused or not had.
fn can_come_to(level: Level, outcome: Outcome) -> bool {
    is_end(outcome) && (level != Level::Repository || matches!(outcome, Outcome::Refused | Outcome::Failed))
}

impl Shared {
    /// Starts with the history that the disk has.
    #[must_use]
    pub fn new(device_id: String, board: String, history: PathBuf, mut metrics: Registry) -> Self {
        metrics.declare(Kind::Gauge, VERSION, "The payload version that is committed, as a label; always 1.");
        metrics.declare(Kind::Gauge, FIRMWARE, "The firmware version that runs, as a label; always 1.");
        metrics.declare(Kind::Counter, ATTEMPTS, "Attempts that came to this outcome.");
        metrics.declare(Kind::Counter, ROLLBACKS, "Payloads and firmware rolled back, by reason.");
        for level in Level::ALL {
            let labels = [("device_id", device_id.as_str()), ("level", level.as_str())];
            for outcome in Outcome::ALL.into_iter().filter(|outcome| can_come_to(level, *outcome)) {
                metrics.set(ATTEMPTS, &[labels[0], labels[1], ("outcome", outcome.as_str())], 0.0);
            }
            for reason in Reason::ALL.into_iter().filter(|_| level != Level::Repository) {
                metrics.set(ROLLBACKS, &[labels[0], labels[1], ("reason", reason.as_str())], 0.0);
            }
        }
        let inner = Inner {
            activity: Activity::Idle,
            stage: None,
            trials: 0,
            downloaded: 0,
            total: 0,
            percent: 0,
            detail: String::new(),
            progress_told: None,
            last_check: String::new(),
            last_error: String::new(),
            next_check: None,
            payloads: Vec::new(),
            firmware: None,
            journal: Journal::load(&history),
            metrics,
        };
        let shared = Self { device_id, board, history, inner: Mutex::new(inner), news: broadcast::channel(NEWS).0 };
        shared.write_metrics(&shared.lock());
        shared
    }

    /// The board, as payloads name it.
    #[must_use]
    pub fn board(&self) -> &str {
        &self.board
    }

    /// The reply to `GetStatus`.
    #[must_use]
    pub fn status(&self) -> Status {
        let inner = self.lock();
        let left = inner.next_check.map_or(0, |at| at.saturating_duration_since(Instant::now()).as_secs());
        Status {
            device_id: self.device_id.clone(),
            board: self.board.clone(),
            activity: inner.activity_name().to_owned(),
            last_check: inner.last_check.clone(),
            last_error: inner.last_error.clone(),
            next_check_s: i64::try_from(left).unwrap_or(i64::MAX),
            payloads: inner.payloads.clone(),
            firmware: inner.firmware.clone(),
        }
    }

    /// Attempts, newest first.
    #[must_use]
    pub fn attempts(&self, payload: Option<&str>, level: Option<Level>, limit: usize) -> Vec<Attempt> {
        self.lock().journal.list(payload, level, limit)
    }

    /// The present state as news, and all news that follow.
    #[must_use]
    pub fn subscribe(&self) -> (Monitored, broadcast::Receiver<Monitored>) {
        let inner = self.lock();
        (inner.news(None), self.news.subscribe())
    }

    /// The present state as news.
    #[must_use]
    pub fn present(&self) -> Monitored {
        self.lock().news(None)
    }

    /// Whether a check is under way.
    #[must_use]
    pub fn is_checking(&self) -> bool {
        self.lock().activity != Activity::Idle
    }

    /// The worker turns to something else.
    pub fn set_activity(&self, activity: Activity) {
        let mut inner = self.lock();
        if !matches!(activity, Activity::Downloading | Activity::InstallingFirmware) {
            (inner.downloaded, inner.total) = (0, 0);
        }
        inner.activity = activity;
        self.tell(&inner, None);
    }

    /// A download moved on.
    pub fn progress(&self, downloaded: u64, total: u64) {
        let mut inner = self.lock();
        (inner.downloaded, inner.total) = (downloaded, total);
        let due = inner.progress_told.is_none_or(|at| at.elapsed() >= PROGRESS_PAUSE);
        if due || downloaded == total {
            inner.progress_told = Some(Instant::now());
            self.tell(&inner, None);
        }
    }

    /// An installation of firmware moved on.
    pub fn firmware_progress(&self, percent: i64, detail: String, fetched: i64, total: i64) {
        let mut inner = self.lock();
        let moved = (inner.percent, &inner.detail) != (percent, &detail);
        (inner.percent, inner.detail) = (percent, detail);
        (inner.downloaded, inner.total) =
            (u64::try_from(fetched).unwrap_or_default(), u64::try_from(total).unwrap_or_default());
        let due = inner.progress_told.is_none_or(|at| at.elapsed() >= PROGRESS_PAUSE);
        if moved || due {
            inner.progress_told = Some(Instant::now());
            self.tell(&inner, None);
        }
    }

    /// What goes on with the firmware.
    pub fn set_stage(&self, stage: Option<Stage>) {
        let mut inner = self.lock();
        if inner.stage != stage {
            inner.stage = stage;
            self.tell(&inner, None);
        }
    }

    /// What the firmware slots hold now.
    pub fn set_firmware(&self, firmware: FirmwareInfo) {
        let mut inner = self.lock();
        let device = ("device_id", self.device_id.as_str());
        inner.metrics.forget(FIRMWARE, &[device]);
        inner.metrics.set(FIRMWARE, &[device, ("version", &firmware.version)], 1.0);
        inner.firmware = Some(firmware);
        self.write_metrics(&inner);
    }

    /// How many payloads are in their trial.
    #[must_use]
    pub fn trials(&self) -> usize {
        self.lock().trials
    }

    /// A trial begins.
    pub fn trial_begins(&self) {
        let mut inner = self.lock();
        inner.trials += 1;
        self.tell(&inner, None);
    }

    /// A trial is over.
    pub fn trial_ends(&self) {
        let mut inner = self.lock();
        inner.trials = inner.trials.saturating_sub(1);
        self.tell(&inner, None);
    }

    /// When the worker looks next; none while it does.
    pub fn set_next_check(&self, at: Option<Instant>) {
        self.lock().next_check = at;
    }

    /// A check is over.
    pub fn check_ended(&self, error: Option<String>) {
        let mut inner = self.lock();
        inner.last_check = now_text();
        inner.last_error = error.unwrap_or_default();
        inner.activity = Activity::Idle;
        (inner.downloaded, inner.total) = (0, 0);
        self.tell(&inner, None);
    }

    /// Something that keeps the daemon from working although no check failed.
    pub fn set_error(&self, error: String) {
        self.lock().last_error = error;
    }

    /// What the slots of one payload hold now.
    pub fn set_payload(&self, payload: PayloadInfo) {
        let mut inner = self.lock();
        let labels = [("device_id", self.device_id.as_str()), ("payload_id", payload.payload.as_str())];
        inner.metrics.forget(VERSION, &labels);
        if !payload.committed.is_empty() {
            let labels = [labels[0], labels[1], ("version", payload.committed.as_str())];
            inner.metrics.set(VERSION, &labels, 1.0);
        }
        match inner.payloads.iter_mut().find(|p| p.payload == payload.payload) {
            Some(old) => *old = payload,
            None => inner.payloads.push(payload),
        }
        self.write_metrics(&inner);
    }

    /// An attempt begins, or one that was over at once is told; gives its number.
    pub fn note(&self, attempt: Attempt) -> i64 {
        let mut inner = self.lock();
        self.count(&mut inner, &attempt);
        let noted = inner.journal.note(attempt);
        if noted.save {
            inner.journal.save(&self.history);
        }
        let number = noted.attempt.number;
        self.tell(&inner, Some(noted.attempt));
        number
    }

    /// An attempt goes on or ends.
    pub fn update(&self, number: i64, change: impl FnOnce(&mut Attempt)) {
        let mut inner = self.lock();
        if let Some(attempt) = inner.journal.update(number, change) {
            self.count(&mut inner, &attempt);
            inner.journal.save(&self.history);
            self.tell(&inner, Some(attempt));
        }
    }

    /// An attempt came to nothing. Told as [`Self::note`] tells it, so that one that fails again and again is one entry.
    pub fn fail(&self, number: i64, outcome: Outcome, message: String) {
        let mut inner = self.lock();
        let now = now_text();
        let ended = inner.journal.update(number, |a| {
            (a.outcome, a.message, a.ended) = (outcome, message, now);
        });
        let Some(ended) = ended else { return };
        self.count(&mut inner, &ended);
        inner.journal.retract(number);
        let noted = inner.journal.note(ended);
        // Always: the file still says that the attempt goes on.
        inner.journal.save(&self.history);
        self.tell(&inner, Some(noted.attempt));
    }

    /// The attempt of a payload that goes on.
    #[must_use]
    pub fn open_attempt(&self, payload: &str) -> Option<Attempt> {
        self.lock().journal.open(payload).cloned()
    }

    /// The attempt of the firmware that goes on.
    #[must_use]
    pub fn open_firmware_attempt(&self) -> Option<Attempt> {
        self.lock().journal.open_firmware().cloned()
    }

    /// Every attempt that goes on.
    #[must_use]
    pub fn open_attempts(&self) -> Vec<Attempt> {
        self.lock().journal.all_open().cloned().collect()
    }

    fn count(&self, inner: &mut Inner, attempt: &Attempt) {
        let (level, outcome) = (attempt.level.as_str(), attempt.outcome.as_str());
        let what = if attempt.payload.is_empty() { level } else { &attempt.payload };
        info!("{what} {} {outcome}: {}", attempt.version, attempt.message);
        if is_end(attempt.outcome) {
            inner.metrics.inc(ATTEMPTS, &[("device_id", &self.device_id), ("level", level), ("outcome", outcome)]);
        }
        if let (Outcome::RolledBack, Some(reason)) = (attempt.outcome, attempt.reason) {
            let labels = [("device_id", self.device_id.as_str()), ("level", level), ("reason", reason.as_str())];
            inner.metrics.inc(ROLLBACKS, &labels);
        }
        self.write_metrics(inner);
    }

    fn write_metrics(&self, inner: &Inner) {
        if let Err(err) = inner.metrics.write() {
            warn!("could not write the metrics: {}", report::chain(&err));
        }
    }

    fn tell(&self, inner: &Inner, attempt: Option<Attempt>) {
        // Nobody listens: that is no error.
        let _ = self.news.send(inner.news(attempt));
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Every change above is whole before anything that could panic.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn activity_name(&self) -> &'static str {
        match (self.activity, self.stage) {
            (_, Some(Stage::Rebooting)) => return "rebooting",
            (Activity::Idle, Some(Stage::Trial)) => return "trial",
            (Activity::Idle, _) if self.trials > 0 => return "trial",
            (Activity::Idle, Some(Stage::Waiting)) => return "waiting_to_reboot",
            _ => {}
        }
        match self.activity {
            Activity::Idle => "idle",
            Activity::Checking => "checking",
            Activity::Downloading => "downloading",
            Activity::Installing => "installing",
            Activity::InstallingFirmware => "installing_firmware",
        }
    }

    fn news(&self, attempt: Option<Attempt>) -> Monitored {
        Monitored {
            activity: self.activity_name().to_owned(),
            downloaded: i64::try_from(self.downloaded).unwrap_or(i64::MAX),
            total: i64::try_from(self.total).unwrap_or(i64::MAX),
            percent: self.percent,
            detail: self.detail.clone(),
            attempt,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::blank;

    fn shared(dir: &std::path::Path) -> Shared {
        let metrics = Registry::in_dir(dir, "ota-updated");
        Shared::new("dev-1".into(), "qemu-x86-64".into(), dir.join("history.json"), metrics)
    }

    fn metrics(dir: &std::path::Path) -> String {
        std::fs::read_to_string(dir.join("ota-updated.prom")).unwrap()
    }

    #[test]
    fn a_failure_that_repeats_is_one_entry_and_every_count() {
        let dir = tempfile::tempdir().unwrap();
        let shared = shared(dir.path());
        for _ in 0..3 {
            let number = shared.note(blank("a", Outcome::Installing, String::new(), &now_text()));
            shared.fail(number, Outcome::Failed, "disk full".into());
        }
        let list = shared.attempts(Some("a"), None, 10);
        assert_eq!(list.len(), 1, "{list:?}");
        assert!(list[0].message.starts_with("disk full (and 2 times more"), "{}", list[0].message);
        let text = metrics(dir.path());
        assert!(
            text.contains("iot_ota_attempts_total{device_id=\"dev-1\",level=\"payload\",outcome=\"failed\"} 3"),
            "{text}"
        );
    }

    #[test]
    fn metrics_show_zero_before_the_first_event_and_the_reason_after() {
        let dir = tempfile::tempdir().unwrap();
        let shared = shared(dir.path());
        assert!(
            metrics(dir.path())
                .contains("iot_ota_rollback_total{device_id=\"dev-1\",level=\"payload\",reason=\"trap\"} 0")
        );
        let number = shared.note(blank("a", Outcome::Trial, String::new(), &now_text()));
        shared.update(number, |a| (a.outcome, a.reason) = (Outcome::RolledBack, Some(Reason::Trap)));
        assert!(
            metrics(dir.path())
                .contains("iot_ota_rollback_total{device_id=\"dev-1\",level=\"payload\",reason=\"trap\"} 1")
        );
    }

    #[test]
    fn only_the_committed_version_is_a_metric() {
        let dir = tempfile::tempdir().unwrap();
        let shared = shared(dir.path());
        let info = |committed: &str| PayloadInfo {
            payload: "a".into(),
            vendor: "acme".into(),
            committed: committed.into(),
            slots: Vec::new(),
            rejected: Vec::new(),
        };
        shared.set_payload(info("1.0.0"));
        shared.set_payload(info("1.1.0"));
        let text = metrics(dir.path());
        assert!(text.contains("payload_id=\"a\",version=\"1.1.0\"} 1") && !text.contains("1.0.0"), "{text}");
        assert_eq!(shared.status().payloads.len(), 1);
    }

    #[test]
    fn a_trial_shows_when_the_worker_is_idle_and_news_reach_the_subscriber() {
        let dir = tempfile::tempdir().unwrap();
        let shared = shared(dir.path());
        let (first, mut news) = shared.subscribe();
        assert_eq!(first.activity, "idle");
        shared.trial_begins();
        assert_eq!(news.try_recv().unwrap().activity, "trial");
        shared.set_activity(Activity::Checking);
        assert_eq!(news.try_recv().unwrap().activity, "checking");
        shared.check_ended(Some("no route".into()));
        assert_eq!((shared.status().activity.as_str(), shared.status().last_error.as_str()), ("trial", "no route"));
    }
}

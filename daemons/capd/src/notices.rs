//! What happened: denials with their counts, events for whoever watches, the journal, and the metrics. Shared by every
//! session's thread.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use iotwasm_api::capabilities::{Denial, Event, EventKind, Kind};
use iotwasm_grant::bucket::{Rate, TokenBucket};
use iotwasm_kit::metrics::{Kind as MetricKind, Registry};
use tokio::sync::{Notify, mpsc};

use crate::clock;

/// Events that wait for one subscriber. Who falls further behind is dropped: waiting for it would hold up payloads.
pub const QUEUE: usize = 256;
/// Most denials that are kept, each of one payload, thing and reason. The one that is longest ago goes.
pub const KEPT: usize = 256;
/// Between two events about one denial.
const EVENT_PAUSE: Duration = Duration::from_secs(1);
/// Between two lines in the journal about one denial.
const LINE_PAUSE: Duration = Duration::from_secs(10);
/// Events that one payload brings about: what it does beyond that is left out, so that it drowns nobody else's.
const EVENTS: Rate = Rate { writes_per_minute: 600, burst: 60 };
/// Lines in the journal about denials, all payloads together.
const LINES: Rate = Rate { writes_per_minute: 120, burst: 60 };
/// Counts denials.
const DENIED: &str = "iot_capability_denied_total";
/// Open sessions.
const SESSIONS: &str = "iot_capability_sessions";
/// Counts writes of actuators.
const WRITES: &str = "iot_actuator_writes_total";

/// Something that was denied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Denied {
    /// What was asked for: `gpio.door`. Of names that the board does not have only the kind, so that a guest cannot make up
    /// ever new ones.
    pub capability: String,
    /// Why, in one word.
    pub reason: &'static str,
    /// For people.
    pub message: String,
}

/// The board that everything is posted on.
#[derive(Debug)]
pub struct Notices {
    device: String,
    inner: Mutex<Inner>,
    dirty: Notify,
}

#[derive(Debug)]
struct Inner {
    denials: BTreeMap<(String, String, &'static str), Kept>,
    total: i64,
    subscribers: Vec<mpsc::Sender<Event>>,
    sequence: i64,
    /// By payload.
    events: BTreeMap<String, TokenBucket>,
    lines: TokenBucket,
    metrics: Registry,
}

#[derive(Debug)]
struct Kept {
    denial: Denial,
    at: Instant,
    event: Option<Instant>,
    line: Option<Instant>,
    /// Since the last line.
    untold: u64,
}

impl Notices {
    /// An empty board.
    #[must_use]
    pub fn new(device: String, mut metrics: Registry) -> Self {
        metrics.declare(
            MetricKind::Counter,
            DENIED,
            "Uses of a peripheral that were denied, by capability and reason.",
        );
        metrics.declare(MetricKind::Gauge, SESSIONS, "Payloads that have a session with the capability daemon.");
        metrics.declare(
            MetricKind::Counter,
            WRITES,
            "Writes of an actuator, by payload; capd's own safe values have none.",
        );
        let inner = Inner {
            denials: BTreeMap::new(),
            total: 0,
            subscribers: Vec::new(),
            sequence: 0,
            events: BTreeMap::new(),
            lines: TokenBucket::new(LINES, clock::now()),
            metrics,
        };
        let notices = Self { device, inner: Mutex::new(inner), dirty: Notify::new() };
        notices.sessions(0);
        notices
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes a thing known to the metrics, with no denial yet.
    pub fn introduce(&self, kind: Kind, name: &str) {
        let capability = format!("{}.{name}", kind.as_str());
        let labels = [("capability", &*capability), ("device_id", &*self.device), ("payload_id", ""), ("reason", "")];
        self.lock().metrics.set(DENIED, &labels, 0.0);
    }

    /// Posts an event.
    pub fn post(&self, kind: EventKind, payload: &str, capability: &str, message: &str) {
        self.lock().post(kind, payload, capability, message);
    }

    /// Counts a denial, tells the journal and whoever watches, both not too often.
    pub fn deny(&self, payload: &str, denied: Denied) {
        let now = Instant::now();
        let mut inner = self.lock();
        let inner = &mut *inner;
        inner.total += 1;
        let labels = [
            ("capability", &*denied.capability),
            ("device_id", &*self.device),
            ("payload_id", payload),
            ("reason", denied.reason),
        ];
        inner.metrics.inc(DENIED, &labels);
        let key = (payload.to_owned(), denied.capability.clone(), denied.reason);
        if inner.denials.len() >= KEPT && !inner.denials.contains_key(&key) {
            let oldest = inner.denials.iter().min_by_key(|(_, kept)| kept.at).map(|(key, _)| key.clone());
            if let Some(oldest) = oldest {
                inner.denials.remove(&oldest);
            }
        }
        let kept = inner.denials.entry(key).or_insert_with(|| Kept {
            denial: Denial {
                payload: payload.to_owned(),
                capability: denied.capability.clone(),
                reason: denied.reason.to_owned(),
                message: String::new(),
                count: 0,
                last: String::new(),
            },
            at: now,
            event: None,
            line: None,
            untold: 0,
        });
        kept.at = now;
        kept.denial.count += 1;
        kept.denial.last = jiff::Timestamp::now().to_string();
        kept.denial.message.clone_from(&denied.message);
        kept.untold += 1;
        let due = |last: Option<Instant>, pause| last.is_none_or(|last| now.duration_since(last) >= pause);
        if due(kept.line, LINE_PAUSE) && inner.lines.take(clock::now()).is_ok() {
            kept.line = Some(now);
            let untold = std::mem::take(&mut kept.untold);
            let times = if untold > 1 { format!(" ({untold} times since this was last said)") } else { String::new() };
            iotwasm_kit::warn!(
                "{payload} was denied {}: {} [{}]{times}",
                denied.capability,
                denied.message,
                denied.reason
            );
        }
        if due(kept.event, EVENT_PAUSE) {
            kept.event = Some(now);
            inner.post(EventKind::Denied, payload, &denied.capability, &denied.message);
        }
        self.dirty.notify_one();
    }

    /// Counts a write of an actuator.
    pub fn wrote(&self, payload: &str, actuator: &str, value: &str) {
        let mut inner = self.lock();
        let labels = [("actuator", actuator), ("device_id", &*self.device), ("payload_id", payload)];
        inner.metrics.inc(WRITES, &labels);
        inner.post(EventKind::Wrote, payload, &format!("actuators.{actuator}"), value);
        self.dirty.notify_one();
    }

    /// How many sessions are open now.
    pub fn sessions(&self, count: u32) {
        let labels = [("device_id", &*self.device)];
        self.lock().metrics.set(SESSIONS, &labels, f64::from(count));
        self.dirty.notify_one();
    }

    /// What was denied, the newest first, and how often in all.
    #[must_use]
    pub fn denials(&self) -> (Vec<Denial>, i64) {
        let inner = self.lock();
        let mut kept: Vec<&Kept> = inner.denials.values().collect();
        kept.sort_by_key(|kept| std::cmp::Reverse(kept.at));
        (kept.into_iter().map(|kept| kept.denial.clone()).collect(), inner.total)
    }

    /// From now on every event. The stream ends when the subscriber falls behind.
    #[must_use]
    pub fn subscribe(&self) -> mpsc::Receiver<Event> {
        let (sender, receiver) = mpsc::channel(QUEUE);
        let mut inner = self.lock();
        inner.subscribers.retain(|subscriber| !subscriber.is_closed());
        inner.subscribers.push(sender);
        receiver
    }

    /// Waits until the metrics have changed.
    pub async fn changed(&self) {
        self.dirty.notified().await;
    }

    /// Writes the metrics.
    ///
    /// # Errors
    /// The file could not be written.
    pub fn write_metrics(&self) -> Result<(), iotwasm_kit::atomic::Error> {
        self.lock().metrics.write()
    }
}

impl Inner {
    fn post(&mut self, kind: EventKind, payload: &str, capability: &str, message: &str) {
        self.sequence += 1;
        if self.subscribers.is_empty() || !self.may_bring_about(kind, payload) {
            return;
        }
        let event = Event {
            sequence: self.sequence,
            time: jiff::Timestamp::now().to_string(),
            kind,
            payload: payload.to_owned(),
            capability: capability.to_owned(),
            message: message.to_owned(),
        };
        self.subscribers.retain(|subscriber| subscriber.try_send(event.clone()).is_ok());
    }

    /// Whether a payload's event is told. How often a session is opened is the supervisor's doing, and
    /// a safe value is always news.
    fn may_bring_about(&mut self, kind: EventKind, payload: &str) -> bool {
        let now = clock::now();
        if matches!(kind, EventKind::Opened | EventKind::Claimed | EventKind::Closed | EventKind::Safe) {
            return true;
        }
        if !self.events.contains_key(payload) {
            if self.events.len() >= KEPT {
                self.events.clear();
            }
            self.events.insert(payload.to_owned(), TokenBucket::new(EVENTS, now));
        }
        self.events.get_mut(payload).is_some_and(|bucket| bucket.take(now).is_ok())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn notices(dir: &std::path::Path) -> Notices {
        Notices::new("dev-1".into(), Registry::in_dir(dir, "capd"))
    }

    fn denied(capability: &str) -> Denied {
        Denied { capability: capability.into(), reason: "rate", message: "too many writes".into() }
    }

    #[test]
    fn every_denial_is_counted_and_a_flood_is_one_event() {
        let dir = tempfile::tempdir().unwrap();
        let notices = notices(dir.path());
        let mut events = notices.subscribe();
        for _ in 0..1000 {
            notices.deny("p", denied("actuators.pump"));
        }
        assert_eq!(events.try_recv().unwrap().kind, EventKind::Denied);
        assert!(events.try_recv().is_err());
        let (denials, total) = notices.denials();
        assert_eq!((denials.len(), denials[0].count, total), (1, 1000, 1000));
        notices.write_metrics().unwrap();
        let text = std::fs::read_to_string(dir.path().join("capd.prom")).unwrap();
        let line = "iot_capability_denied_total{capability=\"actuators.pump\",device_id=\"dev-1\",payload_id=\"p\",reason=\"rate\"} 1000";
        assert!(text.lines().any(|l| l == line), "{text}");
    }

    #[test]
    fn only_the_newest_denials_are_kept_and_the_total_counts_all() {
        let dir = tempfile::tempdir().unwrap();
        let notices = notices(dir.path());
        for n in 0..KEPT + 10 {
            notices.deny(&format!("p{n}"), denied("gpio.led"));
        }
        let (denials, total) = notices.denials();
        assert_eq!((denials.len(), total), (KEPT, KEPT as i64 + 10));
        assert_eq!(denials[0].payload, format!("p{}", KEPT + 9));
    }

    #[test]
    fn a_payload_that_does_much_leaves_room_for_the_others() {
        let dir = tempfile::tempdir().unwrap();
        let notices = notices(dir.path());
        let mut events = notices.subscribe();
        for _ in 0..10_000 {
            notices.post(EventKind::Leased, "busy", "gpio.led", "");
        }
        notices.post(EventKind::Leased, "other", "gpio.door", "");
        let told: Vec<Event> = std::iter::from_fn(|| events.try_recv().ok()).collect();
        assert!(told.len() < QUEUE / 2, "{}", told.len());
        // What was left out is a gap.
        assert_eq!(told.last().map(|event| (&*event.payload, event.sequence)), Some(("other", 10_001)));
    }

    #[test]
    fn a_subscriber_that_does_not_read_is_dropped() {
        let dir = tempfile::tempdir().unwrap();
        let notices = notices(dir.path());
        let mut slow = notices.subscribe();
        for _ in 0..=QUEUE {
            notices.post(EventKind::Opened, "p", "", "");
        }
        assert_eq!(std::iter::from_fn(|| slow.try_recv().ok()).count(), QUEUE);
        assert_eq!(slow.try_recv(), Err(mpsc::error::TryRecvError::Disconnected));
    }
}

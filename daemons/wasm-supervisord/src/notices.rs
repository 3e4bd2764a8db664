//! The present state of every payload, who watches it, and the metrics made from it.

use std::{cell::RefCell, collections::BTreeMap, time::Instant};

use iotwasm_api::{
    Reason,
    supervisor::{Event, Health, PayloadStatus, Phase},
};
use iotwasm_kit::metrics::{Kind, Registry};
use tokio::sync::{Notify, mpsc};

use crate::machine::seconds_until;

/// Events that wait for one subscriber. Who falls further behind is dropped: waiting for it would hold up the payloads.
pub const QUEUE: usize = 64;
/// Counts ends that nobody ordered.
const CRASHES: &str = "iot_wasm_runtime_crashes_total";
/// Which status a payload has.
const HEALTH: &str = "iot_device_payload_health";
/// The statuses of [`HEALTH`].
const STATUSES: [&str; 8] = ["healthy", "degraded", "failed", "unknown", "starting", "self_test", "backoff", "stopped"];

/// The board that everything is posted on.
#[derive(Debug)]
pub struct Notices {
    device: String,
    inner: RefCell<Inner>,
    dirty: Notify,
}

#[derive(Debug)]
struct Inner {
    payloads: BTreeMap<String, Posted>,
    subscribers: Vec<mpsc::Sender<Event>>,
    sequence: i64,
    metrics: Registry,
}

/// What was posted of a payload last.
#[derive(Debug)]
struct Posted {
    status: PayloadStatus,
    held_until: Option<Instant>,
}

impl Posted {
    /// As it is now: what is left of a hold grows less without anybody posting it.
    fn now(&self) -> PayloadStatus {
        PayloadStatus { hold_s: seconds_until(self.held_until, Instant::now()), ..self.status.clone() }
    }
}

impl Notices {
    /// An empty board.
    #[must_use]
    pub fn new(device: String, mut metrics: Registry) -> Self {
        metrics.declare(Kind::Counter, CRASHES, "Ends of a payload that nobody ordered, by reason.");
        metrics.declare(Kind::Gauge, HEALTH, "1 for the status that the payload has now, 0 for the others.");
        let inner = Inner { payloads: BTreeMap::new(), subscribers: Vec::new(), sequence: 0, metrics };
        let notices = Self { device, inner: RefCell::new(inner), dirty: Notify::new() };
        notices.dirty.notify_one();
        notices
    }

    /// Post a payload's status, and until when it asks that the device not be restarted. The time is set here, and only
    /// a change is an event; that a hold's time runs out is none.
    pub fn post(&self, mut status: PayloadStatus, held_until: Option<Instant>) {
        let mut inner = self.inner.borrow_mut();
        if let Some(before) = inner.payloads.get(&status.payload) {
            status.since.clone_from(&before.status.since);
            let left = std::mem::replace(&mut status.hold_s, before.status.hold_s);
            if before.status == status && before.held_until == held_until {
                return;
            }
            status.hold_s = left;
        }
        status.since = jiff::Timestamp::now().to_string();
        let labels = label(status.phase, status.health);
        for name in STATUSES {
            let labels_of = [("device_id", &*self.device), ("payload_id", &*status.payload), ("status", name)];
            inner.metrics.set(HEALTH, &labels_of, if name == labels { 1.0 } else { 0.0 });
        }
        inner.sequence += 1;
        let event = Event { sequence: inner.sequence, status: status.clone() };
        inner.subscribers.retain(|subscriber| subscriber.try_send(event.clone()).is_ok());
        inner.payloads.insert(status.payload.clone(), Posted { status, held_until });
        self.dirty.notify_one();
    }

    /// Make a payload known to the metrics, with no crash yet.
    pub fn introduce(&self, payload: &str) {
        let mut inner = self.inner.borrow_mut();
        for reason in Reason::ALL {
            let labels = [("device_id", &*self.device), ("payload_id", payload), ("reason", reason.as_str())];
            inner.metrics.set(CRASHES, &labels, 0.0);
        }
    }

    /// Count an end that nobody ordered.
    pub fn count(&self, payload: &str, reason: Reason) {
        let labels = [("device_id", &*self.device), ("payload_id", payload), ("reason", reason.as_str())];
        self.inner.borrow_mut().metrics.inc(CRASHES, &labels);
        self.dirty.notify_one();
    }

    /// The present state.
    #[must_use]
    pub fn all(&self) -> Vec<PayloadStatus> {
        self.inner.borrow().payloads.values().map(Posted::now).collect()
    }

    /// The present state of one.
    #[must_use]
    pub fn of(&self, payload: &str) -> Option<PayloadStatus> {
        self.inner.borrow().payloads.get(payload).map(Posted::now)
    }

    /// The present state, and from now on every event. The stream ends when the subscriber falls behind.
    #[must_use]
    pub fn subscribe(&self) -> (Vec<PayloadStatus>, mpsc::Receiver<Event>) {
        let (sender, receiver) = mpsc::channel(QUEUE);
        let mut inner = self.inner.borrow_mut();
        inner.subscribers.retain(|subscriber| !subscriber.is_closed());
        inner.subscribers.push(sender);
        (inner.payloads.values().map(Posted::now).collect(), receiver)
    }

    /// Wait until the metrics have changed, then write them.
    ///
    /// # Errors
    /// The file could not be written.
    pub async fn write_metrics(&self) -> Result<(), iotwasm_kit::atomic::Error> {
        self.dirty.notified().await;
        self.inner.borrow().metrics.write()
    }
}

/// The one word for phase and health.
fn label(phase: Phase, health: Health) -> &'static str {
    match (phase, health) {
        (Phase::Starting, _) => "starting",
        (Phase::SelfTest, _) => "self_test",
        (Phase::Running, Health::Unknown) => "unknown",
        (Phase::Running, Health::Healthy) => "healthy",
        (Phase::Running, Health::Degraded) => "degraded",
        (Phase::Running, Health::Failed) | (Phase::Failed, _) => "failed",
        (Phase::Backoff, _) => "backoff",
        (Phase::Stopped, _) => "stopped",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::Machine;
    use iotwasm_api::supervisor::Slot;
    use std::time::Duration;

    fn status(message: &str) -> PayloadStatus {
        PayloadStatus { message: message.into(), ..Machine::new(Slot::A).status("p", 0, String::new(), Instant::now()) }
    }

    fn notices(dir: &std::path::Path) -> Notices {
        Notices::new("dev-1".into(), Registry::in_dir(dir, "d"))
    }

    #[test]
    fn only_a_change_is_an_event_and_the_sequence_has_no_gap() {
        let dir = tempfile::tempdir().unwrap();
        let notices = notices(dir.path());
        let (_, mut events) = notices.subscribe();
        for message in ["a", "a", "b"] {
            notices.post(status(message), None);
        }
        let seen: Vec<_> =
            std::iter::from_fn(|| events.try_recv().ok()).map(|e| (e.sequence, e.status.message)).collect();
        assert_eq!(seen, [(1, "a".to_owned()), (2, "b".to_owned())]);
    }

    #[test]
    fn a_hold_and_its_release_are_events_and_its_running_out_is_none() {
        let dir = tempfile::tempdir().unwrap();
        let notices = notices(dir.path());
        let (now, minute) = (Instant::now(), Duration::from_secs(60));
        let (_, mut events) = notices.subscribe();
        let mut event = || events.try_recv().ok().map(|event| event.status.hold_s);
        notices.post(status(""), None);
        assert_eq!(event(), Some(0));
        for (held_until, left, told) in [
            (now + 2 * minute, 100, Some(100)),
            // The same hold, a while later.
            (now + 2 * minute, 50, None),
            // Another one, which takes its place.
            (now + minute, 50, Some(50)),
        ] {
            notices.post(PayloadStatus { hold_s: left, ..status("") }, Some(held_until));
            assert_eq!(event(), told);
        }
        // Asked for, it is what is left now and not what was posted.
        assert!((51..=60).contains(&notices.of("p").unwrap().hold_s));
        notices.post(status(""), None);
        assert_eq!((event(), notices.of("p").unwrap().hold_s), (Some(0), 0));
        notices.post(PayloadStatus { hold_s: 9, ..status("") }, Some(now));
        assert_eq!((notices.all()[0].hold_s, notices.subscribe().0[0].hold_s), (0, 0), "it is over by now");
    }

    #[test]
    fn a_subscriber_that_does_not_read_is_dropped_and_others_go_on() {
        let dir = tempfile::tempdir().unwrap();
        let notices = notices(dir.path());
        let (_, mut slow) = notices.subscribe();
        let (_, mut quick) = notices.subscribe();
        for n in 0..=QUEUE {
            notices.post(status(&n.to_string()), None);
            assert!(quick.try_recv().is_ok());
        }
        let got = std::iter::from_fn(|| slow.try_recv().ok()).count();
        assert_eq!(got, QUEUE);
        assert_eq!(slow.try_recv(), Err(mpsc::error::TryRecvError::Disconnected));
        assert_eq!(notices.inner.borrow().subscribers.len(), 1);
    }

    #[tokio::test]
    async fn the_metrics_file_shows_one_status_and_counts_from_zero() {
        let dir = tempfile::tempdir().unwrap();
        let notices = notices(dir.path());
        notices.introduce("p");
        notices.post(status(""), None);
        notices.count("p", Reason::Trap);
        notices.write_metrics().await.unwrap();
        let text = std::fs::read_to_string(dir.path().join("d.prom")).unwrap();
        for line in [
            "iot_device_payload_health{device_id=\"dev-1\",payload_id=\"p\",status=\"stopped\"} 1",
            "iot_device_payload_health{device_id=\"dev-1\",payload_id=\"p\",status=\"healthy\"} 0",
            "iot_wasm_runtime_crashes_total{device_id=\"dev-1\",payload_id=\"p\",reason=\"trap\"} 1",
            "iot_wasm_runtime_crashes_total{device_id=\"dev-1\",payload_id=\"p\",reason=\"out_of_fuel\"} 0",
        ] {
            assert!(text.lines().any(|l| l == line), "{line} is not in\n{text}");
        }
    }
}

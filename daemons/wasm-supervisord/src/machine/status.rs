//! What the outside sees of a [`Machine`].

use std::time::Instant;

use iotwasm_api::supervisor::{Health, PayloadStatus, Phase, Slot};

use super::{Current, Down, DownKind, Identity, Machine, Stage};

impl Machine {
    /// What it is doing.
    #[must_use]
    pub fn phase(&self) -> Phase {
        match &self.current {
            Current::Alive(alive) => match alive.stage {
                Stage::SelfTest { .. } => Phase::SelfTest,
                Stage::Running { .. } => Phase::Running,
            },
            Current::Down(_) if self.next.is_some() => Phase::Starting,
            Current::Down(Down { kind, .. }) => match kind {
                DownKind::Stopped => Phase::Stopped,
                DownKind::Failed => Phase::Failed,
                DownKind::Backoff { .. } => Phase::Backoff,
            },
        }
    }

    /// What it said of itself last; unknown when it does not run.
    #[must_use]
    pub fn health(&self) -> Health {
        match &self.current {
            Current::Alive(_) => self.report.health,
            Current::Down(_) => Health::Unknown,
        }
    }

    /// The whole status. `pid` and `since` are the edge's to know.
    #[must_use]
    pub fn status(&self, payload: &str, pid: u32, since: String, now: Instant) -> PayloadStatus {
        let (slot, trial, identity) = self.who();
        let last = self.last_end.as_ref();
        PayloadStatus {
            payload: payload.to_owned(),
            slot,
            version: identity.version,
            sha256: identity.sha256,
            trial,
            phase: self.phase(),
            health: self.health(),
            message: match &self.current {
                Current::Alive(_) => self.report.message.clone(),
                Current::Down(_) => last.map(|end| end.message.clone()).unwrap_or_default(),
            },
            reason: last.map(|end| end.reason),
            starts: self.starts,
            crashes: self.crashes,
            pid: pid.into(),
            start_ms: self.times.start,
            self_test_ms: self.times.self_test,
            interruption_ms: self.times.interruption,
            since,
            hold_s: seconds_until(self.held_until(), now),
        }
    }

    fn who(&self) -> (Slot, bool, Identity) {
        match (&self.current, &self.next) {
            (Current::Alive(alive), _) => (alive.slot, alive.trial, alive.identity.clone()),
            (Current::Down(_), Some(next)) => {
                (next.slot, next.trial, next.prepared.clone().map(|(_, identity)| identity).unwrap_or_default())
            }
            (Current::Down(down), None) => (down.slot, down.trial, down.identity.clone()),
        }
    }
}

/// Whole seconds, rounded up, so that 0 is said of nothing that has not passed.
#[must_use]
pub fn seconds_until(at: Option<Instant>, now: Instant) -> i64 {
    let left = at.map(|at| at.saturating_duration_since(now)).unwrap_or_default();
    i64::try_from(left.as_nanos().div_ceil(1_000_000_000)).unwrap_or(i64::MAX)
}

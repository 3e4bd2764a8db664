//! A look at the device in a trial: every unit that must be there, every payload that must run. Decides nothing.

use iotwasm_api::supervisor::{Health, PayloadStatus, Phase, Slot};
use iotwasm_kit::report;
use iotwasm_payload::store::Reader;

use super::systemd::Systemd;
use super::trial::{Condition, Payload, Sight};
use crate::supervisor::Supervisor;
use crate::{Settings, slots};

/// How the device is.
pub(super) async fn look(settings: &Settings, systemd: &mut Systemd) -> Sight {
    let units = systemd.required().await;
    let payloads = match Supervisor::at(&settings.places.supervisor).status().await {
        Ok(status) => Ok(payloads(settings, &status.payloads)),
        // Where no payload must run, a supervisor that is not there is for the units to tell.
        Err(err) if payloads(settings, &[]).is_empty() => {
            drop(err);
            Ok(Vec::new())
        }
        Err(err) => Err(report::chain(&err)),
    };
    Sight { units, payloads }
}

/// Every configured payload that has something committed, and how it is.
fn payloads(settings: &Settings, running: &[PayloadStatus]) -> Vec<Payload> {
    let reader = Reader::new(&settings.places.payloads);
    let mut payloads = Vec::new();
    for wanted in &settings.wanted {
        let id = wanted.id.to_string();
        let state = match reader.state(&wanted.id) {
            Ok(state) => state.unwrap_or_default(),
            Err(err) => {
                payloads.push(Payload { id, condition: Condition::Failed(report::chain(&err)), counts: (0, 0) });
                continue;
            }
        };
        let Some((slot, _)) = state.committed() else { continue };
        let status = running.iter().find(|status| status.payload == id);
        let condition = condition(status, slots::to_api(slot));
        let counts = status.map_or((0, 0), |status| (status.starts, status.crashes));
        payloads.push(Payload { id, condition, counts });
    }
    payloads
}

/// How a payload is that must run from this slot.
fn condition(status: Option<&PayloadStatus>, slot: Slot) -> Condition {
    let Some(status) = status else { return Condition::NotYet("it does not run".to_owned()) };
    let said = |what: &str| match (status.reason, status.message.as_str()) {
        (Some(reason), "") => reason.to_string(),
        (Some(reason), message) => format!("{reason}: {message}"),
        (None, "") => what.to_owned(),
        (None, message) => format!("{what}: {message}"),
    };
    match (status.phase, status.health) {
        (Phase::Failed | Phase::Backoff, _) => Condition::Failed(said("it ended")),
        (_, Health::Failed) => Condition::Failed(said("it reported that it has failed")),
        (Phase::Running, _) if status.slot != slot || status.trial => {
            Condition::NotYet("what runs is not what is committed".to_owned())
        }
        (Phase::Running, Health::Healthy) => Condition::Well,
        (Phase::Running, Health::Unknown) => Condition::NotYet("it has not reported how it is".to_owned()),
        (Phase::Running, _) => Condition::NotYet(said("it is degraded")),
        (Phase::Starting | Phase::SelfTest, _) => Condition::NotYet("it starts".to_owned()),
        (Phase::Stopped, _) => Condition::NotYet("it was stopped".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use iotwasm_api::Reason;

    use super::*;

    fn status(phase: Phase, health: Health) -> PayloadStatus {
        PayloadStatus {
            payload: "blinky".into(),
            slot: Slot::A,
            version: String::new(),
            sha256: String::new(),
            trial: false,
            phase,
            health,
            message: String::new(),
            reason: None,
            starts: 1,
            crashes: 0,
            pid: 1,
            start_ms: 0,
            self_test_ms: 0,
            interruption_ms: 0,
            since: String::new(),
            hold_s: 0,
        }
    }

    #[test]
    fn only_what_is_committed_running_and_healthy_is_well() {
        let is = |status: &PayloadStatus| condition(Some(status), Slot::A);
        let good = status(Phase::Running, Health::Healthy);
        assert_eq!(is(&good), Condition::Well);
        assert!(matches!(is(&PayloadStatus { trial: true, ..good.clone() }), Condition::NotYet(_)));
        assert!(matches!(condition(Some(&good), Slot::B), Condition::NotYet(_)));
        assert!(matches!(condition(None, Slot::A), Condition::NotYet(_)));
        for health in [Health::Unknown, Health::Degraded] {
            assert!(matches!(is(&status(Phase::Running, health)), Condition::NotYet(_)));
        }
        for phase in [Phase::Starting, Phase::SelfTest, Phase::Stopped] {
            assert!(matches!(is(&status(phase, Health::Healthy)), Condition::NotYet(_)));
        }
        assert!(matches!(is(&status(Phase::Running, Health::Failed)), Condition::Failed(_)));
        let ended = PayloadStatus { reason: Some(Reason::Trap), ..status(Phase::Backoff, Health::Healthy) };
        assert_eq!(is(&ended), Condition::Failed("trap".into()));
    }
}

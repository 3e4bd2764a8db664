//! Why a payload did not start, stopped, or was undone, and why firmware was: one vocabulary for events, history and metrics.

use serde::{Deserialize, Serialize};
use zlink::introspect::CustomType;

/// Why a payload did not start, stopped, or was undone, and why firmware was undone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, CustomType)]
#[serde(rename_all = "snake_case")]
#[zlink(rename_all = "snake_case")]
pub enum Reason {
    /// The self-test returned a failure, reported one, or did not end within its limit.
    SelfTestFailed,
    /// The guest trapped: unreachable, out-of-bounds access, division by zero, stack exhausted.
    Trap,
    /// One wake-up used all its fuel.
    OutOfFuel,
    /// One wake-up took longer than its wall-clock limit.
    WallClock,
    /// No health report within the heartbeat interval.
    HeartbeatMissed,
    /// Killed by the memory limit of its control group.
    OutOfMemory,
    /// Returned or exited although a payload is meant to run until it is stopped.
    Exited,
    /// The guest itself reported that it has failed.
    ReportedFailed,
    /// The runner ended by a signal that nobody here sent.
    Killed,
    /// The stored metadata chain or the hash does not verify.
    NotVerified,
    /// The module or its manifest breaks the rules for payloads.
    BadPayload,
    /// Its manifest asks for more than its signer may grant or the board has.
    CapabilityRefused,
    /// The runner could not be started or set up.
    StartFailed,
    /// More in its read-write directories than its quota.
    StorageQuota,
    /// The trial has no boots left.
    NoBootsLeft,
    /// The signed metadata withdraws the release.
    Withdrawn,
    /// The supervisor went away during the trial.
    SupervisorLost,
    /// A stop was asked for.
    Stopped,
    /// On the new firmware a daemon that has to be there was not, or did not stay.
    DaemonNotReady,
    /// On the new firmware a payload did not run as it had run on the old one.
    PayloadFailed,
    /// On the new firmware the update server was not reached.
    ServerUnreachable,
    /// The new firmware never came so far as to say why: panic, corruption, watchdog, power.
    BootFailed,
    /// The new firmware was well, but the bootloader could not be told.
    MarkFailed,
}

impl Reason {
    /// Every reason, for metrics that show zero before the first event.
    pub const ALL: [Self; 23] = [
        Self::SelfTestFailed,
        Self::Trap,
        Self::OutOfFuel,
        Self::WallClock,
        Self::HeartbeatMissed,
        Self::OutOfMemory,
        Self::Exited,
        Self::ReportedFailed,
        Self::Killed,
        Self::NotVerified,
        Self::BadPayload,
        Self::CapabilityRefused,
        Self::StartFailed,
        Self::StorageQuota,
        Self::NoBootsLeft,
        Self::Withdrawn,
        Self::SupervisorLost,
        Self::Stopped,
        Self::DaemonNotReady,
        Self::PayloadFailed,
        Self::ServerUnreachable,
        Self::BootFailed,
        Self::MarkFailed,
    ];

    /// The name on the wire and in metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::SelfTestFailed => "self_test_failed",
            Self::Trap => "trap",
            Self::OutOfFuel => "out_of_fuel",
            Self::WallClock => "wall_clock",
            Self::HeartbeatMissed => "heartbeat_missed",
            Self::OutOfMemory => "out_of_memory",
            Self::Exited => "exited",
            Self::ReportedFailed => "reported_failed",
            Self::Killed => "killed",
            Self::NotVerified => "not_verified",
            Self::BadPayload => "bad_payload",
            Self::CapabilityRefused => "capability_refused",
            Self::StartFailed => "start_failed",
            Self::StorageQuota => "storage_quota",
            Self::NoBootsLeft => "no_boots_left",
            Self::Withdrawn => "withdrawn",
            Self::SupervisorLost => "supervisor_lost",
            Self::Stopped => "stopped",
            Self::DaemonNotReady => "daemon_not_ready",
            Self::PayloadFailed => "payload_failed",
            Self::ServerUnreachable => "server_unreachable",
            Self::BootFailed => "boot_failed",
            Self::MarkFailed => "mark_failed",
        }
    }
}

impl std::fmt::Display for Reason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::Reason;

    #[test]
    fn every_reason_has_the_same_name_in_json_and_in_metrics() {
        for reason in Reason::ALL {
            let json = serde_json::to_string(&reason).unwrap();
            assert_eq!(json, format!("\"{reason}\""));
            assert_eq!(serde_json::from_str::<Reason>(&json).unwrap(), reason);
        }
    }
}

//! `io.iotwasm.Ota`, served by ota-updated: what is installed, what was tried, and check now.

use futures_util::Stream;
use serde::{Deserialize, Serialize};
use zlink::introspect::{self, CustomType};

use crate::{Reason, supervisor::Slot};

/// The interface's name.
pub const INTERFACE: &str = "io.iotwasm.Ota";

/// How an attempt ended, or that it goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, CustomType)]
#[serde(rename_all = "snake_case")]
#[zlink(rename_all = "snake_case")]
pub enum Outcome {
    /// Being downloaded, verified or written.
    Installing,
    /// In its trial.
    Trial,
    /// Kept.
    Committed,
    /// Undone; the reason says why.
    RolledBack,
    /// Not installed: it, or the metadata, was refused. Nothing changed.
    Refused,
    /// Could not be fetched or written; it will be tried again.
    Failed,
}

impl Outcome {
    /// Every outcome, for metrics that show zero before the first event.
    pub const ALL: [Self; 6] =
        [Self::Installing, Self::Trial, Self::Committed, Self::RolledBack, Self::Refused, Self::Failed];

    /// The name on the wire and in metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Installing => "installing",
            Self::Trial => "trial",
            Self::Committed => "committed",
            Self::RolledBack => "rolled_back",
            Self::Refused => "refused",
            Self::Failed => "failed",
        }
    }
}

/// What an attempt is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize, CustomType)]
#[serde(rename_all = "snake_case")]
#[zlink(rename_all = "snake_case")]
pub enum Level {
    /// A payload.
    #[default]
    Payload,
    /// The firmware.
    Firmware,
    /// The repository itself.
    Repository,
}

impl Level {
    /// Every level.
    pub const ALL: [Self; 3] = [Self::Payload, Self::Firmware, Self::Repository];

    /// The name on the wire and in metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Payload => "payload",
            Self::Firmware => "firmware",
            Self::Repository => "repository",
        }
    }
}

/// One attempt to change what the device runs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, CustomType)]
pub struct Attempt {
    /// Counts up by one for each attempt of this device.
    pub number: i64,
    /// What it is about.
    #[serde(default)]
    pub level: Level,
    /// Payload id; empty on the other levels.
    pub payload: String,
    /// Version that was tried; empty when the repository itself was refused.
    pub version: String,
    /// SHA-256 in hex; empty when unknown.
    pub sha256: String,
    /// Version that ran before; empty if none.
    pub from_version: String,
    /// The slot written, if any.
    pub slot: Option<Slot>,
    /// How it ended.
    pub outcome: Outcome,
    /// Why it was undone, if it was.
    pub reason: Option<Reason>,
    /// What happened, for people.
    pub message: String,
    /// When it began, RFC 3339.
    pub started: String,
    /// When it ended, RFC 3339; empty while it goes on.
    pub ended: String,
}

/// One slot of a payload.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, CustomType)]
pub struct SlotStatus {
    /// Which.
    pub slot: Slot,
    /// `inactive`, `trial` or `committed`.
    pub state: String,
    /// Starts that a trial has left; 0 otherwise.
    pub boots_left: i64,
    /// Version in it; empty if none.
    pub version: String,
    /// SHA-256 in hex; empty if none.
    pub sha256: String,
}

/// One payload that this device is configured to run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, CustomType)]
pub struct PayloadInfo {
    /// Payload id.
    pub payload: String,
    /// Vendor: the delegated role that must have signed it.
    pub vendor: String,
    /// Version that is committed; empty before the first.
    pub committed: String,
    /// Its two slots.
    pub slots: Vec<SlotStatus>,
    /// Versions with their hashes that were rolled back and are not tried again.
    pub rejected: Vec<String>,
}

/// The firmware of this device.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, CustomType)]
pub struct FirmwareInfo {
    /// Which firmware it may take.
    pub compatible: String,
    /// Version that runs.
    pub version: String,
    /// The slot that it runs from.
    pub slot: Slot,
    /// `committed`, or `trial` while it may still be undone.
    pub state: String,
    /// Version that is installed and waits for its first boot, or for another one; empty if none.
    pub installed: String,
    /// What its boot waits for; empty if nothing waits.
    pub waiting_for: String,
    /// Version in the other slot; empty if unknown.
    pub other_version: String,
    /// What the other slot is for: `inactive`, `installing`, `installed`, or `committed` during a trial.
    pub other_state: String,
    /// Boots that the one installed or in trial has left; 0 otherwise.
    pub boots_left: i64,
    /// Versions with their hashes that were rolled back and are not tried again.
    pub rejected: Vec<String>,
}

/// Reply of `GetStatus`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, introspect::Type)]
pub struct Status {
    /// This device.
    pub device_id: String,
    /// The board, as in its board file.
    pub board: String,
    /// `idle`, `checking`, `downloading`, `installing`, `installing_firmware`, `waiting_to_reboot`, `rebooting` or `trial`.
    pub activity: String,
    /// End of the last check, RFC 3339; empty before the first.
    pub last_check: String,
    /// Why the last check failed; empty if it did not.
    pub last_error: String,
    /// Seconds until the next check.
    pub next_check_s: i64,
    /// Every configured payload.
    pub payloads: Vec<PayloadInfo>,
    /// The firmware; absent where the image has none that can be updated.
    #[serde(default)]
    pub firmware: Option<FirmwareInfo>,
}

/// Reply of `CheckNow`: the check was asked for, or was already under way.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, introspect::Type)]
pub struct CheckRequested {
    /// A check was already under way; another follows it.
    pub already_running: bool,
}

/// Reply of `GetHistory`, newest first.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, introspect::Type)]
pub struct History {
    /// The attempts.
    pub attempts: Vec<Attempt>,
}

/// Reply of `Monitor`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, introspect::Type)]
pub struct Monitored {
    /// What the daemon does now, as in `Status.activity`.
    pub activity: String,
    /// Bytes had of the present download; 0 if none.
    pub downloaded: i64,
    /// Bytes of the present download in all; 0 if none.
    pub total: i64,
    /// How far an installation of firmware is; 0 if there is none.
    #[serde(default)]
    pub percent: i64,
    /// What it does now, in RAUC's words; empty if nothing.
    #[serde(default)]
    pub detail: String,
    /// The attempt that began, moved or ended, if this event is about one.
    pub attempt: Option<Attempt>,
}

/// What a call can fail with.
#[derive(Debug, Clone, PartialEq, zlink::ReplyError, introspect::ReplyError)]
#[zlink(interface = "io.iotwasm.Ota")]
pub enum OtaError {
    /// The caller's user may not make this call.
    PermissionDenied {
        /// The caller's user id.
        uid: i64,
    },
    /// An argument is out of its range.
    InvalidArgument {
        /// Which, and what it must be.
        message: String,
    },
}

/// Client of `io.iotwasm.Ota`.
#[zlink::proxy("io.iotwasm.Ota")]
pub trait OtaProxy {
    /// What is installed and what goes on.
    async fn get_status(&mut self) -> zlink::Result<Result<Status, OtaError>>;

    /// Look for updates now instead of at the next poll.
    async fn check_now(&mut self) -> zlink::Result<Result<CheckRequested, OtaError>>;

    /// Attempts, newest first; of one payload, of one level, or of all where `payload` and `level` are absent.
    async fn get_history(
        &mut self,
        payload: Option<&str>,
        limit: i64,
        level: Option<Level>,
    ) -> zlink::Result<Result<History, OtaError>>;

    /// Every change of activity, download progress and attempt as it happens.
    #[zlink(more)]
    async fn monitor(&mut self) -> zlink::Result<impl Stream<Item = zlink::Result<Result<Monitored, OtaError>>>>;
}

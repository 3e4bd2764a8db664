//! `iotwasm device status` and `check-now`.

use std::fmt;

use iotwasm_api::ota::{CheckRequested, FirmwareInfo, OtaProxy, Status as OtaStatus};
use iotwasm_api::supervisor::{PayloadStatus, SupervisorProxy};
use serde::Serialize;

use super::client::{self, Error, OTA, SUPERVISOR};
use crate::output::{Table, or_dash};

/// What both daemons say. One that does not answer is reported beside what the other says: a look at a device must not
/// depend on all of it being well.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    ota: Option<OtaStatus>,
    supervisor: Option<Vec<PayloadStatus>>,
    errors: Vec<String>,
}

pub(crate) async fn get() -> Result<Report, Error> {
    let (ota, supervisor) = (ota().await, supervisor().await);
    match (ota, supervisor) {
        (Err(err), Err(_)) => Err(err),
        (ota, supervisor) => {
            let mut errors = Vec::new();
            let mut said = |err: Error| errors.push(iotwasm_kit::report::chain(&err));
            let ota = ota.map_err(&mut said).ok();
            let supervisor = supervisor.map_err(&mut said).ok();
            Ok(Report { ota, supervisor, errors })
        }
    }
}

async fn ota() -> Result<OtaStatus, Error> {
    client::ota(OtaProxy::get_status(&mut client::connect(OTA).await?).await)
}

async fn supervisor() -> Result<Vec<PayloadStatus>, Error> {
    Ok(client::supervisor(SupervisorProxy::get_status(&mut client::connect(SUPERVISOR).await?).await)?.payloads)
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(ota) = &self.ota {
            let last = if ota.last_check.is_empty() { "never".to_owned() } else { ota.last_check.clone() };
            writeln!(f, "device {}, board {}", or_dash(&ota.device_id), or_dash(&ota.board))?;
            writeln!(f, "updates: {}; last check {last}, next in {} s", ota.activity, ota.next_check_s)?;
            if !ota.last_error.is_empty() {
                writeln!(f, "the last check failed: {}", ota.last_error)?;
            }
            if let Some(firmware) = &ota.firmware {
                tell_firmware(f, firmware)?;
            }
            let mut table = Table::new(["PAYLOAD", "VENDOR", "COMMITTED", "SLOT A", "SLOT B", "NOT TRIED AGAIN"]);
            for payload in &ota.payloads {
                let slot = |index: usize| match payload.slots.get(index) {
                    Some(slot) if slot.version.is_empty() => slot.state.clone(),
                    Some(slot) if slot.boots_left > 0 => {
                        format!("{} {} ({} boots left)", slot.version, slot.state, slot.boots_left)
                    }
                    Some(slot) => format!("{} {}", slot.version, slot.state),
                    None => "-".to_owned(),
                };
                let rejected = or_dash(&payload.rejected.join(", "));
                let committed = or_dash(&payload.committed);
                table.row([payload.payload.clone(), payload.vendor.clone(), committed, slot(0), slot(1), rejected]);
            }
            writeln!(f, "\n{table}")?;
        }
        if let Some(payloads) = &self.supervisor {
            let mut table =
                Table::new(["PAYLOAD", "VERSION", "RUNS", "HEALTH", "STARTS", "CRASHES", "PID", "SINCE", "MESSAGE"]);
            for payload in payloads {
                table.row(running(payload));
            }
            write!(f, "{table}")?;
        }
        self.errors.iter().try_for_each(|error| writeln!(f, "{error}"))
    }
}

/// The firmware in a line or some more.
fn tell_firmware(f: &mut fmt::Formatter<'_>, firmware: &FirmwareInfo) -> fmt::Result {
    let FirmwareInfo { compatible, version, state, boots_left, .. } = firmware;
    let boots = if *boots_left > 0 { format!(" ({boots_left} more boots)") } else { String::new() };
    let is_trial = state == "trial";
    write!(
        f,
        "firmware: {compatible} {version}, {state}{} in slot {}",
        if is_trial { &boots } else { "" },
        word(&firmware.slot)
    )?;
    let other = if firmware.other_version.is_empty() { "unknown" } else { &firmware.other_version };
    writeln!(f, "; the other slot: {other}, {}", firmware.other_state)?;
    if !firmware.installed.is_empty() {
        let boots = if is_trial { "" } else { &boots };
        write!(f, "firmware {} is installed and waits for a restart{boots}", firmware.installed)?;
        match firmware.waiting_for.as_str() {
            "" => writeln!(f)?,
            cause => writeln!(f, ", which waits for {cause}")?,
        }
    } else if !firmware.waiting_for.is_empty() {
        writeln!(f, "the installation of new firmware waits for {}", firmware.waiting_for)?;
    }
    match firmware.rejected.join(", ") {
        rejected if rejected.is_empty() => Ok(()),
        rejected => writeln!(f, "firmware not tried again: {rejected}"),
    }
}

/// A row about what runs.
fn running(payload: &PayloadStatus) -> [String; 9] {
    let phase = word(&payload.phase);
    let runs = if payload.trial { format!("{phase} (trial)") } else { phase };
    let message = match payload.reason {
        Some(reason) if !payload.message.is_empty() => format!("{reason}: {}", payload.message),
        Some(reason) => reason.to_string(),
        None => payload.message.clone(),
    };
    [
        payload.payload.clone(),
        or_dash(&payload.version),
        runs,
        word(&payload.health),
        payload.starts.to_string(),
        payload.crashes.to_string(),
        if payload.pid == 0 { "-".to_owned() } else { payload.pid.to_string() },
        payload.since.clone(),
        or_dash(&message),
    ]
}

/// The name of a value on the wire, with spaces.
pub(crate) fn word(value: &impl Serialize) -> String {
    let text = serde_json::to_value(value).ok().and_then(|value| value.as_str().map(str::to_owned));
    text.unwrap_or_default().replace('_', " ")
}

/// What `CheckNow` said.
#[derive(Debug, Serialize)]
pub(crate) struct Asked {
    #[serde(flatten)]
    reply: CheckRequested,
}

pub(crate) async fn check_now() -> Result<Asked, Error> {
    Ok(Asked { reply: client::ota(client::connect(OTA).await?.check_now().await)? })
}

impl fmt::Display for Asked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.reply.already_running {
            true => "a check is under way; another follows it",
            false => "checking now; iotwasm device monitor shows how it goes",
        })
    }
}

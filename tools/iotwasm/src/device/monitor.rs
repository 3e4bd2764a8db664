//! `iotwasm device monitor`: the daemons' streams, a line for each event.

use std::fmt;
use std::future::Future;
use std::pin::pin;

use clap::Args;
use futures_util::StreamExt as _;
use indicatif::ProgressBar;
use iotwasm_api::capabilities::{CapabilitiesProxy, Monitored as CapabilitiesEvent};
use iotwasm_api::ota::{Monitored as OtaEvent, OtaProxy};
use iotwasm_api::supervisor::{Monitored as SupervisorEvent, SupervisorProxy};
use serde::Serialize;

use super::client::{self, CAPD, Error, OTA, SUPERVISOR};
use super::history::what;
use super::status::word;
use crate::output::Output;
use crate::progress;

#[derive(Debug, Args)]
pub(crate) struct Monitor {
    /// Only of this payload.
    #[arg(long, value_name = "ID")]
    payload: Option<iotwasm_payload::PayloadId>,
}

/// An event of one of the daemons.
#[derive(Debug, Serialize)]
#[serde(rename_all = "snake_case")]
enum Event {
    Ota(OtaEvent),
    Supervisor(SupervisorEvent),
    Capabilities(CapabilitiesEvent),
}

/// Ends when a daemon does. The outer error is of the daemons, the inner one of the output.
pub(crate) async fn follow(args: &Monitor, output: &Output) -> Result<Result<(), crate::error::Error>, Error> {
    let mut ota = client::connect(OTA).await?;
    let mut supervisor = client::connect(SUPERVISOR).await?;
    let mut capd = client::connect(CAPD).await?;
    let ota_events = OtaProxy::monitor(&mut ota).await.map_err(|err| Error::call(OTA, err))?;
    let supervisor_events =
        SupervisorProxy::monitor(&mut supervisor).await.map_err(|err| Error::call(SUPERVISOR, err))?;
    let capd_events = CapabilitiesProxy::monitor(&mut capd).await.map_err(|err| Error::call(CAPD, err))?;
    let daemons = futures_util::stream::select(
        ota_events.map(|reply| client::ota(reply).map(Event::Ota)),
        supervisor_events.map(|reply| client::supervisor(reply).map(Event::Supervisor)),
    );
    let mut events = pin!(futures_util::stream::select(
        daemons,
        capd_events.map(|reply| client::capd(reply).map(Event::Capabilities)),
    ));
    let bar = progress::bar(0, "{bytes}/{total_bytes} {bar:30} {bytes_per_sec}");
    let mut last = String::new();
    while let Some(event) = until_interrupt(events.next()).await.flatten() {
        let event = event?;
        if !args.payload.as_ref().is_none_or(|payload| event.is_about(payload.as_str())) {
            continue;
        }
        event.show(&bar);
        // Progress of a download is for the bar; a line is for what changes.
        let line = event.to_string();
        if output.is_json() || line != last {
            if let Err(err) = bar.suspend(|| output.print(&event)) {
                return Ok(Err(err));
            }
            last = line;
        }
    }
    bar.finish_and_clear();
    Ok(Ok(()))
}

async fn until_interrupt<T>(next: impl Future<Output = T>) -> Option<T> {
    tokio::select! {
        next = next => Some(next),
        _ = tokio::signal::ctrl_c() => None,
    }
}

impl Event {
    fn is_about(&self, payload: &str) -> bool {
        match self {
            Self::Ota(event) => event.attempt.as_ref().is_none_or(|attempt| attempt.payload == payload),
            Self::Supervisor(event) => event.event.status.payload == payload,
            Self::Capabilities(event) => event.event.payload.is_empty() || event.event.payload == payload,
        }
    }

    fn show(&self, bar: &ProgressBar) {
        let Self::Ota(event) = self else { return };
        match (u64::try_from(event.downloaded), u64::try_from(event.total)) {
            (Ok(downloaded), Ok(total)) if total > 0 => {
                bar.set_length(total);
                bar.set_position(downloaded);
            }
            _ => bar.reset(),
        }
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ota(event) => {
                write!(f, "updates: {}", event.activity)?;
                if !event.detail.is_empty() {
                    write!(f, " {} %: {}", event.percent, event.detail)?;
                }
                if let Some(attempt) = &event.attempt {
                    write!(f, "; {} {}: {}", what(attempt), attempt.version, attempt.outcome.as_str())?;
                    if let Some(reason) = attempt.reason {
                        write!(f, " ({reason})")?;
                    }
                    if !attempt.message.is_empty() {
                        write!(f, ": {}", attempt.message)?;
                    }
                }
                Ok(())
            }
            Self::Supervisor(event) => {
                let status = &event.event.status;
                write!(f, "{} {}: {}, {}", status.payload, status.version, word(&status.phase), word(&status.health))?;
                if let Some(reason) = status.reason {
                    write!(f, " ({reason})")?;
                }
                if status.message.is_empty() { Ok(()) } else { write!(f, ": {}", status.message) }
            }
            Self::Capabilities(CapabilitiesEvent { event }) => {
                let said = [&event.payload, &event.capability, &event.message];
                let said: Vec<&str> = said.into_iter().map(String::as_str).filter(|text| !text.is_empty()).collect();
                write!(f, "capabilities: {}: {}", word(&event.kind), said.join(": "))
            }
        }
    }
}

//! `iotwasm device history`.

use std::fmt;

use iotwasm_api::ota::{Attempt, Level, OtaProxy as _};
use serde::Serialize;

use super::History;
use super::client::{self, Error, OTA};
use crate::output::{Table, or_dash};

#[derive(Debug, Serialize)]
pub(crate) struct Report {
    attempts: Vec<Attempt>,
}

pub(crate) async fn get(args: &History) -> Result<Report, Error> {
    let payload = args.payload.as_ref().map(|payload| payload.as_str());
    let level = args.firmware.then_some(Level::Firmware);
    let reply = client::connect(OTA).await?.get_history(payload, args.limit.into(), level).await;
    Ok(Report { attempts: client::ota(reply)?.attempts })
}

/// What an attempt is about: a payload by its name, else the level.
pub(crate) fn what(attempt: &Attempt) -> String {
    match attempt.level {
        Level::Payload => or_dash(&attempt.payload),
        level => level.as_str().to_owned(),
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut table = Table::new(["NO", "STARTED", "WHAT", "FROM", "TO", "OUTCOME", "REASON", "MESSAGE"]);
        for attempt in &self.attempts {
            table.row([
                attempt.number.to_string(),
                attempt.started.clone(),
                what(attempt),
                or_dash(&attempt.from_version),
                or_dash(&attempt.version),
                attempt.outcome.as_str().to_owned(),
                attempt.reason.map_or("-".to_owned(), |reason| reason.to_string()),
                or_dash(&attempt.message),
            ]);
        }
        if table.is_empty() { f.write_str("nothing was tried yet") } else { table.fmt(f) }
    }
}

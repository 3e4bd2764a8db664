//! `iotwasm device capabilities`: what the board has, who may do what with it, and what was denied.

use std::fmt;

use iotwasm_api::capabilities::{Board, CapabilitiesProxy, Denials, Sessions};
use serde::Serialize;

use super::client::{self, CAPD, Error};
use crate::output::{Table, or_dash};

/// What capd says.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    board: Board,
    sessions: Sessions,
    denials: Denials,
}

pub(crate) async fn get() -> Result<Report, Error> {
    let mut capd = client::connect(CAPD).await?;
    Ok(Report {
        board: client::capd(CapabilitiesProxy::get_board(&mut capd).await)?,
        sessions: client::capd(CapabilitiesProxy::get_sessions(&mut capd).await)?,
        denials: client::capd(CapabilitiesProxy::get_denials(&mut capd).await)?,
    })
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "board {}: {}\n", self.board.name, self.board.description)?;
        let mut table = Table::new(["WHAT", "THERE", "VALUE", "USED BY", "DETAILS"]);
        for thing in &self.board.things {
            let details = if thing.present { thing.details.clone() } else { thing.message.clone() };
            table.row([
                format!("{}.{}", thing.kind.as_str(), thing.name),
                if thing.present { "yes" } else { "no" }.to_owned(),
                or_dash(&thing.value),
                or_dash(&thing.users.join(", ")),
                details,
            ]);
        }
        writeln!(f, "{table}")?;
        for session in &self.sessions.sessions {
            let waits = if session.claimed { "" } else { ", waits for its turn" };
            writeln!(f, "{} {}, signed by {}{waits}; may use", session.payload, session.version, session.role)?;
            session.grants.iter().try_for_each(|grant| writeln!(f, "  {grant}"))?;
        }
        if self.denials.total == 0 {
            return writeln!(f, "\nnothing was denied");
        }
        let mut table = Table::new(["DENIED", "PAYLOAD", "TIMES", "REASON", "LAST", "MESSAGE"]);
        for denial in &self.denials.denials {
            table.row([
                denial.capability.clone(),
                denial.payload.clone(),
                denial.count.to_string(),
                denial.reason.clone(),
                denial.last.clone(),
                denial.message.clone(),
            ]);
        }
        write!(f, "\n{table}")
    }
}

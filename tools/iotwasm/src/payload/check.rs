//! `iotwasm payload check`.

use std::fmt;
use std::path::PathBuf;

use clap::Args;
use iotwasm_payload::Policy;
use serde::Serialize;

use super::{Error, read};
use crate::output::Output;

#[derive(Debug, Args)]
pub(crate) struct Check {
    /// Check for this board, too.
    #[arg(long, value_name = "BOARD")]
    board: Option<String>,
    /// Packed payloads.
    #[arg(value_name = "PAYLOAD.wasm", required = true)]
    files: Vec<PathBuf>,
}

#[derive(Debug, Serialize)]
struct Report {
    payloads: Vec<Checked>,
}

#[derive(Debug, Serialize)]
struct Checked {
    path: PathBuf,
    accepted: bool,
    findings: Vec<String>,
}

pub(crate) fn run(args: &Check, output: &Output) -> Result<(), crate::error::Error> {
    let policy = Policy { board: args.board.clone(), ..Policy::default() };
    let mut payloads = Vec::new();
    for path in &args.files {
        let findings = findings(&read(path)?, &policy);
        payloads.push(Checked { path: path.clone(), accepted: findings.is_empty(), findings });
    }
    let checked = payloads.len();
    let refused = payloads.iter().filter(|payload| !payload.accepted).count();
    output.print(&Report { payloads })?;
    if refused == 0 { Ok(()) } else { Err(Error::SomeRefused { refused, checked }.into()) }
}

/// Everything that is wrong with a payload, in words; empty when nothing is.
pub(crate) fn findings(wasm: &[u8], policy: &Policy) -> Vec<String> {
    match iotwasm_payload::check(wasm, policy) {
        Ok(_) => Vec::new(),
        Err(refused) => refused.findings().iter().map(ToString::to_string).collect(),
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for payload in &self.payloads {
            let verdict = if payload.accepted { "accepted" } else { "refused" };
            writeln!(f, "{}: {verdict}", payload.path.display())?;
            for finding in &payload.findings {
                writeln!(f, "  - {finding}")?;
            }
        }
        Ok(())
    }
}

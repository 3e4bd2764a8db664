//! `iotwasm payload check`.

use std::fmt;
use std::path::PathBuf;

use clap::Args;
use iotwasm_payload::Policy;
use serde::Serialize;

use super::grants::{Decision, Peripherals};
use super::{Error, read};
use crate::output::Output;

#[derive(Debug, Args)]
pub(crate) struct Check {
    #[command(flatten)]
    peripherals: Peripherals,
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
    /// What is wrong with the file.
    findings: Vec<String>,
    /// What is too much of what it asks for.
    #[serde(flatten)]
    decision: Decision,
}

pub(crate) fn run(args: &Check, output: &Output) -> Result<(), crate::error::Error> {
    let judge = args.peripherals.judge()?;
    let policy = Policy { board: judge.board_name.clone(), ..Policy::default() };
    let mut payloads = Vec::new();
    for path in &args.files {
        let wasm = read(path)?;
        let findings = findings(&wasm, &policy);
        // Without a manifest that can be read nothing is asked for, and the findings say why.
        let decision = match iotwasm_payload::pack::manifest_of(&wasm) {
            Ok(manifest) => judge.decide(&manifest)?,
            Err(_) => Decision::default(),
        };
        let accepted = findings.is_empty() && decision.refusals.is_empty();
        payloads.push(Checked { path: path.clone(), accepted, findings, decision });
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
            for beyond in &payload.decision.refusals {
                writeln!(f, "  - {}", beyond.message)?;
            }
            if let (Some(grants), Some(role)) = (&payload.decision.grants, &payload.decision.role) {
                let nothing = if grants.is_empty() { "; it asks for no peripheral" } else { "" };
                writeln!(f, "  signed by {role}{nothing}")?;
                for line in grants.to_string().lines() {
                    writeln!(f, "  + {line}")?;
                }
            }
        }
        Ok(())
    }
}

//! `iotwasm repo status`.

use std::fmt;
use std::path::PathBuf;

use clap::Args;
use iotwasm_payload::PayloadTarget;
use iotwasm_payload::target::CUSTOM_KEY;
use iotwasm_trust::repo::Document;
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use super::open::Opened;
use super::{Error, firmware};
use crate::age::Age;
use crate::keyring::Keyring;
use crate::output::{Output, Table, or_dash};

#[derive(Debug, Args)]
pub(crate) struct Status {
    /// Folder of the repository.
    #[arg(long, value_name = "REPO")]
    repo: PathBuf,
    /// Folder with keys, to see which roles they can sign; may be given several times.
    #[arg(long, value_name = "KEYS")]
    keys: Vec<PathBuf>,
    /// Fail if a role has expired or will within this time.
    #[arg(long, value_name = "AGE")]
    fail_within: Option<Age>,
}

pub(crate) fn run(args: &Status, output: &Output) -> Result<(), crate::error::Error> {
    let (report, now) = look(args)?;
    output.print(&report)?;
    if let Some(age) = args.fail_within {
        let until = age.after(now);
        let late = |role: &&RoleReport| role.expires.is_none_or(|expires| expires <= until);
        if let Some(role) = report.roles.iter().find(late) {
            let expires = role.expires.map(|expires| expires.to_string()).unwrap_or_default();
            return Err(Error::ExpiresSoon { role: role.role.clone(), expires }.into());
        }
    }
    Ok(())
}

fn look(args: &Status) -> Result<(Report, Timestamp), Error> {
    let opened = Opened::open(&args.repo)?;
    let keyring = Keyring::load(&args.keys)?;
    let mut roles = Vec::new();
    let mut payloads = Vec::new();
    for document in [&opened.root, &opened.targets, &opened.snapshot, &opened.timestamp] {
        roles.push(role(document, &opened, &keyring)?);
    }
    for vendor in opened.vendors() {
        let document = opened.vendor(&vendor)?;
        roles.push(role(&document, &opened, &keyring)?);
        payloads.extend(document.target_names().iter().filter_map(|name| payload(name, &document)));
    }
    let mut releases = Vec::new();
    if let Some(document) = firmware::role(&opened)? {
        roles.push(role(&document, &opened, &keyring)?);
        releases.extend(firmware::bundles(&document).into_iter().map(FirmwareReport::from));
    }
    Ok((Report { repository: args.repo.clone(), roles, payloads, firmware: releases }, opened.now))
}

fn role(document: &Document, opened: &Opened, keyring: &Keyring) -> Result<RoleReport, Error> {
    let signers = opened.signers(&document.role)?;
    Ok(RoleReport {
        role: document.role.clone(),
        version: document.version(),
        expires: document.expires(),
        remaining: document.expires().map(|expires| remaining(opened.now, expires)).unwrap_or_default(),
        keys_here: keyring.listed(&signers.ids).len(),
        threshold: signers.threshold,
        key_ids: signers.ids,
    })
}

fn payload(name: &str, document: &Document) -> Option<PayloadReport> {
    let info = document.target(name)?;
    let custom = info.custom.as_ref().and_then(|custom| custom.get(CUSTOM_KEY));
    // Targets of another kind may be there; they are somebody else's.
    let target = PayloadTarget::from_custom(custom).ok()?;
    Some(PayloadReport {
        target: name.to_owned(),
        vendor: target.vendor.to_string(),
        id: target.id.to_string(),
        version: target.version.to_string(),
        boards: target.boards,
        bytes: info.length,
        sha256: info.hashes.sha256.map(hex::encode).unwrap_or_default(),
        withdrawn: target.withdrawn.map(|withdrawn| withdrawn.reason),
    })
}

/// In the largest unit that says enough.
fn remaining(now: Timestamp, expires: Timestamp) -> String {
    let left: SignedDuration = expires.duration_since(now);
    let hours = left.as_hours();
    match hours {
        48.. => format!("in {} days", hours / 24),
        1..48 => format!("in {hours} hours"),
        _ if left.is_positive() => format!("in {} minutes", left.as_mins()),
        _ => "EXPIRED".to_owned(),
    }
}

#[derive(Debug, Serialize)]
struct Report {
    repository: PathBuf,
    roles: Vec<RoleReport>,
    payloads: Vec<PayloadReport>,
    firmware: Vec<FirmwareReport>,
}

#[derive(Debug, Serialize)]
struct FirmwareReport {
    target: String,
    compatible: String,
    version: String,
    bytes: u64,
    sha256: String,
    /// The reason of its withdrawal.
    withdrawn: Option<String>,
}

impl From<firmware::Bundle> for FirmwareReport {
    fn from(bundle: firmware::Bundle) -> Self {
        Self {
            target: bundle.name.to_string(),
            compatible: bundle.target.compatible,
            version: bundle.target.version.to_string(),
            bytes: bundle.info.length,
            sha256: bundle.info.hashes.sha256.map(hex::encode).unwrap_or_default(),
            withdrawn: bundle.target.withdrawn.map(|withdrawn| withdrawn.reason),
        }
    }
}

#[derive(Debug, Serialize)]
struct RoleReport {
    role: String,
    version: u64,
    expires: Option<Timestamp>,
    #[serde(skip)]
    remaining: String,
    threshold: u64,
    /// How many of its keys are in the key folders that were given.
    keys_here: usize,
    key_ids: Vec<String>,
}

#[derive(Debug, Serialize)]
struct PayloadReport {
    target: String,
    vendor: String,
    id: String,
    version: String,
    boards: Vec<String>,
    bytes: u64,
    sha256: String,
    /// The reason of its withdrawal.
    withdrawn: Option<String>,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut table = Table::new(["ROLE", "VERSION", "EXPIRES", "", "KEYS", "HERE"]);
        for role in &self.roles {
            table.row([
                role.role.clone(),
                role.version.to_string(),
                role.expires.map(|expires| expires.to_string()).unwrap_or_default(),
                role.remaining.clone(),
                format!("{} of {}", role.threshold, role.key_ids.len()),
                role.keys_here.to_string(),
            ]);
        }
        writeln!(f, "{table}")?;
        let mut table = Table::new(["PAYLOAD", "VERSION", "VENDOR", "BYTES", "BOARDS", "SHA256", "WITHDRAWN"]);
        for payload in &self.payloads {
            table.row([
                payload.id.clone(),
                payload.version.clone(),
                payload.vendor.clone(),
                payload.bytes.to_string(),
                if payload.boards.is_empty() { "any".to_owned() } else { payload.boards.join(",") },
                payload.sha256.chars().take(12).collect(),
                payload.withdrawn.as_deref().map(or_dash).unwrap_or_default(),
            ]);
        }
        if table.is_empty() {
            f.write_str("no payloads")?;
        } else {
            table.fmt(f)?;
        }
        let mut table = Table::new(["FIRMWARE", "VERSION", "BYTES", "SHA256", "WITHDRAWN"]);
        for release in &self.firmware {
            table.row([
                release.compatible.clone(),
                release.version.clone(),
                release.bytes.to_string(),
                release.sha256.chars().take(12).collect(),
                release.withdrawn.as_deref().map(or_dash).unwrap_or_default(),
            ]);
        }
        if table.is_empty() { Ok(()) } else { write!(f, "\n{table}") }
    }
}

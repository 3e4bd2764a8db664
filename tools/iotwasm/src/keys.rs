//! `iotwasm keys`: make and list signing keys.

use std::fmt;
use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde::Serialize;

use crate::error::Error;
use crate::keyring::{self, Entry, Keyring};
use crate::output::{Output, Table, or_dash};
use crate::repo::RoleName;

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Make new keys, one file each, readable by their owner alone.
    #[command(after_help = "Examples:
  iotwasm keys generate --dir keys                   keys of root (three), targets, snapshot and timestamp
  iotwasm keys generate --dir keys acme              a key of the vendor acme
  iotwasm keys generate --dir offline root           only those of root, to be kept offline

An existing key is never overwritten: a role that has a key in the folder is refused.")]
    Generate(Generate),
    /// List the keys of some folders.
    #[command(after_help = "Example, to find the keys that no role trusts any longer:
  iotwasm keys list --dir keys --repo repo")]
    List(List),
}

#[derive(Debug, Args)]
pub(crate) struct Generate {
    /// Folder to put them in; made if it is missing.
    #[arg(long, value_name = "KEYS")]
    dir: PathBuf,
    /// How many keys the root role gets.
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..=16))]
    root_keys: u8,
    /// root, targets, snapshot, timestamp, or a vendor's name. Default: the first four.
    #[arg(value_name = "ROLE")]
    roles: Vec<RoleName>,
}

#[derive(Debug, Args)]
pub(crate) struct List {
    /// Folder with keys; may be given several times.
    #[arg(long, value_name = "KEYS", required = true)]
    dir: Vec<PathBuf>,
    /// Say for each key which role of this repository trusts it.
    #[arg(long, value_name = "REPO")]
    repo: Option<PathBuf>,
}

pub(crate) fn run(command: Command, output: &Output) -> Result<(), Error> {
    match command {
        Command::Generate(args) => output.print(&generate(&args)?),
        Command::List(args) => output.print(&list(&args)?),
    }
}

fn generate(args: &Generate) -> Result<KeysReport, Error> {
    let mut roles: Vec<&str> = args.roles.iter().map(RoleName::as_str).collect();
    if roles.is_empty() {
        roles = vec!["root", "targets", "snapshot", "timestamp"];
    }
    roles.dedup();
    keyring::make_folder(&args.dir)?;
    let present = Keyring::load(std::slice::from_ref(&args.dir))?;
    // Everything is looked at before anything is made.
    for role in &roles {
        if let Some(entry) = present.named(role).next() {
            return Err(keyring::Error::Exists { role: (*role).to_owned(), path: entry.path.clone() }.into());
        }
    }
    let mut keys = Vec::new();
    for role in roles {
        for _ in 0..if role == "root" { args.root_keys } else { 1 } {
            keys.push(KeyReport::from(&keyring::generate(&args.dir, role)?));
        }
    }
    Ok(KeysReport { keys })
}

fn list(args: &List) -> Result<KeysReport, Error> {
    let mut keys: Vec<KeyReport> = Keyring::load(&args.dir)?.entries().iter().map(KeyReport::from).collect();
    if let Some(repo) = &args.repo {
        let roles = crate::repo::key_ids(repo)?;
        for key in &mut keys {
            let trusting = roles.iter().filter(|(_, ids)| ids.contains(&key.key_id));
            key.trusted_for = Some(trusting.map(|(role, _)| role.clone()).collect());
        }
    }
    Ok(KeysReport { keys })
}

#[derive(Debug, Serialize)]
struct KeysReport {
    keys: Vec<KeyReport>,
}

#[derive(Debug, Serialize)]
struct KeyReport {
    role: String,
    key_id: String,
    path: PathBuf,
    /// The roles that trust it, where a repository was given to look at.
    #[serde(skip_serializing_if = "Option::is_none")]
    trusted_for: Option<Vec<String>>,
}

impl From<&Entry> for KeyReport {
    fn from(entry: &Entry) -> Self {
        Self { role: entry.role.clone(), key_id: entry.id.clone(), path: entry.path.clone(), trusted_for: None }
    }
}

impl fmt::Display for KeysReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut table = Table::new(["ROLE", "KEY ID", "FILE", "TRUSTED FOR"]);
        if self.keys.iter().all(|key| key.trusted_for.is_none()) {
            table = Table::new(["ROLE", "KEY ID", "FILE", ""]);
        }
        for key in &self.keys {
            let trusted = key.trusted_for.as_ref().map(|roles| or_dash(&roles.join(", "))).unwrap_or_default();
            table.row([key.role.clone(), key.key_id.clone(), key.path.display().to_string(), trusted]);
        }
        if table.is_empty() { f.write_str("no keys") } else { table.fmt(f) }
    }
}

//! `iotwasm repo`: the repository that devices fetch from.
//!
//! A repository is a folder with `metadata/` and `targets/` that any web server can serve. Each command takes the
//! folder's lock, verifies what it is about to build upon, makes sure that it has every key it needs, and only then writes:
//! first what nothing refers to yet, last the timestamp, which makes it visible. A command that is killed leaves the
//! repository as it was for clients, and can be run again.

mod error;
mod expiry;
mod firmware;
mod init;
mod open;
mod publish;
mod refresh;
mod role_name;
mod rotate;
mod sign;
mod status;
mod vendor;
mod withdraw;

use std::fmt;
use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde::Serialize;

pub(crate) use error::Error;
pub(crate) use role_name::RoleName;

use crate::output::Output;

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Make a repository.
    #[command(after_help = "Example:
  iotwasm repo init --repo repo --keys keys --vendor acme --firmware

Devices are built with repo/metadata/1.root.json as /usr/share/iotwasm/root.json: it is what they trust.")]
    Init(init::Init),
    /// Let a vendor publish payloads of its own.
    #[command(after_help = "Examples:
  iotwasm keys generate --dir keys acme
  iotwasm repo add-vendor --repo repo --keys keys acme")]
    AddVendor(vendor::AddVendor),
    /// Let the role firmware publish firmware releases; vendors of payloads cannot.
    #[command(after_help = "Examples:
  iotwasm keys generate --dir keys firmware
  iotwasm repo add-firmware --repo repo --keys keys")]
    AddFirmware(vendor::AddFirmware),
    /// Check payloads and publish them under their vendors; and firmware releases, under firmware.
    #[command(after_help = "Examples:
  iotwasm repo publish --repo repo --keys keys counter-1.0.0.wasm
  iotwasm repo publish --repo repo --keys keys --firmware release

A firmware release is the folder that iotwasm-release build made.

Devices take the highest version that fits their board and is not withdrawn. Needs the keys of the vendor, of snapshot
and of timestamp. Publishing the same file again changes nothing.")]
    Publish(publish::Publish),
    /// Take a version back: devices go to the highest version that is left.
    #[command(after_help = "Examples:
  iotwasm repo withdraw --repo repo --keys keys --reason 'the pump runs dry' counter@1.2.0
  iotwasm repo withdraw --repo repo --keys keys --reason 'no sound' --firmware acme-gateway@1.4.0")]
    Withdraw(withdraw::Withdraw),
    /// Sign again, so that metadata does not expire. Run it daily.
    #[command(after_help = "Examples:
  iotwasm repo refresh --repo repo --keys keys                    timestamp and snapshot
  iotwasm repo refresh --repo repo --keys keys --role acme        a vendor's role, and the two above
  iotwasm repo refresh --repo repo --keys keys --role root        a new version of root")]
    Refresh(refresh::Refresh),
    /// Replace a key by a new one.
    #[command(after_help = "Examples:
  iotwasm repo rotate-key --repo repo --keys keys timestamp
  iotwasm repo rotate-key --repo repo --keys keys acme
  iotwasm repo rotate-key --repo repo --keys keys root --replace 3fa9c01d

Needs the keys of whoever vouches for the role: two of root for root, targets, snapshot and timestamp; targets for a
vendor. The old key of the role is used if it is there, and not needed if it is lost.")]
    RotateKey(rotate::Rotate),
    /// What is published, and when metadata expires.
    #[command(after_help = "Example, for a monitoring job:
  iotwasm repo status --repo repo --fail-within 3d")]
    Status(status::Status),
}

/// The repository and the keys that a change of it needs.
#[derive(Debug, Args)]
pub(crate) struct Place {
    /// Folder of the repository.
    #[arg(long, value_name = "REPO")]
    repo: PathBuf,
    /// Folder with keys; may be given several times.
    #[arg(long, value_name = "KEYS", required = true)]
    keys: Vec<PathBuf>,
}

pub(crate) fn run(command: Command, output: &Output) -> Result<(), crate::error::Error> {
    match command {
        Command::Init(args) => output.print(&init::run(&args)?),
        Command::AddVendor(args) => output.print(&vendor::run(&args)?),
        Command::AddFirmware(args) => output.print(&vendor::add_firmware(&args)?),
        Command::Publish(args) => output.print(&publish::run(&args)?),
        Command::Withdraw(args) => output.print(&withdraw::run(&args)?),
        Command::Refresh(args) => output.print(&refresh::run(&args)?),
        Command::RotateKey(args) => output.print(&rotate::run(&args)?),
        Command::Status(args) => status::run(&args, output),
    }
}

/// The ids of every role's keys.
pub(crate) fn key_ids(repo: &std::path::Path) -> Result<Vec<(String, Vec<String>)>, Error> {
    let opened = open::Opened::open(repo)?;
    let top = ["root", "targets", "snapshot", "timestamp"].map(str::to_owned);
    top.into_iter().chain(opened.delegated()).map(|role| Ok((role.clone(), opened.signers(&role)?.ids))).collect()
}

/// What a change of the repository did.
#[derive(Debug, Serialize)]
pub(crate) struct Change {
    /// In words, a sentence each.
    #[serde(skip)]
    notes: Vec<String>,
    /// Files of metadata that are new, in the order in which they were written.
    metadata: Vec<String>,
    /// Target names that were published or withdrawn.
    targets: Vec<String>,
    /// Target names that were there already.
    unchanged: Vec<String>,
    /// Files of new keys.
    new_keys: Vec<PathBuf>,
    /// Files of keys that are trusted no longer.
    retired_keys: Vec<PathBuf>,
}

impl Change {
    fn new() -> Self {
        Self {
            notes: Vec::new(),
            metadata: Vec::new(),
            targets: Vec::new(),
            unchanged: Vec::new(),
            new_keys: Vec::new(),
            retired_keys: Vec::new(),
        }
    }

    fn note(&mut self, text: impl Into<String>) {
        self.notes.push(text.into());
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for note in &self.notes {
            writeln!(f, "{note}")?;
        }
        for key in &self.new_keys {
            writeln!(f, "new key: {}", key.display())?;
        }
        for key in &self.retired_keys {
            writeln!(f, "trusted no longer, to be destroyed: {}", key.display())?;
        }
        if self.metadata.is_empty() { Ok(()) } else { writeln!(f, "signed: {}", self.metadata.join(", ")) }
    }
}

//! `iotwasm payload`: pack, look into, and check payload files.

mod check;
mod grants;
mod inspect;
mod overrides;
mod pack;

use std::io;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use iotwasm_kit::report::{Code, Failure};
use iotwasm_payload::pack::PackError;

use crate::output::Output;

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Put a manifest into a module, and check the result.
    #[command(after_help = "Examples:
  iotwasm payload pack --wasm counter.wasm --manifest manifest.toml -o counter-1.0.0.wasm
  iotwasm payload pack --wasm counter.wasm --manifest manifest.toml --version 1.1.0 \\
      --set wasi.environment.VERSION=1.1.0 --set health.confirmation_s=60

Without -o the file is named <id>-<version>.wasm. What the checks refuse is not written.")]
    Pack(pack::Pack),
    /// Show what a payload holds: manifest, imports, exports, sizes.
    Inspect(inspect::Inspect),
    /// Check payloads as devices do, and list everything that is wrong.
    #[command(after_help = "Examples:
  iotwasm payload check --board qemu-x86-64 counter-1.0.0.wasm
  iotwasm payload check --board board-configs/qemu-x86-64.toml --tiers tiers.d climate-1.0.0.wasm

With a board file and the tiers, it decides about peripherals as the device will: everything that the manifest asks for is
granted, or all that is too much is listed.")]
    Check(check::Check),
}

/// Why a payload could not be packed, shown or accepted.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("could not read {}", path.display())]
    Read {
        path: PathBuf,
        #[source]
        err: io::Error,
    },
    #[error("could not write {}", path.display())]
    Write {
        path: PathBuf,
        #[source]
        err: iotwasm_kit::atomic::Error,
    },
    #[error("{} is no TOML", path.display())]
    NotToml {
        path: PathBuf,
        #[source]
        err: Box<toml::de::Error>,
    },
    #[error("could not put the manifest together")]
    Render {
        #[source]
        err: toml::ser::Error,
    },
    #[error("--set {key}: {part} is no table of the manifest")]
    NotATable { key: String, part: String },
    #[error("could not pack {}", path.display())]
    Pack {
        path: PathBuf,
        #[source]
        err: PackError,
    },
    #[error("could not look into {}", path.display())]
    Inspect {
        path: PathBuf,
        #[source]
        err: PackError,
    },
    #[error("{} is refused: {}", path.display(), findings.join("; "))]
    Refused { path: PathBuf, findings: Vec<String> },
    #[error("could not load what peripherals are judged by")]
    Peripherals {
        #[source]
        err: iotwasm_grant::load::LoadError,
    },
    #[error("{refused} of {checked} payloads are refused")]
    SomeRefused { refused: usize, checked: usize },
}

impl Failure for Error {
    fn exit_code(&self) -> Code {
        match self {
            Self::NotToml { .. } | Self::Peripherals { .. } | Self::Pack { err: PackError::Manifest { .. }, .. } => {
                Code::Config
            }
            Self::NotATable { .. } => Code::Usage,
            _ => Code::Other,
        }
    }
}

/// Which file.
#[derive(Debug, Args)]
struct File {
    /// A module, packed or not.
    #[arg(value_name = "PAYLOAD.wasm")]
    file: PathBuf,
}

pub(crate) fn run(command: Command, output: &Output) -> Result<(), crate::error::Error> {
    match command {
        Command::Pack(args) => output.print(&pack::run(&args)?),
        Command::Inspect(args) => output.print(&inspect::run(&args)?),
        Command::Check(args) => check::run(&args, output),
    }
}

fn read(path: &Path) -> Result<Vec<u8>, Error> {
    std::fs::read(path).map_err(|err| Error::Read { path: path.to_owned(), err })
}

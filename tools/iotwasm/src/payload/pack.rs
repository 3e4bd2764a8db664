//! `iotwasm payload pack`.

use std::fmt;
use std::path::PathBuf;

use clap::Args;
use iotwasm_payload::{Digest, Policy};
use serde::Serialize;

use super::overrides::Overrides;
use super::{Error, check, read};

#[derive(Debug, Args)]
pub(crate) struct Pack {
    /// The compiled module.
    #[arg(long, value_name = "FILE")]
    wasm: PathBuf,
    /// Its manifest.
    #[arg(long, value_name = "FILE")]
    manifest: PathBuf,
    /// Where to write the payload. Default: <id>-<version>.wasm.
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Write what the checks refuse, too, so that tests can show that devices refuse it.
    #[arg(long, hide = true)]
    unchecked: bool,
    #[command(flatten)]
    overrides: Overrides,
}

#[derive(Debug, Serialize)]
pub(crate) struct Packed {
    path: PathBuf,
    vendor: String,
    id: String,
    version: String,
    bytes: usize,
    sha256: String,
}

pub(crate) fn run(args: &Pack) -> Result<Packed, Error> {
    let wasm = read(&args.wasm)?;
    let text =
        std::fs::read_to_string(&args.manifest).map_err(|err| Error::Read { path: args.manifest.clone(), err })?;
    let text = args.overrides.apply(&args.manifest, text)?;
    let pack = |err| Error::Pack { path: args.wasm.clone(), err };
    let packed = iotwasm_payload::pack(&wasm, &text).map_err(pack)?;
    if !args.unchecked {
        let findings = check::findings(&packed, &Policy::default());
        if !findings.is_empty() {
            return Err(Error::Refused { path: args.wasm.clone(), findings });
        }
    }
    let manifest = iotwasm_payload::pack::manifest_of(&packed).map_err(pack)?;
    let path = match &args.output {
        Some(path) => path.clone(),
        None => format!("{}-{}.wasm", manifest.id, manifest.version).into(),
    };
    iotwasm_kit::atomic::write(&path, &packed, 0o644).map_err(|err| Error::Write { path: path.clone(), err })?;
    Ok(Packed {
        path,
        vendor: manifest.vendor.to_string(),
        id: manifest.id.to_string(),
        version: manifest.version.to_string(),
        bytes: packed.len(),
        sha256: Digest::of(&packed).to_string(),
    })
}

impl fmt::Display for Packed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { path, vendor, id, version, bytes, sha256 } = self;
        write!(f, "packed {vendor}/{id} {version} into {} ({bytes} bytes, sha256 {sha256})", path.display())
    }
}

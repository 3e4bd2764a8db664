//! `iotwasm payload inspect`.

use std::fmt;
use std::path::PathBuf;

use clap::Args;
use iotwasm_payload::pack::Inspection;
use serde::Serialize;

use super::{Error, File, read};
use crate::output::Table;

#[derive(Debug, Args)]
pub(crate) struct Inspect {
    #[command(flatten)]
    file: File,
}

#[derive(Debug, Serialize)]
pub(crate) struct Report {
    path: PathBuf,
    #[serde(flatten)]
    inspection: Inspection,
    /// The manifest with its defaults written out.
    #[serde(skip)]
    manifest_toml: Option<String>,
}

pub(crate) fn run(args: &Inspect) -> Result<Report, Error> {
    let path = args.file.file.clone();
    let inspection =
        iotwasm_payload::inspect(&read(&path)?).map_err(|err| Error::Inspect { path: path.clone(), err })?;
    let manifest_toml = match &inspection.manifest {
        Some(manifest) => Some(manifest.to_toml().map_err(|err| Error::Render { err })?),
        None => None,
    };
    Ok(Report { path, inspection, manifest_toml })
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inspection { imports, exports, memory, sizes, sha256, .. } = &self.inspection;
        writeln!(f, "{}  {} bytes  sha256 {sha256}\n", self.path.display(), sizes.file_bytes)?;
        match &self.manifest_toml {
            Some(text) => writeln!(f, "{}\n", text.trim_end())?,
            None => writeln!(f, "no manifest: pack it with iotwasm payload pack\n")?,
        }
        let mut table = Table::new(["", "NAME", "TYPE"]);
        for import in imports {
            table.row(["import".into(), format!("{}.{}", import.module, import.name), import.kind.to_string()]);
        }
        for export in exports {
            table.row(["export".into(), export.name.clone(), export.kind.to_string()]);
        }
        writeln!(f, "{table}")?;
        if let Some(memory) = memory {
            let max = memory.max_pages.map_or("no maximum of its own".to_owned(), |pages| format!("at most {pages}"));
            writeln!(f, "memory: {} pages of 64 KiB at the start, {max}", memory.min_pages)?;
        }
        writeln!(
            f,
            "code: {} bytes in {} functions, at most {} locals; data: {} bytes",
            sizes.code_bytes, sizes.functions, sizes.most_locals, sizes.data_bytes
        )
    }
}

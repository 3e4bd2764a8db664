//! Putting a manifest into a module, and telling what a packed module holds.

use iotwasm_values::Digest;
use serde::Serialize;

use crate::manifest::{self, Manifest, ManifestError};
use crate::scan::{self, Item, MemoryShape, Sizes};
use crate::sections::{HEADER, Section, custom_section, sections};

/// Why a manifest could not be put in or taken out.
#[derive(Debug, thiserror::Error)]
pub enum PackError {
    /// Not a core module.
    #[error("not a core WebAssembly module (a component, an object or text?)")]
    NotAModule,
    /// The manifest is wrong.
    #[error("the manifest is refused")]
    Manifest {
        /// Why.
        #[source]
        err: ManifestError,
    },
    /// There is none.
    #[error("the module has no custom section {:?}; pack it first", manifest::SECTION)]
    NoManifest,
    /// There are several, and readers might disagree on which one counts.
    #[error("the module has several custom sections {:?}", manifest::SECTION)]
    SeveralManifests,
    /// A section could not be read.
    #[error("the module is malformed")]
    Malformed {
        /// Where and what.
        #[source]
        err: wasmparser::BinaryReaderError,
    },
}

/// What a packed module holds.
#[derive(Debug, Clone, Serialize)]
pub struct Inspection {
    /// The manifest, if it was packed.
    pub manifest: Option<Manifest>,
    /// Imports, in order.
    pub imports: Vec<Item>,
    /// Exports, in order.
    pub exports: Vec<Item>,
    /// The memory that it declares first.
    pub memory: Option<MemoryShape>,
    /// How much there is of what.
    pub sizes: Sizes,
    /// SHA-256 of the file.
    pub sha256: Digest,
}

/// Puts a manifest into a module, in place of one that it may have. The result is not checked: see [`crate::check()`].
pub fn pack(wasm: &[u8], manifest_toml: &str) -> Result<Vec<u8>, PackError> {
    Manifest::parse(manifest_toml.as_bytes()).map_err(|err| PackError::Manifest { err })?;
    let mut packed = HEADER.to_vec();
    for section in sections(wasm).map_err(|_| PackError::NotAModule)? {
        if !is_manifest(&section) {
            packed.extend_from_slice(section.whole);
        }
    }
    packed.extend_from_slice(&custom_section(manifest::SECTION, manifest_toml.as_bytes()));
    Ok(packed)
}

/// The manifest of a packed module.
pub fn manifest_of(wasm: &[u8]) -> Result<Manifest, PackError> {
    let mut found = None;
    for section in sections(wasm).map_err(|_| PackError::NotAModule)? {
        if is_manifest(&section) && found.replace(section).is_some() {
            return Err(PackError::SeveralManifests);
        }
    }
    let (_, content) = found.as_ref().and_then(Section::custom).ok_or(PackError::NoManifest)?;
    Manifest::parse(content).map_err(|err| PackError::Manifest { err })
}

/// Tells what a module holds, packed or not. It may still be refused by [`crate::check()`].
pub fn inspect(wasm: &[u8]) -> Result<Inspection, PackError> {
    let manifest = match manifest_of(wasm) {
        Ok(manifest) => Some(manifest),
        Err(PackError::NoManifest) => None,
        Err(err) => return Err(err),
    };
    let scan = scan::scan(wasm);
    if let Some(err) = scan.malformed {
        return Err(PackError::Malformed { err });
    }
    Ok(Inspection {
        manifest,
        imports: scan.imports,
        exports: scan.exports,
        memory: scan.memories.first().copied(),
        sizes: scan.sizes,
        sha256: Digest::of(wasm),
    })
}

fn is_manifest(section: &Section<'_>) -> bool {
    section.custom().is_some_and(|(name, _)| name == manifest::SECTION.as_bytes())
}

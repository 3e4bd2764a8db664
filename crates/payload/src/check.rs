//! Static checks: what must hold before any engine sees a module. Pure.
//!
//! The engine trusts a module's own declarations in places where that costs memory (locals, tables, functions), and a
//! crafted module can run native code that it carries itself. So a module is refused here, with the complete list of what
//! is wrong, unless it is valid WebAssembly of exactly the features that we allow, imports only what exists and what its
//! manifest asks for, exports what its entry style needs, and stays within limits on everything that it declares.

use std::fmt;

use wasmparser::{Validator, WasmFeatures};

use crate::interfaces::{self, Needs};
use crate::manifest::{EntryStyle, Manifest};
use crate::pack::{self, PackError};
use crate::scan::{Item, ItemKind, Scan, Signature, scan};

/// Custom sections that hold native code for the engine. WasmEdge loads it unless it is told not to, so a module that
/// carries one is refused even though the runner forces the interpreter.
pub const AOT_SECTIONS: &[&str] = &["wasmedge"];

/// WebAssembly 1.0 and what rustc and clang emit by default. Nothing else: no SIMD, threads, tail calls, exceptions,
/// garbage collection, second memory, 64-bit memory or component.
pub const FEATURES: WasmFeatures = WasmFeatures::WASM1
    .union(WasmFeatures::FLOATS)
    .union(WasmFeatures::SIGN_EXTENSION)
    .union(WasmFeatures::SATURATING_FLOAT_TO_INT)
    .union(WasmFeatures::MULTI_VALUE)
    .union(WasmFeatures::BULK_MEMORY)
    .union(WasmFeatures::REFERENCE_TYPES);

/// Most of each thing that a module may declare. The defaults are several times what real payloads need and keep what
/// the engine allocates for a module's structure within a few dozen MB.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModuleLimits {
    /// The file, in bytes. 8 MiB.
    pub file_bytes: u64,
    /// Types. 5000.
    pub types: u64,
    /// Imports. 256.
    pub imports: u64,
    /// Exports. 1024.
    pub exports: u64,
    /// Functions. 20 000.
    pub functions: u64,
    /// One function body, in bytes. 1 MiB.
    pub function_bytes: u64,
    /// Locals and parameters of one function. 4096: each costs 16 bytes for every call on the stack.
    pub locals: u64,
    /// Nesting of blocks. 1024.
    pub nesting: u64,
    /// Targets of one branch table. 16 384.
    pub branch_targets: u64,
    /// Tables. 4.
    pub tables: u64,
    /// Entries of one table. 65 536: the engine does not limit tables by itself.
    pub table_entries: u64,
    /// Globals. 1024.
    pub globals: u64,
    /// Data segments. 4096.
    pub data_segments: u64,
    /// Element segments. 1024.
    pub element_segments: u64,
    /// Entries of all element segments. 65 536.
    pub elements: u64,
    /// Custom sections. 64.
    pub custom_sections: u64,
}

impl Default for ModuleLimits {
    fn default() -> Self {
        Self {
            file_bytes: 8 * 1024 * 1024,
            types: 5000,
            imports: 256,
            exports: 1024,
            functions: 20_000,
            function_bytes: 1024 * 1024,
            locals: 4096,
            nesting: 1024,
            branch_targets: 16_384,
            tables: 4,
            table_entries: 65_536,
            globals: 1024,
            data_segments: 4096,
            element_segments: 1024,
            elements: 65_536,
            custom_sections: 64,
        }
    }
}

/// What to check against.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Policy {
    /// The board that it is to run on; `None` (the default) checks for no board in particular.
    pub board: Option<String>,
    /// Limits on what a module declares.
    pub limits: ModuleLimits,
}

/// A module that passed. Made by [`check()`] alone.
#[derive(Debug, Clone)]
pub struct Checked {
    manifest: Manifest,
    has_initialize: bool,
}

impl Checked {
    /// Its manifest.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// The manifest, for good.
    pub fn into_manifest(self) -> Manifest {
        self.manifest
    }

    /// True if a reactor exports `_initialize`, to be called first.
    pub fn has_initialize(&self) -> bool {
        self.has_initialize
    }
}

/// A module that did not pass, with everything that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    findings: Vec<Finding>,
}

impl Refused {
    /// Everything that is wrong; never empty.
    pub fn findings(&self) -> &[Finding] {
        &self.findings
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the payload is refused")?;
        for (i, finding) in self.findings.iter().enumerate() {
            write!(f, "{} {finding}", if i == 0 { ":" } else { ";" })?;
        }
        Ok(())
    }
}

impl std::error::Error for Refused {}

/// One thing that is wrong with a module.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Finding {
    /// Not WebAssembly, or of a feature that is not allowed.
    #[error("it is not valid WebAssembly of the allowed features: {message} (at offset {offset:#x})")]
    Invalid {
        /// What.
        message: String,
        /// Where, in bytes from the start.
        offset: u64,
    },
    /// No manifest, several, or a wrong one.
    #[error("{message}")]
    Manifest {
        /// What, with its causes.
        message: String,
    },
    /// Not for this board.
    #[error("its manifest is for the boards {}, not for {board}", .boards.join(", "))]
    Board {
        /// The board.
        board: String,
        /// Those that the manifest lists.
        boards: Vec<String>,
    },
    /// It carries native code.
    #[error("it carries native code in a custom section {section:?}; give the module before ahead-of-time compilation")]
    NativeCode {
        /// The section's name.
        section: String,
    },
    /// Too much of something.
    #[error("{what}: {found}, at most {limit}")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// How much there is.
        found: u64,
        /// How much there may be.
        limit: u64,
    },
    /// An import that no interface has.
    #[error("it imports {module}.{name}, which does not exist")]
    UnknownImport {
        /// Module.
        module: String,
        /// Name.
        name: String,
    },
    /// An import of an interface that the manifest does not ask for.
    #[error("it imports {module}.{name}, which needs {needs}")]
    NotAskedFor {
        /// Module.
        module: String,
        /// Name.
        name: String,
        /// What is needed.
        needs: Needs,
    },
    /// An import of the wrong type.
    #[error("it imports {module}.{name} as {found}, but that is a function {expected}")]
    ImportType {
        /// Module.
        module: String,
        /// Name.
        name: String,
        /// As imported.
        found: String,
        /// As it is.
        expected: Signature,
    },
    /// No memory, or several.
    #[error("it has {found} memories; it must declare exactly one")]
    Memories {
        /// How many, imported ones counted.
        found: usize,
    },
    /// It starts with more memory than its manifest allows.
    #[error("it starts with {found} pages of memory, but limits.memory_pages is {limit}")]
    MemoryTooLarge {
        /// Pages at the start.
        found: u64,
        /// The manifest's limit.
        limit: u64,
    },
    /// A table that could grow without end.
    #[error("it grows tables, but table {table} has no maximum of at most {limit} entries")]
    TableGrows {
        /// Which.
        table: usize,
        /// How many entries there may be.
        limit: u64,
    },
    /// A start function: it would run while the module is still being set up, before fuel and clock are.
    #[error("it has a start function, which would run before its limits are in force; use _initialize instead")]
    StartFunction,
    /// An export that the entry style needs is missing.
    #[error("it does not export {name}, a {expected}, which the entry style {style} needs")]
    MissingExport {
        /// Name.
        name: &'static str,
        /// What it must be.
        expected: String,
        /// The entry style.
        style: &'static str,
    },
    /// An export is there with the wrong type.
    #[error("it exports {name} as {found}; it must be a {expected}")]
    ExportType {
        /// Name.
        name: &'static str,
        /// As exported.
        found: String,
        /// As it must be.
        expected: String,
    },
    /// No way to test itself.
    #[error("it has no self-test: {how}")]
    NoSelfTest {
        /// What is missing.
        how: &'static str,
    },
}

/// Checks a packed module. Refuses with the complete list of what is wrong.
pub fn check(wasm: &[u8], policy: &Policy) -> Result<Checked, Refused> {
    let limits = &policy.limits;
    if wasm.len() as u64 > limits.file_bytes {
        // Nothing else is looked at: the limit is there so that reading it stays cheap.
        let finding = Finding::TooMany { what: "bytes", found: wasm.len() as u64, limit: limits.file_bytes };
        return Err(Refused { findings: vec![finding] });
    }
    let mut findings = Vec::new();
    let manifest = pack::manifest_of(wasm)
        .map_err(|err| {
            // Not dividing into sections is reported by the validator, which says where.
            if !matches!(err, PackError::NotAModule) {
                findings.push(Finding::Manifest { message: with_causes(&err) });
            }
        })
        .ok();
    if let Err(err) = Validator::new_with_features(FEATURES).validate_all(wasm) {
        findings.push(Finding::Invalid { message: err.message().to_owned(), offset: err.offset() });
    }
    let scan = scan(wasm);
    structure(&scan, limits, &mut findings);
    if let Some(manifest) = &manifest {
        against_manifest(&scan, manifest, policy, &mut findings);
    }
    match (manifest, &scan.malformed) {
        (Some(manifest), None) if findings.is_empty() => {
            Ok(Checked { manifest, has_initialize: scan.export(interfaces::INITIALIZE).is_some() })
        }
        (_, malformed) => {
            if findings.is_empty() {
                // The validator took what the scan could not read: never a reason to let it through.
                let (message, offset) = malformed
                    .as_ref()
                    .map_or(("unreadable".to_owned(), 0), |err| (err.message().to_owned(), err.offset()));
                findings.push(Finding::Invalid { message, offset });
            }
            Err(Refused { findings })
        }
    }
}

/// What holds for every payload, whatever its manifest says.
fn structure(scan: &Scan, limits: &ModuleLimits, findings: &mut Vec<Finding>) {
    for section in &scan.custom_sections {
        if AOT_SECTIONS.contains(&section.as_str()) {
            findings.push(Finding::NativeCode { section: section.clone() });
        }
    }
    let sizes = &scan.sizes;
    for (what, found, limit) in [
        ("types", sizes.types, limits.types),
        ("imports", scan.imports.len() as u64, limits.imports),
        ("exports", scan.exports.len() as u64, limits.exports),
        ("functions", sizes.functions, limits.functions),
        ("bytes in one function", sizes.longest_function, limits.function_bytes),
        ("locals in one function", sizes.most_locals, limits.locals),
        ("levels of nesting", sizes.deepest_nesting, limits.nesting),
        ("targets of one branch table", sizes.largest_branch_table, limits.branch_targets),
        ("tables", scan.tables.len() as u64, limits.tables),
        ("entries in one table", scan.tables.iter().map(|t| t.min).max().unwrap_or(0), limits.table_entries),
        ("globals", sizes.globals, limits.globals),
        ("data segments", sizes.data_segments, limits.data_segments),
        ("element segments", sizes.element_segments, limits.element_segments),
        ("elements", sizes.elements, limits.elements),
        ("custom sections", scan.custom_sections.len() as u64, limits.custom_sections),
    ] {
        if found > limit {
            findings.push(Finding::TooMany { what, found, limit });
        }
    }
    if scan.grows_tables {
        for (table, shape) in scan.tables.iter().enumerate() {
            if shape.max.is_none_or(|max| max > limits.table_entries) {
                findings.push(Finding::TableGrows { table, limit: limits.table_entries });
            }
        }
    }
    if scan.has_start {
        findings.push(Finding::StartFunction);
    }
    if scan.memories.len() != 1 && scan.malformed.is_none() {
        findings.push(Finding::Memories { found: scan.memories.len() });
    }
}

fn against_manifest(scan: &Scan, manifest: &Manifest, policy: &Policy, findings: &mut Vec<Finding>) {
    if let Some(board) = &policy.board
        && !manifest.runs_on(board)
    {
        findings.push(Finding::Board { board: board.clone(), boards: manifest.boards.clone() });
    }
    let limit = manifest.limits.memory_pages.into();
    for memory in &scan.memories {
        // A larger declared maximum does no harm: the engine's own page limit is the manifest's.
        if memory.min_pages > limit {
            findings.push(Finding::MemoryTooLarge { found: memory.min_pages, limit });
        }
    }
    for item in &scan.imports {
        findings.extend(import(item, manifest));
    }
    if scan.malformed.is_some() {
        // What is missing may only not have been reached.
        return;
    }
    let style = manifest.entry.style;
    export(scan, interfaces::MEMORY, ItemKind::Memory, style, findings);
    let to_nothing = || ItemKind::Function(Signature::new::<interfaces::Val>(&[], &[]));
    match style {
        EntryStyle::Reactor => {
            let to_i32 = ItemKind::Function(Signature::new(&[], &[interfaces::Val::I32]));
            if scan.export(interfaces::SELF_TEST).is_none() {
                findings.push(Finding::NoSelfTest {
                    how: "a reactor exports iotwasm_self_test, a function () -> (i32) that returns 0 when all is well",
                });
            } else {
                export(scan, interfaces::SELF_TEST, to_i32, style, findings);
            }
            export(scan, interfaces::RUN, to_nothing(), style, findings);
            if scan.export(interfaces::INITIALIZE).is_some() {
                export(scan, interfaces::INITIALIZE, to_nothing(), style, findings);
            }
        }
        EntryStyle::Command => {
            export(scan, interfaces::START, to_nothing(), style, findings);
            if !scan.imports.iter().any(|i| i.module == interfaces::IOTWASM && i.name == interfaces::HEALTH) {
                findings.push(Finding::NoSelfTest {
                    how: "a command imports iotwasm.iotwasm_health and reports self-test passed (3) or failed (4)",
                });
            }
        }
    }
}

fn import(item: &Item, manifest: &Manifest) -> Option<Finding> {
    let (module, name) = (item.module.clone(), item.name.clone());
    let known = interfaces::interface(&module).and_then(|i| Some((i, i.function(&name)?)));
    let Some((interface, function)) = known else {
        return Some(Finding::UnknownImport { module, name });
    };
    if !interface.needs.met_by(manifest) {
        return Some(Finding::NotAskedFor { module, name, needs: interface.needs });
    }
    let expected = Signature::new(function.params, function.results);
    if item.kind == ItemKind::Function(expected.clone()) {
        return None;
    }
    Some(Finding::ImportType { module, name, found: item.kind.to_string(), expected })
}

fn export(scan: &Scan, name: &'static str, expected: ItemKind, style: EntryStyle, findings: &mut Vec<Finding>) {
    match scan.export(name) {
        Some(found) if *found == expected => {}
        Some(found) => {
            let (found, expected) = (found.to_string(), expected.to_string());
            findings.push(Finding::ExportType { name, found, expected });
        }
        None => {
            let expected = expected.to_string();
            findings.push(Finding::MissingExport { name, expected, style: style.as_str() });
        }
    }
}

/// An error with its causes on one line: a finding is shown by itself.
fn with_causes(err: &dyn std::error::Error) -> String {
    let mut text = err.to_string();
    let mut source = err.source();
    while let Some(cause) = source {
        text = format!("{text}: {}", cause.to_string().trim_end());
        source = cause.source();
    }
    text
}

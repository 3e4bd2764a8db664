//! One pass over a module that counts and lists, judging nothing. Total on any bytes: it stops at what it cannot read.

use std::fmt;

use serde::Serialize;
use wasmparser::{BinaryReaderError, ExternalKind, FuncType, FunctionBody, Operator, Parser, Payload, TypeRef};

/// An import or export.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Item {
    /// The module that an import names; empty for an export.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub module: String,
    /// Its name.
    pub name: String,
    /// What it is.
    #[serde(rename = "type")]
    pub kind: ItemKind,
}

/// What is imported or exported.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(into = "String")]
pub enum ItemKind {
    /// A function of this type.
    Function(Signature),
    /// A memory.
    Memory,
    /// A table.
    Table,
    /// A global.
    Global,
    /// Something of a proposal that we do not take.
    Other,
}

/// A function's type, written as `(i32, i64) -> (i32)`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signature(pub(crate) String);

impl Signature {
    pub(crate) fn new<T: fmt::Display>(params: &[T], results: &[T]) -> Self {
        let list = |types: &[T]| types.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        Self(format!("({}) -> ({})", list(params), list(results)))
    }
}

impl fmt::Display for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for ItemKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Function(signature) => write!(f, "function {signature}"),
            Self::Memory => f.write_str("memory"),
            Self::Table => f.write_str("table"),
            Self::Global => f.write_str("global"),
            Self::Other => f.write_str("something else"),
        }
    }
}

impl From<ItemKind> for String {
    fn from(kind: ItemKind) -> Self {
        kind.to_string()
    }
}

/// A declared memory, in pages of 64 KiB.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct MemoryShape {
    /// Size at the start.
    pub min_pages: u64,
    /// Largest size that the module asks for.
    pub max_pages: Option<u64>,
}

/// A declared table, in entries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TableShape {
    pub(crate) min: u64,
    pub(crate) max: Option<u64>,
}

/// How much there is of what.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Sizes {
    /// The whole file, in bytes.
    pub file_bytes: u64,
    /// Function bodies, in bytes.
    pub code_bytes: u64,
    /// Data segments, in bytes.
    pub data_bytes: u64,
    /// Custom sections (names, debug information, the manifest), in bytes.
    pub custom_bytes: u64,
    /// Types.
    pub types: u64,
    /// Functions defined.
    pub functions: u64,
    /// Globals defined.
    pub globals: u64,
    /// Data segments.
    pub data_segments: u64,
    /// Element segments.
    pub element_segments: u64,
    /// Entries of all element segments.
    pub elements: u64,
    /// Most locals of one function, with its parameters.
    pub most_locals: u64,
    /// Longest function body, in bytes.
    pub longest_function: u64,
    /// Deepest nesting of blocks.
    pub deepest_nesting: u64,
    /// Largest branch table.
    pub largest_branch_table: u64,
}

/// What one pass found.
#[derive(Debug, Default)]
pub(crate) struct Scan {
    pub(crate) imports: Vec<Item>,
    pub(crate) exports: Vec<Item>,
    pub(crate) memories: Vec<MemoryShape>,
    pub(crate) tables: Vec<TableShape>,
    pub(crate) custom_sections: Vec<String>,
    pub(crate) has_start: bool,
    pub(crate) grows_tables: bool,
    pub(crate) sizes: Sizes,
    /// Where reading stopped.
    pub(crate) malformed: Option<BinaryReaderError>,
    types: Vec<Option<FuncType>>,
    bodies_seen: u64,
    /// Type index of every function, imported ones first.
    functions: Vec<u32>,
}

/// Reads a module as far as it can be read.
pub(crate) fn scan(wasm: &[u8]) -> Scan {
    let mut scan = Scan { sizes: Sizes { file_bytes: wasm.len() as u64, ..Sizes::default() }, ..Scan::default() };
    for payload in Parser::new(0).parse_all(wasm) {
        if let Err(err) = payload.and_then(|payload| scan.payload(payload)) {
            scan.malformed = Some(err);
            break;
        }
    }
    scan
}

impl Scan {
    /// The export with this name.
    pub(crate) fn export(&self, name: &str) -> Option<&ItemKind> {
        self.exports.iter().find(|item| item.name == name).map(|item| &item.kind)
    }

    fn payload(&mut self, payload: Payload<'_>) -> Result<(), BinaryReaderError> {
        match payload {
            Payload::TypeSection(section) => {
                self.sizes.types += u64::from(section.count());
                for group in section {
                    for ty in group?.into_types() {
                        self.types.push(match ty.composite_type.inner {
                            wasmparser::CompositeInnerType::Func(func) => Some(func),
                            _ => None,
                        });
                    }
                }
            }
            Payload::ImportSection(section) => {
                for import in section.into_imports() {
                    let import = import?;
                    let kind = match import.ty {
                        TypeRef::Func(index) => {
                            self.functions.push(index);
                            self.function_kind(index)
                        }
                        TypeRef::Memory(memory) => {
                            self.memories.push(shape(&memory));
                            ItemKind::Memory
                        }
                        TypeRef::Table(_) => ItemKind::Table,
                        TypeRef::Global(_) => ItemKind::Global,
                        _ => ItemKind::Other,
                    };
                    self.imports.push(Item { module: import.module.to_owned(), name: import.name.to_owned(), kind });
                }
            }
            Payload::FunctionSection(section) => {
                self.sizes.functions += u64::from(section.count());
                for index in section {
                    self.functions.push(index?);
                }
            }
            Payload::TableSection(section) => {
                for table in section {
                    let ty = table?.ty;
                    self.tables.push(TableShape { min: ty.initial, max: ty.maximum });
                }
            }
            Payload::MemorySection(section) => {
                for memory in section {
                    self.memories.push(shape(&memory?));
                }
            }
            Payload::GlobalSection(section) => self.sizes.globals += u64::from(section.count()),
            Payload::ExportSection(section) => {
                for export in section {
                    let export = export?;
                    let kind = match export.kind {
                        ExternalKind::Func => {
                            let ty = self.functions.get(export.index as usize).copied();
                            ty.map_or(ItemKind::Other, |ty| self.function_kind(ty))
                        }
                        ExternalKind::Memory => ItemKind::Memory,
                        ExternalKind::Table => ItemKind::Table,
                        ExternalKind::Global => ItemKind::Global,
                        _ => ItemKind::Other,
                    };
                    self.exports.push(Item { module: String::new(), name: export.name.to_owned(), kind });
                }
            }
            Payload::StartSection { .. } => self.has_start = true,
            Payload::ElementSection(section) => {
                self.sizes.element_segments += u64::from(section.count());
                for element in section {
                    self.sizes.elements += u64::from(match element?.items {
                        wasmparser::ElementItems::Functions(items) => items.count(),
                        wasmparser::ElementItems::Expressions(_, items) => items.count(),
                    });
                }
            }
            Payload::DataSection(section) => {
                self.sizes.data_segments += u64::from(section.count());
                for data in section {
                    self.sizes.data_bytes += data?.data.len() as u64;
                }
            }
            Payload::CodeSectionEntry(body) => self.body(&body)?,
            Payload::CustomSection(section) => {
                self.sizes.custom_bytes += section.data().len() as u64;
                self.custom_sections.push(section.name().to_owned());
            }
            _ => {}
        }
        Ok(())
    }

    fn body(&mut self, body: &FunctionBody<'_>) -> Result<(), BinaryReaderError> {
        let range = body.range();
        let length = range.end - range.start;
        // Bodies come in order, so the count of those seen so far gives the function's index.
        let imported = self.functions.len() as u64 - self.sizes.functions.min(self.functions.len() as u64);
        let index = imported + self.bodies_seen;
        self.bodies_seen += 1;
        let params = self
            .functions
            .get(index as usize)
            .and_then(|ty| self.types.get(*ty as usize)?.as_ref())
            .map_or(0, |ty| ty.params().len() as u64);
        let mut locals = params;
        for group in body.get_locals_reader()? {
            locals += u64::from(group?.0);
        }
        let sizes = &mut self.sizes;
        sizes.code_bytes += length;
        sizes.longest_function = sizes.longest_function.max(length);
        sizes.most_locals = sizes.most_locals.max(locals);
        let mut depth = 0u64;
        for operator in body.get_operators_reader()? {
            match operator? {
                Operator::Block { .. } | Operator::Loop { .. } | Operator::If { .. } => {
                    depth += 1;
                    sizes.deepest_nesting = sizes.deepest_nesting.max(depth);
                }
                Operator::End => depth = depth.saturating_sub(1),
                Operator::BrTable { targets } => {
                    sizes.largest_branch_table = sizes.largest_branch_table.max(u64::from(targets.len()));
                }
                Operator::TableGrow { .. } => self.grows_tables = true,
                _ => {}
            }
        }
        Ok(())
    }

    fn function_kind(&self, ty: u32) -> ItemKind {
        match self.types.get(ty as usize) {
            Some(Some(ty)) => ItemKind::Function(Signature::new(ty.params(), ty.results())),
            _ => ItemKind::Other,
        }
    }
}

fn shape(memory: &wasmparser::MemoryType) -> MemoryShape {
    MemoryShape { min_pages: memory.initial, max_pages: memory.maximum }
}

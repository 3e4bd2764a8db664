//! What can go wrong outside of a guest's own run.

use std::path::PathBuf;

/// A module that cannot be loaded, or a request that does not fit it. What a guest does is never an error: see
/// [`crate::Outcome`].
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The library gave no object. It is out of memory, or not the library that it says.
    #[error("WasmEdge could not make a {what}")]
    Create {
        /// What was asked for.
        what: &'static str,
    },
    /// The library does not take the setting that keeps native code from running.
    #[error("WasmEdge does not keep to its interpreter")]
    NotInterpreted,
    /// The bytes do not divide into sections.
    #[error("not a core WebAssembly module")]
    NotAModule,
    /// The module carries native code.
    #[error("the module carries native code in a custom section {section:?}")]
    NativeCode {
        /// The section's name.
        section: String,
    },
    /// The module declares more memory than it may have.
    #[error("the module starts with {pages} pages of memory; at most {limit} are allowed")]
    MemoryTooLarge {
        /// Pages of 64 KiB at the start.
        pages: u64,
        /// The limit, in pages.
        limit: u32,
    },
    /// The library refused the module.
    #[error("could not {step} the module: {message}")]
    Module {
        /// Which step.
        step: &'static str,
        /// The library's words.
        message: String,
        /// The library's code.
        code: u32,
    },
    /// A directory to show the guest is not there.
    #[error("could not open the directory {path} for the guest")]
    Preopen {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        err: std::io::Error,
    },
    /// A text for WASI that its encoding cannot carry.
    #[error("{what} {text:?} holds a character that WASI's encoding cannot carry")]
    Text {
        /// Which text.
        what: &'static str,
        /// The text.
        text: String,
    },
    /// No such export.
    #[error("the module exports no function {name:?}")]
    NoFunction {
        /// Its name.
        name: String,
    },
    /// The export has another type.
    #[error("{name:?} takes other parameters than the {given} given")]
    Parameters {
        /// Its name.
        name: String,
        /// How many were given.
        given: usize,
    },
    /// The thread that keeps the clock did not start.
    #[error("could not start the clock's thread")]
    Thread {
        /// Why.
        #[source]
        err: std::io::Error,
    },
}

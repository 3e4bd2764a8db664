//! What can go wrong between the harness and a device. One variant an operation, with its object.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

/// Why the harness could not do what a scenario asked for.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file or folder of the harness.
    #[error("could not {what} {}", path.display())]
    File {
        /// The verb.
        what: &'static str,
        /// The object.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A program on the harness' side could not be started.
    #[error("could not start {program}")]
    Start {
        /// Its name.
        program: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A program on the harness' side failed.
    #[error("{program} failed with {status}: {output}")]
    Program {
        /// Program and arguments.
        program: String,
        /// Exit status.
        status: String,
        /// What it said.
        output: String,
    },
    /// QEMU's monitor.
    #[error("QEMU's monitor: {doing}")]
    Monitor {
        /// What was asked.
        doing: String,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// QEMU ended when it should have run.
    #[error("QEMU ended with {status}: {output}")]
    QemuEnded {
        /// Exit status.
        status: String,
        /// The end of its standard error.
        output: String,
    },
    /// The port to the test agent.
    #[error("test agent: {doing}")]
    Agent {
        /// What was asked.
        doing: String,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// The agent could not do it.
    #[error("test agent: {doing}: {message}")]
    Refused {
        /// What was asked.
        doing: String,
        /// Its answer.
        message: String,
    },
    /// A program in the device failed.
    #[error("in the device, {command} ended with {code}: {output}")]
    Command {
        /// Program and arguments.
        command: String,
        /// Exit code.
        code: i32,
        /// Standard error, or output where there was none.
        output: String,
    },
    /// A condition did not come true in time.
    #[error("waited {limit:?} for {what}; last seen: {last}")]
    Timeout {
        /// The condition.
        what: String,
        /// The limit.
        limit: Duration,
        /// What was seen instead.
        last: String,
    },
    /// The machine is off.
    #[error("the device is off")]
    Off,
    /// What the device said is not what we can read.
    #[error("could not read {what}: {text}")]
    Unreadable {
        /// What it should have been.
        what: &'static str,
        /// What it was.
        text: String,
    },
    /// A step saw something else than it expected; the table has the details.
    #[error("step \"{step}\" expected {expected}, saw {seen}")]
    Step {
        /// The step.
        step: String,
        /// What should have been.
        expected: String,
        /// What was.
        seen: String,
    },
}

/// Shorthand of this crate.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// For `map_err`: a file operation.
    pub fn file(what: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { what, path, source }
    }
}

/// An error with its sources, on one line.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(source) = next {
        text.push_str(": ");
        text.push_str(&source.to_string());
        next = source.source();
    }
    text
}

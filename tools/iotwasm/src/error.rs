//! What the command can end with, and the exit code that belongs to it.

use std::io;
use std::process::ExitCode;

use iotwasm_kit::report::{Code, Failure};

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error(transparent)]
    Keys(#[from] crate::keyring::Error),
    #[error(transparent)]
    Repo(#[from] crate::repo::Error),
    #[error(transparent)]
    Payload(#[from] crate::payload::Error),
    #[error(transparent)]
    Device(#[from] crate::device::Error),
    #[error("could not write the result")]
    Output {
        #[source]
        err: io::Error,
    },
}

impl Failure for Error {
    fn exit_code(&self) -> Code {
        match self {
            Self::Keys(err) => err.exit_code(),
            Self::Repo(err) => err.exit_code(),
            Self::Payload(err) => err.exit_code(),
            Self::Device(err) => err.exit_code(),
            Self::Output { .. } => Code::Other,
        }
    }
}

/// Help and version are asked for and go to standard output; all else is a wrong command line.
pub(crate) fn usage(err: &clap::Error) -> ExitCode {
    // Nothing can be done when there is no terminal to print it on.
    let _ = err.print();
    if err.use_stderr() { ExitCode::from(Code::Usage as u8) } else { ExitCode::SUCCESS }
}

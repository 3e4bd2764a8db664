//! What the command can end with, and the exit code that belongs to it.

use std::io;
use std::path::PathBuf;

use iotwasm_firmware::ReleaseError;
use iotwasm_firmware::predict::PredictError;
use iotwasm_kit::report::{Code, Failure};

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("{tool} is missing; install it (Debian: {package})")]
    Missing { tool: &'static str, package: &'static str },
    #[error("could not run {tool}")]
    Start {
        tool: &'static str,
        #[source]
        err: io::Error,
    },
    #[error("{tool} failed ({status}): {words}")]
    Failed { tool: &'static str, status: std::process::ExitStatus, words: String },
    #[error("{tool} did not say {what}")]
    Answer { tool: &'static str, what: &'static str },
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
        err: io::Error,
    },
    #[error("{} is there already, and nothing is overwritten; give another folder to --out", path.display())]
    Exists { path: PathBuf },
    #[error("{} is not a folder; --root takes the tree of a root file system", path.display())]
    NotATree { path: PathBuf },
    #[error("the path of {} is not text, or longer than a path of release.json may be", path.display())]
    Path { path: PathBuf },
    #[error("the tree's {file} has {key} {said}, and the release is for {wanted}; devices would believe the tree")]
    Identity { file: &'static str, key: &'static str, said: String, wanted: String },
    #[error("the tree has no {path}, which runs payloads; build it in, or say where it is with --runner")]
    NoRunner { path: String },
    #[error("the command line {rule}")]
    Cmdline { rule: &'static str },
    #[error("{variable} {rule}")]
    List { variable: &'static str, rule: &'static str },
    #[error("{} has more than one certificate; give each in a file of its own", path.display())]
    Certificates { path: PathBuf },
    #[error("there is no time: give --time, or SOURCE_DATE_EPOCH in the environment")]
    NoTime,
    #[error("SOURCE_DATE_EPOCH is {text:?}, which is not a number of seconds")]
    Epoch { text: String },
    #[error("the UKI has {length} bytes and does not fit into an ESP of {mib} MiB; give a larger --esp-size")]
    EspTooSmall { length: u64, mib: u32 },
    #[error("{} is no squashfs", path.display())]
    NotASquashfs { path: PathBuf },
    #[error("{} does not end with a signature", path.display())]
    NoSignature { path: PathBuf },
    #[error(
        "the tree's {path} does not take the bundle that was just signed ({words}); a device with this firmware could not be \
         updated any more: put the root certificate of the bundles' chain into it (to replace that, beside the old one, for one \
         release), or sign with that chain"
    )]
    Keyring { path: &'static str, words: String },
    #[error("could not predict what {} measures", path.display())]
    Predict {
        path: PathBuf,
        #[source]
        err: PredictError,
    },
    #[error("could not describe the release")]
    Describe(#[from] ReleaseError),
    #[error("could not write the result")]
    Output {
        #[source]
        err: io::Error,
    },
}

impl Failure for Error {
    fn exit_code(&self) -> Code {
        match self {
            Self::Missing { .. } => Code::DeviceMissing,
            Self::Cmdline { .. } | Self::List { .. } | Self::NoTime | Self::Epoch { .. } => Code::Usage,
            _ => Code::Other,
        }
    }
}

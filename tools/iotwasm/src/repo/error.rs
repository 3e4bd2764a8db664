//! Why a repository could not be changed or read.

use std::io;
use std::path::PathBuf;

use iotwasm_kit::report::{Code, Failure};
use iotwasm_payload::Refused;
use iotwasm_payload::target::TargetError;
use iotwasm_trust::repo::RepoError;

use crate::keyring;

/// Why a repository could not be changed or read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("{} is no repository (it has no metadata/timestamp.json); make one with iotwasm repo init", path.display())]
    NoRepository { path: PathBuf },
    #[error("{} is a repository already", path.display())]
    IsRepository { path: PathBuf },
    #[error("could not make the repository {}", path.display())]
    Make {
        path: PathBuf,
        #[source]
        err: io::Error,
    },
    #[error("could not lock the repository {}", path.display())]
    Lock {
        path: PathBuf,
        #[source]
        err: io::Error,
    },
    #[error("could not use the repository {}", path.display())]
    Use {
        path: PathBuf,
        #[source]
        err: RepoError,
    },
    #[error(
        "{file} in the repository has {found} of {threshold} valid signatures of role {role}: it was altered, and \
         nothing is built upon it; restore the repository from a copy"
    )]
    Altered { role: String, file: String, found: usize, threshold: u64 },
    #[error("{file} in the repository is not what the metadata above it lists")]
    NotListed { file: String },
    #[error(
        "role {role} needs {needed} of its keys, but {found} are in the key folders; its keys are {}",
        ids.join(", ")
    )]
    KeysMissing { role: String, needed: u64, found: usize, ids: Vec<String> },
    #[error("there is no key of role {role} in the key folders; make it with iotwasm keys generate --dir KEYS {role}")]
    NoKey { role: String },
    #[error("there is no vendor {vendor} in the repository; add it with iotwasm repo add-vendor")]
    NoVendor { vendor: String },
    #[error("the role {vendor} is in the repository already")]
    VendorExists { vendor: String },
    #[error("{role} is no role of the repository")]
    NoRole { role: String },
    #[error("could not read the payload {}", path.display())]
    ReadPayload {
        path: PathBuf,
        #[source]
        err: io::Error,
    },
    #[error("{} of the releases cannot be published, and nothing was:{}", refused.len(), listed(refused))]
    Refused { refused: Vec<(PathBuf, Vec<String>)> },
    #[error("the repository has no role firmware; make its key and add it with iotwasm repo add-firmware")]
    NoFirmware,
    #[error("in the metadata of {target}")]
    Firmware {
        target: String,
        #[source]
        err: iotwasm_firmware::target::TargetError,
    },
    #[error("could not describe {target}")]
    Describe {
        target: String,
        #[source]
        err: serde_json::Error,
    },
    #[error("in the metadata of {target}")]
    Target {
        target: String,
        #[source]
        err: TargetError,
    },
    #[error("there is no {target} in the repository; iotwasm repo status lists what is there")]
    NoTarget { target: String },
    #[error("role {role} has several keys; say which with --replace and the beginning of its id: {}", ids.join(", "))]
    WhichKey { role: String, ids: Vec<String> },
    #[error("role {role} has no key whose id begins with {prefix}; its keys are {}", ids.join(", "))]
    NoSuchKey { role: String, prefix: String, ids: Vec<String> },
    #[error("a threshold of {threshold} needs as many keys of role root, but {found} are in the key folders")]
    Threshold { threshold: u64, found: usize },
    #[error("{role} expires at {expires}; sign it again with iotwasm repo refresh --role {role}")]
    ExpiresSoon { role: String, expires: String },
    #[error(transparent)]
    Keys(#[from] keyring::Error),
}

impl Failure for Error {
    fn exit_code(&self) -> Code {
        match self {
            Self::NoRepository { .. }
            | Self::Altered { .. }
            | Self::NotListed { .. }
            | Self::Target { .. }
            | Self::Firmware { .. } => Code::Config,
            Self::WhichKey { .. } | Self::NoSuchKey { .. } => Code::Usage,
            Self::Keys(err) => err.exit_code(),
            _ => Code::Other,
        }
    }
}

/// Everything that is wrong with a payload, in words.
pub(crate) fn findings(refused: &Refused) -> Vec<String> {
    refused.findings().iter().map(ToString::to_string).collect()
}

fn listed(refused: &[(PathBuf, Vec<String>)]) -> String {
    refused.iter().map(|(path, why)| format!(" {}: {}", path.display(), why.join("; "))).collect::<Vec<_>>().join(" |")
}

//! What can be set, with its unit, default and reason.

use std::path::PathBuf;
use std::time::Duration;

/// The CA bundle of Debian, and of every image of ours.
pub const SYSTEM_CA: &str = "/etc/ssl/certs/ca-certificates.crt";

/// The slowest rate at which a transfer still counts as one, in bytes a second: slower than any link that could keep a payload
/// current.
pub const SLOWEST_RATE: u64 = 1024;

/// How a [`crate::Client`] behaves.
#[derive(Debug, Clone)]
pub struct Options {
    /// PEM file with the certificates that servers are checked against. Default: [`SYSTEM_CA`].
    pub ca_file: PathBuf,
    /// Limits on time.
    pub timeouts: Timeouts,
    /// What the client calls itself. Default: `iotwasm/<version>`.
    pub user_agent: String,
    /// Whether the proxy variables of the environment count. Default: yes.
    pub proxy_from_environment: bool,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            ca_file: SYSTEM_CA.into(),
            timeouts: Timeouts::default(),
            user_agent: concat!("iotwasm/", env!("CARGO_PKG_VERSION")).into(),
            proxy_from_environment: true,
        }
    }
}

/// Limits on time. A server that stalls ends by `stall`, one that trickles by `file` or by `bytes_per_second`.
#[derive(Debug, Clone)]
pub struct Timeouts {
    /// To find the host and connect, TLS included. Default: 15 s.
    pub connect: Duration,
    /// Without a single byte. Default: 20 s.
    pub stall: Duration,
    /// For one metadata file from one mirror. Default: 60 s.
    pub file: Duration,
    /// A download may take as long as at this rate, plus `file`, over all mirrors together. Default:
    /// [`SLOWEST_RATE`].
    pub bytes_per_second: u64,
}

impl Default for Timeouts {
    fn default() -> Self {
        Timeouts {
            connect: Duration::from_secs(15),
            stall: Duration::from_secs(20),
            file: Duration::from_secs(60),
            bytes_per_second: SLOWEST_RATE,
        }
    }
}

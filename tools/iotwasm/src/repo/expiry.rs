//! When what is signed now expires.

use clap::Args;
use jiff::Timestamp;

use crate::age::Age;

/// Lifetimes of what is signed. The timestamp is the shortest, because it is what a device that is fed old news notices.
#[derive(Debug, Args)]
#[command(next_help_heading = "Lifetimes (12h, 7d, 1y)")]
pub(crate) struct Expiry {
    /// Of the root role.
    #[arg(long, value_name = "AGE", default_value = "1y")]
    root_expires: Age,
    /// Of the targets role and the vendors' roles.
    #[arg(long, value_name = "AGE", default_value = "180d")]
    targets_expires: Age,
    /// Of the snapshot.
    #[arg(long, value_name = "AGE", default_value = "30d")]
    snapshot_expires: Age,
    /// Of the timestamp: how long a device may be kept from news before it notices.
    #[arg(long, value_name = "AGE", default_value = "7d")]
    timestamp_expires: Age,
    /// One instant, RFC 3339, for everything that is signed; it may be past (for tests).
    #[arg(long, value_name = "TIME", hide = true)]
    expires_at: Option<Timestamp>,
}

impl Expiry {
    /// When a role that is signed at `now` expires.
    pub(crate) fn of(&self, role: &str, now: Timestamp) -> Timestamp {
        let age = match role {
            "root" => self.root_expires,
            "snapshot" => self.snapshot_expires,
            "timestamp" => self.timestamp_expires,
            _ => self.targets_expires,
        };
        self.expires_at.unwrap_or_else(|| age.after(now))
    }
}

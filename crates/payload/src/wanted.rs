//! Which payloads a device runs: a file for each in `payloads.d`. ota-updated installs these and no others, and
//! wasm-supervisord starts no others.

use serde::Deserialize;

use crate::{PayloadId, Vendor};

/// One payload that the device runs.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Wanted {
    /// Payload id.
    pub id: PayloadId,
    /// The vendor: the delegated role that must sign it.
    pub vendor: Vendor,
}

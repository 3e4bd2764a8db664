//! Finding the keys that a signature needs, and making the signatures visible.

use iotwasm_trust::repo::{Document, Key, Online, TargetInfo};
use jiff::Timestamp;

use super::expiry::Expiry;
use super::open::{Opened, Signers};
use super::{Change, Error};
use crate::keyring::{Entry, Keyring};

/// The keys of a role: as many as are there, if they are enough.
pub(crate) fn keys_of(keyring: &Keyring, signers: &Signers) -> Result<Vec<Key>, Error> {
    let entries = keyring.listed(&signers.ids);
    if (entries.len() as u64) < signers.threshold {
        return Err(Error::KeysMissing {
            role: signers.role.clone(),
            needed: signers.threshold,
            found: entries.len(),
            ids: signers.ids.clone(),
        });
    }
    load(&entries)
}

/// The private keys of these entries.
pub(crate) fn load(entries: &[&Entry]) -> Result<Vec<Key>, Error> {
    Ok(entries.iter().map(|entry| entry.key()).collect::<Result<_, _>>()?)
}

/// Keys and expiry of snapshot and timestamp, which sign at every publication.
#[derive(Debug)]
pub(crate) struct Publisher {
    pub(crate) snapshot: Vec<Key>,
    pub(crate) timestamp: Vec<Key>,
    snapshot_expires: Timestamp,
    timestamp_expires: Timestamp,
    now: Timestamp,
}

impl Publisher {
    /// Has both roles' keys, or says which are missing.
    pub(crate) fn new(opened: &Opened, keyring: &Keyring, expiry: &Expiry) -> Result<Self, Error> {
        Self::refreshing(opened, keyring, expiry, false)
    }

    /// As [`Self::new`]; where only the timestamp is signed, no key of the snapshot is needed.
    pub(crate) fn refreshing(
        opened: &Opened,
        keyring: &Keyring,
        expiry: &Expiry,
        only_timestamp: bool,
    ) -> Result<Self, Error> {
        let keys = |role| keys_of(keyring, &opened.signers(role)?);
        let snapshot = if only_timestamp { Vec::new() } else { keys("snapshot")? };
        Ok(Self::with_keys(snapshot, keys("timestamp")?, expiry, opened.now))
    }

    pub(crate) fn with_keys(snapshot: Vec<Key>, timestamp: Vec<Key>, expiry: &Expiry, now: Timestamp) -> Self {
        Self {
            snapshot,
            timestamp,
            snapshot_expires: expiry.of("snapshot", now),
            timestamp_expires: expiry.of("timestamp", now),
            now,
        }
    }

    pub(crate) fn online(&self) -> Online<'_> {
        Online {
            snapshot: &self.snapshot,
            timestamp: &self.timestamp,
            snapshot_expires: self.snapshot_expires,
            timestamp_expires: self.timestamp_expires,
            now: self.now,
        }
    }

    /// Publishes signed roles with a new snapshot and timestamp, and notes what was written.
    pub(crate) fn publish(&self, opened: &Opened, roles: &[&Document], change: &mut Change) -> Result<(), Error> {
        opened.used(opened.repo.publish(roles, &self.online()))?;
        change.metadata.extend(roles.iter().map(|role| role.file_name()));
        change.metadata.push(format!("{}.snapshot.json", opened.snapshot.version() + 1));
        change.metadata.push("timestamp.json".into());
        Ok(())
    }
}

/// A target's metadata with another `custom`.
pub(crate) fn with_custom(target: TargetInfo, custom: serde_json::Value) -> TargetInfo {
    TargetInfo { custom: Some(custom), ..target }
}

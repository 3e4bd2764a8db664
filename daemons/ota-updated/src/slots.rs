//! One payload's slots: its state, written down before it counts. The only place of this daemon that changes one.

use std::path::{Path, PathBuf};

use iotwasm_api::ota::{PayloadInfo, SlotStatus};
use iotwasm_api::supervisor;
use iotwasm_kit::{report, warn};
use iotwasm_payload::Slot;
use iotwasm_payload::manifest::Manifest;
use iotwasm_payload::pack;
use iotwasm_payload::slot::{Event, IllegalTransition, PayloadState, Release, SlotState, StateError};
use iotwasm_payload::store::{StoreError, Writer};

use iotwasm_payload::Wanted;

/// Why the slots could not be read or changed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The store failed.
    #[error("slots of {payload}")]
    Store {
        /// Whose.
        payload: String,
        /// The cause.
        #[source]
        err: StoreError,
    },
    /// Something was to happen that cannot, as the slots are.
    #[error("slots of {payload}")]
    Illegal {
        /// Whose.
        payload: String,
        /// Both sides.
        #[source]
        err: Box<IllegalTransition>,
    },
}

impl Error {
    /// True if there is no room left.
    #[must_use]
    pub fn is_disk_full(&self) -> bool {
        matches!(self, Self::Store { err, .. } if err.is_disk_full())
    }
}

/// The slot as the interfaces name it.
#[must_use]
pub fn to_api(slot: Slot) -> supervisor::Slot {
    match slot {
        Slot::A => supervisor::Slot::A,
        Slot::B => supervisor::Slot::B,
    }
}

/// The slots of one payload that the device is to run.
#[derive(Debug)]
pub struct Slots {
    wanted: Wanted,
    root: PathBuf,
    writer: Writer,
    state: PayloadState,
}

impl Slots {
    /// Reads what the disk has of this payload.
    ///
    /// A state that is damaged is set aside: with it gone the payload is installed anew, which is better than never
    /// again. One that newer firmware wrote is left alone.
    ///
    /// # Errors
    ///
    /// If the disk cannot be read, or the state is from newer firmware.
    pub fn open(root: &Path, wanted: Wanted) -> Result<Self, Error> {
        let writer = Writer::new(root);
        let state = match writer.reader().state(&wanted.id) {
            Ok(state) => state.unwrap_or_default(),
            Err(StoreError::State { path, err }) if !matches!(err, StateError::TooNew { .. }) => {
                warn!("{} is set aside: {}", path.display(), report::chain(&err));
                let aside = path.with_extension("json.damaged");
                std::fs::rename(&path, &aside).map_err(|err| Error::Store {
                    payload: wanted.id.to_string(),
                    err: StoreError::Disk { action: "set aside", path, err },
                })?;
                PayloadState::default()
            }
            Err(err) => return Err(Error::Store { payload: wanted.id.to_string(), err }),
        };
        Ok(Self { wanted, root: root.to_owned(), writer, state })
    }

    /// The payload's id.
    #[must_use]
    pub fn id(&self) -> &str {
        self.wanted.id.as_str()
    }

    /// The payload and its vendor.
    #[must_use]
    pub fn wanted(&self) -> &Wanted {
        &self.wanted
    }

    /// Where all payloads lie.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// What the disk says.
    #[must_use]
    pub fn state(&self) -> &PayloadState {
        &self.state
    }

    /// Changes the state, on the disk first.
    ///
    /// # Errors
    ///
    /// Then nothing has changed.
    pub fn apply(&mut self, event: &Event) -> Result<(), Error> {
        let payload = || self.wanted.id.to_string();
        let next = self.state.apply(event).map_err(|err| Error::Illegal { payload: payload(), err: Box::new(err) })?;
        self.writer.save_state(&self.wanted.id, &next).map_err(|err| Error::Store { payload: payload(), err })?;
        self.state = next;
        Ok(())
    }

    /// Writes a verified file and its chain to a slot and begins its trial (which [`crate::trier`] then carries).
    ///
    /// # Errors
    ///
    /// The committed slot is untouched; the other one may be half written, and is still inactive.
    pub fn install(
        &mut self,
        slot: Slot,
        release: Release,
        file: &Path,
        boots: u8,
        export_chain: impl FnOnce(&Path) -> std::io::Result<()>,
    ) -> Result<(), Error> {
        self.apply(&Event::WriteStarted { slot })?;
        self.writer
            .write_slot(&self.wanted.id, &self.state, slot, &release, file, export_chain)
            .map_err(|err| Error::Store { payload: self.wanted.id.to_string(), err })?;
        self.apply(&Event::Installed { slot, release, boots })
    }

    /// Length of the file that a write to this slot would free, in bytes.
    #[must_use]
    pub fn length_of(&self, slot: Slot) -> u64 {
        let path = self.root.join(self.id()).join(slot.as_str()).join(iotwasm_payload::store::PAYLOAD_FILE);
        std::fs::symlink_metadata(path).map_or(0, |meta| if meta.is_file() { meta.len() } else { 0 })
    }

    /// The bytes in a slot, if there are any that can be read.
    #[must_use]
    pub fn bytes(&self, slot: Slot) -> Option<Vec<u8>> {
        self.writer.reader().payload(&self.wanted.id, slot).ok().flatten()
    }

    /// The folder of a slot's chain.
    #[must_use]
    pub fn chain(&self, slot: Slot) -> PathBuf {
        self.writer.reader().chain(&self.wanted.id, slot)
    }

    /// The manifest of what lies in a slot, if it has one.
    #[must_use]
    pub fn manifest(&self, slot: Slot) -> Option<Manifest> {
        pack::manifest_of(&self.bytes(slot)?).ok()
    }

    /// What there is to show.
    #[must_use]
    pub fn info(&self) -> PayloadInfo {
        let slots = Slot::ALL.map(|slot| {
            let content = self.state.slot(slot);
            let (state, boots_left) = match content.state {
                SlotState::Inactive => ("inactive", 0),
                SlotState::Trial { boots_left } => ("trial", boots_left),
                SlotState::Committed => ("committed", 0),
            };
            let release = content.release.as_ref();
            SlotStatus {
                slot: to_api(slot),
                state: state.to_owned(),
                boots_left: boots_left.into(),
                version: release.map_or_else(String::new, |r| r.version().to_string()),
                sha256: release.map_or_else(String::new, |r| r.sha256.to_string()),
            }
        });
        let committed = self.state.committed();
        PayloadInfo {
            payload: self.id().to_owned(),
            vendor: self.wanted.vendor.to_string(),
            committed: committed.map_or_else(String::new, |(_, release)| release.version().to_string()),
            slots: slots.into(),
            rejected: self
                .state
                .rejected()
                .iter()
                .map(|r| format!("{} {} ({})", r.release.version(), r.release.sha256, r.reason))
                .collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted() -> Wanted {
        Wanted { id: "blinky".parse().unwrap(), vendor: "acme".parse().unwrap() }
    }

    #[test]
    fn a_damaged_state_is_set_aside_and_one_of_newer_firmware_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("blinky")).unwrap();
        let state = dir.path().join("blinky/state.json");
        std::fs::write(&state, "{").unwrap();
        assert_eq!(Slots::open(dir.path(), wanted()).unwrap().state(), &PayloadState::default());
        assert!(dir.path().join("blinky/state.json.damaged").exists());

        std::fs::write(&state, r#"{"min_reader":99}"#).unwrap();
        assert!(Slots::open(dir.path(), wanted()).is_err());
        assert!(state.exists());
    }

    #[test]
    fn an_event_that_does_not_fit_changes_nothing_on_the_disk() {
        let dir = tempfile::tempdir().unwrap();
        let mut slots = Slots::open(dir.path(), wanted()).unwrap();
        assert!(slots.apply(&Event::Confirmed { slot: Slot::A }).is_err());
        assert!(!dir.path().join("blinky").exists());
    }
}

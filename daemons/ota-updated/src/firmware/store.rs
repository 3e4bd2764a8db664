//! The file with the firmware's state: written down before it counts. Never decides anything.

use std::path::{Path, PathBuf};

use iotwasm_firmware::state::{Event, FirmwareState, IllegalTransition, MAX_STATE_BYTES, StateError};
use iotwasm_kit::{atomic, info, report, warn};
use semver::Version;

/// Why the state could not be changed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file could not be written.
    #[error("could not write down what becomes of the firmware")]
    Write(#[source] atomic::Error),
    /// The state could not be put into words.
    #[error("could not write down what becomes of the firmware")]
    Format(#[source] StateError),
    /// Something was to happen that cannot, as the state is.
    #[error("state of the firmware")]
    Illegal(#[source] IllegalTransition),
}

/// The state, in memory and on the disk.
#[derive(Debug)]
pub struct Store {
    path: PathBuf,
    state: FirmwareState,
}

impl Store {
    /// Reads the file; an idle state if there is none.
    ///
    /// One that cannot be read is set aside, and what it remembers as rolled back is kept as far as that can be read: the
    /// device falls back to firmware, the one that is `running`, that must not try again what newer firmware found to be bad.
    #[must_use]
    pub fn open(path: &Path, running: &Version) -> Self {
        let bytes = match atomic::read(path, MAX_STATE_BYTES as u64) {
            Ok(Some(bytes)) => bytes,
            Ok(None) => return Self { path: path.to_owned(), state: FirmwareState::default() },
            Err(err) => {
                if err.kind() == std::io::ErrorKind::InvalidData {
                    set_aside(path, &err.to_string());
                } else {
                    warn!("could not read {}: {err}", path.display());
                }
                return Self { path: path.to_owned(), state: FirmwareState::default() };
            }
        };
        let state = FirmwareState::from_json(&bytes).unwrap_or_else(|err| {
            set_aside(path, &report::chain(&err));
            let state = FirmwareState::salvage(&bytes, running);
            if state != FirmwareState::default()
                && let Err(err) = write(path, &state)
            {
                warn!("{}", report::chain(&err));
            }
            state
        });
        Self { path: path.to_owned(), state }
    }

    /// What the disk says.
    #[must_use]
    pub fn state(&self) -> &FirmwareState {
        &self.state
    }

    /// Changes the state, on the disk first.
    ///
    /// # Errors
    ///
    /// Then nothing has changed.
    pub fn apply(&mut self, event: &Event) -> Result<(), Error> {
        let next = self.state.apply(event).map_err(Error::Illegal)?;
        write(&self.path, &next)?;
        self.state = next;
        info!("firmware: {event}: {}", self.state.state());
        Ok(())
    }
}

fn write(path: &Path, state: &FirmwareState) -> Result<(), Error> {
    let bytes = state.to_json().map_err(Error::Format)?;
    atomic::write(path, &bytes, 0o640).map_err(Error::Write)
}

fn set_aside(path: &Path, why: &str) {
    let aside = path.with_extension("json.damaged");
    warn!("{} is set aside as {}: {why}", path.display(), aside.display());
    if let Err(err) = std::fs::rename(path, &aside) {
        warn!("could not set it aside: {err}");
    }
}

#[cfg(test)]
mod tests {
    use iotwasm_firmware::state::State;

    use super::*;

    const RUNNING: Version = Version::new(1, 0, 0);

    #[test]
    fn a_damaged_file_is_set_aside_and_never_fatal() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("firmware.json");
        std::fs::write(&path, "{\"format\":1").unwrap();
        assert_eq!(Store::open(&path, &RUNNING).state().state(), &State::Idle);
        assert!(!path.exists() && dir.path().join("firmware.json.damaged").exists());
        let mut store = Store::open(&path, &RUNNING);
        assert!(store.apply(&Event::Committed).is_err());
    }

    #[test]
    fn what_is_no_file_is_set_aside_and_waited_for_by_nobody() {
        type Make = fn(&Path);
        let makes: [Make; 3] = [
            |path| std::fs::create_dir(path).unwrap(),
            |path| std::os::unix::fs::symlink("/dev/zero", path).unwrap(),
            |path| {
                let made = std::process::Command::new("mkfifo").arg(path).status().unwrap();
                assert!(made.success());
            },
        ];
        for make in makes {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("firmware.json");
            make(&path);
            let mut store = Store::open(&path, &RUNNING);
            assert!(std::fs::symlink_metadata(dir.path().join("firmware.json.damaged")).is_ok());
            let digest = iotwasm_firmware::Digest::from_bytes([1; 32]);
            let bundle = iotwasm_firmware::state::Bundle { version: RUNNING, sha256: digest, custom: digest };
            let slot = iotwasm_firmware::Slot::B;
            store.apply(&Event::InstallStarted { bundle, slot, from: RUNNING }).unwrap();
            assert!(path.is_file());
        }
    }

    #[test]
    fn of_a_file_from_newer_firmware_the_rejected_stay() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("firmware.json");
        let digest = "ab".repeat(32);
        let newer = format!(
            r#"{{"format":9,"min_reader":9,"state":{{"name":"hovering"}},"rejected":[{{"bundle":
            {{"version":"1.2.3","sha256":"{digest}","custom":"{digest}","region":"eu"}},"reason":"boot_failed"}}]}}"#
        );
        std::fs::write(&path, newer).unwrap();
        assert_eq!(Store::open(&path, &RUNNING).state().rejected().len(), 1);
        // And the next start finds it as well.
        assert_eq!(Store::open(&path, &RUNNING).state().rejected().len(), 1);
    }
}

//! The edge to the repository: metadata and files from several mirrors, believed only through `iotwasm-trust`.
//!
//! A mirror that is away, and one whose metadata is refused, are both passed over for the next: whoever can spoil one
//! mirror must not keep the device from the good ones.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use iotwasm_fetch::Client;
use iotwasm_firmware::target::ROLE;
use iotwasm_kit::{report, warn};
use iotwasm_trust::{Limits, Refusal, Target, Time, Updater};

use crate::Settings;
use crate::pulse::Pulse;
use crate::shared::Shared;
use crate::transport::{self, Transport};
use iotwasm_payload::Wanted;

/// What an error means for an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// What was offered must not be believed.
    Refused,
    /// It did not come, or the disk failed: to be tried again.
    Failed,
    /// The daemon stops.
    Interrupted,
}

/// Why nothing came of the repository.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The image's own root could not be read.
    #[error("could not read the pinned root {}", path.display())]
    PinnedRoot {
        /// Where it should be.
        path: PathBuf,
        /// The cause.
        #[source]
        err: std::io::Error,
    },
    /// The transport could not be set up.
    #[error("could not set up the transport")]
    Transport(#[source] transport::Error),
    /// The client of the repository failed.
    #[error("{place}")]
    Trust {
        /// Which repository.
        place: String,
        /// The cause.
        #[source]
        err: iotwasm_trust::Error,
    },
    /// The vendor's role cannot be used.
    #[error("metadata of role {role} was refused")]
    Role {
        /// Which role.
        role: String,
        /// The cause.
        #[source]
        why: Refusal,
    },
    /// A target could not be fetched.
    #[error("could not fetch {name}")]
    Download {
        /// The target.
        name: String,
        /// The cause.
        #[source]
        err: transport::Error,
    },
    /// The daemon stops.
    #[error("interrupted by a stop of the daemon")]
    Interrupted,
}

impl Error {
    /// What it means for an attempt.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            Self::Trust { err, .. } if err.is_transient() => Kind::Failed,
            Self::Trust { err: iotwasm_trust::Error::Io { .. }, .. } => Kind::Failed,
            Self::Trust { .. } | Self::Role { .. } => Kind::Refused,
            Self::PinnedRoot { .. } | Self::Transport(_) | Self::Download { .. } => Kind::Failed,
            Self::Interrupted => Kind::Interrupted,
        }
    }

    /// The whole chain of causes, in words that stay the same while the cause does: no present time in them.
    #[must_use]
    pub fn lasting_text(&self) -> String {
        let refusal = match self {
            Self::Trust { err, .. } => err.refusal(),
            Self::Role { why, .. } => Some(why),
            _ => None,
        };
        let text = report::chain(self);
        match refusal {
            Some(refusal @ Refusal::Expired { expired, .. }) => {
                text.replace(&refusal.to_string(), &format!("expired at {expired}"))
            }
            _ => text,
        }
    }
}

/// The repository as the device sees it.
#[derive(Debug)]
pub struct Repository {
    updater: Updater<Transport>,
    pinned_root: Vec<u8>,
    /// Roles that every mirror has wrong, by the last refresh.
    hopeless: Vec<String>,
}

impl Repository {
    /// Opens what the disk has of it.
    ///
    /// # Errors
    ///
    /// If the pinned root or the CA file is no good, or the store cannot be written.
    pub fn open(
        settings: &Settings,
        shared: &Arc<Shared>,
        pulse: &Arc<Pulse>,
        quit: &Arc<AtomicBool>,
    ) -> Result<Self, Error> {
        let places = &settings.places;
        let pinned_root = std::fs::read(&places.pinned_root)
            .map_err(|err| Error::PinnedRoot { path: places.pinned_root.clone(), err })?;
        let transport = Transport::new(&settings.config, shared, pulse, quit).map_err(Error::Transport)?;
        let time = Time::system(settings.build_time);
        let updater = Updater::open(&places.metadata, &pinned_root, time, Limits::default(), transport)
            .map_err(|err| Error::Trust { place: places.metadata.display().to_string(), err })?;
        Ok(Self { updater, pinned_root, hopeless: Vec::new() })
    }

    /// The root that the image pins.
    #[must_use]
    pub fn pinned_root(&self) -> &[u8] {
        &self.pinned_root
    }

    /// Brings root, timestamp, snapshot and targets up to date, from the first mirror that can.
    ///
    /// # Errors
    ///
    /// If none can. A refusal says more than a mirror that is away, so it is the one told.
    pub fn refresh(&mut self) -> Result<(), Error> {
        self.hopeless.clear();
        let mut worst: Option<Error> = None;
        for mirror in 0..self.updater.fetch_mut().mirrors() {
            self.updater.fetch_mut().judge(mirror);
            let Err(err) = self.updater.refresh() else {
                self.updater.fetch_mut().allow_any();
                return Ok(());
            };
            if self.updater.fetch_mut().is_interrupted() {
                return Err(Error::Interrupted);
            }
            let err = Error::Trust { place: self.updater.fetch_mut().url(mirror).to_owned(), err };
            warn!("{}", report::chain(&err));
            if worst.as_ref().is_none_or(|worst| worst.kind() == Kind::Failed && err.kind() == Kind::Refused) {
                worst = Some(err);
            }
        }
        Err(worst.unwrap_or(Error::Interrupted))
    }

    /// Every target of a payload that some trusted role names.
    ///
    /// # Errors
    ///
    /// If the vendor's role cannot be had or trusted: an empty answer would then be no answer.
    pub fn search(&mut self, wanted: &Wanted) -> Result<Vec<Target>, Error> {
        self.search_role(wanted.vendor.as_str(), &format!("{}/{}/*", wanted.vendor, wanted.id))
    }

    /// Every target for devices of this kind that some trusted role names; none where the repository has no firmware.
    ///
    /// # Errors
    ///
    /// If the role for firmware cannot be had or trusted.
    pub fn search_firmware(&mut self, compatible: &str) -> Result<Vec<Target>, Error> {
        self.search_role(ROLE, &format!("{ROLE}/{compatible}/*"))
    }

    /// A mirror may have the role's file wrong although all else that it has is right: then each of the others is judged in turn.
    fn search_role(&mut self, role: &str, pattern: &str) -> Result<Vec<Target>, Error> {
        let refused = match self.search_here(role, pattern) {
            Err(err @ Error::Role { .. }) if self.mirrors() > 1 && !self.hopeless.iter().any(|r| r == role) => err,
            done => return done,
        };
        warn!("{}", report::chain(&refused));
        for mirror in 0..self.mirrors() {
            self.updater.fetch_mut().judge(mirror);
            if self.updater.refresh().is_ok()
                && let Ok(targets) = self.search_here(role, pattern)
            {
                self.updater.fetch_mut().allow_any();
                return Ok(targets);
            }
            if self.updater.fetch_mut().is_interrupted() {
                return Err(Error::Interrupted);
            }
        }
        // For the other roles, which are not to pay for this one.
        let mut hopeless = std::mem::take(&mut self.hopeless);
        hopeless.push(role.to_owned());
        let refreshed = self.refresh();
        self.updater.fetch_mut().allow_any();
        self.hopeless = hopeless;
        refreshed.and(Err(refused))
    }

    fn search_here(&mut self, role: &str, pattern: &str) -> Result<Vec<Target>, Error> {
        let targets = match self.updater.search(pattern) {
            Ok(targets) => targets,
            Err(_) if self.updater.fetch_mut().is_interrupted() => return Err(Error::Interrupted),
            Err(err) => return Err(Error::Trust { place: format!("role {role}"), err }),
        };
        match self.updater.failures().into_iter().find(|(failed, _)| failed == role) {
            Some((role, why)) if targets.is_empty() => Err(Error::Role { role, why }),
            _ => Ok(targets),
        }
    }

    /// A part of a target that has this SHA-256, and so many clients for the other parts: of the mirrors that have this one.
    ///
    /// # Errors
    ///
    /// If no mirror has it.
    pub fn open_parts(
        &mut self,
        target: &Target,
        part: Range<u64>,
        sha256: &[u8; 32],
        clients: usize,
    ) -> Result<(Vec<u8>, Vec<Client>), Error> {
        let transport = self.updater.fetch_mut();
        match transport.open_parts(target, part, sha256, clients) {
            Ok(opened) => Ok(opened),
            Err(_) if transport.is_interrupted() => Err(Error::Interrupted),
            Err(err) => Err(Error::Download { name: target.name.clone(), err }),
        }
    }

    /// How many mirrors there are.
    pub fn mirrors(&mut self) -> usize {
        self.updater.fetch_mut().mirrors()
    }

    /// Opens parts at the next mirror first from now on: what came in parts from this one was of no use.
    pub fn pass_over(&mut self) {
        self.updater.fetch_mut().pass_over();
    }

    /// Fetches a target into a file, going on with what the file has. On return its length and hash are right.
    ///
    /// # Errors
    ///
    /// What came is kept, unless it is wrong.
    pub fn download(&mut self, target: &Target, file: &Path) -> Result<(), Error> {
        let transport = self.updater.fetch_mut();
        match transport.download(target, file) {
            Ok(()) => Ok(()),
            Err(_) if transport.is_interrupted() => Err(Error::Interrupted),
            Err(err) => Err(Error::Download { name: target.name.clone(), err }),
        }
    }

    /// Writes the metadata that prove a target into a folder.
    ///
    /// # Errors
    ///
    /// If they are not all there.
    pub fn export_chain(&mut self, name: &str, folder: &Path) -> Result<(), iotwasm_trust::Error> {
        self.updater.export_chain(name, folder).map(drop)
    }

    /// Version of the root that is trusted now.
    #[must_use]
    pub fn root_version(&self) -> u64 {
        self.updater.root_version()
    }

    /// Drops the metadata from memory until the next refresh.
    pub fn rest(&mut self) {
        self.updater.release();
    }
}

//! From the signed metadata to a slot: what to install, whether there is room for it, fetching, verifying, writing.
//! Runs on the worker's thread. Never starts anything.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use iotwasm_api::ota::Outcome;
use iotwasm_kit::{info, report, warn};
use iotwasm_payload::Slot;
use iotwasm_payload::choice::{Candidate, Choice, Current, Kept, Why, choose};
use iotwasm_payload::slot::{Rejected, Release};
use iotwasm_payload::store::{CHAIN_ROOM, RESERVE, Reader, Writer};
use iotwasm_payload::target::{CUSTOM_KEY, PayloadTarget, TargetName, custom_digest};
use iotwasm_payload::{Checked, Digest, Policy, check};
use iotwasm_trust::{Target, chain};

use crate::pulse::Pulse;
use crate::repository::{self, Repository};
use crate::shared::{Activity, Shared};
use crate::slots::Slots;
use crate::{Settings, disk};
use iotwasm_payload::Wanted;

/// Most releases remembered as refused by the static check, so that they are not fetched again and again.
const MAX_REFUSED: usize = 64;

/// Why nothing was installed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// `Refused` or `Failed`; `Installing` where it was only interrupted by a stop of the daemon.
    pub outcome: Outcome,
    /// For people.
    pub message: String,
}

impl Failure {
    pub(crate) fn failed(message: String) -> Self {
        Self { outcome: Outcome::Failed, message }
    }

    pub(crate) fn refused(message: String) -> Self {
        Self { outcome: Outcome::Refused, message }
    }
}

impl From<repository::Error> for Failure {
    fn from(err: repository::Error) -> Self {
        let outcome = match err.kind() {
            repository::Kind::Refused => Outcome::Refused,
            repository::Kind::Failed => Outcome::Failed,
            repository::Kind::Interrupted => Outcome::Installing,
        };
        Self { outcome, message: err.lasting_text() }
    }
}

/// Something to install.
#[derive(Debug)]
pub struct Plan {
    slots: Slots,
    slot: Slot,
    candidate: Candidate,
    target: Target,
    why: Why,
}

impl Plan {
    /// What.
    #[must_use]
    pub fn release(&self) -> &Release {
        &self.candidate.release
    }

    /// Where.
    #[must_use]
    pub fn slots(&self) -> &Slots {
        &self.slots
    }

    /// Why, for people.
    #[must_use]
    pub fn why(&self) -> &'static str {
        match self.why {
            Why::First => "first installation",
            Why::Newer => "newer than what is committed",
            Why::Withdrawn => "what is committed was withdrawn",
            Why::Repair => "what is committed no longer verifies",
        }
    }
}

/// An offer of the repository: what was signed, and where the file is.
struct Offer {
    candidate: Candidate,
    target: Target,
}

/// What is needed to get from metadata to a slot.
#[derive(Debug)]
pub struct Installer {
    settings: Arc<Settings>,
    shared: Arc<Shared>,
    quit: Arc<AtomicBool>,
    repository: Repository,
    refused: Vec<Rejected>,
}

impl Installer {
    /// Reads the pinned root and what the disk has of the repository.
    ///
    /// # Errors
    ///
    /// If either is no good.
    pub fn new(
        settings: &Arc<Settings>,
        shared: &Arc<Shared>,
        pulse: &Arc<Pulse>,
        quit: &Arc<AtomicBool>,
    ) -> Result<Self, repository::Error> {
        Ok(Self {
            settings: Arc::clone(settings),
            shared: Arc::clone(shared),
            quit: Arc::clone(quit),
            repository: Repository::open(settings, shared, pulse, quit)?,
            refused: Vec::new(),
        })
    }

    /// Brings the metadata up to date.
    ///
    /// # Errors
    ///
    /// If every mirror failed or was refused.
    pub fn refresh(&mut self) -> Result<(), Failure> {
        Ok(self.repository.refresh()?)
    }

    /// The repository, for what is no payload.
    pub(crate) fn repository(&mut self) -> &mut Repository {
        &mut self.repository
    }

    /// Drops the metadata from memory until the next refresh: an idle daemon is small.
    pub fn rest(&mut self) {
        self.repository.rest();
    }

    /// If the release of this payload that is in its trial is withdrawn: why.
    pub fn trial_withdrawn(&mut self, wanted: &Wanted) -> Option<String> {
        // The thread that carries the trial owns the slots; looking does not disturb it.
        let reader = Reader::new(&self.settings.places.payloads);
        let state = reader.state(&wanted.id).ok().flatten()?;
        let (_, release, _) = state.trial()?;
        let offers = self.offers(wanted).ok()?;
        let withdrawn = offers.iter().find(|o| o.candidate.release.target == release.target)?;
        withdrawn.candidate.target.withdrawn.as_ref().map(|w| format!("withdrawn: {}", w.reason))
    }

    /// Exports the chains of what is committed or tried anew where they were exported under an older root than the one that is
    /// trusted now: firmware that pins that one may no longer trust who signed them. The payload and its state stay as they are,
    /// so this disturbs no trial.
    ///
    /// # Errors
    ///
    /// If firmware that pins the newest root would refuse this payload, and that may be mended.
    pub fn renew_chains(&mut self, wanted: &Wanted) -> Result<(), String> {
        let writer = Writer::new(&self.settings.places.payloads);
        let Ok(Some(state)) = writer.reader().state(&wanted.id) else { return Ok(()) };
        let trial = state.trial().map(|(slot, release, _)| (slot, release));
        for (slot, release) in state.committed().into_iter().chain(trial) {
            let (folder, name) = (writer.reader().chain(&wanted.id, slot), release.target.to_string());
            let (pinned, floor) = (self.repository.pinned_root(), chain::Floor::default());
            match chain::verify_above(pinned, &folder, &name, floor) {
                Ok(verified) if verified.root < self.repository.root_version() => {}
                // One that does not verify at all is to be repaired.
                _ => continue,
            }
            let renewed = match self.offers(wanted) {
                Ok(offers) if !offers.iter().any(|offer| self.is_still(offer, release)) => continue,
                Ok(_) => writer
                    .renew_chain(&wanted.id, slot, |folder| {
                        self.repository.export_chain(&name, folder).map_err(std::io::Error::other)
                    })
                    .map_err(|err| report::chain(&err)),
                Err(failure) => Err(failure.message),
            };
            match renewed {
                Ok(()) => {
                    let root = self.repository.root_version();
                    info!("{release}: what vouches for it in slot {slot} is under root {root} now");
                }
                Err(why) => {
                    warn!("{release}: what vouches for it in slot {slot} could not be renewed: {why}");
                    let newest = std::fs::read(self.settings.places.metadata.join("root.json")).unwrap_or_default();
                    if chain::verify(&newest, &folder, &name).is_err() {
                        return Err(format!(
                            "firmware is not installed before what vouches for {release} is renewed under the new root: {why}"
                        ));
                    }
                }
            }
        }
        Ok(())
    }

    /// What to install of this payload, if anything; and a remark if something is odd.
    ///
    /// # Errors
    ///
    /// If the metadata of its vendor cannot be had or trusted.
    pub fn plan(&mut self, slots: Slots) -> Result<(Option<Plan>, Option<String>), Failure> {
        let offers = self.offers(slots.wanted())?;
        let candidates: Vec<Candidate> = offers.iter().map(|offer| offer.candidate.clone()).collect();
        let committed = slots.state().committed();
        let current =
            committed.map(|(slot, release)| Current { release, runnable: self.is_sound(&slots, slot, release) });
        let rejected = [slots.state().rejected(), &self.refused].concat();
        let id = slots.id();
        let version = committed.map_or_else(String::new, |(_, release)| release.version().to_string());
        match choose(&candidates, current, self.shared.board(), &rejected) {
            Choice::Install { candidate, why } => {
                let target = offers.iter().find(|o| o.candidate.release == candidate.release);
                let (Some(target), Some(slot)) = (target.map(|o| o.target.clone()), slots.state().writable()) else {
                    return Ok((None, None));
                };
                let candidate = candidate.clone();
                Ok((Some(Plan { slots, slot, candidate, target, why }), None))
            }
            Choice::Keep(Kept::NothingOffered) => Ok((None, Some(format!("{id}: nothing is offered for this board")))),
            Choice::Keep(Kept::UpToDate) => Ok((None, None)),
            Choice::Keep(Kept::WithdrawnWithoutReplacement) => {
                let remark = format!("{id} {version} is withdrawn, and nothing can take its place: it keeps running");
                Ok((None, Some(remark)))
            }
            Choice::Keep(Kept::DamagedWithoutReplacement) => {
                Ok((None, Some(format!("{id} {version} no longer verifies, and nothing can take its place"))))
            }
        }
    }

    /// Removes what was fetched of anything but these.
    pub fn drop_other_downloads(&mut self, plans: &[Plan]) {
        let wanted: Vec<String> = plans.iter().map(|plan| plan.release().sha256.to_string()).collect();
        disk::keep_only(&self.settings.places.downloads, |name| wanted.iter().any(|w| name.starts_with(w.as_str())));
    }

    /// Fetches, verifies and writes; on return the trial is on the disk, to be carried.
    ///
    /// # Errors
    ///
    /// The committed slot is untouched.
    pub fn install(&mut self, plan: Plan) -> Result<Slots, Failure> {
        let Plan { mut slots, slot, candidate, target, .. } = plan;
        let release = &candidate.release;
        let limit = self.settings.config.maximum_payload_kib * 1024;
        if release.length > limit {
            let message = format!("{release} has {} bytes; maximum_payload_kib allows {limit}", release.length);
            self.remember(release, &message);
            return Err(Failure::refused(message));
        }
        let file = self.settings.places.downloads.join(release.sha256.to_string());
        self.check_room(&slots, slot, release, &file)?;

        self.shared.set_activity(Activity::Downloading);
        self.repository.download(&target, &file)?;
        self.shared.set_activity(Activity::Installing);
        let bytes = disk::read(&file, release.length).map_err(|err| Failure::failed(report::chain(&err)))?;
        if let Err(why) = target.verify(&bytes) {
            // The fetcher has checked it before: the disk is at fault, or somebody else's hand.
            disk::remove(&file);
            return Err(Failure::failed(format!("{release}, as fetched: {why}")));
        }
        if let Err(message) = self.judge(&candidate, &bytes) {
            disk::remove(&file);
            self.remember(release, &message);
            return Err(Failure::refused(message));
        }
        drop(bytes);
        if self.quit.load(Ordering::Relaxed) {
            return Err(Failure { outcome: Outcome::Installing, message: "interrupted before it was written".into() });
        }
        let (repository, boots) = (&mut self.repository, self.settings.config.trial_boots);
        let written = slots.install(slot, release.clone(), &file, boots, |folder| {
            repository.export_chain(&target.name, folder).map_err(std::io::Error::other)
        });
        match written {
            Ok(()) => {
                disk::remove(&file);
                Ok(slots)
            }
            Err(err) => Err(Failure::failed(report::chain(&err))),
        }
    }

    /// What the metadata offers of a payload, signed through its vendor's role.
    fn offers(&mut self, wanted: &Wanted) -> Result<Vec<Offer>, Failure> {
        let targets = self.repository.search(wanted)?;
        let mut offers = Vec::new();
        for target in targets {
            match offer(wanted, target) {
                Ok(offer) => offers.push(offer),
                Err(why) => warn!("passed over {why}"),
            }
        }
        Ok(offers)
    }

    /// Whether what lies in a slot is still the release, and still vouched for: the supervisor would not run it else.
    fn is_sound(&self, slots: &Slots, slot: Slot, release: &Release) -> bool {
        let verdict = || -> Result<(), String> {
            let bytes = slots.bytes(slot).ok_or("its file cannot be read")?;
            if Digest::of(&bytes) != release.sha256 {
                return Err("its file was changed".to_owned());
            }
            let name = release.target.to_string();
            let target = chain::verify(self.repository.pinned_root(), &slots.chain(slot), &name)
                .map_err(|err| report::chain(&err))?;
            target.verify(&bytes).map_err(|why| why.to_string())?;
            // New firmware may have a stricter check, or another board's name.
            let custom = target.custom.as_ref().and_then(|custom| custom.get(CUSTOM_KEY));
            let target = PayloadTarget::from_custom(custom).map_err(|err| report::chain(&err))?;
            self.judge(&Candidate { release: release.clone(), target }, &bytes).map(drop)
        };
        verdict().inspect_err(|why| warn!("{release} in slot {slot} no longer verifies: {why}")).is_ok()
    }

    /// Whether this offer is that release, for this board; withdrawn or not, for what is withdrawn runs until it is replaced.
    fn is_still(&self, offer: &Offer, release: &Release) -> bool {
        let Candidate { release: offered, target } = &offer.candidate;
        let is_same =
            (&offered.target, offered.sha256, offered.length) == (&release.target, release.sha256, release.length);
        is_same && target.runs_on(self.shared.board())
    }

    /// The manifest against what was signed, and the static check: all that is wrong.
    fn judge(&self, candidate: &Candidate, bytes: &[u8]) -> Result<Checked, String> {
        let policy = Policy { board: Some(self.shared.board().to_owned()), ..Policy::default() };
        let checked = check(bytes, &policy).map_err(|refused| refused.to_string())?;
        candidate.target.agrees_with(checked.manifest()).map_err(|err| report::chain(&err))?;
        Ok(checked)
    }

    fn remember(&mut self, release: &Release, why: &str) {
        if self.refused.len() == MAX_REFUSED {
            self.refused.remove(0);
        }
        self.refused.push(Rejected { release: release.clone(), reason: why.to_owned() });
    }

    /// Refuses before anything is touched if the disk could not take the download and the slot.
    fn check_room(&self, slots: &Slots, slot: Slot, release: &Release, file: &Path) -> Result<(), Failure> {
        let places = &self.settings.places;
        let free = |path| disk::free(path).map_err(|err| Failure::failed(report::chain(&err)));
        let reserve = (self.settings.config.disk_reserve_kib * 1024).max(RESERVE);
        let room = disk::Room {
            length: release.length,
            chain: CHAIN_ROOM,
            fetched: disk::length(file),
            freed: slots.length_of(slot),
            reserve,
        };
        let free = free(&places.downloads)?.min(free(&places.payloads)?);
        room.check(free).map_err(|err| Failure::failed(format!("{release}: {err}")))
    }
}

/// A target as an offer, or why it is none.
fn offer(wanted: &Wanted, target: Target) -> Result<Offer, String> {
    let no = |why: String| format!("{}: {why}", target.name);
    if !target.roles.iter().any(|role| role == wanted.vendor.as_str()) {
        return Err(no(format!("signed by {}, not through the role {}", target.signer(), wanted.vendor)));
    }
    let name: TargetName = target.name.parse().map_err(|err| no(report::chain(&err)))?;
    let custom = target.custom.as_ref().and_then(|custom| custom.get(CUSTOM_KEY));
    let payload = PayloadTarget::from_custom(custom).map_err(|err| no(report::chain(&err)))?;
    payload.agrees_with_name(&name).map_err(|err| no(report::chain(&err)))?;
    let Some(sha256) = target.hashes.sha256.map(Digest::from_bytes) else {
        return Err(no("signed without a SHA-256".to_owned()));
    };
    let Some(custom) = custom.map(custom_digest) else { return Err(no("signed without a custom object".to_owned())) };
    let release = Release { target: name, length: target.length, sha256, custom };
    Ok(Offer { candidate: Candidate { release, target: payload }, target })
}

#[cfg(test)]
mod tests {
    use iotwasm_trust::Hashes;
    use serde_json::json;

    use super::*;

    fn wanted() -> Wanted {
        Wanted { id: "blinky".parse().unwrap(), vendor: "acme".parse().unwrap() }
    }

    fn target(roles: &[&str], version: &str) -> Target {
        let custom = json!({"iotwasm": {"kind": "payload", "id": "blinky", "vendor": "acme", "version": version}});
        Target {
            name: "acme/blinky/blinky-1.0.0.wasm".into(),
            length: 8,
            hashes: Hashes { sha256: Some([7; 32]), sha512: None },
            custom: Some(custom),
            roles: roles.iter().map(|r| (*r).to_owned()).collect(),
            remote_path: String::new(),
        }
    }

    #[test]
    fn a_target_signed_through_the_vendors_role_is_an_offer() {
        let offer = offer(&wanted(), target(&["targets", "acme"], "1.0.0")).ok().unwrap();
        assert_eq!(offer.candidate.release.version().to_string(), "1.0.0");
        assert!(super::offer(&wanted(), target(&["targets", "acme", "acme-ci"], "1.0.0")).is_ok());
    }

    #[test]
    fn a_target_that_the_top_level_role_signed_itself_is_none() {
        let why = offer(&wanted(), target(&["targets"], "1.0.0")).err().unwrap();
        assert!(why.contains("not through the role acme"), "{why}");
        assert!(offer(&wanted(), target(&["targets", "other"], "1.0.0")).is_err());
    }

    #[test]
    fn a_target_whose_words_and_name_disagree_is_none() {
        assert!(offer(&wanted(), target(&["targets", "acme"], "1.0.1")).is_err());
        let mut without = target(&["targets", "acme"], "1.0.0");
        without.custom = None;
        assert!(offer(&wanted(), without).is_err());
    }
}

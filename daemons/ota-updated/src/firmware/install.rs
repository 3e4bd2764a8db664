//! From the signed metadata to the other firmware slot: what to install, whether it may be now, whether TUF and RAUC agree,
//! and RAUC's installation of what the relay hands it. Runs on the worker's thread. Never restarts anything.

use std::time::{Duration, Instant};

use iotwasm_api::ota::{Attempt, Level, Outcome};
use iotwasm_fetch::SLOWEST_RATE;
use iotwasm_firmware::choice::{Candidate, Choice, Kept, Why, choose, withdrawn};
use iotwasm_firmware::release::{MAX_BYTES, Release};
use iotwasm_firmware::state::{Bundle, Event, Start};
use iotwasm_firmware::target::{CUSTOM_KEY, FirmwareTarget, Part, ROLE, TargetName};
use iotwasm_firmware::{Digest, release};
use iotwasm_kit::{report, warn};
use iotwasm_payload::target::custom_digest;
use iotwasm_trust::Target;

use super::bus;
use super::rauc::{self, News, Rauc};
use super::relay::{Relay, Seen, Source, TRANSFERS};
use super::{Firmware, machine, to_api};
use crate::disk;
use crate::install::Failure;
use crate::journal::blank;
use crate::pulse::Pulse;
use crate::repository::Repository;
use crate::shared::{Activity, now_text};

/// An installation that neither moves on nor fetches a byte for so long is given up.
const STANDSTILL: Duration = Duration::from_secs(600);
/// What an installation may take beside the time that its bytes need at the slowest rate.
const WORK: Duration = Duration::from_secs(3600);
/// How long a few calls of RAUC in a row may take, one that is busy at first included.
const CALLS: Duration = Duration::from_secs(4 * bus::CALL.as_secs());
/// How often an installation is looked at.
const GLANCE: Duration = Duration::from_millis(250);
/// How often for each mirror an installation that RAUC could not finish, though no mirror failed, is tried before it counts
/// as refused: a mirror that alters blocks looks the same, and must not keep a release from the device; nor must a RAUC that
/// ended.
const ATTEMPTS: usize = 3;

/// An offer of the repository: what was signed about a bundle, and where it and its `release.json` are.
#[derive(Debug)]
struct Offer {
    candidate: Candidate,
    bundle: Target,
    release: Option<Target>,
}

/// Something to install.
#[derive(Debug)]
pub(crate) struct Plan {
    offer: Offer,
    why: Why,
}

impl Plan {
    fn bundle(&self) -> &Bundle {
        &self.offer.candidate.bundle
    }
}

/// What the metadata came to.
#[derive(Debug, Default)]
pub(crate) struct Advice {
    /// What to install.
    pub(crate) plan: Option<Plan>,
    /// Something odd, for people.
    pub(crate) remark: Option<String>,
}

/// What was found unfit since this daemon started, so that it is not fetched again and again.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    refused: Vec<(Digest, Digest)>,
    failures: Vec<(Digest, Digest)>,
}

impl Memory {
    fn refuse(&mut self, bundle: &Bundle) {
        self.refused.push((bundle.sha256, bundle.custom));
    }

    /// Whether an installation that failed once more, and no mirror of so many is known to be at fault, counts as refused.
    fn fails_again(&mut self, bundle: &Bundle, mirrors: usize) -> bool {
        let key = (bundle.sha256, bundle.custom);
        self.failures.push(key);
        self.failures.iter().filter(|other| **other == key).count() >= ATTEMPTS * mirrors
    }

    fn is_refused(&self, bundle: &Bundle) -> bool {
        self.refused.contains(&(bundle.sha256, bundle.custom))
    }
}

/// Why the signed metadata no longer wants a bundle, if so.
pub(crate) fn is_withdrawn(
    repository: &mut Repository,
    compatible: &str,
    bundle: &Bundle,
) -> Result<Option<String>, Failure> {
    let candidates: Vec<Candidate> = offers(repository, compatible)?.into_iter().map(|offer| offer.candidate).collect();
    Ok(withdrawn(&candidates, &bundle.version).map(|w| format!("withdrawn: {}", w.reason)))
}

/// What the metadata offers to devices of this kind, signed through the role for firmware.
fn offers(repository: &mut Repository, compatible: &str) -> Result<Vec<Offer>, Failure> {
    let targets = repository.search_firmware(compatible)?;
    let mut offers = Vec::new();
    for target in &targets {
        let name: TargetName = match target.name.parse() {
            Ok(name) => name,
            Err(err) => {
                warn!("passed over {}: {}", target.name, report::chain(&err));
                continue;
            }
        };
        if name.part != Part::Bundle {
            continue;
        }
        let other = name.part(Part::Release).to_string();
        let release = targets.iter().find(|target| target.name == other).cloned();
        match offer(&name, target.clone(), release) {
            Ok(offer) => offers.push(offer),
            Err(why) => warn!("passed over {}: {why}", target.name),
        }
    }
    Ok(offers)
}

/// A target as an offer, or why it is none.
fn offer(name: &TargetName, bundle: Target, release: Option<Target>) -> Result<Offer, String> {
    if !bundle.roles.iter().any(|role| role == ROLE) {
        return Err(format!("signed by {}, not through the role {ROLE}", bundle.signer()));
    }
    let custom = bundle.custom.as_ref().and_then(|custom| custom.get(CUSTOM_KEY));
    let target = FirmwareTarget::from_custom(custom, name).map_err(|err| report::chain(&err))?;
    let Some(sha256) = bundle.hashes.sha256.map(Digest::from_bytes) else {
        return Err("signed without a SHA-256".to_owned());
    };
    let custom = custom.map(|custom| Digest::from_bytes(*custom_digest(custom).as_bytes()));
    let Some(custom) = custom else { return Err("signed without a custom object".to_owned()) };
    let candidate = Candidate { bundle: Bundle { version: name.version.clone(), sha256, custom }, target };
    Ok(Offer { candidate, bundle, release })
}

impl Firmware {
    /// What to install, if anything.
    pub(crate) fn plan(&self, repository: &mut Repository, memory: &Memory) -> Result<Advice, Failure> {
        if !self.settings.config.firmware.enabled || self.start() != Start::Nothing {
            return Ok(Advice::default());
        }
        let mut offers = offers(repository, self.compatible())?;
        offers
            .retain(|offer| !memory.is_refused(&offer.candidate.bundle) || offer.candidate.target.withdrawn.is_some());
        let candidates: Vec<Candidate> = offers.iter().map(|offer| offer.candidate.clone()).collect();
        match choose(&candidates, &self.machine.version, self.state().rejected()) {
            Choice::Install { candidate, why } => {
                let at = offers.iter().position(|offer| offer.candidate == *candidate);
                let plan = at.map(|at| Plan { offer: offers.swap_remove(at), why });
                Ok(Advice { plan, remark: None })
            }
            Choice::Keep(Kept::UpToDate) => Ok(Advice::default()),
            Choice::Keep(Kept::WithdrawnWithoutReplacement) => {
                let version = &self.machine.version;
                let remark =
                    format!("firmware {version} is withdrawn, and nothing can take its place: it keeps running");
                Ok(Advice { plan: None, remark: Some(remark) })
            }
        }
    }

    /// Whether an installation may be now; says why not.
    pub(crate) fn may_install(&mut self) -> bool {
        let power = machine::power(&self.settings.places.power_supplies);
        let wait = self.rules().may_install(machine::moment(), power).err();
        if let Some(wait) = &wait
            && self.waiting_for.is_empty()
        {
            iotwasm_kit::info!("the installation of new firmware waits for {wait}");
        }
        self.waiting_for = wait.as_ref().map_or_else(String::new, ToString::to_string);
        self.show();
        wait.is_none()
    }

    /// Installs; on return it waits for its first boot. What may have been half done is left for the keeper to undo.
    pub(crate) fn install(
        &mut self,
        plan: &Plan,
        repository: &mut Repository,
        memory: &mut Memory,
        pulse: &Pulse,
    ) -> Result<(), Failure> {
        let bundle = plan.bundle().clone();
        let message = match plan.why {
            Why::Newer => "newer than what runs",
            Why::Withdrawn => "what runs was withdrawn",
        };
        let attempt = self.shared.note(Attempt {
            level: Level::Firmware,
            version: bundle.version.to_string(),
            sha256: bundle.sha256.to_string(),
            from_version: self.machine.version.to_string(),
            slot: Some(to_api(self.slot().other())),
            ..blank("", Outcome::Installing, message.to_owned(), &now_text())
        });
        let installed = self.try_install(plan, &bundle, repository, pulse);
        self.shared.firmware_progress(0, String::new(), 0, 0);
        match installed {
            Ok(message) => {
                self.tell(attempt, message);
                Ok(())
            }
            Err(Trouble { mut failure, is_blamed }) => {
                if is_blamed && memory.fails_again(&bundle, repository.mirrors()) {
                    failure.outcome = Outcome::Refused;
                }
                if failure.outcome == Outcome::Refused {
                    memory.refuse(&bundle);
                }
                let interrupted = failure.outcome == Outcome::Installing;
                let outcome = if interrupted { Outcome::Failed } else { failure.outcome };
                self.shared.fail(attempt, outcome, failure.message.clone());
                Err(failure)
            }
        }
    }

    fn try_install(
        &mut self,
        plan: &Plan,
        bundle: &Bundle,
        repository: &mut Repository,
        pulse: &Pulse,
    ) -> Result<String, Trouble> {
        let release = self.fetch_release(plan, bundle, repository)?;
        let slot = self.slot().other();
        machine::check_partitions(&self.settings.places.block_devices, slot, &release)
            .map_err(|err| Failure::failed(format!("{bundle}: {err}")))?;
        let relay = open_relay(plan, &release, repository)?;
        self.shared.set_activity(Activity::InstallingFirmware);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|err| Failure::failed(format!("could not set up the event loop: {err}")))?;
        let total = plan.offer.bundle.length;
        let driven = runtime.block_on(self.drive((bundle, total), &release, &relay, pulse));
        if driven.as_ref().is_err_and(|trouble| trouble.failure.outcome == Outcome::Failed) {
            // Its blocks may be altered, or trickle: another mirror is to have its turn.
            repository.pass_over();
        }
        let fetched = driven?;
        Ok(format!("installed, fetched {} of {} MB; it waits for its first boot", megabytes(fetched), megabytes(total)))
    }

    /// Fetches `release.json`, and checks that it and what was signed about the bundle say the same.
    fn fetch_release(&self, plan: &Plan, bundle: &Bundle, repository: &mut Repository) -> Result<Release, Failure> {
        let refused = |why: String| Failure::refused(format!("{bundle}: {why}"));
        let places = &self.settings.places;
        let Some(target) = &plan.offer.release else {
            return Err(refused("its release.json is not signed".to_owned()));
        };
        if target.length > MAX_BYTES as u64 {
            return Err(refused(format!("its release.json has {} bytes; at most {MAX_BYTES} are read", target.length)));
        }
        let reserve = self.settings.config.disk_reserve_kib * 1024;
        let room = disk::Room { length: target.length, chain: 0, fetched: 0, freed: target.length, reserve };
        let free = disk::free(&places.downloads).map_err(|err| Failure::failed(report::chain(&err)))?;
        room.check(free).map_err(|err| Failure::failed(format!("{bundle}: {err}")))?;

        self.shared.set_activity(Activity::Downloading);
        let file = places.downloads.join(format!("{}.json", bundle.sha256));
        repository.download(target, &file)?;
        let bytes = disk::read(&file, target.length).map_err(|err| Failure::failed(report::chain(&err)));
        disk::remove(&file);
        let bytes = bytes?;
        target.verify(&bytes).map_err(|why| Failure::failed(format!("{bundle}: release.json, as fetched: {why}")))?;
        if iotwasm_payload::Digest::of(&bytes).as_bytes() != plan.offer.candidate.target.release.as_bytes() {
            return Err(refused("its release.json is not the one that was signed with the bundle".to_owned()));
        }
        let release = Release::parse(&bytes).map_err(|err| refused(report::chain(&err)))?;
        agrees(&release, self.compatible(), bundle, plan.offer.bundle.length).map_err(refused)?;
        Ok(release)
    }

    /// Has RAUC inspect and install what the relay hands it. Gives the bytes fetched.
    async fn drive(
        &mut self,
        (bundle, total): (&Bundle, u64),
        release: &Release,
        relay: &Relay,
        pulse: &Pulse,
    ) -> Result<u64, Trouble> {
        let seen = relay.seen();
        let mut pace = Pace::new(total);
        pulse.alive(CALLS);
        let rauc =
            Rauc::connect(&self.settings.places.bus).await.map_err(|err| Failure::failed(report::chain(&err)))?;
        let inspected = self.watched(rauc.inspect(relay.url()), pulse).await?;
        let inspected = inspected.map_err(|err| self.judge(bundle, &err, seen))?;
        let (compatible, version) = (&release.compatible, release.version.to_string());
        if (&inspected.compatible, &inspected.version) != (compatible, &version) {
            let other = format!("{} {}", inspected.compatible, inspected.version);
            return Err(Failure::refused(format!("{bundle}: RAUC says that it is {other}")).into());
        }
        let slot = self.slot().other();
        let start = Event::InstallStarted { bundle: bundle.clone(), slot, from: self.machine.version.clone() };
        self.apply(&start).map_err(|err| Failure::failed(report::chain(&err)))?;
        self.run((bundle, total), &rauc, relay, (&mut pace, pulse)).await?;
        // Only what the bootloader will really start is installed.
        pulse.alive(CALLS);
        match rauc.is_next(slot).await {
            Ok(true) => {}
            Ok(false) => return Err(Failure::failed(format!("{bundle}: RAUC did not make it the next to boot")).into()),
            Err(err) => return Err(Failure::failed(report::chain(&err)).into()),
        }
        let boots = self.settings.config.firmware.trial_boots;
        self.apply(&Event::Installed { boots }).map_err(|err| Failure::failed(report::chain(&err)))?;
        Ok(seen.fetched())
    }

    /// The installation itself, from the order to its end.
    async fn run(
        &mut self,
        (bundle, total): (&Bundle, u64),
        rauc: &Rauc,
        relay: &Relay,
        (pace, pulse): (&mut Pace, &Pulse),
    ) -> Result<(), Trouble> {
        let seen = relay.seen();
        let total = i64::try_from(total).unwrap_or(i64::MAX);
        pulse.alive(CALLS);
        let mut news = rauc.install(relay.url()).await.map_err(|err| Failure::failed(report::chain(&err)))?;
        let (mut percent, mut detail) = (0, String::new());
        pace.moved = pace.began.elapsed();
        loop {
            self.check_quit()?;
            pulse.alive(Duration::from_secs(10));
            match tokio::time::timeout(GLANCE, news.next()).await {
                Ok(News::Completed(0)) => return Ok(()),
                Ok(News::Completed(_)) => {
                    pulse.alive(CALLS);
                    let why = match rauc.last_error().await {
                        Ok(text) => text,
                        Err(err) => report::chain(&err),
                    };
                    return Err(match seen.failure() {
                        Some(mirror) => Failure::failed(format!("{bundle}: RAUC: {why}; a mirror: {mirror}")).into(),
                        None => {
                            let failure = Failure::failed(format!("{bundle}: RAUC: {why}"));
                            Trouble { failure, is_blamed: true }
                        }
                    });
                }
                Ok(News::Gone) => {
                    // That says nothing about the release, unless it is so each time.
                    let failure = Failure::failed(format!("{bundle}: RAUC ended in the middle of the installation"));
                    return Err(Trouble { failure, is_blamed: seen.failure().is_none() });
                }
                Ok(News::Progress(now, text)) => (percent, detail) = (now, text),
                Err(_) => {}
            }
            let fetched = seen.fetched();
            if let Some(why) = pace.see(pace.began.elapsed(), (percent, &detail, fetched)) {
                return Err(Failure::failed(format!("{bundle}: {why}")).into());
            }
            let fetched = i64::try_from(fetched).unwrap_or(i64::MAX);
            self.shared.firmware_progress(percent.into(), detail.clone(), fetched, total);
        }
    }

    /// Waits for something bounded, with a look at what else goes on.
    async fn watched<T>(&self, work: impl Future<Output = T>, pulse: &Pulse) -> Result<T, Failure> {
        tokio::pin!(work);
        loop {
            self.check_quit()?;
            pulse.alive(Duration::from_secs(10));
            if let Ok(done) = tokio::time::timeout(GLANCE, &mut work).await {
                return Ok(done);
            }
        }
    }

    fn check_quit(&self) -> Result<(), Failure> {
        if self.is_quitting() {
            let message = "interrupted by a stop of the daemon".to_owned();
            return Err(Failure { outcome: Outcome::Installing, message });
        }
        Ok(())
    }

    /// What RAUC's answer to an inspection means: all that it looked at was served from the signed metadata.
    fn judge(&self, bundle: &Bundle, err: &rauc::Error, seen: &Seen) -> Failure {
        let text = report::chain(err);
        match (err, seen.failure()) {
            (_, Some(mirror)) => Failure::failed(format!("{bundle}: {text}; a mirror: {mirror}")),
            (rauc::Error::Refused { .. }, None) if !rauc::is_busy(err) => Failure::refused(format!("{bundle}: {text}")),
            _ => Failure::failed(format!("{bundle}: {text}")),
        }
    }
}

/// Whether an installation gets on. RAUC that says something new again and again without coming to an end, or a mirror that
/// trickles, does not stand still, and is ended all the same.
#[derive(Debug)]
struct Pace {
    began: Instant,
    longest: Duration,
    /// When it moved on last, from its beginning on.
    moved: Duration,
    /// Percent, words, bytes fetched.
    seen: (i32, String, u64),
}

impl Pace {
    /// An installation that begins now, of a bundle of `total` bytes.
    fn new(total: u64) -> Self {
        let longest = Duration::from_secs(total / SLOWEST_RATE) + WORK;
        Self { began: Instant::now(), longest, moved: Duration::ZERO, seen: (0, String::new(), 0) }
    }

    /// Takes note of how far it is so long after its beginning; why it is to be given up, if so.
    fn see(&mut self, now: Duration, (percent, detail, fetched): (i32, &str, u64)) -> Option<String> {
        if (percent, detail, fetched) != (self.seen.0, self.seen.1.as_str(), self.seen.2) {
            (self.seen, self.moved) = ((percent, detail.to_owned(), fetched), now);
        }
        if now >= self.longest {
            return Some(format!("the installation took longer than {} s", self.longest.as_secs()));
        }
        let still = now.saturating_sub(self.moved);
        (still >= STANDSTILL).then(|| format!("the installation stood still for {} s", STANDSTILL.as_secs()))
    }
}

/// Why an installation came to nothing, and whether the bundle may be to blame.
struct Trouble {
    failure: Failure,
    is_blamed: bool,
}

impl From<Failure> for Trouble {
    fn from(failure: Failure) -> Self {
        Self { failure, is_blamed: false }
    }
}

/// Whether `release.json` speaks of the bundle that was signed.
fn agrees(release: &Release, compatible: &str, bundle: &Bundle, length: u64) -> Result<(), String> {
    let no = |what: &str| Err(format!("its release.json says another {what} than the signed metadata"));
    if release.compatible != compatible {
        return no("compatible");
    }
    if release.version != bundle.version {
        return no("version");
    }
    let Some(release::Bundle { file, .. }) = &release.files.bundle else {
        return Err("its release was built without a bundle".to_owned());
    };
    if file.length != length {
        return no("length of the bundle");
    }
    if file.sha256 != bundle.sha256 {
        return no("hash of the bundle");
    }
    Ok(())
}

/// Fetches the signed manifest from a mirror that has the published one, and opens a relay to the mirrors.
fn open_relay(plan: &Plan, release: &Release, repository: &mut Repository) -> Result<Relay, Failure> {
    let Some(bundle) = &release.files.bundle else {
        return Err(Failure::refused("its release was built without a bundle".to_owned()));
    };
    let target = &plan.offer.bundle;
    let range = bundle.signature_offset..target.length;
    let (tail, clients) = repository.open_parts(target, range, bundle.signature_sha256.as_bytes(), TRANSFERS)?;
    let source = Source { clients, path: target.remote_path.clone(), total: target.length, tail };
    Relay::start(source).map_err(|err| Failure::failed(report::chain(&err)))
}

/// Bytes as megabytes with one digit.
fn megabytes(bytes: u64) -> String {
    let tenths = bytes.saturating_add(50_000) / 100_000;
    format!("{}.{}", tenths / 10, tenths % 10)
}

#[cfg(test)]
mod tests {
    use iotwasm_trust::Hashes;
    use serde_json::json;

    use super::*;

    fn target(roles: &[&str], version: &str) -> (TargetName, Target) {
        let name = "firmware/gw/gw-1.0.0.raucb";
        let custom = json!({"kind": "firmware", "compatible": "gw", "version": version, "release": "ab".repeat(32)});
        let target = Target {
            name: name.into(),
            length: 8,
            hashes: Hashes { sha256: Some([7; 32]), sha512: None },
            custom: Some(json!({ CUSTOM_KEY: custom })),
            roles: roles.iter().map(|r| (*r).to_owned()).collect(),
            remote_path: String::new(),
        };
        (name.parse().unwrap(), target)
    }

    #[test]
    fn only_what_the_role_for_firmware_signed_is_an_offer() {
        let (name, good) = target(&["targets", "firmware"], "1.0.0");
        assert!(offer(&name, good, None).is_ok());
        for roles in [&["targets"][..], &["targets", "acme"]] {
            let (name, bad) = target(roles, "1.0.0");
            assert!(offer(&name, bad, None).unwrap_err().contains("not through the role firmware"));
        }
        let (name, other) = target(&["targets", "firmware"], "1.0.1");
        assert!(offer(&name, other, None).is_err());
    }

    #[test]
    fn an_installation_that_stands_still_or_never_ends_is_given_up() {
        let at = Duration::from_secs;
        let mut pace = Pace::new(0);
        assert_eq!(pace.see(at(599), (0, "", 0)), None);
        assert_eq!(pace.see(at(600), (1, "", 0)), None);
        assert_eq!(pace.see(at(1199), (1, "", 0)), None);
        assert!(pace.see(at(1200), (1, "", 0)).unwrap().contains("stood still for 600 s"));
        // With a byte every ten seconds it ends as well, in a time that goes by its length.
        let mut pace = Pace::new(10 * 1024);
        let end = (0..).find(|n| pace.see(at(10 * n), (1, "", *n)).is_some()).unwrap();
        assert_eq!(end, 361);
        assert!(pace.see(at(3610), (1, "", 0)).unwrap().contains("longer than 3610 s"));
    }

    #[test]
    fn megabytes_have_one_digit() {
        assert_eq!([0, 49_999, 3_930_000, 64_100_000].map(megabytes), ["0.0", "0.0", "3.9", "64.1"]);
    }

    #[test]
    fn what_cannot_be_installed_again_and_again_counts_as_refused() {
        let digest = Digest::from_bytes([1; 32]);
        let bundle = Bundle { version: "1.0.0".parse().unwrap(), sha256: digest, custom: digest };
        let mut memory = Memory::default();
        assert_eq!([(); 3].map(|()| memory.fails_again(&bundle, 1)), [false, false, true]);
        memory.refuse(&bundle);
        assert!(memory.is_refused(&bundle));
        // Each of several mirrors has as many turns.
        let mut memory = Memory::default();
        assert_eq!([(); 6].map(|()| memory.fails_again(&bundle, 2)), [false, false, false, false, false, true]);
    }
}

//! Bytes from the mirrors, with the worker's pulse and the daemon's stop: `iotwasm-fetch` put to this daemon's use.
//! Believes nothing but lengths and hashes.

use std::fs::{File, OpenOptions};
use std::io::Read;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use iotwasm_fetch::{Client, Options, Progress, Timeouts};
use iotwasm_kit::{info, warn};
use iotwasm_trust::{Fetch, FetchError, Refusal, Target};

use crate::config::Config;
use crate::pulse::Pulse;
use crate::shared::Shared;

/// Longest time for one metadata file from one mirror: the largest at some 100 KB/s.
const METADATA: Duration = Duration::from_secs(60);

/// Why nothing came.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No mirror delivered.
    #[error(transparent)]
    Fetch(#[from] iotwasm_fetch::Error),
    /// What came is not what was signed.
    #[error("what was fetched is not what was signed")]
    Wrong(#[source] Refusal),
    /// A part of what came is not what was signed.
    #[error("what was fetched is not what was published")]
    Part(#[source] OtherPart),
    /// The file could not be opened or read.
    #[error("could not use {}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// The cause.
        #[source]
        err: std::io::Error,
    },
}

/// A part of a file is not the one that was published.
#[derive(Debug, thiserror::Error)]
#[error("{url} has other bytes at the end of {name} than were published")]
pub struct OtherPart {
    url: String,
    name: String,
}

/// One mirror of the repository.
#[derive(Debug)]
struct Mirror {
    url: String,
    metadata: Client,
    targets: Client,
}

/// All mirrors.
#[derive(Debug)]
pub(crate) struct Transport {
    mirrors: Vec<Mirror>,
    options: Options,
    preferred: usize,
    /// Whether another mirror may stand in. Not while one is judged by what it offers.
    any: bool,
    /// The mirror that is asked for parts first, once an installation failed; until then the preferred one.
    parts_from: Option<usize>,
    /// Longest time without a sign of life from a transfer.
    silence: Duration,
    shared: Arc<Shared>,
    pulse: Arc<Pulse>,
    quit: Arc<AtomicBool>,
}

impl Transport {
    pub(crate) fn new(
        config: &Config,
        shared: &Arc<Shared>,
        pulse: &Arc<Pulse>,
        quit: &Arc<AtomicBool>,
    ) -> Result<Self, Error> {
        let timeouts = Timeouts {
            connect: Duration::from_secs(config.connect_timeout_s),
            stall: Duration::from_secs(config.stall_timeout_s),
            file: METADATA,
            ..Timeouts::default()
        };
        let defaults = Options::default();
        let ca_file = config.ca_file.clone().unwrap_or(defaults.ca_file.clone());
        let options = Options { timeouts, ca_file, ..defaults };
        let mirror = |url: &String| {
            let urls = std::slice::from_ref(url);
            let metadata = Client::below(urls, "metadata", &options)?;
            Ok(Mirror { url: url.clone(), metadata, targets: Client::below(urls, "targets", &options)? })
        };
        let mirrors = config.repositories.iter().map(mirror).collect::<Result<_, iotwasm_fetch::Error>>()?;
        Ok(Self {
            mirrors,
            options,
            preferred: 0,
            any: false,
            parts_from: None,
            silence: Duration::from_secs(config.connect_timeout_s + config.stall_timeout_s) + METADATA,
            shared: Arc::clone(shared),
            pulse: Arc::clone(pulse),
            quit: Arc::clone(quit),
        })
    }

    /// How many there are.
    pub(crate) fn mirrors(&self) -> usize {
        self.mirrors.len()
    }

    /// Asks this mirror and no other, until [`Self::allow_any`].
    pub(crate) fn judge(&mut self, mirror: usize) {
        (self.preferred, self.any) = (mirror, false);
    }

    /// From now on any mirror may stand in for the preferred one.
    pub(crate) fn allow_any(&mut self) {
        self.any = true;
    }

    /// The mirror's URL.
    pub(crate) fn url(&self, mirror: usize) -> &str {
        self.mirrors.get(mirror).map_or("", |mirror| mirror.url.as_str())
    }

    /// Whether the daemon stops.
    pub(crate) fn is_interrupted(&self) -> bool {
        self.quit.load(Ordering::Relaxed)
    }

    /// Fetches a target into a file, going on with what is there: from the preferred mirror, then from the others.
    ///
    /// What a broken transfer left is kept. What has the right length and the wrong hash is thrown away, and the next
    /// mirror begins anew.
    pub(crate) fn download(&mut self, target: &Target, path: &Path) -> Result<(), Error> {
        let at = |err| Error::File { path: path.to_owned(), err };
        let mut file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path).map_err(at)?;
        let count = self.mirrors.len();
        let mut last = Err(iotwasm_fetch::Error::NoUrl.into());
        for turn in 0..count {
            let mirror = &mut self.mirrors[(self.preferred + turn) % count];
            last = transfer(mirror, target, &mut file, (&self.shared, &self.pulse, self.silence, &self.quit)).and_then(
                |()| File::open(path).and_then(|file| verdict(file, target)).map_err(at)?.map_err(Error::Wrong),
            );
            match &last {
                Ok(()) => return Ok(()),
                Err(_) if self.quit.load(Ordering::Relaxed) => return last,
                Err(Error::Wrong(why)) => {
                    warn!("{}, as {} has it: {why}", target.name, mirror.url);
                    file.set_len(0).map_err(at)?;
                }
                Err(err) => warn!("{}: {}", mirror.url, iotwasm_kit::report::chain(err)),
            }
        }
        last
    }
}

impl Transport {
    /// Fetches a part that has this hash into memory, and gives so many clients of the mirrors that have it so, for the
    /// other parts.
    ///
    /// A mirror with other bytes there has another file, and is left out; one that is away may be back later.
    pub(crate) fn open_parts(
        &mut self,
        target: &Target,
        part: Range<u64>,
        sha256: &[u8; 32],
        clients: usize,
    ) -> Result<(Vec<u8>, Vec<Client>), Error> {
        let (mut good, mut away, mut last) = (Vec::new(), Vec::new(), Error::Fetch(iotwasm_fetch::Error::NoUrl));
        let (count, first, mut found) = (self.mirrors.len(), self.parts_from.unwrap_or(self.preferred), None);
        for turn in 0..count {
            let mirror = &mut self.mirrors[(first + turn) % count];
            if found.is_some() {
                // Not known to be bad; asked only when the good one fails.
                away.push(mirror.url.clone());
                continue;
            }
            self.pulse.alive(self.silence);
            let (pulse, silence, quit, mut bytes) = (&self.pulse, self.silence, &self.quit, Vec::new());
            let fetched = mirror.targets.range(&target.remote_path, target.length, part.clone(), &mut |piece| {
                pulse.alive(silence);
                bytes.extend_from_slice(piece);
                !quit.load(Ordering::Relaxed)
            });
            match fetched {
                Ok(()) if iotwasm_payload::Digest::of(&bytes).as_bytes() == sha256 => {
                    good.push(mirror.url.clone());
                    found = Some(bytes);
                    continue;
                }
                Ok(()) => {
                    let (url, name) = (mirror.url.clone(), target.name.clone());
                    last = Error::Part(OtherPart { url, name });
                }
                Err(err) => {
                    last = err.into();
                    away.push(mirror.url.clone());
                }
            }
            if self.quit.load(Ordering::Relaxed) {
                return Err(last);
            }
            warn!("{}: {}", mirror.url, iotwasm_kit::report::chain(&last));
        }
        let Some(found) = found else { return Err(last) };
        good.append(&mut away);
        let client = |()| Client::below(&good, "targets", &self.options);
        Ok((found, std::iter::repeat_n((), clients).map(client).collect::<Result<_, _>>()?))
    }

    /// Asks the next mirror first when parts are opened again.
    ///
    /// Goes round by itself, not from the preferred mirror on: which one that is, a spoiled mirror has a say in.
    pub(crate) fn pass_over(&mut self) {
        let count = self.mirrors.len();
        if count > 1 {
            let next = (self.parts_from.unwrap_or(self.preferred) + 1) % count;
            info!("the next installation of firmware asks {} first", self.url(next));
            self.parts_from = Some(next);
        }
    }
}

fn transfer(
    mirror: &mut Mirror,
    target: &Target,
    file: &mut File,
    (shared, pulse, silence, quit): (&Shared, &Pulse, Duration, &AtomicBool),
) -> Result<(), Error> {
    pulse.alive(silence);
    let mut report = |done, total| {
        pulse.alive(silence);
        shared.progress(done, total);
    };
    let progress = Progress { report: Some(&mut report), cancel: Some(quit) };
    Ok(mirror.targets.download(&target.remote_path, target.length, file, progress)?)
}

/// Whether a file is the target, by length and every hash.
fn verdict(mut file: File, target: &Target) -> std::io::Result<Result<(), Refusal>> {
    let (mut verifier, mut chunk) = (target.verifier(), vec![0; 32 * 1024]);
    loop {
        let n = file.read(&mut chunk)?;
        if n == 0 {
            return Ok(verifier.finish().map(drop));
        }
        if let Err(why) = verifier.update(&chunk[..n]) {
            return Ok(Err(why));
        }
    }
}

impl Fetch for Transport {
    fn fetch(&mut self, path: &str, max_len: u64) -> Result<Vec<u8>, FetchError> {
        let count = if self.any { self.mirrors.len() } else { 1 };
        let all = self.mirrors.len();
        let mut first = None;
        for turn in 0..count {
            if self.is_interrupted() {
                break;
            }
            self.pulse.alive(self.silence);
            match self.mirrors[(self.preferred + turn) % all].metadata.fetch(path, max_len) {
                Ok(bytes) => return Ok(bytes),
                Err(err) => first = first.or(Some(err)),
            }
        }
        let interrupted = || FetchError::Transport("interrupted by a stop of the daemon".into());
        Err(first.unwrap_or_else(interrupted))
    }
}

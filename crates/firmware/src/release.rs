//! `release.json`, format 1: the types, and a parser that is bounded and total.
//!
//! Whoever holds a value of [`Release`] holds one that keeps the rules of this page; [`Release::to_json`] and
//! [`Release::parse`] are each other's inverse. That the maker said it is for TUF to show.

use std::collections::BTreeSet;

use iotwasm_values::Digest;
use jiff::Timestamp;
use semver::Version;
use serde::{Deserialize, Serialize};

/// The format that this version writes and reads.
pub const FORMAT: u32 = 1;
/// Longest file that is read, in bytes: a root tree of 10,000 executables takes about 2 MB.
pub const MAX_BYTES: usize = 8 * 1024 * 1024;
/// Most entries of the reference list.
pub const MAX_IMA: usize = 65_536;
/// Longest path of the reference list, in bytes: Linux's PATH_MAX.
pub const MAX_PATH: usize = 4096;
/// Longest compatible, in bytes.
pub const MAX_COMPATIBLE: usize = 128;
/// Longest version, in bytes.
pub const MAX_VERSION: usize = 64;
/// Longest signed manifest of a bundle, in bytes: a device keeps it in memory. RAUC's own bound on the signature is 64 KiB.
pub const MAX_SIGNATURE: u64 = 1024 * 1024;
/// Data and hash blocks of the root file system, in bytes.
pub const BLOCK: u64 = 4096;
/// Phases of a boot that PCR 11 has a value for, as systemd-measure(1) spells the path to each.
///
/// The initrd runs no systemd, so `enter-initrd` and `leave-initrd` are never extended.
pub const PHASES: [&str; 3] = ["", "sysinit", "sysinit:ready"];

/// A firmware release: what the maker built, and what a device that runs it measures.
///
/// Keys that this version does not know are ignored; a change of what a known key means is a new [`FORMAT`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Release {
    /// Always [`FORMAT`].
    pub format: u32,
    /// Which devices may take it: RAUC's `compatible`. `[A-Za-z0-9._-]`, at most [`MAX_COMPATIBLE`] bytes.
    pub compatible: String,
    /// Its version, without build metadata.
    pub version: Version,
    /// When it was made, in whole seconds of UTC; given to the build, never read from a clock.
    pub time: Timestamp,
    /// The artifacts.
    pub files: Files,
    /// How the root file system is verified.
    pub verity: Verity,
    /// What the boot leaves in the TPM's sha256 bank.
    pub pcrs: Pcrs,
    /// What may be executed, mapped executable or loaded into the kernel, sorted by path.
    pub ima: Vec<ImaEntry>,
    /// The program that runs payloads.
    pub runner: ImaEntry,
}

/// The artifacts of a release.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Files {
    /// The root file system, a squashfs, with its hash tree appended.
    pub rootfs: Artifact,
    /// The unified kernel image.
    pub uki: Artifact,
    /// The EFI system partition that holds the UKI.
    pub esp: Artifact,
    /// The RAUC bundle that holds `rootfs` and `esp`; none where the release was built without a key to sign it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bundle: Option<Bundle>,
}

/// One file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Artifact {
    /// Its name beside `release.json`.
    pub name: String,
    /// Its length in bytes.
    pub length: u64,
    /// Its SHA-256.
    pub sha256: Digest,
}

/// The bundle. RAUC salts the payload's hash tree at random and stamps the signature with the time, so two builds of one
/// release differ behind the payload: what can be compared is the payload.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bundle {
    /// The whole file.
    #[serde(flatten)]
    pub file: Artifact,
    /// Length in bytes of the squashfs at its beginning, padded to [`BLOCK`].
    pub payload_length: u64,
    /// SHA-256 of these bytes: the same for every build of the release.
    pub payload_sha256: Digest,
    /// Where the signed manifest (CMS, and its length in eight bytes) begins; it ends with the file.
    pub signature_offset: u64,
    /// SHA-256 of that end. The manifest in it has the root hash of everything before it, so a device that streams the bundle
    /// knows by this value that it streams the one that was published.
    pub signature_sha256: Digest,
}

/// dm-verity's parameters. sha256, data and hash blocks of [`BLOCK`] bytes, the superblock at `hash_offset`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verity {
    /// The root hash; it stands in the UKI's command line too.
    pub root_hash: Digest,
    /// Where the hash tree begins in `rootfs`, in bytes; what is before it is the data.
    pub hash_offset: u64,
    /// The salt, 32 bytes.
    pub salt: Digest,
}

/// Predicted PCRs of the sha256 bank.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pcrs {
    /// Both states of Secure Boot, off first.
    pub pcr4: Vec<Pcr4>,
    /// One for each of [`PHASES`], in that order.
    pub pcr11: Vec<Pcr11>,
}

/// PCR 4 of a boot whose first boot option was this release's UKI. It holds from the moment that the kernel runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pcr4 {
    /// Whether Secure Boot is on. The firmware measures the kernel inside the UKI in one case and not in the other.
    pub secure_boot: bool,
    /// The value.
    pub value: Digest,
}

/// PCR 11 in a phase of the boot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pcr11 {
    /// The phase: the value holds when the last word of this path has been extended, and until the next one is.
    pub phase: String,
    /// The value.
    pub value: Digest,
}

/// A file that IMA may measure.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImaEntry {
    /// Absolute path on the device, all links resolved.
    pub path: String,
    /// SHA-256 of its contents.
    pub sha256: Digest,
}

/// Why bytes are not a release.
#[derive(Debug, thiserror::Error)]
pub enum ReleaseError {
    /// Longer than [`MAX_BYTES`].
    #[error("release.json is {length} bytes long; at most {MAX_BYTES} are read")]
    TooLong {
        /// How long.
        length: usize,
    },
    /// Not JSON, or not the object it should be.
    #[error("release.json is malformed")]
    Malformed {
        /// What is wrong with it.
        #[source]
        err: serde_json::Error,
    },
    /// Another format.
    #[error("release.json has format {found}; this version reads {FORMAT}")]
    Format {
        /// Which.
        found: u32,
    },
    /// A rule of the format is broken.
    #[error("release.json: {field} {rule}")]
    Rule {
        /// Where.
        field: String,
        /// What it breaks.
        rule: &'static str,
    },
}

/// What is looked at before anything else: another format may differ in everything but this key.
#[derive(Deserialize)]
struct Head {
    format: u32,
}

impl Release {
    /// Reads a release from bytes of any origin.
    pub fn parse(bytes: &[u8]) -> Result<Self, ReleaseError> {
        if bytes.len() > MAX_BYTES {
            return Err(ReleaseError::TooLong { length: bytes.len() });
        }
        let malformed = |err| ReleaseError::Malformed { err };
        let Head { format } = serde_json::from_slice(bytes).map_err(malformed)?;
        if format != FORMAT {
            return Err(ReleaseError::Format { found: format });
        }
        let release: Self = serde_json::from_slice(bytes).map_err(malformed)?;
        release.check()?;
        Ok(release)
    }

    /// The file's bytes: indented, keys in the order of the types, a newline at the end. Refuses to write what
    /// [`Self::parse`] would not read.
    pub fn to_json(&self) -> Result<Vec<u8>, ReleaseError> {
        self.check()?;
        let mut bytes = serde_json::to_vec_pretty(self).map_err(|err| ReleaseError::Malformed { err })?;
        bytes.push(b'\n');
        if bytes.len() > MAX_BYTES {
            return Err(ReleaseError::TooLong { length: bytes.len() });
        }
        Ok(bytes)
    }

    /// What the reference list says of a path.
    pub fn measured(&self, path: &str) -> Option<Digest> {
        self.ima.binary_search_by(|entry| entry.path.as_str().cmp(path)).ok().map(|at| self.ima[at].sha256)
    }

    /// PCR 4 in a state of Secure Boot.
    pub fn pcr4(&self, secure_boot: bool) -> Option<Digest> {
        self.pcrs.pcr4.iter().find(|pcr| pcr.secure_boot == secure_boot).map(|pcr| pcr.value)
    }

    /// PCR 11 in one of [`PHASES`].
    pub fn pcr11(&self, phase: &str) -> Option<Digest> {
        self.pcrs.pcr11.iter().find(|pcr| pcr.phase == phase).map(|pcr| pcr.value)
    }

    fn check(&self) -> Result<(), ReleaseError> {
        if self.format != FORMAT {
            return Err(ReleaseError::Format { found: self.format });
        }
        rule(is_compatible(&self.compatible), "compatible", "is not 1 to 128 of A-Z, a-z, 0-9, '.', '_' and '-'")?;
        rule(is_version(&self.version), "version", "has build metadata or is longer than 64 bytes")?;
        rule(self.time.subsec_nanosecond() == 0, "time", "is not in whole seconds")?;
        self.files.check()?;
        let Verity { hash_offset, .. } = self.verity;
        let aligned = hash_offset > 0 && hash_offset.is_multiple_of(BLOCK);
        rule(aligned, "verity.hash_offset", "is not a positive multiple of 4096")?;
        rule(hash_offset < self.files.rootfs.length, "verity.hash_offset", "is not inside files.rootfs")?;
        self.pcrs.check()?;
        rule(self.ima.len() <= MAX_IMA, "ima", "has more than 65536 entries")?;
        for (at, entry) in self.ima.iter().enumerate() {
            rule(is_path(&entry.path), &format!("ima[{at}].path"), "is not an absolute, normal path")?;
            let rises = at == 0 || self.ima[at - 1].path < entry.path;
            rule(rises, &format!("ima[{at}].path"), "is not greater than the path before it")?;
        }
        let runner = self.measured(&self.runner.path) == Some(self.runner.sha256);
        rule(runner, "runner", "is not in the reference list as it is here")
    }
}

impl Files {
    fn check(&self) -> Result<(), ReleaseError> {
        let files = [("rootfs", &self.rootfs), ("uki", &self.uki), ("esp", &self.esp)];
        let bundle = self.bundle.iter().map(|bundle| ("bundle", &bundle.file));
        let mut names = BTreeSet::new();
        for (field, file) in files.into_iter().chain(bundle) {
            rule(is_file_name(&file.name), &format!("files.{field}.name"), "is not a plain file name")?;
            rule(names.insert(&file.name), &format!("files.{field}.name"), "is another file's name too")?;
            rule(file.length > 0, &format!("files.{field}.length"), "is 0")?;
        }
        let whole = self.rootfs.length.is_multiple_of(BLOCK);
        rule(whole, "files.rootfs.length", "is not a multiple of 4096")?;
        let Some(bundle) = &self.bundle else { return Ok(()) };
        let inside = bundle.payload_length > 0
            && bundle.payload_length.is_multiple_of(BLOCK)
            && bundle.payload_length < bundle.file.length;
        rule(inside, "files.bundle.payload_length", "is not a multiple of 4096 inside the bundle")?;
        let behind = (bundle.payload_length..bundle.file.length).contains(&bundle.signature_offset);
        rule(behind, "files.bundle.signature_offset", "is not behind the payload and inside the bundle")?;
        let short = bundle.file.length.saturating_sub(bundle.signature_offset) <= MAX_SIGNATURE;
        rule(short, "files.bundle.signature_offset", "leaves more than 1 MiB for the signed manifest")
    }
}

impl Pcrs {
    fn check(&self) -> Result<(), ReleaseError> {
        let states = self.pcr4.iter().map(|pcr| pcr.secure_boot).eq([false, true]);
        rule(states, "pcrs.pcr4", "does not have secure_boot false, then true")?;
        let phases = self.pcr11.iter().map(|pcr| pcr.phase.as_str()).eq(PHASES);
        rule(phases, "pcrs.pcr11", "does not have the phases \"\", \"sysinit\" and \"sysinit:ready\" in this order")
    }
}

fn rule(holds: bool, field: &str, rule: &'static str) -> Result<(), ReleaseError> {
    if holds { Ok(()) } else { Err(ReleaseError::Rule { field: field.to_owned(), rule }) }
}

/// True for a word that RAUC, a TUF target name and a file name can all hold.
pub fn is_compatible(text: &str) -> bool {
    (1..=MAX_COMPATIBLE).contains(&text.len()) && is_file_name(text)
}

/// True for a version that a release may have: two versions that compare as equal are the same text.
pub fn is_version(version: &Version) -> bool {
    version.build.is_empty() && version.to_string().len() <= MAX_VERSION
}

fn is_file_name(text: &str) -> bool {
    (1..=255).contains(&text.len())
        && !text.starts_with(['.', '-'])
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
}

/// True for an absolute path in its one spelling. A path with a control character would be two lines of a log.
pub fn is_path(text: &str) -> bool {
    let Some(rest) = text.strip_prefix('/') else { return false };
    text.len() <= MAX_PATH
        && !text.chars().any(char::is_control)
        && rest.split('/').all(|part| !matches!(part, "" | "." | ".."))
}

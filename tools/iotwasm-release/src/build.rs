//! `iotwasm-release build`: one step after another, each in a file of its own; the release appears whole or not at all.

mod bundle;
mod esp;
mod rootfs;
mod tree;
mod uki;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use clap::Args;
use iotwasm_firmware::Digest;
use iotwasm_firmware::predict::predict;
use iotwasm_firmware::release::{self, Artifact, FORMAT, Files, ImaEntry, Release, Verity};
use jiff::Timestamp;
use semver::Version;
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;

use crate::error::Error;

/// Names of the files of a release.
const ROOTFS: &str = "rootfs.img";
const UKI: &str = "uki.efi";
const ESP: &str = "esp.img";
const BUNDLE: &str = "firmware.raucb";
const RELEASE: &str = "release.json";

#[derive(Debug, Args)]
pub(crate) struct Build {
    /// Tree of the root file system, as root would see it: owners and modes are taken as they are.
    #[arg(long, value_name = "TREE")]
    root: PathBuf,
    /// The kernel, a PE image.
    #[arg(long, value_name = "FILE")]
    kernel: PathBuf,
    /// The initrd, which finds the slot and opens the root file system by iot.verity=.
    #[arg(long, value_name = "FILE")]
    initrd: PathBuf,
    /// The os-release file that the UKI carries.
    #[arg(long, value_name = "FILE")]
    os_release: PathBuf,
    /// The kernel's release that the UKI carries, as uname -r prints it [default: what ukify finds in the kernel].
    #[arg(long, value_name = "TEXT")]
    uname: Option<String>,
    /// The stub that the UKI begins with [default: ukify's].
    #[arg(long, value_name = "FILE")]
    stub: Option<PathBuf>,
    /// Which devices may take the release: RAUC's compatible.
    #[arg(long, value_name = "NAME", value_parser = parse_compatible)]
    compatible: String,
    /// Its version.
    #[arg(long, value_name = "V", value_parser = parse_version)]
    version: Version,
    /// When it was made [default: SOURCE_DATE_EPOCH from the environment]. No clock is read.
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    time: Option<Timestamp>,
    /// The kernel's command line; iot.verity=<root hash>:<offset> is added.
    #[arg(long, value_name = "TEXT")]
    cmdline: String,
    /// Folder to make; it must not exist.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// The program that runs payloads.
    #[arg(long, value_name = "PATH", default_value = iotwasm_kit::paths::RUNNER)]
    runner: String,
    /// A path that changes from release to release, beside those of iotwasm itself: it is laid out last in the root file
    /// system, so that what is before it stays where it is and devices need not fetch it again.
    #[arg(long = "changes", value_name = "PATH")]
    changes: Vec<String>,
    /// zstd's level for the root file system.
    #[arg(long, value_name = "N", default_value_t = 15, value_parser = clap::value_parser!(u8).range(1..=22))]
    compression_level: u8,
    /// Size of the EFI system partition, in MiB.
    #[arg(long, value_name = "MIB", default_value_t = 64, value_parser = clap::value_parser!(u32).range(34..=2048))]
    esp_size: u32,
    /// Where firmware looks for the UKI, below EFI/BOOT on the ESP.
    #[arg(long, value_name = "NAME", default_value = "BOOTX64.EFI", value_parser = ["BOOTX64.EFI", "BOOTAA64.EFI"])]
    efi_name: String,
    #[command(flatten)]
    bundle: BundleKeys,
    #[command(flatten)]
    uki: UkiKeys,
}

/// What signs the bundle. Without it, none is made.
#[derive(Debug, Args)]
pub(crate) struct BundleKeys {
    /// Certificate that signs the bundle: a file or a PKCS#11 URI.
    #[arg(long, value_name = "CERT", requires = "rauc_key")]
    rauc_cert: Option<String>,
    /// Its key: a file or a PKCS#11 URI.
    #[arg(long, value_name = "KEY", requires = "rauc_cert")]
    rauc_key: Option<String>,
    /// A certificate between it and the device's keyring, to go with the signature; may be given several times.
    #[arg(long, value_name = "CERT", requires = "rauc_cert")]
    rauc_intermediate: Vec<String>,
}

/// What signs the UKI for Secure Boot. Without it, the UKI is not signed.
#[derive(Debug, Args)]
pub(crate) struct UkiKeys {
    /// Certificate that signs the UKI: one that the devices' db has.
    #[arg(long, value_name = "CERT", requires = "uki_key")]
    uki_cert: Option<PathBuf>,
    /// Its key: a file or a PKCS#11 URI.
    #[arg(long, value_name = "KEY", requires = "uki_cert")]
    uki_key: Option<String>,
}

pub(crate) fn run(args: &Build) -> Result<(), Error> {
    let time = args.time()?;
    uki::check_cmdline(&args.cmdline)?;
    if !args.root.is_dir() {
        return Err(Error::NotATree { path: args.root.clone() });
    }
    if fs::symlink_metadata(&args.out).is_ok() {
        return Err(Error::Exists { path: args.out.clone() });
    }
    let ima = tree::measured_files(&args.root)?;
    let runner = ima.iter().find(|entry| entry.path == args.runner).cloned();
    let runner = runner.ok_or_else(|| Error::NoRunner { path: args.runner.clone() })?;

    let partial = partial(&args.out, 0o755)?;
    let at = |name: &str| partial.path().join(name);
    let verity = rootfs::make(args, &at(ROOTFS))?;
    uki::make(args, &verity, &at(UKI))?;
    esp::make(args, &at(UKI), &at(ESP))?;
    let bundle = bundle::make(args, time, partial.path())?;
    let release = describe(args, time, verity, bundle, ima, runner, partial.path())?;
    let path = at(RELEASE);
    fs::write(&path, release.to_json()?).map_err(|err| Error::Write { path, err })?;
    finish(partial, &args.out)?;
    say(&release, &args.out);
    Ok(())
}

fn describe(
    args: &Build,
    time: Timestamp,
    verity: Verity,
    bundle: Option<release::Bundle>,
    ima: Vec<ImaEntry>,
    runner: ImaEntry,
    dir: &Path,
) -> Result<Release, Error> {
    let uki = dir.join(UKI);
    let bytes = fs::read(&uki).map_err(|err| Error::Read { path: uki.clone(), err })?;
    let pcrs = predict(&bytes).map_err(|err| Error::Predict { path: uki, err })?.pcrs;
    Ok(Release {
        format: FORMAT,
        compatible: args.compatible.clone(),
        version: args.version.clone(),
        time,
        files: Files { rootfs: artifact(dir, ROOTFS)?, uki: artifact(dir, UKI)?, esp: artifact(dir, ESP)?, bundle },
        verity,
        pcrs,
        ima,
        runner,
    })
}

fn say(release: &Release, out: &Path) {
    let files = [&release.files.rootfs, &release.files.uki, &release.files.esp];
    for file in files.into_iter().chain(release.files.bundle.iter().map(|bundle| &bundle.file)) {
        iotwasm_kit::info!("{}: {} bytes, sha256 {}", out.join(&file.name).display(), file.length, file.sha256);
    }
    if release.files.bundle.is_none() {
        iotwasm_kit::info!(
            "no bundle: it takes --rauc-cert and --rauc-key, and a release without one cannot be published"
        );
    }
}

impl Build {
    fn time(&self) -> Result<Timestamp, Error> {
        if let Some(time) = self.time {
            return Ok(time);
        }
        let text = std::env::var("SOURCE_DATE_EPOCH").map_err(|_| Error::NoTime)?;
        let time = text.parse().ok().and_then(|seconds| Timestamp::from_second(seconds).ok());
        time.ok_or(Error::Epoch { text })
    }
}

fn parse_compatible(text: &str) -> Result<String, &'static str> {
    if release::is_compatible(text) {
        Ok(text.to_owned())
    } else {
        Err("use 1 to 128 of A-Z, a-z, 0-9, '.', '_' and '-', beginning with a letter, a digit or '_'")
    }
}

fn parse_version(text: &str) -> Result<Version, String> {
    let version: Version = text.parse().map_err(|err: semver::Error| err.to_string())?;
    if release::is_version(&version) { Ok(version) } else { Err("no build metadata, and 64 bytes at most".into()) }
}

fn parse_time(text: &str) -> Result<Timestamp, String> {
    let time: Timestamp = text.parse().map_err(|err: jiff::Error| err.to_string())?;
    if time.subsec_nanosecond() == 0 { Ok(time) } else { Err("in whole seconds, please".into()) }
}

/// A folder of this mode beside `out` that goes away unless [`finish`] gives it its name.
pub(crate) fn partial(out: &Path, mode: u32) -> Result<TempDir, Error> {
    let failed = |err| Error::Write { path: out.to_owned(), err };
    let parent = match out.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    };
    fs::create_dir_all(parent).map_err(failed)?;
    let dir = tempfile::Builder::new().prefix(".release-").tempdir_in(parent).map_err(failed)?;
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(mode)).map_err(failed)?;
    Ok(dir)
}

/// Gives a finished folder its name; refuses where something has taken the name meanwhile.
pub(crate) fn finish(partial: TempDir, out: &Path) -> Result<(), Error> {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    match renameat_with(CWD, partial.path(), CWD, out, RenameFlags::NOREPLACE) {
        Ok(()) => {
            // The folder has another name now: there is nothing left to remove.
            let _ = partial.keep();
            Ok(())
        }
        Err(rustix::io::Errno::EXIST) => Err(Error::Exists { path: out.to_owned() }),
        Err(errno) => Err(Error::Write { path: out.to_owned(), err: errno.into() }),
    }
}

fn artifact(dir: &Path, name: &str) -> Result<Artifact, Error> {
    let (sha256, length) = hash(&dir.join(name), 0, u64::MAX)?;
    Ok(Artifact { name: name.to_owned(), length, sha256 })
}

/// SHA-256 of at most `limit` bytes of a file, and how many there were.
fn hash(path: &Path, from: u64, limit: u64) -> Result<(Digest, u64), Error> {
    use std::io::{Read as _, Seek as _, SeekFrom};
    let failed = |err| Error::Read { path: path.to_owned(), err };
    let mut hash = Sha256::new();
    let mut file = fs::File::open(path).map_err(failed)?;
    file.seek(SeekFrom::Start(from)).map_err(failed)?;
    let mut file = file.take(limit);
    let length = std::io::copy(&mut file, &mut hash).map_err(failed)?;
    Ok((Digest::from_bytes(hash.finalize().into()), length))
}

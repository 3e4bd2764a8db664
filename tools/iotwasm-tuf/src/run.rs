//! The three commands: remember a root, refresh, download targets.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

use clap::{Parser, Subcommand};
use iotwasm_fetch::{Client, Error as HttpError, Options, Progress};
use iotwasm_trust::{Error as TrustError, Limits, Refusal, Target, Time, Updater};
use jiff::Timestamp;

/// The root that `init` was given; below the metadata folder and not called `.json`, for the suite counts those.
const PINNED: &str = "pinned/root";
/// Largest initial root, in bytes.
const MAX_ROOT: u64 = 512 * 1024;

/// A TUF client, as the TUF conformance suite calls it.
#[derive(Debug, Parser)]
#[command(version)]
pub(crate) struct Args {
    /// Folder of the trusted metadata.
    #[arg(long)]
    metadata_dir: PathBuf,
    /// URL of the repository's metadata.
    #[arg(long)]
    metadata_url: Option<String>,
    /// Name of a target to download; may be given several times.
    #[arg(long)]
    target_name: Vec<String>,
    /// URL of the repository's target files.
    #[arg(long)]
    target_base_url: Option<String>,
    /// Folder for downloaded targets.
    #[arg(long)]
    target_dir: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Remember the root to start from; nothing is fetched.
    Init {
        /// The root.json to trust.
        trusted_root: PathBuf,
    },
    /// Bring the metadata up to date.
    Refresh,
    /// Bring the metadata up to date and download the targets, in order, up to the first that fails.
    Download,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum RunError {
    #[error("{0} is missing on the command line")]
    Argument(&'static str),
    #[error("could not {operation} {path}")]
    Io {
        operation: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("the metadata could not be brought up to date")]
    Refresh(#[source] TrustError),
    #[error("could not set up the transfer")]
    Client(#[source] HttpError),
    #[error("could not find the target")]
    Find(#[source] TrustError),
    #[error("no trusted role names the target {0}")]
    NoTarget(String),
    #[error("could not download {path}")]
    Download {
        path: String,
        #[source]
        source: HttpError,
    },
    #[error("the file that was downloaded is not the target")]
    Mismatch(#[source] Refusal),
}

/// Does what the command line says.
pub(crate) fn run(args: &Args) -> Result<(), RunError> {
    match &args.command {
        Command::Init { trusted_root } => init(&args.metadata_dir, trusted_root),
        Command::Refresh => refresh(args).map(|_| ()),
        Command::Download => download(args),
    }
}

fn init(folder: &Path, trusted_root: &Path) -> Result<(), RunError> {
    let pinned = folder.join(PINNED);
    let parent = pinned.parent().unwrap_or(folder);
    fs::create_dir_all(parent).map_err(|err| io_error("make", parent, err))?;
    fs::copy(trusted_root, &pinned).map_err(|err| io_error("copy", trusted_root, err))?;
    let current = folder.join("root.json");
    fs::copy(&pinned, &current).map_err(|err| io_error("write", &current, err))?;
    Ok(())
}

fn refresh(args: &Args) -> Result<Updater<Client>, RunError> {
    let url = args.metadata_url.as_deref().ok_or(RunError::Argument("--metadata-url"))?;
    let pinned = args.metadata_dir.join(PINNED);
    let size = fs::metadata(&pinned).map_err(|err| io_error("read", &pinned, err))?.len();
    if size > MAX_ROOT {
        return Err(io_error("read", &pinned, io::ErrorKind::FileTooLarge.into()));
    }
    let root = fs::read(&pinned).map_err(|err| io_error("read", &pinned, err))?;
    let client = client(url)?;
    // A command has no image whose build time could be a floor.
    let time = Time::system(Timestamp::UNIX_EPOCH);
    let mut updater =
        Updater::open(&args.metadata_dir, &root, time, Limits::default(), client).map_err(RunError::Refresh)?;
    updater.refresh().map_err(RunError::Refresh)?;
    Ok(updater)
}

fn download(args: &Args) -> Result<(), RunError> {
    if args.target_name.is_empty() {
        return Err(RunError::Argument("--target-name"));
    }
    let url = args.target_base_url.as_deref().ok_or(RunError::Argument("--target-base-url"))?;
    let folder = args.target_dir.as_deref().ok_or(RunError::Argument("--target-dir"))?;
    let mut updater = refresh(args)?;
    args.target_name.iter().try_for_each(|name| download_one(&mut updater, name, url, folder))
}

fn download_one(updater: &mut Updater<Client>, name: &str, url: &str, folder: &Path) -> Result<(), RunError> {
    let target = updater.find(name).map_err(RunError::Find)?.ok_or_else(|| RunError::NoTarget(name.into()))?;
    let place = folder.join(encode(name));
    if matches(&place, &target) {
        return Ok(());
    }
    let part = folder.join("part");
    let outcome = fetch(url, &target, &part);
    match outcome {
        Ok(()) => fs::rename(&part, &place).map_err(|err| io_error("rename", &part, err)),
        Err(err) => {
            // What is not the target must not stay where somebody could take it for one.
            let _ = fs::remove_file(&part);
            Err(err)
        }
    }
}

fn fetch(url: &str, target: &Target, part: &Path) -> Result<(), RunError> {
    let mut file = OpenOptions::new()
        .create(true)
        .truncate(true)
        .read(true)
        .write(true)
        .open(part)
        .map_err(|err| io_error("open", part, err))?;
    client(url)?
        .download(&target.remote_path, target.length, &mut file, Progress::none())
        .map_err(|source| RunError::Download { path: target.remote_path.clone(), source })?;
    file.sync_all().map_err(|err| io_error("sync", part, err))?;
    let file = File::open(part).map_err(|err| io_error("open", part, err))?;
    verify(file, target).map_err(|err| io_error("read", part, err))?.map_err(RunError::Mismatch)
}

fn client(url: &str) -> Result<Client, RunError> {
    Client::new(&[url.to_owned()], &Options::default()).map_err(RunError::Client)
}

fn matches(place: &Path, target: &Target) -> bool {
    File::open(place).and_then(|file| verify(file, target)).is_ok_and(|verdict| verdict.is_ok())
}

fn verify(mut file: File, target: &Target) -> io::Result<Result<(), Refusal>> {
    let mut verifier = target.verifier();
    let mut buffer = vec![0; 64 * 1024];
    loop {
        match io::Read::read(&mut file, &mut buffer)? {
            0 => return Ok(verifier.finish().map(|_| ())),
            n => match verifier.update(&buffer[..n]) {
                Ok(()) => {}
                Err(why) => return Ok(Err(why)),
            },
        }
    }
}

/// The target's name as one file name.
fn encode(name: &str) -> String {
    name.replace('%', "%25").replace('/', "%2F")
}

fn io_error(operation: &'static str, path: &Path, source: io::Error) -> RunError {
    RunError::Io { operation, path: path.into(), source }
}

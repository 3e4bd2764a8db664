//! Refresh, look-up and download of one target on one repository: our client, tough and python-tuf, in one run.
//!
//! All three read the same files from a folder, start with the pinned root and an empty store, and verify what they
//! download. No network and no process start is part of it. The stores are on a file system in memory, since only ours
//! syncs what it writes; ours on the disk is a row of its own.

use std::{error::Error, fs, path::Path, process::Command, time::Instant};

use iotwasm_trust::{
    Fetch, FetchError, Limits, Time, Updater,
    repo::{Delegation, Document, Key, Online, Repo},
};
use jiff::{Timestamp, ToSpan};
use tough::{FilesystemTransport, RepositoryLoader, TargetName};

use qemu_tests::row::{Row, median};

const TARGET: &str = "acme/blinky/blinky-1.0.7.wasm";
/// Vendors and releases of a small product family.
const VENDORS: [&str; 4] = ["acme", "bolt", "crane", "dyne"];
const RELEASES: usize = 10;
const PAYLOAD_BYTES: usize = 256 * 1024;

type Res<T> = Result<T, Box<dyn Error>>;

/// Measure with so many rounds each.
pub(crate) fn run(rounds: usize, python: &Path, script: &Path) -> Res<Vec<Row>> {
    let memory = tempfile::tempdir_in("/dev/shm")?;
    let repository = memory.path().join("repository");
    make(&repository)?;
    let root = fs::read(repository.join("metadata/1.root.json"))?;

    let ours = median_of(rounds, || ours(&repository, &root, memory.path()))?;
    let disk = tempfile::tempdir_in(".")?;
    let ours_on_disk = median_of(rounds, || self::ours(&repository, &root, disk.path()))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let tough = median_of(rounds, || runtime.block_on(tough(&repository, &root, memory.path())))?;
    let python = python_tuf(python, script, &repository, rounds, memory.path())?;

    Ok(vec![
        Row::plain("TUF refresh and download, beside python-tuf", ours, "ms").faster_than("python-tuf", python, 10.0),
        Row::plain("TUF refresh and download, beside tough", ours, "ms").faster_than("tough", tough, 1.0),
        Row::plain("TUF refresh and download, store synced to the disk", ours_on_disk, "ms").beside("in memory", ours),
    ])
}

fn median_of(rounds: usize, mut once: impl FnMut() -> Res<f64>) -> Res<f64> {
    once()?;
    Ok(median((0..rounds).map(|_| once()).collect::<Res<Vec<_>>>()?))
}

/// A repository with a delegated role for each vendor.
fn make(folder: &Path) -> Res<()> {
    let now = Timestamp::now();
    let expires = now + 240.hours();
    let keys = (0..3 + 3 + VENDORS.len()).map(|_| Key::generate()).collect::<Result<Vec<_>, _>>()?;
    let (roots, online, vendors) = (&keys[..3], &keys[3..6], &keys[6..]);
    let public = |keys: &[Key]| keys.iter().map(Key::public).collect::<Vec<_>>();

    let repo = Repo::open(folder)?;
    let mut root = Document::new_root(expires);
    root.set_role("root", &public(roots), 2);
    for (role, key) in ["targets", "snapshot", "timestamp"].iter().zip(online) {
        root.set_role(role, &public(std::slice::from_ref(key)), 1);
    }
    repo.write(root.sign(&roots[..2]))?;

    let mut targets = Document::new_targets("targets", expires);
    let mut roles = Vec::new();
    for (vendor, key) in VENDORS.iter().zip(vendors) {
        targets.delegate(&Delegation {
            name: (*vendor).into(),
            keys: vec![key.public()],
            threshold: 1,
            paths: vec![format!("{vendor}/*/*")],
            terminating: false,
        });
        let mut role = Document::new_targets(vendor, expires);
        for release in 0..RELEASES {
            let name = format!("{vendor}/blinky/blinky-1.0.{release}.wasm");
            let payload: Vec<u8> = (0..PAYLOAD_BYTES).map(|i| (i * 31 + release) as u8).collect();
            let info = repo.add_target_file(&name, &payload, None)?;
            role.add_target(&name, &info);
            // tough looks for `<hash>.dir/file` where the specification has `dir/<hash>.file`: give it what it wants.
            if name == TARGET {
                let path = repo.targets().join(format!("{}.{name}", info.hashes.name()));
                fs::create_dir_all(path.parent().ok_or("a target has a folder")?)?;
                fs::write(path, &payload)?;
            }
        }
        role.sign([key]);
        roles.push(role);
    }
    targets.sign(&online[..1]);
    let documents: Vec<&Document> = std::iter::once(&targets).chain(&roles).collect();
    let online = Online {
        snapshot: &online[1..2],
        timestamp: &online[2..3],
        snapshot_expires: expires,
        timestamp_expires: expires,
        now,
    };
    repo.publish(&documents, &online)?;
    Ok(())
}

/// Metadata from a folder.
struct Folder<'a>(&'a Path);

impl Fetch for Folder<'_> {
    fn fetch(&mut self, path: &str, max_len: u64) -> Result<Vec<u8>, FetchError> {
        match fs::read(self.0.join(path)) {
            Ok(bytes) if bytes.len() as u64 > max_len => Err(FetchError::TooLong { limit: max_len }),
            Ok(bytes) => Ok(bytes),
            Err(err) if err.kind() == std::io::ErrorKind::NotFound => Err(FetchError::NotFound),
            Err(err) => Err(FetchError::Transport(Box::new(err))),
        }
    }
}

fn ours(repository: &Path, root: &[u8], scratch: &Path) -> Res<f64> {
    let store = tempfile::tempdir_in(scratch)?;
    let metadata = repository.join("metadata");
    let start = Instant::now();
    let time = Time::system(Timestamp::UNIX_EPOCH);
    let mut updater = Updater::open(&store.path().join("store"), root, time, Limits::default(), Folder(&metadata))?;
    updater.refresh()?;
    let target = updater.find(TARGET)?.ok_or("the target is not in the repository")?;
    let bytes = fs::read(repository.join("targets").join(&target.remote_path))?;
    target.verify(&bytes)?;
    fs::write(store.path().join("payload.wasm"), &bytes)?;
    Ok(millis(start))
}

async fn tough(repository: &Path, root: &[u8], scratch: &Path) -> Res<f64> {
    let store = tempfile::tempdir_in(scratch)?;
    let url = |folder: &str| -> Res<_> { Ok(format!("file://{}/{folder}/", repository.display()).parse()?) };
    let (metadata, targets) = (url("metadata")?, url("targets")?);
    let start = Instant::now();
    let datastore = store.path().join("store");
    fs::create_dir(&datastore)?;
    let loaded = RepositoryLoader::new(&root, metadata, targets)
        .transport(FilesystemTransport)
        .datastore(datastore)
        .load()
        .await?;
    let out = store.path().join("out");
    std::fs::create_dir(&out)?;
    loaded.save_target(&TargetName::new(TARGET)?, &out, tough::Prefix::None).await?;
    Ok(millis(start))
}

fn python_tuf(python: &Path, script: &Path, repository: &Path, rounds: usize, scratch: &Path) -> Res<f64> {
    let output = Command::new(python)
        .args([script, repository])
        .args([TARGET, &rounds.to_string()])
        .env("TMPDIR", scratch)
        .output()?;
    if !output.status.success() {
        return Err(format!("python-tuf failed: {}", String::from_utf8_lossy(&output.stderr)).into());
    }
    Ok(String::from_utf8(output.stdout)?.trim().parse()?)
}

fn millis(start: Instant) -> f64 {
    start.elapsed().as_secs_f64() * 1000.0
}

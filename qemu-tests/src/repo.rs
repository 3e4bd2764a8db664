//! A repository that a scenario publishes to: a copy of the one whose root the image pins, changed with the `iotwasm`
//! command as an OEM would.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::error::{Error, Result};
use crate::vm::run;

/// The vendor of most examples.
pub const VENDOR: &str = "acme";
/// Which firmware the device may take.
pub const COMPATIBLE: &str = "iotwasm-reference";
/// Another one, whose tier allows little.
pub const BOLT: &str = "bolt";

/// Where the harness finds what the build made.
#[derive(Debug, Clone)]
pub struct Built {
    /// `build/` of the checkout.
    pub folder: PathBuf,
    /// `guest/examples/` of the checkout: manifests.
    pub examples: PathBuf,
}

impl Built {
    /// Everything below one checkout.
    pub fn in_checkout(top: &Path) -> Self {
        Self { folder: top.join("build"), examples: top.join("guest/examples") }
    }

    /// The OEM's command.
    pub fn iotwasm(&self) -> PathBuf {
        self.folder.join("bin/iotwasm")
    }

    /// The disk image.
    pub fn disk(&self) -> PathBuf {
        self.folder.join("image/disk.img")
    }

    /// A firmware release that the build made.
    pub fn firmware(&self, version: &str) -> PathBuf {
        self.folder.join("image/releases").join(version)
    }

    /// The repository whose root the image pins.
    pub fn test_repository(&self) -> PathBuf {
        self.folder.join("test-repository")
    }
}

/// What to publish: an example under an id and a version, with changes to its manifest.
#[derive(Debug, Clone)]
pub struct Release<'a> {
    /// Name of the example whose code it has.
    pub example: &'a str,
    /// Payload id.
    pub id: &'a str,
    /// Version.
    pub version: &'a str,
    /// `KEY=VALUE` for the manifest.
    pub set: Vec<String>,
}

impl<'a> Release<'a> {
    /// An example's code as a release of a payload.
    pub fn new(example: &'a str, id: &'a str, version: &'a str) -> Self {
        Self { example, id, version, set: Vec::new() }
    }

    /// With a change to the manifest.
    #[must_use]
    pub fn with(mut self, setting: impl Into<String>) -> Self {
        self.set.push(setting.into());
        self
    }
}

/// The repository.
#[derive(Debug)]
pub struct Repo {
    built: Built,
    folder: PathBuf,
}

impl Repo {
    /// A fresh copy, with a fresh timestamp; what was in the folder goes.
    pub fn create(built: &Built, folder: &Path) -> Result<Self> {
        if folder.exists() {
            fs::remove_dir_all(folder).map_err(Error::file("remove", folder))?;
        }
        fs::create_dir_all(folder).map_err(Error::file("make", folder))?;
        let repo = Self { built: built.clone(), folder: folder.to_owned() };
        for part in ["keys", "repo"] {
            copy_tree(&built.test_repository().join(part), &folder.join(part))?;
        }
        repo.refresh(&[])?;
        Ok(repo)
    }

    /// A repository of somebody else: same names, other keys.
    pub fn forged(built: &Built, folder: &Path) -> Result<Self> {
        if folder.exists() {
            fs::remove_dir_all(folder).map_err(Error::file("remove", folder))?;
        }
        fs::create_dir_all(folder).map_err(Error::file("make", folder))?;
        let repo = Self { built: built.clone(), folder: folder.to_owned() };
        repo.iotwasm(&[
            "keys",
            "generate",
            "--dir",
            &repo.path("keys"),
            "root",
            "targets",
            "snapshot",
            "timestamp",
            VENDOR,
        ])?;
        repo.iotwasm(&[
            "repo",
            "init",
            "--repo",
            &repo.path("repo"),
            "--keys",
            &repo.path("keys"),
            "--vendor",
            VENDOR,
        ])?;
        Ok(repo)
    }

    /// The folder that a web server serves.
    pub fn served(&self) -> PathBuf {
        self.folder.join("repo")
    }

    /// Packs a release; gives the file.
    pub fn pack(&self, release: &Release<'_>) -> Result<PathBuf> {
        let file = self.folder.join(format!("{}-{}.wasm", release.id, release.version));
        let wasm = self.built.folder.join("guest").join(format!("{}.wasm", release.example));
        let manifest = self.built.examples.join(release.example).join("manifest.toml");
        let mut command = Command::new(self.built.iotwasm());
        command.args(["payload", "pack", "--wasm"]).arg(wasm).arg("--manifest").arg(manifest).arg("-o").arg(&file);
        command.args(["--id", release.id, "--version", release.version]);
        for setting in &release.set {
            command.args(["--set", setting]);
        }
        run(&mut command)?;
        Ok(file)
    }

    /// Packs and publishes.
    pub fn publish(&self, release: &Release<'_>) -> Result<()> {
        let file = self.pack(release)?;
        self.change("publish", &[&file.display().to_string()])
    }

    /// Publishes a firmware release: the folder that the build made, or one like it.
    pub fn publish_firmware(&self, release: &Path) -> Result<()> {
        self.change("publish", &["--firmware", &release.display().to_string()])
    }

    /// Takes a firmware version back.
    pub fn withdraw_firmware(&self, version: &str, reason: &str) -> Result<()> {
        self.change("withdraw", &["--reason", reason, "--firmware", &format!("{COMPATIBLE}@{version}")])
    }

    /// The bundle of a firmware version in a copy of what is served.
    pub fn bundle_in(served: &Path, version: &str) -> Result<PathBuf> {
        let folder = served.join("targets/firmware").join(COMPATIBLE);
        let wanted = format!(".{COMPATIBLE}-{version}.raucb");
        let entries = fs::read_dir(&folder).map_err(Error::file("read", &folder))?;
        let mut paths = entries.filter_map(|e| e.ok().map(|e| e.path()));
        paths
            .find(|p| p.to_string_lossy().ends_with(&wanted))
            .ok_or_else(|| Error::Unreadable { what: "targets", text: format!("no {wanted} in {}", folder.display()) })
    }

    /// Lets another vendor publish, with a key of its own.
    pub fn add_vendor(&self, vendor: &str) -> Result<()> {
        self.iotwasm(&["keys", "generate", "--dir", &self.path("keys"), vendor])?;
        self.change("add-vendor", &[vendor])
    }

    /// Lets firmware be published, with a key of its own.
    pub fn add_firmware(&self) -> Result<()> {
        self.iotwasm(&["keys", "generate", "--dir", &self.path("keys"), "firmware"])?;
        self.change("add-firmware", &[])
    }

    /// Takes a version back.
    pub fn withdraw(&self, id: &str, version: &str, reason: &str) -> Result<()> {
        self.change("withdraw", &["--reason", reason, &format!("{id}@{version}")])
    }

    /// Signs again, with more arguments.
    pub fn refresh(&self, arguments: &[&str]) -> Result<()> {
        self.change("refresh", arguments)
    }

    /// Replaces a role's key.
    pub fn rotate(&self, arguments: &[&str]) -> Result<()> {
        self.change("rotate-key", arguments)
    }

    /// A copy with the same keys, that goes its own way.
    pub fn fork(&self, name: &str) -> Result<Self> {
        let folder = self.folder.join(name);
        if folder.exists() {
            fs::remove_dir_all(&folder).map_err(Error::file("remove", &folder))?;
        }
        for part in ["keys", "repo"] {
            copy_tree(&self.folder.join(part), &folder.join(part))?;
        }
        Ok(Self { built: self.built.clone(), folder })
    }

    /// The files of a metadata role in the repository, oldest first.
    pub fn metadata(&self, role: &str) -> Result<Vec<PathBuf>> {
        Self::metadata_in(&self.served(), role)
    }

    /// [`Repo::metadata`] of a copy.
    pub fn metadata_in(served: &Path, role: &str) -> Result<Vec<PathBuf>> {
        let folder = served.join("metadata");
        let mut found = Vec::new();
        for entry in fs::read_dir(&folder).map_err(Error::file("read", &folder))? {
            let path = entry.map_err(Error::file("read", &folder))?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let version = name.strip_suffix(&format!(".{role}.json")).and_then(|v| v.parse::<u64>().ok());
            found.extend(version.map(|v| (v, path)));
        }
        found.sort();
        Ok(found.into_iter().map(|(_, path)| path).collect())
    }

    /// The file of a release in a copy of what is served.
    pub fn target_in(served: &Path, id: &str, version: &str) -> Result<PathBuf> {
        let folder = served.join("targets").join(VENDOR).join(id);
        let wanted = format!(".{id}-{version}.wasm");
        let entries = fs::read_dir(&folder).map_err(Error::file("read", &folder))?;
        let mut paths = entries.filter_map(|e| e.ok().map(|e| e.path()));
        paths
            .find(|p| p.to_string_lossy().ends_with(&wanted))
            .ok_or_else(|| Error::Unreadable { what: "targets", text: format!("no {wanted} in {}", folder.display()) })
    }

    /// The beginning of the id of one of a role's keys, from the names of the key files (`ROLE-ID.…`).
    pub fn first_key(&self, role: &str) -> Result<String> {
        let text =
            run(Command::new(self.built.iotwasm()).args(["--json", "keys", "list", "--dir", &self.path("keys")]))?;
        let parsed: Option<serde_json::Value> = serde_json::from_str(&text).ok();
        let keys = parsed.as_ref().and_then(|v| v.get("keys")).and_then(|k| k.as_array());
        let key = keys.and_then(|k| k.iter().find(|k| k.get("role").is_some_and(|r| r == role)));
        let id = key.and_then(|k| k.get("key_id")).and_then(|i| i.as_str()).map(str::to_owned);
        id.ok_or(Error::Unreadable { what: "the list of keys", text })
    }

    /// Keeps the repository as it is now, to be served later as old news.
    pub fn snapshot(&self, name: &str) -> Result<PathBuf> {
        let copy = self.folder.join(name);
        if copy.exists() {
            fs::remove_dir_all(&copy).map_err(Error::file("remove", &copy))?;
        }
        copy_tree(&self.served(), &copy)?;
        Ok(copy)
    }

    fn change(&self, what: &str, arguments: &[&str]) -> Result<()> {
        let (repo, keys) = (self.path("repo"), self.path("keys"));
        let mut all = vec!["repo", what, "--repo", &repo, "--keys", &keys];
        all.extend(arguments);
        self.iotwasm(&all)
    }

    fn iotwasm(&self, arguments: &[&str]) -> Result<()> {
        run(Command::new(self.built.iotwasm()).args(arguments)).map(drop)
    }

    fn path(&self, name: &str) -> String {
        self.folder.join(name).display().to_string()
    }
}

/// Copies a folder with all that is in it.
pub fn copy_tree(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to).map_err(Error::file("make", to))?;
    for entry in fs::read_dir(from).map_err(Error::file("read", from))? {
        let entry = entry.map_err(Error::file("read", from))?;
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        if source.is_dir() {
            copy_tree(&source, &target)?;
        } else {
            fs::copy(&source, &target).map_err(Error::file("copy", &source))?;
        }
    }
    Ok(())
}

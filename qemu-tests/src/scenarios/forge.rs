//! Firmware releases that something is wrong with, made from what the build made.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use crate::error::{Error, Result};
use crate::repo::{COMPATIBLE, copy_tree};
use crate::vm::run;
use crate::world::World;

/// A copy of a release under another version, to be spoiled.
pub(crate) struct Forged {
    pub(crate) folder: PathBuf,
    version: String,
}

impl Forged {
    pub(crate) fn new(world: &World, base: &str, version: &str) -> Result<Self> {
        let folder = world.scratch("forged-release")?;
        copy_tree(&world.built.firmware(base), &folder)?;
        Ok(Self { folder, version: version.to_owned() })
    }

    pub(super) fn bundle(&self) -> PathBuf {
        self.folder.join("firmware.raucb")
    }

    pub(super) fn uki(&self) -> PathBuf {
        self.folder.join("uki.efi")
    }

    /// Makes release.json say what the bundle now is.
    pub(super) fn describe(&self) -> Result<()> {
        let path = self.folder.join("release.json");
        let text = fs::read_to_string(&path).map_err(Error::file("read", &path))?;
        let mut release: Value =
            serde_json::from_str(&text).map_err(|_| Error::Unreadable { what: "release.json", text })?;
        let bytes = fs::read(self.bundle()).map_err(Error::file("read", self.bundle()))?;
        let (head, size) = bytes.split_at(bytes.len() - 8);
        let size = size.iter().fold(0, |sum, &byte| sum * 256 + usize::from(byte));
        let offset = head.len() - size;
        let tail = self.folder.join("tail");
        fs::write(&tail, &bytes[offset..]).map_err(Error::file("write", &tail))?;
        let bundle = &mut release["files"]["bundle"];
        bundle["length"] = json!(bytes.len());
        bundle["sha256"] = json!(sha256(&self.bundle())?);
        bundle["signature_offset"] = json!(offset);
        bundle["signature_sha256"] = json!(sha256(&tail)?);
        // What two builds of the bundle have in common is of no interest here.
        bundle["payload_length"] = json!(4096);
        release["version"] = json!(self.version);
        fs::write(&path, release.to_string()).map_err(Error::file("write", &path))
    }

    /// A bundle of the OEM's with the UKI as it now is, and a release.json that describes it.
    pub(super) fn with_its_uki(&self, world: &World) -> Result<()> {
        let esp = self.folder.join("esp.img");
        run(Command::new("mcopy").args(["-D", "o", "-i"]).arg(&esp).arg(self.uki()).arg("::/EFI/BOOT/BOOTX64.EFI"))?;
        let path = self.folder.join("release.json");
        let text = fs::read_to_string(&path).map_err(Error::file("read", &path))?;
        let mut release: Value =
            serde_json::from_str(&text).map_err(|_| Error::Unreadable { what: "release.json", text })?;
        for (name, file) in [("uki", self.uki()), ("esp", esp.clone())] {
            let length = fs::metadata(&file).map_err(Error::file("read", &file))?.len();
            release["files"][name]["length"] = json!(length);
            release["files"][name]["sha256"] = json!(sha256(&file)?);
        }
        fs::write(&path, release.to_string()).map_err(Error::file("write", &path))?;
        self.with_its_images(world, true)
    }

    /// A bundle of the OEM's with the images as they now are, and a release.json that describes it. Without an index of their
    /// blocks, RAUC fetches and writes all of them.
    pub(crate) fn with_its_images(&self, world: &World, has_index: bool) -> Result<()> {
        let content = world.scratch("whole-bundle")?;
        let mut manifest = manifest_head(COMPATIBLE, &self.version);
        for (slot, file) in [("rootfs", "rootfs.img"), ("boot", "esp.img")] {
            let index = if has_index { "adaptive=block-hash-index\n" } else { "" };
            manifest.push_str(&format!("[image.{slot}]\nfilename={file}\n{index}"));
            let (from, to) = (self.folder.join(file), content.join(file));
            fs::hard_link(&from, &to).map_err(Error::file("link", &to))?;
        }
        bundle(world, &content, &manifest, &self.bundle())?;
        self.describe()
    }
}

pub(super) fn sha256(path: &Path) -> Result<String> {
    let text = run(Command::new("sha256sum").arg(path))?;
    Ok(text.split_whitespace().next().unwrap_or_default().to_owned())
}

/// A bundle with little in it, signed by the OEM.
pub(super) fn small_bundle(world: &World, to: &Path, compatible: &str, version: &str) -> Result<()> {
    let content = world.scratch("small-bundle")?;
    // RAUC wants something that cannot be compressed to nothing.
    run(Command::new("dd")
        .args(["if=/dev/urandom", "bs=64k", "count=1", "status=none"])
        .arg(format!("of={}", content.join("rootfs.img").display())))?;
    let manifest = manifest_head(compatible, version) + "[image.rootfs]\nfilename=rootfs.img\n";
    bundle(world, &content, &manifest, to)
}

fn manifest_head(compatible: &str, version: &str) -> String {
    format!("[update]\ncompatible={compatible}\nversion={version}\n[bundle]\nformat=verity\n")
}

/// A bundle of that folder, signed by the OEM, in the place of what was there.
fn bundle(world: &World, content: &Path, manifest: &str, to: &Path) -> Result<()> {
    fs::write(content.join("manifest.raucm"), manifest).map_err(Error::file("write", content))?;
    if to.exists() {
        fs::remove_file(to).map_err(Error::file("remove", to))?;
    }
    let keys = world.built.folder.join("release-keys/rauc");
    let option = |name: &str, file: &str| format!("--{name}={}", keys.join(file).display());
    run(Command::new("rauc")
        .arg("bundle")
        .arg(option("cert", "signer.pem"))
        .arg(option("key", "signer.key"))
        .arg(option("intermediate", "intermediate.pem"))
        .arg("--mksquashfs-args=-comp zstd -b 64K")
        .arg(content)
        .arg(to))
    .map(drop)
}

/// Keys of the same kinds as the OEM's, and of somebody else.
pub(super) fn strangers_keys(world: &World) -> Result<PathBuf> {
    let keys = world.scratch("stranger")?.join("keys");
    run(Command::new(world.built.folder.join("bin/iotwasm-release")).args(["keys", "--out"]).arg(&keys))?;
    Ok(keys)
}

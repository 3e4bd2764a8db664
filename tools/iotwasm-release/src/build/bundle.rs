//! The RAUC bundle: root file system and ESP, in the format `verity`, for one slot group.

use std::fs::{self, DirBuilder};
use std::os::unix::fs::FileExt;
use std::path::Path;

use iotwasm_firmware::release::{BLOCK, Bundle};
use iotwasm_kit::paths::RAUC_CONFIG;
use jiff::Timestamp;

use super::{BUNDLE, Build, ESP, ROOTFS, artifact, hash};
use crate::error::Error;
use crate::tool::Tool;

/// What a device verifies bundles with, as the layer's system.conf names it.
const KEYRING: &str = "/etc/rauc/keyring.pem";

/// How RAUC is to make the bundle's squashfs. The images in it are compressed already, or zeros; small blocks, since a device
/// that fetches a part of an image fetches whole blocks.
const SQUASHFS: &str = "-comp zstd -b 64K -all-time 0 -mkfs-time 0 -root-mode 0755 -all-root -no-xattrs";

/// Makes the bundle in the folder of the release, where there is a key to sign it.
pub(super) fn make(args: &Build, time: Timestamp, dir: &Path) -> Result<Option<Bundle>, Error> {
    let keys = &args.bundle;
    let (Some(cert), Some(key)) = (&keys.rauc_cert, &keys.rauc_key) else { return Ok(None) };
    let content = dir.join("bundle");
    let wrote =
        |path: &Path, result: std::io::Result<()>| result.map_err(|err| Error::Write { path: path.to_owned(), err });
    wrote(&content, DirBuilder::new().create(&content))?;
    for name in [ROOTFS, ESP] {
        let path = content.join(name);
        wrote(&path, fs::hard_link(dir.join(name), &path))?;
    }
    let path = content.join("manifest.raucm");
    wrote(&path, fs::write(&path, manifest(args, time)))?;
    let mut tool = Tool::new("rauc", "rauc")
        .arg("bundle")
        .option("--cert", cert)
        .option("--key", key)
        .option("--mksquashfs-args", SQUASHFS);
    for intermediate in &keys.rauc_intermediate {
        tool = tool.option("--intermediate", intermediate);
    }
    let out = dir.join(BUNDLE);
    tool.arg(&content).arg(&out).run()?;
    wrote(&content, fs::remove_dir_all(&content))?;
    would_be_taken(&args.root, &out)?;
    let file = artifact(dir, BUNDLE)?;
    let payload_length = squashfs_length(&out)?;
    let payload_sha256 = hash(&out, 0, payload_length)?.0;
    let signature_offset = signature_offset(&out, file.length)?;
    let signature_sha256 = hash(&out, signature_offset, u64::MAX)?.0;
    Ok(Some(Bundle { file, payload_length, payload_sha256, signature_offset, signature_sha256 }))
}

/// A device with this tree must take this bundle, or it could take none after it.
fn would_be_taken(root: &Path, bundle: &Path) -> Result<(), Error> {
    let in_tree = |path: &str| root.join(path.trim_start_matches('/'));
    let keyring = in_tree(KEYRING);
    if !keyring.exists() {
        iotwasm_kit::warn!("the tree has no {KEYRING}: a device with this firmware could not be updated any more");
        return Ok(());
    }
    let rauc = Tool::new("rauc", "rauc").option("--conf", in_tree(RAUC_CONFIG)).option("--keyring", &keyring);
    match rauc.arg("info").arg(bundle).run() {
        Ok(_) => Ok(()),
        Err(Error::Failed { words, .. }) => Err(Error::Keyring { path: KEYRING, words }),
        Err(err) => Err(err),
    }
}

/// RAUC's manifest. Both images by their blocks: of the ESP, too, only the command line changes with most releases.
fn manifest(args: &Build, time: Timestamp) -> String {
    format!(
        "[update]\ncompatible={}\nversion={}\nbuild={time}\n\n[bundle]\nformat=verity\n\n\
         [image.rootfs]\nfilename={ROOTFS}\nadaptive=block-hash-index\n\n\
         [image.boot]\nfilename={ESP}\nadaptive=block-hash-index\n",
        args.compatible, args.version
    )
}

/// Where the signature of a bundle of this length begins: its length stands in the last eight bytes, big-endian.
fn signature_offset(path: &Path, length: u64) -> Result<u64, Error> {
    const SIZE: u64 = 8;
    let mut size = [0; SIZE as usize];
    let at = length.saturating_sub(SIZE);
    let read = fs::File::open(path).and_then(|file| file.read_exact_at(&mut size, at));
    read.map_err(|err| Error::Read { path: path.to_owned(), err })?;
    at.checked_sub(u64::from_be_bytes(size)).ok_or_else(|| Error::NoSignature { path: path.to_owned() })
}

/// Length of the squashfs that a file begins with, padded to whole blocks: bytes_used of its superblock.
fn squashfs_length(path: &Path) -> Result<u64, Error> {
    let mut head = [0; 48];
    let read = fs::File::open(path).and_then(|file| file.read_exact_at(&mut head, 0));
    read.map_err(|err| Error::Read { path: path.to_owned(), err })?;
    let (magic, used) = (&head[..4], u64::from_le_bytes(std::array::from_fn(|i| head[40 + i])));
    match magic {
        b"hsqs" => Ok(used.next_multiple_of(BLOCK)),
        _ => Err(Error::NotASquashfs { path: path.to_owned() }),
    }
}

//! The root file system: a squashfs with dm-verity's hash tree behind it.

use std::fs::{self, OpenOptions};
use std::path::Path;

use iotwasm_firmware::Digest;
use iotwasm_firmware::release::{BLOCK, Verity};

use super::Build;
use super::tree::EMPTY;
use crate::error::Error;
use crate::tool::Tool;

/// What changes with most releases, in the order in which it is laid out: behind everything else. An image is fetched by
/// blocks of 4 KiB that the device does not have yet, and whatever lies behind a file that grew has moved.
const CHANGES: [&str; 10] = [
    "/usr/lib/modules-load.d",
    "/etc",
    "/usr/lib/systemd/system",
    "/usr/share/iotwasm",
    "/usr/libexec/iotwasm",
    "/usr/bin/iotwasm",
    "/usr/bin/capd",
    "/usr/bin/attestd",
    "/usr/bin/wasm-supervisord",
    "/usr/bin/ota-updated",
];
/// Written by every build: where nothing else changes, nothing else moves.
const LAST: [&str; 2] = ["/usr/lib/os-release", "/usr/lib/iotwasm"];

pub(super) fn make(args: &Build, out: &Path) -> Result<Verity, Error> {
    let sort = out.with_extension("sort");
    fs::write(&sort, order(args)).map_err(|err| Error::Write { path: sort.clone(), err })?;
    // Time stamps say when a file was built, not what it is; all the same, and unchanged files stay unchanged.
    Tool::new("mksquashfs", "squashfs-tools")
        .arg(&args.root)
        .arg(out)
        .args(["-comp", "zstd", "-Xcompression-level", &args.compression_level.to_string(), "-b", "128K"])
        .args([
            "-noappend",
            "-all-time",
            "0",
            "-mkfs-time",
            "0",
            "-root-mode",
            "0755",
            "-no-progress",
            "-quiet",
            "-sort",
        ])
        .arg(&sort)
        .args(["-wildcards", "-e"])
        .args(EMPTY.map(|name| format!("{name}/*")))
        .run()?;
    fs::remove_file(&sort).map_err(|err| Error::Write { path: sort, err })?;

    let failed = |err| Error::Write { path: out.to_owned(), err };
    let file = OpenOptions::new().write(true).open(out).map_err(failed)?;
    let hash_offset = file.metadata().map_err(failed)?.len().next_multiple_of(BLOCK);
    file.set_len(hash_offset).map_err(failed)?;
    let (data, _) = super::hash(out, 0, u64::MAX)?;
    // One salt for a product, so that unchanged data keep the hash blocks that they had.
    let salt = Digest::of(format!("iotwasm dm-verity salt\0{}", args.compatible).as_bytes());
    let text = Tool::new("veritysetup", "cryptsetup-bin")
        .arg("format")
        .args([out, out])
        .args(["--format=1", "--hash=sha256", "--data-block-size=4096", "--hash-block-size=4096"])
        .option("--hash-offset", hash_offset.to_string())
        .option("--data-blocks", (hash_offset / BLOCK).to_string())
        .option("--salt", salt.to_string())
        .option("--uuid", uuid(&data))
        .run()?;
    let root_hash = text.lines().find_map(|line| line.strip_prefix("Root hash:")?.trim().parse().ok());
    let root_hash = root_hash.ok_or(Error::Answer { tool: "veritysetup", what: "the root hash" })?;
    Ok(Verity { root_hash, hash_offset, salt })
}

/// mksquashfs's sort file: what has the lowest number is laid out last. Only what is there may be named.
fn order(args: &Build) -> String {
    let own = CHANGES.into_iter().chain(args.changes.iter().map(String::as_str)).chain(LAST);
    let mut text = String::new();
    for (at, path) in own.enumerate() {
        let path = path.trim_matches('/');
        if !path.is_empty() && fs::symlink_metadata(args.root.join(path)).is_ok_and(|found| !found.is_symlink()) {
            text.push_str(&format!("{} -{}\n", path.replace('\\', "\\\\").replace(' ', "\\ "), at + 1));
        }
    }
    text
}

/// A UUID of version 8 (RFC 9562, 5.8) from a digest: the same image has the same one.
fn uuid(digest: &Digest) -> String {
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&digest.as_bytes()[..16]);
    bytes[6] = bytes[6] & 0x0F | 0x80;
    bytes[8] = bytes[8] & 0x3F | 0x80;
    let hex = hex::encode(bytes);
    [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uuid_is_one() {
        assert_eq!(uuid(&Digest::from_bytes([0xFF; 32])), "ffffffff-ffff-8fff-bfff-ffffffffffff");
    }
}

//! The EFI system partition: a FAT file system with one file, where firmware looks for it.

use std::fs::{self, File, FileTimes};
use std::path::Path;
use std::time::{Duration, SystemTime};

use super::Build;
use crate::error::Error;
use crate::tool::Tool;

/// The first moment that FAT can write down, 1980-01-01, in seconds since 1970. Every entry has it.
const FAT_EPOCH: u64 = 315_532_800;
/// What FAT32 itself takes at most of an ESP of 2 GiB, in bytes.
const OVERHEAD: u64 = 4 << 20;

pub(super) fn make(args: &Build, uki: &Path, out: &Path) -> Result<(), Error> {
    let length = fs::metadata(uki).map_err(|err| Error::Read { path: uki.to_owned(), err })?.len();
    let size = u64::from(args.esp_size) << 20;
    if length + OVERHEAD > size {
        return Err(Error::EspTooSmall { length, mib: args.esp_size });
    }
    let failed = |err| Error::Write { path: out.to_owned(), err };
    File::create(out).and_then(|file| file.set_len(size)).map_err(failed)?;
    Tool::new("mkfs.vfat", "dosfstools").args(["-F32", "-n", "BOOT", "--invariant"]).arg(out).run()?;

    let time = SystemTime::UNIX_EPOCH + Duration::from_secs(FAT_EPOCH);
    let stamped = File::options()
        .write(true)
        .open(uki)
        .and_then(|file| file.set_times(FileTimes::new().set_accessed(time).set_modified(time)));
    stamped.map_err(|err| Error::Write { path: uki.to_owned(), err })?;
    let epoch = FAT_EPOCH as i64;
    Tool::new("mmd", "mtools").epoch(epoch).arg("-i").arg(out).args(["::/EFI", "::/EFI/BOOT"]).run()?;
    let place = format!("::/EFI/BOOT/{}", args.efi_name);
    Tool::new("mcopy", "mtools").epoch(epoch).args(["-m", "-i"]).arg(out).arg(uki).arg(place).run()?;
    Ok(())
}

//! Hostile: writes file after file to its directory, far beyond its quota, and is healthy as long as that is allowed. In
//! many files, because the size of a single one is bounded by the quota in another way.

use core::time::Duration;
use std::fs;

use iotwasm_guest::{Failure, Payload, Wait, health, payload, wait};

/// Size of each file, in bytes: the manifest's quota of 64 KiB is passed after a few seconds.
const FILE: usize = 16 * 1024;

#[derive(Default)]
struct FillsDisk;

impl Payload for FillsDisk {
    fn self_test(&mut self) -> Result<(), Failure> {
        fs::write("/state/ballast", [])?;
        Ok(())
    }

    fn run(&mut self) {
        let mut files = 0;
        while wait(Duration::from_secs(1)) == Wait::Continue {
            match fs::write(format!("/state/ballast-{files}"), [0xa5; FILE]) {
                Ok(()) => {
                    files += 1;
                    health::healthy(format_args!("{} KiB written", files * FILE / 1024));
                }
                Err(error) => health::degraded(format_args!("stopped at {files} files: {error}")),
            }
        }
    }
}

payload!(FillsDisk);

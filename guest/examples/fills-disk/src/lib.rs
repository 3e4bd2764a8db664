//! Hostile: writes to its directory far beyond its quota, and is healthy as long as that is allowed.

use core::time::Duration;
use std::fs::File;
use std::io::Write;

use iotwasm_guest::{Failure, Payload, Wait, health, payload, wait};

/// Written in each wake-up, in bytes: the manifest's quota of 64 KiB is passed after a few seconds.
const CHUNK: usize = 16 * 1024;

#[derive(Default)]
struct FillsDisk {
    file: Option<File>,
}

impl Payload for FillsDisk {
    fn self_test(&mut self) -> Result<(), Failure> {
        self.file = Some(File::create("/state/ballast")?);
        Ok(())
    }

    fn run(&mut self) {
        let Some(file) = &mut self.file else { return };
        let mut written = 0;
        while wait(Duration::from_secs(1)) == Wait::Continue {
            match file.write_all(&[0xa5; CHUNK]) {
                Ok(()) => {
                    written += CHUNK;
                    health::healthy(format_args!("{} KiB written", written / 1024));
                }
                Err(error) => health::degraded(format_args!("stopped at {} KiB: {error}", written / 1024)),
            }
        }
    }
}

payload!(FillsDisk);

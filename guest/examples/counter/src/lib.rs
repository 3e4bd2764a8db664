//! The example to start from: it counts, tells the journal, and keeps its count in a directory that survives restarts
//! and updates.

use core::time::Duration;
use std::fs;
use std::io::ErrorKind;

use iotwasm_guest::{Failure, Payload, Wait, fail, health, info, payload, storage, wait, warn};

/// The manifest shows us one directory of the device here.
const COUNT: &str = "/state/count";
/// How often it counts. Well below the manifest's heartbeat of 10 s.
const PERIOD: Duration = Duration::from_secs(1);

#[derive(Default)]
struct Counter {
    count: u64,
    /// From the environment in the manifest, so that the journal shows which release speaks.
    version: String,
}

impl Payload for Counter {
    fn self_test(&mut self) -> Result<(), Failure> {
        self.version = std::env::var("VERSION").unwrap_or_else(|_| "without a version".to_owned());
        self.count = match fs::read_to_string(COUNT) {
            Ok(text) => match text.trim().parse() {
                Ok(count) => count,
                Err(_) => fail!("{COUNT} holds {text:?}, which is no count"),
            },
            Err(error) if error.kind() == ErrorKind::NotFound => 0,
            Err(error) => fail!("could not read {COUNT}: {error}"),
        };
        self.save()?;
        Ok(())
    }

    fn run(&mut self) {
        info!("counter {} begins at {}", self.version, self.count);
        while wait(PERIOD) == Wait::Continue {
            self.count += 1;
            match self.save() {
                Ok(()) => health::healthy(format_args!("counter {} at {}", self.version, self.count)),
                Err(error) => {
                    warn!("could not save the count: {error}");
                    health::degraded("the count is not saved");
                }
            }
            if self.count % 10 == 0 {
                info!("counter {} at {}", self.version, self.count);
            }
        }
        info!("counter {} ends at {}", self.version, self.count);
    }
}

impl Counter {
    fn save(&self) -> std::io::Result<()> {
        storage::replace(COUNT, self.count.to_string())
    }
}

payload!(Counter);

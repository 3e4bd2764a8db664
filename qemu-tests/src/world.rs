//! What scenarios share: one device that stays booted from scenario to scenario, two web servers, and for each scenario a
//! repository of its own.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::accel::Accel;
use crate::device::{Settings, UNITS};
use crate::error::{Error, Result};
use crate::repo::{Built, Release, Repo};
use crate::server::{Fault, Server};
use crate::uefi::Uefi;
use crate::vm::{Network, Vm};

/// Device and servers.
#[derive(Debug)]
pub struct World {
    /// What the build made.
    pub built: Built,
    /// The device.
    pub vm: Vm,
    /// Behind `SERVER_URL`.
    pub server: Server,
    /// Behind `MIRROR_URL`.
    pub mirror: Server,
    folder: PathBuf,
    standing: Option<Standing>,
}

/// The payload of the standing device.
pub const COUNTER: &str = "counter";

/// A device that has [`COUNTER`] committed and an honest repository, for scenarios that end as they began.
#[derive(Debug)]
struct Standing {
    repo: Repo,
    committed: String,
    minor: u32,
}

impl World {
    /// A new device, its power off.
    pub fn create(built: &Built, name: &str, accel: Accel) -> Result<Self> {
        let folder = built.folder.join("vm").join(name);
        let nothing = built.test_repository().join("repo");
        let server = Server::start(&nothing)?;
        let mirror = Server::start(&nothing)?;
        let network = Network { server: Some(server.port()), mirror: Some(mirror.port()) };
        let vm = Vm::create(&folder.join("device"), &built.disk(), accel, network, Uefi::Plain)?;
        Ok(Self { built: built.clone(), vm, server, mirror, folder, standing: None })
    }

    /// Power on, where it is off, and wait until everything has started. Gives how long that took.
    pub fn ensure_booted(&mut self) -> Result<Duration> {
        let started = std::time::Instant::now();
        if !self.vm.is_on() {
            self.vm.boot()?;
        }
        self.vm.settle()?;
        Ok(started.elapsed())
    }

    /// A device with [`COUNTER`] committed, in trial for `confirmation_s` whatever comes next, and its repository served
    /// honestly. Made where the last scenario did not leave one. Gives the committed version.
    pub fn stand(&mut self, confirmation_s: u64) -> Result<String> {
        if let Some(standing) = &self.standing {
            let (committed, served) = (standing.committed.clone(), standing.repo.served());
            self.serve(&served);
            self.ensure_booted()?;
            self.vm.adjust(&Settings { confirmation_s, ..Settings::of(COUNTER) })?;
            self.vm.wait_running(COUNTER, &committed)?;
            return Ok(committed);
        }
        let repo = self.begin(&Settings::of(COUNTER))?;
        let committed = "1.0.0".to_owned();
        repo.publish(&Release::new(COUNTER, COUNTER, &committed))?;
        self.vm.expect_verdict(COUNTER, &committed, "committed")?;
        self.vm.wait_running(COUNTER, &committed)?;
        self.vm.adjust(&Settings { confirmation_s, ..Settings::of(COUNTER) })?;
        self.vm.wait_running(COUNTER, &committed)?;
        self.standing = Some(Standing { repo, committed: committed.clone(), minor: 0 });
        Ok(committed)
    }

    /// The standing device's repository, and a version that was never in it.
    pub fn next_version(&mut self) -> Result<(&Repo, String)> {
        let standing = self.standing.as_mut().ok_or(Error::Off)?;
        standing.minor += 1;
        Ok((&standing.repo, format!("1.{}.0", standing.minor)))
    }

    /// The standing device's repository.
    pub fn standing_repo(&self) -> Result<&Repo> {
        self.standing.as_ref().map(|s| &s.repo).ok_or(Error::Off)
    }

    /// The standing device has committed another version.
    pub fn now_stands(&mut self, version: &str) {
        if let Some(standing) = &mut self.standing {
            version.clone_into(&mut standing.committed);
        }
    }

    /// What the scenario leaves is not what [`World::stand`] promises.
    pub fn fell(&mut self) {
        self.standing = None;
    }

    /// A repository of the scenario's own, served by both servers, and a device as from the factory.
    pub fn begin(&mut self, settings: &Settings) -> Result<Repo> {
        self.fell();
        let repo = self.repo("repository")?;
        self.serve(&repo.served());
        self.ensure_booted()?;
        self.vm.provision(settings)?;
        Ok(repo)
    }

    /// A device fresh from the factory in the old one's place: disk, variables and TPM; its power off.
    pub fn replace_device(&mut self, uefi: Uefi) -> Result<()> {
        self.fell();
        let network = Network { server: Some(self.server.port()), mirror: Some(self.mirror.port()) };
        let (folder, image, accel) = (self.vm.folder().to_owned(), self.vm.image().to_owned(), self.vm.accel());
        self.vm.power_cut()?;
        let processors = self.vm.processors();
        self.vm = Vm::create(&folder, &image, accel, network, uefi)?;
        self.vm.set_processors(processors);
        Ok(())
    }

    /// A folder of this world's own for what a scenario makes, empty.
    pub fn scratch(&self, name: &str) -> Result<PathBuf> {
        let folder = self.folder.join(name);
        if folder.exists() {
            std::fs::remove_dir_all(&folder).map_err(Error::file("remove", &folder))?;
        }
        std::fs::create_dir_all(&folder).map_err(Error::file("make", &folder))?;
        Ok(folder)
    }

    /// Another repository, not served yet.
    pub fn repo(&self, name: &str) -> Result<Repo> {
        Repo::create(&self.built, &self.folder.join(name))
    }

    /// A repository with keys that nobody trusts, not served yet.
    pub fn forged_repo(&self) -> Result<Repo> {
        Repo::forged(&self.built, &self.folder.join("forged"))
    }

    /// Both servers serve that folder, without a fault.
    pub fn serve(&self, folder: &Path) {
        for server in [&self.server, &self.mirror] {
            server.serve(folder);
            server.set_fault(Fault::None);
            server.forget();
        }
    }

    /// What helps to understand a failure.
    pub fn evidence(&mut self) -> String {
        let mut text = String::new();
        let log = self.vm.serial_log();
        let serial = std::fs::read(&log).unwrap_or_default();
        let serial = String::from_utf8_lossy(&serial);
        let tail: Vec<&str> = serial.lines().rev().take(40).collect();
        text.push_str(&format!("--- end of {}\n", log.display()));
        for line in tail.iter().rev() {
            text.push_str(&plain(line));
            text.push('\n');
        }
        if self.vm.is_on() {
            let history = self.vm.run(&["iotwasm", "device", "history"]).unwrap_or_else(|e| e.to_string());
            text.push_str(&format!("--- history\n{history}"));
            for unit in UNITS {
                let journal = self.vm.journal(unit, 60).unwrap_or_else(|e| e.to_string());
                text.push_str(&format!("--- journal of {unit}\n{journal}"));
            }
        }
        let seen = self.server.seen();
        text.push_str(&format!("--- last requests of {}\n", seen.len()));
        for request in seen.iter().rev().take(15).rev() {
            text.push_str(&format!("{} from {:?}: {} bytes\n", request.path, request.from, request.sent));
        }
        text
    }
}

/// A line of the console without its colours and cursor movements.
fn plain(line: &str) -> String {
    let mut text = String::new();
    let mut rest = line.chars();
    while let Some(c) = rest.next() {
        if c == '\u{1b}' {
            // Sequences end with a letter; `ESC [` begins most of them.
            rest.by_ref().find(char::is_ascii_alphabetic);
        } else if !c.is_control() {
            text.push(c);
        }
    }
    text.trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_of_the_console_are_left_out() {
        assert_eq!(
            plain("[\u{1b}[0;32m  OK  \u{1b}[0m] Mounted \u{1b}[0;1;39mtmp.mount\u{1b}[0m.\r"),
            "[  OK  ] Mounted tmp.mount."
        );
    }
}

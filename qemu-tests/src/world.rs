//! What scenarios share: one device that stays booted from scenario to scenario, two web servers, and for each scenario a
//! repository of its own.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::accel::Accel;
use crate::device::{Settings, UNITS};
use crate::error::Result;
use crate::repo::{Built, Repo};
use crate::server::{Fault, Server};
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
}

impl World {
    /// A new device, its power off.
    pub fn create(built: &Built, name: &str, accel: Accel) -> Result<Self> {
        let folder = built.folder.join("vm").join(name);
        let nothing = built.test_repository().join("repo");
        let server = Server::start(&nothing)?;
        let mirror = Server::start(&nothing)?;
        let network = Network { server: Some(server.port()), mirror: Some(mirror.port()) };
        let vm = Vm::create(&folder.join("device"), &built.disk(), accel, network)?;
        Ok(Self { built: built.clone(), vm, server, mirror, folder })
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

    /// A repository of the scenario's own, served by both servers, and a device as from the factory.
    pub fn begin(&mut self, settings: &Settings) -> Result<Repo> {
        let repo = self.repo("repository")?;
        self.serve(&repo.served());
        self.ensure_booted()?;
        self.vm.provision(settings)?;
        Ok(repo)
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
            text.push_str(line.trim_end());
            text.push('\n');
        }
        if self.vm.is_on() {
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

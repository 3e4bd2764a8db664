//! Settings: `wasm-supervisord.toml`. Every one has a default that works.

use iotwasm_kit::access::Access;
use serde::Deserialize;

/// All settings.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Who may call. `observe`: GetStatus and Monitor, by default everyone who can open the socket. `control`: Start,
    /// Stop and Confirm, by default iotwasm-ota (and root, always).
    pub access: Access,
    /// What every runner gets beside what its manifest asks for.
    pub runner: Runner,
    /// What payloads keep on the disk.
    pub storage: Storage,
}

/// What every runner gets beside what its manifest asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Runner {
    /// Memory for the runtime itself, in MiB, on top of the manifest's pages and sixteen times the module's size.
    /// Default 24; at least 8.
    pub overhead_mib: u32,
    /// Most tasks (threads) of one runner. Default 16; at least 8: the runtime makes a few threads of its own.
    pub tasks: u32,
    /// Share of one processor for each runner, in percent; 200 is two processors. Default 100; at least 1.
    pub cpu_percent: u32,
}

/// What payloads keep on the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Storage {
    /// How often a running payload's folders are measured against their quotas, in seconds. Default 5; at least 1.
    pub check_s: u32,
    /// What must stay free on the disk, in KiB: with less, the payload that wrote the most since is stopped. Default
    /// 8192; 0 for no such floor.
    pub reserve_kib: u32,
}

impl Default for Config {
    fn default() -> Self {
        let access = Access { control: vec!["iotwasm-ota".to_owned()], ..Access::default() };
        Self { access, runner: Runner::default(), storage: Storage::default() }
    }
}

impl Default for Runner {
    fn default() -> Self {
        Self { overhead_mib: 24, tasks: 16, cpu_percent: 100 }
    }
}

impl Default for Storage {
    fn default() -> Self {
        Self { check_s: 5, reserve_kib: 8192 }
    }
}

/// A setting outside its range.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{key} is {value} in wasm-supervisord.toml; it must be at least {least}")]
pub struct TooLittle {
    /// The key, with its table.
    pub key: &'static str,
    /// What the file says.
    pub value: u32,
    /// What it must be at least.
    pub least: u32,
}

impl Config {
    /// Check the ranges.
    ///
    /// # Errors
    /// Names the first key that is out of its range.
    pub fn check(self) -> Result<Self, TooLittle> {
        for (key, value, least) in [
            ("runner.overhead_mib", self.runner.overhead_mib, 8),
            ("runner.tasks", self.runner.tasks, 8),
            ("runner.cpu_percent", self.runner.cpu_percent, 1),
            ("storage.check_s", self.storage.check_s, 1),
        ] {
            if value < least {
                return Err(TooLittle { key, value, least });
            }
        }
        Ok(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_in_range_and_zero_is_not() {
        assert!(Config::default().check().is_ok());
        let config = Config { storage: Storage { check_s: 0, ..Storage::default() }, ..Config::default() };
        assert_eq!(config.check().unwrap_err().key, "storage.check_s");
    }
}

//! The settings: `ota-updated.toml`, `ota-updated.d/*.toml`, and one file in `payloads.d` for each payload.

use std::path::PathBuf;
use std::time::Duration;

use iotwasm_firmware::state;
use iotwasm_kit::access::Access;
use iotwasm_kit::report::{Code, Failure};
use iotwasm_kit::{config, paths};
use iotwasm_payload::{PayloadId, Wanted, slot};
use serde::Deserialize;

use crate::args::Folders;
use crate::firmware::trial::LONGEST_RULES;
use crate::firmware::when::Window;

/// The name of the settings file, and of the daemon.
pub const DAEMON: &str = "ota-updated";

/// The daemon's settings. Every one has a default; without a repository it only watches over what is installed.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// URLs of the repository and its mirrors, tried in this order. Metadata is below `metadata/`, payloads below
    /// `targets/`. Default: none.
    pub repositories: Vec<String>,
    /// PEM file of the certificate authorities that may vouch for an https server. Default: the system's.
    pub ca_file: Option<PathBuf>,
    /// Seconds between two checks. Default 3600; 1 to 604 800 (a week).
    pub poll_interval_s: u64,
    /// How far a check is moved at random, either way, in percent of the interval. Default 20; 0 to 100.
    pub poll_jitter_percent: u8,
    /// Longest random pause before the first check after a start, in seconds; in a trial of firmware there is none. Default 10;
    /// 0 to 86 400.
    pub first_check_s: u64,
    /// How often a trial may be started: a reboot, a crash of this daemon or of the supervisor costs one. Default 3;
    /// 1 to 10.
    pub trial_boots: u8,
    /// Shortest confirmation period, whatever the payload's manifest says, in seconds. Default 0.
    pub confirmation_min_s: u64,
    /// Longest confirmation period, whatever the payload's manifest says, in seconds. Default 86 400 (a day).
    pub confirmation_max_s: u64,
    /// Largest payload that is fetched, in KiB. Default 8192 (8 MiB, the most that the static check takes); 1 to 8192.
    pub maximum_payload_kib: u64,
    /// What must stay free on the data partition after a payload was fetched and written, in KiB. Default 4096.
    pub disk_reserve_kib: u64,
    /// How long to wait for a server to accept a connection, in seconds. Default 15; 1 to 600.
    pub connect_timeout_s: u64,
    /// How long a transfer may stand still before the next mirror is tried, in seconds. Default 30; 1 to 600.
    pub stall_timeout_s: u64,
    /// How long to wait for wasm-supervisord when it is not there, in seconds. Default 120; 1 to 3600.
    pub supervisor_patience_s: u64,
    /// Who may ask and who may order a check.
    pub access: Access,
    /// Firmware.
    pub firmware: FirmwareConfig,
}

/// The settings about firmware.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FirmwareConfig {
    /// Whether new firmware is installed. What is under way goes on all the same. Default: yes.
    pub enabled: bool,
    /// How often new firmware may be booted until it is kept. Default 2; 1 to 10.
    pub trial_boots: u8,
    /// How long everything must be well on new firmware, without a break, until it is kept, in seconds. Default 120; 1 to
    /// 1200. This, `ready_within_s` and (if it counts) `server_within_s` are at most 1500 together: a trial boot is ended from
    /// outside after half an hour.
    pub confirmation_s: u64,
    /// How long it may take until everything is well for the first time, in seconds. Default 300; 1 to 1200.
    pub ready_within_s: u64,
    /// Whether new firmware is kept only if it reached the repository. Default: yes.
    pub require_server: bool,
    /// How long that may take, in seconds. Default 900; 1 to 1200.
    pub server_within_s: u64,
    /// How long a payload may delay a restart, in seconds. Default 3600; 0 to 604 800 (a week).
    pub delay_max_s: u64,
    /// When firmware may be installed and the device restarted, in UTC: `02:00-04:30`, `sun 22:00-02:00`. Default: always.
    pub windows: Vec<Window>,
    /// Least charge of the battery where the device has one and nothing else supplies it, in percent. Default 30; 0 to 100.
    pub minimum_battery_percent: u8,
}

impl Default for FirmwareConfig {
    fn default() -> Self {
        Self {
            enabled: true,
            trial_boots: 2,
            confirmation_s: 120,
            ready_within_s: 300,
            require_server: true,
            server_within_s: 900,
            delay_max_s: 3600,
            windows: Vec::new(),
            minimum_battery_percent: 30,
        }
    }
}

impl FirmwareConfig {
    fn validate(&self) -> Result<(), Error> {
        within("firmware.trial_boots", self.trial_boots.into(), 1, state::MAX_BOOTS.into())?;
        within("firmware.confirmation_s", self.confirmation_s, 1, 1200)?;
        within("firmware.ready_within_s", self.ready_within_s, 1, 1200)?;
        within("firmware.server_within_s", self.server_within_s, 1, 1200)?;
        let server = if self.require_server { self.server_within_s } else { 0 };
        let sum = Duration::from_secs(self.ready_within_s + self.confirmation_s + server);
        if sum > LONGEST_RULES {
            return Err(Error::TrialTooLong { sum, with_server: self.require_server });
        }
        within("firmware.delay_max_s", self.delay_max_s, 0, 604_800)?;
        within("firmware.minimum_battery_percent", self.minimum_battery_percent.into(), 0, 100)
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            repositories: Vec::new(),
            ca_file: None,
            poll_interval_s: 3600,
            poll_jitter_percent: 20,
            first_check_s: 10,
            trial_boots: 3,
            confirmation_min_s: 0,
            confirmation_max_s: 86_400,
            maximum_payload_kib: 8192,
            disk_reserve_kib: 4096,
            connect_timeout_s: 15,
            stall_timeout_s: 30,
            supervisor_patience_s: 120,
            access: Access::default(),
            firmware: FirmwareConfig::default(),
        }
    }
}

/// What is wrong with the settings.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file could not be read, or has a key or a value that it must not have.
    #[error("could not load the settings")]
    Load(#[source] config::Error),
    /// A number outside its range.
    #[error("{key} is {value}; it must be from {min} to {max}")]
    OutOfRange {
        /// The key.
        key: &'static str,
        /// What the settings say.
        value: u64,
        /// Least.
        min: u64,
        /// Most.
        max: u64,
    },
    /// A trial of firmware could not be decided before it is ended from outside.
    #[error(
        "firmware.ready_within_s + firmware.confirmation_s{} is {} s; it must be at most {} s, because a trial boot is ended \
         after half an hour",
        if *with_server { " + firmware.server_within_s" } else { "" }, sum.as_secs(), LONGEST_RULES.as_secs()
    )]
    TrialTooLong {
        /// What the settings come to.
        sum: Duration,
        /// Whether the server counts.
        with_server: bool,
    },
    /// A repository's URL is none.
    #[error("repositories: {url:?} is no http:// or https:// URL")]
    Url {
        /// The URL.
        url: String,
    },
    /// Two files name one payload.
    #[error("{} names the payload {id}, which another file names already", path.display())]
    Twice {
        /// The later file.
        path: PathBuf,
        /// The payload.
        id: PayloadId,
    },
    /// An access list names somebody who does not exist.
    #[error("access")]
    Access(#[source] iotwasm_kit::access::Error),
}

impl Failure for Error {
    fn exit_code(&self) -> Code {
        Code::Config
    }
}

/// Reads the settings and the list of payloads.
///
/// # Errors
///
/// Names the file and the key.
pub fn load(folders: &Folders) -> Result<(Config, Vec<Wanted>), Error> {
    let config: Config = config::load_from(&folders.vendor, &folders.local, DAEMON).map_err(Error::Load)?;
    config.validate()?;
    let files = config::load_each::<Wanted>(&folders.vendor, &folders.local, paths::PAYLOADS_D).map_err(Error::Load)?;
    let mut wanted: Vec<Wanted> = Vec::new();
    for (path, one) in files {
        if wanted.iter().any(|other| other.id == one.id) {
            return Err(Error::Twice { path, id: one.id });
        }
        wanted.push(one);
    }
    Ok((config, wanted))
}

impl Config {
    fn validate(&self) -> Result<(), Error> {
        within("poll_interval_s", self.poll_interval_s, 1, 604_800)?;
        within("poll_jitter_percent", self.poll_jitter_percent.into(), 0, 100)?;
        within("first_check_s", self.first_check_s, 0, 86_400)?;
        within("trial_boots", self.trial_boots.into(), 1, slot::MAX_BOOTS.into())?;
        within("confirmation_max_s", self.confirmation_max_s, 1, 604_800)?;
        within("confirmation_min_s", self.confirmation_min_s, 0, self.confirmation_max_s)?;
        within("maximum_payload_kib", self.maximum_payload_kib, 1, 8192)?;
        within("disk_reserve_kib", self.disk_reserve_kib, 0, 1024 * 1024 * 1024)?;
        within("connect_timeout_s", self.connect_timeout_s, 1, 600)?;
        within("stall_timeout_s", self.stall_timeout_s, 1, 600)?;
        within("supervisor_patience_s", self.supervisor_patience_s, 1, 3600)?;
        self.firmware.validate()?;
        let is_url = |url: &str| {
            let rest = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://"));
            rest.is_some_and(|rest| !rest.is_empty() && !rest.starts_with('/'))
        };
        match self.repositories.iter().find(|url| !is_url(url)) {
            Some(url) => Err(Error::Url { url: url.clone() }),
            None => Ok(()),
        }
    }

    /// The confirmation period of a payload whose manifest asks for `wanted`.
    #[must_use]
    pub fn confirmation(&self, wanted: Duration) -> Duration {
        wanted.clamp(Duration::from_secs(self.confirmation_min_s), Duration::from_secs(self.confirmation_max_s))
    }

    /// How long one request may stand still before something happens.
    #[must_use]
    pub fn longest_silence(&self) -> Duration {
        Duration::from_secs(self.connect_timeout_s + self.stall_timeout_s)
    }
}

fn within(key: &'static str, value: u64, min: u64, max: u64) -> Result<(), Error> {
    if (min..=max).contains(&value) { Ok(()) } else { Err(Error::OutOfRange { key, value, min, max }) }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use iotwasm_kit::report::chain;

    use super::*;

    fn load_with(files: &[(&str, &str)]) -> Result<(Config, Vec<Wanted>), Error> {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = dir.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        load(&Folders { vendor: dir.path().join("usr"), local: dir.path().join("etc") })
    }

    #[test]
    fn defaults_are_in_range_and_want_nothing() {
        let (config, wanted) = load_with(&[]).unwrap();
        assert_eq!(config, Config::default());
        assert!(wanted.is_empty());
    }

    #[test]
    fn the_shipped_file_says_what_the_defaults_say() {
        let shipped = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../../meta-iotwasm/recipes-iotwasm/ota-updated/files/ota-updated.toml");
        let text = std::fs::read_to_string(shipped).unwrap();
        // Every key is there, commented out, with its default.
        let spelled: String = text
            .lines()
            .map(|l| l.strip_prefix("#").filter(|l| !l.starts_with(' ')).unwrap_or(l))
            .fold(String::new(), |mut all, line| {
                all.push_str(line);
                all.push('\n');
                all
            });
        assert_eq!(load_with(&[("usr/ota-updated.toml", &text)]).unwrap().0, Config::default());
        let spelled_out = load_with(&[("usr/ota-updated.toml", &spelled)]).unwrap().0;
        assert_eq!(spelled_out, Config { ca_file: spelled_out.ca_file.clone(), ..Config::default() });
        assert!(spelled.matches(" = ").count() >= 23, "{spelled}");
    }

    #[test]
    fn payloads_are_read_and_a_second_file_for_one_is_refused() {
        let one = ("etc/payloads.d/a.toml", "id = \"blinky\"\nvendor = \"acme\"\n");
        let (_, wanted) = load_with(&[one]).unwrap();
        assert_eq!(wanted[0].id.as_str(), "blinky");
        let err = load_with(&[one, ("usr/payloads.d/b.toml", "id = \"blinky\"\nvendor = \"other\"\n")]).unwrap_err();
        assert!(err.to_string().contains("b.toml"), "{err}");
        assert_eq!(err.exit_code(), Code::Config);
    }

    #[test]
    fn a_value_out_of_range_names_its_key() {
        for (text, key) in [
            ("trial_boots = 0", "trial_boots"),
            ("poll_interval_s = 0", "poll_interval_s"),
            ("confirmation_min_s = 100\nconfirmation_max_s = 10", "confirmation_min_s"),
            ("repositories = [\"ftp://x\"]", "repositories"),
            ("repositories = [\"http://\"]", "repositories"),
            ("repository = \"http://x\"", "repository"),
            ("[firmware]\ntrial_boots = 11", "firmware.trial_boots"),
            ("[firmware]\nwindows = [\"2-4\"]", "2-4"),
            ("[firmware]\nready_within_s = 481", "server_within_s is 1501 s; it must be at most 1500 s"),
            (
                "[firmware]\nrequire_server = false\nready_within_s = 1200\nconfirmation_s = 301",
                "confirmation_s is 1501 s",
            ),
        ] {
            let err = load_with(&[("etc/ota-updated.toml", text)]).unwrap_err();
            assert!(chain(&err).contains(key), "{}", chain(&err));
        }
    }

    #[test]
    fn the_times_of_a_trial_may_add_up_to_its_whole_length() {
        for text in ["ready_within_s = 480", "require_server = false\nready_within_s = 1200\nconfirmation_s = 300"] {
            load_with(&[("etc/ota-updated.toml", &format!("[firmware]\n{text}"))]).unwrap();
        }
    }

    #[test]
    fn the_confirmation_period_is_clamped() {
        let config = Config { confirmation_min_s: 10, confirmation_max_s: 20, ..Config::default() };
        let clamped = [5, 15, 25].map(|s| config.confirmation(Duration::from_secs(s)).as_secs());
        assert_eq!(clamped, [10, 15, 20]);
    }
}

//! What a scenario asks of a device: its settings, its update daemon's and its supervisor's answers, its journal. All of
//! it through what a device offers to anyone: Varlink, files, systemd.

use std::time::Duration;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::error::{Error, Result};
use crate::server::Server;
use crate::vm::{MIRROR_URL, SERVER_URL, Vm};
use crate::wait::{Look, until};

/// How long an installation or a rollback may take, on a busy machine.
pub const SETTLE_LIMIT: Duration = Duration::from_secs(400);

/// How long an update of the firmware may take, with all its boots.
pub const FIRMWARE_LIMIT: Duration = Duration::from_secs(2400);

/// The daemons' units.
pub const UNITS: [&str; 3] = ["ota-updated", "wasm-supervisord", "capd"];

/// A scenario's settings of the device.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Ids of the payloads that it runs; one of another vendor is written `vendor/id`.
    pub payloads: Vec<String>,
    /// The mirror is configured, too.
    pub mirror: bool,
    /// Seconds between two checks.
    pub poll_s: u64,
    /// The confirmation period, in seconds.
    pub confirmation_s: u64,
    /// More lines for ota-updated.toml.
    pub more: Vec<String>,
}

impl Settings {
    /// One payload, quick checks, a short confirmation period.
    pub fn of(payload: &str) -> Self {
        Self { payloads: vec![payload.to_owned()], mirror: false, poll_s: 3, confirmation_s: 5, more: Vec::new() }
    }

    fn updater(&self) -> String {
        let mut urls = vec![SERVER_URL];
        if self.mirror {
            urls.push(MIRROR_URL);
        }
        let mut lines = vec![
            format!("repositories = {}", json!(urls)),
            format!("poll_interval_s = {}", self.poll_s),
            "poll_jitter_percent = 0".to_owned(),
            "first_check_s = 0".to_owned(),
            format!("confirmation_min_s = {0}\nconfirmation_max_s = {0}", self.confirmation_s),
        ];
        lines.extend(self.more.iter().cloned());
        lines.join("\n") + "\n"
    }
}

/// One attempt of the update daemon's history.
#[derive(Debug, Clone, Deserialize, PartialEq, Eq)]
pub struct Attempt {
    /// Counts up.
    pub number: i64,
    /// Payload, firmware or repository.
    pub level: String,
    /// Payload id.
    pub payload: String,
    /// Version that was tried.
    pub version: String,
    /// How it stands or ended.
    pub outcome: String,
    /// Why it failed.
    #[serde(default)]
    pub reason: Option<String>,
    /// The same in words.
    pub message: String,
    /// When it began, RFC 3339 in whole seconds of UTC.
    pub started: String,
    /// When it ended; empty while it goes on.
    pub ended: String,
}

impl Attempt {
    /// "committed", or "rolled_back: trap".
    pub fn verdict(&self) -> String {
        match &self.reason {
            Some(reason) => format!("{}: {reason}", self.outcome),
            None => self.outcome.clone(),
        }
    }

    /// Whether it has ended.
    pub fn is_over(&self) -> bool {
        !matches!(self.outcome.as_str(), "installing" | "trial")
    }
}

/// A payload as the supervisor runs it.
#[derive(Debug, Clone, Deserialize, PartialEq, Eq)]
pub struct Running {
    /// Payload id.
    pub payload: String,
    /// Slot.
    pub slot: String,
    /// Version.
    pub version: String,
    /// Starting, self_test, running, backoff, failed, stopped.
    pub phase: String,
    /// Unknown, healthy, degraded, failed.
    pub health: String,
    /// Why it does not run.
    #[serde(default)]
    pub reason: Option<String>,
    /// What the payload said of itself last, or why it does not run.
    pub message: String,
    /// Starts since the supervisor's start.
    pub starts: i64,
    /// Crashes since the supervisor's start.
    pub crashes: i64,
    /// Process id of the runner, or 0.
    pub pid: i64,
    /// How long the start took, in milliseconds.
    pub start_ms: i64,
    /// Milliseconds of that for the self-test.
    pub self_test_ms: i64,
    /// Milliseconds between two versions at the last swap.
    pub interruption_ms: i64,
}

/// The update daemon's status.
#[derive(Debug, Clone, Deserialize)]
pub struct OtaStatus {
    /// What it does.
    pub activity: String,
    /// Why the last check failed; empty where it did not.
    pub last_error: String,
    /// Its payloads.
    pub payloads: Vec<PayloadInfo>,
    /// Its firmware.
    pub firmware: Option<FirmwareInfo>,
}

/// The firmware as the update daemon knows it.
#[derive(Debug, Clone, Deserialize)]
pub struct FirmwareInfo {
    /// Version that runs.
    pub version: String,
    /// The slot that it runs from, a or b.
    pub slot: String,
    /// Committed or trial.
    pub state: String,
    /// Version that waits for its boot; empty if none.
    pub installed: String,
    /// What that waits for.
    pub waiting_for: String,
    /// Releases that were undone.
    pub rejected: Vec<String>,
}

impl FirmwareInfo {
    /// That this version was undone, if it was: there is nothing to wait for any more.
    pub fn undone(&self, version: &str) -> Option<Error> {
        let of_it = self.rejected.iter().find(|release| release.split(' ').next() == Some(version))?;
        Some(Error::Step {
            step: format!("firmware {version}"),
            expected: "committed".to_owned(),
            seen: format!("undone: {of_it}"),
        })
    }
}

/// A payload as the update daemon knows it.
#[derive(Debug, Clone, Deserialize)]
pub struct PayloadInfo {
    /// Payload id.
    pub payload: String,
    /// The committed version; empty where there is none.
    pub committed: String,
}

/// Something that capd denied.
#[derive(Debug, Clone, Deserialize, PartialEq, Eq)]
pub struct Denial {
    /// Payload id.
    pub payload: String,
    /// What was asked for.
    pub capability: String,
    /// Why, in one word.
    pub reason: String,
    /// For people.
    pub message: String,
    /// How many.
    pub count: i64,
}

/// A payload's session with capd.
#[derive(Debug, Clone, Deserialize, PartialEq, Eq)]
pub struct Session {
    /// Which.
    pub session: i64,
    /// Payload id.
    pub payload: String,
    /// The role that signed it.
    pub role: String,
    /// Its runner uses it.
    pub claimed: bool,
    /// What it may do.
    pub grants: Vec<String>,
    /// What it has leased.
    pub leases: Vec<String>,
    /// Requests so far.
    pub requests: i64,
    /// Denials so far.
    pub denials: i64,
}

/// A thing of the board, as capd sees it.
#[derive(Debug, Clone, Deserialize, PartialEq, Eq)]
pub struct Thing {
    /// Of which kind: `gpio`.
    pub kind: String,
    /// Its name.
    pub name: String,
    /// Whether the kernel has it now.
    pub present: bool,
    /// Why not.
    pub message: String,
    /// What was written to it last.
    pub value: String,
    /// Payloads that use it now.
    pub users: Vec<String>,
}

#[derive(Deserialize)]
struct Board {
    things: Vec<Thing>,
}

#[derive(Deserialize)]
struct Denials {
    denials: Vec<Denial>,
}

#[derive(Deserialize)]
struct Sessions {
    sessions: Vec<Session>,
}

#[derive(Deserialize)]
struct History {
    attempts: Vec<Attempt>,
}

#[derive(Deserialize)]
struct Payloads {
    payloads: Vec<Running>,
}

impl Vm {
    /// As from the factory, with these settings: nothing of the daemons' on the data partition, then all started.
    pub fn provision(&mut self, settings: &Settings) -> Result<()> {
        self.sh(
            "systemctl stop ota-updated.socket ota-updated.service wasm-supervisord.socket wasm-supervisord.service \
             capd.socket capd.service && \
             rm -rf /data/iotwasm/ota /data/iotwasm/payloads /data/iotwasm/storage /run/iotwasm/metrics /run/iotwasm-capd && \
             systemd-tmpfiles --create iotwasm.conf",
        )?;
        self.configure(settings)?;
        self.start_daemons()
    }

    /// Other settings for a device that goes on otherwise: the update daemon starts again with them.
    pub fn adjust(&mut self, settings: &Settings) -> Result<()> {
        self.sh("systemctl stop ota-updated.service")?;
        self.configure(settings)?;
        self.start_daemons()
    }

    /// Writes the settings; the daemons read them at their next start. They stay over reboots.
    pub fn configure(&mut self, settings: &Settings) -> Result<()> {
        let folder = "/data/qemu-tests/etc";
        self.sh(&format!("rm -rf {folder}/*; mkdir -p {folder}/payloads.d"))?;
        self.put(&format!("{folder}/ota-updated.toml"), 0o644, settings.updater().as_bytes())?;
        for payload in &settings.payloads {
            let (vendor, id) = payload.split_once('/').unwrap_or((crate::repo::VENDOR, payload));
            let text = format!("id = \"{id}\"\nvendor = \"{vendor}\"\n");
            self.put(&format!("{folder}/payloads.d/{id}.toml"), 0o644, text.as_bytes())?;
        }
        self.sh("systemctl restart qemu-config.service").map(drop)
    }

    /// Starts the daemons; done when all are ready.
    pub fn start_daemons(&mut self) -> Result<()> {
        self.sh("systemctl start capd.socket wasm-supervisord.socket ota-updated.socket \
             capd.service wasm-supervisord.service ota-updated.service")
            .map(drop)
    }

    /// What capd has denied.
    pub fn denials(&mut self) -> Result<Vec<Denial>> {
        Ok(self.call::<Denials>("capabilities", "io.iotwasm.Capabilities.GetDenials", &json!({}))?.denials)
    }

    /// Payloads that use a thing of the board now, by name.
    pub fn users(&mut self, kind: &str, name: &str) -> Result<Vec<String>> {
        let mut users = self.thing(kind, name)?.users;
        users.sort();
        Ok(users)
    }

    /// A thing of the board.
    pub fn thing(&mut self, kind: &str, name: &str) -> Result<Thing> {
        let board: Board = self.call("capabilities", "io.iotwasm.Capabilities.GetBoard", &json!({}))?;
        let found = board.things.into_iter().find(|thing| thing.kind == kind && thing.name == name);
        found.ok_or_else(|| Error::Unreadable { what: "the board", text: format!("it has no {kind}.{name}") })
    }

    /// Payloads' sessions with capd.
    pub fn sessions(&mut self) -> Result<Vec<Session>> {
        Ok(self.call::<Sessions>("capabilities", "io.iotwasm.Capabilities.GetSessions", &json!({}))?.sessions)
    }

    /// Calls a method of a daemon, as `varlinkctl` does.
    pub fn call<T: DeserializeOwned>(&mut self, socket: &str, method: &str, arguments: &Value) -> Result<T> {
        let address = format!("unix:/run/iotwasm/{socket}.sock");
        let text = self.run(&["varlinkctl", "call", "--json=short", &address, method, &arguments.to_string()])?;
        // varlinkctl prints nothing for a reply that says nothing.
        let reply = if text.trim().is_empty() { "{}" } else { &text };
        serde_json::from_str(reply).map_err(|_| Error::Unreadable { what: "a reply", text })
    }

    /// The update daemon's status.
    pub fn ota_status(&mut self) -> Result<OtaStatus> {
        self.call("ota", "io.iotwasm.Ota.GetStatus", &json!({}))
    }

    /// The update daemon's history, newest first.
    pub fn history(&mut self) -> Result<Vec<Attempt>> {
        let mut attempts = self
            .call::<History>("ota", "io.iotwasm.Ota.GetHistory", &json!({"payload": null, "limit": 1000}))?
            .attempts;
        attempts.sort_by_key(|a| -a.number);
        Ok(attempts)
    }

    /// Asks for a check now.
    pub fn check_now(&mut self) -> Result<()> {
        self.call::<Value>("ota", "io.iotwasm.Ota.CheckNow", &json!({})).map(drop)
    }

    /// What the supervisor runs.
    pub fn payloads(&mut self) -> Result<Vec<Running>> {
        Ok(self.call::<Payloads>("supervisor", "io.iotwasm.Supervisor.GetStatus", &json!({}))?.payloads)
    }

    /// One payload as the supervisor runs it.
    pub fn payload(&mut self, id: &str) -> Result<Option<Running>> {
        Ok(self.payloads()?.into_iter().find(|p| p.payload == id))
    }

    /// Waits until the attempt with that version is over; gives its verdict.
    pub fn verdict(&mut self, id: &str, version: &str) -> Result<String> {
        until(&format!("the end of the attempt with {id} {version}"), SETTLE_LIMIT, || {
            let history = self.history()?;
            let newest = history.iter().find(|a| a.payload == id && a.version == version);
            Ok(match newest {
                Some(attempt) if attempt.is_over() => Look::Is(attempt.verdict()),
                Some(attempt) => Look::NotYet(attempt.verdict()),
                None => Look::NotYet(format!("no attempt; last error: {:?}", self.ota_status()?.last_error)),
            })
        })
    }

    /// The firmware as the update daemon knows it.
    pub fn firmware(&mut self) -> Result<FirmwareInfo> {
        let status = self.ota_status()?;
        status.firmware.ok_or_else(|| Error::Unreadable { what: "the status", text: "it has no firmware".into() })
    }

    /// The newest attempt with that firmware.
    pub fn firmware_attempt(&mut self, version: &str) -> Result<Option<Attempt>> {
        Ok(self.history()?.into_iter().find(|a| a.level == "firmware" && a.version == version))
    }

    /// Waits until the newest attempt with that firmware is over and the device says so in a committed firmware, over any
    /// number of boots; gives its verdict.
    pub fn firmware_verdict(&mut self, version: &str) -> Result<String> {
        until(&format!("the end of the attempt with firmware {version}"), FIRMWARE_LIMIT, || {
            let history: History = self.glance_call("GetHistory", &json!({"payload": null, "limit": 1000}))?;
            let of_it = history.attempts.into_iter().filter(|a| a.level == "firmware" && a.version == version);
            let Some(attempt) = of_it.max_by_key(|a| a.number) else {
                let status: OtaStatus = self.glance_call("GetStatus", &json!({}))?;
                return Ok(Look::NotYet(format!("no attempt; last error: {:?}", status.last_error)));
            };
            if !attempt.is_over() {
                return Ok(Look::NotYet(format!("{}: {}", attempt.verdict(), attempt.message)));
            }
            // What is undone is told by the one that undoes itself before it restarts.
            Ok(match self.glance_call::<OtaStatus>("GetStatus", &json!({}))?.firmware {
                Some(firmware) if firmware.state == "committed" => Look::Is(attempt.verdict()),
                other => Look::NotYet(format!("{} in {other:?}", attempt.verdict())),
            })
        })
    }

    /// Waits until that firmware runs and is committed, over any number of boots; gives its slot. An error at once if the
    /// device has undone it.
    pub fn wait_firmware(&mut self, version: &str) -> Result<String> {
        until(&format!("firmware {version} committed"), FIRMWARE_LIMIT, || {
            let status: OtaStatus = self.glance_call("GetStatus", &json!({}))?;
            let Some(firmware) = status.firmware else { return Ok(Look::NotYet("no firmware".into())) };
            if let Some(undone) = firmware.undone(version) {
                return Ok(Look::Is(Err(undone)));
            }
            let seen =
                format!("{} {} in slot {}; {}", firmware.version, firmware.state, firmware.slot, status.activity);
            let good = firmware.version == version && firmware.state == "committed" && status.activity != "rebooting";
            Ok(if good { Look::Is(Ok(firmware.slot)) } else { Look::NotYet(seen) })
        })?
    }

    /// A call to the update daemon of a device that may restart at any time.
    pub fn glance_call<T: DeserializeOwned>(&mut self, method: &str, arguments: &Value) -> Result<T> {
        let (address, method) = ("unix:/run/iotwasm/ota.sock", format!("io.iotwasm.Ota.{method}"));
        let text = self.glance(&["varlinkctl", "call", "--json=short", address, &method, &arguments.to_string()])?;
        serde_json::from_str(&text).map_err(|_| Error::Unreadable { what: "a reply", text })
    }

    /// [`Vm::verdict`], which must be this.
    pub fn expect_verdict(&mut self, id: &str, version: &str, expected: &str) -> Result<()> {
        let seen = self.verdict(id, version)?;
        if seen == expected {
            return Ok(());
        }
        Err(Error::Step { step: format!("the attempt with {id} {version}"), expected: expected.to_owned(), seen })
    }

    /// Waits until that version is committed and runs healthily.
    pub fn wait_running(&mut self, id: &str, version: &str) -> Result<String> {
        let wanted = format!("{version} running, healthy");
        until(&format!("{id} {wanted}"), SETTLE_LIMIT, || {
            let Some(payload) = self.payload(id)? else { return Ok(Look::NotYet("not there".to_owned())) };
            let seen = format!("{} {}, {}", payload.version, payload.phase, payload.health);
            let why = payload.reason.map(|r| format!(" ({r})")).unwrap_or_default();
            Ok(if seen == wanted { Look::Is(seen) } else { Look::NotYet(seen + &why) })
        })
    }

    /// The committed version.
    pub fn committed(&mut self, id: &str) -> Result<String> {
        let status = self.ota_status()?;
        Ok(status.payloads.into_iter().find(|p| p.payload == id).map(|p| p.committed).unwrap_or_default())
    }

    /// Waits until that version is committed, however many attempts it takes.
    pub fn wait_committed(&mut self, id: &str, version: &str) -> Result<String> {
        until(&format!("{id} {version} committed"), SETTLE_LIMIT, || {
            let committed = self.committed(id)?;
            Ok(if committed == version { Look::Is(committed) } else { Look::NotYet(committed) })
        })
    }

    /// Waits until a check has failed with an error that contains one of the words; gives that word, or what was said.
    pub fn wait_refused(&mut self, words: &[&'static str]) -> Result<String> {
        until(&format!("a check that fails with one of {words:?}"), SETTLE_LIMIT, || {
            let error = self.ota_status()?.last_error.to_lowercase();
            Ok(match words.iter().find(|w| error.contains(&w.to_lowercase())) {
                Some(word) => Look::Is((*word).to_owned()),
                None => Look::NotYet(format!("{error:?}")),
            })
        })
    }

    /// The sum of a daemon's samples of that name that have these labels, among others; none where there is no such sample.
    pub fn metric(&mut self, daemon: &str, name: &str, labels: &[(&str, &str)]) -> Result<Option<f64>> {
        let text = self.run(&["cat", &format!("/run/iotwasm/metrics/{daemon}.prom")])?;
        Ok(sum_of(&text, name, labels))
    }

    /// Waits until the update daemon has finished another `checks` checks, told by the requests that a server saw.
    pub fn wait_checks(&mut self, server: &Server, checks: usize) -> Result<()> {
        let before = server.count(".root.json");
        // One more: the request is the beginning of a check.
        until("more checks", SETTLE_LIMIT, || {
            let seen = server.count(".root.json") - before;
            Ok(if seen > checks { Look::Is(()) } else { Look::NotYet(format!("{seen} of {checks}")) })
        })
    }

    /// The journal of a unit, newest lines.
    pub fn journal(&mut self, unit: &str, lines: u32) -> Result<String> {
        self.run(&["journalctl", "--no-pager", "-o", "short-monotonic", "-n", &lines.to_string(), "-u", unit])
    }
}

/// Samples in the text format of Prometheus: `name{a="1",b="2"} 3`.
fn sum_of(text: &str, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
    let wanted: Vec<String> = labels.iter().map(|(label, value)| format!("{label}=\"{value}\"")).collect();
    let samples = text.lines().filter_map(|line| {
        let (given, value) = line.strip_prefix(name)?.strip_prefix('{')?.rsplit_once("} ")?;
        let has = |label: &String| given.split(',').any(|g| g == label);
        wanted.iter().all(has).then(|| value.trim().parse::<f64>().ok()).flatten()
    });
    samples.fold(None, |sum, value| Some(sum.unwrap_or(0.0) + value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_with_the_labels_are_added_and_others_are_not() {
        let text = "# HELP x Y.\nx{d=\"1\",r=\"trap\"} 2\nx{d=\"1\",r=\"trap\",p=\"b\"} 1\nx{d=\"1\",r=\"fuel\"} 4\nxy{r=\"trap\"} 8\n";
        assert_eq!(sum_of(text, "x", &[("r", "trap")]), Some(3.0));
        assert_eq!(sum_of(text, "x", &[("r", "none")]), None);
    }
}

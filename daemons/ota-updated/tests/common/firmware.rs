//! Firmware releases and a device whose restarts the test plays: slot, marker and version are what the bootloader makes them.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use iotwasm_api::ota::{Attempt, FirmwareInfo, Level, Outcome};
use iotwasm_firmware::Digest;
use iotwasm_firmware::Slot;
use iotwasm_firmware::release::{
    Artifact, Bundle, FORMAT, Files, ImaEntry, PHASES, Pcr4, Pcr11, Pcrs, Release, Verity,
};
use iotwasm_firmware::state::{FirmwareState, boot_name};
use iotwasm_firmware::target::{FirmwareTarget, Kind, Part, TargetName};
use serde_json::json;

use super::bus::{Bus, Script, Services, Shared, Stage};
use super::repo::TestRepo;
use super::{World, until};

pub const COMPATIBLE: &str = "gw";
/// What the health target requires.
pub const UNITS: [&str; 3] = ["capd.service", "sysinit.target", "wasm-supervisord.service"];
/// Length of what a bundle carries, in bytes: several of RAUC's reads.
const CARRIED: usize = 300 * 1024;

fn sha256(bytes: &[u8]) -> Digest {
    Digest::from_bytes(*iotwasm_payload::Digest::of(bytes).as_bytes())
}

/// A bundle and its `release.json`.
#[derive(Clone)]
pub struct Made {
    pub bundle: Vec<u8>,
    pub release: Release,
}

/// Makes a release of this version, signed for RAUC by `signer`.
pub fn make(version: &str, compatible: &str, signer: &str) -> Made {
    // Bytes that differ from version to version.
    let seed = version.bytes().fold(7u32, |seed, byte| seed.wrapping_mul(31).wrapping_add(byte.into()));
    let mut bundle: Vec<u8> =
        (0..u32::try_from(CARRIED).unwrap()).map(|i| (i.wrapping_mul(seed | 1) >> 13) as u8).collect();
    let carried = sha256(&bundle);
    let manifest = json!({
        "compatible": compatible, "version": version, "signer": signer, "length": CARRIED, "root": carried.to_string()
    });
    let manifest = manifest.to_string().into_bytes();
    bundle.extend(&manifest);
    bundle.extend((manifest.len() as u64).to_be_bytes());
    let file = |name: &str, length| Artifact { name: name.into(), length, sha256: sha256(name.as_bytes()) };
    let zero = Digest::ZERO;
    let runner = ImaEntry { path: "/usr/libexec/runner".into(), sha256: zero };
    let release = Release {
        format: FORMAT,
        compatible: compatible.into(),
        version: version.parse().unwrap(),
        time: "2026-03-01T00:00:00Z".parse().unwrap(),
        files: Files {
            rootfs: file("rootfs.img", 8192),
            uki: file("uki.efi", 100),
            esp: file("esp.img", 4096),
            bundle: Some(Bundle {
                file: Artifact { name: "firmware.raucb".into(), length: bundle.len() as u64, sha256: sha256(&bundle) },
                payload_length: CARRIED as u64,
                payload_sha256: carried,
                signature_offset: CARRIED as u64,
                signature_sha256: sha256(&bundle[CARRIED..]),
            }),
        },
        verity: Verity { root_hash: zero, hash_offset: 4096, salt: zero },
        pcrs: Pcrs {
            pcr4: [false, true].map(|secure_boot| Pcr4 { secure_boot, value: zero }).into(),
            pcr11: PHASES.map(|phase| Pcr11 { phase: phase.into(), value: zero }).into(),
        },
        ima: vec![runner.clone()],
        runner,
    };
    Made { bundle, release }
}

impl TestRepo {
    /// Adds a release under the name of a version, without publishing it.
    pub fn add_release(&mut self, version: &str, bundle: &[u8], release_json: &[u8], custom: Digest) {
        let name = TargetName { compatible: COMPATIBLE.into(), version: version.parse().unwrap(), part: Part::Bundle };
        let target = FirmwareTarget {
            kind: Kind::Firmware,
            compatible: COMPATIBLE.into(),
            version: name.version.clone(),
            release: custom,
            withdrawn: None,
        };
        self.add_firmware(&name.to_string(), bundle, Some(target.to_custom().unwrap()));
        self.add_firmware(&name.part(Part::Release).to_string(), release_json, None);
    }

    /// Publishes what was made as it is.
    pub fn release_made(&mut self, made: &Made) {
        let json = made.release.to_json().unwrap();
        self.add_release(&made.release.version.to_string(), &made.bundle, &json, sha256(&json));
        self.publish_firmware();
    }

    /// Publishes a good release.
    pub fn release_firmware(&mut self, version: &str) {
        self.release_made(&make(version, COMPATIBLE, "us"));
    }

    pub fn withdraw_firmware(&mut self, version: &str) {
        self.amend_firmware(version, |custom| custom["withdrawn"] = json!({"reason": "bad batch"}));
    }

    /// The bundle of a version where it lies.
    pub fn bundle_file(&self, version: &str) -> PathBuf {
        let folder = self.dir.join("targets/firmware").join(COMPATIBLE);
        let end = format!(".{COMPATIBLE}-{version}.raucb");
        let mut entries = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path());
        entries.find(|path| path.to_str().unwrap().ends_with(&end)).unwrap()
    }
}

/// What the initrd of the slot that is booted writes down.
pub fn set_up_boot(run: &Path, stage: &Stage) {
    let version = stage.slots[stage.booted as usize].clone().expect("a half-written slot is booted");
    std::fs::write(run.join("slot"), format!("RAUC_SLOT={}\n", boot_name(stage.booted))).unwrap();
    std::fs::write(run.join("os-release"), format!("ID=iotwasm\nIMAGE_VERSION={version}\n")).unwrap();
    for name in ["trial", "unordered", "kept", "reboot", "restart-due"] {
        let _ = std::fs::remove_file(run.join(name));
    }
    if stage.booted != stage.first {
        std::fs::write(run.join("trial"), "").unwrap();
    }
}

/// A device with firmware 1.0.0 in slot a, beside everything that [`World`] has.
pub struct Device {
    // Dropped in this order: the daemon first, the bus last.
    pub world: World,
    pub services: Option<Services>,
    pub stage: Shared,
    pub bus: Bus,
}

impl Device {
    pub fn new() -> Self {
        let mut world = World::new();
        let bus = Bus::start(world.dir.path());
        let stage = Arc::new(Mutex::new(Stage {
            first: Slot::A,
            next: None,
            booted: Slot::A,
            slots: [Some("1.0.0".into()), Some("0.9.0".into())],
            script: Script::Works,
            calls: Vec::new(),
            units: UNITS.into_iter().map(|unit| (unit.to_owned(), ("active".to_owned(), 1))).collect(),
            read: 0,
            hook: None,
        }));
        let services = Some(Services::start(&bus.address, &stage));
        let firmware = &mut world.config.firmware;
        firmware.confirmation_s = 1;
        firmware.ready_within_s = 3;
        firmware.server_within_s = 20;
        world.config.poll_interval_s = 2;
        world.config.poll_jitter_percent = 0;
        let device = Self { world, services, stage, bus };
        std::fs::create_dir_all(device.run("block")).unwrap();
        std::fs::create_dir_all(device.run("power")).unwrap();
        std::fs::write(device.run("system.conf"), "[system]\ncompatible=gw\nbootloader=efi\n").unwrap();
        set_up_boot(&device.run(""), &device.stage.lock().unwrap());
        device
    }

    pub fn run(&self, name: &str) -> PathBuf {
        self.world.dir.path().join("run").join(name)
    }

    pub fn start(&mut self) -> &mut Self {
        self.world.start();
        self
    }

    /// A reset, whatever goes on; the daemon is started by the caller.
    pub fn reset(&mut self) {
        self.world.stop();
        self.world.up = None;
        self.world.up = Some(self.world.supervisor.up());
        self.stage.lock().unwrap().reset();
        set_up_boot(&self.run(""), &self.stage.lock().unwrap());
    }

    /// A reset at which the bootloader has lost its variables and starts that slot. It is made the first, unless the
    /// state says that what is in it was not kept: what boot-entries does.
    pub fn reset_without_variables(&mut self, slot: Slot) {
        self.world.stop();
        let state = self.state();
        let is_unkept = [state.state().slot(), state.unkept()].contains(&Some(slot));
        let first = if is_unkept { slot.other() } else { slot };
        {
            let mut stage = self.stage.lock().unwrap();
            (stage.first, stage.next) = (first, Some(slot));
        }
        self.reset();
        let _ = std::fs::remove_file(self.run("trial"));
        std::fs::write(self.run("unordered"), "").unwrap();
    }

    /// Waits until the daemon orders a restart, and plays it.
    #[track_caller]
    pub fn restart(&mut self) {
        until("a restart is ordered", || self.run("reboot").exists());
        self.reset();
        self.start();
    }

    #[track_caller]
    pub fn until_kept(&self, version: &str) {
        until(&format!("{version} is kept"), || {
            let info = self.info();
            info.version == version && info.state == "committed" && self.run("kept").exists()
        });
    }

    pub fn info(&self) -> FirmwareInfo {
        self.world.shared().status().firmware.unwrap()
    }

    pub fn attempts(&self) -> Vec<Attempt> {
        self.world.shared().attempts(None, Some(Level::Firmware), 100)
    }

    #[track_caller]
    pub fn until_outcome(&self, outcome: Outcome) -> Attempt {
        until(outcome.as_str(), || self.attempts().first().is_some_and(|a| a.outcome == outcome));
        self.attempts().remove(0)
    }

    pub fn state(&self) -> FirmwareState {
        let bytes = std::fs::read(self.world.data().join("firmware.json"));
        bytes.map_or_else(|_| FirmwareState::default(), |bytes| FirmwareState::from_json(&bytes).unwrap())
    }

    pub fn calls(&self, part: &str) -> usize {
        self.stage.lock().unwrap().calls.iter().filter(|call| call.contains(part)).count()
    }

    pub fn set_unit(&self, name: &str, state: &str) {
        let mut stage = self.stage.lock().unwrap();
        let start = stage.units.get(name).map_or(1, |(_, start)| start + 1);
        stage.units.insert(name.into(), (state.into(), start));
    }

    /// Nothing supplies it but a battery, with so much charge in percent.
    pub fn set_battery(&self, percent: u8) {
        let battery = self.run("power/BAT0");
        std::fs::create_dir_all(&battery).unwrap();
        std::fs::write(battery.join("type"), "Battery\n").unwrap();
        std::fs::write(battery.join("capacity"), format!("{percent}\n")).unwrap();
    }

    /// Counts trials of payloads that begin from now on in a trial boot.
    pub fn count_trials(&self) -> Arc<AtomicUsize> {
        let count = Arc::new(AtomicUsize::new(0));
        let (counted, kept) = (Arc::clone(&count), self.run("kept"));
        self.world.supervisor.stage.lock().unwrap().hook = Some(Arc::new(move |call: &str| {
            if call.starts_with("start ") && call.ends_with(" true") && !kept.exists() {
                counted.fetch_add(1, Ordering::Relaxed);
            }
        }));
        count
    }
}

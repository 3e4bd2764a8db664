//! A real TUF repository in a folder: two-of-three root keys are more than these tests need, so each role has one.

use std::path::{Path, PathBuf};

use iotwasm_payload::target::{CUSTOM_KEY, PayloadTarget};
use iotwasm_payload::{Manifest, pack};
use iotwasm_trust::repo::{Delegation, Document, Key, Online, Repo};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

pub struct TestRepo {
    pub dir: PathBuf,
    repo: Repo,
    root: Key,
    targets: Key,
    snapshot: Vec<Key>,
    timestamp: Vec<Key>,
    vendor: Key,
    pub role: Document,
    maker: Key,
    pub firmware: Document,
}

fn key() -> Key {
    Key::generate().unwrap()
}

pub fn in_hours(hours: i64) -> Timestamp {
    Timestamp::now() + SignedDuration::from_hours(hours)
}

impl TestRepo {
    /// A repository with a vendor `acme` and nothing published but that.
    pub fn new(dir: &Path) -> Self {
        let role = Document::new_targets("acme", in_hours(1000));
        let mut this = Self {
            dir: dir.to_owned(),
            repo: Repo::open(dir).unwrap(),
            root: key(),
            targets: key(),
            snapshot: vec![key()],
            timestamp: vec![key()],
            vendor: key(),
            role,
            maker: key(),
            firmware: Document::new_targets("firmware", in_hours(1000)),
        };
        let mut root = Document::new_root(in_hours(1000));
        root.set_role("root", &[this.root.public()], 1)
            .set_role("targets", &[this.targets.public()], 1)
            .set_role("snapshot", &[this.snapshot[0].public()], 1)
            .set_role("timestamp", &[this.timestamp[0].public()], 1)
            .sign([&this.root]);
        this.repo.write(&root).unwrap();
        let mut targets = Document::new_targets("targets", in_hours(1000));
        targets
            .delegate(&Delegation {
                name: "acme".into(),
                keys: vec![this.vendor.public()],
                threshold: 1,
                paths: vec!["acme/*/*".into()],
                terminating: true,
            })
            .delegate(&Delegation {
                name: "firmware".into(),
                keys: vec![this.maker.public()],
                threshold: 1,
                paths: vec!["firmware/*/*".into()],
                terminating: true,
            })
            .sign([&this.targets]);
        this.role.sign([&this.vendor]);
        this.firmware.sign([&this.maker]);
        let (role, firmware) = (this.role.clone(), this.firmware.clone());
        this.publish(&[&targets, &role, &firmware], in_hours(100));
        this
    }

    fn publish(&self, roles: &[&Document], timestamp_expires: Timestamp) {
        let online = Online {
            snapshot: &self.snapshot,
            timestamp: &self.timestamp,
            snapshot_expires: in_hours(1000),
            timestamp_expires,
            now: Timestamp::now(),
        };
        self.repo.publish(roles, &online).unwrap();
    }

    pub fn root_json(&self) -> Vec<u8> {
        std::fs::read(self.dir.join("metadata/1.root.json")).unwrap()
    }

    /// Replaces the timestamp's key, and publishes nothing new but that. Gives the new root.
    pub fn rotate_timestamp(&mut self) -> Vec<u8> {
        self.timestamp = vec![key()];
        let mut root = self.repo.root().unwrap();
        root.set_role("timestamp", &[self.timestamp[0].public()], 1).bump().sign([&self.root]);
        self.repo.write(&root).unwrap();
        self.publish(&[], in_hours(100));
        root.to_bytes()
    }

    /// Signs the vendor's role as it is now and publishes it.
    pub fn publish_role(&mut self) {
        self.role.bump().sign([&self.vendor]);
        self.publish(&[&self.role], in_hours(100));
    }

    /// Signs the role for firmware as it is now and publishes it.
    pub fn publish_firmware(&mut self) {
        self.firmware.bump().sign([&self.maker]);
        self.publish(&[&self.firmware], in_hours(100));
    }

    /// Adds a file to the role for firmware, without publishing it. Gives its SHA-256 in hex.
    pub fn add_firmware(&mut self, name: &str, bytes: &[u8], custom: Option<Value>) -> String {
        let custom = custom.map(|custom| json!({ CUSTOM_KEY: custom }));
        let info = self.repo.add_target_file(name, bytes, custom).unwrap();
        self.firmware.add_target(name, &info);
        info.hashes.name()
    }

    /// Changes what is signed about a bundle, and publishes that.
    pub fn amend_firmware(&mut self, version: &str, change: impl FnOnce(&mut Value)) {
        let name = format!("firmware/gw/gw-{version}.raucb");
        let mut info = self.firmware.target(&name).unwrap();
        change(&mut info.custom.as_mut().unwrap()[CUSTOM_KEY]);
        self.firmware.add_target(&name, &info);
        self.publish_firmware();
    }

    /// Publishes a new timestamp that has expired already.
    pub fn publish_expired(&self) {
        self.publish(&[], Timestamp::now() - SignedDuration::from_secs(3600));
    }

    /// Publishes a role that somebody else signed.
    pub fn publish_forged_role(&mut self) {
        self.role.bump().sign([&key()]);
        self.publish(&[&self.role], in_hours(100));
    }

    /// Puts a timestamp in place that somebody else signed.
    pub fn publish_forged_timestamp(&self) {
        let mut timestamp = self.repo.timestamp().unwrap();
        timestamp.bump().sign([&key()]);
        self.repo.write(&timestamp).unwrap();
    }

    /// Adds a payload to the vendor's role, without publishing it. Gives the file's SHA-256 in hex.
    pub fn add(&mut self, wasm: &[u8], custom: impl FnOnce(&mut Value)) -> String {
        let manifest = pack::manifest_of(wasm).unwrap();
        let target = PayloadTarget::of_manifest(&manifest);
        let mut value = json!({ CUSTOM_KEY: target.to_custom().unwrap() });
        custom(&mut value[CUSTOM_KEY]);
        let name = target.name().to_string();
        let info = self.repo.add_target_file(&name, wasm, Some(value)).unwrap();
        self.role.add_target(&name, &info);
        info.hashes.name()
    }

    /// Publishes a good payload of this version.
    pub fn release(&mut self, id: &str, version: &str) -> String {
        let sha256 = self.add(&payload(id, version), |_| {});
        self.publish_role();
        sha256
    }

    /// Changes what is signed about a version, and publishes that.
    pub fn amend(&mut self, id: &str, version: &str, change: impl FnOnce(&mut Value)) {
        let name = format!("acme/{id}/{id}-{version}.wasm");
        let mut info = self.role.target(&name).unwrap();
        change(&mut info.custom.as_mut().unwrap()[CUSTOM_KEY]);
        self.role.add_target(&name, &info);
        self.publish_role();
    }

    pub fn withdraw(&mut self, id: &str, version: &str) {
        self.amend(id, version, |custom| custom["withdrawn"] = json!({"reason": "bad batch"}));
    }
}

/// The text of a manifest whose confirmation period is a second.
pub fn manifest(id: &str, version: &str) -> String {
    format!(
        "id = \"{id}\"\nvendor = \"acme\"\nversion = \"{version}\"\n[entry]\nstyle = \"reactor\"\n\
         [health]\nconfirmation_s = 1\nheartbeat_s = 1\n"
    )
}

const GOOD: &str = r#"(module
    (import "iotwasm" "iotwasm_health" (func (param i32 i32 i32) (result i32)))
    (import "iotwasm" "iotwasm_wait" (func $wait (param i64) (result i32)))
    (memory (export "memory") 1 2)
    (data (i32.const 0) "DATA")
    (func (export "iotwasm_self_test") (result i32) (i32.const 0))
    (func (export "iotwasm_run") (loop (br_if 0 (i32.eqz (call $wait (i64.const 1000)))))))"#;

/// A payload that passes the static check, some 40 KiB long.
pub fn payload(id: &str, version: &str) -> Vec<u8> {
    // Bytes that differ from version to version, so that no two files share a prefix by accident.
    let filler: String =
        (0..40_000u32).map(|i| char::from(b'a' + ((i / 7 + version.len() as u32) % 26) as u8)).collect();
    packed(&GOOD.replace("DATA", &filler), &manifest(id, version))
}

pub fn packed(wat: &str, manifest: &str) -> Vec<u8> {
    assert!(Manifest::parse(manifest.as_bytes()).is_ok());
    pack(&wat::parse_str(wat).unwrap(), manifest).unwrap()
}

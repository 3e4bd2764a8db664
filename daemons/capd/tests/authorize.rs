//! What a signed payload in a slot is granted: decided from the stored chain, the signer's tier and the board, by nobody's
//! word.
#![expect(clippy::unwrap_used, reason = "a device that cannot be made is a failed test")]

use std::{fs, path::PathBuf, sync::Arc};

use capd::authorize::{Authority, Error};
use iotwasm_api::supervisor::Slot;
use iotwasm_grant::Board;
use iotwasm_payload::{
    Digest, Manifest, PayloadState, PayloadTarget, Release,
    slot::Event,
    store::{Reader, Writer},
    target::{CUSTOM_KEY, custom_digest},
};
use iotwasm_trust::repo::{Delegation, Document, Key, TargetInfo};
use iotwasm_verify::Verifier;

const BOARD: &str = r#"
name = "b"
[gpio]
led = { chip = "c", line = "led", direction = "out" }
door = { chip = "c", line = "door", direction = "in" }
pump = { chip = "c", line = "pump", direction = "out" }
[actuators.pump]
drives = { line = "pump" }
writes_per_minute = 6
values = [0, 1]
"#;
/// Long past: what was accepted once runs without a network and without a clock.
const EXPIRES: &str = "2020-01-01T00:00:00Z";

struct Device {
    dir: tempfile::TempDir,
    root_key: Key,
    vendor_key: Key,
}

impl Device {
    /// With a tier for the vendor that signs.
    fn new(tier: Option<&str>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let device = Self { dir, root_key: Key::generate().unwrap(), vendor_key: Key::generate().unwrap() };
        fs::create_dir_all(device.path("tiers.d")).unwrap();
        if let Some(tier) = tier {
            fs::write(device.path("tiers.d/acme.toml"), tier).unwrap();
        }
        fs::write(device.path("root.json"), device.root().to_bytes()).unwrap();
        device
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn root(&self) -> Document {
        let mut root = Document::new_root(EXPIRES.parse().unwrap());
        for role in ["root", "timestamp", "snapshot", "targets"] {
            root.set_role(role, &[self.root_key.public()], 1);
        }
        root.sign([&self.root_key]);
        root
    }

    /// Puts a payload with these capabilities into slot a, signed with this key. Gives its hash.
    fn install(&self, capabilities: &str, key: &Key) -> String {
        let wasm = r#"(module (memory (export "memory") 1)
            (func (export "iotwasm_self_test") (result i32) i32.const 0) (func (export "iotwasm_run")))"#;
        self.install_module(wasm, capabilities, key)
    }

    fn install_module(&self, wasm: &str, capabilities: &str, key: &Key) -> String {
        let manifest = format!(
            "id = \"p\"\nversion = \"1.2.3\"\nvendor = \"acme\"\nentry = {{ style = \"reactor\" }}\n{capabilities}"
        );
        let bytes = iotwasm_payload::pack(&wat::parse_str(wasm).unwrap(), &manifest).unwrap();
        let manifest = Manifest::parse(manifest.as_bytes()).unwrap();
        let target = PayloadTarget::of_manifest(&manifest);
        let (name, custom) = (target.name(), target.to_custom().unwrap());
        let (length, sha256) = (bytes.len() as u64, Digest::of(&bytes));
        let release = Release { target: name.clone(), length, sha256, custom: custom_digest(&custom) };
        let (id, writer) = (manifest.id, Writer::new(self.path("payloads")));
        let mut state = PayloadState::default();
        let slot = state.writable().unwrap();
        fs::create_dir_all(self.path("payloads")).unwrap();
        let apply = |state: &mut PayloadState, event: Event| {
            *state = state.apply(&event).unwrap();
            writer.save_state(&id, state).unwrap();
        };
        apply(&mut state, Event::WriteStarted { slot });
        fs::write(self.path("download"), &bytes).unwrap();
        let chain = self.chain(&name.to_string(), &bytes, custom, key);
        let export = |folder: &std::path::Path| {
            for (file, document) in &chain {
                fs::write(folder.join(file), document.to_bytes()).unwrap();
            }
            Ok(())
        };
        writer.write_slot(&id, &state, slot, &release, &self.path("download"), export).unwrap();
        apply(&mut state, Event::Installed { slot, release, boots: 3 });
        sha256.to_string()
    }

    fn chain(&self, name: &str, bytes: &[u8], custom: serde_json::Value, key: &Key) -> Vec<(&'static str, Document)> {
        let expires = || EXPIRES.parse().unwrap();
        let target = TargetInfo::of(bytes, Some(serde_json::json!({ CUSTOM_KEY: custom })));
        let mut vendor = Document::new_targets("acme", expires());
        vendor.add_target(name, &target).sign([key]);
        let delegation = Delegation {
            name: "acme".into(),
            keys: vec![self.vendor_key.public()],
            threshold: 1,
            paths: vec!["acme/*/*".into()],
            terminating: true,
        };
        let mut targets = Document::new_targets("targets", expires());
        targets.delegate(&delegation).sign([&self.root_key]);
        let mut snapshot = Document::new_snapshot(expires());
        snapshot.set_meta("targets.json", 1, None).set_meta("acme.json", 1, None).sign([&self.root_key]);
        let mut timestamp = Document::new_timestamp(expires());
        timestamp.set_meta("snapshot.json", 1, Some(&snapshot.to_bytes())).sign([&self.root_key]);
        vec![
            ("1.root.json", self.root()),
            ("timestamp.json", timestamp),
            ("snapshot.json", snapshot),
            ("targets.json", targets),
            ("acme.json", vendor),
        ]
    }

    fn authority(&self) -> Authority {
        Authority {
            verifier: Verifier {
                store: Reader::new(self.path("payloads")),
                pinned_root: self.path("root.json"),
                board: "b".into(),
            },
            board: Arc::new(Board::parse(BOARD.as_bytes()).unwrap()),
            tiers: self.path("tiers.d"),
        }
    }
}

const LED: &str = "[capabilities.gpio]\nled = \"out\"\n";

#[test]
fn what_signer_and_board_allow_is_granted_with_the_signers_name() {
    let device = Device::new(Some("[gpio]\nled = \"out\"\n"));
    let sha256 = device.install(LED, &device.vendor_key);
    let authorized = device.authority().authorize("p", Slot::A, &sha256).unwrap();
    assert_eq!((&*authorized.role, &*authorized.version, &*authorized.sha256), ("acme", "1.2.3", &*sha256));
    assert_eq!(authorized.grant.gpio().len(), 1);
}

#[test]
fn too_much_is_refused_whole_with_the_complete_list() {
    let device = Device::new(Some("[gpio]\nled = \"out\"\n"));
    let asked = "[capabilities.gpio]\nled = \"out\"\ndoor = \"in\"\npump = \"out\"\nattic = \"in\"\n";
    let sha256 = device.install(asked, &device.vendor_key);
    let Err(Error::Refused(refusals)) = device.authority().authorize("p", Slot::A, &sha256) else { panic!() };
    let mut keys: Vec<&str> = refusals.iter().map(|refusal| &*refusal.key).collect();
    keys.dedup();
    assert_eq!(keys, ["capabilities.gpio.attic", "capabilities.gpio.door", "capabilities.gpio.pump"]);
}

#[test]
fn a_role_without_a_tier_may_grant_nothing() {
    let device = Device::new(None);
    let sha256 = device.install(LED, &device.vendor_key);
    let err = device.authority().authorize("p", Slot::A, &sha256).unwrap_err();
    assert!(matches!(err, Error::Refused(_)) && err.words().contains("no tier"), "{}", err.words());
}

#[test]
fn a_tier_that_cannot_be_read_grants_nothing() {
    let device = Device::new(Some("[gpio]\nled = \"sideways\"\n"));
    let sha256 = device.install(LED, &device.vendor_key);
    assert!(matches!(device.authority().authorize("p", Slot::A, &sha256), Err(Error::Tier { .. })));
}

#[test]
fn a_payload_that_a_stranger_signed_is_not_verified() {
    let device = Device::new(Some("[gpio]\nled = \"out\"\n"));
    let sha256 = device.install(LED, &Key::generate().unwrap());
    assert!(matches!(device.authority().authorize("p", Slot::A, &sha256), Err(Error::NotVerified(_))));
}

#[test]
fn other_bytes_than_the_caller_verified_get_nothing() {
    let device = Device::new(Some("[gpio]\nled = \"out\"\n"));
    let sha256 = device.install(LED, &device.vendor_key);
    let authority = device.authority();
    assert!(matches!(authority.authorize("p", Slot::A, &"0".repeat(64)), Err(Error::OtherBytes { .. })));
    let wasm = device.path("payloads/p/a/payload.wasm");
    let mut bytes = fs::read(&wasm).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&wasm, bytes).unwrap();
    assert!(matches!(authority.authorize("p", Slot::A, &sha256), Err(Error::NotVerified(_))));
}

#[test]
fn code_is_for_who_runs_it_to_judge() {
    let device = Device::new(Some("[gpio]\nled = \"out\"\n"));
    let sha256 = device.install_module("(module)", LED, &device.vendor_key);
    let authority = device.authority();
    assert!(authority.authorize("p", Slot::A, &sha256).is_ok());
    let run = authority.verifier.verify(&"p".parse().unwrap(), iotwasm_payload::Slot::A);
    assert!(matches!(run, Err(iotwasm_verify::Error::Module { .. })));
}

#[test]
fn a_payload_for_another_board_is_not_verified() {
    let device = Device::new(Some("[gpio]\nled = \"out\"\n"));
    let sha256 = device.install(&format!("boards = [\"other\"]\n{LED}"), &device.vendor_key);
    let err = device.authority().authorize("p", Slot::A, &sha256).unwrap_err();
    assert!(matches!(err, Error::NotVerified(iotwasm_verify::Error::OtherBoard { .. })));
}

#[test]
fn names_and_slots_that_there_are_not_are_refused() {
    let device = Device::new(None);
    let authority = device.authority();
    assert!(matches!(authority.authorize("../p", Slot::A, ""), Err(Error::NoPayload(_))));
    assert!(matches!(authority.authorize("p", Slot::B, ""), Err(Error::NotVerified(_) | Error::Unjudged(_))));
}

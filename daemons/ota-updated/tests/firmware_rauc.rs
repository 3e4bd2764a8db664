//! The real RAUC, as far as it goes where nobody may make block devices: it verifies a bundle that it made, read through the
//! relay, and refuses another.

#![expect(clippy::unwrap_used, reason = "test code outside of test functions")]

mod common;

use std::path::Path;
use std::process::{Child, Command, Stdio};

use common::firmware::{COMPATIBLE, Device, Made, make};
use common::until;
use iotwasm_api::ota::Outcome;
use iotwasm_firmware::Digest;
use iotwasm_firmware::state::State;

/// RAUC's service on the test's bus; dropping it ends it.
struct Service(Child);

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[track_caller]
fn run(command: &mut Command) {
    let program = command.get_program().to_string_lossy().into_owned();
    let output =
        command.output().unwrap_or_else(|err| panic!("{program} (is it in scripts/buildroot.packages?): {err}"));
    assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
}

/// A certificate that signs itself.
fn make_signer(dir: &Path, name: &str) {
    run(Command::new("openssl")
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"])
        .args(["-subj", &format!("/CN={name}"), "-keyout", &format!("{name}.key"), "-out", &format!("{name}.pem")])
        .current_dir(dir));
}

/// A bundle that RAUC makes, with a `release.json` that describes it.
fn make_bundle(dir: &Path, version: &str, signer: &str) -> Made {
    let content = dir.join(format!("content-{version}"));
    std::fs::create_dir(&content).unwrap();
    let image: Vec<u8> = (0..1_000_000u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    std::fs::write(content.join("rootfs.img"), &image[..256 * 4096 - 4096 * 12]).unwrap();
    let manifest = format!(
        "[update]\ncompatible={COMPATIBLE}\nversion={version}\n[bundle]\nformat=verity\n[image.rootfs]\nfilename=rootfs.img\n"
    );
    std::fs::write(content.join("manifest.raucm"), manifest).unwrap();
    let file = dir.join(format!("{version}.raucb"));
    run(Command::new("rauc")
        .args([&format!("--cert={signer}.pem"), &format!("--key={signer}.key"), "bundle"])
        .args([&content, &file])
        .current_dir(dir));
    let bytes = std::fs::read(&file).unwrap();
    let sha256 = |bytes: &[u8]| Digest::from_bytes(*iotwasm_payload::Digest::of(bytes).as_bytes());
    let end = bytes.len() as u64;
    let signature = u64::from_be_bytes(bytes[bytes.len() - 8..].try_into().unwrap());
    let mut made = make(version, COMPATIBLE, "us");
    let bundle = made.release.files.bundle.as_mut().unwrap();
    bundle.file.length = end;
    bundle.file.sha256 = sha256(&bytes);
    bundle.signature_offset = end - 8 - signature;
    bundle.signature_sha256 = sha256(&bytes[usize::try_from(bundle.signature_offset).unwrap()..]);
    bundle.payload_length = 4096;
    made.bundle = bytes;
    made
}

fn start_rauc(device: &Device) -> Service {
    let dir = device.world.dir.path();
    let backend = dir.join("backend");
    std::fs::write(&backend, "#!/bin/sh\ncase $1 in get-primary) echo slot-a;; get-state) echo good;; esac\n").unwrap();
    run(Command::new("chmod").arg("755").arg(&backend));
    let mut config = format!(
        "[system]\ncompatible={COMPATIBLE}\nbootloader=custom\nbundle-formats=-plain\ndata-directory={0}/rauc\n\
         mountprefix={0}/mnt\n[handlers]\nbootloader-custom-backend={1}\n[keyring]\npath={0}/us.pem\n[streaming]\nsandbox-user=root\n",
        dir.display(),
        backend.display()
    );
    for (n, slot) in ["slot-a", "slot-b"].into_iter().enumerate() {
        let image = dir.join(format!("{slot}.img"));
        std::fs::write(&image, vec![0; 2 << 20]).unwrap();
        config += &format!("[slot.rootfs.{n}]\ndevice={}\ntype=raw\nbootname={slot}\n", image.display());
    }
    for folder in ["rauc", "mnt"] {
        std::fs::create_dir(dir.join(folder)).unwrap();
    }
    std::fs::write(dir.join("rauc.conf"), config).unwrap();
    let service = Command::new("rauc")
        .args(["--conf=rauc.conf", "--override-boot-slot=slot-a", "service"])
        .env("DBUS_STARTER_BUS_TYPE", "session")
        .env("DBUS_SESSION_BUS_ADDRESS", &device.bus.address)
        .current_dir(dir)
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    Service(service)
}

#[test]
fn the_real_rauc_verifies_what_the_relay_hands_it() {
    let mut device = Device::new();
    device.services = None;
    let dir = device.world.dir.path().to_owned();
    make_signer(&dir, "us");
    make_signer(&dir, "stranger");
    let _rauc = start_rauc(&device);

    device.world.repo.release_made(&make_bundle(&dir, "1.2.0", "stranger"));
    device.start();
    until("RAUC is there, and refuses a stranger's bundle", || {
        device.attempts().first().is_some_and(|a| a.outcome == Outcome::Refused && a.message.contains("signature"))
    });

    // Its own is verified, and compatible and version are understood: only then an installation is ordered. Where it can have
    // no block devices, it says so, and everything is as it was.
    device.world.repo.release_made(&make_bundle(&dir, "1.3.0", "us"));
    until("an installation was ordered and has ended", || {
        device.attempts().first().is_some_and(|a| a.version == "1.3.0" && a.outcome != Outcome::Installing)
    });
    let attempt = device.attempts().remove(0);
    assert_ne!(attempt.outcome, Outcome::Refused, "{}", attempt.message);
    if attempt.outcome == Outcome::Failed {
        assert!(attempt.message.contains("RAUC: "), "{}", attempt.message);
        until("its state is undone", || device.state().state() == &State::Idle);
        assert!(device.state().rejected().is_empty());
    }
}

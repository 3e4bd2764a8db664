//! The predictions beside independent judges: systemd-measure for PCR 11, sbsign and sbverify for the Authenticode hash.
//!
//! PCR 4 has no judge on a build host. Its parts have (the hash, and here the order of events that a guest's event log is
//! compared with); its value is compared with a device's in the scenarios.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on ends")]

use std::path::{Path, PathBuf};
use std::process::Command;

use iotwasm_firmware::Digest;
use iotwasm_firmware::predict::{Event, InnerKernel, Pe, PeError, PredictError, Stub, pcr4_events, predict, replay};
use iotwasm_firmware::release::PHASES;
use proptest::prelude::*;
use tempfile::TempDir;

const STUB: &str = "/usr/lib/systemd/boot/efi/linuxx64.efi.stub";
/// A PE image of the build root that stands for a kernel.
const KERNEL: &str = "/usr/lib/systemd/boot/efi/systemd-bootx64.efi";

struct Bench {
    dir: TempDir,
}

impl Bench {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn write(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.path(name);
        std::fs::write(&path, bytes).unwrap();
        path
    }

    /// A UKI by ukify, and the bytes of what went in.
    fn uki(&self, cmdline: &str, more: &[&str]) -> Vec<u8> {
        let initrd = self.write("initrd", &[7; 5001]);
        let osrel = self.write("os-release", b"ID=test\nVERSION_ID=1\n");
        let out = self.path("uki.efi");
        let mut command = Command::new("ukify");
        command.args(["build", "--uname=6.12.0", &format!("--linux={KERNEL}"), &format!("--stub={STUB}")]);
        command.arg(format!("--initrd={}", initrd.display())).arg(format!("--os-release=@{}", osrel.display()));
        command.arg(format!("--cmdline={cmdline}")).arg(format!("--output={}", out.display())).args(more);
        run(&mut command);
        std::fs::read(out).unwrap()
    }
}

#[track_caller]
fn run(command: &mut Command) -> String {
    let program = command.get_program().to_string_lossy().into_owned();
    let output =
        command.output().unwrap_or_else(|err| panic!("{program} (is it in scripts/buildroot.packages?): {err}"));
    assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn measured_by_systemd(bench: &Bench, uki: &[u8], names: &[&str], phase: &str) -> String {
    let pe = Pe::parse(uki).unwrap();
    let mut command = Command::new("/usr/lib/systemd/systemd-measure");
    command.args(["calculate", "--bank=sha256", &format!("--phase={}", if phase.is_empty() { ":" } else { phase })]);
    for name in names {
        let file = bench.write(&format!("section-{name}"), &pe.section(&format!(".{name}")).unwrap().in_memory());
        command.arg(format!("--{name}={}", file.display()));
    }
    let text = run(&mut command);
    text.lines().find_map(|line| line.strip_prefix("11:sha256=")).expect("a line for PCR 11").to_owned()
}

#[test]
fn pcr_11_is_what_systemd_measure_says_in_every_phase() {
    let bench = Bench::new();
    let splash = bench.write("splash", b"BM not really a picture");
    let dtb = bench.write("dtb", b"\xd0\x0d\xfe\xed and so on");
    let pkey = bench.write("pcrpkey", b"-----BEGIN PUBLIC KEY-----\n");
    let plain = ["linux", "osrel", "cmdline", "initrd", "uname", "sbat"];
    let full = [&plain[..], &["splash", "dtb", "pcrpkey"]].concat();
    let more = [
        format!("--splash={}", splash.display()),
        format!("--devicetree={}", dtb.display()),
        format!("--section=.pcrpkey:@{}", pkey.display()),
    ];
    let more: Vec<&str> = more.iter().map(String::as_str).collect();
    for (names, more) in [(&plain[..], &[][..]), (&full[..], &more[..])] {
        let uki = bench.uki("console=ttyS0 iot.verity=00:4096", more);
        let predicted = predict(&uki).unwrap().pcrs.pcr11;
        assert_eq!(predicted.len(), PHASES.len());
        for pcr in predicted {
            assert_eq!(pcr.value.to_string(), measured_by_systemd(&bench, &uki, names, &pcr.phase), "{:?}", pcr.phase);
        }
    }
}

/// ukify reads sections with pefile, a PE parser of its own.
#[test]
fn sections_are_what_ukify_finds_in_the_file() {
    let bench = Bench::new();
    let uki = bench.uki("quiet", &[]);
    let text = run(Command::new("ukify").arg("inspect").arg(bench.path("uki.efi")).arg("--json=short"));
    let found: serde_json::Value = serde_json::from_str(&text).unwrap();
    let found = found.as_object().unwrap();
    let pe = Pe::parse(&uki).unwrap();
    assert!(found.contains_key(".linux") && found.contains_key(".sbat"), "{text}");
    for (name, section) in found {
        let ours = Digest::of(&pe.section(name).unwrap().in_memory()).to_string();
        assert_eq!(section["sha256"], ours.as_str(), "{name}");
    }
}

/// The digest that a signed image's PKCS #7 holds: SpcIndirectDataContent's DigestInfo for SHA-256.
fn signed_digest(image: &[u8]) -> Digest {
    let certificates = &image[image.len() - Pe::parse(image).unwrap().certificates_length()..];
    let info = [0x30, 0x31, 0x30, 0x0d, 6, 9, 0x60, 0x86, 0x48, 1, 0x65, 3, 4, 2, 1, 5, 0, 4, 0x20];
    let at = certificates.windows(info.len()).position(|window| window == info).expect("a SHA-256 DigestInfo");
    Digest::from_bytes(certificates[at + info.len()..at + info.len() + 32].try_into().unwrap())
}

fn signed(bench: &Bench, image: &Path) -> Vec<u8> {
    let (key, cert, out) = (bench.path("db.key"), bench.path("db.pem"), bench.path("signed.efi"));
    if !key.exists() {
        let mut request = Command::new("openssl");
        request.args(["req", "-x509", "-newkey", "rsa:2048", "-noenc", "-subj", "/CN=db", "-days", "1", "-keyout"]);
        run(request.arg(&key).arg("-out").arg(&cert));
    }
    run(Command::new("sbsign").arg("--key").arg(&key).arg("--cert").arg(&cert).arg("--output").arg(&out).arg(image));
    run(Command::new("sbverify").arg("--cert").arg(&cert).arg(&out));
    std::fs::read(out).unwrap()
}

#[test]
fn the_authenticode_hash_is_what_sbsign_signs() {
    let bench = Bench::new();
    bench.uki("quiet", &[]);
    // Lengths that are no multiple of 8, and data behind the sections: the signer pads, and the padding counts.
    let stub = std::fs::read(STUB).unwrap();
    let appended = bench.write("appended.efi", &[&stub[..], b"13 bytes more"].concat());
    for image in [bench.path("uki.efi"), STUB.into(), KERNEL.into(), appended] {
        let image_bytes = std::fs::read(&image).unwrap();
        let signed = signed(&bench, &image);
        let pe = Pe::parse(&signed).unwrap();
        assert!(pe.certificates_length() > 0);
        assert_eq!(pe.authenticode(), signed_digest(&signed), "{}", image.display());
        if image_bytes.len().is_multiple_of(8) {
            assert_eq!(pe.authenticode(), Pe::parse(&image_bytes).unwrap().authenticode(), "signing changes no hash");
        }
    }
}

#[test]
fn a_signature_changes_no_pcr() {
    let bench = Bench::new();
    let uki = bench.uki("quiet", &[]);
    let signed = signed(&bench, &bench.path("uki.efi"));
    assert_ne!(uki, signed);
    assert_eq!(predict(&uki).unwrap(), predict(&signed).unwrap());
}

#[test]
fn a_byte_of_the_command_line_changes_both_pcrs() {
    let bench = Bench::new();
    let (one, two) = (predict(&bench.uki("a=1", &[])).unwrap(), predict(&bench.uki("a=2", &[])).unwrap());
    assert_ne!(one.uki, two.uki);
    assert_eq!(one.kernel, two.kernel);
    for (one, two) in one.pcrs.pcr4.iter().zip(&two.pcrs.pcr4) {
        assert_ne!(one.value, two.value);
    }
    for (one, two) in one.pcrs.pcr11.iter().zip(&two.pcrs.pcr11) {
        assert_ne!(one.value, two.value);
    }
}

#[test]
fn pcr_4_counts_the_inner_kernel_only_where_the_firmware_loads_it() {
    let stub = |version| Stub { version };
    assert_eq!(InnerKernel::of(stub(257), false), InnerKernel::Measured);
    assert_eq!(InnerKernel::of(stub(257), true), InnerKernel::NotMeasured);
    assert_eq!(InnerKernel::of(stub(258), false), InnerKernel::NotMeasured);
    assert_eq!(InnerKernel::of(stub(259), true), InnerKernel::NotMeasured);

    let (uki, kernel) = (Digest::of(b"uki"), Digest::of(b"kernel"));
    let words = |inner| -> Vec<String> {
        pcr4_events(uki, kernel, inner).into_iter().map(|event| format!("{} {}", event.digest, event.what)).collect()
    };
    let measured = words(InnerKernel::Measured);
    // These two are the same on every machine: event logs of other makers' machines show them.
    assert!(
        measured[0].starts_with("3d6772b4f84ed47595d72a2c4c5ffd15f5bb72c7507fe26f2aaee2c69d5633ba "),
        "{measured:?}"
    );
    assert!(
        measured[1].starts_with("df3f619804a92fdb4057192dc43dd748ea778adc52bc498ce80524c014b81119 "),
        "{measured:?}"
    );
    assert_eq!(measured.len(), 4);
    assert_eq!(words(InnerKernel::NotMeasured), measured[..3]);
    assert_ne!(
        replay(&pcr4_events(uki, kernel, InnerKernel::Measured)),
        replay(&pcr4_events(uki, kernel, InnerKernel::NotMeasured))
    );
}

#[test]
fn the_build_roots_stub_is_known() {
    let bench = Bench::new();
    let prediction = predict(&bench.uki("quiet", &[])).unwrap();
    assert!(prediction.stub.version >= 257, "{}", prediction.stub);
    let kernel = std::fs::read(KERNEL).unwrap();
    assert_eq!(prediction.kernel, Pe::parse(&kernel).unwrap().authenticode());
}

#[test]
fn what_cannot_be_predicted_is_refused() {
    let bench = Bench::new();
    let stub = std::fs::read(STUB).unwrap();
    assert!(matches!(predict(&stub), Err(PredictError::NoSection { name: ".linux" })));
    assert!(matches!(predict(b"not one"), Err(PredictError::Uki { err: PeError::Signature { what: "MZ" } })));
    let profile = bench.write("profile", b"ID=one\n");
    let uki = bench.uki("quiet", &[&format!("--section=.profile:@{}", profile.display())]);
    assert!(matches!(predict(&uki), Err(PredictError::Unpredictable { name }) if name == ".profile"));
    // A second .osrel, under the place of .uname.
    let mut twice = bench.uki("quiet", &[]);
    let at = twice.windows(8).position(|window| window == b".uname\0\0").unwrap();
    twice[at..at + 8].copy_from_slice(b".osrel\0\0");
    assert!(matches!(predict(&twice), Err(PredictError::Twice { name }) if name == ".osrel"));
}

#[test]
fn an_image_that_is_cut_or_lies_about_its_parts_is_refused() {
    let stub = std::fs::read(STUB).unwrap();
    let pe = u32::from_le_bytes(stub[0x3C..0x40].try_into().unwrap()) as usize;
    let certificates = pe + 24 + 112 + 32;
    let edit = |at: usize, value: u32| {
        let mut bytes = stub.clone();
        bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
        Pe::parse(&bytes).map(|pe| pe.authenticode())
    };
    assert!(Pe::parse(&stub).is_ok());
    assert!(edit(0x3C, u32::MAX).is_err(), "headers outside the file");
    assert!(edit(pe + 24 + 60, 64).is_err(), "headers that end before they do");
    assert!(edit(pe + 24 + 60, u32::MAX).is_err(), "headers longer than the file");
    assert!(edit(certificates + 4, 8).is_err(), "a certificate table that is not the file's end");
    assert!(edit(certificates + 4, u32::MAX).is_err(), "a certificate table longer than the file");
    let table = pe + 24 + usize::from(u16::from_le_bytes(stub[pe + 20..pe + 22].try_into().unwrap()));
    assert!(edit(table + 20, 16).is_err(), "a section over the headers");
    assert!(edit(table + 16, u32::MAX).is_err(), "a section longer than the file");
    assert!(edit(table + 8, u32::MAX).is_err(), "a section of 4 GiB in memory");
    for length in (0..stub.len()).step_by(251).chain(0..1024) {
        assert!(Pe::parse(&stub[..length]).is_err(), "{length} bytes of {}", stub.len());
    }
}

#[test]
fn an_extension_is_the_hash_of_both() {
    // SHA-256 of 32 zeros and SHA-256("sysinit"): what tpm2_pcrevent leaves in a PCR that was zero.
    let once = replay(&[Event::of("", b"sysinit")]);
    let both = [&[0; 32][..], Digest::of(b"sysinit").as_bytes()].concat();
    assert_eq!(once, Digest::of(&both));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]
    /// Headers of a real image, some of their bytes replaced.
    #[test]
    fn no_bytes_make_it_panic(edits in proptest::collection::vec((0usize..1536, any::<u8>()), 0..12)) {
        let mut image = std::fs::read(STUB).unwrap();
        image.truncate(40_000);
        for (at, byte) in edits {
            image[at] = byte;
        }
        if let Ok(pe) = Pe::parse(&image) {
            pe.authenticode();
        }
        let _ = predict(&image);
    }
}

//! The parser of release.json: what it reads, what it refuses, and that it never panics.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on ends")]

use iotwasm_firmware::release::{
    Artifact, Bundle, FORMAT, Files, ImaEntry, MAX_BYTES, PHASES, Pcr4, Pcr11, Pcrs, Verity,
};
use iotwasm_firmware::{Digest, Release, ReleaseError};
use proptest::prelude::*;
use serde_json::{Value, json};

fn digest(byte: u8) -> Digest {
    Digest::from_bytes([byte; 32])
}

fn file(name: &str, length: u64) -> Artifact {
    Artifact { name: name.into(), length, sha256: digest(name.len() as u8) }
}

fn entry(path: &str) -> ImaEntry {
    ImaEntry { path: path.into(), sha256: digest(path.len() as u8) }
}

fn release() -> Release {
    Release {
        format: FORMAT,
        compatible: "acme-gateway".into(),
        version: "1.4.0-rc.1".parse().unwrap(),
        time: "2026-03-01T00:00:00Z".parse().unwrap(),
        files: Files {
            rootfs: file("rootfs.img", 12288),
            uki: file("uki.efi", 1000),
            esp: file("esp.img", 4096),
            bundle: Some(Bundle {
                file: file("firmware.raucb", 9000),
                payload_length: 8192,
                payload_sha256: digest(9),
                signature_offset: 8500,
                signature_sha256: digest(8),
            }),
        },
        verity: Verity { root_hash: digest(1), hash_offset: 8192, salt: digest(2) },
        pcrs: Pcrs {
            pcr4: [false, true].map(|secure_boot| Pcr4 { secure_boot, value: digest(4) }).into(),
            pcr11: PHASES.map(|phase| Pcr11 { phase: phase.into(), value: digest(11) }).into(),
        },
        ima: vec![entry("/usr/bin/a"), entry("/usr/bin/b"), entry("/usr/libexec/runner")],
        runner: entry("/usr/libexec/runner"),
    }
}

fn bundle(release: &mut Release) -> &mut Bundle {
    release.files.bundle.as_mut().unwrap()
}

#[test]
fn a_release_without_a_bundle_is_one() {
    let mut release = release();
    release.files.bundle = None;
    assert_eq!(Release::parse(&release.to_json().unwrap()).unwrap(), release);
}

#[test]
fn a_release_survives_being_written_and_read() {
    let release = release();
    let bytes = release.to_json().unwrap();
    assert_eq!(Release::parse(&bytes).unwrap(), release);
    assert_eq!(release.measured("/usr/bin/b"), Some(digest(10)));
    assert_eq!(release.measured("/usr/bin/c"), None);
    assert_eq!(release.pcr11("sysinit:ready"), Some(digest(11)));
    assert_eq!(release.pcr11("enter-initrd"), None);
}

#[test]
fn keys_of_a_later_version_are_ignored() {
    let mut value = serde_json::to_value(release()).unwrap();
    value["later"] = json!({"a": [1]});
    value["files"]["uki"]["later"] = json!(1);
    assert_eq!(Release::parse(value.to_string().as_bytes()).unwrap(), release());
}

#[test]
fn another_format_is_told_apart_from_a_broken_file() {
    let other = Release::parse(br#"{"format": 2, "everything": "else"}"#);
    assert!(matches!(other, Err(ReleaseError::Format { found: 2 })), "{other:?}");
    let huge = Release::parse(&vec![b' '; MAX_BYTES + 1]);
    assert!(matches!(huge, Err(ReleaseError::TooLong { .. })), "{huge:?}");
}

#[test]
fn what_breaks_a_rule_is_refused_and_never_written() {
    type Edit = fn(&mut Release);
    let cases: [(&str, Edit); 25] = [
        ("compatible", |r| r.compatible.clear()),
        ("compatible", |r| r.compatible = "a b".into()),
        ("compatible", |r| r.compatible = "a".repeat(129)),
        ("version", |r| r.version = "1.0.0+build".parse().unwrap()),
        ("time", |r| r.time = "2026-03-01T00:00:00.5Z".parse().unwrap()),
        ("files.uki.name", |r| r.files.uki.name = "../uki.efi".into()),
        ("files.uki.name", |r| r.files.uki.name = ".uki".into()),
        ("files.esp.name", |r| r.files.esp.name = "uki.efi".into()),
        ("files.esp.length", |r| r.files.esp.length = 0),
        ("files.rootfs.length", |r| r.files.rootfs.length += 1),
        ("files.bundle.payload_length", |r| bundle(r).payload_length = 12288),
        ("files.bundle.payload_length", |r| bundle(r).payload_length = 100),
        ("files.bundle.signature_offset", |r| bundle(r).signature_offset = 8000),
        ("files.bundle.signature_offset", |r| bundle(r).signature_offset = 9000),
        ("files.bundle.signature_offset", |r| bundle(r).file.length = 8501 + (1 << 20)),
        ("verity.hash_offset", |r| r.verity.hash_offset = 0),
        ("verity.hash_offset", |r| r.verity.hash_offset = 12288),
        ("pcrs.pcr4", |r| r.pcrs.pcr4.truncate(1)),
        ("pcrs.pcr4", |r| r.pcrs.pcr4.reverse()),
        ("pcrs.pcr11", |r| r.pcrs.pcr11[1].phase = "enter-initrd".into()),
        ("ima[1].path", |r| r.ima[1].path = "/usr/bin/a".into()),
        ("ima[2].path", |r| r.ima[2].path = "/usr/bin/../x".into()),
        ("ima[0].path", |r| r.ima[0].path = "/usr/bin/a\n".into()),
        ("runner", |r| r.runner.sha256 = digest(0)),
        ("runner", |r| r.runner.path = "/usr/bin/none".into()),
    ];
    for (expected, edit) in cases {
        let mut bad = release();
        edit(&mut bad);
        let bytes = serde_json::to_vec(&bad).unwrap();
        for result in [Release::parse(&bytes).map(|_| ()), bad.to_json().map(|_| ())] {
            assert!(
                matches!(&result, Err(ReleaseError::Rule { field, .. }) if field == expected),
                "{expected} {result:?}"
            );
        }
    }
}

#[test]
fn a_key_that_stands_twice_is_refused() {
    let text = String::from_utf8(release().to_json().unwrap()).unwrap();
    let twice = text.replacen("\"verity\": {", "\"compatible\": \"other\", \"verity\": {", 1);
    assert!(matches!(Release::parse(twice.as_bytes()), Err(ReleaseError::Malformed { .. })));
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..2048)) {
        let _ = Release::parse(&bytes);
    }

    /// Any leaf of a good release replaced by anything: refused, or read, and then it writes and reads as the same.
    #[test]
    fn what_is_accepted_can_be_written_and_read_again(at in 0usize..40, with in anything()) {
        let mut value = serde_json::to_value(release()).unwrap();
        let mut leaves = Vec::new();
        pointers(&value, String::new(), &mut leaves);
        let at = leaves[at % leaves.len()].clone();
        *value.pointer_mut(&at).unwrap() = with;
        if let Ok(read) = Release::parse(value.to_string().as_bytes()) {
            prop_assert_eq!(Release::parse(&read.to_json().unwrap()).unwrap(), read);
        }
    }
}

fn anything() -> impl Strategy<Value = Value> {
    prop_oneof![
        any::<u64>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<bool>().prop_map(Value::from),
        "\\PC{0,40}".prop_map(Value::from),
        "[0-9]{1,3}\\.[0-9]\\.[0-9](-[a-z]{1,4})?".prop_map(Value::from),
        "[0-9a-f]{64}".prop_map(Value::from),
        "(/[a-z.]{1,4}){1,4}".prop_map(Value::from),
        Just(Value::Null),
        Just(json!([])),
        Just(json!({})),
    ]
}

fn pointers(value: &Value, at: String, out: &mut Vec<String>) {
    match value {
        Value::Object(map) => map.iter().for_each(|(key, value)| pointers(value, format!("{at}/{key}"), out)),
        Value::Array(list) => list.iter().enumerate().for_each(|(i, value)| pointers(value, format!("{at}/{i}"), out)),
        _ => out.push(at),
    }
}

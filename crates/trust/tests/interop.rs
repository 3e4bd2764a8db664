//! python-tuf as an independent judge: its repository read by our client, and ours by its client.
//!
//! Needs the environment that `scripts/pyvenv` makes (`make test` does). Where it is missing, the tests say so and pass:
//! set IOTWASM_REQUIRE_PYTHON to make that a failure.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail like tests")]

use std::path::{Path, PathBuf};
use std::process::Command;

use iotwasm_trust::repo::{Delegation, Document, Key, MemoryFetch, Online, PublicKey, Repo};
use iotwasm_trust::{Limits, Time, Updater, chain};
use jiff::{SignedDuration, Timestamp};

const NAME: &str = "acme/blinky/blinky-1.0.0.wasm";

/// A python with python-tuf in it.
fn python() -> Option<PathBuf> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scripts/pyvenv");
    let made = Command::new(&script).output();
    let venv = made.ok().filter(|made| made.status.success()).and_then(|made| String::from_utf8(made.stdout).ok());
    let python = venv.map(|venv| Path::new(venv.trim()).join("bin/python3")).filter(|python| python.exists());
    if python.is_none() {
        let text = "SKIPPED: no python environment; run scripts/pyvenv in the build root";
        assert!(std::env::var_os("IOTWASM_REQUIRE_PYTHON").is_none(), "{text}");
        eprintln!("{text}");
    }
    python
}

/// Runs one of the scripts and gives what it prints.
fn run(python: &Path, script: &str, args: &[&Path]) -> String {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/interop").join(script);
    let done = Command::new(python).arg(&script).args(args).output().unwrap();
    assert!(done.status.success(), "{}: {}", script.display(), String::from_utf8_lossy(&done.stderr));
    String::from_utf8(done.stdout).unwrap()
}

#[test]
fn repository_made_by_python_tuf_is_read() {
    let Some(python) = python() else { return };
    let folder = tempfile::tempdir().unwrap();
    run(&python, "make_repository.py", &[folder.path()]);
    let pinned = std::fs::read(folder.path().join("1.root.json")).unwrap();
    let server = MemoryFetch::load(&folder.path().join("metadata")).unwrap();
    let store = tempfile::tempdir().unwrap();
    let time = Time::system(Timestamp::UNIX_EPOCH);
    let mut updater = Updater::open(store.path(), &pinned, time, Limits::default(), server).unwrap();
    assert_eq!(updater.refresh().unwrap().root, 2);
    let target = updater.find(NAME).unwrap().unwrap();
    assert_eq!(target.roles, ["targets", "acme"]);
    let custom = target.custom.as_ref().unwrap();
    assert_eq!(custom["iotwasm"]["note"], "\u{fc}ml\u{e4}ut \\ \" \n");
    let bytes = std::fs::read(folder.path().join("targets").join(&target.remote_path)).unwrap();
    assert_eq!(target.verify(&bytes), Ok(()));
    let chain_folder = tempfile::tempdir().unwrap();
    updater.export_chain(NAME, chain_folder.path()).unwrap();
    assert_eq!(chain::verify(&pinned, chain_folder.path(), NAME).unwrap(), target);
}

#[test]
fn repository_made_by_us_is_read_by_python_tuf() {
    let Some(python) = python() else { return };
    let folder = tempfile::tempdir().unwrap();
    let now = Timestamp::now();
    let expires = now + SignedDuration::from_hours(24);
    let repo = Repo::open(folder.path()).unwrap();
    let keys: Vec<Key> = (0..8).map(|_| Key::generate().unwrap()).collect();
    let public: Vec<PublicKey> = keys.iter().map(Key::public).collect();
    let (snapshot, timestamp) = (&keys[3..4], &keys[4..5]);
    let mut root = Document::new_root(expires);
    root.set_role("root", &public[..3], 2)
        .set_role("snapshot", &public[3..4], 1)
        .set_role("timestamp", &public[4..5], 1)
        .set_role("targets", &public[5..6], 1)
        .sign(&keys[..2]);
    repo.write(&root).unwrap();
    let pinned = folder.path().join("metadata/1.root.json");

    let custom = serde_json::json!({"iotwasm": {"kind": "payload", "note": "\u{fc} \\ \" \n"}});
    let info = repo.add_target_file(NAME, b"rust made this", Some(custom)).unwrap();
    let mut acme = Document::new_targets("acme", expires);
    acme.add_target(NAME, &info).sign(&keys[6..7]);
    let mut targets = Document::new_targets("targets", expires);
    let delegation = Delegation {
        name: "acme".into(),
        keys: vec![public[6].clone()],
        threshold: 1,
        paths: vec!["acme/*/*".into()],
        terminating: true,
    };
    targets.delegate(&delegation).sign(&keys[5..6]);
    let online = Online { snapshot, timestamp, snapshot_expires: expires, timestamp_expires: expires, now };
    repo.publish(&[&acme, &targets], &online).unwrap();
    repo.publish(&[], &online).unwrap();
    repo.renew_timestamp(&online).unwrap();

    // A root key is replaced: signed by the old threshold and the new one.
    let new_root = [public[0].clone(), public[1].clone(), public[7].clone()];
    root.set_role("root", &new_root, 2).bump().sign(&keys[..2]);
    repo.write(&root).unwrap();
    root.bump().sign([&keys[0], &keys[7]]);
    repo.write(&root).unwrap();

    let hash = run(&python, "read_repository.py", &[folder.path(), &pinned, Path::new(NAME)]);
    assert_eq!(hash.trim(), info.hashes.name());
    assert_eq!(repo.root().unwrap().version(), 3);
    assert_eq!(repo.timestamp().unwrap().version(), 3);
    assert_eq!(repo.role("acme").unwrap().target(NAME), Some(info));
}

#[test]
fn key_files_are_private_and_never_overwritten() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("root.pem");
    let key = Key::generate().unwrap();
    key.save(&path).unwrap();
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(Key::generate().unwrap().save(&path).is_err());
    assert_eq!(Key::load(&path).unwrap().id(), key.id());
    let public = key.public();
    assert_eq!(PublicKey::from_pem(&public.to_pem()).unwrap(), public);
    assert_eq!(PublicKey::from_json(&public.to_json()).unwrap(), public);
    assert!(Key::from_pem(&public.to_pem()).is_err() && PublicKey::from_pem(&key.to_pem()).is_err());
    assert!(!format!("{key:?}").contains("PRIVATE"));
}

#[test]
fn keys_go_to_openssl_and_come_from_it() {
    let folder = tempfile::tempdir().unwrap();
    let openssl = |args: &str| {
        let done = Command::new("openssl").args(args.split(' ')).current_dir(folder.path()).output().unwrap();
        assert!(done.status.success(), "openssl {args}: {}", String::from_utf8_lossy(&done.stderr));
    };
    let read = |name: &str| std::fs::read_to_string(folder.path().join(name)).unwrap();
    std::fs::write(folder.path().join("message"), "message").unwrap();

    // Theirs is read, and stays as it was; what it signs is theirs.
    openssl("genpkey -algorithm ed25519 -out theirs.pem");
    openssl("pkey -in theirs.pem -pubout -out theirs.pub.pem");
    let theirs = Key::load(&folder.path().join("theirs.pem")).unwrap();
    assert_eq!(theirs.to_pem(), read("theirs.pem"));
    assert_eq!(theirs.public().to_pem(), read("theirs.pub.pem"));
    openssl("pkeyutl -sign -inkey theirs.pem -rawin -in message -out theirs.sig");
    let signature = hex::encode(std::fs::read(folder.path().join("theirs.sig")).unwrap());
    assert!(theirs.public().made(&signature, b"message") && !theirs.public().made(&signature, b"massage"));

    // Ours is read by them, and what it signs verifies there.
    let ours = Key::generate().unwrap();
    ours.save(&folder.path().join("ours.pem")).unwrap();
    openssl("pkey -in ours.pem -pubout -out ours.pub.pem");
    assert_eq!(PublicKey::from_pem(&read("ours.pub.pem")).unwrap(), ours.public());
    let mut document = Document::new_targets("targets", Timestamp::now());
    document.sign([&ours]);
    std::fs::write(folder.path().join("ours.sig"), hex::decode(&document.signatures[0].1).unwrap()).unwrap();
    std::fs::write(folder.path().join("canonical"), document.canonical()).unwrap();
    openssl("pkeyutl -verify -pubin -inkey ours.pub.pem -rawin -in canonical -sigfile ours.sig");
}

/// As aws-lc wrote it: PKCS#8 of version 1, and of version 2 with the public key, in both tags that are in use for that.
#[test]
fn keys_of_every_pkcs8_version_load() {
    let public = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a";
    let seed = "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60";
    let v1 = format!("302e020100300506032b657004220420{seed}");
    let v2 = format!("3051020101300506032b657004220420{seed}812100{public}");
    let legacy = format!("3053020101300506032b657004220420{seed}a123032100{public}");
    let pem = |der: &str| {
        pem::encode_config(
            &pem::Pem::new("PRIVATE KEY", hex::decode(der).unwrap()),
            pem::EncodeConfig::new().set_line_ending(pem::LineEnding::LF),
        )
    };
    for der in [&v1, &v2, &legacy] {
        let key = Key::from_pem(&pem(der)).unwrap();
        assert_eq!(key.public().to_json()["keyval"]["public"], public);
        assert_eq!(key.to_pem(), pem(der));
    }
    // Halves that do not belong together.
    assert!(Key::from_pem(&pem(&v2.replace("d75a", "d75b"))).is_err());
    assert!(Key::from_pem(&pem(&v1[..94])).is_err());
}

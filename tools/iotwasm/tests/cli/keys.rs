//! `iotwasm keys`, from outside.

use std::os::unix::fs::PermissionsExt as _;

use crate::common::Bench;

#[test]
fn keys_are_readable_by_their_owner_alone() {
    let bench = Bench::new();
    // Even where the umask would let everybody read.
    let output = std::process::Command::new("sh")
        .args(["-c", "umask 000; exec \"$0\" keys generate --dir keys", env!("CARGO_BIN_EXE_iotwasm")])
        .current_dir(bench.dir.path())
        .output()
        .unwrap();
    crate::common::Run::from(output).ok();
    let mode = |path: &std::path::Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&bench.path("keys")), 0o700);
    assert_eq!(bench.keys_of("root").len(), 3);
    for role in ["root", "targets", "snapshot", "timestamp"] {
        for path in bench.keys_of(role) {
            assert_eq!(mode(&path), 0o600, "{}", path.display());
        }
    }
}

#[test]
fn a_role_that_has_a_key_is_refused_and_nothing_is_made() {
    let bench = Bench::new();
    bench.run(&["keys", "generate", "--dir", "keys", "targets"]).ok();
    let before = std::fs::read(&bench.keys_of("targets")[0]).unwrap();
    bench.run(&["keys", "generate", "--dir", "keys", "acme", "targets"]).fails(1, "rotate-key targets");
    assert_eq!(std::fs::read(&bench.keys_of("targets")[0]).unwrap(), before);
    assert!(bench.keys_of("acme").is_empty());
}

#[test]
fn a_key_that_others_can_read_is_not_used() {
    let bench = Bench::with_repository();
    let key = &bench.keys_of("timestamp")[0];
    std::fs::set_permissions(key, std::fs::Permissions::from_mode(0o640)).unwrap();
    bench.repo("refresh", &[]).fails(78, "chmod 600");
}

#[test]
fn a_key_of_openssl_is_taken() {
    let bench = Bench::new();
    bench.run(&["keys", "generate", "--dir", "keys"]).ok();
    let made = std::process::Command::new("openssl")
        .args(["genpkey", "-algorithm", "ed25519", "-out", "keys/acme-openssl.pem"])
        .current_dir(bench.dir.path())
        .output()
        .unwrap();
    assert!(made.status.success(), "{made:?}");
    bench.repo("init", &["--vendor", "acme"]).ok();
    let file = bench.payload("1.0.0");
    bench.repo("publish", &[&file]).ok();
    assert_eq!(bench.device().names("acme/*/*"), ["acme/counter/counter-1.0.0.wasm"]);
}

#[test]
fn a_file_that_is_no_key_is_named() {
    let bench = Bench::with_repository();
    let path = bench.path("keys/notes.pem");
    std::fs::write(&path, "not a key").unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    bench.run(&["keys", "list", "--dir", "keys"]).fails(78, "keys/notes.pem");
}

#[test]
fn the_list_tells_which_keys_are_trusted() {
    let bench = Bench::with_repository();
    bench.repo("rotate-key", &["acme"]).ok();
    let list = bench.run(&["--json", "keys", "list", "--dir", "keys", "--repo", "repo"]).ok();
    let list: serde_json::Value = serde_json::from_str(&list.out).unwrap();
    let acme: Vec<_> = list["keys"].as_array().unwrap().iter().filter(|key| key["role"] == "acme").collect();
    let trusted: Vec<_> = acme.iter().filter(|key| key["trusted_for"] == serde_json::json!(["acme"])).collect();
    assert_eq!((acme.len(), trusted.len()), (2, 1));
}

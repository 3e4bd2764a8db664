//! The test keys.

use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use crate::common::{keys, release_command, run};

#[test]
fn the_chain_is_one_that_may_sign_code() {
    let rauc = keys().join("rauc");
    let mut verify = Command::new("openssl");
    verify.args(["verify", "-purpose", "codesign", "-CAfile"]).arg(rauc.join("root.pem"));
    run(verify.arg("-untrusted").arg(rauc.join("intermediate.pem")).arg(rauc.join("signer.pem"))).ok();
    let mut without = Command::new("openssl");
    without.args(["verify", "-CAfile"]).arg(rauc.join("root.pem"));
    assert_ne!(run(without.arg(rauc.join("signer.pem"))).code, 0, "the intermediate is needed");
    let mut other = Command::new("openssl");
    other.args(["verify", "-purpose", "codesign", "-CAfile"]).arg(rauc.join("root.pem"));
    assert_ne!(run(other.arg(rauc.join("intermediate.pem"))).code, 0, "only the signer signs code");
}

#[test]
fn none_of_secure_boots_keys_vouches_for_another() {
    let uki = keys().join("uki");
    for (name, above) in [("db", "KEK"), ("KEK", "PK"), ("db", "PK")] {
        let mut verify = Command::new("openssl");
        verify
            .args(["verify", "-partial_chain", "-purpose", "any", "-trusted"])
            .arg(uki.join(above).with_extension("pem"));
        assert_ne!(run(verify.arg(uki.join(name).with_extension("pem"))).code, 0, "{name} below {above}");
    }
}

#[test]
fn keys_are_their_owners_alone() {
    for name in ["rauc/root", "rauc/intermediate", "rauc/signer", "uki/PK", "uki/KEK", "uki/db"] {
        let key = keys().join(name).with_extension("key");
        assert_eq!(std::fs::metadata(&key).unwrap().permissions().mode() & 0o7777, 0o600, "{name}");
        assert!(keys().join(name).with_extension("pem").exists(), "{name}");
    }

    assert_eq!(std::fs::metadata(keys()).unwrap().permissions().mode() & 0o7777, 0o700);
}

#[test]
fn nothing_is_overwritten() {
    let dir = tempfile::tempdir().unwrap();
    let before = std::fs::read(keys().join("rauc/signer.key")).unwrap();
    for path in [keys(), dir.path()] {
        run(release_command().arg("keys").arg("--out").arg(path)).fails(1, "is there already");
    }
    assert_eq!(std::fs::read(keys().join("rauc/signer.key")).unwrap(), before);
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
}

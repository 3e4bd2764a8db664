//! Changes of Secure Boot's variables. What firmware itself makes of them, the scenario `secure-boot` shows; here openssl
//! judges the signature, by itself and over bytes that are put together anew.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::common::{keys, release_command, run};

/// EFI_TIME, then WIN_CERTIFICATE_UEFI_GUID.
const HEAD: usize = 16 + 24;

/// Whether `signer` alone signed this file as that variable, with those attributes.
fn is_signed(auth: &[u8], name_and_vendor: &str, attributes: u8, signer: &Path) -> bool {
    let length = u32::from_le_bytes(auth[16..20].try_into().unwrap()) as usize;
    let (signed_data, lists) = (&auth[HEAD..16 + length], &auth[16 + length..]);
    let mut content = hex::decode(name_and_vendor).unwrap();
    content.extend([attributes, 0, 0, 0]);
    content.extend(&auth[..16]);
    content.extend(lists);
    // openssl wants the wrapper that firmware need not take: pkcs7-signedData, and the length in two bytes each.
    let oid = hex::decode("06092a864886f70d010702").unwrap();
    let length = |n: usize| [0x82, (n >> 8) as u8, n as u8];
    let mut cms = vec![0x30];
    cms.extend(length(oid.len() + 4 + signed_data.len()));
    cms.extend(&oid);
    cms.push(0xa0);
    cms.extend(length(signed_data.len()));
    cms.extend(signed_data);
    let dir = tempfile::tempdir().unwrap();
    let (content_file, cms_file) = (dir.path().join("content"), dir.path().join("cms"));
    fs::write(&content_file, content).unwrap();
    fs::write(&cms_file, cms).unwrap();
    let mut verify = Command::new("openssl");
    verify.args([
        "cms",
        "-verify",
        "-binary",
        "-inform",
        "DER",
        "-purpose",
        "any",
        "-partial_chain",
        "-out",
        "/dev/null",
    ]);
    verify.arg("-CAfile").arg(signer).arg("-in").arg(cms_file).arg("-content").arg(content_file);
    run(&mut verify).code == 0
}

/// Name in UTF-16 and vendor, as the signature has them.
const PK: &str = "50004b0061dfe48bca93d211aa0d00e098032b8c";
const KEK: &str = "4b0045004b0061dfe48bca93d211aa0d00e098032b8c";
const DB: &str = "64006200cbb219d73a3d9645a3bcdad00e67656f";
const DBX: &str = "640062007800cbb219d73a3d9645a3bcdad00e67656f";

#[test]
fn each_variable_is_signed_by_the_one_above_it() {
    let uki = keys().join("uki");
    for (name, words, signer, stranger) in [("PK", PK, "PK", "KEK"), ("KEK", KEK, "PK", "KEK"), ("db", DB, "KEK", "db")]
    {
        let auth = fs::read(uki.join(name).with_extension("auth")).unwrap();
        let der = fs::read(uki.join(name).with_extension("der")).unwrap();
        assert!(auth.ends_with(&der), "{name}");
        assert!(is_signed(&auth, words, 0x27, &uki.join(signer).with_extension("pem")), "{name}");
        assert!(!is_signed(&auth, words, 0x27, &uki.join(stranger).with_extension("pem")), "{name} by {stranger}");
        assert!(
            !is_signed(&auth, words, 0x67, &uki.join(signer).with_extension("pem")),
            "{name} with other attributes"
        );
    }
}

fn update(variable: &str, out: &Path) -> Command {
    let kek = keys().join("uki/KEK");
    let mut command = release_command();
    command.args(["efi-update", "--variable", variable, "--time", "2026-03-01T00:00:00Z", "--out"]).arg(out);
    command.arg("--cert").arg(kek.with_extension("pem")).arg("--key").arg(kek.with_extension("key"));
    command
}

#[test]
fn a_stolen_key_and_a_bad_release_are_revoked_in_one_update() {
    let dir = tempfile::tempdir().unwrap();
    let (out, again) = (dir.path().join("dbx.auth"), dir.path().join("again.auth"));
    let (image, db) = ("5a".repeat(32), keys().join("uki/db"));
    for (out, form) in [(&out, "pem"), (&again, "der")] {
        run(update("dbx", out).args(["--append", "--image", &image]).arg(db.with_extension(form))).ok();
    }
    let auth = fs::read(&out).unwrap();
    assert!(is_signed(&auth, DBX, 0x67, &keys().join("uki/KEK.pem")));
    assert!(auth.ends_with(&[0x5a; 32]));
    let der = fs::read(db.with_extension("der")).unwrap();
    assert!(auth.windows(der.len()).any(|window| window == der));
    assert!(auth == fs::read(&again).unwrap(), "the same update has the same bytes");
}

#[test]
fn what_firmware_would_refuse_is_not_signed() {
    let dir = tempfile::tempdir().unwrap();
    let (out, db) = (dir.path().join("x.auth"), keys().join("uki/db.pem"));
    run(&mut update("dbx", &out)).fails(64, "dbx would be empty");
    run(update("PK", &out).arg(&db).arg(&db)).fails(64, "PK takes one certificate");
    run(update("KEK", &out).args(["--image", &"5a".repeat(32)])).fails(64, "KEK takes certificates");
    run(update("db", &out).args(["--image", "5A"])).fails(64, "64 lower-case hex digits");
    run(update("db", &out).arg(keys().join("uki/db.key"))).fails(1, "openssl failed");
    assert!(!out.exists());
    fs::write(&out, "mine").unwrap();
    run(update("db", &out).arg(&db)).fails(1, "is there already");
    assert_eq!(fs::read(&out).unwrap(), b"mine");
}

//! `iotwasm-release keys`: keys in files, for tests and first steps.

use std::fs::{self, DirBuilder};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use clap::Args;

use crate::efi::{Update, Variable, signature_lists};
use crate::efi_update::{beginning_of, der_of, sign};
use crate::error::Error;
use crate::tool::Tool;

/// How long the certificates hold, in days.
const DAYS: &str = "3650";

#[derive(Debug, Args)]
pub(crate) struct Keys {
    /// Folder to make; it must not exist.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

/// A certificate to make.
struct Certificate<'a> {
    /// Below the folder; `.key` and `.pem` are added.
    name: &'a str,
    subject: &'a str,
    /// RSA, in bits. A signature by RSA (PKCS #1 v1.5) is the same each time.
    bits: u32,
    /// Its issuer's name; none signs itself.
    issuer: Option<&'a str>,
    extensions: &'a [&'a str],
}

const CA: &str = "basicConstraints=critical,CA:TRUE";
const SIGNS_CERTIFICATES: &str = "keyUsage=critical,keyCertSign,cRLSign";
const NO_CA: &str = "basicConstraints=critical,CA:FALSE";
const SIGNS: &str = "keyUsage=critical,digitalSignature";

/// RAUC checks the purpose `codesign`: the extension stands in the signer, and in no CA above it.
const CHAIN: [Certificate<'static>; 6] = [
    Certificate {
        name: "rauc/root",
        subject: "/O=iotwasm test/CN=bundle root",
        bits: 3072,
        issuer: None,
        extensions: &[CA, SIGNS_CERTIFICATES],
    },
    Certificate {
        name: "rauc/intermediate",
        subject: "/O=iotwasm test/CN=bundle intermediate",
        bits: 3072,
        issuer: Some("rauc/root"),
        extensions: &["basicConstraints=critical,CA:TRUE,pathlen:0", SIGNS_CERTIFICATES],
    },
    Certificate {
        name: "rauc/signer",
        subject: "/O=iotwasm test/CN=bundle signer",
        bits: 3072,
        issuer: Some("rauc/intermediate"),
        extensions: &[NO_CA, SIGNS, "extendedKeyUsage=critical,codeSigning"],
    },
    // Firmware is sure to take RSA of 2048 bits, and nothing else. None of the three vouches for another: firmware takes a change
    // of db from whoever has a certificate below one of KEK, and what may only sign images must not be able to.
    Certificate {
        name: "uki/PK",
        subject: "/O=iotwasm test/CN=platform key",
        bits: 2048,
        issuer: None,
        extensions: &[NO_CA, SIGNS],
    },
    Certificate {
        name: "uki/KEK",
        subject: "/O=iotwasm test/CN=key exchange key",
        bits: 2048,
        issuer: None,
        extensions: &[NO_CA, SIGNS],
    },
    Certificate {
        name: "uki/db",
        subject: "/O=iotwasm test/CN=UKI signer",
        bits: 2048,
        issuer: None,
        extensions: &[NO_CA, SIGNS, "extendedKeyUsage=codeSigning"],
    },
];

pub(crate) fn run(args: &Keys) -> Result<(), Error> {
    let out = &args.out;
    if fs::symlink_metadata(out).is_ok() {
        return Err(Error::Exists { path: out.clone() });
    }
    // A run that was cut short leaves no folder that looks like keys.
    let partial = crate::build::partial(out, 0o700)?;
    for folder in ["rauc", "uki"] {
        let path = partial.path().join(folder);
        DirBuilder::new().mode(0o700).create(&path).map_err(|err| Error::Write { path, err })?;
    }
    for certificate in &CHAIN {
        make(certificate, partial.path())?;
    }
    let uki = partial.path().join("uki");
    for (variable, name, signer) in
        [(Variable::Pk, "PK", "PK"), (Variable::Kek, "KEK", "PK"), (Variable::Db, "db", "KEK")]
    {
        enrolment(variable, &uki.join(name), &uki.join(signer))?;
    }
    crate::build::finish(partial, out)?;
    iotwasm_kit::info!(
        "made {}: rauc/ signs bundles (its root.pem is a device's keyring), uki/ signs UKIs",
        out.display()
    );
    Ok(())
}

/// The certificate as firmware's menus take it (`.der`), and as a device enrols it by itself (`.auth`): the variable holding
/// it alone, signed, with the time from which the certificate holds.
fn enrolment(variable: Variable, at: &Path, signer: &Path) -> Result<(), Error> {
    let (pem, path) = (at.with_extension("pem"), at.with_extension("der"));
    let der = der_of(&pem)?;
    fs::write(&path, &der).map_err(|err| Error::Write { path, err })?;
    let lists = signature_lists(&[der], &[]);
    let update = Update { variable, append: false, time: beginning_of(&pem)?, lists };
    let key = signer.with_extension("key").to_string_lossy().into_owned();
    sign(&update, &signer.with_extension("pem"), &key, &at.with_extension("auth"))
}

fn make(certificate: &Certificate<'_>, dir: &Path) -> Result<(), Error> {
    let at = dir.join(certificate.name);
    let (key, pem) = (at.with_extension("key"), at.with_extension("pem"));
    let mut tool = Tool::new("openssl", "openssl")
        .args(["req", "-x509", "-noenc", "-sha256", "-days", DAYS, "-subj", certificate.subject])
        .args(["-newkey", &format!("rsa:{}", certificate.bits)])
        .args(["-config", "/dev/null"]);
    for extension in certificate.extensions {
        tool = tool.args(["-addext", extension]);
    }
    if let Some(issuer) = certificate.issuer {
        let issuer = dir.join(issuer);
        tool = tool.arg("-CA").arg(issuer.with_extension("pem")).arg("-CAkey").arg(issuer.with_extension("key"));
    }
    tool.arg("-keyout").arg(&key).arg("-out").arg(&pem).run()?;
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).map_err(|err| Error::Write { path: key, err })
}

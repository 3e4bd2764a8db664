//! `iotwasm-release efi-update`: signs a change of one of Secure Boot's variables. openssl signs, crates and files do not
//! see a key.

use std::fs;
use std::path::{Path, PathBuf};

use clap::Args;
use iotwasm_firmware::Digest;
use jiff::Timestamp;

use crate::build::{parse_time, time_or_epoch};
use crate::efi::{Update, Variable, signature_lists};
use crate::error::Error;
use crate::tool::Tool;

#[derive(Debug, Args)]
pub(crate) struct EfiUpdate {
    /// Variable to change.
    #[arg(long, value_enum, value_name = "NAME")]
    variable: Variable,
    /// Add to what the variable holds, instead of replacing it.
    #[arg(long)]
    append: bool,
    /// When it was made [default: SOURCE_DATE_EPOCH from the environment]. No clock is read. Firmware takes a replacement
    /// only if it is newer than the last one.
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    time: Option<Timestamp>,
    /// Certificate that signs it: PK for PK and KEK, one of KEK for db and dbx.
    #[arg(long, value_name = "CERT")]
    cert: PathBuf,
    /// Its key: a file, or a URI for which openssl has a provider.
    #[arg(long, value_name = "KEY")]
    key: String,
    /// Authenticode hash of an image, for db or dbx; `iotwasm-release predict` prints it. May be given several times.
    #[arg(long = "image", value_name = "SHA256", value_parser = parse_image)]
    images: Vec<Digest>,
    /// File to make; it must not exist.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Certificates of the list, PEM or DER.
    #[arg(value_name = "CERT")]
    certificates: Vec<PathBuf>,
}

pub(crate) fn run(args: &EfiUpdate) -> Result<(), Error> {
    let time = time_or_epoch(args.time)?;
    args.variable.check(args.certificates.len(), args.images.len(), args.append)?;
    if fs::symlink_metadata(&args.out).is_ok() {
        return Err(Error::Exists { path: args.out.clone() });
    }
    let certificates = args.certificates.iter().map(|path| der_of(path)).collect::<Result<Vec<_>, _>>()?;
    let lists = signature_lists(&certificates, &args.images);
    let update = Update { variable: args.variable, append: args.append, time, lists };
    sign(&update, &args.cert, &args.key, &args.out)
}

/// Writes the signed update.
pub(crate) fn sign(update: &Update, cert: &Path, key: &str, out: &Path) -> Result<(), Error> {
    let work = tempfile::tempdir().map_err(|err| Error::Write { path: std::env::temp_dir(), err })?;
    let (content, signature) = (work.path().join("content"), work.path().join("signature"));
    fs::write(&content, update.signed_bytes()).map_err(|err| Error::Write { path: content.clone(), err })?;
    // Without attributes there is no time in it but the update's own, and the same update has the same signature.
    Tool::new("openssl", "openssl")
        .args(["cms", "-sign", "-binary", "-noattr", "-md", "sha256", "-outform", "DER"])
        .args(["-inkey", key, "-signer"])
        .arg(cert)
        .arg("-in")
        .arg(&content)
        .arg("-out")
        .arg(&signature)
        .run()?;
    let cms = fs::read(&signature).map_err(|err| Error::Read { path: signature, err })?;
    let bytes = update.with_signature(&cms).ok_or(Error::Answer { tool: "openssl", what: "a signature in DER" })?;
    fs::write(out, bytes).map_err(|err| Error::Write { path: out.to_owned(), err })
}

/// A certificate's DER, whichever form the file has. A file with several is refused: openssl would take the first in silence.
pub(crate) fn der_of(path: &Path) -> Result<Vec<u8>, Error> {
    const BEGIN: &str = "-----BEGIN CERTIFICATE-----";
    let bytes = fs::read(path).map_err(|err| Error::Read { path: path.to_owned(), err })?;
    if String::from_utf8_lossy(&bytes).matches(BEGIN).count() > 1 {
        return Err(Error::Certificates { path: path.to_owned() });
    }
    let work = tempfile::tempdir().map_err(|err| Error::Write { path: std::env::temp_dir(), err })?;
    let der = work.path().join("der");
    Tool::new("openssl", "openssl").args(["x509", "-outform", "DER", "-in"]).arg(path).arg("-out").arg(&der).run()?;
    fs::read(&der).map_err(|err| Error::Read { path: der, err })
}

/// The moment from which a certificate holds.
pub(crate) fn beginning_of(path: &Path) -> Result<Timestamp, Error> {
    let tool = Tool::new("openssl", "openssl").args(["x509", "-noout", "-startdate", "-dateopt", "iso_8601", "-in"]);
    let said = tool.arg(path).run()?;
    let time = said.trim().strip_prefix("notBefore=").and_then(|text| text.parse().ok());
    time.ok_or(Error::Answer { tool: "openssl", what: "when the certificate begins" })
}

fn parse_image(text: &str) -> Result<Digest, &'static str> {
    text.parse().map_err(|_| "64 lower-case hex digits, please")
}

//! `iotwasm repo add-vendor` and `add-firmware`.

use clap::Args;
use iotwasm_firmware::target::ROLE as FIRMWARE;
use iotwasm_payload::Vendor;
use iotwasm_trust::repo::{Delegation, Document, PublicKey};

use super::expiry::Expiry;
use super::init::{named, public};
use super::open::Opened;
use super::role_name::parse_vendor;
use super::sign::{self, Publisher};
use super::{Change, Error, Place};
use crate::keyring::Keyring;

#[derive(Debug, Args)]
pub(crate) struct AddVendor {
    #[command(flatten)]
    place: Place,
    /// Name of the vendor: of its role, of its key files, and in its payloads' manifests.
    #[arg(value_name = "VENDOR", value_parser = parse_vendor)]
    vendor: Vendor,
    #[command(flatten)]
    expiry: Expiry,
}

#[derive(Debug, Args)]
pub(crate) struct AddFirmware {
    #[command(flatten)]
    place: Place,
    #[command(flatten)]
    expiry: Expiry,
}

pub(crate) fn run(args: &AddVendor) -> Result<Change, Error> {
    add(&args.place, args.vendor.as_str(), "payloads", &args.expiry)
}

pub(crate) fn add_firmware(args: &AddFirmware) -> Result<Change, Error> {
    add(&args.place, FIRMWARE, "firmware releases", &args.expiry)
}

fn add(place: &Place, name: &str, what: &str, expiry: &Expiry) -> Result<Change, Error> {
    let mut opened = Opened::open(&place.repo)?;
    if opened.delegated().iter().any(|role| role == name) {
        return Err(Error::VendorExists { vendor: name.to_owned() });
    }
    let keyring = Keyring::load(&place.keys)?;
    let keys = named(&keyring, name)?;
    let targets_keys = sign::keys_of(&keyring, &opened.signers("targets")?)?;
    let publisher = Publisher::new(&opened, &keyring, expiry)?;

    let now = opened.now;
    opened.targets.delegate(&delegation(name, &public(&keys))).bump();
    opened.targets.set_expires(expiry.of("targets", now)).sign(&targets_keys);
    let mut role = Document::new_targets(name, expiry.of(name, now));
    // A vendor of that name may have been there before: versions only rise, or devices would see a rollback.
    let before = opened.snapshot.meta_version(&format!("{name}.json")).unwrap_or(0);
    role.set_version(before + 1).sign(&sign::load(&keys)?);

    let mut change = Change::new();
    publisher.publish(&opened, &[&opened.targets, &role], &mut change)?;
    change.note(format!("{name} may now publish {what} in {}", opened.path().display()));
    Ok(change)
}

/// What a vendor, or firmware, may sign: files below its own name, and nobody else for these.
pub(crate) fn delegation(vendor: &str, keys: &[PublicKey]) -> Delegation {
    Delegation {
        name: vendor.to_owned(),
        keys: keys.to_vec(),
        threshold: 1,
        paths: vec![format!("{vendor}/*/*")],
        terminating: true,
    }
}

//! `iotwasm repo add-vendor`.

use clap::Args;
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

pub(crate) fn run(args: &AddVendor) -> Result<Change, Error> {
    let name = args.vendor.as_str();
    let mut opened = Opened::open(&args.place.repo)?;
    if opened.vendors().iter().any(|vendor| vendor == name) {
        return Err(Error::VendorExists { vendor: name.to_owned() });
    }
    let keyring = Keyring::load(&args.place.keys)?;
    let keys = named(&keyring, name)?;
    let targets_keys = sign::keys_of(&keyring, &opened.signers("targets")?)?;
    let publisher = Publisher::new(&opened, &keyring, &args.expiry)?;

    let now = opened.now;
    opened.targets.delegate(&delegation(name, &public(&keys))).bump();
    opened.targets.set_expires(args.expiry.of("targets", now)).sign(&targets_keys);
    let mut role = Document::new_targets(name, args.expiry.of(name, now));
    // A vendor of that name may have been there before: versions only rise, or devices would see a rollback.
    let before = opened.snapshot.meta_version(&format!("{name}.json")).unwrap_or(0);
    role.set_version(before + 1).sign(&sign::load(&keys)?);

    let mut change = Change::new();
    publisher.publish(&opened, &[&opened.targets, &role], &mut change)?;
    change.note(format!("{name} may now publish payloads in {}", opened.path().display()));
    Ok(change)
}

/// What a vendor may sign: files below its own name, and nobody else for these.
pub(crate) fn delegation(vendor: &str, keys: &[PublicKey]) -> Delegation {
    Delegation {
        name: vendor.to_owned(),
        keys: keys.to_vec(),
        threshold: 1,
        paths: vec![format!("{vendor}/*/*")],
        terminating: true,
    }
}

//! `iotwasm repo init`.

use std::path::PathBuf;

use clap::Args;
use iotwasm_firmware::target::ROLE as FIRMWARE;
use iotwasm_payload::Vendor;
use iotwasm_trust::repo::{Document, PublicKey};
use jiff::Timestamp;

use super::expiry::Expiry;
use super::role_name::parse_vendor;
use super::sign::{self, Publisher};
use super::vendor::delegation;
use super::{Change, Error, Place, open};
use crate::keyring::{Entry, Keyring};

#[derive(Debug, Args)]
pub(crate) struct Init {
    #[command(flatten)]
    place: Place,
    /// How many of the root keys must sign a new root.
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..=16))]
    threshold: u8,
    /// A vendor that may publish; may be given several times.
    #[arg(long = "vendor", value_name = "NAME", value_parser = parse_vendor)]
    vendors: Vec<Vendor>,
    /// Make the role firmware, which publishes firmware releases.
    #[arg(long)]
    firmware: bool,
    #[command(flatten)]
    expiry: Expiry,
}

pub(crate) fn run(args: &Init) -> Result<Change, Error> {
    let path = &args.place.repo;
    std::fs::create_dir_all(path).map_err(|err| Error::Make { path: path.clone(), err })?;
    let _lock = open::lock(path)?;
    // Without a timestamp no client sees anything: an init that was killed can be run again.
    if open::is_repository(path) {
        return Err(Error::IsRepository { path: path.clone() });
    }
    let keyring = Keyring::load(&args.place.keys)?;
    let now = Timestamp::now();

    let root_keys = named(&keyring, "root")?;
    let threshold = u64::from(args.threshold);
    if (root_keys.len() as u64) < threshold {
        return Err(Error::Threshold { threshold, found: root_keys.len() });
    }
    let mut root = Document::new_root(args.expiry.of("root", now));
    root.set_role("root", &public(&root_keys), threshold);
    for role in ["targets", "snapshot", "timestamp"] {
        root.set_role(role, &public(&named(&keyring, role)?), 1);
    }
    root.sign(&sign::load(&root_keys)?);

    let mut targets = Document::new_targets("targets", args.expiry.of("targets", now));
    let mut vendors = Vec::new();
    for vendor in args.firmware.then_some(FIRMWARE).into_iter().chain(args.vendors.iter().map(Vendor::as_str)) {
        let keys = named(&keyring, vendor)?;
        targets.delegate(&delegation(vendor, &public(&keys)));
        let mut role = Document::new_targets(vendor, args.expiry.of(vendor, now));
        role.sign(&sign::load(&keys)?);
        vendors.push(role);
    }
    targets.sign(&sign::load(&named(&keyring, "targets")?)?);

    let load = |role| sign::load(&named(&keyring, role)?);
    let publisher = Publisher::with_keys(load("snapshot")?, load("timestamp")?, &args.expiry, now);
    let repo = open::open_folder(path)?;
    let used = |err| Error::Use { path: path.clone(), err };
    let pinned: PathBuf = repo.write(&root).map_err(used)?;
    let roles: Vec<&Document> = std::iter::once(&targets).chain(&vendors).collect();
    repo.publish(&roles, &publisher.online()).map_err(used)?;

    let mut change = Change::new();
    change.note(format!("made the repository {}", path.display()));
    change.note(format!(
        "devices trust {}: build it into their image as {}",
        pinned.display(),
        iotwasm_kit::paths::PINNED_ROOT
    ));
    change.metadata = std::iter::once(&root).chain(roles).map(Document::file_name).collect();
    change.metadata.extend(["1.snapshot.json".into(), "timestamp.json".into()]);
    Ok(change)
}

/// The keys that are named after a role; at least one. Only here do names count: nothing lists the keys' ids yet.
pub(crate) fn named<'a>(keyring: &'a Keyring, role: &'a str) -> Result<Vec<&'a Entry>, Error> {
    let entries: Vec<&Entry> = keyring.named(role).collect();
    if entries.is_empty() { Err(Error::NoKey { role: role.to_owned() }) } else { Ok(entries) }
}

pub(crate) fn public(entries: &[&Entry]) -> Vec<PublicKey> {
    entries.iter().map(|entry| entry.public.clone()).collect()
}

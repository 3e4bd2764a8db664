//! `iotwasm repo refresh`.

use clap::Args;
use iotwasm_trust::repo::Document;

use super::expiry::Expiry;
use super::open::Opened;
use super::sign::{self, Publisher};
use super::{Change, Error, Place, RoleName};
use crate::keyring::Keyring;

#[derive(Debug, Args)]
pub(crate) struct Refresh {
    #[command(flatten)]
    place: Place,
    /// A role to sign again: root, targets, snapshot, timestamp or a vendor; may be given several times. What lists it is
    /// signed again, too. Default: snapshot and timestamp.
    #[arg(long = "role", value_name = "ROLE")]
    roles: Vec<RoleName>,
    #[command(flatten)]
    expiry: Expiry,
}

pub(crate) fn run(args: &Refresh) -> Result<Change, Error> {
    let opened = Opened::open(&args.place.repo)?;
    let keyring = Keyring::load(&args.place.keys)?;
    let wanted = |role: &str| args.roles.iter().any(|wanted| wanted.as_str() == role);
    let mut change = Change::new();

    let vendors = opened.delegated();
    for role in args.roles.iter().map(RoleName::as_str) {
        let known = opened.root.role_keys(role).is_some() || vendors.iter().any(|vendor| vendor == role);
        if !known {
            return Err(Error::NoRole { role: role.to_owned() });
        }
    }
    // Every key is found before anything is written.
    let mut roles: Vec<Document> = Vec::new();
    for name in std::iter::once("targets").chain(vendors.iter().map(String::as_str)).filter(|name| wanted(name)) {
        let mut role = if name == "targets" { opened.targets.clone() } else { opened.vendor(name)? };
        let keys = sign::keys_of(&keyring, &opened.signers(name)?)?;
        role.bump().set_expires(args.expiry.of(name, opened.now)).sign(&keys);
        roles.push(role);
    }
    let only = |role: &str| !args.roles.is_empty() && args.roles.iter().all(|other| other.as_str() == role);
    let publisher = if only("root") {
        None
    } else {
        Some(Publisher::refreshing(&opened, &keyring, &args.expiry, only("timestamp"))?)
    };
    if wanted("root") {
        let mut root = opened.root.clone();
        let keys = sign::keys_of(&keyring, &opened.signers("root")?)?;
        root.bump().set_expires(args.expiry.of("root", opened.now)).sign(&keys);
        opened.used(opened.repo.write(&root))?;
        change.metadata.push(root.file_name());
    }
    match publisher {
        Some(publisher) if only("timestamp") => {
            opened.used(opened.repo.renew_timestamp(&publisher.online()))?;
            change.metadata.push("timestamp.json".into());
        }
        Some(publisher) => publisher.publish(&opened, &roles.iter().collect::<Vec<_>>(), &mut change)?,
        None => {}
    }
    Ok(change)
}

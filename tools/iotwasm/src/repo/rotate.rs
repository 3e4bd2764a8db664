//! `iotwasm repo rotate-key`.
//!
//! What a role signs is published with the signatures of both its old and its new key before the root names the new one,
//! so a client that has the old root and one that has the new both find what they need at every moment. Where the old key
//! is lost, clients that come between the two writes see a signature that they do not know, refuse it, and come again.

use clap::Args;
use iotwasm_trust::repo::{Document, Key, PublicKey};

use super::expiry::Expiry;
use super::open::{Opened, Signers};
use super::sign::{self, Publisher};
use super::vendor::delegation;
use super::{Change, Error, Place, RoleName};
use crate::keyring::{self, Entry, Keyring};

#[derive(Debug, Args)]
pub(crate) struct Rotate {
    #[command(flatten)]
    place: Place,
    /// root, targets, snapshot, timestamp, or a vendor.
    #[arg(value_name = "ROLE")]
    role: RoleName,
    /// Which key to replace, by the beginning of its id; needed where the role has several.
    #[arg(long, value_name = "ID")]
    replace: Option<String>,
    #[command(flatten)]
    expiry: Expiry,
}

/// A rotation, with every key at hand.
struct Rotation {
    opened: Opened,
    keyring: Keyring,
    /// The role as it was.
    before: Signers,
    /// The keys that the role has from now on.
    after: Vec<PublicKey>,
    /// The id of the key that goes.
    old: String,
    /// The key that comes.
    new: Entry,
}

pub(crate) fn run(args: &Rotate) -> Result<Change, Error> {
    let role = args.role.as_str();
    let keyring = Keyring::load(&args.place.keys)?;
    let own: Vec<PublicKey> = keyring.named(role).map(|entry| entry.public.clone()).collect();
    let opened = Opened::open_trusting(&args.place.repo, role, &own)?;
    let before = opened.signers(role)?;
    let old = choose(&before, args.replace.as_deref())?;
    // Every key that the rotation needs is found before the new one is made.
    let above: &[&str] = if opened.root.role_keys(role).is_some() { &["root"] } else { &["targets"] };
    let online: &[&str] = if role == "root" { &[] } else { &["snapshot", "timestamp"] };
    for needed in above.iter().chain(online).filter(|needed| **needed != role) {
        sign::keys_of(&keyring, &opened.signers(needed)?)?;
    }
    if role == "root" {
        sign::keys_of(&keyring, &before)?;
    }
    let new = keyring::generate(&args.place.keys[0], role)?;
    let mut after: Vec<PublicKey> = before.keys.iter().filter(|key| key.id() != old).cloned().collect();
    after.push(new.public.clone());

    let mut change = Change::new();
    change.note(format!("replaced the key {old} of role {role} by {}", new.id));
    change.new_keys.push(new.path.clone());
    change.retired_keys = keyring.entries().iter().filter(|e| e.id == old).map(|e| e.path.clone()).collect();
    let rotation = Rotation { opened, keyring, before, after, old, new };
    match role {
        "root" => rotation.root(&args.expiry, &mut change)?,
        "targets" | "snapshot" | "timestamp" => rotation.top_level(&args.expiry, &mut change)?,
        _ => rotation.vendor(&args.expiry, &mut change)?,
    }
    Ok(change)
}

fn choose(signers: &Signers, prefix: Option<&str>) -> Result<String, Error> {
    let mut matching = signers.ids.iter().filter(|id| prefix.is_none_or(|prefix| id.starts_with(prefix)));
    match (matching.next(), matching.next()) {
        (Some(id), None) => Ok(id.clone()),
        (None, _) => Err(Error::NoSuchKey {
            role: signers.role.clone(),
            prefix: prefix.unwrap_or_default().to_owned(),
            ids: signers.ids.clone(),
        }),
        (Some(_), Some(_)) => Err(Error::WhichKey { role: signers.role.clone(), ids: signers.ids.clone() }),
    }
}

impl Rotation {
    fn new_root(&self, expiry: &Expiry) -> Result<Document, Error> {
        let mut root = self.opened.root.clone();
        root.set_role(&self.before.role, &self.after, self.before.threshold);
        root.bump().set_expires(expiry.of("root", self.opened.now));
        let mut keys = sign::keys_of(&self.keyring, &self.opened.signers("root")?)?;
        if self.before.role == "root" {
            // A threshold of the old keys and of the new ones: the new one signs with those that stay.
            keys.push(self.new.key()?);
        }
        root.sign(&keys);
        Ok(root)
    }

    fn write_root(&self, root: &Document, change: &mut Change) -> Result<(), Error> {
        self.opened.used(self.opened.repo.write(root))?;
        change.metadata.push(root.file_name());
        Ok(())
    }

    /// Both the old key, where it is there, and the new one.
    fn both(&self) -> Result<Vec<Key>, Error> {
        let mut keys = sign::load(&self.keyring.listed(&self.before.ids))?;
        keys.push(self.new.key()?);
        Ok(keys)
    }

    fn root(&self, expiry: &Expiry, change: &mut Change) -> Result<(), Error> {
        let root = self.new_root(expiry)?;
        let stay: Vec<&Entry> =
            self.keyring.listed(&self.before.ids).into_iter().filter(|e| e.id != self.old).collect();
        let signing = stay.len() as u64 + 1;
        if signing < self.before.threshold {
            return Err(Error::KeysMissing {
                role: "root".into(),
                needed: self.before.threshold,
                found: stay.len() + 1,
                ids: self.after.iter().map(PublicKey::id).collect(),
            });
        }
        self.write_root(&root, change)
    }

    fn top_level(&self, expiry: &Expiry, change: &mut Change) -> Result<(), Error> {
        let root = self.new_root(expiry)?;
        let opened = &self.opened;
        let keys = |role: &str| {
            if role == self.before.role { self.both() } else { sign::keys_of(&self.keyring, &opened.signers(role)?) }
        };
        let publisher = Publisher::with_keys(keys("snapshot")?, keys("timestamp")?, expiry, opened.now);
        let mut targets = opened.targets.clone();
        let mut roles = Vec::new();
        if self.before.role == "targets" {
            targets.bump().set_expires(expiry.of("targets", opened.now)).sign(&keys("targets")?);
            roles.push(&targets);
        }
        publisher.publish(opened, &roles, change)?;
        self.write_root(&root, change)
    }

    fn vendor(&self, expiry: &Expiry, change: &mut Change) -> Result<(), Error> {
        let (opened, vendor) = (&self.opened, self.before.role.as_str());
        let publisher = Publisher::new(opened, &self.keyring, expiry)?;
        let mut targets = opened.targets.clone();
        targets.delegate(&delegation(vendor, &self.after)).bump();
        let targets_keys = sign::keys_of(&self.keyring, &opened.signers("targets")?)?;
        targets.set_expires(expiry.of("targets", opened.now)).sign(&targets_keys);
        // One snapshot lists both: no client sees the one without the other.
        let mut role = opened.vendor(vendor)?;
        role.bump().set_expires(expiry.of(vendor, opened.now)).sign(&[self.new.key()?]);
        publisher.publish(opened, &[&targets, &role], change)
    }
}

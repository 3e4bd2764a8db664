//! `iotwasm repo publish`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::Args;
use iotwasm_payload::target::{CUSTOM_KEY, TargetName};
use iotwasm_payload::{Manifest, PayloadTarget, Policy, check, pack};
use iotwasm_trust::repo::{Document, TargetInfo};
use serde_json::json;

use super::error::findings;
use super::expiry::Expiry;
use super::open::Opened;
use super::sign::{self, Publisher};
use super::{Change, Error, Place, firmware};
use crate::keyring::Keyring;
use crate::progress;

#[derive(Debug, Args)]
pub(crate) struct Publish {
    #[command(flatten)]
    place: Place,
    /// Publish what the checks refuse, too, so that tests can show that devices refuse it.
    #[arg(long, hide = true)]
    unchecked: bool,
    /// Packed payloads.
    #[arg(value_name = "PAYLOAD.wasm", required_unless_present = "firmware")]
    files: Vec<PathBuf>,
    /// Folder of a firmware release; may be given several times.
    #[arg(long, value_name = "DIR")]
    firmware: Vec<PathBuf>,
    #[command(flatten)]
    expiry: Expiry,
}

struct Candidate {
    path: PathBuf,
    bytes: Vec<u8>,
    target: PayloadTarget,
    name: TargetName,
}

/// A file to publish under a role.
pub(super) struct Item {
    pub(super) role: String,
    pub(super) name: String,
    pub(super) bytes: Vec<u8>,
    /// What the role says of it.
    pub(super) custom: Option<serde_json::Value>,
}

/// What a candidate is beside what is published.
enum Standing {
    New,
    Unchanged,
}

pub(crate) fn run(args: &Publish) -> Result<Change, Error> {
    let mut refused = Vec::new();
    let candidates = read(args, &mut refused)?;
    let opened = Opened::open(&args.place.repo)?;
    let mut roles: BTreeMap<String, Document> = BTreeMap::new();
    for vendor in opened.vendors() {
        let role = opened.vendor(&vendor)?;
        roles.insert(vendor, role);
    }

    let mut change = Change::new();
    let mut new: Vec<&Candidate> = Vec::new();
    for candidate in &candidates {
        match compare(candidate, &roles, &new) {
            Ok(Standing::New) => new.push(candidate),
            Ok(Standing::Unchanged) => change.unchanged.push(candidate.name.to_string()),
            Err(why) => refused.push((candidate.path.clone(), vec![why])),
        }
    }
    let new: Vec<PathBuf> = new.into_iter().map(|candidate| candidate.path.clone()).collect();
    let mut items = Vec::new();
    for candidate in candidates.into_iter().filter(|candidate| new.contains(&candidate.path)) {
        items.push(candidate.item()?);
    }
    add_firmware(args, &opened, &mut roles, &mut items, &mut refused, &mut change)?;
    if !refused.is_empty() {
        return Err(Error::Refused { refused });
    }
    for name in &change.unchanged {
        change.notes.push(format!("{name} is published already, unchanged"));
    }
    if !items.is_empty() {
        publish(args, &opened, roles, &items, &mut change)?;
    }
    Ok(change)
}

/// Adds the firmware releases that were asked for to what is about to be published, or to what is refused.
fn add_firmware(
    args: &Publish,
    opened: &Opened,
    roles: &mut BTreeMap<String, Document>,
    items: &mut Vec<Item>,
    refused: &mut Vec<(PathBuf, Vec<String>)>,
    change: &mut Change,
) -> Result<(), Error> {
    if args.firmware.is_empty() {
        return Ok(());
    }
    let role = firmware::role(opened)?.ok_or(Error::NoFirmware)?;
    for dir in &args.firmware {
        let standing = firmware::read(dir).and_then(|candidate| {
            let twice = candidate.items.iter().any(|item| items.iter().any(|other| other.name == item.name));
            if twice {
                return Err("another folder has the same version".to_owned());
            }
            Ok((firmware::is_published(&candidate, &role)?, candidate))
        });
        match standing {
            Ok((true, candidate)) => change.unchanged.extend(candidate.items.map(|item| item.name)),
            Ok((false, candidate)) => items.extend(candidate.items),
            Err(why) => refused.push((dir.clone(), vec![why])),
        }
    }
    roles.insert(role.role.clone(), role);
    Ok(())
}

impl Candidate {
    fn item(self) -> Result<Item, Error> {
        let Self { bytes, target, name, .. } = self;
        let custom = target.to_custom().map_err(|err| Error::Describe { target: name.to_string(), err })?;
        let custom = Some(json!({ CUSTOM_KEY: custom }));
        Ok(Item { role: name.vendor.to_string(), name: name.to_string(), bytes, custom })
    }
}

fn read(args: &Publish, refused: &mut Vec<(PathBuf, Vec<String>)>) -> Result<Vec<Candidate>, Error> {
    let mut candidates = Vec::new();
    for path in &args.files {
        let bytes = std::fs::read(path).map_err(|err| Error::ReadPayload { path: path.clone(), err })?;
        match manifest(&bytes, args.unchecked) {
            Ok(manifest) => {
                let target = PayloadTarget::of_manifest(&manifest);
                candidates.push(Candidate { path: path.clone(), bytes, name: target.name(), target });
            }
            Err(why) => refused.push((path.clone(), why)),
        }
    }
    Ok(candidates)
}

fn manifest(bytes: &[u8], unchecked: bool) -> Result<Manifest, Vec<String>> {
    if unchecked {
        return pack::manifest_of(bytes).map_err(|err| vec![iotwasm_kit::report::chain(&err)]);
    }
    check(bytes, &Policy::default()).map(|checked| checked.manifest().clone()).map_err(|refused| findings(&refused))
}

/// Finds the place of a candidate among what is published and what is about to be, or says why it has none.
fn compare(candidate: &Candidate, roles: &BTreeMap<String, Document>, new: &[&Candidate]) -> Result<Standing, String> {
    let TargetName { vendor, id, .. } = &candidate.name;
    let name = candidate.name.to_string();
    let Some(role) = roles.get(vendor.as_str()) else {
        return Err(format!("there is no vendor {vendor} in the repository; add it with iotwasm repo add-vendor"));
    };
    if let Some(other) = new.iter().find(|other| other.name == candidate.name) {
        return Err(format!("{} is the same version", other.path.display()));
    }
    // A device has one pair of slots for each id, whoever signs.
    let others = roles.iter().filter(|(other, _)| other.as_str() != vendor.as_str());
    let mut taken = others.flat_map(|(other, role)| {
        let prefix = format!("{other}/{id}/");
        role.target_names().into_iter().find(|name| name.starts_with(&prefix)).map(|_| other)
    });
    if let Some(other) = taken.next() {
        return Err(format!("the id {id} belongs to the vendor {other}"));
    }
    let Some(published) = role.target(&name) else { return Ok(Standing::New) };
    if published.hashes != TargetInfo::of(&candidate.bytes, None).hashes {
        return Err(format!("{name} is published already with other content; give the new content a new version"));
    }
    let custom = published.custom.as_ref().and_then(|custom| custom.get(CUSTOM_KEY));
    match PayloadTarget::from_custom(custom) {
        Ok(PayloadTarget { withdrawn: Some(_), .. }) => Err(format!("{name} was withdrawn; give it a new version")),
        _ => Ok(Standing::Unchanged),
    }
}

fn publish(
    args: &Publish,
    opened: &Opened,
    mut roles: BTreeMap<String, Document>,
    new: &[Item],
    change: &mut Change,
) -> Result<(), Error> {
    let keyring = Keyring::load(&args.place.keys)?;
    roles.retain(|role, _| new.iter().any(|item| item.role == *role));
    let mut keys = BTreeMap::new();
    for role in roles.keys() {
        keys.insert(role.clone(), sign::keys_of(&keyring, &opened.signers(role)?)?);
    }
    let publisher = Publisher::new(opened, &keyring, &args.expiry)?;

    // Files first: nothing refers to them yet.
    let bar = progress::bar(new.len() as u64, "{bar:30} {pos}/{len} {wide_msg}");
    for Item { role, name, bytes, custom } in new {
        bar.set_message(name.clone());
        let info = opened.used(opened.repo.add_target_file(name, bytes, custom.clone()))?;
        if let Some(role) = roles.get_mut(role) {
            role.add_target(name, &info);
        }
        change.note(format!("published {name} ({} bytes, sha256 {})", info.length, digest(&info)));
        change.targets.push(name.clone());
        bar.inc(1);
    }
    bar.finish_and_clear();
    for (name, role) in &mut roles {
        role.bump().set_expires(args.expiry.of(name, opened.now)).sign(&keys[name]);
    }
    publisher.publish(opened, &roles.values().collect::<Vec<_>>(), change)
}

fn digest(info: &TargetInfo) -> String {
    info.hashes.sha256.map(hex::encode).unwrap_or_default()
}

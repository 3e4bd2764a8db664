//! `iotwasm repo withdraw`.

use std::str::FromStr;

use clap::Args;
use iotwasm_firmware::target::{FirmwareTarget, ROLE as FIRMWARE, TargetName};
use iotwasm_payload::target::{CUSTOM_KEY, MAX_REASON, Withdrawn};
use iotwasm_payload::{PayloadId, PayloadTarget, Vendor};
use iotwasm_trust::repo::{Document, TargetInfo};
use semver::Version;
use serde_json::{Value, json};

use super::expiry::Expiry;
use super::open::Opened;
use super::sign::{self, Publisher};
use super::{Change, Error, Place, firmware};
use crate::keyring::Keyring;

#[derive(Debug, Args)]
pub(crate) struct Withdraw {
    #[command(flatten)]
    place: Place,
    /// Why, for people; devices keep it in their history.
    #[arg(long, value_name = "TEXT", value_parser = parse_reason)]
    reason: String,
    /// What to withdraw: ID@VERSION or VENDOR/ID@VERSION.
    #[arg(value_name = "PAYLOAD", required_unless_present = "firmware")]
    payload: Option<Release>,
    /// Withdraw a firmware release instead: COMPATIBLE@VERSION.
    #[arg(long, value_name = "RELEASE", conflicts_with = "payload", value_parser = parse_firmware)]
    firmware: Option<TargetName>,
    #[command(flatten)]
    expiry: Expiry,
}

/// A version of a payload, as people write it.
#[derive(Debug, Clone)]
pub(crate) struct Release {
    vendor: Option<Vendor>,
    id: PayloadId,
    version: Version,
}

/// Not a version of a payload.
#[derive(Debug, thiserror::Error)]
#[error("write ID@VERSION, as in counter@1.2.0, or VENDOR/ID@VERSION")]
pub(crate) struct NotARelease;

impl FromStr for Release {
    type Err = NotARelease;

    fn from_str(text: &str) -> Result<Self, NotARelease> {
        let parse = || {
            let (name, version) = text.split_once('@')?;
            let (vendor, id) = match name.split_once('/') {
                Some((vendor, id)) => (Some(vendor.parse().ok()?), id),
                None => (None, name),
            };
            Some(Self { vendor, id: id.parse().ok()?, version: version.parse().ok()? })
        };
        parse().ok_or(NotARelease)
    }
}

fn parse_reason(text: &str) -> Result<String, String> {
    let text = text.trim();
    if text.is_empty() || text.len() > MAX_REASON || text.chars().any(char::is_control) {
        return Err(format!("say it in one line of at most {MAX_REASON} bytes"));
    }
    Ok(text.to_owned())
}

fn parse_firmware(text: &str) -> Result<TargetName, String> {
    let parsed = text
        .split_once('@')
        .and_then(|(compatible, version)| format!("{FIRMWARE}/{compatible}/{compatible}-{version}.raucb").parse().ok());
    parsed.ok_or_else(|| "write COMPATIBLE@VERSION, as in acme-gateway@1.4.0".to_owned())
}

pub(crate) fn run(args: &Withdraw) -> Result<Change, Error> {
    let opened = Opened::open(&args.place.repo)?;
    match (&args.firmware, &args.payload) {
        (Some(name), _) => withdraw_firmware(args, &opened, name),
        (None, Some(release)) => withdraw_payload(args, &opened, release),
        (None, None) => Ok(Change::new()),
    }
}

fn withdraw_firmware(args: &Withdraw, opened: &Opened, name: &TargetName) -> Result<Change, Error> {
    let role = firmware::role(opened)?.ok_or(Error::NoFirmware)?;
    let text = name.to_string();
    let info = role.target(&text).ok_or_else(|| Error::NoTarget { target: text.clone() })?;
    let custom = info.custom.as_ref().and_then(|custom| custom.get(CUSTOM_KEY));
    let mut target =
        FirmwareTarget::from_custom(custom, name).map_err(|err| Error::Firmware { target: text.clone(), err })?;
    target.withdrawn = Some(iotwasm_firmware::target::Withdrawn { reason: args.reason.clone() });
    let described = target.to_custom().map_err(|err| Error::Describe { target: text.clone(), err })?;
    replace(args, opened, role, &text, info, described)
}

/// Publishes a target's new description.
fn replace(
    args: &Withdraw,
    opened: &Opened,
    mut role: Document,
    name: &str,
    info: TargetInfo,
    described: Value,
) -> Result<Change, Error> {
    let mut custom = info.custom.clone().unwrap_or_else(|| json!({}));
    custom[CUSTOM_KEY] = described;
    let keyring = Keyring::load(&args.place.keys)?;
    let keys = sign::keys_of(&keyring, &opened.signers(&role.role)?)?;
    let publisher = Publisher::new(opened, &keyring, &args.expiry)?;
    role.add_target(name, &sign::with_custom(info, custom));
    let expires = args.expiry.of(&role.role, opened.now);
    role.bump().set_expires(expires).sign(&keys);
    let mut change = Change::new();
    change.note(format!("withdrew {name}: {}", args.reason));
    change.targets.push(name.to_owned());
    publisher.publish(opened, &[&role], &mut change)?;
    Ok(change)
}

fn withdraw_payload(args: &Withdraw, opened: &Opened, release: &Release) -> Result<Change, Error> {
    let Release { vendor, id, version } = release;
    let vendors = match vendor {
        Some(vendor) => vec![vendor.to_string()],
        None => opened.vendors(),
    };
    for vendor in vendors {
        let name = format!("{vendor}/{id}/{id}-{version}.wasm");
        let role = opened.vendor(&vendor)?;
        if let Some(info) = role.target(&name) {
            let custom = info.custom.as_ref().and_then(|custom| custom.get(CUSTOM_KEY));
            let mut target =
                PayloadTarget::from_custom(custom).map_err(|err| Error::Target { target: name.clone(), err })?;
            target.withdrawn = Some(Withdrawn { reason: args.reason.clone() });
            let described = target.to_custom().map_err(|err| Error::Describe { target: name.clone(), err })?;
            return replace(args, opened, role, &name, info, described);
        }
    }
    Err(Error::NoTarget { target: format!("{id}@{version}") })
}

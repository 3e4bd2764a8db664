//! `iotwasm repo withdraw`.

use std::str::FromStr;

use clap::Args;
use iotwasm_payload::target::{CUSTOM_KEY, MAX_REASON, Withdrawn};
use iotwasm_payload::{PayloadId, PayloadTarget, Vendor};
use semver::Version;
use serde_json::json;

use super::expiry::Expiry;
use super::open::Opened;
use super::sign::{self, Publisher};
use super::{Change, Error, Place};
use crate::keyring::Keyring;

#[derive(Debug, Args)]
pub(crate) struct Withdraw {
    #[command(flatten)]
    place: Place,
    /// Why, for people; devices keep it in their history.
    #[arg(long, value_name = "TEXT", value_parser = parse_reason)]
    reason: String,
    /// What to withdraw: ID@VERSION or VENDOR/ID@VERSION.
    #[arg(value_name = "PAYLOAD")]
    payload: Release,
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

pub(crate) fn run(args: &Withdraw) -> Result<Change, Error> {
    let opened = Opened::open(&args.place.repo)?;
    let Release { vendor, id, version } = &args.payload;
    let vendors = match vendor {
        Some(vendor) => vec![vendor.to_string()],
        None => opened.vendors(),
    };
    for vendor in vendors {
        let name = format!("{vendor}/{id}/{id}-{version}.wasm");
        let mut role = opened.vendor(&vendor)?;
        if let Some(info) = role.target(&name) {
            let custom = info.custom.as_ref().and_then(|custom| custom.get(CUSTOM_KEY));
            let mut target =
                PayloadTarget::from_custom(custom).map_err(|err| Error::Target { target: name.clone(), err })?;
            target.withdrawn = Some(Withdrawn { reason: args.reason.clone() });
            let described = |err| Error::Describe { target: name.clone(), err };
            let mut custom = info.custom.clone().unwrap_or_else(|| json!({}));
            custom[CUSTOM_KEY] = target.to_custom().map_err(described)?;

            let keyring = Keyring::load(&args.place.keys)?;
            let keys = sign::keys_of(&keyring, &opened.signers(&vendor)?)?;
            let publisher = Publisher::new(&opened, &keyring, &args.expiry)?;
            role.add_target(&name, &sign::with_custom(info, custom));
            role.bump().set_expires(args.expiry.of(&vendor, opened.now)).sign(&keys);
            let mut change = Change::new();
            change.note(format!("withdrew {name}: {}", args.reason));
            change.targets.push(name);
            publisher.publish(&opened, &[&role], &mut change)?;
            return Ok(change);
        }
    }
    Err(Error::NoTarget { target: format!("{id}@{version}") })
}

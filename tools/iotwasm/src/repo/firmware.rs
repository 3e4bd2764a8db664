//! Firmware in the repository: reading what iotwasm-release built, and finding what is published.

use std::path::Path;

use iotwasm_firmware::target::{CUSTOM_KEY, FirmwareTarget, Kind, Part, ROLE, TargetName};
use iotwasm_firmware::{Digest, Release};
use iotwasm_kit::report;
use iotwasm_trust::repo::{Document, TargetInfo};
use serde_json::json;

use super::Error;
use super::publish::Item;

/// Name of a release's description in the folder that iotwasm-release made.
const RELEASE: &str = "release.json";

/// A firmware release to publish, checked.
pub(super) struct Candidate {
    /// Its two files, the bundle last: it is what refers to the other.
    pub(super) items: [Item; 2],
}

/// Reads a release's folder, or says why it cannot be published.
pub(super) fn read(dir: &Path) -> Result<Candidate, String> {
    let file = |name: &str| {
        let path = dir.join(name);
        std::fs::read(&path).map_err(|err| format!("could not read {}: {err}", path.display()))
    };
    let description = file(RELEASE)?;
    let release = Release::parse(&description).map_err(|err| report::chain(&err))?;
    let described = release.files.bundle.as_ref();
    let described = described.ok_or("it has no bundle; build it with --rauc-cert and --rauc-key".to_owned())?;
    let bundle = file(&described.file.name)?;
    let digest = |bytes: &[u8]| TargetInfo::of(bytes, None).hashes.sha256.map(Digest::from_bytes);
    if digest(&bundle) != Some(described.file.sha256) {
        return Err(format!("{} is not the bundle that {RELEASE} describes", described.file.name));
    }
    let name =
        TargetName { compatible: release.compatible.clone(), version: release.version.clone(), part: Part::Bundle };
    let target = FirmwareTarget {
        kind: Kind::Firmware,
        compatible: release.compatible,
        version: release.version,
        release: digest(&description).ok_or("it could not be hashed".to_owned())?,
        withdrawn: None,
    };
    let custom = target.to_custom().map_err(|err| err.to_string())?;
    let item = |part, bytes, custom| Item { role: ROLE.to_owned(), name: name.part(part).to_string(), bytes, custom };
    let items =
        [item(Part::Release, description, None), item(Part::Bundle, bundle, Some(json!({ CUSTOM_KEY: custom })))];
    Ok(Candidate { items })
}

/// Whether what is published is this release already; or why it cannot be published.
pub(super) fn is_published(candidate: &Candidate, role: &Document) -> Result<bool, String> {
    let mut there = 0;
    for item in &candidate.items {
        let Some(published) = role.target(&item.name) else { continue };
        if published.hashes != TargetInfo::of(&item.bytes, None).hashes {
            return Err(format!(
                "{} is published already with other content; give the new release a new version",
                item.name
            ));
        }
        there += 1;
    }
    if there < candidate.items.len() {
        return Ok(false);
    }
    match bundles(role).into_iter().find(|bundle| bundle.name.to_string() == candidate.items[1].name) {
        Some(Bundle { target: FirmwareTarget { withdrawn: Some(_), .. }, name, .. }) => {
            Err(format!("{name} was withdrawn; give it a new version"))
        }
        _ => Ok(true),
    }
}

/// A bundle in the repository.
pub(super) struct Bundle {
    pub(super) name: TargetName,
    pub(super) target: FirmwareTarget,
    pub(super) info: TargetInfo,
}

/// Every bundle of the role's metadata that describes itself as it should; devices take no other.
pub(super) fn bundles(role: &Document) -> Vec<Bundle> {
    let bundle = |text: &String| {
        let name = text.parse::<TargetName>().ok().filter(|name| name.part == Part::Bundle)?;
        let info = role.target(text)?;
        let custom = info.custom.as_ref().and_then(|custom| custom.get(CUSTOM_KEY));
        let target = FirmwareTarget::from_custom(custom, &name).ok()?;
        Some(Bundle { name, target, info })
    };
    role.target_names().iter().filter_map(bundle).collect()
}

/// The role's metadata, if the repository has the role.
pub(super) fn role(opened: &super::open::Opened) -> Result<Option<Document>, Error> {
    let there = opened.delegated().iter().any(|role| role == ROLE);
    there.then(|| opened.vendor(ROLE)).transpose()
}

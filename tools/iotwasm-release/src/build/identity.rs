//! What the tree says it is must be what the release says it is: a device believes the tree.

use std::fs;
use std::path::Path;

use iotwasm_firmware::image;
use iotwasm_kit::paths::{OS_RELEASE, RAUC_CONFIG};

use super::Build;
use crate::error::Error;

/// Compares the tree's version and compatible with those of the release.
pub(super) fn check(args: &Build) -> Result<(), Error> {
    let version = args.version.to_string();
    let said = image::version(&text(&args.root, OS_RELEASE)?).map(|said| said.to_string());
    agree(OS_RELEASE, "IMAGE_VERSION", said, &version)?;
    agree(RAUC_CONFIG, "compatible", image::compatible(&text(&args.root, RAUC_CONFIG)?), &args.compatible)
}

fn text(root: &Path, path: &str) -> Result<String, Error> {
    let path = root.join(path.trim_start_matches('/'));
    fs::read_to_string(&path).map_err(|err| Error::Read { path, err })
}

fn agree(file: &'static str, key: &'static str, said: Option<String>, wanted: &str) -> Result<(), Error> {
    if said.as_deref() == Some(wanted) {
        return Ok(());
    }
    let said = said.unwrap_or_else(|| "missing".to_owned());
    Err(Error::Identity { file, key, said, wanted: wanted.to_owned() })
}

//! The root tree: what of it goes into the image, and what of that IMA measures.

use std::fs;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use iotwasm_firmware::measured::is_measured;
use iotwasm_firmware::release::{ImaEntry, is_path};

use crate::error::Error;

/// Folders whose contents do not belong to an image; they themselves do, as mount points.
pub(crate) const EMPTY: [&str; 6] = ["proc", "sys", "dev", "run", "boot", "tmp"];

/// Every file that a device may execute, map executable or load into the kernel, sorted by path.
pub(crate) fn measured_files(root: &Path) -> Result<Vec<ImaEntry>, Error> {
    let mut found = Vec::new();
    visit(root, "", &mut found)?;
    found.sort_by(|a: &ImaEntry, b| a.path.cmp(&b.path));
    Ok(found)
}

fn visit(dir: &Path, at: &str, found: &mut Vec<ImaEntry>) -> Result<(), Error> {
    let failed = |err| Error::Read { path: dir.to_owned(), err };
    for entry in fs::read_dir(dir).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let path = entry.path();
        let kind = entry.file_type().map_err(failed)?;
        let name = entry.file_name();
        if at.is_empty() && EMPTY.iter().any(|empty| name == *empty) {
            continue;
        }
        // A name that is not text matters only where the file is measured.
        let place = format!("{at}/{}", name.to_string_lossy());
        if kind.is_dir() {
            visit(&path, &place, found)?;
        } else if kind.is_file() {
            let mode = entry.metadata().map_err(failed)?.permissions().mode();
            if is_measured(&place, mode, &head(&path)?) {
                if path.to_str().is_none() || !is_path(&place) {
                    return Err(Error::Path { path });
                }
                found.push(ImaEntry { path: place, sha256: super::hash(&path, 0, u64::MAX)?.0 });
            }
        }
    }
    Ok(())
}

fn head(path: &Path) -> Result<Vec<u8>, Error> {
    let failed = |err| Error::Read { path: path.to_owned(), err };
    let mut head = Vec::new();
    fs::File::open(path).map_err(failed)?.take(4).read_to_end(&mut head).map_err(failed)?;
    Ok(head)
}

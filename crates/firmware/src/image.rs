//! What an image says of itself, in the files by which a device knows what it is.

use semver::Version;

use crate::release::{is_compatible, is_version};

/// The version in an os-release file: `IMAGE_VERSION`, where it is one that a release may have.
#[must_use]
pub fn version(os_release: &str) -> Option<Version> {
    let value = os_release.lines().find_map(|line| line.trim().strip_prefix("IMAGE_VERSION="))?;
    let value = value.trim_matches(['"', '\'']);
    Version::parse(value).ok().filter(is_version)
}

/// The `compatible` in RAUC's system.conf.
#[must_use]
pub fn compatible(system_conf: &str) -> Option<String> {
    let mut section = "";
    for line in system_conf.lines().map(str::trim) {
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            section = name;
        } else if let Some((key, value)) = line.split_once('=')
            && (section, key.trim()) == ("system", "compatible")
        {
            return Some(value.trim().to_owned()).filter(|value| is_compatible(value));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_image_says_is_read() {
        assert_eq!(version("ID=x\nIMAGE_VERSION=\"1.2.3\"\n"), Some(Version::new(1, 2, 3)));
        assert_eq!(version("IMAGE_VERSION=1.2\n"), None);
        let config = "[keyring]\ncompatible=no\n\n[system]\n# a comment\ncompatible = acme-gw\nbootloader=efi\n";
        assert_eq!(compatible(config).as_deref(), Some("acme-gw"));
        assert_eq!(compatible("[system]\ncompatible=a/b\n"), None);
    }
}

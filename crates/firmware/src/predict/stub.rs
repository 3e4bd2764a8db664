//! Which systemd-stub a UKI begins with: it decides how the kernel inside is started.

use std::fmt;

use super::pe::Pe;

/// A systemd-stub, by the number of its release.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Stub {
    /// systemd's version, 257 for 257.13.
    pub version: u32,
}

impl Stub {
    /// From `.sdmagic`, which every systemd-stub carries: `#### LoaderInfo: systemd-stub 257.13-1~deb13u1 ####`.
    pub(super) fn of(pe: &Pe<'_>) -> Option<Self> {
        let magic = pe.section(".sdmagic")?.in_memory();
        let text = std::str::from_utf8(&magic).ok()?;
        let rest = text.split_once("systemd-stub ")?.1;
        let digits = rest.find(|c: char| !c.is_ascii_digit()).map_or(rest, |end| &rest[..end]);
        Some(Self { version: digits.parse().ok()? })
    }
}

impl fmt::Display for Stub {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "systemd-stub {}", self.version)
    }
}

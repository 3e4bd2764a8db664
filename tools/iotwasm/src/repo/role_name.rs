//! Names of roles on the command line.

use std::str::FromStr;

use iotwasm_firmware::target::ROLE as FIRMWARE;
use iotwasm_payload::Vendor;
use iotwasm_payload::id::BadName;

/// The top-level roles.
const TOP: [&str; 4] = ["root", "targets", "snapshot", "timestamp"];

/// A top-level role, firmware, or a vendor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RoleName(String);

impl RoleName {
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for RoleName {
    type Err = BadName;

    fn from_str(text: &str) -> Result<Self, BadName> {
        let vendor: Vendor = text.parse()?;
        Ok(Self(vendor.to_string()))
    }
}

/// A vendor's name, which is also its role's: so it cannot be one that TUF has taken.
pub(crate) fn parse_vendor(text: &str) -> Result<Vendor, String> {
    if TOP.contains(&text) || text == "mirrors" {
        return Err(format!("{text} is a role of TUF itself"));
    }
    if text == FIRMWARE {
        return Err(format!("{text} is the role of firmware, and no vendor's; see iotwasm repo add-firmware"));
    }
    text.parse().map_err(|err: BadName| err.to_string())
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_vendor_cannot_take_the_name_of_a_top_level_role() {
        for name in ["root", "targets", "snapshot", "timestamp", "mirrors", "firmware", "Acme", "a/b", ""] {
            assert!(super::parse_vendor(name).is_err(), "{name:?}");
        }
        assert_eq!(super::parse_vendor("acme").unwrap().as_str(), "acme");
    }
}

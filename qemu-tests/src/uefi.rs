//! The virtual machine's own firmware, in the two builds that Debian's package ovmf has.

/// Which build a device has; for its life, as on a real one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Uefi {
    /// Without Secure Boot.
    #[default]
    Plain,
    /// With Secure Boot, its variables in reach of system management mode alone. A new device has no keys: setup mode.
    SecureBoot,
}

/// Variables of a new device, without keys.
pub const BLANK_VARIABLES: &str = "/usr/share/OVMF/OVMF_VARS_4M.fd";

impl Uefi {
    /// Its code.
    pub fn code(self) -> &'static str {
        match self {
            Self::Plain => "/usr/share/OVMF/OVMF_CODE_4M.fd",
            Self::SecureBoot => "/usr/share/OVMF/OVMF_CODE_4M.secboot.fd",
        }
    }

    /// QEMU's arguments for a machine that it runs on.
    pub fn machine(self) -> &'static [&'static str] {
        match self {
            Self::Plain => &["-machine", "q35,smm=off"],
            // The code wants to be the only one that writes variables, and knows no sleep from which it could be changed.
            Self::SecureBoot => &[
                "-machine",
                "q35,smm=on",
                "-global",
                "driver=cfi.pflash01,property=secure,value=on",
                "-global",
                "ICH9-LPC.disable_s3=1",
            ],
        }
    }
}

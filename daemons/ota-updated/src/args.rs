//! The command line. Almost everything is configuration; the command line only says where configuration is.

use std::path::PathBuf;

use iotwasm_kit::paths;

/// What `--help` prints.
const HELP: &str = "\
ota-updated: fetches, verifies, tries, commits and rolls back payloads and firmware

Usage: ota-updated [--vendor-config DIR] [--config DIR]

  --vendor-config DIR  the image's defaults (/usr/lib/iotwasm)
  --config DIR         the OEM's settings over them (/etc/iotwasm)
  --check-config       read the configuration, say whether it is good, and leave
  -V, --version        print the version
  -h, --help           print this

Settings: DIR/ota-updated.toml, DIR/ota-updated.d/*.toml, and DIR/payloads.d/*.toml for each payload.
Started by systemd (ota-updated.socket). Exit codes: 64 usage, 78 configuration, 1 other.
";

/// What the command line asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Args {
    /// Run the daemon.
    Run(Folders),
    /// Only read the configuration.
    CheckConfig(Folders),
    /// Print this and leave.
    Print(String),
}

/// Where the configuration is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Folders {
    /// The image's defaults.
    pub vendor: PathBuf,
    /// The OEM's settings.
    pub local: PathBuf,
}

impl Args {
    /// Reads the process's own command line.
    ///
    /// # Errors
    ///
    /// On an option that does not exist or lacks its value.
    pub fn from_env() -> Result<Self, lexopt::Error> {
        Self::parse(lexopt::Parser::from_env())
    }

    fn parse(mut parser: lexopt::Parser) -> Result<Self, lexopt::Error> {
        use lexopt::Arg::{Long, Short};
        let mut folders = Folders { vendor: paths::VENDOR_CONFIG.into(), local: paths::LOCAL_CONFIG.into() };
        let mut check = false;
        while let Some(arg) = parser.next()? {
            match arg {
                Long("vendor-config") => folders.vendor = parser.value()?.into(),
                Long("config") => folders.local = parser.value()?.into(),
                Long("check-config") => check = true,
                Short('V') | Long("version") => {
                    return Ok(Self::Print(format!("ota-updated {}\n", env!("CARGO_PKG_VERSION"))));
                }
                Short('h') | Long("help") => return Ok(Self::Print(HELP.to_owned())),
                other => return Err(other.unexpected()),
            }
        }
        Ok(if check { Self::CheckConfig(folders) } else { Self::Run(folders) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(args: &[&str]) -> Result<Args, lexopt::Error> {
        Args::parse(lexopt::Parser::from_args(args))
    }

    #[test]
    fn nothing_means_the_devices_own_folders() {
        let Args::Run(folders) = parse(&[]).unwrap() else { panic!("not a run") };
        assert_eq!(folders.local, PathBuf::from(paths::LOCAL_CONFIG));
    }

    #[test]
    fn folders_are_taken_and_unknown_options_refused() {
        let Args::CheckConfig(folders) = parse(&["--check-config", "--config", "/x"]).unwrap() else {
            panic!("not a check")
        };
        assert_eq!(folders.local, PathBuf::from("/x"));
        assert!(parse(&["--config"]).is_err());
        assert!(parse(&["--what"]).is_err());
        assert!(parse(&["stray"]).is_err());
    }
}

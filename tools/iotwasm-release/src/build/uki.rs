//! The unified kernel image, with the root hash in its command line.

use std::path::Path;

use iotwasm_firmware::release::Verity;

use super::Build;
use crate::error::Error;
use crate::tool::Tool;

/// The word of the command line that our initrd opens the root file system by.
const VERITY: &str = "iot.verity=";
/// What the stub adds to the command line from the machine's SMBIOS comes behind this, where the kernel takes no words, and
/// with Secure Boot on the initrd refuses any: nobody signed them, and the stub adds them all the same.
const END: &str = " --";

/// Refuses a command line that would not say what it seems to.
pub(super) fn check_cmdline(text: &str) -> Result<(), Error> {
    let rule = if text.contains(VERITY) {
        "has iot.verity= already, which is the build's to add"
    } else if text.split_whitespace().any(|word| word == "--") {
        "has the word --: what is behind it is init's, and iot.verity= would be, too"
    } else if text.starts_with('@') || text.chars().any(char::is_control) {
        "begins with @ or has a control character; give the words themselves, in one line"
    } else {
        return Ok(());
    };
    Err(Error::Cmdline { rule })
}

pub(super) fn make(args: &Build, verity: &Verity, out: &Path) -> Result<(), Error> {
    let cmdline = format!("{} {VERITY}{}:{}{END}", args.cmdline.trim(), verity.root_hash, verity.hash_offset);
    let mut os_release = std::ffi::OsString::from("@");
    os_release.push(&args.os_release);
    for path in [&args.kernel, &args.initrd, &args.os_release] {
        std::fs::File::open(path).map_err(|err| Error::Read { path: path.clone(), err })?;
    }
    let mut tool = Tool::new("ukify", "systemd-ukify")
        .arg("build")
        .option("--linux", &args.kernel)
        .option("--initrd", &args.initrd)
        .option("--os-release", os_release)
        .option("--cmdline", cmdline.trim_start())
        .option("--output", out);
    if let Some(uname) = &args.uname {
        tool = tool.option("--uname", uname);
    }
    if let Some(stub) = &args.stub {
        tool = tool.option("--stub", stub);
    }
    if let (Some(cert), Some(key)) = (&args.uki.uki_cert, &args.uki.uki_key) {
        tool = tool.arg("--signtool=sbsign");
        tool = tool.option("--secureboot-certificate", cert).option("--secureboot-private-key", key);
        if key.starts_with("pkcs11:") {
            tool = tool.arg("--signing-engine=pkcs11");
        }
    }
    tool.run()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::check_cmdline;

    #[test]
    fn a_command_line_that_hides_the_root_hash_is_refused() {
        for bad in ["quiet iot.verity=00:4096", "quiet -- single", "@file", "a\nb"] {
            assert!(check_cmdline(bad).is_err(), "{bad:?}");
        }
        for good in ["", "console=ttyS0,115200 panic=5", "a--b"] {
            assert!(check_cmdline(good).is_ok(), "{good:?}");
        }
    }
}

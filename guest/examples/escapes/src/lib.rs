//! Hostile: tries to leave its directory. Its self-test fails if anything outside can be read, written or listed, so that
//! a device on which it is kept is a device that held.

use core::time::Duration;
use std::fs;
use std::path::Path;

use iotwasm_guest::{Failure, Payload, Wait, fail, health, payload, wait};

/// Places that no payload has any business in, each by a different way out.
const OUTSIDE: [&str; 12] = [
    "/",
    "/etc/passwd",
    "/proc/self/environ",
    "/data/iotwasm/payloads",
    "/state/..",
    "/state/../..",
    "/state/../../../../../../etc/passwd",
    "/state/./../state/../../payloads",
    "state/../../etc/passwd",
    "../etc/passwd",
    "//etc/passwd",
    "/state/link/etc/passwd",
];

#[derive(Default)]
struct Escapes;

impl Payload for Escapes {
    fn self_test(&mut self) -> Result<(), Failure> {
        // What it may do must work, or the refusals below would prove nothing.
        fs::write("/state/mine", "mine")?;
        if fs::read_to_string("/state/mine")? != "mine" {
            fail!("its own directory does not keep what is written");
        }
        for (target, link) in [("/", "/state/link"), ("../../../../../..", "/state/link-up")] {
            let _ = fs::remove_file(link);
            if symlink(target, link) && (fs::read_dir(link).is_ok() || fs::read(format!("{link}/etc/passwd")).is_ok()) {
                fail!("followed a symbolic link to {target}");
            }
        }
        for path in OUTSIDE {
            try_outside(Path::new(path))?;
        }
        if fs::hard_link("/state/../../state.json", "/state/stolen").is_ok() {
            fail!("linked a file of the device into its own directory");
        }
        if std::env::vars_os().next().is_some() {
            fail!("sees an environment although its manifest names none");
        }
        Ok(())
    }

    fn run(&mut self) {
        health::healthy("locked in");
        while wait(Duration::from_secs(1)) == Wait::Continue {
            health::healthy("locked in");
        }
    }
}

payload!(Escapes);

fn try_outside(path: &Path) -> Result<(), Failure> {
    if fs::read(path).is_ok() {
        fail!("could read {}", path.display());
    }
    if fs::read_dir(path).is_ok() {
        fail!("could list {}", path.display());
    }
    if fs::File::create(path).is_ok() || fs::write(path.join("escaped"), "out").is_ok() {
        fail!("could write below {}", path.display());
    }
    if fs::rename("/state/mine", path.join("mine")).is_ok() {
        fail!("could move a file to {}", path.display());
    }
    Ok(())
}

/// The standard library has no stable way to make a symbolic link on WASI; the interface itself has one.
#[cfg(target_os = "wasi")]
fn symlink(target: &str, link: &str) -> bool {
    #[link(wasm_import_module = "wasi_snapshot_preview1")]
    unsafe extern "C" {
        fn path_symlink(old: *const u8, old_len: usize, fd: i32, new: *const u8, new_len: usize) -> i32;
    }
    /// The first preopened directory, which is /state: the manifest names no other.
    const STATE: i32 = 3;
    let Some(name) = link.strip_prefix("/state/") else { return false };
    // SAFETY: both pointers and lengths are of live strings, and the host only reads.
    unsafe { path_symlink(target.as_ptr(), target.len(), STATE, name.as_ptr(), name.len()) == 0 }
}

#[cfg(not(target_os = "wasi"))]
fn symlink(_target: &str, _link: &str) -> bool {
    false
}

//! Finds out which WasmEdge this is built against and says how to link it.
//!
//! `WASMEDGE_INCLUDE_DIR` names the folder that holds `wasmedge/version.h` (default /usr/include), `WASMEDGE_LIB_DIR` the
//! one with the shared library when the linker does not look there by itself.

use std::path::PathBuf;
use std::{env, fs, process};

fn main() {
    for name in ["WASMEDGE_INCLUDE_DIR", "WASMEDGE_LIB_DIR"] {
        println!("cargo::rerun-if-env-changed={name}");
    }
    println!("cargo::rustc-check-cfg=cfg(wasmedge_0_17)");
    let include = env::var_os("WASMEDGE_INCLUDE_DIR").map_or_else(|| PathBuf::from("/usr/include"), PathBuf::from);
    let header = include.join("wasmedge/version.h");
    println!("cargo::rerun-if-changed={}", header.display());
    let text = fs::read_to_string(&header).unwrap_or_else(|err| {
        fail(&format!(
            "could not read {}: {err}; build inside the build root (scripts/buildroot run …), or install libwasmedge-dev, \
             or set WASMEDGE_INCLUDE_DIR",
            header.display()
        ))
    });
    let number = |name: &str| {
        text.lines()
            .find_map(|line| line.strip_prefix("#define ")?.strip_prefix(name)?.trim().parse::<u32>().ok())
            .unwrap_or_else(|| fail(&format!("{} does not define {name}", header.display())))
    };
    let version =
        (number("WASMEDGE_VERSION_MAJOR"), number("WASMEDGE_VERSION_MINOR"), number("WASMEDGE_VERSION_PATCH"));
    // The declarations in ffi.rs were read against these headers; another version may have another ABI.
    if !((0, 14, 1)..(0, 18, 0)).contains(&version) {
        let (major, minor, patch) = version;
        fail(&format!("WasmEdge {major}.{minor}.{patch} is not supported; 0.14.1 to 0.17 are"));
    }
    if version >= (0, 17, 0) {
        println!("cargo::rustc-cfg=wasmedge_0_17");
    }
    if let Ok(lib) = env::var("WASMEDGE_LIB_DIR") {
        println!("cargo::rustc-link-search=native={lib}");
    }
    println!("cargo::rustc-link-lib=dylib=wasmedge");
}

fn fail(message: &str) -> ! {
    println!("cargo::error={message}");
    process::exit(1)
}

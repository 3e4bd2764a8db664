//! `iotwasm-release`: from a root tree to a firmware release, for the machine that builds images.
//!
//! Owns the order of the steps and the arguments of the programs that do them: mksquashfs, veritysetup, ukify, mkfs.vfat,
//! mtools, rauc, openssl. What a release is and what it measures is crates/firmware's.

mod build;
mod efi;
mod efi_update;
mod error;
mod keys;
mod predict;
mod tool;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use iotwasm_kit::report::{self, Code};

use error::Error;

/// Firmware releases: build one from a root tree, make keys for tests, sign changes of Secure Boot's variables, say what a
/// UKI measures.
#[derive(Debug, Parser)]
#[command(
    name = "iotwasm-release",
    version,
    disable_help_subcommand = true,
    after_help = "Exit codes: 0 done, 1 failed, 64 wrong command line, 69 a program that it drives is missing."
)]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Build a release: root file system, UKI, ESP, bundle, release.json.
    #[command(after_help = "Example:
  iotwasm-release build --root tree --kernel vmlinuz --initrd initrd.zst --os-release tree/usr/lib/os-release \\
    --compatible acme-gateway --version 1.4.0 --time 2026-03-01T00:00:00Z --cmdline 'console=ttyS0 quiet' --out release \\
    --rauc-cert keys/rauc/signer.pem --rauc-key keys/rauc/signer.key --rauc-intermediate keys/rauc/intermediate.pem

The same input gives the same release; see docs/releases.md.")]
    Build(Box<build::Build>),
    /// Make keys for tests: a chain that signs bundles, and Secure Boot's PK, KEK and db.
    #[command(after_help = "Example:
  iotwasm-release keys --out keys

These keys lie in files and are for tests and first steps. docs/releases.md says how an OEM keeps its own.")]
    Keys(keys::Keys),
    /// Sign a change of a Secure Boot variable, for devices to write to it: other keys, or what is revoked.
    #[command(after_help = "Example: no device is to start what a stolen key signed, nor one release with a hole
  iotwasm-release efi-update --variable dbx --append --time 2026-03-01T00:00:00Z --cert KEK.pem --key KEK.key \\
    --image 6f1c... --out dbx.auth stolen-db.pem

docs/releases.md says how a device takes it.")]
    EfiUpdate(efi_update::EfiUpdate),
    /// Say what PCR 4 and PCR 11 will be where a UKI boots.
    #[command(after_help = "Example:
  iotwasm-release predict --events release/uki.efi")]
    Predict(predict::Predict),
}

/// Runs the command with these arguments, the first of which is the program's name.
pub fn main(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    match Args::try_parse_from(args) {
        Ok(args) => report::exit(run(&args.command)),
        Err(err) => {
            // Nothing can be done when there is no terminal to print it on.
            let _ = err.print();
            if err.use_stderr() { ExitCode::from(Code::Usage as u8) } else { ExitCode::SUCCESS }
        }
    }
}

fn run(command: &Command) -> Result<(), Error> {
    match command {
        Command::Build(args) => build::run(args),
        Command::Keys(args) => keys::run(args),
        Command::EfiUpdate(args) => efi_update::run(args),
        Command::Predict(args) => predict::run(args),
    }
}

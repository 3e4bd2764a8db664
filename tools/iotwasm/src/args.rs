//! The command line's outermost level. Each group of commands has its own arguments beside its code.

use clap::{Parser, Subcommand};

/// Keys, repositories and payloads of iotwasm devices, and a look at a device.
#[derive(Debug, Parser)]
#[command(
    name = "iotwasm",
    version,
    disable_help_subcommand = true,
    after_help = "Examples:
  iotwasm keys generate --dir keys root targets snapshot timestamp acme
  iotwasm repo init --repo repo --keys keys --vendor acme
  iotwasm payload pack --wasm counter.wasm --manifest manifest.toml -o counter-1.0.0.wasm
  iotwasm repo publish --repo repo --keys keys counter-1.0.0.wasm
  iotwasm device status

Exit codes: 0 done, 1 failed, 64 wrong command line, 69 a daemon of the device does not answer,
78 a manifest, key file or repository is not what it must be."
)]
pub(crate) struct Args {
    /// Print the result as JSON (an error too, on standard error).
    #[arg(long, global = true)]
    pub(crate) json: bool,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Signing keys.
    #[command(subcommand)]
    Keys(crate::keys::Command),
    /// The repository that devices fetch from: a folder for any web server.
    #[command(subcommand)]
    Repo(crate::repo::Command),
    /// Payload files.
    #[command(subcommand)]
    Payload(crate::payload::Command),
    /// This device: what runs, what was tried. To be called on the device.
    #[command(subcommand)]
    Device(crate::device::Command),
    /// Print a completion script for a shell.
    #[command(after_help = "Example:
  iotwasm completions bash > /etc/bash_completion.d/iotwasm")]
    Completions {
        /// Which shell.
        shell: clap_complete::Shell,
    },
}

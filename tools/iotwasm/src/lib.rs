//! `iotwasm`, the OEM's and the field engineer's command: keys, the repository, payloads, and a look at a device.
//!
//! Owns the command line and how results and errors are shown. Signing is crates/trust's, packing and checking are
//! crates/payload's.

mod age;
mod args;
mod completions;
mod device;
mod error;
mod keyring;
mod keys;
mod output;
mod payload;
mod progress;
mod repo;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::Parser as _;

use args::{Args, Command};
use error::Error;
use output::Output;

/// Runs the command with these arguments, the first of which is the program's name.
pub fn main(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    match Args::try_parse_from(args) {
        Ok(args) => {
            let output = Output::new(args.json);
            output.exit(run(args.command, &output))
        }
        Err(err) => error::usage(&err),
    }
}

fn run(command: Command, output: &Output) -> Result<(), Error> {
    match command {
        Command::Keys(command) => keys::run(command, output),
        Command::Repo(command) => repo::run(command, output),
        Command::Payload(command) => payload::run(command, output),
        Command::Device(command) => device::run(command, output),
        Command::Completions { shell } => completions::run(shell),
    }
}

//! The harness' program: see `qemu-tests --help`.

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    qemu_tests::cli::run(&qemu_tests::cli::Args::parse())
}

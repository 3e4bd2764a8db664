//! Parses, runs, reports.

use std::process::ExitCode;

fn main() -> ExitCode {
    iotwasm_kit::report::exit(capd::main(std::env::args_os()))
}

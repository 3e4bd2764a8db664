//! ota-updated: see the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    iotwasm_kit::report::exit(ota_updated::run(ota_updated::args::Args::from_env()))
}

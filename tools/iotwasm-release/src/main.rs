//! The `iotwasm-release` command. What it does is in the library, so that tests reach it.

use std::process::ExitCode;

fn main() -> ExitCode {
    iotwasm_release::main(std::env::args_os())
}

//! Completion scripts, made from the command line's own definition.

use clap::CommandFactory as _;

use crate::args::Args;
use crate::error::Error;
use crate::output;

pub(crate) fn run(shell: clap_complete::Shell) -> Result<(), Error> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Args::command(), "iotwasm", &mut script);
    output::write(&script)
}

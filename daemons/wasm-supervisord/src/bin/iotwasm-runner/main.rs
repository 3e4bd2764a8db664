//! iotwasm-runner: one payload in one sandboxed process. Started by wasm-supervisord alone.

#[cfg(test)]
#[path = "../../../tests/capd/mod.rs"]
mod capd;
mod guest;
mod interfaces;
mod link;
mod setup;
mod watchdog;

use std::process::ExitCode;

use wasm_supervisord::{
    protocol::{Ending, FromRunner},
    sandbox,
};

fn main() -> ExitCode {
    // First of all: its executable cannot be read, so it is hidden from its start on, but only where that is installed so.
    if let Err(err) = sandbox::hide() {
        return iotwasm_kit::report::exit(Err(err));
    }
    let link = match link::Link::take().map(std::sync::Arc::new) {
        Ok(link) => link,
        Err(err) => return iotwasm_kit::report::exit(Err(err)),
    };
    link::tell_panics(&link);
    let (ending, message) = match setup::enter(&link) {
        Ok(Some(ready)) => guest::run(&link, ready),
        // The supervisor changed its mind, or is gone: nobody waits for a last word.
        Ok(None) => (Ending::Stopped, String::new()),
        Err(err) => (Ending::SetupFailed, iotwasm_kit::report::chain(&err)),
    };
    link.last_word(&FromRunner::Ended { ending, message });
    ExitCode::SUCCESS
}

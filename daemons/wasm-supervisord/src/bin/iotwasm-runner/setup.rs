//! From the first message to a closed sandbox. The payload's bytes are only read here, not looked at.

use std::{fs::File, io, io::Read, os::fd::OwnedFd, path::Path, sync::Arc};

use wasm_supervisord::{
    protocol::{Setup, ToRunner},
    sandbox,
};

use crate::{
    link::{self, Link},
    watchdog::Watchdog,
};

/// What keeps the runner from its guest.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The first message.
    #[error("could not take the payload over")]
    Link(#[source] link::Error),
    /// The module's memory file.
    #[error("could not read the payload's memory file")]
    Module(#[source] io::Error),
    /// The watchdog's thread.
    #[error("could not start the watchdog")]
    Watchdog(#[source] io::Error),
    /// The sandbox.
    #[error("could not close the sandbox")]
    Sandbox(#[source] sandbox::Error),
}

/// In the sandbox.
pub(crate) struct Ready {
    pub(crate) setup: Setup,
    pub(crate) wasm: Vec<u8>,
    pub(crate) session: Option<OwnedFd>,
    pub(crate) watchdog: Arc<Watchdog>,
}

/// Take the payload over and close the sandbox. `None` when the supervisor is gone.
pub(crate) fn enter(link: &Arc<Link>) -> Result<Option<Ready>, Error> {
    let Some((message, module, session)) = link.receive_setup().map_err(Error::Link)? else { return Ok(None) };
    let ToRunner::Setup(setup) = message else {
        return Err(Error::Link(link::Error::Unexpected { expected: "a setup" }));
    };
    if setup.session != session.is_some() {
        return Err(Error::Link(link::Error::Unexpected { expected: "a session, where one is announced" }));
    }
    let wasm = read(module).map_err(Error::Module)?;
    let directories: Vec<_> =
        setup.directories.iter().map(|directory| (Path::new(&directory.host), directory.writable)).collect();
    sandbox::enter(&sandbox::Rules {
        directories: &directories,
        data_bytes: setup.data_bytes,
        file_bytes: setup.file_bytes,
        open_files: setup.open_files,
    })
    .map_err(Error::Sandbox)?;
    let watchdog = Watchdog::start(Arc::clone(link)).map_err(Error::Watchdog)?;
    sandbox::seal().map_err(Error::Sandbox)?;
    Ok(Some(Ready { setup: *setup, wasm, session, watchdog }))
}

fn read(module: OwnedFd) -> io::Result<Vec<u8>> {
    use std::io::Seek;
    let mut file = File::from(module);
    let mut wasm = Vec::with_capacity(usize::try_from(file.metadata()?.len()).unwrap_or(0));
    // The description is shared with whoever wrote it, and with it the position.
    file.rewind()?;
    file.read_to_end(&mut wasm)?;
    Ok(wasm)
}

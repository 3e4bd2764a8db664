//! A daemon's life under systemd: the socket it is given, ready, watchdog, stopping.

use std::{io, os::unix::net::UnixListener, time::Duration};

use sd_notify::NotifyState;

use crate::report::{Code, Failure};

/// What keeps a daemon from starting.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No socket was handed over.
    #[error(
        "no socket was handed over; start this program through its systemd socket unit (or systemd-socket-activate)"
    )]
    NoSocket,
    /// What was handed over is not a listening Unix socket.
    #[error("what systemd handed over is not a listening Unix socket")]
    WrongSocket(#[source] io::Error),
    /// The signal handlers could not be set up.
    #[error("could not listen for signals")]
    Signals(#[source] io::Error),
    /// Running as root.
    #[error("this daemon refuses to run as root; run it as its own user (see its systemd unit)")]
    Root,
}

impl Failure for Error {
    fn exit_code(&self) -> Code {
        match self {
            Self::NoSocket | Self::WrongSocket(_) | Self::Root => Code::Usage,
            Self::Signals(_) => Code::Other,
        }
    }
}

/// The one listening Unix socket that the socket unit hands over (sd_listen_fds(3)).
///
/// # Errors
/// None was handed over, or it is something else.
pub fn listener() -> Result<UnixListener, Error> {
    listenfd::ListenFd::from_env().take_unix_listener(0).map_err(Error::WrongSocket)?.ok_or(Error::NoSocket)
}

/// Daemons have users of their own: whatever one of them can reach as root is a mistake in its unit.
///
/// # Errors
/// The effective user is root.
pub fn refuse_root() -> Result<(), Error> {
    if rustix::process::geteuid().is_root() { Err(Error::Root) } else { Ok(()) }
}

/// Tell systemd that the first request would succeed now.
pub fn ready(status: &str) {
    notify(&[NotifyState::Ready, NotifyState::Status(status)]);
}

/// What `systemctl status` shows.
pub fn status(status: &str) {
    notify(&[NotifyState::Status(status)]);
}

/// Tell systemd that the daemon is about to leave.
pub fn stopping() {
    notify(&[NotifyState::Stopping]);
}

/// How often to [`ping`]: half of the unit's WatchdogSec; none where the unit has no watchdog.
#[must_use]
pub fn watchdog() -> Option<Duration> {
    sd_notify::watchdog_enabled().map(|limit| limit / 2)
}

/// Tell the watchdog that work goes on. Call it from the work loop itself, never from a timer of its own.
pub fn ping() {
    notify(&[NotifyState::Watchdog]);
}

fn notify(state: &[NotifyState<'_>]) {
    // Without systemd there is nobody to tell; with it, a lost message shows as a start or watchdog timeout.
    if let Err(err) = sd_notify::notify(state) {
        crate::debug!("could not notify systemd: {err}");
    }
}

/// Wait for SIGTERM or SIGINT.
///
/// # Errors
/// The handlers could not be set up.
pub async fn shutdown() -> Result<(), Error> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate()).map_err(Error::Signals)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(Error::Signals)?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}

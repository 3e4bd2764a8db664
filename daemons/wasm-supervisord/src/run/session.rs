//! A run's sessions with capd, one after the other: when one is lost, the next is opened beside the run's loop, with
//! longer and longer pauses. Owns the pauses; the session's words are between the runner and capd.

use std::{
    future::Future,
    os::fd::OwnedFd,
    pin::Pin,
    time::{Duration, Instant},
};

use iotwasm_kit::report;

use super::Which;
use crate::capabilities::Capabilities;

/// Before the first attempt: what systemd needs to start capd again.
const FIRST: Duration = Duration::from_millis(100);
/// Between two attempts at most: how long a payload waits for a capd that is back.
const LONGEST: Duration = Duration::from_secs(5);
/// A session that held this long was a good one: the next loss is a first one.
const RECOVERED: Duration = Duration::from_secs(10);

/// The next session on its way, and the pause before the attempt that would follow it.
type Reopening<'a> = Pin<Box<dyn Future<Output = (OwnedFd, Duration)> + 'a>>;

/// The sessions of one run. At most one is being opened, however often the runner says that it lost one.
pub(super) struct Sessions<'a> {
    capabilities: &'a dyn Capabilities,
    which: &'a Which,
    sha256: String,
    opened: Instant,
    /// Before the next attempt.
    pause: Duration,
    opening: Option<Reopening<'a>>,
}

impl<'a> Sessions<'a> {
    /// The first one.
    pub(super) async fn open(
        capabilities: &'a dyn Capabilities,
        which: &'a Which,
        sha256: String,
    ) -> Result<(Self, OwnedFd), crate::capabilities::Error> {
        let fd = capabilities.open(&which.payload, which.slot, &sha256).await?;
        Ok((Self { capabilities, which, sha256, opened: Instant::now(), pause: FIRST, opening: None }, fd))
    }

    /// The runner has lost the one it had.
    pub(super) fn lost(&mut self, now: Instant) {
        if self.opening.is_some() {
            return;
        }
        iotwasm_kit::warn!("{} lost its session with capd; opening another", self.which.payload);
        if now.saturating_duration_since(self.opened) >= RECOVERED {
            self.pause = FIRST;
        }
        self.opening = Some(Box::pin(reopen(self.capabilities, self.which, self.sha256.clone(), self.pause)));
    }

    /// The next one; never, if none is needed. Safe to give up halfway.
    pub(super) async fn next(sessions: &mut Option<Self>) -> OwnedFd {
        let Some(this) = sessions else { return std::future::pending().await };
        let Some(opening) = &mut this.opening else { return std::future::pending().await };
        let (fd, pause) = opening.await;
        (this.opening, this.opened, this.pause) = (None, Instant::now(), pause);
        fd
    }
}

/// Try until there is one. Gives the pause before the attempt after that, too.
async fn reopen(
    capabilities: &dyn Capabilities,
    which: &Which,
    sha256: String,
    mut pause: Duration,
) -> (OwnedFd, Duration) {
    let mut failing = false;
    loop {
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LONGEST);
        match capabilities.open(&which.payload, which.slot, &sha256).await {
            Ok(fd) => {
                iotwasm_kit::info!("{} has a session with capd again", which.payload);
                return (fd, pause);
            }
            Err(err) if !failing => {
                iotwasm_kit::warn!("{} still has no session: {}", which.payload, report::chain(&err));
                failing = true;
            }
            Err(_) => {}
        }
    }
}

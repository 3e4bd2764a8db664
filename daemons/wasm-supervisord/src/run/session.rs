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

#[cfg(test)]
mod tests {
    use std::cell::{Cell, RefCell};

    use super::*;
    use crate::capabilities::{Error, Opening};

    /// Fails so many times, then opens.
    #[derive(Default)]
    struct Flaky {
        failures: Cell<u32>,
        opened: RefCell<Vec<Instant>>,
    }

    impl Capabilities for Flaky {
        fn open<'a>(&'a self, _: &'a iotwasm_payload::PayloadId, _: iotwasm_payload::Slot, _: &'a str) -> Opening<'a> {
            self.opened.borrow_mut().push(Instant::now());
            let failures = self.failures.get();
            self.failures.set(failures.saturating_sub(1));
            let answer = match failures {
                0 => Ok(std::fs::File::open("/dev/null").unwrap().into()),
                _ => Err(Error::Unavailable("not now".into())),
            };
            Box::pin(std::future::ready(answer))
        }
    }

    fn which() -> Which {
        Which { payload: "probe".parse().unwrap(), slot: iotwasm_payload::Slot::A, cell: "c".into() }
    }

    #[tokio::test]
    async fn however_often_it_is_lost_one_session_is_opened_at_a_time() {
        let (capabilities, which) = (Flaky::default(), which());
        let (mut sessions, _fd) = Sessions::open(&capabilities, &which, "abc".into()).await.unwrap();
        for _ in 0..1000 {
            sessions.lost(Instant::now());
        }
        let mut sessions = Some(sessions);
        Sessions::next(&mut sessions).await;
        assert_eq!(capabilities.opened.borrow().len(), 2);
    }

    #[tokio::test]
    async fn attempts_come_with_longer_and_longer_pauses() {
        let (capabilities, which) = (Flaky::default(), which());
        let (mut sessions, _fd) = Sessions::open(&capabilities, &which, "abc".into()).await.unwrap();
        capabilities.failures.set(2);
        sessions.lost(Instant::now());
        let mut sessions = Some(sessions);
        Sessions::next(&mut sessions).await;
        {
            let opened = capabilities.opened.borrow();
            let pauses: Vec<_> = opened.windows(2).map(|pair| pair[1] - pair[0]).collect();
            let least = [FIRST, FIRST * 2, FIRST * 4];
            assert!(pauses.len() == 3 && pauses.iter().zip(least).all(|(pause, least)| *pause >= least), "{pauses:?}");
        }
        // One that is lost at once goes on where this left off; one that held begins anew.
        let mut sessions = sessions.unwrap();
        assert_eq!(sessions.pause, FIRST * 8);
        sessions.lost(Instant::now() + RECOVERED);
        assert_eq!(sessions.pause, FIRST);
    }

    #[tokio::test]
    async fn without_a_loss_there_is_no_next_one() {
        let (capabilities, which) = (Flaky::default(), which());
        let (sessions, _fd) = Sessions::open(&capabilities, &which, "abc".into()).await.unwrap();
        let mut sessions = Some(sessions);
        tokio::select! {
            biased;
            _ = Sessions::next(&mut sessions) => panic!("there is none"),
            () = tokio::task::yield_now() => {}
        }
    }
}

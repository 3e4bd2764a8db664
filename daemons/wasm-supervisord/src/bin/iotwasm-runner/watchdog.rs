//! The wall clock of the guest. A thread of its own, so that a guest that spins, or waits inside WASI, ends all the same;
//! and it ends the process, since nothing less stops every kind of guest.

use std::{
    io,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Signal, getpid, kill_process};
use wasm_supervisord::protocol::{Ending, FromRunner};

use crate::link::Link;

/// It only sleeps and says one thing.
const STACK: usize = 64 * 1024;

/// Something that must end in time.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limit {
    pub(crate) until: Instant,
    pub(crate) length: Duration,
    /// The self-test, else a wake-up.
    pub(crate) self_test: bool,
}

#[derive(Debug, Default)]
struct State {
    limit: Option<Limit>,
    /// When the thread looks again by itself.
    looks_at: Option<Instant>,
}

/// The watchdog.
#[derive(Debug, Default)]
pub(crate) struct Watchdog {
    state: Mutex<State>,
    changed: Condvar,
}

impl Watchdog {
    /// Start it, with no limit set.
    pub(crate) fn start(link: Arc<Link>) -> io::Result<Arc<Self>> {
        let watchdog = Arc::new(Self::default());
        let own = Arc::clone(&watchdog);
        thread::Builder::new().name("watchdog".into()).stack_size(STACK).spawn(move || own.watch(&link))?;
        Ok(watchdog)
    }

    /// From now on, within this time.
    pub(crate) fn arm(&self, length: Duration, self_test: bool) {
        self.lock().limit = Some(Limit { until: Instant::now() + length, length, self_test });
        self.changed.notify_one();
    }

    /// So much time more, for something that is not the guest's doing. Wakes nobody: the thread finds it at the old end.
    pub(crate) fn lend(&self, time: Duration) {
        if let Some(limit) = &mut self.lock().limit {
            limit.until += time;
        }
    }

    /// What was lent was not needed.
    pub(crate) fn take_back(&self, time: Duration) {
        let mut state = self.lock();
        let Some(limit) = &mut state.limit else { return };
        limit.until -= time;
        let until = limit.until;
        if state.looks_at.is_some_and(|at| at > until) {
            self.changed.notify_one();
        }
    }

    /// No limit, while the guest waits by its own wish.
    pub(crate) fn rest(&self) {
        self.lock().limit = None;
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn watch(&self, link: &Link) {
        let mut state = self.lock();
        loop {
            let now = Instant::now();
            state.looks_at = state.limit.map(|limit| limit.until);
            state = match state.limit {
                Some(over) if over.until <= now => {
                    end(link, over);
                    return;
                }
                Some(Limit { until, .. }) => {
                    self.changed.wait_timeout(state, until - now).unwrap_or_else(PoisonError::into_inner).0
                }
                None => self.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
            };
        }
    }
}

fn end(link: &Link, over: Limit) {
    let length = over.length.as_millis();
    let (ending, message) = if over.self_test {
        (Ending::SelfTestFailed, format!("the self-test did not end within {length} ms"))
    } else {
        (Ending::WallClock, format!("one wake-up took longer than {length} ms"))
    };
    link.last_word_now(&FromRunner::Ended { ending, message });
    // Not exit(): it would run destructors beside a guest that still runs. If even this fails, the supervisor, which
    // just read why, ends the cell.
    if kill_process(getpid(), Signal::KILL).is_err() {
        std::process::abort();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn until(watchdog: &Watchdog) -> Option<Instant> {
        watchdog.lock().limit.map(|limit| limit.until)
    }

    #[test]
    fn what_was_lent_and_taken_back_changes_nothing() {
        let watchdog = Watchdog::default();
        watchdog.arm(SECOND, false);
        let before = until(&watchdog);
        watchdog.lend(5 * SECOND);
        assert_eq!(until(&watchdog), before.map(|before| before + 5 * SECOND));
        watchdog.take_back(5 * SECOND);
        assert_eq!(until(&watchdog), before);
    }

    #[test]
    fn nothing_is_lent_to_who_rests() {
        let watchdog = Watchdog::default();
        watchdog.lend(SECOND);
        watchdog.take_back(SECOND);
        assert_eq!(until(&watchdog), None);
    }

    #[test]
    fn a_thread_that_slept_through_a_loan_looks_again_when_it_is_taken_back() {
        let watchdog = Watchdog::default();
        watchdog.arm(SECOND, false);
        watchdog.lend(60 * SECOND);
        std::thread::scope(|scope| {
            // As the watchdog's own thread does: it looks at the limit, with the loan in it, and sleeps until then.
            let (sender, began) = std::sync::mpsc::channel();
            let watchdog = &watchdog;
            let thread = scope.spawn(move || {
                let mut state = watchdog.lock();
                state.looks_at = state.limit.map(|limit| limit.until);
                sender.send(()).unwrap();
                watchdog.changed.wait_timeout(state, 60 * SECOND).unwrap().1.timed_out()
            });
            began.recv().unwrap();
            watchdog.take_back(60 * SECOND);
            assert!(!thread.join().unwrap(), "it was not woken");
        });
    }
}

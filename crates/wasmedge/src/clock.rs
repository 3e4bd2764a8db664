//! The wall clock of a call. A thread of its own sleeps until the deadline and cancels the call then: the library has no
//! deadlines, and the thread that called is busy waiting for the guest.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::error::Error;
use crate::ffi;

/// Stack of the clock's thread, in bytes: it only sleeps and calls one function.
const STACK: usize = 64 * 1024;

/// A call under way.
struct Call(*mut ffi::Async);

// SAFETY: the one thing done with it on another thread is `WasmEdge_AsyncCancel`, which exists to be called from
// there: it sets an atomic flag of the executor. The lock keeps that from happening after the call's end.
unsafe impl Send for Call {}

#[derive(Default)]
struct State {
    call: Option<Call>,
    deadline: Option<Instant>,
    /// Asked for by a [`Canceller`].
    cancel: bool,
    /// The call was told to stop.
    fired: bool,
    /// Until when the thread sleeps; `None` means until it is woken.
    asleep_until: Option<Instant>,
    quit: bool,
}

#[derive(Default)]
struct Inner {
    state: Mutex<State>,
    changed: Condvar,
}

impl Inner {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing panics while it holds the lock; if something did, the state is still a state.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The clock of an instance's calls. Host functions stop it while the guest does not run, and start it anew.
#[derive(Clone)]
pub struct Clock(Arc<Inner>);

/// Cancels an instance's call from anywhere.
#[derive(Clone)]
pub struct Canceller(Clock);

impl Canceller {
    /// Cancels the call under way, or the next one if there is none. A guest inside a host function stops when that
    /// function returns.
    pub fn cancel(&self) {
        self.0.0.lock().cancel = true;
        self.0.0.changed.notify_one();
    }
}

impl Clock {
    /// Stops the clock: there is no deadline until it is restarted.
    pub fn stop(&self) {
        self.0.lock().deadline = None;
    }

    /// Starts the clock anew: the call ends this much later, unless it is stopped or restarted before.
    pub fn restart(&self, limit: Duration) {
        let mut state = self.0.lock();
        let deadline = Instant::now().checked_add(limit);
        state.deadline = deadline;
        // A thread that wakes earlier anyway looks at the new deadline by itself.
        let oversleeps = deadline.is_some_and(|d| state.asleep_until.is_none_or(|until| until > d));
        drop(state);
        if oversleeps {
            self.0.changed.notify_one();
        }
    }

    /// A call is about to begin. Sets its deadline before the guest runs, since a host function may stop the clock before
    /// the one who called the guest gets any further.
    pub(crate) fn prepare(&self, limit: Option<Duration>) {
        self.0.lock().deadline = limit.and_then(|limit| Instant::now().checked_add(limit));
    }

    /// A call began: from now on it can be cancelled.
    pub(crate) fn begin(&self, call: *mut ffi::Async) {
        self.0.lock().call = Some(Call(call));
        self.0.changed.notify_one();
    }

    /// The call ended: nothing cancels it any more. True if something had.
    pub(crate) fn end(&self) -> bool {
        let mut state = self.0.lock();
        state.call = None;
        state.deadline = None;
        state.cancel = false;
        std::mem::take(&mut state.fired)
    }
}

/// The clock's thread. Ends when this is dropped.
pub(crate) struct ClockThread {
    pub(crate) clock: Clock,
    thread: Option<JoinHandle<()>>,
}

impl ClockThread {
    pub(crate) fn start() -> Result<Self, Error> {
        let clock = Clock(Arc::default());
        let inner = Arc::clone(&clock.0);
        let builder = thread::Builder::new().name("guest-clock".into()).stack_size(STACK);
        let thread = builder.spawn(move || run(&inner)).map_err(|err| Error::Thread { err })?;
        Ok(Self { clock, thread: Some(thread) })
    }

    pub(crate) fn canceller(&self) -> Canceller {
        Canceller(self.clock.clone())
    }
}

impl Drop for ClockThread {
    fn drop(&mut self) {
        self.clock.0.lock().quit = true;
        self.clock.0.changed.notify_one();
        if let Some(thread) = self.thread.take() {
            // It cannot have panicked; if it did, there is nothing left to stop.
            let _ = thread.join();
        }
    }
}

fn run(inner: &Inner) {
    let mut state = inner.lock();
    while !state.quit {
        let now = Instant::now();
        let due = state.cancel || state.deadline.is_some_and(|deadline| deadline <= now);
        let running = state.call.is_some() && !state.fired;
        if let (true, true, Some(call)) = (running, due, &state.call) {
            // SAFETY: `begin` put it there alive, and `end` takes it away, under this lock, before it is deleted.
            unsafe { ffi::async_cancel(call.0) };
            state.fired = true;
        }
        let until = if state.call.is_some() && !state.fired { state.deadline } else { None };
        state.asleep_until = until;
        state = match until {
            Some(until) => {
                let left = until.saturating_duration_since(now);
                inner.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0
            }
            None => inner.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
        };
    }
}

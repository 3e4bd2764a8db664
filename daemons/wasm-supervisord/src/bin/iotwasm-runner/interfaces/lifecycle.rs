//! The module `iotwasm`: health, log, wait and hold, which every payload has.

use std::{
    os::fd::OwnedFd,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use iotwasm_payload::interfaces::IOTWASM;
use iotwasm_wasmedge::{Caller, Halt, HostModule};
use wasm_supervisord::protocol::{Feeling, FromRunner, MAX_GUEST_MESSAGE, MAX_HOLD_S, Setup, ToRunner};

use super::{number, session::Shared};
use crate::{
    link::{Beside, Link, Received},
    watchdog::Watchdog,
};

/// Status numbers that end the self-test of a command; lower ones are a [`Feeling`].
const SELF_TEST_PASSED: i32 = 3;
const SELF_TEST_FAILED: i32 = 4;
/// Levels of a log line: error, warning, info, debug, as in syslog(3).
const LEVELS: [i32; 4] = [3, 4, 6, 7];

/// Where a guest is in its life; shared with its functions.
#[derive(Debug)]
pub(crate) struct Life {
    link: Arc<Link>,
    watchdog: Arc<Watchdog>,
    wake_up: Duration,
    command: bool,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    tested: bool,
    self_test_failure: Option<String>,
    /// It said that it has failed: once is enough, and that once always gets through.
    failed: bool,
    /// It asked for a hold since it last released: the release always gets through, too.
    holding: bool,
    stopping: bool,
    orphaned: bool,
}

impl Life {
    pub(crate) fn new(link: Arc<Link>, watchdog: Arc<Watchdog>, setup: &Setup) -> Self {
        let wake_up = Duration::from_millis(setup.wake_up_ms.into());
        Self { link, watchdog, wake_up, command: setup.command, state: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The self-test passed: from here on the limits of a wake-up count.
    pub(crate) fn self_test_passed(&self) {
        self.lock().tested = true;
        self.watchdog.arm(self.wake_up, false);
        self.link.send(&FromRunner::SelfTestPassed);
    }

    pub(crate) fn in_self_test(&self) -> bool {
        !self.lock().tested
    }

    /// What the guest itself said about a self-test that failed.
    pub(crate) fn self_test_failure(&self) -> Option<String> {
        self.lock().self_test_failure.clone()
    }

    pub(crate) fn is_stopping(&self) -> bool {
        self.lock().stopping
    }

    /// The supervisor is gone.
    pub(crate) fn is_orphaned(&self) -> bool {
        self.lock().orphaned
    }

    fn health(&self, caller: &mut Caller<'_>, status: i32, pointer: i32, length: i32) -> Result<i32, Halt> {
        let feeling = u8::try_from(status).ok().and_then(Feeling::from_number);
        let ends_self_test = matches!(status, SELF_TEST_PASSED | SELF_TEST_FAILED) && self.in_self_test();
        if feeling.is_none() && !ends_self_test {
            return Ok(number::BAD_ARGUMENT);
        }
        let message = match text(caller, pointer, length) {
            Ok(message) => message,
            Err(number) => return Ok(number),
        };
        match feeling {
            Some(Feeling::Failed) => {
                if !std::mem::replace(&mut self.lock().failed, true) {
                    self.link.send(&FromRunner::Health { feeling: Feeling::Failed, message });
                }
            }
            Some(feeling) => {
                self.link.send_if_room(&FromRunner::Health { feeling, message });
            }
            None if status == SELF_TEST_FAILED => {
                self.lock().self_test_failure = Some(message);
                return Err(Halt::Terminate);
            }
            // Passing is a reactor's to say by what it returns.
            None if !self.command => return Ok(number::BAD_ARGUMENT),
            None => {
                self.self_test_passed();
                caller.refill();
            }
        }
        Ok(number::OK)
    }

    fn log(&self, caller: &mut Caller<'_>, level: i32, pointer: i32, length: i32) -> i32 {
        let Some(level) = LEVELS.into_iter().find(|l| *l == level).and_then(|l| u8::try_from(l).ok()) else {
            return number::BAD_ARGUMENT;
        };
        match text(caller, pointer, length) {
            Ok(message) => {
                self.link.send_if_room(&FromRunner::Log { level, message });
                number::OK
            }
            Err(number) => number,
        }
    }

    /// Unlike a report, a hold that was left out is told: the guest would rely on it.
    fn hold(&self, seconds: i32) -> i32 {
        let Some(seconds) = u16::try_from(seconds).ok().filter(|seconds| *seconds <= MAX_HOLD_S) else {
            return number::BAD_ARGUMENT;
        };
        if seconds == 0 {
            if std::mem::take(&mut self.lock().holding) {
                self.link.send(&FromRunner::Hold { seconds });
            }
        } else if self.link.send_if_room(&FromRunner::Hold { seconds }) {
            self.lock().holding = true;
        } else {
            return number::TOO_SOON;
        }
        number::OK
    }

    fn wait(&self, caller: &mut Caller<'_>, milliseconds: i64, peripherals: Option<&Shared>) -> Result<i32, Halt> {
        let Ok(milliseconds) = u64::try_from(milliseconds) else { return Ok(number::BAD_ARGUMENT) };
        if self.is_stopping() {
            // Asked again after it was told to leave: no new fuel and no new time, so that it cannot stay.
            return Ok(number::STOPPING);
        }
        let until = Instant::now() + Duration::from_millis(milliseconds);
        let stopping = self.rest(caller, || match peripherals {
            Some(peripherals) => peripherals.lock().wait(until),
            None => Ok(matches!(self.pause(until, Beside::default())?, Woken::Stopping)),
        });
        Ok(if stopping? { number::STOPPING } else { number::OK })
    }

    /// Let the guest wait by its own wish: no clock runs meanwhile, and then it has all its fuel and time again. The
    /// self-test's clock counts waiting too: its limit is for the whole of it.
    pub(super) fn rest<T>(&self, caller: &mut Caller<'_>, wait: impl FnOnce() -> T) -> T {
        let timed = self.lock().tested;
        if timed {
            self.watchdog.rest();
        }
        let waited = wait();
        if timed {
            self.watchdog.arm(self.wake_up, false);
        }
        caller.refill();
        waited
    }

    /// Wait for the supervisor, for what is beside it, or for the end of the time.
    pub(super) fn pause(&self, until: Instant, beside: Beside<'_>) -> Result<Woken, Halt> {
        loop {
            let left = until.saturating_duration_since(Instant::now());
            return Ok(match self.link.receive(Some(left), beside) {
                Received::Nothing => Woken::Time,
                Received::Session(session) => Woken::Session(session),
                Received::SessionClosed => Woken::SessionClosed,
                Received::Line => Woken::Line,
                Received::Message(ToRunner::Stop) => {
                    self.lock().stopping = true;
                    Woken::Stopping
                }
                Received::Message(ToRunner::Begin | ToRunner::Setup(_) | ToRunner::Session) => continue,
                Received::Gone => {
                    self.lock().orphaned = true;
                    return Err(Halt::Terminate);
                }
            });
        }
    }

    /// A session that has come already. Does not wait; what else has come is heeded at the guest's next wait.
    pub(super) fn session_that_came(&self) -> Option<OwnedFd> {
        match self.pause(Instant::now(), Beside::default()) {
            Ok(Woken::Session(session)) => Some(session),
            _ => None,
        }
    }

    /// Ask for another session. Comes once for each, so the supervisor sets the pace.
    pub(super) fn session_lost(&self) {
        self.link.send(&FromRunner::SessionLost);
    }

    pub(super) fn watchdog(&self) -> &Watchdog {
        &self.watchdog
    }
}

/// What ended a wait.
#[derive(Debug)]
pub(super) enum Woken<S = OwnedFd> {
    /// The time is up.
    Time,
    /// The guest is to leave.
    Stopping,
    /// Another session with capd.
    Session(S),
    /// The session with capd is over.
    SessionClosed,
    /// The line has an event, or is not there any more.
    Line,
}

/// A message of the guest, or the number to return.
fn text(caller: &mut Caller<'_>, pointer: i32, length: i32) -> Result<String, i32> {
    if usize::try_from(length).is_ok_and(|length| length > MAX_GUEST_MESSAGE) {
        return Err(number::TOO_LONG);
    }
    let memory = caller.memory().ok_or(number::BAD_POINTER)?;
    let bytes = memory.read(pointer, length).map_err(|_| number::BAD_POINTER)?;
    Ok(String::from_utf8_lossy(bytes).into_owned())
}

/// The module.
pub(crate) fn module(life: &Arc<Life>, peripherals: Option<Shared>) -> HostModule {
    let [health, log, wait, hold] = [life; 4].map(Arc::clone);
    HostModule::new(IOTWASM)
        .function("iotwasm_health", move |caller, (status, pointer, length): (i32, i32, i32)| {
            health.health(caller, status, pointer, length)
        })
        .function("iotwasm_log", move |caller, (level, pointer, length): (i32, i32, i32)| {
            Ok(log.log(caller, level, pointer, length))
        })
        .function("iotwasm_wait", move |caller, (milliseconds,): (i64,)| {
            wait.wait(caller, milliseconds, peripherals.as_ref())
        })
        .function("iotwasm_hold_restart", move |_, (seconds,): (i32,)| Ok(hold.hold(seconds)))
}

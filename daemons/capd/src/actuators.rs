//! What moves or heats something: every write judged and counted, and a safe value when whoever wrote last has gone.
//!
//! Rates are kept for each payload as long as this daemon runs, whatever the payload does meanwhile. After a restart of the
//! daemon itself every bucket begins empty: nothing passes that the daemon before it would not have let pass.
//!
//! Each actuator has a lock for its device, held while that is waited for, and one for what is known of it, which never is:
//! a device that hangs holds up who writes it, and nobody who asks about it or ends without having written it.

use std::{
    collections::BTreeMap,
    fs::File,
    sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError, mpsc},
    thread,
    time::Duration,
};

use iotwasm_api::capabilities::EventKind;
use iotwasm_grant::{
    Board, BucketState, Rate, TokenBucket, TooSoon, Value,
    grant::{ActuatorGrant, Output, ValueDenial},
    i2c::Message,
};
use iotwasm_kit::report;
use iotwasm_session::Direction;
use rustix::event::{PollFd, PollFlags, Timespec};

use crate::{
    devices::{Buses, Fault, LineLease, iio::Iio},
    notices::Notices,
};

/// Why an actuator was not written.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// Not this value.
    #[error(transparent)]
    Value(ValueDenial),
    /// Not now.
    #[error(transparent)]
    Rate(TooSoon),
    /// The device.
    #[error(transparent)]
    Fault(Fault),
}

/// How long [`Actuators::settle`] waits for devices. What takes longer goes on without it.
const SETTLING: Duration = Duration::from_secs(5);
/// Of a thread that writes one safe value.
const STACK: usize = 128 * 1024;

/// Every actuator of the board.
pub struct Actuators {
    all: BTreeMap<String, Arc<Actuator>>,
    /// When this daemon began, if one before it ran since the boot: what that one let pass is not known.
    restarted: Option<Duration>,
}

struct Actuator {
    name: String,
    output: Output,
    safe: Option<Value>,
    buses: Arc<dyn Buses>,
    iio: Iio,
    notices: Arc<Notices>,
    known: Mutex<Known>,
    /// Who holds it may lock `known`, never the other way round.
    device: Mutex<Device>,
}

/// What is known of an actuator.
struct Known {
    board: TokenBucket,
    payloads: BTreeMap<String, TokenBucket>,
    /// The session that wrote last, if it still has to answer for it.
    writer: Option<u64>,
    value: Option<Value>,
    /// The safe value is owed: at the start, after a session, when the device did not take it or comes back.
    owed: bool,
}

/// What is needed to write it.
#[derive(Default)]
struct Device {
    /// Kept from the first write on, so that nobody else can have it.
    line: Option<Box<dyn LineLease>>,
    /// The fault that was said last, so that it is said once.
    told: Option<String>,
}

impl Actuators {
    /// Of a board. Nothing is written yet: see [`Self::settle`].
    #[must_use]
    pub fn new(
        board: &Board,
        buses: Arc<dyn Buses>,
        iio: Iio,
        notices: Arc<Notices>,
        restarted: Option<Duration>,
        now: Duration,
    ) -> Self {
        let all = board.actuators.keys().filter_map(|name| {
            let actuator = iotwasm_grant::actuator_of(board, name)?;
            let known = Known {
                board: bucket(actuator.board_rate(), restarted, now),
                payloads: BTreeMap::new(),
                writer: None,
                value: None,
                owed: actuator.safe().is_some(),
            };
            let actuator = Actuator {
                name: name.to_string(),
                output: actuator.output().clone(),
                safe: actuator.safe().cloned(),
                buses: Arc::clone(&buses),
                iio: iio.clone(),
                notices: Arc::clone(&notices),
                known: Mutex::new(known),
                device: Mutex::default(),
            };
            Some((name.to_string(), Arc::new(actuator)))
        });
        Self { all: all.collect(), restarted }
    }

    /// Writes a value for a payload.
    ///
    /// # Errors
    /// Not granted, too soon, or the device did not take it. A write that the device did not take counts all the same.
    pub fn write(
        &self,
        name: &str,
        grant: &ActuatorGrant,
        payload: &str,
        session: u64,
        value: &Value,
        now: Duration,
    ) -> Result<(), Refused> {
        grant.judge_write(value).map_err(Refused::Value)?;
        let Some(actuator) = self.all.get(name) else {
            return Err(Refused::Fault(Fault::Gone { what: format!("actuator {name}") }));
        };
        let mut device = actuator.device();
        actuator.known().take(payload, grant.rate(), self.restarted, now).map_err(Refused::Rate)?;
        // From here on it may have been written, whatever the device says.
        actuator.known().writer = Some(session);
        actuator.put(&mut device, value).map_err(Refused::Fault)?;
        let mut known = actuator.known();
        known.value = Some(value.clone());
        known.owed = false;
        drop(known);
        actuator.notices.wrote(payload, name, &value.to_string());
        Ok(())
    }

    /// A session has ended: what it wrote last goes back to its safe value.
    pub fn end(&self, session: u64) {
        // All are owed before the first is written: if that one hangs, `settle` writes the others.
        let left: Vec<&Arc<Actuator>> = self.all.values().filter(|actuator| actuator.is_left_by(session)).collect();
        for actuator in left {
            actuator.make_safe(&mut actuator.device());
        }
    }

    /// Writes the safe values that are owed: all at the start, later those that a device did not take, or lost because it
    /// was unplugged. Call it now and then. Waits some seconds at most: each device has a thread, and one that hangs keeps
    /// its own. False if one does.
    pub fn settle(&self) -> bool {
        let (working, finished) = mpsc::channel::<()>();
        let mut all_begun = true;
        for actuator in self.all.values().filter(|actuator| actuator.owes()) {
            let (actuator, working) = (Arc::clone(actuator), working.clone());
            let thread = thread::Builder::new().name("safe-value".into()).stack_size(STACK);
            let begun = thread.spawn(move || {
                if let Some(mut device) = actuator.idle() {
                    actuator.make_safe(&mut device);
                }
                drop(working);
            });
            all_begun &= begun.is_ok();
        }
        drop(working);
        // Nothing is sent: it ends when the last of them has.
        all_begun && finished.recv_timeout(SETTLING) != Err(mpsc::RecvTimeoutError::Timeout)
    }

    /// What was written last; empty if nothing was. Never waits for the device.
    #[must_use]
    pub fn value(&self, name: &str) -> String {
        let value = self.all.get(name).and_then(|actuator| actuator.known().value.clone());
        value.map(|value| value.to_string()).unwrap_or_default()
    }
}

impl Actuator {
    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn device(&self) -> MutexGuard<'_, Device> {
        self.device.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The device, if nobody waits for it.
    fn idle(&self) -> Option<MutexGuard<'_, Device>> {
        match self.device.try_lock() {
            Ok(device) => Some(device),
            Err(TryLockError::Poisoned(device)) => Some(device.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        }
    }

    /// Whether this session wrote it last and the safe value is owed from now on.
    fn is_left_by(&self, session: u64) -> bool {
        let mut known = self.known();
        if known.writer != Some(session) {
            return false;
        }
        known.writer = None;
        known.owed |= self.safe.is_some();
        known.owed
    }

    /// Whether the safe value can be tried now.
    fn owes(&self) -> bool {
        let Some(device) = self.idle() else { return false };
        if self.safe.is_some() && !self.is_owed() && self.is_gone(&device) {
            // What comes back is not as it was left.
            self.known().owed = true;
        }
        self.is_owed()
    }

    /// Whether the safe value is owed, and no session answers for the value that there is.
    fn is_owed(&self) -> bool {
        let known = self.known();
        known.owed && known.writer.is_none()
    }

    /// The kernel does not have it any more. Does not ask the device itself.
    fn is_gone(&self, device: &Device) -> bool {
        match &self.output {
            Output::Line(_) => device.line.as_ref().is_some_and(|lease| is_hung_up(lease.file())),
            Output::File { iio, parent, .. } => {
                matches!(self.iio.find(iio, parent.as_ref()), Err(Fault::Gone { .. }))
            }
            Output::Register { place, .. } => matches!(self.buses.has_i2c(place), Err(Fault::Gone { .. })),
        }
    }

    /// Writes the safe value if it is still owed.
    fn make_safe(&self, device: &mut Device) {
        let Self { name, safe: Some(safe), .. } = self else { return };
        if !self.is_owed() {
            return;
        }
        match self.put(device, safe) {
            Ok(()) => {
                device.told = None;
                let mut known = self.known();
                known.owed = false;
                known.value = Some(safe.clone());
                drop(known);
                let capability = format!("actuators.{name}");
                self.notices.post(EventKind::Safe, "", &capability, &safe.to_string());
                iotwasm_kit::info!("{capability} was set to its safe value {safe}");
            }
            Err(err) => {
                let words = report::chain(&err);
                if device.told.as_ref() != Some(&words) {
                    iotwasm_kit::error!(
                        "actuators.{name} could not be set to its safe value {safe}, trying on: {words}"
                    );
                    device.told = Some(words);
                }
            }
        }
    }

    fn put(&self, device: &mut Device, value: &Value) -> Result<(), Fault> {
        match &self.output {
            Output::Line(line) => {
                let active = value.as_i64() == Some(1);
                if device.line.as_ref().is_some_and(|lease| is_hung_up(lease.file())) {
                    device.line = None;
                }
                match &device.line {
                    Some(lease) => {
                        let done = lease.set(active);
                        if matches!(done, Err(Fault::Gone { .. })) {
                            // The chip was taken away: what comes back is asked for anew.
                            device.line = None;
                        }
                        done
                    }
                    None => {
                        device.line = Some(self.buses.line(line, Direction::Out(Some(active)))?);
                        Ok(())
                    }
                }
            }
            Output::File { iio, parent, file } => {
                let folder = self.iio.find(iio, parent.as_ref())?;
                self.iio.write(&folder, file, &value.to_string())
            }
            Output::Register { place, .. } => {
                let message = self.output.register_message(value).ok_or_else(|| Fault::Unsupported {
                    what: format!("I2C device {:#04x}", place.address),
                    why: "the value does not fit in the register",
                })?;
                self.buses.i2c(place, &[Message::Write(message)]).map(drop)
            }
        }
    }
}

impl Known {
    /// Counts a write, against the payload's rate and the board's.
    fn take(&mut self, payload: &str, rate: Rate, restarted: Option<Duration>, now: Duration) -> Result<(), TooSoon> {
        let own = self.payloads.entry(payload.to_owned()).or_insert_with(|| bucket(rate, restarted, now));
        if own.rate() != rate {
            *own = TokenBucket::restore(rate, own.state(), now);
        }
        own.take_with(&mut self.board, now)
    }
}

/// The kernel has taken the line's chip away (Linux 6.2 says so; before that only a write finds it out).
fn is_hung_up(line: &File) -> bool {
    let mut polled = [PollFd::new(line, PollFlags::empty())];
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    matches!(rustix::event::poll(&mut polled, Some(&now)), Ok(1)) && polled[0].revents().contains(PollFlags::HUP)
}

fn bucket(rate: Rate, restarted: Option<Duration>, now: Duration) -> TokenBucket {
    match restarted {
        Some(at) => TokenBucket::restore(rate, BucketState { level: 0, at }, now),
        None => TokenBucket::new(rate, now),
    }
}

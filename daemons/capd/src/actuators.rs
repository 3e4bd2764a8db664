//! What moves or heats something: every write judged and counted, and a safe value when whoever wrote last has gone.
//!
//! Rates are kept for each payload as long as this daemon runs, whatever the payload does meanwhile. After a restart of the
//! daemon itself every bucket begins empty: nothing passes that the daemon before it would not have let pass.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
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

/// Every actuator of the board.
pub struct Actuators {
    all: BTreeMap<String, Actuator>,
    buses: Arc<dyn Buses>,
    iio: Iio,
    notices: Arc<Notices>,
    /// When this daemon began, if one before it ran since the boot: what that one let pass is not known.
    restarted: Option<Duration>,
}

struct Actuator {
    output: Output,
    safe: Option<Value>,
    rate: Rate,
    state: Mutex<State>,
}

struct State {
    board: TokenBucket,
    payloads: BTreeMap<String, TokenBucket>,
    /// Kept from the first write on, so that nobody else can have it.
    line: Option<Box<dyn LineLease>>,
    /// The session that wrote last, if it still has to answer for it.
    writer: Option<u64>,
    value: Option<Value>,
    /// The safe value is owed: at the start, or because the device did not take it.
    owed: bool,
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
            let rate = actuator.board_rate();
            let state = State {
                board: bucket(rate, restarted, now),
                payloads: BTreeMap::new(),
                line: None,
                writer: None,
                value: None,
                owed: actuator.safe().is_some(),
                told: None,
            };
            let safe = actuator.safe().cloned();
            let actuator = Actuator { output: actuator.output().clone(), safe, rate, state: Mutex::new(state) };
            Some((name.to_string(), actuator))
        });
        Self { all: all.collect(), buses, iio, notices, restarted }
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
        let mut state = actuator.lock();
        let state = &mut *state;
        let own = state.payloads.entry(payload.to_owned()).or_insert_with(|| bucket(grant.rate(), self.restarted, now));
        if own.rate() != grant.rate() {
            *own = TokenBucket::restore(grant.rate(), own.state(), now);
        }
        own.take_with(&mut state.board, now).map_err(Refused::Rate)?;
        // From here on it may have been written, whatever the device says.
        state.writer = Some(session);
        self.put(actuator, state, value).map_err(Refused::Fault)?;
        state.value = Some(value.clone());
        state.owed = false;
        self.notices.wrote(payload, name, &value.to_string());
        Ok(())
    }

    /// A session has ended: what it wrote last goes back to its safe value.
    pub fn end(&self, session: u64) {
        for (name, actuator) in &self.all {
            let mut state = actuator.lock();
            if state.writer == Some(session) {
                state.writer = None;
                if actuator.safe.is_some() {
                    state.owed = true;
                    self.make_safe(name, actuator, &mut state);
                }
            }
        }
    }

    /// Writes the safe values that are owed: all at the start, later those that a device did not take. Call it now and then.
    pub fn settle(&self) {
        for (name, actuator) in &self.all {
            let mut state = actuator.lock();
            if state.owed && state.writer.is_none() {
                self.make_safe(name, actuator, &mut state);
            }
        }
    }

    /// What was written last; empty if nothing was.
    #[must_use]
    pub fn value(&self, name: &str) -> String {
        let value = self.all.get(name).and_then(|actuator| actuator.lock().value.clone());
        value.map(|value| value.to_string()).unwrap_or_default()
    }

    fn make_safe(&self, name: &str, actuator: &Actuator, state: &mut State) {
        let Some(safe) = &actuator.safe else { return };
        match self.put(actuator, state, safe) {
            Ok(()) => {
                state.owed = false;
                state.told = None;
                state.value = Some(safe.clone());
                let capability = format!("actuators.{name}");
                self.notices.post(EventKind::Safe, "", &capability, &safe.to_string());
                iotwasm_kit::info!("{capability} was set to its safe value {safe}");
            }
            Err(err) => {
                let words = report::chain(&err);
                if state.told.as_ref() != Some(&words) {
                    iotwasm_kit::error!(
                        "actuators.{name} could not be set to its safe value {safe}, trying on: {words}"
                    );
                    state.told = Some(words);
                }
            }
        }
    }

    fn put(&self, actuator: &Actuator, state: &mut State, value: &Value) -> Result<(), Fault> {
        match &actuator.output {
            Output::Line(line) => {
                let active = value.as_i64() == Some(1);
                match &state.line {
                    Some(lease) => {
                        let done = lease.set(active);
                        if matches!(done, Err(Fault::Gone { .. })) {
                            // The chip was taken away: what comes back is asked for anew.
                            state.line = None;
                        }
                        done
                    }
                    None => {
                        state.line = Some(self.buses.line(line, Direction::Out(Some(active)))?);
                        Ok(())
                    }
                }
            }
            Output::File { iio, parent, file } => {
                let folder = self.iio.find(iio, parent.as_ref())?;
                self.iio.write(&folder, file, &value.to_string())
            }
            Output::Register { place, .. } => {
                let message = actuator.output.register_message(value).ok_or_else(|| Fault::Unsupported {
                    what: format!("I2C device {:#04x}", place.address),
                    why: "the value does not fit in the register",
                })?;
                self.buses.i2c(place, &[Message::Write(message)]).map(drop)
            }
        }
    }

    /// How often all payloads together may write it.
    #[must_use]
    pub fn rate(&self, name: &str) -> Option<Rate> {
        self.all.get(name).map(|actuator| actuator.rate)
    }
}

impl Actuator {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn bucket(rate: Rate, restarted: Option<Duration>, now: Duration) -> TokenBucket {
    match restarted {
        Some(at) => TokenBucket::restore(rate, BucketState { level: 0, at }, now),
        None => TokenBucket::new(rate, now),
    }
}

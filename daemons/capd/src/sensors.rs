//! Sensors and who uses them. A sensor is on while at least one session uses it; what sessions changed of it belongs to
//! whoever changed it first, and is as it was before when the last one has left.

use std::{
    collections::BTreeMap,
    fs::File,
    os::{fd::OwnedFd, unix::fs::FileExt},
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError},
};

use iotwasm_grant::{
    Board, Value,
    board::Parent,
    grant::{ChannelGrant, ValueDenial},
};
use iotwasm_kit::report;
use iotwasm_session::SensorState;

use crate::devices::{Fault, iio::Iio};

/// Why a sensor was not set.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// Not this value.
    #[error(transparent)]
    Value(ValueDenial),
    /// It is not on for this session.
    #[error("it is not on")]
    NotOn,
    /// Another session that uses the sensor has set it to something else.
    #[error("{payload} has set it to {value}")]
    Owned {
        /// Whose session.
        payload: String,
        /// To what.
        value: Value,
    },
    /// The device.
    #[error(transparent)]
    Fault(Fault),
}

/// A session that uses a sensor.
#[derive(Debug, Clone)]
pub struct Tenant {
    /// Which session.
    pub session: u64,
    /// Whose.
    pub payload: String,
    /// Its activity file, and the place of this sensor in it.
    pub activity: (Arc<File>, u16),
}

/// Every sensor of the board.
pub struct Sensors {
    all: BTreeMap<String, Sensor>,
    iio: Iio,
}

struct Sensor {
    iio: String,
    parent: Option<Parent>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    tenants: BTreeMap<u64, Tenant>,
    /// File to what was changed there.
    changed: BTreeMap<String, Changed>,
}

struct Changed {
    before: String,
    owner: Option<u64>,
    value: Value,
}

impl Sensors {
    /// Of a board.
    #[must_use]
    pub fn new(board: &Board, iio: Iio) -> Self {
        let sensor = |sensor: &iotwasm_grant::board::Sensor| Sensor {
            iio: sensor.iio.clone(),
            parent: sensor.parent.clone(),
            state: Mutex::default(),
        };
        Self { all: board.sensors.iter().map(|(name, of)| (name.to_string(), sensor(of))).collect(), iio }
    }

    /// Lets a session use a sensor; the descriptors of these files, to be read and nothing else. Turning on what is on
    /// looks for the device again.
    ///
    /// # Errors
    /// It is not there; the session is no tenant of it then, unless it was one before.
    pub fn turn_on(&self, name: &str, tenant: Tenant, files: &[&str]) -> Result<Vec<OwnedFd>, Fault> {
        let sensor = self.get(name)?;
        let mut state = sensor.lock();
        let folder = self.folder(sensor)?;
        let opened: Result<Vec<OwnedFd>, Fault> =
            files.iter().map(|file| self.iio.open(&folder, file).map(OwnedFd::from)).collect();
        let opened = opened?;
        state.tenants.insert(tenant.session, tenant);
        Ok(opened)
    }

    /// Ends a session's use of a sensor; false if it did not use it.
    pub fn turn_off(&self, name: &str, session: u64) -> bool {
        self.get(name).is_ok_and(|sensor| self.leave(name, sensor, session))
    }

    /// A session has ended.
    pub fn end(&self, session: u64) {
        for (name, sensor) in &self.all {
            self.leave(name, sensor, session);
        }
    }

    fn leave(&self, name: &str, sensor: &Sensor, session: u64) -> bool {
        let mut state = sensor.lock();
        let was_on = state.tenants.remove(&session).is_some();
        for changed in state.changed.values_mut().filter(|changed| changed.owner == Some(session)) {
            changed.owner = None;
        }
        if was_on && state.tenants.is_empty() {
            for (file, changed) in std::mem::take(&mut state.changed) {
                let restored = self.folder(sensor).and_then(|folder| self.iio.write(&folder, &file, &changed.before));
                if let Err(err) = restored {
                    iotwasm_kit::warn!("{file} of sensors.{name} stays as it was set: {}", report::chain(&err));
                }
            }
        }
        was_on
    }

    /// Writes a value of a sensor.
    ///
    /// # Errors
    /// Not granted, somebody else's, or the device did not take it.
    pub fn config(&self, name: &str, channel: &ChannelGrant, session: u64, value: &Value) -> Result<(), Refused> {
        channel.judge_write(value).map_err(Refused::Value)?;
        let sensor = self.get(name).map_err(Refused::Fault)?;
        let mut state = sensor.lock();
        let state = &mut *state;
        let owner = state.tenants.get(&session).ok_or(Refused::NotOn)?.session;
        let file = channel.file();
        if let Some(changed) = state.changed.get(file)
            && let Some(other) = changed.owner.filter(|other| *other != session && changed.value != *value)
        {
            let payload = state.tenants.get(&other).map(|tenant| tenant.payload.clone()).unwrap_or_default();
            return Err(Refused::Owned { payload, value: changed.value.clone() });
        }
        let folder = self.folder(sensor).map_err(Refused::Fault)?;
        let before = match state.changed.get(file) {
            Some(_) => None,
            // What may only be written cannot be put back.
            None => self.iio.read(&folder, file).ok(),
        };
        self.iio.write(&folder, file, &value.to_string()).map_err(Refused::Fault)?;
        match (state.changed.get_mut(file), before) {
            (Some(changed), _) => {
                changed.owner.get_or_insert(owner);
                changed.value = value.clone();
            }
            (None, Some(before)) => {
                state.changed.insert(file.to_owned(), Changed { before, owner: Some(owner), value: value.clone() });
            }
            (None, None) => {}
        }
        Ok(())
    }

    /// What a sensor is doing.
    #[must_use]
    pub fn state(&self, name: &str) -> SensorState {
        let Some(sensor) = self.all.get(name) else { return SensorState::Stopped };
        let state = match sensor.state.try_lock() {
            Ok(state) => state,
            Err(TryLockError::Poisoned(state)) => state.into_inner(),
            // Somebody sets it at this moment.
            Err(TryLockError::WouldBlock) => return SensorState::Working,
        };
        if state.tenants.is_empty() {
            return SensorState::Stopped;
        }
        let Ok(folder) = self.folder(sensor) else { return SensorState::Stopped };
        let reads = |tenant: &Tenant| {
            let mut byte = [0];
            tenant.activity.0.read_exact_at(&mut byte, tenant.activity.1.into()).is_ok() && byte[0] != 0
        };
        if state.tenants.values().any(reads) {
            SensorState::Working
        } else if self.iio.is_suspended(&folder) {
            SensorState::Sleeping
        } else {
            SensorState::Alive
        }
    }

    /// Payloads that use a sensor.
    #[must_use]
    pub fn users(&self, name: &str) -> Vec<String> {
        let tenants = self.all.get(name).map(|sensor| sensor.lock().tenants.values().cloned().collect::<Vec<_>>());
        tenants.unwrap_or_default().into_iter().map(|tenant| tenant.payload).collect()
    }

    /// Sensors that a session uses.
    #[must_use]
    pub fn of(&self, session: u64) -> Vec<String> {
        let uses =
            |(name, sensor): (&String, &Sensor)| sensor.lock().tenants.contains_key(&session).then(|| name.clone());
        self.all.iter().filter_map(uses).collect()
    }

    /// Whether a sensor is there.
    ///
    /// # Errors
    /// Why not.
    pub fn find(&self, name: &str) -> Result<PathBuf, Fault> {
        self.folder(self.get(name)?)
    }

    fn folder(&self, sensor: &Sensor) -> Result<PathBuf, Fault> {
        self.iio.find(&sensor.iio, sensor.parent.as_ref())
    }

    fn get(&self, name: &str) -> Result<&Sensor, Fault> {
        self.all.get(name).ok_or_else(|| Fault::Gone { what: format!("sensor {name}") })
    }
}

impl Sensor {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

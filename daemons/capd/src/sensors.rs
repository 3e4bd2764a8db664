//! Sensors and who uses them. A sensor is on while at least one session uses it; what sessions changed of it belongs to
//! whoever changed it first, and is as it was before when the last one has left.
//!
//! Each sensor has a lock for its device, held while that is waited for, and one for who uses it, which never is: a device
//! that hangs holds up who sets it, and nobody else.

use std::{
    collections::BTreeMap,
    fs::File,
    os::{fd::OwnedFd, unix::fs::FileExt},
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError},
    time::{Duration, Instant},
};

use iotwasm_grant::{
    Board, Value,
    board::Parent,
    grant::{ChannelGrant, ValueDenial},
};
use iotwasm_kit::report;
use iotwasm_session::SensorState;

use crate::devices::{Fault, iio::Iio};

/// Between two warnings that something of one sensor could not be put back: a payload can make it happen at will.
const WARN_PAUSE: Duration = Duration::from_secs(60);

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
    used: Mutex<Used>,
    /// Who holds it may lock `used`, never the other way round.
    device: Mutex<Device>,
}

/// Who uses a sensor.
#[derive(Default)]
struct Used {
    tenants: BTreeMap<u64, Tenant>,
    /// File to who set it, and to what.
    owners: BTreeMap<String, (u64, Value)>,
}

/// What was changed of a sensor.
#[derive(Default)]
struct Device {
    /// File to what it was before; none for what may only be written, which cannot be put back.
    before: BTreeMap<String, Option<String>>,
    /// When it was last said that something could not be put back.
    warned: Option<Instant>,
}

impl Sensors {
    /// Of a board.
    #[must_use]
    pub fn new(board: &Board, iio: Iio) -> Self {
        let sensor = |sensor: &iotwasm_grant::board::Sensor| Sensor {
            iio: sensor.iio.clone(),
            parent: sensor.parent.clone(),
            used: Mutex::default(),
            device: Mutex::default(),
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
        let folder = self.folder(sensor)?;
        let opened: Result<Vec<OwnedFd>, Fault> =
            files.iter().map(|file| self.iio.open(&folder, file).map(OwnedFd::from)).collect();
        let opened = opened?;
        sensor.used().tenants.insert(tenant.session, tenant);
        Ok(opened)
    }

    /// Ends a session's use of a sensor; false if it did not use it.
    pub fn turn_off(&self, name: &str, session: u64) -> bool {
        let Ok(sensor) = self.get(name) else { return false };
        let left = sensor.used().leave(session);
        if left == Left::AsLast {
            self.restore(name, sensor);
        }
        left != Left::Never
    }

    /// A session has ended: it uses and owns nothing any more. Gives the sensors that nobody uses now, for
    /// [`Self::put_back`]. Never waits for a device.
    #[must_use]
    pub fn end(&self, session: u64) -> Vec<String> {
        let as_last = self.all.iter().filter(|(_, sensor)| sensor.used().leave(session) == Left::AsLast);
        as_last.map(|(name, _)| name.clone()).collect()
    }

    /// Makes these sensors what they were before anyone used them.
    pub fn put_back(&self, left: &[String]) {
        for name in left {
            if let Ok(sensor) = self.get(name) {
                self.restore(name, sensor);
            }
        }
    }

    /// Puts back what was changed, but for what somebody who has come meanwhile has set.
    fn restore(&self, name: &str, sensor: &Sensor) {
        let mut device = sensor.device();
        for (file, before) in std::mem::take(&mut device.before) {
            if sensor.used().owners.contains_key(&file) {
                device.before.insert(file, before);
                continue;
            }
            let Some(before) = before else { continue };
            let restored = self.folder(sensor).and_then(|folder| self.iio.write(&folder, &file, &before));
            if let Err(err) = restored
                && device.may_warn(Instant::now())
            {
                iotwasm_kit::warn!("{file} of sensors.{name} stays as it was set: {}", report::chain(&err));
            }
        }
    }

    /// Writes a value of a sensor.
    ///
    /// # Errors
    /// Not granted, somebody else's, or the device did not take it.
    pub fn config(&self, name: &str, channel: &ChannelGrant, session: u64, value: &Value) -> Result<(), Refused> {
        channel.judge_write(value).map_err(Refused::Value)?;
        let sensor = self.get(name).map_err(Refused::Fault)?;
        let file = channel.file();
        // Before the device is waited for, and again when it is ours: somebody may have set it meanwhile.
        sensor.used().may_set(file, session, value)?;
        let mut device = sensor.device();
        sensor.used().may_set(file, session, value)?;
        let folder = self.folder(sensor).map_err(Refused::Fault)?;
        let before = match device.before.get(file) {
            Some(before) => before.clone(),
            None => self.iio.read(&folder, file).ok(),
        };
        self.iio.write(&folder, file, &value.to_string()).map_err(Refused::Fault)?;
        device.before.insert(file.to_owned(), before);
        let mut used = sensor.used();
        let owner = used.owners.get(file).map_or(session, |(owner, _)| *owner);
        used.owners.insert(file.to_owned(), (owner, value.clone()));
        Ok(())
    }

    /// What a sensor is doing.
    #[must_use]
    pub fn state(&self, name: &str) -> SensorState {
        let Some(sensor) = self.all.get(name) else { return SensorState::Stopped };
        if matches!(sensor.device.try_lock(), Err(TryLockError::WouldBlock)) {
            // Somebody sets it at this moment.
            return SensorState::Working;
        }
        let tenants: Vec<Tenant> = sensor.used().tenants.values().cloned().collect();
        if tenants.is_empty() {
            return SensorState::Stopped;
        }
        let Ok(folder) = self.folder(sensor) else { return SensorState::Stopped };
        let reads = |tenant: &Tenant| {
            let mut byte = [0];
            tenant.activity.0.read_exact_at(&mut byte, tenant.activity.1.into()).is_ok() && byte[0] != 0
        };
        if tenants.iter().any(reads) {
            SensorState::Working
        } else if self.iio.is_suspended(&folder) {
            SensorState::Sleeping
        } else {
            SensorState::Alive
        }
    }

    /// Payloads that use a sensor. Never waits for the device.
    #[must_use]
    pub fn users(&self, name: &str) -> Vec<String> {
        let users = |sensor: &Sensor| sensor.used().tenants.values().map(|tenant| tenant.payload.clone()).collect();
        self.all.get(name).map(users).unwrap_or_default()
    }

    /// Whether a session uses a sensor. Never waits for the device.
    #[must_use]
    pub fn is_on(&self, name: &str, session: u64) -> bool {
        self.all.get(name).is_some_and(|sensor| sensor.used().tenants.contains_key(&session))
    }

    /// Sensors that a session uses. Never waits for a device.
    #[must_use]
    pub fn of(&self, session: u64) -> Vec<String> {
        self.all.keys().filter(|name| self.is_on(name, session)).cloned().collect()
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
    fn used(&self) -> MutexGuard<'_, Used> {
        self.used.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn device(&self) -> MutexGuard<'_, Device> {
        self.device.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How a session left a sensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Left {
    /// It did not use it.
    Never,
    /// Others use it still.
    ToOthers,
    /// Nobody uses it any more.
    AsLast,
}

impl Used {
    fn leave(&mut self, session: u64) -> Left {
        if self.tenants.remove(&session).is_none() {
            return Left::Never;
        }
        self.owners.retain(|_, (owner, _)| *owner != session);
        if self.tenants.is_empty() { Left::AsLast } else { Left::ToOthers }
    }

    /// Whether a session may give a file this value: it uses the sensor, and nobody else has set it to something else.
    fn may_set(&self, file: &str, session: u64, value: &Value) -> Result<(), Refused> {
        if !self.tenants.contains_key(&session) {
            return Err(Refused::NotOn);
        }
        match self.owners.get(file) {
            Some((owner, set)) if *owner != session && set != value => {
                let payload = self.tenants.get(owner).map(|tenant| tenant.payload.clone()).unwrap_or_default();
                Err(Refused::Owned { payload, value: set.clone() })
            }
            _ => Ok(()),
        }
    }
}

impl Device {
    fn may_warn(&mut self, now: Instant) -> bool {
        let due = self.warned.is_none_or(|last| now.duration_since(last) >= WARN_PAUSE);
        if due {
            self.warned = Some(now);
        }
        due
    }
}

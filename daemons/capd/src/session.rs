//! One session: a thread that answers one payload's runner, one request after the other, and what is done when it ends.

use std::{
    collections::BTreeMap,
    fs::File,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    sync::{Arc, PoisonError, atomic::Ordering},
    thread,
    time::{Duration, Instant},
};

use iotwasm_api::capabilities::{EventKind, Kind};
use iotwasm_grant::{
    Board, Value,
    grant::{ChannelGrant, SensorGrant},
    i2c::Operation,
    spi,
};
use iotwasm_kit::report;
use iotwasm_session::{
    self as wire, Answer, Channel, Device, Direction, Error, I2cOperation, Line, MAX_NAME, MAX_VALUE, ReceiveError,
    Reply, Request, Sensor, SensorChannel, SpiOperation, Table, ValueKind, Why,
};
use rustix::fs::{MemfdFlags, SealFlags};

use crate::{
    actuators::{self, Actuators},
    board, clock,
    devices::{Buses, Fault, LineLease},
    notices::{Denied, Notices},
    registry::{Entry, Registry},
    sensors::{self, Sensors, Tenant},
    translate::{self, Verdict},
};

/// Requests of one session that pass at once, and then for each second; what comes faster waits. Several times what a
/// payload needs, and little enough to leave the processor to others.
const BURST: u32 = 20_000;
const PER_SECOND: u32 = 20_000;
/// A request that opens files or looks through folders counts as so many.
const COSTLY: u32 = 100;
/// Packets that are no request, after which the session ends: no runner of ours sends one.
const MALFORMED: u32 = 16;
/// It serves one request at a time and calls nothing deep.
const STACK: usize = 256 * 1024;

/// What sessions share.
pub struct World {
    /// What the board has.
    pub board: Arc<Board>,
    /// Its buses.
    pub buses: Arc<dyn Buses>,
    /// Its sensors.
    pub sensors: Arc<Sensors>,
    /// Its actuators.
    pub actuators: Arc<Actuators>,
    /// Every session.
    pub registry: Arc<Registry>,
    /// Where what happens is told.
    pub notices: Arc<Notices>,
}

impl World {
    /// Closes the buses' devices that no session was granted any more.
    pub fn close_unused(&self) {
        self.buses.keep(&self.registry.on_buses());
    }
}

/// Serves a session on a thread of its own.
///
/// # Errors
/// The system has no thread; the session is closed.
pub fn begin(world: Arc<World>, entry: Arc<Entry>, channel: Channel<Answer, Request>) -> std::io::Result<()> {
    let (for_thread, id) = (Arc::clone(&world), entry.id);
    let thread = thread::Builder::new().name(format!("session-{id}")).stack_size(STACK);
    let spawned = thread.spawn(move || Session::new(for_thread, entry, channel).serve());
    if let Err(err) = spawned {
        world.notices.sessions(world.registry.remove(id));
        return Err(err);
    }
    Ok(())
}

struct Session {
    world: Arc<World>,
    entry: Arc<Entry>,
    channel: Channel<Answer, Request>,
    payload: String,
    /// Names in the order of the table.
    sensors: Vec<(String, Vec<String>)>,
    lines: Vec<String>,
    i2c: Vec<String>,
    spi: Vec<String>,
    actuators: Vec<String>,
    activity: Option<Arc<File>>,
    leases: BTreeMap<u16, Box<dyn LineLease>>,
    pace: Pace,
}

/// What goes back: the answer, and the descriptors beside it.
struct Outcome {
    answer: Answer,
    descriptors: Vec<OwnedFd>,
}

impl From<Result<Reply, Error>> for Outcome {
    fn from(answer: Result<Reply, Error>) -> Self {
        Self { answer, descriptors: Vec::new() }
    }
}

impl Drop for Session {
    /// Whatever ended it.
    fn drop(&mut self) {
        let id = self.entry.id;
        self.leases.clear();
        self.entry.leases.lock().unwrap_or_else(PoisonError::into_inner).clear();
        self.world.registry.released();
        self.give_back();
        self.world.notices.sessions(self.world.registry.remove(id));
        self.world.close_unused();
        self.world.notices.post(EventKind::Closed, &self.payload, "", &format!("session {id}"));
        iotwasm_kit::info!("session {id} of {} has ended", self.payload);
    }
}

impl Session {
    fn new(world: Arc<World>, entry: Arc<Entry>, channel: Channel<Answer, Request>) -> Self {
        let grant = &entry.authorized.grant;
        let names = |names: Vec<&iotwasm_grant::Name>| names.into_iter().map(ToString::to_string).collect();
        let channels = |sensor: &SensorGrant| {
            sensor.capabilities().keys().chain(sensor.attributes().keys()).map(ToString::to_string).collect()
        };
        Self {
            payload: entry.authorized.payload.to_string(),
            sensors: grant.sensors().iter().map(|(name, sensor)| (name.to_string(), channels(sensor))).collect(),
            lines: names(grant.gpio().keys().collect()),
            i2c: names(grant.i2c().keys().collect()),
            spi: names(grant.spi().keys().collect()),
            actuators: names(grant.actuators().keys().collect()),
            activity: None,
            leases: BTreeMap::new(),
            pace: Pace::new(Instant::now()),
            world,
            entry,
            channel,
        }
    }

    fn serve(mut self) {
        let mut malformed = 0;
        loop {
            let request = match self.channel.receive(None) {
                // A runner has nothing to hand over: what it sends beside a request is closed here.
                Ok(received) => Some(received.message),
                Err(ReceiveError::Malformed) => None,
                Err(ReceiveError::Closed | ReceiveError::TimedOut) => return,
                Err(err) => {
                    iotwasm_kit::warn!("session {} of {}: {}", self.entry.id, self.payload, report::chain(&err));
                    return;
                }
            };
            self.entry.requests.fetch_add(1, Ordering::Relaxed);
            if let Some(pause) = self.pace.pause(request.as_ref().map_or(1, cost), Instant::now()) {
                thread::sleep(pause);
            }
            let outcome = match request {
                Some(request) => self.answer(request),
                None => {
                    malformed += 1;
                    self.protocol("a packet that is no request")
                }
            };
            if !self.tell(&outcome) {
                return;
            }
            if malformed >= MALFORMED {
                self.wait_for_end();
                return;
            }
        }
    }

    /// Answers; true if there may be another request.
    fn tell(&mut self, outcome: &Outcome) -> bool {
        let beside: Vec<BorrowedFd<'_>> = outcome.descriptors.iter().map(AsFd::as_fd).collect();
        let sent = match self.channel.send(&outcome.answer, &beside) {
            // Short of something, which is not the runner's doing. It can ask again.
            Err(wire::SendError::Io(err)) => {
                iotwasm_kit::warn!("could not answer session {} of {}: {err}", self.entry.id, self.payload);
                self.channel.send(&Err(Error::HardwareFault), &[])
            }
            sent => sent,
        };
        match sent {
            Ok(()) => return true,
            Err(wire::SendError::Closed) => {}
            Err(_) => self.wait_for_end(),
        }
        false
    }

    /// The runner does not keep to the protocol: it is not answered any more, and what it used is as if it had gone. The
    /// lines that it has leased stay its own until its end of the socket is closed, because a descriptor that was handed
    /// over cannot be taken back.
    fn wait_for_end(&mut self) {
        self.protocol("the runner does not keep to the protocol and is not answered any more");
        self.give_back();
        self.channel.wait_for_close();
    }

    /// Sensors and actuators become what they are without it. What may hang comes last, and safe values before all else of
    /// that.
    fn give_back(&self) {
        let left = self.world.sensors.end(self.entry.id);
        self.world.actuators.end(self.entry.id);
        self.entry.written.lock().unwrap_or_else(PoisonError::into_inner).clear();
        self.world.registry.released();
        self.world.sensors.put_back(&left);
    }

    fn answer(&mut self, request: Request) -> Outcome {
        if self.activity.is_none() && !matches!(request, Request::Claim) {
            return Err(Error::BadRequest).into();
        }
        match request {
            Request::Claim => self.claim(),
            Request::Denied { kind, name, why } => self.denied(kind, &name, why),
            Request::TurnOn { sensor } => self.turn_on(sensor),
            Request::TurnOff { sensor } => self.turn_off(sensor),
            Request::State { sensor } => match self.sensors.get(usize::from(sensor)) {
                Some((name, _)) => Ok(Reply::State(self.world.sensors.state(name))).into(),
                None => self.no_such("sensors", sensor),
            },
            Request::Config { sensor, channel, value } => self.config(sensor, channel, &value),
            Request::OpenLine { line, direction } => self.open_line(line, direction),
            Request::SetDirection { line, direction } => self.set_direction(line, direction),
            Request::Watch { line, rising, falling } => self.watch(line, rising, falling),
            Request::CloseLine { line } => self.close_line(line),
            Request::I2c { device, operations } => self.i2c(device, &operations),
            Request::Spi { device, operations } => self.spi(device, &operations),
            Request::Actuate { actuator, value } => self.actuate(actuator, &value),
        }
    }

    fn claim(&mut self) -> Outcome {
        if self.activity.is_some() {
            return self.protocol("it was claimed already");
        }
        self.world.registry.settle(&self.entry);
        if !self.world.registry.claim(&self.entry) {
            let message = "the runner has another session, which it must close first".to_owned();
            return self.deny("session".into(), "in_use", message, Error::AlreadyInUse);
        }
        let activity = match activity(self.sensors.len()) {
            Ok(activity) => activity,
            Err(err) => {
                iotwasm_kit::error!("could not make the activity file of session {}: {err}", self.entry.id);
                return Err(Error::HardwareFault).into();
            }
        };
        let (Ok(theirs), table) = (activity.try_clone(), self.table()) else { return Err(Error::HardwareFault).into() };
        self.activity = Some(Arc::new(activity));
        self.world.notices.post(EventKind::Claimed, &self.payload, "", &format!("session {}", self.entry.id));
        Outcome { answer: Ok(Reply::Claimed(table)), descriptors: vec![theirs.into()] }
    }

    fn table(&self) -> Table {
        let grant = &self.entry.authorized.grant;
        let channel = |capability: bool, (name, of): (&iotwasm_grant::Name, &ChannelGrant)| SensorChannel {
            name: name.to_string(),
            capability,
            read: of.access().reads(),
            write: of.access().writes(),
            kind: match of.kind() {
                iotwasm_grant::Kind::Integer => ValueKind::Integer,
                iotwasm_grant::Kind::Decimal => ValueKind::Decimal,
                iotwasm_grant::Kind::Text => ValueKind::Text,
            },
            unit: of.unit().to_owned(),
        };
        let sensor = |(name, sensor): (&iotwasm_grant::Name, &SensorGrant)| Sensor {
            name: name.to_string(),
            channels: sensor
                .capabilities()
                .iter()
                .map(|of| channel(true, of))
                .chain(sensor.attributes().iter().map(|of| channel(false, of)))
                .collect(),
        };
        Table {
            sensors: grant.sensors().iter().map(sensor).collect(),
            lines: grant
                .gpio()
                .iter()
                .map(|(name, line)| Line {
                    name: name.to_string(),
                    input: line.direction().inputs(),
                    output: line.direction().outputs(),
                })
                .collect(),
            i2c: grant
                .i2c()
                .iter()
                .map(|(name, of)| Device { name: name.to_string(), max_length: of.max_length(), mode: 0, speed_hz: 0 })
                .collect(),
            spi: grant
                .spi()
                .iter()
                .map(|(name, of)| Device {
                    name: name.to_string(),
                    max_length: of.device().max_length,
                    mode: of.device().mode,
                    speed_hz: of.device().speed_hz,
                })
                .collect(),
            actuators: self.actuators.clone(),
        }
    }

    /// The runner's word that its guest asked for something that it does not have.
    fn denied(&self, kind: wire::Kind, name: &str, why: Why) -> Outcome {
        let kind = match kind {
            wire::Kind::Sensor => Kind::Sensors,
            wire::Kind::Gpio => Kind::Gpio,
            wire::Kind::I2c => Kind::I2c,
            wire::Kind::Spi => Kind::Spi,
            wire::Kind::Actuator => Kind::Actuators,
        };
        let shown: String = name.chars().filter(|c| !c.is_control()).take(MAX_NAME).collect();
        let (thing, value) = name.split_once('.').map_or((name, None), |(thing, value)| (thing, Some(value)));
        let has_thing = board::has(&self.world.board, kind, thing);
        let exists = has_thing && value.is_none_or(|value| board::has_value(&self.world.board, thing, value));
        let capability = format!("{}.{}", kind.as_str(), if has_thing { thing } else { "?" });
        match why {
            Why::Mode => {
                self.deny(capability, "mode", format!("{shown:?} was not granted this way"), Error::ModeNotAllowed)
            }
            Why::Name if exists => {
                self.deny(capability, "not_granted", format!("{shown:?} was not granted"), Error::NotAllowed)
            }
            Why::Name => self.deny(capability, "unknown", format!("the board has no {shown:?}"), Error::NotFound),
        }
    }

    fn turn_on(&mut self, index: u16) -> Outcome {
        let grant = &self.entry.authorized.grant;
        let Some((name, channels)) = self.sensors.get(usize::from(index)) else {
            return self.no_such("sensors", index);
        };
        let (Some(sensor), Some(activity)) = (grant.sensors().get(name.as_str()), &self.activity) else {
            return Err(Error::BadRequest).into();
        };
        let mut readable = Vec::new();
        let mut files = Vec::new();
        for (place, channel) in channels.iter().enumerate() {
            if let Some(channel) = sensor.channel(channel).filter(|channel| channel.access().reads()) {
                // At most 64 of them.
                readable.push(u16::try_from(place).unwrap_or(u16::MAX));
                files.push(channel.file());
            }
        }
        let was_on = self.world.sensors.is_on(name, self.entry.id);
        let tenant =
            Tenant { session: self.entry.id, payload: self.payload.clone(), activity: (Arc::clone(activity), index) };
        match self.world.sensors.turn_on(name, tenant, &files) {
            Ok(descriptors) => {
                if !was_on {
                    self.world.notices.post(EventKind::Leased, &self.payload, &format!("sensors.{name}"), "turned on");
                }
                Outcome { answer: Ok(Reply::On { readable }), descriptors }
            }
            Err(fault) => self.fault(&format!("sensors.{name}"), &fault, translate::fault),
        }
    }

    fn turn_off(&mut self, index: u16) -> Outcome {
        let Some((name, _)) = self.sensors.get(usize::from(index)) else { return self.no_such("sensors", index) };
        if !self.world.sensors.turn_off(name, self.entry.id) {
            return Err(Error::NotOn).into();
        }
        self.world.notices.post(EventKind::Released, &self.payload, &format!("sensors.{name}"), "turned off");
        Ok(Reply::Done).into()
    }

    fn config(&self, index: u16, channel: u16, value: &str) -> Outcome {
        let Some((name, channels)) = self.sensors.get(usize::from(index)) else {
            return self.no_such("sensors", index);
        };
        let granted = self.entry.authorized.grant.sensors().get(name.as_str());
        let channel =
            channels.get(usize::from(channel)).and_then(|channel| Some((channel, granted?.channel(channel)?)));
        let Some((channel, granted)) = channel else { return self.no_such("sensors", index) };
        let capability = format!("sensors.{name}.{channel}");
        let value = match parse(granted.kind(), value) {
            Ok(value) => value,
            Err(message) => return self.deny(capability, "value", message, Error::BadValue),
        };
        match self.world.sensors.config(name, granted, self.entry.id, &value) {
            Ok(()) => Ok(Reply::Done).into(),
            Err(sensors::Refused::Value(denial)) => {
                self.judged(capability, &denial.to_string(), translate::value(&denial))
            }
            Err(sensors::Refused::NotOn) => Err(Error::NotOn).into(),
            Err(err @ sensors::Refused::Owned { .. }) => {
                self.deny(capability, "owned", err.to_string(), Error::AlreadyInUse)
            }
            Err(sensors::Refused::Fault(fault)) => self.fault(&capability, &fault, translate::fault),
        }
    }

    fn open_line(&mut self, index: u16, direction: Direction) -> Outcome {
        let Some(name) = self.lines.get(usize::from(index)).cloned() else { return self.no_such("gpio", index) };
        let Some(line) = self.entry.authorized.grant.gpio().get(name.as_str()) else {
            return Err(Error::BadRequest).into();
        };
        let capability = format!("gpio.{name}");
        if !allowed(line.direction(), direction) {
            let message = format!("it was granted {}", line.direction());
            return self.deny(capability, "mode", message, Error::ModeNotAllowed);
        }
        if self.leases.contains_key(&index) {
            return Err(Error::AlreadyInUse).into();
        }
        let leased = self.world.buses.line(line.wiring(), direction);
        let leased = leased.and_then(|lease| {
            let theirs = lease.file().try_clone().map_err(|err| Fault::of(&*capability, err))?;
            Ok((lease, theirs))
        });
        match leased {
            Ok((lease, theirs)) => {
                self.leases.insert(index, lease);
                self.entry.leases.lock().unwrap_or_else(PoisonError::into_inner).push(capability.clone());
                self.world.notices.post(EventKind::Leased, &self.payload, &capability, "leased");
                Outcome { answer: Ok(Reply::Done), descriptors: vec![theirs.into()] }
            }
            Err(fault @ Fault::Busy { .. }) => {
                let others = self.world.registry.leases();
                let owner = others.iter().find(|(_, lease)| *lease == capability);
                let message = match owner {
                    Some((payload, _)) => format!("{payload} has leased it"),
                    None => fault.to_string(),
                };
                self.deny(capability, "in_use", message, Error::AlreadyInUse)
            }
            Err(fault) => self.fault(&capability, &fault, translate::fault),
        }
    }

    fn set_direction(&mut self, index: u16, direction: Direction) -> Outcome {
        let Some((capability, granted)) = self.line(index) else { return self.no_such("gpio", index) };
        if !allowed(granted, direction) {
            let message = format!("it was granted {granted}");
            return self.deny(capability, "mode", message, Error::ModeNotAllowed);
        }
        let Some(lease) = self.leases.get(&index) else { return Err(Error::NotOn).into() };
        match lease.set_direction(direction) {
            Ok(()) => Ok(Reply::Done).into(),
            Err(fault) => self.fault(&capability, &fault, translate::fault),
        }
    }

    fn watch(&mut self, index: u16, rising: bool, falling: bool) -> Outcome {
        let Some((capability, granted)) = self.line(index) else { return self.no_such("gpio", index) };
        if !granted.inputs() {
            let message = format!("it was granted {granted}, and only inputs have edges");
            return self.deny(capability, "mode", message, Error::ModeNotAllowed);
        }
        let Some(lease) = self.leases.get(&index) else { return Err(Error::NotOn).into() };
        match lease.watch(rising, falling) {
            Ok(()) => Ok(Reply::Done).into(),
            Err(fault) => self.fault(&capability, &fault, translate::fault),
        }
    }

    fn close_line(&mut self, index: u16) -> Outcome {
        let Some((capability, _)) = self.line(index) else { return self.no_such("gpio", index) };
        if self.leases.remove(&index).is_none() {
            return Err(Error::NotOn).into();
        }
        self.entry.leases.lock().unwrap_or_else(PoisonError::into_inner).retain(|lease| *lease != capability);
        self.world.notices.post(EventKind::Released, &self.payload, &capability, "released");
        Ok(Reply::Done).into()
    }

    fn line(&self, index: u16) -> Option<(String, iotwasm_grant::Direction)> {
        let name = self.lines.get(usize::from(index))?;
        let line = self.entry.authorized.grant.gpio().get(name.as_str())?;
        Some((format!("gpio.{name}"), line.direction()))
    }

    fn i2c(&self, index: u16, operations: &[I2cOperation]) -> Outcome {
        let name = self.i2c.get(usize::from(index));
        let granted = name.and_then(|name| Some((name, self.entry.authorized.grant.i2c().get(name.as_str())?)));
        let Some((name, device)) = granted else { return self.no_such("i2c", index) };
        let capability = format!("i2c.{name}");
        let asked: Vec<Operation<'_>> = operations
            .iter()
            .map(|operation| match operation {
                I2cOperation::Read(length) => Operation::Read(usize::try_from(*length).unwrap_or(usize::MAX)),
                I2cOperation::Write(bytes) => Operation::Write(bytes),
            })
            .collect();
        let transaction = match device.judge(&asked) {
            Ok(transaction) => transaction,
            Err(denial) => return self.judged(capability, &denial.to_string(), translate::i2c(&denial)),
        };
        match self.world.buses.i2c(&device.place(), transaction.messages()) {
            Ok(bytes) => Ok(Reply::Bytes(bytes)).into(),
            Err(fault) => self.fault(&capability, &fault, translate::i2c_fault),
        }
    }

    fn spi(&self, index: u16, operations: &[SpiOperation]) -> Outcome {
        let name = self.spi.get(usize::from(index));
        let granted = name.and_then(|name| Some((name, self.entry.authorized.grant.spi().get(name.as_str())?)));
        let Some((name, device)) = granted else { return self.no_such("spi", index) };
        let capability = format!("spi.{name}");
        let asked: Vec<spi::Operation> = operations
            .iter()
            .filter_map(|operation| match operation {
                SpiOperation::Read(length) => {
                    Some(spi::Operation::Read(usize::try_from(*length).unwrap_or(usize::MAX)))
                }
                SpiOperation::Write(bytes) => Some(spi::Operation::Write(bytes.len())),
                SpiOperation::Transfer(bytes) => Some(spi::Operation::Transfer(bytes.len())),
                // A pause moves nothing; how long it may be is the device's limit.
                SpiOperation::DelayNs(_) => None,
            })
            .collect();
        if operations.len() > spi::MAX_OPERATIONS {
            let message = format!("{} operations; at most {} are allowed", operations.len(), spi::MAX_OPERATIONS);
            return self.deny(capability, "length", message, Error::TooLong);
        }
        if let Err(denial) = device.judge(&asked) {
            return self.judged(capability, &denial.to_string(), translate::spi(&denial));
        }
        match self.world.buses.spi(device.device(), operations) {
            Ok(bytes) => Ok(Reply::Bytes(bytes)).into(),
            Err(fault) => self.fault(&capability, &fault, translate::spi_fault),
        }
    }

    fn actuate(&self, index: u16, value: &str) -> Outcome {
        let name = self.actuators.get(usize::from(index));
        let granted = name.and_then(|name| Some((name, self.entry.authorized.grant.actuators().get(name.as_str())?)));
        let Some((name, actuator)) = granted else { return self.no_such("actuators", index) };
        let capability = format!("actuators.{name}");
        let value = match parse(actuator.kind(), value) {
            Ok(value) => value,
            Err(message) => return self.deny(capability, "value", message, Error::BadValue),
        };
        let actuators = &self.world.actuators;
        self.entry.written.lock().unwrap_or_else(PoisonError::into_inner).insert(name.clone());
        match actuators.write(name, actuator, &self.payload, self.entry.id, &value, clock::now()) {
            Ok(()) => Ok(Reply::Done).into(),
            Err(actuators::Refused::Value(denial)) => {
                self.judged(capability, &denial.to_string(), translate::value(&denial))
            }
            Err(actuators::Refused::Rate(soon)) => {
                // Rounded up: who waits so long is not refused for a part of a millisecond.
                let wait_ms = u32::try_from(soon.wait.as_nanos().div_ceil(1_000_000)).unwrap_or(u32::MAX);
                self.deny(capability, "rate", soon.to_string(), Error::TooSoon { wait_ms })
            }
            Err(actuators::Refused::Fault(fault)) => {
                self.fault(&capability, &fault, |fault| translate::output_fault(actuator.output(), fault))
            }
        }
    }

    /// No runner of ours says so.
    fn protocol(&self, message: &str) -> Outcome {
        self.deny("session".into(), "protocol", message.to_owned(), Error::BadRequest)
    }

    /// Only a runner that was broken into asks so.
    fn no_such(&self, kind: &str, index: u16) -> Outcome {
        self.deny(
            "session".into(),
            "protocol",
            format!("there is no number {index} among its {kind}"),
            Error::NotAllowed,
        )
    }

    fn judged(&self, capability: String, message: &str, verdict: Verdict) -> Outcome {
        self.deny(capability, verdict.reason, message.to_owned(), verdict.error)
    }

    fn deny(&self, capability: String, reason: &'static str, message: String, error: Error) -> Outcome {
        self.entry.denials.fetch_add(1, Ordering::Relaxed);
        self.world.notices.deny(&self.payload, Denied { capability, reason, message });
        Err(error).into()
    }

    /// A device's fault is no denial: the payload did nothing wrong.
    fn fault(&self, capability: &str, fault: &Fault, translate: impl Fn(&Fault) -> Error) -> Outcome {
        let words = report::chain(fault);
        iotwasm_kit::debug!("{capability} for {}: {words}", self.payload);
        self.world.notices.post(EventKind::Device, &self.payload, capability, &words);
        Err(translate(fault)).into()
    }
}

fn allowed(granted: iotwasm_grant::Direction, asked: Direction) -> bool {
    match asked {
        Direction::In => granted.inputs(),
        Direction::Out(_) => granted.outputs(),
    }
}

fn parse(kind: iotwasm_grant::Kind, text: &str) -> Result<Value, String> {
    if text.len() > MAX_VALUE {
        return Err(format!("a value of {} bytes; at most {MAX_VALUE} are allowed", text.len()));
    }
    Value::from_text(kind, text).map_err(|err| format!("{text:?} is not {kind}: {err}"))
}

/// A file of one byte for each sensor, of a size that nobody can change.
fn activity(sensors: usize) -> std::io::Result<File> {
    let file = File::from(rustix::fs::memfd_create("activity", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?);
    file.set_len(u64::try_from(sensors).unwrap_or(u64::MAX))?;
    rustix::fs::fcntl_add_seals(&file, SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW)?;
    Ok(file)
}

/// How many requests one counts as.
fn cost(request: &Request) -> u32 {
    match request {
        Request::Claim | Request::TurnOn { .. } | Request::OpenLine { .. } => COSTLY,
        _ => 1,
    }
}

/// Holds a runner back that asks faster than any payload needs.
#[derive(Debug)]
struct Pace {
    /// In requests.
    left: f64,
    at: Instant,
}

impl Pace {
    fn new(now: Instant) -> Self {
        Self { left: BURST.into(), at: now }
    }

    /// Counts one that is worth so many; how long to wait before it is served.
    fn pause(&mut self, cost: u32, now: Instant) -> Option<Duration> {
        let earned = now.saturating_duration_since(self.at).as_secs_f64() * f64::from(PER_SECOND);
        self.left = (self.left + earned).min(BURST.into()) - f64::from(cost);
        self.at = now;
        // Not for each one: sleeping costs more than serving.
        let behind = f64::from(PER_SECOND) / 100.0;
        (self.left < -behind).then(|| Duration::from_secs_f64(-self.left / f64::from(PER_SECOND)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_runner_that_asks_without_end_is_held_to_its_pace() {
        let begin = Instant::now();
        let (mut pace, mut now) = (Pace::new(begin), begin);
        for _ in 0..100_000 {
            if let Some(pause) = pace.pause(1, now) {
                now += pause;
            }
        }
        let least = Duration::from_secs_f64(f64::from(100_000 - BURST) / f64::from(PER_SECOND) * 0.95);
        assert!(now - begin > least, "{:?}", now - begin);
        assert!(pace.pause(COSTLY, now + Duration::from_secs(60)).is_none());
    }

    #[test]
    fn the_activity_file_keeps_its_size() {
        let file = activity(3).unwrap();
        assert!(file.set_len(4096).is_err() && file.set_len(0).is_err());
        assert_eq!(file.metadata().unwrap().len(), 3);
    }
}

//! capd's end of sessions, for tests: a thread for each session, over a world of memory files and pipes. It answers as capd
//! does, and on request as capd never should.

use std::{
    collections::VecDeque,
    fs::File,
    io::Write,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    sync::{Arc, Mutex, MutexGuard},
    thread,
};

use iotwasm_session::{
    Answer, Channel, Device, Error, I2cOperation, Kind, Line, Reply, Request, Sensor, SensorChannel, SensorState,
    SpiOperation, Table, ValueKind, Why, pair,
};
use rustix::{
    fs::{MemfdFlags, SealFlags},
    net::{SendFlags, Shutdown},
    pipe::PipeFlags,
};

/// What capd does with one question, instead of what it should.
#[derive(Debug)]
pub(crate) enum Oddity {
    /// Answer this, with so many descriptors that cannot be read.
    Say(Answer, usize),
    /// Send bytes that are no message.
    Babble,
    /// Never answer.
    Silence,
    /// Close the session.
    Die,
}

/// A capd.
#[derive(Clone)]
pub(crate) struct Capd(Arc<Mutex<World>>);

struct World {
    table: Table,
    /// Everything that was asked, over every session.
    asked: Vec<Request>,
    /// What to do about the next questions; as it should where there is none.
    oddities: VecDeque<Option<Oddity>>,
    /// A copy of each session's socket, to cut it.
    sessions: Vec<OwnedFd>,
    activity: OwnedFd,
    /// What the sensors' channels hold, by sensor and channel.
    values: Vec<Vec<File>>,
    /// The ends that events are written to, by line; those of the last lease.
    events: Vec<Option<File>>,
}

impl Capd {
    /// With this table; every sensor's value is its name and a line's end.
    pub(crate) fn of(table: Table) -> Self {
        let values = table.sensors.iter().map(|sensor| {
            let value = |channel: &SensorChannel| file(format!("{}\n", channel.name).as_bytes());
            sensor.channels.iter().map(value).collect()
        });
        Self(Arc::new(Mutex::new(World {
            values: values.collect(),
            events: table.lines.iter().map(|_| None).collect(),
            activity: activity(),
            asked: Vec::new(),
            oddities: VecDeque::new(),
            sessions: Vec::new(),
            table,
        })))
    }

    /// Another session: the runner's end.
    pub(crate) fn session(&self) -> OwnedFd {
        let (theirs, channel) = pair().unwrap();
        self.world().sessions.push(channel.as_fd().try_clone_to_owned().unwrap());
        let world = Arc::clone(&self.0);
        thread::spawn(move || serve(&world, channel));
        theirs
    }

    /// End every session, as if the process had gone.
    pub(crate) fn crash(&self) {
        for session in self.world().sessions.drain(..) {
            // One that is closed already needs no end.
            let _ = rustix::net::shutdown(&session, Shutdown::Both);
        }
    }

    /// Be odd about the next question; about the one after that for the second time, and so on.
    pub(crate) fn be_odd(&self, oddity: Oddity) {
        self.be_odd_later(0, oddity);
    }

    /// Be odd after so many questions more.
    pub(crate) fn be_odd_later(&self, questions: usize, oddity: Oddity) {
        let oddities = &mut self.world().oddities;
        oddities.extend(std::iter::repeat_with(|| None).take(questions));
        oddities.push_back(Some(oddity));
    }

    /// What was asked since the last time.
    pub(crate) fn asked(&self) -> Vec<Request> {
        std::mem::take(&mut self.world().asked)
    }

    /// Write what a channel holds.
    pub(crate) fn set_value(&self, sensor: usize, channel: usize, text: &str) {
        let mut world = self.world();
        let value = &mut world.values[sensor][channel];
        value.set_len(0).unwrap();
        rustix::io::pwrite(value, text.as_bytes(), 0).unwrap();
    }

    /// The activity byte of a sensor.
    pub(crate) fn activity(&self, sensor: u64) -> u8 {
        let mut byte = [0];
        rustix::io::pread(&self.world().activity, &mut byte, sensor).unwrap();
        byte[0]
    }

    /// Let a line have an event: what the kernel would write.
    pub(crate) fn event(&self, line: usize, bytes: &[u8]) {
        self.world().events[line].as_mut().expect("the line is leased").write_all(bytes).unwrap();
    }

    fn world(&self) -> MutexGuard<'_, World> {
        self.0.lock().unwrap()
    }
}

/// As capd makes it: it keeps its size.
fn activity() -> OwnedFd {
    let file = rustix::fs::memfd_create("activity", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING).unwrap();
    rustix::io::write(&file, &[0xff; 32]).unwrap();
    rustix::fs::fcntl_add_seals(&file, SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW).unwrap();
    file
}

fn file(bytes: &[u8]) -> File {
    let mut file = File::from(rustix::fs::memfd_create("value", MemfdFlags::CLOEXEC).unwrap());
    file.write_all(bytes).unwrap();
    file
}

fn unreadable() -> OwnedFd {
    File::options().write(true).open("/dev/null").unwrap().into()
}

fn serve(world: &Mutex<World>, mut channel: Channel<Answer, Request>) {
    while let Ok(received) = channel.receive(None) {
        let (answer, descriptors) = {
            let mut world = world.lock().unwrap();
            world.asked.push(received.message.clone());
            match world.oddities.pop_front().flatten() {
                None => world.answer(received.message),
                Some(Oddity::Say(answer, count)) => (answer, (0..count).map(|_| unreadable()).collect()),
                Some(Oddity::Babble) => {
                    rustix::net::send(&channel, &[0xff; 7], SendFlags::NOSIGNAL).unwrap();
                    continue;
                }
                Some(Oddity::Silence) => continue,
                Some(Oddity::Die) => {
                    let _ = rustix::net::shutdown(&channel, Shutdown::Both);
                    return;
                }
            }
        };
        let beside: Vec<BorrowedFd<'_>> = descriptors.iter().map(AsFd::as_fd).collect();
        if channel.send(&answer, &beside).is_err() {
            return;
        }
    }
}

impl World {
    fn answer(&mut self, request: Request) -> (Answer, Vec<OwnedFd>) {
        let copy = |fd: &OwnedFd| fd.try_clone().unwrap();
        match request {
            Request::Claim => (Ok(Reply::Claimed(self.table.clone())), vec![copy(&self.activity)]),
            Request::TurnOn { sensor } => {
                let sensor = usize::from(sensor);
                let channels = &self.table.sensors[sensor].channels;
                let readable: Vec<u16> = (0..).zip(channels).filter(|(_, c)| c.read).map(|(place, _)| place).collect();
                let value = |place: &u16| self.values[sensor][usize::from(*place)].try_clone().unwrap().into();
                let descriptors = readable.iter().map(value).collect();
                (Ok(Reply::On { readable }), descriptors)
            }
            Request::OpenLine { line, .. } => {
                let (reader, writer) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC).unwrap();
                self.events[usize::from(line)] = Some(writer.into());
                (Ok(Reply::Done), vec![reader])
            }
            other => (self.plain_answer(other), vec![]),
        }
    }

    fn plain_answer(&self, request: Request) -> Answer {
        match request {
            Request::Denied { why: Why::Mode, .. } => Err(Error::ModeNotAllowed),
            // The board has one thing that was not granted.
            Request::Denied { name, .. } if name.starts_with("secret") => Err(Error::NotAllowed),
            Request::Denied { .. } => Err(Error::NotFound),
            Request::State { .. } => Ok(Reply::State(SensorState::Sleeping)),
            Request::Config { value, .. } if value == "7" => Err(Error::BadValue),
            Request::Actuate { value, .. } if value == "2" => Err(Error::TooSoon { wait_ms: 1500 }),
            // What is read counts up; what is transferred comes back with every bit turned.
            Request::I2c { operations, .. } => Ok(Reply::Bytes(
                operations
                    .into_iter()
                    .flat_map(|operation| match operation {
                        I2cOperation::Read(length) => counting(length),
                        I2cOperation::Write(_) => vec![],
                    })
                    .collect(),
            )),
            Request::Spi { operations, .. } => Ok(Reply::Bytes(
                operations
                    .into_iter()
                    .flat_map(|operation| match operation {
                        SpiOperation::Read(length) => counting(length),
                        SpiOperation::Transfer(bytes) => bytes.into_iter().map(|byte| !byte).collect(),
                        SpiOperation::Write(_) | SpiOperation::DelayNs(_) => vec![],
                    })
                    .collect(),
            )),
            _ => Ok(Reply::Done),
        }
    }
}

fn counting(length: u32) -> Vec<u8> {
    (0..length).map(|n| n as u8).collect()
}

/// A table with one of everything that makes a difference.
pub(crate) fn table() -> Table {
    let channel = |name: &str, capability, read, write, unit: &str| SensorChannel {
        name: name.into(),
        capability,
        read,
        write,
        kind: ValueKind::Decimal,
        unit: unit.into(),
    };
    let line = |name: &str, input, output| Line { name: name.into(), input, output };
    let device = |name: &str, max_length, mode, speed_hz| Device { name: name.into(), max_length, mode, speed_hz };
    Table {
        sensors: vec![
            Sensor {
                name: "climate".into(),
                channels: vec![
                    channel("temperature", true, true, false, "m°C"),
                    channel("count", true, true, false, ""),
                    channel("rate", false, true, true, "Hz"),
                    channel("reset", false, false, true, ""),
                ],
            },
            Sensor { name: "light".into(), channels: vec![channel("lux", true, true, false, "lx")] },
        ],
        lines: vec![line("button", true, false), line("led", false, true), line("spare", true, true)],
        i2c: vec![device("eeprom", 32, 0, 0)],
        spi: vec![device("display", 4096, 0, 1_000_000), device("adc", 16, 3, 50_000)],
        actuators: vec!["valve".into()],
    }
}

/// The kinds, so that a test names them without the session's crate.
pub(crate) fn denied(kind: Kind, name: &str, why: Why) -> Request {
    Request::Denied { kind, name: name.into(), why }
}

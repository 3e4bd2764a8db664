//! A board of fakes: buses that keep a log of all that reached them, and a sysfs in a temporary folder.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
    io,
    os::fd::OwnedFd,
    path::PathBuf,
    sync::{
        Arc, Condvar, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use capd::{
    actuators::Actuators,
    authorize::Authorized,
    board::Inventory,
    clock,
    devices::{Buses, Fault, LineLease, OnBuses, iio::Iio},
    notices::Notices,
    registry::{Full, Registry},
    sensors::Sensors,
    session::{self, World},
};
use iotwasm_grant::{
    Board, Request as Asked, Tier,
    board::{I2cPlace, Line, LineId, SpiDevice},
    grant,
    i2c::Message,
};
use iotwasm_kit::metrics::Registry as Metrics;
use iotwasm_payload::Slot;
use iotwasm_session::{Answer, Channel, Direction, Reply, Request, SpiOperation, Table, pair};

pub(crate) const BOARD: &str = r#"
name = "test"
[sensors.climate]
iio = "bme280"
[sensors.climate.capabilities]
temperature = { file = "in_temp_input", unit = "m°C", kind = "decimal" }
humidity = { file = "in_humidity_input", kind = "decimal" }
[sensors.climate.attributes]
oversampling = { file = "oversampling", kind = "integer", access = "read-write", values = [1, 2, 4] }
secret = { file = "secret", kind = "integer", access = "write", values = [7, 8] }
[sensors.light]
iio = "light"
[sensors.light.capabilities]
brightness = { file = "in_illuminance_input", kind = "integer" }
[gpio]
led = { chip = "chip", line = "led", direction = "out" }
door = { chip = "chip", line = "door", direction = "in", bias = "pull-up" }
spare = { chip = "chip", line = "spare", direction = "both" }
valve = { chip = "chip", line = "valve", direction = "out" }
horn = { chip = "chip", line = "horn", direction = "out" }
[i2c.eeprom]
bus = 1
address = 0x50
transfers = ["write", "write_read"]
write_increments = true
registers = [{ from = 0x00, to = 0x0f, access = "read-write" }, { from = 0x10, to = 0x1f, access = "read" }]
[spi.loop]
bus = 0
chip_select = 0
speed_hz = 1000000
transfers = ["read", "write", "transfer"]
max_length = 64
[actuators.valve]
drives = { line = "valve" }
writes_per_minute = 60
burst = 3
values = [0, 1]
safe = 0
[actuators.horn]
drives = { line = "horn" }
writes_per_minute = 60
burst = 3
values = [0, 1]
safe = 0
[actuators.dimmer]
drives = { register = { device = "eeprom", register = 0xf0 } }
writes_per_minute = 600
burst = 100
values = { min = 0, max = 255 }
"#;

/// All that the board has.
pub(crate) const EVERYTHING: &str = r#"
[sensors.climate]
capabilities = { temperature = "read", humidity = "read" }
attributes = { oversampling = "read-write", secret = "write" }
[gpio]
led = "out"
door = "in"
spare = "both"
[i2c]
eeprom = ["write", "write_read"]
[spi]
loop = ["read", "write", "transfer"]
[actuators]
valve = { writes_per_minute = 60, values = [0, 1] }
dimmer = { writes_per_minute = 600, values = { min = 0, max = 100 } }
"#;

/// What [`EVERYTHING`] leaves.
pub(crate) const OTHERS: &str = r#"
[sensors.light]
capabilities = { brightness = "read" }
[actuators]
horn = { writes_per_minute = 60, values = [0, 1] }
"#;

/// Places in the table of [`EVERYTHING`].
pub(crate) mod at {
    pub(crate) const CLIMATE: u16 = 0;
    pub(crate) const OVERSAMPLING: u16 = 2;
    pub(crate) const SECRET: u16 = 3;
    pub(crate) const DOOR: u16 = 0;
    pub(crate) const LED: u16 = 1;
    pub(crate) const SPARE: u16 = 2;
    pub(crate) const DIMMER: u16 = 0;
    pub(crate) const VALVE: u16 = 1;
}

/// What reached a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Reached {
    Line { name: String, direction: Direction },
    Watched { name: String },
    Set { name: String, active: bool },
    I2c { address: u8, messages: Vec<Message> },
    Spi(Vec<SpiOperation>),
}

#[derive(Debug, Default)]
pub(crate) struct Fake {
    pub(crate) reached: Mutex<Vec<Reached>>,
    pub(crate) levels: Mutex<BTreeMap<String, bool>>,
    held: Mutex<BTreeMap<String, Arc<()>>>,
    pub(crate) broken: AtomicBool,
    /// Lines whose chip hangs.
    hung: Mutex<BTreeSet<String>>,
    freed: Condvar,
    /// The other ends of the leases' descriptors.
    plugs: Mutex<BTreeMap<String, OwnedFd>>,
    /// What was to stay open on the buses, when this was last said.
    pub(crate) kept: Mutex<OnBuses>,
}

/// A line hangs until this is dropped.
pub(crate) struct Hung<'a>(&'a Fake, String);

impl Drop for Hung<'_> {
    fn drop(&mut self) {
        self.0.hung.lock().unwrap().remove(&self.1);
        self.0.freed.notify_all();
    }
}

impl Fake {
    pub(crate) fn level(&self, line: &str) -> Option<bool> {
        self.levels.lock().unwrap().get(line).copied()
    }

    /// From now on who sets this line waits.
    pub(crate) fn hang(&self, line: &str) -> Hung<'_> {
        self.hung.lock().unwrap().insert(line.to_owned());
        Hung(self, line.to_owned())
    }

    fn wait(&self, line: &str) {
        let mut hung = self.hung.lock().unwrap();
        while hung.contains(line) {
            hung = self.freed.wait(hung).unwrap();
        }
    }

    /// Takes a line's chip away; it is there again when it is next leased.
    pub(crate) fn unplug(&self, line: &str) {
        self.plugs.lock().unwrap().remove(line).unwrap();
    }

    fn log(&self, reached: Reached) -> Result<(), Fault> {
        if self.broken.load(Ordering::SeqCst) {
            let err = io::Error::from_raw_os_error(rustix::io::Errno::NXIO.raw_os_error());
            return Err(Fault::Io { what: "a broken device".into(), err });
        }
        self.reached.lock().unwrap().push(reached);
        Ok(())
    }
}

fn name(line: &Line) -> String {
    match &line.line {
        LineId::Name(name) => name.clone(),
        LineId::Offset(offset) => offset.to_string(),
    }
}

struct FakeLease {
    fake: Arc<Fake>,
    name: String,
    file: File,
    _held: Arc<()>,
}

impl LineLease for FakeLease {
    fn file(&self) -> &File {
        &self.file
    }
    fn set_direction(&self, direction: Direction) -> Result<(), Fault> {
        self.fake.log(Reached::Line { name: self.name.clone(), direction })
    }
    fn watch(&self, _rising: bool, _falling: bool) -> Result<(), Fault> {
        self.fake.log(Reached::Watched { name: self.name.clone() })
    }
    fn set(&self, active: bool) -> Result<(), Fault> {
        self.fake.wait(&self.name);
        self.fake.log(Reached::Set { name: self.name.clone(), active })?;
        self.fake.levels.lock().unwrap().insert(self.name.clone(), active);
        Ok(())
    }
}

/// So that a lease can point back at its maker.
#[derive(Debug, Clone)]
pub(crate) struct FakeBuses(pub(crate) Arc<Fake>);

impl Buses for FakeBuses {
    fn line(&self, line: &Line, direction: Direction) -> Result<Box<dyn LineLease>, Fault> {
        let name = name(line);
        self.0.wait(&name);
        let mut held = self.0.held.lock().unwrap();
        if held.get(&name).is_some_and(|held| Arc::strong_count(held) > 1) {
            return Err(Fault::Busy { what: name });
        }
        self.0.log(Reached::Line { name: name.clone(), direction })?;
        if let Direction::Out(Some(active)) = direction {
            self.0.levels.lock().unwrap().insert(name.clone(), active);
        }
        let mark = Arc::new(());
        held.insert(name.clone(), Arc::clone(&mark));
        let (file, plug) = rustix::pipe::pipe().unwrap();
        self.0.plugs.lock().unwrap().insert(name.clone(), plug);
        let file = File::from(file);
        Ok(Box::new(FakeLease { fake: Arc::clone(&self.0), name, file, _held: mark }))
    }

    fn i2c(&self, place: &I2cPlace, messages: &[Message]) -> Result<Vec<u8>, Fault> {
        self.0.log(Reached::I2c { address: place.address, messages: messages.to_vec() })?;
        let read = |message: &Message| if let Message::Read(length) = message { *length } else { 0 };
        Ok(vec![0xab; messages.iter().map(read).sum()])
    }

    fn spi(&self, _device: &SpiDevice, operations: &[SpiOperation]) -> Result<Vec<u8>, Fault> {
        self.0.log(Reached::Spi(operations.to_vec()))?;
        let mut bytes = Vec::new();
        for operation in operations {
            match operation {
                SpiOperation::Read(length) => bytes.extend(vec![0; *length as usize]),
                SpiOperation::Transfer(out) => bytes.extend(out),
                SpiOperation::Write(_) | SpiOperation::DelayNs(_) => {}
            }
        }
        Ok(bytes)
    }

    fn keep(&self, needed: &OnBuses) {
        *self.0.kept.lock().unwrap() = needed.clone();
    }
    fn has_line(&self, _line: &Line) -> Result<(), Fault> {
        Ok(())
    }
    fn has_i2c(&self, _place: &I2cPlace) -> Result<(), Fault> {
        Ok(())
    }
    fn has_spi(&self, _device: &SpiDevice) -> Result<(), Fault> {
        Ok(())
    }
}

pub(crate) struct Bench {
    pub(crate) world: Arc<World>,
    pub(crate) fake: Arc<Fake>,
    pub(crate) dir: tempfile::TempDir,
}

impl Bench {
    pub(crate) fn new() -> Self {
        Self::started(None)
    }

    /// With a daemon before this one, which ended at this reading of the clock.
    pub(crate) fn started(restarted: Option<Duration>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let device = dir.path().join("devices/iio:device0");
        std::fs::create_dir_all(device.parent().unwrap().join("power")).unwrap();
        std::fs::create_dir_all(dir.path().join("bus/iio/devices")).unwrap();
        std::fs::create_dir_all(&device).unwrap();
        for (file, text) in [
            ("name", "bme280"),
            ("in_temp_input", "25080"),
            ("in_humidity_input", "46096"),
            ("oversampling", "2"),
            ("secret", "0"),
        ] {
            std::fs::write(device.join(file), format!("{text}\n")).unwrap();
        }
        std::os::unix::fs::symlink(&device, dir.path().join("bus/iio/devices/iio:device0")).unwrap();
        let light = dir.path().join("light/iio:device1");
        std::fs::create_dir_all(&light).unwrap();
        std::fs::write(light.join("name"), "light\n").unwrap();
        std::fs::write(light.join("in_illuminance_input"), "7\n").unwrap();
        std::os::unix::fs::symlink(&light, dir.path().join("bus/iio/devices/iio:device1")).unwrap();
        let board = Arc::new(Board::parse(BOARD.as_bytes()).unwrap());
        let fake = Arc::new(Fake::default());
        let buses: Arc<dyn Buses> = Arc::new(FakeBuses(Arc::clone(&fake)));
        let iio = Iio::new(dir.path());
        let notices = Arc::new(Notices::new("dev".into(), Metrics::in_dir(dir.path(), "capd")));
        let now = clock::now();
        let actuators = Actuators::new(&board, Arc::clone(&buses), iio.clone(), Arc::clone(&notices), restarted, now);
        let world = World {
            sensors: Arc::new(Sensors::new(&board, iio)),
            actuators: Arc::new(actuators),
            registry: Arc::new(Registry::default()),
            board,
            buses,
            notices,
        };
        Self { world: Arc::new(world), fake, dir }
    }

    /// A file of the sensor.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join("devices/iio:device0").join(name)
    }

    pub(crate) fn text(&self, name: &str) -> String {
        std::fs::read_to_string(self.file(name)).unwrap().trim().to_owned()
    }

    /// A session for this request, not claimed yet.
    pub(crate) fn open(&self, payload: &str, capabilities: &str) -> Runner {
        self.try_open(payload, Slot::A, capabilities).unwrap()
    }

    pub(crate) fn try_open(&self, payload: &str, slot: Slot, capabilities: &str) -> Result<Runner, Full> {
        let asked = Asked::parse(capabilities.as_bytes()).unwrap();
        let tier = Tier::parse("acme".parse().unwrap(), TIER.as_bytes()).unwrap();
        let grant = grant(&asked, &tier, &self.world.board).unwrap();
        let authorized = Authorized {
            payload: payload.parse().unwrap(),
            slot,
            version: "1.0.0".into(),
            sha256: "00".into(),
            role: "acme".into(),
            grant,
        };
        let (socket, channel) = pair().unwrap();
        self.world.registry.make_room(&authorized.payload, slot);
        let entry = self.world.registry.add(authorized, &channel)?;
        session::begin(Arc::clone(&self.world), entry, channel).unwrap();
        Ok(Runner { channel: Channel::new(socket) })
    }

    /// A session that a runner has claimed.
    pub(crate) fn claimed(&self, payload: &str, capabilities: &str) -> Runner {
        let mut runner = self.open(payload, capabilities);
        runner.claim();
        runner
    }

    /// What the daemon tells of the board.
    pub(crate) fn inventory(&self) -> Inventory {
        Inventory {
            board: Arc::clone(&self.world.board),
            buses: Arc::clone(&self.world.buses),
            sensors: Arc::clone(&self.world.sensors),
            actuators: Arc::clone(&self.world.actuators),
            registry: Arc::clone(&self.world.registry),
        }
    }

    /// Waits until a line is set so.
    pub(crate) fn until_level(&self, line: &str, level: bool) {
        let until = Instant::now() + Duration::from_secs(20);
        while self.fake.level(line) != Some(level) {
            assert!(Instant::now() < until, "{line} is {:?}", self.fake.level(line));
            std::thread::yield_now();
        }
    }

    /// Waits until so many sessions are left.
    pub(crate) fn until_sessions(&self, count: u32) {
        let until = Instant::now() + Duration::from_secs(20);
        while self.world.registry.count() != count {
            assert!(Instant::now() < until, "{} sessions are left", self.world.registry.count());
            std::thread::yield_now();
        }
    }

    /// How often something was denied for this reason.
    pub(crate) fn denied(&self, capability: &str, reason: &str) -> i64 {
        let (denials, _) = self.world.notices.denials();
        denials.iter().filter(|d| d.capability == capability && d.reason == reason).map(|d| d.count).sum()
    }
}

/// The runner's side.
pub(crate) struct Runner {
    pub(crate) channel: Channel<Request, Answer>,
}

impl Runner {
    pub(crate) fn ask(&mut self, request: Request) -> Answer {
        self.ask_for(request).0
    }

    pub(crate) fn ask_for(&mut self, request: Request) -> (Answer, Vec<OwnedFd>) {
        self.channel.send(&request, &[]).unwrap();
        let received = self.channel.receive(Some(Duration::from_secs(20))).unwrap();
        (received.message, received.descriptors)
    }

    pub(crate) fn claim(&mut self) -> (Table, File) {
        let (answer, mut descriptors) = self.ask_for(Request::Claim);
        let Ok(Reply::Claimed(table)) = answer else { panic!("{answer:?}") };
        (table, File::from(descriptors.pop().unwrap()))
    }

    pub(crate) fn actuate(&mut self, actuator: u16, value: &str) -> Answer {
        self.ask(Request::Actuate { actuator, value: value.into() })
    }
}

/// A tier that allows everything on the board.
const TIER: &str = r#"
[sensors."*"]
capabilities = { "*" = "read-write" }
attributes = { "*" = "read-write" }
[gpio]
"*" = "both"
[i2c]
"*" = ["read", "write", "write_read"]
[spi]
"*" = ["read", "write", "transfer"]
[actuators."*"]
writes_per_minute = 60000
"#;

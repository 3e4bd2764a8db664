//! The session with capd: claims it, asks, and takes the next one when it is lost. Owns what was granted and what is open
//! of it: when a session ends, so does every lease, and each is made again when the guest next uses it.
//!
//! One question is open at a time and capd answers within [`ANSWER`]; a session that breaks that, or says something that
//! was not asked, is given up. What the guest sees meanwhile is [`number::UNAVAILABLE`].

use std::{
    os::fd::{AsFd, OwnedFd},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use iotwasm_activity::Activity;
use iotwasm_session::{Answer, Channel, Kind, MAX_NAME, ReceiveError, Reply, Request, SendError, Table, Why};
use iotwasm_wasmedge::Halt;

use super::{
    gpio::Pin,
    lifecycle::{Life, Woken},
    number::{self, Outcome},
    sensors::Sensor,
};
use crate::link::Beside;

/// How long capd may take for an answer.
pub(crate) const ANSWER: Duration = Duration::from_secs(5);

/// What a payload was granted, shared by the functions that serve it. Only the guest's thread asks for the lock.
#[derive(Debug, Clone)]
pub(crate) struct Shared(Arc<Mutex<Peripherals>>);

impl Shared {
    pub(crate) fn new(peripherals: Peripherals) -> Self {
        Self(Arc::new(Mutex::new(peripherals)))
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Peripherals> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A session that capd answers in.
#[derive(Debug)]
struct Session {
    channel: Channel<Request, Answer>,
    /// Whether we read a sensor now: one byte for each.
    activity: Activity,
}

/// What a payload was granted, and what is open of it.
#[derive(Debug)]
pub(crate) struct Peripherals {
    life: Arc<Life>,
    /// None while it is lost.
    session: Option<Session>,
    /// What was claimed first; it cannot change, since board and tiers are part of the firmware.
    table: Option<Table>,
    /// By their places in the table.
    pub(super) sensors: Vec<Sensor>,
    /// By the lines' places in the table; those that the guest has got.
    pub(super) pins: Vec<Option<Pin>>,
}

/// Why the guest did not begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unclaimed {
    /// No session was to be had in time.
    Unavailable,
    /// It is to leave again, or nobody is there to serve.
    Stopping,
}

impl Peripherals {
    /// Claim what was granted; with the next session, if this one does not live so long, until the time is up.
    pub(crate) fn claim(life: Arc<Life>, session: OwnedFd, until: Instant) -> Result<Self, Unclaimed> {
        let mut this = Self { life, session: None, table: None, sensors: Vec::new(), pins: Vec::new() };
        let mut next = session;
        loop {
            if this.adopt(next).is_ok() {
                return Ok(this);
            }
            next = match this.life.pause(until, Beside::default()) {
                Ok(Woken::Session(session)) => session,
                Ok(Woken::Stopping) | Err(_) => return Err(Unclaimed::Stopping),
                Ok(Woken::Time | Woken::SessionClosed | Woken::Line) => return Err(Unclaimed::Unavailable),
            };
        }
    }

    /// What was granted.
    pub(super) fn table(&self) -> &Table {
        // There is no use of this before the first claim.
        static NOTHING: Table =
            Table { sensors: Vec::new(), lines: Vec::new(), i2c: Vec::new(), spi: Vec::new(), actuators: Vec::new() };
        self.table.as_ref().unwrap_or(&NOTHING)
    }

    /// Where the guest is in its life.
    pub(super) fn life(&self) -> &Arc<Life> {
        &self.life
    }

    /// Ask capd something that is answered without a descriptor.
    pub(super) fn ask(&mut self, request: &Request) -> Outcome<Reply> {
        match self.ask_for_descriptors(request)? {
            (reply, descriptors) if descriptors.is_empty() => Ok(reply),
            _ => Err(self.broken()),
        }
    }

    /// Ask capd for something to be done.
    pub(super) fn order(&mut self, request: &Request) -> Outcome {
        match self.ask(request)? {
            Reply::Done => Ok(()),
            _ => Err(self.broken()),
        }
    }

    /// Ask capd.
    pub(super) fn ask_for_descriptors(&mut self, request: &Request) -> Outcome<(Reply, Vec<OwnedFd>)> {
        match self.question(request)? {
            (Ok(reply), descriptors) => Ok((reply, descriptors)),
            (Err(err), _) => Err(number::of(err)),
        }
    }

    /// Ask capd, and get its error too.
    pub(super) fn question(&mut self, request: &Request) -> Outcome<(Answer, Vec<OwnedFd>)> {
        self.connect()?;
        let Some(session) = &mut self.session else { return Err(number::UNAVAILABLE) };
        // How long capd takes is not the guest's doing, so its clock has the time that an answer may take on top.
        self.life.watchdog().lend(ANSWER);
        let answer = exchange(&mut session.channel, request);
        if !matches!(answer, Err(Broken::TimedOut)) {
            self.life.watchdog().take_back(ANSWER);
        }
        match answer {
            Ok(answer) => Ok(answer),
            Err(Broken::TooLong) => Err(number::TOO_LONG),
            Err(Broken::TimedOut | Broken::Lost) => Err(self.broken()),
        }
    }

    /// The guest asked for something that it was not granted: capd counts it and says which error it gets.
    pub(super) fn denied(&mut self, kind: Kind, name: &str, why: Why) -> i32 {
        let name = name[..name.floor_char_boundary(MAX_NAME)].to_owned();
        match self.ask(&Request::Denied { kind, name, why }) {
            Ok(_) => self.broken(),
            Err(number) => number,
        }
    }

    /// The session is of no use any more: close it and all that came with it, and say so once.
    pub(super) fn broken(&mut self) -> i32 {
        if self.session.take().is_some() {
            self.release();
            self.life.session_lost();
        }
        number::UNAVAILABLE
    }

    /// The activity byte of a sensor: from this call to the next with `false`, we read it.
    pub(super) fn set_active(&self, sensor: usize, active: bool) {
        if let Some(session) = &self.session {
            session.activity.set(sensor, active);
        }
    }

    /// Wait until the time is up, or the guest is to leave (then `true`); take the next session if one comes, and notice
    /// the end of this one.
    pub(super) fn wait(&mut self, until: Instant) -> Result<bool, Halt> {
        loop {
            match self.pause(until, None)? {
                Woken::Session(()) | Woken::SessionClosed | Woken::Line => {}
                Woken::Time => return Ok(false),
                Woken::Stopping => return Ok(true),
            }
        }
    }

    /// Wait for the one thing that comes first: the end of the time, an event of a line, another session (which is
    /// claimed at once), the end of this one.
    pub(super) fn pause(&mut self, until: Instant, pin: Option<usize>) -> Result<Woken<()>, Halt> {
        let line = pin.and_then(|pin| self.pins.get(pin)?.as_ref()?.line());
        let session = self.session.as_ref().map(|session| session.channel.as_fd());
        Ok(match self.life.pause(until, Beside { session, line })? {
            Woken::Session(session) => {
                // What comes of it shows at the next question.
                let _ = self.adopt(session);
                Woken::Session(())
            }
            Woken::SessionClosed => {
                self.broken();
                Woken::SessionClosed
            }
            Woken::Time => Woken::Time,
            Woken::Stopping => Woken::Stopping,
            Woken::Line => Woken::Line,
        })
    }

    /// There is a session now: the one that we had, or one that has come meanwhile.
    fn connect(&mut self) -> Outcome {
        if self.session.is_some() {
            return Ok(());
        }
        match self.life.session_that_came() {
            Some(session) => self.adopt(session),
            None => Err(number::UNAVAILABLE),
        }
    }

    /// Claim a session.
    fn adopt(&mut self, session: OwnedFd) -> Outcome {
        self.session = None;
        self.release();
        let mut channel = Channel::new(session);
        self.life.watchdog().lend(ANSWER);
        let answer = exchange(&mut channel, &Request::Claim);
        if !matches!(answer, Err(Broken::TimedOut)) {
            self.life.watchdog().take_back(ANSWER);
        }
        if let Ok((Ok(Reply::Claimed(table)), mut descriptors)) = answer
            && let (Some(activity), None) = (descriptors.pop(), descriptors.pop())
            && self.is_ours(&table)
        {
            self.sensors.resize_with(table.sensors.len(), Sensor::default);
            self.pins.resize_with(table.lines.len(), || None);
            self.table = Some(table);
            // It only informs others.
            let activity = Activity::of(activity).unwrap_or_default();
            self.session = Some(Session { channel, activity });
            return Ok(());
        }
        self.life.session_lost();
        Err(number::UNAVAILABLE)
    }

    /// Whether a table can be the one of this payload: indices and handles mean the same for the whole run.
    fn is_ours(&self, table: &Table) -> bool {
        let Table { sensors, lines, i2c, spi, actuators } = table;
        let channels = sensors.iter().map(|sensor| sensor.channels.len());
        let lengths = [sensors.len(), lines.len(), i2c.len(), spi.len(), actuators.len()];
        lengths.into_iter().chain(channels).all(|length| length < usize::from(u16::MAX))
            && self.table.as_ref().is_none_or(|ours| ours == table)
    }

    /// Close what came over a session.
    fn release(&mut self) {
        self.sensors.iter_mut().for_each(Sensor::release);
        self.pins.iter_mut().flatten().for_each(Pin::release);
    }
}

/// Why there is no answer.
enum Broken {
    /// The question is longer than any may be; the session is as it was.
    TooLong,
    TimedOut,
    Lost,
}

fn exchange(channel: &mut Channel<Request, Answer>, request: &Request) -> Result<(Answer, Vec<OwnedFd>), Broken> {
    channel.send(request, &[]).map_err(|err| match err {
        SendError::TooLong => Broken::TooLong,
        SendError::Closed | SendError::Full | SendError::Io(_) => Broken::Lost,
    })?;
    match channel.receive(Some(ANSWER)) {
        Ok(received) => Ok((received.message, received.descriptors)),
        Err(ReceiveError::TimedOut) => Err(Broken::TimedOut),
        Err(ReceiveError::Closed | ReceiveError::Malformed | ReceiveError::Io(_)) => Err(Broken::Lost),
    }
}

/// Where something is in a list of the table, and in a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place(u16);

impl Place {
    /// The first that fits; looks at names alone, so that nothing is allocated.
    pub(super) fn find<T>(list: &[T], fits: impl Fn(&T) -> bool) -> Option<Self> {
        list.iter().position(fits).and_then(Self::new)
    }

    /// From a guest's handle: the place and one, so that zero, which memory is full of, means nothing.
    pub(super) fn of_handle(handle: i32, length: usize) -> Outcome<Self> {
        let place = usize::try_from(handle).ok().and_then(|handle| handle.checked_sub(1));
        place.filter(|place| *place < length).and_then(Self::new).ok_or(number::BAD_ARGUMENT)
    }

    fn new(place: usize) -> Option<Self> {
        u16::try_from(place).ok().map(Self)
    }

    /// For the guest.
    pub(super) fn handle(self) -> u32 {
        u32::from(self.0) + 1
    }

    /// For a list.
    pub(super) fn index(self) -> usize {
        self.0.into()
    }

    /// For a request.
    pub(super) fn wire(self) -> u16 {
        self.0
    }
}

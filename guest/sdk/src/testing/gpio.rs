//! Lines that a test plays.

use std::collections::{BTreeMap, VecDeque};

use super::{Call, World, number, record, sleep, with};
use crate::Error;
use crate::abi::RawEvent;
use crate::gpio::{Mode, State};

/// Which ways a line may be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Line {
    /// As an input.
    In,
    /// As an output.
    Out,
    /// Both.
    Both,
}

impl Line {
    fn may(self, mode: Mode) -> bool {
        self == Self::Both || self == if mode == Mode::In { Self::In } else { Self::Out }
    }
}

/// All lines; a handle is a place in the list of labels.
#[derive(Default)]
pub(super) struct Lines {
    labels: Vec<String>,
    lines: BTreeMap<String, Played>,
}

struct Played {
    ways: Line,
    state: State,
    /// As what it is leased, if it is.
    mode: Option<Mode>,
    /// Bits: 1 rising, 2 falling.
    watched: u32,
    sequence: u32,
    queued: VecDeque<RawEvent>,
}

const INPUT: u32 = 1;
const OUTPUT: u32 = 2;
const ACTIVE: u32 = 4;
const INACTIVE: u32 = 8;
const RISING: u32 = 1;
const FALLING: u32 = 2;

/// Adds an inactive line, or replaces the one of this name.
pub fn add_line(label: &str, ways: Line) {
    with(|world| {
        if !world.gpio.labels.iter().any(|other| other == label) {
            world.gpio.labels.push(label.to_owned());
        }
        let played =
            Played { ways, state: State::Inactive, mode: None, watched: 0, sequence: 0, queued: VecDeque::new() };
        world.gpio.lines.insert(label.to_owned(), played);
    });
}

/// Changes a line from outside, as whatever is wired to it does. An edge that the payload watches is queued.
///
/// # Panics
/// There is no such line.
pub fn set_line(label: &str, state: State) {
    with(|world| {
        let now_ns = world.now_ns;
        let line = world.gpio.played(label);
        if std::mem::replace(&mut line.state, state) == state {
            return;
        }
        let edge = if state == State::Active { RISING } else { FALLING };
        if line.watched & edge != 0 {
            line.sequence += 1;
            let event = RawEvent { timestamp_ns: now_ns, edge, sequence: line.sequence, reserved: 0 };
            line.queued.push_back(event);
        }
    });
}

/// The state of a line.
///
/// # Panics
/// There is no such line.
#[must_use]
pub fn line(label: &str) -> State {
    with(|world| world.gpio.played(label).state)
}

/// True if the payload holds the line.
///
/// # Panics
/// There is no such line.
#[must_use]
pub fn is_leased(label: &str) -> bool {
    with(|world| world.gpio.played(label).mode.is_some())
}

impl Lines {
    fn played(&mut self, label: &str) -> &mut Played {
        self.lines.get_mut(label).unwrap_or_else(|| panic!("the test has added no line {label}"))
    }
}

/// Works on a line that is leased.
fn on_pin<T>(pin: u32, work: impl FnOnce(&mut Played, &str, Mode) -> Result<T, Error>) -> Result<T, Error> {
    with(|world| {
        let label = world.gpio.labels.get(pin as usize).cloned().ok_or(Error::BadArgument)?;
        world.failure(&label)?;
        let line = world.gpio.lines.get_mut(&label).ok_or(Error::BadArgument)?;
        let mode = line.mode.ok_or(Error::BadArgument)?;
        work(line, &label, mode)
    })
}

fn lease(world: &mut World, label: &str, flags: u32) -> Result<(u32, Option<State>), Error> {
    world.failure(label)?;
    let pin = world.gpio.labels.iter().position(|one| one == label).ok_or(Error::NotFound)?;
    let line = world.gpio.lines.get_mut(label).ok_or(Error::NotFound)?;
    let mode = match (flags & (INPUT | OUTPUT), line.ways) {
        (INPUT, _) | (0, Line::In) => Mode::In,
        (OUTPUT, _) | (0, Line::Out) => Mode::Out,
        _ => return Err(Error::BadArgument),
    };
    let state = match flags & (ACTIVE | INACTIVE) {
        0 => None,
        ACTIVE => Some(State::Active),
        INACTIVE => Some(State::Inactive),
        _ => return Err(Error::BadArgument),
    };
    if !line.ways.may(mode) {
        return Err(Error::ModeNotAllowed);
    }
    line.turn(mode);
    line.state = state.unwrap_or(line.state);
    Ok((pin as u32, state))
}

impl Played {
    fn turn(&mut self, mode: Mode) {
        if self.mode.replace(mode) != Some(mode) {
            (self.watched, self.sequence) = (0, 0);
            self.queued.clear();
        }
    }
}

pub(crate) fn get(label: &str, flags: u32, pin: &mut u32) -> i32 {
    number(with(|world| lease(world, label, flags)).map(|(handle, state)| {
        *pin = handle;
        if let Some(state) = state {
            record(Call::SetLine { label: label.to_owned(), state });
        }
    }))
}

pub(crate) fn read(pin: u32, state: &mut u32) -> i32 {
    number(on_pin(pin, |line, _, _| Ok(line.state)).map(|now| *state = u32::from(now == State::Active)))
}

pub(crate) fn set_state(pin: u32, state: u32) -> i32 {
    let set = on_pin(pin, |line, label, mode| {
        if mode != Mode::Out {
            return Err(Error::ModeNotAllowed);
        }
        line.state = State::from(state == 1);
        Ok(Call::SetLine { label: label.to_owned(), state: line.state })
    });
    number(set.map(|call| {
        record(call);
    }))
}

pub(crate) fn set_pin_mode(pin: u32, mode: u32) -> i32 {
    number(on_pin(pin, |line, _, _| {
        let mode = if mode == INPUT { Mode::In } else { Mode::Out };
        if !line.ways.may(mode) {
            return Err(Error::ModeNotAllowed);
        }
        line.turn(mode);
        Ok(())
    }))
}

pub(crate) fn watch(pin: u32, edges: u32) -> i32 {
    number(on_pin(pin, |line, _, mode| {
        if mode != Mode::In {
            return Err(Error::ModeNotAllowed);
        }
        (line.watched, line.sequence) = (edges, 0);
        line.queued.clear();
        Ok(())
    }))
}

pub(crate) fn next_event(pin: u32, milliseconds: i64, event: &mut RawEvent) -> i32 {
    let queued = || on_pin(pin, |line, label, _| Ok((line.queued.pop_front(), label.to_owned())));
    let mut next = || {
        let (mut found, label) = queued()?;
        if found.is_none() && milliseconds > 0 {
            record(Call::NextEvent { label, milliseconds });
            sleep(milliseconds)?;
            found = queued()?.0;
        }
        *event = found.ok_or(Error::TimedOut)?;
        Ok(())
    };
    number(next())
}

pub(crate) fn drop(pin: u32) -> i32 {
    number(on_pin(pin, |line, _, _| {
        line.mode = None;
        line.watched = 0;
        line.queued.clear();
        Ok(())
    }))
}

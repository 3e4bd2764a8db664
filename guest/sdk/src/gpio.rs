//! Lines: inputs, outputs, and edges with the time at which the kernel saw them.
//!
//! Lines have the names of the board file, which also says what is wired to them. A line is *active* or *inactive*, whatever
//! the voltage: `active_low` is the board's business. embedded-hal's traits are implemented, and there high means active.
//!
//! ```
//! # use iotwasm_guest::testing;
//! # testing::add_line("led", testing::Line::Out);
//! # testing::add_line("button", testing::Line::In);
//! use core::time::Duration;
//! use iotwasm_guest::gpio::{Edges, Input, Next, Output, State};
//!
//! let led = Output::get("led", State::Inactive)?;
//! let button = Input::get("button")?;
//! button.watch(Edges::Rising)?;
//! match button.next_event(Duration::from_secs(5))? {
//!     Next::Edge(edge) => led.set(State::Active)?,
//!     Next::Nothing => {}
//!     Next::Stop => {} // return from `run`
//! }
//! # Ok::<(), iotwasm_guest::Error>(())
//! ```
//!
//! A line is leased from `get` until the value is dropped. One line has one lease: getting a line that this payload has open
//! gives the same one, and dropping either value ends it for both.

use core::time::Duration;

use embedded_hal::digital;

use crate::abi;
use crate::error::{Error, check};
use crate::wait::milliseconds;

/// Whether a line is active.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Inactive: 0.
    Inactive,
    /// Active: 1.
    Active,
}

impl State {
    fn number(self) -> u32 {
        u32::from(self == Self::Active)
    }
}

impl From<bool> for State {
    fn from(active: bool) -> Self {
        if active { Self::Active } else { Self::Inactive }
    }
}

impl core::ops::Not for State {
    type Output = Self;

    fn not(self) -> Self {
        Self::from(self == Self::Inactive)
    }
}

/// Which way a line is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// As an input.
    In,
    /// As an output.
    Out,
}

impl Mode {
    fn number(self) -> u32 {
        match self {
            Self::In => INPUT,
            Self::Out => OUTPUT,
        }
    }
}

const INPUT: u32 = 1;
const OUTPUT: u32 = 2;
const ACTIVE: u32 = 4;
const INACTIVE: u32 = 8;

/// Which edges of an input are queued.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Edges {
    /// None.
    None,
    /// From inactive to active.
    Rising,
    /// From active to inactive.
    Falling,
    /// Both.
    Both,
}

/// One edge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Event {
    /// When the kernel saw it: since the device booted, on the clock that never goes back.
    pub time: Duration,
    /// True from inactive to active.
    pub rising: bool,
    /// Counts the line's edges up by one. A gap means that some were lost because nobody took them.
    pub sequence: u32,
}

/// What waiting for an edge came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use = "a payload that does not stop when it is told to is killed"]
pub enum Next {
    /// An edge.
    Edge(Event),
    /// The time passed without any.
    Nothing,
    /// The device wants the payload to end: save what must be saved and return from `run`.
    Stop,
}

/// A leased line.
#[derive(Debug)]
struct Pin(u32);

impl Pin {
    fn get(label: &str, flags: u32) -> Result<Self, Error> {
        let mut pin = 0;
        check(abi::gpio::get(label, flags, &mut pin)).map(|()| Self(pin))
    }

    fn read(&self) -> Result<State, Error> {
        let mut state = 0;
        check(abi::gpio::read(self.0, &mut state)).map(|()| State::from(state != 0))
    }

    fn set(&self, state: State) -> Result<(), Error> {
        check(abi::gpio::set_state(self.0, state.number()))
    }

    fn toggle(&self) -> Result<(), Error> {
        self.set(!self.read()?)
    }

    fn watch(&self, edges: Edges) -> Result<(), Error> {
        let bits = match edges {
            Edges::None => 0,
            Edges::Rising => 1,
            Edges::Falling => 2,
            Edges::Both => 3,
        };
        check(abi::gpio::watch(self.0, bits))
    }

    fn next_event(&self, time: Duration) -> Result<Next, Error> {
        const RISING: u32 = 1;
        let mut event = abi::RawEvent::default();
        match check(abi::gpio::next_event(self.0, milliseconds(time), &mut event)) {
            Ok(()) => Ok(Next::Edge(Event {
                time: Duration::from_nanos(event.timestamp_ns),
                rising: event.edge == RISING,
                sequence: event.sequence,
            })),
            Err(Error::TimedOut) => Ok(Next::Nothing),
            Err(Error::Stopping) => Ok(Next::Stop),
            Err(error) => Err(error),
        }
    }
}

impl Drop for Pin {
    fn drop(&mut self) {
        // Refused only for a handle that does not exist; the lease ends with the session at the latest.
        let _ = abi::gpio::drop(self.0);
    }
}

/// A line that is an input.
#[derive(Debug)]
pub struct Input(Pin);

impl Input {
    /// Leases a line as an input.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::NotAllowed`], [`Error::ModeNotAllowed`] for one granted as an output,
    /// [`Error::AlreadyInUse`], …
    pub fn get(label: &str) -> Result<Self, Error> {
        Pin::get(label, INPUT).map(Self)
    }

    /// Its state now.
    ///
    /// # Errors
    /// [`Error::Unavailable`], …
    pub fn read(&self) -> Result<State, Error> {
        self.0.read()
    }

    /// Has these edges queued from now on, in place of those before.
    ///
    /// # Errors
    /// [`Error::NotSupported`] if the chip has no interrupts, …
    pub fn watch(&self, edges: Edges) -> Result<(), Error> {
        self.0.watch(edges)
    }

    /// The next edge. Waits for it like [`wait`](crate::wait): the fuel is full afterwards, and a stop ends it. No time at
    /// all takes what is queued.
    ///
    /// # Errors
    /// [`Error::Unavailable`] also when edges may have been missed, because the daemon that keeps the peripherals was away:
    /// read the line, and ask again.
    pub fn next_event(&self, time: Duration) -> Result<Next, Error> {
        self.0.next_event(time)
    }
}

/// A line that is an output.
#[derive(Debug)]
pub struct Output(Pin);

impl Output {
    /// Leases a line as an output, at first in this state.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::NotAllowed`], [`Error::ModeNotAllowed`] for one granted as an input,
    /// [`Error::AlreadyInUse`], …
    pub fn get(label: &str, state: State) -> Result<Self, Error> {
        Pin::get(label, output(state)).map(Self)
    }

    /// Leases a line as an output and leaves its state as it stands.
    ///
    /// # Errors
    /// As [`Self::get`].
    pub fn get_as_it_stands(label: &str) -> Result<Self, Error> {
        Pin::get(label, OUTPUT).map(Self)
    }

    /// Sets its state.
    ///
    /// # Errors
    /// [`Error::Unavailable`], …
    pub fn set(&self, state: State) -> Result<(), Error> {
        self.0.set(state)
    }

    /// The state that it has.
    ///
    /// # Errors
    /// [`Error::Unavailable`], …
    pub fn read(&self) -> Result<State, Error> {
        self.0.read()
    }

    /// Sets the other state.
    ///
    /// # Errors
    /// [`Error::Unavailable`], …
    pub fn toggle(&self) -> Result<(), Error> {
        self.0.toggle()
    }
}

fn output(state: State) -> u32 {
    OUTPUT | if state == State::Active { ACTIVE } else { INACTIVE }
}

/// A line that was granted both ways (`"both"`) and can be turned round.
#[derive(Debug)]
pub struct InOut(Pin);

impl InOut {
    /// Leases a line that can be turned round, at first as an input.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::NotAllowed`], [`Error::AlreadyInUse`], …
    pub fn get_as_input(label: &str) -> Result<Self, Error> {
        Pin::get(label, INPUT).map(Self)
    }

    /// Leases a line that can be turned round, at first as an output in this state.
    ///
    /// # Errors
    /// As [`Self::get_as_input`].
    pub fn get_as_output(label: &str, state: State) -> Result<Self, Error> {
        Pin::get(label, output(state)).map(Self)
    }

    /// Turns it round.
    ///
    /// # Errors
    /// [`Error::ModeNotAllowed`] for a line granted one way only, …
    pub fn set_mode(&self, mode: Mode) -> Result<(), Error> {
        check(abi::gpio::set_pin_mode(self.0.0, mode.number()))
    }

    /// Its state now.
    ///
    /// # Errors
    /// [`Error::Unavailable`], …
    pub fn read(&self) -> Result<State, Error> {
        self.0.read()
    }

    /// Sets its state, while it is an output.
    ///
    /// # Errors
    /// [`Error::ModeNotAllowed`] while it is an input, …
    pub fn set(&self, state: State) -> Result<(), Error> {
        self.0.set(state)
    }

    /// Has these edges queued, while it is an input.
    ///
    /// # Errors
    /// [`Error::ModeNotAllowed`] while it is an output, …
    pub fn watch(&self, edges: Edges) -> Result<(), Error> {
        self.0.watch(edges)
    }

    /// The next edge, as [`Input::next_event`].
    ///
    /// # Errors
    /// As [`Input::next_event`].
    pub fn next_event(&self, time: Duration) -> Result<Next, Error> {
        self.0.next_event(time)
    }
}

/// embedded-hal for one of the pins; high is active.
macro_rules! embedded_hal_pin {
    ($pin:ty: error) => {
        impl digital::ErrorType for $pin {
            type Error = Error;
        }
    };
    ($pin:ty: input) => {
        impl digital::InputPin for $pin {
            fn is_high(&mut self) -> Result<bool, Error> {
                self.0.read().map(|state| state == State::Active)
            }

            fn is_low(&mut self) -> Result<bool, Error> {
                self.0.read().map(|state| state == State::Inactive)
            }
        }
    };
    ($pin:ty: output) => {
        impl digital::OutputPin for $pin {
            fn set_low(&mut self) -> Result<(), Error> {
                self.0.set(State::Inactive)
            }

            fn set_high(&mut self) -> Result<(), Error> {
                self.0.set(State::Active)
            }
        }

        impl digital::StatefulOutputPin for $pin {
            fn is_set_high(&mut self) -> Result<bool, Error> {
                self.0.read().map(|state| state == State::Active)
            }

            fn is_set_low(&mut self) -> Result<bool, Error> {
                self.0.read().map(|state| state == State::Inactive)
            }
        }
    };
}

embedded_hal_pin!(Input: error);
embedded_hal_pin!(Input: input);
embedded_hal_pin!(Output: error);
embedded_hal_pin!(Output: output);
embedded_hal_pin!(InOut: error);
embedded_hal_pin!(InOut: input);
embedded_hal_pin!(InOut: output);

#[cfg(test)]
mod tests;

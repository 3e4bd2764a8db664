//! Runs a pump as often as it may, and answers a button with a light.
//!
//! The pump is an actuator: each write is counted, and one too many is refused with the time after which the next may pass.
//! The button and the light are lines: an edge of the one toggles the other.
#![no_std]

use core::time::Duration;

use iotwasm_guest::gpio::{Edges, Input, Next, Output, State};
use iotwasm_guest::self_test::test_gpio_read;
use iotwasm_guest::{Error, Failure, Payload, actuators, health, info, payload, warn};

const PUMP: &str = "pump";
/// Longest wait for the button. Well below the manifest's heartbeat of 10 s.
const PERIOD: Duration = Duration::from_secs(1);

#[derive(Default)]
struct Irrigation {
    running: bool,
    /// Until the pump may be written again.
    rest: Duration,
    writes: u32,
    denials: u32,
    presses: u32,
}

impl Payload for Irrigation {
    fn self_test(&mut self) -> Result<(), Failure> {
        // The pump is not tried: a self-test moves nothing.
        test_gpio_read("button").map(drop)
    }

    fn run(&mut self) {
        if let Err(error) = self.work() {
            health::failed(error);
        }
    }
}

impl Irrigation {
    fn work(&mut self) -> Result<(), Error> {
        let led = Output::get("led", State::Inactive)?;
        let button = Input::get("button")?;
        button.watch(Edges::Rising)?;
        loop {
            let waited = if self.rest.is_zero() { PERIOD } else { self.rest.min(PERIOD) };
            match button.next_event(waited) {
                Ok(Next::Stop) => return Ok(()),
                Ok(Next::Nothing) => self.rest = self.rest.saturating_sub(waited),
                // What had passed of the wait is not counted: the next write comes a little late, never too soon.
                Ok(Next::Edge(edge)) => {
                    self.presses += 1;
                    info!("button: press {} at {:?}", self.presses, edge.time);
                    retry(|| led.toggle())?;
                }
                // The pins stay ours; an edge may have been missed.
                Err(Error::Unavailable) => warn!("button: {}", Error::Unavailable),
                Err(error) => return Err(error),
            }
            if self.rest.is_zero() {
                self.pump()?;
            }
            let Self { writes, denials, presses, .. } = *self;
            health::healthy(format_args!("{writes} writes, {denials} denials, {presses} presses"));
        }
    }

    /// Switches the pump until it is denied.
    fn pump(&mut self) -> Result<(), Error> {
        loop {
            let value = u8::from(!self.running);
            match actuators::write(PUMP, value) {
                Ok(()) => {
                    self.running = !self.running;
                    self.writes += 1;
                    info!("{PUMP}: wrote {value}");
                }
                Err(Error::TooSoon { retry_ms }) => {
                    self.denials += 1;
                    self.rest = Duration::from_millis(retry_ms.into());
                    info!("{PUMP}: denied, next write in {retry_ms} ms");
                    return Ok(());
                }
                Err(Error::Unavailable) => {
                    self.rest = PERIOD;
                    return Ok(());
                }
                Err(error) => return Err(error),
            }
        }
    }
}

/// Leaves out what cannot be done while peripherals are away for a moment.
fn retry(work: impl FnOnce() -> Result<(), Error>) -> Result<(), Error> {
    match work() {
        Err(Error::Unavailable) => Ok(()),
        result => result,
    }
}

payload!(Irrigation);

#[cfg(test)]
mod tests {
    extern crate std;

    use std::string::{String, ToString};
    use std::vec::Vec;

    use iotwasm_guest::gpio::State;
    use iotwasm_guest::testing::{self, Actuator, Call, Line};
    use iotwasm_guest::{Error, Payload};

    use super::{Irrigation, PUMP};

    fn board() {
        testing::reset();
        testing::add_line("button", Line::In);
        testing::add_line("led", Line::Out);
        testing::add_actuator(PUMP, Actuator::new(&["0", "1"]).limit(6, 2));
    }

    fn pump() -> Vec<String> {
        let lines = testing::take().into_iter();
        lines
            .filter_map(|call| match call {
                Call::Log { message, .. } if message.starts_with(PUMP) => Some(message),
                _ => None,
            })
            .collect()
    }

    #[test]
    fn the_pump_is_written_until_it_is_denied_and_again_when_it_may_be() {
        board();
        testing::stop_after(12);
        Irrigation::default().run();
        let written =
            ["wrote 1", "wrote 0", "denied, next write in 10000 ms", "wrote 1", "denied, next write in 10000 ms"];
        assert_eq!(pump(), written.map(|words| [PUMP, ": ", words].concat()));
    }

    #[test]
    fn each_press_toggles_the_light() {
        board();
        testing::stop_after(3);
        testing::each_wait(|_| {
            testing::set_line("button", State::Active);
            testing::set_line("button", State::Inactive);
        });
        Irrigation::default().run();
        let set = |call| if let Call::SetLine { state, .. } = call { Some(state) } else { None };
        let states: Vec<_> = testing::take().into_iter().filter_map(set).collect();
        assert_eq!(states, [State::Inactive, State::Active, State::Inactive, State::Active]);
    }

    #[test]
    fn peripherals_that_are_away_for_a_moment_do_not_end_it() {
        board();
        testing::stop_after(5);
        testing::each_wait(|wait| {
            if wait == 2 {
                testing::fail_next("button", Error::Unavailable);
                testing::fail_next(PUMP, Error::Unavailable);
            }
        });
        Irrigation::default().run();
        let calls = testing::take();
        let failed = |call: &Call| matches!(call, Call::Health { status: 2, .. });
        assert!(!calls.iter().any(failed), "{calls:?}");
    }

    #[test]
    fn a_pump_that_cannot_be_written_is_a_failure_that_says_why() {
        board();
        testing::stop_after(1);
        testing::fail_next(PUMP, Error::NotAllowed);
        let mut irrigation = Irrigation::default();
        irrigation.self_test().unwrap();
        irrigation.run();
        let failed = Call::Health { status: 2, message: Error::NotAllowed.to_string() };
        assert_eq!(testing::take().last(), Some(&failed));
    }
}

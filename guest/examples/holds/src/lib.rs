//! Asks for 20 s after its start that the device not be restarted, as one does whose work cannot be cut short, and says how
//! much of that is left.
#![no_std]

use core::time::Duration;

use iotwasm_guest::{Failure, Payload, Wait, health, payload, restart, wait};

/// How long it holds the device.
const HOLD_S: u64 = 20;
/// Between two reports. Well below the manifest's heartbeat of 10 s.
const PERIOD_S: u64 = 1;

#[derive(Default)]
struct Holds;

impl Payload for Holds {
    fn self_test(&mut self) -> Result<(), Failure> {
        Ok(())
    }

    fn run(&mut self) {
        if let Err(error) = restart::hold(Duration::from_secs(HOLD_S)) {
            return health::failed(error);
        }
        let mut left = HOLD_S;
        loop {
            match left {
                0 => health::healthy("the device may be restarted"),
                _ => health::healthy(format_args!("holds the device for {left} s")),
            }
            if wait(Duration::from_secs(PERIOD_S)) == Wait::Stop {
                return;
            }
            left = left.saturating_sub(PERIOD_S);
        }
    }
}

payload!(Holds);

#[cfg(test)]
mod tests {
    extern crate std;

    use std::string::String;
    use std::vec::Vec;

    use iotwasm_guest::Payload;
    use iotwasm_guest::testing::{self, Call};

    use super::Holds;

    #[test]
    fn it_holds_once_and_counts_down() {
        testing::reset();
        testing::stop_after(21);
        Holds.run();
        let calls = testing::take();
        assert_eq!(calls[0], Call::HoldRestart { seconds: 20 });
        assert_eq!(calls.iter().filter(|call| matches!(call, Call::HoldRestart { .. })).count(), 1);
        let words = |call| if let Call::Health { message, .. } = call { Some(message) } else { None };
        let said: Vec<String> = calls.into_iter().filter_map(words).collect();
        assert_eq!((said[0].as_str(), said[19].as_str()), ("holds the device for 20 s", "holds the device for 1 s"));
        assert_eq!(said[20..], ["the device may be restarted", "the device may be restarted"]);
    }
}

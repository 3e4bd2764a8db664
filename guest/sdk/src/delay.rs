//! Short pauses, as drivers need them while a chip does something: embedded-hal's `DelayNs`.
//!
//! The loop of a payload waits with [`wait`](crate::wait) instead, which says when it is time to stop. A pause cannot say
//! so to the driver that asked for it; the payload's next `wait` does.

use core::time::Duration;

use embedded_hal::delay::DelayNs;

use crate::{Wait, abi};

/// Pauses for drivers, never shorter than asked for.
///
/// From 1 ms on, the device sleeps as in [`wait`](crate::wait), and the fuel is full again afterwards. What is left below
/// 1 ms is counted out on WASI's clock (on `wasm32-wasip1` with the `std` feature), which costs fuel; a payload without that
/// clock sleeps a whole millisecond instead.
///
/// When the device wants the payload to end, it sleeps no more: pauses up to 20 ms are counted out, so that a driver
/// finishes what it began as the chip expects it, and longer ones end at once. Without the clock all end at once.
#[derive(Debug, Clone, Copy, Default)]
pub struct Delay;

impl Delay {
    /// Pauses; the result says whether the device wants the payload to end.
    pub fn pause(self, time: Duration) -> Wait {
        match abi::delay(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)) {
            abi::OK => Wait::Continue,
            _ => Wait::Stop,
        }
    }
}

impl DelayNs for Delay {
    fn delay_ns(&mut self, ns: u32) {
        let _ = self.pause(Duration::from_nanos(ns.into()));
    }

    fn delay_us(&mut self, us: u32) {
        let _ = self.pause(Duration::from_micros(us.into()));
    }

    fn delay_ms(&mut self, ms: u32) {
        let _ = self.pause(Duration::from_millis(ms.into()));
    }
}

#[cfg(any(target_arch = "wasm32", test))]
mod sleep {
    use crate::abi;

    const MS: u64 = 1_000_000;
    /// Longest pause that is counted out after a stop, in nanoseconds. Chips need some milliseconds; the payload has
    /// `limits.stop_ms` for everything.
    const LONGEST_AFTER_STOP: u64 = 20 * MS;

    /// Pauses with what there is: a wait in milliseconds, and perhaps a clock in nanoseconds.
    pub(super) fn pause(ns: u64, clock: Option<&dyn Fn() -> u64>, wait: &dyn Fn(i64) -> i32) -> i32 {
        let Some(clock) = clock else {
            return if ns == 0 { abi::OK } else { wait(whole_ms(ns.div_ceil(MS))) };
        };
        let until = clock().saturating_add(ns);
        let mut result = abi::OK;
        if ns >= MS {
            result = wait(whole_ms(ns / MS));
            if result != abi::OK && ns > LONGEST_AFTER_STOP {
                return result;
            }
        }
        while clock() < until {
            core::hint::spin_loop();
        }
        result
    }

    fn whole_ms(ms: u64) -> i64 {
        i64::try_from(ms).unwrap_or(i64::MAX)
    }
}

/// The device's side of a pause.
#[cfg(all(target_os = "wasi", feature = "std"))]
pub(crate) fn pause(ns: u64) -> i32 {
    let start = std::time::Instant::now();
    let clock = || u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX);
    sleep::pause(ns, Some(&clock), &abi::wait)
}

/// The device's side of a pause, without a clock.
#[cfg(all(target_arch = "wasm32", not(all(target_os = "wasi", feature = "std"))))]
pub(crate) fn pause(ns: u64) -> i32 {
    sleep::pause(ns, None, &abi::wait)
}

#[cfg(test)]
mod tests {
    use std::cell::{Cell, RefCell};

    use super::{Delay, DelayNs, sleep};
    use crate::testing::{self, Call};

    const STOPPING: i32 = -4;

    /// Pauses on a clock that goes on by 100 ns whenever it is read, and by what was waited. What was waited, the time on
    /// the clock, and the result.
    fn pause(ns: u64, stopping: bool) -> (Vec<i64>, u64, i32) {
        let (now, waits) = (Cell::new(0), RefCell::new(vec![]));
        let clock = || now.replace(now.get() + 100);
        let wait = |ms: i64| {
            waits.borrow_mut().push(ms);
            if stopping {
                return STOPPING;
            }
            now.set(now.get() + ms as u64 * 1_000_000);
            0
        };
        let result = sleep::pause(ns, Some(&clock), &wait);
        (waits.into_inner(), now.get(), result)
    }

    #[test]
    fn a_pause_sleeps_whole_milliseconds_and_counts_out_the_rest() {
        let (waits, now, result) = pause(2_500_000, false);
        assert_eq!((waits, result), (vec![2], 0));
        assert!((2_500_000..2_501_000).contains(&now), "{now}");
        let (waits, now, _) = pause(50_000, false);
        assert_eq!(waits, []);
        assert!((50_000..51_000).contains(&now), "{now}");
        assert_eq!(pause(0, false).0, []);
    }

    #[test]
    fn after_a_stop_short_pauses_are_counted_out_and_long_ones_end() {
        let (_, now, result) = pause(10_000_000, true);
        assert_eq!(result, STOPPING);
        assert!(now >= 10_000_000);
        let (_, now, result) = pause(10_000_000_000, true);
        assert_eq!(result, STOPPING);
        assert!(now < 1_000);
    }

    #[test]
    fn without_a_clock_a_pause_is_rounded_up() {
        let waits = RefCell::new(vec![]);
        for ns in [0, 1, 1_000_000, 1_000_001, u64::MAX] {
            sleep::pause(ns, None, &|ms| {
                waits.borrow_mut().push(ms);
                0
            });
        }
        assert_eq!(waits.into_inner(), [1, 1, 2, 18_446_744_073_710]);
    }

    #[test]
    fn drivers_pauses_are_recorded_and_are_no_wake_ups() {
        testing::reset();
        testing::stop_after(1);
        let mut delay = Delay;
        delay.delay_ns(30);
        delay.delay_us(40);
        delay.delay_ms(50);
        let delays: Vec<_> = [30, 40_000, 50_000_000].map(|nanoseconds| Call::Delay { nanoseconds }).into();
        assert_eq!(testing::take(), delays);
        assert_eq!(crate::wait(core::time::Duration::ZERO), crate::Wait::Continue);
    }
}

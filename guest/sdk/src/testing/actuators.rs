//! Actuators that a test plays.

use super::{Call, number, record, with};
use crate::Error;

/// An actuator.
#[derive(Debug, Clone, Default)]
pub struct Actuator {
    values: Vec<String>,
    limit: Option<Limit>,
}

/// So many writes at once; then one in each interval. A bucket that runs full: `full_ns` is when it will be.
#[derive(Debug, Clone)]
struct Limit {
    interval_ns: u64,
    burst: u64,
    full_ns: u64,
}

impl Actuator {
    /// One that takes these values; any if there are none.
    #[must_use]
    pub fn new(values: &[&str]) -> Self {
        Self { values: values.iter().map(|&value| value.to_owned()).collect(), limit: None }
    }

    /// With a limit, as in a board file: writes in a minute, and how many of them at once.
    #[must_use]
    pub fn limit(mut self, writes_per_minute: u32, burst: u32) -> Self {
        const MINUTE_NS: u64 = 60_000_000_000;
        let interval_ns = MINUTE_NS / u64::from(writes_per_minute.max(1));
        self.limit = Some(Limit { interval_ns, burst: burst.max(1).into(), full_ns: 0 });
        self
    }

    fn write(&mut self, value: &str, now_ns: u64) -> Result<(), Error> {
        if !self.values.is_empty() && !self.values.iter().any(|one| one == value) {
            return Err(Error::BadValue);
        }
        let Some(limit) = &mut self.limit else { return Ok(()) };
        let full_ns = limit.full_ns.max(now_ns) + limit.interval_ns;
        let ahead_ns = (full_ns - now_ns).saturating_sub(limit.burst * limit.interval_ns);
        if ahead_ns > 0 {
            let retry_ms = u32::try_from(ahead_ns.div_ceil(1_000_000)).unwrap_or(u32::MAX);
            return Err(Error::TooSoon { retry_ms });
        }
        limit.full_ns = full_ns;
        Ok(())
    }
}

/// Adds an actuator, or replaces the one of this name.
pub fn add_actuator(name: &str, actuator: Actuator) {
    with(|world| world.actuators.insert(name.to_owned(), actuator));
}

pub(crate) fn write(name: &str, value: &str, retry_ms: &mut u32) -> i32 {
    let result = with(|world| {
        world.failure(name)?;
        let now_ns = world.now_ns;
        world.actuators.get_mut(name).ok_or(Error::NotFound)?.write(value, now_ns)
    });
    match result {
        Ok(()) => {
            record(Call::Actuate { actuator: name.to_owned(), value: value.to_owned() });
        }
        Err(Error::TooSoon { retry_ms: ms }) => *retry_ms = ms,
        Err(_) => {}
    }
    number(result)
}

//! The monotonic clock that rates are counted with: it never steps, and it is the same for every process until the next
//! boot.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// Its reading now.
#[must_use]
pub fn now() -> Duration {
    let time = clock_gettime(ClockId::Monotonic);
    // It begins at the boot and does not go back, so neither part is negative.
    Duration::new(u64::try_from(time.tv_sec).unwrap_or_default(), u32::try_from(time.tv_nsec).unwrap_or_default())
}

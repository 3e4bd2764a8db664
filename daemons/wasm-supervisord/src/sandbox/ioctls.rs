//! The device commands (`ioctl`) that the supervisor and whatever it starts keep; every other one fails.
//!
//! A descriptor of a GPIO line takes more than reads and writes: `GPIO_V2_LINE_SET_CONFIG` turns it round and changes its
//! bias and drive. With this filter, which a runner inherits before its first instruction, the descriptor is exactly what
//! was granted, whatever runs in the runner's place. Here a command fails instead of ending the process: this one is ours,
//! and a library that probes for something must not take every payload with it.

use seccompiler::{SeccompCmpOp, SeccompRule};

use super::{
    Error,
    system_calls::{Problem, condition, refusing},
};

/// Levels of a line, read: `GPIO_V2_LINE_GET_VALUES_IOCTL` of linux/gpio.h.
pub const GPIO_GET_VALUES: u32 = 0xC010_B40E;
/// Levels of a line, written: `GPIO_V2_LINE_SET_VALUES_IOCTL`.
pub const GPIO_SET_VALUES: u32 = 0xC010_B40F;
/// The line turned round, which capd alone may: `GPIO_V2_LINE_SET_CONFIG_IOCTL`.
pub const GPIO_SET_CONFIG: u32 = 0xC110_B40D;

/// What is left: the lines' levels; what the standard library sets on sockets and pipes; whether standard error is a
/// terminal, which newer C libraries ask with the second command.
const ALLOWED: [u64; 7] = [
    GPIO_GET_VALUES as u64,
    GPIO_SET_VALUES as u64,
    libc::FIONBIO,
    libc::FIOCLEX,
    libc::FIONCLEX,
    libc::TCGETS,
    libc::TCGETS2,
];

/// Keep no other device command, in this process and in all that it starts. Takes new privileges away, too.
///
/// # Errors
/// The kernel refuses the filter; nothing may be started then.
pub fn confine() -> Result<(), Error> {
    install().map_err(Error::SystemCalls)
}

fn install() -> Result<(), Problem> {
    // One rule: the command is none of these.
    let other: Vec<_> =
        ALLOWED.iter().map(|command| condition(1, SeccompCmpOp::Ne, *command)).collect::<Result<_, _>>()?;
    let rules = [(libc::SYS_ioctl, vec![SeccompRule::new(other)?])].into();
    Ok(seccompiler::apply_filter_all_threads(&refusing(rules)?)?)
}

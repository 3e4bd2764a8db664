//! The simulated peripherals from the kernel's side: what a scenario looks at to know what really happened, and moves as
//! the world outside would.

use crate::error::{Error, Result};
use crate::vm::Vm;

/// The folder of the simulated I2C bus, for a shell.
pub(super) const STUB: &str = "$(dirname $(grep -lx 'SMBus stub driver' /sys/bus/i2c/devices/i2c-*/name))";

/// Lines of the simulated chip, in their order.
const LINES: [&str; 8] = ["led", "button", "valve", "pump", "door", "spare0", "spare1", "spare2"];

/// The folder of a line's simulator, for a shell.
pub(super) fn line(name: &str) -> String {
    let number = LINES.iter().position(|line| *line == name).unwrap_or(LINES.len());
    format!("$(echo /sys/devices/platform/gpio-sim.0/gpiochip*/sim_gpio{number})")
}

/// The level of a line as who is wired to it sees it: 0 or 1.
pub(super) fn level(vm: &mut Vm, name: &str) -> Result<String> {
    sh(vm, &format!("cat {}/value", line(name)))
}

/// Pulls an input up or down, as whoever presses a button.
pub(super) fn pull(vm: &mut Vm, name: &str, up: bool) -> Result<()> {
    let direction = if up { "up" } else { "down" };
    vm.sh(&format!("echo pull-{direction} >{}/pull", line(name))).map(drop)
}

/// A register of a chip on the simulated I2C bus: `0xa5`.
pub(super) fn register(vm: &mut Vm, address: u8, register: u8) -> Result<String> {
    sh(vm, &format!("n={STUB}; i2cget -y ${{n##*-}} {address:#04x} {register:#04x}"))
}

/// What a file of an IIO device holds.
pub(super) fn attribute(vm: &mut Vm, device: &str, file: &str) -> Result<String> {
    sh(vm, &format!("{}; cat {file}", folder(device)))
}

/// Takes the BME280 with the kernel's driver away.
pub(super) fn unplug(vm: &mut Vm) -> Result<()> {
    vm.sh(&format!("echo 0x76 >{STUB}/delete_device")).map(drop)
}

/// Brings back what was taken away.
pub(super) fn replug(vm: &mut Vm) -> Result<()> {
    vm.sh("systemctl restart qemu-peripherals.service && udevadm settle").map(drop)
}

/// For a shell: goes to the folder of an IIO device, or fails.
pub(super) fn folder(device: &str) -> String {
    format!("set -e; name=$(grep -lx {device} /sys/bus/iio/devices/*/name); cd ${{name%/name}}")
}

/// A line of shell; its output without the last newline.
pub(super) fn sh(vm: &mut Vm, line: &str) -> Result<String> {
    Ok(vm.sh(line)?.trim().to_owned())
}

/// The number that a text begins with.
pub(super) fn number(text: &str, what: &'static str) -> Result<u64> {
    let first = text.split_whitespace().next().and_then(|word| word.parse().ok());
    first.ok_or_else(|| Error::Unreadable { what, text: text.to_owned() })
}

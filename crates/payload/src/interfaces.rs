//! The interfaces that a payload may import: every function with its exact type, and what lets a payload use it.
//!
//! The one table of what exists. A new interface (topics) is a new entry of [`INTERFACES`] with a [`Needs`] of its own;
//! the runner implements the same names. What is not in the table is refused before any engine
//! sees the module.

use std::fmt;

use crate::manifest::Manifest;

/// A core value type that an interface may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Val {
    /// 32-bit integer.
    I32,
    /// 64-bit integer.
    I64,
}

impl fmt::Display for Val {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::I32 => "i32",
            Self::I64 => "i64",
        })
    }
}

/// A function that a payload may import.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Function {
    /// Its name in the module.
    pub name: &'static str,
    /// Parameters.
    pub params: &'static [Val],
    /// Results.
    pub results: &'static [Val],
}

/// What a manifest must have for a payload to import an interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Needs {
    /// Nothing: every payload may.
    Nothing,
    /// `[wasi]`, or the entry style command.
    Wasi,
    /// At least one of `[capabilities.sensors]`.
    Sensors,
    /// At least one of `[capabilities.gpio]`.
    Gpio,
    /// At least one of `[capabilities.i2c]`.
    I2c,
    /// At least one of `[capabilities.spi]`.
    Spi,
    /// At least one of `[capabilities.actuators]`.
    Actuators,
}

impl Needs {
    /// True if the manifest has what is needed.
    pub fn met_by(self, manifest: &Manifest) -> bool {
        match self {
            Self::Nothing => true,
            Self::Wasi => manifest.has_wasi(),
            Self::Sensors => !manifest.capabilities.sensors.is_empty(),
            Self::Gpio => !manifest.capabilities.gpio.is_empty(),
            Self::I2c => !manifest.capabilities.i2c.is_empty(),
            Self::Spi => !manifest.capabilities.spi.is_empty(),
            Self::Actuators => !manifest.capabilities.actuators.is_empty(),
        }
    }
}

impl fmt::Display for Needs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Nothing => "nothing",
            Self::Wasi => "[wasi] in the manifest, or entry.style = \"command\"",
            Self::Sensors => "a sensor in [capabilities.sensors] of the manifest",
            Self::Gpio => "a line in [capabilities.gpio] of the manifest",
            Self::I2c => "a device in [capabilities.i2c] of the manifest",
            Self::Spi => "a device in [capabilities.spi] of the manifest",
            Self::Actuators => "an actuator in [capabilities.actuators] of the manifest",
        })
    }
}

/// A module of functions.
#[derive(Debug, Clone, Copy)]
pub struct Interface {
    /// The module's name in an import.
    pub module: &'static str,
    /// What the manifest must have.
    pub needs: Needs,
    /// Its functions.
    pub functions: &'static [Function],
}

/// Module name of the payload's contract with the runner.
pub const IOTWASM: &str = "iotwasm";
/// Module name of WASI preview 1.
pub const WASI: &str = "wasi_snapshot_preview1";
/// Module name of the sensor interface.
pub const SENSORS: &str = "iotwasm_sensors";
/// Module name of the lines: wasi-gpio's digital pins, lowered.
pub const GPIO: &str = "iotwasm_gpio";
/// Module name of the I2C devices: wasi-i2c, lowered.
pub const I2C: &str = "iotwasm_i2c";
/// Module name of the SPI devices: wasi-spi, lowered.
pub const SPI: &str = "iotwasm_spi";
/// Module name of the actuators.
pub const ACTUATORS: &str = "iotwasm_actuators";
/// The function that reports health; a command must import it, since nothing else tells its self-test's result.
pub const HEALTH: &str = "iotwasm_health";
/// A reactor's self-test, `() -> i32`, 0 for passed.
pub const SELF_TEST: &str = "iotwasm_self_test";
/// A reactor's work, `() -> ()`, meant never to return.
pub const RUN: &str = "iotwasm_run";
/// A reactor's initialisation, `() -> ()`, optional, called first.
pub const INITIALIZE: &str = "_initialize";
/// A command's entry, `() -> ()`.
pub const START: &str = "_start";
/// The memory that host functions read and write.
pub const MEMORY: &str = "memory";

/// Every interface that exists.
pub const INTERFACES: &[Interface] = &[
    Interface { module: IOTWASM, needs: Needs::Nothing, functions: IOTWASM_FUNCTIONS },
    Interface { module: WASI, needs: Needs::Wasi, functions: WASI_FUNCTIONS },
    Interface { module: SENSORS, needs: Needs::Sensors, functions: SENSOR_FUNCTIONS },
    Interface { module: GPIO, needs: Needs::Gpio, functions: GPIO_FUNCTIONS },
    Interface { module: I2C, needs: Needs::I2c, functions: I2C_FUNCTIONS },
    Interface { module: SPI, needs: Needs::Spi, functions: SPI_FUNCTIONS },
    Interface { module: ACTUATORS, needs: Needs::Actuators, functions: ACTUATOR_FUNCTIONS },
];

/// The interface with this module name.
pub fn interface(module: &str) -> Option<&'static Interface> {
    INTERFACES.iter().find(|i| i.module == module)
}

impl Interface {
    /// The function with this name.
    pub fn function(&self, name: &str) -> Option<&'static Function> {
        self.functions.iter().find(|f| f.name == name)
    }
}

const I32: Val = Val::I32;
const I64: Val = Val::I64;

const fn f(name: &'static str, params: &'static [Val]) -> Function {
    Function { name, params, results: &[Val::I32] }
}

/// ABI 1 of the runner.
const IOTWASM_FUNCTIONS: &[Function] = &[
    // (status, message)
    f("iotwasm_health", &[I32, I32, I32]),
    // (level, message)
    f("iotwasm_log", &[I32, I32, I32]),
    // (milliseconds)
    f("iotwasm_wait", &[I64]),
    // (seconds)
    f("iotwasm_hold_restart", &[I32]),
];

/// The sensor interface. A text is a pointer and a length; a list of names has a newline between two.
const SENSOR_FUNCTIONS: &[Function] = &[
    // (buffer, size, length out)
    f("get_sensors", &[I32, I32, I32]),
    // (sensor)
    f("turn_on", &[I32, I32]),
    f("turn_off", &[I32, I32]),
    // (sensor, attribute, value)
    f("config", &[I32, I32, I32, I32, I32, I32]),
    // (sensor, capability or attribute, buffer, size, length out)
    f("read", &[I32, I32, I32, I32, I32, I32, I32]),
];

/// Lines.
const GPIO_FUNCTIONS: &[Function] = &[
    // (label, flags, pin out)
    f("get", &[I32, I32, I32, I32]),
    // (pin, state out)
    f("read", &[I32, I32]),
    // (pin, state)
    f("set_state", &[I32, I32]),
    // (pin, mode)
    f("set_pin_mode", &[I32, I32]),
    // (pin, edges)
    f("watch", &[I32, I32]),
    // (pin, milliseconds, event out)
    f("next_event", &[I32, I64, I32]),
    // (pin)
    f("drop", &[I32]),
];

/// I2C devices.
const I2C_FUNCTIONS: &[Function] = &[
    // (name, device out)
    f("open", &[I32, I32, I32]),
    // (device, buffer, length)
    f("read", &[I32, I32, I32]),
    // (device, data, length)
    f("write", &[I32, I32, I32]),
    // (device, data, length, buffer, length)
    f("write_read", &[I32, I32, I32, I32, I32]),
    // (device, operations, count)
    f("transaction", &[I32, I32, I32]),
];

/// SPI devices.
const SPI_FUNCTIONS: &[Function] = &[
    // (buffer, size, length out)
    f("get_device_names", &[I32, I32, I32]),
    // (name, device out)
    f("open_device", &[I32, I32, I32]),
    // (device, frequency, mode, least significant bit first)
    f("configure", &[I32, I32, I32, I32]),
    // (device, buffer, length)
    f("read", &[I32, I32, I32]),
    // (device, data, length)
    f("write", &[I32, I32, I32]),
    // (device, data, buffer, length of each)
    f("transfer", &[I32, I32, I32, I32]),
    // (device, operations, count)
    f("transaction", &[I32, I32, I32]),
];

/// Actuators.
const ACTUATOR_FUNCTIONS: &[Function] = &[
    // (name, value, milliseconds until the next may pass out, or 0)
    f("write", &[I32, I32, I32, I32, I32]),
];

/// WASI preview 1, but for `sock_*` (a payload has no network) and `proc_raise` (the signal would hit the runner).
const WASI_FUNCTIONS: &[Function] = &[
    f("args_get", &[I32, I32]),
    f("args_sizes_get", &[I32, I32]),
    f("clock_res_get", &[I32, I32]),
    f("clock_time_get", &[I32, I64, I32]),
    f("environ_get", &[I32, I32]),
    f("environ_sizes_get", &[I32, I32]),
    f("fd_advise", &[I32, I64, I64, I32]),
    f("fd_allocate", &[I32, I64, I64]),
    f("fd_close", &[I32]),
    f("fd_datasync", &[I32]),
    f("fd_fdstat_get", &[I32, I32]),
    f("fd_fdstat_set_flags", &[I32, I32]),
    f("fd_fdstat_set_rights", &[I32, I64, I64]),
    f("fd_filestat_get", &[I32, I32]),
    f("fd_filestat_set_size", &[I32, I64]),
    f("fd_filestat_set_times", &[I32, I64, I64, I32]),
    f("fd_pread", &[I32, I32, I32, I64, I32]),
    f("fd_prestat_dir_name", &[I32, I32, I32]),
    f("fd_prestat_get", &[I32, I32]),
    f("fd_pwrite", &[I32, I32, I32, I64, I32]),
    f("fd_read", &[I32, I32, I32, I32]),
    f("fd_readdir", &[I32, I32, I32, I64, I32]),
    f("fd_renumber", &[I32, I32]),
    f("fd_seek", &[I32, I64, I32, I32]),
    f("fd_sync", &[I32]),
    f("fd_tell", &[I32, I32]),
    f("fd_write", &[I32, I32, I32, I32]),
    f("path_create_directory", &[I32, I32, I32]),
    f("path_filestat_get", &[I32, I32, I32, I32, I32]),
    f("path_filestat_set_times", &[I32, I32, I32, I32, I64, I64, I32]),
    f("path_link", &[I32, I32, I32, I32, I32, I32, I32]),
    f("path_open", &[I32, I32, I32, I32, I32, I64, I64, I32, I32]),
    f("path_readlink", &[I32, I32, I32, I32, I32, I32]),
    f("path_remove_directory", &[I32, I32, I32]),
    f("path_rename", &[I32, I32, I32, I32, I32, I32]),
    f("path_symlink", &[I32, I32, I32, I32, I32]),
    f("path_unlink_file", &[I32, I32, I32]),
    f("poll_oneoff", &[I32, I32, I32, I32]),
    Function { name: "proc_exit", params: &[I32], results: &[] },
    f("random_get", &[I32, I32]),
    f("sched_yield", &[]),
];

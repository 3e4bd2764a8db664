//! The imports, each behind a function that takes slices.

#[link(wasm_import_module = "iotwasm")]
unsafe extern "C" {
    fn iotwasm_health(status: i32, message: *const u8, length: usize) -> i32;
    fn iotwasm_log(level: i32, message: *const u8, length: usize) -> i32;
    safe fn iotwasm_wait(milliseconds: i64) -> i32;
    safe fn iotwasm_hold_restart(seconds: i32) -> i32;
}

/// A health report: the status, and a message in UTF-8.
pub(crate) fn health(status: i32, message: &[u8]) -> i32 {
    // SAFETY: pointer and length are of one live slice, and the host only reads.
    unsafe { iotwasm_health(status, message.as_ptr(), message.len()) }
}

/// A log line with a syslog level.
pub(crate) fn log(level: i32, message: &[u8]) -> i32 {
    // SAFETY: pointer and length are of one live slice, and the host only reads.
    unsafe { iotwasm_log(level, message.as_ptr(), message.len()) }
}

/// Sleeps, and has the fuel refilled.
pub(crate) fn wait(milliseconds: i64) -> i32 {
    iotwasm_wait(milliseconds)
}

/// Asks that the device not be restarted; 0 releases.
pub(crate) fn hold_restart(seconds: i32) -> i32 {
    iotwasm_hold_restart(seconds)
}

pub(crate) use crate::delay::pause as delay;

/// `iotwasm_sensors`.
pub(crate) mod sensors {
    mod import {
        #[link(wasm_import_module = "iotwasm_sensors")]
        unsafe extern "C" {
            pub(super) fn get_sensors(buffer: *mut u8, size: usize, length: *mut u32) -> i32;
            pub(super) fn turn_on(name: *const u8, length: usize) -> i32;
            pub(super) fn turn_off(name: *const u8, length: usize) -> i32;
            pub(super) fn config(
                name: *const u8,
                name_length: usize,
                attribute: *const u8,
                attribute_length: usize,
                value: *const u8,
                value_length: usize,
            ) -> i32;
            pub(super) fn read(
                name: *const u8,
                name_length: usize,
                what: *const u8,
                what_length: usize,
                buffer: *mut u8,
                size: usize,
                length: *mut u32,
            ) -> i32;
        }
    }

    pub(crate) fn get_sensors(buffer: &mut [u8], length: &mut u32) -> i32 {
        // SAFETY: the host writes at most `size` bytes of the slice, and one number.
        unsafe { import::get_sensors(buffer.as_mut_ptr(), buffer.len(), length) }
    }

    pub(crate) fn turn_on(name: &str) -> i32 {
        // SAFETY: pointer and length are of one live text, and the host only reads.
        unsafe { import::turn_on(name.as_ptr(), name.len()) }
    }

    pub(crate) fn turn_off(name: &str) -> i32 {
        // SAFETY: pointer and length are of one live text, and the host only reads.
        unsafe { import::turn_off(name.as_ptr(), name.len()) }
    }

    pub(crate) fn config(name: &str, attribute: &str, value: &str) -> i32 {
        // SAFETY: each pointer and length are of one live text, and the host only reads.
        unsafe {
            import::config(name.as_ptr(), name.len(), attribute.as_ptr(), attribute.len(), value.as_ptr(), value.len())
        }
    }

    pub(crate) fn read(name: &str, what: &str, buffer: &mut [u8], length: &mut u32) -> i32 {
        // SAFETY: the texts are live and only read; the host writes at most `size` bytes of the slice, and one number.
        unsafe {
            import::read(
                name.as_ptr(),
                name.len(),
                what.as_ptr(),
                what.len(),
                buffer.as_mut_ptr(),
                buffer.len(),
                length,
            )
        }
    }
}

/// `iotwasm_gpio`.
pub(crate) mod gpio {
    use crate::abi::RawEvent;

    mod import {
        use crate::abi::RawEvent;

        #[link(wasm_import_module = "iotwasm_gpio")]
        unsafe extern "C" {
            pub(super) fn get(label: *const u8, length: usize, flags: u32, pin: *mut u32) -> i32;
            pub(super) fn read(pin: u32, state: *mut u32) -> i32;
            pub(super) safe fn set_state(pin: u32, state: u32) -> i32;
            pub(super) safe fn set_pin_mode(pin: u32, mode: u32) -> i32;
            pub(super) safe fn watch(pin: u32, edges: u32) -> i32;
            pub(super) fn next_event(pin: u32, milliseconds: i64, event: *mut RawEvent) -> i32;
            pub(super) safe fn drop(pin: u32) -> i32;
        }
    }

    pub(crate) fn get(label: &str, flags: u32, pin: &mut u32) -> i32 {
        // SAFETY: the text is live and only read; the host writes one number.
        unsafe { import::get(label.as_ptr(), label.len(), flags, pin) }
    }

    pub(crate) fn read(pin: u32, state: &mut u32) -> i32 {
        // SAFETY: the host writes one number.
        unsafe { import::read(pin, state) }
    }

    pub(crate) fn set_state(pin: u32, state: u32) -> i32 {
        import::set_state(pin, state)
    }

    pub(crate) fn set_pin_mode(pin: u32, mode: u32) -> i32 {
        import::set_pin_mode(pin, mode)
    }

    pub(crate) fn watch(pin: u32, edges: u32) -> i32 {
        import::watch(pin, edges)
    }

    pub(crate) fn next_event(pin: u32, milliseconds: i64, event: &mut RawEvent) -> i32 {
        // SAFETY: the host writes the 24 bytes that the struct has.
        unsafe { import::next_event(pin, milliseconds, event) }
    }

    pub(crate) fn drop(pin: u32) -> i32 {
        import::drop(pin)
    }
}

/// The number for what is too long to be sent at all.
const TOO_LONG: i32 = -3;

/// One operation of a transaction, as the host reads it.
#[derive(Clone, Copy)]
#[repr(C)]
struct RawOperation {
    kind: u32,
    pointer: *mut u8,
    length: usize,
}

const _: () = assert!(size_of::<RawOperation>() == 12);

/// The operations of one transaction, in a list of fixed size.
struct Operations<const MOST: usize> {
    list: [RawOperation; MOST],
    count: usize,
}

impl<const MOST: usize> Operations<MOST> {
    fn new() -> Self {
        let none = RawOperation { kind: 0, pointer: core::ptr::null_mut(), length: 0 };
        Self { list: [none; MOST], count: 0 }
    }

    fn push(&mut self, kind: u32, pointer: *mut u8, length: usize) -> Option<()> {
        *self.list.get_mut(self.count)? = RawOperation { kind, pointer, length };
        self.count += 1;
        Some(())
    }
}

const READ: u32 = 0;
const WRITE: u32 = 1;

/// `iotwasm_i2c`.
pub(crate) mod i2c {
    use embedded_hal::i2c::Operation;

    use super::{Operations, READ, TOO_LONG, WRITE};
    use crate::i2c::MAX_OPERATIONS;

    mod import {
        use super::super::RawOperation;

        #[link(wasm_import_module = "iotwasm_i2c")]
        unsafe extern "C" {
            pub(super) fn open(name: *const u8, length: usize, device: *mut u32) -> i32;
            pub(super) fn read(device: u32, buffer: *mut u8, length: usize) -> i32;
            pub(super) fn write(device: u32, data: *const u8, length: usize) -> i32;
            pub(super) fn write_read(
                device: u32,
                data: *const u8,
                data_length: usize,
                buffer: *mut u8,
                buffer_length: usize,
            ) -> i32;
            pub(super) fn transaction(device: u32, operations: *const RawOperation, count: usize) -> i32;
        }
    }

    pub(crate) fn open(name: &str, device: &mut u32) -> i32 {
        // SAFETY: the text is live and only read; the host writes one number.
        unsafe { import::open(name.as_ptr(), name.len(), device) }
    }

    pub(crate) fn read(device: u32, buffer: &mut [u8]) -> i32 {
        // SAFETY: the host writes no more than this slice.
        unsafe { import::read(device, buffer.as_mut_ptr(), buffer.len()) }
    }

    pub(crate) fn write(device: u32, data: &[u8]) -> i32 {
        // SAFETY: pointer and length are of one live slice, and the host only reads.
        unsafe { import::write(device, data.as_ptr(), data.len()) }
    }

    pub(crate) fn write_read(device: u32, data: &[u8], buffer: &mut [u8]) -> i32 {
        // SAFETY: both slices are live; the host reads the first and writes no more than the second.
        unsafe { import::write_read(device, data.as_ptr(), data.len(), buffer.as_mut_ptr(), buffer.len()) }
    }

    pub(crate) fn transaction(device: u32, operations: &mut [Operation<'_>]) -> i32 {
        let mut raw = Operations::<MAX_OPERATIONS>::new();
        for operation in operations {
            let pushed = match operation {
                Operation::Read(buffer) => raw.push(READ, buffer.as_mut_ptr(), buffer.len()),
                // The host only reads what is written to the device.
                Operation::Write(data) => raw.push(WRITE, data.as_ptr().cast_mut(), data.len()),
            };
            if pushed.is_none() {
                return TOO_LONG;
            }
        }
        // SAFETY: the list holds `count` operations, each of one live slice; the host writes those that read.
        unsafe { import::transaction(device, raw.list.as_ptr(), raw.count) }
    }
}

/// `iotwasm_spi`.
pub(crate) mod spi {
    use embedded_hal::spi::Operation;

    use super::{Operations, READ, TOO_LONG, WRITE};
    use crate::spi::MAX_OPERATIONS;

    const TRANSFER: u32 = 2;
    const DELAY_NS: u32 = 3;

    mod import {
        use super::super::RawOperation;

        #[link(wasm_import_module = "iotwasm_spi")]
        unsafe extern "C" {
            pub(super) fn get_device_names(buffer: *mut u8, size: usize, length: *mut u32) -> i32;
            pub(super) fn open_device(name: *const u8, length: usize, device: *mut u32) -> i32;
            pub(super) safe fn configure(device: u32, frequency: u32, mode: u32, lsb_first: u32) -> i32;
            pub(super) fn read(device: u32, buffer: *mut u8, length: usize) -> i32;
            pub(super) fn write(device: u32, data: *const u8, length: usize) -> i32;
            pub(super) fn transfer(device: u32, data: *const u8, buffer: *mut u8, length: usize) -> i32;
            pub(super) fn transaction(device: u32, operations: *const RawOperation, count: usize) -> i32;
        }
    }

    pub(crate) fn get_device_names(buffer: &mut [u8], length: &mut u32) -> i32 {
        // SAFETY: the host writes at most `size` bytes of the slice, and one number.
        unsafe { import::get_device_names(buffer.as_mut_ptr(), buffer.len(), length) }
    }

    pub(crate) fn open_device(name: &str, device: &mut u32) -> i32 {
        // SAFETY: the text is live and only read; the host writes one number.
        unsafe { import::open_device(name.as_ptr(), name.len(), device) }
    }

    pub(crate) fn configure(device: u32, frequency: u32, mode: u32, lsb_first: u32) -> i32 {
        import::configure(device, frequency, mode, lsb_first)
    }

    pub(crate) fn read(device: u32, buffer: &mut [u8]) -> i32 {
        // SAFETY: the host writes no more than this slice.
        unsafe { import::read(device, buffer.as_mut_ptr(), buffer.len()) }
    }

    pub(crate) fn write(device: u32, data: &[u8]) -> i32 {
        // SAFETY: pointer and length are of one live slice, and the host only reads.
        unsafe { import::write(device, data.as_ptr(), data.len()) }
    }

    /// Leaves out what has no bytes.
    fn push_some(raw: &mut Operations<MAX_OPERATIONS>, kind: u32, pointer: *mut u8, length: usize) -> Option<()> {
        if length == 0 { Some(()) } else { raw.push(kind, pointer, length) }
    }

    /// Both slices have one length: the caller's duty.
    pub(crate) fn transfer(device: u32, data: &[u8], buffer: &mut [u8]) -> i32 {
        let length = data.len().min(buffer.len());
        // SAFETY: `length` is within both live slices; the host reads the first and writes no more than the second.
        unsafe { import::transfer(device, data.as_ptr(), buffer.as_mut_ptr(), length) }
    }

    pub(crate) fn transaction(device: u32, operations: &mut [Operation<'_, u8>]) -> i32 {
        let mut raw = Operations::<MAX_OPERATIONS>::new();
        for operation in operations {
            let pushed = match operation {
                Operation::Read(buffer) => raw.push(READ, buffer.as_mut_ptr(), buffer.len()),
                // The host only reads what is written to the device.
                Operation::Write(data) => raw.push(WRITE, data.as_ptr().cast_mut(), data.len()),
                Operation::TransferInPlace(buffer) => raw.push(TRANSFER, buffer.as_mut_ptr(), buffer.len()),
                Operation::Transfer(buffer, data) => {
                    // The host transfers in place. What the shorter side lacks is zeros out, or bytes that nobody takes.
                    let rest = &data[crate::spi::in_place(buffer, data)..];
                    let both = push_some(&mut raw, TRANSFER, buffer.as_mut_ptr(), buffer.len());
                    both.and_then(|()| push_some(&mut raw, WRITE, rest.as_ptr().cast_mut(), rest.len()))
                }
                Operation::DelayNs(ns) => raw.push(DELAY_NS, core::ptr::null_mut(), *ns as usize),
            };
            if pushed.is_none() {
                return TOO_LONG;
            }
        }
        // SAFETY: the list holds `count` operations, each of one live slice; the host writes those that read.
        unsafe { import::transaction(device, raw.list.as_ptr(), raw.count) }
    }
}

/// `iotwasm_actuators`.
pub(crate) mod actuators {
    mod import {
        #[link(wasm_import_module = "iotwasm_actuators")]
        unsafe extern "C" {
            pub(super) fn write(
                name: *const u8,
                name_length: usize,
                value: *const u8,
                value_length: usize,
                retry_ms: *mut u32,
            ) -> i32;
        }
    }

    pub(crate) fn write(name: &str, value: &str, retry_ms: &mut u32) -> i32 {
        // SAFETY: both texts are live and only read; the host writes one number.
        unsafe { import::write(name.as_ptr(), name.len(), value.as_ptr(), value.len(), retry_ms) }
    }
}

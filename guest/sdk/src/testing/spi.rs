//! SPI devices that a test plays.

use embedded_hal::spi::Operation;

use super::{fill, number, with};
use crate::{Error, spi::MAX_OPERATIONS};

/// An SPI device, as a test plays it. [`Loopback`] is one; a closure with this parameter is another.
pub trait SpiDevice {
    /// Does these operations while the device is selected.
    ///
    /// # Errors
    /// What the payload is to get.
    fn transaction(&mut self, operations: &mut [Operation<'_, u8>]) -> Result<(), Error>;
}

impl<F: FnMut(&mut [Operation<'_, u8>]) -> Result<(), Error>> SpiDevice for F {
    fn transaction(&mut self, operations: &mut [Operation<'_, u8>]) -> Result<(), Error> {
        self(operations)
    }
}

/// A wire from the output to the input: what goes out comes in.
#[derive(Debug, Clone, Copy, Default)]
pub struct Loopback;

impl SpiDevice for Loopback {
    fn transaction(&mut self, operations: &mut [Operation<'_, u8>]) -> Result<(), Error> {
        for operation in operations {
            match operation {
                // While it only reads, a master sends zeros.
                Operation::Read(buffer) => buffer.fill(0),
                Operation::Transfer(buffer, data) => {
                    crate::spi::in_place(buffer, data);
                }
                Operation::TransferInPlace(_) | Operation::Write(_) | Operation::DelayNs(_) => {}
            }
        }
        Ok(())
    }
}

/// A device, its name and how the board has set it up; the device is away while it does a transaction.
pub(super) struct Entry {
    name: String,
    frequency_hz: u32,
    mode: u8,
    device: Option<Box<dyn SpiDevice>>,
}

/// Adds a device with the clock and the mode of the board file, or replaces the one of this name.
pub fn add_spi(name: &str, frequency_hz: u32, mode: u8, device: impl SpiDevice + 'static) {
    let new = Entry { name: name.to_owned(), frequency_hz, mode, device: Some(Box::new(device)) };
    with(|world| match world.spi.iter_mut().find(|entry| entry.name == name) {
        Some(entry) => *entry = new,
        None => world.spi.push(new),
    });
}

pub(crate) fn get_device_names(buffer: &mut [u8], length: &mut u32) -> i32 {
    let names: Vec<_> = with(|world| world.spi.iter().map(|entry| entry.name.clone()).collect());
    number(fill(&names.join("\n"), buffer, length))
}

pub(crate) fn open_device(name: &str, device: &mut u32) -> i32 {
    number(with(|world| {
        world.failure(name)?;
        *device = world.spi.iter().position(|entry| entry.name == name).ok_or(Error::NotFound)? as u32;
        Ok(())
    }))
}

pub(crate) fn configure(device: u32, frequency: u32, mode: u32, lsb_first: u32) -> i32 {
    number(with(|world| {
        let entry = world.spi.get(device as usize).ok_or(Error::BadArgument)?;
        let agreed = entry.frequency_hz == frequency && u32::from(entry.mode) == mode && lsb_first == 0;
        if agreed { Ok(()) } else { Err(Error::ModeNotAllowed) }
    }))
}

pub(crate) fn read(device: u32, buffer: &mut [u8]) -> i32 {
    transaction(device, &mut [Operation::Read(buffer)])
}

pub(crate) fn write(device: u32, data: &[u8]) -> i32 {
    transaction(device, &mut [Operation::Write(data)])
}

pub(crate) fn transfer(device: u32, data: &[u8], buffer: &mut [u8]) -> i32 {
    transaction(device, &mut [Operation::Transfer(buffer, data)])
}

/// How many operations of the host one is: a transfer leaves out the side that has no bytes.
fn sent(operation: &Operation<'_, u8>) -> usize {
    match operation {
        Operation::Transfer(buffer, data) => usize::from(!buffer.is_empty()) + usize::from(data.len() > buffer.len()),
        _ => 1,
    }
}

pub(crate) fn transaction(device: u32, operations: &mut [Operation<'_, u8>]) -> i32 {
    let mut run = || {
        let place = device as usize;
        let mut away = with(|world| {
            let name = world.spi.get(place).ok_or(Error::BadArgument)?.name.clone();
            world.failure(&name)?;
            world.spi[place].device.take().ok_or(Error::AlreadyInUse)
        })?;
        let fits = operations.iter().map(sent).sum::<usize>() <= MAX_OPERATIONS;
        let result = if fits { away.transaction(operations) } else { Err(Error::TooLong) };
        with(|world| world.spi.get_mut(place).map(|entry| entry.device.get_or_insert(away)).is_some());
        result
    };
    number(run())
}

//! I2C devices that a test plays.

use std::cell::RefCell;
use std::rc::Rc;

use embedded_hal::i2c::Operation;

use super::{number, with};
use crate::{Error, i2c::MAX_OPERATIONS};

/// Most messages of a transaction.
const MAX_MESSAGES: usize = 42;

/// An I2C device, as a test plays it. [`Registers`] is one; a closure with this parameter is another.
pub trait I2cDevice {
    /// Does these operations, with no stop between.
    ///
    /// # Errors
    /// What the payload is to get.
    fn transaction(&mut self, operations: &mut [Operation<'_>]) -> Result<(), Error>;
}

impl<F: FnMut(&mut [Operation<'_>]) -> Result<(), Error>> I2cDevice for F {
    fn transaction(&mut self, operations: &mut [Operation<'_>]) -> Result<(), Error> {
        self(operations)
    }
}

/// A device with 256 registers of one byte, as most are: the first byte of a message is a register's address, and whatever
/// follows goes on from there. Clones are the same device.
#[derive(Clone)]
pub struct Registers(Rc<RefCell<Chip>>);

struct Chip {
    bytes: [u8; 256],
    at: u8,
}

impl Registers {
    /// With these bytes from these addresses on, and zeros.
    #[must_use]
    pub fn new(content: &[(u8, &[u8])]) -> Self {
        let registers = Self(Rc::new(RefCell::new(Chip { bytes: [0; 256], at: 0 })));
        for (from, bytes) in content {
            registers.set(*from, bytes);
        }
        registers
    }

    /// Puts these bytes from this address on.
    pub fn set(&self, from: u8, bytes: &[u8]) {
        let mut chip = self.0.borrow_mut();
        chip.at = from;
        chip.write(bytes);
    }

    /// The byte at this address.
    #[must_use]
    pub fn get(&self, register: u8) -> u8 {
        self.0.borrow().bytes[usize::from(register)]
    }
}

impl Chip {
    fn next(&mut self) -> &mut u8 {
        let at = self.at;
        self.at = at.wrapping_add(1);
        &mut self.bytes[usize::from(at)]
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            *self.next() = *byte;
        }
    }
}

impl I2cDevice for Registers {
    fn transaction(&mut self, operations: &mut [Operation<'_>]) -> Result<(), Error> {
        let mut chip = self.0.borrow_mut();
        for operation in operations {
            match operation {
                Operation::Write([register, bytes @ ..]) => {
                    chip.at = *register;
                    chip.write(bytes);
                }
                Operation::Write([]) => {}
                Operation::Read(buffer) => buffer.iter_mut().for_each(|byte| *byte = *chip.next()),
            }
        }
        Ok(())
    }
}

/// A device and its name; the device is away while it does a transaction.
pub(super) struct Entry {
    name: String,
    device: Option<Box<dyn I2cDevice>>,
}

/// Adds a device, or replaces the one of this name.
pub fn add_i2c(name: &str, device: impl I2cDevice + 'static) {
    let device: Option<Box<dyn I2cDevice>> = Some(Box::new(device));
    with(|world| match world.i2c.iter_mut().find(|entry| entry.name == name) {
        Some(entry) => entry.device = device,
        None => world.i2c.push(Entry { name: name.to_owned(), device }),
    });
}

pub(crate) fn open(name: &str, device: &mut u32) -> i32 {
    number(with(|world| {
        world.failure(name)?;
        *device = world.i2c.iter().position(|entry| entry.name == name).ok_or(Error::NotFound)? as u32;
        Ok(())
    }))
}

pub(crate) fn read(device: u32, buffer: &mut [u8]) -> i32 {
    transaction(device, &mut [Operation::Read(buffer)])
}

pub(crate) fn write(device: u32, data: &[u8]) -> i32 {
    transaction(device, &mut [Operation::Write(data)])
}

pub(crate) fn write_read(device: u32, data: &[u8], buffer: &mut [u8]) -> i32 {
    transaction(device, &mut [Operation::Write(data), Operation::Read(buffer)])
}

/// How many are left when those of one kind that follow each other are joined.
fn messages(operations: &[Operation<'_>]) -> usize {
    operations.chunk_by(|a, b| matches!(a, Operation::Read(_)) == matches!(b, Operation::Read(_))).count()
}

pub(crate) fn transaction(device: u32, operations: &mut [Operation<'_>]) -> i32 {
    let mut run = || {
        let place = device as usize;
        let mut away = with(|world| {
            let name = world.i2c.get(place).ok_or(Error::BadArgument)?.name.clone();
            world.failure(&name)?;
            world.i2c[place].device.take().ok_or(Error::AlreadyInUse)
        })?;
        let fits = operations.len() <= MAX_OPERATIONS && messages(operations) <= MAX_MESSAGES;
        let result = if fits { away.transaction(operations) } else { Err(Error::TooLong) };
        with(|world| world.i2c.get_mut(place).map(|entry| entry.device.get_or_insert(away)).is_some());
        result
    };
    number(run())
}

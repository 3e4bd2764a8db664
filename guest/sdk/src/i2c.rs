//! I2C devices. A payload reaches a device, not a bus: its name stands for the adapter and the address, which are the board
//! file's. There, too, is which registers may be read and written, and how long a message may be.
//!
//! [`Device`] is for code that is written for it. [`Bus`] is the same device for drivers that want embedded-hal's `I2c`.

use embedded_hal::i2c::{ErrorType, I2c, Operation};

use crate::abi;
use crate::error::{Error, check};

/// Most operations of a transaction.
pub(crate) const MAX_OPERATIONS: usize = 128;

/// An I2C device that was granted.
///
/// Only a handle, good for as long as the payload runs: it may be copied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Device(u32);

impl Device {
    /// The device with this name of the board file. Nothing is sent to it yet.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::NotAllowed`].
    pub fn open(name: &str) -> Result<Self, Error> {
        let mut device = 0;
        check(abi::i2c::open(name, &mut device)).map(|()| Self(device))
    }

    /// Fills the buffer from the device. Refused where the board has rules for registers: use [`Self::write_read`].
    ///
    /// # Errors
    /// [`Error::ModeNotAllowed`], [`Error::NoAcknowledgeAddress`], …
    pub fn read(self, buffer: &mut [u8]) -> Result<(), Error> {
        check(abi::i2c::read(self.0, buffer))
    }

    /// Sends bytes.
    ///
    /// # Errors
    /// [`Error::ModeNotAllowed`], [`Error::TooLong`], [`Error::NoAcknowledgeData`], …
    pub fn write(self, data: &[u8]) -> Result<(), Error> {
        check(abi::i2c::write(self.0, data))
    }

    /// Sends bytes, usually a register's address, and fills the buffer, with a repeated start between.
    ///
    /// # Errors
    /// [`Error::ModeNotAllowed`], [`Error::TooLong`], …
    pub fn write_read(self, data: &[u8], buffer: &mut [u8]) -> Result<(), Error> {
        check(abi::i2c::write_read(self.0, data, buffer))
    }

    /// Several operations without a stop between. At most 128; and at most 42 messages, to which those of one kind that follow
    /// each other are joined. All are judged before the first is sent.
    ///
    /// # Errors
    /// [`Error::ModeNotAllowed`], [`Error::TooLong`], …
    pub fn transaction(self, operations: &mut [Operation<'_>]) -> Result<(), Error> {
        if operations.is_empty() { Ok(()) } else { check(abi::i2c::transaction(self.0, operations)) }
    }

    /// The device for drivers that want embedded-hal's `I2c`.
    #[must_use]
    pub fn into_bus(self) -> Bus {
        Bus { device: self, address: None }
    }
}

/// A device as embedded-hal's `I2c`.
///
/// Drivers give an address with each transfer. The device's is the board file's, so the first address that the driver uses
/// stands for the device, whatever it is; at any other, nobody acknowledges.
#[derive(Debug)]
pub struct Bus {
    device: Device,
    address: Option<u8>,
}

impl Bus {
    /// [`Device::open`] and [`Device::into_bus`].
    ///
    /// # Errors
    /// As [`Device::open`].
    pub fn open(name: &str) -> Result<Self, Error> {
        Device::open(name).map(Device::into_bus)
    }

    fn at(&mut self, address: u8) -> Result<Device, Error> {
        /// Those that I2C does not reserve: a call to all devices, for one, is not this device's.
        const DEVICES: core::ops::RangeInclusive<u8> = 0x08..=0x77;
        if DEVICES.contains(&address) && *self.address.get_or_insert(address) == address {
            Ok(self.device)
        } else {
            Err(Error::NoAcknowledgeAddress)
        }
    }
}

impl ErrorType for Bus {
    type Error = Error;
}

impl I2c for Bus {
    fn read(&mut self, address: u8, buffer: &mut [u8]) -> Result<(), Error> {
        self.at(address)?.read(buffer)
    }

    fn write(&mut self, address: u8, data: &[u8]) -> Result<(), Error> {
        self.at(address)?.write(data)
    }

    fn write_read(&mut self, address: u8, data: &[u8], buffer: &mut [u8]) -> Result<(), Error> {
        self.at(address)?.write_read(data, buffer)
    }

    fn transaction(&mut self, address: u8, operations: &mut [Operation<'_>]) -> Result<(), Error> {
        self.at(address)?.transaction(operations)
    }
}

#[cfg(test)]
mod tests {
    use embedded_hal::i2c::{Error as _, ErrorKind, I2c, NoAcknowledgeSource, Operation};

    use super::{Bus, Device, Error};
    use crate::testing::{self, Registers};

    fn eeprom() -> Registers {
        testing::reset();
        let registers = Registers::new(&[(0x10, &[1, 2, 3, 4])]);
        testing::add_i2c("eeprom", registers.clone());
        registers
    }

    #[test]
    fn registers_are_written_and_read_back() {
        let registers = eeprom();
        let device = Device::open("eeprom").unwrap();
        let mut bytes = [0; 3];
        device.write_read(&[0x11], &mut bytes).unwrap();
        assert_eq!(bytes, [2, 3, 4]);
        device.write(&[0x20, 7, 8]).unwrap();
        assert_eq!((registers.get(0x20), registers.get(0x21)), (7, 8));
        device.write(&[0x20]).unwrap();
        device.read(&mut bytes[..2]).unwrap();
        assert_eq!(bytes, [7, 8, 4]);
        assert_eq!(Device::open("fan"), Err(Error::NotFound));
    }

    #[test]
    fn a_transaction_has_all_of_its_operations_done_in_order() {
        let registers = eeprom();
        let device = Device::open("eeprom").unwrap();
        let (mut first, mut second) = ([0; 2], [0; 1]);
        device
            .transaction(&mut [
                Operation::Write(&[0x12]),
                Operation::Read(&mut first),
                Operation::Write(&[0x30, 9]),
                Operation::Write(&[0x30]),
                Operation::Read(&mut second),
            ])
            .unwrap();
        assert_eq!((first, second, registers.get(0x30)), ([3, 4], [9], 9));
        device.transaction(&mut []).unwrap();
        let mut many: Vec<_> = (0..129).map(|_| Operation::Write(&[0x10])).collect();
        assert_eq!(device.transaction(&mut many), Err(Error::TooLong));
        let mut bytes = [[0; 1]; 22];
        let mut alternating: Vec<_> =
            bytes.iter_mut().flat_map(|byte| [Operation::Write(&[0x10]), Operation::Read(byte)]).collect();
        assert_eq!(device.transaction(&mut alternating), Err(Error::TooLong));
        device.transaction(&mut alternating[..42]).unwrap();
    }

    #[test]
    fn a_driver_reaches_the_device_at_the_one_address_that_it_uses() {
        eeprom();
        let mut bus = Bus::open("eeprom").unwrap();
        assert_eq!(I2c::write(&mut bus, 0x00, &[0x06]), Err(Error::NoAcknowledgeAddress));
        let mut byte = [0];
        bus.write_read(0x50, &[0x10], &mut byte).unwrap();
        assert_eq!(byte, [1]);
        let elsewhere = bus.write_read(0x51, &[0x10], &mut byte).unwrap_err();
        assert_eq!(elsewhere.kind(), ErrorKind::NoAcknowledge(NoAcknowledgeSource::Address));
        bus.transaction(0x50, &mut [Operation::Write(&[0x11]), Operation::Read(&mut byte)]).unwrap();
        assert_eq!(byte, [2]);
    }

    #[test]
    fn what_the_bus_says_reaches_the_driver() {
        eeprom();
        let mut bus = Bus::open("eeprom").unwrap();
        testing::fail_next("eeprom", Error::NoAcknowledgeData);
        assert_eq!(
            I2c::write(&mut bus, 0x50, &[0, 0]).unwrap_err().kind(),
            ErrorKind::NoAcknowledge(NoAcknowledgeSource::Data)
        );
    }
}

//! SPI devices. As with I2C, a payload reaches a device and not a bus. Mode, clock and word are the board file's; nothing
//! that a payload does changes them.
//!
//! [`Device`] is also embedded-hal's `SpiDevice`: what is between two calls is never with the chip selected.

use embedded_hal::spi::{ErrorType, Operation, SpiDevice};

use crate::abi;
use crate::error::{Error, check};
use crate::sensors::{Names, filled};

/// Most operations of a transaction.
pub(crate) const MAX_OPERATIONS: usize = 64;

/// An SPI device that was granted.
///
/// Only a handle, good for as long as the payload runs.
#[derive(Debug, PartialEq, Eq)]
pub struct Device(u32);

impl Device {
    /// The device with this name of the board file. Nothing is sent to it yet.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::NotAllowed`].
    pub fn open(name: &str) -> Result<Self, Error> {
        let mut device = 0;
        check(abi::spi::open_device(name, &mut device)).map(|()| Self(device))
    }

    /// Makes sure that the board set the device up as the payload expects it; changes nothing. The mode is 0 to 3.
    ///
    /// # Errors
    /// [`Error::ModeNotAllowed`] if the board has it otherwise.
    pub fn configure(&self, frequency_hz: u32, mode: u8, lsb_first: bool) -> Result<(), Error> {
        check(abi::spi::configure(self.0, frequency_hz, mode.into(), lsb_first.into()))
    }
}

/// The names of all SPI devices that were granted.
///
/// # Errors
/// [`Error::BufferTooSmall`], …
pub fn list(buffer: &mut [u8]) -> Result<Names<'_>, Error> {
    let mut length = 0;
    let number = abi::spi::get_device_names(buffer, &mut length);
    filled(number, buffer, length).map(|text| Names(text.lines()))
}

impl ErrorType for Device {
    type Error = Error;
}

impl SpiDevice for Device {
    /// At most 64 operations, pauses included. A `Transfer` that writes more than it reads counts as two, and has to be granted
    /// `write`, too.
    fn transaction(&mut self, operations: &mut [Operation<'_, u8>]) -> Result<(), Error> {
        if operations.is_empty() { Ok(()) } else { check(abi::spi::transaction(self.0, operations)) }
    }

    fn read(&mut self, buffer: &mut [u8]) -> Result<(), Error> {
        check(abi::spi::read(self.0, buffer))
    }

    fn write(&mut self, data: &[u8]) -> Result<(), Error> {
        check(abi::spi::write(self.0, data))
    }

    fn transfer(&mut self, buffer: &mut [u8], data: &[u8]) -> Result<(), Error> {
        if buffer.len() == data.len() {
            check(abi::spi::transfer(self.0, data, buffer))
        } else {
            self.transaction(&mut [Operation::Transfer(buffer, data)])
        }
    }
}

/// Puts what is to be sent where the answer will be, zeros where there is no more. How many bytes of `data` that took.
pub(crate) fn in_place(buffer: &mut [u8], data: &[u8]) -> usize {
    let both = buffer.len().min(data.len());
    buffer[..both].copy_from_slice(&data[..both]);
    buffer[both..].fill(0);
    both
}

#[cfg(test)]
mod tests {
    use embedded_hal::spi::{Error as _, ErrorKind, Operation, SpiDevice};

    use super::{Device, Error, in_place, list};
    use crate::testing::{self, Loopback};

    fn device() -> Device {
        testing::reset();
        testing::add_spi("loop", 1_000_000, 0, Loopback);
        Device::open("loop").unwrap()
    }

    #[test]
    fn a_transfer_brings_back_what_a_loop_sends() {
        let mut device = device();
        let mut answer = [0; 3];
        device.transfer(&mut answer, &[1, 2, 3]).unwrap();
        assert_eq!(answer, [1, 2, 3]);
        device.transfer_in_place(&mut answer).unwrap();
        assert_eq!(answer, [1, 2, 3]);
        device.transfer(&mut answer, &[9]).unwrap();
        assert_eq!(answer, [9, 0, 0]);
        device.transfer(&mut answer[..1], &[7, 8]).unwrap();
        assert_eq!(answer, [7, 0, 0]);
        device.read(&mut answer).unwrap();
        assert_eq!(answer, [0; 3]);
        let (mut read, write) = ([1; 2], [5, 6]);
        device
            .transaction(&mut [
                Operation::Write(&write),
                Operation::DelayNs(1_000),
                Operation::Read(&mut read),
                Operation::TransferInPlace(&mut answer),
            ])
            .unwrap();
        assert_eq!(read, [0; 2]);
        device.transaction(&mut []).unwrap();
    }

    #[test]
    fn more_operations_than_a_transaction_has_are_refused() {
        let mut device = device();
        let mut many: Vec<_> = (0..65).map(|_| Operation::Write(&[1])).collect();
        assert_eq!(device.transaction(&mut many), Err(Error::TooLong));
        device.transaction(&mut many[..64]).unwrap();
        let mut buffers = [[0; 1]; 33];
        let mut twice: Vec<_> = buffers.iter_mut().map(|buffer| Operation::Transfer(buffer, &[1, 2])).collect();
        assert_eq!(device.transaction(&mut twice), Err(Error::TooLong));
        device.transaction(&mut twice[..32]).unwrap();
    }

    #[test]
    fn configure_only_agrees() {
        let device = device();
        assert_eq!(device.configure(1_000_000, 0, false), Ok(()));
        for (frequency, mode, lsb_first) in [(2_000_000, 0, false), (1_000_000, 1, false), (1_000_000, 0, true)] {
            assert_eq!(device.configure(frequency, mode, lsb_first), Err(Error::ModeNotAllowed));
        }
    }

    #[test]
    fn names_and_errors_reach_the_payload() {
        let mut device = device();
        assert_eq!(list(&mut [0; 16]).unwrap().collect::<Vec<_>>(), ["loop"]);
        assert_eq!(list(&mut [0; 2]).unwrap_err(), Error::BufferTooSmall { needed: 4 });
        assert_eq!(Device::open("display"), Err(Error::NotFound));
        testing::fail_next("loop", Error::ChipSelectFault);
        assert_eq!(device.write(&[1]).unwrap_err().kind(), ErrorKind::ChipSelectFault);
    }

    #[test]
    fn what_the_shorter_side_lacks_is_zeros_or_left_over() {
        let mut buffer = [9; 3];
        assert_eq!(in_place(&mut buffer, &[1]), 1);
        assert_eq!(buffer, [1, 0, 0]);
        assert_eq!(in_place(&mut buffer, &[1, 2, 3, 4]), 3);
        assert_eq!(buffer, [1, 2, 3]);
    }
}

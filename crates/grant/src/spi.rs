//! The judge of SPI: which way and how much. Mode, clock and word are the board's and not in question.

use crate::access::SpiTransfer;
use crate::grant::SpiGrant;

/// Most operations of a transaction.
pub const MAX_OPERATIONS: usize = 64;

/// One operation of a transaction; the chip stays selected from the first to the last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// So many bytes from the device.
    Read(usize),
    /// So many bytes to the device.
    Write(usize),
    /// So many bytes both ways at once: the longer of the two.
    Transfer(usize),
}

/// Why a transaction may not be sent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SpiDenial {
    /// This way of talking to the device was not granted.
    #[error("{transfer} is not granted")]
    Transfer {
        /// Which.
        transfer: SpiTransfer,
    },
    /// No operation, or one without a byte.
    #[error("nothing to transfer")]
    Empty,
    /// More operations than one transaction has.
    #[error("{count} operations; at most {MAX_OPERATIONS} are allowed")]
    TooMany {
        /// How many.
        count: usize,
    },
    /// The operations together are too long.
    #[error("{length} bytes; at most {limit} are allowed in one transaction")]
    TooLong {
        /// Their length, in bytes.
        length: usize,
        /// The limit, in bytes.
        limit: u32,
    },
    /// A length that breaks a word.
    #[error("{length} bytes are no whole number of words of {word} bytes")]
    BrokenWord {
        /// The length, in bytes.
        length: usize,
        /// Bytes of a word.
        word: usize,
    },
}

impl SpiGrant {
    /// Judges a transaction.
    ///
    /// # Errors
    /// The first reason why it may not be sent. Nothing of it may be sent then.
    pub fn judge(&self, operations: &[Operation]) -> Result<(), SpiDenial> {
        if operations.is_empty() {
            return Err(SpiDenial::Empty);
        }
        if operations.len() > MAX_OPERATIONS {
            return Err(SpiDenial::TooMany { count: operations.len() });
        }
        let word = usize::from(self.device.bits_per_word / 8).max(1);
        let mut total = 0_usize;
        for operation in operations {
            let (transfer, length) = match *operation {
                Operation::Read(length) => (SpiTransfer::Read, length),
                Operation::Write(length) => (SpiTransfer::Write, length),
                Operation::Transfer(length) => (SpiTransfer::Transfer, length),
            };
            if !self.device.transfers.contains(&transfer) {
                return Err(SpiDenial::Transfer { transfer });
            }
            if length == 0 {
                return Err(SpiDenial::Empty);
            }
            if length % word != 0 {
                return Err(SpiDenial::BrokenWord { length, word });
            }
            total = total.saturating_add(length);
        }
        if total as u64 > u64::from(self.device.max_length) {
            return Err(SpiDenial::TooLong { length: total, limit: self.device.max_length });
        }
        Ok(())
    }
}

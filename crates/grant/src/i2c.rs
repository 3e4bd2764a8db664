//! The judge of I2C: which bytes may go to a device and from which of its registers some may come. The address is not in
//! question: it is the grant's.
//!
//! What is judged is what is to be sent: the judge joins the operations that the bus would join and gives back the
//! messages. Nothing else can make a [`Transaction`].

use crate::access::{Access, I2cTransfer};
use crate::board::I2cDevice;
use crate::grant::I2cGrant;

/// Most messages of a transaction: what the kernel takes in one call.
pub const MAX_MESSAGES: usize = 42;
/// Most operations of a transaction before they are joined.
pub const MAX_OPERATIONS: usize = 128;

/// One operation of a transaction, as a payload asks for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation<'a> {
    /// So many bytes from the device.
    Read(usize),
    /// These bytes to the device.
    Write(&'a [u8]),
}

/// One message on the bus; between two there is a repeated start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    /// So many bytes from the device.
    Read(usize),
    /// These bytes to the device.
    Write(Vec<u8>),
}

/// Messages that may be sent, to this address and in this order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transaction {
    address: u8,
    messages: Vec<Message>,
}

impl Transaction {
    /// The device's 7-bit address.
    #[must_use]
    pub fn address(&self) -> u8 {
        self.address
    }

    /// What to send, to the last message. Never empty; reads and writes alternate.
    #[must_use]
    pub fn messages(&self) -> &[Message] {
        &self.messages
    }
}

/// Why a transaction may not be sent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum I2cDenial {
    /// This way of talking to the device was not granted.
    #[error("{transfer} is not granted")]
    Transfer {
        /// Which.
        transfer: I2cTransfer,
    },
    /// No operation, or one without a byte: a device would still see its address.
    #[error("nothing to transfer")]
    Empty,
    /// More operations than one transaction has.
    #[error("{count} operations; at most {limit} are allowed")]
    TooMany {
        /// How many.
        count: usize,
        /// The limit.
        limit: usize,
    },
    /// A message that is too long.
    #[error("a message of {length} bytes; at most {limit} are allowed")]
    TooLong {
        /// Its length, in bytes.
        length: usize,
        /// The limit, in bytes.
        limit: u32,
    },
    /// The device has rules for its registers, and this does not say which one, or says more than a register's address.
    #[error("the board has rules for this device's registers: {expected}")]
    Shape {
        /// What would say it.
        expected: &'static str,
    },
    /// A register that may not be reached so.
    #[error("register {register:#04x} may not be {}", if *write { "written" } else { "read" })]
    Register {
        /// The first of them.
        register: u32,
        /// False for a read.
        write: bool,
    },
}

impl I2cGrant {
    /// Judges a transaction.
    ///
    /// # Errors
    /// The first reason why it may not be sent. Nothing of it may be sent then.
    pub fn judge(&self, operations: &[Operation<'_>]) -> Result<Transaction, I2cDenial> {
        let messages = join(operations, self.device.max_length)?;
        let mut rest = messages.as_slice();
        loop {
            rest = match rest {
                [] => break,
                [Message::Write(out), Message::Read(length), rest @ ..] => {
                    self.may(I2cTransfer::WriteRead)?;
                    self.judge_write_read(out, *length)?;
                    rest
                }
                [Message::Write(out), rest @ ..] => {
                    self.may(I2cTransfer::Write)?;
                    self.judge_write(out)?;
                    rest
                }
                [Message::Read(_), rest @ ..] => {
                    self.may(I2cTransfer::Read)?;
                    if self.device.registers.is_some() {
                        return Err(I2cDenial::Shape { expected: "use write_read, which says from which one to read" });
                    }
                    rest
                }
            };
        }
        Ok(Transaction { address: self.device.address, messages })
    }

    fn may(&self, transfer: I2cTransfer) -> Result<(), I2cDenial> {
        if self.device.transfers.contains(&transfer) { Ok(()) } else { Err(I2cDenial::Transfer { transfer }) }
    }

    fn judge_write_read(&self, out: &[u8], length: usize) -> Result<(), I2cDenial> {
        let device = &self.device;
        let (register, data) = split(device, out)?;
        if device.registers.is_none() {
            // Without the right to write, what goes out before a read must not become a write of its own.
            if !data.is_empty() && !device.transfers.contains(&I2cTransfer::Write) {
                return Err(I2cDenial::Transfer { transfer: I2cTransfer::Write });
            }
            return Ok(());
        }
        if !data.is_empty() {
            return Err(I2cDenial::Shape { expected: "before a read, write the register's address and nothing more" });
        }
        judge_registers(device, register, length, Access::Read)
    }

    fn judge_write(&self, out: &[u8]) -> Result<(), I2cDenial> {
        let device = &self.device;
        if device.registers.is_none() {
            return Ok(());
        }
        let (register, data) = split(device, out)?;
        let one = usize::from(device.register_value_bytes);
        if data.len() > one && !device.write_increments {
            return Err(I2cDenial::Shape { expected: "write one register's value at a time" });
        }
        // An address alone may be a command to some devices: it counts as a write.
        judge_registers(device, register, data.len().max(1), Access::Write)
    }
}

/// A register's address and what follows it. Without rules there is no register, and any length will do.
fn split<'a>(device: &I2cDevice, out: &'a [u8]) -> Result<(u32, &'a [u8]), I2cDenial> {
    let width = usize::from(device.register_address_bytes);
    match out.split_at_checked(width) {
        Some((address, data)) => Ok((address.iter().fold(0, |sum, byte| sum << 8 | u32::from(*byte)), data)),
        None if device.registers.is_none() => Ok((0, &[])),
        None => Err(I2cDenial::Shape { expected: "begin with the whole address of a register" }),
    }
}

/// Every register that so many bytes from this one on can touch has to be in a range with that access.
fn judge_registers(device: &I2cDevice, first: u32, length: usize, access: Access) -> Result<(), I2cDenial> {
    let ranges = device.registers.as_deref().unwrap_or_default();
    let count = length.div_ceil(usize::from(device.register_value_bytes).max(1));
    let last = u64::from(first) + count.max(1) as u64 - 1;
    let mut next = u64::from(first);
    while next <= last {
        let covering = ranges
            .iter()
            .find(|range| (u64::from(range.from)..=u64::from(range.to)).contains(&next) && range.access.covers(access));
        match covering {
            Some(range) => next = u64::from(range.to) + 1,
            None => {
                let register = u32::try_from(next).unwrap_or(u32::MAX);
                return Err(I2cDenial::Register { register, write: access == Access::Write });
            }
        }
    }
    Ok(())
}

/// Operations of one kind that follow each other are one message on the bus, as embedded-hal has it. Nothing is copied that
/// would be longer than the limit.
fn join(operations: &[Operation<'_>], limit: u32) -> Result<Vec<Message>, I2cDenial> {
    if operations.is_empty() {
        return Err(I2cDenial::Empty);
    }
    if operations.len() > MAX_OPERATIONS {
        return Err(I2cDenial::TooMany { count: operations.len(), limit: MAX_OPERATIONS });
    }
    let fits = |length: usize| {
        if length as u64 > u64::from(limit) { Err(I2cDenial::TooLong { length, limit }) } else { Ok(length) }
    };
    let mut messages: Vec<Message> = Vec::new();
    for operation in operations {
        match (messages.last_mut(), operation) {
            (Some(Message::Read(sum)), Operation::Read(length)) => *sum = fits(sum.saturating_add(*length))?,
            (Some(Message::Write(sum)), Operation::Write(bytes)) => {
                fits(sum.len().saturating_add(bytes.len()))?;
                sum.extend_from_slice(bytes);
            }
            (_, Operation::Read(length)) => messages.push(Message::Read(fits(*length)?)),
            (_, Operation::Write(bytes)) => {
                fits(bytes.len())?;
                messages.push(Message::Write(bytes.to_vec()));
            }
        }
    }
    if messages.len() > MAX_MESSAGES {
        return Err(I2cDenial::TooMany { count: messages.len(), limit: MAX_MESSAGES });
    }
    let empty = |message: &Message| match message {
        Message::Read(length) => *length == 0,
        Message::Write(bytes) => bytes.is_empty(),
    };
    if messages.iter().any(empty) { Err(I2cDenial::Empty) } else { Ok(messages) }
}

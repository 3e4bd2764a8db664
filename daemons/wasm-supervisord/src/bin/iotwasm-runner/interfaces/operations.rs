//! Transactions of I2C and SPI devices: an array in the guest's memory, read into operations, asked of capd, and what comes
//! back put where the guest wants it. All of it is judged before one byte is copied; what a device may be told is capd's
//! to judge.

use iotwasm_session::Reply;
use iotwasm_wasmedge::Memory;

use super::{
    memory,
    number::{self, Outcome},
    session::Peripherals,
};

/// Most operations of a transaction.
const MAX_OPERATIONS: u32 = 128;
/// Longest transaction, in bytes that go either way.
const MAX_BYTES: u64 = 65_536;
/// Length of an operation in the guest's memory, in bytes: kind, pointer, length.
const SIZE: usize = 12;

/// Bytes in the guest's memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) pointer: i32,
    pub(super) length: i32,
}

impl Span {
    pub(super) fn len(self) -> u32 {
        self.length.cast_unsigned()
    }

    /// A copy of the bytes.
    pub(super) fn copy(self, memory: &Memory<'_>) -> Outcome<Vec<u8>> {
        memory::bytes(memory, self.pointer, self.length).map(<[u8]>::to_vec)
    }
}

/// One operation, as the guest asks for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Operation {
    Read(Span),
    Write(Span),
    /// Both ways at once, in place or from one place to another of the same length. SPI only.
    Transfer {
        from: i32,
        to: Span,
    },
    /// Nanoseconds of nothing. SPI only.
    Delay(u32),
}

/// Whose transaction it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Bus {
    I2c,
    Spi,
}

/// Read a guest's array of operations.
pub(super) fn from_guest(memory: &Memory<'_>, bus: Bus, pointer: i32, count: i32) -> Outcome<Vec<Operation>> {
    let count = count.cast_unsigned();
    if count > MAX_OPERATIONS {
        return Err(number::TOO_LONG);
    }
    parse(memory::bytes(memory, pointer, count.cast_signed() * SIZE as i32)?, bus)
}

fn parse(array: &[u8], bus: Bus) -> Outcome<Vec<Operation>> {
    let (records, []) = array.as_chunks::<SIZE>() else { return Err(number::BAD_POINTER) };
    records.iter().map(|record| operation(record, bus)).collect()
}

fn operation(record: &[u8; SIZE], bus: Bus) -> Outcome<Operation> {
    let (words, _) = record.as_chunks::<4>();
    let [kind, pointer, length] = [0, 1, 2].map(|place| i32::from_le_bytes(words[place]));
    let span = Span { pointer, length };
    match (kind, bus) {
        (0, _) => Ok(Operation::Read(span)),
        (1, _) => Ok(Operation::Write(span)),
        (2, Bus::Spi) => Ok(Operation::Transfer { from: pointer, to: span }),
        (3, Bus::Spi) if pointer == 0 => Ok(Operation::Delay(span.len())),
        _ => Err(number::BAD_ARGUMENT),
    }
}

/// Whether a transaction is short enough and lies within the memory.
pub(super) fn check(memory: &Memory<'_>, operations: &[Operation]) -> Outcome {
    if total(operations) > MAX_BYTES {
        return Err(number::TOO_LONG);
    }
    for operation in operations {
        match operation {
            Operation::Read(span) | Operation::Write(span) => {
                memory::bytes(memory, span.pointer, span.length)?;
            }
            Operation::Transfer { from, to } => {
                memory::bytes(memory, *from, to.length)?;
                memory::bytes(memory, to.pointer, to.length)?;
            }
            Operation::Delay(_) => {}
        }
    }
    Ok(())
}

fn total(operations: &[Operation]) -> u64 {
    let length = |operation: &Operation| match operation {
        Operation::Read(span) | Operation::Write(span) | Operation::Transfer { to: span, .. } => u64::from(span.len()),
        Operation::Delay(_) => 0,
    };
    operations.iter().map(length).sum()
}

/// Where the bytes of a reply go, in their order.
fn incoming(operations: &[Operation]) -> impl Iterator<Item = Span> {
    operations.iter().filter_map(|operation| match operation {
        Operation::Read(span) | Operation::Transfer { to: span, .. } => Some(*span),
        Operation::Write(_) | Operation::Delay(_) => None,
    })
}

/// Put what a transaction brought where the guest wants it.
pub(super) fn spread(
    peripherals: &mut Peripherals,
    memory: &mut Memory<'_>,
    operations: &[Operation],
    reply: Reply,
) -> Outcome {
    let wanted: u64 = incoming(operations).map(|span| u64::from(span.len())).sum();
    let mut bytes = match &reply {
        Reply::Bytes(bytes) if bytes.len() as u64 == wanted => bytes.as_slice(),
        _ => return Err(peripherals.broken()),
    };
    for span in incoming(operations) {
        let place = memory::place(memory, span.pointer, span.length)?;
        let (head, rest) = bytes.split_at(place.len());
        place.copy_from_slice(head);
        bytes = rest;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn array(records: &[[u32; 3]]) -> Vec<u8> {
        records.iter().flatten().flat_map(|word| word.to_le_bytes()).collect()
    }

    fn span(pointer: i32, length: i32) -> Span {
        Span { pointer, length }
    }

    #[test]
    fn the_kinds_of_spi_are_read() {
        let array = array(&[[0, 8, 2], [1, 16, 3], [2, 24, 4], [3, 0, u32::MAX]]);
        let expected = [
            Operation::Read(span(8, 2)),
            Operation::Write(span(16, 3)),
            Operation::Transfer { from: 24, to: span(24, 4) },
            Operation::Delay(u32::MAX),
        ];
        assert_eq!(parse(&array, Bus::Spi).unwrap(), expected);
        assert_eq!(parse(&[], Bus::Spi).unwrap(), []);
    }

    #[test]
    fn i2c_has_no_transfer_and_no_delay_and_nobody_has_a_fifth_kind() {
        for (record, bus) in
            [([2, 0, 0], Bus::I2c), ([3, 0, 0], Bus::I2c), ([4, 0, 0], Bus::Spi), ([3, 1, 5], Bus::Spi)]
        {
            assert_eq!(parse(&array(&[record]), bus), Err(number::BAD_ARGUMENT), "{record:?}");
        }
    }

    #[test]
    fn lengths_beyond_32_bits_are_added_up() {
        let long = Operation::Read(span(0, -1));
        assert_eq!(total(&[long, long]), 2 * u64::from(u32::MAX));
    }

    proptest! {
        #[test]
        fn any_bytes_are_operations_or_are_refused(array in prop::collection::vec(any::<u8>(), 0..2000), spi in any::<bool>()) {
            let bus = if spi { Bus::Spi } else { Bus::I2c };
            match parse(&array, bus) {
                Ok(operations) => {
                    prop_assert_eq!(operations.len() * SIZE, array.len());
                    let total: u64 = total(&operations);
                    prop_assert!(total <= operations.len() as u64 * u64::from(u32::MAX));
                }
                Err(number) => prop_assert!([number::BAD_ARGUMENT, number::BAD_POINTER].contains(&number)),
            }
        }

        #[test]
        fn operations_come_back(records in prop::collection::vec((0..4u32, any::<u32>(), any::<u32>()), 0..128)) {
            let records: Vec<_> =
                records.into_iter().map(|(kind, pointer, length)| [kind, if kind == 3 { 0 } else { pointer }, length]).collect();
            let operations = parse(&array(&records), Bus::Spi).unwrap();
            let back: Vec<_> = operations
                .iter()
                .map(|operation| match operation {
                    Operation::Read(span) => [0, span.pointer.cast_unsigned(), span.len()],
                    Operation::Write(span) => [1, span.pointer.cast_unsigned(), span.len()],
                    Operation::Transfer { to, .. } => [2, to.pointer.cast_unsigned(), to.len()],
                    Operation::Delay(time) => [3, 0, *time],
                })
                .collect();
            prop_assert_eq!(back, records);
        }
    }
}

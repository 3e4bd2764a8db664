//! What guests pass and get by pointer. Every pointer and length is the guest's, so any is possible; nothing is copied
//! before its length was judged.

use iotwasm_session::MAX_NAME;
use iotwasm_wasmedge::{Caller, Memory};

use super::number::{self, Outcome};

/// The guest's memory; a guest without one has no valid pointers.
pub(super) fn of<'a>(caller: &'a mut Caller<'_>) -> Outcome<Memory<'a>> {
    caller.memory().ok_or(number::BAD_POINTER)
}

/// The bytes at a pointer.
pub(super) fn bytes<'m>(memory: &'m Memory<'_>, pointer: i32, length: i32) -> Outcome<&'m [u8]> {
    memory.read(pointer, length).map_err(|_| number::BAD_POINTER)
}

/// A place for bytes.
pub(super) fn place<'m>(memory: &'m mut Memory<'_>, pointer: i32, length: i32) -> Outcome<&'m mut [u8]> {
    memory.write(pointer, length).map_err(|_| number::BAD_POINTER)
}

/// A text of at most so many bytes.
pub(super) fn text<'m>(memory: &'m Memory<'_>, pointer: i32, length: i32, most: usize) -> Outcome<&'m str> {
    if length.cast_unsigned() as usize > most {
        return Err(number::TOO_LONG);
    }
    std::str::from_utf8(bytes(memory, pointer, length)?).map_err(|_| number::BAD_ARGUMENT)
}

/// The name of something.
pub(super) fn name<'m>(memory: &'m Memory<'_>, pointer: i32, length: i32) -> Outcome<&'m str> {
    text(memory, pointer, length, MAX_NAME)
}

/// A place for a number of 32 bits.
pub(super) fn number_place<'m>(memory: &'m mut Memory<'_>, pointer: i32) -> Outcome<&'m mut [u8]> {
    place(memory, pointer, 4)
}

/// Write a number of 32 bits.
pub(super) fn put_number(memory: &mut Memory<'_>, pointer: i32, value: u32) -> Outcome {
    number_place(memory, pointer)?.copy_from_slice(&value.to_le_bytes());
    Ok(())
}

/// A buffer of the guest for an answer whose length it does not know.
#[derive(Debug, Clone, Copy)]
pub(super) struct Buffer {
    pub(super) pointer: i32,
    pub(super) size: i32,
    pub(super) length_out: i32,
}

impl Buffer {
    /// Whether all of it lies within the memory. To be asked before anything is done for the answer.
    pub(super) fn check(self, memory: &mut Memory<'_>) -> Outcome {
        number_place(memory, self.length_out)?;
        place(memory, self.pointer, self.size).map(drop)
    }

    /// Write the answer and its length; the length alone if the answer does not fit.
    pub(super) fn put(self, memory: &mut Memory<'_>, answer: &[u8]) -> Outcome {
        let length = u32::try_from(answer.len()).map_err(|_| number::TOO_LONG)?;
        put_number(memory, self.length_out, length)?;
        let buffer = place(memory, self.pointer, self.size)?;
        buffer.get_mut(..answer.len()).ok_or(number::BUFFER_TOO_SMALL)?.copy_from_slice(answer);
        Ok(())
    }
}

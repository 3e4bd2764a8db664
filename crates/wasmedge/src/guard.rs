//! What is refused before the library sees a module, because the library would not refuse it. Total on any bytes.
//!
//! The full static checks live in iotwasm-payload; these two are here so that no user of the binding can forget them.

use crate::error::Error;

/// Custom section in which WasmEdge looks for native code.
const AOT_SECTION: &[u8] = b"wasmedge";
const CUSTOM: u8 = 0;
const MEMORY: u8 = 5;

/// Refuses native code and memories that begin above the limit.
pub(crate) fn check(wasm: &[u8], limit: u32) -> Result<(), Error> {
    let mut rest = wasm.strip_prefix(b"\0asm\x01\0\0\0").ok_or(Error::NotAModule)?;
    while let Some((&id, after)) = rest.split_first() {
        let (length, after) = leb(after).ok_or(Error::NotAModule)?;
        let length = usize::try_from(length).map_err(|_| Error::NotAModule)?;
        let (content, next) = after.split_at_checked(length).ok_or(Error::NotAModule)?;
        match id {
            CUSTOM => custom(content)?,
            MEMORY => memory(content, limit)?,
            _ => {}
        }
        rest = next;
    }
    Ok(())
}

fn custom(content: &[u8]) -> Result<(), Error> {
    let (length, rest) = leb(content).ok_or(Error::NotAModule)?;
    let name = rest.get(..length as usize).ok_or(Error::NotAModule)?;
    if name == AOT_SECTION {
        return Err(Error::NativeCode { section: String::from_utf8_lossy(name).into_owned() });
    }
    Ok(())
}

fn memory(content: &[u8], limit: u32) -> Result<(), Error> {
    let (count, mut rest) = leb(content).ok_or(Error::NotAModule)?;
    for _ in 0..count {
        let (flags, after) = leb(rest).ok_or(Error::NotAModule)?;
        let (pages, after) = leb(after).ok_or(Error::NotAModule)?;
        if pages > u64::from(limit) {
            return Err(Error::MemoryTooLarge { pages, limit });
        }
        rest = if flags & 1 == 1 { leb(after).ok_or(Error::NotAModule)?.1 } else { after };
    }
    Ok(())
}

/// An unsigned number of up to 64 bits.
fn leb(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let mut value = 0u64;
    for (i, byte) in bytes.iter().take(10).enumerate() {
        value |= u64::from(byte & 0x7f) << (7 * i);
        if byte & 0x80 == 0 {
            return Some((value, &bytes[i + 1..]));
        }
    }
    None
}

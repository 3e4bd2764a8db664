//! How a call into a guest ended.

use std::ffi::CStr;

use crate::ffi;
use crate::value::Value;

/// How a call ended. Every one of these is the guest's (or our own host functions') doing.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// It returned.
    Returned(Vec<Value>),
    /// It trapped.
    Trap(Trap),
    /// It used up its fuel.
    OutOfFuel,
    /// Its deadline passed, or it was cancelled.
    Cancelled,
    /// A host function ended it with [`crate::Halt::Terminate`].
    Terminated,
    /// It called WASI's `proc_exit` with this code.
    Exited(u32),
    /// A host function panicked; the message. Its state is not to be trusted any more.
    HostPanicked(String),
}

/// A trap.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trap {
    /// What kind.
    pub kind: TrapKind,
    /// The library's words, or a host function's.
    pub message: String,
}

/// What kind of trap.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TrapKind {
    /// `unreachable`: what a panic in the guest ends in.
    Unreachable,
    /// Integer division by zero.
    DivideByZero,
    /// Integer overflow.
    IntegerOverflow,
    /// A float that has no integer.
    InvalidConversion,
    /// A memory access out of bounds.
    MemoryOutOfBounds,
    /// A table access out of bounds, or an indirect call to nothing or to another type.
    BadIndirectCall,
    /// A host function failed with [`crate::Halt::Fail`].
    Host,
    /// Something else, by the library's code.
    Other(u32),
}

/// Result codes, the same in every supported version (the codes are part of the library's ABI).
pub(crate) mod code {
    pub(crate) const SUCCESS: u32 = 0x00;
    pub(crate) const TERMINATED: u32 = 0x01;
    pub(crate) const COST_LIMIT: u32 = 0x03;
    pub(crate) const INTERRUPTED: u32 = 0x07;
    pub(crate) const HOST_FUNCTION: u32 = 0x040e;
}

impl TrapKind {
    pub(crate) fn of_code(code: u32) -> Self {
        match code {
            0x0404 => Self::DivideByZero,
            0x0405 => Self::IntegerOverflow,
            0x0406 => Self::InvalidConversion,
            0x0407 | 0x040b | 0x040c | 0x040d => Self::BadIndirectCall,
            0x0408 => Self::MemoryOutOfBounds,
            0x040a => Self::Unreachable,
            code::HOST_FUNCTION => Self::Host,
            other => Self::Other(other),
        }
    }
}

/// The library's words for a result.
pub(crate) fn message(result: ffi::Result) -> String {
    // SAFETY: takes a plain struct; returns null or a static string that ends in zero.
    let text = unsafe { ffi::result_message(result) };
    if text.is_null() {
        return format!("code {:#x}", result.code);
    }
    // SAFETY: not null, ends in zero and is static, by the function's contract.
    unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned()
}

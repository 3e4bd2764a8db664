//! Host functions: Rust closures with state of their own, called by the guest on the guest's thread.

use std::any::Any;
use std::ffi::c_void;
use std::marker::PhantomData;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr::NonNull;
use std::slice;
use std::sync::{Arc, Mutex, PoisonError};

use crate::clock::Clock;
use crate::error::Error;
use crate::ffi;
use crate::outcome::code;
use crate::value::{Value, ValueType};

/// Size of a page of guest memory, in bytes.
const PAGE: u64 = 64 * 1024;

/// Why a host function does not return to the guest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Halt {
    /// The guest ends here: [`crate::Outcome::Terminated`].
    Terminate,
    /// The guest traps here, with this message: [`crate::TrapKind::Host`].
    Fail(String),
}

/// How a host function ended the guest.
#[derive(Debug, Clone)]
pub(crate) enum Ended {
    Halted(Halt),
    Panicked(String),
}

/// The library's statistics: fuel limit and fuel used.
pub(crate) struct Fuel {
    stat: NonNull<ffi::Statistics>,
    limit: u64,
}

// SAFETY: its counters are atomic in the library, made to be read and cleared while a guest runs.
unsafe impl Send for Fuel {}
// SAFETY: as above.
unsafe impl Sync for Fuel {}

impl Fuel {
    pub(crate) fn new(limit: u64) -> Result<Self, Error> {
        // SAFETY: takes nothing; null is dealt with.
        let stat = NonNull::new(unsafe { ffi::statistics_create() }).ok_or(Error::Create { what: "statistics" })?;
        Ok(Self { stat, limit })
    }

    /// The whole fuel again. Sets the limit too: making an executor takes it away.
    pub(crate) fn refill(&self) {
        // SAFETY: alive.
        unsafe {
            ffi::statistics_clear(self.stat.as_ptr());
            ffi::statistics_set_cost_limit(self.stat.as_ptr(), self.limit);
        }
    }

    pub(crate) fn used(&self) -> u64 {
        // SAFETY: alive.
        unsafe { ffi::statistics_total_cost(self.stat.as_ptr()) }
    }

    pub(crate) fn as_ptr(&self) -> *mut ffi::Statistics {
        self.stat.as_ptr()
    }
}

impl Drop for Fuel {
    fn drop(&mut self) {
        // SAFETY: alive and ours; the executors that refer to it are deleted before their instance lets go of this.
        unsafe { ffi::statistics_delete(self.stat.as_ptr()) }
    }
}

/// What an instance and its host functions share.
pub(crate) struct Shared {
    pub(crate) fuel: Fuel,
    pub(crate) clock: Clock,
    pub(crate) ended: Mutex<Option<Ended>>,
}

impl Shared {
    pub(crate) fn take_ended(&self) -> Option<Ended> {
        self.ended.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn end(&self, ended: Ended) {
        *self.ended.lock().unwrap_or_else(PoisonError::into_inner) = Some(ended);
    }
}

/// The guest that called a host function.
pub struct Caller<'a> {
    frame: *const ffi::CallingFrame,
    shared: &'a Shared,
}

impl Caller<'_> {
    /// The guest's memory; `None` if it has none.
    pub fn memory(&mut self) -> Option<Memory<'_>> {
        // SAFETY: the frame is alive for the time of the host function; index 0 is checked by the library.
        let memory = unsafe { ffi::frame_memory(self.frame, 0) };
        Some(Memory { memory: NonNull::new(memory)?, borrow: PhantomData })
    }

    /// Gives the guest its whole fuel again.
    pub fn refill(&mut self) {
        self.shared.fuel.refill();
    }

    /// Fuel used since the last refill.
    pub fn fuel_used(&self) -> u64 {
        self.shared.fuel.used()
    }

    /// The clock of this call.
    pub fn clock(&self) -> &Clock {
        &self.shared.clock
    }
}

/// A guest's pointer and length that lie outside its memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{length} bytes at {offset} are not within the guest's memory")]
pub struct BadPointer {
    /// The pointer.
    pub offset: u32,
    /// The length, in bytes.
    pub length: u32,
}

/// The guest's memory, for the time of a host function. The guest does not run meanwhile, so nothing moves it.
pub struct Memory<'a> {
    memory: NonNull<ffi::MemoryInstance>,
    borrow: PhantomData<&'a mut ()>,
}

impl Memory<'_> {
    /// Its size, in bytes.
    pub fn size(&self) -> u64 {
        // SAFETY: alive while it is borrowed.
        u64::from(unsafe { ffi::memory_pages(self.memory.as_ptr()) } as u32) * PAGE
    }

    /// The bytes at a guest's pointer. Both numbers are the guest's: any are allowed, and taken as unsigned.
    pub fn read(&self, offset: i32, length: i32) -> Result<&[u8], BadPointer> {
        let (pointer, length) = self.locate(offset as u32, length as u32)?;
        // SAFETY: `locate` checked that so many bytes are there; they stay while this is borrowed, and are not written,
        // since that needs `&mut self` and the guest does not run.
        Ok(unsafe { slice::from_raw_parts(pointer.as_ptr(), length) })
    }

    /// The bytes at a guest's pointer, to be written.
    pub fn write(&mut self, offset: i32, length: i32) -> Result<&mut [u8], BadPointer> {
        let (pointer, length) = self.locate(offset as u32, length as u32)?;
        // SAFETY: as in `read`, and `&mut self` keeps every other borrow away.
        Ok(unsafe { slice::from_raw_parts_mut(pointer.as_ptr(), length) })
    }

    fn locate(&self, offset: u32, length: u32) -> Result<(NonNull<u8>, usize), BadPointer> {
        let bad = BadPointer { offset, length };
        if u64::from(offset) + u64::from(length) > self.size() {
            return Err(bad);
        }
        if length == 0 {
            return Ok((NonNull::dangling(), 0));
        }
        // SAFETY: alive while it is borrowed; the library checks bounds too and answers null.
        let pointer =
            unsafe { ffi::memory_pointer(self.memory.as_ptr(), offset as ffi::Offset, length as ffi::Offset) };
        Ok((NonNull::new(pointer).ok_or(bad)?, length as usize))
    }
}

mod sealed {
    pub trait Sealed {}
}

/// A number that a host function takes or gives: `i32`, `i64`, `f32`, `f64`.
pub trait Scalar: sealed::Sealed + Copy {
    #[doc(hidden)]
    const TYPE: ValueType;
    #[doc(hidden)]
    fn from_value(value: Value) -> Option<Self>;
    #[doc(hidden)]
    fn into_value(self) -> Value;
}

macro_rules! scalar {
    ($($rust:ident $variant:ident)*) => {$(
        impl sealed::Sealed for $rust {}
        impl Scalar for $rust {
            const TYPE: ValueType = ValueType::$variant;
            fn from_value(value: Value) -> Option<Self> {
                if let Value::$variant(v) = value { Some(v) } else { None }
            }
            fn into_value(self) -> Value {
                Value::$variant(self)
            }
        }
    )*};
}
scalar! { i32 I32 i64 I64 f32 F32 f64 F64 }

/// Parameters of a host function: a tuple of up to eight numbers.
pub trait Params: sealed::Sealed + Sized {
    #[doc(hidden)]
    const TYPES: &'static [ValueType];
    #[doc(hidden)]
    fn from_values(values: &mut dyn Iterator<Item = Value>) -> Option<Self>;
}

macro_rules! params {
    ($($name:ident)*) => {
        impl<$($name: Scalar),*> sealed::Sealed for ($($name,)*) {}
        impl<$($name: Scalar),*> Params for ($($name,)*) {
            const TYPES: &'static [ValueType] = &[$($name::TYPE),*];
            #[expect(clippy::allow_attributes, reason = "unused only for the empty tuple")]
            #[allow(unused_variables, clippy::unused_unit)]
            fn from_values(values: &mut dyn Iterator<Item = Value>) -> Option<Self> {
                Some(($($name::from_value(values.next()?)?,)*))
            }
        }
    };
}
params! {}
params! { A }
params! { A B }
params! { A B C }
params! { A B C D }
params! { A B C D E }
params! { A B C D E F }
params! { A B C D E F G }
params! { A B C D E F G H }

/// Result of a host function: nothing or one number.
pub trait Results {
    #[doc(hidden)]
    const TYPES: &'static [ValueType];
    #[doc(hidden)]
    fn into_value(self) -> Option<Value>;
}

impl Results for () {
    const TYPES: &'static [ValueType] = &[];
    fn into_value(self) -> Option<Value> {
        None
    }
}

impl<T: Scalar> Results for T {
    const TYPES: &'static [ValueType] = &[T::TYPE];
    fn into_value(self) -> Option<Value> {
        Some(Scalar::into_value(self))
    }
}

type Body = Box<dyn FnMut(&mut Caller<'_>, &mut dyn Iterator<Item = Value>) -> Result<Option<Value>, Halt> + Send>;

/// A host function before it has an instance.
pub(crate) struct Declared {
    pub(crate) name: String,
    pub(crate) params: &'static [ValueType],
    pub(crate) results: &'static [ValueType],
    body: Body,
}

/// A module of host functions that guests can import.
pub struct HostModule {
    pub(crate) name: String,
    pub(crate) functions: Vec<Declared>,
}

impl HostModule {
    /// An empty module with this name.
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), functions: Vec::new() }
    }

    /// Adds a function. It runs on the guest's thread; a panic in it ends the guest ([`crate::Outcome::HostPanicked`])
    /// where panics unwind, and the process where they abort.
    #[must_use]
    pub fn function<P: Params, R: Results>(
        mut self,
        name: impl Into<String>,
        mut f: impl FnMut(&mut Caller<'_>, P) -> Result<R, Halt> + Send + 'static,
    ) -> Self {
        let body: Body = Box::new(move |caller, values| {
            // The library checked the types when it linked the import.
            let params = P::from_values(values).ok_or_else(|| Halt::Fail("parameters of other types".to_owned()))?;
            f(caller, params).map(R::into_value)
        });
        self.functions.push(Declared { name: name.into(), params: P::TYPES, results: R::TYPES, body });
        self
    }
}

/// A host function of an instance; its address is the library's callback data.
pub(crate) struct HostFunction {
    params: &'static [ValueType],
    has_result: bool,
    body: Body,
    shared: Arc<Shared>,
}

impl HostFunction {
    pub(crate) fn new(declared: Declared, shared: Arc<Shared>) -> (String, Self) {
        let Declared { name, params, results, body } = declared;
        (name, Self { params, has_result: !results.is_empty(), body, shared })
    }
}

/// What the library calls for every host function.
///
/// # Safety
/// `data` is a [`HostFunction`] that nobody else refers to, `frame` is alive, `params` and `returns` are as long as the
/// type that the function was registered with says.
pub(crate) unsafe extern "C" fn trampoline(
    data: *mut c_void,
    frame: *const ffi::CallingFrame,
    params: *const ffi::Value,
    returns: *mut ffi::Value,
) -> ffi::Result {
    // SAFETY: by contract. The guest has one thread and host functions cannot call it, so this is the only reference.
    let function = unsafe { &mut *data.cast::<HostFunction>() };
    let raw: &[ffi::Value] = match function.params.len() {
        0 => &[],
        // SAFETY: by contract.
        n => unsafe { slice::from_raw_parts(params, n) },
    };
    let mut values = function.params.iter().zip(raw).map(|(ty, raw)| Value::from_bits(*ty, raw.raw.low));
    let shared = &*function.shared;
    let mut caller = Caller { frame, shared };
    let body = &mut function.body;
    // Where panics unwind (tests, and whoever builds so): what a panic leaves behind is never used again, for the guest
    // ends, and with it the instance. The workspace's release profile aborts instead, and this catches nothing: there a
    // panic ends the process, and its hook is the last to speak.
    match catch_unwind(AssertUnwindSafe(|| body(&mut caller, &mut values))) {
        Ok(Ok(value)) => {
            if let (true, Some(value)) = (function.has_result, value) {
                // SAFETY: by contract there is room for one.
                unsafe { returns.write(value.to_ffi()) };
            }
            ffi::Result { code: code::SUCCESS }
        }
        Ok(Err(halt)) => {
            let code = if halt == Halt::Terminate { code::TERMINATED } else { code::HOST_FUNCTION };
            shared.end(Ended::Halted(halt));
            ffi::Result { code }
        }
        Err(panic) => {
            shared.end(Ended::Panicked(panic_message(panic.as_ref())));
            ffi::Result { code: code::HOST_FUNCTION }
        }
    }
}

fn panic_message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("a panic without words").to_owned()
}

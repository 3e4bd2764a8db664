//! A thin binding to WasmEdge's C API: an engine with fuel, a page limit and a forced interpreter; host functions with
//! state; WASI; calls with a deadline. Owns all of the project's `unsafe` for the runtime and decides no policy.
//!
//! Works with libwasmedge 0.14.1 to 0.17 from one source (see `build.rs`). What it guards against, because the library
//! does not: native code that a module carries (refused, and never run), memory declared beyond the limit (refused
//! instead of silently clamped), panics in host functions (end the guest, never unwind through C), cancellation that
//! outlives its call. What it cannot guard against, and a runner needs its cgroup for: memory that the library itself
//! takes for deep recursion, locals and tables. It aborts the process when that runs out.
#![expect(unsafe_code, reason = "a binding to a C library; every block says why it is sound")]

mod clock;
mod engine;
mod error;
mod ffi;
mod guard;
mod host;
mod instance;
mod outcome;
mod value;
mod wasi;

pub use clock::{Canceller, Clock};
pub use engine::{Engine, Limits, Module, version};
pub use error::Error;
pub use host::{BadPointer, Caller, Halt, HostModule, Memory, Params, Results};
pub use instance::Instance;
pub use outcome::{Outcome, Trap, TrapKind};
pub use value::{Value, ValueType};
pub use wasi::{Preopen, Wasi};

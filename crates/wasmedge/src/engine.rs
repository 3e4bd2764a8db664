//! The engine: one configuration for every module that it loads. The interpreter is forced, always.

use std::ffi::CStr;
use std::ptr::{self, NonNull};
use std::sync::{Arc, Once};

use crate::error::Error;
use crate::ffi;
use crate::guard;
use crate::outcome::{code, message};

/// What a guest may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Fuel for each call, and again after each [`crate::Caller::refill`]: instructions of cost one.
    pub fuel: u64,
    /// Largest memory, in pages of 64 KiB.
    pub memory_pages: u32,
}

/// The library's version, for example `0.14.1`.
pub fn version() -> String {
    // SAFETY: returns a static string that ends in zero.
    let text = unsafe { CStr::from_ptr(ffi::version_get()) };
    text.to_string_lossy().into_owned()
}

/// The library's configuration.
pub(crate) struct Config(NonNull<ffi::Configure>);

// SAFETY: made once, afterwards only read; the library locks it for its own reads.
unsafe impl Send for Config {}
// SAFETY: as above.
unsafe impl Sync for Config {}

impl Config {
    fn new(limits: Limits) -> Result<Self, Error> {
        // SAFETY: takes nothing; null is dealt with.
        let conf = NonNull::new(unsafe { ffi::configure_create() }).ok_or(Error::Create { what: "configuration" })?;
        let this = Self(conf);
        // SAFETY: the configuration is alive and not yet shared.
        let interpreted = unsafe {
            ffi::configure_set_cost_measuring(conf.as_ptr(), true);
            ffi::configure_set_max_memory_page(conf.as_ptr(), limits.memory_pages as ffi::Offset);
            force_interpreter(conf)
        };
        if !interpreted {
            return Err(Error::NotInterpreted);
        }
        Ok(this)
    }

    pub(crate) fn as_ptr(&self) -> *const ffi::Configure {
        self.0.as_ptr()
    }
}

impl Drop for Config {
    fn drop(&mut self) {
        // SAFETY: alive, ours, and nobody holds it any more.
        unsafe { ffi::configure_delete(self.0.as_ptr()) }
    }
}

/// Forces the interpreter: without this, 0.14.1 runs native code that it finds in a module. True if it was taken.
///
/// # Safety
/// The configuration is alive and not shared.
#[cfg(not(wasmedge_0_17))]
unsafe fn force_interpreter(conf: NonNull<ffi::Configure>) -> bool {
    // SAFETY: by this function's contract.
    unsafe {
        ffi::configure_set_force_interpreter(conf.as_ptr(), true);
        ffi::configure_is_force_interpreter(conf.as_ptr())
    }
}

/// Forces the interpreter. True if it was taken.
///
/// # Safety
/// The configuration is alive and not shared.
#[cfg(wasmedge_0_17)]
unsafe fn force_interpreter(conf: NonNull<ffi::Configure>) -> bool {
    // SAFETY: by this function's contract.
    unsafe {
        ffi::configure_set_run_mode(conf.as_ptr(), ffi::RUN_MODE_INTERPRETER);
        ffi::configure_get_run_mode(conf.as_ptr()) == ffi::RUN_MODE_INTERPRETER
    }
}

/// Loads modules and makes instances of them.
pub struct Engine {
    pub(crate) config: Arc<Config>,
    pub(crate) limits: Limits,
}

/// A module that was loaded and validated.
pub struct Module {
    ast: NonNull<ffi::AstModule>,
    pub(crate) config: Arc<Config>,
    pub(crate) limits: Limits,
}

// SAFETY: the library's parsed module is plain data, not bound to a thread.
unsafe impl Send for Module {}

impl Engine {
    /// An engine with these limits.
    pub fn new(limits: Limits) -> Result<Self, Error> {
        static QUIET: Once = Once::new();
        // The library logs to standard output, which belongs to the guest; what it says is in our errors and outcomes.
        // SAFETY: takes nothing, sets a flag.
        QUIET.call_once(|| unsafe { ffi::log_off() });
        Ok(Self { config: Arc::new(Config::new(limits)?), limits })
    }

    /// The limits that it was made with.
    pub fn limits(&self) -> Limits {
        self.limits
    }

    /// Loads and validates a module. Refuses one that carries native code or begins with more memory than the limit.
    pub fn load(&self, wasm: &[u8]) -> Result<Module, Error> {
        guard::check(wasm, self.limits.memory_pages)?;
        let length = u32::try_from(wasm.len()).map_err(|_| Error::NotAModule)?;
        // SAFETY: the configuration is alive; null is dealt with.
        let loader = NonNull::new(unsafe { ffi::loader_create(self.config.as_ptr()) })
            .ok_or(Error::Create { what: "loader" })?;
        let mut ast = ptr::null_mut();
        // SAFETY: the loader is alive; `wasm` is `length` readable bytes and is copied; `ast` is a place to write to.
        let result = unsafe { ffi::loader_parse(loader.as_ptr(), &raw mut ast, wasm.as_ptr(), length) };
        // SAFETY: alive, ours, not used again.
        unsafe { ffi::loader_delete(loader.as_ptr()) };
        let failed = |step, result| Error::Module { step, message: message(result), code: result.code };
        let module = match NonNull::new(ast) {
            Some(ast) if result.code == code::SUCCESS => {
                Module { ast, config: Arc::clone(&self.config), limits: self.limits }
            }
            _ => return Err(failed("load", result)),
        };
        // SAFETY: the configuration is alive; null is dealt with.
        let validator = NonNull::new(unsafe { ffi::validator_create(self.config.as_ptr()) })
            .ok_or(Error::Create { what: "validator" })?;
        // SAFETY: both are alive.
        let result = unsafe { ffi::validator_validate(validator.as_ptr(), module.ast.as_ptr()) };
        // SAFETY: alive, ours, not used again.
        unsafe { ffi::validator_delete(validator.as_ptr()) };
        if result.code != code::SUCCESS {
            return Err(failed("validate", result));
        }
        Ok(module)
    }
}

impl Module {
    pub(crate) fn as_ptr(&self) -> *const ffi::AstModule {
        self.ast.as_ptr()
    }
}

impl Drop for Module {
    fn drop(&mut self) {
        // SAFETY: alive and ours; instances do not refer to it.
        unsafe { ffi::ast_delete(self.ast.as_ptr()) }
    }
}

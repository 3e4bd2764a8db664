//! An instance: a module with its memory, its imports and its fuel, ready to be called.

use std::ffi::{CString, c_char, c_void};
use std::ptr::{self, NonNull};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::clock::{Canceller, ClockThread};
use crate::engine::{Config, Module};
use crate::error::Error;
use crate::ffi;
use crate::host::{Ended, Fuel, Halt, HostFunction, HostModule, Shared, trampoline};
use crate::outcome::{Outcome, Trap, TrapKind, code, message};
use crate::value::{Value, ValueType};
use crate::wasi::Wasi;

/// Most results that a function called from the host may have.
const MAX_RESULTS: u32 = 16;

/// A module with its memory, its imports and its fuel.
pub struct Instance {
    executor: NonNull<ffi::Executor>,
    store: NonNull<ffi::Store>,
    /// Modules that the guest imports from, WASI among them.
    imports: Vec<NonNull<ffi::ModuleInstance>>,
    wasi: Option<NonNull<ffi::ModuleInstance>>,
    guest: Option<NonNull<ffi::ModuleInstance>>,
    // After the library's objects: those refer to these, and fields are dropped in this order.
    clock: ClockThread,
    /// Host functions, by the addresses that the library calls them with.
    functions: Vec<NonNull<HostFunction>>,
    shared: Arc<Shared>,
    config: Arc<Config>,
}

// SAFETY: nothing in it is bound to a thread: the library's objects are plain memory, and host functions are Send.
unsafe impl Send for Instance {}

impl Module {
    /// Makes an instance, with the limits of the engine that loaded it: links host functions and WASI and sets up its
    /// memory. Runs a start function, if the module has one, within its fuel but without a deadline.
    pub fn instantiate(&self, hosts: Vec<HostModule>, wasi: Option<&Wasi>) -> Result<Instance, Error> {
        Instance::new(self, hosts, wasi)
    }
}

impl Instance {
    fn new(module: &Module, hosts: Vec<HostModule>, wasi: Option<&Wasi>) -> Result<Self, Error> {
        let clock = ClockThread::start()?;
        let fuel = Fuel::new(module.limits.fuel)?;
        let shared = Arc::new(Shared { fuel, clock: clock.clock.clone(), ended: Mutex::new(None) });
        let config = Arc::clone(&module.config);
        // SAFETY: takes nothing; null is dealt with.
        let store = NonNull::new(unsafe { ffi::store_create() }).ok_or(Error::Create { what: "store" })?;
        let executor = match new_executor(&config, &shared.fuel) {
            Ok(executor) => executor,
            Err(err) => {
                // SAFETY: alive, ours, not used again.
                unsafe { ffi::store_delete(store.as_ptr()) };
                return Err(err);
            }
        };
        let mut this = Self {
            executor,
            store,
            imports: Vec::new(),
            wasi: None,
            guest: None,
            clock,
            functions: Vec::new(),
            shared,
            config,
        };
        for host in hosts {
            this.add_host(host)?;
        }
        if let Some(wasi) = wasi {
            this.add_wasi(wasi)?;
        }
        let mut guest = ptr::null_mut();
        // SAFETY: executor, store and module are alive; `guest` is a place to write to.
        let result = unsafe {
            ffi::executor_instantiate(this.executor.as_ptr(), &raw mut guest, this.store.as_ptr(), module.as_ptr())
        };
        this.guest = NonNull::new(guest);
        if result.code != code::SUCCESS || this.guest.is_none() {
            return Err(Error::Module { step: "instantiate", message: message(result), code: result.code });
        }
        Ok(this)
    }

    fn add_host(&mut self, host: HostModule) -> Result<(), Error> {
        // SAFETY: the name is copied; null is dealt with.
        let module = NonNull::new(unsafe { ffi::module_create(ffi::name(&host.name)) })
            .ok_or(Error::Create { what: "host module" })?;
        self.imports.push(module);
        for declared in host.functions {
            let types = |types: &[ValueType]| types.iter().map(|ty| ty.to_ffi()).collect::<Vec<_>>();
            let (params, results) = (types(declared.params), types(declared.results));
            let (name, function) = HostFunction::new(declared, Arc::clone(&self.shared));
            // From here on reached only through the pointer, which `drop` takes back when no guest can call it.
            let function = NonNull::from(Box::leak(Box::new(function)));
            self.functions.push(function);
            // SAFETY: both lists are as long as said and copied; null is dealt with.
            let ty = NonNull::new(unsafe {
                ffi::function_type_create(params.as_ptr(), params.len() as u32, results.as_ptr(), results.len() as u32)
            })
            .ok_or(Error::Create { what: "function type" })?;
            // SAFETY: the type is alive and copied. The data lives until after every module that could call it, and
            // matches what the trampoline takes it for; params and results are as long as its own lists.
            let instance =
                unsafe { ffi::function_create(ty.as_ptr(), trampoline, function.as_ptr().cast::<c_void>(), 0) };
            // SAFETY: alive, ours, not used again.
            unsafe { ffi::function_type_delete(ty.as_ptr()) };
            let instance = NonNull::new(instance).ok_or(Error::Create { what: "host function" })?;
            // SAFETY: both are alive; the module takes the function over; the name is copied.
            unsafe { ffi::module_add_function(module.as_ptr(), ffi::name(&name), instance.as_ptr()) };
        }
        self.register(module)
    }

    fn add_wasi(&mut self, wasi: &Wasi) -> Result<(), Error> {
        let (environment, preopens) = wasi.encode()?;
        let pointers = |texts: &[CString]| texts.iter().map(|t| t.as_ptr()).collect::<Vec<*const c_char>>();
        let (envs, dirs) = (pointers(&environment), pointers(&preopens));
        // SAFETY: the lists are as long as said, their texts end in zero and outlive the call, which copies them.
        let module = unsafe {
            ffi::module_create_wasi(ptr::null(), 0, envs.as_ptr(), envs.len() as u32, dirs.as_ptr(), dirs.len() as u32)
        };
        let module = NonNull::new(module).ok_or(Error::Create { what: "WASI module" })?;
        self.imports.push(module);
        self.wasi = Some(module);
        self.register(module)
    }

    fn register(&self, module: NonNull<ffi::ModuleInstance>) -> Result<(), Error> {
        // SAFETY: all three are alive; the module outlives the store's use of it, which ends with this instance.
        let result =
            unsafe { ffi::executor_register_import(self.executor.as_ptr(), self.store.as_ptr(), module.as_ptr()) };
        if result.code == code::SUCCESS {
            return Ok(());
        }
        Err(Error::Module { step: "link an import of", message: message(result), code: result.code })
    }

    /// Cancels calls of this instance, from anywhere.
    pub fn canceller(&self) -> Canceller {
        self.clock.canceller()
    }

    /// True if the guest exports a function with this name.
    pub fn has_function(&self, name: &str) -> bool {
        self.find(name).is_some()
    }

    /// Size of the memory that the guest exports as `memory`, in pages of 64 KiB.
    pub fn memory_pages(&self) -> Option<u32> {
        let guest = self.guest?;
        // SAFETY: alive; the name is only compared.
        let memory = NonNull::new(unsafe { ffi::module_find_memory(guest.as_ptr(), ffi::name("memory")) })?;
        // SAFETY: alive as long as the guest.
        Some(unsafe { ffi::memory_pages(memory.as_ptr()) } as u32)
    }

    /// Fuel used by the last call since its last refill.
    pub fn fuel_used(&self) -> u64 {
        self.shared.fuel.used()
    }

    /// Calls an exported function with fresh fuel, and waits until it ends. With a deadline, it is cancelled then,
    /// unless a host function stopped the clock or restarted it.
    pub fn call(&mut self, name: &str, args: &[Value], deadline: Option<Duration>) -> Result<Outcome, Error> {
        let function = self.find(name).ok_or_else(|| Error::NoFunction { name: name.to_owned() })?;
        let params: Vec<ffi::Value> = args.iter().map(|v| v.to_ffi()).collect();
        let results = check_type(name, function, args)?;
        let mut returns = vec![Value::I32(0).to_ffi(); results as usize];
        self.shared.take_ended();
        self.shared.fuel.refill();
        self.clock.clock.prepare(deadline);
        // SAFETY: executor and function are alive; the parameters are as many and of the types that the function takes,
        // and are copied.
        let call = unsafe {
            ffi::executor_async_invoke(self.executor.as_ptr(), function.as_ptr(), params.as_ptr(), params.len() as u32)
        };
        let call = NonNull::new(call).ok_or(Error::Create { what: "call" })?;
        self.clock.clock.begin(call.as_ptr());
        // SAFETY: alive; waits for the end; `returns` has room for `results`.
        let result = unsafe { ffi::async_get(call.as_ptr(), returns.as_mut_ptr(), results) };
        let cancelled = self.clock.clock.end();
        // SAFETY: alive, ours; `end` made sure that the clock's thread no longer knows it.
        unsafe { ffi::async_delete(call.as_ptr()) };
        if cancelled {
            // The executor remembers a stop that came too late for its call, and would end the next one with it.
            self.replace_executor()?;
        }
        Ok(self.outcome(result, cancelled, &returns))
    }

    fn outcome(&self, result: ffi::Result, cancelled: bool, returns: &[ffi::Value]) -> Outcome {
        match self.shared.take_ended() {
            Some(Ended::Panicked(message)) => return Outcome::HostPanicked(message),
            Some(Ended::Halted(Halt::Terminate)) => return Outcome::Terminated,
            Some(Ended::Halted(Halt::Fail(message))) => return Outcome::Trap(Trap { kind: TrapKind::Host, message }),
            None => {}
        }
        match (result.code, self.wasi) {
            (code::SUCCESS, _) => match returns.iter().map(Value::from_ffi).collect() {
                Some(values) => Outcome::Returned(values),
                None => Outcome::Trap(Trap {
                    kind: TrapKind::Other(result.code),
                    message: "it returned something that is not a number".to_owned(),
                }),
            },
            (code::COST_LIMIT, _) => Outcome::OutOfFuel,
            (code::INTERRUPTED, _) if cancelled => Outcome::Cancelled,
            (code::TERMINATED, Some(wasi)) => {
                // SAFETY: alive, and a WASI module.
                Outcome::Exited(unsafe { ffi::module_wasi_exit_code(wasi.as_ptr()) })
            }
            (code::TERMINATED, None) => Outcome::Terminated,
            (code, _) => Outcome::Trap(Trap { kind: TrapKind::of_code(code), message: message(result) }),
        }
    }

    fn replace_executor(&mut self) -> Result<(), Error> {
        let fresh = new_executor(&self.config, &self.shared.fuel)?;
        let old = std::mem::replace(&mut self.executor, fresh);
        // SAFETY: alive, ours, no call under way; instances belong to the store and to us, not to it.
        unsafe { ffi::executor_delete(old.as_ptr()) };
        Ok(())
    }

    fn find(&self, name: &str) -> Option<NonNull<ffi::FunctionInstance>> {
        // SAFETY: alive; the name is only compared.
        NonNull::new(unsafe { ffi::module_find_function(self.guest?.as_ptr(), ffi::name(name)) })
    }
}

fn new_executor(config: &Config, fuel: &Fuel) -> Result<NonNull<ffi::Executor>, Error> {
    // SAFETY: both are alive and outlive the executor: the instance drops it before it lets go of them.
    let executor = unsafe { ffi::executor_create(config.as_ptr(), fuel.as_ptr()) };
    // The library resets the limit to "none" here: from now on nothing runs before it is set again.
    fuel.refill();
    NonNull::new(executor).ok_or(Error::Create { what: "executor" })
}

/// Checks that a function takes these parameters; tells how many results it gives.
fn check_type(name: &str, function: NonNull<ffi::FunctionInstance>, args: &[Value]) -> Result<u32, Error> {
    let wrong = || Error::Parameters { name: name.to_owned(), given: args.len() };
    // SAFETY: the function is alive, and its type with it.
    let ty = NonNull::new(unsafe { ffi::function_type(function.as_ptr()) }.cast_mut())
        .ok_or(Error::Create { what: "function type" })?;
    // SAFETY: alive.
    let length = unsafe { ffi::function_type_params_length(ty.as_ptr()) };
    if length as usize != args.len() {
        return Err(wrong());
    }
    let mut types = vec![ffi::ValType { data: [0; 8] }; args.len()];
    // SAFETY: alive; the list has room for `length`.
    unsafe { ffi::function_type_params(ty.as_ptr(), types.as_mut_ptr(), length) };
    if types.iter().zip(args).any(|(ty, arg)| ValueType::from_ffi(*ty) != Some(arg.ty())) {
        return Err(wrong());
    }
    // SAFETY: alive.
    Ok(unsafe { ffi::function_type_returns_length(ty.as_ptr()) }.min(MAX_RESULTS))
}

impl Drop for Instance {
    fn drop(&mut self) {
        // SAFETY: all are alive and ours, and deleted in the order in which they refer to each other; no call is under
        // way, since calls borrow this.
        unsafe {
            if let Some(guest) = self.guest.take() {
                ffi::module_delete(guest.as_ptr());
            }
            for module in self.imports.drain(..) {
                ffi::module_delete(module.as_ptr());
            }
            ffi::store_delete(self.store.as_ptr());
            ffi::executor_delete(self.executor.as_ptr());
        }
        for function in self.functions.drain(..) {
            // SAFETY: made from a box in `add_host`, and the modules that could call it are gone.
            drop(unsafe { Box::from_raw(function.as_ptr()) });
        }
    }
}

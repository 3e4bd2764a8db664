//! WasmEdge's C API, declared by hand: only what this crate calls. Read against the headers of 0.14.1; where 0.17
//! differs, `cfg(wasmedge_0_17)`, which build.rs sets from the installed header.

use std::ffi::{c_char, c_void};
use std::marker::PhantomData;

macro_rules! opaque {
    ($($name:ident)*) => {$(
        #[repr(C)]
        pub(crate) struct $name {
            _opaque: [u8; 0],
            _neither_send_nor_sync: PhantomData<*mut ()>,
        }
    )*};
}

opaque! { Configure Statistics AstModule FunctionType Loader Validator Executor Store ModuleInstance FunctionInstance
MemoryInstance CallingFrame Async }

/// `WasmEdge_ValType`.
/// Not to be compared byte by byte: some of them mean nothing for a number and are left as they were.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub(crate) struct ValType {
    pub(crate) data: [u8; 8],
}

/// `uint128_t` of int128.h: a native one (aligned to 16) on the 64-bit machines named there, else a struct of two.
#[cfg_attr(any(target_arch = "x86_64", target_arch = "aarch64", target_arch = "riscv64"), repr(C, align(16)))]
#[cfg_attr(not(any(target_arch = "x86_64", target_arch = "aarch64", target_arch = "riscv64")), repr(C))]
#[derive(Debug, Clone, Copy)]
pub(crate) struct Raw128 {
    pub(crate) low: u64,
    pub(crate) high: u64,
}

// The native one has its low half first only on little-endian machines; all that we support are.
#[cfg(target_endian = "big")]
compile_error!("big-endian machines are not supported");

/// `WasmEdge_Value`. Only ever passed by pointer, so that 128-bit integers never cross by value.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub(crate) struct Value {
    pub(crate) raw: Raw128,
    pub(crate) ty: ValType,
}

/// `WasmEdge_String`, borrowed.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct String {
    pub(crate) length: u32,
    pub(crate) buf: *const c_char,
}

/// `WasmEdge_Result`: the category in the top byte, the code in the rest.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Result {
    pub(crate) code: u32,
}

/// `WasmEdge_HostFunc_t`.
pub(crate) type HostFn = unsafe extern "C" fn(
    data: *mut c_void,
    frame: *const CallingFrame,
    params: *const Value,
    returns: *mut Value,
) -> Result;

/// Offsets and lengths in a memory: 64 bits wide where memories may be.
#[cfg(wasmedge_0_17)]
pub(crate) type Offset = u64;
/// Offsets and lengths in a memory.
#[cfg(not(wasmedge_0_17))]
pub(crate) type Offset = u32;

/// `WasmEdge_RunMode_Interpreter`, the first of its enumeration.
#[cfg(wasmedge_0_17)]
pub(crate) const RUN_MODE_INTERPRETER: std::ffi::c_int = 0;

unsafe extern "C" {
    #[link_name = "WasmEdge_VersionGet"]
    pub(crate) fn version_get() -> *const c_char;
    #[link_name = "WasmEdge_LogOff"]
    pub(crate) fn log_off();

    #[link_name = "WasmEdge_ValTypeGenI32"]
    pub(crate) fn val_type_i32() -> ValType;
    #[link_name = "WasmEdge_ValTypeGenI64"]
    pub(crate) fn val_type_i64() -> ValType;
    #[link_name = "WasmEdge_ValTypeGenF32"]
    pub(crate) fn val_type_f32() -> ValType;
    #[link_name = "WasmEdge_ValTypeGenF64"]
    pub(crate) fn val_type_f64() -> ValType;

    #[link_name = "WasmEdge_ValTypeIsI32"]
    pub(crate) fn val_type_is_i32(ty: ValType) -> bool;
    #[link_name = "WasmEdge_ValTypeIsI64"]
    pub(crate) fn val_type_is_i64(ty: ValType) -> bool;
    #[link_name = "WasmEdge_ValTypeIsF32"]
    pub(crate) fn val_type_is_f32(ty: ValType) -> bool;
    #[link_name = "WasmEdge_ValTypeIsF64"]
    pub(crate) fn val_type_is_f64(ty: ValType) -> bool;

    #[link_name = "WasmEdge_ResultGetMessage"]
    pub(crate) fn result_message(result: Result) -> *const c_char;

    #[link_name = "WasmEdge_ConfigureCreate"]
    pub(crate) fn configure_create() -> *mut Configure;
    #[link_name = "WasmEdge_ConfigureDelete"]
    pub(crate) fn configure_delete(conf: *mut Configure);
    #[cfg(not(wasmedge_0_17))]
    #[link_name = "WasmEdge_ConfigureSetMaxMemoryPage"]
    pub(crate) fn configure_set_max_memory_page(conf: *mut Configure, pages: u32);
    #[cfg(wasmedge_0_17)]
    #[link_name = "WasmEdge_ConfigureSetMaxMemoryPage"]
    pub(crate) fn configure_set_max_memory_page(conf: *mut Configure, pages: u64);
    #[cfg(not(wasmedge_0_17))]
    #[link_name = "WasmEdge_ConfigureSetForceInterpreter"]
    pub(crate) fn configure_set_force_interpreter(conf: *mut Configure, yes: bool);
    #[cfg(not(wasmedge_0_17))]
    #[link_name = "WasmEdge_ConfigureIsForceInterpreter"]
    pub(crate) fn configure_is_force_interpreter(conf: *const Configure) -> bool;
    #[cfg(wasmedge_0_17)]
    #[link_name = "WasmEdge_ConfigureSetRunMode"]
    pub(crate) fn configure_set_run_mode(conf: *mut Configure, mode: std::ffi::c_int);
    #[cfg(wasmedge_0_17)]
    #[link_name = "WasmEdge_ConfigureGetRunMode"]
    pub(crate) fn configure_get_run_mode(conf: *const Configure) -> std::ffi::c_int;
    #[link_name = "WasmEdge_ConfigureStatisticsSetCostMeasuring"]
    pub(crate) fn configure_set_cost_measuring(conf: *mut Configure, yes: bool);

    #[link_name = "WasmEdge_StatisticsCreate"]
    pub(crate) fn statistics_create() -> *mut Statistics;
    #[link_name = "WasmEdge_StatisticsDelete"]
    pub(crate) fn statistics_delete(stat: *mut Statistics);
    #[link_name = "WasmEdge_StatisticsSetCostLimit"]
    pub(crate) fn statistics_set_cost_limit(stat: *mut Statistics, limit: u64);
    #[link_name = "WasmEdge_StatisticsGetTotalCost"]
    pub(crate) fn statistics_total_cost(stat: *const Statistics) -> u64;
    #[link_name = "WasmEdge_StatisticsClear"]
    pub(crate) fn statistics_clear(stat: *mut Statistics);

    #[link_name = "WasmEdge_LoaderCreate"]
    pub(crate) fn loader_create(conf: *const Configure) -> *mut Loader;
    #[link_name = "WasmEdge_LoaderDelete"]
    pub(crate) fn loader_delete(loader: *mut Loader);
    #[link_name = "WasmEdge_LoaderParseFromBuffer"]
    pub(crate) fn loader_parse(loader: *mut Loader, ast: *mut *mut AstModule, buf: *const u8, length: u32) -> Result;
    #[link_name = "WasmEdge_ASTModuleDelete"]
    pub(crate) fn ast_delete(ast: *mut AstModule);
    #[link_name = "WasmEdge_ValidatorCreate"]
    pub(crate) fn validator_create(conf: *const Configure) -> *mut Validator;
    #[link_name = "WasmEdge_ValidatorDelete"]
    pub(crate) fn validator_delete(validator: *mut Validator);
    #[link_name = "WasmEdge_ValidatorValidate"]
    pub(crate) fn validator_validate(validator: *mut Validator, ast: *const AstModule) -> Result;

    #[link_name = "WasmEdge_StoreCreate"]
    pub(crate) fn store_create() -> *mut Store;
    #[link_name = "WasmEdge_StoreDelete"]
    pub(crate) fn store_delete(store: *mut Store);

    #[link_name = "WasmEdge_ExecutorCreate"]
    pub(crate) fn executor_create(conf: *const Configure, stat: *mut Statistics) -> *mut Executor;
    #[link_name = "WasmEdge_ExecutorDelete"]
    pub(crate) fn executor_delete(executor: *mut Executor);
    #[link_name = "WasmEdge_ExecutorRegisterImport"]
    pub(crate) fn executor_register_import(
        executor: *mut Executor,
        store: *mut Store,
        import: *const ModuleInstance,
    ) -> Result;
    #[link_name = "WasmEdge_ExecutorInstantiate"]
    pub(crate) fn executor_instantiate(
        executor: *mut Executor,
        instance: *mut *mut ModuleInstance,
        store: *mut Store,
        ast: *const AstModule,
    ) -> Result;
    #[link_name = "WasmEdge_ExecutorAsyncInvoke"]
    pub(crate) fn executor_async_invoke(
        executor: *mut Executor,
        function: *const FunctionInstance,
        params: *const Value,
        length: u32,
    ) -> *mut Async;

    #[link_name = "WasmEdge_AsyncCancel"]
    pub(crate) fn async_cancel(call: *mut Async);
    #[link_name = "WasmEdge_AsyncGet"]
    pub(crate) fn async_get(call: *const Async, returns: *mut Value, length: u32) -> Result;
    #[link_name = "WasmEdge_AsyncDelete"]
    pub(crate) fn async_delete(call: *mut Async);

    #[link_name = "WasmEdge_ModuleInstanceCreate"]
    pub(crate) fn module_create(name: String) -> *mut ModuleInstance;
    #[link_name = "WasmEdge_ModuleInstanceCreateWASI"]
    pub(crate) fn module_create_wasi(
        args: *const *const c_char,
        args_length: u32,
        envs: *const *const c_char,
        envs_length: u32,
        preopens: *const *const c_char,
        preopens_length: u32,
    ) -> *mut ModuleInstance;
    #[link_name = "WasmEdge_ModuleInstanceWASIGetExitCode"]
    pub(crate) fn module_wasi_exit_code(instance: *const ModuleInstance) -> u32;
    #[link_name = "WasmEdge_ModuleInstanceDelete"]
    pub(crate) fn module_delete(instance: *mut ModuleInstance);
    // Returns a bool in the newest versions; where it does, it is left in a register that nobody reads.
    #[link_name = "WasmEdge_ModuleInstanceAddFunction"]
    pub(crate) fn module_add_function(instance: *mut ModuleInstance, name: String, function: *mut FunctionInstance);
    #[link_name = "WasmEdge_ModuleInstanceFindFunction"]
    pub(crate) fn module_find_function(instance: *const ModuleInstance, name: String) -> *mut FunctionInstance;
    #[link_name = "WasmEdge_ModuleInstanceFindMemory"]
    pub(crate) fn module_find_memory(instance: *const ModuleInstance, name: String) -> *mut MemoryInstance;

    #[link_name = "WasmEdge_FunctionTypeCreate"]
    pub(crate) fn function_type_create(
        params: *const ValType,
        params_length: u32,
        returns: *const ValType,
        returns_length: u32,
    ) -> *mut FunctionType;
    #[link_name = "WasmEdge_FunctionTypeDelete"]
    pub(crate) fn function_type_delete(ty: *mut FunctionType);
    #[link_name = "WasmEdge_FunctionTypeGetParametersLength"]
    pub(crate) fn function_type_params_length(ty: *const FunctionType) -> u32;
    #[link_name = "WasmEdge_FunctionTypeGetParameters"]
    pub(crate) fn function_type_params(ty: *const FunctionType, list: *mut ValType, length: u32) -> u32;
    #[link_name = "WasmEdge_FunctionTypeGetReturnsLength"]
    pub(crate) fn function_type_returns_length(ty: *const FunctionType) -> u32;
    #[link_name = "WasmEdge_FunctionInstanceCreate"]
    pub(crate) fn function_create(
        ty: *const FunctionType,
        callback: HostFn,
        data: *mut c_void,
        cost: u64,
    ) -> *mut FunctionInstance;
    #[link_name = "WasmEdge_FunctionInstanceGetFunctionType"]
    pub(crate) fn function_type(function: *const FunctionInstance) -> *const FunctionType;

    #[link_name = "WasmEdge_CallingFrameGetMemoryInstance"]
    pub(crate) fn frame_memory(frame: *const CallingFrame, index: u32) -> *mut MemoryInstance;
    #[link_name = "WasmEdge_MemoryInstanceGetPointer"]
    pub(crate) fn memory_pointer(memory: *mut MemoryInstance, offset: Offset, length: Offset) -> *mut u8;
    #[link_name = "WasmEdge_MemoryInstanceGetPageSize"]
    pub(crate) fn memory_pages(memory: *const MemoryInstance) -> Offset;
}

/// A borrowed name for one call. The library copies or compares it before it returns.
pub(crate) fn name(text: &str) -> String {
    // Longer than 4 GiB cannot be: names come from our own code.
    String { length: text.len() as u32, buf: text.as_ptr().cast() }
}

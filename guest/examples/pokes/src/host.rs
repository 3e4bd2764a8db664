//! The host functions with whatever numbers one likes, and memory to point into.
//!
//! Elsewhere than on a device nothing is called and everything answers 0.

/// Length of a name that is far too long, in bytes.
pub(crate) const LONG: i32 = 10 * 1024 * 1024;

/// Memory that the host may write to, and texts. Whatever else a poke points to lies outside of the memory.
pub(crate) struct Memory {
    /// Where the host puts a number.
    pub(crate) out: i32,
    /// 4096 bytes that the host may fill.
    pub(crate) buffer: i32,
    /// [`LONG`] bytes, all of them `a`.
    pub(crate) long: i32,
    /// Pointer and length of bytes that are no text.
    pub(crate) not_text: (i32, i32),
}

impl Memory {
    pub(crate) fn new() -> Self {
        let [out, buffer] = [8, 4096].map(|length| keep(vec![0; length]).0);
        Self { out, buffer, long: keep(vec![b'a'; LONG as usize]).0, not_text: keep(vec![b'a', 0xff, b'a']) }
    }

    /// Pointer and length of a text.
    pub(crate) fn text(&self, text: &str) -> (i32, i32) {
        self.bytes(text.as_bytes())
    }

    /// Pointer and length of some bytes.
    #[expect(clippy::unused_self, reason = "what it points to lives as long as the memory does")]
    pub(crate) fn bytes(&self, bytes: &[u8]) -> (i32, i32) {
        keep(bytes.to_vec())
    }

    /// Pointer to an array of operations: kind, pointer, length.
    pub(crate) fn operations(&self, operations: &[[i32; 3]]) -> i32 {
        let words: Vec<u8> = operations.iter().flatten().flat_map(|word| word.to_le_bytes()).collect();
        self.bytes(&words).0
    }

    /// The number that the host has put out.
    pub(crate) fn word(&mut self) -> i32 {
        #[cfg(target_arch = "wasm32")]
        // SAFETY: `out` is eight bytes that were leaked for it and to which nothing else points.
        return unsafe { (self.out as usize as *const i32).read_unaligned() };
        #[cfg(not(target_arch = "wasm32"))]
        0
    }
}

/// Never given back: the host may still write there.
fn keep(bytes: Vec<u8>) -> (i32, i32) {
    let bytes = Vec::leak(bytes);
    (bytes.as_mut_ptr() as usize as i32, bytes.len() as i32)
}

/// Declares the functions of a module; every parameter is a number.
macro_rules! module {
    ($name:ident: $module:literal { $(fn $function:ident($($parameter:ident: $kind:ty),*);)* }) => {
        pub(crate) mod $name {
            #[cfg(target_arch = "wasm32")]
            #[link(wasm_import_module = $module)]
            unsafe extern "C" {
                // The host writes to no address that it was not given, and those within the memory are `Memory`'s.
                $(pub(crate) safe fn $function($($parameter: $kind),*) -> i32;)*
            }

            $(
                #[cfg(not(target_arch = "wasm32"))]
                pub(crate) fn $function($(_: $kind),*) -> i32 {
                    0
                }
            )*
        }
    };
}

module!(sensors: "iotwasm_sensors" {
    fn get_sensors(buffer: i32, size: i32, length_out: i32);
    fn turn_on(name: i32, length: i32);
    fn turn_off(name: i32, length: i32);
    fn config(name: i32, name_length: i32, what: i32, what_length: i32, value: i32, value_length: i32);
    fn read(name: i32, name_length: i32, what: i32, what_length: i32, buffer: i32, size: i32, length_out: i32);
});

module!(gpio: "iotwasm_gpio" {
    fn get(label: i32, length: i32, flags: i32, pin_out: i32);
    fn read(pin: i32, state_out: i32);
    fn set_state(pin: i32, state: i32);
    fn set_pin_mode(pin: i32, mode: i32);
    fn watch(pin: i32, edges: i32);
    fn next_event(pin: i32, milliseconds: i64, event_out: i32);
    fn drop(pin: i32);
});

module!(i2c: "iotwasm_i2c" {
    fn open(name: i32, length: i32, device_out: i32);
    fn read(device: i32, buffer: i32, length: i32);
    fn write(device: i32, data: i32, length: i32);
    fn write_read(device: i32, data: i32, data_length: i32, buffer: i32, length: i32);
    fn transaction(device: i32, operations: i32, count: i32);
});

module!(spi: "iotwasm_spi" {
    fn get_device_names(buffer: i32, size: i32, length_out: i32);
    fn open_device(name: i32, length: i32, device_out: i32);
    fn configure(device: i32, frequency: i32, mode: i32, lsb_first: i32);
    fn read(device: i32, buffer: i32, length: i32);
    fn write(device: i32, data: i32, length: i32);
    fn transfer(device: i32, data: i32, buffer: i32, length: i32);
    fn transaction(device: i32, operations: i32, count: i32);
});

module!(actuators: "iotwasm_actuators" {
    fn write(name: i32, name_length: i32, value: i32, value_length: i32, retry_ms_out: i32);
});

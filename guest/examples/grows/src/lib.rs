//! Defective: healthy at first, then it takes page after page of linear memory, and traps when there are no more.
#![no_std]

use core::time::Duration;

use iotwasm_guest::{Failure, Payload, Wait, health, payload, wait};

/// Healthy for this long, in seconds.
const HEALTHY_S: u32 = 5;

#[derive(Default)]
struct Grows;

impl Payload for Grows {
    fn self_test(&mut self) -> Result<(), Failure> {
        Ok(())
    }

    fn run(&mut self) {
        for _ in 0..HEALTHY_S {
            health::healthy("not hungry yet");
            if wait(Duration::from_secs(1)) == Wait::Stop {
                return;
            }
        }
        take_everything();
    }
}

payload!(Grows);

/// As a program does whose allocator finds no more memory: it takes what there is, and then traps.
#[cfg(target_arch = "wasm32")]
fn take_everything() {
    use core::arch::wasm32::{memory_grow, unreachable};
    loop {
        let page = memory_grow::<0>(1);
        if page == usize::MAX {
            unreachable();
        }
        // SAFETY: the page was just given to us, and nothing else uses it.
        unsafe { ((page * 65536) as *mut u8).write_volatile(1) };
    }
}

#[cfg(not(target_arch = "wasm32"))]
fn take_everything() {}

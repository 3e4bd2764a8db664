//! What the `payload!` macro expands to: the exports that the device calls, and what happens at a panic.

use core::cell::RefCell;

use crate::{Payload, health};

/// Exports a type that implements [`Payload`] as `iotwasm_self_test` and `iotwasm_run` (entry style `reactor`).
///
/// Used once in a crate of type `cdylib`. A type that does not implement the whole of [`Payload`], self-test included,
/// does not compile.
#[macro_export]
macro_rules! payload {
    ($payload:ty) => {
        const _: () = {
            static INSTANCE: $crate::export::Instance<$payload> = $crate::export::Instance::new();

            #[cfg_attr(target_arch = "wasm32", unsafe(no_mangle))]
            extern "C" fn iotwasm_self_test() -> i32 {
                INSTANCE.self_test()
            }

            #[cfg_attr(target_arch = "wasm32", unsafe(no_mangle))]
            extern "C" fn iotwasm_run() {
                INSTANCE.run();
            }

            // On other targets nobody calls them, but they are type-checked all the same.
            #[cfg(not(target_arch = "wasm32"))]
            const _: (extern "C" fn() -> i32, extern "C" fn()) = (iotwasm_self_test, iotwasm_run);

            // Without this, the linker wraps every export so that the C library is set up before and torn down after
            // each call; with it, the device calls it once.
            #[cfg(target_os = "wasi")]
            #[unsafe(no_mangle)]
            extern "C" fn _initialize() {
                unsafe extern "C" {
                    safe fn __wasm_call_ctors();
                }
                __wasm_call_ctors();
            }
        };
    };
}

/// Runs a payload in the entry style `command`: to be called by `main`, it reports the self-test by itself.
///
/// ```no_run
/// # #[derive(Default)] struct Meter;
/// # impl iotwasm_guest::Payload for Meter {
/// #     fn self_test(&mut self) -> Result<(), iotwasm_guest::Failure> { Ok(()) }
/// #     fn run(&mut self) {}
/// # }
/// fn main() {
///     iotwasm_guest::command::<Meter>();
/// }
/// ```
pub fn command<P: Payload>() {
    report_panics();
    let mut payload = P::default();
    if passes(&mut payload) {
        health::report(health::SELF_TEST_PASSED, "");
        payload.run();
    }
}

/// The one value of the payload's type, made at its first use.
pub struct Instance<P>(RefCell<Option<P>>);

// SAFETY: the modules that devices accept have one thread (the static checks refuse the threads proposal), and on other
// targets nothing calls the exports that share it.
unsafe impl<P> Sync for Instance<P> {}

impl<P: Payload> Instance<P> {
    /// One that is not made yet.
    #[must_use]
    #[expect(clippy::new_without_default, reason = "made in a static, where Default cannot be called")]
    pub const fn new() -> Self {
        Self(RefCell::new(None))
    }

    /// `iotwasm_self_test`: 0 when it passed.
    pub fn self_test(&self) -> i32 {
        report_panics();
        i32::from(!passes(self.0.borrow_mut().get_or_insert_with(P::default)))
    }

    /// `iotwasm_run`.
    pub fn run(&self) {
        self.0.borrow_mut().get_or_insert_with(P::default).run();
    }
}

fn passes(payload: &mut impl Payload) -> bool {
    match payload.self_test() {
        Ok(()) => true,
        Err(failure) => {
            health::report(health::SELF_TEST_FAILED, failure.message());
            false
        }
    }
}

/// Has a panic reported as failed health before it traps, so that the history shows its words.
fn report_panics() {
    #[cfg(all(feature = "std", target_arch = "wasm32"))]
    std::panic::set_hook(Box::new(|panic| health::failed(panic)));
}

#[cfg(all(not(feature = "std"), target_arch = "wasm32"))]
#[panic_handler]
fn panic(panic: &core::panic::PanicInfo<'_>) -> ! {
    health::failed(panic);
    core::arch::wasm32::unreachable()
}

#[cfg(test)]
mod tests {
    use super::Instance;
    use crate::testing::{self, Call};
    use crate::{Failure, Payload, Wait, fail, health, wait};
    use core::time::Duration;

    #[derive(Default)]
    struct Counting {
        beats: u32,
    }

    impl Payload for Counting {
        fn self_test(&mut self) -> Result<(), Failure> {
            if self.beats > 0 {
                fail!("{} beats before the start", self.beats);
            }
            self.beats = 10;
            Ok(())
        }

        fn run(&mut self) {
            while wait(Duration::from_secs(1)) == Wait::Continue {
                self.beats += 1;
                health::healthy(self.beats);
            }
        }
    }

    #[test]
    fn self_test_and_run_see_one_value() {
        testing::stop_after(2);
        let instance = Instance::<Counting>::new();
        assert_eq!(instance.self_test(), 0);
        instance.run();
        let health = |message: &str| Call::Health { status: 0, message: message.into() };
        let wait = Call::Wait { milliseconds: 1_000 };
        assert_eq!(testing::take(), [wait.clone(), health("11"), wait.clone(), health("12"), wait]);
    }

    #[test]
    fn a_failing_self_test_is_reported_with_its_words() {
        let instance = Instance::<Counting>::new();
        assert_eq!(instance.self_test(), 0);
        assert_eq!(instance.self_test(), 1);
        assert_eq!(testing::take(), [Call::Health { status: 4, message: "10 beats before the start".into() }]);
    }

    #[test]
    fn a_command_reports_the_self_test_before_it_runs() {
        testing::stop_after(0);
        super::command::<Counting>();
        assert_eq!(
            testing::take(),
            [Call::Health { status: 3, message: String::new() }, Call::Wait { milliseconds: 1_000 }]
        );
    }

    #[derive(Default)]
    struct NoDisk;

    impl Payload for NoDisk {
        fn self_test(&mut self) -> Result<(), Failure> {
            Err(std::io::Error::other("no disk"))?;
            Ok(())
        }

        fn run(&mut self) {
            unreachable!("its self-test fails");
        }
    }

    #[test]
    fn a_command_whose_self_test_fails_does_not_run() {
        super::command::<NoDisk>();
        assert_eq!(testing::take(), [Call::Health { status: 4, message: "no disk".into() }]);
    }
}

//! The payload's life inside the runner: load, self-test, run, and what its end is called.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use iotwasm_wasmedge::{Engine, Error, HostModule, Instance, Limits, Module, Outcome, Preopen, Value, Wasi};
use wasm_supervisord::protocol::{Ending, FromRunner, Setup, ToRunner};

use crate::{
    interfaces::{
        self,
        lifecycle::Life,
        session::{Peripherals, Shared, Unclaimed},
    },
    link::{Beside, Link, Received},
    setup::Ready,
};

type End = (Ending, String);

/// Run the payload to its end.
pub(crate) fn run(link: &Arc<Link>, ready: Ready) -> End {
    let Ready { setup, wasm, session, watchdog } = ready;
    let engine = match Engine::new(Limits { fuel: setup.fuel, memory_pages: setup.memory_pages }) {
        Ok(engine) => engine,
        Err(err) => return (Ending::SetupFailed, chain(&err)),
    };
    // The module was checked before, so this takes no longer than its size allows; a limit all the same.
    watchdog.arm(self_test(&setup), true);
    let module = match engine.load(&wasm) {
        Ok(module) => module,
        Err(err) => return (Ending::BadPayload, chain(&err)),
    };
    drop(wasm);
    watchdog.rest();
    link.send(&FromRunner::Loaded);
    if !matches!(link.receive(None, Beside::default()), Received::Message(ToRunner::Begin)) {
        return (Ending::Stopped, String::new());
    }
    watchdog.arm(self_test(&setup), true);
    let life = Arc::new(Life::new(Arc::clone(link), watchdog, &setup));
    // Half of the self-test's time, for a capd that goes away just now.
    let until = Instant::now() + self_test(&setup) / 2;
    let peripherals = match session.map(|session| Peripherals::claim(Arc::clone(&life), session, until)).transpose() {
        Ok(peripherals) => peripherals.map(Shared::new),
        Err(Unclaimed::Stopping) => return (Ending::Stopped, String::new()),
        Err(Unclaimed::Unavailable) => {
            return (Ending::SetupFailed, "capd did not hand over what was granted; see its journal".to_owned());
        }
    };
    let modules = interfaces::modules(&life, &setup, peripherals.as_ref());
    let instance = match instantiate(&module, modules, &setup) {
        Ok(instance) => instance,
        Err(err) => return (Ending::BadPayload, chain(&err)),
    };
    drop(module);
    let end = if setup.command { command(instance, &life) } else { reactor(instance, &life) };
    end.unwrap_or_else(|err| (Ending::BadPayload, chain(&err)))
}

fn self_test(setup: &Setup) -> Duration {
    Duration::from_millis(setup.self_test_ms.into())
}

fn instantiate(module: &Module, modules: Vec<HostModule>, setup: &Setup) -> Result<Instance, Error> {
    let wasi = setup.wasi.then(|| Wasi {
        environment: setup.environment.clone().into_iter().collect(),
        preopens: setup
            .directories
            .iter()
            .map(|directory| Preopen {
                guest: directory.guest.clone(),
                host: directory.host.clone().into(),
                read_only: !directory.writable,
            })
            .collect(),
    });
    module.instantiate(modules, wasi.as_ref())
}

/// `_initialize` if it is there, `iotwasm_self_test`, `iotwasm_run`.
fn reactor(mut instance: Instance, life: &Arc<Life>) -> Result<End, Error> {
    if instance.has_function("_initialize") {
        let outcome = instance.call("_initialize", &[], None)?;
        if !matches!(outcome, Outcome::Returned(_)) {
            return Ok(end_of(outcome, life));
        }
    }
    match instance.call("iotwasm_self_test", &[], None)? {
        Outcome::Returned(values) if values == [Value::I32(0)] => {}
        Outcome::Returned(values) => {
            let number = match values.first() {
                Some(Value::I32(number)) => number.to_string(),
                _ => "nothing".to_owned(),
            };
            return Ok((Ending::SelfTestFailed, format!("the self-test returned {number}")));
        }
        outcome => return Ok(end_of(outcome, life)),
    }
    life.self_test_passed();
    let outcome = instance.call("iotwasm_run", &[], None)?;
    Ok(end_of(outcome, life))
}

/// `_start`, which reports its own self-test.
fn command(mut instance: Instance, life: &Arc<Life>) -> Result<End, Error> {
    let outcome = instance.call("_start", &[], None)?;
    Ok(end_of(outcome, life))
}

fn end_of(outcome: Outcome, life: &Life) -> End {
    if let Some(message) = life.self_test_failure() {
        return (Ending::SelfTestFailed, message);
    }
    let left = |how: String| {
        if life.is_stopping() {
            (Ending::Stopped, String::new())
        } else if life.in_self_test() {
            (Ending::SelfTestFailed, format!("it {how} before its self-test had passed"))
        } else {
            (Ending::Exited, format!("it {how}; a payload runs until it is stopped"))
        }
    };
    match outcome {
        Outcome::Returned(_) => left("returned".to_owned()),
        Outcome::Exited(code) => left(format!("exited with {code}")),
        Outcome::Terminated if life.is_orphaned() => (Ending::Stopped, String::new()),
        Outcome::Terminated => left("was ended by the host".to_owned()),
        Outcome::Trap(trap) => (Ending::Trap, trap.message),
        Outcome::OutOfFuel => (Ending::OutOfFuel, "one wake-up used all its fuel".to_owned()),
        Outcome::Cancelled => (Ending::WallClock, "it was cancelled".to_owned()),
        Outcome::HostPanicked(message) => (Ending::Internal, format!("internal error: {message}")),
    }
}

fn chain(err: &Error) -> String {
    iotwasm_kit::report::chain(err)
}

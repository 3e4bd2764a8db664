//! The module `iotwasm_actuators`: writes that capd counts and judges one by one.

use iotwasm_payload::interfaces::ACTUATORS;
use iotwasm_session::{Error, Kind, MAX_VALUE, Reply, Request, Why};
use iotwasm_wasmedge::{HostModule, Memory};

use super::{
    memory,
    number::{self, Outcome, returned},
    session::{Peripherals, Place, Shared},
};

/// The module.
pub(super) fn module(shared: &Shared) -> HostModule {
    let shared = shared.clone();
    HostModule::new(ACTUATORS).function(
        "write",
        move |caller, (name, length, value, v, retry_ms_out): (i32, i32, i32, i32, i32)| {
            let write = |mut memory: Memory<'_>| {
                if retry_ms_out != 0 {
                    memory::number_place(&mut memory, retry_ms_out)?;
                }
                let name = memory::name(&memory, name, length)?;
                let value = memory::text(&memory, value, v, MAX_VALUE)?;
                match write(&mut shared.lock(), name, value)? {
                    Ok(()) => Ok(()),
                    Err(Error::TooSoon { wait_ms }) if retry_ms_out != 0 => {
                        memory::put_number(&mut memory, retry_ms_out, wait_ms)?;
                        Err(number::TOO_SOON)
                    }
                    Err(err) => Err(number::of(err)),
                }
            };
            Ok(returned(memory::of(caller).and_then(write)))
        },
    )
}

fn write(peripherals: &mut Peripherals, name: &str, value: &str) -> Outcome<Result<(), Error>> {
    let Some(place) = Place::find(&peripherals.table().actuators, |actuator| actuator == name) else {
        return Err(peripherals.denied(Kind::Actuator, name, Why::Name));
    };
    let request = Request::Actuate { actuator: place.wire(), value: value.to_owned() };
    match peripherals.question(&request)? {
        (Ok(Reply::Done), descriptors) if descriptors.is_empty() => Ok(Ok(())),
        (Err(err), _) => Ok(Err(err)),
        _ => Err(peripherals.broken()),
    }
}

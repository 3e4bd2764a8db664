//! The module `iotwasm_i2c`: wasi-i2c, lowered. Every transaction goes to capd, which judges its bytes.

use iotwasm_payload::interfaces::I2C;
use iotwasm_session::{I2cOperation, Kind, Request, Why};
use iotwasm_wasmedge::{HostModule, Memory};

use super::{
    memory,
    number::{self, Outcome, returned},
    operations::{self, Bus, Operation, Span},
    session::{Peripherals, Place, Shared},
};

/// The module.
pub(super) fn module(shared: &Shared) -> HostModule {
    let [opened, read, write, both, all] = [(); 5].map(|()| shared.clone());
    HostModule::new(I2C)
        .function("open", move |caller, (name, length, device_out): (i32, i32, i32)| {
            let open = |mut memory: Memory<'_>| {
                memory::number_place(&mut memory, device_out)?;
                let place = open(&mut opened.lock(), memory::name(&memory, name, length)?)?;
                memory::put_number(&mut memory, device_out, place.handle())
            };
            Ok(returned(memory::of(caller).and_then(open)))
        })
        .function("read", move |caller, (device, pointer, length): (i32, i32, i32)| {
            let operations = [Operation::Read(Span { pointer, length })];
            let done = |memory| converse(&mut read.lock(), memory, device, &operations);
            Ok(returned(memory::of(caller).and_then(done)))
        })
        .function("write", move |caller, (device, pointer, length): (i32, i32, i32)| {
            let operations = [Operation::Write(Span { pointer, length })];
            let done = |memory| converse(&mut write.lock(), memory, device, &operations);
            Ok(returned(memory::of(caller).and_then(done)))
        })
        .function("write_read", move |caller, (device, data, written, buffer, wanted): (i32, i32, i32, i32, i32)| {
            let operations = [
                Operation::Write(Span { pointer: data, length: written }),
                Operation::Read(Span { pointer: buffer, length: wanted }),
            ];
            let done = |memory| converse(&mut both.lock(), memory, device, &operations);
            Ok(returned(memory::of(caller).and_then(done)))
        })
        .function("transaction", move |caller, (device, pointer, count): (i32, i32, i32)| {
            let done = |memory: Memory<'_>| {
                let operations = operations::from_guest(&memory, Bus::I2c, pointer, count)?;
                converse(&mut all.lock(), memory, device, &operations)
            };
            Ok(returned(memory::of(caller).and_then(done)))
        })
}

fn open(peripherals: &mut Peripherals, name: &str) -> Outcome<Place> {
    Place::find(&peripherals.table().i2c, |device| device.name == name)
        .ok_or_else(|| peripherals.denied(Kind::I2c, name, Why::Name))
}

fn converse(peripherals: &mut Peripherals, mut memory: Memory<'_>, device: i32, operations: &[Operation]) -> Outcome {
    let place = Place::of_handle(device, peripherals.table().i2c.len())?;
    operations::check(&memory, operations)?;
    let asked = operations.iter().map(|operation| match operation {
        Operation::Read(span) => Ok(I2cOperation::Read(span.len())),
        Operation::Write(span) => span.copy(&memory).map(I2cOperation::Write),
        Operation::Transfer { .. } | Operation::Delay(_) => Err(number::BAD_ARGUMENT),
    });
    let asked = asked.collect::<Outcome<_>>()?;
    let reply = peripherals.ask(&Request::I2c { device: place.wire(), operations: asked })?;
    operations::spread(peripherals, &mut memory, operations, reply)
}

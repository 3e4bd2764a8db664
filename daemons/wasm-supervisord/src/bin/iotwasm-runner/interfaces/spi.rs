//! The module `iotwasm_spi`: wasi-spi, lowered. Every transaction goes to capd; mode, clock and word are the board's.

use iotwasm_payload::interfaces::SPI;
use iotwasm_session::{Kind, Request, SpiOperation, Why};
use iotwasm_wasmedge::{HostModule, Memory};

use super::{
    memory::{self, Buffer},
    number::{self, Outcome, returned},
    operations::{self, Bus, Operation, Span},
    session::{Peripherals, Place, Shared},
};

/// The module.
pub(super) fn module(shared: &Shared) -> HostModule {
    let [list, opened, fixed, read, write, both, all] = [(); 7].map(|()| shared.clone());
    HostModule::new(SPI)
        .function("get_device_names", move |caller, (pointer, size, length_out): (i32, i32, i32)| {
            let buffer = Buffer { pointer, size, length_out };
            let listed = |mut memory: Memory<'_>| {
                let peripherals = list.lock();
                let names: Vec<_> = peripherals.table().spi.iter().map(|device| device.name.as_str()).collect();
                buffer.check(&mut memory)?;
                buffer.put(&mut memory, names.join("\n").as_bytes())
            };
            Ok(returned(memory::of(caller).and_then(listed)))
        })
        .function("open_device", move |caller, (name, length, device_out): (i32, i32, i32)| {
            let open = |mut memory: Memory<'_>| {
                memory::number_place(&mut memory, device_out)?;
                let place = open(&mut opened.lock(), memory::name(&memory, name, length)?)?;
                memory::put_number(&mut memory, device_out, place.handle())
            };
            Ok(returned(memory::of(caller).and_then(open)))
        })
        .function("configure", move |_, (device, frequency, mode, lsb_first): (i32, i32, i32, i32)| {
            Ok(returned(configure(&mut fixed.lock(), device, frequency, mode, lsb_first)))
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
        .function("transfer", move |caller, (device, from, pointer, length): (i32, i32, i32, i32)| {
            let operations = [Operation::Transfer { from, to: Span { pointer, length } }];
            let done = |memory| converse(&mut both.lock(), memory, device, &operations);
            Ok(returned(memory::of(caller).and_then(done)))
        })
        .function("transaction", move |caller, (device, pointer, count): (i32, i32, i32)| {
            let done = |memory: Memory<'_>| {
                let operations = operations::from_guest(&memory, Bus::Spi, pointer, count)?;
                converse(&mut all.lock(), memory, device, &operations)
            };
            Ok(returned(memory::of(caller).and_then(done)))
        })
}

fn open(peripherals: &mut Peripherals, name: &str) -> Outcome<Place> {
    Place::find(&peripherals.table().spi, |device| device.name == name)
        .ok_or_else(|| peripherals.denied(Kind::Spi, name, Why::Name))
}

/// Whether this is what the board fixed. Nothing else can be had, and asking for it is a denial.
fn configure(peripherals: &mut Peripherals, device: i32, frequency: i32, mode: i32, lsb_first: i32) -> Outcome {
    let place = Place::of_handle(device, peripherals.table().spi.len())?;
    if !(0..=3).contains(&mode) || !(0..=1).contains(&lsb_first) {
        return Err(number::BAD_ARGUMENT);
    }
    let device = &peripherals.table().spi[place.index()];
    if frequency.cast_unsigned() == device.speed_hz && mode == i32::from(device.mode) && lsb_first == 0 {
        return Ok(());
    }
    let name = device.name.clone();
    Err(peripherals.denied(Kind::Spi, &name, Why::Mode))
}

fn converse(peripherals: &mut Peripherals, mut memory: Memory<'_>, device: i32, operations: &[Operation]) -> Outcome {
    let place = Place::of_handle(device, peripherals.table().spi.len())?;
    operations::check(&memory, operations)?;
    let asked = operations.iter().map(|operation| {
        Ok(match *operation {
            Operation::Read(span) => SpiOperation::Read(span.len()),
            Operation::Write(span) => SpiOperation::Write(span.copy(&memory)?),
            Operation::Transfer { from, to } => {
                SpiOperation::Transfer(Span { pointer: from, length: to.length }.copy(&memory)?)
            }
            Operation::Delay(nanoseconds) => SpiOperation::DelayNs(nanoseconds),
        })
    });
    let asked = asked.collect::<Outcome<_>>()?;
    let reply = peripherals.ask(&Request::Spi { device: place.wire(), operations: asked })?;
    operations::spread(peripherals, &mut memory, operations, reply)
}

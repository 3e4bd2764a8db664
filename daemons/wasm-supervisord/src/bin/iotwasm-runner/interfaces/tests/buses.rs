use iotwasm_session::{Error, I2cOperation, Kind, Request, SpiOperation, Why};

use super::{super::number::*, Guest, MEMORY, args};
use crate::capd::{Oddity, denied};

const OUT: i64 = 8;
const DATA: i64 = 64;
const BUFFER: i64 = 256;
const ARRAY: u32 = 1024;

fn i2c(operations: Vec<I2cOperation>) -> Request {
    Request::I2c { device: 0, operations }
}

fn spi(operations: Vec<SpiOperation>) -> Request {
    Request::Spi { device: 1, operations }
}

/// A guest that has opened the device behind this function.
fn opened(function: &str, name: &str) -> (Guest, i64) {
    let mut guest = Guest::new();
    let name = guest.text(name);
    assert_eq!(guest.call(function, &args(&[&name, &[OUT]])), OK);
    let device = guest.number(OUT as u32).into();
    guest.put(DATA as u32, &[1, 2, 3, 4]);
    (guest, device)
}

fn put_operations(guest: &mut Guest, operations: &[[i64; 3]]) {
    let words = operations.as_flattened().iter().flat_map(|word| (*word as u32).to_le_bytes());
    guest.put(ARRAY, &words.collect::<Vec<_>>());
}

#[test]
fn an_i2c_device_is_read_and_written() {
    let (mut guest, device) = opened("i2c.open", "eeprom");
    assert_eq!(device, 1);
    assert_eq!(guest.call("i2c.write", &[device, DATA, 2]), OK);
    assert_eq!(guest.call("i2c.read", &[device, BUFFER, 3]), OK);
    assert_eq!(guest.get(BUFFER as u32, 4), [0, 1, 2, 0]);
    assert_eq!(guest.call("i2c.write_read", &[device, DATA, 1, BUFFER, 4]), OK);
    assert_eq!(guest.get(BUFFER as u32, 4), [0, 1, 2, 3]);
    use I2cOperation::{Read, Write};
    let expected = [vec![Write(vec![1, 2])], vec![Read(3)], vec![Write(vec![1]), Read(4)]];
    assert_eq!(guest.capd.asked(), expected.map(i2c));
}

#[test]
fn an_i2c_transaction_fills_its_buffers_in_their_order() {
    let (mut guest, device) = opened("i2c.open", "eeprom");
    put_operations(&mut guest, &[[1, DATA, 4], [0, BUFFER + 8, 2], [0, BUFFER, 1]]);
    assert_eq!(guest.call("i2c.transaction", &[device, ARRAY.into(), 3]), OK);
    assert_eq!(guest.get(BUFFER as u32 + 8, 2), [0, 1]);
    use I2cOperation::{Read, Write};
    assert_eq!(guest.capd.asked(), [i2c(vec![Write(vec![1, 2, 3, 4]), Read(2), Read(1)])]);
    guest.capd.be_odd(Oddity::Say(Err(Error::NoAcknowledgeData), 0));
    assert_eq!(guest.call("i2c.transaction", &[device, ARRAY.into(), 3]), NO_ACKNOWLEDGE_DATA);
}

#[test]
fn the_spi_devices_are_listed_and_configured_as_they_are() {
    let (mut guest, device) = opened("spi.open_device", "adc");
    assert_eq!(guest.call("spi.get_device_names", &[BUFFER, 11, OUT]), OK);
    assert_eq!(guest.get(BUFFER as u32, 11), b"display\nadc");
    assert_eq!(guest.call("spi.get_device_names", &[BUFFER, 10, OUT]), BUFFER_TOO_SMALL);
    assert_eq!(guest.call("spi.configure", &[device, 50_000, 3, 0]), OK);
    assert_eq!(guest.capd.asked(), []);
    for (frequency, mode, lsb_first) in [(50_001, 3, 0), (50_000, 2, 0), (50_000, 3, 1)] {
        assert_eq!(guest.call("spi.configure", &[device, frequency, mode, lsb_first]), MODE_NOT_ALLOWED);
    }
    assert_eq!(guest.capd.asked(), [(); 3].map(|()| denied(Kind::Spi, "adc", Why::Mode)));
    for (mode, lsb_first) in [(4, 0), (-1, 0), (3, 2)] {
        assert_eq!(guest.call("spi.configure", &[device, 50_000, mode, lsb_first]), BAD_ARGUMENT);
    }
}

#[test]
fn an_spi_device_is_read_written_and_both() {
    let (mut guest, device) = opened("spi.open_device", "adc");
    assert_eq!(guest.call("spi.write", &[device, DATA, 2]), OK);
    assert_eq!(guest.call("spi.read", &[device, BUFFER, 2]), OK);
    assert_eq!(guest.call("spi.transfer", &[device, DATA, BUFFER, 4]), OK);
    assert_eq!(guest.get(BUFFER as u32, 4), [!1, !2, !3, !4]);
    assert_eq!(guest.get(DATA as u32, 4), [1, 2, 3, 4]);
    use SpiOperation::{Read, Transfer, Write};
    let expected = [vec![Write(vec![1, 2])], vec![Read(2)], vec![Transfer(vec![1, 2, 3, 4])]];
    assert_eq!(guest.capd.asked(), expected.map(spi));
}

#[test]
fn an_spi_transaction_transfers_in_place_and_waits() {
    let (mut guest, device) = opened("spi.open_device", "adc");
    put_operations(&mut guest, &[[0, BUFFER, 2], [3, 0, 500], [2, DATA, 3], [1, DATA, 1]]);
    assert_eq!(guest.call("spi.transaction", &[device, ARRAY.into(), 4]), OK);
    assert_eq!((guest.get(BUFFER as u32, 2), guest.get(DATA as u32, 4)), (vec![0, 1], vec![!1, !2, !3, 4]));
    use SpiOperation::{DelayNs, Read, Transfer, Write};
    assert_eq!(guest.capd.asked(), [spi(vec![Read(2), DelayNs(500), Transfer(vec![1, 2, 3]), Write(vec![1])])]);
}

#[test]
fn bad_transactions_are_refused_before_anything_is_copied_or_asked() {
    for (module, open, name) in [("i2c", "i2c.open", "eeprom"), ("spi", "spi.open_device", "adc")] {
        let (mut guest, device) = opened(open, name);
        let transaction = format!("{module}.transaction");
        for (count, number) in [(129, TOO_LONG), (-1, TOO_LONG), (100_000, TOO_LONG)] {
            assert_eq!(guest.call(&transaction, &[device, ARRAY.into(), count]), number, "{count}");
        }
        for pointer in [MEMORY - 11, -1, MEMORY] {
            assert_eq!(guest.call(&transaction, &[device, pointer, 1]), BAD_POINTER, "{pointer}");
        }
        for (operation, number) in [
            ([9, 0, 0], BAD_ARGUMENT),
            ([-1, 0, 0], BAD_ARGUMENT),
            ([0, MEMORY - 1, 2], BAD_POINTER),
            ([1, -1, 1], BAD_POINTER),
            ([1, 0, -1], TOO_LONG),
            ([0, 0, 65_537], TOO_LONG),
        ] {
            put_operations(&mut guest, &[operation]);
            assert_eq!(guest.call(&transaction, &[device, ARRAY.into(), 1]), number, "{operation:?}");
        }
        // Each is short enough, but not both.
        put_operations(&mut guest, &[[0, 0, 32_769], [1, 0, 32_768]]);
        assert_eq!(guest.call(&transaction, &[device, ARRAY.into(), 2]), TOO_LONG);
        assert_eq!(guest.call(&format!("{module}.read"), &[device, 0, 10_000_000]), TOO_LONG);
        assert_eq!(guest.call(&format!("{module}.write"), &[device, MEMORY - 3, 4]), BAD_POINTER);
        assert_eq!(guest.call(&format!("{module}.read"), &[device, MEMORY - 3, 4]), BAD_POINTER);
        assert_eq!(guest.capd.asked(), []);
    }
}

#[test]
fn the_longest_transactions_pass() {
    let (mut guest, device) = opened("spi.open_device", "adc");
    assert_eq!(guest.call("spi.transfer", &[device, 0, 65_536, 65_536]), OK);
    put_operations(&mut guest, &[[0, BUFFER, 1]; 128]);
    assert_eq!(guest.call("spi.transaction", &[device, ARRAY.into(), 128]), OK);
    // Nothing to do is for capd to refuse.
    assert_eq!(guest.call("spi.transaction", &[device, ARRAY.into(), 0]), OK);
}

#[test]
fn transfers_need_both_their_places() {
    let (mut guest, device) = opened("spi.open_device", "adc");
    assert_eq!(guest.call("spi.transfer", &[device, MEMORY - 1, BUFFER, 2]), BAD_POINTER);
    assert_eq!(guest.call("spi.transfer", &[device, DATA, MEMORY - 1, 2]), BAD_POINTER);
    let (mut guest, device) = opened("i2c.open", "eeprom");
    assert_eq!(guest.call("i2c.write_read", &[device, DATA, 1, MEMORY, 1]), BAD_POINTER);
    assert_eq!(guest.call("i2c.write_read", &[device, DATA, 40_000, BUFFER, 40_000]), TOO_LONG);
    assert_eq!(guest.capd.asked(), []);
}

#[test]
fn bad_handles_and_names_are_refused() {
    for (module, open) in [("i2c", "i2c.open"), ("spi", "spi.open_device")] {
        let mut guest = Guest::new();
        for device in [0, 3, -1, 65_537] {
            for function in ["read", "write", "transaction"] {
                let number = guest.call(&format!("{module}.{function}"), &[device, DATA, 1]);
                assert_eq!(number, BAD_ARGUMENT, "{module}.{function} {device}");
            }
        }
        let kind = if module == "i2c" { Kind::I2c } else { Kind::Spi };
        let (nothing, secret, broken) = (guest.text("nothing"), guest.text("secret"), guest.text([0xff]));
        assert_eq!(guest.call(open, &args(&[&nothing, &[OUT]])), NOT_FOUND);
        assert_eq!(guest.call(open, &args(&[&secret, &[OUT]])), NOT_ALLOWED);
        assert_eq!(guest.capd.asked(), [denied(kind, "nothing", Why::Name), denied(kind, "secret", Why::Name)]);
        assert_eq!(guest.call(open, &args(&[&broken, &[OUT]])), BAD_ARGUMENT);
        assert_eq!(guest.call(open, &[0, 10_000_000, OUT]), TOO_LONG);
        assert_eq!(guest.call(open, &args(&[&nothing, &[MEMORY - 3]])), BAD_POINTER);
        assert_eq!(guest.capd.asked(), []);
    }
}

#[test]
fn an_actuator_is_written_and_says_when_it_may_be_again() {
    let mut guest = Guest::new();
    let (valve, one, two) = (guest.text("valve"), guest.text("1"), guest.text("2"));
    guest.put(OUT as u32, &[9; 4]);
    assert_eq!(guest.call("actuators.write", &args(&[&valve, &one, &[OUT]])), OK);
    assert_eq!(guest.number(OUT as u32), 0x0909_0909);
    assert_eq!(guest.call("actuators.write", &args(&[&valve, &two, &[OUT]])), TOO_SOON);
    assert_eq!(guest.number(OUT as u32), 1500);
    assert_eq!(guest.call("actuators.write", &args(&[&valve, &two, &[0]])), TOO_SOON);
    assert_eq!(guest.capd.asked()[0], Request::Actuate { actuator: 0, value: "1".into() });
}

#[test]
fn bad_writes_to_actuators_are_refused() {
    let mut guest = Guest::new();
    let (valve, secret, one) = (guest.text("valve"), guest.text("secret"), guest.text("1"));
    assert_eq!(guest.call("actuators.write", &args(&[&secret, &one, &[0]])), NOT_ALLOWED);
    assert_eq!(guest.capd.asked(), [denied(Kind::Actuator, "secret", Why::Name)]);
    let (long, broken) = (guest.text([b'1'; 65]), guest.text([0xc3, 0x28]));
    assert_eq!(guest.call("actuators.write", &args(&[&valve, &long, &[0]])), TOO_LONG);
    assert_eq!(guest.call("actuators.write", &args(&[&valve, &broken, &[0]])), BAD_ARGUMENT);
    assert_eq!(guest.call("actuators.write", &args(&[&broken, &one, &[0]])), BAD_ARGUMENT);
    assert_eq!(guest.call("actuators.write", &args(&[&valve, &one, &[MEMORY - 3]])), BAD_POINTER);
    assert_eq!(guest.call("actuators.write", &args(&[&valve, &[MEMORY, 1], &[0]])), BAD_POINTER);
    assert_eq!(guest.capd.asked(), []);
}

#[test]
fn every_error_of_capd_has_its_number() {
    let mut guest = Guest::new();
    let (valve, one) = (guest.text("valve"), guest.text("1"));
    for (err, number) in [
        (Error::NotFound, -6),
        (Error::NotAllowed, -7),
        (Error::ModeNotAllowed, -8),
        (Error::AlreadyInUse, -9),
        (Error::BadValue, -10),
        (Error::TooSoon { wait_ms: 1 }, -11),
        (Error::NotOn, -12),
        (Error::Gone, -13),
        (Error::NotSupported, -16),
        (Error::TooLong, -3),
        (Error::BadRequest, -2),
        (Error::HardwareFault, -15),
        (Error::Bus, -20),
        (Error::ArbitrationLoss, -21),
        (Error::NoAcknowledgeAddress, -22),
        (Error::NoAcknowledgeData, -23),
        (Error::NoAcknowledge, -24),
        (Error::Overrun, -25),
        (Error::Other, -26),
    ] {
        guest.capd.be_odd(Oddity::Say(Err(err), 0));
        assert_eq!(guest.call("actuators.write", &args(&[&valve, &one, &[0]])), number, "{err:?}");
    }
}

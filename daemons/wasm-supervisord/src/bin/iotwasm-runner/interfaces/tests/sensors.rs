use iotwasm_session::{Kind, Reply, Request, Why};

use super::{super::number::*, Guest, MEMORY, args};
use crate::capd::{Oddity, denied};

/// Where the length of an answer goes, and the answer.
const LENGTH: i64 = 8;
const BUFFER: i64 = 64;

fn read(guest: &mut Guest, sensor: impl AsRef<[u8]>, of: impl AsRef<[u8]>) -> Result<String, i32> {
    let (sensor, of) = (guest.text(sensor), guest.text(of));
    match guest.call("sensors.read", &args(&[&sensor, &of, &[BUFFER, 1000, LENGTH]])) {
        OK => {
            let length = guest.number(LENGTH as u32) as usize;
            Ok(String::from_utf8(guest.get(BUFFER as u32, length)).unwrap())
        }
        number => Err(number),
    }
}

fn named(guest: &mut Guest, function: &str, sensor: impl AsRef<[u8]>) -> i32 {
    let sensor = guest.text(sensor);
    guest.call(function, &sensor)
}

fn config(guest: &mut Guest, sensor: &str, attribute: &str, value: impl AsRef<[u8]>) -> i32 {
    let texts = [guest.text(sensor), guest.text(attribute), guest.text(value)];
    guest.call("sensors.config", texts.as_flattened())
}

#[test]
fn the_sensors_are_listed() {
    let mut guest = Guest::new();
    assert_eq!(guest.call("sensors.get_sensors", &[BUFFER, 13, LENGTH]), OK);
    assert_eq!((guest.number(LENGTH as u32), guest.get(BUFFER as u32, 13)), (13, b"climate\nlight".to_vec()));
    assert_eq!(guest.capd.asked(), []);
}

#[test]
fn a_buffer_that_is_too_small_is_left_alone_and_the_length_told() {
    let mut guest = Guest::new();
    guest.put(BUFFER as u32, b"untouched");
    assert_eq!(guest.call("sensors.get_sensors", &[BUFFER, 12, LENGTH]), BUFFER_TOO_SMALL);
    assert_eq!((guest.number(LENGTH as u32), guest.get(BUFFER as u32, 9)), (13, b"untouched".to_vec()));
    let (climate, temperature) = (guest.text("climate"), guest.text("temperature"));
    assert_eq!(guest.call("sensors.turn_on", &climate), OK);
    let call = args(&[&climate, &temperature, &[BUFFER, 10, LENGTH]]);
    assert_eq!(guest.call("sensors.read", &call), BUFFER_TOO_SMALL);
    assert_eq!((guest.number(LENGTH as u32), guest.get(BUFFER as u32, 9)), (11, b"untouched".to_vec()));
}

#[test]
fn a_value_is_read_from_its_descriptor_without_asking() {
    let mut guest = Guest::new();
    assert_eq!(read(&mut guest, "climate", "temperature"), Err(NOT_ON));
    assert_eq!(named(&mut guest, "sensors.turn_on", "climate"), OK);
    assert_eq!(guest.capd.asked(), [Request::TurnOn { sensor: 0 }]);
    for text in ["25080", "100.653000000", "", "two\nlines"] {
        guest.capd.set_value(0, 0, &format!("{text}\n"));
        assert_eq!(read(&mut guest, "climate", "temperature").as_deref(), Ok(text));
    }
    assert_eq!(read(&mut guest, "climate", "rate").as_deref(), Ok("rate"));
    assert_eq!(guest.capd.asked(), []);
}

#[test]
fn the_activity_byte_of_that_sensor_alone_is_written() {
    let mut guest = Guest::new();
    assert_eq!(named(&mut guest, "sensors.turn_on", "light"), OK);
    assert_eq!(guest.capd.activity(1), 0xff);
    read(&mut guest, "light", "lux").unwrap();
    assert_eq!((guest.capd.activity(0), guest.capd.activity(1), guest.capd.activity(2)), (0xff, 0, 0xff));
}

#[test]
fn every_sensor_tells_what_it_has_and_does() {
    let mut guest = Guest::new();
    assert_eq!(read(&mut guest, "climate", "capabilities").as_deref(), Ok("temperature read m°C\ncount read"));
    assert_eq!(read(&mut guest, "climate", "attributes").as_deref(), Ok("rate read-write Hz\nreset write"));
    assert_eq!(read(&mut guest, "light", "attributes").as_deref(), Ok(""));
    assert_eq!(read(&mut guest, "light", "state").as_deref(), Ok("Sleeping"));
    assert_eq!(guest.capd.asked(), [Request::State { sensor: 1 }]);
}

#[test]
fn an_attribute_is_set_by_capd_while_the_sensor_is_on() {
    let mut guest = Guest::new();
    assert_eq!(config(&mut guest, "climate", "rate", "25"), NOT_ON);
    assert_eq!(guest.capd.asked(), []);
    assert_eq!(named(&mut guest, "sensors.turn_on", "climate"), OK);
    assert_eq!(config(&mut guest, "climate", "rate", "25"), OK);
    assert_eq!(config(&mut guest, "climate", "reset", "7"), BAD_VALUE);
    let asked = guest.capd.asked();
    assert_eq!(asked[1], Request::Config { sensor: 0, channel: 2, value: "25".into() });
    assert_eq!(asked[2], Request::Config { sensor: 0, channel: 3, value: "7".into() });
}

#[test]
fn a_sensor_that_was_turned_off_is_not_read() {
    let mut guest = Guest::new();
    assert_eq!(named(&mut guest, "sensors.turn_on", "climate"), OK);
    assert_eq!(named(&mut guest, "sensors.turn_off", "climate"), OK);
    assert_eq!(read(&mut guest, "climate", "temperature"), Err(NOT_ON));
    assert_eq!(named(&mut guest, "sensors.turn_off", "climate"), OK);
    assert_eq!(guest.capd.asked(), [Request::TurnOn { sensor: 0 }, Request::TurnOff { sensor: 0 }]);
}

#[test]
fn what_capd_does_not_turn_on_stays_off() {
    let mut guest = Guest::new();
    guest.capd.be_odd(Oddity::Say(Err(iotwasm_session::Error::Gone), 0));
    assert_eq!(named(&mut guest, "sensors.turn_on", "climate"), GONE);
    assert_eq!(read(&mut guest, "climate", "temperature"), Err(NOT_ON));
}

#[test]
fn what_was_not_granted_is_denied_by_its_name() {
    let mut guest = Guest::new();
    let sensor = |name, why| denied(Kind::Sensor, name, why);
    assert_eq!(named(&mut guest, "sensors.turn_on", "nothing"), NOT_FOUND);
    assert_eq!(named(&mut guest, "sensors.turn_off", "secret"), NOT_ALLOWED);
    assert_eq!(read(&mut guest, "secret", "temperature"), Err(NOT_ALLOWED));
    assert_eq!(read(&mut guest, "climate", "pressure"), Err(NOT_FOUND));
    assert_eq!(read(&mut guest, "climate", "reset"), Err(MODE_NOT_ALLOWED));
    assert_eq!(config(&mut guest, "climate", "temperature", "1"), MODE_NOT_ALLOWED);
    assert_eq!(config(&mut guest, "climate", "", "1"), NOT_FOUND);
    assert_eq!(
        guest.capd.asked(),
        [
            sensor("nothing", Why::Name),
            sensor("secret", Why::Name),
            sensor("secret.temperature", Why::Name),
            sensor("climate.pressure", Why::Name),
            sensor("climate.reset", Why::Mode),
            sensor("climate.temperature", Why::Mode),
            sensor("climate.", Why::Name),
        ]
    );
}

#[test]
fn what_every_sensor_answers_cannot_be_set() {
    let mut guest = Guest::new();
    for attribute in ["capabilities", "attributes", "state"] {
        assert_eq!(config(&mut guest, "climate", attribute, "1"), MODE_NOT_ALLOWED);
    }
    assert_eq!(guest.capd.asked(), []);
}

#[test]
fn names_that_are_sent_on_are_cut_between_characters() {
    let mut guest = Guest::new();
    let long = "ä".repeat(64);
    assert_eq!(read(&mut guest, &long, &long), Err(NOT_FOUND));
    let Request::Denied { name, .. } = &guest.capd.asked()[0] else { panic!() };
    assert_eq!(*name, format!("{long}."));
}

#[test]
fn bad_texts_are_refused_without_asking() {
    let mut guest = Guest::new();
    assert_eq!(named(&mut guest, "sensors.turn_on", [b'a'; 130]), TOO_LONG);
    assert_eq!(named(&mut guest, "sensors.turn_on", [0xc3]), BAD_ARGUMENT);
    assert_eq!(guest.call("sensors.turn_on", &[0, 10_000_000]), TOO_LONG);
    assert_eq!(guest.call("sensors.turn_on", &[-1, -1]), TOO_LONG);
    assert_eq!(guest.call("sensors.turn_on", &[MEMORY - 3, 4]), BAD_POINTER);
    assert_eq!(guest.call("sensors.turn_off", &[-1, 1]), BAD_POINTER);
    assert_eq!(config(&mut guest, "climate", "rate", [b'1'; 65]), TOO_LONG);
    assert_eq!(config(&mut guest, "climate", "rate", [0xff]), BAD_ARGUMENT);
    assert_eq!(guest.capd.asked(), []);
}

#[test]
fn bad_buffers_are_refused_before_anything_is_done() {
    let mut guest = Guest::new();
    let texts = [guest.text("climate"), guest.text("pressure")];
    for buffer in [
        [MEMORY - 1, 2, LENGTH],
        [0, -1, LENGTH],
        [-1, 1, LENGTH],
        [MEMORY, 1, LENGTH],
        [BUFFER, 10, MEMORY - 3],
        [BUFFER, 10, -4],
    ] {
        assert_eq!(guest.call("sensors.read", &args(&[texts.as_flattened(), &buffer])), BAD_POINTER, "{buffer:?}");
        assert_eq!(guest.call("sensors.get_sensors", &buffer), BAD_POINTER, "{buffer:?}");
    }
    // The last byte and nothing beyond the end are within.
    assert_eq!(guest.call("sensors.get_sensors", &[MEMORY, 0, MEMORY - 4]), BUFFER_TOO_SMALL);
    assert_eq!(guest.capd.asked(), []);
}

#[test]
fn a_device_that_is_back_is_turned_on_again_once() {
    let mut guest = Guest::new();
    // A value that cannot be opened is what a device that has gone leaves.
    guest.capd.be_odd(Oddity::Say(Ok(Reply::On { readable: vec![] }), 0));
    assert_eq!(named(&mut guest, "sensors.turn_on", "climate"), OK);
    assert_eq!(read(&mut guest, "climate", "temperature").as_deref(), Ok("temperature"));
    assert_eq!(guest.capd.asked(), [Request::TurnOn { sensor: 0 }, Request::TurnOn { sensor: 0 }]);
}

#[test]
fn a_device_that_stays_away_is_gone() {
    let mut guest = Guest::new();
    for _ in 0..2 {
        guest.capd.be_odd(Oddity::Say(Ok(Reply::On { readable: vec![] }), 0));
    }
    assert_eq!(named(&mut guest, "sensors.turn_on", "climate"), OK);
    assert_eq!(read(&mut guest, "climate", "temperature"), Err(GONE));
    assert_eq!(guest.capd.asked().len(), 2);
}

#[test]
fn a_value_that_cannot_be_read_is_a_hardware_fault() {
    let mut guest = Guest::new();
    guest.capd.be_odd(Oddity::Say(Ok(Reply::On { readable: vec![0] }), 1));
    assert_eq!(named(&mut guest, "sensors.turn_on", "climate"), OK);
    assert_eq!(read(&mut guest, "climate", "temperature"), Err(HARDWARE_FAULT));
    assert_eq!(guest.capd.activity(0), 0);
}

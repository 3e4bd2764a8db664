//! The judges of I2C and SPI: one fixture for each way around the rules.
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod common;

use common::{board, everything, granted, request};
use iotwasm_grant::grant::I2cGrant;
use iotwasm_grant::i2c::{self, I2cDenial, Message};
use iotwasm_grant::spi::{self, SpiDenial};
use iotwasm_grant::{Board, I2cTransfer};
use proptest::prelude::*;

use i2c::Operation::{Read, Write};

fn eeprom() -> I2cGrant {
    granted("i2c.eeprom = ['write', 'write_read']").i2c()["eeprom"].clone()
}

/// A device with these lines in the board file, all of it granted.
fn device(lines: &str, transfers: &str) -> I2cGrant {
    let text = format!("name = 'x'\n[i2c.d]\nbus = 1\naddress = 0x40\ntransfers = {transfers}\n{lines}");
    let board = Board::parse(text.as_bytes()).unwrap();
    let asked = request(&format!("i2c.d = {transfers}"));
    iotwasm_grant::grant(&asked, &everything(), &board).unwrap().i2c()["d"].clone()
}

fn register(result: Result<i2c::Transaction, I2cDenial>) -> Option<(u32, bool)> {
    match result {
        Err(I2cDenial::Register { register, write }) => Some((register, write)),
        other => panic!("{other:?}"),
    }
}

#[test]
fn registers_are_reached_within_their_ranges_and_their_direction() {
    let d = eeprom();
    let judged = d.judge(&[Write(&[0x0e]), Read(4)]).unwrap();
    assert_eq!((judged.address(), judged.messages()), (0x50, &[Message::Write(vec![0x0e]), Message::Read(4)][..]));
    assert!(d.judge(&[Write(&[0x0f, 1])]).is_ok());
    assert!(d.judge(&[Write(&[0x20, 1]), Write(&[2, 3])]).is_ok());
    assert_eq!(register(d.judge(&[Write(&[0x10, 1])])), Some((0x10, true)));
    assert_eq!(register(d.judge(&[Write(&[0x30]), Read(1)])), Some((0x30, false)));
    assert_eq!(register(d.judge(&[Write(&[0x40]), Read(1)])), Some((0x40, false)));
}

#[test]
fn a_long_transfer_cannot_run_into_the_next_range() {
    let d = eeprom();
    assert_eq!(register(d.judge(&[Write(&[0x0f, 1, 2])])), Some((0x10, true)));
    assert_eq!(register(d.judge(&[Write(&[0x2f]), Read(2)])), Some((0x30, false)));
    let end = device("registers = [{ from = 0, to = 0xff, access = 'read' }]", "['write_read']");
    assert_eq!(register(end.judge(&[Write(&[0xff]), Read(2)])), Some((0x100, false)));
}

#[test]
fn a_plain_read_cannot_hide_its_register() {
    let d = device("registers = [{ from = 0, to = 1, access = 'read-write' }]", "['read', 'write', 'write_read']");
    assert!(matches!(d.judge(&[Read(1)]), Err(I2cDenial::Shape { .. })));
    assert!(matches!(d.judge(&[Read(1), Write(&[0])]), Err(I2cDenial::Shape { .. })));
}

#[test]
fn a_write_cannot_hide_before_a_read() {
    let d = eeprom();
    assert!(matches!(d.judge(&[Write(&[0x00, 0xff]), Read(1)]), Err(I2cDenial::Shape { .. })));
    // Nor split over operations that the bus joins.
    assert!(matches!(d.judge(&[Write(&[0x00]), Write(&[0xff]), Read(1)]), Err(I2cDenial::Shape { .. })));
    // Without rules and without the right to write, a register's address is all that goes out.
    let open = device("", "['write_read']");
    assert!(open.judge(&[Write(&[0x00]), Read(1)]).is_ok());
    let denied = open.judge(&[Write(&[0x00, 0xff]), Read(1)]);
    assert_eq!(denied, Err(I2cDenial::Transfer { transfer: I2cTransfer::Write }));
    let writable = device("", "['write', 'write_read']");
    assert!(writable.judge(&[Write(&[0x00, 0xff]), Read(1)]).is_ok());
}

#[test]
fn register_and_value_pairs_cannot_reach_another_register() {
    // A BME280 takes 0xe0 0xb6 after the first value as "reset", whatever the first register was.
    let d = device("registers = [{ from = 0xf2, to = 0xf5, access = 'read-write' }]", "['write', 'write_read']");
    assert!(d.judge(&[Write(&[0xf2, 1])]).is_ok());
    assert!(matches!(d.judge(&[Write(&[0xf2, 1, 0xe0, 0xb6])]), Err(I2cDenial::Shape { .. })));
    assert!(matches!(d.judge(&[Write(&[0xf2, 1]), Write(&[0xe0, 0xb6])]), Err(I2cDenial::Shape { .. })));
}

#[test]
fn a_command_byte_counts_as_a_write() {
    let d = eeprom();
    assert_eq!(register(d.judge(&[Write(&[0x10])])), Some((0x10, true)));
    assert!(d.judge(&[Write(&[0x00])]).is_ok());
}

#[test]
fn wide_registers_have_wide_addresses_and_values() {
    let rules = "register_address_bytes = 2\nregister_value_bytes = 2\nwrite_increments = true\n\
                 registers = [{ from = 0x100, to = 0x101, access = 'read-write' }]";
    let d = device(rules, "['write', 'write_read']");
    assert!(d.judge(&[Write(&[1, 0]), Read(4)]).is_ok());
    assert!(d.judge(&[Write(&[1, 0, 1, 2, 3, 4])]).is_ok());
    assert_eq!(register(d.judge(&[Write(&[1, 0]), Read(5)])), Some((0x102, false)));
    assert_eq!(register(d.judge(&[Write(&[0, 0]), Read(1)])), Some((0, false)));
    assert!(matches!(d.judge(&[Write(&[1]), Read(1)]), Err(I2cDenial::Shape { .. })));
    assert!(matches!(d.judge(&[Write(&[1])]), Err(I2cDenial::Shape { .. })));
}

#[test]
fn each_part_of_a_transaction_needs_its_own_right() {
    let d = device("", "['write_read']");
    for (operations, transfer) in [
        (&[Read(1)][..], I2cTransfer::Read),
        (&[Write(&[1])], I2cTransfer::Write),
        (&[Write(&[1]), Read(1), Write(&[1])], I2cTransfer::Write),
        (&[Read(1), Write(&[1]), Read(1)], I2cTransfer::Read),
    ] {
        assert_eq!(d.judge(operations), Err(I2cDenial::Transfer { transfer }));
    }
    assert!(d.judge(&[Write(&[1]), Read(1), Write(&[2]), Read(1)]).is_ok());
}

#[test]
fn lengths_and_counts_have_their_limits() {
    let d = device("", "['read', 'write', 'write_read']");
    assert_eq!(d.judge(&[]), Err(I2cDenial::Empty));
    assert_eq!(d.judge(&[Read(0)]), Err(I2cDenial::Empty));
    assert_eq!(d.judge(&[Write(&[])]), Err(I2cDenial::Empty));
    assert!(d.judge(&[Read(32)]).is_ok() && d.judge(&[Write(&[0; 32])]).is_ok());
    for operations in [&[Read(33)][..], &[Write(&[0; 33])], &[Read(16), Read(17)], &[Write(&[0; 32]), Write(&[0])]] {
        assert_eq!(d.judge(operations), Err(I2cDenial::TooLong { length: 33, limit: 32 }));
    }
    let most = usize::MAX;
    assert_eq!(d.judge(&[Read(1), Read(most)]), Err(I2cDenial::TooLong { length: most, limit: 32 }));
    let many = |n: usize| (0..n).map(|i| if i % 2 == 0 { Write(&[0]) } else { Read(1) }).collect::<Vec<_>>();
    assert!(d.judge(&many(42)).is_ok());
    assert!(matches!(d.judge(&many(44)), Err(I2cDenial::TooMany { .. })));
    assert!(matches!(d.judge(&vec![Write(&[]); 129]), Err(I2cDenial::TooMany { .. })));
}

#[test]
fn spi_is_judged_by_transfer_and_length() {
    use spi::Operation::{Read, Transfer, Write};
    let grant = granted("spi.display = ['write']");
    let d = &grant.spi()["display"];
    assert!(d.judge(&[Write(2), Write(62)]).is_ok());
    assert!(matches!(d.judge(&[Transfer(2)]), Err(SpiDenial::Transfer { .. })));
    assert!(matches!(d.judge(&[Read(2)]), Err(SpiDenial::Transfer { .. })));
    assert_eq!(d.judge(&[]), Err(SpiDenial::Empty));
    assert_eq!(d.judge(&[Write(0)]), Err(SpiDenial::Empty));
    assert_eq!(d.judge(&[Write(3)]), Err(SpiDenial::BrokenWord { length: 3, word: 2 }));
    assert_eq!(d.judge(&[Write(62), Write(4)]), Err(SpiDenial::TooLong { length: 66, limit: 64 }));
    assert!(matches!(d.judge(&[Write(usize::MAX - 1), Write(2)]), Err(SpiDenial::TooLong { .. })));
    assert!(matches!(d.judge(&[Write(2); 65]), Err(SpiDenial::TooMany { count: 65 })));
}

/// What a device with one-byte registers does with a message, when it goes on to the next register and when it does not.
fn touched(messages: &[Message], increments: bool) -> Vec<(u8, bool)> {
    let mut pointer = 0_u8;
    let mut touched = Vec::new();
    let step = |pointer: &mut u8| *pointer = pointer.wrapping_add(u8::from(increments));
    for message in messages {
        match message {
            Message::Write(bytes) => {
                pointer = bytes[0];
                for _ in &bytes[1..] {
                    touched.push((pointer, true));
                    step(&mut pointer);
                }
            }
            Message::Read(length) => {
                for _ in 0..*length {
                    touched.push((pointer, false));
                    step(&mut pointer);
                }
            }
        }
    }
    touched
}

proptest! {
    /// Whatever is judged good touches no register outside the rules, on either kind of device.
    #[test]
    fn no_judged_transaction_leaves_the_rules(
        operations in prop::collection::vec((any::<bool>(), prop::collection::vec(0..0x50_u8, 0..5)), 1..6),
    ) {
        let operations: Vec<_> =
            operations.iter().map(|(write, bytes)| if *write { Write(bytes) } else { Read(bytes.len()) }).collect();
        if let Ok(judged) = eeprom().judge(&operations) {
            let rules = board().i2c["eeprom"].registers.clone().unwrap();
            for (register, write) in [touched(judged.messages(), true), touched(judged.messages(), false)].concat() {
                let allowed = rules.iter().any(|rule| {
                    (rule.from..=rule.to).contains(&register.into())
                        && if write { rule.access.writes() } else { rule.access.reads() }
                });
                prop_assert!(allowed, "register {register:#x}, write {write}: {judged:?}");
            }
        }
    }
}

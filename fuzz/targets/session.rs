//! A packet of a session, from either end: no panic, bounded, and what is understood is understood the same way when it is
//! written and read again. Then what a runner asks of a bus goes through the judges, which must keep to the grant.
#![no_main]

use std::sync::LazyLock;

use iotwasm_grant::{Board, Grant, Request as Asked, Tier, grant, i2c, spi};
use iotwasm_session::{Answer, I2cOperation, MAX_OPERATIONS, MAX_PACKET, Request, SpiOperation, decode, encode};

const BOARD: &[u8] = br#"
name = "b"
[i2c.d]
bus = 1
address = 0x50
transfers = ["read", "write", "write_read"]
write_increments = true
registers = [{ from = 0, to = 15, access = "read-write" }]
[spi.d]
bus = 0
chip_select = 0
speed_hz = 1000000
bits_per_word = 16
transfers = ["read", "write", "transfer"]
max_length = 64
"#;
const TIER: &[u8] = br#"
[i2c]
"*" = ["write", "write_read"]
[spi]
"*" = ["read", "write", "transfer"]
"#;
const ASKED: &[u8] = br#"
[i2c]
d = ["write", "write_read"]
[spi]
d = ["write", "transfer"]
"#;

static GRANT: LazyLock<Grant> = LazyLock::new(|| {
    let board = Board::parse(BOARD).expect("a board");
    let tier = Tier::parse("role".parse().expect("a name"), TIER).expect("a tier");
    grant(&Asked::parse(ASKED).expect("a request"), &tier, &board).expect("a grant")
});

libfuzzer_sys::fuzz_target!(|packet: &[u8]| {
    if let Some(answer) = decode::<Answer>(packet) {
        let again = encode(&answer).expect("what fitted in a packet fits again");
        assert_eq!(decode::<Answer>(&again), Some(answer));
    }
    let Some(request) = decode::<Request>(packet) else { return };
    let again = encode(&request).expect("what fitted in a packet fits again");
    assert!(again.len() <= packet.len() && again.len() <= MAX_PACKET);
    assert_eq!(decode::<Request>(&again).as_ref(), Some(&request));
    match request {
        Request::I2c { operations, .. } => {
            assert!(operations.len() <= MAX_OPERATIONS);
            let device = GRANT.i2c().values().next().expect("one");
            let asked: Vec<_> = operations
                .iter()
                .map(|operation| match operation {
                    I2cOperation::Read(length) => i2c::Operation::Read(*length as usize),
                    I2cOperation::Write(bytes) => i2c::Operation::Write(bytes),
                })
                .collect();
            if let Ok(transaction) = device.judge(&asked) {
                for message in transaction.messages() {
                    match message {
                        i2c::Message::Read(length) => assert!((1..=16).contains(length)),
                        i2c::Message::Write(bytes) => {
                            assert!((1..=17).contains(&bytes.len()) && usize::from(bytes[0]) + bytes.len() <= 17);
                        }
                    }
                }
            }
        }
        Request::Spi { operations, .. } => {
            assert!(operations.len() <= MAX_OPERATIONS);
            let device = GRANT.spi().values().next().expect("one");
            let asked: Vec<_> = operations
                .iter()
                .filter_map(|operation| match operation {
                    SpiOperation::Read(length) => Some(spi::Operation::Read(*length as usize)),
                    SpiOperation::Write(bytes) => Some(spi::Operation::Write(bytes.len())),
                    SpiOperation::Transfer(bytes) => Some(spi::Operation::Transfer(bytes.len())),
                    SpiOperation::DelayNs(_) => None,
                })
                .collect();
            if device.judge(&asked).is_ok() {
                assert!(!asked.iter().any(|operation| matches!(operation, spi::Operation::Read(_))));
            }
        }
        _ => {}
    }
});

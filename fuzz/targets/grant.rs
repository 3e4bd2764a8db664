//! A board file, a tier and a request, divided by lines of dashes: each is refused or read, never a crash; what is read
//! survives being written and read again; and what is granted is within what each of the three says. Then the rest of the
//! input is thrown at the judges of the grant.
#![no_main]

use iotwasm_grant::{Board, Kind, Request, Tier, Value, beyond_board, beyond_tier, grant, i2c, spi};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let mut parts = text.split("\n---\n");
    let mut next = || parts.next().unwrap_or_default();
    let (board, tier, request, rest) = (next(), next(), next(), next());
    let role = "role".parse().expect("a name");
    let board = Board::parse(board.as_bytes());
    let tier = Tier::parse(role, tier.as_bytes());
    let request = Request::parse(request.as_bytes());
    if let Ok(request) = &request {
        let text = toml::to_string(request).expect("an accepted request can be written");
        assert_eq!(&Request::parse(text.as_bytes()).expect("and read again"), request);
    }
    let (Ok(board), Ok(tier), Ok(request)) = (board, tier, request) else { return };
    match grant(&request, &tier, &board) {
        Err(refusals) => {
            let both = beyond_tier(&request, &tier).len() + beyond_board(&request, &board).len();
            assert!(!refusals.is_empty() && refusals.len() == both);
        }
        Ok(granted) => {
            for (name, line) in granted.gpio() {
                assert!(
                    tier.line(name).covers(line.direction()) && board.gpio[name].direction.covers(line.direction())
                );
                assert!(board.actuator_of_line(name).is_none());
            }
            for (name, actuator) in granted.actuators() {
                assert!(actuator.rate().writes_per_minute <= board.actuators[name].writes_per_minute);
                for word in rest.split_whitespace() {
                    if let Ok(value) = Value::from_text(actuator.kind(), word)
                        && actuator.judge_write(&value).is_ok()
                    {
                        assert!(board.actuators[name].values.contains(&value));
                        assert!(value.is(Kind::Text) || value.is(Kind::Decimal));
                        let _ = actuator.output().register_message(&value);
                    }
                }
            }
            let pieces: Vec<&[u8]> = rest.as_bytes().chunks(3).collect();
            for device in granted.i2c().values() {
                let operations: Vec<_> = pieces
                    .iter()
                    .map(|piece| match piece[0] % 2 {
                        0 => i2c::Operation::Read(piece.len()),
                        _ => i2c::Operation::Write(&piece[1..]),
                    })
                    .collect();
                if let Ok(judged) = device.judge(&operations) {
                    assert_eq!(judged.address(), device.place().address);
                    assert!(!judged.messages().is_empty() && judged.messages().len() <= i2c::MAX_MESSAGES);
                }
            }
            for device in granted.spi().values() {
                let operations: Vec<_> = pieces.iter().map(|piece| spi::Operation::Write(piece[0].into())).collect();
                let _ = device.judge(&operations);
            }
        }
    }
});

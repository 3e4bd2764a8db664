//! Whatever bytes come in, capd gets a request of bounded size or an error.

use iotwasm_session::{
    Answer, Channel, I2cOperation, MAX_OPERATIONS, MAX_PACKET, ReceiveError, Request, SpiOperation, pair,
};
use proptest::prelude::*;
use rustix::net::SendFlags;

fn any_request() -> impl Strategy<Value = Request> {
    let bytes = || prop::collection::vec(any::<u8>(), 0..200);
    let i2c = prop_oneof![any::<u32>().prop_map(I2cOperation::Read), bytes().prop_map(I2cOperation::Write)];
    let spi = prop_oneof![
        any::<u32>().prop_map(SpiOperation::Read),
        bytes().prop_map(SpiOperation::Write),
        bytes().prop_map(SpiOperation::Transfer),
        any::<u32>().prop_map(SpiOperation::DelayNs),
    ];
    prop_oneof![
        Just(Request::Claim),
        any::<u16>().prop_map(|sensor| Request::TurnOn { sensor }),
        (any::<u16>(), any::<u16>(), ".{0,80}").prop_map(|(sensor, channel, value)| Request::Config {
            sensor,
            channel,
            value
        }),
        (any::<u16>(), prop::collection::vec(i2c, 0..20))
            .prop_map(|(device, operations)| Request::I2c { device, operations }),
        (any::<u16>(), prop::collection::vec(spi, 0..20))
            .prop_map(|(device, operations)| Request::Spi { device, operations }),
    ]
}

proptest! {
    #[test]
    fn what_is_asked_comes_over(request in any_request()) {
        let (runner, mut capd) = pair().unwrap();
        let runner: Channel<Request, Answer> = Channel::new(runner);
        runner.send(&request, &[]).unwrap();
        prop_assert_eq!(capd.receive(None).unwrap().message, request);
    }

    #[test]
    fn any_packet_is_a_request_or_an_error(packet in prop::collection::vec(any::<u8>(), 1..400)) {
        let (runner, mut capd) = pair().unwrap();
        rustix::net::send(&runner, &packet, SendFlags::empty()).unwrap();
        match capd.receive(None) {
            Ok(_) | Err(ReceiveError::Malformed) => {}
            Err(other) => prop_assert!(false, "{}", other),
        }
    }
}

#[test]
fn a_packet_that_claims_to_be_long_allocates_nothing_for_it() {
    // Request::I2c, device 0, 2^60 operations.
    let packet = [10, 0, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x10];
    let (runner, mut capd) = pair().unwrap();
    rustix::net::send(&runner, &packet, SendFlags::empty()).unwrap();
    assert!(matches!(capd.receive(None), Err(ReceiveError::Malformed)));
    assert!(packet.len() < MAX_PACKET);
}

#[test]
fn a_packet_full_of_the_shortest_operations_is_no_request() {
    let request = |count| Request::Spi { device: 0, operations: vec![SpiOperation::Read(0); count] };
    let (runner, mut capd) = pair().unwrap();
    let runner: Channel<Request, Answer> = Channel::new(runner);
    runner.send(&request(MAX_OPERATIONS), &[]).unwrap();
    assert_eq!(capd.receive(None).unwrap().message, request(MAX_OPERATIONS));
    for count in [MAX_OPERATIONS + 1, 75_000] {
        runner.send(&request(count), &[]).unwrap();
        assert!(matches!(capd.receive(None), Err(ReceiveError::Malformed)));
    }
}

#[test]
fn descriptors_that_a_runner_pushes_at_capd_are_closed() {
    let (runner, mut capd) = pair().unwrap();
    let runner: Channel<Request, Answer> = Channel::new(runner);
    let (read, write) = rustix::pipe::pipe().unwrap();
    runner.send(&Request::Claim, &[std::os::fd::AsFd::as_fd(&write)]).unwrap();
    drop(write);
    drop(capd.receive(None).unwrap());
    let mut end = std::fs::File::from(read);
    assert_eq!(std::io::Read::read(&mut end, &mut [0]).unwrap(), 0, "the pipe's last writer is closed");
}

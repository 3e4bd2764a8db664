//! Sends bytes over an SPI device whose output is wired to its input, and checks that they come back.
#![no_std]

use core::time::Duration;

use iotwasm_guest::embedded_hal::spi::{Operation, SpiDevice};
use iotwasm_guest::spi::Device;
use iotwasm_guest::{Error, Failure, Payload, Wait, fail, health, info, payload, wait};

/// Its name in the board file.
const DEVICE: &str = "loop";
/// How the board is expected to have set it up.
const FREQUENCY_HZ: u32 = 1_000_000;
const MODE: u8 = 0;
/// Bytes of one round.
const LENGTH: usize = 16;

#[derive(Default)]
struct Echo;

/// What was sent and what came back, if they differ.
struct Differs {
    sent: [u8; LENGTH],
    came: [u8; LENGTH],
}

/// One round: the same bytes in a transfer of their own and inside a transaction.
fn round(device: &mut Device, first: u8) -> Result<Option<Differs>, Error> {
    let sent: [u8; LENGTH] = core::array::from_fn(|i| first.wrapping_add(i as u8));
    let mut came = [0; LENGTH];
    device.transfer(&mut came, &sent)?;
    if came != sent {
        return Ok(Some(Differs { sent, came }));
    }
    came = [0; LENGTH];
    device.transaction(&mut [
        Operation::Write(&[first]),
        Operation::DelayNs(10_000),
        Operation::Transfer(&mut came, &sent),
    ])?;
    Ok((came != sent).then_some(Differs { sent, came }))
}

impl Payload for Echo {
    fn self_test(&mut self) -> Result<(), Failure> {
        let mut device = Device::open(DEVICE)?;
        device.configure(FREQUENCY_HZ, MODE, false)?;
        device.write(&[0x55])?;
        device.read(&mut [0; 1])?;
        if let Some(Differs { sent, came }) = round(&mut device, 0xa0)? {
            fail!("{DEVICE}: sent {:02x?}…, got {:02x?}…", &sent[..4], &came[..4]);
        }
        info!("{DEVICE}: {LENGTH} bytes came back as they were sent");
        Ok(())
    }

    fn run(&mut self) {
        let mut rounds = 0_u32;
        while wait(Duration::from_secs(1)) == Wait::Continue {
            match Device::open(DEVICE).and_then(|mut device| round(&mut device, rounds as u8)) {
                Ok(None) => {
                    rounds = rounds.wrapping_add(1);
                    health::healthy(format_args!("{rounds} rounds came back"));
                }
                Ok(Some(Differs { sent, came })) => health::failed(format_args!("sent {sent:02x?}, got {came:02x?}")),
                Err(error) => health::degraded(format_args!("{DEVICE}: {error}")),
            }
        }
    }
}

payload!(Echo);

#[cfg(test)]
mod tests {
    extern crate std;

    use std::string::ToString;

    use iotwasm_guest::embedded_hal::spi::Operation;
    use iotwasm_guest::testing::{self, Call, Loopback};
    use iotwasm_guest::{Error, Payload};

    use super::{DEVICE, Echo, FREQUENCY_HZ};

    #[test]
    fn bytes_that_come_back_are_healthy() {
        testing::reset();
        testing::add_spi(DEVICE, FREQUENCY_HZ, 0, Loopback);
        testing::stop_after(1);
        Echo.self_test().unwrap();
        Echo.run();
        let report = Call::Health { status: 0, message: "1 rounds came back".to_string() };
        assert!(testing::take().contains(&report));
    }

    #[test]
    fn a_loose_wire_fails_the_self_test() {
        testing::reset();
        let loose = |operations: &mut [Operation<'_, u8>]| -> Result<(), Error> {
            for operation in operations {
                if let Operation::Transfer(buffer, _) = operation {
                    buffer.fill(0xff);
                }
            }
            Ok(())
        };
        testing::add_spi(DEVICE, FREQUENCY_HZ, 0, loose);
        let failure = Echo.self_test().unwrap_err();
        assert_eq!(failure.message(), "loop: sent [a0, a1, a2, a3]…, got [ff, ff, ff, ff]…");
    }

    #[test]
    fn a_board_that_is_set_up_otherwise_fails_the_self_test() {
        testing::reset();
        testing::add_spi(DEVICE, FREQUENCY_HZ, 3, Loopback);
        assert_eq!(Echo.self_test().unwrap_err().message(), Error::ModeNotAllowed.to_string());
    }
}

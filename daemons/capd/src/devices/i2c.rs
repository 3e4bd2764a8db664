//! I2C through /dev/i2c-N. Adapters that only speak SMBus get the same transactions as SMBus transfers, where these mean
//! the same on the wire.

use std::{
    io,
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use i2cdev::{
    core::{I2CDevice, I2CMessage, I2CTransfer},
    linux::{LinuxI2CDevice, LinuxI2CError, LinuxI2CMessage},
};
use iotwasm_grant::{
    board::{I2cBus, I2cPlace},
    i2c::Message,
};
use rustix::io::Errno;

use super::{Fault, text};

/// Longest block of an SMBus transfer, in bytes (SMBus 3.2, 6.5.7, as the kernel has it).
const SMBUS_BLOCK: usize = 32;

/// An opened device; one transaction at a time.
struct Device {
    node: LinuxI2CDevice,
    /// The adapter has taken plain messages, so it is none that only speaks SMBus. Asking it (I2C_FUNCS) needs an ioctl that
    /// nothing safe offers; this tells the same without it.
    plain: bool,
}

/// A device, opened at its first use. Its lock is held while the device is waited for.
type Opened = Arc<Mutex<Option<Device>>>;

/// The devices that are in use. While one is open its adapter cannot be removed, so what a name meant it means still. The
/// lock is never held while one of them is waited for.
#[derive(Default)]
pub(super) struct Open {
    devices: Mutex<Vec<(I2cPlace, Opened)>>,
}

impl std::fmt::Debug for Open {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Open").finish_non_exhaustive()
    }
}

impl Open {
    pub(super) fn transfer(
        &self,
        dev: &Path,
        sys: &Path,
        place: &I2cPlace,
        messages: &[Message],
    ) -> Result<Vec<u8>, Fault> {
        let opened = self.opened(place);
        let mut opened = opened.lock().unwrap_or_else(PoisonError::into_inner);
        let mut device = match opened.take() {
            Some(device) => device,
            None => Device::open(dev, sys, place)?,
        };
        let done = device.transfer(messages, place);
        if !matches!(&done, Err(fault) if fault.errno() == Some(Errno::NODEV)) {
            *opened = Some(device);
        }
        done
    }

    /// Closes all but these. A transfer under way has the device until it ends.
    pub(super) fn keep(&self, needed: &[I2cPlace]) {
        self.lock().retain(|(place, _)| needed.contains(place));
    }

    fn opened(&self, place: &I2cPlace) -> Opened {
        let mut devices = self.lock();
        if let Some((_, opened)) = devices.iter().find(|(known, _)| known == place) {
            return Arc::clone(opened);
        }
        let opened = Opened::default();
        devices.push((place.clone(), Arc::clone(&opened)));
        opened
    }

    fn lock(&self) -> MutexGuard<'_, Vec<(I2cPlace, Opened)>> {
        self.devices.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Device {
    fn open(dev: &Path, sys: &Path, place: &I2cPlace) -> Result<Self, Fault> {
        let path = dev.join(format!("i2c-{}", number(sys, &place.bus)?));
        let node =
            LinuxI2CDevice::new(&path, place.address.into()).map_err(|err| Fault::of(words(place), io_error(err)))?;
        Ok(Self { node, plain: false })
    }

    fn transfer(&mut self, messages: &[Message], place: &I2cPlace) -> Result<Vec<u8>, Fault> {
        // What the bus says (no acknowledge, …) is the caller's to name: the error stays as it is.
        let failed = |err: io::Error| match is_unsupported(&err) {
            true => Fault::of(words(place), err),
            false => Fault::Io { what: words(place), err },
        };
        match self.plain(messages) {
            // It may speak SMBus alone. What an adapter says that has taken plain messages before is its last word.
            Err(err) if is_unsupported(&err) && !self.plain => {}
            done => {
                self.plain |= done.is_ok();
                return done.map_err(failed);
            }
        }
        let mut bytes = Vec::new();
        for step in steps(messages).ok_or_else(|| Fault::Unsupported {
            what: words(place),
            why: "its adapter speaks SMBus, which has no such transfer (one byte of register address, at most 32 bytes)",
        })? {
            self.smbus(&step, &mut bytes).map_err(failed)?;
        }
        Ok(bytes)
    }

    fn plain(&mut self, messages: &[Message]) -> io::Result<Vec<u8>> {
        let total = messages.iter().map(|message| if let Message::Read(length) = message { *length } else { 0 }).sum();
        let mut bytes = vec![0; total];
        let mut rest = bytes.as_mut_slice();
        let mut raw: Vec<LinuxI2CMessage<'_>> = Vec::with_capacity(messages.len());
        for message in messages {
            raw.push(match message {
                Message::Write(out) => LinuxI2CMessage::write(out),
                Message::Read(length) => {
                    let (buffer, after) = std::mem::take(&mut rest).split_at_mut(*length);
                    rest = after;
                    LinuxI2CMessage::read(buffer)
                }
            });
        }
        self.node.transfer(&mut raw).map_err(io_error)?;
        drop(raw);
        Ok(bytes)
    }

    fn smbus(&mut self, step: &Step<'_>, bytes: &mut Vec<u8>) -> io::Result<()> {
        let node = &mut self.node;
        match *step {
            Step::ReadByte => bytes.push(node.smbus_read_byte().map_err(io_error)?),
            Step::WriteByte(byte) => node.smbus_write_byte(byte).map_err(io_error)?,
            Step::Read { register, length: 1 } => bytes.push(node.smbus_read_byte_data(register).map_err(io_error)?),
            Step::Read { register, length } => {
                let block = node.smbus_read_i2c_block_data(register, length).map_err(io_error)?;
                if block.len() != usize::from(length) {
                    return Err(Errno::IO.into());
                }
                bytes.extend(block);
            }
            Step::Write { register, data: &[byte] } => node.smbus_write_byte_data(register, byte).map_err(io_error)?,
            Step::Write { register, data } => node.smbus_write_i2c_block_data(register, data).map_err(io_error)?,
        }
        Ok(())
    }
}

/// One SMBus transfer.
#[derive(Debug, PartialEq, Eq)]
enum Step<'a> {
    ReadByte,
    WriteByte(u8),
    Read { register: u8, length: u8 },
    Write { register: u8, data: &'a [u8] },
}

/// A transaction as SMBus transfers, the bus released between two; `None` if one of its messages is none.
fn steps(messages: &[Message]) -> Option<Vec<Step<'_>>> {
    let block = |length: usize| u8::try_from(length).ok().filter(|n| (1..=SMBUS_BLOCK).contains(&usize::from(*n)));
    let mut steps = Vec::new();
    let mut rest = messages;
    while let Some(first) = rest.first() {
        let (step, used) = match (first, rest.get(1)) {
            (Message::Write(out), Some(Message::Read(length))) => match **out {
                [register] => (Step::Read { register, length: block(*length)? }, 2),
                _ => return None,
            },
            (Message::Write(out), _) => match &**out {
                [byte] => (Step::WriteByte(*byte), 1),
                [register, data @ ..] => {
                    block(data.len())?;
                    (Step::Write { register: *register, data }, 1)
                }
                [] => return None,
            },
            (Message::Read(1), _) => (Step::ReadByte, 1),
            (Message::Read(_), _) => return None,
        };
        steps.push(step);
        rest = &rest[used..];
    }
    Some(steps)
}

/// Whether the adapter is there and no driver of the kernel has the address.
pub(super) fn is_free(dev: &Path, sys: &Path, place: &I2cPlace) -> Result<(), Fault> {
    let number = number(sys, &place.bus)?;
    dev.join(format!("i2c-{number}")).metadata().map_err(|err| Fault::of(words(place), err))?;
    let client = sys.join(format!("bus/i2c/devices/{number}-{:04x}/driver", place.address));
    if client.exists() { Err(Fault::Busy { what: words(place) }) } else { Ok(()) }
}

/// The adapter's number.
pub(super) fn number(sys: &Path, bus: &I2cBus) -> Result<u16, Fault> {
    let name = match bus {
        I2cBus::Number(number) => return Ok(*number),
        I2cBus::Name(name) => name,
    };
    let what = || format!("I2C adapter {name:?}");
    let failed = |err| Fault::of(what(), err);
    let mut found = None;
    for entry in std::fs::read_dir(sys.join("bus/i2c/devices")).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let Some(number) = entry.file_name().to_str().and_then(|name| name.strip_prefix("i2c-")?.parse::<u16>().ok())
        else {
            continue;
        };
        if text(&entry.path().join("name")).is_ok_and(|text| text == *name) && found.replace(number).is_some() {
            return Err(Fault::Ambiguous { what: what() });
        }
    }
    found.ok_or_else(|| Fault::Gone { what: what() })
}

fn is_unsupported(err: &io::Error) -> bool {
    Errno::from_io_error(err) == Some(Errno::OPNOTSUPP)
}

fn words(place: &I2cPlace) -> String {
    format!("I2C device {:#04x} on {}", place.address, place.bus)
}

fn io_error(err: LinuxI2CError) -> io::Error {
    match err {
        LinuxI2CError::Errno(errno) => io::Error::from_raw_os_error(errno),
        LinuxI2CError::Io(err) => err,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn transactions_become_smbus_transfers_only_where_these_mean_the_same() {
        let write = |bytes: &[u8]| Message::Write(bytes.to_vec());
        assert_eq!(
            steps(&[write(&[0xf7]), Message::Read(8), write(&[0xf4, 0x27])]).unwrap(),
            [Step::Read { register: 0xf7, length: 8 }, Step::Write { register: 0xf4, data: &[0x27] }]
        );
        assert_eq!(steps(&[write(&[0xe0])]).unwrap(), [Step::WriteByte(0xe0)]);
        assert_eq!(steps(&[Message::Read(1)]).unwrap(), [Step::ReadByte]);
        let long = write(&[0; 34]);
        for none in [
            &[write(&[1, 2]), Message::Read(1)][..],
            &[write(&[1]), Message::Read(33)],
            &[Message::Read(2)],
            &[long],
            &[write(&[])],
        ] {
            assert_eq!(steps(none), None, "{none:?}");
        }
    }

    #[test]
    fn only_what_is_needed_stays_open() {
        let place = |address| I2cPlace { bus: I2cBus::Number(1), address };
        let open = Open::default();
        let (one, _) = (open.opened(&place(0x50)), open.opened(&place(0x51)));
        open.keep(&[place(0x50), place(0x52)]);
        assert!(Arc::ptr_eq(&one, &open.opened(&place(0x50))));
        assert_eq!(open.lock().len(), 1);
        open.keep(&[]);
        assert!(open.lock().is_empty());
    }

    #[test]
    fn an_adapter_is_found_by_its_name_alone() {
        let sys = tempfile::tempdir().unwrap();
        let devices = sys.path().join("bus/i2c/devices");
        for (folder, name) in
            [("i2c-0", "one"), ("i2c-7", "two"), ("i2c-8", "twin"), ("i2c-9", "twin"), ("7-0076", "two")]
        {
            std::fs::create_dir_all(devices.join(folder)).unwrap();
            std::fs::write(devices.join(folder).join("name"), format!("{name}\n")).unwrap();
        }
        let number = |name: &str| number(sys.path(), &I2cBus::Name(name.into()));
        assert_eq!(number("two").unwrap(), 7);
        assert!(matches!(number("twin"), Err(Fault::Ambiguous { .. })));
        assert!(matches!(number("three"), Err(Fault::Gone { .. })));
    }
}

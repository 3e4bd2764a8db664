//! SPI through /dev/spidevB.C, with mode, clock and word as the board has them.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use iotwasm_grant::board::SpiDevice;
use iotwasm_session::SpiOperation;
use rustix::io::Errno;
use spidev::{SpiModeFlags, Spidev, SpidevOptions, SpidevTransfer};

use super::Fault;

/// Longest pause within a transaction, in microseconds: the bus is nobody else's meanwhile.
const MAX_DELAY_US: u16 = 10_000;

/// A device, opened at its first use. Its lock is held while the device is waited for.
type Opened = Arc<Mutex<Option<Spidev>>>;

/// The devices that are in use. The lock is never held while one of them is waited for.
#[derive(Default)]
pub(super) struct Open {
    devices: Mutex<BTreeMap<PathBuf, Opened>>,
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
        device: &SpiDevice,
        operations: &[SpiOperation],
    ) -> Result<Vec<u8>, Fault> {
        let path = node(dev, device);
        let opened = Arc::clone(self.lock().entry(path.clone()).or_default());
        let mut opened = opened.lock().unwrap_or_else(PoisonError::into_inner);
        let spi = match opened.take() {
            Some(spi) => spi,
            None => open(&path, device)?,
        };
        let done = carry_out(&spi, device, operations);
        if !matches!(&done, Err(Fault::Gone { .. })) {
            *opened = Some(spi);
        }
        done
    }

    /// Closes all but these. A transfer under way has the device until it ends.
    pub(super) fn keep(&self, dev: &Path, needed: &[SpiDevice]) {
        self.lock().retain(|path, _| needed.iter().any(|device| node(dev, device) == *path));
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<PathBuf, Opened>> {
        self.devices.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn open(path: &Path, device: &SpiDevice) -> Result<Spidev, Fault> {
    let failed = |err| Fault::of(words(device), err);
    let mut spi = Spidev::open(path).map_err(failed)?;
    let options = SpidevOptions::new()
        .bits_per_word(device.bits_per_word)
        .max_speed_hz(device.speed_hz)
        .lsb_first(false)
        .mode(SpiModeFlags::from_bits_truncate(u32::from(device.mode & 3)))
        .build();
    spi.configure(&options).map_err(failed)?;
    Ok(spi)
}

fn carry_out(spi: &Spidev, device: &SpiDevice, operations: &[SpiOperation]) -> Result<Vec<u8>, Fault> {
    let incoming = |operation: &SpiOperation| match operation {
        SpiOperation::Read(length) => *length as usize,
        SpiOperation::Transfer(bytes) => bytes.len(),
        SpiOperation::Write(_) | SpiOperation::DelayNs(_) => 0,
    };
    let mut bytes = vec![0; operations.iter().map(incoming).sum()];
    let mut rest = bytes.as_mut_slice();
    let mut transfers = Vec::with_capacity(operations.len());
    for operation in operations {
        let (buffer, after) = std::mem::take(&mut rest).split_at_mut(incoming(operation));
        rest = after;
        transfers.push(match operation {
            SpiOperation::Read(_) => SpidevTransfer::read(buffer),
            SpiOperation::Write(out) => SpidevTransfer::write(out),
            SpiOperation::Transfer(out) => SpidevTransfer::read_write(out, buffer),
            SpiOperation::DelayNs(nanos) => {
                let micros = u16::try_from(nanos.div_ceil(1000)).ok().filter(|micros| *micros <= MAX_DELAY_US);
                let too_long = || Fault::Unsupported { what: words(device), why: "a pause of more than 10 ms" };
                SpidevTransfer::delay(micros.ok_or_else(too_long)?)
            }
        });
    }
    spi.transfer_multiple(&mut transfers).map_err(|err| match Errno::from_io_error(&err) {
        Some(Errno::NODEV | Errno::SHUTDOWN) => Fault::Gone { what: words(device) },
        Some(Errno::MSGSIZE) => Fault::Unsupported {
            what: words(device),
            why: "a transaction longer than spidev's buffer (the parameter bufsiz of the module spidev)",
        },
        _ => Fault::Io { what: words(device), err },
    })?;
    drop(transfers);
    Ok(bytes)
}

pub(super) fn node(dev: &Path, device: &SpiDevice) -> PathBuf {
    dev.join(format!("spidev{}.{}", device.bus, device.chip_select))
}

pub(super) fn words(device: &SpiDevice) -> String {
    format!("SPI device {}.{}", device.bus, device.chip_select)
}

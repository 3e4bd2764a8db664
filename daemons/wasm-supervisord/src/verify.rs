//! What may run, kept where nobody can change it: the bytes that were verified go on in a sealed memory file, and the
//! runner gets that file. What was verified is what runs, whatever happens to the slot meanwhile.

use std::{
    fs::File,
    io::{self, Write},
    os::fd::OwnedFd,
};

use iotwasm_api::Reason;
use iotwasm_payload::{Digest, Manifest, PayloadId, Slot};
use iotwasm_verify::Verifier;
use rustix::fs::{MemfdFlags, SealFlags};

/// A payload that may run. Made by [`verify`] alone.
#[derive(Debug)]
pub struct Verified {
    manifest: Manifest,
    digest: Digest,
    length: u64,
    module: OwnedFd,
}

impl Verified {
    /// Its manifest.
    #[must_use]
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Its SHA-256.
    #[must_use]
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// Its length, in bytes.
    #[must_use]
    pub fn length(&self) -> u64 {
        self.length
    }

    /// The sealed memory file, for the runner.
    #[must_use]
    pub fn into_module(self) -> OwnedFd {
        self.module
    }
}

/// Why a slot may not run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It does not verify.
    #[error(transparent)]
    Slot(#[from] iotwasm_verify::Error),
    /// The memory file.
    #[error("could not keep the payload in memory")]
    Memory(#[source] io::Error),
}

impl Error {
    /// The kind of failure that callers and metrics are told.
    #[must_use]
    pub fn reason(&self) -> Reason {
        match self {
            Self::Slot(err) => err.reason(),
            Self::Memory(_) => Reason::StartFailed,
        }
    }
}

/// Judge what lies in a slot, and keep it. Reads up to a few MB and checks signatures: not for the loop's own thread.
///
/// # Errors
/// Why it may not run.
pub fn verify(verifier: &Verifier, payload: &PayloadId, slot: Slot) -> Result<Verified, Error> {
    let verified = verifier.verify(payload, slot)?;
    let module = seal(verified.bytes()).map_err(Error::Memory)?;
    let (digest, length) = (verified.digest(), verified.bytes().len() as u64);
    Ok(Verified { manifest: verified.into_manifest(), digest, length, module })
}

/// A memory file that nobody can change any more, whoever holds it.
fn seal(bytes: &[u8]) -> io::Result<OwnedFd> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let fd = match rustix::fs::memfd_create("payload", flags | MemfdFlags::NOEXEC_SEAL) {
        // Before Linux 6.3.
        Err(rustix::io::Errno::INVAL) => rustix::fs::memfd_create("payload", flags),
        other => other,
    }?;
    let mut file = File::from(fd);
    file.write_all(bytes)?;
    rustix::fs::fcntl_add_seals(&file, SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE)?;
    Ok(file.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    #[test]
    fn a_sealed_file_takes_no_write_from_anyone() {
        let fd = seal(b"module").unwrap();
        let copy = fd.as_fd().try_clone_to_owned().unwrap();
        assert!(rustix::io::pwrite(&copy, b"x", 0).is_err());
        assert!(rustix::fs::ftruncate(&copy, 0).is_err());
        let mut bytes = [0; 16];
        assert_eq!(rustix::io::pread(&fd, &mut bytes, 0).unwrap(), 6);
        assert_eq!(&bytes[..6], b"module");
    }
}

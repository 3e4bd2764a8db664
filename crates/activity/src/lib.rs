//! The activity file of a session, mapped: one byte for each sensor, which says whether its reader reads it now. Two
//! system calls for each reading would cost more than the reading. Owns the mapping and nothing else.
#![expect(unsafe_code, reason = "memory that is shared with another process has no safe form")]

use std::{
    io,
    os::fd::AsFd,
    sync::atomic::{AtomicU8, Ordering},
};

use rustix::{
    fs::SealFlags,
    mm::{MapFlags, ProtFlags},
};

/// The bytes, as long as this lives. None by default.
#[derive(Debug, Default)]
pub struct Activity(&'static [AtomicU8]);

impl Activity {
    /// Map a memory file whose end is sealed: bytes that go away under a reader would end the process.
    ///
    /// # Errors
    /// It can still shrink, it is no memory file, it cannot be written, or the system is out of something.
    pub fn of(file: impl AsFd) -> io::Result<Self> {
        if !rustix::fs::fcntl_get_seals(&file)?.contains(SealFlags::SHRINK) {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "the activity file can shrink"));
        }
        let length = usize::try_from(rustix::fs::fstat(&file)?.st_size).unwrap_or(0);
        // Nothing cannot be mapped.
        if length == 0 {
            return Ok(Self::default());
        }
        // SAFETY: the kernel chooses a place where nothing is. All of the length lies within the file for good, since it is
        // sealed. Other processes write it too, which atomics allow. The slice lives until `drop` takes the mapping away
        // and is lent for no longer than `self` is.
        Ok(Self(unsafe {
            let (protection, flags) = (ProtFlags::READ | ProtFlags::WRITE, MapFlags::SHARED);
            let place = rustix::mm::mmap(std::ptr::null_mut(), length, protection, flags, file, 0)?;
            std::slice::from_raw_parts(place.cast(), length)
        }))
    }

    /// Say whether this sensor is read now. Nothing for one that has no byte.
    pub fn set(&self, sensor: usize, active: bool) {
        if let Some(byte) = self.0.get(sensor) {
            byte.store(u8::from(active), Ordering::Relaxed);
        }
    }
}

impl Drop for Activity {
    fn drop(&mut self) {
        if self.0.is_empty() {
            return;
        }
        // SAFETY: a mapping of ours with this length, which nobody uses any more. It can only fail for another one.
        let _ = unsafe { rustix::mm::munmap(self.0.as_ptr().cast_mut().cast(), self.0.len()) };
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::OwnedFd;

    use rustix::fs::MemfdFlags;

    use super::*;

    fn file(length: u64, seals: SealFlags) -> OwnedFd {
        let file = rustix::fs::memfd_create("activity", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING).unwrap();
        rustix::fs::ftruncate(&file, length).unwrap();
        rustix::fs::fcntl_add_seals(&file, seals).unwrap();
        file
    }

    #[test]
    fn a_byte_is_written_and_its_neighbours_are_not() {
        let file = file(3, SealFlags::SHRINK);
        let activity = Activity::of(&file).unwrap();
        let bytes = || {
            let mut bytes = [0; 3];
            rustix::io::pread(&file, &mut bytes, 0).unwrap();
            bytes
        };
        activity.set(1, true);
        assert_eq!(bytes(), [0, 1, 0]);
        activity.set(3, true);
        activity.set(1, false);
        assert_eq!(bytes(), [0, 0, 0]);
    }

    #[test]
    fn a_file_of_nothing_is_no_error_and_one_that_can_shrink_is() {
        Activity::of(file(0, SealFlags::SHRINK)).unwrap().set(0, true);
        assert_eq!(Activity::of(file(3, SealFlags::GROW)).unwrap_err().kind(), io::ErrorKind::InvalidInput);
        assert!(Activity::of(std::fs::File::open("/dev/null").unwrap()).is_err());
    }
}

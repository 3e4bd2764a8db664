//! Between trials of payloads, which the worker begins, and the restart into new firmware, which the keeper orders on a thread
//! of its own: never both.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Shut from the start.
#[derive(Debug, Default)]
pub(crate) struct Gate {
    is_open: Mutex<bool>,
}

impl Gate {
    /// Lets trials of payloads begin; whether none could before.
    pub(crate) fn open(&self) -> bool {
        !std::mem::replace(&mut *self.lock(), true)
    }

    /// Lets none begin any more. Whatever began before has been counted when this comes back.
    pub(crate) fn shut(&self) {
        *self.lock() = false;
    }

    /// Whether trials may begin. Only [`Self::pass`] makes sure of it.
    pub(crate) fn is_open(&self) -> bool {
        *self.lock()
    }

    /// Counts a trial by `count`, if one may begin; whether it may.
    pub(crate) fn pass(&self, count: impl FnOnce()) -> bool {
        let is_open = self.lock();
        if *is_open {
            count();
        }
        *is_open
    }

    fn lock(&self) -> MutexGuard<'_, bool> {
        // A boolean is always whole.
        self.is_open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

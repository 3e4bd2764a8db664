//! A firmware release in words: `release.json`, with the artifacts, the verity root, the values that PCR 4 and PCR 11 must
//! take and the list of what may be executed; the signed target that names it; which of several a device installs, and what
//! becomes of it in its slot; and, behind the feature `predict`, how those
//! PCR values follow from the UKI.
//!
//! Pure: bytes in, values out. Knows no file, no clock, no tool and no signature.

pub mod choice;
pub mod image;
pub mod measured;
#[cfg(feature = "predict")]
pub mod predict;
pub mod release;
pub mod state;
pub mod target;

pub use iotwasm_values::{Digest, NotADigest, Slot};
pub use release::{Release, ReleaseError};

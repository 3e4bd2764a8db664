//! Values that payloads and firmware have in common: a SHA-256, one of two slots, a line that is short enough to be kept.
//!
//! Pure, and without a word of what they are of.

mod digest;
mod line;
mod slot;

pub use digest::{Digest, NotADigest};
pub use line::shorten;
pub use slot::{NotASlot, Slot};

//! Trust, and nothing else: a client of [The Update Framework](https://theupdateframework.io) 1.0 and the offline check of
//! what it once accepted.
//!
//! What this crate owns: which metadata may be believed, in which order it is asked for, how it lies on disk, and what may
//! be said of a target. What it never does: open a connection, read a clock of its own accord, or run anything.

pub mod chain;
mod check;
pub mod core;
mod disk;
mod error;
mod fetch;
mod limits;
mod names;
pub mod pattern;
#[cfg(all(test, feature = "repo"))]
mod power_cut;
#[cfg(feature = "repo")]
pub mod repo;
mod schema;
mod search;
mod store;
mod target;
pub mod time;
mod updater;
mod verify;

pub use error::{Error, Refusal};
pub use fetch::{Fetch, FetchError};
pub use limits::Limits;
pub use target::{Hashes, Target, Verifier};
pub use time::{Clock, SystemClock, Time};
pub use updater::{Refreshed, Updater};

//! Trust, and nothing else: a client of [The Update Framework](https://theupdateframework.io) 1.0, and the offline check of
//! what it once accepted.
//!
//! What this crate owns: which metadata may be believed, in which order it is asked for, how it lies on disk, and what may
//! be said of a target. What it never does: open a connection, read a clock of its own accord, or run anything.
//!
//! # Parts
//!
//! * [`Updater`] is what a daemon uses: [`Updater::refresh`], then [`Updater::find`] or [`Updater::search`], then a download
//!   checked by [`Target::verifier`], then [`Updater::export_chain`] beside the payload.
//! * [`chain`] is what everybody else uses: whoever runs a payload checks the stored chain by itself.
//! * [`core`] is the client workflow (TUF 5) as a state machine that says what it needs and is given bytes.
//! * [`time`] keeps a floor under the clock.
//! * `repo` (feature `repo`) is the repository's side. [`parse`] and [`pattern`] are open to fuzzers.
//!
//! # What a bad delegated role does
//!
//! A role that does not verify, has expired, is missing or is endless ends the search for every target that its delegation
//! covers ([`Error::Undecided`]); the next role in line does not get to speak for them, for else withholding one file would
//! be enough to hand a vendor's names to somebody else. Every other target is found as if the bad role did not exist, and
//! it is not even fetched unless something it could have signed is asked for. A transfer that breaks (as opposed to a
//! repository that says "not found") is no verdict: it ends the call with [`Error::Fetch`], to be tried again.
//!
//! # Decisions where the specification leaves room
//!
//! * *Rotated* in the sense of TUF 5.3.11 means that a key of the timestamp or snapshot role was taken away. The stored
//!   timestamp and snapshot are dropped at the root that does it, before that root becomes `root.json`: after a power cut
//!   the difference between `root.json` and the chain of roots says what is still to be done.
//! * A duplicate key id among the signatures refuses the file (TUF 4.2.1). One key listed under two ids counts once.
//! * A timestamp of the same version is discarded and the update goes on with the one on disk (TUF 5.4.3), as the last
//!   update may have been cut off after it; the one on disk must not have expired.
//! * Files on disk have no standing of their own. Each is checked from the pinned root on at every refresh, and one that
//!   fails is as good as absent.

#[cfg(test)]
mod beside_tough;
pub mod chain;
mod check;
pub mod core;
mod disk;
mod error;
mod fetch;
mod key;
mod limits;
mod names;
pub mod parse;
pub mod pattern;
#[cfg(feature = "repo")]
#[cfg(test)]
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

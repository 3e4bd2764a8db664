//! Sessions on a board of fakes: a runner's requests over a real socket, and what reaches the devices.
#![expect(clippy::unwrap_used, reason = "a board of fakes that cannot be made is a failed test")]

mod fakes;
mod hanging;
mod properties;
mod runs;
mod sessions;

//! The session between a runner and capd: who may say what, in which packets, with which descriptors beside them.
//!
//! A session is one seqpacket socket that belongs to one payload. The runner asks, capd answers; there is never more than
//! one question open, and capd says nothing unasked. capd trusts no packet: decoding is total and bounded. Owns the words
//! and the packets; decides nothing about who may do what.
//!
//! ```text
//! runner                                  capd
//!   Claim                         ──►       (the table of what was granted, in the order that the indices below mean)
//!   OpenLine, TurnOn              ──►       a descriptor for that line, for each value that may be read
//!   Config, Actuate, I2c, Spi, …  ──►       judged one by one
//!   (closes, or its process ends) ──►       every lease ends, safe values are written
//! ```

mod channel;
mod words;

pub use channel::{Channel, ReceiveError, Received, SendError, is_closed, pair};
pub use words::{
    Answer, Channel as SensorChannel, Device, Direction, Error, I2cOperation, Kind, Line, MAX_NAME, MAX_OPERATIONS,
    MAX_PACKET, MAX_VALUE, Reply, Request, Sensor, SensorState, SpiOperation, Table, ValueKind, Why, decode, encode,
};

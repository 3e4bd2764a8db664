//! The daemons' Varlink interfaces: the types that travel, the errors, and a client proxy for each interface.
//! Owns no behaviour and no socket.
//!
//! Every name on the wire is snake_case; times are RFC 3339 in UTC; sizes are bytes; durations carry their unit in the
//! field's name.

pub mod capabilities;
pub mod ota;
pub mod reason;
pub mod supervisor;

pub use reason::Reason;

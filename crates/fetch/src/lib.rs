//! Files over HTTP(S) for a device that trusts nobody on the way: bounded in size and time, resumed, from several mirrors.
//!
//! What arrives is believed by nobody until `iotwasm-trust` has checked it; TLS here keeps observers out and is not what
//! makes an update authentic. This crate owns transfers and nothing else: it does not know what the bytes mean.
//!
//! * **Mirrors** are asked in order, beginning with the one that answered last; a download goes on at the next mirror from
//!   where the last one broke.
//! * **Parts** of a file of a known length are handed on as they arrive, from one mirror after the other.
//! * **Bounds**: never more bytes than allowed, a limit on connecting, on silence, and on the whole.
//! * **Redirects** are few, and never from https to http.
//! * **Proxies** come from `http_proxy`, `https_proxy`, `all_proxy` and `no_proxy`, in either case.

mod client;
mod download;
mod error;
mod options;
mod proxy;
mod range;
mod tls;

pub use client::Client;
pub use download::Progress;
pub use error::{Error, Failures};
pub use options::{Options, SLOWEST_RATE, SYSTEM_CA, Timeouts};

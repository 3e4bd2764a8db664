//! What every daemon needs, once: paths, configuration, lifecycle, error report, atomic files, metrics, and the Varlink
//! accept loop. Knows nothing of payloads, trust or capabilities.

pub mod access;
pub mod atomic;
pub mod config;
pub mod device;
pub mod lifecycle;
pub mod log;
pub mod metrics;
pub mod paths;
pub mod report;
pub mod varlink;

//! What every daemon needs, once: paths, configuration, lifecycle, error report, atomic files, metrics.
//! Knows nothing of payloads, trust or capabilities.

pub mod paths;

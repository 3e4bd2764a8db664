//! How a program ends: the whole chain of causes printed once, and an exit code that a script can tell apart.

use std::{error::Error, process::ExitCode};

/// Exit codes, after sysexits.h where it has one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Code {
    /// Anything that has no code of its own.
    Other = 1,
    /// The command line is wrong (EX_USAGE).
    Usage = 64,
    /// A device that is needed is missing (EX_UNAVAILABLE).
    DeviceMissing = 69,
    /// The configuration is wrong (EX_CONFIG); systemd does not restart for this.
    Config = 78,
}

/// An error that a program can end with.
pub trait Failure: Error {
    /// The exit code that belongs to it.
    fn exit_code(&self) -> Code {
        Code::Other
    }
}

impl Failure for std::convert::Infallible {}

/// An error and its causes on one line: `could not load slots: could not read state.json: permission denied`.
#[must_use]
pub fn chain(err: &dyn Error) -> String {
    let mut text = err.to_string();
    let mut cause = err.source();
    while let Some(err) = cause {
        text.push_str(": ");
        text.push_str(&err.to_string());
        cause = err.source();
    }
    text
}

/// Print what went wrong, if anything did, and turn it into an exit code.
pub fn exit<E: Failure>(result: Result<(), E>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(err) => {
            crate::error!("{}", chain(&err));
            ExitCode::from(err.exit_code() as u8)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("could not load slots")]
    struct Outer(#[source] std::io::Error);
    impl Failure for Outer {
        fn exit_code(&self) -> Code {
            Code::Config
        }
    }

    #[test]
    fn the_chain_is_told_once_from_the_outside_in() {
        let err = Outer(std::io::Error::other("permission denied"));
        assert_eq!(chain(&err), "could not load slots: permission denied");
        assert_eq!(format!("{:?}", exit(Err(err))), format!("{:?}", ExitCode::from(78)));
    }
}

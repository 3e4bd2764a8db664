//! What a daemon must know of the device it runs on: its identity, its board, and when its image was built.

use std::{io, path::PathBuf};

use serde::Deserialize;

use crate::{
    paths,
    report::{Code, Failure},
};

/// What could not be learnt.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file of the image or of the first boot is missing.
    #[error("could not read {}; it is part of the image or made at the first boot", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// The cause.
        #[source]
        err: io::Error,
    },
    /// Its content is not what it must be.
    #[error("{} must hold {expected}", path.display())]
    Content {
        /// Which.
        path: PathBuf,
        /// What it must hold.
        expected: &'static str,
    },
}

impl Failure for Error {
    fn exit_code(&self) -> Code {
        Code::Config
    }
}

/// The part of the board file that every daemon needs. The rest of it is the business of the crate iotwasm-grant.
#[derive(Debug, Clone, Deserialize)]
pub struct Board {
    /// The board's name, as payloads name it in `boards`.
    pub name: String,
}

fn read(path: &str) -> Result<String, Error> {
    std::fs::read_to_string(path).map_err(|err| Error::Read { path: path.into(), err })
}

/// This device's identity: one line of letters, digits and `-`, at most 64.
///
/// # Errors
/// The file is missing or holds something else.
pub fn id() -> Result<String, Error> {
    parse_id(&read(paths::DEVICE_ID)?)
        .ok_or(Error::Content { path: paths::DEVICE_ID.into(), expected: "one line of letters, digits and '-'" })
}

fn parse_id(text: &str) -> Option<String> {
    let id = text.trim();
    let fits = (1..=64).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    fits.then(|| id.to_owned())
}

/// The board.
///
/// # Errors
/// The board file is missing or has no name.
pub fn board() -> Result<Board, Error> {
    toml::from_str(&read(paths::BOARD)?)
        .map_err(|_| Error::Content { path: paths::BOARD.into(), expected: "TOML with the board's `name`" })
}

/// When the image was built: no clock on this device may be earlier.
///
/// # Errors
/// The file is missing or holds no time.
pub fn build_time() -> Result<jiff::Timestamp, Error> {
    read(paths::BUILD_TIME)?
        .trim()
        .parse()
        .map_err(|_| Error::Content { path: paths::BUILD_TIME.into(), expected: "a time as in RFC 3339" })
}

#[cfg(test)]
mod tests {
    use super::{Board, parse_id};

    #[test]
    fn a_board_file_is_more_than_its_name() {
        for (text, name) in [
            (include_str!("../../../board-configs/qemu-x86-64.toml"), "qemu-x86-64"),
            (include_str!("../../../board-configs/raspberrypi4-64.toml"), "raspberrypi4-64"),
        ] {
            assert_eq!(toml::from_str::<Board>(text).unwrap().name, name);
        }
    }

    #[test]
    fn an_id_is_one_plain_word() {
        assert_eq!(parse_id("ab-12\n").as_deref(), Some("ab-12"));
        assert_eq!(parse_id(""), None);
        assert_eq!(parse_id("a\"b"), None);
        assert_eq!(parse_id(&"a".repeat(65)), None);
    }
}

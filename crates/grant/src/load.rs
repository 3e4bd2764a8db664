//! Reading a board file and the tiers from where the image has them. The only part of this crate that opens files.

use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use crate::board::Board;
use crate::error::{MAX_TEXT, ParseError};
use crate::name::Name;
use crate::tier::Tier;

/// What is wrong with which file.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// It could not be read.
    #[error("could not read {}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// The cause.
        #[source]
        err: io::Error,
    },
    /// It does not say what it must.
    #[error("in {}", path.display())]
    Parse {
        /// Which.
        path: PathBuf,
        /// The key and its rule.
        #[source]
        err: ParseError,
    },
}

/// Reads a board file.
///
/// # Errors
/// Names the file, and for its content the key.
pub fn board(path: &Path) -> Result<Board, LoadError> {
    let bytes = read(path).map_err(|err| LoadError::Read { path: path.to_owned(), err })?;
    Board::parse(&bytes).map_err(|err| LoadError::Parse { path: path.to_owned(), err })
}

/// Reads the tier of a role from a folder of tiers: `<role>.toml`. A role without a file may grant nothing; a folder that
/// is missing is an error, because then nobody could.
///
/// # Errors
/// Names the file, and for its content the key.
pub fn tier(folder: &Path, role: Name) -> Result<Tier, LoadError> {
    // The name of a role has neither '/' nor '.', so it cannot lead out of the folder.
    let path = folder.join(format!("{role}.toml"));
    match read(&path) {
        Ok(bytes) => Tier::parse(role, &bytes).map_err(|err| LoadError::Parse { path, err }),
        Err(err) if err.kind() == io::ErrorKind::NotFound => match std::fs::read_dir(folder) {
            Ok(_) => Ok(Tier::absent(role)),
            Err(err) => Err(LoadError::Read { path: folder.to_owned(), err }),
        },
        Err(err) => Err(LoadError::Read { path, err }),
    }
}

/// At most one byte more than may be parsed: the parser then says that it is too long.
fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    std::fs::File::open(path)?.take(MAX_TEXT as u64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

//! WASI preview 1, as a guest gets it: no arguments but an empty program name, an environment of its own, some directories, and the standard
//! streams of this process. Nothing else is inherited.

use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use crate::error::Error;

/// What a guest gets of WASI.
#[derive(Debug, Clone, Default)]
pub struct Wasi {
    /// The whole environment.
    pub environment: Vec<(String, String)>,
    /// Directories.
    pub preopens: Vec<Preopen>,
}

/// A directory that a guest may reach.
#[derive(Debug, Clone)]
pub struct Preopen {
    /// Where the guest sees it.
    pub guest: String,
    /// Where it is.
    pub host: PathBuf,
    /// True if the guest may only read.
    pub read_only: bool,
}

impl Wasi {
    /// `NAME=value`, and `guest:host` or `guest:host:readonly`, as the library wants them.
    pub(crate) fn encode(&self) -> Result<(Vec<CString>, Vec<CString>), Error> {
        let text = |what, bytes: Vec<u8>| {
            CString::new(bytes)
                .map_err(|err| Error::Text { what, text: String::from_utf8_lossy(&err.into_vec()).into_owned() })
        };
        let mut environment = Vec::new();
        for (name, value) in &self.environment {
            if name.is_empty() || name.contains('=') {
                return Err(Error::Text { what: "the variable", text: name.clone() });
            }
            environment.push(text("the variable", format!("{name}={value}").into_bytes())?);
        }
        let mut preopens = Vec::new();
        for preopen in &self.preopens {
            // The colon is the library's separator: one inside a path would move the boundary, or drop the readonly.
            let host = preopen.host.as_os_str().as_bytes();
            if preopen.guest.contains(':') || host.contains(&b':') {
                let text = format!("{} ({})", preopen.guest, preopen.host.display());
                return Err(Error::Text { what: "the directory", text });
            }
            // The library says nothing about a directory that is not there.
            let found = std::fs::metadata(&preopen.host).and_then(|m| {
                if m.is_dir() { Ok(()) } else { Err(std::io::Error::from(std::io::ErrorKind::NotADirectory)) }
            });
            found.map_err(|err| Error::Preopen { path: preopen.host.clone(), err })?;
            let mut bytes = preopen.guest.clone().into_bytes();
            bytes.push(b':');
            bytes.extend_from_slice(host);
            if preopen.read_only {
                bytes.extend_from_slice(b":readonly");
            }
            preopens.push(text("the directory", bytes)?);
        }
        Ok((environment, preopens))
    }
}

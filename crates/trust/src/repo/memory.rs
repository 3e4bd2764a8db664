//! A metadata server in memory, for tests: it answers what it was given, and notes what it was asked.

use std::collections::BTreeMap;
use std::path::Path;

use crate::{Fetch, FetchError};

/// Files by name. A name without a file is answered with [`FetchError::NotFound`].
#[derive(Debug, Clone, Default)]
pub struct MemoryFetch {
    /// What the server has.
    pub files: BTreeMap<String, Vec<u8>>,
    /// What was asked for, in order.
    pub asked: Vec<String>,
}

impl MemoryFetch {
    /// Takes over all files of a metadata folder.
    pub fn load(folder: &Path) -> std::io::Result<MemoryFetch> {
        let mut fetch = MemoryFetch::default();
        for entry in std::fs::read_dir(folder)? {
            let entry = entry?;
            fetch.files.insert(entry.file_name().to_string_lossy().into_owned(), std::fs::read(entry.path())?);
        }
        Ok(fetch)
    }

    /// Adds or replaces a signed document under its file name.
    pub fn put(&mut self, document: &super::Document) {
        self.files.insert(document.file_name(), document.to_bytes());
    }
}

impl Fetch for MemoryFetch {
    fn fetch(&mut self, path: &str, max_len: u64) -> Result<Vec<u8>, FetchError> {
        self.asked.push(path.into());
        match self.files.get(path) {
            Some(bytes) if bytes.len() as u64 > max_len => Err(FetchError::TooLong { limit: max_len }),
            Some(bytes) => Ok(bytes.clone()),
            None => Err(FetchError::NotFound),
        }
    }
}

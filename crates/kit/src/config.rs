//! Settings: the image's defaults, the OEM's file over them, then the OEM's `.d` folder in the order of its names.
//! Everything works without any file; an unknown key is an error that names the file and the key.

use std::{
    io,
    path::{Path, PathBuf},
};

use serde::de::DeserializeOwned;
use toml::{Table, Value};

use crate::{
    paths,
    report::{Code, Failure},
};

/// Longest settings file we read, in bytes: settings are written by people.
const MAX_FILE: u64 = 256 * 1024;

/// What is wrong with which file.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file or folder could not be read.
    #[error("could not read {}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// The cause.
        #[source]
        err: io::Error,
    },
    /// A file is larger than a settings file can be.
    #[error("{} is larger than {MAX_FILE} bytes", path.display())]
    TooLarge {
        /// Which.
        path: PathBuf,
    },
    /// A file is not TOML, or has an unknown key or a wrong value.
    #[error("in {}", path.display())]
    Parse {
        /// Which.
        path: PathBuf,
        /// The key, the line and what is expected.
        #[source]
        err: Box<toml::de::Error>,
    },
    /// Each file is right by itself but they do not fit together.
    #[error("the settings of {daemon} do not fit together")]
    Merge {
        /// Whose settings.
        daemon: String,
        /// The key and what is expected.
        #[source]
        err: Box<toml::de::Error>,
    },
}

impl Failure for Error {
    fn exit_code(&self) -> Code {
        Code::Config
    }
}

/// The settings of a daemon: `/usr/lib/iotwasm/NAME.toml`, `/etc/iotwasm/NAME.toml`, `/etc/iotwasm/NAME.d/*.toml`.
///
/// # Errors
/// Names the file, and for its content the line and the key.
pub fn load<T: DeserializeOwned + Default>(daemon: &str) -> Result<T, Error> {
    load_from(Path::new(paths::VENDOR_CONFIG), Path::new(paths::LOCAL_CONFIG), daemon)
}

/// As [`load`], from other folders.
///
/// # Errors
/// As [`load`].
pub fn load_from<T: DeserializeOwned + Default>(vendor: &Path, local: &Path, daemon: &str) -> Result<T, Error> {
    let file = format!("{daemon}.toml");
    let mut files = vec![vendor.join(&file), local.join(&file)];
    files.extend(toml_files(&local.join(format!("{daemon}.d")))?);

    let mut merged = Table::new();
    for path in files {
        let Some(text) = read(&path)? else { continue };
        let parse = |err| Error::Parse { path: path.clone(), err: Box::new(err) };
        // Each file by itself first, so that an error can name the file.
        toml::from_str::<T>(&text).map_err(parse)?;
        merge(&mut merged, toml::from_str::<Table>(&text).map_err(parse)?);
    }
    if merged.is_empty() {
        return Ok(T::default());
    }
    T::deserialize(Value::Table(merged)).map_err(|err| Error::Merge { daemon: daemon.to_owned(), err: Box::new(err) })
}

/// One value for each `*.toml` in a folder that exists below both configuration folders; a file in `local` stands in
/// for the one of the same name in `vendor`. An empty file there hides the vendor's.
///
/// # Errors
/// As [`load`].
pub fn load_each<T: DeserializeOwned>(vendor: &Path, local: &Path, folder: &str) -> Result<Vec<(PathBuf, T)>, Error> {
    let mut by_name = std::collections::BTreeMap::new();
    for dir in [vendor.join(folder), local.join(folder)] {
        for path in toml_files(&dir)? {
            by_name.insert(path.file_name().map(std::ffi::OsStr::to_owned), path);
        }
    }
    let mut values = Vec::new();
    for path in by_name.into_values() {
        let Some(text) = read(&path)?.filter(|text| !text.trim().is_empty()) else { continue };
        let value = toml::from_str(&text).map_err(|err| Error::Parse { path: path.clone(), err: Box::new(err) })?;
        values.push((path, value));
    }
    Ok(values)
}

/// The `*.toml` files of a folder in the order of their names; none if there is no such folder.
fn toml_files(dir: &Path) -> Result<Vec<PathBuf>, Error> {
    let at = |err| Error::Read { path: dir.to_owned(), err };
    let entries = match std::fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(err) if err.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(err) => return Err(at(err)),
    };
    let mut files = Vec::new();
    for entry in entries {
        let path = entry.map_err(at)?.path();
        if path.extension().is_some_and(|e| e == "toml") {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

fn read(path: &Path) -> Result<Option<String>, Error> {
    let at = |err| Error::Read { path: path.to_owned(), err };
    match std::fs::metadata(path) {
        Err(err) if err.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(err) => return Err(at(err)),
        Ok(meta) if meta.len() > MAX_FILE => return Err(Error::TooLarge { path: path.to_owned() }),
        Ok(_) => {}
    }
    std::fs::read_to_string(path).map(Some).map_err(at)
}

/// Tables merge key by key; anything else of the later file stands in for the earlier.
fn merge(into: &mut Table, from: Table) {
    for (key, value) in from {
        match (into.get_mut(&key), value) {
            (Some(Value::Table(old)), Value::Table(new)) => merge(old, new),
            (_, value) => {
                into.insert(key, value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::chain;
    use serde::Deserialize;

    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(default, deny_unknown_fields)]
    struct Settings {
        interval_s: u64,
        urls: Vec<String>,
        limits: Limits,
    }
    #[derive(Debug, Deserialize, PartialEq, Default)]
    #[serde(default, deny_unknown_fields)]
    struct Limits {
        bytes: u64,
        files: u64,
    }
    impl Default for Settings {
        fn default() -> Self {
            Self { interval_s: 60, urls: vec![], limits: Limits::default() }
        }
    }

    fn put(dir: &Path, name: &str, text: &str) {
        let path = dir.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    fn dirs() -> (tempfile::TempDir, PathBuf, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let (vendor, local) = (dir.path().join("usr"), dir.path().join("etc"));
        (dir, vendor, local)
    }

    #[test]
    fn defaults_work_with_no_file() {
        let (_dir, vendor, local) = dirs();
        assert_eq!(load_from::<Settings>(&vendor, &local, "d").unwrap(), Settings::default());
    }

    #[test]
    fn later_files_win_key_by_key_in_the_order_of_their_names() {
        let (_dir, vendor, local) = dirs();
        put(&vendor, "d.toml", "interval_s = 1\nurls = ['v']\n[limits]\nbytes = 1\nfiles = 1\n");
        put(&local, "d.toml", "[limits]\nbytes = 2\n");
        put(&local, "d.d/20-b.toml", "interval_s = 20\n");
        put(&local, "d.d/10-a.toml", "interval_s = 10\nurls = ['a']\n");
        put(&local, "d.d/ignored.txt", "nonsense =");
        let settings: Settings = load_from(&vendor, &local, "d").unwrap();
        let expected = Settings { interval_s: 20, urls: vec!["a".into()], limits: Limits { bytes: 2, files: 1 } };
        assert_eq!(settings, expected);
    }

    #[test]
    fn an_unknown_key_names_the_file_and_the_key() {
        let (_dir, vendor, local) = dirs();
        put(&local, "d.d/10-typo.toml", "intervall_s = 10\n");
        let err = load_from::<Settings>(&vendor, &local, "d").unwrap_err();
        let text = chain(&err);
        assert!(text.contains("10-typo.toml") && text.contains("intervall_s"), "{text}");
        assert_eq!(err.exit_code(), Code::Config);
    }

    #[test]
    fn a_local_file_stands_in_for_the_vendors_and_an_empty_one_hides_it() {
        #[derive(Deserialize, Debug, PartialEq)]
        struct One {
            id: String,
        }
        let (_dir, vendor, local) = dirs();
        put(&vendor, "payloads.d/a.toml", "id = 'va'");
        put(&vendor, "payloads.d/b.toml", "id = 'vb'");
        put(&vendor, "payloads.d/c.toml", "id = 'vc'");
        put(&local, "payloads.d/b.toml", "id = 'lb'");
        put(&local, "payloads.d/c.toml", "\n");
        let ids: Vec<_> =
            load_each::<One>(&vendor, &local, "payloads.d").unwrap().into_iter().map(|(_, one)| one.id).collect();
        assert_eq!(ids, ["va", "lb"]);
    }
}

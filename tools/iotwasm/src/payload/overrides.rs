//! Values from the command line, in place of those in a manifest. Without any, the manifest's text is kept as written.

use std::path::Path;
use std::str::FromStr;

use clap::Args;
use iotwasm_payload::PayloadId;
use semver::Version;
use toml::{Table, Value};

use super::Error;

/// What to change.
#[derive(Debug, Default, Args)]
pub(crate) struct Overrides {
    /// Version, in place of the manifest's.
    #[arg(long, value_name = "VERSION")]
    version: Option<Version>,
    /// Payload id, in place of the manifest's.
    #[arg(long, value_name = "ID")]
    id: Option<PayloadId>,
    /// Any key of the manifest: --set limits.fuel=1000000 --set wasi.environment.MODE=test. The value is TOML, or else
    /// taken as text. May be given several times.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    set: Vec<Setting>,
}

/// A key with its tables, and its value.
#[derive(Debug, Clone, PartialEq)]
struct Setting {
    tables: Vec<String>,
    key: String,
    value: Value,
}

/// Not a setting.
#[derive(Debug, thiserror::Error)]
#[error("write KEY=VALUE, as in limits.fuel=1000000")]
struct NotASetting;

impl FromStr for Setting {
    type Err = NotASetting;

    fn from_str(text: &str) -> Result<Self, NotASetting> {
        let (path, value) = text.split_once('=').ok_or(NotASetting)?;
        let mut tables: Vec<String> = path.trim().split('.').map(str::to_owned).collect();
        if tables.iter().any(String::is_empty) {
            return Err(NotASetting);
        }
        let key = tables.pop().ok_or(NotASetting)?;
        Ok(Self { tables, key, value: parse_value(value) })
    }
}

fn parse_value(text: &str) -> Value {
    let parsed = toml::from_str::<Table>(&format!("value = {text}\n")).ok();
    // Exactly one key, or the text had a line of its own in it.
    let value = parsed.filter(|table| table.len() == 1).and_then(|mut table| table.remove("value"));
    value.unwrap_or_else(|| Value::String(text.to_owned()))
}

impl Overrides {
    /// The manifest's text with the changes in it.
    pub(crate) fn apply(&self, path: &Path, text: String) -> Result<String, Error> {
        if self.version.is_none() && self.id.is_none() && self.set.is_empty() {
            return Ok(text);
        }
        let mut manifest: Table =
            toml::from_str(&text).map_err(|err| Error::NotToml { path: path.to_owned(), err: Box::new(err) })?;
        if let Some(version) = &self.version {
            manifest.insert("version".into(), version.to_string().into());
        }
        if let Some(id) = &self.id {
            manifest.insert("id".into(), id.to_string().into());
        }
        for setting in &self.set {
            setting.apply(&mut manifest)?;
        }
        toml::to_string(&manifest).map_err(|err| Error::Render { err })
    }
}

impl Setting {
    fn apply(&self, manifest: &mut Table) -> Result<(), Error> {
        let mut table = manifest;
        for part in &self.tables {
            let entry = table.entry(part.clone()).or_insert_with(|| Value::Table(Table::new()));
            table = entry.as_table_mut().ok_or_else(|| Error::NotATable {
                key: format!("{}.{}", self.tables.join("."), self.key),
                part: part.clone(),
            })?;
        }
        table.insert(self.key.clone(), self.value.clone());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn apply(set: &[&str], text: &str) -> Result<String, Error> {
        let set = set.iter().map(|setting| setting.parse().unwrap()).collect();
        Overrides { set, ..Overrides::default() }.apply(Path::new("m.toml"), text.to_owned())
    }

    #[test]
    fn without_changes_the_text_stays_as_it_is() {
        assert_eq!(apply(&[], "# a comment\nid = 'x'").unwrap(), "# a comment\nid = 'x'");
    }

    #[test]
    fn a_value_is_toml_or_else_text() {
        let text = apply(&["limits.fuel=1000", "boards=['a','b']", "env.V=1.2.3", "env.W=x\ny=1"], "id = 'x'").unwrap();
        let table: Table = toml::from_str(&text).unwrap();
        assert_eq!(table["limits"]["fuel"].as_integer(), Some(1000));
        assert_eq!(table["boards"].as_array().unwrap().len(), 2);
        assert_eq!(table["env"]["V"].as_str(), Some("1.2.3"));
        assert_eq!(table["env"]["W"].as_str(), Some("x\ny=1"));
        assert_eq!(table["id"].as_str(), Some("x"));
    }

    #[test]
    fn a_key_below_a_value_is_refused() {
        assert!(matches!(apply(&["id.x=1"], "id = 'x'"), Err(Error::NotATable { .. })));
        assert!("=1".parse::<Setting>().is_err());
        assert!("a..b=1".parse::<Setting>().is_err());
        assert!("a".parse::<Setting>().is_err());
    }
}

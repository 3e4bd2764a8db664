//! Metrics as a text file for a collector (Prometheus exposition format 0.0.4, textfile convention).
//! Owns `/run/iotwasm/metrics/<daemon>.prom`; written whole, so a collector never reads half.

use std::{
    collections::BTreeMap,
    fmt::Write,
    path::{Path, PathBuf},
};

use crate::{atomic, paths};

/// Whether a family only counts up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Counts up; starts at zero when the daemon starts.
    Counter,
    /// Goes up and down.
    Gauge,
}

#[derive(Debug)]
struct Family {
    kind: Kind,
    help: &'static str,
    /// Rendered labels to value.
    samples: BTreeMap<String, f64>,
}

/// The metrics of one daemon.
#[derive(Debug)]
pub struct Registry {
    path: PathBuf,
    families: BTreeMap<&'static str, Family>,
}

/// Labels of a sample: name and value.
pub type Labels<'a> = &'a [(&'a str, &'a str)];

impl Registry {
    /// The metrics of `daemon` in the folder of the device.
    #[must_use]
    pub fn new(daemon: &str) -> Self {
        Self::in_dir(Path::new(paths::METRICS), daemon)
    }

    /// The metrics of `daemon` in another folder.
    #[must_use]
    pub fn in_dir(dir: &Path, daemon: &str) -> Self {
        Self { path: dir.join(format!("{daemon}.prom")), families: BTreeMap::new() }
    }

    /// Declare a family. Samples of a family that was never declared are not kept.
    pub fn declare(&mut self, kind: Kind, name: &'static str, help: &'static str) {
        self.families.insert(name, Family { kind, help, samples: BTreeMap::new() });
    }

    /// Set a sample.
    pub fn set(&mut self, name: &str, labels: Labels<'_>, value: f64) {
        if let Some(family) = self.families.get_mut(name) {
            family.samples.insert(render(labels), value);
        }
    }

    /// Count one more.
    pub fn inc(&mut self, name: &str, labels: Labels<'_>) {
        if let Some(family) = self.families.get_mut(name) {
            *family.samples.entry(render(labels)).or_default() += 1.0;
        }
    }

    /// Forget every sample of a family that carries all of these labels.
    pub fn forget(&mut self, name: &str, labels: Labels<'_>) {
        let wanted: Vec<String> = labels.iter().map(|label| render(&[*label])).collect();
        if let Some(family) = self.families.get_mut(name) {
            family.samples.retain(|labels, _| !wanted.iter().all(|label| labels.split("\u{1f}").any(|l| l == label)));
        }
    }

    /// The text of all families.
    #[must_use]
    pub fn text(&self) -> String {
        let mut out = String::new();
        for (name, family) in &self.families {
            let kind = match family.kind {
                Kind::Counter => "counter",
                Kind::Gauge => "gauge",
            };
            // Writing to a String cannot fail.
            let _ = writeln!(out, "# HELP {name} {}\n# TYPE {name} {kind}", family.help);
            for (labels, value) in &family.samples {
                let labels = labels.replace('\u{1f}', ",");
                let _ = writeln!(out, "{name}{{{labels}}} {value}");
            }
        }
        out
    }

    /// Write the file.
    ///
    /// # Errors
    /// Names the file.
    pub fn write(&self) -> Result<(), atomic::Error> {
        atomic::write(&self.path, self.text().as_bytes(), 0o644)
    }
}

/// `a="1"` for each label, parted by a unit separator that no rendered value holds.
fn render(labels: Labels<'_>) -> String {
    let mut out = String::new();
    for (name, value) in labels {
        if !out.is_empty() {
            out.push('\u{1f}');
        }
        let value: String = value
            .chars()
            .filter(|c| *c != '\u{1f}')
            .flat_map(|c| match c {
                '\\' => vec!['\\', '\\'],
                '"' => vec!['\\', '"'],
                '\n' => vec!['\\', 'n'],
                c => vec![c],
            })
            .collect();
        let _ = write!(out, "{name}=\"{value}\"");
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_has_help_type_and_escaped_labels() {
        let dir = tempfile::tempdir().unwrap();
        let mut registry = Registry::in_dir(dir.path(), "d");
        registry.declare(Kind::Counter, "iot_x_total", "How many.");
        registry.inc("iot_x_total", &[("id", "a\"b\\c\nd"), ("reason", "trap")]);
        registry.inc("iot_x_total", &[("id", "a\"b\\c\nd"), ("reason", "trap")]);
        registry.write().unwrap();
        let text = std::fs::read_to_string(dir.path().join("d.prom")).unwrap();
        assert_eq!(
            text,
            "# HELP iot_x_total How many.\n# TYPE iot_x_total counter\n\
             iot_x_total{id=\"a\\\"b\\\\c\\nd\",reason=\"trap\"} 2\n"
        );
    }

    #[test]
    fn forgetting_takes_only_samples_with_all_the_labels() {
        let mut registry = Registry::in_dir(Path::new("/nowhere"), "d");
        registry.declare(Kind::Gauge, "v", "Version.");
        registry.set("v", &[("id", "a"), ("version", "1")], 1.0);
        registry.set("v", &[("id", "b"), ("version", "1")], 1.0);
        registry.forget("v", &[("id", "a")]);
        assert!(!registry.text().contains("id=\"a\"") && registry.text().contains("id=\"b\""));
    }
}

//! A row of the measurements' table: what was measured, beside what, and what it should be. `build/bench.json` is a list of these.

use serde::Serialize;

/// One measurement.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Row {
    /// What was measured.
    pub name: String,
    /// The figure.
    pub value: f64,
    /// Its unit.
    pub unit: &'static str,
    /// What it was measured beside, with that one's figure; empty if nothing.
    pub reference: String,
    /// The reference's figure divided by ours, or ours by it: the target says which way.
    pub ratio: Option<f64>,
    /// What it should be; empty if nobody said.
    pub target: String,
    /// Whether it is; absent where there is no target.
    pub met: Option<bool>,
}

impl Row {
    /// A figure alone.
    #[must_use]
    pub fn plain(name: &str, value: f64, unit: &'static str) -> Self {
        Self { name: name.into(), value, unit, reference: String::new(), ratio: None, target: String::new(), met: None }
    }

    /// At most this much, in its own unit.
    #[must_use]
    pub fn at_most(mut self, limit: f64) -> Self {
        self.target = format!("≤ {limit} {}", self.unit);
        self.met = Some(self.value <= limit);
        self
    }

    /// At least so many times faster than the reference.
    #[must_use]
    pub fn faster_than(mut self, reference: &str, value: f64, times: f64) -> Self {
        let ratio = value / self.value;
        self.reference = format!("{reference}: {value:.3} {}", self.unit);
        self.ratio = Some(ratio);
        self.target = format!("reference / ours ≥ {times}");
        self.met = Some(ratio >= times);
        self
    }

    /// At most so many times the reference.
    #[must_use]
    pub fn at_most_times(mut self, reference: &str, value: f64, times: f64) -> Self {
        self = self.beside(reference, value);
        self.target = format!("ours / reference ≤ {times}");
        self.met = self.ratio.map(|ratio| ratio <= times);
        self
    }

    /// Beside a reference, without a target.
    #[must_use]
    pub fn beside(mut self, reference: &str, value: f64) -> Self {
        self.reference = format!("{reference}: {value:.3} {}", self.unit);
        self.ratio = Some(self.value / value);
        self
    }
}

/// The middle one.
#[must_use]
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

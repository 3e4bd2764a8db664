//! A scenario's steps: each with a name, what is expected and what was seen; printed as they happen and, at the end, as a
//! table.

use std::io::Write;
use std::time::{Duration, Instant};

use crate::error::{Error, Result, chain};

/// One row of the table.
#[derive(Debug, Clone)]
pub struct Row {
    /// What was done.
    pub step: String,
    /// What should be seen.
    pub expected: String,
    /// What was seen.
    pub seen: String,
    /// Whether they agree.
    pub ok: bool,
    /// How long it took.
    pub took: Duration,
}

/// The steps so far.
#[derive(Debug, Default)]
pub struct Steps {
    rows: Vec<Row>,
}

impl Steps {
    /// No steps yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Does something whose result is compared with what is expected. Where they differ, or it fails, the scenario ends.
    pub fn step(&mut self, name: &str, expected: &str, act: impl FnOnce() -> Result<String>) -> Result<()> {
        print!("  {name} ...");
        let _ = std::io::stdout().flush();
        let started = Instant::now();
        let outcome = act();
        let seen = match &outcome {
            Ok(seen) => seen.clone(),
            Err(error) => chain(error),
        };
        let ok = outcome.is_ok() && seen == expected;
        let took = started.elapsed();
        println!(" {} ({:.1} s)", if ok { "ok" } else { "NOT OK" }, took.as_secs_f64());
        self.rows.push(Row { step: name.into(), expected: expected.into(), seen: seen.clone(), ok, took });
        if ok {
            Ok(())
        } else if let Err(error) = outcome {
            Err(error)
        } else {
            Err(Error::Step { step: name.into(), expected: expected.into(), seen })
        }
    }

    /// Does something that only has to succeed.
    pub fn must(&mut self, name: &str, act: impl FnOnce() -> Result<()>) -> Result<()> {
        self.step(name, "done", || act().map(|()| "done".to_owned()))
    }

    /// The rows, in order.
    pub fn rows(&self) -> &[Row] {
        &self.rows
    }
}

/// The table: step, expected, seen, ok.
pub fn table(rows: &[Row]) -> String {
    const WIDEST: usize = 60;
    let cut = |text: &str| {
        let line = text.lines().next().unwrap_or_default();
        if line.chars().count() > WIDEST {
            line.chars().take(WIDEST - 1).chain(['…']).collect()
        } else {
            line.to_owned()
        }
    };
    let mut cells = vec![["step".to_owned(), "expected".to_owned(), "seen".to_owned(), "ok".to_owned()]];
    cells.extend(rows.iter().map(|r| {
        let ok = if r.ok { "yes" } else { "NO" };
        [cut(&r.step), cut(&r.expected), cut(&r.seen), ok.to_owned()]
    }));
    let width = |i: usize| cells.iter().map(|c| c[i].chars().count()).max().unwrap_or(0);
    let widths = [width(0), width(1), width(2)];
    let mut text = String::new();
    for (number, c) in cells.iter().enumerate() {
        text.push_str(&format!(
            "| {:<a$} | {:<b$} | {:<d$} | {:<3} |\n",
            c[0],
            c[1],
            c[2],
            c[3],
            a = widths[0],
            b = widths[1],
            d = widths[2]
        ));
        if number == 0 {
            let rule: Vec<String> = widths.iter().chain(&[3]).map(|w| "-".repeat(w + 2)).collect();
            text.push_str(&format!("|{}|\n", rule.join("|")));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn step_that_sees_something_else_ends_the_scenario_and_stays_in_the_table() {
        let mut steps = Steps::new();
        let error = steps.step("look", "committed", || Ok("trial".into())).unwrap_err();
        assert!(matches!(error, Error::Step { .. }));
        assert!(table(steps.rows()).contains("| look | committed | trial | NO  |"), "{}", table(steps.rows()));
    }

    #[test]
    fn step_that_fails_shows_its_error() {
        let mut steps = Steps::new();
        steps.must("act", || Err(Error::Off)).unwrap_err();
        assert_eq!(steps.rows()[0].seen, "the device is off");
    }
}

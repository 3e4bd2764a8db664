//! Running the programs that do the work, each in the same surroundings on every machine.

use std::ffi::OsStr;
use std::io;
use std::process::{Command, Stdio};

use crate::error::Error;

/// Longest end of a program's complaint that is passed on, in bytes.
const MAX_WORDS: usize = 2000;

/// A program about to run. It gets the C locale, UTC, and no SOURCE_DATE_EPOCH but through [`Tool::epoch`]: mksquashfs
/// refuses it beside its own options of time.
pub(crate) struct Tool {
    name: &'static str,
    package: &'static str,
    command: Command,
}

impl Tool {
    /// A program by its name, and Debian's package that has it.
    pub(crate) fn new(name: &'static str, package: &'static str) -> Self {
        let mut command = Command::new(name);
        command.env("LC_ALL", "C").env("TZ", "UTC0").env_remove("SOURCE_DATE_EPOCH").stdin(Stdio::null());
        Self { name, package, command }
    }

    pub(crate) fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.command.arg(arg);
        self
    }

    pub(crate) fn args(mut self, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Self {
        self.command.args(args);
        self
    }

    /// `--name=value` in one argument, where the value is a path or text of the user's.
    pub(crate) fn option(self, name: &str, value: impl AsRef<OsStr>) -> Self {
        let mut arg = OsStr::new(name).to_owned();
        arg.push("=");
        arg.push(value);
        self.arg(arg)
    }

    /// The time that the program is to take for now, in seconds since 1970.
    pub(crate) fn epoch(mut self, seconds: i64) -> Self {
        self.command.env("SOURCE_DATE_EPOCH", seconds.to_string());
        self
    }

    /// Runs it to its end and gives what it printed.
    pub(crate) fn run(mut self) -> Result<String, Error> {
        let output = self.command.output().map_err(|err| match err.kind() {
            io::ErrorKind::NotFound => Error::Missing { tool: self.name, package: self.package },
            _ => Error::Start { tool: self.name, err },
        })?;
        let out = String::from_utf8_lossy(&output.stdout).into_owned();
        if output.status.success() {
            return Ok(out);
        }
        let complaint = String::from_utf8_lossy(&output.stderr);
        let complaint = if complaint.trim().is_empty() { out.as_str() } else { &complaint };
        Err(Error::Failed { tool: self.name, status: output.status, words: end_of(complaint) })
    }
}

/// The last lines, in one: there programs say what was wrong.
fn end_of(text: &str) -> String {
    let text = text.trim();
    let mut from = text.len().saturating_sub(MAX_WORDS);
    while !text.is_char_boundary(from) {
        from += 1;
    }
    text[from..].lines().map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_is_missing_is_named_with_its_package() {
        let err = Tool::new("no-such-program", "no-such-package").run().unwrap_err();
        assert_eq!(err.to_string(), "no-such-program is missing; install it (Debian: no-such-package)");
    }

    #[test]
    fn a_program_that_fails_is_quoted() {
        let err = Tool::new("sh", "dash").args(["-c", "echo fine; echo 'not a\n  key' >&2; exit 3"]).run().unwrap_err();
        assert_eq!(err.to_string(), "sh failed (exit status: 3): not a; key");
    }

    #[test]
    fn of_a_long_complaint_the_end_is_kept() {
        let words = end_of(&format!("{}é the end", "x".repeat(5000)));
        assert!(words.len() <= MAX_WORDS && words.ends_with("é the end"));
    }
}

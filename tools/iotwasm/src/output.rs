//! How results and errors are shown: words or JSON.

use std::fmt::{self, Display, Write as _};
use std::io::{self, Write as _};
use std::process::ExitCode;

use iotwasm_kit::report::{self, Failure};
use serde::Serialize;

use crate::error::Error;

/// Where results go.
#[derive(Debug)]
pub(crate) struct Output {
    json: bool,
}

impl Output {
    pub(crate) fn new(json: bool) -> Self {
        Self { json }
    }

    pub(crate) fn is_json(&self) -> bool {
        self.json
    }

    /// Prints a result: its `Display`, or its JSON on one line.
    pub(crate) fn print<T: Serialize + Display>(&self, result: &T) -> Result<(), Error> {
        let mut text = if self.json {
            serde_json::to_string(result).map_err(|err| Error::Output { err: err.into() })?
        } else {
            plain(&result.to_string())
        };
        if !text.ends_with('\n') {
            text.push('\n');
        }
        write(text.as_bytes())
    }

    /// Says what went wrong, if anything did.
    pub(crate) fn exit(&self, result: Result<(), Error>) -> ExitCode {
        match result {
            Err(err) if self.json => {
                let code = err.exit_code() as u8;
                // Nothing can be done about a standard error that is gone.
                let _ = writeln!(
                    io::stderr().lock(),
                    "{}",
                    serde_json::json!({"error": report::chain(&err), "code": code})
                );
                ExitCode::from(code)
            }
            result => report::exit(result.inspect_err(|_| {
                let _ = write!(io::stderr().lock(), "iotwasm: ");
            })),
        }
    }
}

/// Text that cannot command a terminal: some of it comes from payloads, which may be hostile.
fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() && c != '\n' { char::REPLACEMENT_CHARACTER } else { c }).collect()
}

/// Writes to standard output. A reader that has seen enough (`| head`) is no error.
pub(crate) fn write(bytes: &[u8]) -> Result<(), Error> {
    let mut out = io::stdout().lock();
    match out.write_all(bytes).and_then(|()| out.flush()) {
        Err(err) if err.kind() != io::ErrorKind::BrokenPipe => Err(Error::Output { err }),
        _ => Ok(()),
    }
}

/// Rows under headings, in columns as wide as they need to be.
pub(crate) struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    pub(crate) fn new<const N: usize>(headings: [&str; N]) -> Self {
        Self { rows: vec![headings.map(str::to_owned).to_vec()] }
    }

    pub(crate) fn row<const N: usize>(&mut self, cells: [String; N]) {
        self.rows.push(cells.map(|cell| cell.replace('\n', " ")).to_vec());
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rows.len() == 1
    }
}

impl Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let columns = self.rows[0].len();
        let width = |column: usize| self.rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
        let widths: Vec<usize> = (0..columns).map(width).collect();
        for row in &self.rows {
            let mut line = String::new();
            for (cell, width) in row.iter().zip(&widths) {
                write!(line, "{cell:width$}  ")?;
            }
            writeln!(f, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

/// `-` where there is nothing.
pub(crate) fn or_dash(text: &str) -> String {
    if text.is_empty() { "-".to_owned() } else { text.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::{Table, plain};

    #[test]
    fn what_a_payload_says_cannot_command_a_terminal() {
        assert_eq!(plain("a\u{1b}[2Jb\r\u{9b}c\n"), "a\u{fffd}[2Jb\u{fffd}\u{fffd}c\n");
        let mut table = Table::new(["a"]);
        table.row(["two\nlines".into()]);
        assert_eq!(table.to_string(), "a\ntwo lines\n");
    }

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let mut table = Table::new(["a", "long heading", "c"]);
        table.row(["wider".into(), "é".into(), "x".into()]);
        assert_eq!(table.to_string(), "a      long heading  c\nwider  é             x\n");
    }
}

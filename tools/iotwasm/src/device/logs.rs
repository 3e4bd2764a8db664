//! `iotwasm device logs`: journalctl, asked for the lines of a payload.

use std::ffi::OsString;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use clap::Args;
use iotwasm_payload::PayloadId;

use super::client::Error;
use crate::output::Output;

/// The journal's field that names the payload a line is about.
const FIELD: &str = "IOTWASM_PAYLOAD";

#[derive(Debug, Args)]
pub(crate) struct Logs {
    /// Of which payload; of all without one.
    #[arg(value_name = "ID")]
    payload: Option<PayloadId>,
    /// Go on as lines come.
    #[arg(short, long)]
    follow: bool,
    /// Only the newest lines.
    #[arg(short = 'n', long, value_name = "N")]
    lines: Option<u32>,
    /// More options of journalctl(1).
    #[arg(last = true, value_name = "OPTION")]
    options: Vec<OsString>,
}

/// Becomes journalctl; comes back only when that cannot be.
pub(crate) fn run(args: &Logs, output: &Output) -> Error {
    let mut command = Command::new("journalctl");
    command.args(arguments(args, output.is_json()));
    Error::Journal { err: command.exec() }
}

fn arguments(args: &Logs, json: bool) -> Vec<OsString> {
    let mut all: Vec<OsString> = vec!["--no-pager".into(), "--quiet".into()];
    if json {
        all.push("--output=json".into());
    }
    if args.follow {
        all.push("--follow".into());
    }
    if let Some(lines) = args.lines {
        all.push(format!("--lines={lines}").into());
    }
    all.extend(args.options.iter().cloned());
    all.push(match &args.payload {
        Some(payload) => format!("{FIELD}={payload}").into(),
        // Every line that has the field is of a payload; the supervisor writes them all.
        None => "_SYSTEMD_UNIT=wasm-supervisord.service".into(),
    });
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_journal_is_asked_for_one_payload() {
        let args = Logs {
            payload: Some("counter".parse().unwrap()),
            follow: true,
            lines: Some(5),
            options: vec!["--since=today".into()],
        };
        assert_eq!(
            arguments(&args, true),
            [
                "--no-pager",
                "--quiet",
                "--output=json",
                "--follow",
                "--lines=5",
                "--since=today",
                "IOTWASM_PAYLOAD=counter"
            ]
        );
    }
}

//! `iotwasm device`: a look at the device that the command is called on, through its daemons' Varlink interfaces.

mod capabilities;
mod client;
mod history;
mod logs;
mod monitor;
mod status;

use clap::{Args, Subcommand};
use iotwasm_kit::report::{Code, Failure};
use iotwasm_payload::PayloadId;

use crate::output::Output;

pub(crate) use client::Error;

#[derive(Debug, Subcommand)]
#[command(
    after_help = "The sockets are those of the device, unless IOTWASM_OTA_SOCKET, IOTWASM_SUPERVISOR_SOCKET and IOTWASM_CAPABILITIES_SOCKET \
                  name others."
)]
pub(crate) enum Command {
    /// Firmware and payloads: what is installed, what runs, and how it feels.
    Status,
    /// Pins, buses, sensors and actuators: what exists, who uses it, what was denied to whom.
    Capabilities,
    /// What was tried, newest first, and why it was undone.
    #[command(after_help = "Examples:
  iotwasm device history --payload counter --limit 5
  iotwasm device history --firmware")]
    History(History),
    /// What payloads and their runners wrote to the journal.
    #[command(after_help = "Examples:
  iotwasm device logs counter --follow
  iotwasm device logs counter --lines 50
  iotwasm device logs counter -- --since today --priority warning")]
    Logs(logs::Logs),
    /// Look for updates now.
    CheckNow,
    /// Follow what happens, until interrupted.
    Monitor(monitor::Monitor),
}

#[derive(Debug, Args)]
pub(crate) struct History {
    /// Only of this payload.
    #[arg(long, value_name = "ID")]
    payload: Option<PayloadId>,
    /// Only of the firmware.
    #[arg(long, conflicts_with = "payload")]
    firmware: bool,
    /// At most this many attempts.
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u16).range(1..=1000))]
    limit: u16,
}

impl Failure for Error {
    fn exit_code(&self) -> Code {
        match self {
            Self::Connect { .. } => Code::DeviceMissing,
            _ => Code::Other,
        }
    }
}

pub(crate) fn run(command: Command, output: &Output) -> Result<(), crate::error::Error> {
    match command {
        Command::Status => output.print(&client::run(status::get())?),
        Command::Capabilities => output.print(&client::run(capabilities::get())?),
        Command::History(args) => output.print(&client::run(history::get(&args))?),
        Command::Logs(args) => Err(logs::run(&args, output).into()),
        Command::CheckNow => output.print(&client::run(status::check_now())?),
        Command::Monitor(args) => client::run(monitor::follow(&args, output))?,
    }
}

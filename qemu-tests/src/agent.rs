//! The harness' end of the port to the test agent. One request at a time; a connection lives as long as a boot.

use std::io;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use crate::error::{Error, Result};
use crate::protocol::{Action, Outcome, Reply, Request, receive, send};

/// How much longer than the program's own limit a reply may take: TCG on a busy machine is slow.
const SLACK: Duration = Duration::from_secs(60);

/// Output of a program in the device.
#[derive(Debug, Clone)]
pub struct Output {
    /// Exit code; 128 + n where signal n ended it.
    pub code: i32,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
    /// It was killed at its time limit.
    pub timed_out: bool,
}

/// The connection.
#[derive(Debug)]
pub struct Agent {
    stream: UnixStream,
    next: u64,
}

impl Agent {
    /// Connects to the port's socket. Nothing is said yet.
    pub fn connect(socket: &Path) -> Result<Self> {
        let stream = UnixStream::connect(socket).map_err(Error::file("connect to", socket))?;
        Ok(Self { stream, next: 1 })
    }

    /// Waits for the agent to be there. Safe to ask again: older pings' replies are passed over.
    pub fn ping(&mut self, limit: Duration) -> Result<()> {
        self.ask("ping", Action::Ping, &[], limit).map(drop)
    }

    /// Runs a program.
    pub fn exec(&mut self, argv: &[&str], stdin: &[u8], limit: Duration) -> Result<Output> {
        self.exec_within(argv, stdin, limit, limit + SLACK)
    }

    /// [`Agent::exec`] with a limit of its own for the reply: in a device that may restart any moment, it may never come.
    pub fn exec_within(&mut self, argv: &[&str], stdin: &[u8], limit: Duration, reply: Duration) -> Result<Output> {
        let doing = argv.join(" ");
        let action = Action::Exec {
            argv: argv.iter().map(|&a| a.to_owned()).collect(),
            timeout_ms: u64::try_from(limit.as_millis()).unwrap_or(u64::MAX),
        };
        match self.ask(&doing, action, stdin, reply)? {
            (Outcome::Ended { code, stdout, timed_out }, body) => {
                let (out, err) = body.split_at(stdout.min(body.len()));
                let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
                Ok(Output { code, stdout: text(out), stderr: text(err), timed_out })
            }
            (outcome, _) => Err(Error::Refused { doing, message: format!("{outcome:?}") }),
        }
    }

    /// Starts a program whose end nobody will tell: it ends the agent, too.
    pub fn tell(&mut self, argv: &[&str]) -> Result<()> {
        let doing = argv.join(" ");
        let action = Action::Exec { argv: argv.iter().map(|&a| a.to_owned()).collect(), timeout_ms: 60_000 };
        let id = self.next;
        self.next += 1;
        send(&mut self.stream, &Request { id, action }, &[]).map_err(|source| Error::Agent { doing, source })
    }

    /// Writes a file.
    pub fn put(&mut self, path: &str, mode: u32, contents: &[u8]) -> Result<()> {
        let action = Action::Put { path: path.to_owned(), mode };
        self.ask(&format!("put {path}"), action, contents, SLACK).map(drop)
    }

    /// Reads a file.
    pub fn get(&mut self, path: &str) -> Result<Vec<u8>> {
        self.get_within(path, SLACK)
    }

    /// [`Agent::get`] with a limit of its own.
    pub fn get_within(&mut self, path: &str, limit: Duration) -> Result<Vec<u8>> {
        Ok(self.ask(&format!("get {path}"), Action::Get { path: path.to_owned() }, &[], limit)?.1)
    }

    fn ask(&mut self, doing: &str, action: Action, body: &[u8], limit: Duration) -> Result<(Outcome, Vec<u8>)> {
        let id = self.next;
        self.next += 1;
        let (outcome, body) = self
            .exchange(&Request { id, action }, body, limit)
            .map_err(|source| Error::Agent { doing: doing.to_owned(), source })?;
        match outcome {
            Outcome::Failed { message } => Err(Error::Refused { doing: doing.to_owned(), message }),
            outcome => Ok((outcome, body)),
        }
    }

    fn exchange(&mut self, request: &Request, body: &[u8], limit: Duration) -> io::Result<(Outcome, Vec<u8>)> {
        self.stream.set_read_timeout(Some(limit))?;
        self.stream.set_write_timeout(Some(limit))?;
        send(&mut self.stream, request, body)?;
        loop {
            let (reply, body): (Reply, _) = receive(&mut self.stream)?;
            // An older reply belongs to a request that was given up.
            if reply.id == request.id {
                return Ok((reply.outcome, body));
            }
        }
    }
}

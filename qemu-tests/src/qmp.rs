//! QEMU's control socket: commands and events, as lines of JSON.

use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use crate::error::{Error, Result};

/// The connection.
#[derive(Debug)]
pub struct Qmp {
    reader: BufReader<UnixStream>,
}

impl Qmp {
    /// Connects and leaves the negotiation mode.
    pub fn connect(socket: &Path) -> Result<Self> {
        let stream = UnixStream::connect(socket).map_err(Error::file("connect to", socket))?;
        stream.set_read_timeout(Some(Duration::from_secs(30))).map_err(Error::file("set up", socket))?;
        let mut qmp = Self { reader: BufReader::new(stream) };
        qmp.line().map_err(|source| Error::Monitor { doing: "greeting".into(), source })?;
        qmp.command("qmp_capabilities", json!({}))?;
        Ok(qmp)
    }

    /// Runs one command and gives what it returns; events in between are passed over.
    pub fn command(&mut self, name: &str, arguments: Value) -> Result<Value> {
        self.exchange(name, &arguments).map_err(|source| Error::Monitor { doing: name.to_owned(), source })
    }

    fn exchange(&mut self, name: &str, arguments: &Value) -> io::Result<Value> {
        let mut line = json!({"execute": name, "arguments": arguments}).to_string();
        line.push('\n');
        self.reader.get_mut().write_all(line.as_bytes())?;
        loop {
            let mut message = self.line()?;
            if let Some(result) = message.get_mut("return") {
                return Ok(result.take());
            }
            if let Some(error) = message.get("error") {
                return Err(io::Error::other(error.to_string()));
            }
        }
    }

    fn line(&mut self) -> io::Result<Value> {
        let mut line = String::new();
        if self.reader.read_line(&mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(serde_json::from_str(&line)?)
    }
}

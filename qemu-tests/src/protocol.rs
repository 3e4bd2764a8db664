//! What harness and test agent say to each other over the virtio-serial port. Pure framing: no port, no process.
//!
//! A frame is a magic word, the length of a JSON header, the length of a body, the header, and the body. The magic word
//! lets a side that joined in the middle of something (after a reset) find the next frame.

use std::io::{self, Read, Write};

use serde::{Deserialize, Serialize, de::DeserializeOwned};

/// Starts every frame.
const MAGIC: [u8; 8] = *b"\x01iotwasm";

/// Longest header that is read, in bytes.
const MAX_HEADER: u32 = 64 * 1024;

/// Longest body that is read, in bytes: more than any file that a scenario moves.
const MAX_BODY: u32 = 256 * 1024 * 1024;

/// The name of the virtio-serial port.
pub const PORT: &str = "org.iotwasm.test";

/// What the harness asks for; `id` comes back in the reply.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// Tells replies apart.
    pub id: u64,
    /// What to do.
    pub action: Action,
}

/// One thing the agent can do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// Nothing: shows that the agent is there.
    Ping,
    /// Run a program; the body is its standard input.
    Exec {
        /// Program and arguments.
        argv: Vec<String>,
        /// The program is killed after this long, in milliseconds.
        timeout_ms: u64,
    },
    /// Write the body to a file.
    Put {
        /// Absolute path; missing folders are made.
        path: String,
        /// Permission bits.
        mode: u32,
    },
    /// Read a file.
    Get {
        /// Absolute path.
        path: String,
    },
}

/// The agent's answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reply {
    /// The request's.
    pub id: u64,
    /// How it went.
    pub outcome: Outcome,
}

/// How an action went.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Done; for [`Action::Get`] the body is the file.
    Done,
    /// The program ended; the body is standard output followed by standard error.
    Ended {
        /// Exit code, or 128 + the signal's number.
        code: i32,
        /// How much of the body is standard output, in bytes.
        stdout: usize,
        /// The time limit ended it.
        timed_out: bool,
    },
    /// It could not be done.
    Failed {
        /// Why.
        message: String,
    },
}

/// Writes one frame.
pub fn send<T: Serialize>(to: &mut impl Write, header: &T, body: &[u8]) -> io::Result<()> {
    let header = serde_json::to_vec(header)?;
    let mut frame = Vec::with_capacity(MAGIC.len() + 8 + header.len() + body.len());
    frame.extend_from_slice(&MAGIC);
    frame.extend_from_slice(&length(header.len())?.to_le_bytes());
    frame.extend_from_slice(&length(body.len())?.to_le_bytes());
    frame.extend_from_slice(&header);
    frame.extend_from_slice(body);
    to.write_all(&frame)?;
    to.flush()
}

/// Reads one frame, skipping whatever precedes the next magic word.
pub fn receive<T: DeserializeOwned>(from: &mut impl Read) -> io::Result<(T, Vec<u8>)> {
    let mut seen = [0u8; MAGIC.len()];
    from.read_exact(&mut seen)?;
    while seen != MAGIC {
        seen.rotate_left(1);
        from.read_exact(&mut seen[MAGIC.len() - 1..])?;
    }
    let (header, body) = (read_length(from, MAX_HEADER)?, read_length(from, MAX_BODY)?);
    let header = read_bytes(from, header)?;
    let body = read_bytes(from, body)?;
    Ok((serde_json::from_slice(&header)?, body))
}

fn length(of: usize) -> io::Result<u32> {
    u32::try_from(of).map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, "frame too long"))
}

fn read_length(from: &mut impl Read, limit: u32) -> io::Result<usize> {
    let mut bytes = [0u8; 4];
    from.read_exact(&mut bytes)?;
    let value = u32::from_le_bytes(bytes);
    if value > limit {
        return Err(io::Error::new(io::ErrorKind::InvalidData, format!("a frame of {value} bytes; at most {limit}")));
    }
    Ok(value as usize)
}

fn read_bytes(from: &mut impl Read, count: usize) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0u8; count];
    from.read_exact(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exec() -> Request {
        Request { id: 7, action: Action::Exec { argv: vec!["true".into()], timeout_ms: 1000 } }
    }

    #[test]
    fn frame_comes_back_as_it_was_sent() {
        let mut wire = Vec::new();
        send(&mut wire, &exec(), b"in").unwrap();
        let (request, body): (Request, _) = receive(&mut wire.as_slice()).unwrap();
        assert_eq!((request, body.as_slice()), (exec(), b"in".as_slice()));
    }

    #[test]
    fn rest_of_an_older_frame_is_skipped() {
        let mut wire = b"half a frame \x01iot".to_vec();
        send(&mut wire, &exec(), b"").unwrap();
        let (request, _): (Request, Vec<u8>) = receive(&mut wire.as_slice()).unwrap();
        assert_eq!(request, exec());
    }

    #[test]
    fn frame_over_the_limit_is_refused() {
        let mut wire = MAGIC.to_vec();
        wire.extend_from_slice(&(MAX_HEADER + 1).to_le_bytes());
        wire.extend_from_slice(&[0; 64]);
        assert_eq!(receive::<Request>(&mut wire.as_slice()).unwrap_err().kind(), io::ErrorKind::InvalidData);
    }
}

//! A web server on this machine's loopback that serves a folder, as a CDN would, and misbehaves on demand.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::{Component, Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use crate::error::{Error, Result};

/// Longest request head that is read, in bytes.
const MAX_HEAD: u64 = 16 * 1024;

/// How the server misbehaves.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Fault {
    /// Not at all.
    #[default]
    None,
    /// Connections are accepted and dropped at once: the server has gone.
    Vanished,
    /// Answers 404 to everything.
    NotFound,
    /// Answers 503 to everything.
    Unavailable,
    /// Nothing beyond this many bytes of a file, whatever part of it is asked for: silence on an open connection.
    StallAt(usize),
    /// The head and this many bytes of the body, then the end of the connection.
    TruncateAfter(usize),
    /// The body in pieces with pauses: about this many bytes a second.
    Slow(usize),
}

/// One request that came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// Path, with its leading slash.
    pub path: String,
    /// First byte asked for, where a range was.
    pub from: Option<u64>,
    /// Last byte asked for, where the range had one.
    pub to: Option<u64>,
    /// Bytes of the body that were sent.
    pub sent: u64,
}

#[derive(Debug, Default)]
struct State {
    root: PathBuf,
    fault: Fault,
    /// The fault concerns only paths that contain this.
    only: Option<String>,
    seen: Vec<Seen>,
    connections: HashMap<u64, TcpStream>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    stopping: AtomicBool,
}

/// The server; it ends with this value.
#[derive(Debug)]
pub struct Server {
    shared: Arc<Shared>,
    port: u16,
}

impl Server {
    /// Serves `root` on a free port of the loopback.
    pub fn start(root: &Path) -> Result<Self> {
        let failed = |source| Error::Start { program: "the web server".into(), source };
        let listener = TcpListener::bind(("127.0.0.1", 0)).map_err(failed)?;
        let port = listener.local_addr().map_err(failed)?.port();
        let shared = Arc::new(Shared::default());
        shared.lock().root = root.to_owned();
        let accepting = Arc::clone(&shared);
        thread::spawn(move || accept(&listener, &accepting));
        Ok(Self { shared, port })
    }

    /// The port on the loopback.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Serves another folder from now on.
    pub fn serve(&self, root: &Path) {
        self.shared.lock().root = root.to_owned();
    }

    /// Misbehaves from now on, for every path.
    pub fn set_fault(&self, fault: Fault) {
        self.set_fault_for(fault, None);
    }

    /// Misbehaves from now on, for paths that contain `only`. Connections that stall under the old fault are cut.
    pub fn set_fault_for(&self, fault: Fault, only: Option<&str>) {
        let mut state = self.shared.lock();
        state.fault = fault;
        state.only = only.map(str::to_owned);
        for connection in state.connections.values() {
            let _ = connection.shutdown(Shutdown::Both);
        }
        self.shared.changed.notify_all();
    }

    /// The requests so far.
    pub fn seen(&self) -> Vec<Seen> {
        self.shared.lock().seen.clone()
    }

    /// How many requests were for paths that contain `part`.
    pub fn count(&self, part: &str) -> usize {
        self.shared.lock().seen.iter().filter(|s| s.path.contains(part)).count()
    }

    /// Bytes of files whose names end so that were sent.
    pub fn sent(&self, suffix: &str) -> u64 {
        self.shared.lock().seen.iter().filter(|s| s.path.ends_with(suffix)).map(|s| s.sent).sum()
    }

    /// Forgets the requests so far.
    pub fn forget(&self) {
        self.shared.lock().seen.clear();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.shared.stopping.store(true, Ordering::SeqCst);
        self.set_fault(Fault::Vanished);
        // The accepting thread sees the flag at its next connection: this one.
        let _ = TcpStream::connect(("127.0.0.1", self.port));
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    for (number, stream) in (0u64..).zip(listener.incoming()) {
        if shared.stopping.load(Ordering::SeqCst) {
            return;
        }
        let Ok(stream) = stream else { continue };
        if let Ok(twin) = stream.try_clone() {
            shared.lock().connections.insert(number, twin);
        }
        let shared = Arc::clone(shared);
        thread::spawn(move || {
            // A client that goes away is no event here.
            let _ = converse(stream, &shared);
            shared.lock().connections.remove(&number);
        });
    }
}

struct Head {
    path: String,
    from: Option<u64>,
    to: Option<u64>,
    get: bool,
}

fn converse(stream: TcpStream, shared: &Shared) -> io::Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(300)))?;
    // As servers do: the end of an answer is not to wait for the client's acknowledgement of the rest.
    stream.set_nodelay(true)?;
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut stream = stream;
    while let Some(head) = read_head(&mut reader)? {
        let (root, fault) = {
            let state = shared.lock();
            let concerned = state.only.as_ref().is_none_or(|only| head.path.contains(only.as_str()));
            (state.root.clone(), if concerned { state.fault.clone() } else { Fault::None })
        };
        if !answer(&mut stream, &head, &root, &fault, shared)? {
            break;
        }
    }
    stream.shutdown(Shutdown::Both)
}

/// Answers one request; whether the connection stays open.
fn answer(stream: &mut TcpStream, head: &Head, root: &Path, fault: &Fault, shared: &Shared) -> io::Result<bool> {
    let note = |sent: usize| {
        let seen = Seen { path: head.path.clone(), from: head.from, to: head.to, sent: sent as u64 };
        shared.lock().seen.push(seen);
    };
    let file = match fault {
        Fault::Vanished => {
            note(0);
            return Ok(false);
        }
        Fault::NotFound => Err("404 Not Found"),
        Fault::Unavailable => Err("503 Service Unavailable"),
        _ => resolve(root, &head.path).and_then(|path| File::open(path).ok()).ok_or("404 Not Found"),
    };
    let mut file = match file {
        Ok(file) => file,
        Err(status) => {
            note(0);
            write!(stream, "HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n")?;
            return Ok(true);
        }
    };
    let total = file.metadata()?.len();
    let from = head.from.unwrap_or(0);
    if from > total || (from == total && total > 0) {
        note(0);
        write!(
            stream,
            "HTTP/1.1 416 Range Not Satisfiable\r\nContent-Range: bytes */{total}\r\nContent-Length: 0\r\n\r\n"
        )?;
        return Ok(true);
    }
    let end = head.to.map_or(total, |to| to.saturating_add(1).min(total)).max(from);
    let mut body = Vec::new();
    file.seek(SeekFrom::Start(from))?;
    file.take(end - from).read_to_end(&mut body)?;
    let from = usize::try_from(from).unwrap_or(usize::MAX);
    let status = if head.from.is_some() {
        format!("206 Partial Content\r\nContent-Range: bytes {from}-{}/{total}", end.saturating_sub(1))
    } else {
        "200 OK".to_owned()
    };
    write!(stream, "HTTP/1.1 {status}\r\nAccept-Ranges: bytes\r\nContent-Length: {}\r\n\r\n", body.len())?;
    if !head.get {
        note(0);
        return Ok(true);
    }
    let limit = match fault {
        Fault::StallAt(n) => n.saturating_sub(from).min(body.len()),
        Fault::TruncateAfter(n) => (*n).min(body.len()),
        _ => body.len(),
    };
    note(limit);
    match fault {
        Fault::Slow(rate) => {
            let piece = (rate / 10).max(1);
            for bytes in body.chunks(piece) {
                stream.write_all(bytes)?;
                pause(shared, fault, Duration::from_millis(100));
            }
        }
        _ => stream.write_all(&body[..limit])?,
    }
    match fault {
        Fault::StallAt(_) if limit < body.len() => {
            stall(shared, fault);
            Ok(false)
        }
        Fault::TruncateAfter(_) if limit < body.len() => Ok(false),
        _ => Ok(true),
    }
}

/// Silence until the fault is lifted or the server ends.
fn stall(shared: &Shared, fault: &Fault) {
    let mut state = shared.lock();
    while state.fault == *fault && !shared.stopping.load(Ordering::SeqCst) {
        state = shared.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
    }
}

/// The pace of a slow server, cut short when the fault is lifted.
fn pause(shared: &Shared, fault: &Fault, time: Duration) {
    let state = shared.lock();
    if state.fault == *fault {
        drop(shared.changed.wait_timeout(state, time).unwrap_or_else(PoisonError::into_inner));
    }
}

fn read_head(reader: &mut BufReader<TcpStream>) -> io::Result<Option<Head>> {
    let mut lines = reader.by_ref().take(MAX_HEAD);
    let mut first = String::new();
    if lines.read_line(&mut first)? == 0 {
        return Ok(None);
    }
    let mut words = first.split_whitespace();
    let get = words.next() == Some("GET");
    let path = words.next().unwrap_or("/").split('?').next().unwrap_or("/").to_owned();
    let (mut from, mut to) = (None, None);
    loop {
        let mut line = String::new();
        if lines.read_line(&mut line)? == 0 || line.trim().is_empty() {
            return Ok(Some(Head { path, from, to, get }));
        }
        let Some((name, value)) = line.split_once(':') else { continue };
        if name.eq_ignore_ascii_case("range") {
            let range = value.trim().strip_prefix("bytes=").and_then(|r| r.split_once('-'));
            (from, to) = range.map_or((None, None), |(first, last)| (first.parse().ok(), last.parse().ok()));
        }
    }
}

/// The file that a path names, if it stays below the root.
fn resolve(root: &Path, path: &str) -> Option<PathBuf> {
    let relative = Path::new(path.strip_prefix('/')?);
    relative.components().all(|c| matches!(c, Component::Normal(_))).then(|| root.join(relative))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn get(server: &Server, head: &str) -> String {
        let mut stream = TcpStream::connect(("127.0.0.1", server.port())).unwrap();
        write!(stream, "{head}\r\nConnection: close\r\n\r\n").unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        text
    }

    fn server() -> (tempfile::TempDir, Server) {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("f"), b"0123456789").unwrap();
        let server = Server::start(folder.path()).unwrap();
        (folder, server)
    }

    #[test]
    fn range_gives_the_rest_and_is_noted() {
        let (_folder, server) = server();
        let text = get(&server, "GET /f HTTP/1.1\r\nRange: bytes=7-");
        assert!(text.starts_with("HTTP/1.1 206") && text.contains("bytes 7-9/10") && text.ends_with("789"), "{text}");
        assert_eq!(server.seen(), [Seen { path: "/f".into(), from: Some(7), to: None, sent: 3 }]);
        let text = get(&server, "GET /f HTTP/1.1\r\nRange: bytes=2-4");
        assert!(text.contains("bytes 2-4/10") && text.ends_with("\r\n\r\n234"), "{text}");
    }

    #[test]
    fn truncated_body_is_shorter_than_its_head_says() {
        let (_folder, server) = server();
        server.set_fault(Fault::TruncateAfter(4));
        let text = get(&server, "GET /f HTTP/1.1");
        assert!(text.contains("Content-Length: 10") && text.ends_with("\r\n0123"), "{text}");
    }

    #[test]
    fn vanished_server_says_nothing() {
        let (_folder, server) = server();
        server.set_fault(Fault::Vanished);
        assert_eq!(get(&server, "GET /f HTTP/1.1"), "");
    }

    #[test]
    fn fault_for_one_path_leaves_the_others_alone() {
        let (_folder, server) = server();
        server.set_fault_for(Fault::NotFound, Some("/other"));
        assert!(get(&server, "GET /f HTTP/1.1").ends_with("0123456789"));
    }

    #[test]
    fn path_outside_the_folder_is_not_found() {
        let (_folder, server) = server();
        assert!(get(&server, "GET /../etc/passwd HTTP/1.1").starts_with("HTTP/1.1 404"));
    }
}

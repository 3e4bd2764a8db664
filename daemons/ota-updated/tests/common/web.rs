//! A small web server over a folder, that can be made to misbehave. One thread for each connection, no keep-alive.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

#[derive(Default)]
pub struct Behaviour {
    pub dir: PathBuf,
    /// Every connection is closed without an answer.
    pub down: bool,
    /// The next target is cut off after so many bytes.
    pub cut_target_at: Option<usize>,
    /// Ranges are answered with the whole file.
    pub ignores_ranges: bool,
    /// Content-Range names another length.
    pub lies_about_length: bool,
    /// Bundles are answered with these bytes instead, beginning with the request of this number.
    pub swap_bundle: Option<(usize, Vec<u8>)>,
    /// Every request: path, and the Range header.
    pub requests: Vec<(String, Option<String>)>,
    /// Called before each answer.
    pub hook: Option<super::Hook>,
}

#[derive(Clone)]
pub struct Web {
    pub url: String,
    pub behaviour: Arc<Mutex<Behaviour>>,
}

impl Web {
    pub fn serve(dir: PathBuf) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let behaviour = Arc::new(Mutex::new(Behaviour { dir, ..Behaviour::default() }));
        let shared = Arc::clone(&behaviour);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let behaviour = Arc::clone(&shared);
                // A client that goes away is no business of the server's.
                std::thread::spawn(move || drop(answer(stream, &behaviour)));
            }
        });
        Self { url, behaviour }
    }

    pub fn set(&self, change: impl FnOnce(&mut Behaviour)) {
        change(&mut self.behaviour.lock().unwrap());
    }

    pub fn requests_of(&self, part: &str) -> Vec<(String, Option<String>)> {
        let behaviour = self.behaviour.lock().unwrap();
        behaviour.requests.iter().filter(|(path, _)| path.contains(part)).cloned().collect()
    }
}

fn answer(mut stream: TcpStream, behaviour: &Mutex<Behaviour>) -> std::io::Result<()> {
    let mut lines = BufReader::new(stream.try_clone()?).lines();
    let request = lines.next().unwrap_or(Ok(String::new()))?;
    let path = request.split(' ').nth(1).unwrap_or("/").to_owned();
    let mut range = None;
    for line in lines {
        let line = line?;
        if line.is_empty() {
            break;
        }
        if let Some((name, value)) = line.split_once(':')
            && name.eq_ignore_ascii_case("range")
        {
            range = Some(value.trim().to_owned());
        }
    }
    let (dir, down, cut, hook, whole, lies, swap) = {
        let mut behaviour = behaviour.lock().unwrap();
        behaviour.requests.push((path.clone(), range.clone()));
        let cut = if path.contains("/targets/") { behaviour.cut_target_at.take() } else { None };
        let bundles = behaviour.requests.iter().filter(|(path, _)| path.ends_with(".raucb")).count();
        let swap = behaviour.swap_bundle.clone().filter(|(from, _)| path.ends_with(".raucb") && bundles > *from);
        let (whole, lies) = (behaviour.ignores_ranges, behaviour.lies_about_length);
        (behaviour.dir.clone(), behaviour.down, cut, behaviour.hook.clone(), whole, lies, swap)
    };
    if let Some(hook) = hook {
        hook(&path);
    }
    if down {
        return Ok(());
    }
    let Ok(bytes) = std::fs::read(dir.join(path.trim_start_matches('/'))) else {
        return stream.write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    };
    let bytes = swap.map_or(bytes, |(_, other)| other);
    let span = range.as_deref().and_then(|r| r.strip_prefix("bytes=")?.split_once('-'));
    let span = span.map(|(from, to)| (from.parse::<usize>().unwrap(), to.parse().unwrap_or(bytes.len() - 1)));
    let (status, extra, body) = match span {
        Some((from, to)) if to < bytes.len() && !whole => {
            let total = bytes.len() + usize::from(lies);
            let range = format!("Content-Range: bytes {from}-{to}/{total}\r\n");
            ("206 Partial Content", range, &bytes[from..=to])
        }
        _ => ("200 OK", String::new(), &bytes[..]),
    };
    write!(stream, "HTTP/1.1 {status}\r\nContent-Length: {}\r\n{extra}Connection: close\r\n\r\n", body.len())?;
    let end = cut.unwrap_or(body.len()).min(body.len());
    stream.write_all(&body[..end])
}

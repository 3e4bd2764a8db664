//! Tests of the relay against a real server of ranges.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener as Listener, TcpStream as Stream};
use std::sync::OnceLock;

use iotwasm_fetch::Options;

use super::*;

/// Some bytes, of which the last thousand are the end.
fn content() -> &'static [u8] {
    static CONTENT: OnceLock<Vec<u8>> = OnceLock::new();
    CONTENT.get_or_init(|| (0..TOTAL).map(|i| (i % 251) as u8).collect())
}

const TOTAL: usize = 4_000_000;
const TAIL: usize = 1000;

/// Serves ranges of the content; each answer stops after `cut` bytes.
fn mirror(cut: usize) -> String {
    mirror_that_cuts(move |length| length.min(cut))
}

/// The same; what of an answer of some length is given.
fn mirror_that_cuts(cut: impl Fn(usize) -> usize + Send + Sync + 'static) -> String {
    let cut = Arc::new(cut);
    let listener = Listener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let cut = Arc::clone(&cut);
            std::thread::spawn(move || {
                let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
                let mut span = None;
                while let Some(Ok(line)) = lines.next().filter(|line| line.as_ref().is_ok_and(|line| !line.is_empty()))
                {
                    if let Some(range) = line.to_ascii_lowercase().strip_prefix("range: bytes=") {
                        let (from, to) = range.split_once('-').unwrap();
                        span = Some((from.parse::<usize>().unwrap(), to.parse::<usize>().unwrap()));
                    }
                }
                let Some((from, to)) = span else { return };
                let (bytes, total) = (&content()[from..=to], TOTAL);
                let head = format!(
                    "HTTP/1.1 206 Partial Content\r\nContent-Range: bytes {from}-{to}/{total}\r\nContent-Length: {}\r\n\
                     Connection: close\r\n\r\n",
                    bytes.len()
                );
                let mut stream = &stream;
                let _ = stream.write_all(head.as_bytes());
                let _ = stream.write_all(&bytes[..cut(bytes.len())]);
            });
        }
    });
    url
}

fn relay(mirror: &str) -> Relay {
    let options = Options { proxy_from_environment: false, ..Options::default() };
    let client = || Client::new(&[mirror.to_owned()], &options).unwrap();
    let clients = (0..TRANSFERS).map(|_| client()).collect();
    let (total, tail) = (TOTAL as u64, content()[TOTAL - TAIL..].to_vec());
    Relay::start(Source { clients, path: "f".into(), total, tail }).unwrap()
}

fn connect(relay: &Relay) -> (BufReader<Stream>, String) {
    let (host, path) = relay.url().strip_prefix("http://").unwrap().split_once('/').unwrap();
    (BufReader::new(Stream::connect(host).unwrap()), format!("/{path}"))
}

/// Asks for a range on a connection that may be used again; the status, the Content-Range and the body.
fn ask(stream: &mut BufReader<Stream>, path: &str, range: &str) -> std::io::Result<(String, String, Vec<u8>)> {
    let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nRange: bytes={range}\r\n\r\n");
    stream.get_mut().write_all(request.as_bytes())?;
    let (mut status, mut found, mut length, mut line) = (String::new(), String::new(), 0, String::new());
    while stream.read_line(&mut line)? > 2 {
        if status.is_empty() {
            status.clone_from(&line);
        } else if let Some(range) = line.strip_prefix("Content-Range: ") {
            found = range.trim().to_owned();
        } else if let Some(n) = line.strip_prefix("Content-Length: ") {
            length = n.trim().parse().unwrap();
        }
        line.clear();
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body)?;
    Ok((status, found, body))
}

#[test]
fn ranges_come_whole_wherever_they_lie_on_one_connection() {
    let relay = relay(&mirror(usize::MAX));
    let (mut stream, path) = connect(&relay);
    for (from, to) in [
        (0, 3),
        (0, TOTAL - 1),
        (TOTAL - TAIL - 10, TOTAL - TAIL + 10),
        (TOTAL - TAIL, TOTAL - 1),
        (TOTAL - 1, TOTAL - 1),
        (7, 131_078),
    ] {
        let (status, range, body) = ask(&mut stream, &path, &format!("{from}-{to}")).unwrap();
        assert!(status.starts_with("HTTP/1.1 206 "), "{status}");
        assert_eq!(range, format!("bytes {from}-{to}/{TOTAL}"));
        assert!(body == content()[from..=to], "{from}-{to}");
    }
    // What lies in memory is not fetched.
    assert_eq!(relay.seen().fetched(), (4 + TOTAL - TAIL + 10 + 131_072) as u64);
    assert_eq!(relay.seen().failure(), None);
}

#[test]
fn many_connections_at_once_each_get_their_own() {
    let relay = relay(&mirror(usize::MAX));
    std::thread::scope(|scope| {
        for n in 0..CONNECTIONS + 20 {
            let relay = &relay;
            scope.spawn(move || {
                let (mut stream, path) = connect(relay);
                let (_, _, body) = ask(&mut stream, &path, &format!("{}-{}", n * 1000, n * 1000 + 70_000)).unwrap();
                assert!(body == content()[n * 1000..=n * 1000 + 70_000], "{n}");
            });
        }
    });
}

/// As much as is read at a time.
const BLOCK: usize = 16 * 1024;
/// As much as is fetched ahead at a time.
const CHUNK: usize = 128 * 1024;

/// Reads all before the end, in blocks as RAUC does; how many bytes more than asked for were fetched when it had come to three fifths.
fn read_in_a_row(relay: &Relay) -> u64 {
    let (mut stream, path) = connect(relay);
    let (mut ahead, length) = (0, TOTAL - TAIL);
    for from in (0..length).step_by(BLOCK) {
        let to = (from + BLOCK).min(length);
        let (_, _, body) = ask(&mut stream, &path, &format!("{from}-{}", to - 1)).unwrap();
        assert!(body == content()[from..to], "{from}-{to}");
        if to >= 3 * length / 5 && ahead == 0 {
            // What is ahead comes by itself.
            let end = std::time::Instant::now() + Duration::from_secs(60);
            while relay.seen().fetched() <= to as u64 && std::time::Instant::now() < end {
                std::thread::yield_now();
            }
            ahead = relay.seen().fetched() - to as u64;
        }
    }
    ahead
}

#[test]
fn what_cannot_be_fetched_ahead_is_fetched_when_it_is_asked_for_and_blames_nobody() {
    // A block's answer is whole. Of anything longer comes a little, and of what is asked for behind that nothing.
    let relay = relay(&mirror_that_cuts(|length| match length {
        ..=BLOCK => length,
        CHUNK => BLOCK + 1000,
        _ => 0,
    }));
    read_in_a_row(&relay);
    assert_eq!(relay.seen().failure(), None);
}

#[test]
fn nobody_waits_for_what_has_not_begun() {
    let (release, wait) = std::sync::mpsc::channel::<()>();
    let wait = Arc::new(Mutex::new(wait));
    // What is fetched ahead stands still until this test ends.
    let relay = relay(&mirror_that_cuts(move |length| {
        if length == CHUNK {
            let _ = wait.lock().unwrap().recv();
        }
        length
    }));
    let (mut stream, path) = connect(&relay);
    let read = 2 * 1024 * 1024;
    ask(&mut stream, &path, &format!("0-{}", read - 1)).unwrap();
    // Two are on their way, and the third waits for them.
    let third = read + 2 * CHUNK;
    let (_, _, body) = ask(&mut stream, &path, &format!("{third}-{}", third + 999)).unwrap();
    assert!(body == content()[third..third + 1000]);
    assert_eq!(relay.seen().fetched(), read as u64 + 1000);
    drop(release);
    let (_, _, body) = ask(&mut stream, &path, &format!("{read}-{}", read + 999)).unwrap();
    assert!(body == content()[read..read + 1000]);
}

#[test]
fn what_is_read_in_a_row_is_fetched_ahead_and_once() {
    let relay = relay(&mirror(usize::MAX));
    let ahead = read_in_a_row(&relay);
    assert!(ahead > 0);
    assert_eq!(relay.seen().fetched(), (TOTAL - TAIL) as u64);
    assert_eq!(relay.seen().failure(), None);
}

#[test]
fn what_is_ahead_and_breaks_off_is_asked_for_again() {
    // Each answer has 50 000 bytes at most, and the rest is asked for: as long as it goes forward, it goes on.
    let relay = relay(&mirror(50_000));
    read_in_a_row(&relay);
    assert_eq!(relay.seen().failure(), None);
}

#[test]
fn other_paths_and_requests_are_refused_and_the_path_cannot_be_guessed() {
    let (one, other) = (relay(&mirror(usize::MAX)), relay(&mirror(usize::MAX)));
    let (mut stream, path) = connect(&one);
    assert!(path.len() > 32 && path != connect(&other).1);
    assert!(ask(&mut stream, "/firmware.raucb", "0-3").unwrap().0.contains(" 404 "));
    let (mut stream, path) = connect(&one);
    assert!(ask(&mut stream, &path, &format!("0-{TOTAL}")).unwrap().0.contains(" 416 "));
    let (mut stream, path) = connect(&one);
    let endless = ask(&mut stream, &format!("{path}{}", "x".repeat(64 * 1024)), "0-3");
    assert!(endless.is_err() || endless.is_ok_and(|(status, ..)| status.is_empty()));
    assert_eq!(one.seen().fetched(), 0);
}

#[test]
fn a_mirror_that_gives_nothing_is_told_and_remembered() {
    let relay = relay(&mirror(0));
    let (mut stream, path) = connect(&relay);
    assert!(ask(&mut stream, &path, "0-3").unwrap().0.contains(" 502 "));
    assert!(relay.seen().failure().is_some());
    // The end is served all the same.
    let (mut stream, path) = connect(&relay);
    assert_eq!(ask(&mut stream, &path, &format!("{}-{}", TOTAL - TAIL, TOTAL - 1)).unwrap().2.len(), TAIL);
}

#[test]
fn a_relay_that_is_dropped_answers_nobody() {
    let relay = relay(&mirror(usize::MAX));
    let (mut stream, path) = connect(&relay);
    ask(&mut stream, &path, "0-3").unwrap();
    drop(relay);
    let end = std::time::Instant::now() + Duration::from_secs(30);
    while ask(&mut stream, &path, "0-3").is_ok_and(|(status, ..)| !status.is_empty()) {
        assert!(std::time::Instant::now() < end);
    }
}

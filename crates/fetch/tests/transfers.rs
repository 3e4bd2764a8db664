//! Transfers against a small server that misbehaves as the test says.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail like tests")]

use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use iotwasm_fetch::{Client, Error, Options, Progress, Timeouts};
use iotwasm_trust::{Fetch as _, FetchError};

/// What the server does with a request's head and the connection.
type Answer = dyn Fn(&str, &mut TcpStream) + Send + Sync;

struct Server {
    url: String,
    /// Heads of the requests so far.
    requests: Arc<Mutex<Vec<String>>>,
}

impl Server {
    /// Answers every connection once, each in a thread of its own, and closes it.
    fn start(answer: impl Fn(&str, &mut TcpStream) + Send + Sync + 'static) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/repo", listener.local_addr().unwrap());
        let requests = Arc::new(Mutex::new(Vec::new()));
        let seen = requests.clone();
        let answer: Arc<Answer> = Arc::new(answer);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (answer, seen) = (answer.clone(), seen.clone());
                std::thread::spawn(move || {
                    let mut stream = stream.unwrap();
                    let mut head = Vec::new();
                    let mut byte = [0];
                    while !head.ends_with(b"\r\n\r\n") && matches!(stream.read(&mut byte), Ok(1)) {
                        head.push(byte[0]);
                    }
                    let head = String::from_utf8(head).unwrap().to_ascii_lowercase();
                    if !head.is_empty() {
                        seen.lock().unwrap().push(head.clone());
                        answer(&head, &mut stream);
                    }
                });
            }
        });
        Server { url, requests }
    }

    fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }
}

fn send(stream: &mut TcpStream, head: &str, body: &[u8]) {
    // A client that has read enough hangs up; that is no failure of the server's.
    let _ = stream.write_all(format!("HTTP/1.1 {head}\r\nConnection: close\r\n\r\n").as_bytes());
    let _ = stream.write_all(body);
}

fn ok(stream: &mut TcpStream, body: &[u8]) {
    send(stream, &format!("200 OK\r\nContent-Length: {}", body.len()), body);
}

/// Where a range request begins.
fn range_start(head: &str) -> Option<usize> {
    let (_, rest) = head.split_once("range: bytes=")?;
    rest.split('-').next()?.parse().ok()
}

fn partial(stream: &mut TcpStream, body: &[u8], from: usize) {
    let range = format!("bytes {from}-{}/{}", body.len() - 1, body.len());
    let head = format!("206 Partial Content\r\nContent-Range: {range}\r\nContent-Length: {}", body.len() - from);
    send(stream, &head, &body[from..]);
}

/// Holds a connection open until the client lets go.
fn hold(stream: &mut TcpStream) {
    let _ = stream.read(&mut [0; 16]);
}

/// An address where nobody listens.
fn nobody() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    format!("http://{}/repo", listener.local_addr().unwrap())
}

fn options() -> Options {
    let timeouts = Timeouts {
        connect: Duration::from_secs(5),
        stall: Duration::from_millis(300),
        file: Duration::from_millis(1500),
        bytes_per_second: 1 << 20,
    };
    Options { timeouts, proxy_from_environment: false, ..Options::default() }
}

fn client(urls: &[&str]) -> Client {
    let urls: Vec<String> = urls.iter().map(|url| (*url).to_owned()).collect();
    Client::new(&urls, &options()).unwrap()
}

fn content() -> Vec<u8> {
    (0..100_000_u32).map(|i| (i % 251) as u8).collect()
}

fn whole(file: &mut File) -> Vec<u8> {
    let mut bytes = Vec::new();
    file.seek(SeekFrom::Start(0)).unwrap();
    file.read_to_end(&mut bytes).unwrap();
    bytes
}

fn file_with(bytes: &[u8]) -> File {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    file
}

fn download(client: &mut Client, file: &mut File) -> Result<(), Error> {
    client.download("targets/a.wasm", content().len() as u64, file, Progress::none())
}

#[test]
fn file_within_its_limit_arrives() {
    let server = Server::start(|_, stream| ok(stream, b"hello"));
    assert_eq!(client(&[&server.url]).get("timestamp.json", 5).unwrap(), b"hello");
    assert!(server.requests()[0].starts_with("get /repo/timestamp.json "));
}

#[test]
fn longer_file_is_refused_whether_it_says_so_or_not() {
    let announced = Server::start(|_, stream| ok(stream, b"hello!"));
    let silent = Server::start(|_, stream| send(stream, "200 OK", &[b'x'; 100_000]));
    for server in [announced, silent] {
        let err = client(&[&server.url]).get("f", 5).unwrap_err();
        assert!(matches!(err, Error::TooLong { limit: 5, .. }), "{err:?}");
        assert!(matches!(client(&[&server.url]).fetch("f", 5), Err(FetchError::TooLong { limit: 5 })));
    }
}

#[test]
fn endless_file_is_cut_off() {
    let server = Server::start(|_, stream| {
        send(stream, "200 OK", b"");
        while stream.write_all(&[b'x'; 4096]).is_ok() {}
    });
    assert!(matches!(client(&[&server.url]).get("f", 1 << 16), Err(Error::TooLong { .. })));
}

#[test]
fn shorter_file_than_announced_is_refused() {
    let server = Server::start(|_, stream| send(stream, "200 OK\r\nContent-Length: 100", b"short"));
    let err = client(&[&server.url]).get("f", 1000).unwrap_err();
    assert!(matches!(err, Error::Transport { .. } | Error::Truncated { .. }), "{err:?}");
}

#[test]
fn missing_file_is_told_from_a_broken_server() {
    for (status, missing) in [("404 Not Found", true), ("403 Forbidden", true), ("500 Oops", false)] {
        let server = Server::start(move |_, stream| send(stream, &format!("{status}\r\nContent-Length: 0"), b""));
        let err = client(&[&server.url]).fetch("2.root.json", 100).unwrap_err();
        assert_eq!(matches!(err, FetchError::NotFound), missing, "{status}: {err:?}");
    }
}

#[test]
fn server_that_never_answers_ends_by_the_stall_limit() {
    let server = Server::start(|_, stream| hold(stream));
    let begin = Instant::now();
    assert!(matches!(client(&[&server.url]).get("f", 100), Err(Error::Transport { .. })));
    assert!(begin.elapsed() < Duration::from_secs(5));
}

#[test]
fn server_that_stalls_in_the_middle_ends_by_the_stall_limit() {
    let server = Server::start(|_, stream| {
        send(stream, "200 OK\r\nContent-Length: 100", b"half");
        hold(stream);
    });
    let begin = Instant::now();
    assert!(client(&[&server.url]).get("f", 100).is_err());
    assert!(begin.elapsed() < Duration::from_secs(5));
}

/// A byte now and then: never silent for as long as the stall limit.
fn trickle(stream: &mut TcpStream, length: usize) {
    send(stream, &format!("200 OK\r\nContent-Length: {length}"), b"");
    let pause = Duration::from_millis(50);
    stream.set_read_timeout(Some(pause)).unwrap();
    // Waiting for the client to hang up is the clock here.
    while stream.write_all(b"x").is_ok() && !matches!(stream.read(&mut [0]), Ok(0)) {}
}

#[test]
fn server_that_trickles_ends_by_the_limit_on_the_whole() {
    let server = Server::start(|_, stream| trickle(stream, 100_000));
    let begin = Instant::now();
    assert!(client(&[&server.url]).get("f", 1 << 20).is_err());
    let err = download(&mut client(&[&server.url]), &mut file_with(b"")).unwrap_err();
    assert!(matches!(err, Error::Deadline { .. } | Error::Transport { .. }), "{err:?}");
    assert!(begin.elapsed() < Duration::from_secs(15));
}

#[test]
fn next_mirror_is_asked_and_then_preferred() {
    let server = Server::start(|_, stream| ok(stream, b"hello"));
    let broken = Server::start(|_, stream| send(stream, "502 Bad Gateway\r\nContent-Length: 0", b""));
    let mut client = client(&[&nobody(), &broken.url, &server.url]);
    assert_eq!(client.get("f", 10).unwrap(), b"hello");
    assert_eq!(client.get("f", 10).unwrap(), b"hello");
    assert_eq!(broken.requests().len(), 1);
}

#[test]
fn failure_of_all_mirrors_names_each() {
    let broken = Server::start(|_, stream| send(stream, "502 Bad Gateway\r\nContent-Length: 0", b""));
    let dead = nobody();
    let err = client(&[&dead, &broken.url]).get("f", 10).unwrap_err();
    let Error::NoMirror { failures, .. } = &err else { panic!("{err:?}") };
    let text = failures.to_string();
    assert!(text.contains(&dead) && text.contains(&broken.url) && text.contains("502"), "{text}");
}

#[test]
fn end_of_the_root_chain_is_asked_of_one_mirror_only() {
    let one = Server::start(|_, stream| send(stream, "404 Not Found\r\nContent-Length: 0", b""));
    let other = Server::start(|_, stream| send(stream, "404 Not Found\r\nContent-Length: 0", b""));
    let mut client = client(&[&one.url, &other.url]);
    assert!(matches!(client.fetch("2.root.json", 10), Err(FetchError::NotFound)));
    assert_eq!(other.requests().len(), 0);
    assert!(matches!(client.fetch("1.acme.json", 10), Err(FetchError::NotFound)));
    assert_eq!(other.requests().len(), 1);
}

#[test]
fn redirects_are_followed_but_not_for_ever() {
    let server = Server::start(|head, stream| {
        if head.starts_with("get /repo/moved ") {
            send(stream, "302 Found\r\nLocation: /repo/here\r\nContent-Length: 0", b"");
        } else if head.starts_with("get /repo/here ") {
            ok(stream, b"hello");
        } else {
            send(stream, "302 Found\r\nLocation: /repo/loop\r\nContent-Length: 0", b"");
        }
    });
    assert_eq!(client(&[&server.url]).get("moved", 10).unwrap(), b"hello");
    let before = server.requests().len();
    assert!(client(&[&server.url]).get("loop", 10).is_err());
    assert!(server.requests().len() - before < 10);
}

#[test]
fn download_arrives_and_reports_progress() {
    let server = Server::start(|_, stream| ok(stream, &content()));
    let mut file = file_with(b"");
    let mut reports = Vec::new();
    let mut report = |done, total| reports.push((done, total));
    let progress = Progress { report: Some(&mut report), cancel: None };
    client(&[&server.url]).download("targets/a.wasm", 100_000, &mut file, progress).unwrap();
    assert_eq!(whole(&mut file), content());
    assert_eq!(reports.first(), Some(&(0, 100_000)));
    assert_eq!(reports.last(), Some(&(100_000, 100_000)));
    assert!(!server.requests()[0].contains("range:"));
}

#[test]
fn download_goes_on_after_what_is_there() {
    let server = Server::start(|head, stream| partial(stream, &content(), range_start(head).unwrap()));
    let mut file = file_with(&content()[..60_000]);
    download(&mut client(&[&server.url]), &mut file).unwrap();
    assert_eq!(whole(&mut file), content());
    assert!(server.requests()[0].contains("range: bytes=60000-"));
}

#[test]
fn finished_download_asks_for_nothing() {
    let server = Server::start(|_, stream| ok(stream, &content()));
    download(&mut client(&[&server.url]), &mut file_with(&content())).unwrap();
    assert_eq!(server.requests().len(), 0);
}

#[test]
fn server_that_ignores_ranges_sends_the_whole_again() {
    let server = Server::start(|_, stream| ok(stream, &content()));
    let mut file = file_with(&[0xee; 60_000]);
    download(&mut client(&[&server.url]), &mut file).unwrap();
    assert_eq!(whole(&mut file), content());
}

#[test]
fn range_that_was_not_asked_for_is_not_glued_on() {
    for range in ["bytes 0-99999/100000", "bytes 60000-99998/99999", "bytes */100000", "nonsense"] {
        let server = Server::start(move |head, stream| match range_start(head) {
            Some(_) => {
                send(stream, &format!("206 Partial Content\r\nContent-Range: {range}\r\nContent-Length: 3"), b"bad")
            }
            None => ok(stream, &content()),
        });
        let mut file = file_with(&content()[..60_000]);
        let mut client = client(&[&server.url]);
        assert!(matches!(download(&mut client, &mut file), Err(Error::WrongRange { .. })), "{range}");
        download(&mut client, &mut file).unwrap();
        assert_eq!(whole(&mut file), content());
    }
}

#[test]
fn unsatisfiable_range_begins_anew() {
    let server = Server::start(|head, stream| match range_start(head) {
        Some(_) => send(stream, "416 Range Not Satisfiable\r\nContent-Length: 0", b""),
        None => ok(stream, &content()),
    });
    let mut file = file_with(&content()[..60_000]);
    let other = Server::start(|_, stream| ok(stream, &content()));
    download(&mut client(&[&server.url, &other.url]), &mut file).unwrap();
    assert_eq!(whole(&mut file), content());
}

#[test]
fn mirror_that_dies_midway_is_continued_by_the_next() {
    let dying = Server::start(|head, stream| {
        assert_eq!(range_start(head), None);
        send(stream, "200 OK\r\nContent-Length: 100000", &content()[..40_000]);
    });
    let healthy = Server::start(|head, stream| partial(stream, &content(), range_start(head).unwrap()));
    let mut file = file_with(b"");
    download(&mut client(&[&dying.url, &healthy.url]), &mut file).unwrap();
    assert_eq!(whole(&mut file), content());
    assert!(healthy.requests()[0].contains("range: bytes=40000-"));
}

#[test]
fn only_mirror_that_keeps_breaking_is_asked_for_as_long_as_it_helps() {
    let server = Server::start(|head, stream| {
        let from = range_start(head).unwrap_or(0);
        let to = (from + 30_000).min(100_000);
        let tag = "ETag: \"v1\"\r\n";
        let range = if from > 0 { format!("Content-Range: bytes {from}-99999/100000\r\n") } else { String::new() };
        let status = if from > 0 { "206 Partial Content" } else { "200 OK" };
        let length = 100_000 - from;
        send(stream, &format!("{status}\r\n{tag}{range}Content-Length: {length}"), &content()[from..to]);
    });
    let mut file = file_with(b"");
    download(&mut client(&[&server.url]), &mut file).unwrap();
    assert_eq!(whole(&mut file), content());
    let requests = server.requests();
    assert_eq!(requests.len(), 4);
    assert!(requests[1].contains("if-range: \"v1\""), "{}", requests[1]);
}

#[test]
fn mirror_that_breaks_without_progress_is_given_up() {
    let server = Server::start(|_, stream| send(stream, "200 OK\r\nContent-Length: 100000", b""));
    assert!(download(&mut client(&[&server.url]), &mut file_with(b"")).is_err());
    assert_eq!(server.requests().len(), 1);
}

#[test]
fn wrong_length_is_refused_and_nothing_of_it_kept() {
    let longer = Server::start(|_, stream| send(stream, "200 OK", &[content(), content()].concat()));
    let mut file = file_with(b"");
    assert!(matches!(download(&mut client(&[&longer.url]), &mut file), Err(Error::TooLong { .. })));
    assert_eq!(whole(&mut file), b"");
    let shorter = Server::start(|_, stream| ok(stream, &content()[..500]));
    let err = download(&mut client(&[&shorter.url]), &mut file_with(b"")).unwrap_err();
    assert!(matches!(err, Error::Truncated { expected: 100_000, .. }), "{err:?}");
}

#[test]
fn file_that_is_too_long_already_begins_anew() {
    let server = Server::start(|_, stream| ok(stream, &content()));
    let mut file = file_with(&[0; 100_001]);
    download(&mut client(&[&server.url]), &mut file).unwrap();
    assert_eq!(whole(&mut file), content());
}

#[test]
fn empty_file_arrives() {
    let server = Server::start(|_, stream| ok(stream, b""));
    let mut file = file_with(b"");
    client(&[&server.url]).download("targets/empty", 0, &mut file, Progress::none()).unwrap();
    assert_eq!(whole(&mut file), b"");
}

#[test]
fn raised_flag_cancels_and_keeps_what_has_arrived() {
    let server = Server::start(|_, stream| ok(stream, &content()));
    let cancel = AtomicBool::new(false);
    let mut report = |done, _| {
        if done > 0 {
            cancel.store(true, Ordering::Relaxed);
        }
    };
    let mut file = file_with(b"");
    let progress = Progress { report: Some(&mut report), cancel: Some(&cancel) };
    let outcome = client(&[&server.url]).download("targets/a.wasm", 100_000, &mut file, progress);
    assert!(matches!(outcome, Err(Error::Cancelled { .. })));
    let kept = whole(&mut file);
    assert!(!kept.is_empty() && content().starts_with(&kept));
}

#[test]
fn addresses_that_are_not_http_are_refused() {
    for url in ["ftp://host/x", "file:///etc", "host/x", ""] {
        let outcome = Client::new(&[url.to_owned()], &options());
        assert!(matches!(outcome, Err(Error::Url { .. })), "{url}");
    }
    assert!(matches!(Client::new(&[], &options()), Err(Error::NoUrl)));
}

#[test]
fn https_needs_certificates_that_can_be_read() {
    let options = Options { ca_file: "/nonexistent/ca.pem".into(), ..options() };
    let outcome = Client::new(&["https://repo.example/".to_owned()], &options);
    assert!(matches!(outcome, Err(Error::Ca { .. })));
    let empty = tempfile::NamedTempFile::new().unwrap();
    let options = Options { ca_file: empty.path().into(), ..options };
    assert!(matches!(Client::new(&["https://repo.example/".to_owned()], &options), Err(Error::Ca { .. })));
}

/// What a request for a part of the content gets, as if the file had `total` bytes.
fn part(head: &str, stream: &mut TcpStream, total: usize, cut: usize) {
    let (_, rest) = head.split_once("range: bytes=").unwrap();
    let (from, to) = rest.split_once('\r').unwrap().0.split_once('-').unwrap();
    let (from, to): (usize, usize) = (from.parse().unwrap(), to.parse().unwrap());
    let range = format!("Content-Range: bytes {from}-{to}/{total}");
    let bytes = &content()[from..=to];
    let head = format!("206 Partial Content\r\n{range}\r\nContent-Length: {}", bytes.len());
    send(stream, &head, &bytes[..bytes.len().min(cut)]);
}

fn range(client: &mut Client, range: std::ops::Range<u64>) -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::new();
    client.range("f", 100_000, range, &mut |piece| {
        bytes.extend_from_slice(piece);
        true
    })?;
    Ok(bytes)
}

#[test]
fn part_of_a_file_arrives() {
    let server = Server::start(|head, stream| part(head, stream, 100_000, usize::MAX));
    for (from, to) in [(0, 4), (10, 99_000), (99_999, 100_000)] {
        let wanted = &content()[from as usize..to as usize];
        assert_eq!(range(&mut client(&[&server.url]), from..to).unwrap(), wanted);
    }
    let mut client = client(&[&server.url]);
    for outside in [5..5, 0..100_001] {
        assert!(matches!(range(&mut client, outside), Err(Error::WrongRange { .. })));
    }
}

#[test]
fn part_that_breaks_off_is_continued_by_the_next_mirror() {
    let cut = Server::start(|head, stream| part(head, stream, 100_000, 30_000));
    let good = Server::start(|head, stream| part(head, stream, 100_000, usize::MAX));
    assert_eq!(range(&mut client(&[&cut.url, &good.url]), 100..90_000).unwrap(), &content()[100..90_000]);
    assert!(good.requests()[0].contains("range: bytes=30100-89999"));
    // One that keeps breaking is asked for as long as it helps.
    assert_eq!(range(&mut client(&[&cut.url]), 0..100_000).unwrap(), content());
}

#[test]
fn part_of_another_file_is_the_mirrors_failure() {
    let longer = Server::start(|head, stream| part(head, stream, 100_001, usize::MAX));
    let whole = Server::start(|_, stream| ok(stream, &content()));
    let other = Server::start(|_, stream| partial(stream, &content(), 5));
    assert!(matches!(range(&mut client(&[&longer.url]), 0..4), Err(Error::WrongRange { .. })));
    assert!(matches!(range(&mut client(&[&whole.url]), 0..4), Err(Error::NoRange { .. })));
    assert!(matches!(range(&mut client(&[&other.url]), 0..4), Err(Error::WrongRange { .. })));
    let good = Server::start(|head, stream| part(head, stream, 100_000, usize::MAX));
    let urls = [&longer.url, &whole.url, &other.url, &good.url].map(String::as_str);
    assert_eq!(range(&mut client(&urls), 0..4).unwrap(), &content()[..4]);
}

#[test]
fn nobody_wants_more_of_a_part() {
    let server = Server::start(|head, stream| part(head, stream, 100_000, usize::MAX));
    let result = client(&[&server.url]).range("f", 100_000, 0..100_000, &mut |_| false);
    assert!(matches!(result, Err(Error::Cancelled { .. })));
}

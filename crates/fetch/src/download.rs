//! Downloads of a known length into a file, resumed where the last attempt broke.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use ureq::Body;
use ureq::http::Response;

use crate::client::{Client, Mirror, check_status, content_length};
use crate::error::Error;

/// Bytes taken from the network at a time.
const CHUNK: usize = 32 * 1024;

/// How the caller follows a download and stops it.
#[derive(Default)]
pub struct Progress<'a> {
    /// Called with the bytes there are and the bytes there will be: at the start, and after every piece.
    pub report: Option<&'a mut dyn FnMut(u64, u64)>,
    /// Looked at between pieces. A silent connection notices it only when its stall limit ends.
    pub cancel: Option<&'a AtomicBool>,
}

impl std::fmt::Debug for Progress<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Progress").field("cancel", &self.cancel).finish_non_exhaustive()
    }
}

impl Progress<'_> {
    /// Nobody watches, nobody stops it.
    pub fn none() -> Progress<'static> {
        Progress::default()
    }

    fn tell(&mut self, done: u64, total: u64) {
        if let Some(report) = &mut self.report {
            report(done, total);
        }
    }
}

/// One download: what is asked for and how far it is.
struct Transfer<'a, 'p> {
    path: &'a str,
    length: u64,
    file: &'a mut File,
    /// Bytes in the file. They may be wrong, if a server lied; the caller's hash check tells.
    have: u64,
    deadline: Instant,
    limit: Duration,
    progress: Progress<'p>,
}

impl Client {
    /// Downloads a file of exactly `length` bytes into `file`, going on after the bytes that are already in it.
    ///
    /// Every mirror is asked in turn, and all of them again for as long as a round brings the file forward. On an error
    /// the file keeps what has arrived, for another call to go on from. The bytes are not checked in any way but their
    /// number: a caller that finds them wrong empties the file and calls again.
    pub fn download(&mut self, path: &str, length: u64, file: &mut File, progress: Progress<'_>) -> Result<(), Error> {
        let at_rate = Duration::from_secs(length / self.options.timeouts.bytes_per_second.max(1));
        let limit = self.options.timeouts.file.saturating_add(at_rate);
        let deadline = Instant::now() + limit;
        let mut transfer = Transfer { path, length, file, have: 0, deadline, limit, progress };
        transfer.find_start()?;
        let mut etags: Vec<Option<(String, String)>> = vec![None; self.mirrors()];
        loop {
            let before = transfer.have;
            let mut turn = 0;
            let outcome = self.each(path, |mirror, _| {
                let etag = &mut etags[turn];
                turn += 1;
                // The order of mirrors may change between rounds; an ETag is worth something only where it came from.
                if etag.as_ref().is_some_and(|(base, _)| *base != mirror.url("")) {
                    *etag = None;
                }
                transfer.from(mirror, etag)
            });
            match outcome {
                Err(err) if !err.is_final() && transfer.have > before => {}
                other => return other,
            }
        }
    }
}

impl Transfer<'_, '_> {
    /// Finds out how much is there. More than the whole is certainly wrong.
    fn find_start(&mut self) -> Result<(), Error> {
        self.have = self.file.seek(SeekFrom::End(0)).map_err(|err| self.file_error(err))?;
        if self.have > self.length {
            self.restart()?;
        }
        self.progress.tell(self.have, self.length);
        Ok(())
    }

    fn restart(&mut self) -> Result<(), Error> {
        let emptied = self.file.set_len(0).and_then(|()| self.file.seek(SeekFrom::Start(0)));
        emptied.map_err(|err| self.file_error(err))?;
        self.have = 0;
        Ok(())
    }

    fn file_error(&self, source: io::Error) -> Error {
        Error::File { path: self.path.into(), source }
    }

    fn too_late(&self) -> Error {
        Error::Deadline { path: self.path.into(), seconds: self.limit.as_secs() }
    }

    /// Takes as much as one mirror gives.
    fn from(&mut self, mirror: &Mirror, etag: &mut Option<(String, String)>) -> Result<(), Error> {
        if self.have == self.length && self.length > 0 {
            return Ok(());
        }
        let url = mirror.url(self.path);
        let left = self.deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(self.too_late());
        }
        let range = format!("bytes={}-", self.have);
        let mut headers = Vec::new();
        if self.have > 0 {
            headers.push(("range", range.as_str()));
            if let Some((_, etag)) = etag.as_ref() {
                headers.push(("if-range", etag.as_str()));
            }
        }
        let mut response = mirror.request(self.path, &headers, left)?;
        *etag = strong_etag(&response).map(|tag| (mirror.url(""), tag));
        match response.status().as_u16() {
            206 if self.have > 0 => {
                let range = header(&response, "content-range");
                if let Err(err) = self.check_range(&url, &range) {
                    // Somebody's cache is confused. What is there may be, too: begin again with the next mirror.
                    self.restart()?;
                    return Err(err);
                }
            }
            416 if self.have > 0 => {
                self.restart()?;
                return Err(Error::WrongRange { url, range: header(&response, "content-range") });
            }
            status => {
                check_status(&url, status)?;
                let announced = content_length(response.headers());
                if announced.is_some_and(|announced| announced > self.length) {
                    return Err(Error::TooLong { url, limit: self.length });
                }
                // The whole file from its beginning, whatever was asked for.
                self.restart()?;
            }
        }
        self.read(&url, &mut response)
    }

    fn check_range(&self, url: &str, range: &str) -> Result<(), Error> {
        let wrong = || Error::WrongRange { url: url.into(), range: range.into() };
        let (span, total) = range.strip_prefix("bytes ").and_then(|rest| rest.split_once('/')).ok_or_else(wrong)?;
        let (first, _) = span.split_once('-').ok_or_else(wrong)?;
        let begins = first.trim().parse() == Ok(self.have);
        let fits = total == "*" || total.trim().parse() == Ok(self.length);
        if begins && fits { Ok(()) } else { Err(wrong()) }
    }

    fn read(&mut self, url: &str, response: &mut Response<Body>) -> Result<(), Error> {
        let mut body = response.body_mut().with_config().limit(u64::MAX).reader();
        let mut chunk = vec![0; CHUNK];
        loop {
            if self.progress.cancel.is_some_and(|flag| flag.load(Ordering::Relaxed)) {
                return Err(Error::Cancelled { path: self.path.into() });
            }
            let n = match body.read(&mut chunk) {
                Ok(n) => n,
                Err(err) if err.kind() == io::ErrorKind::Interrupted => continue,
                Err(_) if Instant::now() >= self.deadline => return Err(self.too_late()),
                Err(err) => return Err(Error::Transport { url: url.into(), source: Box::new(err.into()) }),
            };
            if n == 0 {
                break;
            }
            if n as u64 > self.length - self.have {
                // It is not the file we want, so none of it is.
                self.restart()?;
                return Err(Error::TooLong { url: url.into(), limit: self.length });
            }
            self.file.write_all(&chunk[..n]).map_err(|err| self.file_error(err))?;
            self.have += n as u64;
            self.progress.tell(self.have, self.length);
            if Instant::now() >= self.deadline {
                return Err(self.too_late());
            }
        }
        if self.have == self.length {
            Ok(())
        } else {
            Err(Error::Truncated { url: url.into(), expected: self.length, found: self.have })
        }
    }
}

pub(crate) fn header(response: &Response<Body>, name: &str) -> String {
    response.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned()
}

/// An ETag fit for If-Range: a weak one promises nothing about bytes (RFC 9110, 13.1.5).
fn strong_etag(response: &Response<Body>) -> Option<String> {
    Some(header(response, "etag")).filter(|tag| tag.starts_with('"'))
}

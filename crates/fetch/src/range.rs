//! A part of a file of a known length, handed on as it arrives.

use std::io::{self, Read as _};
use std::ops::Range;
use std::time::{Duration, Instant};

use crate::client::{Client, Mirror, check_status, content_length};
use crate::download::header;
use crate::error::Error;

/// Bytes taken from the network at a time.
const CHUNK: usize = 64 * 1024;

/// One part: what is asked for and how far it is.
struct Part<'a> {
    path: &'a str,
    /// Length of the whole file.
    total: u64,
    /// What is still wanted.
    range: Range<u64>,
    deadline: Instant,
    limit: Duration,
    /// Takes the next bytes; false if nobody wants more.
    sink: &'a mut dyn FnMut(&[u8]) -> bool,
}

impl Client {
    /// Fetches the bytes of `range` of a file that has `total` bytes and hands them to `sink` in order, in pieces of at most
    /// 64 KiB. A mirror that breaks off is followed by the next one from there on; all of them are asked again for as long
    /// as a round brings it forward.
    ///
    /// Only an answer of status 206 whose Content-Range says just this range of just this length counts. The bytes are
    /// not checked in any way but their number. A sink that returns false ends it with [`Error::Cancelled`].
    pub fn range(
        &mut self,
        path: &str,
        total: u64,
        range: Range<u64>,
        sink: &mut dyn FnMut(&[u8]) -> bool,
    ) -> Result<(), Error> {
        if range.start >= range.end || range.end > total {
            return Err(Error::WrongRange { url: path.into(), range: format!("{range:?} of {total}") });
        }
        let at_rate = Duration::from_secs((range.end - range.start) / self.options.timeouts.bytes_per_second.max(1));
        let limit = self.options.timeouts.file.saturating_add(at_rate);
        let mut part = Part { path, total, range, deadline: Instant::now() + limit, limit, sink };
        loop {
            let before = part.range.start;
            match self.each(path, |mirror, _| part.from(mirror)) {
                Err(err) if !err.is_final() && part.range.start > before => {}
                other => return other,
            }
        }
    }
}

impl Part<'_> {
    /// Takes as much as one mirror gives.
    fn from(&mut self, mirror: &Mirror) -> Result<(), Error> {
        let url = mirror.url(self.path);
        let left = self.deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(self.too_late());
        }
        let span = format!("{}-{}", self.range.start, self.range.end - 1);
        let mut response = mirror.request(self.path, &[("range", &format!("bytes={span}"))], left)?;
        let status = response.status().as_u16();
        if status == 200 {
            return Err(Error::NoRange { url });
        }
        if status != 206 {
            check_status(&url, status)?;
            return Err(Error::Status { url, status });
        }
        let found = header(&response, "content-range");
        let wanted = self.range.end - self.range.start;
        let announced = content_length(response.headers());
        if found != format!("bytes {span}/{}", self.total) || announced.is_some_and(|length| length != wanted) {
            return Err(Error::WrongRange { url, range: found });
        }
        // No more than is wanted is read: a server that sends more loses its connection.
        let mut body = response.body_mut().with_config().limit(u64::MAX).reader().take(wanted);
        let mut chunk = vec![0; CHUNK.min(usize::try_from(wanted).unwrap_or(CHUNK))];
        while self.range.start < self.range.end {
            let n = match body.read(&mut chunk) {
                Ok(0) => {
                    let found = wanted - (self.range.end - self.range.start);
                    return Err(Error::Truncated { url, expected: wanted, found });
                }
                Ok(n) => n,
                Err(err) if err.kind() == io::ErrorKind::Interrupted => continue,
                Err(_) if Instant::now() >= self.deadline => return Err(self.too_late()),
                Err(err) => return Err(Error::Transport { url, source: Box::new(err.into()) }),
            };
            if !(self.sink)(&chunk[..n]) {
                return Err(Error::Cancelled { path: self.path.into() });
            }
            self.range.start += n as u64;
            if self.range.start < self.range.end && Instant::now() >= self.deadline {
                return Err(self.too_late());
            }
        }
        // The end of the body, where the server keeps to it: only then the connection can be used again.
        let mut rest = body.into_inner();
        let _ = rest.read(&mut [0; 1]);
        Ok(())
    }

    fn too_late(&self) -> Error {
        Error::Deadline { path: self.path.into(), seconds: self.limit.as_secs() }
    }
}

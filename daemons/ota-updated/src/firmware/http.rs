//! Requests to the relay. Pure: a head in, what is asked for out, or the status that refuses it.

use std::fmt;
use std::ops::Range;

/// Longest head of a request, in bytes. RAUC's has some hundred.
pub(super) const MAX_HEAD: usize = 8 * 1024;

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Request {
    /// Bytes of the bundle.
    pub(super) range: Range<u64>,
    /// Whether another request may follow.
    pub(super) keep_alive: bool,
}

/// Why there is no answer but this status.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
    /// Not HTTP as we speak it.
    BadRequest,
    /// Not the bundle's path.
    NotFound,
    /// Not GET.
    MethodNotAllowed,
    /// No range, several, or one that the bundle does not have.
    RangeNotSatisfiable,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::BadRequest => "400 Bad Request",
            Self::NotFound => "404 Not Found",
            Self::MethodNotAllowed => "405 Method Not Allowed",
            Self::RangeNotSatisfiable => "416 Range Not Satisfiable",
        })
    }
}

/// Reads the head of a request for a part of `total` bytes under `path`.
pub(super) fn parse(head: &[u8], path: &str, total: u64) -> Result<Request, Refusal> {
    let text = std::str::from_utf8(head).map_err(|_| Refusal::BadRequest)?;
    let mut lines = text.split("\r\n");
    let mut words = lines.next().unwrap_or_default().split(' ');
    let (method, asked, version) = (words.next(), words.next(), words.next());
    let (Some(method), Some(asked), Some("HTTP/1.1"), None) = (method, asked, version, words.next()) else {
        return Err(Refusal::BadRequest);
    };
    if asked != path {
        return Err(Refusal::NotFound);
    }
    if method != "GET" {
        return Err(Refusal::MethodNotAllowed);
    }
    let (mut range, mut keep_alive) = (None, true);
    for line in lines.filter(|line| !line.is_empty()) {
        let (name, value) = line.split_once(':').ok_or(Refusal::BadRequest)?;
        let value = value.trim();
        match name.to_ascii_lowercase().as_str() {
            "range" if range.is_none() => range = Some(span(value, total).ok_or(Refusal::RangeNotSatisfiable)?),
            "range" => return Err(Refusal::BadRequest),
            "connection" => keep_alive &= !value.eq_ignore_ascii_case("close"),
            // Nobody sends a body with a GET; what looks like one is not to be taken for the next request.
            "content-length" if value != "0" => return Err(Refusal::BadRequest),
            "transfer-encoding" => return Err(Refusal::BadRequest),
            _ => {}
        }
    }
    let range = range.ok_or(Refusal::RangeNotSatisfiable)?;
    Ok(Request { range, keep_alive })
}

/// `bytes=FIRST-LAST`.
fn span(value: &str, total: u64) -> Option<Range<u64>> {
    let (first, last) = value.strip_prefix("bytes=")?.split_once('-')?;
    let number = |text: &str| text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse::<u64>().ok()).flatten();
    let (first, last) = (number(first)?, number(last)?);
    (first <= last && last < total).then(|| first..last + 1)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parsed(head: &str) -> Result<Request, Refusal> {
        parse(head.as_bytes(), "/secret/b", 100)
    }

    #[test]
    fn a_get_of_one_range_is_understood() {
        let request = parsed("GET /secret/b HTTP/1.1\r\nHost: x\r\nRANGE:  bytes=0-3\r\n\r\n").unwrap();
        assert_eq!(request, Request { range: 0..4, keep_alive: true });
        let request = parsed("GET /secret/b HTTP/1.1\r\nRange: bytes=99-99\r\nConnection: close\r\n\r\n").unwrap();
        assert_eq!(request, Request { range: 99..100, keep_alive: false });
    }

    #[test]
    fn everything_else_is_refused() {
        let range = "Range: bytes=0-3\r\n";
        for (head, refusal) in [
            (format!("GET /other HTTP/1.1\r\n{range}\r\n"), Refusal::NotFound),
            (format!("GET /secret/b?x HTTP/1.1\r\n{range}\r\n"), Refusal::NotFound),
            (format!("HEAD /secret/b HTTP/1.1\r\n{range}\r\n"), Refusal::MethodNotAllowed),
            ("GET /secret/b HTTP/1.1\r\n\r\n".into(), Refusal::RangeNotSatisfiable),
            ("GET /secret/b HTTP/1.1\r\nRange: bytes=0-100\r\n\r\n".into(), Refusal::RangeNotSatisfiable),
            ("GET /secret/b HTTP/1.1\r\nRange: bytes=3-2\r\n\r\n".into(), Refusal::RangeNotSatisfiable),
            ("GET /secret/b HTTP/1.1\r\nRange: bytes=0-1,4-5\r\n\r\n".into(), Refusal::RangeNotSatisfiable),
            ("GET /secret/b HTTP/1.1\r\nRange: bytes=-5\r\n\r\n".into(), Refusal::RangeNotSatisfiable),
            ("GET /secret/b HTTP/1.1\r\nRange: bytes=+1-5\r\n\r\n".into(), Refusal::RangeNotSatisfiable),
            (format!("GET /secret/b HTTP/1.1\r\n{range}{range}\r\n"), Refusal::BadRequest),
            (format!("GET /secret/b HTTP/1.0\r\n{range}\r\n"), Refusal::BadRequest),
            (format!("GET /secret/b HTTP/1.1\r\n{range}Content-Length: 5\r\n\r\n"), Refusal::BadRequest),
            (format!("GET /secret/b HTTP/1.1\r\n{range}nonsense\r\n\r\n"), Refusal::BadRequest),
            ("\r\n\r\n".into(), Refusal::BadRequest),
        ] {
            assert_eq!(parsed(&head), Err(refusal), "{head:?}");
        }
    }

    proptest! {
        #[test]
        fn no_head_leads_outside_the_bundle(head in "GET /secret/b HTTP/1.1\r\n(Range: bytes=[0-9]{0,4}-[0-9]{0,21}\r\n){0,2}.{0,20}\r\n\r\n") {
            if let Ok(request) = parse(head.as_bytes(), "/secret/b", 100) {
                prop_assert!(request.range.start < request.range.end && request.range.end <= 100);
            }
        }
    }
}

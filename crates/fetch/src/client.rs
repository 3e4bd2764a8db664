//! The client: mirrors in turn, one request each, and metadata files whole in memory.

use std::io::Read as _;
use std::time::{Duration, Instant};

use iotwasm_trust::{Fetch, FetchError};
use ureq::http::{HeaderMap, Response};
use ureq::{Agent, Body, Proxy};

use crate::error::{Error, Failures};
use crate::{Options, proxy, tls};

/// Most redirects followed for one request.
const MAX_REDIRECTS: u32 = 5;

/// Fetches files below one or more base URLs that are meant to have the same content.
pub struct Client {
    mirrors: Vec<Mirror>,
    /// The mirror that delivered last; it is asked first.
    preferred: usize,
    pub(crate) options: Options,
}

/// One base URL with the connections to it.
pub(crate) struct Mirror {
    base: String,
    agent: Agent,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mirrors: Vec<&str> = self.mirrors.iter().map(|mirror| mirror.base.as_str()).collect();
        f.debug_struct("Client").field("mirrors", &mirrors).finish_non_exhaustive()
    }
}

impl Client {
    /// A client for files below `urls`, the first of which is preferred.
    pub fn new(urls: &[String], options: &Options) -> Result<Client, Error> {
        if urls.is_empty() {
            return Err(Error::NoUrl);
        }
        let mirrors = urls.iter().map(|url| Mirror::new(url, options)).collect::<Result<_, _>>()?;
        Ok(Client { mirrors, preferred: 0, options: options.clone() })
    }

    /// A client for the files in `folder` below each of `urls`: `metadata` or `targets` of a repository.
    pub fn below(urls: &[String], folder: &str, options: &Options) -> Result<Client, Error> {
        let urls: Vec<String> = urls.iter().map(|url| format!("{}/{folder}", url.trim_end_matches('/'))).collect();
        Client::new(&urls, options)
    }

    /// Fetches a whole file of at most `max_len` bytes into memory.
    pub fn get(&mut self, path: &str, max_len: u64) -> Result<Vec<u8>, Error> {
        self.each(path, |mirror, options| mirror.get(path, max_len, options.timeouts.file))
    }

    /// Asks one mirror after the other, and reports all failures when none delivers.
    pub(crate) fn each<T>(
        &mut self,
        path: &str,
        mut ask: impl FnMut(&Mirror, &Options) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let mut failures = Vec::new();
        for turn in 0..self.mirrors.len() {
            let index = (self.preferred + turn) % self.mirrors.len();
            match ask(&self.mirrors[index], &self.options) {
                Ok(value) => {
                    self.preferred = index;
                    return Ok(value);
                }
                Err(err) if err.is_final() => return Err(err),
                Err(err) => {
                    // The next root not being there is how every update ends its search for one (TUF 5.3.3). It is not
                    // worth a request to each mirror: one that lags behind only postpones a rotation.
                    let enough = err.is_not_found() && path.ends_with(".root.json");
                    failures.push(err);
                    if enough {
                        break;
                    }
                }
            }
        }
        match failures.pop() {
            Some(only) if failures.is_empty() => Err(only),
            Some(last) => {
                failures.push(last);
                Err(Error::NoMirror { path: path.into(), failures: Failures(failures) })
            }
            None => Err(Error::NoUrl),
        }
    }

    pub(crate) fn mirrors(&self) -> usize {
        self.mirrors.len()
    }
}

impl Fetch for Client {
    fn fetch(&mut self, path: &str, max_len: u64) -> Result<Vec<u8>, FetchError> {
        self.get(path, max_len).map_err(|err| match err.too_long() {
            _ if err.is_not_found() => FetchError::NotFound,
            Some(limit) => FetchError::TooLong { limit },
            None => FetchError::Transport(Box::new(err)),
        })
    }
}

impl Mirror {
    fn new(url: &str, options: &Options) -> Result<Mirror, Error> {
        let (scheme, ..) = proxy::parts(url).ok_or_else(|| Error::Url { url: url.into() })?;
        let secure = scheme == "https";
        let mut config = Agent::config_builder()
            .http_status_as_error(false)
            // Holds for redirects, too: https stays https.
            .https_only(secure)
            .max_redirects(MAX_REDIRECTS)
            .max_redirects_will_error(true)
            .user_agent(&options.user_agent)
            .accept_encoding("identity")
            .timeout_resolve(Some(options.timeouts.connect))
            .timeout_connect(Some(options.timeouts.connect))
            .timeout_send_request(Some(options.timeouts.stall))
            .timeout_recv_response(Some(options.timeouts.stall))
            .timeout_per_read(Some(options.timeouts.stall))
            .timeout_per_write(Some(options.timeouts.stall))
            // A daemon that sleeps for an hour keeps no connections and small buffers.
            .max_idle_connections(1)
            .max_idle_connections_per_host(1)
            .input_buffer_size(32 * 1024)
            .output_buffer_size(4 * 1024)
            .proxy(proxy_for(url, options)?);
        if secure {
            config = config.tls_config(tls::config(&options.ca_file)?);
        }
        Ok(Mirror { base: url.trim_end_matches('/').into(), agent: config.build().into() })
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("{}/{path}", self.base)
    }

    /// One GET. The response is whatever the server says; the body is read by the caller.
    pub(crate) fn request(
        &self,
        path: &str,
        headers: &[(&str, &str)],
        limit: Duration,
    ) -> Result<Response<Body>, Error> {
        let url = self.url(path);
        let mut request = self.agent.get(&url);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let call = request.config().timeout_global(Some(limit)).build().call();
        call.map_err(|source| Error::Transport { url, source: Box::new(source) })
    }

    fn get(&self, path: &str, max_len: u64, limit: Duration) -> Result<Vec<u8>, Error> {
        let deadline = Instant::now() + limit;
        let mut response = self.request(path, &[], limit)?;
        let url = self.url(path);
        check_status(&url, response.status().as_u16())?;
        let announced = content_length(response.headers());
        if announced.is_some_and(|length| length > max_len) {
            return Err(Error::TooLong { url, limit: max_len });
        }
        let mut bytes = Vec::with_capacity(announced.unwrap_or(0) as usize);
        let body = response.body_mut().with_config().limit(u64::MAX).reader();
        let read = body.take(max_len.saturating_add(1)).read_to_end(&mut bytes);
        if read.is_err() && Instant::now() >= deadline {
            return Err(Error::Deadline { path: path.into(), seconds: limit.as_secs() });
        }
        read.map_err(|err| Error::Transport { url: url.clone(), source: Box::new(err.into()) })?;
        if bytes.len() as u64 > max_len {
            return Err(Error::TooLong { url, limit: max_len });
        }
        match announced {
            Some(expected) if expected != bytes.len() as u64 => {
                Err(Error::Truncated { url, expected, found: bytes.len() as u64 })
            }
            _ => Ok(bytes),
        }
    }
}

/// Sorts the statuses of a plain GET.
pub(crate) fn check_status(url: &str, status: u16) -> Result<(), Error> {
    match status {
        200 => Ok(()),
        // Object stores answer 403 for a file that is not there when listing is not allowed.
        403 | 404 | 410 => Err(Error::NotFound { url: url.into(), status }),
        _ => Err(Error::Status { url: url.into(), status }),
    }
}

pub(crate) fn content_length(headers: &HeaderMap) -> Option<u64> {
    headers.get("content-length")?.to_str().ok()?.trim().parse().ok()
}

fn proxy_for(url: &str, options: &Options) -> Result<Option<Proxy>, Error> {
    if !options.proxy_from_environment {
        return Ok(None);
    }
    match proxy::from_environment(url)? {
        Some((variable, value)) => Proxy::new(&value).map(Some).map_err(|_| Error::Proxy { variable }),
        None => Ok(None),
    }
}

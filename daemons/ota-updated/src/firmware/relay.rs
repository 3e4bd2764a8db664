//! The bundle, block by block, from the mirrors to RAUC: a small HTTP server on the loopback, that lives only while a bundle
//! is inspected or installed.
//!
//! It knows the published bundle's length, and the signed manifest at its end by hash: both are served as published,
//! whatever a mirror says. Every other byte is RAUC's dm-verity to check. It answers a GET for one range under a path that
//! nobody can guess, and nothing else.

use std::net::{Ipv4Addr, SocketAddr};
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use iotwasm_fetch::Client;
use iotwasm_kit::{debug, report, warn};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::ahead::{Filling, Runs, Store};
use super::http::{self, Request};

/// Transfers from the mirrors at a time.
pub(super) const TRANSFERS: usize = 4;
/// How many of them are for what RAUC has not asked for yet: what it waits for goes on beside these.
const AHEAD: usize = 2;
/// Connections at a time: RAUC makes one for each read that the kernel has under way, at most 128, and keeps them.
const CONNECTIONS: usize = 160;
/// Longest silence on a connection between two requests, and longest wait for RAUC to take what it asked for.
const IDLE: Duration = Duration::from_secs(300);
/// Pieces of a transfer that wait to be taken, of 64 KiB at most each.
const PIECES: usize = 2;

/// Why there is no relay.
#[derive(Debug, thiserror::Error)]
#[error("could not {what}")]
pub(super) struct Error {
    what: &'static str,
    #[source]
    err: std::io::Error,
}

fn cannot(what: &'static str) -> impl FnOnce(std::io::Error) -> Error {
    move |err| Error { what, err }
}

/// The bundle, and where it comes from.
#[derive(Debug)]
pub(super) struct Source {
    /// As many as there may be transfers.
    pub(super) clients: Vec<Client>,
    /// Where the bundle lies, relative to the targets URL.
    pub(super) path: String,
    /// Its length, in bytes.
    pub(super) total: u64,
    /// Its end: the signed manifest.
    pub(super) tail: Vec<u8>,
}

/// What the relay has seen.
#[derive(Debug, Default)]
pub(super) struct Seen {
    fetched: AtomicU64,
    failure: Mutex<Option<String>>,
    quit: AtomicBool,
}

impl Seen {
    /// Bytes that came from the mirrors.
    pub(super) fn fetched(&self) -> u64 {
        self.fetched.load(Ordering::Relaxed)
    }

    /// Why the mirrors did not deliver, if they did not.
    pub(super) fn failure(&self) -> Option<String> {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// A relay at work; dropping it ends it.
#[derive(Debug)]
pub(super) struct Relay {
    url: String,
    seen: Arc<Seen>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Relay {
    pub(super) fn start(source: Source) -> Result<Self, Error> {
        let seen = Arc::new(Seen::default());
        let path = format!("/{}/firmware.raucb", token().map_err(cannot("make the relay's path"))?);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .max_blocking_threads(TRANSFERS)
            .build()
            .map_err(cannot("set up the relay"))?;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let listener = runtime.block_on(TcpListener::bind(address)).map_err(cannot("listen on the loopback"))?;
        let port = listener.local_addr().map_err(cannot("listen on the loopback"))?.port();
        let url = format!("http://127.0.0.1:{port}{path}");
        let Source { clients, path: remote, total, tail } = source;
        let transfers = Semaphore::new(clients.len());
        let bundle = Arc::new(Bundle {
            path,
            remote,
            total,
            tail,
            clients: Mutex::new(clients),
            transfers,
            ahead: Semaphore::new(AHEAD),
            foresight: Mutex::default(),
            seen: Arc::clone(&seen),
        });
        let (stop, stopped) = oneshot::channel();
        let thread = std::thread::Builder::new()
            .name("relay".to_owned())
            .spawn(move || runtime.block_on(serve(listener, bundle, stopped)))
            .map_err(cannot("start the relay"))?;
        Ok(Self { url, seen, stop: Some(stop), thread: Some(thread) })
    }

    /// What RAUC is to open.
    pub(super) fn url(&self) -> &str {
        &self.url
    }

    pub(super) fn seen(&self) -> &Seen {
        &self.seen
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.seen.quit.store(true, Ordering::Relaxed);
        drop(self.stop.take());
        // Detached: a transfer that stands still ends by its own limit, and nobody needs to wait for it.
        drop(self.thread.take());
    }
}

/// 128 random bits in hex.
fn token() -> std::io::Result<String> {
    let mut bytes = [0; 16];
    rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

#[derive(Debug)]
struct Bundle {
    path: String,
    remote: String,
    total: u64,
    tail: Vec<u8>,
    clients: Mutex<Vec<Client>>,
    transfers: Semaphore,
    /// Turns of transfers of what is ahead, before they wait for one of all.
    ahead: Semaphore,
    foresight: Mutex<Foresight>,
    seen: Arc<Seen>,
}

/// What was asked for in a row, and what was fetched ahead of it.
#[derive(Debug, Default)]
struct Foresight {
    runs: Runs,
    store: Store,
}

async fn serve(listener: TcpListener, bundle: Arc<Bundle>, mut stopped: oneshot::Receiver<()>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            _ = &mut stopped => return,
            Some(_) = connections.join_next() => {}
            accepted = listener.accept(), if connections.len() < CONNECTIONS => match accepted {
                Ok((stream, _)) => {
                    connections.spawn(converse(stream, Arc::clone(&bundle)));
                }
                Err(err) => {
                    debug!("relay: {err}");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            },
        }
    }
}

/// One connection, until it is closed, silent, or asks for something else.
async fn converse(mut stream: TcpStream, bundle: Arc<Bundle>) {
    // Short answers are not to wait for more.
    let _ = stream.set_nodelay(true);
    let mut buffer = Vec::new();
    while let Ok(Ok(Some(head))) = timeout(IDLE, read_head(&mut stream, &mut buffer)).await {
        let answered = match http::parse(&head, &bundle.path, bundle.total) {
            Ok(Request { range, keep_alive }) => bundle.answer(&mut stream, range).await.map(|()| keep_alive),
            Err(refusal) => {
                debug!("relay: refused with {refusal}");
                let text = format!("HTTP/1.1 {refusal}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
                send(&mut stream, text.as_bytes()).await.map(|()| false)
            }
        };
        if !answered.unwrap_or(false) {
            return;
        }
    }
}

/// The next request's head, without what follows it; none at the end.
async fn read_head(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> std::io::Result<Option<Vec<u8>>> {
    loop {
        if let Some(end) = buffer.windows(4).position(|four| four == b"\r\n\r\n") {
            let rest = buffer.split_off(end + 4);
            return Ok(Some(std::mem::replace(buffer, rest)));
        }
        if buffer.len() > http::MAX_HEAD {
            return Err(std::io::ErrorKind::InvalidData.into());
        }
        if stream.read_buf(buffer).await? == 0 {
            return Ok(None);
        }
    }
}

async fn send(stream: &mut TcpStream, bytes: &[u8]) -> std::io::Result<()> {
    timeout(IDLE, stream.write_all(bytes)).await.unwrap_or_else(|_| Err(std::io::ErrorKind::TimedOut.into()))
}

impl Bundle {
    /// Answers with a range: what lies before the signed manifest comes from the mirrors, ahead of time or now, the rest from
    /// memory.
    async fn answer(self: &Arc<Self>, stream: &mut TcpStream, range: Range<u64>) -> std::io::Result<()> {
        let offset = self.total - self.tail.len() as u64;
        let head = format!(
            "HTTP/1.1 206 Partial Content\r\nContent-Type: application/octet-stream\r\nContent-Length: {}\r\n\
             Content-Range: bytes {}-{}/{}\r\n\r\n",
            range.end - range.start,
            range.start,
            range.end - 1,
            self.total
        );
        let mut remote = range.start..range.end.min(offset);
        let mut head = Some(head);
        if remote.start < remote.end {
            self.look_ahead(&remote, offset);
        }
        while remote.start < remote.end {
            let (chunk, next) = {
                let store = &self.foresight().store;
                (store.at(remote.start), store.after(remote.start).unwrap_or(remote.end))
            };
            if let Some(chunk) = chunk {
                if !chunk.has_begun() {
                    // Its turn may be long in coming, and somebody waits.
                    self.foresight().store.forget(&chunk);
                    continue;
                }
                let Some(part) = chunk.part(&(remote.start..remote.end.min(chunk.end()))).await else {
                    // It is asked for once more, now that somebody waits for it.
                    self.foresight().store.forget(&chunk);
                    continue;
                };
                if let Some(head) = head.take() {
                    send(stream, head.as_bytes()).await?;
                }
                send(stream, &part).await?;
                remote.start += part.len() as u64;
                continue;
            }
            let end = remote.end.min(next);
            let mut pieces = self.transfer(remote.start..end).await;
            while let Some(piece) = pieces.recv().await {
                if let Some(head) = head.take() {
                    send(stream, head.as_bytes()).await?;
                }
                send(stream, &piece).await?;
                remote.start += piece.len() as u64;
            }
            if remote.start < end {
                if head.is_some() {
                    send(stream, b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").await?;
                }
                // RAUC sees that it is not whole, and asks again.
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
        }
        if let Some(head) = head {
            send(stream, head.as_bytes()).await?;
        }
        let index = |at: u64| usize::try_from(at.saturating_sub(offset)).unwrap_or(usize::MAX);
        let local = self.tail.get(index(range.start.max(offset))..index(range.end.max(offset)));
        send(stream, local.unwrap_or_default()).await
    }

    fn foresight(&self) -> MutexGuard<'_, Foresight> {
        self.foresight.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has fetched what RAUC will ask for after this, as far as that can be known, in the order in which it will.
    fn look_ahead(self: &Arc<Self>, range: &Range<u64>, limit: u64) {
        let mut foresight = self.foresight();
        for chunk in foresight.runs.ask(range, limit) {
            tokio::spawn(Arc::clone(self).fill(foresight.store.open(chunk)));
        }
    }

    async fn fill(self: Arc<Self>, filling: Filling) {
        // Neither is ever closed.
        let Ok(_own) = self.ahead.acquire().await else { return };
        let Ok(_turn) = self.transfers.acquire().await else { return };
        if !filling.begin() {
            return;
        }
        let worker = Arc::clone(&self);
        let fetch = move || worker.fetch(filling.range(), &mut |piece| filling.push(piece));
        // Fetched again if it is asked for: only then it is a failure.
        if let Ok(Some(why)) = tokio::task::spawn_blocking(fetch).await {
            debug!("ahead of what was asked for: {why}");
        }
    }

    /// Fetches a range from the mirrors, in a thread of its own, when its turn comes.
    async fn transfer(self: &Arc<Self>, range: Range<u64>) -> mpsc::Receiver<Vec<u8>> {
        let (sender, pieces) = mpsc::channel(PIECES);
        let bundle = Arc::clone(self);
        tokio::spawn(async move {
            // Never closed.
            let Ok(_turn) = bundle.transfers.acquire().await else { return };
            let worker = Arc::clone(&bundle);
            let fetch = move || {
                if let Some(why) = worker.fetch(range, &mut |piece| sender.blocking_send(piece.to_vec()).is_ok()) {
                    warn!("{why}");
                    // Before the sender goes: then it is known that there is no more.
                    *worker.seen.failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(why);
                }
            };
            let _ = tokio::task::spawn_blocking(fetch).await;
        });
        pieces
    }

    /// Has a range taken, piece by piece, for as long as there is a taker. Why the mirrors did not deliver, if they did not.
    fn fetch(&self, range: Range<u64>, take: &mut dyn FnMut(&[u8]) -> bool) -> Option<String> {
        let mut client = self.clients.lock().unwrap_or_else(PoisonError::into_inner).pop()?;
        let fetched = client.range(&self.remote, self.total, range, &mut |piece| {
            self.seen.fetched.fetch_add(piece.len() as u64, Ordering::Relaxed);
            !self.seen.quit.load(Ordering::Relaxed) && take(piece)
        });
        self.clients.lock().unwrap_or_else(PoisonError::into_inner).push(client);
        match fetched {
            // Nobody wants the rest any more, or the relay ends: no mirror's fault.
            Ok(()) | Err(iotwasm_fetch::Error::Cancelled { .. }) => None,
            Err(err) => Some(report::chain(&err)),
        }
    }
}

#[cfg(test)]
#[path = "relay_tests.rs"]
mod tests;

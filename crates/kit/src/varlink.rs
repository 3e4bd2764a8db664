//! The accept loop of a Varlink service: who called, how many at once, how long a request may be and take.
//!
//! Each connection gets a server and a service value of its own, so that a call that takes long (a payload's self-test)
//! holds up nobody else, and a client that does not read its replies holds up only itself.

use std::{
    cell::RefCell,
    collections::BTreeMap,
    future::Future,
    io,
    os::{
        fd::{AsFd, BorrowedFd},
        unix::net::UnixListener,
    },
    rc::Rc,
    time::{Duration, Instant},
};

use zlink::connection::socket::{ReadHalf, ReadResult, Socket, UnixSocket};

/// Longest request we read, in bytes: a hundred times what any method needs, and too little to hurt.
pub const MAX_REQUEST: usize = 64 * 1024;
/// Between two lines about refused connections: who is refused may try again at once.
const REFUSALS_PAUSE: Duration = Duration::from_secs(60);

/// How many connections may be open, and how long for nothing.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// In all.
    pub connections: usize,
    /// Of one user; root is not limited by this one, so that a field engineer always gets in.
    pub for_one_user: usize,
    /// Kept free for users that may control.
    pub for_control: usize,
    /// How long a connection may take to send its next request whole. A call that is being answered, and one with `more`,
    /// takes as long as it takes.
    pub idle: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self { connections: 32, for_one_user: 16, for_control: 4, idle: Duration::from_secs(60) }
    }
}

/// Who called, as the kernel says (SO_PEERCRED).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peer {
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
}

/// [`serve_with_control`] where only root controls.
///
/// # Errors
/// The socket cannot be used at all. A connection that fails ends by itself.
pub async fn serve<S, F>(listener: UnixListener, limits: Limits, service: F) -> io::Result<()>
where
    S: zlink::Service<Bounded> + 'static,
    F: FnMut(Peer) -> S,
{
    serve_with_control(listener, limits, |_| false, service).await
}

/// Serve until the future is dropped, with some places kept for the user ids that may control. Run it in a
/// `tokio::task::LocalSet`.
///
/// # Errors
/// The socket cannot be used at all. A connection that fails ends by itself.
pub async fn serve_with_control<S, F>(
    listener: UnixListener,
    limits: Limits,
    may_control: impl Fn(u32) -> bool,
    mut service: F,
) -> io::Result<()>
where
    S: zlink::Service<Bounded> + 'static,
    F: FnMut(Peer) -> S,
{
    let mut refusals = Refusals::default();
    listener.set_nonblocking(true)?;
    let listener = tokio::net::UnixListener::from_std(listener)?;
    let open: Rc<RefCell<BTreeMap<u32, usize>>> = Rc::default();
    loop {
        let (stream, peer) = match accept(&listener).await {
            Ok(accepted) => accepted,
            Err(err) => {
                // Too many open files, or a client that went away: pause, so that a lasting cause does not spin.
                crate::warn!("could not accept a connection: {err}");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let Some(place) = Place::take(&open, limits, peer.uid, may_control(peer.uid)) else {
            if let Some(count) = refusals.count(Instant::now()) {
                crate::warn!(
                    "refused a connection of uid {}: too many are open ({count} refused since this was last said)",
                    peer.uid
                );
            }
            continue;
        };
        let stream = match zlink::tokio::unix::Stream::try_from(stream) {
            Ok(stream) => stream,
            Err(err) => {
                crate::warn!("could not set up a connection: {err}");
                continue;
            }
        };
        let server =
            zlink::Server::new(zlink::ReadyListener::new(Bounded { stream, idle: limits.idle }), service(peer));
        tokio::task::spawn_local(async move {
            let _place = place;
            if let Err(err) = boxed(server.run()).await {
                crate::debug!("a connection of uid {} ended: {err}", peer.uid);
            }
        });
    }
}

/// The server's future is large: keep it out of the task's own.
fn boxed<'a, T>(future: impl Future<Output = T> + 'a) -> std::pin::Pin<Box<dyn Future<Output = T> + 'a>> {
    Box::pin(future)
}

async fn accept(listener: &tokio::net::UnixListener) -> io::Result<(tokio::net::UnixStream, Peer)> {
    let (stream, _) = listener.accept().await?;
    let creds = stream.peer_cred()?;
    Ok((stream, Peer { uid: creds.uid(), gid: creds.gid() }))
}

/// A counted connection; given back when dropped.
#[derive(Debug)]
struct Place {
    open: Rc<RefCell<BTreeMap<u32, usize>>>,
    uid: u32,
}

impl Place {
    fn take(open: &Rc<RefCell<BTreeMap<u32, usize>>>, limits: Limits, uid: u32, may_control: bool) -> Option<Self> {
        {
            let mut open = open.borrow_mut();
            let of_others: usize = open.iter().filter(|(other, _)| **other != 0).map(|(_, n)| n).sum();
            let of_user = open.entry(uid).or_default();
            let places = limits.connections.saturating_sub(if may_control { 0 } else { limits.for_control });
            if uid != 0 && (of_others >= places || *of_user >= limits.for_one_user) {
                return None;
            }
            if uid == 0 && *of_user >= limits.connections {
                return None;
            }
            *of_user += 1;
        }
        Some(Self { open: Rc::clone(open), uid })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(n) = self.open.borrow_mut().get_mut(&self.uid) {
            *n -= 1;
        }
    }
}

/// Counts refusals between the lines about them.
#[derive(Debug, Default)]
struct Refusals {
    told: Option<Instant>,
    count: u64,
}

impl Refusals {
    /// One more; how many there were, if it is time to say so.
    fn count(&mut self, now: Instant) -> Option<u64> {
        self.count += 1;
        if self.told.is_some_and(|told| now.duration_since(told) < REFUSALS_PAUSE) {
            return None;
        }
        self.told = Some(now);
        Some(std::mem::take(&mut self.count))
    }
}

/// A Unix stream that ends the connection when one request is longer than [`MAX_REQUEST`], or takes too long to come.
#[derive(Debug)]
pub struct Bounded {
    stream: zlink::tokio::unix::Stream,
    idle: Duration,
}

impl Socket for Bounded {
    type ReadHalf = BoundedRead;
    type WriteHalf = <zlink::tokio::unix::Stream as Socket>::WriteHalf;

    const CAN_TRANSFER_FDS: bool = true;

    fn split(self) -> (Self::ReadHalf, Self::WriteHalf) {
        let (read, write) = self.stream.split();
        (BoundedRead { inner: read, of_this_request: 0, idle: self.idle, until: None }, write)
    }
}

impl AsFd for Bounded {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

impl UnixSocket for Bounded {}

/// The reading half of [`Bounded`].
#[derive(Debug)]
pub struct BoundedRead {
    inner: <zlink::tokio::unix::Stream as Socket>::ReadHalf,
    /// Bytes since the last NUL, which ends a Varlink message.
    of_this_request: usize,
    idle: Duration,
    /// When the request that we wait for must be whole; none while none is waited for.
    until: Option<tokio::time::Instant>,
}

impl ReadHalf for BoundedRead {
    async fn read(&mut self, buf: &mut [u8]) -> zlink::Result<ReadResult> {
        // Nobody reads while a call is answered, so that only waiting for a request counts. Bytes that trickle in do not
        // begin the time anew.
        let until = *self.until.get_or_insert_with(|| tokio::time::Instant::now() + self.idle);
        let Ok(result) = tokio::time::timeout_at(until, self.inner.read(buf)).await else {
            return Err(io::Error::new(io::ErrorKind::TimedOut, "no request came in time").into());
        };
        let result = result?;
        if buf[..result.bytes_read()].contains(&0) {
            self.until = None;
        }
        self.of_this_request = pending(self.of_this_request, &buf[..result.bytes_read()]);
        if self.of_this_request > MAX_REQUEST {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the request is too long").into());
        }
        Ok(result)
    }
}

impl AsFd for BoundedRead {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.inner.as_fd()
    }
}

impl UnixSocket for BoundedRead {}

/// Bytes of the message that is not whole yet, after `bytes` came in.
fn pending(before: usize, bytes: &[u8]) -> usize {
    match bytes.iter().rposition(|b| *b == 0) {
        Some(nul) => bytes.len() - nul - 1,
        None => before + bytes.len(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{
        io::{Read, Write},
        os::unix::net::UnixStream,
    };

    #[derive(Debug, serde::Serialize, serde::Deserialize, zlink::introspect::Type)]
    struct Echo {
        text: String,
        uid: i64,
    }

    struct Service(Peer);

    #[zlink::service(interface = "io.iotwasm.Test")]
    impl Service {
        async fn echo(&self, text: String) -> Echo {
            Echo { text, uid: i64::from(self.0.uid) }
        }

        async fn never(&self) -> Echo {
            std::future::pending().await
        }
    }

    fn call(stream: &mut UnixStream, request: &str) -> io::Result<String> {
        stream.write_all(request.as_bytes())?;
        stream.write_all(&[0])?;
        let mut reply = Vec::new();
        let mut byte = [0];
        while stream.read(&mut byte)? == 1 && byte[0] != 0 {
            reply.push(byte[0]);
        }
        Ok(String::from_utf8(reply).unwrap())
    }

    /// Run `client` in a thread against a server that lives as long as it.
    fn with_server(limits: Limits, client: impl FnOnce(&std::path::Path) + Send + 'static) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        let listener = UnixListener::bind(&path).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        tokio::task::LocalSet::new().block_on(&runtime, async move {
            let client = tokio::task::spawn_blocking(move || client(&path));
            tokio::select! {
                served = serve(listener, limits, Service) => served.unwrap(),
                done = client => done.unwrap(),
            }
        });
    }

    #[test]
    fn a_call_that_never_ends_holds_up_nobody_else() {
        with_server(Limits::default(), |path| {
            let mut stuck = UnixStream::connect(path).unwrap();
            stuck.write_all(b"{\"method\":\"io.iotwasm.Test.Never\"}\0").unwrap();
            let mut other = UnixStream::connect(path).unwrap();
            let reply = call(&mut other, r#"{"method":"io.iotwasm.Test.Echo","parameters":{"text":"hi"}}"#).unwrap();
            let uid = rustix::process::getuid().as_raw();
            assert!(reply.contains("hi") && reply.contains(&format!("\"uid\":{uid}")), "{reply}");
        });
    }

    #[test]
    fn a_request_that_is_too_long_ends_its_connection_and_no_other() {
        with_server(Limits::default(), |path| {
            let mut greedy = UnixStream::connect(path).unwrap();
            // The server may end the connection before all of it is written.
            let chunk = vec![b'x'; MAX_REQUEST / 2];
            let refused =
                (0..100).any(|_| greedy.write_all(&chunk).is_err()) || !matches!(greedy.read(&mut [0]), Ok(n) if n > 0);
            assert!(refused);
            let mut other = UnixStream::connect(path).unwrap();
            assert!(
                call(&mut other, r#"{"method":"io.iotwasm.Test.Echo","parameters":{"text":"hi"}}"#)
                    .unwrap()
                    .contains("hi")
            );
        });
    }

    #[test]
    fn one_user_cannot_take_every_connection() {
        let limits = Limits { connections: 4, for_one_user: 2, for_control: 0, ..Limits::default() };
        let open = Rc::default();
        let held: Vec<_> = (0..5).filter_map(|_| Place::take(&open, limits, 1000, false)).collect();
        assert_eq!(held.len(), 2);
        assert!(Place::take(&open, limits, 1001, false).is_some());
        assert!(Place::take(&open, limits, 0, false).is_some());
        drop(held);
        assert!(Place::take(&open, limits, 1000, false).is_some());
    }

    #[test]
    fn users_that_may_control_find_a_place_when_others_took_theirs() {
        let limits = Limits { connections: 6, for_one_user: 3, for_control: 2, ..Limits::default() };
        let open = Rc::default();
        let held: Vec<_> = (1000..1010).filter_map(|uid| Place::take(&open, limits, uid, false)).collect();
        assert_eq!(held.len(), 4);
        let control: Vec<_> = (0..3).filter_map(|_| Place::take(&open, limits, 990, true)).collect();
        assert_eq!(control.len(), 2);
        assert!(Place::take(&open, limits, 0, true).is_some());
    }

    #[test]
    fn refusals_are_told_once_a_minute_with_their_count() {
        let (mut refusals, now) = (Refusals::default(), Instant::now());
        assert_eq!(refusals.count(now), Some(1));
        assert_eq!(refusals.count(now + Duration::from_secs(59)), None);
        assert_eq!(refusals.count(now + Duration::from_secs(60)), Some(2));
    }

    #[test]
    fn a_connection_that_asks_nothing_or_never_ends_its_request_is_closed() {
        let limits = Limits { idle: Duration::from_millis(200), ..Limits::default() };
        with_server(limits, |path| {
            let mut silent = UnixStream::connect(path).unwrap();
            let mut trickling = UnixStream::connect(path).unwrap();
            let mut asking = UnixStream::connect(path).unwrap();
            asking.write_all(b"{\"method\":\"io.iotwasm.Test.Never\"}\0").unwrap();
            // Until it is closed: the time does not begin anew with each byte.
            while trickling.write_all(b"x").is_ok() {
                std::thread::sleep(Duration::from_millis(5));
            }
            assert!(matches!(silent.read(&mut [0]), Ok(0)));
            asking.set_nonblocking(true).unwrap();
            let waiting = asking.read(&mut [0]).unwrap_err();
            assert_eq!(waiting.kind(), io::ErrorKind::WouldBlock, "a call that is being answered goes on");
        });
    }

    #[test]
    fn a_connection_that_asks_again_in_time_stays() {
        let limits = Limits { idle: Duration::from_secs(2), ..Limits::default() };
        with_server(limits, |path| {
            let mut stream = UnixStream::connect(path).unwrap();
            let began = Instant::now();
            while began.elapsed() < Duration::from_secs(3) {
                let request = r#"{"method":"io.iotwasm.Test.Echo","parameters":{"text":"hi"}}"#;
                assert!(call(&mut stream, request).unwrap().contains("hi"));
            }
        });
    }

    proptest::proptest! {
        #[test]
        fn pending_counts_the_bytes_after_the_last_nul(chunks: Vec<Vec<u8>>) {
            let all: Vec<u8> = chunks.concat();
            let expected = all.iter().rev().take_while(|b| **b != 0).count();
            let counted = chunks.iter().fold(0, |n, chunk| pending(n, chunk));
            proptest::prop_assert_eq!(counted, expected);
        }
    }
}

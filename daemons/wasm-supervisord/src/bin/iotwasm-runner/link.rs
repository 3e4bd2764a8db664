//! The runner's end of the control socket. It comes as standard input, so that nothing else need be inherited.

use std::{
    io::{self, IoSliceMut},
    mem::MaybeUninit,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use iotwasm_kit::report::{Code, Failure};
use rustix::{
    event::{PollFd, PollFlags, Timespec},
    fs::{Mode, OFlags},
    io::Errno,
    net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendFlags, SocketType},
};
use wasm_supervisord::{
    bucket::Bucket,
    protocol::{Ending, FromRunner, MAX_TO_RUNNER, ToRunner},
};

/// Messages of the guest at once, and then for each second. A working payload reports every few seconds.
const BURST: u32 = 64;
const PER_SECOND: u32 = 16;

/// What keeps the runner from its supervisor.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// Started by hand.
    #[error("standard input is no control socket; only wasm-supervisord starts this program")]
    NotASocket,
    /// Could not set the descriptors up.
    #[error("could not set the control socket up")]
    Descriptors(#[source] io::Error),
    /// More was inherited than may be.
    #[error("descriptor {0} was inherited; a runner gets standard input, output and error and nothing else")]
    Inherited(u32),
    /// The socket failed.
    #[error("could not receive from the supervisor")]
    Receive(#[source] io::Error),
    /// Not what the protocol says.
    #[error("the supervisor sent something else than {expected}")]
    Unexpected {
        /// What should have come.
        expected: &'static str,
    },
}

impl Failure for Error {
    fn exit_code(&self) -> Code {
        Code::Usage
    }
}

/// The control socket.
#[derive(Debug)]
pub(crate) struct Link {
    socket: OwnedFd,
    /// How many messages of the guest pass.
    bucket: Mutex<Bucket>,
    /// The last word was said: whoever comes later is not heard.
    ended: Mutex<bool>,
}

/// Make a panic the last word: in a release build it aborts the process, and the signal alone would not tell a defect of
/// ours from an engine that cannot allocate. What the standard library prints goes to standard error, as ever.
pub(crate) fn tell_panics(link: &Arc<Link>) {
    let (link, print) = (Arc::clone(link), std::panic::take_hook());
    std::panic::set_hook(Box::new(move |panic| {
        let words = panic.payload_as_str().unwrap_or("a panic without words");
        let place = panic.location().map(|place| format!(" ({}:{})", place.file(), place.line())).unwrap_or_default();
        let message = format!("internal error: {words}{place}");
        link.last_word_of_a_panic(&FromRunner::Ended { ending: Ending::Internal, message });
        print(panic);
    }));
}

/// What else may end a wait for messages.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Beside<'a> {
    /// A session: its other end may be closed.
    pub(crate) session: Option<BorrowedFd<'a>>,
    /// A line: it may have an event.
    pub(crate) line: Option<BorrowedFd<'a>>,
}

/// What came within the time.
pub(crate) enum Received {
    /// A message.
    Message(ToRunner),
    /// [`ToRunner::Session`] with its session.
    Session(OwnedFd),
    /// The session's other end is closed.
    SessionClosed,
    /// The line has an event, or is not there any more.
    Line,
    /// The supervisor is gone.
    Gone,
    /// Nothing.
    Nothing,
}

impl Link {
    /// Take the socket out of standard input, which the guest gets empty, and see that nothing else was inherited.
    pub(crate) fn take() -> Result<Self, Error> {
        let stdin = rustix::stdio::stdin();
        if rustix::net::sockopt::socket_type(stdin).ok() != Some(SocketType::SEQPACKET) {
            return Err(Error::NotASocket);
        }
        let failed = |err: Errno| Error::Descriptors(err.into());
        if let Some(fd) = inherited().map_err(Error::Descriptors)? {
            return Err(Error::Inherited(fd));
        }
        let socket = rustix::io::fcntl_dupfd_cloexec(stdin, 3).map_err(failed)?;
        let null = rustix::fs::open("/dev/null", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).map_err(failed)?;
        rustix::stdio::dup2_stdin(null).map_err(failed)?;
        let bucket = Mutex::new(Bucket::new(BURST, PER_SECOND, Instant::now()));
        Ok(Self { socket, bucket, ended: Mutex::new(false) })
    }

    /// Wait for the next message, or for something else; for ever without a limit. Messages go first.
    pub(crate) fn receive(&self, limit: Option<Duration>, beside: Beside<'_>) -> Received {
        let deadline = limit.map(|limit| Instant::now() + limit);
        let control = self.socket.as_fd();
        loop {
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            let left = left.and_then(|left| Timespec::try_from(left).ok());
            let mut polled = [
                PollFd::from_borrowed_fd(control, PollFlags::IN),
                // That an end is closed is told unasked. What is not there is the control socket once more: if that is
                // closed, it is the first that counts.
                PollFd::from_borrowed_fd(beside.session.unwrap_or(control), PollFlags::empty()),
                PollFd::from_borrowed_fd(
                    beside.line.unwrap_or(control),
                    if beside.line.is_some() { PollFlags::IN } else { PollFlags::empty() },
                ),
            ];
            match rustix::event::poll(&mut polled, left.as_ref()) {
                Ok(0) => return Received::Nothing,
                Ok(_) => {}
                Err(Errno::INTR) => continue,
                Err(_) => return Received::Gone,
            }
            let [control, session, line] = polled.map(|polled| !polled.revents().is_empty());
            if control {
                match self.take_packet() {
                    Some(received) => return received,
                    None => continue,
                }
            }
            if session {
                return Received::SessionClosed;
            }
            if line {
                return Received::Line;
            }
        }
    }

    /// A packet that has come. `None` for one that is no message: after the first message only short ones follow, and
    /// what is not understood is not obeyed.
    fn take_packet(&self) -> Option<Received> {
        let mut packet = [0; 256];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut beside = RecvAncillaryBuffer::new(&mut space);
        let flags = RecvFlags::DONTWAIT | RecvFlags::CMSG_CLOEXEC;
        let received = rustix::net::recvmsg(&self.socket, &mut [IoSliceMut::new(&mut packet)], &mut beside, flags);
        match received {
            Ok(received) if received.bytes == 0 => Some(Received::Gone),
            Ok(received) => match ToRunner::decode(&packet[..received.bytes])? {
                ToRunner::Session => descriptors(&mut beside).into_iter().next().map(Received::Session),
                message => Some(Received::Message(message)),
            },
            Err(Errno::AGAIN | Errno::INTR) => None,
            Err(_) => Some(Received::Gone),
        }
    }

    /// The first message, with the memory file and the session, if there is one, that come beside it; `None` when the
    /// supervisor is gone.
    pub(crate) fn receive_setup(&self) -> Result<Option<(ToRunner, OwnedFd, Option<OwnedFd>)>, Error> {
        let mut packet = vec![0; MAX_TO_RUNNER];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
        let mut beside = RecvAncillaryBuffer::new(&mut space);
        let received = loop {
            let mut slices = [IoSliceMut::new(&mut packet)];
            match rustix::net::recvmsg(&self.socket, &mut slices, &mut beside, RecvFlags::CMSG_CLOEXEC) {
                Err(Errno::INTR) => {}
                other => break other.map_err(|err| Error::Receive(err.into()))?,
            }
        };
        if received.bytes == 0 {
            return Ok(None);
        }
        let mut fds = descriptors(&mut beside).into_iter();
        let message = ToRunner::decode(&packet[..received.bytes]);
        match (message, fds.next()) {
            (Some(message), Some(module)) => Ok(Some((message, module, fds.next()))),
            _ => Err(Error::Unexpected { expected: "a setup with a memory file" }),
        }
    }

    /// Say something that must arrive. Waits while the supervisor is busy.
    pub(crate) fn send(&self, message: &FromRunner) {
        if !*self.lock_ended() {
            self.put(message, SendFlags::NOSIGNAL);
        }
    }

    /// Say something of the guest's, if there is room: too much is left out and counted, so that a guest can neither
    /// block itself nor the supervisor. True if it was said.
    pub(crate) fn send_if_room(&self, message: &FromRunner) -> bool {
        let mut bucket = self.bucket.lock().unwrap_or_else(PoisonError::into_inner);
        if *self.lock_ended() || !bucket.take(Instant::now()) {
            return false;
        }
        let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
        if let Some(count) = bucket.dropped()
            && !self.put(&FromRunner::Dropped { count }, flags)
        {
            bucket.lost();
        }
        let sent = self.put(message, flags);
        if !sent {
            bucket.lost();
        }
        sent
    }

    /// Say how it ended. The first one counts.
    pub(crate) fn last_word(&self, message: &FromRunner) {
        if !std::mem::replace(&mut *self.lock_ended(), true) {
            self.put(message, SendFlags::NOSIGNAL);
        }
    }

    /// As [`Self::last_word`], but without waiting: for a thread that must end the process now.
    pub(crate) fn last_word_now(&self, message: &FromRunner) {
        if !std::mem::replace(&mut *self.lock_ended(), true) {
            self.put(message, SendFlags::NOSIGNAL | SendFlags::DONTWAIT);
        }
    }

    /// As [`Self::last_word_now`], for a thread that panics: whoever holds the lock may be that thread itself.
    fn last_word_of_a_panic(&self, message: &FromRunner) {
        if let Ok(mut ended) = self.ended.try_lock()
            && !std::mem::replace(&mut *ended, true)
        {
            self.put(message, SendFlags::NOSIGNAL | SendFlags::DONTWAIT);
        }
    }

    fn lock_ended(&self) -> std::sync::MutexGuard<'_, bool> {
        self.ended.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// True if it was sent. A supervisor that is gone hears nothing; that shows when we next listen.
    fn put(&self, message: &FromRunner, flags: SendFlags) -> bool {
        let packet = message.encode();
        loop {
            match rustix::net::send(self.socket.as_fd(), &packet, flags) {
                Err(Errno::INTR) => {}
                other => return other.is_ok(),
            }
        }
    }
}

/// What came beside a packet.
fn descriptors(beside: &mut RecvAncillaryBuffer<'_>) -> Vec<OwnedFd> {
    let mut descriptors = Vec::new();
    for message in beside.drain() {
        if let RecvAncillaryMessage::ScmRights(fds) = message {
            descriptors.extend(fds);
        }
    }
    descriptors
}

/// A descriptor above the standard ones that is open, if there is one.
fn inherited() -> io::Result<Option<u32>> {
    let mut open = Vec::new();
    for entry in std::fs::read_dir("/proc/self/fd")? {
        open.extend(entry?.file_name().to_str().and_then(|name| name.parse::<u32>().ok()).filter(|fd| *fd > 2));
    }
    // The listing's own descriptor was open while it was read, and is gone now.
    Ok(open.into_iter().find(|fd| std::fs::symlink_metadata(format!("/proc/self/fd/{fd}")).is_ok()))
}

#[cfg(test)]
impl Link {
    /// A link and the supervisor's end of it.
    pub(crate) fn pair() -> (Arc<Self>, OwnedFd) {
        let flags = rustix::net::SocketFlags::CLOEXEC;
        let (ours, theirs) =
            rustix::net::socketpair(rustix::net::AddressFamily::UNIX, SocketType::SEQPACKET, flags, None).unwrap();
        let bucket = Mutex::new(Bucket::new(BURST, PER_SECOND, Instant::now()));
        (Arc::new(Self { socket: ours, bucket, ended: Mutex::new(false) }), theirs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_the_last_word_and_says_where() {
        let (link, ours) = Link::pair();
        tell_panics(&link);
        assert!(std::thread::spawn(|| panic!("on purpose")).join().is_err());
        link.last_word(&FromRunner::Ended { ending: Ending::Trap, message: "too late".into() });
        let mut packet = [0; 512];
        let (n, _) = rustix::net::recv(&ours, &mut packet[..], RecvFlags::DONTWAIT).unwrap();
        let message = FromRunner::decode(&packet[..n]).unwrap();
        let FromRunner::Ended { ending: Ending::Internal, message } = message else { panic!("{message:?}") };
        assert!(message.starts_with("internal error: on purpose (") && message.contains("link.rs:"), "{message}");
        assert!(rustix::net::recv(&ours, &mut packet[..], RecvFlags::DONTWAIT).is_err());
    }
}

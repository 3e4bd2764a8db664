//! One end of a session: packets with descriptors beside them.

use std::{
    io::{self, IoSlice, IoSliceMut},
    marker::PhantomData,
    mem::MaybeUninit,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    time::{Duration, Instant},
};

use rustix::{
    event::{PollFd, PollFlags, Timespec},
    io::Errno,
    net::{
        AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
        SendAncillaryMessage, SendFlags, Shutdown, SocketFlags, SocketType, sockopt,
    },
};
use serde::{Serialize, de::DeserializeOwned};

use crate::words::{self, Answer, MAX_PACKET, Request};

/// Most descriptors beside one packet: one for each channel of a sensor (32 capabilities and 32 attributes).
pub(crate) const MAX_DESCRIPTORS: usize = 64;
/// Longest packet, in bytes, with which descriptors are rationed (see [`Channel::send`]): the answers that a runner can
/// have any number of times are shorter.
const RATIONED: usize = 1024;

/// An end that sends `Out` and receives `In`.
#[derive(Debug)]
pub struct Channel<Out, In> {
    socket: OwnedFd,
    /// Made once, and by the kernel's zero pages: what no packet reaches costs no memory.
    packet: Vec<u8>,
    words: PhantomData<fn(Out) -> In>,
}

/// What came.
#[derive(Debug)]
pub struct Received<In> {
    /// The message.
    pub message: In,
    /// The descriptors beside it.
    pub descriptors: Vec<OwnedFd>,
}

/// Why nothing was received.
#[derive(Debug, thiserror::Error)]
pub enum ReceiveError {
    /// The other end is closed.
    #[error("the other end of the session is closed")]
    Closed,
    /// Nothing came in time.
    #[error("nothing came in time")]
    TimedOut,
    /// A packet that is no message.
    #[error("a packet that is no message of the session")]
    Malformed,
    /// The socket failed.
    #[error("could not receive")]
    Io(#[source] io::Error),
}

/// Why nothing was sent.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// The other end is closed.
    #[error("the other end of the session is closed")]
    Closed,
    /// Longer than a packet.
    #[error("the message is too long")]
    TooLong,
    /// The other end does not read.
    #[error("the other end does not read its answers")]
    Full,
    /// The socket failed.
    #[error("could not send")]
    Io(#[source] io::Error),
}

/// A session's two ends: the runner's, as a descriptor to be handed over, and capd's.
///
/// # Errors
/// The system is out of something.
pub fn pair() -> io::Result<(OwnedFd, Channel<Answer, Request>)> {
    let (theirs, ours) =
        rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
    Ok((theirs, Channel::new(ours)))
}

impl<Out: Serialize, In: DeserializeOwned> Channel<Out, In> {
    /// Over a seqpacket socket.
    #[must_use]
    pub fn new(socket: OwnedFd) -> Self {
        Self { socket, packet: vec![0; MAX_PACKET], words: PhantomData }
    }

    /// Sends a message. Does not wait: there is always room for the one message that may be on its way.
    ///
    /// Descriptors that nobody takes out of the socket count against the sender's limit, for all of its sockets together.
    /// So only a few packets with descriptors may wait in one socket; one more is [`SendError::Full`].
    ///
    /// # Errors
    /// It was not sent.
    pub fn send(&self, message: &Out, descriptors: &[BorrowedFd<'_>]) -> Result<(), SendError> {
        let packet = words::encode(message).ok_or(SendError::TooLong)?;
        if descriptors.is_empty() || packet.len() > RATIONED {
            return self.put(&packet, descriptors);
        }
        let failed = |err: Errno| SendError::Io(err.into());
        let room = sockopt::socket_send_buffer_size(&self.socket).map_err(failed)?;
        // The kernel takes at least its least, room for a handful of short packets.
        sockopt::set_socket_send_buffer_size(&self.socket, 0).map_err(failed)?;
        let sent = self.put(&packet, descriptors);
        // It keeps twice of what it is told.
        sockopt::set_socket_send_buffer_size(&self.socket, room / 2).map_err(failed)?;
        sent
    }

    fn put(&self, packet: &[u8], descriptors: &[BorrowedFd<'_>]) -> Result<(), SendError> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
        let mut beside = SendAncillaryBuffer::new(&mut space);
        if !descriptors.is_empty() && !beside.push(SendAncillaryMessage::ScmRights(descriptors)) {
            return Err(SendError::TooLong);
        }
        let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
        loop {
            match rustix::net::sendmsg(&self.socket, &[IoSlice::new(packet)], &mut beside, flags) {
                Ok(_) => return Ok(()),
                Err(Errno::INTR) => {}
                Err(Errno::PIPE | Errno::CONNRESET) => return Err(SendError::Closed),
                Err(Errno::AGAIN) => return Err(SendError::Full),
                Err(err) => return Err(SendError::Io(err.into())),
            }
        }
    }

    /// Waits for the next message; for ever without a limit.
    ///
    /// # Errors
    /// None came. After [`ReceiveError::Malformed`] the next packet can still be received.
    pub fn receive(&mut self, limit: Option<Duration>) -> Result<Received<In>, ReceiveError> {
        if let Some(limit) = limit {
            self.wait(limit)?;
        }
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
        let mut beside = RecvAncillaryBuffer::new(&mut space);
        let received = loop {
            let mut slices = [IoSliceMut::new(&mut self.packet)];
            match rustix::net::recvmsg(&self.socket, &mut slices, &mut beside, RecvFlags::CMSG_CLOEXEC) {
                Ok(received) => break received,
                Err(Errno::INTR) => {}
                Err(Errno::CONNRESET) => return Err(ReceiveError::Closed),
                Err(err) => return Err(ReceiveError::Io(err.into())),
            }
        };
        let mut descriptors = Vec::new();
        for message in beside.drain() {
            if let RecvAncillaryMessage::ScmRights(fds) = message {
                descriptors.extend(fds);
            }
        }
        if received.bytes == 0 {
            // An empty packet looks like an end, and so does an end that only stopped sending.
            return Err(if is_closed(self.as_fd()) { ReceiveError::Closed } else { ReceiveError::Malformed });
        }
        if received.flags.contains(ReturnFlags::TRUNC) {
            return Err(ReceiveError::Malformed);
        }
        let message = words::decode(&self.packet[..received.bytes]).ok_or(ReceiveError::Malformed)?;
        Ok(Received { message, descriptors })
    }

    /// Takes nothing more, and waits until the other end is closed.
    pub fn wait_for_close(&self) {
        // It fails only for a socket that is closed already.
        let _ = rustix::net::shutdown(&self.socket, Shutdown::Read);
        while let Err(Errno::INTR) = rustix::event::poll(&mut [PollFd::new(&self.socket, PollFlags::empty())], None) {}
    }

    fn wait(&self, limit: Duration) -> Result<(), ReceiveError> {
        let until = Instant::now() + limit;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let left = Timespec::try_from(left).ok();
            match rustix::event::poll(&mut [PollFd::new(&self.socket, PollFlags::IN)], left.as_ref()) {
                Ok(0) => return Err(ReceiveError::TimedOut),
                Ok(_) => return Ok(()),
                Err(Errno::INTR) => {}
                Err(err) => return Err(ReceiveError::Io(err.into())),
            }
        }
    }
}

/// True if the other end of a session's socket was closed, whether or not something of it is still to be read.
#[must_use]
pub fn is_closed(socket: BorrowedFd<'_>) -> bool {
    let mut polled = [PollFd::new(&socket, PollFlags::empty())];
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    matches!(rustix::event::poll(&mut polled, Some(&now)), Ok(1)) && polled[0].revents().contains(PollFlags::HUP)
}

impl<Out, In> AsFd for Channel<Out, In> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::words::{Error, Reply};

    fn ends() -> (Channel<Request, Answer>, Channel<Answer, Request>) {
        let (runner, capd) = pair().unwrap();
        (Channel::new(runner), capd)
    }

    #[test]
    fn a_question_and_its_answer_travel_with_descriptors() {
        let (mut runner, mut capd) = ends();
        runner.send(&Request::TurnOn { sensor: 7 }, &[]).unwrap();
        let asked = capd.receive(None).unwrap();
        assert_eq!(asked.message, Request::TurnOn { sensor: 7 });
        let files: Vec<OwnedFd> =
            (0..MAX_DESCRIPTORS).map(|_| std::fs::File::open("/dev/null").unwrap().into()).collect();
        let borrowed: Vec<_> = files.iter().map(AsFd::as_fd).collect();
        capd.send(&Ok(Reply::On { readable: (0..64).collect() }), &borrowed).unwrap();
        let answer = runner.receive(Some(Duration::from_secs(5))).unwrap();
        assert_eq!(answer.descriptors.len(), MAX_DESCRIPTORS);
        assert_eq!(answer.message, Ok(Reply::On { readable: (0..64).collect() }));
    }

    #[test]
    fn the_longest_packets_pass_and_longer_ones_are_refused() {
        let (runner, mut capd) = ends();
        let write = |length| Request::I2c { device: 0, operations: vec![crate::I2cOperation::Write(vec![1; length])] };
        runner.send(&write(MAX_PACKET - 16), &[]).unwrap();
        assert_eq!(capd.receive(None).unwrap().message, write(MAX_PACKET - 16));
        assert!(matches!(runner.send(&write(MAX_PACKET), &[]), Err(SendError::TooLong)));
        let raw = vec![0; MAX_PACKET + 1];
        assert!(rustix::net::send(&runner, &raw, SendFlags::empty()).is_ok());
        assert!(matches!(capd.receive(None), Err(ReceiveError::Malformed)));
        runner.send(&Request::Claim, &[]).unwrap();
        assert_eq!(capd.receive(None).unwrap().message, Request::Claim);
    }

    #[test]
    fn an_end_that_closes_is_seen_and_one_that_is_silent_times_out() {
        let (mut runner, capd) = ends();
        assert!(matches!(runner.receive(Some(Duration::from_millis(10))), Err(ReceiveError::TimedOut)));
        assert!(!is_closed(runner.as_fd()));
        drop(capd);
        assert!(is_closed(runner.as_fd()));
        assert!(matches!(runner.receive(None), Err(ReceiveError::Closed)));
        assert!(matches!(runner.send(&Request::Claim, &[]), Err(SendError::Closed)));
    }

    #[test]
    fn descriptors_that_nobody_takes_do_not_pile_up() {
        let (mut runner, capd) = ends();
        let file: OwnedFd = std::fs::File::open("/dev/null").unwrap().into();
        let beside = [file.as_fd(); MAX_DESCRIPTORS];
        let on = Ok(Reply::On { readable: (0..64).collect() });
        let sent = (0..1000).take_while(|_| capd.send(&on, &beside).is_ok()).count();
        assert!((1..16).contains(&sent), "{sent}");
        // Without descriptors there is room as ever, and with them when they were taken.
        capd.send(&Ok(Reply::Bytes(vec![0; 65_536])), &[]).unwrap();
        for _ in 0..sent {
            assert_eq!(runner.receive(None).unwrap().descriptors.len(), MAX_DESCRIPTORS);
        }
        assert_eq!(runner.receive(None).unwrap().descriptors.len(), 0);
        capd.send(&on, &beside).unwrap();
    }

    #[test]
    fn an_empty_packet_is_no_end() {
        let (runner, mut capd) = ends();
        rustix::net::send(&runner, &[], SendFlags::empty()).unwrap();
        assert!(matches!(capd.receive(None), Err(ReceiveError::Malformed)));
        rustix::net::shutdown(&runner, Shutdown::Write).unwrap();
        assert!(matches!(capd.receive(None), Err(ReceiveError::Malformed)));
        drop(runner);
        assert!(matches!(capd.receive(None), Err(ReceiveError::Closed)));
    }

    #[test]
    fn who_waits_for_the_close_takes_nothing_more() {
        let (runner, capd) = ends();
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| capd.wait_for_close());
            let refused = (0..1_000_000).any(|_| matches!(runner.send(&Request::Claim, &[]), Err(SendError::Closed)));
            assert!(refused && !waiting.is_finished());
            drop(runner);
        });
    }

    #[test]
    fn answers_that_nobody_reads_do_not_hold_up_who_sends_them() {
        let (_runner, capd) = ends();
        let refused = (0..100_000).find_map(|_| capd.send(&Err(Error::NotAllowed), &[]).err());
        assert!(matches!(refused, Some(SendError::Full)));
    }
}

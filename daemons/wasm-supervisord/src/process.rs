//! A runner as a process: made, spoken to, listened to, and reaped. Owns the descriptors; knows nothing of payloads.

use std::{
    io::{self, IoSlice},
    mem::MaybeUninit,
    os::{
        fd::{BorrowedFd, OwnedFd},
        unix::process::ExitStatusExt,
    },
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::Once,
};

use rustix::{
    io::Errno,
    net::{AddressFamily, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags, SocketType},
    process::{Pid, PidfdFlags, Signal},
};
use tokio::{io::unix::AsyncFd, net::unix::pipe};

use crate::protocol::{FromRunner, MAX_FROM_RUNNER, Malformed, ToRunner};
use crate::spawner;

/// What went wrong with which step.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The sockets and pipes.
    #[error("could not make a runner's descriptors")]
    Descriptors(#[source] io::Error),
    /// The program.
    #[error("could not run {}", path.display())]
    Spawn {
        /// Which.
        path: PathBuf,
        /// The cause.
        #[source]
        err: io::Error,
    },
    /// A message.
    #[error("could not send to the runner")]
    Send(#[source] io::Error),
    /// A manifest that is too long for one message.
    #[error("the payload's environment and capabilities are too long to hand over")]
    TooLong,
}

/// A runner.
#[derive(Debug)]
pub struct Process {
    child: Child,
    pidfd: AsyncFd<OwnedFd>,
    control: AsyncFd<OwnedFd>,
    /// Its standard output; gone at its end.
    pub stdout: Option<pipe::Receiver>,
    /// Its standard error; gone at its end.
    pub stderr: Option<pipe::Receiver>,
    status: Option<ExitStatus>,
}

impl Process {
    /// Start the program. It inherits a control socket as standard input and two pipes, and nothing else; it waits for
    /// [`ToRunner::Setup`].
    ///
    /// # Errors
    /// The system is out of something, or the program is not there.
    pub fn spawn(program: &Path) -> Result<Self, Error> {
        // What we make is closed at exec anyway; what we were started with by somebody careless is not.
        static INHERITED: Once = Once::new();
        INHERITED.call_once(|| close_fds::set_fds_cloexec_threadsafe(3, &[]));
        let failed = Error::Descriptors;
        let (ours, theirs) =
            rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
                .map_err(|err| failed(err.into()))?;
        rustix::io::ioctl_fionbio(&ours, true).map_err(|err| failed(err.into()))?;
        let mut command = Command::new(program);
        command.env_clear().current_dir("/").stdin(Stdio::from(theirs)).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = spawner::spawn(command).map_err(|err| Error::Spawn { path: program.to_owned(), err })?;
        let adopt = |child: &mut Child| {
            let pidfd = watch(rustix::process::pidfd_open(Pid::from_child(child), PidfdFlags::empty())?)?;
            let stdout = child.stdout.take().map(|out| pipe::Receiver::from_owned_fd(out.into())).transpose()?;
            let stderr = child.stderr.take().map(|err| pipe::Receiver::from_owned_fd(err.into())).transpose()?;
            Ok((pidfd, watch(ours)?, stdout, stderr))
        };
        match adopt(&mut child) {
            Ok((pidfd, control, stdout, stderr)) => Ok(Self { child, pidfd, control, stdout, stderr, status: None }),
            Err(err) => {
                // Without its descriptors it is of no use.
                let _ = child.kill();
                let _ = child.wait();
                Err(Error::Descriptors(err))
            }
        }
    }

    /// Its process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Say something, with descriptors beside it if need be: at most two, a module and a session. A runner's socket has
    /// room for all that we say in its life, so this does not wait.
    ///
    /// # Errors
    /// The runner is gone, or the message is too long.
    pub fn send(&self, message: &ToRunner, fds: &[BorrowedFd<'_>]) -> Result<(), Error> {
        let packet = message.encode().ok_or(Error::TooLong)?;
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
        let mut beside = SendAncillaryBuffer::new(&mut space);
        if !fds.is_empty() && !beside.push(SendAncillaryMessage::ScmRights(fds)) {
            return Err(Error::TooLong);
        }
        let slices = [IoSlice::new(&packet)];
        rustix::net::sendmsg(&self.control, &slices, &mut beside, SendFlags::NOSIGNAL | SendFlags::DONTWAIT)
            .map_err(|err| Error::Send(err.into()))?;
        Ok(())
    }

    /// The next message; `None` when the runner has closed its end.
    pub async fn receive(&self) -> Option<Result<FromRunner, Malformed>> {
        loop {
            let Ok(mut ready) = self.control.readable().await else { return None };
            match ready.try_io(|control| receive(control.get_ref())) {
                Ok(Ok(message)) => return message,
                Ok(Err(_)) => return None,
                Err(_would_block) => {}
            }
        }
    }

    /// The next message that has come already.
    pub fn try_receive(&self) -> Option<Result<FromRunner, Malformed>> {
        receive(self.control.get_ref()).ok().flatten()
    }

    /// Wait until it has gone; [`Self::reap`] then does not wait.
    pub async fn gone(&self) {
        // It fails only when the runtime ends; reaping is right then too.
        let _ = self.pidfd.readable().await.map(|mut ready| ready.retain_ready());
    }

    /// How it left. Waits for its end.
    pub fn reap(&mut self) -> ExitStatus {
        *self.status.get_or_insert_with(|| {
            // It cannot fail for a child of ours that nobody else waits for.
            self.child.wait().unwrap_or_else(|_| ExitStatus::from_raw(Signal::KILL.as_raw()))
        })
    }

    /// End it, and give what it wrote to standard error: why it took no message.
    pub fn last_words(&mut self) -> String {
        self.kill();
        self.reap();
        let mut words = [0; 1024];
        let length = self.stderr.as_ref().and_then(|stderr| stderr.try_read(&mut words).ok()).unwrap_or(0);
        String::from_utf8_lossy(&words[..length]).trim().to_owned()
    }

    /// End it at once.
    pub fn kill(&self) {
        if self.status.is_none() {
            // It fails only for one that is gone.
            let _ = rustix::process::pidfd_send_signal(self.pidfd.get_ref(), Signal::KILL);
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.status.is_none() {
            self.kill();
            let _ = self.child.wait();
        }
    }
}

/// Watch a descriptor with the event loop.
#[expect(
    deprecated,
    reason = "its unsafe successor asks that the descriptor stay open while it is watched; an OwnedFd sees to that"
)]
fn watch(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    AsyncFd::new(fd)
}

fn receive(control: &OwnedFd) -> io::Result<Option<Result<FromRunner, Malformed>>> {
    let mut packet = [0; MAX_FROM_RUNNER + 1];
    loop {
        return match rustix::net::recv(control, &mut packet[..], RecvFlags::DONTWAIT) {
            // No message of ours is empty.
            Ok((0, _)) => Ok(None),
            Ok((n, _)) => Ok(Some(FromRunner::decode(&packet[..n.min(packet.len())]))),
            Err(Errno::INTR) => continue,
            Err(err) => Err(err.into()),
        };
    }
}

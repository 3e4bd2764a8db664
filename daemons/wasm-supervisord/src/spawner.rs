//! Starts each runner from a thread of its own that has given up what no runner may have: a process begins with the filters
//! and the Landlock domain of the thread that made it, so they hold before its first instruction and whatever program it
//! is. A thread for each, because what one thread starts is in one domain, and runners are nothing to each other.

use std::{
    io,
    process::{Child, Command},
    thread,
};

use iotwasm_kit::report;

use crate::sandbox::children;

/// It makes one process.
const STACK: usize = 128 * 1024;

/// Start a program. A command that the standard library cannot start with posix_spawn (another user, something to do before
/// exec, a name to be looked for in another PATH) is refused: the other way takes a pair of sockets.
///
/// # Errors
/// It is not there, the system is out of something, or it could not be confined.
pub fn spawn(mut command: Command) -> io::Result<Child> {
    let start = move || {
        children::give_up().map_err(|err| io::Error::other(report::chain(&err)))?;
        command.spawn()
    };
    let thread = thread::Builder::new().name("spawner".into()).stack_size(STACK).spawn(start)?;
    thread.join().map_err(|_| io::Error::other("the thread that starts programs has panicked"))?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_start_one_after_the_other_and_a_missing_one_is_an_error() {
        for _ in 0..3 {
            let mut child = spawn(Command::new("true")).unwrap();
            assert!(child.wait().unwrap().success());
        }
        let missing = spawn(Command::new("/nonexistent")).unwrap_err();
        assert_eq!(missing.kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn what_is_started_makes_no_socket_and_this_process_still_does() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        let _listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
        let connect = format!("import socket; socket.socket(socket.AF_UNIX).connect({:?})", path.display().to_string());
        let pair = "import socket; socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)";
        // getpid() of the x32 ABI.
        let x32 = "import ctypes; c = ctypes.CDLL(None, use_errno=True); c.syscall(0x40000027); \
                   raise OSError(ctypes.get_errno(), 'x32')";
        for attempt in [&*connect, pair, x32] {
            let mut command = Command::new("python3");
            command.args(["-c", attempt]).stderr(std::process::Stdio::piped());
            let output = spawn(command).unwrap().wait_with_output().unwrap();
            let words = String::from_utf8_lossy(&output.stderr);
            assert!(!output.status.success() && words.contains("PermissionError"), "{words}");
        }
        assert!(std::os::unix::net::UnixStream::connect(&path).is_ok());
    }

    #[test]
    fn what_is_started_does_not_look_into_another_that_was() {
        if !crate::sandbox::is_available() {
            eprintln!("SKIPPED: this kernel has no Landlock");
            return;
        }
        let mut other = Command::new("sleep");
        other.arg("60");
        let mut other = spawn(other).unwrap();
        let open = format!("open('/proc/{}/mem', 'rb')", other.id());
        let look = || {
            let mut command = Command::new("python3");
            command.args(["-c", &open]).stderr(std::process::Stdio::piped());
            command
        };
        let without = look().output().unwrap();
        let within = spawn(look()).unwrap().wait_with_output().unwrap();
        other.kill().unwrap();
        other.wait().unwrap();
        assert!(without.status.success(), "{}", String::from_utf8_lossy(&without.stderr));
        let words = String::from_utf8_lossy(&within.stderr);
        assert!(words.contains("PermissionError"), "{words}");
    }
}

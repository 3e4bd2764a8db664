//! Starts runners from a thread that has given up what no runner may have: a process begins with the filters of the thread
//! that made it, so they hold before its first instruction and whatever program it is.

use std::{
    io,
    process::{Child, Command},
    sync::{Mutex, OnceLock, PoisonError, mpsc},
    thread,
};

use iotwasm_kit::report;

use crate::sandbox::children;

/// It makes processes and waits.
const STACK: usize = 128 * 1024;

struct Order {
    command: Command,
    made: mpsc::SyncSender<io::Result<Child>>,
}

/// Start a program.
///
/// # Errors
/// It is not there, the system is out of something, or the filter could not be installed: then nothing is ever started.
pub fn spawn(command: Command) -> io::Result<Child> {
    static ORDERS: OnceLock<Mutex<mpsc::Sender<Order>>> = OnceLock::new();
    let orders = match ORDERS.get() {
        Some(orders) => orders,
        None => {
            let (orders, received) = mpsc::channel();
            thread::Builder::new().name("spawner".into()).stack_size(STACK).spawn(move || serve(&received))?;
            ORDERS.get_or_init(|| Mutex::new(orders))
        }
    };
    let (made, child) = mpsc::sync_channel(1);
    let lost = || io::Error::other("the thread that starts programs has ended");
    orders.lock().unwrap_or_else(PoisonError::into_inner).send(Order { command, made }).map_err(|_| lost())?;
    child.recv().map_err(|_| lost())?
}

fn serve(orders: &mpsc::Receiver<Order>) {
    let confined = children::give_up();
    // It ends with the process: the sender lives in a static.
    for Order { mut command, made } in orders {
        let child = match &confined {
            Ok(()) => command.spawn(),
            Err(err) => Err(io::Error::other(report::chain(err))),
        };
        // Nobody waits any more: then nobody wants the child either.
        if let Err(mpsc::SendError(Ok(mut child))) = made.send(child) {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
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
        let mut command = Command::new("python3");
        command.args(["-c", &connect]).stderr(std::process::Stdio::piped());
        let output = spawn(command).unwrap().wait_with_output().unwrap();
        let words = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && words.contains("PermissionError"), "{words}");
        assert!(std::os::unix::net::UnixStream::connect(&path).is_ok());
    }
}

//! The harness' hands inside the device: runs what it is told over one virtio-serial port, as root. In the test image
//! only; a product image never carries it. One request at a time, no state.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use qemu_tests::protocol::{Action, Outcome, Reply, Request, receive, send};

/// How often a port without a peer, and a program with a time limit, is looked at.
const POLL: Duration = Duration::from_millis(20);

fn main() -> ExitCode {
    let Some(path) = std::env::args().nth(1) else {
        eprintln!("usage: qemu-agent PORT");
        return ExitCode::from(64);
    };
    // Once, for both directions: the kernel gives a port to one opener at a time.
    match OpenOptions::new().read(true).write(true).open(&path) {
        Ok(port) => serve(Port(port)),
        Err(e) => {
            eprintln!("could not open {path}: {e}");
            ExitCode::from(69)
        }
    }
}

/// The port, waiting where it would report the end of a file: nobody is connected yet, or again.
struct Port(File);

impl Read for Port {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.0.read(buffer)? {
                0 => thread::sleep(POLL),
                n => return Ok(n),
            }
        }
    }
}

fn serve(mut port: Port) -> ExitCode {
    loop {
        let outcome = receive::<Request>(&mut port).and_then(|(request, body)| {
            let (outcome, body) = match act(&request.action, &body) {
                Ok(done) => done,
                Err(e) => (Outcome::Failed { message: e.to_string() }, Vec::new()),
            };
            send(&mut port.0, &Reply { id: request.id, outcome }, &body)
        });
        if let Err(e) = outcome {
            eprintln!("request dropped: {e}");
        }
    }
}

fn act(action: &Action, body: &[u8]) -> io::Result<(Outcome, Vec<u8>)> {
    match action {
        Action::Ping => Ok((Outcome::Done, Vec::new())),
        Action::Exec { argv, timeout_ms } => exec(argv, body, Duration::from_millis(*timeout_ms)),
        Action::Put { path, mode } => {
            if let Some(folder) = Path::new(path).parent() {
                fs::create_dir_all(folder)?;
            }
            let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(*mode).open(path)?;
            file.write_all(body)?;
            file.set_permissions(fs::Permissions::from_mode(*mode))?;
            Ok((Outcome::Done, Vec::new()))
        }
        Action::Get { path } => Ok((Outcome::Done, fs::read(path)?)),
    }
}

fn exec(argv: &[String], stdin: &[u8], limit: Duration) -> io::Result<(Outcome, Vec<u8>)> {
    let (program, arguments) = argv.split_first().ok_or_else(|| io::Error::other("no program"))?;
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let input = child.stdin.take();
    let stdin = stdin.to_vec();
    // A program that does not read its input is no error.
    let writer = thread::spawn(move || input.map(|mut pipe| pipe.write_all(&stdin)));
    let stdout = drain(child.stdout.take());
    let stderr = drain(child.stderr.take());
    let (status, timed_out) = wait(&mut child, limit)?;
    let mut body = stdout.join().unwrap_or_default();
    let length = body.len();
    body.extend(stderr.join().unwrap_or_default());
    let _ = writer.join();
    let code = status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0));
    Ok((Outcome::Ended { code, stdout: length, timed_out }, body))
}

fn drain(pipe: Option<impl Read + Send + 'static>) -> thread::JoinHandle<Vec<u8>> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(mut pipe) = pipe {
            let _ = pipe.read_to_end(&mut bytes);
        }
        bytes
    })
}

fn wait(child: &mut Child, limit: Duration) -> io::Result<(std::process::ExitStatus, bool)> {
    let started = Instant::now();
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok((status, false));
        }
        if started.elapsed() > limit {
            child.kill()?;
            return Ok((child.wait()?, true));
        }
        thread::sleep(POLL);
    }
}

//! What a payload says, into the journal under the payload's name (systemd's native journal protocol). Where there is no
//! journal, to standard error with the name in front.
//!
//! Owns the escaping and the rate: a payload can neither forge a field or a terminal sequence, nor fill the journal.

use std::{fmt::Write as _, io, os::unix::net::UnixDatagram, path::Path, rc::Rc, time::Instant};

use iotwasm_kit::log::Level;

use crate::bucket::Bucket;

/// The journal's socket.
const SOCKET: &str = "/run/systemd/journal/socket";
/// Longest line, in bytes before escaping; the rest starts a new line.
pub const MAX_LINE: usize = 2048;
/// Lines of one payload at once, and then for each second: far above what a working payload says.
const BURST: u32 = 200;
const PER_SECOND: u32 = 20;

/// The way to the journal.
#[derive(Debug)]
pub struct Journal {
    socket: Option<UnixDatagram>,
}

impl Journal {
    /// The system's journal, if it is there.
    #[must_use]
    pub fn open() -> Rc<Self> {
        Rc::new(Self::at(Path::new(SOCKET)))
    }

    /// The journal that listens there, if it does.
    #[must_use]
    pub fn at(path: &Path) -> Self {
        let connect = || {
            let socket = UnixDatagram::unbound()?;
            socket.connect(path)?;
            // A journal that is busy loses our lines; it must not hold up the supervisor.
            socket.set_nonblocking(true)?;
            io::Result::Ok(socket)
        };
        Self { socket: connect().ok() }
    }

    fn write(&self, payload: &str, level: Level, text: &str) -> io::Result<()> {
        match &self.socket {
            Some(socket) => socket.send(entry(payload, level, text).as_bytes()).map(drop),
            None => {
                iotwasm_kit::log::line(level, format_args!("payload-{payload}: {text}"));
                Ok(())
            }
        }
    }
}

/// One entry. The text has no line feed, so the simple form of the protocol does.
fn entry(payload: &str, level: Level, text: &str) -> String {
    format!(
        "MESSAGE={text}\nPRIORITY={}\nSYSLOG_IDENTIFIER=payload-{payload}\nIOTWASM_PAYLOAD={payload}\n",
        level as u8
    )
}

/// Text that is safe in a line and on a terminal: control characters and what reorders text are written as escapes.
#[must_use]
pub fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\t' => out.push(c),
            // Directional marks and overrides: they would show a line in another order than it was written.
            '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => {
                // Writing to a String cannot fail.
                let _ = write!(out, "\\u{{{:x}}}", c as u32);
            }
            c if c.is_control() || c == '\u{2028}' || c == '\u{2029}' => {
                let _ = write!(out, "\\u{{{:x}}}", c as u32);
            }
            c => out.push(c),
        }
    }
    out
}

/// One payload's voice in the journal.
#[derive(Debug)]
pub struct Voice {
    journal: Rc<Journal>,
    payload: String,
    bucket: Bucket,
}

impl Voice {
    /// Of this payload.
    #[must_use]
    pub fn new(journal: Rc<Journal>, payload: &str, now: Instant) -> Self {
        Self { journal, payload: payload.to_owned(), bucket: Bucket::new(BURST, PER_SECOND, now) }
    }

    /// Write the lines of a text.
    pub fn say(&mut self, level: Level, text: &str, now: Instant) {
        for line in text.split('\n') {
            let mut rest = line.trim_end_matches('\r');
            loop {
                let (head, tail) = rest.split_at(rest.floor_char_boundary(MAX_LINE));
                self.line(level, head, now);
                rest = tail;
                if rest.is_empty() {
                    break;
                }
            }
        }
    }

    fn line(&mut self, level: Level, line: &str, now: Instant) {
        if line.is_empty() || !self.bucket.take(now) {
            return;
        }
        if let Some(count) = self.bucket.dropped() {
            let text = format!("(left out {count} lines: this payload writes too much)");
            // What follows tells by itself whether the journal takes anything.
            let _ = self.journal.write(&self.payload, Level::Warning, &text);
        }
        if self.journal.write(&self.payload, level, &escape(line)).is_err() {
            self.bucket.lost();
        }
    }
}

/// Bytes of a pipe on their way to become lines.
#[derive(Debug, Default)]
pub struct Lines {
    pending: Vec<u8>,
}

impl Lines {
    /// Take in bytes; give out each line that is whole, or too long to wait for its end.
    pub fn push(&mut self, bytes: &[u8], mut line: impl FnMut(&str)) {
        for part in bytes.split_inclusive(|b| *b == b'\n') {
            let mut part = part;
            while self.pending.len() + part.len() > MAX_LINE {
                let (head, tail) = part.split_at(MAX_LINE - self.pending.len());
                self.pending.extend_from_slice(head);
                self.flush(&mut line);
                part = tail;
            }
            self.pending.extend_from_slice(part);
            if self.pending.ends_with(b"\n") {
                self.flush(&mut line);
            }
        }
    }

    /// Give out what is left at the end.
    pub fn flush(&mut self, line: &mut impl FnMut(&str)) {
        let text = self.pending.strip_suffix(b"\n").unwrap_or(&self.pending);
        if !text.is_empty() {
            line(&String::from_utf8_lossy(text));
        }
        self.pending.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn received(socket: &UnixDatagram) -> Vec<String> {
        socket.set_nonblocking(true).unwrap();
        let mut buffer = [0; 16384];
        std::iter::from_fn(|| socket.recv(&mut buffer).ok().map(|n| String::from_utf8(buffer[..n].to_vec()).unwrap()))
            .collect()
    }

    fn with_journal() -> (tempfile::TempDir, UnixDatagram, Rc<Journal>) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("socket");
        let socket = UnixDatagram::bind(&path).unwrap();
        let journal = Rc::new(Journal::at(&path));
        (dir, socket, journal)
    }

    #[test]
    fn a_line_carries_the_payload_and_its_priority_and_cannot_forge_a_field() {
        let (_dir, socket, journal) = with_journal();
        let now = Instant::now();
        let mut voice = Voice::new(journal, "blinky", now);
        voice.say(Level::Warning, "hot\u{1b}[31m\rx\nPRIORITY=0\n\n\u{202e}", now);
        let expected = |text: &str| {
            format!("MESSAGE={text}\nPRIORITY=4\nSYSLOG_IDENTIFIER=payload-blinky\nIOTWASM_PAYLOAD=blinky\n")
        };
        assert_eq!(
            received(&socket),
            [expected("hot\\u{1b}[31m\\u{d}x"), expected("PRIORITY=0"), expected("\\u{202e}")]
        );
    }

    #[test]
    fn who_writes_too_much_is_cut_and_the_count_is_told() {
        let (_dir, socket, journal) = with_journal();
        let now = Instant::now();
        let mut voice = Voice::new(journal, "p", now);
        for _ in 0..BURST + 7 {
            voice.say(Level::Info, "x", now);
            // Emptied as we go: a test's socket has room for few.
            received(&socket);
        }
        voice.say(Level::Info, "later", now + std::time::Duration::from_secs(1));
        let last = received(&socket);
        assert!(last[0].contains("left out 7 lines"), "{last:?}");
        assert!(last[1].contains("MESSAGE=later"));
    }

    #[test]
    fn without_a_journal_nothing_is_lost_or_fails() {
        let dir = tempfile::tempdir().unwrap();
        let journal = Journal::at(&dir.path().join("none"));
        journal.write("p", Level::Info, "to standard error").unwrap();
    }

    proptest! {
        #[test]
        fn lines_come_out_whole_however_the_pipe_cuts_them(
            lines in prop::collection::vec("[a-zä]{1,40}", 0..20), cut in 1..17usize
        ) {
            let text = lines.iter().map(|line| format!("{line}\n")).collect::<String>();
            let (mut pipe, mut seen) = (Lines::default(), Vec::new());
            for chunk in text.as_bytes().chunks(cut) {
                pipe.push(chunk, |line| seen.push(line.to_owned()));
            }
            prop_assert_eq!(seen, lines);
        }

        #[test]
        fn escaped_text_has_no_control_character_but_tab(text: String) {
            prop_assert!(escape(&text).chars().all(|c| c == '\t' || !c.is_control()));
        }

        #[test]
        fn a_line_without_end_is_bounded(bytes in prop::collection::vec(1..=255u8, 0..10_000)) {
            let mut pipe = Lines::default();
            pipe.push(&bytes, |line| assert!(line.len() <= MAX_LINE * 3));
            prop_assert!(pipe.pending.len() <= MAX_LINE);
        }
    }
}

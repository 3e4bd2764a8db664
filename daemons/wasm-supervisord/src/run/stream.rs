//! What a runner's pipes bring, into the journal line by line.

use std::time::Instant;

use iotwasm_kit::log::Level;
use tokio::{io::AsyncReadExt, net::unix::pipe};

use crate::journal::{Lines, Voice};

/// A pipe on its way to the journal.
pub(super) struct Stream {
    pipe: Option<pipe::Receiver>,
    buffer: Vec<u8>,
    lines: Lines,
}

impl Stream {
    pub(super) fn new(pipe: &mut Option<pipe::Receiver>) -> Self {
        Self { pipe: pipe.take(), buffer: Vec::with_capacity(4096), lines: Lines::default() }
    }

    /// Some bytes have come. Safe to give up halfway: nothing is taken out before it resolves.
    pub(super) async fn read(&mut self) {
        self.buffer.clear();
        match &mut self.pipe {
            Some(pipe) => {
                if !matches!(pipe.read_buf(&mut self.buffer).await, Ok(n) if n > 0) {
                    self.pipe = None;
                }
            }
            None => std::future::pending().await,
        }
    }

    pub(super) fn speak(&mut self, voice: &mut Voice, level: Level) {
        let now = Instant::now();
        self.lines.push(&self.buffer, |line| voice.say(level, line, now));
    }

    /// What is left when the process has gone: at most what a pipe holds.
    pub(super) fn finish(&mut self, voice: &mut Voice, level: Level) {
        let now = Instant::now();
        let mut bytes = [0; 4096];
        while let Some(Ok(n @ 1..)) = self.pipe.as_ref().map(|pipe| pipe.try_read(&mut bytes)) {
            self.lines.push(&bytes[..n], |line| voice.say(level, line, now));
        }
        self.lines.flush(&mut |line: &str| voice.say(level, line, now));
    }
}

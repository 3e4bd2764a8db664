//! What RAUC will ask for next. It reads a bundle in long runs, a block after the other, waits for each, and writes it before
//! it asks for the next: a mirror that is far away would be waited for hundreds of times. So while it is busy with one
//! block, those behind it are on their way.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::watch;

/// Bytes in a row from which on a run counts as one.
const RUN: u64 = 512 * 1024;
/// Furthest that is fetched ahead, and never more than a quarter of what was asked for in that run: what RAUC turns out to
/// have already is fetched in vain.
const FURTHEST: u64 = 512 * 1024;
/// Longest transfer of what is ahead.
const CHUNK: u64 = 128 * 1024;
/// Runs that are followed at a time: RAUC reads the hashes of a bundle between its data.
const RUNS: usize = 8;
/// Runs that are remembered: what was asked for before is not asked for again.
const KNOWN: usize = 1024;
/// Chunks that are kept at a time.
const CHUNKS: usize = 12;

/// Bytes asked for in a row.
#[derive(Debug)]
struct Run {
    start: u64,
    /// Of what was asked for.
    end: u64,
    /// Of what is fetched, asked for or not.
    ahead: u64,
}

/// The runs in what is asked for.
#[derive(Debug, Default)]
pub(super) struct Runs {
    /// The newest last.
    runs: VecDeque<Run>,
}

impl Runs {
    /// Takes note that a range is asked for; gives what to fetch ahead of it, none of it beyond `limit`.
    pub(super) fn ask(&mut self, range: &Range<u64>, limit: u64) -> Vec<Range<u64>> {
        let mut run = Run { start: range.start, end: range.end, ahead: range.end };
        // In a row on both sides: two that are asked for at once may come in any order.
        if let Some(before) = self.take(|other| other.end == range.start) {
            (run.start, run.ahead) = (before.start, run.ahead.max(before.ahead));
        }
        if let Some(after) = self.take(|other| other.start == range.end) {
            (run.end, run.ahead) = (after.end, run.ahead.max(after.ahead));
        }
        let length = run.end - run.start;
        let mut chunks = Vec::new();
        if length >= RUN {
            let known = self.runs.iter().map(|other| other.start).filter(|start| *start >= run.end).min();
            let limit = known.unwrap_or(limit).min(limit);
            let to = (run.end + FURTHEST.min(length / 4)).min(limit);
            // Whole chunks, so that there are few requests; what is left at the limit.
            while run.ahead + CHUNK <= to || (to == limit && run.ahead < to) {
                let end = (run.ahead + CHUNK).min(to);
                chunks.push(run.ahead..end);
                run.ahead = end;
            }
        }
        self.runs.push_back(run);
        if self.runs.len() > KNOWN {
            self.runs.pop_front();
        }
        chunks
    }

    /// One of those that are followed, if there is such a one.
    fn take(&mut self, is_it: impl Fn(&Run) -> bool) -> Option<Run> {
        let oldest = self.runs.len().saturating_sub(RUNS);
        let at = (oldest..self.runs.len()).find(|at| self.runs.get(*at).is_some_and(&is_it))?;
        self.runs.remove(at)
    }
}

/// A range that is fetched ahead, as it comes.
#[derive(Debug)]
pub(super) struct Chunk {
    range: Range<u64>,
    /// Whether its transfer has begun.
    begun: AtomicBool,
    bytes: Mutex<Vec<u8>>,
    arrived: watch::Receiver<usize>,
}

/// Where a chunk's bytes go.
#[derive(Debug)]
pub(super) struct Filling {
    chunk: Arc<Chunk>,
    arrived: watch::Sender<usize>,
}

impl Chunk {
    pub(super) fn end(&self) -> u64 {
        self.range.end
    }

    /// Whether its bytes are on their way. One that still waits for its turn is not to be waited for.
    pub(super) fn has_begun(&self) -> bool {
        self.begun.load(Ordering::Relaxed)
    }

    /// What has come of a range within, from its beginning on; waits for the first byte. None if that never comes.
    pub(super) async fn part(&self, range: &Range<u64>) -> Option<Vec<u8>> {
        let within = |at: u64| usize::try_from(at.saturating_sub(self.range.start)).unwrap_or(usize::MAX);
        let (from, to) = (within(range.start), within(range.end));
        let has = *self.arrived.clone().wait_for(|has| *has > from).await.ok()?;
        let bytes = self.bytes.lock().unwrap_or_else(PoisonError::into_inner);
        bytes.get(from..to.min(has)).map(<[u8]>::to_vec)
    }
}

impl Filling {
    pub(super) fn range(&self) -> Range<u64> {
        self.chunk.range.clone()
    }

    /// Its turn has come; false if nobody will ask for it any more.
    pub(super) fn begin(&self) -> bool {
        self.chunk.begun.store(true, Ordering::Relaxed);
        self.is_wanted()
    }

    fn is_wanted(&self) -> bool {
        Arc::strong_count(&self.chunk) > 1
    }

    /// Takes the next bytes; false if nobody will ask for them any more.
    pub(super) fn push(&self, piece: &[u8]) -> bool {
        if !self.is_wanted() {
            return false;
        }
        let mut bytes = self.chunk.bytes.lock().unwrap_or_else(PoisonError::into_inner);
        bytes.extend_from_slice(piece);
        self.arrived.send_replace(bytes.len());
        true
    }
}

/// What was fetched ahead and may be asked for.
#[derive(Debug, Default)]
pub(super) struct Store {
    /// The newest last.
    chunks: VecDeque<Arc<Chunk>>,
}

impl Store {
    /// A new chunk, which is there from now on; the oldest may go for it.
    pub(super) fn open(&mut self, range: Range<u64>) -> Filling {
        let (sender, arrived) = watch::channel(0);
        let bytes = Mutex::new(Vec::with_capacity(CHUNK as usize));
        let chunk = Chunk { range, begun: AtomicBool::new(false), bytes, arrived };
        let filling = Filling { chunk: Arc::new(chunk), arrived: sender };
        self.chunks.push_back(Arc::clone(&filling.chunk));
        if self.chunks.len() > CHUNKS {
            self.chunks.pop_front();
        }
        filling
    }

    /// The chunk that has this byte.
    pub(super) fn at(&self, at: u64) -> Option<Arc<Chunk>> {
        self.chunks.iter().find(|chunk| chunk.range.contains(&at)).cloned()
    }

    /// Where the first chunk behind this byte begins.
    pub(super) fn after(&self, at: u64) -> Option<u64> {
        self.chunks.iter().map(|chunk| chunk.range.start).filter(|start| *start > at).min()
    }

    /// It is of no use: its transfer failed, or comes too late.
    pub(super) fn forget(&mut self, chunk: &Arc<Chunk>) {
        self.chunks.retain(|other| !Arc::ptr_eq(other, chunk));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const BLOCK: u64 = 64 * 1024;
    const LIMIT: u64 = 48_000_000;

    /// Everything that is fetched ahead when these are asked for.
    fn ahead(asked: impl IntoIterator<Item = Range<u64>>) -> Vec<Range<u64>> {
        let mut runs = Runs::default();
        asked.into_iter().flat_map(|range| runs.ask(&range, LIMIT)).collect()
    }

    fn blocks(numbers: impl IntoIterator<Item = u64>) -> impl Iterator<Item = Range<u64>> {
        numbers.into_iter().map(|n| n * BLOCK..((n + 1) * BLOCK).min(LIMIT))
    }

    #[test]
    fn what_is_scattered_has_nothing_ahead() {
        assert_eq!(ahead(blocks((0..200).map(|n| n * 7 % 200 * 3))), []);
        assert_eq!(ahead(blocks([5, 6, 7, 20, 21, 22, 40, 41, 42])), []);
    }

    #[test]
    fn a_run_is_fetched_to_the_end_and_nothing_twice() {
        let mut chunks = ahead(blocks(0..LIMIT.div_ceil(BLOCK)));
        assert_eq!(chunks.first(), Some(&(8 * BLOCK..8 * BLOCK + CHUNK)));
        for pair in chunks.windows(2) {
            assert_eq!(pair[0].end, pair[1].start);
        }
        assert_eq!(chunks.pop().map(|last| last.end), Some(LIMIT));
    }

    #[test]
    fn what_was_asked_for_before_is_not_fetched_ahead() {
        let known = blocks([30, 50, 51]).collect::<Vec<_>>();
        let first = blocks((500..500 + RUNS as u64 * 2).step_by(2));
        let chunks = ahead(known.into_iter().chain(first).chain(blocks(0..29)));
        assert_eq!(chunks.last().map(|last| last.end), Some(30 * BLOCK));
    }

    #[test]
    fn a_run_goes_on_beside_others_and_in_any_order() {
        let swapped = (0..40u64).flat_map(|n| [2 * n + 1, 2 * n]);
        assert!(ahead(blocks(swapped)).len() > 20);
        let between = (0..60u64).flat_map(|n| [n, 400 - 2 * n]);
        let chunks = ahead(blocks(between));
        assert!(chunks.len() > 20 && chunks.iter().all(|chunk| chunk.end <= 70 * BLOCK), "{chunks:?}");
    }

    proptest! {
        #[test]
        fn ahead_is_bounded_by_the_run_and_the_limit(
            asked in proptest::collection::vec((0..60u64, 1..6u64), 1..80), limit in 1..70u64
        ) {
            let limit = limit * BLOCK;
            let mut runs = Runs::default();
            for (from, length) in asked {
                let range = from * BLOCK..((from + length) * BLOCK).min(limit);
                if range.is_empty() {
                    continue;
                }
                let chunks = runs.ask(&range, limit);
                let run = runs.runs.back().unwrap();
                prop_assert!(run.start <= range.start && run.end >= range.end);
                for chunk in &chunks {
                    prop_assert!(chunk.start < chunk.end && chunk.end <= limit && chunk.end - chunk.start <= CHUNK);
                    prop_assert!(chunk.start >= range.end);
                    prop_assert!(chunk.end <= run.end + FURTHEST.min((run.end - run.start) / 4));
                }
                prop_assert!(runs.runs.len() <= KNOWN);
            }
        }
    }

    #[tokio::test]
    async fn a_chunk_gives_what_has_come_and_waits_for_the_rest() {
        let mut store = Store::default();
        let filling = store.open(100..110);
        assert_eq!((store.after(3), store.after(100)), (Some(100), None));
        assert!(store.at(99).is_none() && store.at(110).is_none());
        let chunk = store.at(104).unwrap();
        filling.push(b"012345");
        assert_eq!(chunk.part(&(102..110)).await.as_deref(), Some(b"2345".as_slice()));
        let waiting = tokio::spawn({
            let chunk = Arc::clone(&chunk);
            async move { chunk.part(&(106..108)).await }
        });
        tokio::task::yield_now().await;
        filling.push(b"6789");
        assert_eq!(waiting.await.unwrap().as_deref(), Some(b"67".as_slice()));
        drop(filling);
        assert_eq!(chunk.part(&(100..101)).await.as_deref(), Some(b"0".as_slice()));
    }

    #[tokio::test]
    async fn a_chunk_whose_transfer_ended_early_says_so() {
        let mut store = Store::default();
        let filling = store.open(0..10);
        filling.push(b"01");
        let chunk = store.at(5).unwrap();
        drop(filling);
        assert_eq!(chunk.part(&(1..10)).await.as_deref(), Some(b"1".as_slice()));
        assert_eq!(chunk.part(&(2..10)).await, None);
        store.forget(&chunk);
        assert!(store.at(5).is_none());
    }

    #[test]
    fn a_chunk_that_nobody_asks_for_any_more_is_not_begun() {
        let mut store = Store::default();
        let filling = store.open(0..10);
        assert!(!store.at(5).unwrap().has_begun());
        assert!(filling.begin() && store.at(5).unwrap().has_begun());
        for n in 1..=CHUNKS as u64 {
            store.open(n * 10..(n + 1) * 10);
        }
        assert!(store.at(5).is_none() && !filling.begin() && !filling.push(b"0"));
    }
}

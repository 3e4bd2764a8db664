//! The attempts of this device, newest last: a bounded list that survives a power cut.
//!
//! The list itself is pure; [`Journal::load`] and [`Journal::save`] are its only edges. A damaged file is set aside and
//! never fatal: history informs, the slots decide.

use std::path::Path;

use iotwasm_api::ota::{Attempt, Level, Outcome};
use iotwasm_kit::{atomic, report, warn};
use serde::{Deserialize, Serialize};

/// Most attempts kept; the oldest is forgotten first.
const MAX_ATTEMPTS: usize = 200;
/// Longest message kept, in bytes: it may quote what a payload or a server said.
const MAX_MESSAGE: usize = 2000;
/// Longest history file read, in bytes: what the bounds above allow, with room.
const MAX_FILE: u64 = 2 * 1024 * 1024;

/// The attempts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Journal {
    next: i64,
    entries: Vec<Entry>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Entry {
    attempt: Attempt,
    /// How often the same thing happened again.
    repeats: u64,
    /// When it happened last.
    last: String,
}

/// What became of an attempt that was noted.
#[derive(Debug, Clone, PartialEq)]
pub struct Noted {
    /// The attempt as it stands in the history.
    pub attempt: Attempt,
    /// Whether the file should be written: a refusal that repeats itself is written ever more seldom.
    pub save: bool,
}

impl Default for Journal {
    fn default() -> Self {
        Self { next: 1, entries: Vec::new() }
    }
}

impl Journal {
    /// Notes an attempt that begins or has already ended; gives it its number.
    ///
    /// An attempt that failed or was refused just as the one before it (same level, payload, release and words) is counted
    /// there instead: a repository that stays broken must not push the device's life out of its history.
    pub fn note(&mut self, mut attempt: Attempt) -> Noted {
        attempt.message = shorten(attempt.message);
        if let Some(entry) = self.entries.iter_mut().rev().find(|e| is_of(&e.attempt, attempt.level, &attempt.payload))
            && matches!(attempt.outcome, Outcome::Refused | Outcome::Failed)
            && same(&entry.attempt, &attempt)
        {
            entry.repeats += 1;
            entry.last = attempt.ended;
            return Noted { attempt: entry.shown(), save: entry.repeats.is_power_of_two() };
        }
        attempt.number = self.next;
        self.next += 1;
        self.entries.push(Entry { attempt: attempt.clone(), repeats: 0, last: String::new() });
        let surplus = self.entries.len().saturating_sub(MAX_ATTEMPTS);
        self.entries.drain(..surplus);
        Noted { attempt, save: true }
    }

    /// Changes an attempt that goes on. None if it was forgotten meanwhile.
    pub fn update(&mut self, number: i64, change: impl FnOnce(&mut Attempt)) -> Option<Attempt> {
        let entry = self.entries.iter_mut().rev().find(|e| e.attempt.number == number)?;
        change(&mut entry.attempt);
        entry.attempt.number = number;
        entry.attempt.message = shorten(std::mem::take(&mut entry.attempt.message));
        Some(entry.attempt.clone())
    }

    /// Takes an attempt that goes on out again, because it came to the same as one before; see [`Self::note`].
    pub fn retract(&mut self, number: i64) {
        self.entries.retain(|e| e.attempt.number != number);
        if self.next == number.saturating_add(1) {
            self.next = number;
        }
    }

    /// The attempt of this payload that goes on, if any.
    #[must_use]
    pub fn open(&self, payload: &str) -> Option<&Attempt> {
        let mut entries = self.entries.iter().rev().map(|e| &e.attempt);
        entries.find(|a| is_of(a, Level::Payload, payload) && is_open(a.outcome))
    }

    /// The attempt of the firmware that goes on, if any.
    #[must_use]
    pub fn open_firmware(&self) -> Option<&Attempt> {
        self.entries.iter().rev().map(|e| &e.attempt).find(|a| a.level == Level::Firmware && is_open(a.outcome))
    }

    /// Every attempt that goes on, of whatever payload.
    pub fn all_open(&self) -> impl Iterator<Item = &Attempt> {
        self.entries.iter().map(|e| &e.attempt).filter(|a| is_open(a.outcome))
    }

    /// Newest first; of one payload, of one level, or of all.
    #[must_use]
    pub fn list(&self, payload: Option<&str>, level: Option<Level>, limit: usize) -> Vec<Attempt> {
        let wanted = |e: &&Entry| {
            payload.is_none_or(|p| p == e.attempt.payload) && level.is_none_or(|level| level == e.attempt.level)
        };
        self.entries.iter().rev().filter(wanted).take(limit).map(Entry::shown).collect()
    }

    /// Reads the file; nothing if there is none. A damaged one is set aside beside itself.
    #[must_use]
    pub fn load(path: &Path) -> Self {
        let read = || -> Result<Self, String> {
            match atomic::read(path, MAX_FILE).map_err(|err| err.to_string())? {
                Some(bytes) => parse(&bytes).map_err(|err| err.to_string()),
                None => Ok(Self::default()),
            }
        };
        let mut journal = read().unwrap_or_else(|err| {
            let aside = path.with_extension("json.damaged");
            warn!("the history {} is unreadable ({err}); set aside as {}", path.display(), aside.display());
            if let Err(err) = std::fs::rename(path, &aside) {
                warn!("could not set the history aside: {err}");
            }
            Self::default()
        });
        let newest = journal.entries.iter().map(|e| e.attempt.number).max().unwrap_or(0);
        journal.next = journal.next.max(newest.saturating_add(1));
        let surplus = journal.entries.len().saturating_sub(MAX_ATTEMPTS);
        journal.entries.drain(..surplus);
        journal
    }

    /// Writes the file. A failure is only told: an update must not fail for its own record.
    pub fn save(&self, path: &Path) {
        match serde_json::to_vec(self) {
            Ok(bytes) => {
                if let Err(err) = atomic::write(path, &bytes, 0o640) {
                    warn!("could not save the history: {}", report::chain(&err));
                }
            }
            Err(err) => warn!("could not save the history: {err}"),
        }
    }
}

impl Entry {
    fn shown(&self) -> Attempt {
        let mut attempt = self.attempt.clone();
        if self.repeats > 0 {
            attempt.message = format!("{} (and {} times more, last {})", attempt.message, self.repeats, self.last);
        }
        attempt
    }
}

/// Reads the file's bytes. An entry that newer firmware wrote in words unknown here (an outcome, a reason) is passed over:
/// the device falls back to older firmware, and its history must not be lost over that.
fn parse(bytes: &[u8]) -> Result<Journal, serde_json::Error> {
    #[derive(Deserialize)]
    struct Raw {
        next: i64,
        entries: Vec<serde_json::Value>,
    }
    let Raw { next, entries } = serde_json::from_slice(bytes)?;
    let count = entries.len();
    let entries: Vec<Entry> = entries.into_iter().filter_map(|entry| serde_json::from_value(entry).ok()).collect();
    if entries.len() < count {
        warn!("{} entries of the history are in words that this firmware does not know", count - entries.len());
    }
    Ok(Journal { next, entries })
}

fn is_of(attempt: &Attempt, level: Level, payload: &str) -> bool {
    attempt.level == level && attempt.payload == payload
}

fn is_open(outcome: Outcome) -> bool {
    matches!(outcome, Outcome::Installing | Outcome::Trial)
}

/// Whether two ended attempts tell the same.
fn same(old: &Attempt, new: &Attempt) -> bool {
    (old.outcome, &old.version, &old.sha256, &old.reason, &old.message)
        == (new.outcome, &new.version, &new.sha256, &new.reason, &new.message)
}

fn shorten(mut text: String) -> String {
    if text.len() > MAX_MESSAGE {
        let end = (0..=MAX_MESSAGE).rev().find(|i| text.is_char_boundary(*i)).unwrap_or(0);
        text.truncate(end);
        text.push('…');
    }
    text
}

/// An attempt of a payload to begin with; the caller fills in what it knows, and another level.
#[must_use]
pub fn blank(payload: &str, outcome: Outcome, message: String, now: &str) -> Attempt {
    let ended = if is_open(outcome) { String::new() } else { now.to_owned() };
    Attempt {
        number: 0,
        level: Level::Payload,
        payload: payload.to_owned(),
        version: String::new(),
        sha256: String::new(),
        from_version: String::new(),
        slot: None,
        outcome,
        reason: None,
        message,
        started: now.to_owned(),
        ended,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(message: &str, at: &str) -> Attempt {
        blank("", Outcome::Refused, message.to_owned(), at)
    }

    #[test]
    fn numbers_count_up_across_a_restart_and_the_list_is_newest_first() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("history.json");
        let mut journal = Journal::load(&path);
        journal.note(blank("a", Outcome::Committed, String::new(), "t1"));
        journal.note(blank("b", Outcome::Committed, String::new(), "t2"));
        journal.save(&path);
        let mut journal = Journal::load(&path);
        assert_eq!(journal.note(blank("a", Outcome::RolledBack, String::new(), "t3")).attempt.number, 3);
        assert_eq!(journal.list(None, None, 2).iter().map(|a| a.number).collect::<Vec<_>>(), [3, 2]);
        assert_eq!(journal.list(Some("a"), None, 10).iter().map(|a| a.number).collect::<Vec<_>>(), [3, 1]);
    }

    #[test]
    fn a_refusal_that_repeats_itself_is_counted_and_written_ever_more_seldom() {
        let mut journal = Journal::default();
        let saved: Vec<bool> = (0..10).map(|i| journal.note(refused("expired", &format!("t{i}"))).save).collect();
        assert_eq!(saved, [true, true, true, false, true, false, false, false, true, false]);
        let list = journal.list(None, None, 10);
        assert_eq!(list.len(), 1);
        assert_eq!(list[0].message, "expired (and 9 times more, last t9)");
        assert_eq!(list[0].started, "t0");
        journal.note(refused("rolled back", "t10"));
        journal.note(refused("expired", "t11"));
        assert_eq!(journal.list(None, None, 10).len(), 3);
    }

    #[test]
    fn committing_twice_is_two_attempts() {
        let mut journal = Journal::default();
        journal.note(blank("a", Outcome::Committed, String::new(), "t1"));
        journal.note(blank("a", Outcome::Committed, String::new(), "t2"));
        assert_eq!(journal.list(None, None, 10).len(), 2);
    }

    #[test]
    fn the_list_is_bounded_and_so_are_its_messages() {
        let mut journal = Journal::default();
        for i in 0..MAX_ATTEMPTS + 5 {
            journal.note(refused(&format!("{i} {}", "ä".repeat(MAX_MESSAGE)), "t"));
        }
        let list = journal.list(None, None, usize::MAX);
        assert_eq!(list.len(), MAX_ATTEMPTS);
        assert!(list.iter().all(|a| a.message.len() <= MAX_MESSAGE + 4));
    }

    #[test]
    fn a_damaged_file_is_set_aside() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("history.json");
        std::fs::write(&path, b"{\"next\":").unwrap();
        assert_eq!(Journal::load(&path), Journal::default());
        assert!(!path.exists());
        assert!(dir.path().join("history.json.damaged").exists());
    }

    #[test]
    fn what_newer_firmware_wrote_is_passed_over_and_the_rest_kept() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("history.json");
        let mut journal = Journal::default();
        for id in ["a", "b", "c", "d"] {
            journal.note(blank(id, Outcome::RolledBack, String::new(), "t"));
        }
        let mut value = serde_json::to_value(&journal).unwrap();
        value["entries"][0]["attempt"]["outcome"] = "postponed".into();
        value["entries"][1]["attempt"]["reason"] = "too_cold".into();
        value["entries"][2]["attempt"]["wave"] = 3.into();
        value["entries"][3]["attempt"].as_object_mut().unwrap().remove("level");
        std::fs::write(&path, value.to_string()).unwrap();
        let mut journal = Journal::load(&path);
        assert_eq!(journal.list(None, None, 10).iter().map(|a| a.payload.as_str()).collect::<Vec<_>>(), ["d", "c"]);
        assert_eq!(journal.note(blank("e", Outcome::Committed, String::new(), "t")).attempt.number, 5);
        assert!(path.exists());
    }

    #[test]
    fn levels_are_told_apart() {
        let mut journal = Journal::default();
        let firmware = Attempt { level: Level::Firmware, ..blank("", Outcome::Failed, "no".into(), "t1") };
        let repository = Attempt { level: Level::Repository, ..firmware.clone() };
        for attempt in [&firmware, &repository, &firmware, &repository] {
            journal.note(attempt.clone());
        }
        assert_eq!(journal.list(None, None, 10).len(), 2);
        assert_eq!(journal.list(None, Some(Level::Firmware), 10).len(), 1);
        let trial = Attempt { outcome: Outcome::Trial, ..firmware };
        journal.note(trial);
        assert!(journal.open_firmware().is_some() && journal.open("").is_none());
    }

    #[test]
    fn an_open_attempt_is_found_and_changed() {
        let mut journal = Journal::default();
        let number = journal.note(blank("a", Outcome::Trial, String::new(), "t1")).attempt.number;
        assert_eq!(journal.open("a").unwrap().number, number);
        journal.update(number, |a| a.outcome = Outcome::Committed).unwrap();
        assert!(journal.open("a").is_none());
    }
}

//! Measures the folders of one run: when it begins, every few seconds, and oftener where the disk is nearly full. What a
//! measurement means is [`crate::ledger`]'s.

use std::{
    cell::RefCell,
    path::PathBuf,
    rc::Rc,
    time::{Duration, Instant},
};

use crate::{
    ledger::{Ledger, Room, Verdict},
    storage::{self, Folder},
};

/// How often the free space is looked at: a system call, not a walk.
const LOOK: Duration = Duration::from_millis(500);
/// Below this many reserves of free space a folder is measured as soon as the space shrinks.
const TIGHT: u64 = 8;

/// How payloads' folders are measured, and what all runs share for it.
#[derive(Debug, Clone)]
pub struct Rules {
    /// Where payloads' folders are.
    pub root: PathBuf,
    /// Longest time between two measurements.
    pub check: Duration,
    /// What has to stay free on the disk, in bytes.
    pub reserve: u64,
    /// Who answers for what.
    pub ledger: Rc<RefCell<Ledger>>,
}

/// Why a run has to stop.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stop {
    /// In words.
    pub message: String,
    /// Without being asked: each moment costs the others room.
    pub at_once: bool,
}

/// Measures one run.
#[derive(Debug)]
pub struct Meter {
    rules: Rules,
    payload: String,
    sha256: String,
    /// The read-write ones.
    folders: Vec<Folder>,
    quotas: Vec<u64>,
    /// The last measurement, and what was free then; none before the run began.
    last: Option<(Instant, u64)>,
}

impl Meter {
    /// For a run of this release with these folders. It measures nothing before [`Meter::begin`]: until then the folders
    /// are another run's.
    #[must_use]
    pub fn new(rules: Rules, payload: &str, sha256: &str, folders: &[Folder]) -> Self {
        let writable = folders.iter().filter_map(|folder| Some((folder.clone(), folder.quota?)));
        let (folders, quotas) = writable.unzip();
        Self { rules, payload: payload.to_owned(), sha256: sha256.to_owned(), folders, quotas, last: None }
    }

    /// Whether there is anything to measure.
    #[must_use]
    pub fn has_work(&self) -> bool {
        !self.folders.is_empty()
    }

    /// How often [`Meter::look`] wants to be called.
    #[must_use]
    pub fn pace(&self) -> Duration {
        self.rules.check.min(LOOK)
    }

    /// The run is about to begin. A stop means that it must not: its own release has filled the folder before.
    pub fn begin(&mut self, now: Instant) -> Option<Stop> {
        if !self.has_work() {
            return None;
        }
        let used = self.used();
        if self.rules.ledger.borrow_mut().begin(&self.payload, &self.sha256, &used) {
            self.tell_what_was_there(&used);
        }
        // It has added nothing yet, so that only its quota is judged.
        self.judge(now, &used, Room { free: self.free(), reserve: 0 })
    }

    /// Look at the disk, and measure if it is time.
    pub fn look(&mut self, now: Instant) -> Option<Stop> {
        let (measured, free_then) = self.last?;
        let room = Room { free: self.free(), reserve: self.rules.reserve };
        let shrinks = room.free.saturating_add(room.blame()) <= free_then;
        let tight = room.free < room.reserve.saturating_mul(TIGHT);
        let due = now.duration_since(measured) >= self.rules.check;
        if !(due || room.is_short() || (tight && shrinks)) {
            return None;
        }
        self.judge(now, &self.used(), room)
    }

    fn judge(&mut self, now: Instant, used: &[u64], room: Room) -> Option<Stop> {
        self.last = Some((now, room.free));
        let verdict = self.rules.ledger.borrow_mut().judge(&self.payload, used, &self.quotas, room);
        match verdict {
            Verdict::Within => None,
            Verdict::OverQuota(index) => {
                let (guest, quota) = (&self.folders[index].guest, self.quotas[index] / 1024);
                let message = format!("{guest} holds more than its quota of {quota} KiB");
                Some(Stop { message, at_once: false })
            }
            Verdict::TookTheRoom => {
                let (free, reserve) = (room.free / 1024, room.reserve / 1024);
                let message = format!(
                    "the disk has {free} KiB free of the {reserve} KiB that must stay so, and this payload wrote the most"
                );
                Some(Stop { message, at_once: true })
            }
        }
    }

    fn tell_what_was_there(&self, used: &[u64]) {
        for ((folder, quota), used) in self.folders.iter().zip(&self.quotas).zip(used) {
            if used > quota {
                iotwasm_kit::warn!(
                    "{}: {} held more than its quota of {} KiB before this release began; it runs, but may add little. To \
                     make room, stop it and remove what it does not need from {}",
                    self.payload,
                    folder.guest,
                    quota / 1024,
                    folder.host.display()
                );
            }
        }
    }

    fn used(&self) -> Vec<u64> {
        self.folders.iter().map(|folder| storage::used(&folder.host)).collect()
    }

    /// What is free for us, in bytes. Who cannot be asked is not full.
    fn free(&self) -> u64 {
        rustix::fs::statvfs(&self.rules.root).map_or(u64::MAX, |disk| disk.f_bavail.saturating_mul(disk.f_frsize))
    }
}

impl Drop for Meter {
    fn drop(&mut self) {
        if self.last.is_some() {
            self.rules.ledger.borrow_mut().end(&self.payload);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    struct Bench {
        rules: Rules,
        folders: Vec<Folder>,
        _dir: tempfile::TempDir,
    }

    impl Bench {
        fn new(reserve: u64) -> Self {
            let dir = tempfile::tempdir().unwrap();
            let root = dir.path().to_owned();
            let folder = Folder { host: root.join("p/state"), guest: "/state".into(), quota: Some(64 * 1024) };
            storage::make(std::slice::from_ref(&folder)).unwrap();
            let rules = Rules { root, check: Duration::from_secs(5), reserve, ledger: Rc::default() };
            Self { rules, folders: vec![folder], _dir: dir }
        }

        fn meter(&self, sha256: &str) -> Meter {
            Meter::new(self.rules.clone(), "p", sha256, &self.folders)
        }

        fn write(&self, name: &str, kib: usize) {
            fs::write(self.folders[0].host.join(name), vec![1; kib * 1024]).unwrap();
        }
    }

    #[test]
    fn a_folder_is_measured_when_it_is_time_and_no_earlier() {
        let bench = Bench::new(0);
        let (mut meter, now) = (bench.meter("x"), Instant::now());
        assert_eq!(meter.pace(), LOOK);
        bench.write("big", 100);
        assert_eq!(meter.look(now + Duration::from_secs(9)), None, "it has not begun");
        fs::remove_file(bench.folders[0].host.join("big")).unwrap();
        assert_eq!(meter.begin(now), None);
        bench.write("big", 100);
        assert_eq!(meter.look(now + Duration::from_secs(4)), None);
        let stop = meter.look(now + Duration::from_secs(5)).unwrap();
        assert!(stop.message.contains("/state") && stop.message.contains("64 KiB") && !stop.at_once, "{stop:?}");
    }

    #[test]
    fn a_restart_of_the_one_that_filled_it_is_refused_and_the_older_one_runs() {
        let bench = Bench::new(0);
        let now = Instant::now();
        assert_eq!(bench.meter("bad").begin(now), None);
        bench.write("big", 100);
        assert!(bench.meter("bad").begin(now).is_some());
        let mut old = bench.meter("old");
        assert_eq!(old.begin(now), None);
        assert_eq!(old.look(now + Duration::from_secs(5)), None);
        bench.write("more", 24);
        assert!(old.look(now + Duration::from_secs(10)).is_some());
    }

    #[test]
    fn without_room_the_writer_is_stopped_within_its_quota_and_at_once() {
        // No disk has that much, so it is always short.
        let bench = Bench::new(u64::MAX / 2);
        let now = Instant::now();
        let mut meter = bench.meter("x");
        assert_eq!(meter.begin(now), None);
        assert_eq!(meter.look(now), None, "it wrote nothing");
        bench.write("some", 40);
        assert_eq!(meter.look(now), None, "far less than what is blamed");
        let room = Room { free: 10, reserve: 320 * 1024 };
        bench.write("more", 16);
        let stop = meter.judge(now, &meter.used(), room).unwrap();
        assert!(stop.at_once && stop.message.contains("320 KiB"), "{stop:?}");
    }
}

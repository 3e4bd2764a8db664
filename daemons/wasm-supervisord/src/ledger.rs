//! What each payload's folders held when its release began, and who is to be stopped for what it wrote since. Pure: no
//! file, no clock.
//!
//! Releases of a payload share its folders. So a release answers for what it adds, never for what it found: its limit is
//! the larger of the quota and what was there when it first began, with a little more to work with. A restart of the same release changes neither, so a
//! loop of restarts cannot raise the limit.

use std::collections::BTreeMap;

/// What one payload's present release answers for.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Account {
    sha256: String,
    /// What each folder held when the release first began, in bytes.
    base: Vec<u64>,
    /// All that the folders held when there was last room enough, in bytes.
    mark: u64,
    /// What was added since, in bytes.
    grown: u64,
    running: bool,
}

/// The accounts of all payloads.
#[derive(Debug, Default)]
pub struct Ledger {
    accounts: BTreeMap<String, Account>,
}

/// Room on the disk, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    /// What is free.
    pub free: u64,
    /// What has to stay free; 0 for nothing.
    pub reserve: u64,
}

impl Room {
    /// Less is free than has to be.
    #[must_use]
    pub fn is_short(self) -> bool {
        self.free < self.reserve
    }

    /// What somebody must have added to be stopped for lack of room, so that one who writes a little does not pay for
    /// what others took.
    #[must_use]
    pub fn blame(self) -> u64 {
        (self.reserve / 32).max(1)
    }
}

/// What a measurement means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It may go on.
    Within,
    /// The folder of this index holds more than its limit.
    OverQuota(usize),
    /// The disk is short of room, and this payload added the most.
    TookTheRoom,
}

/// Least that a release may add to a folder that it found full, in bytes: a new file, and one beside the file that it
/// replaces.
const LEAST_ROOM: u64 = 2 * 4096;

/// What a folder may hold for a release that found `base` in it. All in bytes.
///
/// In a folder that is full a release could not even save what it has, so it may add a quarter of its quota.
#[must_use]
pub fn limit(quota: u64, base: u64) -> u64 {
    if base == 0 { quota } else { quota.max(base.saturating_add(LEAST_ROOM.max(quota / 4))) }
}

impl Ledger {
    /// A run of `sha256` begins, and its folders hold `used`. Says whether this is a release that was not the last one.
    pub fn begin(&mut self, payload: &str, sha256: &str, used: &[u64]) -> bool {
        if let Some(account) = self.accounts.get_mut(payload).filter(|account| account.sha256 == sha256) {
            account.running = true;
            return false;
        }
        let account =
            Account { sha256: sha256.to_owned(), base: used.to_vec(), mark: total(used), grown: 0, running: true };
        self.accounts.insert(payload.to_owned(), account);
        true
    }

    /// The run has ended.
    pub fn end(&mut self, payload: &str) {
        if let Some(account) = self.accounts.get_mut(payload) {
            account.running = false;
            account.grown = 0;
        }
    }

    /// Judge a run that has begun: what its folders hold against their quotas, in bytes.
    pub fn judge(&mut self, payload: &str, used: &[u64], quotas: &[u64], room: Room) -> Verdict {
        let most = self.accounts.iter().filter(|(other, account)| *other != payload && account.running);
        let most = most.map(|(_, account)| account.grown).max().unwrap_or(0);
        let Some(account) = self.accounts.get_mut(payload) else { return Verdict::Within };
        let folders = used.iter().zip(quotas).zip(&account.base);
        if let Some(over) = folders.into_iter().position(|((used, quota), base)| *used > limit(*quota, *base)) {
            return Verdict::OverQuota(over);
        }
        if !room.is_short() {
            (account.mark, account.grown) = (total(used), 0);
            return Verdict::Within;
        }
        account.grown = total(used).saturating_sub(account.mark);
        if account.grown < room.blame() || account.grown < most {
            return Verdict::Within;
        }
        // To be stopped once more it has to add once more.
        (account.mark, account.grown) = (total(used), 0);
        Verdict::TookTheRoom
    }
}

fn total(used: &[u64]) -> u64 {
    used.iter().fold(0, |total, used| total.saturating_add(*used))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const QUOTA: u64 = 64 * 1024;
    const PLENTY: Room = Room { free: 1000, reserve: 64 };
    const SHORT: Room = Room { free: 10, reserve: 64 };

    fn judge(ledger: &mut Ledger, used: u64) -> Verdict {
        ledger.judge("p", &[used], &[QUOTA], PLENTY)
    }

    #[test]
    fn what_a_bad_release_left_stops_neither_the_old_one_nor_the_next() {
        let mut ledger = Ledger::default();
        assert!(ledger.begin("p", "old", &[4096]));
        assert_eq!(judge(&mut ledger, 8192), Verdict::Within);
        ledger.begin("p", "bad", &[8192]);
        assert_eq!(judge(&mut ledger, QUOTA + 1), Verdict::OverQuota(0));
        for good in ["old", "old", "next"] {
            let found = 2 * QUOTA;
            ledger.begin("p", good, &[found]);
            assert_eq!(judge(&mut ledger, found + 4096), Verdict::Within, "{good}");
            assert_eq!(judge(&mut ledger, found + QUOTA / 4 + 1), Verdict::OverQuota(0), "{good}");
        }
    }

    #[test]
    fn a_release_that_filled_its_folder_is_not_let_in_again() {
        let mut ledger = Ledger::default();
        ledger.begin("p", "bad", &[0]);
        assert_eq!(judge(&mut ledger, QUOTA + 1), Verdict::OverQuota(0));
        ledger.end("p");
        assert!(!ledger.begin("p", "bad", &[QUOTA + 1]));
        assert_eq!(judge(&mut ledger, QUOTA + 1), Verdict::OverQuota(0));
        assert_eq!(judge(&mut ledger, QUOTA), Verdict::Within, "somebody made room");
    }

    #[test]
    fn a_full_folder_leaves_room_for_a_file_beside_the_one_it_replaces() {
        assert_eq!(limit(4096, 0), 4096);
        assert_eq!(limit(4096, 4096), 4096 + LEAST_ROOM);
        assert_eq!(limit(QUOTA, 4096), QUOTA);
        assert_eq!(limit(QUOTA, QUOTA), QUOTA + QUOTA / 4);
        assert_eq!(limit(QUOTA, u64::MAX), u64::MAX);
    }

    #[test]
    fn without_room_the_one_that_added_the_most_is_stopped_and_only_once_for_it() {
        let mut ledger = Ledger::default();
        let mut judge = |payload: &str, used, room| ledger.judge(payload, &[used], &[1000], room);
        assert_eq!(judge("nobody", 10, SHORT), Verdict::Within);
        for payload in ["small", "big", "quiet"] {
            ledger.begin(payload, "x", &[10]);
        }
        let mut judge = |payload: &str, used, room| ledger.judge(payload, &[used], &[1000], room);
        assert_eq!(judge("big", 90, PLENTY), Verdict::Within);
        assert_eq!(judge("big", 190, SHORT), Verdict::TookTheRoom);
        assert_eq!(judge("big", 190, SHORT), Verdict::Within);
        assert_eq!(judge("quiet", 11, SHORT), Verdict::Within);
        assert_eq!(judge("big", 191, SHORT), Verdict::Within, "less than what is blamed");
        assert_eq!(judge("big", 202, SHORT), Verdict::TookTheRoom);
        assert_eq!(judge("small", 12, SHORT), Verdict::TookTheRoom);
    }

    #[test]
    fn one_that_added_less_than_another_goes_on_until_that_one_is_stopped() {
        let mut ledger = Ledger::default();
        ledger.begin("less", "x", &[0]);
        ledger.begin("more", "x", &[0]);
        let room = Room { free: 10, reserve: 320 };
        assert_eq!(ledger.judge("more", &[9], &[1000], room), Verdict::Within);
        assert_eq!(ledger.judge("less", &[8], &[1000], room), Verdict::Within);
        assert_eq!(ledger.judge("more", &[20], &[1000], room), Verdict::TookTheRoom);
    }

    proptest! {
        #[test]
        fn nobody_is_stopped_who_did_not_grow(
            before in 0..3 * QUOTA,
            used in prop::collection::vec(0..3 * QUOTA, 1..20),
            free in 0u64..100,
            others in 0..3 * QUOTA,
        ) {
            let mut ledger = Ledger::default();
            ledger.begin("p", "earlier", &[others]);
            ledger.begin("q", "x", &[0]);
            ledger.begin("p", "x", &[before]);
            let room = Room { free, reserve: 50 };
            for now in used {
                ledger.judge("q", &[others], &[QUOTA], room);
                // At most what it found: it did not grow.
                let now = now.min(before);
                // To shrink and to grow again up to what it found is growth where there is no room.
                let now = if room.is_short() { before } else { now };
                prop_assert_eq!(ledger.judge("p", &[now], &[QUOTA], room), Verdict::Within);
            }
        }

        #[test]
        fn a_loop_of_restarts_cannot_grow_beyond_one_overshoot(
            base in 0..3 * QUOTA,
            steps in prop::collection::vec(0..=QUOTA, 1..100),
        ) {
            let mut ledger = Ledger::default();
            let (mut used, limit) = (base, limit(QUOTA, base));
            for step in steps {
                ledger.begin("p", "x", &[used]);
                // A run is judged before it may write, and then after each of its writes.
                if judge(&mut ledger, used) == Verdict::Within {
                    used += step;
                    judge(&mut ledger, used);
                }
                ledger.end("p");
                prop_assert!(used <= limit + QUOTA);
            }
        }
    }
}

//! The steps of TUF 5.2-5.6, each with the answer that it waited for.

use jiff::Timestamp as Time;

use super::{Action, Answer, Core, Phase, Query, StoreFile, bytes, last, refused};
use crate::schema::{Root, Targets};
use crate::search::{Chain, Outcome, Tree};
use crate::{Error, Refusal, check, names};

impl Core {
    // 5.2: the stored chain of roots is believed as far as the pinned root's signatures reach.

    pub(super) fn stored_root_version(&mut self, answer: Answer) {
        match bytes(answer).and_then(|bytes| Some((check::next_root(&self.root, &bytes).ok()?, bytes))) {
            Some((root, bytes)) => {
                self.root = root;
                self.root_bytes = bytes;
            }
            None => self.phase = Phase::LoadRoot,
        }
    }

    /// `root.json` is the root whose consequences were drawn. If it is not the newest of the chain, the power went between
    /// a new root's arrival and its consequences (or the image brought a newer root): draw them now.
    pub(super) fn stored_root(&mut self, answer: Answer) {
        let stored = bytes(answer);
        if stored.as_ref() != Some(&self.root_bytes) {
            let old = stored.and_then(|bytes| check::pinned_root(&bytes).ok());
            if old.is_some_and(|old| rotated(&old, &self.root)) {
                self.forget_online_roles();
            }
            self.queue.push_back(Action::Persist(StoreFile::Root, self.root_bytes.clone()));
        }
        self.phase = Phase::LoadTimestamp;
    }

    // 5.3

    pub(super) fn new_root(&mut self, answer: Answer, taken: u32) -> Result<(), Error> {
        let Answer::Bytes(bytes) = answer else { return self.roots_done() };
        let root = within(&bytes, self.limits.root_bytes)
            .and_then(|()| check::next_root(&self.root, &bytes))
            .map_err(|why| refused("root", why))?;
        // 5.3.8. First the link of the chain; `root.json` last, after the consequences of 5.3.11. We draw those at each
        // step, not at the end: a root between that replaced a key and one that brought it back still means a recovery.
        self.queue.push_back(Action::Persist(StoreFile::RootVersion(root.header.version), bytes.clone()));
        if rotated(&self.root, &root) {
            self.forget_online_roles();
        }
        self.queue.push_back(Action::Persist(StoreFile::Root, bytes.clone()));
        self.root = root;
        self.root_bytes = bytes;
        let taken = taken.saturating_add(1);
        if taken >= self.limits.root_rotations {
            return self.roots_done();
        }
        self.phase = Phase::FetchRoot { taken };
        Ok(())
    }

    pub(super) fn roots_done(&mut self) -> Result<(), Error> {
        // 5.3.10
        self.root.header.check_expiry(self.now()?).map_err(|why| refused("root", why))?;
        self.phase = Phase::FetchTimestamp;
        Ok(())
    }

    pub(super) fn forget_online_roles(&mut self) {
        self.timestamp = None;
        self.snapshot = None;
        for file in [StoreFile::Timestamp, StoreFile::Snapshot, StoreFile::Floor] {
            self.queue.push_back(Action::Remove(file));
        }
        if let Some(start) = &mut self.start {
            start.learned = start.clock;
        }
    }

    pub(super) fn now(&self) -> Result<Time, Error> {
        self.start.map(|start| start.clock.max(start.learned)).ok_or(Error::NotRefreshed)
    }

    // 5.4

    pub(super) fn new_timestamp(&mut self, bytes: Vec<u8>) -> Result<(), Error> {
        let refused = |why| refused("timestamp", why);
        let now = self.now()?;
        let offered = within(&bytes, self.limits.timestamp_bytes)
            .and_then(|()| check::timestamp(&self.root, &bytes))
            .map_err(refused)?;
        if let Some(trusted) = &self.timestamp {
            check::timestamp_rollback(trusted, &offered).map_err(refused)?;
        }
        match &self.timestamp {
            // 5.4.3: the same version again is no news. The one we have must not be expired, and the update goes on with
            // it, for the last one may have been cut off after this point.
            Some(trusted) if trusted.header.version == offered.header.version => {
                trusted.header.check_expiry(now).map_err(refused)?;
            }
            _ => {
                offered.header.check_expiry(now).map_err(refused)?;
                self.queue.push_back(Action::Persist(StoreFile::Timestamp, bytes));
                self.timestamp = Some(offered);
            }
        }
        self.phase = Phase::LoadSnapshot;
        Ok(())
    }

    // 5.5

    pub(super) fn stored_snapshot(&mut self, answer: Answer) {
        self.phase = Phase::FetchSnapshot;
        let Some(bytes) = bytes(answer) else {
            self.snapshot = None;
            return;
        };
        self.snapshot = check::any_snapshot(&self.root, &bytes).ok();
        if let (Some(promised), Ok(now)) = (self.promised_snapshot(), self.now())
            && let Ok(snapshot) = check::snapshot(&self.root, promised, &bytes)
            && snapshot.header.check_expiry(now).is_ok()
        {
            self.phase = Phase::LoadTargets;
        }
    }

    pub(super) fn new_snapshot(&mut self, bytes: Vec<u8>) -> Result<(), Error> {
        let refused = |why| refused("snapshot", why);
        let promised = self.promised_snapshot().ok_or(Error::NotRefreshed)?;
        let offered = within(&bytes, self.limits.snapshot_bytes)
            .and_then(|()| check::snapshot(&self.root, promised, &bytes))
            .map_err(refused)?;
        if let Some(trusted) = &self.snapshot {
            check::snapshot_rollback(trusted, &offered).map_err(refused)?;
        }
        offered.header.check_expiry(self.now()?).map_err(refused)?;
        self.queue.push_back(Action::Persist(StoreFile::Snapshot, bytes));
        self.snapshot = Some(offered);
        self.phase = Phase::LoadTargets;
        Ok(())
    }

    // 5.6.1-5.6.6

    pub(super) fn stored_targets(&mut self, answer: Answer) -> Result<(), Error> {
        let promised = self.promised("targets");
        let promised = promised.ok_or_else(|| refused("targets", Refusal::NotInSnapshot))?;
        let now = self.now()?;
        self.phase = match bytes(answer).map(|bytes| check::targets(&self.root.targets, promised, &bytes)) {
            Some(Ok(targets)) if targets.header.check_expiry(now).is_ok() => {
                self.tree = Some(self.grow(targets));
                Phase::Ready
            }
            _ => Phase::FetchTargets,
        };
        Ok(())
    }

    pub(super) fn new_targets(&mut self, bytes: Vec<u8>) -> Result<(), Error> {
        let refused = |why| refused("targets", why);
        let promised = self.promised("targets").ok_or(Error::NotRefreshed)?;
        let targets = within(&bytes, self.limits.targets_bytes)
            .and_then(|()| check::targets(&self.root.targets, promised, &bytes))
            .map_err(refused)?;
        targets.header.check_expiry(self.now()?).map_err(refused)?;
        self.queue.push_back(Action::Persist(StoreFile::Targets("targets".into()), bytes));
        self.tree = Some(self.grow(targets));
        self.phase = Phase::Ready;
        Ok(())
    }

    pub(super) fn grow(&self, targets: Targets) -> Tree {
        Tree::new(targets, self.root.consistent_snapshot, self.limits.delegated_roles)
    }

    // 5.6.7

    /// Goes on with a search until it needs a file or is done.
    pub(super) fn advance(&mut self, query: Query) -> Phase {
        loop {
            let Some(tree) = &mut self.tree else { return Phase::Idle };
            let need = match &query {
                Query::Find(name) => need(tree.find(name)),
                Query::Search(pattern) => need(tree.search(pattern)),
            };
            let Some(chain) = need else { return Phase::Ready };
            let role = last(&chain);
            let listed = self.snapshot.as_ref().is_some_and(|snapshot| snapshot.role(&role).is_some());
            let usable = names::check_delegated(&role).and(if listed { Ok(()) } else { Err(Refusal::NotInSnapshot) });
            match usable {
                Ok(()) => return Phase::LoadDelegated(query, chain),
                Err(why) => tree.insert(chain, Err(why)),
            }
        }
    }

    pub(super) fn stored_delegated(&mut self, query: Query, chain: Chain, answer: Answer) {
        let checked = bytes(answer).map(|bytes| self.check_delegated(&chain, &bytes));
        match (checked, &mut self.tree) {
            (Some(Ok(targets)), Some(tree)) => {
                tree.insert(chain, Ok(targets));
                self.phase = Phase::Search(query);
            }
            _ => self.phase = Phase::FetchDelegated(query, chain),
        }
    }

    pub(super) fn new_delegated(&mut self, query: Query, chain: Chain, answer: Answer) {
        let checked = match bytes(answer) {
            Some(bytes) => self.check_delegated(&chain, &bytes).map(|targets| (targets, bytes)),
            None => Err(Refusal::NotFound),
        };
        let role = last(&chain);
        if let Some(tree) = &mut self.tree {
            match checked {
                Ok((targets, bytes)) => {
                    self.queue.push_back(Action::Persist(StoreFile::Targets(role), bytes));
                    tree.insert(chain, Ok(targets));
                }
                Err(why) => tree.insert(chain, Err(why)),
            }
        }
        self.phase = Phase::Search(query);
    }

    pub(super) fn check_delegated(&self, chain: &[String], bytes: &[u8]) -> Result<Targets, Refusal> {
        within(bytes, self.limits.targets_bytes)?;
        let promised = self.promised(chain.last().map_or("", String::as_str)).ok_or(Refusal::NotInSnapshot)?;
        let delegation = self.tree.as_ref().and_then(|tree| tree.delegation(chain)).ok_or(Refusal::NotInSnapshot)?;
        let targets = check::targets(&delegation.signers, promised, bytes)?;
        let now = self.now().map_err(|_| Refusal::NotInSnapshot)?;
        targets.header.check_expiry(now)?;
        Ok(targets)
    }
}

/// A key of an online role was taken away, so what it signed is no measure any more (5.3.11).
fn rotated(old: &Root, new: &Root) -> bool {
    new.timestamp.lost_any_of(&old.timestamp) || new.snapshot.lost_any_of(&old.snapshot)
}

fn within(bytes: &[u8], limit: u64) -> Result<(), Refusal> {
    let found = bytes.len() as u64;
    if found > limit { Err(Refusal::Length { expected: limit, found }) } else { Ok(()) }
}

fn need<T>(outcome: Outcome<T>) -> Option<Chain> {
    match outcome {
        Outcome::Need(chain) => Some(chain),
        _ => None,
    }
}

//! Which release to install: a pure function of the signed metadata, what runs, and what was rolled back.
//!
//! The highest version that is for this board, not withdrawn and not rolled back; never one lower than what is
//! committed, unless the signed metadata withdraws that one.

use crate::slot::{Rejected, Release, is_rejected};
use crate::target::PayloadTarget;

/// A payload target in the verified metadata.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// The file.
    pub release: Release,
    /// What was signed about it.
    pub target: PayloadTarget,
}

/// What is committed on the device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Current<'a> {
    /// Which release.
    pub release: &'a Release,
    /// False if its slot no longer verifies: then the same version is installed again.
    pub runnable: bool,
}

/// What to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Choice<'a> {
    /// Install this.
    Install {
        /// What.
        candidate: &'a Candidate,
        /// Why.
        why: Why,
    },
    /// Leave things as they are.
    Keep(Kept),
}

/// Why something is installed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// Nothing is committed yet.
    First,
    /// It is newer than what is committed.
    Newer,
    /// What is committed was withdrawn; this is the best of the others, and may be older.
    Withdrawn,
    /// What is committed no longer verifies; this is the same version or a newer one.
    Repair,
}

/// Why nothing is installed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kept {
    /// The metadata offers nothing for this board that is neither withdrawn nor rolled back.
    NothingOffered,
    /// What is committed is the best.
    UpToDate,
    /// What is committed was withdrawn, and nothing can take its place.
    WithdrawnWithoutReplacement,
    /// What is committed no longer verifies, and nothing may take its place.
    DamagedWithoutReplacement,
}

/// Chooses among candidates of one payload id.
pub fn choose<'a>(
    candidates: &'a [Candidate],
    current: Option<Current<'_>>,
    board: &str,
    rejected: &[Rejected],
) -> Choice<'a> {
    let best = |allowed: &dyn Fn(&Candidate) -> bool| {
        candidates
            .iter()
            .filter(|c| c.target.withdrawn.is_none() && c.target.runs_on(board))
            .filter(|c| !is_rejected(rejected, &c.release) && allowed(c))
            // Two files of one version cannot share a name; vendors may differ, and then the choice must not depend on
            // the order in which the metadata lists them.
            .max_by_key(|c| (&c.release.target.version, &c.release.target.vendor, c.release.sha256))
    };
    let install = |candidate, why| Choice::Install { candidate, why };
    let Some(Current { release, runnable }) = current else {
        return best(&|_| true).map_or(Choice::Keep(Kept::NothingOffered), |c| install(c, Why::First));
    };
    // By name, not by hash: whoever withdraws a version means every file that ever bore its name.
    if candidates.iter().any(|c| c.release.target == release.target && c.target.withdrawn.is_some()) {
        let other = best(&|c| c.release.target != release.target);
        return other.map_or(Choice::Keep(Kept::WithdrawnWithoutReplacement), |c| install(c, Why::Withdrawn));
    }
    if !runnable {
        let sound = best(&|c| c.release.version() >= release.version());
        return sound.map_or(Choice::Keep(Kept::DamagedWithoutReplacement), |c| install(c, Why::Repair));
    }
    let newer = best(&|c| c.release.version() > release.version());
    newer.map_or(Choice::Keep(Kept::UpToDate), |c| install(c, Why::Newer))
}

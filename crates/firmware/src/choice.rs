//! Which release to install: a pure function of the signed metadata, what runs, and what was rolled back.
//!
//! The highest version that is neither withdrawn nor rolled back and higher than what runs; a lower one only if the signed
//! metadata withdraws what runs, and then the highest that is left. Never the version that runs.

use semver::Version;

use crate::state::{Bundle, Rejected, is_rejected};
use crate::target::{FirmwareTarget, Withdrawn};

/// A bundle in the verified metadata.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// The file.
    pub bundle: Bundle,
    /// What was signed about it.
    pub target: FirmwareTarget,
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
    /// It is newer than what runs.
    Newer,
    /// What runs was withdrawn; this is the best of the others, and may be older.
    Withdrawn,
}

/// Why nothing is installed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kept {
    /// What runs is the best that there is, or nothing is offered.
    UpToDate,
    /// What runs was withdrawn, and nothing can take its place.
    WithdrawnWithoutReplacement,
}

/// Chooses among candidates for this device's compatible.
#[must_use]
pub fn choose<'a>(candidates: &'a [Candidate], running: &Version, rejected: &[Rejected]) -> Choice<'a> {
    let best = |allowed: &dyn Fn(&Version) -> bool| {
        candidates
            .iter()
            .filter(|c| c.target.withdrawn.is_none() && !is_rejected(rejected, &c.bundle))
            .filter(|c| c.bundle.version != *running && allowed(&c.bundle.version))
            .max_by_key(|c| (&c.bundle.version, c.bundle.sha256))
    };
    let install = |candidate, why| Choice::Install { candidate, why };
    // By version, not by hash: whoever withdraws a version means every file that ever bore its name.
    if withdrawn(candidates, running).is_some() {
        let other = best(&|_| true);
        return other.map_or(Choice::Keep(Kept::WithdrawnWithoutReplacement), |c| install(c, Why::Withdrawn));
    }
    best(&|version| version > running).map_or(Choice::Keep(Kept::UpToDate), |c| install(c, Why::Newer))
}

/// Whether the signed metadata withdraws a version, and why.
#[must_use]
pub fn withdrawn<'a>(candidates: &'a [Candidate], version: &Version) -> Option<&'a Withdrawn> {
    candidates.iter().filter(|c| c.bundle.version == *version).find_map(|c| c.target.withdrawn.as_ref())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::Digest;
    use crate::state::{Blame, Event, FirmwareState};
    use crate::target::Kind;
    use iotwasm_values::Slot;

    fn version(minor: u64) -> Version {
        Version::new(1, minor, 0)
    }

    fn candidate(minor: u64, withdrawn: bool) -> Candidate {
        let digest = Digest::from_bytes([u8::try_from(minor).unwrap(); 32]);
        Candidate {
            bundle: Bundle { version: version(minor), sha256: digest, custom: digest },
            target: FirmwareTarget {
                kind: Kind::Firmware,
                compatible: "a".into(),
                version: version(minor),
                release: digest,
                withdrawn: withdrawn.then(|| Withdrawn { reason: "bad".into() }),
            },
        }
    }

    /// What a state remembers after these were rolled back.
    fn rejected(bundles: &[Bundle]) -> Vec<Rejected> {
        let mut state = FirmwareState::default();
        for bundle in bundles {
            let rolled_back = Event::RolledBack { reason: "x".into(), message: String::new(), blame: Blame::Release };
            let started = Event::InstallStarted { bundle: bundle.clone(), slot: Slot::B, from: version(0) };
            for event in [started, Event::Installed { boots: 1 }, Event::Booted, rolled_back, Event::Closed] {
                state = state.apply(&event).unwrap();
            }
        }
        state.rejected().to_vec()
    }

    fn chosen(candidates: &[Candidate], running: u64, rejected: &[Rejected]) -> Option<u64> {
        match choose(candidates, &version(running), rejected) {
            Choice::Install { candidate, .. } => Some(candidate.bundle.version.minor),
            Choice::Keep(_) => None,
        }
    }

    #[test]
    fn a_lower_version_is_taken_only_in_place_of_a_withdrawn_one() {
        let all = [candidate(1, false), candidate(2, true), candidate(0, false)];
        assert_eq!(chosen(&all, 3, &[]), None);
        assert_eq!(chosen(&all, 2, &[]), Some(1));
        assert_eq!(chosen(&all, 1, &[]), None);
        assert_eq!(chosen(&all, 0, &[]), Some(1));
        let kept = choose(&all[1..2], &version(2), &[]);
        assert_eq!(kept, Choice::Keep(Kept::WithdrawnWithoutReplacement));
    }

    #[test]
    fn what_was_rolled_back_is_chosen_again_only_under_other_words() {
        let mut all = [candidate(1, false)];
        let rejected = rejected(&[all[0].bundle.clone()]);
        assert_eq!(chosen(&all, 0, &rejected), None);
        all[0].bundle.custom = Digest::from_bytes([9; 32]);
        assert_eq!(chosen(&all, 0, &rejected), Some(1));
    }

    proptest! {
        #[test]
        fn no_choice_breaks_the_rules(
            offered in prop::collection::vec((0..8u64, any::<bool>()), 0..8),
            running in 0..8u64,
            bad in prop::collection::btree_set(0..8u64, 0..4),
        ) {
            let candidates: Vec<Candidate> = offered.iter().map(|(minor, withdrawn)| candidate(*minor, *withdrawn)).collect();
            let bad: Vec<Bundle> = bad.into_iter().map(|minor| candidate(minor, false).bundle).collect();
            let rejected = rejected(&bad);
            let is_withdrawn = offered.contains(&(running, true));
            let allowed = |minor: u64| minor != running
                && offered.contains(&(minor, false))
                && !bad.iter().any(|b| b.version.minor == minor)
                && (is_withdrawn || minor > running);
            let best = (0..8u64).filter(|minor| allowed(*minor)).max();
            prop_assert_eq!(chosen(&candidates, running, &rejected), best);
        }
    }
}

//! Which role may speak for a target: the pre-order depth-first search of TUF 5.6.7 over roles that are loaded, asking for
//! the next role that it lacks. Pure; the client and the offline check both drive it.
//!
//! A delegated role that cannot be trusted ends the search for the targets it covers, as the specification says: the next
//! role in line must not be able to speak for them merely because somebody withholds a file. All other targets are
//! answered as if the bad role did not exist.

use std::collections::{BTreeSet, HashMap};

use crate::schema::{Delegation, RawTarget, Targets};
use crate::{Hashes, Refusal, Target, names, pattern};

/// Roles from the top-level one down to the one in question. The same role reached by two ways is checked for each,
/// because each delegator names its own keys.
pub(crate) type Chain = Vec<String>;

/// The top-level targets role and the delegated ones loaded so far.
#[derive(Debug)]
pub(crate) struct Tree {
    top: Targets,
    loaded: HashMap<Chain, Result<Targets, Refusal>>,
    consistent_snapshot: bool,
    limit: usize,
}

/// What the search came to.
#[derive(Debug)]
pub(crate) enum Outcome<T> {
    /// A role must be loaded first (or recorded as unusable).
    Need(Chain),
    /// The answer.
    Found(T),
    /// No role names it.
    Missing,
    /// A role that covers the target cannot be used.
    Bad(String, Refusal),
}

impl Tree {
    pub(crate) fn new(top: Targets, consistent_snapshot: bool, limit: usize) -> Tree {
        Tree { top, loaded: HashMap::new(), consistent_snapshot, limit }
    }

    /// Records a role, or why it cannot be used.
    pub(crate) fn insert(&mut self, chain: Chain, role: Result<Targets, Refusal>) {
        self.loaded.insert(chain, role);
    }

    /// The roles that could not be used, with their reasons.
    pub(crate) fn failures(&self) -> impl Iterator<Item = (&str, &Refusal)> {
        self.loaded.iter().filter_map(|(chain, role)| Some((chain.last()?.as_str(), role.as_ref().err()?)))
    }

    /// The delegation at the end of a chain that [`Outcome::Need`] named.
    pub(crate) fn delegation(&self, chain: &[String]) -> Option<&Delegation> {
        let (role, delegator) = chain.split_last()?;
        self.targets(delegator)?.delegations.iter().find(|delegation| delegation.name == *role)
    }

    fn targets(&self, chain: &[String]) -> Option<&Targets> {
        if chain.len() == 1 { Some(&self.top) } else { self.loaded.get(chain)?.as_ref().ok() }
    }

    /// Finds one target.
    pub(crate) fn find(&self, name: &str) -> Outcome<Target> {
        let mut walk = Walk { tree: self, name, visited: BTreeSet::from(["targets".to_owned()]) };
        walk.visit(&self.top, &mut vec!["targets".into()]).unwrap_or(Outcome::Missing)
    }

    /// Finds every target whose name matches `wanted`; each as [`Tree::find`] finds it. Sorted by name.
    pub(crate) fn search(&self, wanted: &str) -> Outcome<Vec<Target>> {
        let mut names = BTreeSet::new();
        let mut asked = 0;
        if let Some(need) = self.gather(wanted, &self.top, &mut vec!["targets".into()], &mut asked, &mut names) {
            return Outcome::Need(need);
        }
        let mut found = Vec::new();
        for name in names {
            match self.find(name) {
                Outcome::Found(target) => found.push(target),
                Outcome::Need(chain) => return Outcome::Need(chain),
                Outcome::Missing | Outcome::Bad(..) => {}
            }
        }
        Outcome::Found(found)
    }

    /// Collects the names that any role reached through delegations that could cover `wanted` has; or the role to load.
    fn gather<'a>(
        &'a self,
        wanted: &str,
        targets: &'a Targets,
        chain: &mut Chain,
        asked: &mut usize,
        names: &mut BTreeSet<&'a str>,
    ) -> Option<Chain> {
        names.extend(targets.targets.keys().map(String::as_str).filter(|name| pattern::matches(wanted, name)));
        for delegation in &targets.delegations {
            if chain.contains(&delegation.name) || *asked >= self.limit || !delegation.paths.may_cover(wanted) {
                continue;
            }
            *asked += 1;
            chain.push(delegation.name.clone());
            let need = match self.loaded.get(chain) {
                None => Some(chain.clone()),
                Some(Ok(role)) => self.gather(wanted, role, chain, asked, names),
                Some(Err(_)) => None,
            };
            chain.pop();
            if need.is_some() {
                return need;
            }
        }
        None
    }

    fn target(&self, name: &str, raw: &RawTarget, chain: &Chain) -> Outcome<Target> {
        let hashes = match Hashes::parse(&raw.hashes) {
            Ok(hashes) => hashes,
            Err(why) => return Outcome::Bad(chain.last().cloned().unwrap_or_default(), why),
        };
        let hash = hashes.name();
        let hash = self.consistent_snapshot.then_some(hash.as_str());
        Outcome::Found(Target {
            name: name.into(),
            length: raw.length,
            remote_path: names::target_path(name, hash),
            hashes,
            custom: raw.custom.clone(),
            roles: chain.clone(),
        })
    }
}

struct Walk<'a> {
    tree: &'a Tree,
    name: &'a str,
    visited: BTreeSet<String>,
}

impl Walk<'_> {
    /// One role and all that it delegates to. None: not here, go on with the next delegation.
    fn visit(&mut self, targets: &Targets, chain: &mut Chain) -> Option<Outcome<Target>> {
        // 5.6.7.1
        if let Some(raw) = targets.targets.get(self.name) {
            return Some(self.tree.target(self.name, raw, chain));
        }
        // 5.6.7.2, in order of appearance
        for delegation in targets.delegations.iter().filter(|delegation| delegation.paths.cover(self.name)) {
            if self.visited.insert(delegation.name.clone()) {
                if self.visited.len() > self.tree.limit + 1 {
                    return Some(Outcome::Bad(delegation.name.clone(), Refusal::TooManyRoles(self.tree.limit)));
                }
                chain.push(delegation.name.clone());
                let outcome = match self.tree.loaded.get(chain) {
                    None => Some(Outcome::Need(chain.clone())),
                    Some(Ok(role)) => self.visit(role, chain),
                    Some(Err(why)) => Some(Outcome::Bad(delegation.name.clone(), why.clone())),
                };
                chain.pop();
                if outcome.is_some() {
                    return outcome;
                }
            }
            if delegation.terminating {
                return Some(Outcome::Missing);
            }
        }
        None
    }
}

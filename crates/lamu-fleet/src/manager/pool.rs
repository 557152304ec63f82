//! The environments that exist, and in which state each is.
//!
//! ```text
//! add -> Loose -> Idle <-> Busy        any -> Draining -> removed
//!             `-> Standby <-'
//! ```
//!
//! Standby is the rest of provisioned environments: handed out before the idle
//! ones, and no part of the surplus.
//!
//! Idle environments of a version are a stack: the last used is the first
//! reused, so the top stays hot and the bottom is the surplus. A second order
//! over all versions finds the least recently used.
//!
//! Not here: who gets one (`core`), those still being made (`starts`).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use lamu_link::{EnvironmentHandle, Timings};
use lamu_model::{InitializationType, LeaseId, SandboxId, VersionId, VersionSpec, WorkerId};

use crate::prng::IdMap;

#[derive(Debug)]
pub(super) struct Environment {
    pub handle: EnvironmentHandle,
    pub spec: Arc<VersionSpec>,
    pub initialization: InitializationType,
    pub made: Instant,
    /// No invocation begins after this.
    pub old_at: Instant,
    /// What making it took, until its first lease.
    pub fresh: Option<Timings>,
    /// Ends when it comes back.
    pub leaving: bool,
    pub state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// Between two states, within one step of the core.
    Loose,
    Idle {
        since: Instant,
        /// Its key in both orders.
        used: u64,
    },
    Standby {
        /// Its key in its version's order.
        used: u64,
    },
    Busy {
        /// `None`: leased by a manager before this one.
        lease: Option<LeaseId>,
        /// Its index in the version's `busy`.
        at: usize,
    },
    Draining {
        until: Instant,
    },
}

/// How a free environment waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rest {
    Idle,
    Standby,
}

// Invariant: an environment is in `shelves[..].idle` and in `idle` exactly
// when its state is Idle, in `shelves[..].standby` exactly when it is Standby,
// in `shelves[..].busy` exactly when it is Busy. Only `detach`, `lend` and
// `rest` move one. `standing` counts the provisioned that are not Draining.
#[derive(Debug, Default)]
pub(super) struct Pool {
    environments: IdMap<SandboxId, Environment>,
    shelves: IdMap<VersionId, Shelf>,
    /// All idle ones, least recently used first.
    idle: BTreeMap<u64, SandboxId>,
    used_next: u64,
    standing: IdMap<VersionId, usize>,
}

/// One version's environments.
#[derive(Debug, Default)]
struct Shelf {
    standby: BTreeMap<u64, SandboxId>,
    idle: BTreeMap<u64, SandboxId>,
    busy: Vec<SandboxId>,
}

impl Pool {
    /// Replaces none: ids are never reused.
    pub(super) fn add(&mut self, environment: Environment) -> &mut Environment {
        if environment.initialization.is_provisioned() {
            *self.standing.entry(environment.spec.id).or_default() += 1;
        }
        self.environments.entry(environment.handle.sandbox).or_insert(environment)
    }

    pub(super) fn get_mut(&mut self, sandbox: SandboxId) -> Option<&mut Environment> {
        self.environments.get_mut(&sandbox)
    }

    pub(super) fn get(&self, sandbox: SandboxId) -> Option<&Environment> {
        self.environments.get(&sandbox)
    }

    /// The version's most recently used free environment, provisioned before
    /// others.
    pub(super) fn top(&self, version: VersionId) -> Option<SandboxId> {
        let shelf = self.shelves.get(&version)?;
        let last = shelf.standby.last_key_value().or_else(|| shelf.idle.last_key_value());
        last.map(|(_, sandbox)| *sandbox)
    }

    /// How many provisioned environments of the version there are.
    pub(super) fn standing(&self, version: VersionId) -> usize {
        self.standing.get(&version).copied().unwrap_or(0)
    }

    /// How many of them are free.
    pub(super) fn standby_count(&self, version: VersionId) -> usize {
        self.shelves.get(&version).map_or(0, |shelf| shelf.standby.len())
    }

    /// The least recently used of the free ones.
    pub(super) fn first_standby(&self, version: VersionId) -> Option<SandboxId> {
        self.shelves.get(&version)?.standby.first_key_value().map(|(_, sandbox)| *sandbox)
    }

    /// Every provisioned environment of the version, free or busy.
    pub(super) fn provisioned_of(&self, version: VersionId) -> Vec<SandboxId> {
        let Some(shelf) = self.shelves.get(&version) else { return Vec::new() };
        let all = shelf.standby.values().chain(shelf.idle.values()).chain(&shelf.busy);
        let provisioned = |sandbox: &&SandboxId| {
            self.environments.get(*sandbox).is_some_and(|e| e.initialization.is_provisioned())
        };
        all.filter(provisioned).copied().collect()
    }

    /// The least recently used idle environment of all, and since when it
    /// rests.
    pub(super) fn surplus(&self) -> Option<(SandboxId, Instant)> {
        let sandbox = *self.idle.first_key_value()?.1;
        match self.environments.get(&sandbox)?.state {
            State::Idle { since, .. } => Some((sandbox, since)),
            _ => None,
        }
    }

    pub(super) fn idle_count(&self) -> usize {
        self.idle.len()
    }

    /// How many busy environments of the version have answered, looking at no
    /// more than `looks` of them and counting no further than `enough`.
    pub(super) fn answered(&self, version: VersionId, enough: usize, looks: usize) -> usize {
        let Some(shelf) = self.shelves.get(&version) else { return 0 };
        let mut count = 0;
        for sandbox in shelf.busy.iter().rev().take(looks) {
            if self.environments.get(sandbox).is_some_and(|e| e.handle.is_answered()) {
                count += 1;
                if count >= enough {
                    break;
                }
            }
        }
        count
    }

    /// Any -> Busy. Returns the way to it and what making it took, if nobody
    /// had it before.
    pub(super) fn lend(
        &mut self,
        sandbox: SandboxId,
        lease: Option<LeaseId>,
    ) -> Option<(EnvironmentHandle, Option<Timings>)> {
        self.detach(sandbox)?;
        let environment = self.environments.get_mut(&sandbox)?;
        let shelf = self.shelves.entry(environment.spec.id).or_default();
        environment.state = State::Busy { lease, at: shelf.busy.len() };
        shelf.busy.push(sandbox);
        Some((environment.handle.clone(), environment.fresh.take()))
    }

    /// Any -> Idle or Standby, on top of its version's stack.
    pub(super) fn rest(&mut self, sandbox: SandboxId, now: Instant, rest: Rest) {
        if self.detach(sandbox).is_none() {
            return;
        }
        let Some(environment) = self.environments.get_mut(&sandbox) else { return };
        let used = self.used_next;
        self.used_next += 1;
        let shelf = self.shelves.entry(environment.spec.id).or_default();
        match rest {
            Rest::Idle => {
                environment.state = State::Idle { since: now, used };
                shelf.idle.insert(used, sandbox);
                self.idle.insert(used, sandbox);
            }
            Rest::Standby => {
                environment.state = State::Standby { used };
                shelf.standby.insert(used, sandbox);
            }
        }
    }

    /// Any -> Draining.
    pub(super) fn drain(&mut self, sandbox: SandboxId, until: Instant) {
        self.stand_down(sandbox);
        self.remove_from_shelf(sandbox);
        if let Some(environment) = self.environments.get_mut(&sandbox) {
            environment.state = State::Draining { until };
        }
    }

    pub(super) fn remove(&mut self, sandbox: SandboxId) -> Option<Environment> {
        self.stand_down(sandbox);
        self.remove_from_shelf(sandbox);
        self.environments.remove(&sandbox)
    }

    /// Idle or standing by.
    pub(super) fn free_of(&self, version: VersionId) -> Vec<SandboxId> {
        let Some(shelf) = self.shelves.get(&version) else { return Vec::new() };
        shelf.standby.values().chain(shelf.idle.values()).copied().collect()
    }

    pub(super) fn on_worker(&self, worker: &WorkerId) -> Vec<SandboxId> {
        let here = self.environments.values().filter(|e| e.handle.worker == *worker);
        here.map(|e| e.handle.sandbox).collect()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Environment> {
        self.environments.values()
    }

    /// Counts it no more among those that stand, unless that was done.
    fn stand_down(&mut self, sandbox: SandboxId) {
        let Some(environment) = self.environments.get(&sandbox) else { return };
        let drained = matches!(environment.state, State::Draining { .. });
        if drained || !environment.initialization.is_provisioned() {
            return;
        }
        let version = environment.spec.id;
        if let Some(count) = self.standing.get_mut(&version) {
            *count -= 1;
            if *count == 0 {
                self.standing.remove(&version);
            }
        }
    }

    /// Takes it out of the orders. A shelf that may stay empty is dropped.
    fn remove_from_shelf(&mut self, sandbox: SandboxId) {
        let Some(version) = self.detach(sandbox) else { return };
        if self.shelves.get(&version).is_some_and(Shelf::is_empty) {
            self.shelves.remove(&version);
        }
    }

    /// Any -> Loose. Returns the version.
    fn detach(&mut self, sandbox: SandboxId) -> Option<VersionId> {
        let environment = self.environments.get_mut(&sandbox)?;
        let version = environment.spec.id;
        let before = std::mem::replace(&mut environment.state, State::Loose);
        match before {
            State::Loose | State::Draining { .. } => {}
            State::Idle { used, .. } => {
                self.idle.remove(&used);
                if let Some(shelf) = self.shelves.get_mut(&version) {
                    shelf.idle.remove(&used);
                }
            }
            State::Standby { used } => {
                if let Some(shelf) = self.shelves.get_mut(&version) {
                    shelf.standby.remove(&used);
                }
            }
            State::Busy { at, .. } => {
                if let Some(shelf) = self.shelves.get_mut(&version) {
                    shelf.busy.swap_remove(at);
                    if let Some(moved) = shelf.busy.get(at)
                        && let Some(moved) = self.environments.get_mut(moved)
                        && let State::Busy { at: place, .. } = &mut moved.state
                    {
                        *place = at;
                    }
                }
            }
        }
        Some(version)
    }

    #[cfg(test)]
    pub(super) fn is_bare(&self) -> bool {
        let orders = self.shelves.is_empty() && self.idle.is_empty() && self.standing.is_empty();
        self.environments.is_empty() && orders
    }

    #[cfg(test)]
    pub(super) fn check(&self) {
        let (mut idle, mut busy, mut standby) = (0, 0, 0);
        let mut standing: IdMap<VersionId, usize> = IdMap::default();
        for (sandbox, environment) in &self.environments {
            assert_eq!(*sandbox, environment.handle.sandbox);
            let shelf = self.shelves.get(&environment.spec.id);
            let drained = matches!(environment.state, State::Draining { .. });
            if environment.initialization.is_provisioned() && !drained {
                *standing.entry(environment.spec.id).or_default() += 1;
            }
            match environment.state {
                State::Loose => panic!("{sandbox} is in no state"),
                State::Idle { used, .. } => {
                    assert_eq!(self.idle.get(&used), Some(sandbox));
                    assert_eq!(shelf.unwrap().idle.get(&used), Some(sandbox));
                    idle += 1;
                }
                State::Standby { used } => {
                    assert!(environment.initialization.is_provisioned());
                    assert_eq!(shelf.unwrap().standby.get(&used), Some(sandbox));
                    standby += 1;
                }
                State::Busy { at, .. } => {
                    assert_eq!(shelf.unwrap().busy[at], *sandbox);
                    busy += 1;
                }
                State::Draining { .. } => {}
            }
        }
        assert_eq!(self.idle.len(), idle);
        assert_eq!(self.shelves.values().map(|shelf| shelf.idle.len()).sum::<usize>(), idle);
        assert_eq!(self.shelves.values().map(|shelf| shelf.busy.len()).sum::<usize>(), busy);
        let resting = self.shelves.values().map(|shelf| shelf.standby.len()).sum::<usize>();
        assert_eq!(resting, standby);
        assert_eq!(self.standing, standing);
        assert!(!self.shelves.values().any(Shelf::is_empty));
    }
}

impl Shelf {
    fn is_empty(&self) -> bool {
        self.standby.is_empty() && self.idle.is_empty() && self.busy.is_empty()
    }
}

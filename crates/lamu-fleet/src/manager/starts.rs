//! The environments being made, and the versions that want one made but must
//! wait their turn.
//!
//! Not here: whether one is needed (`core`), the talking (`run`).

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use lamu_link::PlaceError;
use lamu_model::{InitializationType, SandboxId, VersionId, VersionSpec, WorkerId};

use crate::prng::IdMap;

/// One environment on its way.
#[derive(Debug)]
pub(super) struct Starting {
    pub spec: Arc<VersionSpec>,
    pub initialization: InitializationType,
    pub wished: Instant,
    /// Boots that failed before this one.
    pub failures: u32,
    pub avoid: Vec<WorkerId>,
    /// Once a host is chosen.
    pub worker: Option<WorkerId>,
    /// Set while it waits for its next try.
    pub retry_at: Option<Instant>,
    pub room: Option<RoomWait>,
}

impl Starting {
    pub(super) fn new(
        spec: Arc<VersionSpec>,
        initialization: InitializationType,
        wished: Instant,
    ) -> Starting {
        Starting {
            spec,
            initialization,
            wished,
            failures: 0,
            avoid: Vec::new(),
            worker: None,
            retry_at: None,
            room: None,
        }
    }
}

/// No host had room.
#[derive(Clone, Debug)]
pub(super) struct RoomWait {
    pub since: Instant,
    pub looks: u32,
    /// When it last had an idle environment end to make room.
    pub evicted: Option<Instant>,
    pub error: PlaceError,
}

#[derive(Debug, Default)]
pub(super) struct Starts {
    running: IdMap<SandboxId, Starting>,
    /// Those made on demand, and those for provisioned concurrency.
    per_version: IdMap<VersionId, usize>,
    provisioned: IdMap<VersionId, usize>,
    provisioned_total: usize,
    /// Versions for which more should be started, each once, in their turn.
    /// Empty but while `starts_max` are under way.
    wanting: VecDeque<VersionId>,
    wanted: HashSet<VersionId>,
}

impl Starts {
    pub(super) fn add(&mut self, sandbox: SandboxId, starting: Starting) {
        let version = starting.spec.id;
        if starting.initialization.is_provisioned() {
            self.provisioned_total += 1;
            *self.provisioned.entry(version).or_default() += 1;
        } else {
            *self.per_version.entry(version).or_default() += 1;
        }
        self.running.insert(sandbox, starting);
    }

    pub(super) fn get(&self, sandbox: SandboxId) -> Option<&Starting> {
        self.running.get(&sandbox)
    }

    pub(super) fn get_mut(&mut self, sandbox: SandboxId) -> Option<&mut Starting> {
        self.running.get_mut(&sandbox)
    }

    pub(super) fn remove(&mut self, sandbox: SandboxId) -> Option<Starting> {
        let starting = self.running.remove(&sandbox)?;
        let counts = if starting.initialization.is_provisioned() {
            self.provisioned_total -= 1;
            &mut self.provisioned
        } else {
            &mut self.per_version
        };
        if let Some(count) = counts.get_mut(&starting.spec.id) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&starting.spec.id);
            }
        }
        Some(starting)
    }

    /// Made on demand.
    pub(super) fn total(&self) -> usize {
        self.running.len() - self.provisioned_total
    }

    pub(super) fn provisioned_total(&self) -> usize {
        self.provisioned_total
    }

    pub(super) fn provisioned_of(&self, version: VersionId) -> usize {
        self.provisioned.get(&version).copied().unwrap_or(0)
    }

    pub(super) fn of(&self, version: VersionId) -> usize {
        self.per_version.get(&version).copied().unwrap_or(0)
    }

    pub(super) fn want(&mut self, version: VersionId) {
        if self.wanted.insert(version) {
            self.wanting.push_back(version);
        }
    }

    pub(super) fn next_wanting(&mut self) -> Option<VersionId> {
        let version = self.wanting.pop_front()?;
        self.wanted.remove(&version);
        Some(version)
    }

    /// Of those that wait for room, the one that has waited longest.
    pub(super) fn longest_without_room(&self) -> Option<SandboxId> {
        let waiting = self.running.iter().filter_map(|(sandbox, starting)| {
            starting.retry_at?;
            Some((starting.room.as_ref()?.since, *sandbox))
        });
        waiting.min().map(|(_, sandbox)| sandbox)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&SandboxId, &Starting)> {
        self.running.iter()
    }

    #[cfg(test)]
    pub(super) fn check(&self) {
        assert_eq!(self.per_version.values().sum::<usize>(), self.total());
        assert_eq!(self.provisioned.values().sum::<usize>(), self.provisioned_total);
        assert!(self.per_version.values().all(|count| *count > 0));
        assert!(self.provisioned.values().all(|count| *count > 0));
        assert_eq!(self.wanting.len(), self.wanted.len());
    }

    #[cfg(test)]
    pub(super) fn wants(&self, version: VersionId) -> bool {
        self.wanted.contains(&version)
    }
}

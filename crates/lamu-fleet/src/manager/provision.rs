//! Provisioned concurrency: so many environments of a version stand by,
//! initialised, whether calls come or not.
//!
//! - What is missing is made: at first, and whenever one ends.
//! - One that has reached its age ends once a fresh one stands by in its place.
//! - Where Init fails, one try at a time goes on, ever more seldom.
//! - A version that another replaces keeps what it has until that one has all.
//!
//! They are handed out before those made on demand, never end from idleness,
//! and never make room for another version.
//!
//! Not here: how many each version shall have (the frontend), boots (`making`).

use std::collections::{BTreeSet, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use lamu_link::{AcquireError, BootError, PlaceError, ProvisionFailure, ProvisionedRow};
use lamu_model::{InitializationType, SandboxId, VersionId, VersionSpec};

use super::alarm::Alarm;
use super::core::{Core, Effects};
use super::making::Scaled;
use super::pool::{Rest, State};
use super::starts::Starting;
use crate::prng::IdMap;

/// What one version shall have standing by.
#[derive(Debug)]
pub(super) struct Target {
    spec: Arc<VersionSpec>,
    count: usize,
    /// Given up once that version has all it asks for; nothing more is made.
    until: Option<VersionId>,
    /// Those past their age, kept until replaced.
    aging: BTreeSet<SandboxId>,
    failure: Option<ProvisionFailure>,
    /// In a row; those long after the one before begin a new row.
    failures: u32,
    failed_at: Option<Instant>,
    /// Nothing is made before.
    retry_at: Option<Instant>,
    invocations: u64,
    spilled: u64,
}

#[derive(Debug, Default)]
pub(super) struct Targets {
    by_version: IdMap<VersionId, Target>,
    /// Versions that may lack some, each once, in their turn.
    wanting: VecDeque<VersionId>,
    wanted: HashSet<VersionId>,
    /// Those that wait for another to be complete.
    held: usize,
}

impl Targets {
    pub(super) fn has(&self, version: VersionId) -> bool {
        // Most fleets have none; then no hash is made.
        !self.by_version.is_empty() && self.by_version.contains_key(&version)
    }

    /// A call of the version got an environment.
    pub(super) fn served(&mut self, version: VersionId, by: InitializationType) {
        if self.by_version.is_empty() {
            return;
        }
        let Some(target) = self.by_version.get_mut(&version) else { return };
        match by {
            InitializationType::ProvisionedConcurrency => target.invocations += 1,
            InitializationType::OnDemand => target.spilled += 1,
        }
    }

    /// Those to be given up once this version has all it asks for.
    fn held_for(&self, version: VersionId) -> Vec<VersionId> {
        if self.held == 0 {
            return Vec::new();
        }
        let held = self.by_version.iter().filter(|(_, target)| target.until == Some(version));
        held.map(|(held, _)| *held).collect()
    }

    fn want(&mut self, version: VersionId) {
        if self.by_version.contains_key(&version) && self.wanted.insert(version) {
            self.wanting.push_back(version);
        }
    }

    fn next_wanting(&mut self) -> Option<VersionId> {
        let version = self.wanting.pop_front()?;
        self.wanted.remove(&version);
        Some(version)
    }
}

impl<W> Core<W> {
    pub(super) fn provision(
        &mut self,
        now: Instant,
        spec: Arc<VersionSpec>,
        count: usize,
        effects: &mut Effects<W>,
    ) {
        let version = spec.id;
        if count == 0 {
            self.unprovision(now, version, None, effects);
            return;
        }
        // Asked for by one who has not heard that it was deleted.
        if self.retired.contains(version) {
            return;
        }
        let before = self.targets.by_version.remove(&version);
        let held = before.as_ref().is_some_and(|target| target.until.is_some());
        self.targets.held -= usize::from(held);
        if let Some(at) = before.as_ref().and_then(|target| target.retry_at) {
            self.alarms.clear(at, Alarm::Provision(version));
        }
        let target = Target {
            spec,
            count,
            until: None,
            failure: None,
            failures: 0,
            failed_at: None,
            retry_at: None,
            aging: before.as_ref().map_or_else(BTreeSet::new, |target| target.aging.clone()),
            invocations: before.as_ref().map_or(0, |target| target.invocations),
            spilled: before.as_ref().map_or(0, |target| target.spilled),
        };
        self.targets.by_version.insert(version, target);
        // Those that were there before anyone asked, and those on their way
        // out, are as good as new ones.
        for sandbox in self.pool.provisioned_of(version) {
            let Some(environment) = self.pool.get_mut(sandbox) else { continue };
            environment.leaving = false;
            if matches!(environment.state, State::Idle { .. }) {
                self.stand_by(now, sandbox);
            }
        }
        self.trim(now, version, effects);
        self.targets.want(version);
        self.fill(now, effects);
        self.release(now, version, effects);
    }

    pub(super) fn unprovision(
        &mut self,
        now: Instant,
        version: VersionId,
        after: Option<VersionId>,
        effects: &mut Effects<W>,
    ) {
        let after = after.filter(|after| *after != version && self.is_lacking(*after));
        let Some(after) = after else {
            self.give_up(now, version, effects);
            return;
        };
        let Some(target) = self.targets.by_version.get_mut(&version) else { return };
        self.targets.held += usize::from(target.until.is_none());
        target.until = Some(after);
        target.failure = None;
        if let Some(at) = target.retry_at.take() {
            self.alarms.clear(at, Alarm::Provision(version));
        }
    }

    /// Begins what is missing, as far as the bounds allow, in turn over the
    /// versions.
    pub(super) fn fill(&mut self, now: Instant, effects: &mut Effects<W>) {
        while self.starts.provisioned_total() < self.config.provisions_max
            && let Some(version) = self.targets.next_wanting()
        {
            if !self.may_provision(version) {
                continue;
            }
            let Some(target) = self.targets.by_version.get(&version) else { continue };
            let spec = target.spec.clone();
            if let Err(wait) = self.provisioning.take(now, Scaled::of(&spec)) {
                self.provision_at(now + wait, version);
                continue;
            }
            let starting = Starting::new(spec, InitializationType::ProvisionedConcurrency, now);
            self.begin(starting, effects);
            if self.may_provision(version) {
                self.targets.want(version);
            }
        }
    }

    pub(super) fn want_provisioned(&mut self, version: VersionId) {
        self.targets.want(version);
    }

    fn may_provision(&self, version: VersionId) -> bool {
        let Some(target) = self.targets.by_version.get(&version) else { return false };
        // While it fails, one try shows whether it still does.
        let at_once = match target.failure {
            Some(_) => 1,
            None => self.config.provisions_per_version_max,
        };
        target.retry_at.is_none()
            && self.lacking(target) > 0
            && self.starts.provisioned_of(version) < at_once
    }

    /// How many more shall be under way.
    fn lacking(&self, target: &Target) -> usize {
        if target.until.is_some() {
            return 0;
        }
        let version = target.spec.id;
        let there = self.pool.standing(version) + self.starts.provisioned_of(version);
        (target.count + target.aging.len()).saturating_sub(there)
    }

    /// Whether one more under way would be used.
    pub(super) fn is_provision_needed(&self, version: VersionId) -> bool {
        self.targets.by_version.get(&version).is_some_and(|target| self.lacking(target) > 0)
    }

    /// Whether the version asks for more than stands by.
    fn is_lacking(&self, version: VersionId) -> bool {
        let target = self.targets.by_version.get(&version);
        target.is_some_and(|target| self.pool.standing(version) < target.count)
    }

    /// Whether a start under way is one too many by now.
    pub(super) fn is_provision_spare(&self, version: VersionId) -> bool {
        let Some(target) = self.targets.by_version.get(&version) else { return true };
        let there = self.pool.standing(version) + self.starts.provisioned_of(version);
        target.until.is_some() || there > target.count + target.aging.len()
    }

    /// An environment that was made for it is ready.
    pub(super) fn provisioned(
        &mut self,
        now: Instant,
        version: VersionId,
        effects: &mut Effects<W>,
    ) {
        let Some(target) = self.targets.by_version.get_mut(&version) else { return };
        target.failure = None;
        self.targets.want(version);
        self.release(now, version, effects);
    }

    /// One could not be made, or ended before anyone used it.
    pub(super) fn provision_failed(
        &mut self,
        now: Instant,
        version: VersionId,
        failure: ProvisionFailure,
    ) {
        let (first, max) = (self.config.provision_pause, self.config.provision_pause_max);
        let Some(target) = self.targets.by_version.get_mut(&version) else { return };
        if target.until.is_some() {
            return;
        }
        target.failure = Some(failure);
        if target.retry_at.is_some() {
            // One of several that failed together.
            return;
        }
        let in_a_row = target.failed_at.is_some_and(|at| now <= at + 2 * max);
        target.failures = if in_a_row { target.failures.saturating_add(1) } else { 1 };
        target.failed_at = Some(now);
        let pause = first.saturating_mul(2u32.saturating_pow(target.failures - 1)).min(max);
        self.provision_at(now + pause, version);
    }

    fn provision_at(&mut self, at: Instant, version: VersionId) {
        let Some(target) = self.targets.by_version.get_mut(&version) else { return };
        if let Some(before) = target.retry_at.replace(at) {
            self.alarms.clear(before, Alarm::Provision(version));
        }
        self.alarms.set(at, Alarm::Provision(version));
    }

    pub(super) fn provision_again(&mut self, version: VersionId) {
        if let Some(target) = self.targets.by_version.get_mut(&version) {
            target.retry_at = None;
            self.targets.want(version);
        }
    }

    /// Rests an environment of a version that shall have some standing by.
    pub(super) fn stand_by(&mut self, now: Instant, sandbox: SandboxId) {
        let Some(environment) = self.pool.get(sandbox) else { return };
        let (version, old) = (environment.spec.id, now >= environment.old_at);
        if old {
            self.grow_old(sandbox, version);
        }
        self.pool.rest(sandbox, now, Rest::Standby);
    }

    /// It has reached its age: it goes when a fresh one is there.
    pub(super) fn grow_old(&mut self, sandbox: SandboxId, version: VersionId) {
        if let Some(target) = self.targets.by_version.get_mut(&version)
            && target.aging.insert(sandbox)
        {
            self.targets.want(version);
        }
    }

    /// An environment is no more, or is told to end.
    pub(super) fn unstand(&mut self, sandbox: SandboxId) {
        let Some(environment) = self.pool.get(sandbox) else { return };
        if !environment.initialization.is_provisioned() {
            return;
        }
        let version = environment.spec.id;
        if let Some(target) = self.targets.by_version.get_mut(&version) {
            target.aging.remove(&sandbox);
            self.targets.want(version);
        }
    }

    /// Ends what stands by beyond the count: the old ones first, then the
    /// least recently used. Busy ones are looked at again when they come back.
    pub(super) fn trim(&mut self, now: Instant, version: VersionId, effects: &mut Effects<W>) {
        while let Some(sandbox) = self.surplus_standby(version) {
            self.end(now, sandbox, effects);
        }
    }

    fn surplus_standby(&self, version: VersionId) -> Option<SandboxId> {
        let target = self.targets.by_version.get(&version)?;
        let standing = self.pool.standing(version);
        if standing <= target.count {
            return None;
        }
        let rests = |sandbox: &SandboxId| {
            let state = self.pool.get(*sandbox).map(|environment| environment.state);
            matches!(state, Some(State::Standby { .. }))
        };
        if let Some(old) = target.aging.iter().copied().find(rests) {
            return Some(old);
        }
        // All the old ones are busy, and will end when they come back.
        let staying = standing - target.aging.len();
        (staying > target.count).then(|| self.pool.first_standby(version)).flatten()
    }

    /// Gives up what waited for this version to be complete.
    pub(super) fn release(&mut self, now: Instant, version: VersionId, effects: &mut Effects<W>) {
        if self.targets.held == 0 || self.is_lacking(version) {
            return;
        }
        for waiting in self.targets.held_for(version) {
            self.give_up(now, waiting, effects);
        }
    }

    /// Nothing of the version stands by any more.
    pub(super) fn give_up(&mut self, now: Instant, version: VersionId, effects: &mut Effects<W>) {
        let mut going = vec![version];
        while let Some(version) = going.pop() {
            let Some(target) = self.targets.by_version.remove(&version) else { continue };
            self.targets.held -= usize::from(target.until.is_some());
            if let Some(at) = target.retry_at {
                self.alarms.clear(at, Alarm::Provision(version));
            }
            for sandbox in self.pool.provisioned_of(version) {
                let Some(environment) = self.pool.get_mut(sandbox) else { continue };
                match environment.state {
                    State::Standby { .. } | State::Idle { .. } => self.end(now, sandbox, effects),
                    State::Busy { .. } | State::Loose => environment.leaving = true,
                    State::Draining { .. } => {}
                }
            }
            // What waited for it waits in vain.
            going.extend(self.targets.held_for(version));
        }
    }

    pub(super) fn provisioned_rows(&self) -> Vec<ProvisionedRow> {
        let narrow = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        let rows = self.targets.by_version.iter().map(|(version, target)| ProvisionedRow {
            spec: target.spec.clone(),
            requested: narrow(target.count),
            // A fresh one may stand beside the old one it replaces.
            allocated: narrow(self.pool.standing(*version).min(target.count)),
            available: narrow(self.pool.standby_count(*version).min(target.count)),
            failure: target.failure.clone(),
            leaving: target.until.is_some(),
            invocations: target.invocations,
            spilled: target.spilled,
        });
        rows.collect()
    }

    #[cfg(test)]
    pub(super) fn check_targets(&self) -> usize {
        let mut alarms = 0;
        assert!(self.starts.provisioned_total() <= self.config.provisions_max);
        let held = self.targets.by_version.values().filter(|t| t.until.is_some()).count();
        assert_eq!(self.targets.held, held);
        for (version, target) in &self.targets.by_version {
            assert!(!self.retired.contains(*version), "a deleted version is provisioned");
            alarms += usize::from(target.retry_at.is_some());
            for old in &target.aging {
                let environment = self.pool.get(*old).expect("an old one that is no more");
                assert!(environment.initialization.is_provisioned());
                assert!(!matches!(environment.state, State::Draining { .. }));
            }
            let covered = self.lacking(target) == 0
                || target.retry_at.is_some()
                || self.targets.wanted.contains(version)
                || self.starts.provisioned_of(*version)
                    >= if target.failure.is_some() {
                        1
                    } else {
                        self.config.provisions_per_version_max
                    };
            assert!(covered, "something is missing and nobody sees to it");
            if let Some(until) = target.until {
                assert!(self.is_lacking(until), "it was to be given up");
            }
            assert!(self.surplus_standby(*version).is_none(), "more stand by than shall");
        }
        alarms
    }
}

/// What a start's failure means for those who asked for the concurrency.
pub(super) fn failure_of(error: &AcquireError) -> ProvisionFailure {
    match error {
        AcquireError::Boot(BootError::InitFailed { what }) => {
            ProvisionFailure::Init { what: what.clone() }
        }
        AcquireError::Boot(BootError::NoRoom { .. })
        | AcquireError::Place(PlaceError::Full | PlaceError::NoWorker) => ProvisionFailure::NoRoom,
        AcquireError::Boot(error) => ProvisionFailure::Other { what: error.to_string() },
        other => ProvisionFailure::Other { what: other.to_string() },
    }
}

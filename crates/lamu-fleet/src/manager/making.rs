//! What the core starts, and what becomes of a start that fails.
//!
//! - No more is under way than waits, within the bounds, in turn over versions,
//!   and no faster than a function may scale.
//! - A host that failed a boot is avoided by the next try.
//! - Where no host has room, something idle goes; where nothing is idle, a
//!   start that waited long gets the next environment that comes back.
//!
//! Not here: who gets an environment (`core`).

use std::time::Instant;

use lamu_link::{AcquireError, BootError, PlaceError};
use lamu_model::{
    AccountId, FunctionName, InitializationType, Region, SandboxId, VersionId, VersionSpec,
};

use super::alarm::Alarm;
use super::core::{Core, Effect, Effects};
use super::provision::failure_of;
use super::starts::{RoomWait, Starting};

/// Whom a failed start concerns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Blame {
    /// Every attempt would fail alike: all that wait for the version.
    Version,
    /// The longest waiter; others may have better luck.
    OneWaiter,
    /// Those that waited for room as long as one may.
    WaitedForRoom,
}

/// What scales at a rate: a function with all its versions.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Scaled {
    account: AccountId,
    region: Region,
    name: FunctionName,
}

impl Scaled {
    pub(super) fn of(spec: &VersionSpec) -> Scaled {
        let (account, region, name) = (&spec.account, &spec.region, &spec.name);
        Scaled { account: account.clone(), region: region.clone(), name: name.clone() }
    }
}

impl<W> Core<W> {
    /// No host was found for a start.
    pub(super) fn unplaced(
        &mut self,
        now: Instant,
        sandbox: SandboxId,
        error: PlaceError,
        effects: &mut Effects<W>,
    ) {
        match error {
            PlaceError::NoWorker | PlaceError::Full => self.no_room(now, sandbox, error, effects),
            PlaceError::PlacementGone => {
                self.fail(now, sandbox, Blame::Version, AcquireError::Place(error), effects);
            }
        }
    }

    pub(super) fn boot_failed(
        &mut self,
        now: Instant,
        sandbox: SandboxId,
        error: BootError,
        effects: &mut Effects<W>,
    ) {
        let Some(starting) = self.starts.get_mut(sandbox) else { return };
        if !error.may_retry() {
            self.fail(now, sandbox, Blame::Version, AcquireError::Boot(error), effects);
            return;
        }
        if let Some(worker) = starting.worker.take()
            && !starting.avoid.contains(&worker)
        {
            starting.avoid.push(worker);
        }
        if matches!(error, BootError::NoRoom { .. }) {
            self.no_room(now, sandbox, PlaceError::Full, effects);
            return;
        }
        starting.failures += 1;
        let failures = starting.failures;
        if failures >= self.config.attempts_max {
            self.fail(now, sandbox, Blame::OneWaiter, AcquireError::Boot(error), effects);
        } else {
            let pause = self.config.retry_pause * 2u32.saturating_pow(failures - 1);
            self.retry_at(now + pause, sandbox);
        }
    }

    /// How many more of the version should be under way.
    fn missing(&self, version: VersionId) -> usize {
        let waiting = self.line.len(version) - self.line.patient(version);
        waiting.saturating_sub(self.starts.of(version))
    }

    /// Whether a start under way is one too many by now.
    pub(super) fn is_spare(&self, starting: &Starting) -> bool {
        let version = starting.spec.id;
        match starting.initialization {
            InitializationType::OnDemand => self.starts.of(version) > self.line.len(version),
            InitializationType::ProvisionedConcurrency => self.is_provision_spare(version),
        }
    }

    fn may_start(&self, version: VersionId) -> bool {
        self.missing(version) > 0 && self.starts.of(version) < self.config.starts_per_version_max
    }

    /// Begins what is missing for the version, and for others whose turn it
    /// is, as far as the bounds allow. Called whenever someone came to wait or
    /// a start ended.
    pub(super) fn start_for(&mut self, now: Instant, version: VersionId, effects: &mut Effects<W>) {
        if self.may_start(version) {
            self.starts.want(version);
        }
        while self.starts.total() < self.config.starts_max
            && let Some(version) = self.starts.next_wanting()
        {
            self.start_one(now, version, effects);
            // Behind the others: one at a time, so that a version with many
            // waiters does not shut out one with few.
            if self.may_start(version) {
                self.starts.want(version);
            }
        }
    }

    /// Every new start on demand passes here. One that comes too fast is refused
    /// at the expense of the latest comer.
    fn start_one(&mut self, now: Instant, version: VersionId, effects: &mut Effects<W>) {
        if !self.may_start(version) {
            return;
        }
        let first = self.line.first(version).and_then(|ticket| self.line.get(ticket));
        let Some(first) = first else { return };
        let spec = first.spec.clone();
        if let Err(retry_after) = self.scaling.take(now, Scaled::of(&spec)) {
            let last = self.line.last_impatient(version);
            if let Some(waiter) = last.and_then(|ticket| self.leave_line(ticket)) {
                let why = AcquireError::ScalingRate { retry_after };
                effects.push(Effect::Refuse { to: waiter.to, why });
            }
            return;
        }
        self.begin(Starting::new(spec, InitializationType::OnDemand, now), effects);
    }

    pub(super) fn begin(&mut self, starting: Starting, effects: &mut Effects<W>) {
        let sandbox = (self.ids)();
        effects.push(Effect::Boot {
            sandbox,
            spec: starting.spec.clone(),
            initialization: starting.initialization,
            avoid: starting.avoid.clone(),
            wished: starting.wished,
        });
        self.starts.add(sandbox, starting);
        debug_assert!(
            self.starts.get(sandbox).is_some_and(|starting| !self.is_spare(starting)),
            "nobody needs it"
        );
    }

    pub(super) fn retry_at(&mut self, at: Instant, sandbox: SandboxId) {
        let Some(starting) = self.starts.get_mut(sandbox) else { return };
        if let Some(before) = starting.retry_at.replace(at) {
            self.alarms.clear(before, Alarm::Retry(sandbox));
        }
        self.alarms.set(at, Alarm::Retry(sandbox));
    }

    pub(super) fn retry(&mut self, now: Instant, sandbox: SandboxId, effects: &mut Effects<W>) {
        let Some(mut starting) = self.starts.remove(sandbox) else { return };
        let version = starting.spec.id;
        // Not itself counted any more.
        let needed = match starting.initialization {
            InitializationType::OnDemand => self.starts.of(version) < self.line.len(version),
            InitializationType::ProvisionedConcurrency => self.is_provision_needed(version),
        };
        if needed {
            starting.retry_at = None;
            let claims = self.claim == Some(sandbox);
            self.begin_again(starting, claims, effects);
        }
        self.start_for(now, version, effects);
    }

    /// A sandbox's id is never used for two.
    fn begin_again(&mut self, starting: Starting, claims: bool, effects: &mut Effects<W>) {
        self.begin(starting, effects);
        if claims && let Some(Effect::Boot { sandbox, .. }) = effects.last() {
            self.claim = Some(*sandbox);
        }
    }

    /// No host has room: makes some, and looks again for a while.
    fn no_room(
        &mut self,
        now: Instant,
        sandbox: SandboxId,
        error: PlaceError,
        effects: &mut Effects<W>,
    ) {
        let Some(starting) = self.starts.get_mut(sandbox) else { return };
        let room = starting.room.get_or_insert_with(|| RoomWait {
            since: now,
            looks: 0,
            evicted: None,
            error: error.clone(),
        });
        room.error = error;
        room.looks += 1;
        let (since, looks) = (room.since, room.looks);
        let may_evict = room.error == PlaceError::Full
            && room.evicted.is_none_or(|at| now >= at + self.config.evict_pause);
        let spare = self.starts.get(sandbox).is_some_and(|starting| self.is_spare(starting));
        if now >= since + self.config.room_wait_max || spare {
            let why = AcquireError::Place(self.room_error(sandbox));
            self.fail(now, sandbox, Blame::WaitedForRoom, why, effects);
            return;
        }
        if may_evict {
            if let Some((surplus, _)) = self.pool.surplus() {
                self.end(now, surplus, effects);
                self.mark_evicted(now, sandbox);
            } else if now >= since + self.config.room_claim_after && self.claim.is_none() {
                self.claim = Some(sandbox);
                self.mark_evicted(now, sandbox);
            }
        }
        let pause = self.config.room_pause * 2u32.pow((looks - 1).min(3));
        self.retry_at(now + pause, sandbox);
    }

    fn room_error(&self, sandbox: SandboxId) -> PlaceError {
        let room = self.starts.get(sandbox).and_then(|starting| starting.room.as_ref());
        room.map_or(PlaceError::Full, |room| room.error.clone())
    }

    fn mark_evicted(&mut self, now: Instant, sandbox: SandboxId) {
        if let Some(room) = self.starts.get_mut(sandbox).and_then(|s| s.room.as_mut()) {
            room.evicted = Some(now);
        }
    }

    /// A start is given up, and those it concerns hear why.
    fn fail(
        &mut self,
        now: Instant,
        sandbox: SandboxId,
        blame: Blame,
        why: AcquireError,
        effects: &mut Effects<W>,
    ) {
        let Some(starting) = self.starts.remove(sandbox) else { return };
        let version = starting.spec.id;
        if starting.initialization.is_provisioned() {
            // Nobody waits for this one.
            self.provision_failed(now, version, failure_of(&why));
            self.want_provisioned(version);
            self.fill(now, effects);
            return;
        }
        let waits_since = match blame {
            Blame::WaitedForRoom => now.checked_sub(self.config.room_wait_max),
            Blame::Version | Blame::OneWaiter => Some(now),
        };
        while let Some(ticket) = self.line.first(version)
            && self.line.get(ticket).is_some_and(|w| waits_since.is_some_and(|t| w.since <= t))
            && let Some(waiter) = self.leave_line(ticket)
        {
            effects.push(Effect::Refuse { to: waiter.to, why: why.clone() });
            if blame == Blame::OneWaiter {
                break;
            }
        }
        self.start_for(now, version, effects);
    }
}

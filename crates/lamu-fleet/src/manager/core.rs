//! Every decision of the manager: who gets which environment, when one is
//! made, when one ends.
//!
//! Values in, effects out. Time and ids are handed in, so the same code runs
//! in the simulation.
//!
//! What always holds between two calls:
//! - an environment is leased to at most one, and never idle meanwhile;
//! - it serves one version for its whole life;
//! - nobody waits while an environment of that version is idle;
//! - no start is begun on demand unless more wait than are started for.
//!
//! Not here: what is started, and what becomes of a start that fails
//! (`making`); what stands by whether calls come or not (`provision`); talking (`run`); the books (`pool`, `line`, `starts`).

use std::sync::Arc;
use std::time::{Duration, Instant};

use lamu_link::{
    AcquireError, Booted, EnvironmentHandle, EnvironmentReport, EnvironmentRow, EnvironmentState,
    ProvisionFailure, Start, WorkerEvent,
};
use lamu_model::{InitializationType, LeaseId, SandboxId, VersionId, VersionSpec, WorkerId};

use super::alarm::{Alarm, Alarms};
use super::config::ManagerConfig;
use super::limiter::Limiter;
use super::line::{Line, Ticket, Waiter};
use super::making::Scaled;
use super::pool::{Environment, Pool, Rest, State};
use super::provision::Targets;
use super::retired::Retired;
use super::starts::Starts;
use crate::prng::mix;

/// Busy environments looked at to find one that is about to come back. Each
/// look may miss the cache; past this many, a start is the cheaper answer.
const ANSWERED_LOOKS_MAX: usize = 64;

/// After an environment ended, placement may hear of the room a moment later
/// than the manager does.
const ROOM_SETTLE: Duration = Duration::from_millis(1);

/// What the loop has to do. `W` is the way to the caller.
#[derive(Debug)]
pub(super) enum Effect<W> {
    Grant {
        to: W,
        lease: LeaseId,
        environment: EnvironmentHandle,
        start: Start,
    },
    Refuse {
        to: W,
        why: AcquireError,
    },
    /// Find a host and make it there; answered by `placed`, `unplaced`,
    /// `booted` or `boot_failed`.
    Boot {
        sandbox: SandboxId,
        spec: Arc<VersionSpec>,
        initialization: InitializationType,
        avoid: Vec<WorkerId>,
        wished: Instant,
    },
    Retire {
        worker: WorkerId,
        sandbox: SandboxId,
    },
}

pub(super) type Effects<W> = Vec<Effect<W>>;

pub(super) struct Core<W> {
    pub(super) config: ManagerConfig,
    pub(super) ids: Box<dyn FnMut() -> SandboxId + Send>,
    pub(super) pool: Pool,
    pub(super) line: Line<W>,
    pub(super) starts: Starts,
    pub(super) alarms: Alarms,
    pub(super) targets: Targets,
    /// New environments of each function, on demand and provisioned.
    pub(super) scaling: Limiter<Scaled>,
    pub(super) provisioning: Limiter<Scaled>,
    pub(super) retired: Retired,
    /// The start that gets the next environment of another version.
    pub(super) claim: Option<SandboxId>,
    lease_next: u64,
}

impl<W> Core<W> {
    /// `ids` must never repeat one, not even after a restart.
    pub(super) fn new(
        config: ManagerConfig,
        ids: impl FnMut() -> SandboxId + Send + 'static,
    ) -> Core<W> {
        Core {
            scaling: Limiter::new(config.scaling),
            provisioning: Limiter::new(config.provisioning),
            targets: Targets::default(),
            config,
            ids: Box::new(ids),
            pool: Pool::default(),
            line: Line::new(),
            starts: Starts::default(),
            alarms: Alarms::default(),
            retired: Retired::default(),
            claim: None,
            lease_next: 1,
        }
    }

    /// Grants at once, or returns the place in the line, or refuses.
    pub(super) fn acquire(
        &mut self,
        now: Instant,
        spec: Arc<VersionSpec>,
        deadline: Instant,
        to: W,
        effects: &mut Effects<W>,
    ) -> Option<Ticket> {
        let version = spec.id;
        while let Some(sandbox) = self.pool.top(version) {
            if self.is_usable(now, sandbox) {
                self.grant(sandbox, to, effects);
                return None;
            }
            self.end(now, sandbox, effects);
            self.fill(now, effects);
        }
        if deadline <= now {
            effects.push(Effect::Refuse { to, why: AcquireError::Late { waited: Duration::ZERO } });
            return None;
        }
        if self.line.waiting() >= self.config.waiting_max {
            effects.push(Effect::Refuse { to, why: AcquireError::Crowded });
            return None;
        }
        let patient = self.line.patient(version);
        let finishing = self.pool.answered(version, patient + 1, ANSWERED_LOOKS_MAX);
        let patient_until = (finishing > patient).then(|| now + self.config.patience);
        let ticket = self.line.push(Waiter { to, spec, since: now, deadline, patient_until });
        self.alarms.set(deadline, Alarm::Late(ticket));
        if let Some(until) = patient_until {
            self.alarms.set(until, Alarm::Impatient(ticket));
        }
        self.start_for(now, version, effects);
        // Refused already when no more may be made for it.
        self.line.get(ticket).map(|_| ticket)
    }

    /// The caller went away. Starts under way go on: they may serve the next.
    pub(super) fn cancel(&mut self, ticket: Ticket) {
        self.leave_line(ticket);
    }

    /// A lease was dropped. Leases of an environment that ended meanwhile, or
    /// of another reign, are none of ours.
    pub(super) fn returned(
        &mut self,
        now: Instant,
        lease: LeaseId,
        sandbox: SandboxId,
        effects: &mut Effects<W>,
    ) {
        let current = self.pool.get(sandbox).map(|environment| environment.state);
        if matches!(current, Some(State::Busy { lease: Some(held), .. }) if held == lease) {
            self.settle(now, sandbox, effects);
            self.fill(now, effects);
        }
    }

    pub(super) fn retire(&mut self, now: Instant, version: VersionId, effects: &mut Effects<W>) {
        self.retired.add(version);
        self.give_up(now, version, effects);
        for sandbox in self.pool.free_of(version) {
            self.end(now, sandbox, effects);
        }
    }

    pub(super) fn event(&mut self, now: Instant, event: WorkerEvent, effects: &mut Effects<W>) {
        match event {
            WorkerEvent::Gone { sandbox } => {
                self.ended_unused(now, sandbox);
                self.gone(now, sandbox, effects);
            }
            WorkerEvent::Idle(report) => self.free_again(now, report, effects),
            WorkerEvent::Lost { worker } => {
                for sandbox in self.pool.on_worker(&worker) {
                    self.gone(now, sandbox, effects);
                }
            }
        }
        self.fill(now, effects);
    }

    /// What a worker had when this reign reached it.
    pub(super) fn adopt(
        &mut self,
        now: Instant,
        reports: Vec<EnvironmentReport>,
        effects: &mut Effects<W>,
    ) {
        for report in reports {
            let sandbox = report.environment.sandbox;
            if self.pool.get(sandbox).is_some() || self.starts.get(sandbox).is_some() {
                continue;
            }
            let (busy, version) = (report.busy, report.spec.id);
            self.admit(now, report);
            match busy {
                true => drop(self.pool.lend(sandbox, None)),
                false => self.settle(now, sandbox, effects),
            }
            self.trim(now, version, effects);
            self.release(now, version, effects);
        }
        self.fill(now, effects);
    }

    /// A host was chosen for a start.
    pub(super) fn placed(&mut self, sandbox: SandboxId, worker: WorkerId) {
        if let Some(starting) = self.starts.get_mut(sandbox) {
            starting.worker = Some(worker);
        }
    }

    pub(super) fn booted(
        &mut self,
        now: Instant,
        sandbox: SandboxId,
        booted: Booted,
        effects: &mut Effects<W>,
    ) {
        let Some(starting) = self.starts.remove(sandbox) else { return };
        let version = starting.spec.id;
        let provisioned = starting.initialization.is_provisioned();
        // Nobody asks for it any more.
        let leaving = provisioned && !self.targets.has(version);
        let report = EnvironmentReport {
            environment: booted.environment,
            spec: starting.spec,
            initialization: starting.initialization,
            busy: false,
            age: Duration::ZERO,
        };
        let environment = self.admit(now, report);
        environment.fresh = Some(booted.timings);
        environment.leaving = leaving;
        self.settle(now, sandbox, effects);
        if provisioned {
            self.provisioned(now, version, effects);
        }
        self.start_for(now, version, effects);
        self.fill(now, effects);
    }

    /// Does what is due.
    pub(super) fn tick(&mut self, now: Instant, effects: &mut Effects<W>) {
        while let Some(alarm) = self.alarms.take_due(now) {
            match alarm {
                Alarm::Late(ticket) => {
                    if let Some(waiter) = self.leave_line(ticket) {
                        let waited = now - waiter.since;
                        let why = AcquireError::Late { waited };
                        effects.push(Effect::Refuse { to: waiter.to, why });
                    }
                }
                Alarm::Impatient(ticket) => {
                    self.line.end_patience(ticket);
                    self.start_for(now, ticket.version, effects);
                }
                Alarm::Retry(sandbox) => self.retry(now, sandbox, effects),
                Alarm::Old(sandbox) => {
                    let Some(environment) = self.pool.get(sandbox) else { continue };
                    let version = environment.spec.id;
                    match environment.state {
                        State::Idle { .. } => self.end(now, sandbox, effects),
                        State::Draining { .. } => {}
                        _ if self.is_provisioned(environment) => {
                            self.grow_old(sandbox, version);
                            self.trim(now, version, effects);
                        }
                        // A busy one ends when it comes back.
                        _ => {}
                    }
                }
                Alarm::Provision(version) => self.provision_again(version),
                Alarm::Forget(sandbox) => self.gone(now, sandbox, effects),
            }
        }
        while let Some((sandbox, since)) = self.pool.surplus() {
            if since + self.config.idle_keep > now {
                break;
            }
            self.end(now, sandbox, effects);
        }
        self.fill(now, effects);
    }

    /// When `tick` has something to do next.
    pub(super) fn wake_at(&self) -> Option<Instant> {
        let surplus = self.pool.surplus().map(|(_, since)| since + self.config.idle_keep);
        match (self.alarms.next(), surplus) {
            (Some(alarm), Some(surplus)) => Some(alarm.min(surplus)),
            (alarm, surplus) => alarm.or(surplus),
        }
    }

    pub(super) fn waiter_mut(&mut self, ticket: Ticket) -> Option<&mut W> {
        self.line.get_mut(ticket).map(|waiter| &mut waiter.to)
    }

    /// What a start under way is to make.
    pub(super) fn start_of(
        &self,
        sandbox: SandboxId,
    ) -> Option<(Arc<VersionSpec>, InitializationType)> {
        let starting = self.starts.get(sandbox)?;
        Some((starting.spec.clone(), starting.initialization))
    }

    pub(super) fn census(&self, now: Instant) -> Vec<EnvironmentRow> {
        let made = self.pool.iter().map(|environment| EnvironmentRow {
            sandbox: environment.handle.sandbox,
            worker: environment.handle.worker.clone(),
            spec: environment.spec.clone(),
            initialization: environment.initialization,
            state: match environment.state {
                State::Loose | State::Idle { .. } | State::Standby { .. } => EnvironmentState::Idle,
                State::Busy { .. } => EnvironmentState::Busy,
                State::Draining { .. } => EnvironmentState::Draining,
            },
            age: now.saturating_duration_since(environment.made),
        });
        // Before a host is chosen there is nothing yet.
        let starting = self.starts.iter().filter_map(|(sandbox, starting)| {
            Some(EnvironmentRow {
                sandbox: *sandbox,
                worker: starting.worker.clone()?,
                spec: starting.spec.clone(),
                initialization: starting.initialization,
                state: EnvironmentState::Starting,
                age: now.saturating_duration_since(starting.wished),
            })
        });
        made.chain(starting).collect()
    }

    // ---- environments ----

    /// An environment has become free: to the longest waiter, or to rest, or
    /// to its end.
    fn settle(&mut self, now: Instant, sandbox: SandboxId, effects: &mut Effects<W>) {
        let Some(environment) = self.pool.get(sandbox) else { return };
        let version = environment.spec.id;
        let provisioned = environment.initialization.is_provisioned();
        if environment.leaving
            || !self.is_usable(now, sandbox)
            || (!provisioned && self.is_claimed(version))
        {
            self.end(now, sandbox, effects);
            self.start_for(now, version, effects);
            return;
        }
        let waiter = self.line.first(version).and_then(|ticket| self.leave_line(ticket));
        if let Some(waiter) = waiter {
            self.grant(sandbox, waiter.to, effects);
            return;
        }
        if self.retired.contains(version) {
            self.end(now, sandbox, effects);
            return;
        }
        if provisioned && self.targets.has(version) {
            self.stand_by(now, sandbox);
            self.trim(now, version, effects);
            self.release(now, version, effects);
            return;
        }
        self.pool.rest(sandbox, now, Rest::Idle);
        if self.pool.idle_count() > self.config.idle_max
            && let Some((surplus, _)) = self.pool.surplus()
        {
            self.end(now, surplus, effects);
        }
    }

    fn grant(&mut self, sandbox: SandboxId, to: W, effects: &mut Effects<W>) {
        let lease = LeaseId(self.lease_next);
        self.lease_next += 1;
        let Some(lent) = self.pool.get(sandbox) else { return };
        let (version, initialization) = (lent.spec.id, lent.initialization);
        let Some((environment, fresh)) = self.pool.lend(sandbox, Some(lease)) else { return };
        self.targets.served(version, initialization);
        let start = match fresh {
            Some(timings) if !initialization.is_provisioned() => Start::Cold(timings),
            // Nobody waited for it.
            _ => Start::Warm,
        };
        effects.push(Effect::Grant { to, lease, environment, start });
    }

    fn is_usable(&self, now: Instant, sandbox: SandboxId) -> bool {
        self.pool
            .get(sandbox)
            .is_some_and(|e| !e.handle.is_gone() && (now < e.old_at || self.is_provisioned(e)))
    }

    /// Whether it is one of those that shall stand by.
    fn is_provisioned(&self, environment: &Environment) -> bool {
        environment.initialization.is_provisioned()
            && !environment.leaving
            && self.targets.has(environment.spec.id)
    }

    /// Whether a start that found no room for long takes this one's place.
    fn is_claimed(&mut self, version: VersionId) -> bool {
        let Some(claimant) = self.claim else { return false };
        let claiming = self.starts.get(claimant);
        if claiming.is_some_and(|claiming| claiming.spec.id == version) {
            return false;
        }
        let needed = claiming.is_some_and(|claiming| !self.is_spare(claiming));
        self.claim = None;
        needed
    }

    /// Takes a new environment into the books; `settle` or `lend` is next.
    fn admit(&mut self, now: Instant, report: EnvironmentReport) -> &mut Environment {
        let sandbox = report.environment.sandbox;
        let made = now.checked_sub(report.age).unwrap_or(now);
        let old_at = made + age_limit(&self.config, sandbox);
        self.alarms.set(old_at, Alarm::Old(sandbox));
        self.pool.add(Environment {
            handle: report.environment,
            spec: report.spec,
            initialization: report.initialization,
            made,
            old_at,
            fresh: None,
            leaving: false,
            state: State::Loose,
        })
    }

    /// Ends an environment that is not leased.
    pub(super) fn end(&mut self, now: Instant, sandbox: SandboxId, effects: &mut Effects<W>) {
        let Some(environment) = self.pool.get(sandbox) else { return };
        if environment.handle.is_gone() {
            self.ended_unused(now, sandbox);
            self.forget(sandbox);
            return;
        }
        let worker = environment.handle.worker.clone();
        effects.push(Effect::Retire { worker, sandbox });
        let until = now + self.config.drain_keep;
        self.pool.drain(sandbox, until);
        self.unstand(sandbox);
        self.alarms.set(until, Alarm::Forget(sandbox));
    }

    fn gone(&mut self, now: Instant, sandbox: SandboxId, effects: &mut Effects<W>) {
        if let Some(environment) = self.forget(sandbox) {
            self.start_for(now, environment.spec.id, effects);
        }
        // There is room now.
        if let Some(start) = self.starts.longest_without_room() {
            self.retry_at(now + ROOM_SETTLE, start);
        }
    }

    /// One that ended by itself before any call came is a failure: its next
    /// may do the same, and so without end.
    fn ended_unused(&mut self, now: Instant, sandbox: SandboxId) {
        let Some(environment) = self.pool.get(sandbox) else { return };
        let unused = matches!(environment.state, State::Standby { .. });
        if unused && environment.fresh.is_some() {
            let version = environment.spec.id;
            let what = "the environment ended before its first invocation".to_owned();
            self.provision_failed(now, version, ProvisionFailure::Init { what });
        }
    }

    fn forget(&mut self, sandbox: SandboxId) -> Option<Environment> {
        if let State::Draining { until } = self.pool.get(sandbox)?.state {
            self.alarms.clear(until, Alarm::Forget(sandbox));
        }
        self.unstand(sandbox);
        let environment = self.pool.remove(sandbox)?;
        self.alarms.clear(environment.old_at, Alarm::Old(sandbox));
        Some(environment)
    }

    /// An environment leased by an older reign is free.
    fn free_again(&mut self, now: Instant, report: EnvironmentReport, effects: &mut Effects<W>) {
        let sandbox = report.environment.sandbox;
        match self.pool.get(sandbox).map(|environment| environment.state) {
            Some(State::Busy { lease: None, .. }) => self.settle(now, sandbox, effects),
            Some(_) => {}
            None if self.starts.get(sandbox).is_some() => {}
            None => {
                // The event overtook the worker's report.
                self.admit(now, report);
                self.settle(now, sandbox, effects);
            }
        }
    }

    // ---- the line ----

    pub(super) fn leave_line(&mut self, ticket: Ticket) -> Option<Waiter<W>> {
        let waiter = self.line.remove(ticket)?;
        self.alarms.clear(waiter.deadline, Alarm::Late(ticket));
        if let Some(until) = waiter.patient_until {
            self.alarms.clear(until, Alarm::Impatient(ticket));
        }
        Some(waiter)
    }
}

/// How old this environment may get: the same whoever asks, spread by its id.
pub(super) fn age_limit(config: &ManagerConfig, sandbox: SandboxId) -> Duration {
    let (high, low) = sandbox.0.as_u64_pair();
    // From -1 to 1.
    let spread = mix(high ^ low) as f64 / u64::MAX as f64 * 2.0 - 1.0;
    let jitter = config.age_jitter.mul_f64(spread.abs());
    if spread < 0.0 { config.age_max.saturating_sub(jitter) } else { config.age_max + jitter }
}

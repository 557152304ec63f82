//! The core alone under thousands of random steps in virtual time, with a
//! world that remembers what it was told and checks every promise after each.
//!
//! Not here: single cases (`decisions`), real tasks (`tests/storm.rs`).

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use lamu_link::{
    AcquireError, BootError, Booted, EnvironmentHandle, EnvironmentReport, PlaceError, Start,
    Timings, Work, WorkerEvent,
};
use lamu_model::{
    Digest, Epoch, InitializationType, LeaseId, SandboxId, VersionId, VersionSpec, WorkerId,
};
use tokio::sync::mpsc;
use uuid::Uuid;

use super::config::ManagerConfig;
use super::core::{Core, Effect};
use super::desk::spec;
use super::limiter::Rate;
use super::line::Ticket;
use super::pool::State;
use crate::prng::SplitMix;

const VERSIONS: u64 = 6;
const HOSTS: u64 = 3;

type Caller = u64;

struct World {
    chance: SplitMix,
    now: Instant,
    core: Core<Caller>,
    config: ManagerConfig,
    /// Environments that fit on all hosts.
    places: usize,
    environments: BTreeMap<SandboxId, Living>,
    /// Told to end, not yet gone.
    ending: BTreeSet<SandboxId>,
    leases: BTreeMap<LeaseId, SandboxId>,
    leased_before: HashSet<LeaseId>,
    booted_before: HashSet<SandboxId>,
    booting: BTreeMap<SandboxId, (Arc<VersionSpec>, InitializationType)>,
    /// How many of each version shall stand by.
    provisioned: BTreeMap<VersionId, usize>,
    waiting: BTreeMap<Caller, (Ticket, VersionId, Instant)>,
    /// Who is asking in this very step.
    asking: Option<(Caller, VersionId)>,
    retired: HashSet<VersionId>,
    callers: u64,
    tally: Tally,
}

/// That a run really met what it is there to meet.
#[derive(Debug, Default)]
struct Tally {
    cold: usize,
    warm: usize,
    late: usize,
    no_room: usize,
    boot_errors: usize,
    crowded: usize,
    evicted_or_ended: usize,
    cancelled: usize,
    stale_returns: usize,
    adopted: usize,
    too_fast: usize,
    asked_to_stand: usize,
    stood: usize,
    stood_and_served: usize,
    shifted: usize,
    init_failed: usize,
}

struct Living {
    handle: EnvironmentHandle,
    spec: Arc<VersionSpec>,
    initialization: InitializationType,
    /// Dropping it makes the environment gone.
    inbox: Option<mpsc::Receiver<Work>>,
    used: bool,
}

#[test]
fn thousands_of_random_steps_keep_every_promise() {
    let mut tally = Tally::default();
    for seed in 0..60 {
        let mut world = World::new(seed);
        for _ in 0..3_000 {
            world.step();
            world.check();
        }
        world.calm_down();
        world.drain();
        tally.add(&world.tally);
    }
    for (what, count) in tally.rows() {
        assert!(count > 100, "the runs met {what} only {count} times: {tally:?}");
    }
}

impl World {
    fn new(seed: u64) -> World {
        let config = ManagerConfig {
            idle_keep: Duration::from_millis(400),
            age_max: Duration::from_millis(1_500),
            age_jitter: Duration::from_millis(300),
            idle_max: 5,
            waiting_max: 20,
            starts_max: 7,
            starts_per_version_max: 4,
            room_wait_max: Duration::from_millis(60),
            room_claim_after: Duration::from_millis(30),
            drain_keep: Duration::from_millis(500),
            scaling: Rate { burst: 3, per: Duration::from_millis(100) },
            provisions_max: 4,
            provisions_per_version_max: 2,
            provisioning: Rate { burst: 20, per: Duration::from_millis(50) },
            provision_pause: Duration::from_millis(20),
            provision_pause_max: Duration::from_millis(200),
            ..ManagerConfig::new(Epoch(seed))
        };
        let mut next = 0;
        let ids = move || {
            next += 1;
            SandboxId(Uuid::from_u64_pair(seed, next))
        };
        World {
            chance: SplitMix::new(seed),
            now: Instant::now(),
            core: Core::new(config.clone(), ids),
            config,
            places: [4, 9, 30][seed as usize % 3],
            environments: BTreeMap::new(),
            ending: BTreeSet::new(),
            leases: BTreeMap::new(),
            leased_before: HashSet::new(),
            booted_before: HashSet::new(),
            booting: BTreeMap::new(),
            provisioned: BTreeMap::new(),
            waiting: BTreeMap::new(),
            asking: None,
            retired: HashSet::new(),
            callers: 0,
            tally: Tally::default(),
        }
    }

    fn step(&mut self) {
        self.now += Duration::from_micros(self.chance.below(2_000) as u64);
        match self.chance.below(100) {
            0..=31 => self.acquire(),
            32..=34 => self.provision(),
            35..=54 => self.give_back(),
            55..=59 => self.cancel(),
            60..=79 => self.finish_boot(),
            80..=84 => self.confirm_end(),
            85..=86 => self.crash(),
            87..=88 => self.answer(),
            89 => self.retire(),
            90..=91 => self.stale_return(),
            92..=93 => self.adopt(),
            94 => self.lose_worker(),
            95 => self.now += Duration::from_millis(self.chance.below(300) as u64),
            _ => {}
        }
        let mut effects = Vec::new();
        self.core.tick(self.now, &mut effects);
        self.apply(effects);
        self.note_provisioned();
    }

    fn acquire(&mut self) {
        let version = self.chance.below(VERSIONS as usize) as u128 + 1;
        let spec = spec(version);
        let patience = Duration::from_millis(1 + self.chance.below(400) as u64);
        self.callers += 1;
        let caller = self.callers;
        let deadline = self.now + patience;
        self.asking = Some((caller, spec.id));
        let mut effects = Vec::new();
        let id = spec.id;
        let ticket = self.core.acquire(self.now, spec, deadline, caller, &mut effects);
        if let Some(ticket) = ticket {
            self.waiting.insert(caller, (ticket, id, deadline));
            self.asking = None;
        }
        self.apply(effects);
        assert_eq!(self.asking, None, "the caller got no answer and no place in the line");
    }

    fn give_back(&mut self) {
        let Some((&lease, &sandbox)) = pick(&mut self.chance, &self.leases) else { return };
        self.leases.remove(&lease);
        if let Some(living) = self.environments.get(&sandbox) {
            living.handle.set_answered(false);
        }
        let mut effects = Vec::new();
        self.core.returned(self.now, lease, sandbox, &mut effects);
        self.apply(effects);
    }

    fn cancel(&mut self) {
        let Some((&caller, &(ticket, ..))) = pick(&mut self.chance, &self.waiting) else { return };
        self.waiting.remove(&caller);
        self.core.cancel(ticket);
        self.tally.cancelled += 1;
    }

    fn finish_boot(&mut self) {
        let Some((&sandbox, begun)) = pick(&mut self.chance, &self.booting) else { return };
        let (spec, initialization) = begun.clone();
        self.booting.remove(&sandbox);
        let mut effects = Vec::new();
        let full = self.environments.len() >= self.places;
        if full || self.chance.below(12) == 0 {
            let error = match self.chance.below(3) {
                0 if !full => PlaceError::NoWorker,
                _ => PlaceError::Full,
            };
            self.core.unplaced(self.now, sandbox, error, &mut effects);
            self.apply(effects);
            return;
        }
        let worker = worker(self.chance.below(HOSTS as usize));
        self.core.placed(sandbox, worker.clone());
        match self.chance.below(20) {
            0 => {
                let error = BootError::PackageMissing { digest: Digest([0; 32]) };
                self.core.boot_failed(self.now, sandbox, error, &mut effects);
            }
            1..=3 => {
                let error = BootError::Sandbox { what: "chance".into() };
                self.core.boot_failed(self.now, sandbox, error, &mut effects);
            }
            5..=7 if initialization.is_provisioned() => {
                let error = BootError::InitFailed { what: "chance".into() };
                self.core.boot_failed(self.now, sandbox, error, &mut effects);
                self.tally.init_failed += 1;
            }
            4 => {
                let error = BootError::NoRoom { what: "chance".into() };
                self.core.boot_failed(self.now, sandbox, error, &mut effects);
            }
            _ => {
                let environment = self.live(sandbox, worker, spec, initialization);
                let booted = Booted { environment, timings: Timings::default() };
                self.core.booted(self.now, sandbox, booted, &mut effects);
            }
        }
        self.apply(effects);
    }

    fn live(
        &mut self,
        sandbox: SandboxId,
        worker: WorkerId,
        spec: Arc<VersionSpec>,
        initialization: InitializationType,
    ) -> EnvironmentHandle {
        let (handle, inbox) = EnvironmentHandle::new(sandbox, worker);
        let living = Living {
            handle: handle.clone(),
            spec,
            initialization,
            inbox: Some(inbox),
            used: false,
        };
        self.tally.stood += usize::from(initialization.is_provisioned());
        self.environments.insert(sandbox, living);
        handle
    }

    fn confirm_end(&mut self) {
        let Some(&sandbox) = self.ending.iter().next() else { return };
        self.gone(sandbox);
    }

    fn gone(&mut self, sandbox: SandboxId) {
        self.ending.remove(&sandbox);
        self.environments.remove(&sandbox);
        let mut effects = Vec::new();
        self.core.event(self.now, WorkerEvent::Gone { sandbox }, &mut effects);
        self.apply(effects);
    }

    /// The environment ends by itself; the event comes now, later or never.
    fn crash(&mut self) {
        let Some((&sandbox, _)) = pick(&mut self.chance, &self.environments) else { return };
        match self.chance.below(2) {
            0 => self.gone(sandbox),
            _ => {
                let living = self.environments.get_mut(&sandbox).unwrap();
                living.inbox = None;
                self.ending.insert(sandbox);
            }
        }
    }

    fn answer(&mut self) {
        if let Some((_, sandbox)) = pick(&mut self.chance, &self.leases)
            && let Some(living) = self.environments.get(sandbox)
        {
            living.handle.set_answered(true);
        }
    }

    fn retire(&mut self) {
        // One version at most, so that the others stay what they are.
        let version = spec(1).id;
        let mut effects = Vec::new();
        self.provisioned.remove(&version);
        self.core.retire(self.now, version, &mut effects);
        self.retired.insert(version);
        self.apply(effects);
    }

    fn stale_return(&mut self) {
        let Some((&sandbox, _)) = pick(&mut self.chance, &self.environments) else { return };
        let mut effects = Vec::new();
        self.core.returned(self.now, LeaseId(u64::MAX), sandbox, &mut effects);
        assert!(effects.is_empty(), "a lease of another reign moved an environment");
        self.tally.stale_returns += 1;
    }

    /// A worker reports what it has, known and unknown, and later that what
    /// was busy is free.
    fn adopt(&mut self) {
        let mut effects = Vec::new();
        let busy = self.chance.below(2) == 0;
        if self.environments.len() < self.places {
            let sandbox = SandboxId(Uuid::from_u64_pair(u64::MAX, self.chance.next()));
            let spec = spec(self.chance.below(VERSIONS as usize) as u128 + 1);
            let worker = worker(self.chance.below(HOSTS as usize));
            let initialization = match self.chance.below(3) {
                0 => InitializationType::ProvisionedConcurrency,
                _ => InitializationType::OnDemand,
            };
            let environment = self.live(sandbox, worker, spec, initialization);
            self.environments.get_mut(&sandbox).unwrap().used = true;
            drop(environment);
        }
        // A worker reports none that it was told to end.
        let staying = self.environments.values();
        let staying = staying.filter(|living| !self.ending.contains(&living.handle.sandbox));
        let reports: Vec<_> = staying.map(|living| report(living, busy)).collect();
        self.tally.adopted += reports.len();
        self.core.adopt(self.now, reports.clone(), &mut effects);
        self.apply(effects);
        for mut report in reports {
            if self.chance.below(2) == 0 {
                report.busy = false;
                let mut effects = Vec::new();
                self.core.event(self.now, WorkerEvent::Idle(report), &mut effects);
                self.apply(effects);
            }
        }
    }

    fn lose_worker(&mut self) {
        if self.chance.below(10) > 0 {
            return;
        }
        let worker = worker(self.chance.below(HOSTS as usize));
        self.environments.retain(|sandbox, living| {
            let stays = living.handle.worker != worker;
            if !stays {
                self.ending.remove(sandbox);
            }
            stays
        });
        let mut effects = Vec::new();
        self.core.event(self.now, WorkerEvent::Lost { worker }, &mut effects);
        self.apply(effects);
    }

    fn apply(&mut self, effects: Vec<Effect<Caller>>) {
        for effect in effects {
            match effect {
                Effect::Grant { to, lease, environment, start } => {
                    let asked = self.answered(to);
                    let sandbox = environment.sandbox;
                    assert!(self.leased_before.insert(lease), "a lease id came twice");
                    assert!(
                        self.leases.values().all(|held| *held != sandbox)
                            || !self.environments.contains_key(&sandbox),
                        "{sandbox} is leased twice"
                    );
                    let living = self.environments.get_mut(&sandbox).expect("it exists");
                    assert!(living.inbox.is_some(), "it had ended");
                    assert_eq!(living.spec.id, asked, "it is of another version");
                    assert!(!self.ending.contains(&sandbox), "it was told to end");
                    match start {
                        Start::Cold(_) => {
                            assert!(!living.used, "cold twice");
                            self.tally.cold += 1;
                        }
                        Start::Warm => {
                            let ahead = living.initialization.is_provisioned();
                            assert!(living.used || ahead, "warm before its first invocation");
                            self.tally.stood_and_served += usize::from(ahead);
                            self.tally.warm += 1;
                        }
                    }
                    living.used = true;
                    self.leases.insert(lease, sandbox);
                }
                Effect::Refuse { to, why } => {
                    self.answered(to);
                    match why {
                        AcquireError::Late { .. } => self.tally.late += 1,
                        AcquireError::Place(_) => self.tally.no_room += 1,
                        AcquireError::Boot(_) => self.tally.boot_errors += 1,
                        AcquireError::Crowded => self.tally.crowded += 1,
                        AcquireError::ScalingRate { retry_after } => {
                            assert!(!retry_after.is_zero());
                            self.tally.too_fast += 1;
                        }
                        AcquireError::ManagerGone => panic!("it is here"),
                    }
                }
                Effect::Boot { sandbox, spec, initialization, avoid, .. } => {
                    assert!(self.booted_before.insert(sandbox), "a sandbox id came twice");
                    assert!(avoid.len() <= HOSTS as usize);
                    // That someone needs it, the core asserts when it begins.
                    self.booting.insert(sandbox, (spec, initialization));
                }
                Effect::Retire { sandbox, .. } => {
                    let leased = self.leases.values().any(|held| *held == sandbox);
                    assert!(!leased, "a leased environment was told to end");
                    self.ending.insert(sandbox);
                    self.tally.evicted_or_ended += 1;
                    self.must_be_spare(sandbox);
                }
            }
        }
    }

    /// Every caller is answered once.
    fn answered(&mut self, caller: Caller) -> VersionId {
        if let Some((asking, version)) = self.asking
            && asking == caller
        {
            self.asking = None;
            return version;
        }
        let (_, version, _) = self.waiting.remove(&caller).expect("the caller waits");
        version
    }

    fn check(&self) {
        self.core.pool.check();
        self.core.line.check();
        self.core.starts.check();
        assert_eq!(self.core.line.waiting(), self.waiting.len());
        assert!(self.waiting.len() <= self.config.waiting_max);
        assert!(self.core.starts.total() <= self.config.starts_max);
        assert!(self.core.pool.idle_count() <= self.config.idle_max);
        for (caller, (ticket, _, deadline)) in &self.waiting {
            assert!(self.core.line.get(*ticket).is_some_and(|waiter| waiter.to == *caller));
            assert!(*deadline > self.now, "a waiter outlived its deadline");
        }
        for version in self.core.line.versions() {
            assert_eq!(self.core.pool.top(version), None, "one waits while one is idle");
            let started = self.core.starts.of(version);
            let covered = started + self.core.line.patient(version);
            assert!(
                covered >= self.core.line.len(version)
                    || started >= self.config.starts_per_version_max
                    || self.core.starts.wants(version),
                "a waiter is forgotten"
            );
        }
        let mut patient = 0;
        self.core.line.versions().for_each(|version| patient += self.core.line.patient(version));
        let retries = self.core.starts.iter().filter(|(_, s)| s.retry_at.is_some()).count();
        assert_eq!(self.core.starts.iter().count(), self.booting.len() + retries);
        let mut leased = HashMap::new();
        let (mut known, mut draining) = (0, 0);
        for environment in self.core.pool.iter() {
            known += usize::from(self.now < environment.old_at);
            match environment.state {
                State::Draining { .. } => draining += 1,
                State::Busy { lease: Some(lease), .. } => {
                    leased.insert(lease, environment.handle.sandbox);
                }
                State::Idle { .. } => {
                    assert!(!self.retired.contains(&environment.spec.id), "a retired one rests");
                    assert!(self.now < environment.old_at, "too old to rest");
                }
                State::Standby { .. } => {
                    let shall = self.provisioned.get(&environment.spec.id);
                    assert!(shall.is_some_and(|count| *count > 0), "it stands by for nobody");
                }
                State::Busy { lease: None, .. } | State::Loose => {}
            }
        }
        for (lease, sandbox) in &leased {
            assert_eq!(self.leases.get(lease), Some(sandbox), "a lease nobody holds");
        }
        let tries = self.core.check_targets();
        let alarms = self.waiting.len() + patient + retries + known + draining + tries;
        assert_eq!(self.core.alarms.len(), alarms, "an alarm is left over, or missing");
    }

    fn provision(&mut self) {
        let version = self.chance.below(VERSIONS as usize) as u128 + 1;
        let other = self.chance.below(VERSIONS as usize) as u128 + 1;
        let mut effects = Vec::new();
        let (spec, id) = (spec(version), spec(version).id);
        match self.chance.below(5) {
            0 => {
                self.core.unprovision(self.now, id, None, &mut effects);
                self.note_provisioned();
            }
            1 => {
                let after = super::desk::spec(other).id;
                self.core.unprovision(self.now, id, Some(after), &mut effects);
                self.tally.shifted += 1;
                self.note_provisioned();
            }
            _ => {
                let count = self.chance.below(4);
                self.core.provision(self.now, spec, count, &mut effects);
                self.tally.asked_to_stand += 1;
                self.note_provisioned();
            }
        }
        self.apply(effects);
    }

    /// What shall stand by now, in the core's own words; versions on their way
    /// out count as long as they are there.
    fn note_provisioned(&mut self) {
        let rows = self.core.provisioned_rows().into_iter();
        self.provisioned = rows.map(|row| (row.spec.id, row.requested as usize)).collect();
    }

    /// One that stands by may only be told to end when enough are left.
    fn must_be_spare(&self, sandbox: SandboxId) {
        let Some(ended) = self.environments.get(&sandbox) else { return };
        if !ended.initialization.is_provisioned() {
            return;
        }
        let rows = self.core.provisioned_rows();
        let row = rows.iter().find(|row| row.spec.id == ended.spec.id);
        let Some(row) = row else { return };
        assert!(
            self.core.pool.standing(ended.spec.id) >= row.requested as usize,
            "one that is needed was told to end"
        );
    }

    /// No more calls and no more failures: whatever shall stand by does.
    fn calm_down(&mut self) {
        self.places = 200;
        for _ in 0..5_000 {
            self.now += Duration::from_millis(1);
            self.give_back();
            while let Some((&sandbox, begun)) = self.booting.iter().next() {
                let (spec, initialization) = begun.clone();
                self.booting.remove(&sandbox);
                let environment = self.live(sandbox, worker(0), spec, initialization);
                let booted = Booted { environment, timings: Timings::default() };
                let mut effects = Vec::new();
                self.core.booted(self.now, sandbox, booted, &mut effects);
                self.apply(effects);
            }
            while !self.ending.is_empty() {
                self.confirm_end();
            }
            let mut effects = Vec::new();
            self.core.tick(self.now, &mut effects);
            self.apply(effects);
            self.note_provisioned();
            self.check();
        }
        for row in self.core.provisioned_rows() {
            assert_eq!(row.allocated, row.requested, "it never came to stand: {row:?}");
            assert!(!row.leaving, "its successor is complete");
            assert_eq!(row.failure, None);
        }
        let versions: Vec<_> = self.provisioned.keys().copied().collect();
        for version in versions {
            let mut effects = Vec::new();
            self.core.unprovision(self.now, version, None, &mut effects);
            self.note_provisioned();
            self.apply(effects);
        }
    }

    /// Everybody finishes; nothing may be left.
    fn drain(&mut self) {
        for _ in 0..20_000 {
            if self.waiting.is_empty() && self.booting.is_empty() && self.leases.is_empty() {
                break;
            }
            self.now += Duration::from_millis(1);
            self.give_back();
            self.finish_boot();
            self.confirm_end();
            let mut effects = Vec::new();
            self.core.tick(self.now, &mut effects);
            self.apply(effects);
            self.check();
        }
        // Those leased by the reign before come back as well.
        let reports: Vec<_> =
            self.environments.values().map(|living| report(living, false)).collect();
        for report in reports {
            let mut effects = Vec::new();
            self.core.event(self.now, WorkerEvent::Idle(report), &mut effects);
            self.apply(effects);
        }
        while let Some(wake) = self.core.wake_at() {
            assert!(wake >= self.now, "an alarm was missed");
            self.now = wake;
            let mut effects = Vec::new();
            self.core.tick(self.now, &mut effects);
            self.apply(effects);
            self.confirm_end();
        }
        assert!(self.waiting.is_empty() && self.leases.is_empty() && self.booting.is_empty());
        assert_eq!(self.core.line.waiting(), 0);
        assert_eq!(self.core.starts.total(), 0);
        assert_eq!(self.core.pool.iter().count(), 0);
        assert_eq!(self.core.alarms.len(), 0);
        assert!(self.core.pool.is_bare());
    }
}

impl Tally {
    fn rows(&self) -> [(&'static str, usize); 16] {
        [
            ("cold starts", self.cold),
            ("warm starts", self.warm),
            ("deadlines", self.late),
            ("full hosts", self.no_room),
            ("failed boots", self.boot_errors),
            ("a full line", self.crowded),
            ("ended environments", self.evicted_or_ended),
            ("cancellations", self.cancelled),
            ("stale returns", self.stale_returns),
            ("adoptions", self.adopted),
            ("functions that scale too fast", self.too_fast),
            ("wishes for provisioned concurrency", self.asked_to_stand),
            ("provisioned environments", self.stood),
            ("calls served by them", self.stood_and_served),
            ("successions", self.shifted),
            ("failed Inits", self.init_failed),
        ]
    }

    fn add(&mut self, other: &Tally) {
        self.cold += other.cold;
        self.warm += other.warm;
        self.late += other.late;
        self.no_room += other.no_room;
        self.boot_errors += other.boot_errors;
        self.crowded += other.crowded;
        self.evicted_or_ended += other.evicted_or_ended;
        self.cancelled += other.cancelled;
        self.stale_returns += other.stale_returns;
        self.adopted += other.adopted;
        self.too_fast += other.too_fast;
        self.asked_to_stand += other.asked_to_stand;
        self.stood += other.stood;
        self.stood_and_served += other.stood_and_served;
        self.shifted += other.shifted;
        self.init_failed += other.init_failed;
    }
}

fn report(living: &Living, busy: bool) -> EnvironmentReport {
    EnvironmentReport {
        environment: living.handle.clone(),
        spec: living.spec.clone(),
        initialization: living.initialization,
        busy,
        age: Duration::ZERO,
    }
}

fn worker(n: usize) -> WorkerId {
    WorkerId::new(format!("w{n}"))
}

fn pick<'a, K, V>(chance: &mut SplitMix, map: &'a BTreeMap<K, V>) -> Option<(&'a K, &'a V)> {
    match map.len() {
        0 => None,
        count => map.iter().nth(chance.below(count)),
    }
}

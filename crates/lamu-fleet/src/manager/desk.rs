//! A core at a desk: asked by hand, its environments made by hand, its clock
//! moved by hand.
//!
//! Not here: any test.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use lamu_link::{
    AcquireError, BootError, Booted, EnvironmentHandle, EnvironmentReport, PlaceError,
    ProvisionedRow, Start, Timings, Work, WorkerEvent,
};
use lamu_model::{
    AccountId, Digest, Epoch, FunctionName, InitializationType, LeaseId, LogConfig, LogFormat,
    LogLevel, Region, Runtime, SandboxId, Version, VersionId, VersionSpec, WorkerId,
};
use tokio::sync::mpsc;
use uuid::Uuid;

use super::config::ManagerConfig;
use super::core::{Core, Effect};
use super::line::Ticket;

pub(crate) fn spec(number: u128) -> Arc<VersionSpec> {
    Arc::new(VersionSpec {
        id: VersionId(Uuid::from_u128(number)),
        account: AccountId::new("000000000000"),
        region: Region::new("us-east-1"),
        name: FunctionName::new(format!("f{number}")),
        version: Version::Latest,
        runtime: Runtime::new("provided.al2023"),
        handler: "bootstrap".into(),
        code: Digest([0; 32]),
        layers: Vec::new(),
        memory_mib: 128,
        timeout_secs: 3,
        ephemeral_mib: 512,
        environment: BTreeMap::new(),
        log: LogConfig {
            format: LogFormat::Text,
            group: String::new(),
            application_level: LogLevel::Info,
            system_level: LogLevel::Info,
        },
        tracing_active: false,
        architecture: Default::default(),
    })
}

/// A core, its clock, and environments that live until dropped here.
pub(super) struct Desk {
    pub core: Core<&'static str>,
    pub now: Instant,
    pub inboxes: HashMap<SandboxId, (EnvironmentHandle, mpsc::Receiver<Work>)>,
}

pub(super) type Effects = Vec<Effect<&'static str>>;

impl Desk {
    pub fn new() -> Desk {
        Desk::with(|_| {})
    }

    pub fn with(configure: impl FnOnce(&mut ManagerConfig)) -> Desk {
        let mut config = ManagerConfig::new(Epoch(1));
        configure(&mut config);
        let mut next = 0;
        let ids = move || {
            next += 1;
            SandboxId(Uuid::from_u128(next))
        };
        Desk { core: Core::new(config, ids), now: Instant::now(), inboxes: HashMap::new() }
    }

    pub fn acquire(&mut self, to: &'static str, version: u128) -> Effects {
        self.queue(to, version).1
    }

    pub fn queue(&mut self, to: &'static str, version: u128) -> (Option<Ticket>, Effects) {
        let mut effects = Vec::new();
        let deadline = self.now + Duration::from_secs(10);
        let ticket = self.core.acquire(self.now, spec(version), deadline, to, &mut effects);
        (ticket, effects)
    }

    pub fn live(&mut self, sandbox: SandboxId, worker: &str) -> EnvironmentHandle {
        let (handle, inbox) = EnvironmentHandle::new(sandbox, WorkerId::new(worker));
        self.inboxes.insert(sandbox, (handle.clone(), inbox));
        handle
    }

    pub fn boot(&mut self, sandbox: SandboxId) -> Effects {
        let environment = self.live(sandbox, "w");
        let timings = Timings { init: Duration::from_millis(7), ..Timings::default() };
        let mut effects = Vec::new();
        self.core.booted(self.now, sandbox, Booted { environment, timings }, &mut effects);
        effects
    }

    pub fn fail(&mut self, sandbox: SandboxId, error: BootError) -> Effects {
        let mut effects = Vec::new();
        self.core.placed(sandbox, WorkerId::new("w"));
        self.core.boot_failed(self.now, sandbox, error, &mut effects);
        effects
    }

    pub fn full(&mut self, sandbox: SandboxId) -> Effects {
        let mut effects = Vec::new();
        self.core.unplaced(self.now, sandbox, PlaceError::Full, &mut effects);
        effects
    }

    pub fn give_back(&mut self, (lease, sandbox): (LeaseId, SandboxId)) -> Effects {
        let mut effects = Vec::new();
        self.core.returned(self.now, lease, sandbox, &mut effects);
        effects
    }

    pub fn event(&mut self, event: WorkerEvent) -> Effects {
        let mut effects = Vec::new();
        self.core.event(self.now, event, &mut effects);
        effects
    }

    pub fn provision(&mut self, version: u128, count: usize) -> Effects {
        let mut effects = Vec::new();
        self.core.provision(self.now, spec(version), count, &mut effects);
        effects
    }

    pub fn unprovision(&mut self, version: u128, after: Option<u128>) -> Effects {
        let mut effects = Vec::new();
        let after = after.map(|after| spec(after).id);
        self.core.unprovision(self.now, spec(version).id, after, &mut effects);
        effects
    }

    /// What the version has standing by.
    pub fn row(&self, version: u128) -> Option<ProvisionedRow> {
        self.core.provisioned_rows().into_iter().find(|row| row.spec.id == spec(version).id)
    }

    /// Requested, allocated, available.
    pub fn counts(&self, version: u128) -> (u32, u32, u32) {
        let row = self.row(version).unwrap();
        (row.requested, row.allocated, row.available)
    }

    /// So many stand by, just made.
    pub fn standing(&mut self, version: u128, count: usize) -> Vec<SandboxId> {
        let mut all = Vec::new();
        let mut begun = booting(&self.provision(version, count));
        while let Some(sandbox) = begun.pop() {
            begun.extend(booting(&self.boot(sandbox)));
            all.push(sandbox);
        }
        assert_eq!(self.counts(version), (count as u32, count as u32, count as u32));
        all
    }

    pub fn retire(&mut self, version: u128) -> Effects {
        let mut effects = Vec::new();
        self.core.retire(self.now, spec(version).id, &mut effects);
        effects
    }

    pub fn after(&mut self, pause: Duration) -> Effects {
        self.now += pause;
        let mut effects = Vec::new();
        self.core.tick(self.now, &mut effects);
        effects
    }

    /// One warm environment of the version, just given back.
    pub fn warm(&mut self, version: u128) -> SandboxId {
        let sandbox = booting(&self.acquire("warm-up", version))[0];
        let lease = granted(&self.boot(sandbox), "warm-up").0;
        assert!(self.give_back(lease).is_empty());
        sandbox
    }

    pub fn report(&mut self, number: u128, version: u128, busy: bool) -> EnvironmentReport {
        let environment = self.live(SandboxId(Uuid::from_u128(number)), "w");
        EnvironmentReport {
            environment,
            spec: spec(version),
            initialization: InitializationType::OnDemand,
            busy,
            age: Duration::ZERO,
        }
    }
}

pub(super) fn booting(effects: &Effects) -> Vec<SandboxId> {
    let boots = effects.iter().filter_map(|effect| match effect {
        Effect::Boot { sandbox, .. } => Some(*sandbox),
        _ => None,
    });
    boots.collect()
}

pub(super) fn ended(effects: &Effects) -> Vec<SandboxId> {
    let ends = effects.iter().filter_map(|effect| match effect {
        Effect::Retire { sandbox, .. } => Some(*sandbox),
        _ => None,
    });
    ends.collect()
}

pub(super) fn granted(effects: &Effects, caller: &str) -> ((LeaseId, SandboxId), Start) {
    let grant = effects.iter().find_map(|effect| match effect {
        Effect::Grant { to, lease, environment, start } if *to == caller => {
            Some(((*lease, environment.sandbox), *start))
        }
        _ => None,
    });
    grant.unwrap_or_else(|| panic!("{caller} was granted nothing: {effects:?}"))
}

pub(super) fn refused(effects: &Effects) -> Vec<(&'static str, &AcquireError)> {
    let refusals = effects.iter().filter_map(|effect| match effect {
        Effect::Refuse { to, why } => Some((*to, why)),
        _ => None,
    });
    refusals.collect()
}

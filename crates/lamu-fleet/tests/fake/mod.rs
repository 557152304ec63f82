//! A worker without sandboxes: it reads the real inbox and answers with real
//! handles, each served by a task of its own.
//!
//! Not here: anything that runs code (`lamu_worker`).
#![allow(dead_code)] // each test uses its part

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use lamu_fleet::{Manager, ManagerConfig, Placement};
use lamu_link::{
    BootError, Booted, Call, Capacity, EnvironmentHandle, EnvironmentReport, EnvironmentState,
    Load, ManagerHandle, PlacementHandle, Reply, Timings, Work, WorkerEvent, WorkerHandle,
    WorkerRequest,
};
use lamu_model::{
    AccountId, Arn, Digest, Epoch, FunctionName, InitializationType, LogConfig, LogFormat,
    LogLevel, Outcome, Region, RequestId, Runtime, SandboxId, Version, VersionId, VersionSpec,
    WorkerId,
};
use tokio::sync::{mpsc, watch};
use uuid::Uuid;

/// How the fake behaves.
#[derive(Clone, Debug)]
pub struct Habits {
    pub capacity: u32,
    pub boot_max: Duration,
    pub handler_max: Duration,
    pub end_max: Duration,
    /// One boot in so many fails; 0 for none.
    pub boot_fails_one_in: u64,
    /// Init of one provisioned environment in so many fails; 0 for none.
    pub init_fails_one_in: u64,
    /// One environment in so many dies at an invocation; 0 for none.
    pub dies_one_in: u64,
}

impl Habits {
    pub fn quick(capacity: u32) -> Habits {
        Habits {
            capacity,
            boot_max: Duration::ZERO,
            handler_max: Duration::ZERO,
            end_max: Duration::ZERO,
            boot_fails_one_in: 0,
            init_fails_one_in: 0,
            dies_one_in: 0,
        }
    }
}

pub struct FakeWorker {
    pub handle: WorkerHandle,
    pub shared: Arc<Shared>,
}

pub struct Shared {
    pub id: WorkerId,
    habits: Habits,
    placement: PlacementHandle,
    reign: Mutex<(Epoch, Option<ManagerHandle>)>,
    environments: Mutex<HashMap<SandboxId, Row>>,
    used: AtomicUsize,
    pub boots: AtomicUsize,
    /// Two invocations at once in one environment, or one of another version.
    pub broken: AtomicUsize,
    chance: Chance,
}

struct Row {
    report: EnvironmentReport,
    end: watch::Sender<bool>,
    made: Instant,
}

/// Numbers that look random, from many threads.
pub struct Chance(AtomicU64);

impl Chance {
    pub fn new(seed: u64) -> Chance {
        Chance(AtomicU64::new(seed))
    }

    pub fn below(&self, bound: u64) -> u64 {
        let step = 0x9e37_79b9_7f4a_7c15_u64;
        let mut z = self.0.fetch_add(step, Ordering::Relaxed).wrapping_add(step);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound
    }

    pub fn up_to(&self, max: Duration) -> Duration {
        Duration::from_nanos(self.below(max.as_nanos() as u64 + 1))
    }
}

impl FakeWorker {
    pub async fn join(name: &str, habits: Habits, placement: &PlacementHandle) -> FakeWorker {
        let id = WorkerId::new(name);
        let (handle, inbox) = WorkerHandle::new(id.clone());
        let capacity = Capacity {
            environments_max: habits.capacity,
            memory_mib: habits.capacity as u64 * 128,
        };
        placement.join(handle.clone(), capacity).await.unwrap();
        let shared = Arc::new(Shared {
            id,
            habits,
            placement: placement.clone(),
            reign: Mutex::new((Epoch(0), None)),
            environments: Mutex::new(HashMap::new()),
            used: AtomicUsize::new(0),
            boots: AtomicUsize::new(0),
            broken: AtomicUsize::new(0),
            chance: Chance::new(name.len() as u64),
        });
        tokio::spawn(serve(shared.clone(), inbox));
        FakeWorker { handle, shared }
    }

    pub fn living(&self) -> usize {
        self.shared.environments.lock().unwrap().len()
    }
}

async fn serve(shared: Arc<Shared>, mut inbox: mpsc::Receiver<WorkerRequest>) {
    while let Some(request) = inbox.recv().await {
        match request {
            WorkerRequest::Boot { sandbox, epoch, spec, initialization, mut reply } => {
                if epoch < shared.reign.lock().unwrap().0 {
                    let _ = reply.send(Err(BootError::Fenced));
                    continue;
                }
                let used = shared.used.fetch_add(1, Ordering::SeqCst);
                if used >= shared.habits.capacity as usize {
                    shared.used.fetch_sub(1, Ordering::SeqCst);
                    let _ = reply.send(Err(BootError::NoRoom { what: "places".into() }));
                    continue;
                }
                shared.tell_load().await;
                let shared = shared.clone();
                tokio::spawn(async move {
                    shared.boots.fetch_add(1, Ordering::Relaxed);
                    let pause = shared.chance.up_to(shared.habits.boot_max);
                    tokio::select! {
                        () = nap(pause) => {}
                        () = reply.closed() => {}
                    }
                    let fails = shared.habits.boot_fails_one_in;
                    if fails > 0 && shared.chance.below(fails) == 0 {
                        shared.give_up().await;
                        let _ = reply.send(Err(BootError::Sandbox { what: "chance".into() }));
                        return;
                    }
                    let fails = shared.habits.init_fails_one_in;
                    let tested = initialization.is_provisioned() && fails > 0;
                    if tested && shared.chance.below(fails) == 0 {
                        shared.give_up().await;
                        let _ = reply.send(Err(BootError::InitFailed { what: "chance".into() }));
                        return;
                    }
                    let environment = shared.make(sandbox, spec, initialization);
                    let timings = Timings { sandbox: pause, ..Timings::default() };
                    if reply.send(Ok(Booted { environment, timings })).is_err() {
                        shared.end(sandbox);
                    }
                });
            }
            WorkerRequest::Prepare { reply, .. } => drop(reply.send(Ok(()))),
            WorkerRequest::Retire { sandbox, epoch } => {
                if epoch >= shared.reign.lock().unwrap().0 {
                    shared.end(sandbox);
                }
            }
            WorkerRequest::Adopt { epoch, manager, reply } => {
                let reports = {
                    *shared.reign.lock().unwrap() = (epoch, Some(manager));
                    let environments = shared.environments.lock().unwrap();
                    environments
                        .values()
                        .map(|row| EnvironmentReport {
                            age: row.made.elapsed(),
                            ..row.report.clone()
                        })
                        .collect()
                };
                let _ = reply.send(reports);
            }
            WorkerRequest::Drain { reply, .. } => drop(reply.send(())),
        }
    }
}

impl Shared {
    async fn tell_load(&self) {
        let used = self.used.load(Ordering::SeqCst) as u32;
        let load = Load { environments: used, memory_mib: u64::from(used) * 128 };
        let _ = self.placement.load(self.id.clone(), load).await;
    }

    async fn give_up(&self) {
        self.used.fetch_sub(1, Ordering::SeqCst);
        self.tell_load().await;
    }

    fn end(&self, sandbox: SandboxId) {
        if let Some(row) = self.environments.lock().unwrap().get(&sandbox) {
            let _ = row.end.send(true);
        }
    }

    fn make(
        self: &Arc<Self>,
        sandbox: SandboxId,
        spec: Arc<VersionSpec>,
        initialization: InitializationType,
    ) -> EnvironmentHandle {
        let (handle, inbox) = EnvironmentHandle::new(sandbox, self.id.clone());
        let (end, ended) = watch::channel(false);
        let report = EnvironmentReport {
            environment: handle.clone(),
            spec: spec.clone(),
            initialization,
            busy: false,
            age: Duration::ZERO,
        };
        let row = Row { report, end, made: Instant::now() };
        self.environments.lock().unwrap().insert(sandbox, row);
        tokio::spawn(environment(self.clone(), sandbox, spec, inbox, ended, handle.clone()));
        handle
    }

    fn set_busy(&self, sandbox: SandboxId, busy: bool) -> Option<EnvironmentReport> {
        let mut environments = self.environments.lock().unwrap();
        let row = environments.get_mut(&sandbox)?;
        row.report.busy = busy;
        Some(row.report.clone())
    }
}

async fn environment(
    shared: Arc<Shared>,
    sandbox: SandboxId,
    spec: Arc<VersionSpec>,
    mut inbox: mpsc::Receiver<Work>,
    mut ended: watch::Receiver<bool>,
    handle: EnvironmentHandle,
) {
    let inside = AtomicBool::new(false);
    loop {
        let work = tokio::select! {
            work = inbox.recv() => work,
            _ = ended.changed() => None,
        };
        let Some(work) = work else { break };
        if inside.swap(true, Ordering::SeqCst) || work.call.arn != spec.function_arn() {
            shared.broken.fetch_add(1, Ordering::SeqCst);
        }
        shared.set_busy(sandbox, true);
        nap(shared.chance.up_to(shared.habits.handler_max)).await;
        let dies = shared.habits.dies_one_in;
        if dies > 0 && shared.chance.below(dies) == 0 {
            // As a crash: no answer, the lease drops with the rest.
            break;
        }
        let Work { call, lease, hold, reply, .. } = work;
        handle.set_answered(true);
        let _ = reply.send(Ok(Reply {
            outcome: Outcome::Response { content_type: None, body: call.payload },
            log_tail: None,
            handler: Duration::ZERO,
        }));
        nap(shared.chance.up_to(shared.habits.end_max)).await;
        handle.set_answered(false);
        inside.store(false, Ordering::SeqCst);
        let report = shared.set_busy(sandbox, false);
        let (epoch, manager) = shared.reign.lock().unwrap().clone();
        let older = lease.epoch < epoch;
        drop((lease, hold));
        if older && let (Some(manager), Some(report)) = (manager, report) {
            let _ = manager.tell(WorkerEvent::Idle(report)).await;
        }
    }
    drop(inbox);
    shared.environments.lock().unwrap().remove(&sandbox);
    shared.give_up().await;
    let manager = shared.reign.lock().unwrap().1.clone();
    if let Some(manager) = manager {
        let _ = manager.tell(WorkerEvent::Gone { sandbox }).await;
    }
}

async fn nap(pause: Duration) {
    if pause.is_zero() {
        tokio::task::yield_now().await;
    } else {
        tokio::time::sleep(pause).await;
    }
}

pub fn spec(number: u128) -> Arc<VersionSpec> {
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

pub fn call(spec: &VersionSpec) -> Call {
    Call {
        request: RequestId::new("r"),
        arn: spec.function_arn(),
        trace_id: None,
        client_context: None,
        cognito_identity: None,
        tenant_id: None,
        content_type: None,
        payload: Bytes::from_static(b"{}"),
        tail: false,
    }
}

pub fn arn(spec: &VersionSpec) -> Arn {
    spec.function_arn()
}

pub async fn fleet(
    workers: &[Habits],
    configure: impl FnOnce(&mut ManagerConfig),
) -> (ManagerHandle, PlacementHandle, Vec<FakeWorker>) {
    let placement = Placement::start(7);
    let mut joined = Vec::new();
    for (n, habits) in workers.iter().enumerate() {
        joined.push(FakeWorker::join(&format!("w{n}"), habits.clone(), &placement).await);
    }
    let mut config = ManagerConfig::new(Epoch(1));
    configure(&mut config);
    let handles = joined.iter().map(|worker| worker.handle.clone()).collect();
    (Manager::start(config, placement.clone(), handles), placement, joined)
}

/// Waits until nothing is busy, starting or draining.
pub async fn calm(manager: &ManagerHandle) -> Vec<lamu_link::EnvironmentRow> {
    for _ in 0..2_000 {
        let census = manager.census().await.unwrap();
        if census.iter().all(|row| row.state == EnvironmentState::Idle) {
            return census;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("never calm: {:#?}", manager.census().await.unwrap());
}

pub fn soon() -> Instant {
    Instant::now() + Duration::from_secs(20)
}

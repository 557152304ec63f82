//! The worker of one host: takes requests, owns the slots, starts one task an
//! environment and hears when it ends.
//!
//! The task never waits for another role: what it has to say to manager and
//! placement goes through a teller each, load only in its latest state.
//!
//! Not here: the rules of slots (`slot`), an environment's life
//! (`environment`).

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use lamu_link::{
    BootError, Booted, Capacity, Load, ManagerHandle, PlacementHandle, WorkerEvent, WorkerHandle,
    WorkerRequest,
};
use lamu_model::{Epoch, InitializationType, SandboxId, VersionSpec, WorkerId};
use lamu_sandbox::Driver;
use lamu_store::Packages;
use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use tokio::time::Instant;
use tracing::{debug, info};

use crate::config::WorkerConfig;
use crate::context::Context;
use crate::environment::{self, Birth, Cell, Event, Order};
use crate::logs::LogStore;
use crate::package::{PackageCache, PackageError};
use crate::runtimes::Runtimes;
use crate::slot::{Slot, Slots, State};
use crate::stats::WorkerStats;

/// A worker that has been started. It runs as long as somebody holds a handle
/// to it, this one or placement's.
#[derive(Clone, Debug)]
pub struct Worker {
    handle: WorkerHandle,
    context: Arc<Context>,
}

#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("could not open the package cache")]
    Cache(#[from] PackageError),
    #[error("could not write the runtimes' bootstraps")]
    Runtimes(#[source] io::Error),
}

impl Worker {
    /// Starts the worker's task and joins placement. Reads and writes the
    /// data directory, so it is for the start of a program.
    pub fn start(
        config: WorkerConfig,
        driver: Arc<dyn Driver>,
        packages: Arc<dyn Packages>,
        placement: PlacementHandle,
        logs: Arc<LogStore>,
    ) -> Result<Worker, StartError> {
        let cache = PackageCache::open(
            config.data_dir.join("packages"),
            config.package_cache_bytes_max,
            packages,
        )?;
        let runtimes = Runtimes::open(&config.data_dir.join("runtimes"), config.runtimes.clone())
            .map_err(StartError::Runtimes)?;
        let (handle, requests) = WorkerHandle::new(config.id.clone());
        let capacity =
            Capacity { environments_max: config.environments_max, memory_mib: config.memory_mib };
        let boots = Semaphore::new(config.boots_max.max(1));
        let context = Arc::new(Context {
            config,
            driver,
            cache,
            runtimes,
            logs,
            stats: Arc::default(),
            boots,
            reign: Arc::new(AtomicU64::new(0)),
        });
        let (load, loads) = watch::channel(Load::default());
        let (events, heard) = mpsc::unbounded_channel();
        let (leave, left) = oneshot::channel();
        tokio::spawn(tell_placement(placement, handle.clone(), capacity, loads, left));
        let task = Task {
            context: context.clone(),
            slots: Slots::new(capacity),
            reign: Epoch(0),
            manager: None,
            load,
            events,
            drain: None,
            leave: Some(leave),
        };
        tokio::spawn(task.run(requests, heard));
        Ok(Worker { handle, context })
    }

    pub fn handle(&self) -> &WorkerHandle {
        &self.handle
    }

    pub fn stats(&self) -> &Arc<WorkerStats> {
        &self.context.stats
    }

    /// The interpreters of this host, for those who want to show them.
    pub fn runtimes(&self) -> &Runtimes {
        &self.context.runtimes
    }

    /// Bytes that unpacked packages take on disk.
    pub fn package_cache_bytes(&self) -> u64 {
        self.context.cache.bytes()
    }
}

struct Task {
    context: Arc<Context>,
    slots: Slots,
    reign: Epoch,
    /// To the teller of the manager that reigns.
    manager: Option<mpsc::UnboundedSender<WorkerEvent>>,
    load: watch::Sender<Load>,
    events: mpsc::UnboundedSender<Event>,
    drain: Option<Drain>,
    /// Dropped to leave placement.
    leave: Option<oneshot::Sender<()>>,
}

/// The worker is to end what it holds.
struct Drain {
    until: Instant,
    waiting: Vec<oneshot::Sender<()>>,
}

impl Task {
    async fn run(
        mut self,
        mut requests: mpsc::Receiver<WorkerRequest>,
        mut events: mpsc::UnboundedReceiver<Event>,
    ) {
        loop {
            let patience = self.drain.as_ref().map(|drain| drain.until);
            tokio::select! {
                request = requests.recv() => match request {
                    Some(request) => self.request(request),
                    None => break,
                },
                // Never `None`: the task holds a sender itself.
                Some(event) = events.recv() => self.event(event),
                () = until(patience) => {
                    self.slots.drain_all(Order::End);
                    if let Some(drain) = &mut self.drain {
                        // Said once; the tasks end by themselves now.
                        drain.until = Instant::now() + Duration::from_secs(3_600);
                    }
                }
            }
            self.settle();
        }
        info!(worker = %self.context.config.id, "worker ends");
    }

    fn request(&mut self, request: WorkerRequest) {
        match request {
            WorkerRequest::Boot { sandbox, epoch, spec, initialization, reply } => {
                if let Err(error) = self.may_boot(sandbox, epoch, &spec) {
                    debug!(%sandbox, %error, "boot refused");
                    let _ = reply.send(Err(error));
                    return;
                }
                self.boot(sandbox, epoch, spec, initialization, reply);
            }
            WorkerRequest::Prepare { spec, reply } => {
                let context = self.context.clone();
                tokio::spawn(async move {
                    let _ = reply.send(prepare(&context, &spec).await);
                });
            }
            WorkerRequest::Retire { sandbox, epoch } => {
                if epoch >= self.reign {
                    self.slots.drain(sandbox, Order::Retire);
                }
            }
            // Dropping the reply tells an older manager that it is past.
            WorkerRequest::Adopt { epoch, manager, reply } if epoch >= self.reign => {
                self.reign = epoch;
                self.context.reign.store(epoch.0, Ordering::SeqCst);
                let (teller, told) = mpsc::unbounded_channel();
                self.manager = Some(teller);
                tokio::spawn(tell_manager(manager, told));
                let reports = self.slots.adopt(epoch, Instant::now().into_std());
                info!(worker = %self.context.config.id, epoch = epoch.0, environments = reports.len(), "adopted");
                let _ = reply.send(reports);
            }
            WorkerRequest::Adopt { .. } => {}
            WorkerRequest::Drain { patience, reply } => {
                info!(worker = %self.context.config.id, ?patience, "draining");
                self.leave = None;
                let until = Instant::now() + patience;
                let drain = self.drain.get_or_insert(Drain { until, waiting: Vec::new() });
                drain.until = drain.until.min(until);
                drain.waiting.push(reply);
                self.slots.drain_all(Order::Retire);
            }
        }
    }

    fn may_boot(
        &self,
        sandbox: SandboxId,
        epoch: Epoch,
        spec: &VersionSpec,
    ) -> Result<(), BootError> {
        if epoch < self.reign {
            return Err(BootError::Fenced);
        }
        if self.drain.is_some() {
            return Err(BootError::Draining);
        }
        self.slots.admit(sandbox, spec)
    }

    fn boot(
        &mut self,
        sandbox: SandboxId,
        epoch: Epoch,
        spec: Arc<VersionSpec>,
        initialization: InitializationType,
        reply: oneshot::Sender<Result<Booted, BootError>>,
    ) {
        let (orders, heard) = watch::channel(Order::Serve);
        let cell = Arc::new(Cell::new(self.context.reign.clone()));
        let slot = Slot {
            spec: spec.clone(),
            initialization,
            since: Instant::now().into_std(),
            epoch,
            orders,
            cell: cell.clone(),
            state: State::Starting,
        };
        self.slots.insert(sandbox, slot);
        tokio::spawn(environment::live(Birth {
            context: self.context.clone(),
            sandbox,
            spec,
            initialization,
            reply,
            orders: heard,
            cell,
            events: self.events.clone(),
        }));
    }

    fn event(&mut self, event: Event) {
        match event {
            Event::Ready { sandbox, environment } => {
                let Some(slot) = self.slots.ready(sandbox, environment) else { return };
                // Made for a manager that was replaced meanwhile: the new one
                // does not know of it.
                if slot.epoch < self.reign {
                    slot.epoch = self.reign;
                    self.tell_free(sandbox);
                }
            }
            Event::Free { sandbox } => self.tell_free(sandbox),
            Event::Gone { sandbox } => {
                if self.slots.remove(sandbox) {
                    self.tell(WorkerEvent::Gone { sandbox });
                }
            }
        }
    }

    fn tell_free(&self, sandbox: SandboxId) {
        if let Some(report) = self.slots.report(sandbox, Instant::now().into_std()) {
            self.tell(WorkerEvent::Idle(report));
        }
    }

    /// Unbounded, because what is told is: an event for each environment that
    /// ends or comes free after a takeover.
    fn tell(&self, event: WorkerEvent) {
        if let Some(manager) = &self.manager {
            let _ = manager.send(event);
        }
    }

    /// After every change: the load, and the end of a drain.
    fn settle(&mut self) {
        let load = self.slots.load();
        self.load.send_if_modified(|known| std::mem::replace(known, load) != load);
        if self.slots.is_empty()
            && let Some(drain) = &mut self.drain
        {
            for waiting in drain.waiting.drain(..) {
                let _ = waiting.send(());
            }
        }
    }
}

/// What a boot needs that can be had before.
async fn prepare(context: &Context, spec: &VersionSpec) -> Result<(), BootError> {
    environment::check_architecture(spec)?;
    let unpacked = environment::unpack(context, spec);
    let launch = context.runtimes.launch(&spec.runtime, &spec.environment);
    tokio::try_join!(unpacked, launch).map(|_| ())
}

async fn tell_manager(manager: ManagerHandle, mut events: mpsc::UnboundedReceiver<WorkerEvent>) {
    while let Some(event) = events.recv().await {
        if manager.tell(event).await.is_err() {
            return;
        }
    }
}

/// Joins, tells the load whenever it has changed, leaves.
async fn tell_placement(
    placement: PlacementHandle,
    worker: WorkerHandle,
    capacity: Capacity,
    mut loads: watch::Receiver<Load>,
    mut left: oneshot::Receiver<()>,
) {
    let id: WorkerId = worker.id.clone();
    if placement.join(worker, capacity).await.is_err() {
        return;
    }
    let mut stays = true;
    while stays {
        tokio::select! {
            changed = loads.changed() => stays = changed.is_ok(),
            _ = &mut left => stays = false,
        }
        let load = *loads.borrow_and_update();
        if stays && placement.load(id.clone(), load).await.is_err() {
            return;
        }
    }
    let _ = placement.leave(id).await;
}

async fn until(moment: Option<Instant>) {
    match moment {
        Some(moment) => tokio::time::sleep_until(moment).await,
        None => std::future::pending().await,
    }
}

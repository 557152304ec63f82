//! The task that owns the manager's core: reads requests, asks placement and
//! workers, delivers leases.
//!
//! Not here: any decision (`core`).

use std::collections::HashMap;
use std::fmt;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

use lamu_link::{
    AcquireError, BootError, Booted, EnvironmentReport, Lease, ManagerHandle, ManagerRequest,
    PlaceError, Placed, PlacementHandle, WorkerEvent, WorkerHandle,
};
use lamu_model::{INIT_SECS_MAX, InitializationType, LeaseId, SandboxId, VersionSpec, WorkerId};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::{Sleep, sleep_until, timeout, timeout_at};
use tracing::{debug, info, warn};
use uuid::Uuid;

use super::config::ManagerConfig;
use super::core::{Core, Effect, Effects};
use super::line::Ticket;

/// Messages taken at once, so that one clock reading and one wake-up serve
/// many, yet timers are looked at often.
const BATCH: usize = 128;

type Reply = oneshot::Sender<Result<Lease, AcquireError>>;

/// One reign. Ends when the future of [`Manager::run`] is dropped: workers hold
/// handles too, so its inbox never closes by itself.
pub struct Manager {
    config: ManagerConfig,
    core: Core<Reply>,
    placement: PlacementHandle,
    /// Handed to the workers it adopts.
    handle: ManagerHandle,
    inbox: mpsc::Receiver<ManagerRequest>,
    /// Cloned into every lease. Bounded by the leases there are.
    returns: mpsc::UnboundedSender<(LeaseId, SandboxId)>,
    returned: mpsc::UnboundedReceiver<(LeaseId, SandboxId)>,
    /// Callers that went away. Bounded by the line.
    leaving: mpsc::UnboundedSender<Ticket>,
    left: mpsc::UnboundedReceiver<Ticket>,
    workers: HashMap<WorkerId, Known>,
    /// Talks under way: at most one a start, and one a worker.
    steps: JoinSet<Step>,
    effects: Effects<Reply>,
}

/// A worker this reign has talked to.
struct Known {
    handle: WorkerHandle,
    adoption: Adoption,
}

enum Adoption {
    /// Boots wait until the worker has said what it has.
    Asked {
        held: Vec<Bound>,
    },
    Done,
}

/// A start on its way to the host chosen for it.
struct Bound {
    sandbox: SandboxId,
    placed: Placed,
    /// From the wish to the host chosen.
    placed_after: Duration,
}

/// A finished talk.
enum Step {
    Placed { sandbox: SandboxId, wished: Instant, result: Result<Placed, PlaceError> },
    Adopted { worker: WorkerId, reports: Option<Vec<EnvironmentReport>> },
    Booted { sandbox: SandboxId, worker: WorkerId, result: Result<Booted, BootError> },
}

impl Manager {
    /// A manager of its own task. `workers` are those known to exist; others
    /// are adopted when placement first names them.
    pub fn start(
        config: ManagerConfig,
        placement: PlacementHandle,
        workers: Vec<WorkerHandle>,
    ) -> ManagerHandle {
        let (handle, manager) = Manager::new(config, placement, workers);
        tokio::spawn(manager.run());
        handle
    }

    pub fn new(
        config: ManagerConfig,
        placement: PlacementHandle,
        workers: Vec<WorkerHandle>,
    ) -> (ManagerHandle, Manager) {
        let (handle, inbox) = ManagerHandle::new();
        let (returns, returned) = mpsc::unbounded_channel();
        let (leaving, left) = mpsc::unbounded_channel();
        let known = |handle: WorkerHandle| {
            (handle.id.clone(), Known { handle, adoption: Adoption::Asked { held: Vec::new() } })
        };
        let manager = Manager {
            core: Core::new(config.clone(), || SandboxId(Uuid::new_v4())),
            config,
            placement,
            handle: handle.clone(),
            inbox,
            returns,
            returned,
            leaving,
            left,
            workers: workers.into_iter().map(known).collect(),
            steps: JoinSet::new(),
            effects: Vec::with_capacity(BATCH),
        };
        (handle, manager)
    }

    pub async fn run(mut self) {
        self.gather().await;
        let mut requests = Vec::with_capacity(BATCH);
        let mut returned = Vec::with_capacity(BATCH);
        let mut alarm = pin!(Alarm::new());
        loop {
            alarm.as_mut().set(self.core.wake_at());
            // In this order: what frees environments comes before what takes
            // them. New requests are last, since the rest follows from them
            // and so cannot starve them for long.
            tokio::select! {
                biased;
                count = self.returned.recv_many(&mut returned, BATCH) => {
                    debug_assert!(count > 0, "the manager holds a sender itself");
                    let now = clock();
                    for (lease, sandbox) in returned.drain(..) {
                        self.core.returned(now, lease, sandbox, &mut self.effects);
                    }
                }
                Some(step) = self.steps.join_next(), if !self.steps.is_empty() => match step {
                    Ok(step) => self.finish(step),
                    Err(error) => warn!(%error, "a talk of the manager ended badly"),
                },
                Some(ticket) = self.left.recv() => self.look_after(ticket),
                () = alarm.as_mut().wait() => self.core.tick(clock(), &mut self.effects),
                count = self.inbox.recv_many(&mut requests, BATCH) => {
                    if count == 0 {
                        return;
                    }
                    let now = clock();
                    for request in requests.drain(..) {
                        self.take(now, request);
                    }
                }
            }
            self.act();
        }
    }

    /// Hears what the known workers have before it decides anything, so that
    /// none is started for which one is there.
    async fn gather(&mut self) {
        let until = tokio::time::Instant::now() + self.config.adopt_wait_max;
        let workers: Vec<_> = self.workers.values().map(|known| known.handle.clone()).collect();
        let mut missing = workers.len();
        workers.into_iter().for_each(|worker| self.adopt(worker));
        while missing > 0 {
            match timeout_at(until, self.steps.join_next()).await {
                Ok(Some(Ok(step))) => {
                    self.finish(step);
                    self.act();
                }
                Ok(Some(Err(error))) => warn!(%error, "a talk of the manager ended badly"),
                Ok(None) => return,
                Err(_) => {
                    warn!(missing, "workers are slow to report, going on without them");
                    return;
                }
            }
            missing -= 1;
        }
    }

    fn take(&mut self, now: Instant, request: ManagerRequest) {
        match request {
            ManagerRequest::Acquire { spec, deadline, reply } => {
                let queued = self.core.acquire(now, spec, deadline, reply, &mut self.effects);
                if let Some(ticket) = queued {
                    self.look_after(ticket);
                }
            }
            ManagerRequest::Retire { version } => {
                self.core.retire(now, version, &mut self.effects);
            }
            ManagerRequest::Provision { spec, count } => {
                debug!(function = %spec.name, version = %spec.version, count, "to stand by");
                self.core.provision(now, spec, count as usize, &mut self.effects);
            }
            ManagerRequest::Unprovision { version, after } => {
                self.core.unprovision(now, version, after, &mut self.effects);
            }
            ManagerRequest::Provisioned { reply } => {
                // Who asked may have gone.
                let _ = reply.send(self.core.provisioned_rows());
            }
            ManagerRequest::Event(event) => {
                if let WorkerEvent::Lost { worker } = &event {
                    info!(%worker, "a worker is lost");
                    self.forget_worker(&worker.clone());
                }
                self.core.event(now, event, &mut self.effects);
            }
            ManagerRequest::Census { reply } => {
                // Who asked may have gone.
                let _ = reply.send(self.core.census(now));
            }
        }
    }

    /// Asks to be told when the waiter's caller goes away.
    fn look_after(&mut self, ticket: Ticket) {
        let Some(reply) = self.core.waiter_mut(ticket) else { return };
        let bell = Arc::new(Bell { ticket, leaving: self.leaving.clone() });
        let waker = Waker::from(bell);
        if reply.poll_closed(&mut Context::from_waker(&waker)).is_ready() {
            self.core.cancel(ticket);
        }
    }

    fn finish(&mut self, step: Step) {
        let now = clock();
        match step {
            Step::Placed { sandbox, wished, result: Ok(placed) } => {
                self.core.placed(sandbox, placed.worker.id.clone());
                let placed_after = now - wished;
                self.boot(Bound { sandbox, placed, placed_after });
            }
            Step::Placed { sandbox, result: Err(error), .. } => {
                self.core.unplaced(now, sandbox, error, &mut self.effects);
            }
            Step::Adopted { worker, reports } => {
                let Some(known) = self.workers.get_mut(&worker) else { return };
                let before = std::mem::replace(&mut known.adoption, Adoption::Done);
                match reports {
                    Some(reports) => {
                        info!(%worker, environments = reports.len(), "adopted a worker");
                        self.core.adopt(now, reports, &mut self.effects);
                    }
                    None => {
                        warn!(%worker, "a worker did not answer the adoption");
                        self.workers.remove(&worker);
                    }
                }
                if let Adoption::Asked { held } = before {
                    held.into_iter().for_each(|bound| self.send_boot(bound));
                }
            }
            Step::Booted { sandbox, worker, result: Ok(booted) } => {
                debug!(%sandbox, %worker, timings = ?booted.timings, "booted");
                self.core.booted(now, sandbox, booted, &mut self.effects);
            }
            Step::Booted { sandbox, worker, result: Err(error) } => {
                warn!(%sandbox, %worker, %error, "a boot failed");
                if error == BootError::WorkerGone {
                    self.forget_worker(&worker);
                }
                self.core.boot_failed(now, sandbox, error, &mut self.effects);
            }
        }
    }

    fn act(&mut self) {
        let mut effects = std::mem::take(&mut self.effects);
        for effect in effects.drain(..) {
            match effect {
                Effect::Grant { to, lease, environment, start } => {
                    let epoch = self.config.epoch;
                    let lease = Lease::new(lease, epoch, start, environment, self.returns.clone());
                    // If the caller has gone, the lease is dropped here and
                    // comes back by itself.
                    let _ = to.send(Ok(lease));
                }
                Effect::Refuse { to, why } => {
                    let _ = to.send(Err(why));
                }
                Effect::Boot { sandbox, spec, initialization, avoid, wished } => {
                    debug!(%sandbox, function = %spec.name, cause = initialization.as_str(), "to make");
                    let placement = self.placement.clone();
                    let wait = self.config.place_wait_max;
                    self.steps.spawn(async move {
                        let placing = timeout(wait, placement.place(&spec, avoid)).await;
                        let result = placing.unwrap_or(Err(PlaceError::PlacementGone));
                        Step::Placed { sandbox, wished, result }
                    });
                }
                Effect::Retire { worker, sandbox } => self.retire(&worker, sandbox),
            }
        }
        // Keeps its room.
        self.effects = effects;
    }

    fn retire(&mut self, worker: &WorkerId, sandbox: SandboxId) {
        let Some(known) = self.workers.get(worker) else { return };
        let (handle, epoch) = (known.handle.clone(), self.config.epoch);
        // Off the loop: a worker's full inbox must not hold up the leases of
        // others. At most one for each environment.
        tokio::spawn(async move {
            if handle.retire(sandbox, epoch).await.is_err() {
                debug!(%sandbox, "the worker of an environment to end is gone");
            }
        });
    }

    /// Sends a boot to its host, which is adopted first.
    fn boot(&mut self, bound: Bound) {
        let worker = &bound.placed.worker;
        match self.workers.get_mut(&worker.id) {
            Some(Known { adoption: Adoption::Asked { held }, handle })
                if handle.is_same(worker) =>
            {
                held.push(bound);
            }
            Some(Known { adoption: Adoption::Done, handle }) if handle.is_same(worker) => {
                self.send_boot(bound);
            }
            // New, or another process under the old name.
            _ => {
                let worker = worker.clone();
                let known = Known {
                    handle: worker.clone(),
                    adoption: Adoption::Asked { held: vec![bound] },
                };
                let before = self.workers.insert(worker.id.clone(), known);
                self.adopt(worker);
                if let Some(Known { adoption: Adoption::Asked { held }, .. }) = before {
                    held.into_iter().for_each(|bound| self.send_boot(bound));
                }
            }
        }
    }

    fn forget_worker(&mut self, worker: &WorkerId) {
        // Its held boots fail by themselves, as every start must end.
        if let Some(Known { adoption: Adoption::Asked { held }, .. }) = self.workers.remove(worker)
        {
            held.into_iter().for_each(|bound| self.send_boot(bound));
        }
    }

    fn adopt(&mut self, worker: WorkerHandle) {
        let (epoch, manager) = (self.config.epoch, self.handle.clone());
        let wait = self.config.boot_wait_max;
        self.steps.spawn(async move {
            let adopting = timeout(wait, worker.adopt(epoch, manager)).await;
            let reports = adopting.ok().and_then(Result::ok);
            Step::Adopted { worker: worker.id, reports }
        });
    }

    fn send_boot(&mut self, bound: Bound) {
        let Bound { sandbox, placed: Placed { worker, reservation }, placed_after } = bound;
        let Some((spec, initialization)) = self.core.start_of(sandbox) else { return };
        let (epoch, wait) = (self.config.epoch, self.boot_wait_max(&spec, initialization));
        self.steps.spawn(async move {
            let booting = worker.boot_as(initialization, sandbox, epoch, &spec);
            let booting = timeout(wait, booting).await;
            let mut result = booting.unwrap_or(Err(BootError::Silent { waited: wait }));
            if let Ok(booted) = &mut result {
                booted.timings.placed = placed_after;
            }
            drop(reservation);
            Step::Booted { sandbox, worker: worker.id, result }
        });
    }
}

impl Manager {
    /// As much longer as Init may take.
    fn boot_wait_max(&self, spec: &VersionSpec, initialization: InitializationType) -> Duration {
        let init_secs_max = initialization.init_secs_max(spec.timeout_secs);
        self.config.boot_wait_max + Duration::from_secs(init_secs_max - INIT_SECS_MAX)
    }
}

impl fmt::Debug for Manager {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Manager").field("epoch", &self.config.epoch).finish_non_exhaustive()
    }
}

/// Rings when a waiter's caller drops its end. May ring for no reason; who
/// hears it looks again.
struct Bell {
    ticket: Ticket,
    leaving: mpsc::UnboundedSender<Ticket>,
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        // The manager may have ended first.
        let _ = self.leaving.send(self.ticket);
    }
}

/// A timer that is only set anew when it must ring earlier, or after it rang:
/// the next time moves with every lease, and setting a timer costs a lock.
struct Alarm {
    sleep: Option<Pin<Box<Sleep>>>,
    at: Option<Instant>,
}

impl Alarm {
    fn new() -> Alarm {
        Alarm { sleep: None, at: None }
    }

    fn set(self: Pin<&mut Self>, next: Option<Instant>) {
        let this = self.get_mut();
        let Some(next) = next else { return };
        if this.at.is_some_and(|at| at <= next) {
            return;
        }
        this.at = Some(next);
        match &mut this.sleep {
            Some(sleep) => sleep.as_mut().reset(next.into()),
            None => this.sleep = Some(Box::pin(sleep_until(next.into()))),
        }
    }

    /// Waits until it rings; for ever when it is not set.
    async fn wait(self: Pin<&mut Self>) {
        let this = self.get_mut();
        std::future::poll_fn(|context| match &mut this.sleep {
            Some(sleep) if this.at.is_some() => sleep.as_mut().poll(context),
            _ => Poll::Pending,
        })
        .await;
        this.at = None;
    }
}

/// tokio's clock, so that tests can pause it.
fn clock() -> Instant {
    tokio::time::Instant::now().into_std()
}

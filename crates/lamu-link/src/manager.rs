//! The doorway to the manager (Worker Manager): leases on environments.

use std::sync::Arc;
use std::time::{Duration, Instant};

use lamu_model::{InitializationType, SandboxId, VersionId, VersionSpec, WorkerId};
use tokio::sync::{mpsc, oneshot};

use crate::{BootError, EnvironmentReport, INBOX_MAX, Lease, PlaceError, RoleGone};

#[derive(Clone, Debug)]
pub struct ManagerHandle {
    inbox: mpsc::Sender<ManagerRequest>,
}

#[derive(Debug)]
pub enum ManagerRequest {
    Acquire {
        spec: Arc<VersionSpec>,
        deadline: Instant,
        reply: oneshot::Sender<Result<Lease, AcquireError>>,
    },
    /// The version was replaced or deleted: its idle environments end now, its
    /// busy ones when they come back.
    Retire {
        version: VersionId,
    },
    /// So many environments of the version shall stand by, initialised, from
    /// now on. Asked for again, what failed before is tried again at once.
    Provision {
        spec: Arc<VersionSpec>,
        count: u32,
    },
    /// No environment of the version shall stand by any more: at once, or as
    /// soon as `after` has all it asks for, so that calls move from one to the
    /// other without meeting a cold one.
    Unprovision {
        version: VersionId,
        after: Option<VersionId>,
    },
    /// What stands by, for every version that was asked for.
    Provisioned {
        reply: oneshot::Sender<Vec<ProvisionedRow>>,
    },
    Event(WorkerEvent),
    Census {
        reply: oneshot::Sender<Vec<EnvironmentRow>>,
    },
}

/// What a worker tells the manager unasked.
#[derive(Debug)]
pub enum WorkerEvent {
    /// The environment is no more.
    Gone { sandbox: SandboxId },
    /// An environment that was busy under an older manager is free.
    Idle(EnvironmentReport),
    /// The worker and all its environments are gone.
    Lost { worker: WorkerId },
}

impl ManagerHandle {
    pub fn new() -> (ManagerHandle, mpsc::Receiver<ManagerRequest>) {
        let (inbox, requests) = mpsc::channel(INBOX_MAX);
        (ManagerHandle { inbox }, requests)
    }

    /// An environment of this version for one invocation, free or freshly
    /// made, within the deadline. Dropping the future gives up the place in
    /// the line and leaks nothing.
    pub async fn acquire(
        &self,
        spec: &Arc<VersionSpec>,
        deadline: Instant,
    ) -> Result<Lease, AcquireError> {
        let (reply, answer) = oneshot::channel();
        let request = ManagerRequest::Acquire { spec: spec.clone(), deadline, reply };
        self.inbox.send(request).await.map_err(|_| AcquireError::ManagerGone)?;
        answer.await.unwrap_or(Err(AcquireError::ManagerGone))
    }

    pub async fn retire(&self, version: VersionId) -> Result<(), RoleGone> {
        let request = ManagerRequest::Retire { version };
        self.inbox.send(request).await.map_err(|_| RoleGone("manager"))
    }

    pub async fn provision(&self, spec: &Arc<VersionSpec>, count: u32) -> Result<(), RoleGone> {
        let request = ManagerRequest::Provision { spec: spec.clone(), count };
        self.inbox.send(request).await.map_err(|_| RoleGone("manager"))
    }

    pub async fn unprovision(
        &self,
        version: VersionId,
        after: Option<VersionId>,
    ) -> Result<(), RoleGone> {
        let request = ManagerRequest::Unprovision { version, after };
        self.inbox.send(request).await.map_err(|_| RoleGone("manager"))
    }

    /// In no order.
    pub async fn provisioned(&self) -> Result<Vec<ProvisionedRow>, RoleGone> {
        let (reply, answer) = oneshot::channel();
        let request = ManagerRequest::Provisioned { reply };
        self.inbox.send(request).await.map_err(|_| RoleGone("manager"))?;
        answer.await.map_err(|_| RoleGone("manager"))
    }

    pub async fn tell(&self, event: WorkerEvent) -> Result<(), RoleGone> {
        let request = ManagerRequest::Event(event);
        self.inbox.send(request).await.map_err(|_| RoleGone("manager"))
    }

    /// Every environment the manager knows.
    pub async fn census(&self) -> Result<Vec<EnvironmentRow>, RoleGone> {
        let (reply, answer) = oneshot::channel();
        let request = ManagerRequest::Census { reply };
        self.inbox.send(request).await.map_err(|_| RoleGone("manager"))?;
        answer.await.map_err(|_| RoleGone("manager"))
    }
}

#[derive(Clone, Debug)]
pub struct EnvironmentRow {
    pub sandbox: SandboxId,
    pub worker: WorkerId,
    pub spec: Arc<VersionSpec>,
    pub initialization: InitializationType,
    pub state: EnvironmentState,
    pub age: Duration,
}

/// The provisioned concurrency of one version.
#[derive(Clone, Debug)]
pub struct ProvisionedRow {
    pub spec: Arc<VersionSpec>,
    pub requested: u32,
    /// Environments that are initialised, whether a call runs in them or not.
    pub allocated: u32,
    /// Those of them that are free now.
    pub available: u32,
    /// Why the last one could not be made, until one could.
    pub failure: Option<ProvisionFailure>,
    /// Being given up once another version has all it asks for.
    pub leaving: bool,
    /// Calls that got one of them since the version was first asked for, and
    /// calls of the version that got another environment.
    pub invocations: u64,
    pub spilled: u64,
}

/// Why provisioned concurrency is not complete, and will not be soon.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProvisionFailure {
    /// The function's Init failed, or its environments end by themselves.
    Init { what: String },
    /// No host has room.
    NoRoom,
    /// Anything else that keeps environments from being made.
    Other { what: String },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EnvironmentState {
    Starting,
    Idle,
    Busy,
    Draining,
}

#[derive(Clone, Debug, thiserror::Error)]
pub enum AcquireError {
    /// No host has room.
    #[error("no host could take the environment")]
    Place(#[source] PlaceError),
    /// The environment could not be made.
    #[error("the environment could not be made")]
    Boot(#[source] BootError),
    #[error("no environment came free within {waited:?}")]
    Late { waited: Duration },
    /// The function has had as many new environments as it may for now.
    #[error("the function scales faster than it may")]
    ScalingRate { retry_after: Duration },
    /// More calls wait than may.
    #[error("too many calls wait for an environment")]
    Crowded,
    #[error("the manager is gone")]
    ManagerGone,
}

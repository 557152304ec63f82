//! The doorway to a worker: making and ending environments on one host.

use std::sync::Arc;
use std::time::Duration;

use lamu_model::{
    Architecture, Digest, Epoch, InitializationType, Runtime, SandboxId, VersionSpec, WorkerId,
};
use tokio::sync::{mpsc, oneshot};

use crate::{EnvironmentHandle, INBOX_MAX, ManagerHandle, RoleGone, Timings};

#[derive(Clone, Debug)]
pub struct WorkerHandle {
    pub id: WorkerId,
    inbox: mpsc::Sender<WorkerRequest>,
}

#[derive(Debug)]
pub enum WorkerRequest {
    Boot {
        sandbox: SandboxId,
        epoch: Epoch,
        spec: Arc<VersionSpec>,
        initialization: InitializationType,
        reply: oneshot::Sender<Result<Booted, BootError>>,
    },
    /// Everything a boot of this version needs that can be had before: the
    /// package unpacked, the runtime found.
    Prepare { spec: Arc<VersionSpec>, reply: oneshot::Sender<Result<(), BootError>> },
    /// End an environment that is not busy. One that is gone is no error.
    Retire { sandbox: SandboxId, epoch: Epoch },
    /// A new manager reigns: reports what runs here, and sends it events from
    /// now on. Commands of older epochs are refused.
    Adopt { epoch: Epoch, manager: ManagerHandle, reply: oneshot::Sender<Vec<EnvironmentReport>> },
    /// Take no boots, let invocations end until the deadline, then end all.
    /// Answered when nothing is left.
    Drain { patience: Duration, reply: oneshot::Sender<()> },
}

/// An environment whose Init has been tried.
#[derive(Debug)]
pub struct Booted {
    pub environment: EnvironmentHandle,
    pub timings: Timings,
}

/// An environment as the worker reports it to a new manager.
#[derive(Clone, Debug)]
pub struct EnvironmentReport {
    pub environment: EnvironmentHandle,
    pub spec: Arc<VersionSpec>,
    pub initialization: InitializationType,
    pub busy: bool,
    pub age: Duration,
}

impl WorkerHandle {
    pub fn new(id: WorkerId) -> (WorkerHandle, mpsc::Receiver<WorkerRequest>) {
        let (inbox, requests) = mpsc::channel(INBOX_MAX);
        (WorkerHandle { id, inbox }, requests)
    }

    /// Whether both lead to the same task: a worker that was started again
    /// keeps its id.
    pub fn is_same(&self, other: &WorkerHandle) -> bool {
        self.inbox.same_channel(&other.inbox)
    }

    /// Makes an environment on demand and runs its Init. A failed Init is not
    /// an error: the first invocation runs it again. If the future is dropped,
    /// the environment is ended.
    pub async fn boot(
        &self,
        sandbox: SandboxId,
        epoch: Epoch,
        spec: &Arc<VersionSpec>,
    ) -> Result<Booted, BootError> {
        self.boot_as(InitializationType::OnDemand, sandbox, epoch, spec).await
    }

    /// The same for any cause. Provisioned concurrency is for environments
    /// that are initialised: a failed Init is an error there.
    pub async fn boot_as(
        &self,
        initialization: InitializationType,
        sandbox: SandboxId,
        epoch: Epoch,
        spec: &Arc<VersionSpec>,
    ) -> Result<Booted, BootError> {
        let (reply, answer) = oneshot::channel();
        let spec = spec.clone();
        let request = WorkerRequest::Boot { sandbox, epoch, spec, initialization, reply };
        self.inbox.send(request).await.map_err(|_| BootError::WorkerGone)?;
        answer.await.unwrap_or(Err(BootError::WorkerGone))
    }

    pub async fn prepare(&self, spec: &Arc<VersionSpec>) -> Result<(), BootError> {
        let (reply, answer) = oneshot::channel();
        let request = WorkerRequest::Prepare { spec: spec.clone(), reply };
        self.inbox.send(request).await.map_err(|_| BootError::WorkerGone)?;
        answer.await.unwrap_or(Err(BootError::WorkerGone))
    }

    pub async fn retire(&self, sandbox: SandboxId, epoch: Epoch) -> Result<(), RoleGone> {
        let request = WorkerRequest::Retire { sandbox, epoch };
        self.inbox.send(request).await.map_err(|_| RoleGone("worker"))
    }

    pub async fn adopt(
        &self,
        epoch: Epoch,
        manager: ManagerHandle,
    ) -> Result<Vec<EnvironmentReport>, RoleGone> {
        let (reply, answer) = oneshot::channel();
        let request = WorkerRequest::Adopt { epoch, manager, reply };
        self.inbox.send(request).await.map_err(|_| RoleGone("worker"))?;
        answer.await.map_err(|_| RoleGone("worker"))
    }

    pub async fn drain(&self, patience: Duration) -> Result<(), RoleGone> {
        let (reply, answer) = oneshot::channel();
        let request = WorkerRequest::Drain { patience, reply };
        self.inbox.send(request).await.map_err(|_| RoleGone("worker"))?;
        answer.await.map_err(|_| RoleGone("worker"))
    }
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BootError {
    #[error("package {digest} is not in the package store")]
    PackageMissing { digest: Digest },
    #[error("package {digest} cannot be unpacked: {why}")]
    PackageUnreadable { digest: Digest, why: String },
    /// This host has no interpreter for the runtime; says what to do.
    #[error("{runtime} is not available on this host: {advice}")]
    RuntimeMissing { runtime: Runtime, advice: String },
    #[error("the function is for {wanted} and this host runs {host} only")]
    ArchitectureMissing { wanted: Architecture, host: Architecture },
    #[error("the host has no room for another sandbox: {what}")]
    NoRoom { what: String },
    #[error("the sandbox could not be made: {what}")]
    Sandbox { what: String },
    #[error("init was silent for {waited:?}")]
    Silent { waited: Duration },
    /// The function's own Init failed. For provisioned concurrency only.
    #[error("Init failed: {what}")]
    InitFailed { what: String },
    /// The command came from a manager that no longer reigns.
    #[error("the command is of an older epoch")]
    Fenced,
    #[error("the worker is draining")]
    Draining,
    #[error("the worker is gone")]
    WorkerGone,
}

impl BootError {
    /// Whether another attempt, perhaps on another host, may succeed.
    pub fn may_retry(&self) -> bool {
        match self {
            Self::PackageMissing { .. }
            | Self::PackageUnreadable { .. }
            | Self::RuntimeMissing { .. }
            | Self::InitFailed { .. }
            | Self::ArchitectureMissing { .. }
            | Self::Fenced => false,
            Self::NoRoom { .. }
            | Self::Sandbox { .. }
            | Self::Silent { .. }
            | Self::Draining
            | Self::WorkerGone => true,
        }
    }
}

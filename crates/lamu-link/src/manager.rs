//! The doorway to the manager (Worker Manager): leases on environments.

use std::sync::Arc;
use std::time::{Duration, Instant};

use lamu_model::{SandboxId, VersionId, VersionSpec, WorkerId};
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
    pub state: EnvironmentState,
    pub age: Duration,
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
    /// More calls wait than may.
    #[error("too many calls wait for an environment")]
    Crowded,
    #[error("the manager is gone")]
    ManagerGone,
}

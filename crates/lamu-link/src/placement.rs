//! The doorway to placement: which host makes a new environment.

use std::sync::Arc;

use lamu_model::{VersionSpec, WorkerId};
use tokio::sync::{mpsc, oneshot};

use crate::{INBOX_MAX, RoleGone, WorkerHandle};

#[derive(Clone, Debug)]
pub struct PlacementHandle {
    inbox: mpsc::Sender<PlacementRequest>,
}

#[derive(Debug)]
pub enum PlacementRequest {
    Place {
        spec: Arc<VersionSpec>,
        /// Hosts that just failed this very environment.
        avoid: Vec<WorkerId>,
        reply: oneshot::Sender<Result<Placed, PlaceError>>,
    },
    Join {
        worker: WorkerHandle,
        capacity: Capacity,
    },
    Leave {
        worker: WorkerId,
    },
    Load {
        worker: WorkerId,
        load: Load,
    },
}

/// What a host offers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capacity {
    pub environments_max: u32,
    pub memory_mib: u64,
}

/// What of it is in use, by the worker's own count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Load {
    pub environments: u32,
    pub memory_mib: u64,
}

/// A host, and a place reserved on it until the worker's own count includes
/// the environment (or it failed).
#[derive(Debug)]
pub struct Placed {
    pub worker: WorkerHandle,
    pub reservation: Reservation,
}

/// Gives its place back when dropped.
#[derive(Debug)]
pub struct Reservation {
    worker: WorkerId,
    memory_mib: u32,
    /// At most one message per reservation.
    returns: mpsc::UnboundedSender<(WorkerId, u32)>,
}

impl Reservation {
    pub fn new(
        worker: WorkerId,
        memory_mib: u32,
        returns: mpsc::UnboundedSender<(WorkerId, u32)>,
    ) -> Reservation {
        Reservation { worker, memory_mib, returns }
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        // Placement may have ended first; then nobody counts places.
        let _ = self.returns.send((self.worker.clone(), self.memory_mib));
    }
}

impl PlacementHandle {
    pub fn new() -> (PlacementHandle, mpsc::Receiver<PlacementRequest>) {
        let (inbox, requests) = mpsc::channel(INBOX_MAX);
        (PlacementHandle { inbox }, requests)
    }

    pub async fn place(
        &self,
        spec: &Arc<VersionSpec>,
        avoid: Vec<WorkerId>,
    ) -> Result<Placed, PlaceError> {
        let (reply, answer) = oneshot::channel();
        let request = PlacementRequest::Place { spec: spec.clone(), avoid, reply };
        self.inbox.send(request).await.map_err(|_| PlaceError::PlacementGone)?;
        answer.await.unwrap_or(Err(PlaceError::PlacementGone))
    }

    pub async fn join(&self, worker: WorkerHandle, capacity: Capacity) -> Result<(), RoleGone> {
        self.tell(PlacementRequest::Join { worker, capacity }).await
    }

    pub async fn leave(&self, worker: WorkerId) -> Result<(), RoleGone> {
        self.tell(PlacementRequest::Leave { worker }).await
    }

    pub async fn load(&self, worker: WorkerId, load: Load) -> Result<(), RoleGone> {
        self.tell(PlacementRequest::Load { worker, load }).await
    }

    async fn tell(&self, request: PlacementRequest) -> Result<(), RoleGone> {
        self.inbox.send(request).await.map_err(|_| RoleGone("placement"))
    }
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlaceError {
    #[error("no worker has joined")]
    NoWorker,
    #[error("every worker is full")]
    Full,
    #[error("placement is gone")]
    PlacementGone,
}

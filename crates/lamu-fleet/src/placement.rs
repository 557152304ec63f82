//! Placement: which host makes a new environment.
//!
//! `core` decides; the task here owns the core, counts what it promised until
//! the promise is kept or broken, and answers.
//!
//! Not here: which environments exist (`manager`), making them
//! (`lamu_worker`).

mod core;
mod ring;

#[cfg(test)]
mod properties;

use lamu_link::{Placed, PlacementHandle, PlacementRequest, Reservation};
use lamu_model::WorkerId;
use tokio::sync::mpsc;
use tracing::{debug, info};

use self::core::Core;

/// The role's task. Ends when the last handle is dropped.
#[derive(Debug)]
pub struct Placement {
    core: Core,
    inbox: mpsc::Receiver<PlacementRequest>,
    /// Cloned into every reservation. Bounded by the starts there are.
    returns: mpsc::UnboundedSender<(WorkerId, u32)>,
    returned: mpsc::UnboundedReceiver<(WorkerId, u32)>,
}

impl Placement {
    /// A placement of its own task. `seed` feeds the choice between equals.
    pub fn start(seed: u64) -> PlacementHandle {
        let (handle, placement) = Placement::new(seed);
        tokio::spawn(placement.run());
        handle
    }

    pub fn new(seed: u64) -> (PlacementHandle, Placement) {
        let (handle, inbox) = PlacementHandle::new();
        let (returns, returned) = mpsc::unbounded_channel();
        (handle, Placement { core: Core::new(seed), inbox, returns, returned })
    }

    pub async fn run(mut self) {
        loop {
            tokio::select! {
                biased;
                Some((worker, memory_mib)) = self.returned.recv() => {
                    self.core.give_back(&worker, memory_mib);
                }
                request = self.inbox.recv() => match request {
                    Some(request) => self.take(request),
                    None => return,
                },
            }
        }
    }

    fn take(&mut self, request: PlacementRequest) {
        match request {
            PlacementRequest::Place { spec, avoid, reply } => {
                let chosen = self.core.place(&spec, &avoid).map(|worker| {
                    let id = worker.id.clone();
                    let reservation = Reservation::new(id, spec.memory_mib, self.returns.clone());
                    Placed { worker, reservation }
                });
                if let Err(error) = &chosen {
                    debug!(function = %spec.name, %error, "not placed");
                }
                // If nobody came to read it, the reservation inside gives its
                // place back.
                let _ = reply.send(chosen);
            }
            PlacementRequest::Join { worker, capacity } => {
                info!(worker = %worker.id, ?capacity, "a worker joined");
                self.core.join(worker, capacity);
            }
            PlacementRequest::Leave { worker } => {
                info!(%worker, "a worker left");
                self.core.leave(&worker);
            }
            PlacementRequest::Load { worker, load } => self.core.load(&worker, load),
        }
    }
}

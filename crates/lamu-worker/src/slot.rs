//! The slots of one worker: which environments it holds and what it has
//! promised them.
//!
//! ```text
//!  boot               ready              retired
//!  ----> Starting -----------> Live -------------> Draining ----> gone
//!            |                  |                     ^             ^
//!            +--- retired ------|---------------------+             |
//!            +------------------+---- ended by itself --------------+
//! ```
//!
//! Values only; the worker's task is their one writer. Whether a live one is
//! idle, frozen or busy is its own task's to know (`environment::cell`): an
//! invocation must not wake the worker. Not here: talking to anybody.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use lamu_link::{BootError, Capacity, EnvironmentReport, Load, WeakEnvironment};
use lamu_model::{Epoch, InitializationType, SandboxId, VersionSpec};
use tokio::sync::watch;

use crate::environment::{Cell, Order};

/// One environment's place.
#[derive(Debug)]
pub(crate) struct Slot {
    pub spec: Arc<VersionSpec>,
    pub initialization: InitializationType,
    pub since: Instant,
    /// Who asked for it, or adopted it since.
    pub epoch: Epoch,
    /// Dropping it ends the environment.
    pub orders: watch::Sender<Order>,
    pub cell: Arc<Cell>,
    pub state: State,
}

#[derive(Debug)]
pub(crate) enum State {
    Starting,
    Live {
        environment: WeakEnvironment,
    },
    /// Told to end. `known` says whether a manager ever had it.
    Draining {
        known: bool,
    },
}

#[derive(Debug)]
pub(crate) struct Slots {
    capacity: Capacity,
    slots: HashMap<SandboxId, Slot>,
    memory_mib: u64,
}

impl Slots {
    pub fn new(capacity: Capacity) -> Slots {
        Slots { capacity, slots: HashMap::new(), memory_mib: 0 }
    }

    /// Whether an environment of this version may be made here.
    pub fn admit(&self, sandbox: SandboxId, spec: &VersionSpec) -> Result<(), BootError> {
        if self.slots.contains_key(&sandbox) {
            return Err(BootError::Sandbox { what: format!("{sandbox} is here already") });
        }
        let count = self.slots.len() as u64;
        if count >= u64::from(self.capacity.environments_max) {
            return Err(BootError::NoRoom { what: format!("{count} environments are here") });
        }
        let wanted = self.memory_mib + u64::from(spec.memory_mib);
        if wanted > self.capacity.memory_mib {
            return Err(BootError::NoRoom {
                what: format!("{wanted} MiB of {} MiB", self.capacity.memory_mib),
            });
        }
        Ok(())
    }

    pub fn insert(&mut self, sandbox: SandboxId, slot: Slot) {
        self.memory_mib += u64::from(slot.spec.memory_mib);
        if let Some(old) = self.slots.insert(sandbox, slot) {
            self.memory_mib -= u64::from(old.spec.memory_mib);
        }
    }

    /// Starting -> Live
    pub fn ready(&mut self, sandbox: SandboxId, environment: WeakEnvironment) -> Option<&mut Slot> {
        let slot = self.slots.get_mut(&sandbox)?;
        match slot.state {
            State::Starting => slot.state = State::Live { environment },
            // Told to end meanwhile, and somebody may know it now.
            State::Draining { .. } => slot.state = State::Draining { known: true },
            State::Live { .. } => {}
        }
        Some(slot)
    }

    /// any -> Draining
    pub fn drain(&mut self, sandbox: SandboxId, order: Order) {
        let Some(slot) = self.slots.get_mut(&sandbox) else { return };
        let known = !matches!(slot.state, State::Starting | State::Draining { known: false });
        slot.state = State::Draining { known };
        slot.orders.send_if_modified(|current| {
            let raised = *current < order;
            *current = order.max(*current);
            raised
        });
    }

    pub fn drain_all(&mut self, order: Order) {
        let all: Vec<SandboxId> = self.slots.keys().copied().collect();
        all.into_iter().for_each(|sandbox| self.drain(sandbox, order));
    }

    /// any -> gone. Whether a manager may know of it.
    pub fn remove(&mut self, sandbox: SandboxId) -> bool {
        let Some(slot) = self.slots.remove(&sandbox) else { return false };
        self.memory_mib -= u64::from(slot.spec.memory_mib);
        match slot.state {
            State::Starting => false,
            State::Live { .. } => true,
            State::Draining { known } => known,
        }
    }

    /// A new manager takes what lives. What is draining or still being made
    /// for an older one is not reported.
    pub fn adopt(&mut self, epoch: Epoch, now: Instant) -> Vec<EnvironmentReport> {
        let mut reports = Vec::new();
        for slot in self.slots.values_mut() {
            let State::Live { environment } = &slot.state else { continue };
            let Some(environment) = environment.upgrade() else { continue };
            slot.epoch = epoch;
            reports.push(EnvironmentReport {
                environment,
                spec: slot.spec.clone(),
                initialization: slot.initialization,
                busy: slot.cell.adopt(),
                age: now.saturating_duration_since(slot.since),
            });
        }
        reports
    }

    /// A live environment as it is told to a manager.
    pub fn report(&self, sandbox: SandboxId, now: Instant) -> Option<EnvironmentReport> {
        let slot = self.slots.get(&sandbox)?;
        let State::Live { environment } = &slot.state else { return None };
        Some(EnvironmentReport {
            environment: environment.upgrade()?,
            spec: slot.spec.clone(),
            initialization: slot.initialization,
            busy: false,
            age: now.saturating_duration_since(slot.since),
        })
    }

    pub fn load(&self) -> Load {
        Load { environments: self.slots.len() as u32, memory_mib: self.memory_mib }
    }

    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;
    use lamu_link::EnvironmentHandle;
    use lamu_model::WorkerId;
    use std::sync::atomic::{AtomicU64, Ordering};
    use uuid::Uuid;

    fn slots() -> Slots {
        Slots::new(Capacity { environments_max: 2, memory_mib: 1_000 })
    }

    fn slot(reign: &Arc<AtomicU64>) -> (Slot, watch::Receiver<Order>) {
        let (orders, heard) = watch::channel(Order::Serve);
        let slot = Slot {
            spec: Arc::new(testing::spec()),
            initialization: InitializationType::OnDemand,
            since: Instant::now(),
            epoch: Epoch(1),
            orders,
            cell: Arc::new(Cell::new(reign.clone())),
            state: State::Starting,
        };
        (slot, heard)
    }

    fn id() -> SandboxId {
        SandboxId(Uuid::new_v4())
    }

    #[test]
    fn a_full_worker_admits_nobody() {
        let reign = Arc::default();
        let mut slots = slots();
        let mut spec = testing::spec();
        spec.memory_mib = 1_001;
        assert!(matches!(slots.admit(id(), &spec), Err(BootError::NoRoom { .. })));
        let first = id();
        slots.insert(first, slot(&reign).0);
        assert!(matches!(slots.admit(first, &testing::spec()), Err(BootError::Sandbox { .. })));
        slots.insert(id(), slot(&reign).0);
        assert_eq!(slots.load(), Load { environments: 2, memory_mib: 256 });
        assert!(matches!(slots.admit(id(), &testing::spec()), Err(BootError::NoRoom { .. })));
        assert!(!slots.remove(first), "nobody knew it");
        assert!(slots.admit(id(), &testing::spec()).is_ok());
    }

    #[test]
    fn a_new_manager_hears_of_what_lives() {
        let reign = Arc::new(AtomicU64::new(1));
        let mut slots = slots();
        let (live, starting) = (id(), id());
        let (slot_live, _orders) = slot(&reign);
        let cell = slot_live.cell.clone();
        slots.insert(live, slot_live);
        slots.insert(starting, slot(&reign).0);
        let (handle, _inbox) = EnvironmentHandle::new(live, WorkerId::new("w"));
        slots.ready(live, handle.downgrade());
        cell.begin(Epoch(1)).unwrap();
        reign.store(2, Ordering::SeqCst);
        let reports = slots.adopt(Epoch(2), Instant::now());
        assert_eq!(reports.len(), 1);
        assert!(reports[0].busy);
        assert!(cell.end(), "its end will be told");
    }

    #[test]
    fn orders_are_only_raised() {
        let reign = Arc::default();
        let mut slots = slots();
        let sandbox = id();
        let (slot, heard) = slot(&reign);
        slots.insert(sandbox, slot);
        slots.drain(sandbox, Order::End);
        slots.drain(sandbox, Order::Retire);
        assert_eq!(*heard.borrow(), Order::End);
    }

    #[test]
    fn an_environment_nobody_holds_is_not_reported() {
        let reign = Arc::default();
        let mut slots = slots();
        let sandbox = id();
        slots.insert(sandbox, slot(&reign).0);
        let (handle, _inbox) = EnvironmentHandle::new(sandbox, WorkerId::new("w"));
        slots.ready(sandbox, handle.downgrade());
        drop(handle);
        assert!(slots.adopt(Epoch(2), Instant::now()).is_empty());
        assert!(slots.report(sandbox, Instant::now()).is_none());
        assert!(slots.remove(sandbox), "its manager may know of it");
    }
}

//! The calls that wait for an environment, first come first served within a
//! version.
//!
//! Not here: when one is refused or started for (`core`).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use lamu_model::{VersionId, VersionSpec};

use crate::prng::IdMap;

/// A place in the line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Ticket {
    pub version: VersionId,
    /// Grows with every arrival, over all versions.
    pub number: u64,
}

#[derive(Debug)]
pub(super) struct Waiter<W> {
    pub to: W,
    pub spec: Arc<VersionSpec>,
    pub since: Instant,
    pub deadline: Instant,
    /// Until then an environment about to come back is awaited and none is
    /// started for this waiter.
    pub patient_until: Option<Instant>,
}

#[derive(Debug)]
pub(super) struct Line<W> {
    queues: IdMap<VersionId, Queue<W>>,
    waiting: usize,
    next: u64,
}

#[derive(Debug)]
struct Queue<W> {
    waiters: BTreeMap<u64, Waiter<W>>,
    patient: usize,
}

impl<W> Line<W> {
    pub(super) fn new() -> Line<W> {
        Line { queues: IdMap::default(), waiting: 0, next: 0 }
    }

    pub(super) fn push(&mut self, waiter: Waiter<W>) -> Ticket {
        let ticket = Ticket { version: waiter.spec.id, number: self.next };
        self.next += 1;
        self.waiting += 1;
        let queue = self
            .queues
            .entry(ticket.version)
            .or_insert_with(|| Queue { waiters: BTreeMap::new(), patient: 0 });
        queue.patient += usize::from(waiter.patient_until.is_some());
        queue.waiters.insert(ticket.number, waiter);
        ticket
    }

    /// The longest waiter's place.
    pub(super) fn first(&self, version: VersionId) -> Option<Ticket> {
        let number = *self.queues.get(&version)?.waiters.first_key_value()?.0;
        Some(Ticket { version, number })
    }

    /// The latest comer for whom one would have to be made.
    pub(super) fn last_impatient(&self, version: VersionId) -> Option<Ticket> {
        let mut waiters = self.queues.get(&version)?.waiters.iter().rev();
        let number = *waiters.find(|(_, waiter)| waiter.patient_until.is_none())?.0;
        Some(Ticket { version, number })
    }

    pub(super) fn get(&self, ticket: Ticket) -> Option<&Waiter<W>> {
        self.queues.get(&ticket.version)?.waiters.get(&ticket.number)
    }

    pub(super) fn get_mut(&mut self, ticket: Ticket) -> Option<&mut Waiter<W>> {
        self.queues.get_mut(&ticket.version)?.waiters.get_mut(&ticket.number)
    }

    pub(super) fn remove(&mut self, ticket: Ticket) -> Option<Waiter<W>> {
        let queue = self.queues.get_mut(&ticket.version)?;
        let waiter = queue.waiters.remove(&ticket.number)?;
        queue.patient -= usize::from(waiter.patient_until.is_some());
        self.waiting -= 1;
        if queue.waiters.is_empty() {
            self.queues.remove(&ticket.version);
        }
        Some(waiter)
    }

    /// From now on the waiter wants an environment made.
    pub(super) fn end_patience(&mut self, ticket: Ticket) {
        let Some(queue) = self.queues.get_mut(&ticket.version) else { return };
        let Some(waiter) = queue.waiters.get_mut(&ticket.number) else { return };
        if waiter.patient_until.take().is_some() {
            queue.patient -= 1;
        }
    }

    pub(super) fn waiting(&self) -> usize {
        self.waiting
    }

    pub(super) fn len(&self, version: VersionId) -> usize {
        self.queues.get(&version).map_or(0, |queue| queue.waiters.len())
    }

    pub(super) fn patient(&self, version: VersionId) -> usize {
        self.queues.get(&version).map_or(0, |queue| queue.patient)
    }

    #[cfg(test)]
    pub(super) fn versions(&self) -> impl Iterator<Item = VersionId> {
        self.queues.keys().copied()
    }

    #[cfg(test)]
    pub(super) fn check(&self) {
        let mut waiting = 0;
        for queue in self.queues.values() {
            assert!(!queue.waiters.is_empty(), "an empty queue is kept");
            let patient = queue.waiters.values().filter(|w| w.patient_until.is_some()).count();
            assert_eq!(queue.patient, patient);
            waiting += queue.waiters.len();
        }
        assert_eq!(self.waiting, waiting);
    }
}

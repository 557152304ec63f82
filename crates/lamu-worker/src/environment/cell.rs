//! Whether an environment is idle, frozen or busy, in one word that its task
//! writes and the worker reads.
//!
//! An invocation must not wake the worker's task, yet a new manager must hear
//! of every environment exactly once: either as idle in the worker's report,
//! or, when it was busy then, by an event at the end of that invocation.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering::SeqCst};

use lamu_model::Epoch;

use crate::stats::WorkerStats;

const BUSY: u8 = 1;
/// The worker wants to hear of the end of the current invocation.
const TELL: u8 = 2;

/// The part both sides see.
#[derive(Debug)]
pub struct Cell {
    word: AtomicU8,
    /// The reign the worker obeys; shared by all its environments.
    reign: Arc<AtomicU64>,
}

impl Cell {
    pub fn new(reign: Arc<AtomicU64>) -> Cell {
        Cell { word: AtomicU8::new(0), reign }
    }

    /// Takes a lease's invocation, unless the lease is of an older reign.
    ///
    /// Busy first, reign second: a manager that takes over in between either
    /// sees busy here or is seen there.
    pub fn begin(&self, lease: Epoch) -> Result<(), Fenced> {
        self.word.fetch_or(BUSY, SeqCst);
        if lease < Epoch(self.reign.load(SeqCst)) {
            self.end();
            return Err(Fenced);
        }
        Ok(())
    }

    /// Whether the worker wants to hear of it.
    pub fn end(&self) -> bool {
        self.word.swap(0, SeqCst) & TELL != 0
    }

    /// The worker's side, after it raised the reign: whether the environment
    /// is busy, in which case its end will be told.
    pub fn adopt(&self) -> bool {
        let told = self
            .word
            .fetch_update(SeqCst, SeqCst, |word| (word & BUSY != 0).then_some(word | TELL));
        told.is_ok()
    }
}

/// The lease was given by a manager that no longer reigns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fenced;

/// The environment's place in the gauges; leaves them when dropped.
#[derive(Debug)]
pub struct Presence {
    state: State,
    stats: Arc<WorkerStats>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    Starting,
    Idle,
    Frozen,
    Busy,
}

impl Presence {
    pub fn new(stats: Arc<WorkerStats>) -> Presence {
        let presence = Presence { state: State::Starting, stats };
        presence.gauge().up();
        presence
    }

    pub fn enter(&mut self, state: State) {
        self.gauge().down();
        self.state = state;
        self.gauge().up();
    }

    pub fn state(&self) -> State {
        self.state
    }

    fn gauge(&self) -> &crate::stats::Gauge {
        match self.state {
            State::Starting => &self.stats.starting,
            State::Idle => &self.stats.idle,
            State::Frozen => &self.stats.frozen,
            State::Busy => &self.stats.busy,
        }
    }
}

impl Drop for Presence {
    fn drop(&mut self) {
        self.gauge().down();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cell() -> (Cell, Arc<AtomicU64>) {
        let reign = Arc::new(AtomicU64::new(1));
        (Cell::new(reign.clone()), reign)
    }

    #[test]
    fn an_idle_environment_is_reported_and_not_told_again() {
        let (cell, _) = cell();
        assert!(!cell.adopt());
        cell.begin(Epoch(1)).unwrap();
        assert!(!cell.end());
    }

    #[test]
    fn a_busy_environment_is_told_of_once_when_it_ends() {
        let (cell, reign) = cell();
        cell.begin(Epoch(1)).unwrap();
        reign.store(2, SeqCst);
        assert!(cell.adopt());
        assert!(cell.end());
        cell.begin(Epoch(2)).unwrap();
        assert!(!cell.end());
    }

    #[test]
    fn a_lease_of_an_older_reign_is_refused() {
        let (cell, reign) = cell();
        reign.store(2, SeqCst);
        assert_eq!(cell.begin(Epoch(1)), Err(Fenced));
        assert!(!cell.adopt(), "it is idle again");
    }

    #[test]
    fn gauges_follow_an_environment_and_forget_it() {
        let stats = Arc::new(WorkerStats::default());
        let mut presence = Presence::new(stats.clone());
        assert_eq!(stats.starting.get(), 1);
        presence.enter(State::Busy);
        assert_eq!((stats.starting.get(), stats.busy.get()), (0, 1));
        drop(presence);
        assert_eq!(stats.busy.get(), 0);
    }
}

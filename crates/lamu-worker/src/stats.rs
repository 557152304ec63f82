//! Counters of one worker, for whoever renders metrics. Plain atomics: an
//! invocation touches a few of them and waits for none.
//!
//! Not here: names and text of the metrics (`lamu`).

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Grows only, apart from the four gauges of environments by state.
#[derive(Debug, Default)]
pub struct WorkerStats {
    pub starting: Gauge,
    pub idle: Gauge,
    pub frozen: Gauge,
    pub busy: Gauge,
    pub boots: Counter,
    pub boot_failures: Counter,
    pub invocations: Counter,
    /// Invocations that ended in a function error or a fault, timeouts too.
    pub errors: Counter,
    pub timeouts: Counter,
    /// Runtimes started again inside an invocation.
    pub reruns: Counter,
    pub resets: Counter,
    pub freezes: Counter,
    /// Whole time of successful Inits, in nanoseconds, and how many.
    pub init_ns: Counter,
    pub inits: Counter,
}

#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    pub fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

#[derive(Debug, Default)]
pub struct Gauge(AtomicU64);

impl Gauge {
    pub fn up(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    pub fn down(&self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }

    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl WorkerStats {
    pub(crate) fn init_done(&self, took: Duration) {
        self.inits.add(1);
        self.init_ns.add(took.as_nanos() as u64);
    }
}

//! What every environment of one worker shares.
//!
//! Not here: anything that changes per environment.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use lamu_sandbox::Driver;
use tokio::sync::Semaphore;

use crate::config::WorkerConfig;
use crate::logs::LogStore;
use crate::package::PackageCache;
use crate::runtimes::Runtimes;
use crate::stats::WorkerStats;

#[derive(Debug)]
pub struct Context {
    pub config: WorkerConfig,
    pub driver: Arc<dyn Driver>,
    pub cache: PackageCache,
    pub runtimes: Runtimes,
    pub logs: Arc<LogStore>,
    pub stats: Arc<WorkerStats>,
    /// One permit a boot that runs now.
    pub boots: Semaphore,
    /// The reign this worker obeys.
    pub reign: Arc<AtomicU64>,
}

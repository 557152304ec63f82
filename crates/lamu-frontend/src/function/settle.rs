//! Brings what was begun to its end: has the workers prepare new code and
//! turns Pending into Active, InProgress into Successful, or either into
//! Failed. Begun things that a crash interrupted are found at the start.
//!
//! Not here: what the states mean (`state`), preparing itself (the worker).

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use lamu_link::{BootError, ManagerHandle, WorkerHandle};
use lamu_model::{VersionId, VersionSpec};
use tokio::sync::{Notify, Semaphore};
use tokio::task::JoinSet;
use uuid::Uuid;

use super::beyond;
use super::catalog::Catalog;
use super::document::FunctionKey;
use super::refusal::Refusal;
use super::state::{Failure, FailureCode, failure_of};
use super::store::{Decision, Store};

/// Functions prepared at once. Preparing unpacks: it is the disk's work, and a
/// few at a time keep it busy.
const AT_ONCE_MAX: usize = 8;

/// Between attempts when no worker could say.
const AGAIN_FIRST: Duration = Duration::from_millis(100);
const AGAIN_MAX: Duration = Duration::from_secs(5);

/// How long troubles of the workers are waited out before they become the
/// function's: longer than a worker's restart, short enough that a waiting
/// deployment (five minutes in the SDKs) learns the reason.
const PATIENCE: Duration = Duration::from_secs(240);

#[derive(Debug)]
pub struct Settler {
    store: Arc<Store>,
    catalog: Arc<Catalog>,
    workers: Vec<WorkerHandle>,
    manager: ManagerHandle,
    /// At most one entry per function.
    waiting: Mutex<BTreeSet<FunctionKey>>,
    more: Notify,
}

impl Settler {
    pub fn new(
        store: Arc<Store>,
        catalog: Arc<Catalog>,
        workers: Vec<WorkerHandle>,
        manager: ManagerHandle,
    ) -> Settler {
        let waiting = Mutex::new(BTreeSet::new());
        Settler { store, catalog, workers, manager, waiting, more: Notify::new() }
    }

    /// Something of this function was begun.
    pub fn begun(&self, key: FunctionKey) {
        self.waiting().insert(key);
        self.more.notify_one();
    }

    /// Environments of this version are of no more use.
    pub async fn retire(&self, version: VersionId) {
        if let Err(error) = self.manager.retire(version).await {
            tracing::debug!(%error, "could not retire a version");
        }
    }

    /// Settles whatever is begun, until dropped.
    pub async fn run(self: Arc<Self>) {
        self.waiting().extend(self.catalog.unsettled());
        let permits = Arc::new(Semaphore::new(AT_ONCE_MAX));
        // Dropped with this future, and ends its tasks then.
        let mut tasks = JoinSet::new();
        loop {
            while let Some(ended) = tasks.try_join_next() {
                if let Err(error) = ended {
                    tracing::error!(%error, "a settling task failed");
                }
            }
            let next = self.waiting().pop_first();
            let Some(key) = next else {
                self.more.notified().await;
                continue;
            };
            // Never closed, so this only waits.
            let Ok(permit) = permits.clone().acquire_owned().await else { return };
            let settler = self.clone();
            tasks.spawn(async move {
                if let Err(error) = settler.settle(&key).await {
                    tracing::error!(function = %key.arn(), ?error, "could not settle a function");
                }
                drop(permit);
            });
        }
    }

    async fn settle(&self, key: &FunctionKey) -> Result<(), Refusal> {
        let Some(entry) = self.catalog.function(key) else { return Ok(()) };
        let begun = entry.live().is_some_and(|live| !live.status.is_settled());
        if let (true, Some(spec)) = (begun, entry.latest_spec()) {
            let spec = spec.clone();
            let beyond = entry.live().and_then(|live| beyond::failure(&live.latest));
            let result = match beyond {
                Some(failure) => Err(failure),
                None => self.prepare(key, &spec).await,
            };
            self.settle_latest(key, &spec, result).await?;
        }
        for version in self.catalog.versions(&entry.head) {
            if version.doc.state.runnable().is_ok() {
                continue;
            }
            let result = match beyond::failure(&version.doc.configuration) {
                Some(failure) => Err(failure),
                None => self.prepare(key, &version.spec).await,
            };
            let id = version.spec.id;
            self.store
                .change_version(key, version.doc.number, |current| {
                    let same = current.configuration.id == id;
                    let settled = current.state.clone().settled(result.clone());
                    (same && settled != current.state)
                        .then(|| super::document::VersionDoc { state: settled, ..current.clone() })
                })
                .await?;
        }
        Ok(())
    }

    async fn settle_latest(
        &self,
        key: &FunctionKey,
        spec: &VersionSpec,
        result: Result<(), Failure>,
    ) -> Result<(), Refusal> {
        let failed = result.as_ref().err().cloned();
        let replaced = self
            .store
            .change(key, |current| {
                let Some(current) = current else { return Ok(Decision::nothing(None)) };
                let mut head = current.head.clone();
                let Some(live) = head.live.as_mut() else { return Ok(Decision::nothing(None)) };
                // Updated or created again meanwhile: that one settles itself.
                if live.latest.id != spec.id || live.status.is_settled() {
                    return Ok(Decision::nothing(None));
                }
                let served = live.status.serving().map(|spec| spec.id);
                live.status = live.status.clone().settled(result.clone());
                live.latest.revision_id = Uuid::new_v4();
                let replaced = if live.status.serving().is_none() { served } else { None };
                Ok(Decision::head(head, replaced))
            })
            .await?;
        match failed {
            None => tracing::debug!(function = %key.arn(), "a function is ready"),
            Some(failure) => {
                tracing::debug!(function = %key.arn(), reason = failure.reason, "a function failed");
            }
        }
        if let Some(replaced) = replaced {
            self.retire(replaced).await;
        }
        Ok(())
    }

    /// Asks every worker; one that can run it is enough. Only when none can is
    /// it the function's failure.
    async fn prepare(&self, key: &FunctionKey, spec: &Arc<VersionSpec>) -> Result<(), Failure> {
        let failure =
            |reason: &str| Failure { code: FailureCode::InternalError, reason: reason.to_owned() };
        let attempts = async {
            let mut again = AGAIN_FIRST;
            loop {
                match self.prepare_once(spec).await {
                    Ok(()) => return Ok(()),
                    Err(error) => match failure_of(&error) {
                        Some(failure) => return Err(failure),
                        None => {
                            tracing::warn!(function = %spec.function_arn(), %error, "no worker could prepare a function yet");
                        }
                    },
                }
                tokio::time::sleep(again).await;
                again = (again * 2).min(AGAIN_MAX);
                if self.catalog.function(key).is_none() {
                    // Nobody waits for it any more.
                    return Err(failure("The function was deleted."));
                }
            }
        };
        let late = |_| Err(failure("No worker could prepare the function in time."));
        tokio::time::timeout(PATIENCE, attempts).await.unwrap_or_else(late)
    }

    async fn prepare_once(&self, spec: &Arc<VersionSpec>) -> Result<(), BootError> {
        let mut told: Result<(), BootError> = Err(BootError::WorkerGone);
        let mut any = false;
        for worker in &self.workers {
            match worker.prepare(spec).await {
                Ok(()) => any = true,
                // A trouble of the function says more than one of a worker.
                Err(error) => {
                    let says_more = match &told {
                        Err(known) => failure_of(known).is_none(),
                        Ok(()) => false,
                    };
                    if says_more {
                        told = Err(error);
                    }
                }
            }
        }
        if any { Ok(()) } else { told }
    }

    fn waiting(&self) -> std::sync::MutexGuard<'_, BTreeSet<FunctionKey>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

//! The machines that run, and their end.
//!
//! Ending one is a task of its own: whoever waits for it may stop waiting.
//!
//! Not here: how one comes to run (`birth`).

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, RwLock, RwLockReadGuard};
use std::time::{Duration, Instant};

use lamu_model::SandboxId;
use tokio::runtime::Handle;
use tokio::sync::watch;

use super::birth::end_process;
use super::{Parts, sys};
use crate::{DriverError, Stats};

/// A process in an uninterruptible system call freezes only after it.
const FREEZE_MILLIS_MAX: u64 = 1_000;

#[derive(Clone, Debug)]
pub struct Machines {
    all: Arc<Mutex<HashMap<SandboxId, Entry>>>,
    runtime: Handle,
}

#[derive(Debug)]
struct Entry {
    running: Arc<Running>,
    /// Set once its end has begun; closes when nothing is left.
    ending: Option<watch::Receiver<()>>,
}

#[derive(Debug)]
pub struct Running {
    /// Taken when it ends.
    parts: RwLock<Option<Parts>>,
    pidfd: OwnedFd,
    cpu_millis_max: Option<u32>,
    /// One change between running and frozen at a time.
    freezing: tokio::sync::Mutex<()>,
}

impl Running {
    pub fn new(parts: Parts, pidfd: OwnedFd, cpu_millis_max: Option<u32>) -> Running {
        Running {
            parts: RwLock::new(Some(parts)),
            pidfd,
            cpu_millis_max,
            freezing: tokio::sync::Mutex::new(()),
        }
    }

    fn parts(&self) -> RwLockReadGuard<'_, Option<Parts>> {
        self.parts.read().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    async fn end(&self) {
        let _ = sys::kill_pidfd(self.pidfd.as_fd(), libc::SIGKILL);
        if let Some(parts) = &*self.parts() {
            // What stands still cannot die (v1).
            let _ = parts.cgroup.set_frozen(false);
        }
        let ended = match self.pidfd.try_clone() {
            Ok(pidfd) => end_process(pidfd).await,
            Err(_) => false,
        };
        let parts = self.parts.write().unwrap_or_else(|poisoned| poisoned.into_inner()).take();
        match parts {
            Some(parts) if ended => {
                let _ = parts.dispose().await; // logged where it failed
            }
            Some(parts) => {
                tracing::error!("a killed sandbox does not end; its parts are not used again");
                let mut parts = parts;
                parts.doors = None;
                std::mem::forget(parts);
            }
            None => {}
        }
    }
}

impl Machines {
    pub fn new(runtime: Handle) -> Machines {
        Machines { all: Arc::default(), runtime }
    }

    /// Takes over a running machine. A second one of the same name is ended.
    pub fn add(&self, sandbox: SandboxId, running: Running) -> Result<(), DriverError> {
        let running = Arc::new(running);
        let mut all = self.lock();
        if all.contains_key(&sandbox) {
            self.runtime.spawn(async move { running.end().await });
            return Err(DriverError::Step {
                step: format!("make sandbox {sandbox} twice"),
                source: io::ErrorKind::AlreadyExists.into(),
            });
        }
        all.insert(sandbox, Entry { running, ending: None });
        Ok(())
    }

    pub fn all(&self) -> Vec<SandboxId> {
        self.lock().keys().copied().collect()
    }

    /// Begins the end of a machine, once; what comes back closes when nothing
    /// of it is left. `None` when it is gone already.
    pub fn begin_end(&self, sandbox: SandboxId) -> Option<watch::Receiver<()>> {
        let mut all = self.lock();
        let entry = all.get_mut(&sandbox)?;
        if let Some(ending) = &entry.ending {
            return Some(ending.clone());
        }
        let (gone, ending) = watch::channel(());
        entry.ending = Some(ending.clone());
        let running = entry.running.clone();
        let all = self.all.clone();
        self.runtime.spawn(async move {
            running.end().await;
            lock(&all).remove(&sandbox);
            drop(gone);
        });
        Some(ending)
    }

    pub async fn end(&self, sandbox: SandboxId) {
        if let Some(mut ending) = self.begin_end(sandbox) {
            while ending.changed().await.is_ok() {}
        }
    }

    pub async fn freeze(&self, sandbox: SandboxId) -> Result<(), DriverError> {
        let running = self.running(sandbox)?;
        let _one = running.freezing.lock().await;
        with(&running, sandbox, "freeze", |parts| parts.cgroup.set_frozen(true))?;
        let deadline = Instant::now() + Duration::from_millis(FREEZE_MILLIS_MAX);
        let mut pause = Duration::from_micros(100);
        while !with(&running, sandbox, "freeze", |parts| parts.cgroup.is_frozen())? {
            if Instant::now() >= deadline {
                with(&running, sandbox, "thaw", |parts| parts.cgroup.set_frozen(false))?;
                let source = io::ErrorKind::TimedOut.into();
                return Err(DriverError::Step { step: "freeze".into(), source });
            }
            tokio::time::sleep(pause).await;
            pause *= 2;
        }
        Ok(())
    }

    pub async fn thaw(&self, sandbox: SandboxId) -> Result<(), DriverError> {
        let running = self.running(sandbox)?;
        let _one = running.freezing.lock().await;
        with(&running, sandbox, "thaw", |parts| parts.cgroup.set_frozen(false))
    }

    pub fn memory_bytes_max(&self, sandbox: SandboxId) -> Result<u64, DriverError> {
        let running = self.running(sandbox)?;
        with(&running, sandbox, "read its memory mark", |parts| parts.cgroup.memory_bytes_max())
    }

    pub fn stats(&self, sandbox: SandboxId) -> Result<Stats, DriverError> {
        let running = self.running(sandbox)?;
        with(&running, sandbox, "read its use", |parts| parts.cgroup.stats())
    }

    pub fn reset_memory_max(&self, sandbox: SandboxId) -> Result<(), DriverError> {
        let running = self.running(sandbox)?;
        with(&running, sandbox, "reset its memory mark", |parts| parts.cgroup.reset_memory_max())
    }

    pub fn hold_cpu(&self, sandbox: SandboxId) -> Result<(), DriverError> {
        let running = self.running(sandbox)?;
        let Some(millis) = running.cpu_millis_max else { return Ok(()) };
        with(&running, sandbox, "limit its CPU", |parts| parts.cgroup.set_cpu_ceiling(millis))
    }

    /// One small task per machine of the last seconds.
    pub fn hold_cpu_after(&self, sandbox: SandboxId, wait: Duration) {
        let all = Arc::downgrade(&self.all);
        let runtime = self.runtime.clone();
        self.runtime.spawn(async move {
            tokio::time::sleep(wait).await;
            if let Some(all) = all.upgrade() {
                // Gone meanwhile is fine.
                let _ = Machines { all, runtime }.hold_cpu(sandbox);
            }
        });
    }

    fn running(&self, sandbox: SandboxId) -> Result<Arc<Running>, DriverError> {
        match self.lock().get(&sandbox) {
            Some(Entry { running, ending: None }) => Ok(running.clone()),
            _ => Err(DriverError::Gone { sandbox }),
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<SandboxId, Entry>> {
        lock(&self.all)
    }
}

fn with<T>(
    running: &Running,
    sandbox: SandboxId,
    step: &'static str,
    act: impl FnOnce(&Parts) -> io::Result<T>,
) -> Result<T, DriverError> {
    match &*running.parts() {
        Some(parts) => act(parts).map_err(|source| DriverError::Step { step: step.into(), source }),
        None => Err(DriverError::Gone { sandbox }),
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

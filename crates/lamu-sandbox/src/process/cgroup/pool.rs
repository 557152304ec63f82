//! Cgroups made ahead of need and removed behind it, by two threads: making
//! one takes some ten system calls under locks that the whole host shares.
//!
//! A cgroup is used once: what its processes left charged to it (cached
//! files) belongs to them.
//!
//! Not here: what a cgroup is (`super`).

use std::collections::VecDeque;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use tokio::sync::oneshot;

use super::super::refill::{self, Next};
use super::{Cgroup, Controller, Layout};

/// Enough for a burst of starts on every core while the maker catches up; an
/// empty v1 cgroup set costs the kernel about 100 KiB.
const READY_MAX: usize = 16;

/// Makes cgroups ahead and removes used ones.
#[derive(Debug)]
pub struct CgroupPool {
    ready: Arc<Mutex<VecDeque<Cgroup>>>,
    // Unbounded channels: at most one message per cgroup that exists or is
    // waited for, and sandboxes are bounded by their user ids.
    make: Option<Sender<Wanted>>,
    remove: Sender<Removal>,
    maker: Option<JoinHandle<()>>,
}

/// A cgroup out of the pool. Removed in the background when dropped.
#[derive(Debug)]
pub struct Pooled {
    cgroup: Option<Cgroup>,
    remove: Sender<Removal>,
}

/// `None` only fills the pool up.
type Wanted = Option<oneshot::Sender<io::Result<Cgroup>>>;

type Removal = (Cgroup, Option<oneshot::Sender<io::Result<()>>>);

impl CgroupPool {
    pub fn start(layout: Layout) -> io::Result<CgroupPool> {
        keep_freezer_active(&layout);
        let ready = Arc::new(Mutex::new(VecDeque::new()));
        let (make, wanted) = channel::<Wanted>();
        let (remove, removals) = channel::<Removal>();
        let next = AtomicU64::new(0);
        let filled = ready.clone();
        let spare = remove.clone();
        let maker =
            std::thread::Builder::new().name("lamu-cgroup-make".into()).spawn(move || {
                let create = || Cgroup::create(&layout, next.fetch_add(1, Ordering::Relaxed));
                let mut failed = false;
                loop {
                    let ready = lock(&filled).len();
                    match refill::next(&wanted, ready, READY_MAX, failed) {
                        Next::End => return,
                        Next::Work(None) => failed = false,
                        Next::Work(Some(reply)) => {
                            if let Err(Ok(unwanted)) = reply.send(create()) {
                                let _ = spare.send((unwanted, None));
                            }
                        }
                        Next::MakeOne => match create() {
                            Ok(cgroup) => lock(&filled).push_back(cgroup),
                            Err(error) => {
                                tracing::warn!(%error, "could not make a cgroup ahead");
                                failed = true;
                            }
                        },
                    }
                }
            })?;
        std::thread::Builder::new().name("lamu-cgroup-rm".into()).spawn(move || {
            while let Ok((mut cgroup, reply)) = removals.recv() {
                let result = cgroup.remove();
                if let Err(error) = &result {
                    tracing::error!(%error, "could not remove a cgroup");
                }
                if let Some(reply) = reply {
                    let _ = reply.send(result);
                }
            }
        })?;
        let pool = CgroupPool { ready, make: Some(make), remove, maker: Some(maker) };
        pool.ask(None);
        Ok(pool)
    }

    pub async fn take(&self) -> io::Result<Pooled> {
        let ready = lock(&self.ready).pop_front();
        let cgroup = match ready {
            Some(cgroup) => {
                self.ask(None);
                cgroup
            }
            None => {
                let (reply, made) = oneshot::channel();
                self.ask(Some(reply));
                made.await.map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))??
            }
        };
        Ok(Pooled { cgroup: Some(cgroup), remove: self.remove.clone() })
    }

    fn ask(&self, wanted: Wanted) {
        if let Some(make) = &self.make {
            let _ = make.send(wanted);
        }
    }
}

impl Drop for CgroupPool {
    /// Nothing is made any more once this returns, and what was made ahead is
    /// removed.
    fn drop(&mut self) {
        self.make = None;
        if let Some(maker) = self.maker.take() {
            let _ = maker.join();
        }
        for mut cgroup in std::mem::take(&mut *lock(&self.ready)) {
            let _ = cgroup.remove();
        }
    }
}

impl Pooled {
    /// Removes the cgroup and waits until it is gone.
    pub async fn remove(mut self) -> io::Result<()> {
        let Some(cgroup) = self.cgroup.take() else { return Ok(()) };
        let (reply, removed) = oneshot::channel();
        let _ = self.remove.send((cgroup, Some(reply)));
        removed.await.map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))?
    }
}

impl std::ops::Deref for Pooled {
    type Target = Cgroup;

    fn deref(&self) -> &Cgroup {
        // Taken only by `remove`, which consumes self, and by `drop`.
        self.cgroup.as_ref().expect("a cgroup until it is removed")
    }
}

impl Drop for Pooled {
    fn drop(&mut self) {
        if let Some(cgroup) = self.cgroup.take() {
            let _ = self.remove.send((cgroup, None));
        }
    }
}

/// Keeps an empty cgroup frozen for as long as the instance lives (v1). The
/// kernel patches its own code when the first cgroup of the host freezes and
/// when the last one thaws, which took 0.1 ms of each thaw. Without it things
/// are merely slower; it is removed with the instance's directory.
fn keep_freezer_active(layout: &Layout) {
    let bases = layout.bases().iter();
    let freezer = bases.filter(|(controller, _)| *controller == Controller::Freezer);
    for (_, base) in freezer.filter(|_| !layout.is_v2()) {
        let dir = base.join("frozen");
        let kept = std::fs::create_dir(&dir)
            .and_then(|()| std::fs::write(dir.join("freezer.state"), "FROZEN"));
        if let Err(error) = kept {
            tracing::debug!(%error, "could not keep the freezer active");
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

//! The unpacked packages of one host, by digest.
//!
//! ```text
//!           get          unpacked             dropped by all, and
//!  absent -------> Unpacking ------> Ready -- room is needed --> absent
//!     ^                |
//!     +----- failed ---+
//! ```
//!
//! However many ask, a package is unpacked once; all wait for the same task,
//! which goes on when they leave. Whoever holds an [`Unpacked`] keeps it on
//! disk; of the others the longest unused goes first.
//!
//! On disk, below the cache's directory:
//!
//! ```text
//!  .lock              held by the process that uses the cache
//!  tmp-…/             being unpacked or removed; gone at the next open
//!  <digest>/code/     the package, as its archive says
//!  <digest>/complete  what it takes, and in which boot it was written
//! ```
//!
//! Nothing here is flushed: after a restart of the machine the cache is empty.
//!
//! The directory and those above it must let everyone pass (o+x): functions
//! run under other user ids. The cache makes its own part 0755.
//!
//! Not here: what may be in an archive (`lamu_store::archive`).

mod disk;

use std::collections::HashMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use lamu_model::Digest;
use lamu_store::archive::{ArchiveError, Limits, Summary};
use lamu_store::{Packages, PackagesError};
use tempfile::TempDir;
use tokio::sync::{Semaphore, oneshot};

/// Unpacked at once: inflating takes a whole CPU each, and what is on disk
/// beyond the cache's bound, because it is not counted yet, is at most this
/// many packages.
const UNPACKING_MAX: usize = 2;

/// What a file or directory takes beyond its bytes: an inode and the unused
/// rest of its last block.
const ENTRY_BYTES: u64 = 4_096;

type Cause = Arc<dyn std::error::Error + Send + Sync>;

/// Unpacked packages, bounded in bytes. Clones are handles to the same cache.
#[derive(Clone, Debug)]
pub struct PackageCache {
    shared: Arc<Shared>,
}

/// A package on this host's disk, which stays there while this exists.
#[derive(Debug)]
pub struct Unpacked {
    pub digest: Digest,
    /// What becomes `/var/task` or a layer. Never written to.
    pub path: PathBuf,
    /// What it takes in the cache, which is more than its files' bytes.
    pub bytes: u64,
}

/// Told to everyone who waited for the same package.
#[derive(Clone, Debug, thiserror::Error)]
pub enum PackageError {
    #[error("package {digest} is not in the package store")]
    Missing { digest: Digest },
    /// Unpacking it again will fail again.
    #[error("package {digest} cannot be used")]
    Unusable { digest: Digest, source: Cause },
    #[error(
        "package {digest} needs {bytes} bytes, and what environments use leaves too few of the \
         {bytes_max} that the package cache may have"
    )]
    Full { digest: Digest, bytes: u64, bytes_max: u64 },
    /// A later attempt may succeed.
    #[error("could not {step}")]
    Unavailable { step: String, source: Cause },
}

#[derive(Debug)]
struct Shared {
    root: PathBuf,
    bytes_max: u64,
    packages: Arc<dyn Packages>,
    state: Mutex<State>,
    unpacking: Semaphore,
    // Held as long as the cache is in use.
    _lock: File,
}

#[derive(Debug, Default)]
struct State {
    ready: HashMap<Digest, Ready>,
    /// Those who wait for each package that is being unpacked: at most one for
    /// each environment that is being started.
    waiting: HashMap<Digest, Vec<oneshot::Sender<Answer>>>,
    /// Taken by those that are ready.
    bytes: u64,
    /// Counts uses; the one with the least was used longest ago.
    uses: u64,
}

#[derive(Debug)]
struct Ready {
    // Invariant: this is cloned only under the lock of the state, so a count of
    // one there means: nobody uses it, or begins to.
    unpacked: Arc<Unpacked>,
    used: u64,
}

type Answer = Result<Arc<Unpacked>, PackageError>;

impl PackageCache {
    /// Opens or creates the cache in `directory`, of at most `bytes_max`, for
    /// packages from `packages`. Removes what a crash left, and what is too
    /// much. Only one process can have it open.
    ///
    /// Reads and removes files: not for an async thread that others wait for.
    pub fn open(
        directory: impl AsRef<Path>,
        bytes_max: u64,
        packages: Arc<dyn Packages>,
    ) -> Result<Self, PackageError> {
        let root = directory.as_ref().to_path_buf();
        let failed = |source| unavailable(format!("open {}", root.display()), source);
        let (lock, found) = disk::open(&root).map_err(failed)?;
        let mut state = State::default();
        for unpacked in found {
            state.keep(unpacked.into());
        }
        // Nothing is used yet, so there always is room.
        for digest in state.make_room(0, bytes_max).unwrap_or_default() {
            drop(disk::bury(&root, &digest).map_err(failed)?);
        }
        let unpacking = Semaphore::new(UNPACKING_MAX);
        let state = Mutex::new(state);
        let shared = Shared { root, bytes_max, packages, state, unpacking, _lock: lock };
        Ok(PackageCache { shared: Arc::new(shared) })
    }

    /// The package of this digest, unpacked now if it was not before.
    ///
    /// If the future is dropped, unpacking goes on for those who ask next.
    pub async fn get(&self, digest: &Digest) -> Result<Arc<Unpacked>, PackageError> {
        let (answer, answered) = oneshot::channel();
        {
            let mut state = self.shared.state();
            if let Some(unpacked) = state.touch(digest) {
                return Ok(unpacked);
            }
            match state.waiting.get_mut(digest) {
                Some(waiting) => {
                    // Those who left make room for those who come.
                    waiting.retain(|waiter| !waiter.is_closed());
                    waiting.push(answer);
                }
                None => {
                    state.waiting.insert(*digest, vec![answer]);
                    let shared = self.shared.clone();
                    tokio::spawn(Flight { shared, digest: *digest, landed: false }.run());
                }
            }
        }
        answered.await.map_err(|source| unavailable(format!("unpack package {digest}"), source))?
    }

    /// What the packages take on disk.
    pub fn bytes(&self) -> u64 {
        self.shared.state().bytes
    }
}

/// The task that unpacks one package for everyone.
struct Flight {
    shared: Arc<Shared>,
    digest: Digest,
    landed: bool,
}

impl Flight {
    async fn run(mut self) {
        let started = Instant::now();
        let answer = self.unpack().await;
        match &answer {
            Ok(unpacked) => {
                let (bytes, took) = (unpacked.bytes, started.elapsed());
                tracing::info!(digest = %self.digest, bytes, ?took, "unpacked a package");
            }
            // Whoever asked for it says what comes of it.
            Err(error) => tracing::debug!(digest = %self.digest, %error, "package not unpacked"),
        }
        self.landed = true;
        let mut waiting = self.shared.state().waiting.remove(&self.digest).unwrap_or_default();
        // The last one gets the answer itself: a clone that stays here would
        // count as a use. One that left changes nothing; the next finds it ready.
        let last = waiting.pop();
        for waiter in waiting {
            let _ = waiter.send(answer.clone());
        }
        if let Some(last) = last {
            let _ = last.send(answer);
        }
    }

    async fn unpack(&self) -> Answer {
        let permit = self.shared.unpacking.acquire().await;
        let _permit = permit.map_err(|source| self.unavailable(source))?;
        let home = disk::home(&self.shared.root).map_err(|source| self.unavailable(source))?;
        let archive = disk::archive(&home);
        self.shared.packages.copy_to(&self.digest, &archive).await.map_err(
            |error| match error {
                PackagesError::Missing { digest } => PackageError::Missing { digest },
                PackagesError::Damaged { .. } => self.unusable(error),
                PackagesError::Unavailable { .. } => self.unavailable(error),
            },
        )?;
        let (shared, digest) = (self.shared.clone(), self.digest);
        let finish = move || -> Result<Answer, ArchiveError> {
            let summary = disk::unpack(&home, &Limits::default())?;
            Ok(shared.publish(digest, home, bytes(summary)))
        };
        match tokio::task::spawn_blocking(finish).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(error @ ArchiveError::Io { .. })) => Err(self.unavailable(error)),
            Ok(Err(error)) => Err(self.unusable(error)),
            Err(source) => Err(self.unavailable(source)),
        }
    }

    fn unusable(&self, source: impl std::error::Error + Send + Sync + 'static) -> PackageError {
        PackageError::Unusable { digest: self.digest, source: Arc::new(source) }
    }

    fn unavailable(&self, source: impl std::error::Error + Send + Sync + 'static) -> PackageError {
        unavailable(format!("unpack package {}", self.digest), source)
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        // It crashed: those who wait hear so by their senders going.
        if !self.landed {
            self.shared.state().waiting.remove(&self.digest);
        }
    }
}

impl Shared {
    /// Makes room, and gives the package in `home` its name.
    fn publish(&self, digest: Digest, home: TempDir, bytes: u64) -> Answer {
        let failed = |source| unavailable(format!("keep package {digest}"), source);
        let mut buried = Vec::new();
        {
            let mut state = self.state();
            let evicted = state.make_room(bytes, self.bytes_max).ok_or(PackageError::Full {
                digest,
                bytes,
                bytes_max: self.bytes_max,
            })?;
            // Under the lock, so that no one unpacks it anew before it is gone.
            for old in evicted {
                tracing::debug!(digest = %old, "package leaves the cache");
                buried.push(disk::bury(&self.root, &old).map_err(failed)?);
            }
            let path = disk::publish(&self.root, &digest, home, bytes).map_err(failed)?;
            let unpacked = Arc::new(Unpacked { digest, path, bytes });
            state.keep(unpacked.clone());
            Ok(unpacked)
        }
        // `buried` is removed here, when nobody has to wait for that.
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// One that is ready, which counts as its use.
    fn touch(&mut self, digest: &Digest) -> Option<Arc<Unpacked>> {
        let ready = self.ready.get_mut(digest)?;
        self.uses += 1;
        ready.used = self.uses;
        Some(ready.unpacked.clone())
    }

    fn keep(&mut self, unpacked: Arc<Unpacked>) {
        self.uses += 1;
        self.bytes += unpacked.bytes;
        self.ready.insert(unpacked.digest, Ready { unpacked, used: self.uses });
    }

    /// Takes out what must go so that `bytes` more stay within `bytes_max`, the
    /// longest unused first. `None` if that cannot be, and then nothing goes.
    fn make_room(&mut self, bytes: u64, bytes_max: u64) -> Option<Vec<Digest>> {
        let mut unused: Vec<_> = self
            .ready
            .values()
            .filter(|ready| Arc::strong_count(&ready.unpacked) == 1)
            .map(|ready| (ready.used, ready.unpacked.bytes, ready.unpacked.digest))
            .collect();
        unused.sort();
        let mut left = self.bytes.saturating_add(bytes);
        let mut goes = Vec::new();
        for (_, bytes, digest) in unused {
            if left <= bytes_max {
                break;
            }
            left -= bytes;
            goes.push(digest);
        }
        if left > bytes_max {
            return None;
        }
        for digest in &goes {
            if let Some(gone) = self.ready.remove(digest) {
                self.bytes -= gone.unpacked.bytes;
            }
        }
        Some(goes)
    }
}

fn bytes(summary: Summary) -> u64 {
    // One more for the directory of all.
    let entries = u64::try_from(summary.entries).unwrap_or(u64::MAX).saturating_add(1);
    summary.unzipped_bytes.saturating_add(entries.saturating_mul(ENTRY_BYTES))
}

fn unavailable(
    step: String,
    source: impl std::error::Error + Send + Sync + 'static,
) -> PackageError {
    PackageError::Unavailable { step, source: Arc::new(source) }
}

#[cfg(test)]
mod tests;

//! [`Queue`] in one SQLite file: WAL, `synchronous=FULL`, one writer.
//!
//! One thread owns the connection and takes everything that waits in its
//! inbox: what is to be kept or removed goes into one transaction and one
//! flush, and is answered after it. Which events are held is known in memory
//! only, since holding one promises nothing across a crash: a file that is
//! opened again has all its events waiting.
//!
//! ```text
//!  send, ack, retry, … ──inbox──▶ writer thread ─▶ one transaction ─▶ commit ─▶ answers
//!  receive ──────────────────────▶      │ after the commit
//!     ▲ something came, or falls due ───┘
//! ```
//!
//! Not here: what the writer does (`writer`), who is held and due (`holds`),
//! SQL (`table`).

mod disk;
mod holds;
mod request;
mod table;
mod writer;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use tokio::time::Instant;

use super::{Delivery, Depth, NewEvent, Queue, QueueError, Receipt, Seen, Shard, Which};
use crate::sqlite as file;
use disk::Disk;
use request::{Done, Received, Request};
use writer::Writer;

/// Requests that wait for the writer; more callers wait their turn.
const INBOX_MAX: usize = 512;

/// Bytes of events on their way to the file, those included that the writer has
/// taken: what senders without end may have of the memory.
const SENDING_BYTES_MAX: usize = 64 << 20;

const LANE_BYTES_MAX: usize = 512;
const NOTE_BYTES_MAX: usize = 64 * 1024;

/// The longest that an event may be put off. Lambda tries for six hours at most;
/// a month leaves room for any plan, and tells what a clock that was wrong wrote
/// down.
const DELAY_MAX: Duration = Duration::from_secs(31 * 24 * 60 * 60);

/// A clock that shows less (2024) has not been set yet.
const CLOCK_MS_MIN: u64 = 1_704_067_200_000;

/// The largest event there is (1 MiB), and what its sender writes around it.
const BODY_BYTES_MAX: usize = (1 << 20) + (128 << 10);

/// What one queue may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueueLimits {
    pub shards: u16,
    /// Bytes of all events, the dead included; more are refused.
    pub bytes_max: u64,
    /// Bytes of one lane's events that are not dead, a share of `bytes_max`: who
    /// sends without end fills its own part and leaves room to the others.
    pub lane_bytes_max: u64,
    /// Dead events kept; the oldest goes when another comes. Their bytes are
    /// bounded too, by a share of `bytes_max`.
    pub dead_max: u64,
    /// Events held at once. Each is an invocation under way, or about to be.
    pub held_max: usize,
    /// Bytes of the disk that sends leave free: an acknowledgement has to be
    /// written too, and only that makes room again.
    pub free_bytes_min: u64,
}

impl Default for QueueLimits {
    fn default() -> QueueLimits {
        QueueLimits {
            shards: 8,
            bytes_max: 8 << 30,
            lane_bytes_max: 2 << 30,
            dead_max: 100_000,
            held_max: 16_384,
            // The log of writes at its usual length, and as much again for what
            // others put there meanwhile.
            free_bytes_min: file::WAL_BYTES_KEPT + (64 << 20),
        }
    }
}

/// Events in one SQLite file that this process alone has open.
///
/// Dropping it waits until the writer has finished what it had accepted.
#[derive(Debug)]
pub struct SqliteQueue {
    requests: Option<mpsc::Sender<Request>>,
    /// Bytes that may still be sent at once.
    sending: Arc<Semaphore>,
    writer: Option<JoinHandle<()>>,
    shards: Arc<[ShardState]>,
    _lock: std::fs::File,
}

/// What of a shard is seen without asking the writer.
#[derive(Debug)]
struct ShardState {
    backlog: AtomicU64,
    /// Counts up whenever an event has come to be due.
    arrivals: watch::Sender<u64>,
}

impl SqliteQueue {
    /// Opens or creates the database file `path`, and its directory if that is
    /// missing. Reads all of it once: damage is found now and not later.
    pub fn open(path: impl AsRef<Path>, limits: QueueLimits) -> Result<SqliteQueue, QueueError> {
        let path = path.as_ref();
        if limits.shards == 0 {
            return Err(QueueError::Invalid { what: "a queue needs a shard".into() });
        }
        let lock = file::prepare(path)?;
        let connection = table::open(path)?;
        let disk = Disk::of(path);
        let state = || ShardState { backlog: AtomicU64::new(0), arrivals: watch::Sender::new(0) };
        let shards: Arc<[ShardState]> = (0..limits.shards).map(|_| state()).collect();
        let writer = Writer::new(connection, disk, limits, shards.clone())?;
        let (requests, inbox) = mpsc::channel(INBOX_MAX);
        let returns = requests.downgrade();
        let writer = std::thread::Builder::new()
            .name("lamu-queue".into())
            .spawn(move || {
                let _death = Death;
                writer.serve(inbox, returns);
            })
            .map_err(|source| unavailable("start its writer", source))?;
        Ok(SqliteQueue {
            requests: Some(requests),
            sending: Arc::new(Semaphore::new(SENDING_BYTES_MAX)),
            writer: Some(writer),
            shards,
            _lock: lock,
        })
    }

    async fn ask<T>(&self, request: impl FnOnce(Done<T>) -> Request) -> Result<T, QueueError> {
        let (done, answered) = oneshot::channel();
        let gone = || unavailable("reach its writer", "the writer has ended");
        let requests = self.requests.as_ref().ok_or_else(gone)?;
        requests.send(request(done)).await.map_err(|_| gone())?;
        answered.await.map_err(|_| gone())?
    }

    fn state(&self, shard: Shard) -> Result<&ShardState, QueueError> {
        self.shards.get(usize::from(shard.0)).ok_or_else(|| {
            let what = format!("there is no shard {}, only {}", shard.0, self.shards.len());
            QueueError::Invalid { what }
        })
    }
}

#[async_trait]
impl Queue for SqliteQueue {
    fn shards(&self) -> u16 {
        self.shards.len() as u16
    }

    fn backlog(&self, shard: Shard) -> u64 {
        self.state(shard).map_or(0, |state| state.backlog.load(Ordering::Relaxed))
    }

    async fn send(&self, shard: Shard, event: NewEvent) -> Result<(), QueueError> {
        self.state(shard)?;
        check("a lane", event.lane.len(), LANE_BYTES_MAX)?;
        check("an event", event.body.len(), BODY_BYTES_MAX)?;
        check_delay(event.delay)?;
        // Below the bound of one event, so it fits.
        let sending = self.sending.clone().acquire_many_owned(event.body.len() as u32).await;
        let sending = sending.map_err(|error| unavailable("take an event", error))?;
        self.ask(|done| Request::Send { shard, event, sending, done }).await
    }

    async fn receive(
        &self,
        shard: Shard,
        count: usize,
        visibility: Duration,
        patience: Duration,
    ) -> Result<Vec<Delivery>, QueueError> {
        let mut arrivals = self.state(shard)?.arrivals.subscribe();
        let until = after(patience);
        loop {
            arrivals.mark_unchanged();
            let Received { unread, next_in } =
                self.ask(|done| Request::Receive { shard, count, visibility, done }).await?;
            if !unread.is_empty() || Instant::now() >= until {
                return Ok(unread.take());
            }
            let due = next_in.map_or(until, |next_in| after(next_in).min(until));
            tokio::select! {
                // Closed only with the queue, and then the next ask says so.
                _ = arrivals.changed() => {}
                () = tokio::time::sleep_until(due) => {}
            }
        }
    }

    async fn extend(&self, receipt: &Receipt, visibility: Duration) -> Result<(), QueueError> {
        let receipt = receipt.clone();
        self.ask(|done| Request::Extend { receipt, visibility, done }).await
    }

    async fn ack(&self, receipt: &Receipt) -> Result<(), QueueError> {
        let receipt = receipt.clone();
        self.ask(|done| Request::Ack { receipt, done }).await
    }

    async fn retry(
        &self,
        receipt: &Receipt,
        delay: Duration,
        note: Bytes,
    ) -> Result<(), QueueError> {
        check("a note", note.len(), NOTE_BYTES_MAX)?;
        check_delay(delay)?;
        let receipt = receipt.clone();
        self.ask(|done| Request::Retry { receipt, delay, note, done }).await
    }

    async fn bury(&self, receipt: &Receipt, why: &str) -> Result<(), QueueError> {
        check("a reason", why.len(), NOTE_BYTES_MAX)?;
        let (receipt, why) = (receipt.clone(), why.to_owned());
        self.ask(|done| Request::Bury { receipt, why, done }).await
    }

    async fn depths(&self) -> Result<Vec<Depth>, QueueError> {
        self.ask(|done| Request::Depths { done }).await
    }

    async fn look(
        &self,
        which: Which,
        lane: Option<&str>,
        after: Option<u64>,
        count: usize,
    ) -> Result<Vec<Seen>, QueueError> {
        let lane = lane.map(str::to_owned);
        self.ask(|done| Request::Look { which, lane, after, count, done }).await
    }

    async fn redrive(&self, lane: &str) -> Result<u64, QueueError> {
        let lane = lane.to_owned();
        self.ask(|done| Request::Redrive { lane, done }).await
    }

    async fn purge(&self, which: Which, lane: &str) -> Result<u64, QueueError> {
        let lane = lane.to_owned();
        self.ask(|done| Request::Purge { which, lane, done }).await
    }
}

impl Drop for SqliteQueue {
    fn drop(&mut self) {
        self.requests = None;
        if let Some(writer) = self.writer.take() {
            // A panic has been told of (`Death`).
            let _ = writer.join();
        }
    }
}

/// Tells of the writer's panic when it happens: all that callers hear is that
/// it has ended.
struct Death;

impl Drop for Death {
    fn drop(&mut self) {
        if std::thread::panicking() {
            tracing::error!("the queue's writer panicked; nothing is kept until a restart");
        }
    }
}

/// That long from now, or further than anybody waits.
fn after(patience: Duration) -> Instant {
    const FAR: Duration = Duration::from_secs(365 * 24 * 60 * 60);
    Instant::now() + patience.min(FAR)
}

fn check(what: &str, bytes: usize, bytes_max: usize) -> Result<(), QueueError> {
    if bytes <= bytes_max {
        return Ok(());
    }
    Err(QueueError::Invalid { what: format!("{what} has {bytes} bytes, more than {bytes_max}") })
}

fn check_delay(delay: Duration) -> Result<(), QueueError> {
    if delay <= DELAY_MAX {
        return Ok(());
    }
    Err(QueueError::Invalid { what: format!("{delay:?} is longer than {DELAY_MAX:?}") })
}

fn unavailable(
    step: impl Into<String>,
    source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
) -> QueueError {
    QueueError::Unavailable { step: step.into(), source: source.into() }
}

/// Milliseconds since the epoch: what is due survives a restart, so it is the
/// calendar's time. But within one life it never goes back, so that nobody's
/// order or patience hangs on who sets the clock.
#[derive(Debug, Default)]
struct Calendar {
    ahead_ms: u64,
    last_ms: u64,
}

impl Calendar {
    fn now_ms(&mut self) -> u64 {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        self.at(whole_ms(since))
    }

    fn at(&mut self, shown_ms: u64) -> u64 {
        let now_ms = shown_ms + self.ahead_ms;
        if now_ms < self.last_ms {
            // It was set back: time goes on from where it was.
            self.ahead_ms += self.last_ms - now_ms;
        } else {
            self.last_ms = now_ms;
        }
        self.last_ms
    }
}

fn whole_ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;

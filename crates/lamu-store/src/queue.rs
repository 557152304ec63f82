//! Durable events: sent once, received for a while, acknowledged or tried
//! again.
//!
//! ```text
//!  send ─▶ waiting ──receive──▶ held ──ack──▶ gone
//!             ▲                  │ │
//!             ├──retry, or time──┘ └──bury──▶ dead ──redrive──▶ waiting
//! ```
//!
//! Delivery is at least once: who received an event and was silent for longer
//! than its visibility has lost it to the next. Events of one shard come in
//! about the order in which they fell due; nothing more is promised of order.
//!
//! Not here: which shard an event goes to (`sharding`), when a failed one is
//! tried again (`lamu_poller`).

pub mod sharding;
mod sqlite;

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use lamu_model::RequestId;

use crate::sqlite::FileError;
pub use sqlite::{QueueLimits, SqliteQueue};

/// One of the queue's independent parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Shard(pub u16);

/// An event to be kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewEvent {
    pub id: RequestId,
    /// Whose it is: events of one lane are counted, shown and purged together.
    /// At most 512 bytes.
    pub lane: String,
    pub body: Bytes,
    /// Not to be received before.
    pub delay: Duration,
}

/// A kept event, received for a while.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    pub receipt: Receipt,
    pub event: Event,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    pub id: RequestId,
    pub lane: String,
    pub body: Bytes,
    /// What the last [`Queue::retry`] wrote down; empty before.
    pub note: Bytes,
    /// When it was sent, in milliseconds since the epoch.
    pub sent_ms: u64,
}

/// The right to say what becomes of a received event, until its visibility
/// ends. Only the queue that gave it can read it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Receipt {
    shard: Shard,
    event: i64,
    hold: u64,
}

/// How much is in one lane.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Depth {
    pub lane: String,
    /// Due, or to be tried again later.
    pub waiting: u64,
    /// Received and not yet acknowledged.
    pub held: u64,
    pub dead: u64,
    /// When the oldest that is not dead was sent.
    pub oldest_sent_ms: Option<u64>,
}

/// An event as it is looked at, without being received.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Grows in the order of sending; where the next page begins.
    pub position: u64,
    pub event: Event,
    pub state: SeenState,
    /// The event is not what was sent; its body may be missing.
    pub damaged: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SeenState {
    Waiting { due_ms: u64 },
    Held,
    Dead { why: String, since_ms: u64 },
}

/// Which events an operator means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    /// Waiting and held.
    Live,
    Dead,
}

#[async_trait]
pub trait Queue: Send + Sync + fmt::Debug {
    /// How many shards there are; it does not change while it is open.
    fn shards(&self) -> u16;

    /// Events in a shard that are not dead. At once, and no older than the
    /// last answer.
    fn backlog(&self, shard: Shard) -> u64;

    /// Keeps an event. Durable before the answer; if the future is dropped it
    /// may or may not be kept.
    async fn send(&self, shard: Shard, event: NewEvent) -> Result<(), QueueError>;

    /// At most `count` due events, fewer where they are large, each hidden from
    /// other receivers for `visibility`. Waits up to `patience` for the first. If
    /// the future is dropped, what it was to return goes back, or else comes
    /// again when its visibility ends.
    async fn receive(
        &self,
        shard: Shard,
        count: usize,
        visibility: Duration,
        patience: Duration,
    ) -> Result<Vec<Delivery>, QueueError>;

    /// Hides a held event for `visibility` from now.
    async fn extend(&self, receipt: &Receipt, visibility: Duration) -> Result<(), QueueError>;

    /// The event is done with. Durable before the answer.
    async fn ack(&self, receipt: &Receipt) -> Result<(), QueueError>;

    /// Gives the event back, due after `delay`, with `note` for the next
    /// receiver. Durable before the answer.
    async fn retry(
        &self,
        receipt: &Receipt,
        delay: Duration,
        note: Bytes,
    ) -> Result<(), QueueError>;

    /// Puts the event aside, to be looked at. Durable before the answer.
    async fn bury(&self, receipt: &Receipt, why: &str) -> Result<(), QueueError>;

    /// Every lane that has events.
    async fn depths(&self) -> Result<Vec<Depth>, QueueError>;

    /// Events in the order of sending, those after position `after`, at most
    /// `count` and fewer where they are large; of one lane when it is named.
    /// An empty answer means that there are no more.
    async fn look(
        &self,
        which: Which,
        lane: Option<&str>,
        after: Option<u64>,
        count: usize,
    ) -> Result<Vec<Seen>, QueueError>;

    /// Makes dead events of a lane wait again, due now and without a note;
    /// how many.
    async fn redrive(&self, lane: &str) -> Result<u64, QueueError>;

    /// Removes a lane's events, held ones included; how many. Their receipts
    /// are void.
    async fn purge(&self, which: Which, lane: &str) -> Result<u64, QueueError>;
}

#[derive(Debug, thiserror::Error)]
pub enum QueueError {
    /// The event is no longer the receiver's: its visibility ended, or it is
    /// gone.
    #[error("the event is not held by this receipt any more")]
    NotHeld,
    #[error("{what}")]
    Invalid { what: String },
    /// Nothing was kept; there will be room when events have been worked off.
    #[error("the queue is full: {what}")]
    Full { what: String },
    /// Nothing was acknowledged; a later attempt may succeed (disk full, …).
    #[error("the queue could not {step}")]
    Unavailable { step: String, source: Box<dyn std::error::Error + Send + Sync> },
    /// What is on disk is damaged.
    #[error("the queue is damaged: {what}")]
    Damaged { what: String },
}

impl From<FileError> for QueueError {
    fn from(error: FileError) -> QueueError {
        match error {
            FileError::Unavailable { step, source } => QueueError::Unavailable { step, source },
            FileError::Invalid { what } => QueueError::Invalid { what },
            FileError::Damaged { what } => QueueError::Damaged { what },
        }
    }
}

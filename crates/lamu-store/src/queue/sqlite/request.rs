//! What the writer thread is asked for, and how a receiver's answer comes back
//! where nobody reads it.
//!
//! Not here: doing it (`writer`).

use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};

use crate::queue::{Delivery, Depth, NewEvent, QueueError, Receipt, Seen, Shard, Which};

pub type Done<T> = oneshot::Sender<Result<T, QueueError>>;

/// What was received, and in how long there may be more.
#[derive(Debug)]
pub struct Received {
    pub unread: Unread,
    pub next_in: Option<Duration>,
}

/// Deliveries on their way to the receiver. Where they are dropped before it
/// has them, they go back.
#[derive(Debug)]
pub struct Unread {
    deliveries: Vec<Delivery>,
    returns: mpsc::WeakSender<Request>,
}

impl Unread {
    pub fn new(deliveries: Vec<Delivery>, returns: mpsc::WeakSender<Request>) -> Unread {
        Unread { deliveries, returns }
    }

    pub fn is_empty(&self) -> bool {
        self.deliveries.is_empty()
    }

    /// From here on they are the receiver's.
    pub fn take(mut self) -> Vec<Delivery> {
        std::mem::take(&mut self.deliveries)
    }
}

impl Drop for Unread {
    fn drop(&mut self) {
        if self.deliveries.is_empty() {
            return;
        }
        let receipts = self.deliveries.drain(..).map(|delivery| delivery.receipt).collect();
        // Where there is no room their visibility ends at last.
        if let Some(returns) = self.returns.upgrade() {
            let _ = returns.try_send(Request::GiveBack { receipts });
        }
    }
}

#[derive(Debug)]
pub enum Request {
    Send {
        shard: Shard,
        event: NewEvent,
        /// Given back when the event is kept.
        sending: OwnedSemaphorePermit,
        done: Done<()>,
    },
    Ack {
        receipt: Receipt,
        done: Done<()>,
    },
    Retry {
        receipt: Receipt,
        delay: Duration,
        note: Bytes,
        done: Done<()>,
    },
    Bury {
        receipt: Receipt,
        why: String,
        done: Done<()>,
    },
    Extend {
        receipt: Receipt,
        visibility: Duration,
        done: Done<()>,
    },
    Receive {
        shard: Shard,
        count: usize,
        visibility: Duration,
        done: Done<Received>,
    },
    /// Received by who is gone.
    GiveBack {
        receipts: Vec<Receipt>,
    },
    Depths {
        done: Done<Vec<Depth>>,
    },
    Look {
        which: Which,
        lane: Option<String>,
        after: Option<u64>,
        count: usize,
        done: Done<Vec<Seen>>,
    },
    Redrive {
        lane: String,
        done: Done<u64>,
    },
    Purge {
        which: Which,
        lane: String,
        done: Done<u64>,
    },
    /// Runs code of a test on this thread.
    #[cfg(test)]
    Hold(crate::sqlite::hold::Hold),
}

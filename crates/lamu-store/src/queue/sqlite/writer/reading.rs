//! What is asked of a queue and not written: who receives what, how much there
//! is, and how it looks.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::queue::sqlite::holds::Holds;
use crate::queue::sqlite::{table, whole_ms};
use crate::queue::{Delivery, Depth, QueueError, Receipt, Seen, SeenState, Shard, Which};

use super::{WORK_BYTES_MAX, Write, Writer};

/// Due events read ahead of their receivers: their numbers, no bodies.
const READ_AHEAD: usize = 256;

/// Events looked at in one request.
const LOOK_MAX: usize = 256;

/// When a receiver for whom nothing more may be held asks again. An
/// acknowledgement anywhere makes room, and waking everybody at each would
/// cost more than asking.
const NO_ROOM: Duration = Duration::from_millis(50);

impl Writer {
    pub(super) fn receive(
        &mut self,
        shard: Shard,
        count: usize,
        visibility: Duration,
    ) -> Result<(Vec<Delivery>, Option<Duration>), QueueError> {
        let now_ms = self.calendar.now_ms();
        let until_ms = now_ms.saturating_add(whole_ms(visibility));
        let at = usize::from(shard.0);
        self.holds[at].expire(now_ms);
        if self.room() < count {
            // What has ended elsewhere takes no room, whether or not anybody
            // receives there.
            for holds in &mut self.holds {
                holds.expire(now_ms);
            }
        }
        let count = count.min(self.room());
        if count == 0 {
            return Ok((Vec::new(), Some(NO_ROOM)));
        }
        if self.holds[at].ready() < count {
            let mark = self.holds[at].read_to();
            let due = table::due(&self.connection, shard, mark, now_ms, READ_AHEAD.max(count))
                .map_err(|error| table::failed("find what is due", error))?;
            for mark in due {
                self.holds[at].came_due(mark);
            }
        }
        let mut deliveries: Vec<Delivery> = Vec::new();
        let mut bytes = 0;
        while deliveries.len() < count
            && bytes < WORK_BYTES_MAX
            && let Some(receipt) = self.holds[at].take(until_ms)
        {
            match table::read(&self.connection, receipt.event) {
                Ok(Some(event)) => {
                    bytes += event.body.len() as u64;
                    deliveries.push(Delivery { receipt, event });
                }
                Ok(None) => self.holds[at].forget(receipt.event),
                Err(error @ QueueError::Damaged { .. }) => self.set_aside(receipt, &error),
                Err(error) => {
                    // It is there, and can be read another time.
                    self.give_back(receipts(&deliveries));
                    self.holds[at].extend(&receipt, now_ms)?;
                    return Err(error);
                }
            }
        }
        let next_ms = match self.holds[at].ready() {
            0 => {
                let mark = self.holds[at].read_to();
                table::next_due_ms(&self.connection, shard, mark)
                    .map_err(|error| table::failed("find what is due", error))?
            }
            _ => None,
        };
        let next_ms = [next_ms, self.holds[at].next_end_ms()].into_iter().flatten().min();
        // A millisecond at least: whoever found nothing does not ask at once.
        let next_in = next_ms.map(|next| Duration::from_millis(next.saturating_sub(now_ms).max(1)));
        Ok((deliveries, next_in))
    }

    /// How many more may be held.
    pub(super) fn room(&self) -> usize {
        self.limits.held_max.saturating_sub(self.holds.iter().map(Holds::held).sum())
    }

    /// A damaged event must not hold up the others, nor be forgotten.
    pub(super) fn set_aside(&mut self, receipt: Receipt, error: &QueueError) {
        tracing::error!(%error, "an event is damaged; it is put aside with the dead");
        let bury = Write::Bury { receipt, why: error.to_string() };
        if let Err(error) = self.commit(&[bury]) {
            tracing::error!(%error, "a damaged event could not be put aside");
        }
    }

    /// Received, but nobody took it.
    pub(super) fn give_back(&mut self, receipts: Vec<Receipt>) {
        let now_ms = self.calendar.now_ms();
        for receipt in receipts.iter().rev() {
            let holds = self.holds_of(receipt.shard);
            // A hold that ends now is due for the next receiver.
            let _ = holds.extend(receipt, now_ms);
            holds.expire(now_ms);
            self.arrived(receipt.shard, 0);
        }
    }

    pub(super) fn depths(&mut self) -> Result<Vec<Depth>, QueueError> {
        let failed = |error| table::failed("count its events", error);
        let now_ms = self.calendar.now_ms();
        let mut held: BTreeMap<String, u64> = BTreeMap::new();
        for holds in &mut self.holds {
            holds.expire(now_ms);
            for event in holds.held_events() {
                if let Some(lane) = table::lane_of(&self.connection, event).map_err(failed)? {
                    *held.entry(lane).or_default() += 1;
                }
            }
        }
        self.lanes
            .iter()
            .map(|(name, lane)| {
                let held = held.get(name).copied().unwrap_or(0);
                let oldest = table::oldest_sent_ms(&self.connection, name).map_err(failed)?;
                Ok(Depth {
                    lane: name.clone(),
                    waiting: lane.live.saturating_sub(held),
                    held,
                    dead: lane.dead,
                    oldest_sent_ms: oldest,
                })
            })
            .collect()
    }

    pub(super) fn look(
        &mut self,
        which: Which,
        lane: Option<&str>,
        after: Option<u64>,
        count: usize,
    ) -> Result<Vec<Seen>, QueueError> {
        let after = after.map_or(0, |after| i64::try_from(after).unwrap_or(i64::MAX));
        let dead = which == Which::Dead;
        let most = (count.min(LOOK_MAX), WORK_BYTES_MAX);
        let mut seen = table::look(&self.connection, dead, lane, after, most)
            .map_err(|error| table::failed("look at its events", error))?;
        for seen in &mut seen {
            let event = seen.position as i64;
            if !dead && self.holds.iter().any(|holds| holds.is_held(event)) {
                seen.state = SeenState::Held;
            }
        }
        Ok(seen)
    }
}

pub(super) fn receipts(deliveries: &[Delivery]) -> Vec<Receipt> {
    deliveries.iter().map(|delivery| delivery.receipt.clone()).collect()
}

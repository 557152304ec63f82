//! Whether there is room for an event: on the disk, in the queue and in its lane,
//! and which dead ones go for it.

use crate::queue::QueueError;
use crate::queue::sqlite::{QueueLimits, table};

use super::{Effect, Tally, Writer};

/// The part of all bytes that dead events may have: they are kept to be looked
/// at, and those that are to be delivered go first.
const DEAD_SHARE: u64 = 4;

/// Dead events removed for one write, so that it stays a short one. Where that
/// makes too little room, the write is refused this once.
const PRUNE_MAX: usize = 256;

impl Writer {
    pub(super) fn check_disk(&self, free: u64, more: u64) -> Result<(), QueueError> {
        let min = self.limits.free_bytes_min;
        if free >= min.saturating_add(more) {
            return Ok(());
        }
        Err(QueueError::Full { what: format!("its disk has {free} bytes free and keeps {min}") })
    }

    pub(super) fn check_lane(&self, lane: &str, held: u64, more: u64) -> Result<(), QueueError> {
        let max = self.limits.lane_bytes_max;
        if held.saturating_add(more) <= max {
            return Ok(());
        }
        Err(QueueError::Full { what: format!("lane {lane} holds {held} of {max} bytes") })
    }

    /// Room for `more` bytes, if need be at the cost of dead events.
    pub(super) fn make_room(
        &self,
        tally: &mut Tally,
        more: u64,
        effects: &mut Vec<Effect>,
    ) -> rusqlite::Result<Result<(), QueueError>> {
        let max = self.limits.bytes_max;
        let live = tally.bytes.saturating_sub(tally.dead_bytes);
        // Dead events do not go for one that finds no room anyway.
        if live.saturating_add(more) <= max {
            self.prune(tally, more, effects)?;
        }
        if tally.bytes.saturating_add(more) <= max {
            return Ok(Ok(()));
        }
        let what = format!("it holds {} of {max} bytes", tally.bytes);
        Ok(Err(QueueError::Full { what }))
    }

    /// Removes those that have been dead for the longest, where there are too
    /// many or `more` bytes need their room.
    pub(super) fn prune(
        &self,
        tally: &mut Tally,
        more: u64,
        effects: &mut Vec<Effect>,
    ) -> rusqlite::Result<()> {
        let QueueLimits { bytes_max, dead_max, .. } = self.limits;
        for _ in 0..PRUNE_MAX {
            if tally.dead <= dead_max
                && tally.dead_bytes <= bytes_max / DEAD_SHARE
                && tally.bytes.saturating_add(more) <= bytes_max
            {
                break;
            }
            let Some(left) = table::remove_oldest_dead(&self.connection)? else { break };
            tally.dead = tally.dead.saturating_sub(1);
            tally.dead_bytes = tally.dead_bytes.saturating_sub(left.bytes);
            tally.bytes = tally.bytes.saturating_sub(left.bytes);
            effects.push(Effect::DeadRemoved(left));
        }
        Ok(())
    }
}

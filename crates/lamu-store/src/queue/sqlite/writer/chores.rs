//! What takes long, in pieces between which others get their turn: a purge, a
//! redrive, and giving free pages back.

use crate::queue::sqlite::request::Done;
use crate::queue::sqlite::table;
use crate::queue::{QueueError, Which};

use super::{Effect, WORK_BYTES_MAX, Writer};

/// Events of a purge or redrive in one transaction, between which others get
/// their turn.
const CHORE_EVENTS: usize = 256;

/// Free pages (of 4 KiB) that a file keeps for what comes next, and those that
/// are given back in one go while nobody waits.
const PAGES_KEPT: u32 = 4_096;
const PAGES_GIVEN: u32 = 256;

#[derive(Debug)]
pub(super) struct Chore {
    what: What,
    lane: String,
    done: Done<u64>,
    count: u64,
    /// Done up to here; what came or died again after the request is no part
    /// of it.
    after: i64,
    upto: i64,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum What {
    Redrive,
    Purge(Which),
}

impl Writer {
    pub(super) fn begin_chore(&mut self, what: What, lane: String, done: Done<u64>) {
        match table::last_event(&self.connection) {
            Ok(upto) => {
                self.chores.push_back(Chore { what, lane, done, count: 0, after: 0, upto });
            }
            Err(error) => {
                let _ = done.send(Err(table::failed("find its last event", error)));
            }
        }
    }

    /// A piece of what removed events left goes back to the disk.
    pub(super) fn tidy(&mut self) {
        self.untidy =
            table::shrink(&self.connection, PAGES_GIVEN, PAGES_KEPT).unwrap_or_else(|error| {
                tracing::warn!(%error, "a queue's file could not be made smaller");
                false
            });
    }

    /// One piece of the first chore.
    pub(super) fn do_chore(&mut self) {
        let Some(mut chore) = self.chores.pop_front() else { return };
        match self.do_piece(&mut chore) {
            Ok(0) => {
                let _ = chore.done.send(Ok(chore.count));
            }
            Ok(count) => {
                chore.count += count;
                self.chores.push_front(chore);
            }
            Err(error) => {
                let _ = chore.done.send(Err(error));
            }
        }
    }

    pub(super) fn do_piece(&mut self, chore: &mut Chore) -> Result<u64, QueueError> {
        let now_ms = self.calendar.now_ms();
        let what = chore.what;
        let mut effects = Vec::new();
        let mut last = chore.after;
        self.transaction(|writer| {
            let connection = &writer.connection;
            let dead = matches!(what, What::Redrive | What::Purge(Which::Dead));
            let range = (chore.after, chore.upto);
            let most = (CHORE_EVENTS, WORK_BYTES_MAX);
            let found = table::of_lane(connection, dead, &chore.lane, range, most)?;
            last = found.last().map_or(last, |left| left.event);
            for left in found {
                effects.push(match what {
                    What::Redrive => {
                        let holds = &writer.holds[usize::from(left.shard.0)];
                        let due_ms = holds.due_beyond_mark(now_ms, left.event);
                        let bytes = table::revive(connection, left.event, due_ms)?;
                        Effect::Revived { left, bytes }
                    }
                    What::Purge(Which::Dead) => {
                        table::remove_dead(connection, left.event)?;
                        Effect::DeadRemoved(left)
                    }
                    What::Purge(Which::Live) => {
                        table::remove(connection, left.event)?;
                        Effect::Acked(left)
                    }
                });
            }
            Ok(())
        })?;
        chore.after = last;
        let count = effects.len() as u64;
        for effect in effects {
            self.apply(effect);
        }
        Ok(count)
    }
}

//! The writer thread: groups of requests, one commit each, then the answers;
//! and between two groups a piece of what takes long (a purge, a redrive).
//!
//! Not here: who may open the file (`sqlite`), what it is asked for (`request`),
//! SQL (`table`), who is held (`holds`).

mod chores;
mod reading;
mod room;

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use rusqlite::Connection;
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TryRecvError;

use chores::{Chore, What};
use reading::receipts;

use super::disk::Disk;
use super::holds::Holds;
use super::request::{Done, Received, Request, Unread};
use super::table::{self, Left};
use super::{CLOCK_MS_MIN, Calendar, DELAY_MAX, QueueLimits, ShardState, whole_ms};
use crate::queue::{NewEvent, QueueError, Receipt, Shard};
use crate::sqlite;

/// Writes in one transaction: past this a longer group saves no more flushes
/// worth having, and makes the first of it wait for the last.
const GROUP_MAX: usize = 256;

/// Bytes of events that are read, or removed, in one go: others wait meanwhile.
/// More than one event at least, and so no less than a few MiB.
const WORK_BYTES_MAX: u64 = 8 << 20;

/// A request that has to be durable.
#[derive(Debug)]
enum Write {
    Send { shard: Shard, event: NewEvent },
    Ack(Receipt),
    Retry { receipt: Receipt, delay: Duration, note: Bytes },
    Bury { receipt: Receipt, why: String },
}

/// What a committed write changes in memory.
#[derive(Debug)]
enum Effect {
    Sent {
        shard: Shard,
        lane: String,
        bytes: u64,
    },
    Acked(Left),
    /// With its bytes before.
    Back {
        back: Left,
        before: u64,
    },
    /// With its bytes as a dead one.
    Died {
        left: Left,
        bytes: u64,
    },
    /// With its bytes as a living one.
    Revived {
        left: Left,
        bytes: u64,
    },
    DeadRemoved(Left),
}

#[derive(Debug, Default)]
struct Lane {
    live: u64,
    live_bytes: u64,
    dead: u64,
}

/// How much there is of everything.
#[derive(Clone, Copy, Debug, Default)]
struct Tally {
    bytes: u64,
    dead: u64,
    dead_bytes: u64,
}

#[derive(Debug)]
pub struct Writer {
    connection: Connection,
    disk: Disk,
    limits: QueueLimits,
    calendar: Calendar,
    shards: Arc<[ShardState]>,
    holds: Vec<Holds>,
    lanes: BTreeMap<String, Lane>,
    tally: Tally,
    chores: VecDeque<Chore>,
    /// Something was written since the file was last looked at for free pages.
    untidy: bool,
}

impl Writer {
    pub fn new(
        connection: Connection,
        disk: Disk,
        limits: QueueLimits,
        shards: Arc<[ShardState]>,
    ) -> Result<Writer, QueueError> {
        let failed = |error| table::failed("count its events", error);
        table::fold_shards(&connection, limits.shards).map_err(failed)?;
        let mut calendar = Calendar::default();
        let now_ms = calendar.now_ms();
        if now_ms > CLOCK_MS_MIN {
            table::clamp_times(&connection, now_ms, DELAY_MAX).map_err(failed)?;
        }
        let mut writer = Writer {
            limits,
            calendar,
            holds: (0..limits.shards).map(|shard| Holds::new(Shard(shard))).collect(),
            lanes: BTreeMap::new(),
            tally: Tally::default(),
            chores: VecDeque::new(),
            untidy: true,
            shards,
            disk,
            connection,
        };
        for dead in [false, true] {
            for count in table::count(&writer.connection, dead).map_err(failed)? {
                let lane = writer.lanes.entry(count.lane).or_default();
                writer.tally.bytes += count.bytes;
                if dead {
                    lane.dead += count.events;
                    writer.tally.dead += count.events;
                    writer.tally.dead_bytes += count.bytes;
                } else {
                    lane.live += count.events;
                    lane.live_bytes += count.bytes;
                    let state = &writer.shards[usize::from(count.shard.0)];
                    state.backlog.fetch_add(count.events, Ordering::Relaxed);
                }
            }
        }
        Ok(writer)
    }

    /// Serves until every sender is gone, then closes the connection.
    ///
    /// `returns` is another way into the inbox, which keeps it open for nobody.
    pub fn serve(mut self, mut inbox: mpsc::Receiver<Request>, returns: mpsc::WeakSender<Request>) {
        loop {
            let first = match inbox.try_recv() {
                Ok(request) => Some(request),
                Err(TryRecvError::Empty) if !self.chores.is_empty() => {
                    self.do_chore();
                    continue;
                }
                Err(TryRecvError::Empty) if self.untidy => {
                    self.tidy();
                    continue;
                }
                Err(TryRecvError::Empty) => inbox.blocking_recv(),
                Err(TryRecvError::Disconnected) => None,
            };
            let Some(first) = first else { return };
            let rest = std::iter::from_fn(|| inbox.try_recv().ok());
            self.serve_group(std::iter::once(first).chain(rest).take(GROUP_MAX), &returns);
            if !self.chores.is_empty() {
                self.do_chore();
            }
        }
    }

    /// What is to be durable first, in one transaction; then the rest, which
    /// sees it.
    fn serve_group(
        &mut self,
        group: impl Iterator<Item = Request>,
        returns: &mpsc::WeakSender<Request>,
    ) {
        let mut writes = Vec::new();
        let mut kept = Vec::new();
        let mut others = Vec::new();
        for request in group {
            match request {
                Request::Send { shard, event, sending, done } => {
                    kept.push(sending);
                    writes.push((Write::Send { shard, event }, done));
                }
                Request::Ack { receipt, done } => writes.push((Write::Ack(receipt), done)),
                Request::Retry { receipt, delay, note, done } => {
                    writes.push((Write::Retry { receipt, delay, note }, done));
                }
                Request::Bury { receipt, why, done } => {
                    writes.push((Write::Bury { receipt, why }, done));
                }
                other => others.push(other),
            }
        }
        self.write(writes);
        drop(kept);
        for request in others {
            self.serve_other(request, returns);
        }
    }

    // A caller that left does not undo what is done: answers may go nowhere.
    fn serve_other(&mut self, request: Request, returns: &mpsc::WeakSender<Request>) {
        match request {
            Request::Extend { receipt, visibility, done } => {
                let until_ms = self.calendar.now_ms().saturating_add(whole_ms(visibility));
                let extended = self
                    .check(&receipt)
                    .and_then(|()| self.holds_of(receipt.shard).extend(&receipt, until_ms));
                let _ = done.send(extended);
            }
            Request::Receive { shard, count, visibility, done } => {
                // Nobody there to receive: what was held would stay so.
                if !done.is_closed() {
                    let received = self.receive(shard, count, visibility);
                    let received = received.map(|(deliveries, next_in)| {
                        let unread = Unread::new(deliveries, returns.clone());
                        Received { unread, next_in }
                    });
                    if let Err(Ok(received)) = done.send(received) {
                        self.give_back(receipts(&received.unread.take()));
                    }
                }
            }
            Request::GiveBack { receipts } => self.give_back(receipts),
            Request::Depths { done } => {
                let _ = done.send(self.depths());
            }
            Request::Look { which, lane, after, count, done } => {
                let _ = done.send(self.look(which, lane.as_deref(), after, count));
            }
            Request::Redrive { lane, done } => {
                self.begin_chore(What::Redrive, lane, done);
            }
            Request::Purge { which, lane, done } => {
                self.begin_chore(What::Purge(which), lane, done);
            }
            #[cfg(test)]
            Request::Hold(hold) => hold.run(&self.connection),
            Request::Send { .. }
            | Request::Ack { .. }
            | Request::Retry { .. }
            | Request::Bury { .. } => unreachable!("these are written as a group"),
        }
    }

    fn holds_of(&mut self, shard: Shard) -> &mut Holds {
        // Callers' shards and receipts were checked.
        &mut self.holds[usize::from(shard.0)]
    }

    /// Whether a receipt holds. One of another queue may name any shard.
    fn check(&self, receipt: &Receipt) -> Result<(), QueueError> {
        let holds = self.holds.get(usize::from(receipt.shard.0));
        holds.ok_or(QueueError::NotHeld)?.check(receipt)
    }

    fn write(&mut self, group: Vec<(Write, Done<()>)>) {
        if group.is_empty() {
            return;
        }
        let (writes, done): (Vec<_>, Vec<_>) = group.into_iter().unzip();
        let outcomes = sqlite::together_or_apart(&writes, |writes| self.commit(writes));
        for (outcome, done) in outcomes.into_iter().zip(done) {
            let _ = done.send(outcome);
        }
    }

    /// All of `writes` in one transaction. An error means that none of them
    /// has happened; a receipt that does not hold is the outcome of one.
    fn commit(&mut self, writes: &[Write]) -> Result<Vec<Result<(), QueueError>>, QueueError> {
        let now_ms = self.calendar.now_ms();
        let mut outcomes = Vec::with_capacity(writes.len());
        let mut effects = Vec::with_capacity(writes.len());
        let mut settled = HashSet::new();
        let sends = writes.iter().any(|write| matches!(write, Write::Send { .. }));
        let mut free = if sends { self.disk.free_bytes() } else { 0 };
        let mut tally = self.tally;
        let mut lanes = HashMap::new();
        self.transaction(|writer| {
            for write in writes {
                let outcome = match write {
                    Write::Send { shard, event } => {
                        let bytes = table::size(event);
                        let lane_bytes = lanes.entry(event.lane.as_str()).or_insert_with(|| {
                            writer.lanes.get(&event.lane).map_or(0, |lane| lane.live_bytes)
                        });
                        let room = writer
                            .check_disk(free, bytes)
                            .and_then(|()| writer.check_lane(&event.lane, *lane_bytes, bytes));
                        let room = match room {
                            Ok(()) => writer.make_room(&mut tally, bytes, &mut effects)?,
                            refused => refused,
                        };
                        if room.is_ok() {
                            tally.bytes += bytes;
                            *lane_bytes += bytes;
                            free = free.saturating_sub(bytes);
                            let due_ms = now_ms.saturating_add(whole_ms(event.delay));
                            table::insert(&writer.connection, *shard, event, now_ms, due_ms)?;
                            let (shard, lane) = (*shard, event.lane.clone());
                            effects.push(Effect::Sent { shard, lane, bytes });
                        }
                        room
                    }
                    Write::Ack(receipt)
                    | Write::Retry { receipt, .. }
                    | Write::Bury { receipt, .. } => {
                        let held = writer.check(receipt);
                        // Two of one group may speak of the same event.
                        match held {
                            Ok(()) if !settled.insert(receipt.event) => Err(QueueError::NotHeld),
                            Ok(()) => {
                                let there = writer.settle(
                                    write,
                                    receipt,
                                    now_ms,
                                    &mut tally,
                                    &mut effects,
                                )?;
                                if there { Ok(()) } else { Err(QueueError::NotHeld) }
                            }
                            Err(error) => Err(error),
                        }
                    }
                };
                outcomes.push(outcome);
            }
            Ok(())
        })?;
        for effect in effects {
            self.apply(effect);
        }
        Ok(outcomes)
    }

    /// Does what is said of a held event; whether it is there.
    fn settle(
        &self,
        write: &Write,
        receipt: &Receipt,
        now_ms: u64,
        tally: &mut Tally,
        effects: &mut Vec<Effect>,
    ) -> rusqlite::Result<bool> {
        let Receipt { shard, event, .. } = *receipt;
        let effect = match write {
            Write::Retry { delay, note, .. } => {
                let due_ms = now_ms.saturating_add(whole_ms(*delay));
                let due_ms = self.holds[usize::from(shard.0)].due_beyond_mark(due_ms, event);
                table::reschedule(&self.connection, event, due_ms, note)?.map(|(back, before)| {
                    tally.bytes = (tally.bytes + back.bytes).saturating_sub(before);
                    Effect::Back { back, before }
                })
            }
            Write::Bury { why, .. } => {
                let Some((left, bytes)) = table::bury(&self.connection, event, now_ms, why)? else {
                    return Ok(false);
                };
                tally.dead += 1;
                tally.dead_bytes += bytes;
                tally.bytes = (tally.bytes + bytes).saturating_sub(left.bytes);
                effects.push(Effect::Died { left, bytes });
                self.prune(tally, 0, effects)?;
                return Ok(true);
            }
            Write::Ack(_) | Write::Send { .. } => {
                table::remove(&self.connection, event)?.map(Effect::Acked)
            }
        };
        let there = effect.is_some();
        effects.extend(effect);
        Ok(there)
    }

    fn transaction(
        &mut self,
        work: impl FnOnce(&Writer) -> rusqlite::Result<()>,
    ) -> Result<(), QueueError> {
        self.untidy = true;
        sqlite::transaction(&self.connection, || work(self))
            .map_err(|error| table::failed("write", error))
    }

    fn apply(&mut self, effect: Effect) {
        match effect {
            Effect::Sent { shard, lane, bytes } => {
                self.tally.bytes += bytes;
                self.live(lane, bytes);
                self.arrived(shard, 1);
            }
            Effect::Acked(left) => {
                self.holds_of(left.shard).forget(left.event);
                self.leave(&left);
                self.tally.bytes = self.tally.bytes.saturating_sub(left.bytes);
            }
            Effect::Back { back, before } => {
                self.holds_of(back.shard).release(back.event);
                self.arrived(back.shard, 0);
                self.tally.bytes = (self.tally.bytes + back.bytes).saturating_sub(before);
                if let Some(lane) = self.lanes.get_mut(&back.lane) {
                    lane.live_bytes = (lane.live_bytes + back.bytes).saturating_sub(before);
                }
            }
            Effect::Died { left, bytes } => {
                self.holds_of(left.shard).forget(left.event);
                self.leave(&left);
                self.tally.dead += 1;
                self.tally.dead_bytes += bytes;
                self.tally.bytes = (self.tally.bytes + bytes).saturating_sub(left.bytes);
                self.lanes.entry(left.lane).or_default().dead += 1;
            }
            Effect::Revived { left, bytes } => {
                self.leave_dead(&left);
                self.arrived(left.shard, 1);
                self.tally.bytes = (self.tally.bytes + bytes).saturating_sub(left.bytes);
                self.live(left.lane, bytes);
            }
            Effect::DeadRemoved(left) => {
                self.leave_dead(&left);
                self.tally.bytes = self.tally.bytes.saturating_sub(left.bytes);
            }
        }
    }

    /// One more that is not dead.
    fn live(&mut self, lane: String, bytes: u64) {
        let lane = self.lanes.entry(lane).or_default();
        lane.live += 1;
        lane.live_bytes += bytes;
    }

    /// Receivers look again: there is more, or it is due at another time.
    fn arrived(&self, shard: Shard, more: u64) {
        let state = &self.shards[usize::from(shard.0)];
        state.backlog.fetch_add(more, Ordering::Relaxed);
        state.arrivals.send_modify(|count| *count += 1);
    }

    fn leave(&mut self, left: &Left) {
        self.shards[usize::from(left.shard.0)].backlog.fetch_sub(1, Ordering::Relaxed);
        if let Some(lane) = self.lanes.get_mut(&left.lane) {
            lane.live = lane.live.saturating_sub(1);
            lane.live_bytes = lane.live_bytes.saturating_sub(left.bytes);
            if (lane.live, lane.dead) == (0, 0) {
                self.lanes.remove(&left.lane);
            }
        }
    }

    fn leave_dead(&mut self, left: &Left) {
        self.tally.dead = self.tally.dead.saturating_sub(1);
        self.tally.dead_bytes = self.tally.dead_bytes.saturating_sub(left.bytes);
        if let Some(lane) = self.lanes.get_mut(&left.lane) {
            lane.dead = lane.dead.saturating_sub(1);
            if (lane.live, lane.dead) == (0, 0) {
                self.lanes.remove(&left.lane);
            }
        }
    }
}

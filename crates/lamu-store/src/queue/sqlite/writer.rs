//! The writer thread: groups of requests, one commit each, then the answers;
//! and between two groups a piece of what takes long (a purge, a redrive).
//!
//! Not here: who may open the file (`sqlite`), SQL (`table`), who is held
//! (`holds`).

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use rusqlite::Connection;
use tokio::sync::mpsc::error::TryRecvError;
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};

use super::disk::Disk;
use super::holds::Holds;
use super::table::{self, Left};
use super::{CLOCK_MS_MIN, Calendar, DELAY_MAX, QueueLimits, ShardState, whole_ms};
use crate::queue::{Delivery, Depth, NewEvent, QueueError, Receipt, Seen, SeenState, Shard, Which};
use crate::sqlite;

/// Writes in one transaction: past this a longer group saves no more flushes
/// worth having, and makes the first of it wait for the last.
const GROUP_MAX: usize = 256;

/// Due events read ahead of their receivers: their numbers, no bodies.
const READ_AHEAD: usize = 256;

/// Events of a purge or redrive in one transaction, between which others get
/// their turn.
const CHORE_EVENTS: usize = 256;

/// Events looked at in one request.
const LOOK_MAX: usize = 256;

/// Bytes of events that are read, or removed, in one go: others wait meanwhile.
/// More than one event at least, and so no less than a few MiB.
const WORK_BYTES_MAX: u64 = 8 << 20;

/// The part of all bytes that dead events may have: they are kept to be looked
/// at, and those that are to be delivered go first.
const DEAD_SHARE: u64 = 4;

/// Dead events removed for one write, so that it stays a short one. Where that
/// makes too little room, the write is refused this once.
const PRUNE_MAX: usize = 256;

/// Free pages (of 4 KiB) that a file keeps for what comes next, and those that
/// are given back in one go while nobody waits.
const PAGES_KEPT: u32 = 4_096;
const PAGES_GIVEN: u32 = 256;

/// When a receiver for whom nothing more may be held asks again. An
/// acknowledgement anywhere makes room, and waking everybody at each would
/// cost more than asking.
const NO_ROOM: Duration = Duration::from_millis(50);

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
    Hold(sqlite::hold::Hold),
}

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

#[derive(Debug)]
struct Chore {
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
enum What {
    Redrive,
    Purge(Which),
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
                        let unread = Unread { deliveries, returns: returns.clone() };
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

    fn check_disk(&self, free: u64, more: u64) -> Result<(), QueueError> {
        let min = self.limits.free_bytes_min;
        if free >= min.saturating_add(more) {
            return Ok(());
        }
        Err(QueueError::Full { what: format!("its disk has {free} bytes free and keeps {min}") })
    }

    fn check_lane(&self, lane: &str, held: u64, more: u64) -> Result<(), QueueError> {
        let max = self.limits.lane_bytes_max;
        if held.saturating_add(more) <= max {
            return Ok(());
        }
        Err(QueueError::Full { what: format!("lane {lane} holds {held} of {max} bytes") })
    }

    /// Room for `more` bytes, if need be at the cost of dead events.
    fn make_room(
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
    fn prune(
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

    fn receive(
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
    fn room(&self) -> usize {
        self.limits.held_max.saturating_sub(self.holds.iter().map(Holds::held).sum())
    }

    /// A damaged event must not hold up the others, nor be forgotten.
    fn set_aside(&mut self, receipt: Receipt, error: &QueueError) {
        tracing::error!(%error, "an event is damaged; it is put aside with the dead");
        let bury = Write::Bury { receipt, why: error.to_string() };
        if let Err(error) = self.commit(&[bury]) {
            tracing::error!(%error, "a damaged event could not be put aside");
        }
    }

    /// Received, but nobody took it.
    fn give_back(&mut self, receipts: Vec<Receipt>) {
        let now_ms = self.calendar.now_ms();
        for receipt in receipts.iter().rev() {
            let holds = self.holds_of(receipt.shard);
            // A hold that ends now is due for the next receiver.
            let _ = holds.extend(receipt, now_ms);
            holds.expire(now_ms);
            self.arrived(receipt.shard, 0);
        }
    }

    fn depths(&mut self) -> Result<Vec<Depth>, QueueError> {
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

    fn look(
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

    fn begin_chore(&mut self, what: What, lane: String, done: Done<u64>) {
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
    fn tidy(&mut self) {
        self.untidy =
            table::shrink(&self.connection, PAGES_GIVEN, PAGES_KEPT).unwrap_or_else(|error| {
                tracing::warn!(%error, "a queue's file could not be made smaller");
                false
            });
    }

    /// One piece of the first chore.
    fn do_chore(&mut self) {
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

    fn do_piece(&mut self, chore: &mut Chore) -> Result<u64, QueueError> {
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

fn receipts(deliveries: &[Delivery]) -> Vec<Receipt> {
    deliveries.iter().map(|delivery| delivery.receipt.clone()).collect()
}

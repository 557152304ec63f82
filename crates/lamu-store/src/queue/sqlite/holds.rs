//! Who is due and who is held, in one shard: memory only.
//!
//! Events fall due in the order (due time, position). The reader goes through
//! that order once, from a mark that only moves forward: every event is beyond
//! it, or in `ready`, or held. What comes back early (visibility ended) goes to
//! the front of `ready` rather than behind the mark.
//!
//! Not here: reading events (`table`), the calendar.

use std::collections::{BTreeSet, HashMap, VecDeque};

use crate::queue::{QueueError, Receipt, Shard};

/// Where an event stands in its shard's order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mark {
    pub due_ms: u64,
    pub event: i64,
}

#[derive(Debug)]
pub struct Holds {
    shard: Shard,
    /// Everything up to here was read.
    read: Mark,
    /// Due and not held; read, but not handed out.
    ready: VecDeque<i64>,
    held: HashMap<i64, Hold>,
    /// The same by when they end.
    ends: BTreeSet<(u64, i64)>,
    last_hold: u64,
}

#[derive(Clone, Copy, Debug)]
struct Hold {
    number: u64,
    until_ms: u64,
}

impl Holds {
    pub fn new(shard: Shard) -> Holds {
        Holds {
            shard,
            read: Mark::default(),
            ready: VecDeque::new(),
            held: HashMap::new(),
            ends: BTreeSet::new(),
            last_hold: 0,
        }
    }

    pub fn held(&self) -> usize {
        self.held.len()
    }

    pub fn held_events(&self) -> impl Iterator<Item = i64> + '_ {
        self.held.keys().copied()
    }

    pub fn is_held(&self, event: i64) -> bool {
        self.held.contains_key(&event)
    }

    pub fn ready(&self) -> usize {
        self.ready.len()
    }

    /// Where reading goes on.
    pub fn read_to(&self) -> Mark {
        self.read
    }

    /// When an event that should be due at `due_ms` is due, so that the reader
    /// still passes it: one that comes back in the very millisecond in which
    /// it was read would else lie behind the mark.
    pub fn due_beyond_mark(&self, due_ms: u64, event: i64) -> u64 {
        if (Mark { due_ms, event }) > self.read { due_ms } else { self.read.due_ms + 1 }
    }

    /// An event was read from the order.
    pub fn came_due(&mut self, mark: Mark) {
        debug_assert!(mark > self.read);
        self.read = mark;
        self.ready.push_back(mark.event);
    }

    /// Holds that have ended are given up; the oldest event is next.
    pub fn expire(&mut self, now_ms: u64) {
        let mut ended = Vec::new();
        while let Some(&(until_ms, event)) = self.ends.first() {
            if until_ms > now_ms {
                break;
            }
            self.ends.pop_first();
            self.held.remove(&event);
            ended.push(event);
        }
        ended.sort_unstable();
        for event in ended.into_iter().rev() {
            self.ready.push_front(event);
        }
    }

    /// Holds the next ready event.
    pub fn take(&mut self, until_ms: u64) -> Option<Receipt> {
        let event = self.ready.pop_front()?;
        self.last_hold += 1;
        self.held.insert(event, Hold { number: self.last_hold, until_ms });
        self.ends.insert((until_ms, event));
        Some(Receipt { shard: self.shard, event, hold: self.last_hold })
    }

    /// Whether the receipt still holds.
    pub fn check(&self, receipt: &Receipt) -> Result<(), QueueError> {
        match self.held.get(&receipt.event) {
            Some(hold) if hold.number == receipt.hold => Ok(()),
            _ => Err(QueueError::NotHeld),
        }
    }

    pub fn extend(&mut self, receipt: &Receipt, until_ms: u64) -> Result<(), QueueError> {
        self.check(receipt)?;
        if let Some(hold) = self.held.get_mut(&receipt.event) {
            self.ends.remove(&(hold.until_ms, receipt.event));
            hold.until_ms = until_ms;
            self.ends.insert((until_ms, receipt.event));
        }
        Ok(())
    }

    /// The event is gone, or back in the order.
    pub fn release(&mut self, event: i64) {
        if let Some(hold) = self.held.remove(&event) {
            self.ends.remove(&(hold.until_ms, event));
        }
    }

    /// The event is gone, wherever it was.
    pub fn forget(&mut self, event: i64) {
        self.release(event);
        self.ready.retain(|ready| *ready != event);
    }

    /// When the first hold ends.
    pub fn next_end_ms(&self) -> Option<u64> {
        self.ends.first().map(|(until_ms, _)| *until_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holds(events: std::ops::Range<i64>) -> Holds {
        let mut holds = Holds::new(Shard(0));
        for event in events {
            holds.came_due(Mark { due_ms: 10, event });
        }
        holds
    }

    fn events(holds: &mut Holds) -> Vec<i64> {
        std::iter::from_fn(|| holds.take(100)).map(|receipt| receipt.event).collect()
    }

    #[test]
    fn an_event_is_held_once_and_in_order() {
        let mut holds = holds(1..4);
        assert_eq!(events(&mut holds), [1, 2, 3]);
        assert_eq!(holds.held(), 3);
        assert!(holds.take(100).is_none());
    }

    #[test]
    fn a_hold_that_ended_is_void_and_the_event_comes_first() {
        let mut holds = holds(1..4);
        let first = holds.take(50).unwrap();
        let second = holds.take(50).unwrap();
        holds.expire(49);
        assert!(holds.check(&first).is_ok());

        holds.expire(50);

        assert!(matches!(holds.check(&first), Err(QueueError::NotHeld)));
        assert!(matches!(holds.extend(&second, 90), Err(QueueError::NotHeld)));
        assert_eq!(events(&mut holds), [1, 2, 3]);
        // The number told the old receipt from the new one.
        assert!(holds.check(&first).is_err());
    }

    #[test]
    fn an_extended_hold_ends_later() {
        let mut holds = holds(1..2);
        let receipt = holds.take(50).unwrap();
        holds.extend(&receipt, 80).unwrap();
        assert_eq!(holds.next_end_ms(), Some(80));
        holds.expire(60);
        assert!(holds.check(&receipt).is_ok());
        holds.expire(80);
        assert!(holds.check(&receipt).is_err());
    }

    #[test]
    fn what_comes_back_is_passed_by_the_reader_again() {
        let mut holds = holds(1..4);
        assert_eq!(holds.due_beyond_mark(10, 2), 11);
        assert_eq!(holds.due_beyond_mark(3, 2), 11);
        assert_eq!(holds.due_beyond_mark(10, 4), 10);
        assert_eq!(holds.due_beyond_mark(1_000, 2), 1_000);
        let receipt = holds.take(50).unwrap();
        holds.release(receipt.event);
        assert!(holds.check(&receipt).is_err());
        assert_eq!(holds.next_end_ms(), None);
    }

    #[test]
    fn a_forgotten_event_is_nowhere() {
        let mut holds = holds(1..4);
        let first = holds.take(50).unwrap();
        holds.forget(1);
        holds.forget(3);
        assert!(holds.check(&first).is_err());
        assert_eq!(events(&mut holds), [2]);
    }
}

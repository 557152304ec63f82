//! Which of the host's user ids a sandbox runs as: a range of its own while
//! it lives, given to another only after its last process is gone.
//!
//! Not here: mapping them (`spawner`).

use std::sync::{Arc, Mutex, MutexGuard};

/// Far above what distributions and container engines hand out.
const BASE: u32 = 0x4000_0000;

/// Inside ids go up to 993; 1,024 keeps ranges apart.
const RANGE: u32 = 1_024;

/// Sandboxes of one instance at once; more than one host holds.
pub const SLOTS_MAX: u32 = 4_096;

/// Instances of lamu on one host rarely meet in one of 256 blocks; where they
/// do, two sandboxes share a host user id, which alone gives neither access
/// to anything of the other.
const BLOCKS: u32 = 256;

/// Hands out ranges.
#[derive(Clone, Debug)]
pub struct Users {
    block: u32,
    free: Arc<Mutex<Free>>,
}

#[derive(Debug, Default)]
struct Free {
    returned: Vec<u32>,
    never_used: u32,
}

/// A range in use, free again when dropped.
#[derive(Debug)]
pub struct UserRange {
    slot: u32,
    base: u32,
    free: Arc<Mutex<Free>>,
}

impl Users {
    pub fn of_instance(instance: &str) -> Users {
        // FNV-1a: any hash that spreads will do.
        let hash = instance
            .bytes()
            .fold(0x811C_9DC5u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
        Users { block: hash % BLOCKS, free: Arc::default() }
    }

    /// `None` when all are in use.
    pub fn take(&self) -> Option<UserRange> {
        let mut free = lock(&self.free);
        let slot = match free.returned.pop() {
            Some(slot) => slot,
            None if free.never_used < SLOTS_MAX => {
                free.never_used += 1;
                free.never_used - 1
            }
            None => return None,
        };
        let base = BASE + (self.block * SLOTS_MAX + slot) * RANGE;
        Some(UserRange { slot, base, free: self.free.clone() })
    }
}

impl UserRange {
    /// The host's user id that is 0 inside.
    pub fn base(&self) -> u32 {
        self.base
    }
}

impl Drop for UserRange {
    fn drop(&mut self) {
        lock(&self.free).returned.push(self.slot);
    }
}

fn lock(free: &Mutex<Free>) -> MutexGuard<'_, Free> {
    free.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_in_use_never_meet_and_come_back_when_dropped() {
        let users = Users::of_instance("a");
        let first = users.take().unwrap();
        let second = users.take().unwrap();
        assert!(first.base().abs_diff(second.base()) >= RANGE);

        let base = first.base();
        drop(first);

        assert_eq!(users.take().unwrap().base(), base);
    }

    #[test]
    fn there_is_a_last_range_and_it_is_a_valid_user_id() {
        let users = Users { block: BLOCKS - 1, free: Arc::default() };
        let all: Vec<UserRange> = (0..SLOTS_MAX).map(|_| users.take().unwrap()).collect();
        assert!(users.take().is_none());
        let last = all.last().unwrap().base();
        assert!(last.checked_add(RANGE).is_some_and(|end| end <= 0x8000_0000));
    }
}

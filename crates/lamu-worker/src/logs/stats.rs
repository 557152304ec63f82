//! What the log store holds and what it gave up, for whoever renders metrics.

use std::sync::atomic::{AtomicU64, Ordering};

#[derive(Debug, Default)]
pub struct LogStats {
    bytes: AtomicU64,
    groups: AtomicU64,
    lost_lines: AtomicU64,
    lost_bytes: AtomicU64,
    dropped_bytes: AtomicU64,
}

/// The figures at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogFigures {
    pub bytes: u64,
    pub groups: u64,
    /// Could not be written.
    pub lost_lines: u64,
    pub lost_bytes: u64,
    /// Were written once and made room for newer ones.
    pub dropped_bytes: u64,
}

impl LogStats {
    pub(super) fn holds(&self, bytes: u64, groups: usize) {
        self.bytes.store(bytes, Ordering::Relaxed);
        self.groups.store(groups as u64, Ordering::Relaxed);
    }

    pub(super) fn lost(&self, lines: impl Iterator<Item = usize>) {
        for bytes in lines {
            self.lost_lines.fetch_add(1, Ordering::Relaxed);
            self.lost_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        }
    }

    pub(super) fn dropped(&self, bytes: u64) {
        self.dropped_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    pub fn figures(&self) -> LogFigures {
        let get = |figure: &AtomicU64| figure.load(Ordering::Relaxed);
        LogFigures {
            bytes: get(&self.bytes),
            groups: get(&self.groups),
            lost_lines: get(&self.lost_lines),
            lost_bytes: get(&self.lost_bytes),
            dropped_bytes: get(&self.dropped_bytes),
        }
    }
}

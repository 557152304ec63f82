//! The one buffer between writers and the files.
//!
//! Bounded in two ways, so that a function that floods loses its own lines
//! and nobody else's: each stream may have a share of one gathering, smaller
//! when the buffer is half full, and the buffer has an end.
//!
//! Not here: files.

use std::fmt;
use std::mem;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use lamu_link::LogGroupName;
use lamu_model::LOG_LINE_BYTES_MAX;

use super::disk::Disk;

/// All streams together, between two writes.
const BUFFER_BYTES_MAX: usize = 32 << 20;
/// From here on a stream's share shrinks.
const BUFFER_BYTES_CALM: usize = 16 << 20;
/// One stream between two writes: 20 MiB a second.
const STREAM_BYTES_MAX: usize = 1 << 20;
const STREAM_BYTES_MAX_CROWDED: usize = 32 << 10;
/// A buffer this full is written without gathering further.
const BUFFER_BYTES_SOON: usize = 4 << 20;
/// What a line costs beside its text.
const LINE_BYTES: usize = 64;
/// How often events are looked for that their group keeps no longer. The
/// shortest retention is a day.
const EXPIRE_EVERY: Duration = Duration::from_secs(3_600);

/// Where an environment writes.
#[derive(Debug)]
pub struct StreamName {
    pub(crate) group: LogGroupName,
    pub(crate) stream: String,
}

impl StreamName {
    pub fn new(
        account: lamu_model::AccountId,
        region: lamu_model::Region,
        group: String,
        stream: String,
    ) -> StreamName {
        StreamName { group: LogGroupName { account, region, group }, stream }
    }
}

/// Whether a line found room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kept {
    Yes,
    No,
}

/// Writes the lines of one stream.
pub struct LogWriter {
    sink: Arc<Sink>,
    stream: Arc<StreamName>,
    /// The gathering that `bytes` counts in.
    gathering: u64,
    bytes: usize,
}

impl fmt::Debug for LogWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LogWriter").field("stream", &self.stream).finish_non_exhaustive()
    }
}

impl LogWriter {
    pub(super) fn new(sink: Arc<Sink>, stream: StreamName) -> LogWriter {
        LogWriter { sink, stream: Arc::new(stream), gathering: 0, bytes: 0 }
    }

    /// A line of the function. Too long ones are cut.
    pub fn function(&mut self, time_ms: u64, line: &[u8]) -> Kept {
        let mut pending = self.sink.lock();
        if self.gathering != pending.gathering {
            self.gathering = pending.gathering;
            self.bytes = 0;
        }
        let share = if pending.text.len() < BUFFER_BYTES_CALM {
            STREAM_BYTES_MAX
        } else {
            STREAM_BYTES_MAX_CROWDED
        };
        let line = &line[..line.len().min(LOG_LINE_BYTES_MAX)];
        if self.bytes + line.len() + LINE_BYTES > share {
            return Kept::No;
        }
        self.bytes += line.len() + LINE_BYTES;
        self.sink.push(&mut pending, &self.stream, time_ms, line)
    }

    /// A line of the platform: few and short, so no share applies.
    pub fn platform(&mut self, time_ms: u64, line: &[u8]) -> Kept {
        self.sink.push(&mut self.sink.lock(), &self.stream, time_ms, line)
    }
}

/// Lines on their way to the files.
#[derive(Debug, Default)]
pub(super) struct Batch {
    pub text: Vec<u8>,
    pub lines: Vec<Line>,
}

#[derive(Debug)]
pub(super) struct Line {
    pub stream: Arc<StreamName>,
    pub time_ms: u64,
    pub bytes: u32,
}

#[derive(Debug, Default)]
struct Pending {
    text: Vec<u8>,
    lines: Vec<Line>,
    gathering: u64,
    /// Flushes asked for and done, counted.
    asked: u64,
    done: u64,
    closing: bool,
}

#[derive(Debug)]
pub(super) struct Sink {
    pending: Mutex<Pending>,
    /// Something to write.
    work: Condvar,
    /// Something was written.
    written: Condvar,
}

impl Sink {
    pub fn new() -> Sink {
        Sink {
            pending: Mutex::new(Pending { gathering: 1, ..Pending::default() }),
            work: Condvar::new(),
            written: Condvar::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Pending> {
        self.pending.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn push(
        &self,
        pending: &mut Pending,
        stream: &Arc<StreamName>,
        time_ms: u64,
        line: &[u8],
    ) -> Kept {
        let bytes = pending.text.len() + pending.lines.len() * LINE_BYTES + line.len();
        if pending.closing || bytes > BUFFER_BYTES_MAX {
            return Kept::No;
        }
        let before = pending.text.len();
        pending.text.extend_from_slice(line);
        pending.lines.push(Line { stream: stream.clone(), time_ms, bytes: line.len() as u32 });
        let soon = before < BUFFER_BYTES_SOON && pending.text.len() >= BUFFER_BYTES_SOON;
        if pending.lines.len() == 1 || soon {
            self.work.notify_one();
        }
        Kept::Yes
    }

    /// Waits until everything pushed so far has been written.
    pub fn flush(&self) {
        let mut pending = self.lock();
        if pending.closing {
            return;
        }
        pending.asked += 1;
        let ticket = pending.asked;
        self.work.notify_one();
        while pending.done < ticket && !pending.closing {
            pending = self.written.wait(pending).unwrap_or_else(|poisoned| poisoned.into_inner());
        }
    }

    pub fn close(&self) {
        self.lock().closing = true;
        self.work.notify_one();
        self.written.notify_all();
    }

    /// The thread's whole life.
    pub fn drain_into(&self, disk: &Mutex<Disk>, every: Duration) {
        // The two buffers change places, so neither is made anew each time.
        let mut batch = Batch::default();
        let mut expires = Instant::now();
        loop {
            if expires <= Instant::now() {
                lock(disk).expire(now_ms());
                expires = Instant::now() + EXPIRE_EVERY;
            }
            let mut pending = self.lock();
            while pending.lines.is_empty()
                && pending.asked == pending.done
                && !pending.closing
                && expires > Instant::now()
            {
                let left = expires.saturating_duration_since(Instant::now());
                let waited = self.work.wait_timeout(pending, left);
                pending = waited.unwrap_or_else(|poisoned| poisoned.into_inner()).0;
            }
            if pending.lines.is_empty() && pending.asked == pending.done && !pending.closing {
                continue;
            }
            let until = Instant::now() + every;
            while pending.asked == pending.done
                && !pending.closing
                && pending.text.len() < BUFFER_BYTES_SOON
            {
                let Some(left) = until.checked_duration_since(Instant::now()) else { break };
                let waited = self.work.wait_timeout(pending, left);
                pending = waited.unwrap_or_else(|poisoned| poisoned.into_inner()).0;
            }
            let (asked, closing) = (pending.asked, pending.closing);
            pending.gathering += 1;
            mem::swap(&mut pending.text, &mut batch.text);
            mem::swap(&mut pending.lines, &mut batch.lines);
            drop(pending);

            lock(disk).append(&batch, now_ms());
            batch.text.clear();
            batch.text.shrink_to(BUFFER_BYTES_SOON);
            batch.lines.clear();
            batch.lines.shrink_to(BUFFER_BYTES_SOON / LINE_BYTES);

            self.lock().done = asked;
            self.written.notify_all();
            if closing {
                return;
            }
        }
    }
}

fn lock(disk: &Mutex<Disk>) -> MutexGuard<'_, Disk> {
    disk.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

pub(super) fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as u64
}

//! The log store of one host: what functions and the platform wrote, per
//! group and stream, bounded, readable while it is written and after a
//! restart.
//!
//! ```text
//!  environments --LogWriter--> Sink (one buffer) --thread--> Disk (segments)
//!  LogsHandle --> this task --> flush, then Reader ---------------^
//! ```
//!
//! Writing never waits and never wakes anybody per line: the first line after
//! a pause wakes the thread, which gathers for [`FLUSH_EVERY`] and writes
//! once. So up to that much is lost when the process is killed; logs are no
//! promise that is flushed. A read forces a flush and sees everything.
//!
//! Not here: what the lines say (`environment::journal`).

mod disk;
mod reader;
mod segment;
mod sink;

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use lamu_link::{LogError, LogRequest, LogsHandle};
use lamu_model::{AccountId, Region};
use tokio::sync::{Semaphore, oneshot};

pub use self::sink::{Kept, LogWriter, StreamName};

use self::disk::Disk;
use self::sink::Sink;

/// How long lines gather before they are written. Below what a person who
/// follows a log notices; at most twenty wake-ups a second.
pub const FLUSH_EVERY: Duration = Duration::from_millis(50);

/// Reads at the same time. Each may scan a whole group; more would only take
/// the disk from the functions.
const READS_MAX: usize = 2;

/// A whole group, the part of it that is dropped at once, and all groups.
#[derive(Clone, Copy, Debug)]
pub struct LogLimits {
    pub group_bytes_max: u64,
    pub segment_bytes_max: u64,
    pub total_bytes_max: u64,
}

impl Default for LogLimits {
    fn default() -> LogLimits {
        LogLimits {
            group_bytes_max: 64 << 20,
            segment_bytes_max: 8 << 20,
            total_bytes_max: 4 << 30,
        }
    }
}

/// One group of one account in one region.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct GroupName {
    pub account: AccountId,
    pub region: Region,
    pub group: String,
}

/// Dropping it writes what is buffered and ends the thread.
pub struct LogStore {
    sink: Arc<Sink>,
    disk: Arc<Mutex<Disk>>,
    thread: Option<thread::JoinHandle<()>>,
}

impl fmt::Debug for LogStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LogStore").finish_non_exhaustive()
    }
}

impl LogStore {
    /// Opens the store below `dir`, which is made when missing.
    pub fn open(dir: PathBuf, limits: LogLimits) -> io::Result<LogStore> {
        let disk = Arc::new(Mutex::new(Disk::open(dir, limits)?));
        let sink = Arc::new(Sink::new());
        let thread = {
            let (sink, disk) = (sink.clone(), disk.clone());
            thread::Builder::new()
                .name("lamu-logs".to_owned())
                .spawn(move || sink.drain_into(&disk, FLUSH_EVERY))?
        };
        Ok(LogStore { sink, disk, thread: Some(thread) })
    }

    /// Writes one stream.
    pub fn writer(&self, stream: StreamName) -> LogWriter {
        LogWriter::new(self.sink.clone(), stream)
    }

    /// Waits until everything written so far is in the files.
    pub fn flush(&self) {
        self.sink.flush();
    }

    /// Starts answering reads. The task ends with its last handle.
    pub fn serve(self: &Arc<Self>) -> LogsHandle {
        let (handle, mut requests) = LogsHandle::new();
        let store = self.clone();
        let places = Arc::new(Semaphore::new(READS_MAX));
        tokio::spawn(async move {
            while let Some(request) = requests.recv().await {
                let Ok(place) = places.clone().acquire_owned().await else { return };
                let store = store.clone();
                tokio::task::spawn_blocking(move || {
                    store.answer(request);
                    drop(place);
                });
            }
        });
        handle
    }

    fn answer(&self, request: LogRequest) {
        self.sink.flush();
        match request {
            LogRequest::Groups { account, region, prefix, reply } => {
                respond(reply, || Ok(self.disk().groups(&account, &region, &prefix)));
            }
            LogRequest::Streams { account, region, group, reply } => respond(reply, || {
                let name = GroupName { account, region, group };
                let segments = self.disk().segments(&name).ok_or(LogError::NoGroup)?;
                reader::streams(&segments).map_err(unavailable)
            }),
            LogRequest::Events { query, reply } => respond(reply, || {
                let name = GroupName {
                    account: query.account.clone(),
                    region: query.region.clone(),
                    group: query.group.clone(),
                };
                let segments = self.disk().segments(&name).ok_or(LogError::NoGroup)?;
                reader::events(&segments, &query).map_err(unavailable)
            }),
        }
    }

    fn disk(&self) -> std::sync::MutexGuard<'_, Disk> {
        self.disk.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

impl Drop for LogStore {
    fn drop(&mut self) {
        self.sink.close();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Nobody may be waiting any more; then nothing is read.
fn respond<T>(
    reply: oneshot::Sender<Result<T, LogError>>,
    read: impl FnOnce() -> Result<T, LogError>,
) {
    if !reply.is_closed() {
        let _ = reply.send(read());
    }
}

fn unavailable(error: io::Error) -> LogError {
    LogError::Unavailable { step: "read", why: error.to_string() }
}

#[cfg(test)]
mod tests;

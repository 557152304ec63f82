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
//! Groups, their settings and streams that somebody asked for are flushed
//! before the answer.
//!
//! Not here: what the lines say (`environment::journal`).

mod disk;
mod document;
mod group;
mod reader;
mod segment;
mod sink;
mod stats;

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use lamu_link::{LogError, LogGroupName, LogPage, LogQuery, LogRequest, LogsHandle, StreamChoice};
use tokio::sync::{Semaphore, oneshot};

pub use self::sink::{Kept, LogWriter, StreamName};
pub use self::stats::LogFigures;

use self::disk::Disk;
use self::reader::Learned;
use self::sink::{Sink, now_ms};
use self::stats::LogStats;

/// How long lines gather before they are written. Below what a person who
/// follows a log notices; at most twenty wake-ups a second.
pub const FLUSH_EVERY: Duration = Duration::from_millis(50);

/// Requests at the same time. Each may scan a whole group; more would only take
/// the disk from the functions.
const REQUESTS_MAX: usize = 2;

/// A whole group, the part of it that is dropped at once, all groups, and the
/// groups of one account: each costs a directory and a file.
#[derive(Clone, Copy, Debug)]
pub struct LogLimits {
    pub group_bytes_max: u64,
    pub segment_bytes_max: u64,
    pub total_bytes_max: u64,
    pub groups_max: usize,
}

impl Default for LogLimits {
    fn default() -> LogLimits {
        LogLimits {
            group_bytes_max: 64 << 20,
            segment_bytes_max: 8 << 20,
            total_bytes_max: 4 << 30,
            groups_max: 10_000,
        }
    }
}

/// Closing or dropping it writes what is buffered and ends the thread.
pub struct LogStore {
    sink: Arc<Sink>,
    disk: Arc<Mutex<Disk>>,
    stats: Arc<LogStats>,
    /// Held while streams are made, so that of two makers one is refused.
    making: Mutex<()>,
    /// Taken by whoever ends it.
    thread: Mutex<Option<thread::JoinHandle<()>>>,
}

impl fmt::Debug for LogStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LogStore").finish_non_exhaustive()
    }
}

impl LogStore {
    /// Opens the store below `dir`, which is made when missing.
    pub fn open(dir: PathBuf, limits: LogLimits) -> io::Result<LogStore> {
        let stats = Arc::new(LogStats::default());
        let disk = Arc::new(Mutex::new(Disk::open(dir, limits, stats.clone())?));
        let sink = Arc::new(Sink::new());
        let thread = {
            let (sink, disk) = (sink.clone(), disk.clone());
            thread::Builder::new()
                .name("lamu-logs".to_owned())
                .spawn(move || sink.drain_into(&disk, FLUSH_EVERY))?
        };
        Ok(LogStore { sink, disk, stats, making: Mutex::new(()), thread: Mutex::new(Some(thread)) })
    }

    /// Writes one stream.
    pub fn writer(&self, stream: StreamName) -> LogWriter {
        LogWriter::new(self.sink.clone(), stream)
    }

    /// Waits until everything written so far is in the files.
    pub fn flush(&self) {
        self.sink.flush();
    }

    pub fn figures(&self) -> LogFigures {
        self.stats.figures()
    }

    /// Starts answering requests. The task ends with its last handle.
    pub fn serve(self: &Arc<Self>) -> LogsHandle {
        let (handle, mut requests) = LogsHandle::new();
        let store = self.clone();
        let places = Arc::new(Semaphore::new(REQUESTS_MAX));
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
        let now_ms = now_ms();
        match request {
            LogRequest::Groups { query, reply } => {
                respond(reply, || Ok(self.disk().groups(&query)))
            }
            LogRequest::CreateGroup { group, with, reply } => {
                respond(reply, || self.disk().create_group(&group, with, now_ms));
            }
            LogRequest::ChangeGroup { group, change, reply } => {
                respond(reply, || self.disk().change_group(&group, change, now_ms));
            }
            LogRequest::DeleteGroup { group, reply } => {
                respond(reply, || self.disk().delete_group(&group));
            }
            LogRequest::Streams { group, reply } => respond(reply, || {
                let view = self.disk().view(&group, now_ms)?;
                self.learned(&group, reader::streams(&view))
            }),
            LogRequest::CreateStream { group, stream, reply } => respond(reply, || {
                let _making = self.making.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
                if self.has_stream(&group, &stream)? {
                    return Err(LogError::StreamExists);
                }
                self.disk().create_stream(&group, &stream, now_ms)
            }),
            LogRequest::DeleteStream { group, stream, reply } => {
                respond(reply, || self.disk().delete_stream(&group, &stream));
            }
            LogRequest::Events { query, reply } => respond(reply, || self.events(&query)),
            LogRequest::Put { group, stream, events, reply } => respond(reply, || {
                if !self.has_stream(&group, &stream)? {
                    return Err(LogError::NoStream);
                }
                self.disk().put(&group, &stream, &events, now_ms)
            }),
        }
    }

    fn events(&self, query: &LogQuery) -> Result<LogPage, LogError> {
        let view = self.disk().view(&query.group, now_ms())?;
        let page = self.learned(&query.group, reader::events(&view, query))?;
        // Only who finds nothing asks whether there is such a stream.
        if page.events.is_empty()
            && let StreamChoice::Named(names) = &query.streams
        {
            for name in names {
                if !self.has_stream(&query.group, name)? {
                    return Err(LogError::NoStream);
                }
            }
        }
        Ok(page)
    }

    fn has_stream(&self, group: &LogGroupName, stream: &str) -> Result<bool, LogError> {
        let view = self.disk().view(group, now_ms())?;
        self.learned(group, reader::has_stream(&view, stream))
    }

    /// Hands back to the disk what a reading learned.
    fn learned<T>(
        &self,
        group: &LogGroupName,
        read: io::Result<(T, Learned)>,
    ) -> Result<T, LogError> {
        let (found, learned) = read.map_err(unavailable)?;
        if !learned.is_empty() {
            self.disk().learn(group, &learned);
        }
        Ok(found)
    }

    fn disk(&self) -> std::sync::MutexGuard<'_, Disk> {
        self.disk.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

impl LogStore {
    /// Writes what is buffered, and nothing after: lines that still come are
    /// not kept. Blocks.
    pub fn close(&self) {
        self.sink.close();
        let thread = self.thread.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).take();
        if let Some(thread) = thread
            && thread.join().is_err()
        {
            tracing::error!("the log store's thread panicked");
        }
    }
}

impl Drop for LogStore {
    fn drop(&mut self) {
        self.close();
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

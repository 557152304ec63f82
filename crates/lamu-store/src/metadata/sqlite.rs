//! [`Metadata`] in one SQLite file: WAL, `synchronous=FULL`, one writer.
//!
//! One thread owns the writing connection. It takes everything that waits in
//! its inbox, decides each request inside one transaction, commits once and
//! then answers all of them, so a hundred concurrent writers cost one flush.
//! Watchers are registered by the same thread, between two transactions: what
//! they are given first and what they hear later meet without gap or overlap.
//!
//! ```text
//!  put, delete, watch ──inbox──▶ writer thread ──▶ one transaction ──▶ commit
//!                                     │                                  │
//!  get, scan ──▶ reading connections  └──▶ watchers, then answers ◀──────┘
//! ```
//!
//! Each row carries a checksum over its key, revision and value: SQLite finds
//! a damaged page structure, but not a flipped bit inside a value.
//!
//! Not here: what the writer does with a group (`writer.rs`), SQL and the
//! shape of the tables (`table.rs`), sharing one file between hosts.

mod table;
mod writer;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use async_trait::async_trait;
use bytes::Bytes;
use rusqlite::Connection;
use tokio::sync::{Semaphore, mpsc, oneshot};

use super::{Change, Document, Expect, Metadata, MetadataError, Revision};
use crate::sqlite as file;
use writer::{Request, Write};

/// Requests that wait for the writer. A value has at most 1 MiB, so what waits
/// stays below 256 MiB; more callers wait their turn to enter.
const INBOX_MAX: usize = 256;

/// Reads that run at once. SQLite's readers do not disturb one another, and a
/// read is microseconds of CPU: more than a few only take threads.
const READERS_MAX: usize = 4;

const KEY_BYTES_MAX: usize = 1_024;
const VALUE_BYTES_MAX: usize = 1024 * 1024;

/// Documents in one SQLite file that this process alone has open.
///
/// Dropping it waits until the writer has finished what it had accepted.
#[derive(Debug)]
pub struct SqliteMetadata {
    requests: Option<mpsc::Sender<Request>>,
    writer: Option<JoinHandle<()>>,
    readers: Arc<Readers>,
    // Held until the writer has ended: see `drop`.
    _lock: File,
}

#[derive(Debug)]
struct Readers {
    path: PathBuf,
    permits: Arc<Semaphore>,
    idle: Mutex<Vec<Connection>>,
}

impl SqliteMetadata {
    /// Opens or creates the database file `path`, and its directory if that is
    /// missing. Reads all of it once: damage is found now and not later.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, MetadataError> {
        let path = path.as_ref();
        let lock = file::prepare(path)?;
        let connection = table::open_to_write(path)?;
        let revision = table::check_all(&connection, path)?;

        let (requests, inbox) = mpsc::channel(INBOX_MAX);
        let writer = std::thread::Builder::new()
            .name("lamu-metadata".into())
            .spawn(move || writer::run(connection, revision, inbox))
            .map_err(|source| unavailable("start its writer", source))?;
        let readers = Readers {
            path: path.to_path_buf(),
            permits: Arc::new(Semaphore::new(READERS_MAX)),
            idle: Mutex::new(Vec::new()),
        };
        Ok(Self {
            requests: Some(requests),
            writer: Some(writer),
            readers: Arc::new(readers),
            _lock: lock,
        })
    }

    async fn ask<T>(
        &self,
        request: impl FnOnce(oneshot::Sender<Result<T, MetadataError>>) -> Request,
    ) -> Result<T, MetadataError> {
        let (answer, answered) = oneshot::channel();
        let gone = || unavailable("reach its writer", "the writer has ended");
        let requests = self.requests.as_ref().ok_or_else(gone)?;
        requests.send(request(answer)).await.map_err(|_| gone())?;
        answered.await.map_err(|_| gone())?
    }
}

#[async_trait]
impl Metadata for SqliteMetadata {
    async fn get(&self, key: &str) -> Result<Option<Document>, MetadataError> {
        check_key(key)?;
        let key = key.to_owned();
        self.readers.read(move |connection| table::get(connection, &key)).await
    }

    async fn put(
        &self,
        key: &str,
        value: Bytes,
        expect: Expect,
    ) -> Result<Revision, MetadataError> {
        check_key(key)?;
        if value.len() > VALUE_BYTES_MAX {
            let what = format!("the value of {key} has {} bytes, more than 1 MiB", value.len());
            return Err(MetadataError::Invalid { what });
        }
        let write = Write { key: key.to_owned(), value: Some(value), expect };
        self.ask(|answer| Request::Write { write, answer }).await
    }

    async fn delete(&self, key: &str, expect: Expect) -> Result<(), MetadataError> {
        check_key(key)?;
        let write = Write { key: key.to_owned(), value: None, expect };
        self.ask(|answer| Request::Write { write, answer }).await.map(|_| ())
    }

    async fn scan(
        &self,
        prefix: &str,
        after: Option<&str>,
        count: usize,
    ) -> Result<Vec<Document>, MetadataError> {
        let (prefix, after) = (prefix.to_owned(), after.map(str::to_owned));
        self.readers
            .read(move |connection| table::scan(connection, &prefix, after.as_deref(), count))
            .await
    }

    async fn watch(&self, prefix: &str) -> Result<mpsc::Receiver<Change>, MetadataError> {
        let prefix = prefix.to_owned();
        self.ask(|answer| Request::Watch { prefix, answer }).await
    }
}

impl Drop for SqliteMetadata {
    fn drop(&mut self) {
        // The readers go first: the last connection to close empties the WAL
        // into the file, and a reading one may not.
        self.readers.idle.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).clear();
        self.requests = None;
        if let Some(writer) = self.writer.take()
            && writer.join().is_err()
        {
            tracing::error!(path = %self.readers.path.display(), "metadata writer panicked");
        }
    }
}

impl Readers {
    /// Runs `work` on a connection of its own, away from the async threads.
    async fn read<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&Connection) -> Result<T, MetadataError> + Send + 'static,
    ) -> Result<T, MetadataError> {
        let permit = self.permits.clone().acquire_owned().await;
        let permit = permit.map_err(|source| unavailable("read", source))?;
        let readers = self.clone();
        tokio::task::spawn_blocking(move || {
            // Held here, so a dropped caller does not let one more in.
            let _permit = permit;
            let idle = readers.idle().pop();
            let connection = match idle {
                Some(connection) => connection,
                None => table::open_to_read(&readers.path)?,
            };
            let result = work(&connection);
            // One that failed is not kept: the next read starts afresh.
            if result.is_ok() {
                readers.idle().push(connection);
            }
            result
        })
        .await
        .map_err(|source| unavailable("read", source))?
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<Connection>> {
        self.idle.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

fn check_key(key: &str) -> Result<(), MetadataError> {
    let what = if key.is_empty() {
        "a key is empty".to_owned()
    } else if key.len() > KEY_BYTES_MAX {
        format!("a key has {} bytes, more than {KEY_BYTES_MAX}", key.len())
    } else if key.contains('\0') {
        format!("the key {key:?} contains a NUL")
    } else {
        return Ok(());
    };
    Err(MetadataError::Invalid { what })
}

fn unavailable(
    step: impl Into<String>,
    source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
) -> MetadataError {
    MetadataError::Unavailable { step: step.into(), source: source.into() }
}

#[cfg(test)]
mod tests;

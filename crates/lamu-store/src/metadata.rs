//! Documents by key, with revisions.

mod sqlite;

use std::fmt;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::mpsc;

use crate::sqlite::FileError;
pub use sqlite::SqliteMetadata;

/// Grows with every change to the store; compares changes to one key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Revision(pub u64);

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Document {
    pub key: String,
    pub value: Bytes,
    pub revision: Revision,
}

/// What a write demands of the document as it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expect {
    Anything,
    /// There is none.
    Absent,
    /// It is at this revision.
    At(Revision),
}

/// One change as a watcher sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    Put(Document),
    Deleted {
        key: String,
        revision: Revision,
    },
    /// Everything that was there when the watch began has been delivered.
    Caught,
}

/// Keys are `/`-separated UTF-8 without NUL, at most 1,024 bytes; values at
/// most 1 MiB.
#[async_trait]
pub trait Metadata: Send + Sync + fmt::Debug {
    async fn get(&self, key: &str) -> Result<Option<Document>, MetadataError>;

    /// Writes and returns the new revision. Durable before the answer; if the
    /// future is dropped the write may or may not happen.
    async fn put(&self, key: &str, value: Bytes, expect: Expect)
    -> Result<Revision, MetadataError>;

    /// Removes; durable before the answer. Removing what is not there succeeds
    /// unless `expect` names a revision.
    async fn delete(&self, key: &str, expect: Expect) -> Result<(), MetadataError>;

    /// Documents whose key starts with `prefix` and is greater than `after`,
    /// in key order, at most `count`.
    async fn scan(
        &self,
        prefix: &str,
        after: Option<&str>,
        count: usize,
    ) -> Result<Vec<Document>, MetadataError>;

    /// Everything under `prefix` as it is, then `Caught`, then every change in
    /// order. The receiver is bounded; a watcher that falls behind has its
    /// channel closed and must watch anew.
    async fn watch(&self, prefix: &str) -> Result<mpsc::Receiver<Change>, MetadataError>;
}

#[derive(Debug, thiserror::Error)]
pub enum MetadataError {
    /// Someone else changed the document first.
    #[error("{key} is not as expected")]
    Conflict { key: String },
    #[error("{what}")]
    Invalid { what: String },
    /// Nothing was acknowledged; a later attempt may succeed (disk full, …).
    #[error("the metadata store could not {step}")]
    Unavailable { step: String, source: Box<dyn std::error::Error + Send + Sync> },
    /// What is on disk is damaged.
    #[error("the metadata store is damaged: {what}")]
    Damaged { what: String },
}

impl From<FileError> for MetadataError {
    fn from(error: FileError) -> MetadataError {
        match error {
            FileError::Unavailable { step, source } => MetadataError::Unavailable { step, source },
            FileError::Invalid { what } => MetadataError::Invalid { what },
            FileError::Damaged { what } => MetadataError::Damaged { what },
        }
    }
}

//! The doorway to the log store: reading what functions wrote.
//!
//! Shapes follow CloudWatch Logs: groups hold streams, streams hold events.
//! Not here: writing, which only workers do.

use lamu_model::{AccountId, Region};
use tokio::sync::{mpsc, oneshot};

use crate::INBOX_MAX;

#[derive(Clone, Debug)]
pub struct LogsHandle {
    inbox: mpsc::Sender<LogRequest>,
}

#[derive(Debug)]
pub enum LogRequest {
    Groups {
        account: AccountId,
        region: Region,
        prefix: String,
        reply: oneshot::Sender<Result<Vec<String>, LogError>>,
    },
    Streams {
        account: AccountId,
        region: Region,
        group: String,
        reply: oneshot::Sender<Result<Vec<LogStream>, LogError>>,
    },
    Events {
        query: LogQuery,
        reply: oneshot::Sender<Result<Vec<LogEvent>, LogError>>,
    },
}

/// Which events to read. Times are milliseconds since the epoch.
#[derive(Clone, Debug)]
pub struct LogQuery {
    pub account: AccountId,
    pub region: Region,
    pub group: String,
    /// All streams when empty.
    pub streams: Vec<String>,
    /// Inclusive.
    pub from_ms: u64,
    /// Exclusive.
    pub until_ms: u64,
    /// Only events after this one in (time, id) order: the last one of the
    /// page before.
    pub after: Option<(u64, u64)>,
    pub count_max: usize,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogEvent {
    /// Unique within the group and growing in the order of writing.
    pub id: u64,
    pub stream: String,
    pub time_ms: u64,
    pub ingested_ms: u64,
    pub message: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogStream {
    pub name: String,
    pub first_ms: u64,
    pub last_ms: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LogError {
    #[error("The specified log group does not exist.")]
    NoGroup,
    #[error("the log store could not {step}: {why}")]
    Unavailable { step: &'static str, why: String },
}

impl LogsHandle {
    pub fn new() -> (LogsHandle, mpsc::Receiver<LogRequest>) {
        let (inbox, requests) = mpsc::channel(INBOX_MAX);
        (LogsHandle { inbox }, requests)
    }

    /// Names of the groups that begin with `prefix`, sorted.
    pub async fn groups(
        &self,
        account: &AccountId,
        region: &Region,
        prefix: &str,
    ) -> Result<Vec<String>, LogError> {
        let (account, region, prefix) = (account.clone(), region.clone(), prefix.to_owned());
        self.ask(|reply| LogRequest::Groups { account, region, prefix, reply }).await
    }

    /// The streams of one group, oldest first.
    pub async fn streams(
        &self,
        account: &AccountId,
        region: &Region,
        group: &str,
    ) -> Result<Vec<LogStream>, LogError> {
        let (account, region, group) = (account.clone(), region.clone(), group.to_owned());
        self.ask(|reply| LogRequest::Streams { account, region, group, reply }).await
    }

    /// Events in (time, id) order.
    pub async fn events(&self, query: LogQuery) -> Result<Vec<LogEvent>, LogError> {
        self.ask(|reply| LogRequest::Events { query, reply }).await
    }

    async fn ask<T>(
        &self,
        request: impl FnOnce(oneshot::Sender<Result<T, LogError>>) -> LogRequest,
    ) -> Result<T, LogError> {
        let gone = || LogError::Unavailable { step: "answer", why: "it is gone".into() };
        let (reply, answer) = oneshot::channel();
        self.inbox.send(request(reply)).await.map_err(|_| gone())?;
        answer.await.map_err(|_| gone())?
    }
}

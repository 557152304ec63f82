//! The doorway to the log store: groups, their streams, and the events that
//! functions and callers wrote.
//!
//! Shapes follow CloudWatch Logs: groups hold streams, streams hold events.
//! Not here: the lines of environments, which workers write past this door.

use std::collections::BTreeMap;

use lamu_model::{AccountId, LogPattern, Region};
use tokio::sync::{mpsc, oneshot};

use crate::INBOX_MAX;

#[derive(Clone, Debug)]
pub struct LogsHandle {
    inbox: mpsc::Sender<LogRequest>,
}

type Reply<T> = oneshot::Sender<Result<T, LogError>>;

#[derive(Debug)]
pub enum LogRequest {
    Groups { query: GroupQuery, reply: Reply<Vec<LogGroup>> },
    CreateGroup { group: LogGroupName, with: NewLogGroup, reply: Reply<()> },
    ChangeGroup { group: LogGroupName, change: GroupChange, reply: Reply<()> },
    DeleteGroup { group: LogGroupName, reply: Reply<()> },
    Streams { group: LogGroupName, reply: Reply<Vec<LogStream>> },
    CreateStream { group: LogGroupName, stream: String, reply: Reply<()> },
    DeleteStream { group: LogGroupName, stream: String, reply: Reply<()> },
    Events { query: LogQuery, reply: Reply<LogPage> },
    Put { group: LogGroupName, stream: String, events: Vec<NewLogEvent>, reply: Reply<()> },
}

/// One group of one account in one region.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LogGroupName {
    pub account: AccountId,
    pub region: Region,
    pub group: String,
}

/// Which groups to list, in the order of their names.
#[derive(Clone, Debug)]
pub struct GroupQuery {
    pub account: AccountId,
    pub region: Region,
    pub prefix: String,
    /// Anywhere in the name.
    pub part: String,
    /// Only groups after this one: the last of the page before.
    pub after: Option<String>,
    pub count_max: usize,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogGroup {
    pub name: String,
    pub created_ms: u64,
    /// Events older than this are gone; never when absent.
    pub retention_days: Option<u32>,
    pub stored_bytes: u64,
    pub tags: BTreeMap<String, String>,
    /// As asked for at its making.
    pub class: Option<String>,
    pub deletion_protected: bool,
}

/// What its maker may say of a group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NewLogGroup {
    pub tags: BTreeMap<String, String>,
    pub class: Option<String>,
    pub deletion_protected: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GroupChange {
    Retention(Option<u32>),
    Tag(BTreeMap<String, String>),
    Untag(Vec<String>),
    DeletionProtection(bool),
}

/// The place of an event: its time and id. Events are ordered by it.
pub type LogPlace = (u64, u64);

/// Which events to read. Times are milliseconds since the epoch.
#[derive(Clone, Debug)]
pub struct LogQuery {
    pub group: LogGroupName,
    pub streams: StreamChoice,
    /// Inclusive.
    pub from_ms: u64,
    /// Exclusive.
    pub until_ms: u64,
    /// Only events after this one.
    pub after: Option<LogPlace>,
    /// Only events before this one.
    pub before: Option<LogPlace>,
    /// Only events written after the one with this id.
    pub newer_than: Option<u64>,
    pub pattern: LogPattern,
    /// Which end of what was found is answered when it is too much.
    pub end: LogEnd,
    pub count_max: usize,
}

impl LogQuery {
    /// Every event of a group, from its oldest on.
    pub fn all(group: LogGroupName) -> LogQuery {
        LogQuery {
            group,
            streams: StreamChoice::All,
            from_ms: 0,
            until_ms: u64::MAX,
            after: None,
            before: None,
            newer_than: None,
            pattern: LogPattern::default(),
            end: LogEnd::Oldest,
            count_max: usize::MAX,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StreamChoice {
    All,
    Named(Vec<String>),
    /// Those that begin with one of these.
    Prefixed(Vec<String>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogEnd {
    Oldest,
    Newest,
}

/// Events in their order, whichever end was asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogPage {
    pub events: Vec<LogEvent>,
    /// Others were left out for lack of room.
    pub more: bool,
    /// No event of the group had a higher id when this was read.
    pub newest_id: u64,
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
pub struct NewLogEvent {
    pub time_ms: u64,
    pub message: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogStream {
    pub name: String,
    pub created_ms: u64,
    /// Absent as long as nothing was written to it.
    pub events: Option<LogSpan>,
}

/// Times of a stream's events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogSpan {
    pub first_ms: u64,
    pub last_ms: u64,
    pub ingested_ms: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LogError {
    #[error("The specified log group does not exist.")]
    NoGroup,
    #[error("The specified log stream does not exist.")]
    NoStream,
    #[error("The specified log group already exists")]
    GroupExists,
    #[error("The specified log stream already exists")]
    StreamExists,
    #[error("Resource limit exceeded.")]
    TooManyGroups,
    #[error("A resource can have at most {max} tags.")]
    TooManyTags { max: usize },
    #[error("The log group is protected from deletion.")]
    Protected,
    #[error("the log store could not {step}: {why}")]
    Unavailable { step: &'static str, why: String },
}

impl LogsHandle {
    pub fn new() -> (LogsHandle, mpsc::Receiver<LogRequest>) {
        let (inbox, requests) = mpsc::channel(INBOX_MAX);
        (LogsHandle { inbox }, requests)
    }

    pub async fn groups(&self, query: GroupQuery) -> Result<Vec<LogGroup>, LogError> {
        self.ask(|reply| LogRequest::Groups { query, reply }).await
    }

    /// The one group of that name.
    pub async fn group(&self, name: &LogGroupName) -> Result<LogGroup, LogError> {
        let query = GroupQuery {
            account: name.account.clone(),
            region: name.region.clone(),
            prefix: name.group.clone(),
            part: String::new(),
            after: None,
            count_max: 1,
        };
        // A name sorts before all that it begins.
        let found = self.groups(query).await?.pop();
        found.filter(|found| found.name == name.group).ok_or(LogError::NoGroup)
    }

    /// Durable when answered, as all changes below.
    pub async fn create_group(
        &self,
        group: LogGroupName,
        with: NewLogGroup,
    ) -> Result<(), LogError> {
        self.ask(|reply| LogRequest::CreateGroup { group, with, reply }).await
    }

    pub async fn change_group(
        &self,
        group: LogGroupName,
        change: GroupChange,
    ) -> Result<(), LogError> {
        self.ask(|reply| LogRequest::ChangeGroup { group, change, reply }).await
    }

    pub async fn delete_group(&self, group: LogGroupName) -> Result<(), LogError> {
        self.ask(|reply| LogRequest::DeleteGroup { group, reply }).await
    }

    /// The streams of one group, in the order of their names.
    pub async fn streams(&self, group: LogGroupName) -> Result<Vec<LogStream>, LogError> {
        self.ask(|reply| LogRequest::Streams { group, reply }).await
    }

    pub async fn create_stream(&self, group: LogGroupName, stream: String) -> Result<(), LogError> {
        self.ask(|reply| LogRequest::CreateStream { group, stream, reply }).await
    }

    pub async fn delete_stream(&self, group: LogGroupName, stream: String) -> Result<(), LogError> {
        self.ask(|reply| LogRequest::DeleteStream { group, stream, reply }).await
    }

    pub async fn events(&self, query: LogQuery) -> Result<LogPage, LogError> {
        self.ask(|reply| LogRequest::Events { query, reply }).await
    }

    /// Writes to a stream that is there. Not flushed: like a function's
    /// lines, these outlive the process, not the machine.
    pub async fn put(
        &self,
        group: LogGroupName,
        stream: String,
        events: Vec<NewLogEvent>,
    ) -> Result<(), LogError> {
        self.ask(|reply| LogRequest::Put { group, stream, events, reply }).await
    }

    async fn ask<T>(&self, request: impl FnOnce(Reply<T>) -> LogRequest) -> Result<T, LogError> {
        let gone = || LogError::Unavailable { step: "answer", why: "it is gone".into() };
        let (reply, answer) = oneshot::channel();
        self.inbox.send(request(reply)).await.map_err(|_| gone())?;
        answer.await.map_err(|_| gone())?
    }
}

//! StartLiveTail: what is written to groups from now on, as a stream of
//! events.
//!
//! ```text
//!  initial-response ─▶ sessionStart ─▶ sessionUpdate, one a second
//!                                        └─▶ SessionTimeoutException, after hours
//! ```
//!
//! A session is a task that asks the log store once a second. A client that is
//! slow is not asked for on its behalf until it has read, and its next update
//! covers the time since; one that goes away ends it. Sessions end when lamu
//! drains: they would never end by themselves.
//!
//! Not here: the bytes of an event (`eventstream`), keeping logs.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::Response;
use http::header::{CONTENT_TYPE, HeaderValue};
use lamu_link::{
    LogEnd, LogError, LogEvent, LogGroupName, LogPage, LogQuery, LogsHandle, StreamChoice,
};
use lamu_model::{LOG_PATTERN_LENGTH_MAX, LogPattern, RequestId};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, MissedTickBehavior};
use uuid::Uuid;

use super::{Ask, LogsError, check, events};
use crate::answer::Answer;
use crate::eventstream::{event, exception};
use crate::function::resolve::Caller;

/// The header's value that asks for a session.
pub const TARGET: &str = "Logs_20140328.StartLiveTail";

/// The service's own quota of an account in a region.
const SESSIONS_MAX: usize = 15;

/// Of all together: each asks the log store every second, and without keys a
/// caller may name any account.
const SESSIONS_IN_ALL_MAX: usize = 150;

const SESSION_TIME_MAX: Duration = Duration::from_secs(3 * 60 * 60);
const UPDATE_EVERY: Duration = Duration::from_secs(1);

/// The service's own bounds.
const EVENTS_MAX: usize = 500;
const GROUPS_MAX: usize = 10;

/// Messages of one update, as much as any other answer has of them.
const BYTES_MAX: usize = 1 << 20;

/// The opening, or updates that a client has yet to read.
const AHEAD_MAX: usize = 2;

/// A client that does not read is told no reason.
const LAST_WORD_WAIT_MAX: Duration = Duration::from_secs(5);

const JSON: &str = "application/json";
const EVENT_STREAM: HeaderValue = HeaderValue::from_static("application/vnd.amazon.eventstream");

/// The sessions there are.
#[derive(Clone, Debug)]
pub struct Tails {
    // Only accounts that have one.
    open: Arc<Mutex<HashMap<Caller, usize>>>,
    closing: Arc<watch::Sender<bool>>,
}

/// Counts as a session until dropped.
#[derive(Debug)]
struct Seat {
    open: Arc<Mutex<HashMap<Caller, usize>>>,
    caller: Caller,
}

impl Default for Tails {
    fn default() -> Tails {
        Tails { open: Arc::default(), closing: Arc::new(watch::Sender::new(false)) }
    }
}

impl Tails {
    /// Ends every session, and those that begin later at once.
    pub fn close(&self) {
        self.closing.send_replace(true);
    }

    fn sit(&self, caller: &Caller) -> Result<Seat, LogsError> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let own = open.get(caller).copied().unwrap_or(0);
        if own >= SESSIONS_MAX || open.values().sum::<usize>() >= SESSIONS_IN_ALL_MAX {
            return Err(LogsError::new("LimitExceededException", "Resource limit exceeded."));
        }
        open.insert(caller.clone(), own + 1);
        Ok(Seat { open: self.open.clone(), caller: caller.clone() })
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        match open.get_mut(&self.caller) {
            Some(count) if *count > 1 => *count -= 1,
            _ => drop(open.remove(&self.caller)),
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct StartLiveTail {
    log_group_identifiers: Option<Vec<String>>,
    log_stream_names: Option<Vec<String>>,
    log_stream_name_prefixes: Option<Vec<String>>,
    log_event_filter_pattern: Option<String>,
}

/// `sessionStart`.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct SessionStart<'a> {
    request_id: &'a str,
    session_id: String,
    log_group_identifiers: Vec<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    log_stream_names: Option<&'a Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    log_stream_name_prefixes: Option<&'a Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    log_event_filter_pattern: Option<&'a str>,
}

/// One event of `sessionUpdate`.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Seen<'a> {
    log_stream_name: &'a str,
    log_group_identifier: &'a str,
    message: &'a str,
    timestamp: u64,
    ingestion_time: u64,
}

/// A group and how far it has been read.
struct Followed {
    group: LogGroupName,
    arn: String,
    newest_id: u64,
}

struct Session {
    logs: LogsHandle,
    groups: Vec<Followed>,
    streams: StreamChoice,
    pattern: LogPattern,
    _seat: Seat,
}

/// Begins a session. What was written before is not part of it, everything
/// after its `sessionStart` is.
pub async fn start(
    tails: &Tails,
    logs: &LogsHandle,
    caller: &Caller,
    request: &RequestId,
    input: &Value,
    now_ms: u64,
) -> Result<Response<Answer>, LogsError> {
    let ask = Ask { logs, caller, input, now_ms };
    let asked: StartLiveTail = ask.read()?;
    check(&asked)?;
    let pattern = events::pattern(asked.log_event_filter_pattern.as_deref())?;
    let seat = tails.sit(caller)?;
    let mut groups: Vec<Followed> = Vec::new();
    for identifier in asked.log_group_identifiers.iter().flatten() {
        let group = ask.identified(identifier.clone())?;
        // Not twice, as one group may be named twice.
        if !groups.iter().any(|followed| followed.group == group) {
            let page = logs.events(since(group.clone(), u64::MAX)).await?;
            let arn = ask.arn(&group.group);
            groups.push(Followed { group, arn, newest_id: page.newest_id });
        }
    }
    let said = SessionStart {
        request_id: request.as_str(),
        session_id: Uuid::new_v4().to_string(),
        log_group_identifiers: groups.iter().map(|followed| followed.arn.as_str()).collect(),
        log_stream_names: asked.log_stream_names.as_ref(),
        log_stream_name_prefixes: asked.log_stream_name_prefixes.as_ref(),
        log_event_filter_pattern: asked.log_event_filter_pattern.as_deref(),
    };
    let (sender, updates) = mpsc::channel(AHEAD_MAX);
    // There is room for both.
    let _ = sender.try_send(event("initial-response", JSON, b"{}"));
    let _ = sender.try_send(event("sessionStart", JSON, json!(said).to_string().as_bytes()));
    let streams = match (asked.log_stream_names, asked.log_stream_name_prefixes) {
        (Some(names), _) => StreamChoice::Named(names),
        (None, Some(prefixes)) => StreamChoice::Prefixed(prefixes),
        (None, None) => StreamChoice::All,
    };
    let session = Session { logs: logs.clone(), groups, streams, pattern, _seat: seat };
    tokio::spawn(run(session, sender, tails.closing.subscribe()));
    let mut response = Response::new(Answer::Tail(updates));
    response.headers_mut().insert(CONTENT_TYPE, EVENT_STREAM);
    Ok(response)
}

fn check(asked: &StartLiveTail) -> Result<(), LogsError> {
    let groups = asked.log_group_identifiers.as_deref();
    check::all(|check| {
        check.required("logGroupIdentifiers", groups.as_ref());
        let count = groups.and_then(|groups| i64::try_from(groups.len()).ok());
        check.range("logGroupIdentifiers", count, 1, GROUPS_MAX as i64);
        for identifier in groups.unwrap_or_default() {
            check.identifier("logGroupIdentifiers", identifier);
        }
        for (at, names) in [
            ("logStreamNames", &asked.log_stream_names),
            ("logStreamNamePrefixes", &asked.log_stream_name_prefixes),
        ] {
            if let Some(names) = names {
                events::streams(check, at, names);
            }
        }
        if let Some(pattern) = &asked.log_event_filter_pattern {
            check.length("logEventFilterPattern", pattern, 0, LOG_PATTERN_LENGTH_MAX);
        }
    })?;
    let groups = groups.unwrap_or_default();
    if groups.iter().any(|identifier| identifier.ends_with('*')) {
        return Err(LogsError::invalid("LogGroup identifiers can't end with an asterisk."));
    }
    match (&asked.log_stream_names, &asked.log_stream_name_prefixes) {
        (Some(_), Some(_)) => Err(LogsError::invalid(
            "LogStreamNames and LogStreamNamePrefixes are mutually exclusive parameters.",
        )),
        (None, None) => Ok(()),
        _ if groups.len() > 1 => Err(LogsError::invalid(
            "LogStreamNames and LogStreamNamePrefixes can be specified only with one LogGroup.",
        )),
        _ => Ok(()),
    }
}

async fn run(
    mut session: Session,
    sender: mpsc::Sender<Bytes>,
    mut closing: watch::Receiver<bool>,
) {
    let begun = Instant::now();
    let mut ticks = tokio::time::interval_at(begun + UPDATE_EVERY, UPDATE_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let last = loop {
        let room = async {
            ticks.tick().await;
            sender.reserve().await
        };
        let closed = async {
            let _ = closing.wait_for(|closing| *closing).await;
        };
        tokio::select! {
            biased;
            () = sender.closed() => return,
            () = closed => return,
            () = tokio::time::sleep_until(begun + SESSION_TIME_MAX) => {
                break exception("SessionTimeoutException", br#"{"message":"Session timed out."}"#);
            }
            room = room => {
                let Ok(room) = room else { return };
                match session.update().await {
                    Ok(update) => room.send(update),
                    Err(error) => {
                        tracing::warn!(%error, "a live tail ends");
                        let text = br#"{"message":"The session could not go on."}"#;
                        room.send(exception("SessionStreamingException", text));
                        return;
                    }
                }
            }
        }
    };
    let _ = sender.send_timeout(last, LAST_WORD_WAIT_MAX).await;
}

impl Session {
    async fn update(&mut self) -> Result<Bytes, LogError> {
        let mut all: Vec<(usize, LogEvent)> = Vec::new();
        let mut sampled = false;
        for at in 0..self.groups.len() {
            let followed = &self.groups[at];
            let mut query = since(followed.group.clone(), followed.newest_id);
            query.streams = self.streams.clone();
            query.pattern = self.pattern.clone();
            match self.logs.events(query).await {
                Ok(LogPage { events, more, newest_id }) => {
                    self.groups[at].newest_id = newest_id.max(followed.newest_id);
                    sampled |= more;
                    all.extend(events.into_iter().map(|event| (at, event)));
                }
                // It may come back, and count from the beginning.
                Err(LogError::NoGroup) => self.groups[at].newest_id = 0,
                Err(error) => return Err(error),
            }
        }
        all.sort_by_key(|(at, event)| (event.time_ms, *at, event.id));
        let found = all.len();
        let chosen = sample(all, |(_, event)| event.message.len());
        sampled |= chosen.len() < found;
        let results: Vec<Seen<'_>> = chosen
            .iter()
            .map(|(at, event)| Seen {
                log_stream_name: &event.stream,
                log_group_identifier: &self.groups[*at].arn,
                message: &event.message,
                timestamp: event.time_ms,
                ingestion_time: event.ingested_ms,
            })
            .collect();
        let update = json!({"sessionMetadata": {"sampled": sampled}, "sessionResults": results});
        Ok(event("sessionUpdate", JSON, update.to_string().as_bytes()))
    }
}

/// Of too many, some of everywhere; of too large ones, the first.
fn sample<T>(all: Vec<T>, bytes_of: impl Fn(&T) -> usize) -> Vec<T> {
    let found = all.len();
    let chosen = all.into_iter().enumerate().filter(|(at, _)| {
        found <= EVENTS_MAX || at * EVENTS_MAX / found != (at + 1) * EVENTS_MAX / found
    });
    let mut bytes = 0;
    chosen
        .map(|(_, one)| one)
        .take_while(|one| {
            bytes += bytes_of(one);
            bytes <= BYTES_MAX
        })
        .collect()
}

/// What was written to a group after the event with this id.
fn since(group: LogGroupName, newest_id: u64) -> LogQuery {
    LogQuery {
        newer_than: Some(newest_id),
        end: LogEnd::Newest,
        count_max: EVENTS_MAX,
        ..LogQuery::all(group)
    }
}

#[cfg(test)]
mod tests;

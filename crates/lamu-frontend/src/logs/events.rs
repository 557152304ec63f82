//! Reading events: those of one stream in both directions, and those of a
//! group that match a pattern.

use lamu_link::{LogEnd, LogEvent, LogGroupName, LogPage, LogQuery, StreamChoice};
use lamu_model::{LOG_PATTERN_LENGTH_MAX, LogPattern};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::token::Turn;
use super::{Ask, LogsError, check, with_next};

/// Events of one answer, the service's own number. The store bounds what they
/// amount to.
const EVENTS_MAX: usize = 10_000;

/// Streams that one query may name.
const STREAMS_MAX: usize = 100;

/// Newest first is served from this time on: 2024-01-01.
const NEWEST_FIRST_FROM_MS: i64 = 1_704_067_200_000;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct GetLogEvents {
    log_group_name: Option<String>,
    log_group_identifier: Option<String>,
    log_stream_name: Option<String>,
    start_time: Option<i64>,
    end_time: Option<i64>,
    next_token: Option<String>,
    limit: Option<i64>,
    start_from_head: Option<bool>,
}

pub async fn get(ask: Ask<'_>) -> Result<Value, LogsError> {
    let asked: GetLogEvents = ask.read()?;
    check::all(|check| {
        check.stream("logStreamName", asked.log_stream_name.as_deref());
        check.range("startTime", asked.start_time, 0, i64::MAX);
        check.range("endTime", asked.end_time, 0, i64::MAX);
        check.range("limit", asked.limit, 1, EVENTS_MAX as i64);
    })?;
    let group = ask.named(asked.log_group_name, asked.log_group_identifier)?;
    let end = match asked.start_from_head {
        Some(true) => LogEnd::Oldest,
        _ => LogEnd::Newest,
    };
    let given = asked.next_token.as_deref().map(Turn::read).transpose()?;
    let turn = given.unwrap_or(Turn { end, place: None });
    let mut query = query(group, turn);
    query.streams = StreamChoice::Named(asked.log_stream_name.into_iter().collect());
    query.from_ms = time(asked.start_time, 0);
    query.until_ms = time(asked.end_time, u64::MAX);
    query.count_max = check::count(asked.limit, EVENTS_MAX);
    let LogPage { events, .. } = ask.logs.events(query).await?;
    // Past either end the service gives back the place it was given.
    let token = |end, event: Option<&LogEvent>| {
        Turn { end, place: event.map(place).or(turn.place) }.token()
    };
    let forward = token(LogEnd::Oldest, events.last());
    let backward = token(LogEnd::Newest, events.first());
    let shown: Vec<Value> = events
        .into_iter()
        .map(|event| {
            json!({
                "timestamp": event.time_ms,
                "message": event.message,
                "ingestionTime": event.ingested_ms,
            })
        })
        .collect();
    Ok(json!({"events": shown, "nextForwardToken": forward, "nextBackwardToken": backward}))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct FilterLogEvents {
    log_group_name: Option<String>,
    log_group_identifier: Option<String>,
    log_stream_names: Option<Vec<String>>,
    log_stream_name_prefix: Option<String>,
    start_time: Option<i64>,
    end_time: Option<i64>,
    filter_pattern: Option<String>,
    next_token: Option<String>,
    limit: Option<i64>,
    start_from_head: Option<bool>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct FoundEvent {
    log_stream_name: String,
    timestamp: u64,
    message: String,
    ingestion_time: u64,
    event_id: String,
}

pub async fn filter(ask: Ask<'_>) -> Result<Value, LogsError> {
    let asked: FilterLogEvents = ask.read()?;
    check::all(|check| {
        check.range("startTime", asked.start_time, 0, i64::MAX);
        check.range("endTime", asked.end_time, 0, i64::MAX);
        check.range("limit", asked.limit, 1, EVENTS_MAX as i64);
        if let Some(pattern) = &asked.filter_pattern {
            check.length("filterPattern", pattern, 0, LOG_PATTERN_LENGTH_MAX);
        }
        if let Some(names) = &asked.log_stream_names {
            streams(check, "logStreamNames", names);
        }
        if let Some(prefix) = &asked.log_stream_name_prefix {
            check.stream("logStreamNamePrefix", Some(prefix));
        }
    })?;
    let streams = match (asked.log_stream_names, asked.log_stream_name_prefix) {
        (Some(_), Some(_)) => {
            return Err(LogsError::invalid(
                "LogStreamNames and LogStreamNamePrefix are mutually exclusive parameters.",
            ));
        }
        (Some(names), None) => StreamChoice::Named(names),
        (None, Some(prefix)) => StreamChoice::Prefixed(vec![prefix]),
        (None, None) => StreamChoice::All,
    };
    let pattern = pattern(asked.filter_pattern.as_deref())?;
    let group = ask.named(asked.log_group_name, asked.log_group_identifier)?;
    let turn = match asked.next_token.as_deref().map(Turn::read).transpose()? {
        Some(turn) => turn,
        None if asked.start_from_head == Some(false) => {
            if asked.start_time.is_none_or(|start| start < NEWEST_FIRST_FROM_MS) {
                return Err(LogsError::invalid(
                    "startFromHead=false is supported only when startTime is on or after \
                     2024-01-01T00:00:00Z.",
                ));
            }
            Turn { end: LogEnd::Newest, place: None }
        }
        None => Turn { end: LogEnd::Oldest, place: None },
    };
    let mut query = query(group, turn);
    query.streams = streams;
    query.pattern = pattern;
    query.from_ms = time(asked.start_time, 0);
    // Here the end belongs to what is asked for.
    query.until_ms = time(asked.end_time, u64::MAX).saturating_add(1);
    query.count_max = check::count(asked.limit, EVENTS_MAX);
    let LogPage { mut events, more, .. } = ask.logs.events(query).await?;
    if turn.end == LogEnd::Newest {
        events.reverse();
    }
    let last = events.last().map(place).filter(|_| more);
    let next = last.map(|place| Turn { place: Some(place), ..turn }.token());
    let events: Vec<FoundEvent> = events.into_iter().map(found).collect();
    let answer = Map::from_iter([
        ("events".to_owned(), json!(events)),
        // Deprecated; the service leaves it empty.
        ("searchedLogStreams".to_owned(), json!([])),
    ]);
    Ok(with_next(answer, next))
}

pub fn streams(check: &mut check::Check, at: &str, names: &[String]) {
    check.range(at, i64::try_from(names.len()).ok(), 1, STREAMS_MAX as i64);
    for name in names {
        check.stream(at, Some(name));
    }
}

pub fn pattern(text: Option<&str>) -> Result<LogPattern, LogsError> {
    LogPattern::parse(text.unwrap_or_default())
        .map_err(|error| LogsError::invalid(error.to_string()))
}

fn query(group: LogGroupName, turn: Turn) -> LogQuery {
    let (after, before) = match turn.end {
        LogEnd::Oldest => (turn.place, None),
        LogEnd::Newest => (None, turn.place),
    };
    LogQuery { after, before, end: turn.end, ..LogQuery::all(group) }
}

fn place(event: &LogEvent) -> (u64, u64) {
    (event.time_ms, event.id)
}

fn time(asked: Option<i64>, default: u64) -> u64 {
    asked.map_or(default, |asked| u64::try_from(asked).unwrap_or(0))
}

fn found(event: LogEvent) -> FoundEvent {
    FoundEvent {
        event_id: format!("{:020}{:020}", event.time_ms, event.id),
        log_stream_name: event.stream,
        timestamp: event.time_ms,
        message: event.message,
        ingestion_time: event.ingested_ms,
    }
}

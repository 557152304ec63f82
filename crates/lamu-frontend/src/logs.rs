//! The part of CloudWatch Logs that reads what functions wrote, as `aws logs`
//! and the SDKs ask for it: JSON 1.1 over `POST /`, the operation in
//! `X-Amz-Target`.
//!
//! Paging tokens are the place of an event, so a page goes on where the last
//! one ended whatever was written meanwhile.
//!
//! Not here: keeping logs (the log store behind [`LogsHandle`]).

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use http::{Response, StatusCode};
use lamu_link::{LogEvent, LogQuery, LogsHandle};
use lamu_model::AccountId;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::error;
use crate::function::resolve::Caller;

const TARGET_PREFIX: &str = "Logs_20140328.";

/// Events of one answer, and what they may amount to: the service's own
/// numbers.
const EVENTS_MAX: usize = 10_000;
const EVENTS_BYTES_MAX: usize = 1024 * 1024;

/// Events asked of the store at a time. One may have 256 KiB, so this bounds
/// what is in memory.
const CHUNK: usize = 250;

/// Groups or streams of one answer.
const NAMES_MAX: usize = 50;

/// Streams that one query may name.
const STREAMS_MAX: usize = 100;

const ERROR_TYPE: HeaderName = HeaderName::from_static("x-amzn-errortype");

/// An error of this protocol: status, code, text.
#[derive(Debug, PartialEq, Eq)]
pub struct LogsError {
    status: u16,
    code: &'static str,
    message: String,
}

impl LogsError {
    fn invalid(message: impl Into<String>) -> LogsError {
        LogsError { status: 400, code: "InvalidParameterException", message: message.into() }
    }
}

impl From<lamu_link::LogError> for LogsError {
    fn from(error: lamu_link::LogError) -> LogsError {
        let (status, code, message) = error::of_logs(&error);
        LogsError { status, code, message }
    }
}

/// The bytes of a request that is too large are not read; all of these are
/// small.
pub const REQUEST_BYTES_MAX: u64 = 256 * 1024;

/// Answers one request. `target` is the header's value.
pub async fn answer(
    logs: &LogsHandle,
    caller: &Caller,
    target: &str,
    body: &Bytes,
) -> Response<Bytes> {
    let answered = match target.strip_prefix(TARGET_PREFIX) {
        Some("FilterLogEvents") => filter(logs, caller, body).await,
        Some("GetLogEvents") => get(logs, caller, body).await,
        Some("DescribeLogGroups") => groups(logs, caller, body).await,
        Some("DescribeLogStreams") => streams(logs, caller, body).await,
        _ => Err(LogsError {
            status: 400,
            code: "UnknownOperationException",
            message: format!("{target} is no operation that lamu serves."),
        }),
    };
    match answered {
        Ok(value) => respond(200, None, &value),
        Err(LogsError { status, code, message }) => {
            respond(status, Some(code), &json!({"__type": code, "message": message}))
        }
    }
}

/// The answer to who may not ask.
pub fn refuse_access(message: String) -> Response<Bytes> {
    let code = "AccessDeniedException";
    respond(400, Some(code), &json!({"__type": code, "message": message}))
}

fn respond(status: u16, code: Option<&'static str>, value: &Value) -> Response<Bytes> {
    let mut response = Response::new(Bytes::from(value.to_string()));
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or_default();
    let json = HeaderValue::from_static("application/x-amz-json-1.1");
    response.headers_mut().insert(CONTENT_TYPE, json);
    if let Some(code) = code {
        response.headers_mut().insert(ERROR_TYPE, HeaderValue::from_static(code));
    }
    response
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
}

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

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct DescribeLogGroups {
    log_group_name_prefix: Option<String>,
    log_group_name_pattern: Option<String>,
    next_token: Option<String>,
    limit: Option<i64>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct DescribeLogStreams {
    log_group_name: Option<String>,
    log_group_identifier: Option<String>,
    log_stream_name_prefix: Option<String>,
    order_by: Option<String>,
    descending: Option<bool>,
    next_token: Option<String>,
    limit: Option<i64>,
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

/// The place of an event: time and id.
type Place = (u64, u64);

async fn filter(logs: &LogsHandle, caller: &Caller, body: &Bytes) -> Result<Value, LogsError> {
    let asked: FilterLogEvents = read(body)?;
    if asked.filter_pattern.is_some_and(|pattern| !pattern.trim().is_empty()) {
        return Err(LogsError::invalid("filterPattern is not served by lamu yet."));
    }
    let group = group(asked.log_group_name, asked.log_group_identifier)?;
    let mut names = asked.log_stream_names.unwrap_or_default();
    if names.len() > STREAMS_MAX {
        return Err(LogsError::invalid(format!(
            "logStreamNames takes at most {STREAMS_MAX} names."
        )));
    }
    if let Some(prefix) = asked.log_stream_name_prefix {
        if !names.is_empty() {
            return Err(LogsError::invalid(
                "logStreamNames and logStreamNamePrefix exclude each other.",
            ));
        }
        let streams = logs.streams(&caller.account, &caller.region, &group).await?;
        names = streams.into_iter().map(|s| s.name).filter(|n| n.starts_with(&prefix)).collect();
        if names.is_empty() {
            return Ok(json!({"events": [], "searchedLogStreams": []}));
        }
    }
    let limit = limit(asked.limit, EVENTS_MAX)?;
    let query = LogQuery {
        account: caller.account.clone(),
        region: caller.region.clone(),
        group,
        streams: names,
        from_ms: time(asked.start_time, 0),
        until_ms: time(asked.end_time, u64::MAX),
        after: asked.next_token.as_deref().map(read_place).transpose()?,
        count_max: CHUNK,
    };
    let (found, more) = forward(logs, query, limit).await?;
    let last = found.last().map(|event| (event.time_ms, event.id));
    let next = last.filter(|_| more).map(token);
    let events: Vec<FoundEvent> = found.into_iter().map(found_event).collect();
    Ok(with_next(json!({"events": events, "searchedLogStreams": []}), next))
}

async fn get(logs: &LogsHandle, caller: &Caller, body: &Bytes) -> Result<Value, LogsError> {
    let asked: GetLogEvents = read(body)?;
    let stream = asked.log_stream_name.filter(|name| !name.is_empty());
    let stream = stream.ok_or_else(|| LogsError::invalid("logStreamName is required."))?;
    let limit = limit(asked.limit, EVENTS_MAX)?;
    let query = LogQuery {
        account: caller.account.clone(),
        region: caller.region.clone(),
        group: group(asked.log_group_name, asked.log_group_identifier)?,
        streams: vec![stream],
        from_ms: time(asked.start_time, 0),
        until_ms: time(asked.end_time, u64::MAX),
        after: None,
        count_max: CHUNK,
    };
    // `f/<place>` goes on after an event, `b/<place>` ends before one.
    let given = asked.next_token.as_deref();
    let events = match given.and_then(|given| given.split_once('/')) {
        Some(("f", place)) => {
            let after = read_optional_place(place)?;
            forward(logs, LogQuery { after, ..query }, limit).await?.0
        }
        Some(("b", place)) => {
            let before = read_optional_place(place)?.unwrap_or((u64::MAX, u64::MAX));
            backward(logs, query, before, limit).await?
        }
        _ if given.is_some() => return Err(bad_token()),
        _ if asked.start_from_head.unwrap_or(false) => forward(logs, query, limit).await?.0,
        _ => backward(logs, query, (u64::MAX, u64::MAX), limit).await?,
    };
    let place = |event: &LogEvent| token((event.time_ms, event.id));
    // At either end the service gives back the token it was given.
    let at_end = |kind: &str| match given {
        Some(given) => given.replacen(['f', 'b'], kind, 1),
        None => format!("{kind}/"),
    };
    let next_forward = events.last().map_or_else(|| at_end("f"), |e| format!("f/{}", place(e)));
    let next_backward = events.first().map_or_else(|| at_end("b"), |e| format!("b/{}", place(e)));
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
    Ok(json!({
        "events": shown,
        "nextForwardToken": next_forward,
        "nextBackwardToken": next_backward,
    }))
}

/// The first events from the query's place on, and whether there may be more.
async fn forward(
    logs: &LogsHandle,
    mut query: LogQuery,
    limit: usize,
) -> Result<(Vec<LogEvent>, bool), LogsError> {
    let mut found: Vec<LogEvent> = Vec::new();
    let mut bytes = 0;
    loop {
        query.count_max = CHUNK.min(limit - found.len());
        let asked_for = query.count_max;
        let events = logs.events(query.clone()).await?;
        let last_page = events.len() < asked_for;
        for event in events {
            if !found.is_empty() && bytes + event.message.len() > EVENTS_BYTES_MAX {
                return Ok((found, true));
            }
            bytes += event.message.len();
            query.after = Some((event.time_ms, event.id));
            found.push(event);
        }
        if last_page || found.len() >= limit {
            return Ok((found, !last_page));
        }
    }
}

/// The last events before a place. Walks the stream from its start, because
/// the store reads forward; what is kept is bounded.
async fn backward(
    logs: &LogsHandle,
    mut query: LogQuery,
    before: Place,
    limit: usize,
) -> Result<Vec<LogEvent>, LogsError> {
    let mut found = std::collections::VecDeque::new();
    let mut bytes = 0;
    loop {
        let events = logs.events(query.clone()).await?;
        let last_page = events.len() < query.count_max;
        for event in events {
            if (event.time_ms, event.id) >= before {
                return Ok(found.into());
            }
            bytes += event.message.len();
            query.after = Some((event.time_ms, event.id));
            found.push_back(event);
            while found.len() > limit || (bytes > EVENTS_BYTES_MAX && found.len() > 1) {
                bytes -= found.pop_front().map_or(0, |event| event.message.len());
            }
        }
        if last_page {
            return Ok(found.into());
        }
    }
}

async fn groups(logs: &LogsHandle, caller: &Caller, body: &Bytes) -> Result<Value, LogsError> {
    let asked: DescribeLogGroups = read(body)?;
    let limit = limit(asked.limit, NAMES_MAX)?;
    let prefix = asked.log_group_name_prefix.unwrap_or_default();
    let names = logs.groups(&caller.account, &caller.region, &prefix).await?;
    let pattern = asked.log_group_name_pattern.unwrap_or_default();
    let names = names.into_iter().filter(|name| name.contains(&pattern));
    let (names, next) = page_of_names(names, |name| name, asked.next_token.as_deref(), limit)?;
    let arn = |name: &str| log_arn(caller, &caller.account, name);
    let groups: Vec<Value> = names
        .iter()
        .map(|name| {
            json!({
                "logGroupName": name,
                "arn": format!("{}:*", arn(name)),
                "logGroupArn": arn(name),
                "metricFilterCount": 0,
            })
        })
        .collect();
    Ok(with_next(json!({"logGroups": groups}), next))
}

async fn streams(logs: &LogsHandle, caller: &Caller, body: &Bytes) -> Result<Value, LogsError> {
    let asked: DescribeLogStreams = read(body)?;
    let limit = limit(asked.limit, NAMES_MAX)?;
    let group = group(asked.log_group_name, asked.log_group_identifier)?;
    let by_time = asked.order_by.as_deref() == Some("LastEventTime");
    let prefix = asked.log_stream_name_prefix.unwrap_or_default();
    if by_time && !prefix.is_empty() {
        return Err(LogsError::invalid(
            "Cannot order by LastEventTime with a logStreamNamePrefix.",
        ));
    }
    let mut streams = logs.streams(&caller.account, &caller.region, &group).await?;
    streams.retain(|stream| stream.name.starts_with(&prefix));
    // Descending order is the ascending one of the complement.
    let descending = asked.descending.unwrap_or(false);
    let key = |stream: &lamu_link::LogStream| {
        if by_time {
            let last = if descending { u64::MAX - stream.last_ms } else { stream.last_ms };
            format!("{last:020} {}", stream.name)
        } else {
            stream.name.clone()
        }
    };
    let mut keyed: Vec<(String, lamu_link::LogStream)> =
        streams.into_iter().map(|stream| (key(&stream), stream)).collect();
    keyed.sort_by(|a, b| a.0.cmp(&b.0));
    let after = asked.next_token.as_deref().map(decode_name).transpose()?;
    if descending && !by_time {
        keyed.reverse();
    }
    let past = |key: &str| match &after {
        None => true,
        Some(after) if descending && !by_time => key < after.as_str(),
        Some(after) => key > after.as_str(),
    };
    let mut rest = keyed.into_iter().filter(|(key, _)| past(key));
    let page: Vec<(String, lamu_link::LogStream)> = rest.by_ref().take(limit).collect();
    let next = match (rest.next(), page.last()) {
        (Some(_), Some((key, _))) => Some(URL_SAFE_NO_PAD.encode(key)),
        _ => None,
    };
    let group_arn = log_arn(caller, &caller.account, &group);
    let shown: Vec<Value> = page
        .iter()
        .map(|(_, stream)| {
            json!({
                "logStreamName": stream.name,
                "arn": format!("{group_arn}:log-stream:{}", stream.name),
                "creationTime": stream.first_ms,
                "firstEventTimestamp": stream.first_ms,
                "lastEventTimestamp": stream.last_ms,
                "lastIngestionTime": stream.last_ms,
            })
        })
        .collect();
    Ok(with_next(json!({"logStreams": shown}), next))
}

fn read<T: DeserializeOwned>(body: &Bytes) -> Result<T, LogsError> {
    let body: &[u8] = if body.is_empty() { b"{}" } else { body };
    serde_json::from_slice(body).map_err(|error| LogsError {
        status: 400,
        code: "SerializationException",
        message: error.to_string(),
    })
}

fn group(name: Option<String>, identifier: Option<String>) -> Result<String, LogsError> {
    let given = name.or(identifier).filter(|name| !name.is_empty());
    let given = given.ok_or_else(|| LogsError::invalid("logGroupName is required."))?;
    // An identifier may be an ARN, with or without `:*`.
    match given.strip_prefix("arn:").and_then(|arn| arn.split_once(":log-group:")) {
        Some((_, name)) => Ok(name.strip_suffix(":*").unwrap_or(name).to_owned()),
        None => Ok(given),
    }
}

fn limit(asked: Option<i64>, max: usize) -> Result<usize, LogsError> {
    match asked {
        None => Ok(max),
        Some(asked) => usize::try_from(asked)
            .ok()
            .filter(|asked| (1..=max).contains(asked))
            .ok_or_else(|| LogsError::invalid(format!("limit must be between 1 and {max}."))),
    }
}

fn time(asked: Option<i64>, default: u64) -> u64 {
    asked.map_or(default, |asked| u64::try_from(asked).unwrap_or(0))
}

fn log_arn(caller: &Caller, account: &AccountId, group: &str) -> String {
    format!("arn:aws:logs:{}:{account}:log-group:{group}", caller.region)
}

fn found_event(event: LogEvent) -> FoundEvent {
    FoundEvent {
        event_id: format!("{:020}{:020}", event.time_ms, event.id),
        log_stream_name: event.stream,
        timestamp: event.time_ms,
        message: event.message,
        ingestion_time: event.ingested_ms,
    }
}

fn token((time, id): Place) -> String {
    URL_SAFE_NO_PAD.encode(format!("{time}:{id}"))
}

fn read_place(token: &str) -> Result<Place, LogsError> {
    let text = decode_name(token)?;
    let (time, id) = text.split_once(':').ok_or_else(bad_token)?;
    match (time.parse(), id.parse()) {
        (Ok(time), Ok(id)) => Ok((time, id)),
        _ => Err(bad_token()),
    }
}

fn read_optional_place(token: &str) -> Result<Option<Place>, LogsError> {
    if token.is_empty() { Ok(None) } else { read_place(token).map(Some) }
}

fn decode_name(token: &str) -> Result<String, LogsError> {
    let bytes = URL_SAFE_NO_PAD.decode(token).map_err(|_| bad_token())?;
    String::from_utf8(bytes).map_err(|_| bad_token())
}

fn bad_token() -> LogsError {
    LogsError::invalid("The specified nextToken is invalid.")
}

fn page_of_names<T>(
    items: impl Iterator<Item = T>,
    name: impl Fn(&T) -> &String,
    token: Option<&str>,
    limit: usize,
) -> Result<(Vec<T>, Option<String>), LogsError> {
    let after = token.map(decode_name).transpose()?;
    let mut rest = items.filter(|item| after.as_ref().is_none_or(|after| name(item) > after));
    let page: Vec<T> = rest.by_ref().take(limit).collect();
    let next = match (rest.next(), page.last()) {
        (Some(_), Some(last)) => Some(URL_SAFE_NO_PAD.encode(name(last))),
        _ => None,
    };
    Ok((page, next))
}

fn with_next(mut answer: Value, next: Option<String>) -> Value {
    if let Some(next) = next {
        answer["nextToken"] = json!(next);
    }
    answer
}

#[cfg(test)]
mod tests;

//! PutLogEvents: a caller writes into a stream of its own.

use lamu_link::NewLogEvent;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{Ask, LogsError, check};

const EVENTS_MAX: usize = 10_000;
/// All messages of one request, each with what an event costs beside it.
const BATCH_BYTES_MAX: usize = 1_048_576;
const EVENT_BYTES: usize = 26;
/// Longest message: the service takes 1 MB, the store lines of 256 KiB.
const MESSAGE_BYTES_MAX: usize = lamu_model::LOG_LINE_BYTES_MAX;

const HOUR_MS: u64 = 3_600_000;
const AHEAD_MS_MAX: u64 = 2 * HOUR_MS;
const AGE_MS_MAX: u64 = 14 * 24 * HOUR_MS;
const BATCH_SPAN_MS_MAX: u64 = 24 * HOUR_MS;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct PutLogEvents {
    log_group_name: Option<String>,
    log_stream_name: Option<String>,
    log_events: Option<Vec<InputLogEvent>>,
}

#[derive(Deserialize)]
struct InputLogEvent {
    timestamp: Option<i64>,
    message: Option<String>,
}

pub async fn put(ask: Ask<'_>) -> Result<Value, LogsError> {
    let asked: PutLogEvents = ask.read()?;
    check::all(|check| {
        check.group("logGroupName", asked.log_group_name.as_deref());
        check.stream("logStreamName", asked.log_stream_name.as_deref());
        check.required("logEvents", asked.log_events.as_ref());
        let Some(events) = &asked.log_events else { return };
        check.range("logEvents", i64::try_from(events.len()).ok(), 1, EVENTS_MAX as i64);
        for (at, event) in events.iter().enumerate() {
            let at = at + 1;
            let timestamp = format!("logEvents.{at}.member.timestamp");
            let message = format!("logEvents.{at}.member.message");
            check.required(&timestamp, event.timestamp.as_ref());
            check.range(&timestamp, event.timestamp, 0, i64::MAX);
            check.required(&message, event.message.as_ref());
            check.length(&message, event.message.as_deref().unwrap_or("-"), 1, usize::MAX);
        }
    })?;
    let events = asked.log_events.unwrap_or_default().into_iter().map(|event| NewLogEvent {
        time_ms: event.timestamp.and_then(|time| u64::try_from(time).ok()).unwrap_or(0),
        message: event.message.unwrap_or_default(),
    });
    let events: Vec<NewLogEvent> = events.collect();
    let group = ask.group(asked.log_group_name.unwrap_or_default());
    let retention_days = ask.logs.group(&group).await?.retention_days;
    let kept_ms = retention_days.map_or(u64::MAX, |days| u64::from(days) * 24 * HOUR_MS);
    let Sorted { events, rejected } = sort(events, ask.now_ms, kept_ms)?;
    // Also with nothing left: whether there is such a stream is to be said.
    ask.logs.put(group, asked.log_stream_name.unwrap_or_default(), events).await?;
    // Ignored when it comes back, but old clients want one.
    let mut answer = json!({"nextSequenceToken": format!("{:056}", ask.now_ms)});
    if !rejected.is_empty() {
        answer["rejectedLogEventsInfo"] = rejected.into();
    }
    Ok(answer)
}

#[derive(Debug, PartialEq)]
struct Sorted {
    events: Vec<NewLogEvent>,
    rejected: Map<String, Value>,
}

/// Which events are taken; an error when the batch as a whole is wrong.
fn sort(mut events: Vec<NewLogEvent>, now_ms: u64, kept_ms: u64) -> Result<Sorted, LogsError> {
    let bytes: usize = events.iter().map(|event| event.message.len() + EVENT_BYTES).sum();
    if bytes > BATCH_BYTES_MAX {
        return Err(LogsError::invalid(format!(
            "Upload too large: {bytes} bytes exceeds limit of {BATCH_BYTES_MAX}"
        )));
    }
    if let Some(long) = events.iter().find(|event| event.message.len() > MESSAGE_BYTES_MAX) {
        let bytes = long.message.len() + EVENT_BYTES;
        let most = MESSAGE_BYTES_MAX + EVENT_BYTES;
        return Err(LogsError::invalid(format!(
            "Log event too large: {bytes} bytes exceeds limit of {most}"
        )));
    }
    if !events.is_sorted_by_key(|event| event.time_ms) {
        return Err(LogsError::invalid(
            "Log events in a single PutLogEvents request must be in chronological order.",
        ));
    }
    let before = |time_ms| events.partition_point(|event| event.time_ms < time_ms);
    let too_old = before(now_ms.saturating_sub(AGE_MS_MAX));
    let expired = before(now_ms.saturating_sub(kept_ms));
    let too_new = before(now_ms.saturating_add(AHEAD_MS_MAX).saturating_add(1));
    let mut rejected = Map::new();
    if too_old > 0 {
        rejected.insert("tooOldLogEventEndIndex".to_owned(), too_old.into());
    }
    if expired > 0 {
        rejected.insert("expiredLogEventEndIndex".to_owned(), expired.into());
    }
    if too_new < events.len() {
        rejected.insert("tooNewLogEventStartIndex".to_owned(), too_new.into());
    }
    events.truncate(too_new);
    events.drain(..too_old.max(expired).min(too_new));
    let span = events.first().zip(events.last()).map(|(a, b)| b.time_ms - a.time_ms);
    if span.is_some_and(|span| span > BATCH_SPAN_MS_MAX) {
        return Err(LogsError::invalid(
            "The batch of log events in a single PutLogEvents request cannot span more than 24 \
             hours.",
        ));
    }
    Ok(Sorted { events, rejected })
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW_MS: u64 = 1_800_000_000_000;
    const DAY_MS: u64 = 24 * HOUR_MS;

    fn at(times: &[u64]) -> Vec<NewLogEvent> {
        let event = |time_ms: &u64| NewLogEvent { time_ms: *time_ms, message: "m".into() };
        times.iter().map(event).collect()
    }

    #[test]
    fn events_out_of_their_time_are_told_apart_from_those_taken() {
        let times = [
            NOW_MS - 20 * DAY_MS,
            NOW_MS - 4 * DAY_MS,
            NOW_MS - HOUR_MS,
            NOW_MS,
            NOW_MS + 2 * HOUR_MS,
            NOW_MS + 2 * HOUR_MS + 1,
        ];
        let sorted = sort(at(&times), NOW_MS, 3 * DAY_MS).unwrap();
        assert_eq!(sorted.events, at(&times[2..5]));
        assert_eq!(sorted.rejected["tooOldLogEventEndIndex"], 1);
        assert_eq!(sorted.rejected["expiredLogEventEndIndex"], 2);
        assert_eq!(sorted.rejected["tooNewLogEventStartIndex"], 5);

        let none = sort(at(&[5]), NOW_MS, u64::MAX).unwrap();
        assert!(none.events.is_empty());
        let all = sort(at(&[NOW_MS]), NOW_MS, u64::MAX).unwrap();
        assert!(all.rejected.is_empty());
    }

    #[test]
    fn a_batch_that_is_wrong_as_a_whole_is_refused() {
        let long = |bytes| vec![NewLogEvent { time_ms: NOW_MS, message: "x".repeat(bytes) }];
        let five = (0..5).flat_map(|_| long(250_000)).collect();
        for (events, text) in [
            (at(&[NOW_MS, NOW_MS - 1]), "chronological order"),
            (at(&[NOW_MS - 2 * DAY_MS, NOW_MS]), "24 hours"),
            (long(300_000), "Log event too large: 300026 bytes exceeds limit of 262170"),
            (five, "Upload too large: 1250130 bytes exceeds limit of 1048576"),
        ] {
            let error = sort(events, NOW_MS, u64::MAX).unwrap_err();
            assert!(error.message.contains(text), "{}", error.message);
        }
    }
}

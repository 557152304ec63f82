//! Streams of a group: making, listing and deleting them.

use lamu_link::LogStream;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{Ask, LogsError, NAMES_MAX, check, token, with_next};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct OfStream {
    log_group_name: Option<String>,
    log_stream_name: Option<String>,
}

impl OfStream {
    fn check(&self) -> Result<(), LogsError> {
        check::all(|check| {
            check.group("logGroupName", self.log_group_name.as_deref());
            check.stream("logStreamName", self.log_stream_name.as_deref());
        })
    }
}

pub async fn create(ask: Ask<'_>) -> Result<Value, LogsError> {
    let asked: OfStream = ask.read()?;
    asked.check()?;
    let group = ask.group(asked.log_group_name.unwrap_or_default());
    ask.logs.create_stream(group, asked.log_stream_name.unwrap_or_default()).await?;
    Ok(Value::Null)
}

pub async fn delete(ask: Ask<'_>) -> Result<Value, LogsError> {
    let asked: OfStream = ask.read()?;
    asked.check()?;
    let group = ask.group(asked.log_group_name.unwrap_or_default());
    ask.logs.delete_stream(group, asked.log_stream_name.unwrap_or_default()).await?;
    Ok(Value::Null)
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

pub async fn describe(ask: Ask<'_>) -> Result<Value, LogsError> {
    let asked: DescribeLogStreams = ask.read()?;
    check::all(|check| {
        check.range("limit", asked.limit, 1, NAMES_MAX as i64);
        if let Some(order) = &asked.order_by {
            check.one_of("orderBy", order, &["LogStreamName", "LastEventTime"]);
        }
        if let Some(prefix) = &asked.log_stream_name_prefix {
            check.stream("logStreamNamePrefix", Some(prefix));
        }
    })?;
    let group = ask.named(asked.log_group_name, asked.log_group_identifier)?;
    let order = match asked.order_by.as_deref() {
        Some("LastEventTime") => Order::Time,
        _ => Order::Name,
    };
    let prefix = asked.log_stream_name_prefix.unwrap_or_default();
    if order == Order::Time && !prefix.is_empty() {
        return Err(LogsError::invalid(
            "Cannot order by LastEventTime with a logStreamNamePrefix.",
        ));
    }
    let after = asked.next_token.as_deref().map(token::read_name).transpose()?;
    let group_arn = ask.arn(&group.group);
    let mut streams = ask.logs.streams(group).await?;
    streams.retain(|stream| stream.name.starts_with(&prefix));
    let limit = check::count(asked.limit, NAMES_MAX);
    let descending = asked.descending.unwrap_or(false);
    let (page, next) = page(streams, order, descending, after.as_deref(), limit);
    let shown: Vec<Value> = page
        .iter()
        .map(|stream| {
            let mut shown = json!({
                "logStreamName": stream.name,
                "creationTime": stream.created_ms,
                "arn": format!("{group_arn}:log-stream:{}", stream.name),
                // Zero since the service stopped counting per stream.
                "storedBytes": 0,
            });
            if let Some(events) = stream.events {
                shown["firstEventTimestamp"] = events.first_ms.into();
                shown["lastEventTimestamp"] = events.last_ms.into();
                shown["lastIngestionTime"] = events.ingested_ms.into();
            }
            shown
        })
        .collect();
    Ok(with_next(Map::from_iter([("logStreams".to_owned(), shown.into())]), next))
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Order {
    Name,
    Time,
}

/// The streams after the one that the token names, and the next token.
fn page(
    streams: Vec<LogStream>,
    order: Order,
    descending: bool,
    after: Option<&str>,
    limit: usize,
) -> (Vec<LogStream>, Option<String>) {
    // Unique, because names are, and ordered as text.
    let key = |stream: &LogStream| match order {
        Order::Name => stream.name.clone(),
        Order::Time => {
            let last_ms = stream.events.map_or(0, |events| events.last_ms);
            format!("{last_ms:020} {}", stream.name)
        }
    };
    let mut keyed: Vec<(String, LogStream)> =
        streams.into_iter().map(|stream| (key(&stream), stream)).collect();
    keyed.sort_by(|a, b| a.0.cmp(&b.0));
    if descending {
        keyed.reverse();
    }
    let past = |key: &str| match after {
        None => true,
        Some(after) if descending => key < after,
        Some(after) => key > after,
    };
    let mut rest = keyed.into_iter().filter(|(key, _)| past(key));
    let page: Vec<(String, LogStream)> = rest.by_ref().take(limit).collect();
    let next = match (rest.next(), page.last()) {
        (Some(_), Some((key, _))) => Some(token::name(key)),
        _ => None,
    };
    (page.into_iter().map(|(_, stream)| stream).collect(), next)
}

#[cfg(test)]
mod tests {
    use super::*;
    use lamu_link::LogSpan;

    fn stream(name: &str, last_ms: Option<u64>) -> LogStream {
        let events = last_ms.map(|last_ms| LogSpan { first_ms: 0, last_ms, ingested_ms: last_ms });
        LogStream { name: name.to_owned(), created_ms: 0, events }
    }

    fn walk(order: Order, descending: bool) -> Vec<String> {
        let all = vec![
            stream("a", Some(5)),
            stream("b", Some(9)),
            stream("c", None),
            stream("d", Some(5)),
            stream("e", Some(1_000)),
        ];
        let (mut names, mut after): (Vec<String>, Option<String>) = (Vec::new(), None);
        loop {
            let (page, next) = page(all.clone(), order, descending, after.as_deref(), 2);
            assert!(page.len() <= 2);
            names.extend(page.into_iter().map(|stream| stream.name));
            match next {
                Some(next) => after = Some(token::read_name(&next).unwrap()),
                None => return names,
            }
        }
    }

    #[test]
    fn every_order_pages_through_all_once() {
        assert_eq!(walk(Order::Name, false), ["a", "b", "c", "d", "e"]);
        assert_eq!(walk(Order::Name, true), ["e", "d", "c", "b", "a"]);
        assert_eq!(walk(Order::Time, false), ["c", "a", "d", "b", "e"]);
        assert_eq!(walk(Order::Time, true), ["e", "b", "d", "a", "c"]);
    }
}

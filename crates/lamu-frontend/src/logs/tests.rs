//! The requests of `aws logs` against a small log store.

use lamu_link::{LogError, LogRequest, LogStream};
use lamu_model::Region;
use tokio::sync::mpsc;

use super::*;

const GROUP: &str = "/aws/lambda/f";

fn caller() -> Caller {
    Caller { account: AccountId::new("000000000000"), region: Region::new("us-east-1") }
}

/// A store with one group of `count` events, a second apart, in two streams.
fn store(count: u64) -> LogsHandle {
    let (handle, inbox) = LogsHandle::new();
    tokio::spawn(serve(inbox, count));
    handle
}

async fn serve(mut inbox: mpsc::Receiver<LogRequest>, count: u64) {
    let event = |id: u64| LogEvent {
        id,
        stream: format!("s{}", id % 2),
        time_ms: id * 1_000,
        ingested_ms: id * 1_000 + 1,
        message: format!("line {id}"),
    };
    while let Some(request) = inbox.recv().await {
        match request {
            LogRequest::Groups { prefix, reply, .. } => {
                let names = [GROUP, "/aws/lambda/g"].map(str::to_owned);
                let names = names.into_iter().filter(|name| name.starts_with(&prefix)).collect();
                let _ = reply.send(Ok(names));
            }
            LogRequest::Streams { reply, .. } => {
                let stream =
                    |name: &str, last_ms| LogStream { name: name.to_owned(), first_ms: 0, last_ms };
                let _ = reply.send(Ok(vec![stream("s0", 9), stream("s1", 5)]));
            }
            LogRequest::Events { query, reply } => {
                let found = (query.group == GROUP).then(|| {
                    (0..count)
                        .map(event)
                        .filter(|e| query.streams.is_empty() || query.streams.contains(&e.stream))
                        .filter(|e| (query.from_ms..query.until_ms).contains(&e.time_ms))
                        .filter(|e| query.after.is_none_or(|after| (e.time_ms, e.id) > after))
                        .take(query.count_max)
                        .collect()
                });
                let _ = reply.send(found.ok_or(LogError::NoGroup));
            }
        }
    }
}

async fn ask(store: &LogsHandle, operation: &str, input: Value) -> (u16, Value) {
    let body = Bytes::from(input.to_string());
    let response = answer(store, &caller(), &format!("Logs_20140328.{operation}"), &body).await;
    (response.status().as_u16(), serde_json::from_slice(response.body()).unwrap())
}

fn lines(answer: &Value) -> Vec<String> {
    let events = answer["events"].as_array().unwrap();
    events.iter().map(|event| event["message"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn filtering_pages_through_every_event_once() {
    let store = store(600);
    let mut seen = Vec::new();
    let mut token = Value::Null;
    loop {
        let input = json!({"logGroupName": GROUP, "limit": 256, "nextToken": token});
        let (status, answer) = ask(&store, "FilterLogEvents", input).await;
        assert_eq!(status, 200);
        seen.extend(lines(&answer));
        match answer.get("nextToken") {
            Some(next) => token = next.clone(),
            None => break,
        }
    }
    let expected: Vec<String> = (0..600).map(|id| format!("line {id}")).collect();
    assert_eq!(seen, expected);
}

#[tokio::test]
async fn filtering_keeps_to_times_and_streams() {
    let store = store(10);
    let input = json!({"logGroupName": GROUP, "startTime": 2_000, "endTime": 6_000});
    let (_, answer) = ask(&store, "FilterLogEvents", input).await;
    assert_eq!(lines(&answer), ["line 2", "line 3", "line 4", "line 5"]);
    let input = json!({
        "logGroupIdentifier": format!("arn:aws:logs:us-east-1:000000000000:log-group:{GROUP}:*"),
        "logStreamNamePrefix": "s1",
        "limit": 2,
    });
    let (_, answer) = ask(&store, "FilterLogEvents", input).await;
    assert_eq!(lines(&answer), ["line 1", "line 3"]);
}

#[tokio::test]
async fn what_is_not_served_is_said() {
    let store = store(1);
    for (operation, input, code) in [
        ("FilterLogEvents", json!({"logGroupName": "/no"}), "ResourceNotFoundException"),
        ("FilterLogEvents", json!({}), "InvalidParameterException"),
        (
            "FilterLogEvents",
            json!({"logGroupName": GROUP, "filterPattern": "ERROR"}),
            "InvalidParameterException",
        ),
        (
            "FilterLogEvents",
            json!({"logGroupName": GROUP, "nextToken": "?"}),
            "InvalidParameterException",
        ),
        ("FilterLogEvents", json!({"logGroupName": 1}), "SerializationException"),
        ("PutLogEvents", json!({}), "UnknownOperationException"),
    ] {
        let (status, answer) = ask(&store, operation, input).await;
        assert_eq!((status, answer["__type"].as_str().unwrap()), (400, code));
    }
}

#[tokio::test]
async fn a_stream_reads_forward_and_backward() {
    let store = store(20);
    let base = json!({"logGroupName": GROUP, "logStreamName": "s0", "limit": 4});
    let with = |members: Value| {
        let mut input = base.clone();
        input.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
        input
    };
    let (_, tail) = ask(&store, "GetLogEvents", with(json!({}))).await;
    assert_eq!(lines(&tail), ["line 12", "line 14", "line 16", "line 18"]);
    let back = with(json!({"nextToken": tail["nextBackwardToken"]}));
    let (_, before) = ask(&store, "GetLogEvents", back).await;
    assert_eq!(lines(&before), ["line 4", "line 6", "line 8", "line 10"]);
    let forth = with(json!({"nextToken": before["nextForwardToken"]}));
    let (_, again) = ask(&store, "GetLogEvents", forth).await;
    assert_eq!(lines(&again), lines(&tail));

    let end = with(json!({"nextToken": again["nextForwardToken"]}));
    let (_, nothing) = ask(&store, "GetLogEvents", end).await;
    assert!(lines(&nothing).is_empty());
    assert_eq!(nothing["nextForwardToken"], again["nextForwardToken"], "the end says so");
}

#[tokio::test]
async fn groups_and_streams_are_listed_in_pages() {
    let store = store(1);
    let (_, first) = ask(&store, "DescribeLogGroups", json!({"limit": 1})).await;
    assert_eq!(first["logGroups"][0]["logGroupName"], GROUP);
    let input = json!({"nextToken": first["nextToken"]});
    let (_, second) = ask(&store, "DescribeLogGroups", input).await;
    assert_eq!(second["logGroups"][0]["logGroupName"], "/aws/lambda/g");
    assert!(second.get("nextToken").is_none());

    for (order, descending, expected) in [
        ("LogStreamName", true, "s1"),
        ("LastEventTime", true, "s0"),
        ("LastEventTime", false, "s1"),
    ] {
        let mut input = json!({"logGroupName": GROUP, "orderBy": order, "descending": descending});
        input["limit"] = json!(1);
        let (_, answer) = ask(&store, "DescribeLogStreams", input.clone()).await;
        assert_eq!(answer["logStreams"][0]["logStreamName"], expected, "{order} {descending}");
        input["nextToken"] = answer["nextToken"].clone();
        let (_, rest) = ask(&store, "DescribeLogStreams", input).await;
        assert_ne!(rest["logStreams"][0]["logStreamName"], expected);
        assert_eq!(rest["logStreams"].as_array().unwrap().len(), 1);
    }
}

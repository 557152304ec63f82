//! The requests of `aws logs` against a small log store.

use lamu_link::{LogEnd, LogError, LogEvent, LogPage, LogRequest, StreamChoice};
use lamu_model::{AccountId, Region};
use tokio::sync::mpsc;

use super::*;

const GROUP: &str = "/aws/lambda/f";

fn caller() -> Caller {
    Caller { account: AccountId::new("000000000000"), region: Region::new("us-east-1") }
}

/// A store with one group of `count` events, a second apart, in two streams.
fn store(count: u64) -> LogsHandle {
    store_from(0, count)
}

fn store_from(first: u64, until: u64) -> LogsHandle {
    let (handle, inbox) = LogsHandle::new();
    tokio::spawn(serve(inbox, first, until));
    handle
}

async fn serve(mut inbox: mpsc::Receiver<LogRequest>, first: u64, until: u64) {
    let event = |id: u64| LogEvent {
        id,
        stream: format!("s{}", id % 2),
        time_ms: id * 1_000,
        ingested_ms: id * 1_000 + 1,
        message: format!("line {id}"),
    };
    while let Some(request) = inbox.recv().await {
        let LogRequest::Events { query, reply } = request else { panic!("{request:?}") };
        let place = |e: &LogEvent| (e.time_ms, e.id);
        let of_stream = |e: &LogEvent| match &query.streams {
            StreamChoice::All => true,
            StreamChoice::Named(names) => names.contains(&e.stream),
            StreamChoice::Prefixed(names) => names.iter().any(|n| e.stream.starts_with(n)),
        };
        let mut found: Vec<LogEvent> = (first..until)
            .map(event)
            .filter(of_stream)
            .filter(|e| (query.from_ms..query.until_ms).contains(&e.time_ms))
            .filter(|e| query.after.is_none_or(|after| place(e) > after))
            .filter(|e| query.before.is_none_or(|before| place(e) < before))
            .filter(|e| query.pattern.matches(&e.message))
            .collect();
        let more = found.len() > query.count_max;
        match query.end {
            LogEnd::Oldest => found.truncate(query.count_max),
            LogEnd::Newest => drop(found.drain(..found.len().saturating_sub(query.count_max))),
        }
        let page = LogPage { events: found, more, newest_id: until };
        let known = query.group.group == GROUP;
        let _ = reply.send(if known { Ok(page) } else { Err(LogError::NoGroup) });
    }
}

async fn ask(store: &LogsHandle, operation: &str, input: Value) -> (u16, Value) {
    let target = format!("Logs_20140328.{operation}");
    let response = answer(store, &caller(), &target, &input, 0).await;
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
    let input = json!({"logGroupName": GROUP, "startTime": 2_000, "endTime": 5_000});
    let (_, answer) = ask(&store, "FilterLogEvents", input).await;
    assert_eq!(lines(&answer), ["line 2", "line 3", "line 4", "line 5"], "the end is part");
    let input = json!({"logGroupName": GROUP, "filterPattern": "?2 ?7"});
    let (_, answer) = ask(&store, "FilterLogEvents", input).await;
    assert_eq!(lines(&answer), ["line 2", "line 7"]);
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
            json!({"logGroupName": GROUP, "filterPattern": "a.b"}),
            "InvalidParameterException",
        ),
        (
            "FilterLogEvents",
            json!({"logGroupName": GROUP, "logGroupIdentifier": GROUP}),
            "InvalidParameterException",
        ),
        (
            "FilterLogEvents",
            json!({"logGroupIdentifier": format!("arn:aws:logs:us-east-1:111111111111:log-group:{GROUP}")}),
            "ResourceNotFoundException",
        ),
        (
            "FilterLogEvents",
            json!({"logGroupName": GROUP, "startFromHead": false, "startTime": 5}),
            "InvalidParameterException",
        ),
        (
            "FilterLogEvents",
            json!({"logGroupName": GROUP, "nextToken": "?"}),
            "InvalidParameterException",
        ),
        ("FilterLogEvents", json!({"logGroupName": 1}), "SerializationException"),
        ("GetQueryResults", json!({}), "UnknownOperationException"),
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
    let head = with(json!({"startFromHead": true, "endTime": 2_000}));
    let (_, first) = ask(&store, "GetLogEvents", head).await;
    assert_eq!(lines(&first), ["line 0"], "the end is not part");
}

#[tokio::test]
async fn the_newest_come_first_when_asked_so() {
    // Half of them are this side of the earliest time.
    let store = store_from(1_704_067_190, 1_704_067_210);
    let base = json!({"logGroupName": GROUP, "startFromHead": false, "limit": 6});
    let mut input = base.clone();
    input["startTime"] = json!(1_704_067_200_000_u64);
    let (_, first) = ask(&store, "FilterLogEvents", input.clone()).await;
    assert_eq!(lines(&first)[..2], ["line 1704067209", "line 1704067208"]);
    input["nextToken"] = first["nextToken"].clone();
    let (_, second) = ask(&store, "FilterLogEvents", input).await;
    assert_eq!(lines(&second).len(), 4);
    assert_eq!(lines(&second)[3], "line 1704067200");
    assert!(second.get("nextToken").is_none());
}

#[test]
fn a_request_that_a_check_could_read_otherwise_than_its_operation_is_refused() {
    for body in [
        r#"{"logGroupName": "secret", "x": 1e999}"#,
        r#"["secret"]"#,
        r#""secret""#,
        "null",
        "{} {}",
        "[not json",
    ] {
        let error = input(body.as_bytes()).unwrap_err();
        assert_eq!((error.status, error.code), (400, "SerializationException"), "{body}");
    }
    assert_eq!(input(b"").unwrap(), json!({}));
}

#[tokio::test]
async fn a_group_is_named_by_its_name_or_an_arn_of_the_callers_own() {
    let own = "arn:aws:logs:us-east-1:000000000000:log-group:";
    for (identifier, name) in [
        ("/aws/lambda/f".to_owned(), Some(GROUP)),
        (format!("{own}{GROUP}"), Some(GROUP)),
        (format!("{own}{GROUP}:*"), Some(GROUP)),
        (own.to_owned(), None),
        (format!("arn:x:log-group:{GROUP}"), None),
        (format!("arn:aws:logs:eu-west-1:000000000000:log-group:{GROUP}"), None),
    ] {
        assert_eq!(group_named(&caller(), &identifier), name, "{identifier}");
        let (status, _) =
            ask(&store(1), "FilterLogEvents", json!({"logGroupIdentifier": identifier})).await;
        assert_eq!(status == 200, name.is_some(), "{identifier}");
    }
}

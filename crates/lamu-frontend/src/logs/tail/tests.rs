//! Sessions against a small log store, in paused time.

use std::sync::atomic::{AtomicU64, Ordering};

use http_body_util::BodyExt as _;
use lamu_link::LogRequest;
use lamu_model::{AccountId, Region};

use super::*;

const ARN: &str = "arn:aws:logs:us-east-1:000000000000:log-group:g";

fn caller(account: &str) -> Caller {
    Caller { account: AccountId::new(account), region: Region::new("us-east-1") }
}

/// A store whose group `g` has as many events as the counter says.
fn store(count: Arc<AtomicU64>) -> LogsHandle {
    let (handle, mut inbox) = LogsHandle::new();
    tokio::spawn(async move {
        while let Some(request) = inbox.recv().await {
            let LogRequest::Events { query, reply } = request else { panic!("{request:?}") };
            let newest_id = count.load(Ordering::Relaxed);
            let from = query.newer_than.unwrap().min(newest_id);
            let event = |id| LogEvent {
                id,
                stream: "s".into(),
                time_ms: id,
                ingested_ms: id,
                message: format!("line {id}"),
            };
            let fits = |event: &LogEvent| query.pattern.matches(&event.message);
            let mut events: Vec<_> = (from + 1..=newest_id).map(event).filter(fits).collect();
            let over = events.len().saturating_sub(query.count_max);
            events.drain(..over);
            let known = query.group.group == "g";
            let page = LogPage { events, more: over > 0, newest_id };
            let _ = reply.send(if known { Ok(page) } else { Err(LogError::NoGroup) });
        }
    });
    handle
}

async fn begin(tails: &Tails, logs: &LogsHandle, input: Value) -> Result<Answer, LogsError> {
    let request = RequestId::new("r-1");
    let started = start(tails, logs, &caller("000000000000"), &request, &input, 0).await;
    started.map(Response::into_body)
}

/// The next event: what it is, and its JSON. `None` at the stream's end.
async fn next(answer: &mut Answer) -> Option<(String, Value)> {
    let bytes = answer.frame().await?.unwrap().into_data().unwrap();
    let headers_bytes = u32::from_be_bytes(bytes[4..8].try_into().unwrap()) as usize;
    let headers = String::from_utf8_lossy(&bytes[12..12 + headers_bytes]).into_owned();
    let kinds = ["initial-response", "sessionStart", "sessionUpdate", "SessionTimeoutException"];
    let kind = kinds.iter().find(|kind| headers.contains(**kind)).unwrap();
    let json = &bytes[12 + headers_bytes..bytes.len() - 4];
    Some(((*kind).to_owned(), serde_json::from_slice(json).unwrap()))
}

async fn update(answer: &mut Answer) -> (bool, Vec<String>) {
    let (kind, json) = next(answer).await.unwrap();
    assert_eq!(kind, "sessionUpdate");
    let results = json["sessionResults"].as_array().unwrap();
    let text = |seen: &Value| seen["message"].as_str().unwrap().to_owned();
    (json["sessionMetadata"]["sampled"].as_bool().unwrap(), results.iter().map(text).collect())
}

#[tokio::test(start_paused = true)]
async fn a_session_tells_what_comes_after_its_start() {
    let count = Arc::new(AtomicU64::new(3));
    let (tails, logs) = (Tails::default(), store(count.clone()));
    let asked = json!({"logGroupIdentifiers": [ARN], "logEventFilterPattern": "line"});
    let mut answer = begin(&tails, &logs, asked).await.unwrap();
    assert_eq!(next(&mut answer).await.unwrap(), ("initial-response".into(), json!({})));
    let (kind, said) = next(&mut answer).await.unwrap();
    assert_eq!(kind, "sessionStart");
    assert_eq!(said["logGroupIdentifiers"], json!([ARN]));
    assert_eq!(
        (&said["requestId"], &said["logEventFilterPattern"]),
        (&json!("r-1"), &json!("line"))
    );
    assert!(said.get("logStreamNames").is_none() && said["sessionId"].is_string());

    let begun = Instant::now();
    assert_eq!(update(&mut answer).await, (false, vec![]));
    assert_eq!(begun.elapsed(), UPDATE_EVERY);
    count.store(5, Ordering::Relaxed);
    assert_eq!(update(&mut answer).await, (false, vec!["line 4".into(), "line 5".into()]));
    assert_eq!(update(&mut answer).await, (false, vec![]));
    count.store(1_005, Ordering::Relaxed);
    let (sampled, lines) = update(&mut answer).await;
    assert!(sampled && lines.len() == EVENTS_MAX);
    assert_eq!(update(&mut answer).await, (false, vec![]), "what was left out is not said later");
}

#[tokio::test(start_paused = true)]
async fn sessions_end_after_hours_at_the_drain_and_with_their_client() {
    let (tails, logs) = (Tails::default(), store(Arc::default()));
    let asked = || json!({"logGroupIdentifiers": [ARN]});
    let begun = Instant::now();
    let mut answer = begin(&tails, &logs, asked()).await.unwrap();
    let mut seen = Vec::new();
    while let Some((kind, _)) = next(&mut answer).await {
        seen.push(kind);
    }
    assert_eq!(seen.last().unwrap(), "SessionTimeoutException");
    assert_eq!(begun.elapsed(), SESSION_TIME_MAX);
    assert!(seen.len() > 10_000, "an update a second: {}", seen.len());

    drop(begin(&tails, &logs, asked()).await.unwrap());
    tokio::time::sleep(UPDATE_EVERY).await;
    assert!(tails.open.lock().unwrap().is_empty(), "nothing is left of them");

    let mut answer = begin(&tails, &logs, asked()).await.unwrap();
    tails.close();
    let mut seen = 0;
    while next(&mut answer).await.is_some() {
        seen += 1;
    }
    assert_eq!(seen, 2, "the opening");
}

#[tokio::test(start_paused = true)]
async fn a_client_that_does_not_read_holds_little_and_misses_nothing() {
    let count = Arc::new(AtomicU64::new(0));
    let (tails, logs) = (Tails::default(), store(count.clone()));
    let mut answer = begin(&tails, &logs, json!({"logGroupIdentifiers": [ARN]})).await.unwrap();
    for _ in 0..100 {
        tokio::time::sleep(UPDATE_EVERY).await;
        count.fetch_add(1, Ordering::Relaxed);
    }
    let Answer::Tail(updates) = &answer else { panic!("{answer:?}") };
    assert_eq!(updates.len(), AHEAD_MAX);
    next(&mut answer).await.unwrap();
    next(&mut answer).await.unwrap();
    let mut lines = Vec::new();
    while lines.len() < 100 {
        lines.extend(update(&mut answer).await.1);
    }
    assert_eq!(lines, (1..=100).map(|id| format!("line {id}")).collect::<Vec<_>>());
}

#[tokio::test]
async fn an_account_has_so_many_sessions() {
    let (tails, logs) = (Tails::default(), store(Arc::default()));
    let mut open = Vec::new();
    for _ in 0..SESSIONS_MAX {
        open.push(begin(&tails, &logs, json!({"logGroupIdentifiers": ["g"]})).await.unwrap());
    }
    let refused = begin(&tails, &logs, json!({"logGroupIdentifiers": ["g"]})).await.unwrap_err();
    assert_eq!(refused.code, "LimitExceededException");

    let tails = Tails::default();
    let mut seats = Vec::new();
    for account in 0..SESSIONS_IN_ALL_MAX {
        seats.push(tails.sit(&caller(&format!("{account:012}"))).unwrap());
    }
    assert!(tails.sit(&caller("999999999999")).is_err(), "and all together so many");
    seats.pop();
    assert!(tails.sit(&caller("999999999999")).is_ok());
}

#[tokio::test]
async fn what_cannot_be_followed_is_refused() {
    let (tails, logs) = (Tails::default(), store(Arc::default()));
    let table = [
        (json!({}), "InvalidParameterException", "Member must not be null"),
        (json!({"logGroupIdentifiers": []}), "InvalidParameterException", "or equal to 1"),
        (json!({"logGroupIdentifiers": vec!["g"; 11]}), "InvalidParameterException", "equal to 10"),
        (json!({"logGroupIdentifiers": ["g h"]}), "InvalidParameterException", "pattern"),
        (
            json!({"logGroupIdentifiers": [format!("{ARN}:*")]}),
            "InvalidParameterException",
            "asterisk",
        ),
        (json!({"logGroupIdentifiers": ["other"]}), "ResourceNotFoundException", "not exist"),
        (
            json!({"logGroupIdentifiers": ["arn:aws:logs:us-east-1:111111111111:log-group:g"]}),
            "ResourceNotFoundException",
            "not exist",
        ),
        (
            json!({"logGroupIdentifiers": ["g"], "logStreamNames": ["s"],
                "logStreamNamePrefixes": ["s"]}),
            "InvalidParameterException",
            "mutually exclusive",
        ),
        (
            json!({"logGroupIdentifiers": ["g", "h"], "logStreamNames": ["s"]}),
            "InvalidParameterException",
            "only with one",
        ),
        (
            json!({"logGroupIdentifiers": ["g"], "logEventFilterPattern": "\"open"}),
            "InvalidParameterException",
            "attern",
        ),
        (json!({"logGroupIdentifiers": "g"}), "SerializationException", "sequence"),
    ];
    for (asked, code, text) in table {
        let refused = begin(&tails, &logs, asked.clone()).await.unwrap_err();
        assert_eq!(refused.code, code, "{asked}: {}", refused.message);
        assert!(refused.message.contains(text), "{asked}: {}", refused.message);
    }
    assert!(tails.open.lock().unwrap().is_empty(), "no seat is lost");
}

#[test]
fn a_sample_is_of_everywhere_and_within_its_bytes() {
    let all: Vec<usize> = (0..5_000).collect();
    let chosen = sample(all, |_| 1);
    assert_eq!(chosen.len(), EVENTS_MAX);
    assert!(chosen.windows(2).all(|pair| pair[1] - pair[0] == 10));
    assert_eq!(sample((0..501).collect(), |_: &usize| 1).len(), EVENTS_MAX);
    assert_eq!(sample((0..500).collect(), |_: &usize| 1).len(), 500);
    assert_eq!(sample(vec![BYTES_MAX, 0, 1, 0], |bytes| *bytes), [BYTES_MAX, 0]);
}

//! InvokeWithResponseStream: what the client reads, event by event.

use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpStream;

use crate::clients::Got;
use crate::world::World;

const STREAM: &str = "/2021-11-15/functions/f/response-streaming-invocations";

/// One event: its `:event-type` or `:exception-type`, and the payload.
type Event = (String, Vec<u8>);

/// Reads events as a client of the format would, checksums included.
fn events(mut bytes: &[u8]) -> Vec<Event> {
    let mut all = Vec::new();
    while !bytes.is_empty() {
        let number = |at: usize| u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap());
        let (total, headers) = (number(0) as usize, number(4) as usize);
        assert_eq!(number(8), crc32fast::hash(&bytes[..8]));
        assert_eq!(number(total - 4), crc32fast::hash(&bytes[..total - 4]));
        let mut fields = &bytes[12..12 + headers];
        let mut kind = String::new();
        while let [length, rest @ ..] = fields {
            let (name, rest) = rest.split_at((*length).into());
            assert_eq!(rest[0], 7, "a string");
            let length = u16::from_be_bytes([rest[1], rest[2]]);
            let (value, rest) = rest[3..].split_at(length.into());
            if name == b":event-type" || name == b":exception-type" {
                kind = String::from_utf8(value.to_vec()).unwrap();
            }
            fields = rest;
        }
        all.push((kind, bytes[12 + headers..total - 4].to_vec()));
        bytes = &bytes[total..];
    }
    all
}

/// The chunks, and what InvokeComplete said.
#[track_caller]
fn complete(got: &Got) -> (Vec<String>, Value) {
    let mut all = events(&got.body);
    let (kind, last) = all.pop().expect("an event");
    assert_eq!(kind, "InvokeComplete");
    let chunks = all.into_iter().map(|(kind, payload)| {
        assert_eq!(kind, "PayloadChunk");
        String::from_utf8(payload).unwrap()
    });
    (chunks.collect(), serde_json::from_slice(&last).unwrap())
}

async fn stream(world: &World, headers: &[(&str, &str)], event: Value) -> Got {
    world.client.send("POST", STREAM, headers, event.to_string()).await
}

#[tokio::test]
async fn every_chunk_is_an_event_and_the_last_says_how_it_ended() {
    let world = World::new().await;
    world.function("f").await;
    let got = stream(&world, &[], json!({"do": "stream", "pieces": ["one", "two"]})).await;
    assert_eq!(got.status, 200);
    assert_eq!(got.header("content-type"), Some("application/vnd.amazon.eventstream"));
    assert_eq!(got.header("x-amz-executed-version"), Some("$LATEST"));
    assert_eq!(got.header("transfer-encoding"), Some("chunked"));
    assert!(got.header("x-amzn-requestid").is_some() && got.header("x-amzn-trace-id").is_some());
    assert!(got.header("server-timing").unwrap().contains("first;dur="));
    assert_eq!(complete(&got), (vec!["one".into(), "two".into()], json!({})));
}

#[tokio::test]
async fn a_function_that_does_not_stream_comes_in_chunks_too() {
    let world = World::new().await;
    world.function("f").await;
    let got = stream(&world, &[("x-amz-log-type", "Tail")], json!({"pad": "x".repeat(600_000)}));
    let (chunks, said) = complete(&got.await);
    assert_eq!(chunks.len(), 3);
    let whole: Value = serde_json::from_str(&chunks.concat()).unwrap();
    assert_eq!(whole["event"]["pad"].as_str().unwrap().len(), 600_000);
    assert_eq!(said, json!({"LogResult": "U1RBUlQKRU5EClJFUE9SVAkK"}));
}

#[tokio::test]
async fn failures_are_the_last_event_of_a_success() {
    let world = World::new().await;
    world.function("f").await;
    let pieces = json!(["half"]);
    for (event, chunks, code, details) in [
        (json!({"do": "fail"}), 0, "ValueError", "boom"),
        (json!({"do": "exit"}), 0, "Runtime.ExitError", "exit status 1"),
        (json!({"do": "stream", "pieces": pieces, "then": "fail"}), 1, "ValueError", "boom"),
        (json!({"do": "stream", "pieces": pieces, "then": "exit"}), 1, "Runtime.ExitError", "exit"),
    ] {
        let got = stream(&world, &[], event.clone()).await;
        assert_eq!(got.status, 200);
        assert_eq!(got.header("x-amz-function-error"), None);
        let (got, said) = complete(&got);
        assert_eq!(got.len(), chunks, "{event}");
        assert_eq!(said["ErrorCode"], code);
        let error: Value = serde_json::from_str(said["ErrorDetails"].as_str().unwrap()).unwrap();
        assert!(error["errorMessage"].as_str().unwrap().contains(details), "{said}");
    }
}

#[tokio::test]
async fn a_function_lost_half_way_is_an_exception_and_before_that_an_error() {
    let world = World::new().await;
    world.function("f").await;
    let event = json!({"do": "stream", "pieces": ["half"], "then": "lose"});
    let got = stream(&world, &[], event).await;
    let all = events(&got.body);
    assert_eq!(all[0].0, "PayloadChunk");
    assert_eq!(all[1].0, "ServiceException");
    assert_eq!(all.len(), 2);
    let got = stream(&world, &[], json!({"do": "lose"})).await;
    assert_eq!(got.error().0, 500);
}

#[tokio::test]
async fn what_is_refused_is_refused_as_for_invoke() {
    let world = World::new().await;
    world.function("f").await;
    let none = STREAM.replace("/f/", "/nobody/");
    let got = world.client.send("POST", &none, &[], "{}").await;
    let (status, code, message) = got.error();
    assert_eq!((status, code.as_str()), (404, "ResourceNotFoundException"));
    assert!(message.ends_with(":function:nobody:$LATEST"), "{message}");
    let got = world.client.send("POST", STREAM, &[], "no json").await;
    assert_eq!(got.error().1, "InvalidRequestContentException");
    let large = world.client.send("POST", STREAM, &[], "1".repeat(6_291_457)).await;
    assert_eq!(large.error().1, "RequestTooLargeException");
    let event = [("x-amz-invocation-type", "Event")];
    assert_eq!(stream(&world, &event, json!({})).await.status, 400, "the model has no such type");
    let dry = stream(&world, &[("x-amz-invocation-type", "DryRun")], json!({})).await;
    assert_eq!((dry.status, dry.body.len()), (204, 0));
    assert_eq!(world.fleet.leases.load(Ordering::SeqCst), 0, "nothing ran");
}

#[tokio::test]
async fn an_environment_that_ended_before_its_call_is_replaced() {
    let world = World::new().await;
    world.function("f").await;
    world.fleet.stillborn.store(1, Ordering::SeqCst);
    let got = stream(&world, &[], json!({"do": "stream", "pieces": ["a"]})).await;
    assert_eq!(complete(&got).0, ["a"]);
}

/// The client leaves after the first event; the environment is told and goes
/// on to its end.
#[tokio::test]
async fn a_reader_that_hangs_up_is_noticed() {
    let world = World::new().await;
    world.function("f").await;
    let stream = TcpStream::connect(world.client.address).await.unwrap();
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
    let connection = tokio::spawn(connection);
    let event = json!({"do": "stream", "pieces": ["a"], "then": "wait"}).to_string();
    let request =
        Request::post(STREAM).header("host", "localhost").body(Full::new(Bytes::from(event)));
    let mut response = sender.send_request(request.unwrap()).await.unwrap();
    let first = response.frame().await.unwrap().unwrap().into_data().unwrap();
    assert_eq!(events(&first), [("PayloadChunk".to_owned(), b"a".to_vec())]);
    assert_eq!(world.fleet.returned.load(Ordering::SeqCst), 0, "the function still runs");
    drop((response, sender));
    connection.abort();
    for _ in 0..500 {
        if world.fleet.returned.load(Ordering::SeqCst) == 1 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("the stream was not let go");
}

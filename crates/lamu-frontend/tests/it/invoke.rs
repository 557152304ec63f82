//! The invoke path from request to answer.

use std::sync::atomic::Ordering;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use lamu_link::{AcquireError, BootError, PlaceError};
use lamu_model::Runtime;
use serde_json::{Value, json};

use crate::world::{FUNCTIONS, World};

const ARN: &str = "arn:aws:lambda:us-east-1:000000000000:function:f";
const INVOKE: &str = "/2015-03-31/functions/f/invocations";

#[tokio::test]
async fn a_call_reaches_the_function_and_its_answer_the_caller() {
    let world = World::new().await;
    world.function("f").await;

    let got = world.invoke("f", json!({"k": 1})).await;

    assert_eq!(got.status, 200);
    let about = got.json();
    assert_eq!(about["event"], json!({"k": 1}));
    assert_eq!(about["arn"], ARN);
    assert_eq!(about["request"], got.header("x-amzn-requestid").unwrap());
    assert_eq!(got.header("x-amz-executed-version"), Some("$LATEST"));
    assert_eq!(got.header("content-type"), Some("application/json"));
    assert_eq!(got.header("x-amzn-remapped-content-length"), Some("0"));
    assert_eq!(got.header("x-amz-function-error"), None);
    assert_eq!(got.header("x-amz-log-result"), None);
    let root = got.header("x-amzn-trace-id").unwrap().strip_prefix("root=").unwrap();
    let (root, sampled) = root.split_once(';').unwrap();
    assert_eq!(sampled, "sampled=0");
    assert!(about["trace"].as_str().unwrap().starts_with(&format!("Root={root};Parent=")));
    let timing = got.header("server-timing").unwrap();
    assert!(
        timing.starts_with(
            "placed;dur=0.010, sandbox;dur=1.000, init;dur=20.000, handler;dur=0.300, total;dur="
        ),
        "{timing}"
    );
    let warm = world.invoke("f", json!({})).await;
    let timing = warm.header("server-timing").unwrap();
    assert!(timing.starts_with("handler;dur=0.300, total;dur="), "{timing}");
}

#[tokio::test]
async fn every_form_of_a_name_leads_to_the_function() {
    let world = World::new().await;
    world.function("f").await;
    for name in [
        "function:f",
        "000000000000:function:f",
        ARN,
        &ARN.replace(':', "%3A"),
        &format!("{ARN}:$LATEST"),
        "f:%24LATEST",
    ] {
        assert_eq!(world.invoke(name, json!({})).await.status, 200, "{name}");
    }
    let elsewhere = ARN.replace("us-east-1", "eu-west-1");
    let (status, _, message) = world.invoke(&elsewhere, json!({})).await.error();
    assert_eq!(status, 404);
    assert_eq!(
        message,
        "Functions from 'eu-west-1' are not reachable in this region ('us-east-1')"
    );
}

#[tokio::test]
async fn headers_of_a_call_reach_the_function() {
    let world = World::new().await;
    world.function("f").await;
    let context = STANDARD.encode("{\"custom\":{\"a\":\"b\"}}");
    let trace = "Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=1";
    let headers = [("x-amz-client-context", &*context), ("x-amzn-trace-id", trace)];
    let got = world.client.send("POST", INVOKE, &headers, "").await;
    let about = got.json();
    assert_eq!(about["event"], json!({}), "no event is an empty object");
    assert_eq!(about["context"], "{\"custom\":{\"a\":\"b\"}}");
    let seen = about["trace"].as_str().unwrap();
    assert!(seen.starts_with(&format!("{trace};Lineage=")), "{seen}");
    assert_eq!(
        got.header("x-amzn-trace-id"),
        Some("root=1-5759e988-bd862e3fe1be46a994272793;sampled=1")
    );
    let bad = [("x-amz-client-context", "%%%")];
    let (status, code, _) = world.client.send("POST", INVOKE, &bad, "{}").await.error();
    assert_eq!((status, code.as_str()), (400, "InvalidRequestContentException"));
}

#[tokio::test]
async fn a_failing_function_is_no_failing_platform() {
    let world = World::new().await;
    world.function("f").await;
    let failed = world.invoke("f", json!({"do": "fail"})).await;
    assert_eq!(failed.status, 200);
    assert_eq!(failed.header("x-amz-function-error"), Some("Unhandled"));
    assert_eq!(failed.body, "{\"errorMessage\":\"boom\"}");
    let ended = world.invoke("f", json!({"do": "exit"})).await;
    assert_eq!(ended.header("x-amz-function-error"), Some("Unhandled"));
    assert_eq!(ended.json()["errorType"], "Runtime.ExitError");
    let id = ended.header("x-amzn-requestid").unwrap();
    assert_eq!(
        ended.json()["errorMessage"],
        format!("RequestId: {id} Error: Runtime exited with error: exit status 1")
    );
}

#[tokio::test]
async fn the_tail_of_the_log_comes_along_when_asked_for() {
    let world = World::new().await;
    world.function("f").await;
    let got = world.client.send("POST", INVOKE, &[("x-amz-log-type", "Tail")], "{}").await;
    let tail = STANDARD.decode(got.header("x-amz-log-result").unwrap()).unwrap();
    assert_eq!(tail, b"START\nEND\nREPORT\t\n");
}

#[tokio::test]
async fn a_dry_run_runs_nothing() {
    let world = World::new().await;
    world.function("f").await;
    let dry = [("x-amz-invocation-type", "DryRun")];
    let got = world.client.send("POST", INVOKE, &dry, "{}").await;
    assert_eq!((got.status, got.body.len()), (204, 0));
    assert_eq!(world.fleet.leases.load(Ordering::SeqCst), 0);
    let path = "/2015-03-31/functions/none/invocations";
    let (status, _, message) = world.client.send("POST", path, &dry, "{}").await.error();
    assert_eq!(status, 404);
    assert_eq!(
        message,
        "Function not found: arn:aws:lambda:us-east-1:000000000000:function:none:$LATEST"
    );
}

#[tokio::test]
async fn what_is_refused_is_refused_in_the_order_of_the_service() {
    let world = World::new().await;
    world.function("f").await;
    let none = "/2015-03-31/functions/none/invocations";
    let large = "x".repeat(6_291_457);
    let table: [(&str, &str, &str, u16, &str); 7] = [
        ("/2015-03-31/functions/in%20valid/invocations", "", "?", 400, "ValidationException"),
        (none, "", large.as_str(), 404, "ResourceNotFoundException"),
        (INVOKE, "", large.as_str(), 413, "RequestTooLargeException"),
        (INVOKE, "", "not json", 400, "InvalidRequestContentException"),
        (INVOKE, "Event", "not json", 400, "InvalidRequestContentException"),
        (INVOKE, "Event", "{}", 501, "NotImplementedException"),
        (INVOKE, "Nonsense", "{}", 400, "ValidationException"),
    ];
    for (path, kind, body, status, code) in table {
        let headers: &[(&str, &str)] =
            if kind.is_empty() { &[] } else { &[("x-amz-invocation-type", kind)] };
        let got = world.client.send("POST", path, headers, body.to_owned()).await;
        let (got_status, got_code, message) = got.error();
        assert_eq!((got_status, got_code.as_str()), (status, code), "{path} {kind}: {message}");
    }
    let got = world.client.send("POST", INVOKE, &[], large).await;
    assert_eq!(
        got.json(),
        json!({"Type": "User", "message": "Request must be smaller than 6291456 bytes for the InvokeFunction operation"})
    );
    let tenant = [("x-amz-tenant-id", "t")];
    let (status, code, _) = world.client.send("POST", INVOKE, &tenant, "{}").await.error();
    assert_eq!((status, code.as_str()), (400, "InvalidParameterValueException"));
}

#[tokio::test]
async fn the_largest_event_passes() {
    let world = World::new().await;
    world.function("f").await;
    let event = format!("\"{}\"", "x".repeat(6_291_454));
    let got = world.client.send("POST", INVOKE, &[], event).await;
    assert_eq!(got.status, 200);
    assert_eq!(got.json()["event"].as_str().unwrap().len(), 6_291_454);
}

#[tokio::test]
async fn an_environment_that_ended_before_its_call_is_replaced() {
    let world = World::new().await;
    world.function("f").await;
    world.fleet.stillborn.store(2, Ordering::SeqCst);
    assert_eq!(world.invoke("f", json!({})).await.status, 200);
    assert_eq!(world.fleet.leases.load(Ordering::SeqCst), 3);

    world.fleet.stillborn.store(100, Ordering::SeqCst);
    let (status, code, _) = world.invoke("f", json!({})).await.error();
    assert_eq!((status, code.as_str()), (500, "ServiceException"));
    assert_eq!(world.fleet.leases.load(Ordering::SeqCst), 6, "attempts are bounded");
}

#[tokio::test]
async fn a_call_that_may_have_run_is_not_run_again() {
    let world = World::new().await;
    world.function("f").await;
    let (status, code, _) = world.invoke("f", json!({"do": "lose"})).await.error();
    assert_eq!((status, code.as_str()), (500, "ServiceException"));
    assert_eq!(world.fleet.leases.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn no_environment_is_told_by_its_cause() {
    let world = World::new().await;
    world.function("f").await;
    let runtime =
        BootError::RuntimeMissing { runtime: Runtime::new("python3.12"), advice: "none".into() };
    for (refuse, status, code) in [
        (AcquireError::Place(PlaceError::Full), 429, "TooManyRequestsException"),
        (AcquireError::Boot(runtime), 502, "InvalidRuntimeException"),
        (AcquireError::ManagerGone, 500, "ServiceException"),
    ] {
        *world.fleet.refuse.lock().unwrap() = Some(refuse);
        let got = world.invoke("f", json!({})).await;
        let (got_status, got_code, _) = got.error();
        assert_eq!((got_status, got_code.as_str()), (status, code));
        if status == 429 {
            assert_eq!(got.json()["Reason"], "ConcurrentInvocationLimitExceeded");
        }
    }
}

#[tokio::test]
async fn a_reservation_throttles_at_once_and_a_finished_call_makes_room() {
    let world = World::new().await;
    world.function("f").await;
    let path = "/2017-10-31/functions/f/concurrency";
    let reserve = |count: u32| json!({"ReservedConcurrentExecutions": count});
    world.client.call("PUT", path, reserve(1)).await;
    let client = world.client;
    let hanging =
        tokio::spawn(async move { client.send("POST", INVOKE, &[], "{\"do\":\"hang\"}").await });
    while world.fleet.leases.load(Ordering::SeqCst) == 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }

    let throttled = world.invoke("f", json!({})).await;
    assert_eq!(throttled.status, 429);
    assert_eq!(
        throttled.json(),
        json!({"Reason": "ReservedFunctionConcurrentInvocationLimitExceeded", "Type": "User", "message": "Rate Exceeded."})
    );
    world.fleet.release.send_replace(true);
    assert_eq!(hanging.await.unwrap().status, 200);
    assert_eq!(world.invoke("f", json!({})).await.status, 200);

    world.client.call("PUT", path, reserve(0)).await;
    assert_eq!(world.invoke("f", json!({})).await.status, 429);
    world.client.call("DELETE", path, Value::Null).await;
    assert_eq!(world.invoke("f", json!({})).await.status, 200);
}

#[tokio::test]
async fn a_caller_that_goes_away_stops_nothing_and_leaks_nothing() {
    let world = World::new().await;
    world.function("f").await;
    let client = world.client;
    let gone =
        tokio::spawn(async move { client.send("POST", INVOKE, &[], "{\"do\":\"hang\"}").await });
    while world.fleet.leases.load(Ordering::SeqCst) == 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    gone.abort();
    tokio::time::sleep(Duration::from_millis(20)).await;
    assert_eq!(world.fleet.returned.load(Ordering::SeqCst), 0, "the function still runs");
    world.fleet.release.send_replace(true);
    for _ in 0..500 {
        if world.fleet.returned.load(Ordering::SeqCst) == 1 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("the lease did not come back");
}

#[tokio::test]
async fn draining_lets_calls_end() {
    let world = World::new().await;
    world.function("f").await;
    let (client, fleet) = (world.client, world.fleet.clone());
    let running =
        tokio::spawn(async move { client.send("POST", INVOKE, &[], "{\"do\":\"hang\"}").await });
    while fleet.leases.load(Ordering::SeqCst) == 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let drained = tokio::spawn(world.drain(Duration::from_secs(20)));
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(!drained.is_finished());
    let refused = tokio::net::TcpStream::connect(client.address).await;
    assert!(refused.is_err(), "nothing listens any more");
    fleet.release.send_replace(true);
    assert_eq!(running.await.unwrap().status, 200);
    tokio::time::timeout(Duration::from_secs(10), drained).await.unwrap().unwrap();
}

#[tokio::test]
async fn what_does_not_end_is_cut_when_patience_is_over() {
    let world = World::new().await;
    world.function("f").await;
    let (client, fleet) = (world.client, world.fleet.clone());
    let running = tokio::spawn(async move {
        client.raw(b"POST /2015-03-31/functions/f/invocations HTTP/1.1\r\nhost: localhost\r\ncontent-length: 13\r\n\r\n{\"do\":\"hang\"}").await
    });
    while fleet.leases.load(Ordering::SeqCst) == 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let drain = world.drain(Duration::from_millis(100));
    tokio::time::timeout(Duration::from_secs(10), drain).await.unwrap();
    assert_eq!(running.await.unwrap(), "", "cut without an answer");
}

#[tokio::test]
async fn calls_share_one_connection() {
    let world = World::new().await;
    world.function("f").await;
    let one = format!(
        "POST {FUNCTIONS}/f/invocations HTTP/1.1\r\nhost: localhost\r\ncontent-length: 2\r\n\r\n{{}}"
    );
    let last = one.replace("content-length", "connection: close\r\ncontent-length");
    let answers = world.client.raw((one.repeat(2) + &last).as_bytes()).await;
    assert_eq!(answers.matches("HTTP/1.1 200 OK").count(), 3, "{answers}");
}

#[tokio::test]
async fn an_asynchronous_event_is_checked_and_then_said_not_to_be_served() {
    let world = World::new().await;
    world.function("f").await;
    let path = format!("{FUNCTIONS}/f/invocations");
    let old = "/2014-11-13/functions/f/invoke-async";
    let event = [("x-amz-invocation-type", "Event")];
    let text = |bytes: usize| format!("\"{}\"", "x".repeat(bytes - 2));
    let too_large = |max: usize| {
        format!("Request must be smaller than {max} bytes for the InvokeFunction operation")
    };
    for (path, headers, max) in [(path.as_str(), &event[..], 1_048_576), (old, &[][..], 262_144)] {
        let (status, code, said) =
            world.client.send("POST", path, headers, text(max + 1)).await.error();
        assert_eq!((status, code.as_str()), (413, "RequestTooLargeException"), "{path}");
        assert_eq!(said, too_large(max), "{path}");
        let (status, code, _) = world.client.send("POST", path, headers, "{").await.error();
        assert_eq!((status, code.as_str()), (400, "InvalidRequestContentException"), "{path}");
        let (status, _, said) = world.client.send("POST", path, headers, text(max)).await.error();
        assert_eq!(status, 501, "{path}: {said}");
        assert!(said.contains("does not serve yet"), "{said}");
    }
    let beyond = world.client.send("POST", &path, &event, text(6_291_457)).await.error();
    assert_eq!(beyond.2, too_large(1_048_576), "whatever is beyond");
    assert_eq!(world.fleet.leases.load(std::sync::atomic::Ordering::SeqCst), 0, "nothing ran");
}

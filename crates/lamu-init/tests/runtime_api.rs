//! Every endpoint of the Runtime API, against the real init.

// The harness forks (tests/support).
#![allow(unsafe_code)]

mod support;

use lamu_guest::{FromInit, InitOutcome, ToInit};
use support::{INVOCATION, Init, invoke};

fn transition(from: &str, to: &str) -> String {
    format!(
        r#"{{"errorMessage":"State transition from {from} to {to} failed for runtime. Error: State transition is not allowed","errorType":"InvalidStateTransition"}}"#
    )
}

#[test]
fn an_event_travels_to_the_runtime_and_its_response_back() {
    let mut init = Init::boot();
    let mut http = init.start_scripted().connect();
    http.ask_next();
    init.expect_ready();

    init.send(&ToInit::Invoke(lamu_guest::Invoke {
        trace_id: Some("Root=1-2-3".into()),
        client_context: Some(r#"{"custom":{}}"#.into()),
        cognito_identity: Some(r#"{"cognitoIdentityId":"i"}"#.into()),
        tenant_id: Some("t-1".into()),
        content_type: Some("text/weird".into()),
        ..invoke("r-1", br#"{"a":1}"#)
    }));
    let event = http.answer();
    assert_eq!(event.status, 200);
    assert_eq!(event.body, r#"{"a":1}"#);
    let expected = [
        ("Lambda-Runtime-Aws-Request-Id", "r-1"),
        ("Lambda-Runtime-Deadline-Ms", "1800000000000"),
        ("Lambda-Runtime-Invoked-Function-Arn", "arn:aws:lambda:eu-west-1:000000000000:function:f"),
        ("Lambda-Runtime-Trace-Id", "Root=1-2-3"),
        ("Lambda-Runtime-Client-Context", r#"{"custom":{}}"#),
        ("Lambda-Runtime-Cognito-Identity", r#"{"cognitoIdentityId":"i"}"#),
        ("Lambda-Runtime-Aws-Tenant-Id", "t-1"),
        ("Content-Type", "text/weird"),
    ];
    for (name, value) in expected {
        assert_eq!(event.header(name), Some(value), "{name}");
    }

    let path = format!("{INVOCATION}/r-1/response");
    let accepted = http.call("POST", &path, "Content-Type: application/json\r\n", "[1]");
    assert_eq!((accepted.status, accepted.body.as_str()), (202, r#"{"status":"OK"}"#));
    assert_eq!(
        init.expect(),
        FromInit::Response {
            request_id: "r-1".into(),
            content_type: Some("application/json".into()),
            body: b"[1]".to_vec()
        }
    );
    http.ask_next();
    init.expect_done("r-1");

    // What the invocation did not have is not there for the next one.
    init.invoke("r-2", b"{}");
    let event = http.answer();
    assert_eq!(event.header("Content-Type"), Some("application/json"));
    assert_eq!(event.header("Lambda-Runtime-Client-Context"), None);
    assert_eq!(event.header("Lambda-Runtime-Trace-Id"), None);
}

#[test]
fn an_error_reaches_the_host_untouched_but_for_its_type() {
    let mut init = Init::boot();
    let mut http = init.start_scripted().connect();
    http.ask_next();
    init.expect_ready();
    let types = [("Function.MyError", "Function.MyError"), ("ValueError", "Runtime.Unknown")];
    for (given, recorded) in types {
        init.invoke("r", b"{}");
        http.answer();
        let cause = "x".repeat(65_000);
        let headers = format!(
            "Lambda-Runtime-Function-Error-Type: {given}\r\nLambda-Runtime-Function-XRay-Error-Cause: {cause}\r\n"
        );
        let body = r#"{"errorMessage":"m","extra":[]}"#;
        let answer = http.call("POST", &format!("{INVOCATION}/r/error"), &headers, body);
        assert_eq!((answer.status, answer.body.as_str()), (202, r#"{"status":"OK"}"#));
        assert_eq!(init.expect_failure("r"), (recorded.to_owned(), body.to_owned()));
        http.ask_next();
        init.expect_done("r");
    }
}

#[test]
fn the_cause_of_an_error_is_kept_from_the_caller() {
    let mut init = Init::boot();
    let mut http = init.start_scripted().connect();
    http.ask_next();
    init.expect_ready();
    init.invoke("r-1", b"{}");
    http.answer();
    let headers = "Content-Type: application/vnd.aws.lambda.error.cause+json\r\n";
    let body = r#"{"errorMessage":"m","errorType":"T","stackTrace":[],"errorCause":{"x":1}}"#;
    let answer = http.call("POST", &format!("{INVOCATION}/r-1/error"), headers, body);
    assert_eq!(answer.status, 202);
    let expected = r#"{"errorMessage":"m","errorType":"T","stackTrace":[]}"#;
    assert_eq!(init.expect_failure("r-1").1, expected);
}

#[test]
fn calls_out_of_order_are_refused_and_change_nothing() {
    let mut init = Init::boot();
    let runtime = init.start_scripted();
    let mut http = runtime.connect();
    let mut other = runtime.connect();

    let early = http.respond("r-1", "1");
    assert_eq!((early.status, early.body), (403, transition("Started", "InvocationResponse")));

    http.ask_next();
    init.expect_ready();
    let late = other.call("POST", "/2018-06-01/runtime/init/error", "", "{}");
    assert_eq!((late.status, late.body), (403, transition("Ready", "InitError")));

    init.invoke("r-1", b"{}");
    http.answer();
    let stale = other.respond("r-0", "1");
    let expected = r#"{"errorMessage":"Invalid request ID","errorType":"InvalidRequestID"}"#;
    assert_eq!((stale.status, stale.body.as_str()), (400, expected));

    assert_eq!(http.respond("r-1", "1").status, 202);
    assert_eq!(init.expect_response("r-1"), "1");
    let second = other.respond("r-1", "2");
    let from = "RuntimeResponseSentState";
    assert_eq!((second.status, second.body), (403, transition(from, "InvocationResponse")));

    http.ask_next();
    init.expect_done("r-1");
    let path = format!("{INVOCATION}/r-1/error");
    let after = other.call("POST", &path, "", "{}");
    assert_eq!((after.status, after.body), (403, transition("Ready", "InvocationErrorResponse")));

    init.invoke("r-2", b"{}");
    assert_eq!(http.answer().header("lambda-runtime-aws-request-id"), Some("r-2"));
}

#[test]
fn a_next_repeated_after_a_lost_connection_gets_the_same_event() {
    let mut init = Init::boot();
    let runtime = init.start_scripted();
    let mut lost = runtime.connect();
    lost.ask_next();
    init.expect_ready();
    drop(lost);

    let mut http = runtime.connect();
    http.ask_next();
    init.invoke("r-1", b"[7]");
    assert_eq!(http.answer().body, "[7]");
    let mut again = runtime.connect();
    again.ask_next();
    assert_eq!(again.answer().body, "[7]");
    assert_eq!(again.respond("r-1", "8").status, 202);
    assert_eq!(init.expect_response("r-1"), "8");
}

#[test]
fn an_event_waits_for_a_runtime_that_is_still_initialising() {
    let mut init = Init::boot();
    let runtime = init.start_scripted();
    init.invoke("r-1", b"1");
    let mut http = runtime.connect();
    http.ask_next();
    assert_eq!(http.answer().body, "1");
    init.expect_ready();
    http.respond("r-1", "2");
    assert_eq!(init.expect_response("r-1"), "2");
}

#[test]
fn an_init_error_ends_the_start() {
    let mut init = Init::boot();
    let mut http = init.start_scripted().connect();
    let header = "Lambda-Runtime-Function-Error-Type: Runtime.NoSuchModule\r\n";
    let answer = http.call("POST", "/2018-06-01/runtime/init/error", header, r#"{"x":1}"#);
    assert_eq!(answer.status, 202);
    match init.expect() {
        FromInit::InitDone { outcome: InitOutcome::Reported { error_type, body }, .. } => {
            assert_eq!(error_type, "Runtime.NoSuchModule");
            assert_eq!(body, br#"{"x":1}"#);
        }
        message => panic!("{message:?}"),
    }
    let refused = http.call("GET", &format!("{INVOCATION}/next"), "", "");
    assert_eq!((refused.status, refused.body), (403, transition("InitError", "Ready")));

    // The next invocation begins with a new runtime.
    init.invoke("r-1", b"5");
    let mut http = init.scripted().connect();
    http.ask_next();
    assert_eq!(http.answer().body, "5");
    init.expect_ready();
}

#[test]
fn a_response_too_large_is_refused_and_the_runtime_goes_on() {
    let mut init = Init::boot();
    let mut start = support::shell("echo $$ $AWS_LAMBDA_RUNTIME_API; sleep 1000 & wait");
    start.response_bytes_max = 1000;
    init.send(&ToInit::Start(start));
    let mut http = init.scripted().connect();
    http.ask_next();
    init.expect_ready();
    for headers in ["", "Expect: 100-continue\r\n"] {
        init.invoke("r-1", b"{}");
        http.answer();
        let path = format!("{INVOCATION}/r-1/response");
        let mut answer = http.call("POST", &path, headers, &"x".repeat(1001));
        if answer.status == 100 {
            answer = http.answer();
        }
        assert_eq!(answer.status, 413);
        assert_eq!(
            answer.body,
            r#"{"errorMessage":"Exceeded maximum allowed payload size (1000 bytes).","errorType":"RequestEntityTooLarge"}"#
        );
        assert_eq!(init.expect(), FromInit::TooLarge { request_id: "r-1".into() });
        http.ask_next();
        init.expect_done("r-1");
    }
    init.invoke("r-2", b"{}");
    http.answer();
    let largest = "y".repeat(1000);
    assert_eq!(http.respond("r-2", &largest).status, 202);
    assert_eq!(init.expect_response("r-2"), largest);
}

#[test]
fn the_largest_response_passes() {
    let mut init = Init::boot();
    let mut http = init.start_scripted().connect();
    http.ask_next();
    init.expect_ready();
    let event = vec![b'e'; 6_291_456];
    init.invoke("r-1", &event);
    assert_eq!(http.answer().body.len(), event.len());
    let largest = "y".repeat(6_291_556);
    http.ask("POST", &format!("{INVOCATION}/r-1/response"), "", &largest);
    assert_eq!(init.expect_response("r-1").len(), largest.len());
    assert_eq!(http.answer().status, 202);
}

const STREAMING: &str =
    "Lambda-Runtime-Function-Response-Mode: streaming\r\nTransfer-Encoding: chunked\r\n";

fn stream(http: &mut support::Http, id: &str, wire: &str) {
    let head = format!("POST {INVOCATION}/{id}/response HTTP/1.1\r\nHost: x\r\n{STREAMING}\r\n");
    http.send(head.as_bytes());
    http.send(wire.as_bytes());
}

#[test]
fn a_streamed_response_is_collected() {
    let mut init = Init::boot();
    let mut http = init.start_scripted().connect();
    http.ask_next();
    init.expect_ready();
    init.invoke("r-1", b"{}");
    http.answer();
    stream(&mut http, "r-1", "3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n");
    assert_eq!(http.answer().status, 202);
    assert_eq!(init.expect_response("r-1"), "abcde");

    http.ask_next();
    init.expect_done("r-1");
    init.invoke("r-2", b"{}");
    http.answer();
    let trailers = "Lambda-Runtime-Function-Error-Type: Function.Late\r\n\
                    Lambda-Runtime-Function-Error-Body: eyJhIjoxfQ==\r\n";
    stream(&mut http, "r-2", &format!("3\r\nabc\r\n0\r\n{trailers}\r\n"));
    assert_eq!(http.answer().status, 202);
    let failure = ("Function.Late".to_owned(), r#"{"a":1}"#.to_owned());
    assert_eq!(init.expect_failure("r-2"), failure);
}

#[test]
fn a_streamed_response_cut_off_is_a_failure() {
    let mut init = Init::boot();
    let runtime = init.start_scripted();
    let mut http = runtime.connect();
    http.ask_next();
    init.expect_ready();
    init.invoke("r-1", b"{}");
    http.answer();
    stream(&mut http, "r-1", "3\r\nabc\r\n");
    drop(http);
    assert_eq!(init.expect_failure("r-1").0, "Runtime.TruncatedResponse");
    runtime.connect().ask_next();
    init.expect_done("r-1");
}

#[test]
fn an_unknown_response_mode_is_refused_and_may_be_corrected() {
    let mut init = Init::boot();
    let mut http = init.start_scripted().connect();
    http.ask_next();
    init.expect_ready();
    init.invoke("r-1", b"{}");
    http.answer();
    let mode = "Lambda-Runtime-Function-Response-Mode: fast\r\n";
    let answer = http.call("POST", &format!("{INVOCATION}/r-1/response"), mode, "1");
    assert_eq!(answer.status, 400);
    assert!(answer.body.contains("InvalidFunctionResponseMode"), "{}", answer.body);
    assert_eq!(http.respond("r-1", "2").status, 202);
    assert_eq!(init.expect_response("r-1"), "2");
}

#[test]
fn a_truncated_response_may_be_sent_again() {
    let mut init = Init::boot();
    let runtime = init.start_scripted();
    let mut http = runtime.connect();
    http.ask_next();
    init.expect_ready();
    init.invoke("r-1", b"{}");
    http.answer();
    let head = format!("POST {INVOCATION}/r-1/response HTTP/1.1\r\nContent-Length: 10\r\n\r\nabc");
    http.send(head.as_bytes());
    http.stream.shutdown(std::net::Shutdown::Write).unwrap();
    let answer = http.answer();
    assert_eq!(answer.status, 400);
    assert_eq!(
        answer.body,
        r#"{"errorMessage":"HTTP request detected as truncated","errorType":"TruncatedHTTPRequest"}"#
    );
    assert_eq!(runtime.connect().respond("r-1", "whole").status, 202);
    assert_eq!(init.expect_response("r-1"), "whole");
}

#[test]
fn what_is_not_offered_says_so() {
    let mut init = Init::boot();
    let mut http = init.start_scripted().connect();
    let ping = http.call("GET", "/2018-06-01/ping", "", "");
    assert_eq!((ping.status, ping.body.as_str()), (200, "pong"));
    let table = [
        ("GET", "/2018-06-01/runtime/restore/next", 403, transition("Started", "Ready")),
        (
            "POST",
            "/2018-06-01/runtime/restore/error",
            403,
            transition("Started", "RuntimeRestoreErrorState"),
        ),
        ("DELETE", "/2018-06-01/runtime/invocation/next", 405, String::new()),
        ("GET", "/nowhere", 404, "404 page not found".into()),
    ];
    for (method, path, status, text) in table {
        let answer = http.call(method, path, "", "{}");
        assert_eq!(answer.status, status, "{method} {path}");
        assert!(answer.body.contains(&text), "{method} {path}: {}", answer.body);
    }
    http.ask_next();
    init.expect_ready();
}

//! The Telemetry and Logs APIs: who may subscribe, and what reaches a
//! subscriber when. The test plays extension and listener.

// The harness forks (tests/support).
#![allow(unsafe_code)]

mod support;

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};

use lamu_guest::{FromInit, ShutdownReason, TelemetryApi, TelemetryTypes, ToInit};
use support::{Answer, Http, Init, PATIENCE, Scripted, TempDir, executable, shell};

/// Says a line at a signal, and many at another.
const TALKS: &str = "trap 'echo \"{\\\"level\\\":\\\"INFO\\\"}\"' USR1; \
    trap 'head -c 900000 /dev/zero | tr \"\\0\" x | fold -w 1000; echo; echo over' USR2; \
    trap 'exit 0' TERM; \
    echo $$ $AWS_LAMBDA_RUNTIME_API; while :; do sleep 1000 & wait; done";
const EXTENSION: &str = "#!/bin/sh\ntrap 'echo from the agent' USR1\n\
    echo $$ $AWS_LAMBDA_RUNTIME_API\nwhile :; do sleep 1000 & wait; done\n";

/// An environment in Init: one extension registered, the runtime started.
struct Stage {
    init: Init,
    agent: Scripted,
    id: String,
    runtime: Scripted,
    _directory: TempDir,
}

impl Stage {
    fn new(format: &str) -> Stage {
        let directory = TempDir::new(&[("agent", EXTENSION)]);
        executable(&directory.path("agent"));
        let mut init = Init::boot_with(&directory.0);
        let mut start = shell(TALKS);
        start.env.push(("AWS_LAMBDA_LOG_FORMAT".into(), format.into()));
        init.send(&ToInit::Start(start));
        let agent = init.scripted();
        let headers = "Lambda-Extension-Name: agent\r\n";
        let body = "{\"events\":[\"INVOKE\",\"SHUTDOWN\"]}";
        let answer = agent.connect().call("POST", "/2020-01-01/extension/register", headers, body);
        let id = answer.header("Lambda-Extension-Identifier").expect("an id").to_owned();
        let runtime = init.scripted();
        Stage { init, agent, id, runtime, _directory: directory }
    }

    fn subscribe(&self, path: &str, body: &str) -> Answer {
        let headers = format!("Lambda-Extension-Identifier: {}\r\n", self.id);
        self.agent.connect().call("PUT", path, &headers, body)
    }

    fn listen_http(&mut self, types: &str, timeout_ms: u32, port: u16) {
        let body = body("2022-12-13", types, timeout_ms, &http(port));
        let answer = self.subscribe("/2022-07-01/telemetry", &body);
        assert_eq!((answer.status, answer.body.as_str()), (200, "\"OK\""));
        let subscribed = self.init.expect();
        assert!(matches!(subscribed, FromInit::Subscribed { api: TelemetryApi::Telemetry, .. }));
    }

    /// Runtime and extension ask for their next event.
    fn ready(&mut self) -> (Http, Http) {
        let mut agent = self.agent.connect();
        let headers = format!("Lambda-Extension-Identifier: {}\r\n", self.id);
        agent.ask("GET", "/2020-01-01/extension/event/next", &headers, "");
        let mut runtime = self.runtime.connect();
        runtime.ask_next();
        while !matches!(self.init.expect(), FromInit::InitDone { .. }) {}
        (agent, runtime)
    }

    fn tell(&mut self, api: TelemetryApi, json: &str) {
        self.init.send(&ToInit::Event { api, json: json.to_owned() });
    }
}

fn http(port: u16) -> String {
    format!("{{\"protocol\":\"HTTP\",\"URI\":\"http://sandbox.localdomain:{port}/sink\"}}")
}

fn body(version: &str, types: &str, timeout_ms: u32, destination: &str) -> String {
    format!(
        "{{\"schemaVersion\":\"{version}\",\"types\":[{types}],\
         \"buffering\":{{\"timeoutMs\":{timeout_ms}}},\"destination\":{destination}}}"
    )
}

fn listener() -> (TcpListener, u16) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    (listener, port)
}

/// The next batch, not answered yet: its connection and body.
fn request(listener: &TcpListener) -> (TcpStream, String) {
    let (mut stream, _) = listener.accept().unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut input = Vec::new();
    let mut piece = [0; 65536];
    loop {
        let text = String::from_utf8_lossy(&input).into_owned();
        if let Some((head, rest)) = text.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: "));
            if rest.len() == length.unwrap().parse::<usize>().unwrap() {
                assert!(head.starts_with("POST /sink HTTP/1.1\r\n"), "{head}");
                assert!(head.contains("\r\nContent-Type: application/json"), "{head}");
                return (stream, rest.to_owned());
            }
        }
        let count = stream.read(&mut piece).unwrap();
        assert!(count > 0, "the batch ended early: {text}");
        input.extend_from_slice(&piece[..count]);
    }
}

fn answer(mut stream: TcpStream, status: &str) {
    let text = format!("HTTP/1.1 {status}\r\nContent-Length: 2\r\n\r\nok");
    stream.write_all(text.as_bytes()).unwrap();
}

/// Batches until one has `text`; all of them joined.
fn batches_until(listener: &TcpListener, text: &str) -> String {
    let mut all = String::new();
    while !all.contains(text) {
        let (stream, body) = request(listener);
        assert!(body.starts_with('[') && body.ends_with(']'), "{body}");
        all.push_str(&body);
        answer(stream, "200 OK");
    }
    all
}

#[test]
fn a_subscriber_hears_of_all_it_asked_for_also_of_what_was_before() {
    let mut stage = Stage::new("JSON");
    stage.tell(TelemetryApi::Telemetry, r#"{"type":"platform.initStart"}"#);
    stage.init.expect_quiet(&stage.runtime);
    let (listener, port) = listener();
    stage.listen_http("\"platform\",\"function\",\"extension\"", 25, port);
    let first = batches_until(&listener, "platform.initStart");
    assert!(first.contains("\"type\":\"extension\",\"record\":\""), "its own first line: {first}");
    stage.ready();
    stage.runtime.signal(libc::SIGUSR1);
    let event = batches_until(&listener, "\"type\":\"function\"");
    assert!(event.contains("\"record\":{\"level\":\"INFO\"}}"), "{event}");
    stage.agent.signal(libc::SIGUSR1);
    batches_until(&listener, "\"type\":\"extension\",\"record\":\"from the agent\"");
    stage.tell(TelemetryApi::Logs, r#"{"type":"platform.end"}"#);
    stage.tell(TelemetryApi::Telemetry, r#"{"type":"platform.report"}"#);
    let last = batches_until(&listener, "platform.report");
    assert!(!last.contains("platform.end"), "that is the other API's: {last}");
}

#[test]
fn what_was_not_asked_for_stays_away_and_lines_are_text() {
    let mut stage = Stage::new("Text");
    let (listener, port) = listener();
    stage.listen_http("\"function\"", 25, port);
    stage.ready();
    stage.tell(TelemetryApi::Telemetry, r#"{"type":"platform.start"}"#);
    stage.agent.signal(libc::SIGUSR1);
    assert_eq!(stage.init.expect_log(), "from the agent");
    stage.runtime.signal(libc::SIGUSR1);
    let events = batches_until(&listener, "level");
    assert!(events.contains(r#""record":"{\"level\":\"INFO\"}"}"#), "{events}");
    assert!(!events.contains("platform") && !events.contains("extension"), "{events}");
}

#[test]
fn the_logs_api_delivers_lines_over_tcp() {
    let mut stage = Stage::new("Text");
    let (listener, port) = listener();
    let destination = format!("{{\"protocol\":\"TCP\",\"port\":{port}}}");
    let body = body("2020-08-15", "\"platform\",\"function\"", 25, &destination);
    assert_eq!(stage.subscribe("/2020-08-15/logs", &body).status, 200);
    let types = TelemetryTypes { platform: true, function: true, extension: false };
    let name = "agent".to_owned();
    let expected = FromInit::Subscribed { api: TelemetryApi::Logs, name, types };
    assert_eq!(stage.init.expect(), expected);
    let (mut stream, _) = listener.accept().unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stage.ready();
    stage.tell(TelemetryApi::Logs, r#"{"type":"platform.start"}"#);
    stage.tell(TelemetryApi::Logs, r#"{"type":"platform.runtimeDone"}"#);
    stage.tell(TelemetryApi::Telemetry, r#"{"type":"platform.report"}"#);
    stage.tell(TelemetryApi::Logs, r#"{"type":"platform.end"}"#);
    let mut text = String::new();
    let mut piece = [0; 4096];
    while !text.contains("platform.end\"}\n") {
        let count = stream.read(&mut piece).unwrap();
        text.push_str(std::str::from_utf8(&piece[..count]).unwrap());
    }
    let lines: Vec<&str> = text.lines().filter(|line| line.contains("platform")).collect();
    assert_eq!(lines, [r#"{"type":"platform.start"}"#, r#"{"type":"platform.end"}"#]);
}

#[test]
fn a_subscription_is_refused_with_reasons_or_when_it_is_late() {
    let mut stage = Stage::new("Text");
    let good = body("2022-12-13", "\"function\"", 25, &http(9));
    let empty = body(
        "2022-12-13",
        "",
        25,
        "{\"protocol\":\"HTTP\",\"URI\":\"http://sandbox.localdomain\"}",
    );
    let answer = stage.subscribe("/2022-07-01/telemetry", &empty);
    assert_eq!(answer.status, 400);
    assert_eq!(
        answer.body,
        r#"{"errorMessage":"types should not be empty; URI port is not provided","errorType":"ValidationError"}"#
    );
    let nobody = body("2022-12-13", "\"function\"", 25, "{\"protocol\":\"TCP\",\"port\":9}");
    let answer = stage.subscribe("/2022-07-01/telemetry", &nobody);
    assert_eq!(answer.status, 400);
    assert!(answer.body.contains("Invalid destination"), "{}", answer.body);
    let mut nameless = stage.agent.connect();
    let answer = nameless.call("PUT", "/2022-07-01/telemetry", "", &good);
    assert!(answer.body.contains("Extension.MissingExtensionIdentifier"), "{}", answer.body);

    for _ in 0..8 {
        assert_eq!(stage.subscribe("/2022-07-01/telemetry/", &good).status, 200);
        assert!(matches!(stage.init.expect(), FromInit::Subscribed { .. }));
    }
    let ninth = stage.subscribe("/2022-07-01/telemetry", &good);
    assert!(ninth.body.contains("Telemetry.SubscriptionClosed"), "{}", ninth.body);
    let both = body("2021-03-18", "\"function\"", 25, &http(9));
    let answer = stage.subscribe("/2020-08-15/logs", &both);
    assert_eq!(answer.status, 400);
    assert!(answer.body.contains("subscribed to the Telemetry API already"), "{}", answer.body);

    stage.ready();
    let late = stage.subscribe("/2022-07-01/telemetry", &good);
    assert_eq!(late.status, 403);
    assert_eq!(
        late.body,
        r#"{"errorMessage":"Telemetry API subscription is closed","errorType":"Telemetry.SubscriptionClosed"}"#
    );
}

#[test]
fn a_subscriber_that_fails_gets_the_batch_again() {
    let mut stage = Stage::new("Text");
    let (listener, port) = listener();
    stage.listen_http("\"platform\"", 25, port);
    stage.ready();
    stage.tell(TelemetryApi::Telemetry, r#"{"type":"platform.start"}"#);
    let (stream, first) = request(&listener);
    drop(stream);
    let (stream, second) = request(&listener);
    answer(stream, "500 Internal Server Error");
    let (stream, third) = request(&listener);
    answer(stream, "202 Accepted");
    assert_eq!((&second, &third), (&first, &first));
    stage.tell(TelemetryApi::Telemetry, r#"{"type":"platform.report"}"#);
    let (_stream, fourth) = request(&listener);
    assert_eq!(fourth, r#"[{"type":"platform.report"}]"#);
}

#[test]
fn a_slow_subscriber_loses_records_and_hears_how_many() {
    let mut stage = Stage::new("Text");
    let (listener, port) = listener();
    stage.listen_http("\"platform\",\"function\"", 25, port);
    stage.ready();
    stage.runtime.signal(libc::SIGUSR1);
    let (slow, _) = request(&listener);
    // More than a batch that is gathered may hold, while one is under way.
    stage.runtime.signal(libc::SIGUSR2);
    while stage.init.expect_log() != "over" {}
    answer(slow, "200 OK");
    let (stream, full) = request(&listener);
    assert!((200_000..300_000).contains(&full.len()), "{}", full.len());
    answer(stream, "200 OK");
    stage.runtime.signal(libc::SIGUSR1);
    let told = batches_until(&listener, "level");
    assert!(told.contains("\"type\":\"platform.logsDropped\""), "{told}");
    assert!(told.contains("\"droppedRecords\":"), "{told}");
}

#[test]
fn what_an_earlier_subscription_held_is_counted_as_lost() {
    let mut stage = Stage::new("Text");
    let (listener, port) = listener();
    stage.listen_http("\"platform\"", 30_000, port);
    for _ in 0..3 {
        stage.tell(TelemetryApi::Telemetry, r#"{"type":"platform.extension"}"#);
    }
    stage.init.expect_quiet(&stage.runtime);
    stage.listen_http("\"platform\"", 25, port);
    stage.tell(TelemetryApi::Telemetry, r#"{"type":"platform.start"}"#);
    let told = batches_until(&listener, "platform.start");
    assert!(told.contains("\"type\":\"platform.logsDropped\""), "{told}");
    assert!(told.contains("\"droppedRecords\":3"), "{told}");
}

#[test]
fn shutdown_hands_over_what_was_gathered_before_it_is_told() {
    let mut stage = Stage::new("Text");
    let (listener, port) = listener();
    stage.listen_http("\"platform\"", 30_000, port);
    let (mut agent, _runtime) = stage.ready();
    stage.tell(TelemetryApi::Telemetry, r#"{"type":"platform.report"}"#);
    stage.init.expect_quiet(&stage.runtime);
    stage.init.send(&ToInit::Shutdown(ShutdownReason::Spindown));
    let (stream, body) = request(&listener);
    assert_eq!(body, r#"[{"type":"platform.report"}]"#);
    answer(stream, "200 OK");
    assert!(agent.answer().body.contains("SHUTDOWN"));
    stage.agent.signal(libc::SIGKILL);
    assert!(stage.init.try_receive().is_none());
}

#[test]
fn a_listener_that_never_accepts_holds_nobody_up() {
    let mut stage = Stage::new("Text");
    let (listener, port) = listener();
    stage.listen_http("\"platform\",\"function\"", 25, port);
    let (mut agent, mut runtime) = stage.ready();
    stage.runtime.signal(libc::SIGUSR2);
    stage.init.invoke("r-1", b"1");
    assert!(agent.answer().body.contains("INVOKE"));
    assert_eq!(runtime.answer().body, "1");
    runtime.respond("r-1", "2");
    assert_eq!(stage.init.expect_response("r-1"), "2");
    drop(listener);
}

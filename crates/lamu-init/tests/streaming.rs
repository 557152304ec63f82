//! Streamed responses through the real init, for a host that takes them as
//! they come; the test is the host and, over raw sockets, the runtime.

// The harness forks (tests/support).
#![allow(unsafe_code)]

mod support;

use std::io::Write;

use lamu_guest::{
    Exit, FromInit, Invoke, STREAM_CHUNK_BYTES_MAX, STREAM_WINDOW_BYTES, StreamEnd, ToInit,
};
use support::{Http, INVOCATION, Init, PATIENCE, Scripted, invoke};

const STREAMING: &str = "Lambda-Runtime-Function-Response-Mode: streaming\r\n";
const CHUNKED: &str = "Transfer-Encoding: chunked\r\n";

/// An init with a runtime that has the event `r-1`, whose caller takes up to
/// so many bytes.
fn running(stream_bytes_max: u64) -> (Init, Scripted, Http) {
    let mut init = Init::boot();
    let runtime = init.start_scripted();
    let mut http = runtime.connect();
    http.ask_next();
    init.expect_ready();
    init.send(&ToInit::Invoke(streamed("r-1", stream_bytes_max)));
    assert_eq!(http.answer().status, 200);
    (init, runtime, http)
}

fn streamed(id: &str, stream_bytes_max: u64) -> Invoke {
    Invoke { stream_bytes_max: Some(stream_bytes_max), ..invoke(id, b"{}") }
}

fn begin(http: &mut Http, id: &str, headers: &str) {
    let head =
        format!("POST {INVOCATION}/{id}/response HTTP/1.1\r\nHost: x\r\n{STREAMING}{headers}\r\n");
    http.send(head.as_bytes());
}

fn chunk(bytes: &[u8]) -> Vec<u8> {
    let mut wire = format!("{:x}\r\n", bytes.len()).into_bytes();
    wire.extend_from_slice(bytes);
    wire.extend_from_slice(b"\r\n");
    wire
}

fn expect_begin(init: &mut Init, id: &str, content_type: Option<&str>) {
    let content_type = content_type.map(str::to_owned);
    assert_eq!(init.expect(), FromInit::StreamBegin { request_id: id.into(), content_type });
}

fn expect_piece(init: &mut Init) -> Vec<u8> {
    match init.expect() {
        FromInit::StreamChunk { bytes } => {
            assert!((1..=STREAM_CHUNK_BYTES_MAX).contains(&bytes.len()), "{}", bytes.len());
            bytes
        }
        message => panic!("expected a piece, got {message:?}"),
    }
}

/// Pieces until there are this many bytes.
fn expect_bytes(init: &mut Init, count: usize) -> Vec<u8> {
    let mut all = Vec::new();
    while all.len() < count {
        all.extend(expect_piece(init));
    }
    assert_eq!(all.len(), count, "the window was left");
    all
}

fn expect_end(init: &mut Init, end: StreamEnd) {
    assert_eq!(init.expect(), FromInit::StreamEnd(end));
}

/// Bytes that tell where they belong.
fn pattern(count: usize) -> Vec<u8> {
    (0..count).map(|at| (at / 251 + at) as u8).collect()
}

#[test]
fn every_piece_goes_on_before_the_next_is_there() {
    let (mut init, _runtime, mut http) = running(1 << 20);
    begin(&mut http, "r-1", &format!("Content-Type: text/x\r\n{CHUNKED}"));
    expect_begin(&mut init, "r-1", Some("text/x"));
    for piece in ["one", "two", "three"] {
        http.send(&chunk(piece.as_bytes()));
        assert_eq!(expect_piece(&mut init), piece.as_bytes());
    }
    http.send(b"0\r\n\r\n");
    expect_end(&mut init, StreamEnd::Complete);
    assert_eq!(http.answer().status, 202);
    http.ask_next();
    init.expect_done("r-1");
}

#[test]
fn a_stream_of_known_length_is_one_too() {
    let (mut init, _runtime, mut http) = running(1 << 20);
    begin(&mut http, "r-1", "Content-Length: 6\r\n");
    expect_begin(&mut init, "r-1", None);
    http.send(b"abc");
    assert_eq!(expect_piece(&mut init), b"abc");
    http.send(b"def");
    assert_eq!(expect_piece(&mut init), b"def");
    expect_end(&mut init, StreamEnd::Complete);
    assert_eq!(http.answer().status, 202);
}

#[test]
fn a_host_that_takes_nothing_stops_the_runtime_and_nothing_else() {
    let (mut init, runtime, mut http) = running(1 << 30);
    let all = pattern(24 << 20);
    begin(&mut http, "r-1", CHUNKED);
    let mut writer = http.stream.try_clone().unwrap();
    let wire: Vec<u8> = all.chunks(100_000).flat_map(chunk).chain(*b"0\r\n\r\n").collect();
    let writing = std::thread::spawn(move || writer.write_all(&wire));

    expect_begin(&mut init, "r-1", None);
    let mut taken = expect_bytes(&mut init, STREAM_WINDOW_BYTES);
    // What comes now is not of the stream: the window is used up, and another
    // connection is served all the same.
    let ping = runtime.connect().call("GET", "/2018-06-01/ping", "", "");
    assert_eq!(ping.body, "pong");
    init.channel.as_ref().unwrap().set_nonblocking(true).unwrap();
    let mut byte = [0];
    let more = std::io::Read::read(init.channel.as_mut().unwrap(), &mut byte);
    assert_eq!(more.unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
    init.channel.as_ref().unwrap().set_nonblocking(false).unwrap();
    assert!(!writing.is_finished(), "the runtime waits");

    let before = resident_kib(&init);
    while taken.len() < all.len() {
        // Odd on purpose: pieces end where the credit does.
        let bytes = (all.len() - taken.len()).min(70_001);
        init.send(&ToInit::Credit { bytes: bytes as u32 });
        taken.extend(expect_bytes(&mut init, bytes));
    }
    assert!(taken == all, "the bytes are those that were sent");
    expect_end(&mut init, StreamEnd::Complete);
    writing.join().unwrap().unwrap();
    assert_eq!(http.answer().status, 202);
    let grown = resident_kib(&init).saturating_sub(before);
    assert!(grown < 1024, "init grew by {grown} KiB over 24 MiB");
}

fn resident_kib(init: &Init) -> u64 {
    let path = format!("/proc/{}/status", init.child.id());
    let status = std::fs::read_to_string(path).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[test]
fn an_error_half_way_follows_what_came_before() {
    let (mut init, _runtime, mut http) = running(1 << 20);
    begin(&mut http, "r-1", CHUNKED);
    http.send(&chunk(b"half"));
    http.send(
        b"0\r\nLambda-Runtime-Function-Error-Type: Function.Late\r\n\
          Lambda-Runtime-Function-Error-Body: eyJhIjoxfQ==\r\n\r\n",
    );
    expect_begin(&mut init, "r-1", None);
    assert_eq!(expect_piece(&mut init), b"half");
    let (error_type, body) = ("Function.Late".to_owned(), br#"{"a":1}"#.to_vec());
    expect_end(&mut init, StreamEnd::Failed { error_type, body });
    assert_eq!(http.answer().status, 202);
    let again = http.call("POST", &format!("{INVOCATION}/r-1/error"), "", "{}");
    assert_eq!(again.status, 403, "the stream was the report");
    http.ask_next();
    init.expect_done("r-1");
}

#[test]
fn a_stream_cut_off_is_truncated() {
    for broken in [false, true] {
        let (mut init, runtime, mut http) = running(1 << 20);
        begin(&mut http, "r-1", CHUNKED);
        http.send(&chunk(b"half"));
        if broken {
            http.send(b"no chunk\r\n");
        }
        expect_begin(&mut init, "r-1", None);
        assert_eq!(expect_piece(&mut init), b"half");
        drop(http);
        match init.expect() {
            FromInit::StreamEnd(StreamEnd::Failed { error_type, .. }) => {
                assert_eq!(error_type, "Runtime.TruncatedResponse");
            }
            message => panic!("{message:?}"),
        }
        runtime.connect().ask_next();
        init.expect_done("r-1");
    }
}

#[test]
fn a_stream_that_ends_while_its_reader_sleeps_is_whole() {
    let (mut init, _runtime, mut http) = running(1 << 20);
    let all = pattern(STREAM_WINDOW_BYTES + 50_000);
    begin(&mut http, "r-1", &format!("Content-Length: {}\r\n", all.len()));
    http.send(&all);
    http.stream.shutdown(std::net::Shutdown::Write).unwrap();
    expect_begin(&mut init, "r-1", None);
    let mut taken = expect_bytes(&mut init, STREAM_WINDOW_BYTES);
    init.send(&ToInit::Credit { bytes: 50_000 });
    taken.extend(expect_bytes(&mut init, 50_000));
    assert!(taken == all);
    expect_end(&mut init, StreamEnd::Complete);
    assert_eq!(http.answer().status, 202);
}

#[test]
fn a_stream_longer_than_allowed_is_cut_and_the_runtime_goes_on() {
    let (mut init, _runtime, mut http) = running(10);
    begin(&mut http, "r-1", CHUNKED);
    for piece in ["01234567", "89abc", "more"] {
        http.send(&chunk(piece.as_bytes()));
    }
    http.send(b"0\r\n\r\n");
    expect_begin(&mut init, "r-1", None);
    assert_eq!(expect_bytes(&mut init, 10), b"0123456789");
    expect_end(&mut init, StreamEnd::TooLarge);
    let answer = http.answer();
    assert_eq!(answer.status, 413);
    assert!(answer.body.contains("maximum allowed payload size (10 bytes)"), "{}", answer.body);
    http.ask_next();
    init.expect_done("r-1");
}

#[test]
fn a_runtime_that_does_not_stream_answers_as_ever() {
    let (mut init, _runtime, mut http) = running(1 << 20);
    assert_eq!(http.respond("r-1", "whole").status, 202);
    assert_eq!(init.expect_response("r-1"), "whole");
    http.ask_next();
    init.expect_done("r-1");
    init.send(&ToInit::Invoke(streamed("r-2", 1 << 20)));
    http.answer();
    let path = format!("{INVOCATION}/r-2/error");
    let kind = "Lambda-Runtime-Function-Error-Type: Function.Bad\r\n";
    assert_eq!(http.call("POST", &path, kind, "{}").status, 202);
    assert_eq!(init.expect_failure("r-2"), ("Function.Bad".to_owned(), "{}".to_owned()));
}

#[test]
fn a_reset_ends_a_stream_and_its_credit_does_not_count_for_the_next() {
    let (mut init, _runtime, mut http) = running(1 << 20);
    begin(&mut http, "r-1", CHUNKED);
    http.send(&chunk(b"half"));
    expect_begin(&mut init, "r-1", None);
    assert_eq!(expect_piece(&mut init), b"half");
    init.reset();
    init.send(&ToInit::Credit { bytes: 1 << 20 });
    init.send(&ToInit::Invoke(streamed("r-2", 1 << 20)));
    let mut http = init.scripted().connect();
    http.ask_next();
    init.expect_ready();
    assert_eq!(http.answer().header("Lambda-Runtime-Aws-Request-Id"), Some("r-2"));
    begin(&mut http, "r-2", CHUNKED);
    expect_begin(&mut init, "r-2", None);
    http.send(&chunk(b"x"));
    assert_eq!(expect_piece(&mut init), b"x");
    http.send(b"0\r\n\r\n");
    expect_end(&mut init, StreamEnd::Complete);
}

#[test]
fn a_runtime_that_ends_half_way_is_an_exit() {
    let (mut init, runtime, mut http) = running(1 << 20);
    begin(&mut http, "r-1", CHUNKED);
    http.send(&chunk(b"half"));
    expect_begin(&mut init, "r-1", None);
    assert_eq!(expect_piece(&mut init), b"half");
    // The connection is the test's own, so it outlives the runtime.
    runtime.signal(libc::SIGKILL);
    assert_eq!(init.expect(), FromInit::Exited(Exit::Signal(9)));
    drop(http);
    init.reset();
    assert!(init.hang_up().is_some_and(|status| status.success()), "within {PATIENCE:?}");
}

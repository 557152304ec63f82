//! Whatever is sent to the Runtime API, init answers it and lives, and others
//! are served meanwhile.

// The harness forks (tests/support).
#![allow(unsafe_code)]

mod support;

use std::io::Write;

use support::{INVOCATION, Init, Scripted};

/// Init still serves a whole invocation.
fn assert_well(init: &mut Init, runtime: &Scripted) {
    let mut http = runtime.connect();
    http.ask_next();
    init.expect_ready();
    init.invoke("r-1", b"1");
    assert_eq!(http.answer().body, "1");
    assert_eq!(http.respond("r-1", "2").status, 202);
    assert_eq!(init.expect_response("r-1"), "2");
    http.ask_next();
    init.expect_done("r-1");
}

#[test]
fn garbage_is_answered_with_400() {
    let mut init = Init::boot();
    let runtime = init.start_scripted();
    let garbage: [&[u8]; 8] = [
        b"\r\n\r\n\x00\x01\x02\r\n\r\n",
        b"GET\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET / HTTP/1.1\r\nno colon\r\n\r\n",
        b"GET / HTTP/1.1\r\nContent-Length: -5\r\n\r\n",
        b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\nabc",
        b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"\xff\xfe\xfd\xfc\r\n\r\n",
    ];
    for bytes in garbage {
        let mut http = runtime.connect();
        http.send(bytes);
        let answer = http.answer();
        assert!((400..=505).contains(&answer.status), "{bytes:?}: {answer:?}");
        assert!(http.ended(), "{bytes:?}");
    }
    assert_well(&mut init, &runtime);
}

#[test]
fn an_endless_head_is_refused() {
    let mut init = Init::boot();
    let runtime = init.start_scripted();
    let mut http = runtime.connect();
    http.send(b"GET / HTTP/1.1\r\nX: ");
    // Init may stop reading before all of it is out.
    let _ = http.stream.write_all(&vec![b'a'; 2 << 20]);
    assert_eq!(http.answer().status, 431);
    assert_well(&mut init, &runtime);
}

#[test]
fn an_endless_chunked_body_is_skipped_not_kept() {
    let mut init = Init::boot();
    let runtime = init.start_scripted();
    let mut http = runtime.connect();
    http.send(b"POST /2018-06-01/runtime/init/oops HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n");
    let chunk = [b"100000\r\n".to_vec(), vec![b'x'; 1 << 20], b"\r\n".to_vec()].concat();
    for _ in 0..40 {
        http.send(&chunk);
    }
    let statm = std::fs::read_to_string(format!("/proc/{}/statm", init.child.id())).unwrap();
    let resident: u64 = statm.split(' ').nth(1).unwrap().parse().unwrap();
    assert!(resident * 4096 < 24 << 20, "{resident} pages resident");
    http.send(b"0\r\n\r\n");
    assert_eq!(http.answer().status, 404);
    assert_well(&mut init, &runtime);
}

#[test]
fn slow_clients_do_not_hold_up_others() {
    let mut init = Init::boot();
    let runtime = init.start_scripted();
    let mut slow = runtime.connect();
    let head = format!("POST {INVOCATION}/r-1/response HTTP/1.1\r\nContent-Length: 5\r\n\r\n");
    let (first, rest) = head.as_bytes().split_at(20);
    slow.send(first);
    let mut stuck = runtime.connect();
    stuck.send(b"POST /nowhere HTTP/1.1\r\nContent-Length: 1000000\r\n\r\nabc");
    assert_well(&mut init, &runtime);

    let mut http = runtime.connect();
    http.ask_next();
    init.invoke("r-1", b"2");
    assert_eq!(http.answer().body, "2");
    slow.send(rest);
    for byte in b"hello" {
        slow.send(&[*byte]);
    }
    assert_eq!(slow.answer().status, 202);
    assert_eq!(init.expect_response("r-1"), "hello");
}

#[test]
fn requests_sent_together_are_answered_in_order() {
    let mut init = Init::boot();
    let runtime = init.start_scripted();
    let mut http = runtime.connect();
    let ping = "GET /2018-06-01/ping HTTP/1.1\r\n\r\n";
    let next = format!("GET {INVOCATION}/next HTTP/1.1\r\n\r\n");
    let response = format!("POST {INVOCATION}/r-1/response HTTP/1.1\r\nContent-Length: 1\r\n\r\n7");
    http.send(format!("{ping}{ping}{next}{response}{next}{ping}").as_bytes());
    assert_eq!(http.answer().body, "pong");
    assert_eq!(http.answer().body, "pong");
    init.expect_ready();
    init.invoke("r-1", b"1");
    assert_eq!(http.answer().body, "1");
    assert_eq!(http.answer().status, 202);
    assert_eq!(init.expect_response("r-1"), "7");
    init.expect_done("r-1");
    init.invoke("r-2", b"2");
    assert_eq!(http.answer().body, "2");
    assert_eq!(http.answer().body, "pong");
}

#[test]
fn a_client_that_reads_nothing_is_not_served_without_end() {
    let mut init = Init::boot();
    let runtime = init.start_scripted();
    let mut deaf = runtime.connect();
    deaf.stream.set_write_timeout(Some(std::time::Duration::from_millis(300))).unwrap();
    let pings = "GET /2018-06-01/ping HTTP/1.1\r\n\r\n".repeat(10_000);
    let mut sent = 0;
    while sent < 200 && deaf.stream.write_all(pings.as_bytes()).is_ok() {
        sent += 1;
    }
    assert!(sent < 200, "init swallowed everything");
    assert_well(&mut init, &runtime);
}

#[test]
fn connections_beyond_the_bound_push_out_idle_ones() {
    let mut init = Init::boot();
    let runtime = init.start_scripted();
    let mut idle: Vec<_> = (0..80).map(|_| runtime.connect()).collect();
    // The last ones are served, the oldest were closed for them.
    let newest = idle.last_mut().unwrap();
    assert_eq!(newest.call("GET", "/2018-06-01/ping", "", "").body, "pong");
    assert!(idle[0].ended());
    let descriptors = std::fs::read_dir(format!("/proc/{}/fd", init.child.id()));
    if let Ok(descriptors) = descriptors {
        assert!(descriptors.count() < 90);
    }
    assert_well(&mut init, &runtime);
}

#[test]
fn connections_closed_anywhere_do_no_harm() {
    let mut init = Init::boot();
    let runtime = init.start_scripted();
    let request = format!(
        "POST {INVOCATION}/r-1/response HTTP/1.1\r\nContent-Type: a\r\nContent-Length: 4\r\n\r\nabcd"
    );
    for cut in 0..request.len() {
        let mut http = runtime.connect();
        http.send(&request.as_bytes()[..cut]);
    }
    let mut parked: Vec<_> = (0..10).map(|_| runtime.connect()).collect();
    for http in &mut parked {
        http.ask_next();
    }
    init.expect_ready();
    drop(parked);
    let mut http = runtime.connect();
    http.ask_next();
    init.invoke("r-1", b"1");
    assert_eq!(http.answer().body, "1");
    assert_eq!(http.respond("r-1", "2").status, 202);
    assert_eq!(init.expect_response("r-1"), "2");
}

#[test]
fn expect_continue_is_answered_before_the_body() {
    let mut init = Init::boot();
    let runtime = init.start_scripted();
    let mut http = runtime.connect();
    http.ask_next();
    init.expect_ready();
    init.invoke("r-1", b"1");
    http.answer();
    let head = format!(
        "POST {INVOCATION}/r-1/response HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n"
    );
    http.send(head.as_bytes());
    assert_eq!(http.answer().status, 100);
    http.send(b"ok");
    assert_eq!(http.answer().status, 202);
    assert_eq!(init.expect_response("r-1"), "ok");
}

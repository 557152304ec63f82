//! Requests that are wrong in every way a request can be: generated from the
//! service model (`py/model.py`), and broken below HTTP. The scenarios are in
//! `py/bad_input.py`.

mod support;

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use support::Lamu;

scenarios!("bad_input":
    missing_members,
    texts_that_are_too_long,
    texts_that_are_too_short,
    texts_of_another_form,
    words_that_are_none_of_the_enum,
    numbers_out_of_range,
    lists_and_maps_of_the_wrong_size,
    items_and_keys_that_break_their_own_rules,
    json_of_the_wrong_type,
    numbers_in_paths_and_queries_that_are_none,
    unknown_and_null_members_are_as_if_absent,
    bodies_that_are_no_json_objects,
    of_a_member_given_twice_the_last_counts,
    bodies_beyond_every_limit,
    names_in_all_their_forms,
    of_updates_at_once_with_a_revision_exactly_one_wins,
    of_conflicting_changes_at_once_exactly_one_wins,
);

const CREATE: &str = "POST /2015-03-31/functions HTTP/1.1\r\nHost: 127.0.0.1\r\n";

#[test]
fn framing_that_is_wrong_ends_its_connection_and_no_other() {
    let lamu = Lamu::start();
    let chunked = format!("{CREATE}Transfer-Encoding: chunked\r\n\r\n");
    let long = format!("{CREATE}Content-Length: 10\r\nConnection: close\r\n\r\n{{}}");
    for (what, request) in [
        ("a chunk's length is no number", format!("{chunked}zz\r\n{{}}\r\n0\r\n\r\n")),
        ("a chunk's length overflows", format!("{chunked}ffffffffffffffffff\r\n{{}}\r\n")),
        ("a negative chunk", format!("{chunked}-2\r\n{{}}\r\n0\r\n\r\n")),
        ("a chunk longer than said", format!("{chunked}1\r\n{{}}\r\n0\r\n\r\n")),
        ("a length that is no number", format!("{CREATE}Content-Length: x\r\n\r\n{{}}")),
        ("a negative length", format!("{CREATE}Content-Length: -2\r\n\r\n{{}}")),
        (
            "a length beyond all numbers",
            format!("{CREATE}Content-Length: {}\r\n\r\n", "9".repeat(40)),
        ),
        ("two lengths", format!("{CREATE}Content-Length: 2\r\nContent-Length: 3\r\n\r\n{{}}")),
        ("a length in hex", format!("{CREATE}Content-Length: 0x2\r\n\r\n{{}}")),
    ] {
        let answer = lamu.raw(request.as_bytes());
        assert!(answer.starts_with("HTTP/1.1 400"), "{what}: {answer}");
        assert!(healthy(&lamu), "after {what}");
    }
    // More was promised than comes: half a body is never taken for a whole.
    let mut stream = connect(&lamu, Duration::from_secs(30));
    stream.write_all(long.as_bytes()).unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    let answer = all(&mut stream);
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 400"), "{answer}");
    assert!(!answer.contains("validation error"), "{answer}");
    // Less was promised: what is over is the next request, and not one.
    let short = format!("{CREATE}Content-Length: 2\r\n\r\n{{}}, \"more\"\r\n\r\n");
    let answer = lamu.raw(short.as_bytes());
    assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
    assert_eq!(answer.matches("HTTP/1.1").count(), 2, "{answer}");
    assert!(healthy(&lamu));
    lamu.stop();
}

#[test]
fn a_length_with_a_coding_beside_it_smuggles_nothing() {
    let lamu = Lamu::start();
    // By the length the second request is body, by the coding it is a request.
    let both = format!(
        "{CREATE}Content-Length: 200\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n\
         DELETE /2015-03-31/functions/f HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
    );
    let answer = lamu.raw(both.as_bytes());
    assert_eq!(
        answer.matches("HTTP/1.1 4").count(),
        answer.matches("HTTP/1.1").count(),
        "{answer}"
    );
    assert!(!answer.contains("Function not found"), "the body was taken for a request: {answer}");
    assert!(healthy(&lamu));
    lamu.stop();
}

#[test]
fn bodies_that_do_not_come_are_given_up_and_hold_up_nobody() {
    let lamu = Lamu::start();
    // One stops at once, one in the middle, one in its chunks; large ones take
    // their share of the memory for bodies.
    let begun = [
        format!("{CREATE}Content-Length: 100\r\n\r\n"),
        format!("{CREATE}Content-Length: 100\r\n\r\n{{\"FunctionName\":"),
        format!("{CREATE}Transfer-Encoding: chunked\r\n\r\n5\r\n{{\"Fun"),
        format!("{CREATE}Content-Length: 70000000\r\n\r\n{{\"FunctionName\":"),
    ];
    let mut waiting: Vec<TcpStream> = begun
        .iter()
        .map(|head| {
            let mut stream = connect(&lamu, Duration::from_secs(120));
            stream.write_all(head.as_bytes()).unwrap();
            stream
        })
        .collect();
    assert!(healthy(&lamu));
    let large = format!(
        "{CREATE}Connection: close\r\nContent-Length: 1000000\r\n\r\n{}",
        " ".repeat(1_000_000)
    );
    let answer = lamu.raw(large.as_bytes());
    assert!(answer.contains("validation errors detected"), "others are served: {answer}");
    for (head, stream) in begun.iter().zip(&mut waiting) {
        let answer = all(stream);
        assert!(answer.starts_with("HTTP/1.1 408"), "{head}: {answer}");
        assert!(answer.contains("did not arrive in time"), "{head}: {answer}");
    }
    lamu.stop();
}

fn connect(lamu: &Lamu, patience: Duration) -> TcpStream {
    let stream = TcpStream::connect(lamu.address()).unwrap();
    stream.set_read_timeout(Some(patience)).unwrap();
    stream
}

/// Everything until the other side closes.
fn all(stream: &mut TcpStream) -> String {
    let mut answer = Vec::new();
    // A reset after the answer is as good as a close.
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).into_owned()
}

fn healthy(lamu: &Lamu) -> bool {
    let request = b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n";
    lamu.raw(request).starts_with("HTTP/1.1 200")
}

//! What strangers send: broken framing, wrong lengths, endless and slow
//! requests. Others do not notice.

use std::time::Duration;

use serde_json::json;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use crate::world::World;

const POST: &str = "POST /2015-03-31/functions/f/invocations HTTP/1.1\r\nhost: localhost\r\n";

#[tokio::test]
async fn broken_requests_are_refused_and_others_do_not_notice() {
    let world = World::new().await;
    world.function("f").await;
    let huge = format!("GET / HTTP/1.1\r\nhost: localhost\r\nx: {}\r\n\r\n", "x".repeat(200_000));
    let many = format!("GET / HTTP/1.1\r\nhost: localhost\r\n{}\r\n", "x: y\r\n".repeat(200));
    let long = format!("GET /{} HTTP/1.1\r\nhost: localhost\r\n\r\n", "x".repeat(200_000));
    for (what, bytes, status) in [
        ("no HTTP", "hello\r\n\r\n".to_owned(), "400"),
        ("huge header", huge, "431"),
        ("many headers", many, "431"),
        ("long path", long, "4"),
        ("bad chunk", format!("{POST}transfer-encoding: chunked\r\n\r\nZZ\r\n{{}}\r\n"), "400"),
        ("bad length", format!("{POST}content-length: x\r\n\r\n{{}}"), "400"),
        ("two lengths", format!("{POST}content-length: 2\r\ncontent-length: 3\r\n\r\n{{}}"), "400"),
        ("negative length", format!("{POST}content-length: -2\r\n\r\n{{}}"), "400"),
    ] {
        let read = world.client.raw(bytes.as_bytes());
        let answer = tokio::time::timeout(Duration::from_secs(20), read).await;
        let answer = answer.unwrap_or_else(|_| panic!("{what} hangs"));
        let expected = format!("HTTP/1.1 {status}");
        assert!(answer.starts_with(&expected) || answer.is_empty(), "{what}: {answer}");
        assert_eq!(world.invoke("f", json!({})).await.status, 200, "after {what}");
    }
}

#[tokio::test]
async fn a_length_beyond_every_limit_is_answered_and_not_waited_for() {
    let world = World::new().await;
    world.function("f").await;
    for (path, length) in [("/f/invocations", "6291457"), ("", "70167212")] {
        // Nothing of the body is sent.
        let head = format!(
            "POST /2015-03-31/functions{path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n"
        );
        let read = world.client.raw(head.as_bytes());
        let answer = tokio::time::timeout(Duration::from_secs(20), read).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 413"), "{path}: {answer}");
        assert!(answer.contains("Request must be smaller than "), "{answer}");
    }
}

#[tokio::test]
async fn a_body_cut_short_ends_its_connection_only() {
    let world = World::new().await;
    world.function("f").await;
    let mut stream = TcpStream::connect(world.client.address).await.unwrap();
    let head = format!("{POST}content-length: 100\r\n\r\n{{");
    stream.write_all(head.as_bytes()).await.unwrap();
    drop(stream);
    assert_eq!(world.invoke("f", json!({})).await.status, 200);
}

#[tokio::test]
async fn a_head_that_does_not_end_is_given_up() {
    let world =
        World::with(|config| config.bounds.head_wait_max = Duration::from_millis(200)).await;
    let read = world.client.raw(b"POST / HTTP/1.1\r\nhost: local");
    let answer = tokio::time::timeout(Duration::from_secs(10), read).await.unwrap();
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 408"), "{answer}");
}

#[tokio::test]
async fn more_connections_than_allowed_wait_for_a_place() {
    let world = World::with(|config| config.bounds.connections_max = 2).await;
    let idle = [
        TcpStream::connect(world.client.address).await.unwrap(),
        TcpStream::connect(world.client.address).await.unwrap(),
    ];
    tokio::time::sleep(Duration::from_millis(50)).await;
    let client = world.client;
    let waiting = tokio::spawn(async move { client.get("/healthz").await.status });
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(!waiting.is_finished());
    drop(idle);
    assert_eq!(waiting.await.unwrap(), 200);
}

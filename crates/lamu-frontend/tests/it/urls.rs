//! Function URLs that stream, where it matters what is there at once.

use std::sync::atomic::Ordering;

use serde_json::{Value, json};

use crate::world::World;

/// A world whose function `f` streams through the URL of this path.
async fn world() -> (World, String) {
    let world = World::new().await;
    world.function("f").await;
    let input = json!({"AuthType": "NONE", "InvokeMode": "RESPONSE_STREAM"});
    let made = world.client.call("POST", "/2021-10-31/functions/f/url", input).await;
    assert_eq!(made.status, 201, "{:?}", made.body);
    let url = made.json()["FunctionUrl"].as_str().unwrap().to_owned();
    let id = url.split("//").nth(1).and_then(|host| host.split('.').next()).unwrap();
    (world, format!("/lambda-url/{id}/"))
}

/// Everything that comes back on a connection of its own.
async fn raw(world: &World, path: &str, order: Value) -> String {
    let order = order.to_string();
    let head = format!("POST {path} HTTP/1.1\r\nHost: {}\r\n", world.client.address);
    let kind = "Content-Type: application/json\r\nConnection: close\r\n";
    let request = format!("{head}{kind}Content-Length: {}\r\n\r\n{order}", order.len());
    world.client.raw(request.as_bytes()).await
}

#[tokio::test]
async fn what_was_written_leaves_before_the_failure_is_told() {
    let (world, path) = world().await;
    for then in ["fail", "exit", "lose"] {
        let order = json!({"do": "stream", "pieces": ["half"], "then": then});
        let answer = raw(&world, &path, order).await;
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{then}: {answer:?}");
        assert!(answer.contains("\r\ncontent-type: text/x\r\n"), "{then}: {answer:?}");
        assert!(answer.ends_with("\r\n4\r\nhalf\r\n"), "no last chunk after {then}: {answer:?}");
        let order = json!({"do": "stream", "pieces": [], "then": then});
        let answer = raw(&world, &path, order).await;
        assert!(answer.starts_with("HTTP/1.1 502 "), "{then}: {answer:?}");
        assert!(answer.ends_with("\r\n\r\nInternal Server Error"), "{then}: {answer:?}");
    }
    let answer = raw(&world, &path, json!({"do": "stream", "pieces": ["a", "b"]})).await;
    assert!(answer.ends_with("\r\n\r\n1\r\na\r\n1\r\nb\r\n0\r\n\r\n"), "{answer:?}");
}

#[tokio::test]
async fn what_did_not_stream_is_sent_as_it_is_and_its_failures_tell_nothing() {
    let (world, path) = world().await;
    let answer = raw(&world, &path, json!({"k": "v"})).await;
    assert!(answer.contains("\r\ncontent-type: application/json\r\n"), "{answer:?}");
    assert!(answer.contains("\"event\":{\"k\":\"v\"}"), "{answer:?}");
    for (does, status) in [("fail", "502"), ("exit", "502"), ("lose", "500")] {
        let answer = raw(&world, &path, json!({"do": does})).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{does}: {answer:?}");
        assert!(answer.contains("Internal Server Error") && !answer.contains("boom"), "{answer:?}");
    }
    world.fleet.stillborn.store(1, Ordering::SeqCst);
    let answer = raw(&world, &path, json!({"do": "stream", "pieces": ["a"]})).await;
    assert!(answer.ends_with("1\r\na\r\n0\r\n\r\n"), "another environment served it: {answer:?}");
}

//! What a kill at any moment leaves is found and finished.

use std::time::Duration;

use lamu_store::Expect;
use serde_json::{Value, json};

use crate::world::{FUNCTIONS, World};

#[tokio::test]
async fn functions_versions_and_aliases_are_there_after_a_kill() {
    let world = World::new().await;
    world.create_with("f", json!({"Publish": true})).await;
    world.settled("f").await;
    let alias = json!({"Name": "prod", "FunctionVersion": "1"});
    let alias = world.client.call("POST", &format!("{FUNCTIONS}/f/aliases"), alias).await.json();
    let before = world.client.get(&format!("{FUNCTIONS}/f/configuration")).await.json();

    let world = world.killed().await;

    let after = world.client.get(&format!("{FUNCTIONS}/f/configuration")).await.json();
    assert_eq!(after, before);
    assert_eq!(world.client.get(&format!("{FUNCTIONS}/f/aliases/prod")).await.json(), alias);
    assert_eq!(world.invoke("f:prod", json!({})).await.status, 200);
}

#[tokio::test]
async fn what_was_begun_before_a_kill_is_settled_after_it() {
    let world = World::new().await;
    world.fleet.prepare.send_replace(false);
    world.create_with("pending", json!({"Publish": true})).await;

    let world = world.killed().await;

    let shown = world.settled("pending").await;
    assert_eq!(shown["State"], "Active");
    for _ in 0..500 {
        let path = format!("{FUNCTIONS}/pending:1/configuration");
        if world.client.get(&path).await.json()["State"] == "Active" {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("the version did not settle");
}

#[tokio::test]
async fn what_a_kill_left_of_a_deletion_is_swept() {
    let world = World::new().await;
    let orphan = "version/00000000000000000000000000000007/00000000000000000001";
    world.create_with("f", json!({"Publish": true})).await;
    world.settled("f").await;
    let version = world.metadata.scan("version/", None, 1).await.unwrap().remove(0);
    world.metadata.put(orphan, version.value, Expect::Absent).await.unwrap();

    let world = world.killed().await;

    for _ in 0..500 {
        let left = world.metadata.scan("version/", None, 10).await.unwrap();
        if left.len() == 1 {
            assert_eq!(left[0].key, version.key, "the living function's stays");
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("the orphan is still there");
}

#[tokio::test]
async fn a_version_left_by_an_interrupted_publish_is_overwritten() {
    let world = World::new().await;
    world.create_with("f", json!({"Publish": true})).await;
    world.settled("f").await;
    let version = world.metadata.scan("version/", None, 1).await.unwrap().remove(0);
    let two = version.key.replace("00000000000000000001", "00000000000000000002");
    world.metadata.put(&two, version.value, Expect::Absent).await.unwrap();
    let invisible = world.client.get(&format!("{FUNCTIONS}/f:2/configuration")).await;
    assert_eq!(invisible.status, 404);

    let path = format!("{FUNCTIONS}/f/configuration");
    world.client.call("PUT", &path, json!({"Timeout": 77})).await;
    world.settled("f").await;
    let published =
        world.client.call("POST", &format!("{FUNCTIONS}/f/versions"), json!({})).await.json();

    assert_eq!((&published["Version"], &published["Timeout"]), (&json!("2"), &json!(77)));
    let shown = world.client.get(&format!("{FUNCTIONS}/f:2/configuration")).await.json();
    assert_eq!(shown, published);
}

#[tokio::test]
async fn a_change_by_another_process_is_seen() {
    let world = World::new().await;
    world.function("f").await;
    let head = world.metadata.scan("function/", None, 1).await.unwrap().remove(0);
    let mut changed: Value = serde_json::from_slice(&head.value).unwrap();
    changed["live"]["latest"]["timeout_secs"] = json!(42);
    let expect = Expect::At(head.revision);
    world.metadata.put(&head.key, changed.to_string().into(), expect).await.unwrap();
    for _ in 0..500 {
        if world.settled("f").await["Timeout"] == 42 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("the change was not seen");
}

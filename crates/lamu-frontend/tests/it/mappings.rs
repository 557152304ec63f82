//! Event source mappings: made, shown, changed, deleted, kept over a kill. The
//! frontend is told that SQS is polled; nobody does, and nothing here needs it.

use std::time::Duration;

use lamu_frontend::FrontendConfig;
use lamu_model::mapping::SourceKind;
use serde_json::{Value, json};

use crate::world::{FUNCTIONS, World};

const MAPPINGS: &str = "/2015-03-31/event-source-mappings";
const QUEUE: &str = "arn:aws:sqs:us-east-1:000000000000:q";
const ARN: &str = "arn:aws:lambda:us-east-1:000000000000:function:f";

fn polled(config: &mut FrontendConfig) {
    config.polled_sources = vec![SourceKind::Sqs];
}

async fn world() -> World {
    let world = World::with(polled).await;
    world.function("f").await;
    world
}

impl World {
    async fn map(&self, members: Value) -> Value {
        let made = self.try_map(members).await;
        assert_eq!(made.status, 202, "{:?}", made.body);
        made.json()
    }

    async fn try_map(&self, members: Value) -> crate::clients::Got {
        let mut input = json!({"FunctionName": "f", "EventSourceArn": QUEUE});
        input.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
        self.client.call("POST", MAPPINGS, input).await
    }

    /// The mapping once nothing is under way.
    async fn rested(&self, mapping: &Value) -> Value {
        let path = path(mapping);
        for _ in 0..1_000 {
            let got = self.client.get(&path).await;
            let state = got.json()["State"].clone();
            if got.status == 404 || state == "Enabled" || state == "Disabled" {
                return got.json();
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("{mapping} did not come to rest");
    }
}

fn path(mapping: &Value) -> String {
    format!("{MAPPINGS}/{}", mapping["UUID"].as_str().unwrap())
}

#[tokio::test]
async fn a_mapping_lives_from_create_to_delete() {
    let world = world().await;
    let made = world.map(json!({})).await;
    assert_eq!((&made["State"], &made["FunctionArn"]), (&json!("Creating"), &json!(ARN)));
    assert!(made["LastModified"].is_number(), "{made}");
    let shown = world.rested(&made).await;
    assert_eq!(shown["State"], "Enabled");
    assert_eq!(shown["BatchSize"], 10);

    let change = |input: Value| {
        let (client, path) = (world.client, path(&made));
        async move { client.call("PUT", &path, input).await }
    };
    let disabling = change(json!({"Enabled": false})).await;
    assert_eq!((disabling.status, disabling.json()["State"].clone()), (202, json!("Disabling")));
    assert_eq!(world.rested(&made).await["State"], "Disabled");
    let updating = change(json!({"BatchSize": 7})).await.json();
    assert_eq!((&updating["State"], &updating["BatchSize"]), (&json!("Updating"), &json!(7)));
    assert_eq!(world.rested(&made).await["State"], "Disabled");
    assert_eq!(change(json!({"Enabled": true})).await.json()["State"], "Enabling");
    let enabled = world.rested(&made).await;
    assert_eq!((&enabled["State"], &enabled["BatchSize"]), (&json!("Enabled"), &json!(7)));

    let deleting = world.client.call("DELETE", &path(&made), Value::Null).await;
    assert_eq!((deleting.status, deleting.json()["State"].clone()), (202, json!("Deleting")));
    world.rested(&made).await;
    for method in ["GET", "PUT", "DELETE"] {
        let (status, code, text) = world.client.call(method, &path(&made), json!({})).await.error();
        assert_eq!((status, code.as_str()), (404, "ResourceNotFoundException"), "{method}");
        assert_eq!(text, "The resource you requested does not exist.");
    }
}

#[tokio::test]
async fn one_source_is_mapped_to_one_function_once() {
    let world = world().await;
    world.function("g").await;
    let first = world.map(json!({})).await;
    let uuid = first["UUID"].as_str().unwrap();
    let taken = format!(
        "An event source mapping with SQS arn (\" {QUEUE} \") and function (\" f \") already exists. Please update or delete the existing mapping with UUID {uuid}"
    );
    let expected = (409, "ResourceConflictException".to_owned(), taken);
    assert_eq!(world.try_map(json!({"Enabled": false})).await.error(), expected);
    let second = world.map(json!({"FunctionName": "g"})).await;
    world.rested(&second).await;
    let pointed = world.client.call("PUT", &path(&second), json!({"FunctionName": "f"})).await;
    assert_eq!(pointed.error(), expected, "an update cannot make a twin either");

    let mut made = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let client = world.client;
        let input = json!({"FunctionName": "f", "EventSourceArn": format!("{QUEUE}2")});
        made.spawn(async move { client.call("POST", MAPPINGS, input).await.status });
    }
    let statuses = made.join_all().await;
    assert_eq!(statuses.iter().filter(|status| **status == 202).count(), 1, "{statuses:?}");
}

#[tokio::test]
async fn mappings_are_listed_by_source_and_function_in_pages() {
    let world = world().await;
    world.function("g").await;
    for nth in 0..5 {
        world.map(json!({"EventSourceArn": format!("{QUEUE}{nth}")})).await;
        world.map(json!({"EventSourceArn": format!("{QUEUE}{nth}"), "FunctionName": "g"})).await;
    }
    let mut seen = Vec::new();
    let mut marker = String::new();
    loop {
        let page = world.client.get(&format!("{MAPPINGS}?MaxItems=3{marker}")).await.json();
        let items = page["EventSourceMappings"].as_array().unwrap();
        assert!(!items.is_empty() && items.len() <= 3);
        seen.extend(items.iter().map(|item| item["UUID"].as_str().unwrap().to_owned()));
        match page["NextMarker"].as_str() {
            Some(next) => marker = format!("&Marker={next}"),
            None => break,
        }
    }
    let unique: std::collections::BTreeSet<_> = seen.iter().collect();
    assert_eq!((seen.len(), unique.len()), (10, 10));
    for (query, count) in [
        ("FunctionName=g".to_owned(), 5),
        (format!("EventSourceArn={QUEUE}1"), 2),
        (format!("EventSourceArn={QUEUE}1&FunctionName=f"), 1),
        ("FunctionName=nobody".to_owned(), 0),
    ] {
        let list = world.client.get(&format!("{MAPPINGS}?{query}")).await.json();
        assert_eq!(list["EventSourceMappings"].as_array().unwrap().len(), count, "{query}");
    }
}

#[tokio::test]
async fn a_mapping_keeps_the_qualifier_and_outlives_its_function() {
    let world = world().await;
    world.client.call("POST", &format!("{FUNCTIONS}/f/versions"), json!({})).await;
    let alias = json!({"Name": "prod", "FunctionVersion": "1"});
    world.client.call("POST", &format!("{FUNCTIONS}/f/aliases"), alias).await;
    let made = world.map(json!({"FunctionName": format!("{ARN}:prod")})).await;
    assert_eq!(made["FunctionArn"], format!("{ARN}:prod"));
    for name in ["nobody", "f:7", "f:gone"] {
        let (status, code, text) = world.try_map(json!({"FunctionName": name})).await.error();
        assert_eq!((status, code.as_str()), (400, "InvalidParameterValueException"), "{name}");
        assert_eq!(text, "Function does not exist");
    }
    world.rested(&made).await;
    world.client.call("DELETE", &format!("{FUNCTIONS}/f"), Value::Null).await;
    assert_eq!(world.rested(&made).await["State"], "Enabled");
}

#[tokio::test]
async fn what_was_begun_before_a_kill_ends_after_it() {
    let world = world().await;
    let kept = world.map(json!({"Enabled": false, "BatchSize": 3})).await;
    world.rested(&kept).await;
    // As a kill right after the answers leaves them.
    let row = world.metadata.scan("mapping/", None, 1).await.unwrap().remove(0);
    for (state, uuid) in [("Creating", "1"), ("Deleting", "2")] {
        let uuid = format!("00000000-0000-0000-0000-00000000000{uuid}");
        let mut doc: Value = serde_json::from_slice(&row.value).unwrap();
        doc["uuid"] = json!(uuid);
        doc["state"] = json!(state);
        let key = row.key.replace(kept["UUID"].as_str().unwrap(), &uuid);
        let expect = lamu_store::Expect::Absent;
        world.metadata.put(&key, doc.to_string().into(), expect).await.unwrap();
    }

    let world = world.killed().await;

    let shown = world.rested(&kept).await;
    assert_eq!((&shown["State"], &shown["BatchSize"]), (&json!("Disabled"), &json!(3)));
    let uuid = |nth: u8| json!({"UUID": format!("00000000-0000-0000-0000-00000000000{nth}")});
    assert_eq!(world.rested(&uuid(1)).await["State"], "Disabled");
    for _ in 0..500 {
        if world.client.get(&path(&uuid(2))).await.status == 404 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("the deletion did not end");
}

#[tokio::test]
async fn a_source_that_nobody_polls_is_refused_after_everything_else() {
    let world = World::new().await;
    world.function("f").await;
    let stream = "arn:aws:kinesis:us-east-1:000000000000:stream/s";
    for (members, text) in [
        (json!({"BatchSize": 11}), "Maximum batch window"),
        (json!({"EventSourceArn": stream}), "'startingPosition'"),
        (json!({"FunctionName": "nobody"}), "Function does not exist"),
        (json!({"EventSourceArn": QUEUE.replace("us-east-1", "eu-west-1")}), "same region"),
        (json!({"Tags": {"aws:x": "y"}}), "System tags"),
        (json!({}), "Amazon SQS"),
        (json!({"EventSourceArn": stream, "StartingPosition": "LATEST"}), "Amazon Kinesis"),
    ] {
        let (status, code, said) = world.try_map(members.clone()).await.error();
        assert_eq!((status, code.as_str()), (400, "InvalidParameterValueException"), "{members}");
        assert!(said.contains(text), "{members}: {said}");
    }
    let (status, code, _) = world.try_map(json!({"BatchSize": 10_001})).await.error();
    assert_eq!((status, code.as_str()), (400, "ValidationException"));
    let list = world.client.get(MAPPINGS).await.json();
    assert_eq!(list, json!({"EventSourceMappings": []}), "nothing was kept");
}

#[tokio::test]
async fn what_is_under_way_is_not_changed_again() {
    let world = world().await;
    let made = world.map(json!({})).await;
    world.rested(&made).await;
    // A state that this process did not begin, and so does not end.
    let row = world.metadata.scan("mapping/", None, 1).await.unwrap().remove(0);
    let mut doc: Value = serde_json::from_slice(&row.value).unwrap();
    doc["state"] = json!("Updating");
    let expect = lamu_store::Expect::At(row.revision);
    world.metadata.put(&row.key, doc.to_string().into(), expect).await.unwrap();
    for _ in 0..500 {
        if world.client.get(&path(&made)).await.json()["State"] == "Updating" {
            break;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    for (method, word) in [("PUT", "update"), ("DELETE", "delete")] {
        let (status, code, text) = world.client.call(method, &path(&made), json!({})).await.error();
        assert_eq!((status, code.as_str()), (400, "ResourceInUseException"), "{method}");
        assert!(text.contains(&format!("Cannot {word} the event source mapping")), "{text}");
    }
}

#[tokio::test]
async fn mappings_have_tags_by_their_arns() {
    let world = world().await;
    let made = world.map(json!({"Tags": {"a": "1"}})).await;
    let arn = made["EventSourceMappingArn"].as_str().unwrap();
    let tags = format!("/2017-03-31/tags/{}", arn.replace(':', "%3A"));
    let shown = |tags: Value| json!({"Tags": tags});
    assert_eq!(world.client.get(&tags).await.json(), shown(json!({"a": "1"})));
    let more = shown(json!({"b": "2"}));
    assert_eq!(world.client.call("POST", &tags, more).await.status, 204);
    let untag = format!("{tags}?tagKeys=a");
    assert_eq!(world.client.call("DELETE", &untag, Value::Null).await.status, 204);
    assert_eq!(world.client.get(&tags).await.json(), shown(json!({"b": "2"})));
    let gone = arn.replace(made["UUID"].as_str().unwrap(), "00000000-0000-0000-0000-000000000000");
    let (status, _, text) =
        world.client.get(&format!("/2017-03-31/tags/{}", gone.replace(':', "%3A"))).await.error();
    assert_eq!((status, text), (404, format!("Event source mapping not found: {gone}")));
}

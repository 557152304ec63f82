//! Aliases: what they point at, and where their calls go.

use serde_json::{Value, json};

use crate::world::{FUNCTIONS, World};

const ARN: &str = "arn:aws:lambda:us-east-1:000000000000:function:f";

/// A function with versions 1 and 2.
async fn two_versions() -> World {
    let world = World::new().await;
    world.create_with("f", json!({"Publish": true})).await;
    world.settled("f").await;
    let path = format!("{FUNCTIONS}/f/configuration");
    world.client.call("PUT", &path, json!({"Timeout": 9})).await;
    world.settled("f").await;
    world.client.call("POST", &format!("{FUNCTIONS}/f/versions"), json!({})).await;
    world
}

#[tokio::test]
async fn an_alias_lives_from_create_to_delete() {
    let world = two_versions().await;
    let aliases = format!("{FUNCTIONS}/f/aliases");
    let prod = format!("{aliases}/prod");
    let input = json!({"Name": "prod", "FunctionVersion": "1"});
    let created = world.client.call("POST", &aliases, input.clone()).await;
    assert_eq!(created.status, 201);
    let shown = created.json();
    assert_eq!(shown["AliasArn"], format!("{ARN}:prod"));
    assert_eq!(shown["Description"], "");
    assert_eq!(shown.get("RoutingConfig"), None);
    let (status, _, message) = world.client.call("POST", &aliases, input).await.error();
    assert_eq!((status, message), (409, format!("Alias already exists: {ARN}:prod")));
    assert_eq!(world.client.get(&prod).await.json(), shown);

    let updated = world.client.call("PUT", &prod, json!({"FunctionVersion": "2"})).await.json();
    assert_eq!(updated["FunctionVersion"], "2");
    assert_ne!(updated["RevisionId"], shown["RevisionId"]);
    let stale = json!({"Description": "x", "RevisionId": shown["RevisionId"]});
    assert_eq!(world.client.call("PUT", &prod, stale).await.status, 412);
    let found = world.client.get(&format!("{FUNCTIONS}/f:prod/configuration")).await.json();
    assert_eq!(found["FunctionArn"], format!("{ARN}:prod"));
    assert_eq!(found["Version"], "2");

    for _ in 0..2 {
        assert_eq!(world.client.call("DELETE", &prod, Value::Null).await.status, 204);
    }
    let (status, _, message) = world.client.get(&prod).await.error();
    assert_eq!((status, message), (404, format!("Cannot find alias arn: {ARN}:prod")));
    let (_, _, message) = world.client.call("PUT", &prod, json!({})).await.error();
    assert_eq!(message, format!("Alias not found: {ARN}:prod"));
}

#[tokio::test]
async fn weights_split_the_calls_of_an_alias() {
    let world = two_versions().await;
    let aliases = format!("{FUNCTIONS}/f/aliases");
    let input = json!({
        "Name": "prod",
        "FunctionVersion": "1",
        "RoutingConfig": {"AdditionalVersionWeights": {"2": 0.5}},
    });
    let created = world.client.call("POST", &aliases, input).await;
    assert_eq!(created.status, 201, "{:?}", created.body);
    let mut ran = [0, 0];
    for _ in 0..60 {
        let got = world.invoke("f:prod", json!({})).await;
        match got.header("x-amz-executed-version") {
            Some("1") => ran[0] += 1,
            Some("2") => ran[1] += 1,
            other => panic!("{other:?}"),
        }
        assert_eq!(got.json()["arn"], format!("{ARN}:prod"), "as it was called");
    }
    assert!(ran.iter().all(|count| *count > 5), "{ran:?}");

    let prod = format!("{aliases}/prod");
    let none = json!({"RoutingConfig": {"AdditionalVersionWeights": {}}});
    let updated = world.client.call("PUT", &prod, none).await.json();
    assert_eq!(updated.get("RoutingConfig"), None);
    let both = format!("{aliases}?FunctionVersion=2");
    assert_eq!(world.client.get(&both).await.json()["Aliases"], json!([]));
}

#[tokio::test]
async fn an_alias_points_at_what_exists() {
    let world = two_versions().await;
    let aliases = format!("{FUNCTIONS}/f/aliases");
    let table = [
        (json!({"FunctionVersion": "9"}), 404, format!("Function not found: {ARN}:9")),
        (
            json!({"FunctionVersion": "$LATEST", "RoutingConfig": {"AdditionalVersionWeights": {"1": 0.1}}}),
            400,
            "$LATEST is not supported for an alias pointing to more than 1 version".to_owned(),
        ),
        (
            json!({"FunctionVersion": "1", "RoutingConfig": {"AdditionalVersionWeights": {"1": 0.1}}}),
            400,
            "Invalid function version 1. Function version 1 is already included in routing configuration.".to_owned(),
        ),
        (
            json!({"FunctionVersion": "1", "RoutingConfig": {"AdditionalVersionWeights": {"7": 0.1}}}),
            404,
            format!("Function not found: {ARN}:7"),
        ),
    ];
    for (mut input, status, message) in table {
        input["Name"] = json!("x");
        let (got, _, said) = world.client.call("POST", &aliases, input.clone()).await.error();
        assert_eq!((got, said), (status, message), "{input}");
    }
    let latest = json!({"Name": "dev", "FunctionVersion": "$LATEST"});
    assert_eq!(world.client.call("POST", &aliases, latest).await.status, 201);
    let ran = world.invoke("f:dev", json!({})).await;
    assert_eq!(ran.header("x-amz-executed-version"), Some("$LATEST"));
}

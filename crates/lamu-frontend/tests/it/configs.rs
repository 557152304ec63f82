//! What is settled beside a function: event invoke configs, runtime
//! management, recursion.

use std::time::Duration;

use lamu_store::Expect;
use serde_json::{Value, json};

use crate::world::{FUNCTIONS, World};

const ARN: &str = "arn:aws:lambda:us-east-1:000000000000:function:f";
const QUEUE: &str = "arn:aws:sqs:us-east-1:000000000000:q";

fn path(qualifier: &str) -> String {
    let query =
        if qualifier.is_empty() { String::new() } else { format!("?Qualifier={qualifier}") };
    format!("/2019-09-25/functions/f/event-invoke-config{query}")
}

/// A function `f` with version 1 and alias `prod` of it.
async fn world() -> World {
    let world = World::new().await;
    world.create_with("f", json!({"Publish": true})).await;
    world.settled("f").await;
    let alias = json!({"Name": "prod", "FunctionVersion": "1"});
    let made = world.client.call("POST", &format!("{FUNCTIONS}/f/aliases"), alias).await;
    assert_eq!(made.status, 201);
    world
}

/// Waits until the store holds exactly `count` documents under `prefix`.
async fn stored(world: &World, prefix: &str, count: usize) {
    for _ in 0..500 {
        if world.metadata.scan(prefix, None, 100).await.unwrap().len() == count {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("{prefix}: {:?}", world.metadata.scan(prefix, None, 100).await.unwrap());
}

#[tokio::test]
async fn an_event_invoke_config_lives_from_put_to_delete() {
    let world = world().await;
    let client = &world.client;
    let missing = (
        404,
        "ResourceNotFoundException".to_owned(),
        format!("The function {ARN}:$LATEST doesn't have an EventInvokeConfig"),
    );
    assert_eq!(client.get(&path("")).await.error(), missing);
    let update = json!({"MaximumRetryAttempts": 1});
    assert_eq!(client.call("POST", &path(""), update).await.error(), missing);

    let put = json!({
        "MaximumRetryAttempts": 0,
        "DestinationConfig": {"OnFailure": {"Destination": QUEUE}},
    });
    let made = client.call("PUT", &path(""), put).await;
    assert_eq!(made.status, 200, "{:?}", made.body);
    let shown = made.json();
    assert_eq!(shown["FunctionArn"], format!("{ARN}:$LATEST"));
    assert_eq!(shown["MaximumRetryAttempts"], 0);
    assert_eq!(shown.get("MaximumEventAgeInSeconds"), None);
    let destinations = json!({"OnFailure": {"Destination": QUEUE}, "OnSuccess": {}});
    assert_eq!(shown["DestinationConfig"], destinations);
    assert!(shown["LastModified"].is_number(), "{shown}");
    assert_eq!(client.get(&path("$LATEST")).await.json(), shown);

    let merged = client.call("POST", &path(""), json!({"MaximumEventAgeInSeconds": 60})).await;
    assert_eq!(merged.json()["MaximumRetryAttempts"], 0);
    assert_eq!(merged.json()["DestinationConfig"], destinations);
    let replaced = client.call("PUT", &path(""), json!({"MaximumEventAgeInSeconds": 61})).await;
    assert_eq!(replaced.json().get("MaximumRetryAttempts"), None);
    assert_eq!(replaced.json()["DestinationConfig"], json!({"OnFailure": {}, "OnSuccess": {}}));

    assert_eq!(client.call("DELETE", &path(""), Value::Null).await.status, 204);
    assert_eq!(client.call("DELETE", &path(""), Value::Null).await.error(), missing);
}

#[tokio::test]
async fn every_qualifier_has_its_own_and_lists_show_them() {
    let world = world().await;
    for (qualifier, age) in [("prod", 100), ("", 200), ("1", 300)] {
        let put = json!({"MaximumEventAgeInSeconds": age});
        assert_eq!(world.client.call("PUT", &path(qualifier), put).await.status, 200);
    }
    let list = "/2019-09-25/functions/f/event-invoke-config/list";
    let all = world.client.get(list).await.json();
    let arns: Vec<&str> = all["FunctionEventInvokeConfigs"]
        .as_array()
        .unwrap()
        .iter()
        .map(|config| config["FunctionArn"].as_str().unwrap())
        .collect();
    assert_eq!(arns, [format!("{ARN}:$LATEST"), format!("{ARN}:1"), format!("{ARN}:prod")]);
    assert_eq!(all.get("NextMarker"), None);

    let first = world.client.get(&format!("{list}?MaxItems=2")).await.json();
    assert_eq!(first["FunctionEventInvokeConfigs"].as_array().unwrap().len(), 2);
    let marker = first["NextMarker"].as_str().unwrap();
    let rest = world.client.get(&format!("{list}?MaxItems=2&Marker={marker}")).await.json();
    assert_eq!(rest["FunctionEventInvokeConfigs"][0]["MaximumEventAgeInSeconds"], 100);
    assert_eq!(rest.get("NextMarker"), None);
}

#[tokio::test]
async fn what_cannot_be_configured_is_refused_in_the_services_words() {
    let world = world().await;
    let (not_found, invalid) = ("ResourceNotFoundException", "InvalidParameterValueException");
    let some = json!({"MaximumRetryAttempts": 1});
    let to = |arn: &str| json!({"DestinationConfig": {"OnSuccess": {"Destination": arn}}});
    let itself = format!("{ARN}:prod");
    for (method, qualifier, input, status, code, text) in [
        ("PUT", "", json!({}), 400, invalid, "You must specify at least one of"),
        ("PUT", "gone", some.clone(), 404, not_found, "The function doesn't exist."),
        ("POST", "gone", some.clone(), 404, not_found, "The function doesn't exist."),
        ("PUT", "7", some, 404, not_found, "The function doesn't exist."),
        ("PUT", "", to(&itself), 400, invalid, "You can't specify the function as a destination"),
        ("PUT", "", to("arn:aws:s3:::b"), 400, invalid, "OnSuccess(destination=arn:aws:s3:::b)"),
        ("PUT", "", to("nonsense"), 400, "ValidationException", "destinationConfig.onSuccess"),
        (
            "PUT",
            "",
            json!({"MaximumRetryAttempts": 3}),
            400,
            "ValidationException",
            "than or equal",
        ),
        ("PUT", "", json!({"MaximumEventAgeInSeconds": 59}), 400, "ValidationException", "60"),
    ] {
        let got = world.client.call(method, &path(qualifier), input.clone()).await.error();
        assert_eq!((got.0, got.1.as_str()), (status, code), "{qualifier} {input}: {}", got.2);
        assert!(got.2.contains(text), "{qualifier} {input}: {}", got.2);
    }
    let list = "/2019-09-25/functions/nobody/event-invoke-config/list";
    let (status, _, text) = world.client.get(list).await.error();
    assert_eq!((status, text.as_str()), (404, "The function doesn't exist."));
}

#[tokio::test]
async fn configs_go_with_what_they_were_for() {
    let world = world().await;
    for qualifier in ["", "1", "prod"] {
        let put = json!({"MaximumRetryAttempts": 1});
        assert_eq!(world.client.call("PUT", &path(qualifier), put).await.status, 200);
    }
    let management = |qualifier: &str| {
        format!("/2021-07-20/functions/f/runtime-management-config?Qualifier={qualifier}")
    };
    let on_update = json!({"UpdateRuntimeOn": "FunctionUpdate"});
    for qualifier in ["1", "$LATEST"] {
        let put = world.client.call("PUT", &management(qualifier), on_update.clone()).await;
        assert_eq!(put.status, 200, "{:?}", put.body);
    }
    let alias = format!("{FUNCTIONS}/f/aliases/prod");
    world.client.call("DELETE", &alias, Value::Null).await;
    stored(&world, "invoke-config/", 2).await;
    world.client.call("DELETE", &format!("{FUNCTIONS}/f?Qualifier=1"), Value::Null).await;
    stored(&world, "invoke-config/", 1).await;
    stored(&world, "runtime-management/", 1).await;
    let again = json!({"Name": "prod", "FunctionVersion": "$LATEST"});
    world.client.call("POST", &format!("{FUNCTIONS}/f/aliases"), again).await;
    assert_eq!(world.client.get(&path("prod")).await.status, 404, "not the old one's");

    world.client.call("DELETE", &format!("{FUNCTIONS}/f"), Value::Null).await;
    stored(&world, "invoke-config/", 0).await;
    stored(&world, "runtime-management/", 0).await;
    world.function("f").await;
    assert_eq!(world.client.get(&path("")).await.status, 404);
}

#[tokio::test]
async fn what_a_kill_left_beside_a_deleted_thing_is_swept_and_the_rest_stays() {
    let world = world().await;
    for qualifier in ["", "prod"] {
        let put = json!({"MaximumRetryAttempts": 1});
        world.client.call("PUT", &path(qualifier), put).await;
    }
    let kept = world.client.get(&path("prod")).await.json();
    let one = world.metadata.scan("invoke-config/", None, 1).await.unwrap().remove(0);
    let gone = one.key.replace("$LATEST", "gone");
    let nobodys = "invoke-config/00000000000000000000000000000007/$LATEST";
    for key in [gone.as_str(), nobodys] {
        world.metadata.put(key, one.value.clone(), Expect::Absent).await.unwrap();
    }

    let world = world.killed().await;

    stored(&world, "invoke-config/", 2).await;
    assert_eq!(world.client.get(&path("prod")).await.json(), kept);
}

#[tokio::test]
async fn a_version_keeps_when_its_runtime_is_updated() {
    let world = world().await;
    let path = |qualifier: &str| {
        format!("/2021-07-20/functions/f/runtime-management-config?Qualifier={qualifier}")
    };
    let bare = "/2021-07-20/functions/f/runtime-management-config";
    let shown = world.client.get(bare).await.json();
    assert_eq!(shown, json!({"UpdateRuntimeOn": "Auto", "FunctionArn": ARN}));

    let config = world.client.get(&format!("{FUNCTIONS}/f/configuration")).await.json();
    let here = &config["RuntimeVersionConfig"]["RuntimeVersionArn"];
    let manual = json!({"UpdateRuntimeOn": "Manual", "RuntimeVersionArn": here});
    let put = world.client.call("PUT", &path("1"), manual).await;
    let pinned = json!({
        "UpdateRuntimeOn": "Manual",
        "RuntimeVersionArn": here,
        "FunctionArn": format!("{ARN}:1"),
    });
    assert_eq!((put.status, put.json()), (200, pinned.clone()));
    assert_eq!(world.client.get(&path("1")).await.json(), pinned);
    assert_eq!(world.client.get(bare).await.json()["UpdateRuntimeOn"], "Auto");

    let other = format!("arn:aws:lambda:us-east-1::runtime:{}", "0".repeat(64));
    for input in [
        json!({"UpdateRuntimeOn": "Manual"}),
        json!({"UpdateRuntimeOn": "Manual", "RuntimeVersionArn": other}),
        json!({"UpdateRuntimeOn": "Auto", "RuntimeVersionArn": here}),
    ] {
        let (status, code, _) = world.client.call("PUT", bare, input.clone()).await.error();
        assert_eq!((status, code.as_str()), (400, "InvalidParameterValueException"), "{input}");
    }
    let auto = json!({"UpdateRuntimeOn": "Auto"});
    let (status, _, text) = world.client.call("PUT", &path("9"), auto).await.error();
    assert_eq!((status, text), (404, format!("Function not found: {ARN}:9")));
}

#[tokio::test]
async fn a_call_that_goes_round_in_a_circle_is_stopped_unless_allowed() {
    let world = world().await;
    let path = "/2024-08-31/functions/f/recursion-config";
    assert_eq!(world.client.get(path).await.json(), json!({"RecursiveLoop": "Terminate"}));
    let invoke = format!("{FUNCTIONS}/f/invocations");
    let begin = "Root=1-5759e988-bd862e3fe1be46a994272793;Sampled=0".to_owned();
    let mut trace = begin.clone();
    for _ in 0..16 {
        let headers = [("x-amzn-trace-id", trace.as_str())];
        let got = world.client.send("POST", &invoke, &headers, "{}").await;
        assert_eq!(got.status, 200, "{trace}");
        trace = got.json()["trace"].as_str().unwrap().to_owned();
    }
    let headers = [("x-amzn-trace-id", trace.as_str())];
    let (status, code, text) = world.client.send("POST", &invoke, &headers, "{}").await.error();
    assert_eq!((status, code.as_str()), (400, "RecursiveInvocationException"));
    assert!(text.contains("recursive loop"), "{text}");
    let headers = [("x-amzn-trace-id", begin.as_str())];
    let fresh = world.client.send("POST", &invoke, &headers, "{}").await;
    assert_eq!(fresh.status, 200, "another trace is not stopped");

    let allow = json!({"RecursiveLoop": "Allow"});
    assert_eq!(world.client.call("PUT", path, allow.clone()).await.json(), allow);
    let headers = [("x-amzn-trace-id", trace.as_str())];
    assert_eq!(world.client.send("POST", &invoke, &headers, "{}").await.status, 200);
    let world = world.killed().await;
    assert_eq!(world.client.get(path).await.json(), allow);
    let (status, code, _) =
        world.client.call("PUT", path, json!({"RecursiveLoop": "Never"})).await.error();
    assert_eq!((status, code.as_str()), (400, "ValidationException"));
}

#[tokio::test]
async fn what_no_host_here_has_is_kept_and_shown_and_fails_with_its_reason() {
    let world = World::new().await;
    let access_point =
        "arn:aws:elasticfilesystem:us-east-1:000000000000:access-point/fsap-0123456789abcdef0";
    let vpc = json!({"SubnetIds": ["subnet-1"], "SecurityGroupIds": ["sg-1"]});
    let mount = json!([{"Arn": access_point, "LocalMountPath": "/mnt/data"}]);
    let made = world.create_with("f", json!({"VpcConfig": vpc, "FileSystemConfigs": mount})).await;
    assert_eq!(made.status, 201, "{:?}", made.body);
    let failed = world.settled("f").await;
    assert_eq!(
        (&failed["State"], &failed["StateReasonCode"]),
        (&json!("Failed"), &json!("InvalidSubnet"))
    );
    assert!(failed["StateReason"].as_str().unwrap().contains("subnet-1"), "{failed}");
    assert_eq!(failed["VpcConfig"], vpc);
    assert_eq!(failed["FileSystemConfigs"], mount);
    let (status, _, text) = world.invoke("f", json!({})).await.error();
    assert_eq!(status, 409);
    assert!(text.ends_with("state: Failed"), "{text}");

    let key = "arn:aws:kms:us-east-1:000000000000:key/k";
    let empty = json!({"SubnetIds": [], "SecurityGroupIds": []});
    world.create_with("g", json!({"KMSKeyArn": key, "VpcConfig": empty})).await;
    let good = world.settled("g").await;
    assert_eq!((&good["State"], &good["KMSKeyArn"]), (&json!("Active"), &json!(key)));
    assert_eq!(good["VpcConfig"], json!({"SubnetIds": [], "SecurityGroupIds": [], "VpcId": ""}));
    let path = format!("{FUNCTIONS}/g/configuration");
    world.client.call("PUT", &path, json!({"VpcConfig": vpc})).await;
    let updated = world.settled("g").await;
    assert_eq!(updated["State"], "Active");
    assert_eq!(updated["LastUpdateStatusReasonCode"], "InvalidSubnet");
    assert_eq!(world.invoke("g", json!({})).await.status, 200, "what was there before serves");
    world.client.call("PUT", &path, json!({"VpcConfig": empty, "KMSKeyArn": ""})).await;
    let repaired = world.settled("g").await;
    assert_eq!(repaired["LastUpdateStatus"], "Successful");
    assert_eq!(repaired.get("KMSKeyArn"), None);
    for (input, text) in [
        (json!({"VpcConfig": {"SubnetIds": ["subnet-1"]}}), "must coexist"),
        (json!({"FileSystemConfigs": mount}), "Function must be configured to execute in a VPC"),
    ] {
        let (status, code, said) = world.client.call("PUT", &path, input).await.error();
        assert_eq!((status, code.as_str()), (400, "InvalidParameterValueException"));
        assert!(said.contains(text), "{said}");
    }
}

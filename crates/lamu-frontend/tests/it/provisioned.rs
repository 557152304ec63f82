//! Provisioned concurrency through the API, with the manager played.

use std::sync::atomic::Ordering;

use lamu_frontend::{CallerRate, Limits, RateRule};
use lamu_link::ProvisionFailure;
use lamu_store::Expect;
use serde_json::{Value, json};

use crate::clients::Got;
use crate::world::{FUNCTIONS, World};

const ARN: &str = "arn:aws:lambda:us-east-1:000000000000:function:f";
const INVALID: &str = "InvalidParameterValueException";
const CONFLICT: &str = "ResourceConflictException";
const NOT_FOUND: &str = "ResourceNotFoundException";

fn path(qualifier: &str) -> String {
    format!("/2019-09-30/functions/f/provisioned-concurrency?Qualifier={qualifier}")
}

async fn put(world: &World, qualifier: &str, count: i64) -> Got {
    let input = json!({"ProvisionedConcurrentExecutions": count});
    world.client.call("PUT", &path(qualifier), input).await
}

async fn get(world: &World, qualifier: &str) -> Value {
    let got = world.client.get(&path(qualifier)).await;
    assert_eq!(got.status, 200, "{:?}", got.body);
    got.json()
}

async fn delete(world: &World, qualifier: &str) -> Got {
    world.client.call("DELETE", &path(qualifier), Value::Null).await
}

async fn alias(world: &World, method: &str, name: &str, input: Value) -> Got {
    let path = match method {
        "POST" => format!("{FUNCTIONS}/f/aliases"),
        _ => format!("{FUNCTIONS}/f/aliases/{name}"),
    };
    world.client.call(method, &path, input).await
}

/// Versions 1, 2 and 3, and the alias `prod` of the first.
async fn versions(world: &World) {
    world.create_with("f", json!({"Publish": true})).await;
    world.settled("f").await;
    for timeout in [8, 9] {
        let path = format!("{FUNCTIONS}/f/configuration");
        world.client.call("PUT", &path, json!({"Timeout": timeout})).await;
        world.settled("f").await;
        world.client.call("POST", &format!("{FUNCTIONS}/f/versions"), json!({})).await;
    }
    let made = alias(world, "POST", "prod", json!({"Name": "prod", "FunctionVersion": "1"})).await;
    assert_eq!(made.status, 201);
}

#[tokio::test]
async fn it_is_in_progress_when_asked_for_and_ready_when_all_stand_by() {
    let world = World::new().await;
    versions(&world).await;
    *world.fleet.allocates.lock().unwrap() = Ok(false);

    let answer = put(&world, "prod", 3).await;

    assert_eq!(answer.status, 202);
    let shown = answer.json();
    let modified = shown["LastModified"].as_str().unwrap();
    assert!(modified.len() == 24 && modified.ends_with("+0000"), "{modified}");
    let expected = json!({
        "RequestedProvisionedConcurrentExecutions": 3,
        "AllocatedProvisionedConcurrentExecutions": 0,
        "AvailableProvisionedConcurrentExecutions": 0,
        "Status": "IN_PROGRESS",
        "LastModified": modified,
    });
    assert_eq!(shown, expected);
    assert_eq!(get(&world, "prod").await, expected);

    *world.fleet.allocates.lock().unwrap() = Ok(true);
    put(&world, "prod", 3).await;
    let ready = get(&world, "prod").await;
    assert_eq!(ready["Status"], "READY");
    assert_eq!(ready["AllocatedProvisionedConcurrentExecutions"], 3);
    assert_eq!(ready["AvailableProvisionedConcurrentExecutions"], 3);

    assert_eq!(delete(&world, "prod").await.status, 204);
    assert_eq!(world.fleet.stands(), []);
    let (status, code, message) = world.client.get(&path("prod")).await.error();
    assert_eq!((status, code.as_str()), (404, "ProvisionedConcurrencyConfigNotFoundException"));
    assert_eq!(message, "No Provisioned Concurrency Config found for this function");
    assert_eq!(delete(&world, "prod").await.status, 204, "deleting nothing succeeds");
}

#[tokio::test]
async fn a_failing_init_is_the_reason_and_asking_again_tries_again() {
    let world = World::new().await;
    versions(&world).await;
    let failure = ProvisionFailure::Init { what: "Runtime.ExitError".into() };
    *world.fleet.allocates.lock().unwrap() = Err(failure);
    assert_eq!(put(&world, "1", 2).await.json()["Status"], "IN_PROGRESS");

    let failed = get(&world, "1").await;
    assert_eq!(failed["Status"], "FAILED");
    assert_eq!(failed["StatusReason"], "FUNCTION_ERROR_INIT_FAILURE");

    *world.fleet.allocates.lock().unwrap() = Ok(true);
    put(&world, "1", 2).await;
    assert_eq!(get(&world, "1").await["Status"], "READY");
    assert_eq!(get(&world, "1").await.get("StatusReason"), None);
}

#[tokio::test]
async fn only_versions_and_aliases_that_are_there_have_it() {
    let world = World::new().await;
    versions(&world).await;
    let latest =
        "Provisioned Concurrency Configs cannot be applied to unpublished function versions.";
    let published = "The function resource provided must be an alias or a published version.";
    alias(&world, "POST", "dev", json!({"Name": "dev", "FunctionVersion": "$LATEST"})).await;
    for (got, expected) in [
        (put(&world, "$LATEST", 1).await, (400, INVALID, latest.to_owned())),
        (put(&world, "dev", 1).await, (400, INVALID, latest.to_owned())),
        (put(&world, "9", 1).await, (404, NOT_FOUND, format!("Function not found: {ARN}:9"))),
        (put(&world, "none", 1).await, (404, NOT_FOUND, format!("Cannot find alias arn: {ARN}:none"))),
        (world.client.get(&path("$LATEST")).await, (400, INVALID, published.to_owned())),
        (world.client.get(&path("9")).await, (404, NOT_FOUND, format!("Function not found: {ARN}:9"))),
        (delete(&world, "$LATEST").await, (400, INVALID, published.to_owned())),
        (delete(&world, "none").await, (404, NOT_FOUND, format!("Cannot find alias arn: {ARN}:none"))),
        (
            put(&world, "1", 0).await,
            (400, "ValidationException", "1 validation error detected: Value '0' at 'provisionedConcurrentExecutions' failed to satisfy constraint: Member must have value greater than or equal to 1".to_owned()),
        ),
    ] {
        let (status, code, message) = got.error();
        assert_eq!((status, code.as_str(), message), expected);
    }
    let missing = "/2019-09-30/functions/g/provisioned-concurrency";
    let (status, _, message) = world.client.get(&format!("{missing}?List=ALL")).await.error();
    assert_eq!(
        (status, message),
        (404, "Function not found: arn:aws:lambda:us-east-1:000000000000:function:g".to_owned())
    );
}

#[tokio::test]
async fn a_version_has_it_from_one_configuration_only() {
    let world = World::new().await;
    versions(&world).await;
    let by_alias = "Version is pointed by a Provisioned Concurrency alias";
    let by_version = "Alias can't be used for Provisioned Concurrency configuration on an already Provisioned version";
    let refused = |got: Got, text: &str| {
        let (status, code, message) = got.error();
        assert_eq!((status, code.as_str(), message.as_str()), (409, CONFLICT, text));
    };
    assert_eq!(put(&world, "prod", 1).await.status, 202);
    refused(put(&world, "1", 1).await, by_alias);
    alias(&world, "POST", "beta", json!({"Name": "beta", "FunctionVersion": "1"})).await;
    refused(put(&world, "beta", 1).await, by_version);

    assert_eq!(put(&world, "2", 1).await.status, 202);
    refused(alias(&world, "PUT", "prod", json!({"FunctionVersion": "2"})).await, by_version);
    let split = json!({"RoutingConfig": {"AdditionalVersionWeights": {"2": 0.1}}});
    refused(alias(&world, "PUT", "prod", split).await, by_version);
    let (status, _, message) =
        alias(&world, "PUT", "prod", json!({"FunctionVersion": "$LATEST"})).await.error();
    assert_eq!(status, 400, "{message}");

    delete(&world, "2").await;
    assert_eq!(alias(&world, "PUT", "prod", json!({"FunctionVersion": "2"})).await.status, 200);
    assert_eq!(put(&world, "1", 1).await.status, 202, "it is free now");
}

#[tokio::test]
async fn it_moves_with_its_alias_and_stands_for_both_of_two_versions() {
    let world = World::new().await;
    versions(&world).await;
    put(&world, "prod", 2).await;
    let one = world.fleet.standing.lock().unwrap()[0].spec.id;

    let split = json!({"RoutingConfig": {"AdditionalVersionWeights": {"2": 0.0}}});
    assert_eq!(alias(&world, "PUT", "prod", split).await.status, 200);
    assert_eq!(world.fleet.stands(), [("1".to_owned(), 2), ("2".to_owned(), 2)]);
    assert_eq!(get(&world, "prod").await["Status"], "READY");
    let (status, _, message) = put(&world, "prod", 3).await.error();
    assert_eq!(
        (status, message.as_str()),
        (400, "Invalid alias configuration for Provisioned Concurrency")
    );

    let moved = json!({"FunctionVersion": "2", "RoutingConfig": {"AdditionalVersionWeights": {}}});
    assert_eq!(alias(&world, "PUT", "prod", moved).await.status, 200);
    assert_eq!(world.fleet.stands(), [("2".to_owned(), 2)]);
    let two = world.fleet.standing.lock().unwrap()[0].spec.id;
    assert_eq!(*world.fleet.given_up.lock().unwrap(), [(one, Some(two))], "after the new one");

    alias(&world, "PUT", "prod", json!({"FunctionVersion": "3"})).await;
    assert_eq!(world.fleet.stands(), [("3".to_owned(), 2)]);
}

#[tokio::test]
async fn it_goes_with_its_alias_version_or_function() {
    let world = World::new().await;
    versions(&world).await;
    put(&world, "prod", 1).await;
    put(&world, "2", 1).await;
    assert_eq!(world.fleet.stands().len(), 2);

    assert_eq!(alias(&world, "DELETE", "prod", Value::Null).await.status, 204);
    assert_eq!(world.fleet.stands(), [("2".to_owned(), 1)]);
    // An alias made again under the name has none.
    alias(&world, "POST", "prod", json!({"Name": "prod", "FunctionVersion": "1"})).await;
    assert_eq!(world.client.get(&path("prod")).await.status, 404);

    let two = format!("{FUNCTIONS}/f?Qualifier=2");
    assert_eq!(world.client.call("DELETE", &two, Value::Null).await.status, 204);
    assert_eq!(world.fleet.stands(), []);
    put(&world, "prod", 1).await;
    let whole = format!("{FUNCTIONS}/f");
    assert_eq!(world.client.call("DELETE", &whole, Value::Null).await.status, 204);
    for _ in 0..500 {
        if world.fleet.stands().is_empty() {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    panic!("{:?} stands by for a function that is gone", world.fleet.stands());
}

#[tokio::test]
async fn it_is_claimed_of_the_account_and_within_a_reservation() {
    let world = World::new().await;
    versions(&world).await;
    let settings = || async {
        let got = world.client.get("/2016-08-19/account-settings").await.json();
        got["AccountLimit"]["UnreservedConcurrentExecutions"].as_u64().unwrap()
    };
    let refused = |got: Got, text: &str| {
        let (status, code, message) = got.error();
        assert_eq!((status, code.as_str()), (400, INVALID));
        assert_eq!(message, text);
    };
    refused(
        put(&world, "1", 901).await,
        "Specified ConcurrentExecutions for function decreases account's UnreservedConcurrentExecution below its minimum value of [100].",
    );
    refused(
        put(&world, "1", 1_001).await,
        "Specified ConcurrentExecutions for function is greater than account's unreserved concurrency [1000].",
    );
    put(&world, "1", 5).await;
    assert_eq!(settings().await, 995);

    let reserve = |count: u32| {
        let input = json!({"ReservedConcurrentExecutions": count});
        world.client.call("PUT", "/2017-10-31/functions/f/concurrency", input)
    };
    refused(
        reserve(4).await,
        " ReservedConcurrentExecutions  4 should not be lower than function's total provisioned concurrency [5].",
    );
    assert_eq!(reserve(7).await.status, 200);
    assert_eq!(settings().await, 993, "what is provisioned is part of the reservation");
    refused(
        put(&world, "2", 3).await,
        "Requested Provisioned Concurrency should not be greater than the reservedConcurrentExecution for function",
    );
    assert_eq!(put(&world, "2", 2).await.status, 202);
    world.create("g").await;
    let other = json!({"ReservedConcurrentExecutions": 894});
    let path = "/2017-10-31/functions/g/concurrency";
    refused(
        world.client.call("PUT", path, other).await,
        "Specified ReservedConcurrentExecutions for function decreases account's UnreservedConcurrentExecution below its minimum value of [100].",
    );
}

#[tokio::test]
async fn all_of_a_function_are_listed_in_pages() {
    let world = World::new().await;
    versions(&world).await;
    put(&world, "prod", 1).await;
    put(&world, "2", 2).await;
    put(&world, "3", 3).await;
    let list = "/2019-09-30/functions/f/provisioned-concurrency?List=ALL&MaxItems=2";

    let first = world.client.get(list).await.json();
    let marker = first["NextMarker"].as_str().unwrap();
    let second = world.client.get(&format!("{list}&Marker={marker}")).await.json();

    let mut seen = Vec::new();
    for page in [&first, &second] {
        for item in page["ProvisionedConcurrencyConfigs"].as_array().unwrap() {
            let arn = item["FunctionArn"].as_str().unwrap().to_owned();
            let requested = &item["RequestedProvisionedConcurrentExecutions"];
            assert_eq!(item["Status"], "READY");
            seen.push((arn, requested.as_u64().unwrap()));
        }
    }
    seen.sort();
    let expected = [("2", 2), ("3", 3), ("prod", 1)];
    assert_eq!(seen, expected.map(|(qualifier, count)| (format!("{ARN}:{qualifier}"), count)));
    assert_eq!(second.get("NextMarker"), None);
}

#[tokio::test]
async fn it_is_asked_for_again_after_a_kill() {
    let world = World::new().await;
    versions(&world).await;
    put(&world, "prod", 3).await;
    let before = get(&world, "prod").await;

    let world = world.killed().await;

    for _ in 0..500 {
        if world.fleet.stands() == [("1".to_owned(), 3)] {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    assert_eq!(get(&world, "prod").await, before);
}

#[tokio::test]
async fn its_calls_are_let_in_when_the_pool_is_empty() {
    let world = World::with(|config| config.limits.concurrency = 102).await;
    versions(&world).await;
    assert_eq!(put(&world, "prod", 2).await.status, 202);
    let mut hanging = tokio::task::JoinSet::new();
    for _ in 0..100 {
        let client = world.client;
        hanging.spawn(async move {
            let path = format!("{FUNCTIONS}/f/invocations");
            client.send("POST", &path, &[], "{\"do\":\"hang\"}").await.status
        });
    }
    let running = || world.fleet.leases.load(Ordering::SeqCst);
    for _ in 0..2_000 {
        if running() == 100 {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    assert_eq!(running(), 100, "a hundred of the pool");

    let full = world.invoke("f", json!({})).await;
    assert_eq!(full.status, 429);
    assert_eq!(full.json()["Reason"], "ConcurrentInvocationLimitExceeded");
    assert_eq!(world.invoke("f:2", json!({})).await.status, 429, "another version");
    assert_eq!(world.invoke("f:prod", json!({})).await.status, 200);
    assert_eq!(world.invoke("f:1", json!({})).await.status, 200, "the alias's version");

    world.fleet.release.send_replace(true);
    assert!(hanging.join_all().await.iter().all(|status| *status == 200));
}

#[tokio::test]
async fn rates_are_refused_by_name_and_say_when_to_come_again() {
    let world = World::with(|config| {
        config.limits = Limits { rate: RateRule::TenPerConcurrency, concurrency: 1 };
        config.caller_rate = CallerRate::Lambda;
    })
    .await;
    assert_eq!(world.create("f").await.status, 201);
    world.settled("f").await;
    let mut refused = None;
    for _ in 0..200 {
        let got = world.invoke("f", json!({})).await;
        if got.status == 429 {
            refused = Some(got);
            break;
        }
    }
    let refused = refused.expect("ten a second");
    assert_eq!(refused.json()["Reason"], "FunctionInvocationRateLimitExceeded");
    assert_eq!(refused.header("retry-after"), Some("1"));

    let mut refused = None;
    for _ in 0..200 {
        let got = world.client.get(FUNCTIONS).await;
        if got.status == 429 {
            refused = Some(got);
            break;
        }
    }
    let refused = refused.expect("fifteen a second");
    let (_, code, message) = refused.error();
    assert_eq!((code.as_str(), message.as_str()), ("TooManyRequestsException", "Rate exceeded"));
    assert_eq!(refused.json()["Reason"], "CallerRateLimitExceeded");
    assert!(refused.header("retry-after").is_some());
    let metrics = world.client.get("/metrics").await;
    let text = String::from_utf8_lossy(&metrics.body).into_owned();
    assert!(text.contains("throttles_total{reason=\"CallerRateLimitExceeded\"} 1"), "{text}");
}

/// As a kill between the deletion of a version and the end of what was
/// provisioned for it once left it.
async fn left_over(world: &World, qualifier: &str) {
    let document = "function/000000000000/us-east-1/f";
    let head = world.metadata.get(document).await.unwrap().unwrap();
    let mut doc: Value = serde_json::from_slice(&head.value).unwrap();
    doc["live"]["provisioned"][qualifier] = json!({"count": 4, "modified_ms": 1});
    let value = serde_json::to_vec(&doc).unwrap().into();
    world.metadata.put(document, value, Expect::At(head.revision)).await.unwrap();
    for _ in 0..1_000 {
        if listed(world).await.contains(&format!("{ARN}:{qualifier}")) {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    panic!("nobody noticed");
}

async fn listed(world: &World) -> Vec<String> {
    let path = "/2019-09-30/functions/f/provisioned-concurrency?List=ALL";
    let shown = world.client.get(path).await.json();
    let configs = shown["ProvisionedConcurrencyConfigs"].as_array().unwrap();
    configs.iter().map(|one| one["FunctionArn"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn what_was_provisioned_for_a_version_that_is_gone_can_be_given_back() {
    let world = World::new().await;
    versions(&world).await;
    let gone = async || {
        let path = format!("{FUNCTIONS}/f?Qualifier=2");
        world.client.call("DELETE", &path, Value::Null).await.status
    };
    assert!([200, 204].contains(&gone().await));

    left_over(&world, "2").await;
    assert_eq!(delete(&world, "2").await.status, 204);
    assert_eq!(listed(&world).await, Vec::<String>::new());
    assert_eq!(delete(&world, "2").await.status, 404);

    left_over(&world, "2").await;
    assert!([200, 204].contains(&gone().await), "as a retry after the kill");
    assert_eq!(listed(&world).await, Vec::<String>::new());

    // A deletion that is refused takes nothing along.
    assert_eq!(put(&world, "1", 1).await.status, 202);
    let path = format!("{FUNCTIONS}/f?Qualifier=1");
    assert_eq!(world.client.call("DELETE", &path, Value::Null).await.status, 409);
    assert_eq!(listed(&world).await, [format!("{ARN}:1")]);
}

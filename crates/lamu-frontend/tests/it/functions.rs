//! Create, read, update, publish, delete, list, tag, reserve.

use std::time::Duration;

use serde_json::{Value, json};

use crate::world::{FUNCTIONS, World, zip, zip_bytes};

const ARN: &str = "arn:aws:lambda:us-east-1:000000000000:function:f";

#[tokio::test]
async fn a_created_function_is_pending_and_then_active() {
    let world = World::new().await;
    world.fleet.prepare.send_replace(false);

    let created = world.create("f").await;
    assert_eq!(created.status, 201);
    let shown = created.json();
    assert_eq!(shown["State"], "Pending");
    assert_eq!(shown["FunctionArn"], ARN);
    assert_eq!(shown.get("LastUpdateStatus"), None);
    assert!(created.header("x-amzn-requestid").is_some());

    let pending = "The operation cannot be performed at this time. The function is currently in the following state: Pending";
    let expected = (409, "ResourceConflictException".to_owned(), pending.to_owned());
    assert_eq!(world.invoke("f", json!({})).await.error(), expected);
    let publish = world.client.call("POST", &format!("{FUNCTIONS}/f/versions"), json!({})).await;
    assert_eq!(publish.error(), expected);
    let update = json!({"Timeout": 9});
    let update = world.client.call("PUT", &format!("{FUNCTIONS}/f/configuration"), update).await;
    assert_eq!(update.error(), expected);

    world.fleet.prepare.send_replace(true);
    let active = world.settled("f").await;
    assert_eq!(active["State"], "Active");
    assert_eq!(active["LastUpdateStatus"], "Successful");
    assert_eq!(active.get("StateReason"), None);
    assert_ne!(active["RevisionId"], shown["RevisionId"]);
    assert_eq!(active["LastModified"], shown["LastModified"]);
}

#[tokio::test]
async fn a_name_is_taken_until_its_function_is_deleted() {
    let world = World::new().await;
    world.function("f").await;
    let text = "Function already exist: f".to_owned();
    assert_eq!(
        world.create("f").await.error(),
        (409, "ResourceConflictException".to_owned(), text)
    );
    let deleted = world.client.call("DELETE", &format!("{FUNCTIONS}/f"), Value::Null).await;
    assert_eq!((deleted.status, deleted.body.len()), (204, 0));
    let gone = world.client.get(&format!("{FUNCTIONS}/f")).await;
    let text = format!("Function not found: {ARN}");
    assert_eq!(gone.error(), (404, "ResourceNotFoundException".to_owned(), text));
    assert_eq!(world.create("f").await.status, 201);
}

#[tokio::test]
async fn what_cannot_run_here_fails_and_says_why() {
    let world = World::new().await;
    let created = world.create_with("f", json!({"Runtime": "ruby3.4"})).await;
    assert_eq!(created.status, 201);
    let failed = world.settled("f").await;
    assert_eq!(failed["State"], "Failed");
    assert_eq!(failed["StateReasonCode"], "InvalidRuntime");
    assert!(failed["StateReason"].as_str().unwrap().contains("install ruby"));
    let (status, _, message) = world.invoke("f", json!({})).await.error();
    assert_eq!(status, 409);
    assert!(message.ends_with("state: Failed"), "{message}");
}

#[tokio::test]
async fn code_comes_back_by_its_link() {
    let world = World::new().await;
    let shown = world.function("f").await;
    let got = world.client.get(&format!("{FUNCTIONS}/f")).await.json();
    assert_eq!(got["Configuration"], shown);
    assert_eq!(got["Code"]["RepositoryType"], "S3");
    assert_eq!(got.get("Tags"), None);
    let location = got["Code"]["Location"].as_str().unwrap();
    let path = location.strip_prefix(&format!("http://{}", world.client.address)).unwrap();
    let code = world.client.get(path).await;
    assert_eq!(code.header("content-type"), Some("application/zip"));
    assert_eq!(code.body, zip_bytes(&[("index.py", "f")]));
    let forged = world.client.get(&path.replace("signature=", "signature=0")).await;
    assert_eq!(forged.status, 403);
}

#[tokio::test]
async fn an_update_runs_old_code_until_it_is_done() {
    let world = World::new().await;
    let before = world.function("f").await;
    world.fleet.prepare.send_replace(false);
    let path = format!("{FUNCTIONS}/f/code");
    let input = json!({"ZipFile": zip(&[("index.py", "new")])});

    let updating = world.client.call("PUT", &path, input.clone()).await.json();
    assert_eq!(updating["State"], "Active");
    assert_eq!(updating["LastUpdateStatus"], "InProgress");
    assert_eq!(updating["LastUpdateStatusReasonCode"], "Creating");
    assert_ne!(updating["CodeSha256"], before["CodeSha256"]);
    let (status, _, message) = world.client.call("PUT", &path, input).await.error();
    assert_eq!(status, 409);
    assert_eq!(
        message,
        format!(
            "The operation cannot be performed at this time. An update is in progress for resource: {ARN}"
        )
    );
    let old = world.invoke("f", json!({})).await.json();

    world.fleet.prepare.send_replace(true);
    let after = world.settled("f").await;
    assert_eq!(after["LastUpdateStatus"], "Successful");
    let new = world.invoke("f", json!({})).await.json();
    assert_ne!(old["code"], new["code"]);
    assert_eq!(world.fleet.retired.lock().unwrap().len(), 1, "the old version is retired");
}

#[tokio::test]
async fn a_failed_update_keeps_the_old_configuration_running() {
    let world = World::new().await;
    world.function("f").await;
    let path = format!("{FUNCTIONS}/f/configuration");
    let ruby = json!({"Runtime": "ruby3.4", "Environment": {"Variables": {"AB": "new"}}});
    assert_eq!(world.client.call("PUT", &path, ruby).await.status, 200);
    let failed = world.settled("f").await;
    assert_eq!(failed["State"], "Active");
    assert_eq!(failed["LastUpdateStatus"], "Failed");
    assert_eq!(failed["LastUpdateStatusReasonCode"], "InvalidRuntime");
    assert_eq!(failed["Runtime"], "ruby3.4");
    let ran = world.invoke("f", json!({})).await.json();
    assert_eq!(ran["environment"], json!({}), "the old one");

    let repaired = json!({"Runtime": "python3.12"});
    assert_eq!(world.client.call("PUT", &path, repaired).await.status, 200);
    assert_eq!(world.settled("f").await["LastUpdateStatus"], "Successful");
    let ran = world.invoke("f", json!({})).await.json();
    assert_eq!(ran["environment"], json!({"AB": "new"}));
}

#[tokio::test]
async fn a_dry_run_changes_nothing() {
    let world = World::new().await;
    let before = world.function("f").await;
    let path = format!("{FUNCTIONS}/f/code");
    let input = json!({"ZipFile": zip(&[("index.py", "new")]), "DryRun": true});
    let would = world.client.call("PUT", &path, input).await;
    assert_eq!(would.status, 200);
    assert_ne!(would.json()["CodeSha256"], before["CodeSha256"]);
    assert_eq!(world.settled("f").await, before);
}

#[tokio::test]
async fn of_two_writers_with_one_revision_one_wins() {
    let world = World::new().await;
    let revision = world.function("f").await["RevisionId"].clone();
    let path = format!("{FUNCTIONS}/f/configuration");
    let input = |timeout: u32| json!({"Timeout": timeout, "RevisionId": revision});
    let client = world.client;
    let writers: Vec<_> = (1..=8)
        .map(|timeout| {
            let (path, input) = (path.clone(), input(timeout));
            tokio::spawn(async move { client.call("PUT", &path, input).await.status })
        })
        .collect();
    let mut won = 0;
    for writer in writers {
        match writer.await.unwrap() {
            200 => won += 1,
            status => assert!([409, 412].contains(&status), "{status}"),
        }
    }
    assert_eq!(won, 1);
    world.settled("f").await;
    let (status, code, message) = world.client.call("PUT", &path, input(9)).await.error();
    assert_eq!((status, code.as_str()), (412, "PreconditionFailedException"));
    assert!(message.starts_with("The Revision Id provided does not match"), "{message}");
}

#[tokio::test]
async fn publishing_counts_up_and_an_unchanged_function_makes_no_version() {
    let world = World::new().await;
    let latest = world.function("f").await;
    let versions = format!("{FUNCTIONS}/f/versions");
    let first = world.client.call("POST", &versions, json!({"Description": "one"})).await;
    assert_eq!(first.status, 201);
    let first = first.json();
    assert_eq!((&first["Version"], &first["State"]), (&json!("1"), &json!("Active")));
    assert_eq!(first["FunctionArn"], format!("{ARN}:1"));
    assert_eq!(first["Description"], "one");
    let after = world.settled("f").await;
    assert_ne!(after["RevisionId"], latest["RevisionId"]);

    let again = world.client.call("POST", &versions, json!({"Description": "two"})).await.json();
    assert_eq!(again, first);
    assert_eq!(world.settled("f").await, after);

    let path = format!("{FUNCTIONS}/f/configuration");
    world.client.call("PUT", &path, json!({"Timeout": 9})).await;
    world.settled("f").await;
    let second = world.client.call("POST", &versions, json!({})).await.json();
    assert_eq!((&second["Version"], &second["Timeout"]), (&json!("2"), &json!(9)));
    let wrong = json!({"CodeSha256": "x"});
    let (status, _, message) = world.client.call("POST", &versions, wrong).await.error();
    assert_eq!(status, 400);
    assert!(message.starts_with("CodeSHA256 (x) is different from current"), "{message}");

    let listed = world.client.get(&versions).await.json();
    let listed: Vec<&str> = listed["Versions"]
        .as_array()
        .unwrap()
        .iter()
        .map(|version| version["FunctionArn"].as_str().unwrap().rsplit(':').next().unwrap())
        .collect();
    assert_eq!(listed, ["$LATEST", "1", "2"]);

    let gone = world.client.call("DELETE", &format!("{FUNCTIONS}/f:2"), Value::Null).await;
    assert_eq!(gone.status, 204);
    let third = world.client.call("POST", &versions, json!({})).await.json();
    assert_eq!(third["Version"], "3", "numbers are never given twice");
    let gone = world.client.get(&format!("{FUNCTIONS}/f?Qualifier=2")).await;
    assert_eq!(gone.error().2, format!("Function not found: {ARN}:2"));
}

#[tokio::test]
async fn create_and_update_publish_when_asked() {
    let world = World::new().await;
    let created = world.create_with("f", json!({"Publish": true})).await.json();
    assert_eq!((&created["Version"], &created["FunctionArn"]), (&json!("1"), &json!(ARN)));
    world.settled("f").await;
    for _ in 0..500 {
        let one = world.client.get(&format!("{FUNCTIONS}/f:1/configuration")).await.json();
        if one["State"] == "Active" {
            assert_eq!(one["RevisionId"], created["RevisionId"]);
            break;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let input = json!({"ZipFile": zip(&[("index.py", "new")]), "Publish": true});
    let updated = world.client.call("PUT", &format!("{FUNCTIONS}/f/code"), input).await.json();
    assert_eq!(updated["Version"], "2");
    assert_eq!(updated["FunctionArn"], format!("{ARN}:2"));
    assert_eq!(updated["State"], "Pending");
    assert_eq!(updated.get("LastUpdateStatus"), None);
    world.settled("f").await;
    let path = format!("{FUNCTIONS}/f/invocations?Qualifier=1");
    let ran = world.client.send("POST", &path, &[], "{}").await;
    assert_eq!(ran.header("x-amz-executed-version"), Some("1"));
}

#[tokio::test]
async fn a_function_made_anew_goes_on_counting() {
    let world = World::new().await;
    world.create_with("f", json!({"Publish": true})).await;
    world.settled("f").await;
    world.client.call("DELETE", &format!("{FUNCTIONS}/f"), Value::Null).await;
    let created = world.create_with("f", json!({"Publish": true})).await.json();
    assert_eq!(created["Version"], "2");
    let listed = world.client.get(&format!("{FUNCTIONS}/f/versions")).await.json();
    assert_eq!(listed["Versions"].as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn functions_are_listed_in_pages() {
    let world = World::new().await;
    for name in ["a", "a-b", "b", "c", "d"] {
        world.create_with(name, json!({"Publish": true})).await;
    }
    for (query, count) in [("", 5), ("FunctionVersion=ALL&", 10)] {
        let mut seen: Vec<String> = Vec::new();
        let mut marker = String::new();
        loop {
            let path = format!("{FUNCTIONS}/?{query}MaxItems=2{marker}");
            let page = world.client.get(&path).await.json();
            for function in page["Functions"].as_array().unwrap() {
                assert_eq!(function.get("State"), None);
                seen.push(function["FunctionArn"].as_str().unwrap().to_owned());
            }
            match page["NextMarker"].as_str() {
                Some(next) => marker = format!("&Marker={next}"),
                None => break,
            }
        }
        assert_eq!(seen.len(), count, "{seen:?}");
        seen.dedup();
        assert_eq!(seen.len(), count, "nothing twice");
    }
    let bad = world.client.get(&format!("{FUNCTIONS}?Marker=!!")).await;
    assert_eq!(bad.status, 400);
}

#[tokio::test]
async fn deletion_keeps_to_what_may_be_deleted() {
    let world = World::new().await;
    world.create_with("f", json!({"Publish": true})).await;
    world.settled("f").await;
    let alias = json!({"Name": "prod", "FunctionVersion": "1"});
    world.client.call("POST", &format!("{FUNCTIONS}/f/aliases"), alias).await;
    let table = [
        (
            "f?Qualifier=$LATEST",
            400,
            "$LATEST version cannot be deleted without deleting the function.",
        ),
        ("f:prod", 400, "Deletion of aliases is not currently supported."),
        ("f:1", 409, "Version 1 cannot be deleted because it is referenced by one or more aliases"),
        ("f:9", 204, ""),
        ("g:1", 404, "Function not found: arn:aws:lambda:us-east-1:000000000000:function:g"),
    ];
    for (name, status, message) in table {
        let path = format!("{FUNCTIONS}/{name}");
        let got = world.client.call("DELETE", &path, Value::Null).await;
        assert_eq!(got.status, status, "{name}: {:?}", got.body);
        if status != 204 {
            assert_eq!(got.error().2, message);
        }
    }
}

#[tokio::test]
async fn what_a_deleted_function_had_is_gone_from_the_store() {
    let world = World::new().await;
    world.create_with("f", json!({"Publish": true})).await;
    world.settled("f").await;
    let alias = json!({"Name": "prod", "FunctionVersion": "1"});
    world.client.call("POST", &format!("{FUNCTIONS}/f/aliases"), alias).await;
    world.client.call("DELETE", &format!("{FUNCTIONS}/f"), Value::Null).await;
    for prefix in ["version/", "alias/"] {
        assert!(world.metadata.scan(prefix, None, 10).await.unwrap().is_empty(), "{prefix}");
    }
    assert_eq!(world.fleet.retired.lock().unwrap().len(), 2, "$LATEST and version 1");
}

#[tokio::test]
async fn tags_merge_and_go_and_change_the_revision() {
    let world = World::new().await;
    let before = world.function("f").await;
    let path = format!("/2017-03-31/tags/{}", ARN.replace(':', "%3A"));
    let tag = json!({"Tags": {"a": "1", "b": "2"}});
    assert_eq!(world.client.call("POST", &path, tag).await.status, 204);
    assert_ne!(world.settled("f").await["RevisionId"], before["RevisionId"]);
    world.client.call("POST", &path, json!({"Tags": {"b": "3"}})).await;
    assert_eq!(world.client.get(&path).await.json(), json!({"Tags": {"a": "1", "b": "3"}}));
    let untag = format!("{path}?tagKeys=a&tagKeys=zzz");
    assert_eq!(world.client.call("DELETE", &untag, Value::Null).await.status, 204);
    let got = world.client.get(&format!("{FUNCTIONS}/f")).await.json();
    assert_eq!(got["Tags"], json!({"b": "3"}));

    let (status, _, message) = world.client.get(&format!("{path}%3A1")).await.error();
    assert_eq!(status, 400);
    assert!(message.starts_with("Tags on function aliases and versions"), "{message}");
    let esm = "/2017-03-31/tags/arn:aws:lambda:us-east-1:000000000000:event-source-mapping:00000000-0000-0000-0000-000000000000";
    let (status, _, message) = world.client.get(esm).await.error();
    assert_eq!(status, 404);
    assert!(message.starts_with("Event source mapping not found: "), "{message}");
}

#[tokio::test]
async fn a_reservation_leaves_a_hundred_unreserved() {
    let world = World::new().await;
    world.function("f").await;
    world.function("g").await;
    let put = |name: &str, count: i32| {
        let path = format!("/2017-10-31/functions/{name}/concurrency");
        let input = json!({"ReservedConcurrentExecutions": count});
        async move { world.client.call("PUT", &path, input).await }
    };
    assert_eq!(put("f", 500).await.json(), json!({"ReservedConcurrentExecutions": 500}));
    assert_eq!(put("g", 400).await.status, 200);
    let refused = put("g", 401).await;
    assert_eq!(refused.json().get("Type"), None);
    assert_eq!(
        refused.error().2,
        "Specified ReservedConcurrentExecutions for function decreases account's UnreservedConcurrentExecution below its minimum value of [100]."
    );
    let got = world.client.get(&format!("{FUNCTIONS}/f")).await.json();
    assert_eq!(got["Concurrency"], json!({"ReservedConcurrentExecutions": 500}));
    let settings = world.client.get("/2016-08-19/account-settings").await.json();
    assert_eq!(settings["AccountLimit"]["UnreservedConcurrentExecutions"], 100);
    assert_eq!(settings["AccountUsage"]["FunctionCount"], 2);

    let path = "/2017-10-31/functions/f/concurrency";
    assert_eq!(world.client.call("DELETE", path, Value::Null).await.status, 204);
    let path = "/2019-09-30/functions/f/concurrency";
    assert_eq!(world.client.get(path).await.json(), json!({}));
    let (_, _, message) = put("none", 1).await.error();
    assert!(message.ends_with("function:none:$LATEST"), "{message}");
}

#[tokio::test]
async fn bad_requests_are_refused_in_the_words_of_the_service() {
    let world = World::new().await;
    let reserved = json!({"Environment": {"Variables": {"AWS_REGION": "x"}}});
    let table = [
        (json!({"Code": {"ZipFile": "bm90IGEgemlw"}}), 400, "Could not unzip uploaded file."),
        (json!({"Code": {}}), 400, "Please provide a source for function code."),
        (json!({"Runtime": "python3.7"}), 400, "The runtime parameter of python3.7 is no longer"),
        (json!({"Runtime": "cobol"}), 400, "Value cobol at 'runtime' failed to satisfy"),
        (json!({"MemorySize": 1}), 400, "1 validation error detected: Value '1' at 'memorySize'"),
        (json!({"Role": "x"}), 400, "1 validation error detected: Value 'x' at 'role'"),
        (reserved, 400, "Lambda was unable to configure your environment variables because the"),
        (json!({"PackageType": "Image"}), 400, "PackageType Image is a setting of Lambda that"),
        (
            json!({"Layers": ["arn:aws:lambda:us-east-1:000000000000:layer:l:1"]}),
            400,
            "Layer version arn",
        ),
    ];
    for (members, status, begins) in table {
        let (got, _, message) = world.create_with("f", members.clone()).await.error();
        assert_eq!(got, status, "{members}");
        assert!(message.starts_with(begins), "{members}: {message}");
    }
    assert!(world.packages.list().await.unwrap().is_empty(), "nothing refused was stored");
}

#[tokio::test]
async fn what_is_not_served_yet_says_so() {
    let world = World::new().await;
    let (status, code, message) = world.client.get("/2025-11-30/capacity-providers").await.error();
    assert_eq!((status, code.as_str()), (501, "NotImplementedException"));
    assert!(message.contains("ListCapacityProviders"), "{message}");
    let invalid = "/2025-11-30/capacity-providers?MaxItems=1000";
    assert_eq!(world.client.get(invalid).await.status, 400, "validated all the same");
    assert_eq!(world.client.get("/2015-03-31/nonsense").await.status, 404);
}

#[tokio::test]
async fn every_operation_is_routed_and_either_served_or_said_not_to_be() {
    use lamu_api::Operation as Op;

    const SERVED: &[Op] = &[
        Op::CreateFunction,
        Op::GetFunction,
        Op::GetFunctionConfiguration,
        Op::ListFunctions,
        Op::UpdateFunctionCode,
        Op::UpdateFunctionConfiguration,
        Op::DeleteFunction,
        Op::GetAccountSettings,
        Op::PublishVersion,
        Op::ListVersionsByFunction,
        Op::CreateAlias,
        Op::GetAlias,
        Op::UpdateAlias,
        Op::DeleteAlias,
        Op::ListAliases,
        Op::PutFunctionConcurrency,
        Op::GetFunctionConcurrency,
        Op::DeleteFunctionConcurrency,
        Op::PutProvisionedConcurrencyConfig,
        Op::GetProvisionedConcurrencyConfig,
        Op::DeleteProvisionedConcurrencyConfig,
        Op::ListProvisionedConcurrencyConfigs,
        Op::PutFunctionEventInvokeConfig,
        Op::UpdateFunctionEventInvokeConfig,
        Op::GetFunctionEventInvokeConfig,
        Op::DeleteFunctionEventInvokeConfig,
        Op::ListFunctionEventInvokeConfigs,
        Op::PutRuntimeManagementConfig,
        Op::GetRuntimeManagementConfig,
        Op::PutFunctionRecursionConfig,
        Op::GetFunctionRecursionConfig,
        Op::CreateEventSourceMapping,
        Op::GetEventSourceMapping,
        Op::UpdateEventSourceMapping,
        Op::DeleteEventSourceMapping,
        Op::ListEventSourceMappings,
        Op::ListTags,
        Op::TagResource,
        Op::UntagResource,
        Op::CreateFunctionUrlConfig,
        Op::GetFunctionUrlConfig,
        Op::UpdateFunctionUrlConfig,
        Op::DeleteFunctionUrlConfig,
        Op::ListFunctionUrlConfigs,
        Op::Invoke,
        Op::InvokeWithResponseStream,
        Op::PublishLayerVersion,
        Op::ListLayers,
        Op::ListLayerVersions,
        Op::GetLayerVersion,
        Op::GetLayerVersionByArn,
        Op::DeleteLayerVersion,
        Op::CreateCodeSigningConfig,
        Op::GetCodeSigningConfig,
        Op::UpdateCodeSigningConfig,
        Op::DeleteCodeSigningConfig,
        Op::ListCodeSigningConfigs,
        Op::ListFunctionsByCodeSigningConfig,
        Op::PutFunctionCodeSigningConfig,
        Op::GetFunctionCodeSigningConfig,
        Op::DeleteFunctionCodeSigningConfig,
        Op::AddPermission,
        Op::RemovePermission,
        Op::GetPolicy,
        Op::PutResourcePolicy,
        Op::GetResourcePolicy,
        Op::DeleteResourcePolicy,
        Op::AddLayerVersionPermission,
        Op::RemoveLayerVersionPermission,
        Op::GetLayerVersionPolicy,
    ];
    let world = World::new().await;
    for operation in Op::ALL {
        let path = operation
            .uri()
            .replace("{Resource}", &ARN.replace(':', "%3A"))
            .replace("{ResourceArn}", &ARN.replace(':', "%3A"))
            .replace("{VersionNumber}", "1")
            .replace("{FunctionName}", "f");
        let path = match path.find('{') {
            // Other labels: something that most patterns take.
            Some(_) => path
                .split('{')
                .map(|part| {
                    part.split_once('}').map_or(part.to_owned(), |(_, rest)| format!("x{rest}"))
                })
                .collect(),
            None => path,
        };
        let method = operation.method().as_str();
        let got = world.client.call(method, &path, json!({})).await;
        let code = got.header("x-amzn-errortype").unwrap_or_default();
        assert_ne!(code, "UnknownOperationException", "{operation}: {path}");
        assert_eq!(world.stats().requests(*operation, got.status), 1, "{operation}: {path}");
        if SERVED.contains(operation) {
            assert_ne!(got.status, 501, "{operation}");
        } else {
            let refused = got.status == 501 || code == "ValidationException";
            assert!(refused, "{operation}: {} {:?}", got.status, got.body);
        }
    }
}

#[tokio::test]
async fn the_process_tells_how_it_is() {
    let world = World::with(|config| {
        config.render_metrics =
            std::sync::Arc::new(|| Box::pin(async { "other_metric 1\n".to_owned() }));
    })
    .await;
    assert_eq!(world.client.get("/healthz").await.body, "ok\n");
    assert_eq!(world.client.get("/readyz").await.status, 200);
    world.function("f").await;
    world.invoke("f", json!({})).await;
    let metrics = world.client.get("/metrics").await;
    let metrics = String::from_utf8(metrics.body.to_vec()).unwrap();
    let created = "lamu_frontend_requests_total{operation=\"CreateFunction\",status=\"201\"} 1\n";
    assert!(metrics.contains(created), "{metrics}");
    assert!(metrics.contains("lamu_frontend_invoke_seconds_count{start=\"cold\"} 1\n"));
    assert!(metrics.ends_with("other_metric 1\n"));
    assert_eq!(world.stats().requests(lamu_api::Operation::Invoke, 200), 1);
}

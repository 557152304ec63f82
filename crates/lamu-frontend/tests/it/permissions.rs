//! Policies of functions, versions and aliases: what is answered, what is
//! kept, and that revisions decide between writers.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::clients::{Client, Got};
use crate::world::{FUNCTIONS, World};

const ARN: &str = "arn:aws:lambda:us-east-1:000000000000:function:f";

fn grant(sid: &str) -> Value {
    json!({"StatementId": sid, "Action": "lambda:InvokeFunction", "Principal": "s3.amazonaws.com"})
}

async fn add(client: Client, name: &str, query: &str, input: Value) -> Got {
    client.call("POST", &format!("{FUNCTIONS}/{name}/policy{query}"), input).await
}

async fn remove(client: Client, name: &str, sid: &str, query: &str) -> Got {
    client.call("DELETE", &format!("{FUNCTIONS}/{name}/policy/{sid}{query}"), Value::Null).await
}

/// The policy's statement ids and its revision.
async fn policy(client: Client, name: &str) -> (Vec<String>, String) {
    let got = client.get(&format!("{FUNCTIONS}/{name}/policy")).await;
    if got.status == 404 {
        return (Vec::new(), String::new());
    }
    let shown = got.json();
    let document: Value = serde_json::from_str(shown["Policy"].as_str().unwrap()).unwrap();
    let statements = document["Statement"].as_array().unwrap();
    let sids = statements.iter().map(|one| one["Sid"].as_str().unwrap().to_owned()).collect();
    (sids, shown["RevisionId"].as_str().unwrap().to_owned())
}

async fn revision(client: Client, name: &str) -> String {
    let got = client.get(&format!("{FUNCTIONS}/{name}/configuration")).await.json();
    got["RevisionId"].as_str().unwrap().to_owned()
}

/// `f` with version 1 and alias `prod`.
async fn published() -> World {
    let world = World::new().await;
    world.create_with("f", json!({"Publish": true})).await;
    world.settled("f").await;
    let alias = json!({"Name": "prod", "FunctionVersion": "1"});
    world.client.call("POST", &format!("{FUNCTIONS}/f/aliases"), alias).await;
    world
}

#[tokio::test]
async fn statements_come_and_go_and_the_last_takes_the_policy_with_it() {
    let world = published().await;
    let client = world.client;
    let before = revision(client, "f").await;
    let added = add(client, "f", "", grant("s1")).await;
    assert_eq!(added.status, 201);
    assert_eq!(
        added.json()["Statement"],
        format!(
            r#"{{"Sid":"s1","Effect":"Allow","Principal":{{"Service":"s3.amazonaws.com"}},"Action":"lambda:InvokeFunction","Resource":"{ARN}"}}"#
        )
    );
    let (sids, first) = policy(client, "f").await;
    assert_eq!(sids, ["s1"]);
    assert_eq!(revision(client, "f").await, first, "the function's own revision");
    assert_ne!(first, before);
    let again = add(client, "f", "", grant("s1")).await.error();
    assert_eq!(again, (409, "ResourceConflictException".into(), "The statement id (s1) provided already exists. Please provide a new statement id, or remove the existing statement.".into()));
    assert_eq!(add(client, "f", "", grant("s2")).await.status, 201);
    assert_eq!(policy(client, "f").await.0, ["s1", "s2"]);

    assert_eq!(remove(client, "f", "s1", "").await.status, 204);
    let gone = remove(client, "f", "s1", "").await.error();
    assert_eq!((gone.0, gone.2.as_str()), (404, "Statement s1 is not found in resource policy."));
    assert_eq!(remove(client, "f", "s2", "").await.status, 204);
    let none = client.get(&format!("{FUNCTIONS}/f/policy")).await.error();
    assert_eq!(none.2, "The resource you requested does not exist.");
    let none = remove(client, "f", "s2", "").await.error();
    assert_eq!(none.2, "No policy is associated with the given resource.");
}

#[tokio::test]
async fn nothing_of_the_functions_policy_is_changed_under_the_name_of_latest() {
    let world = published().await;
    let client = world.client;
    assert_eq!(add(client, "f", "", grant("s1")).await.status, 201);
    let refused = "We currently do not support adding policies for $LATEST.";
    let removed = remove(client, "f", "s1", "?Qualifier=$LATEST").await.error();
    assert_eq!(removed, (400, "InvalidParameterValueException".into(), refused.into()));
    let path = format!("/2026-07-09/resource-policy/{ARN}:$LATEST").replace(':', "%3A");
    let deleted = client.call("DELETE", &path, Value::Null).await.error();
    assert_eq!((deleted.0, deleted.2.as_str()), (400, refused));
    assert_eq!(policy(client, "f").await.0, ["s1"]);
}

#[tokio::test]
async fn function_version_and_alias_have_policies_and_revisions_of_their_own() {
    let world = published().await;
    let client = world.client;
    let (latest, version) = (revision(client, "f").await, revision(client, "f:1").await);
    for (query, resource) in [("?Qualifier=1", "1"), ("?Qualifier=prod", "prod")] {
        let added = add(client, "f", query, grant(resource)).await;
        assert_eq!(added.status, 201, "{:?}", added.body);
        let statement = added.json()["Statement"].as_str().unwrap().to_owned();
        assert!(statement.contains(&format!("\"Resource\":\"{ARN}:{resource}\"")), "{statement}");
    }
    assert_eq!(policy(client, "f").await.0, Vec::<String>::new());
    assert_eq!(policy(client, "f:1").await.0, ["1"]);
    assert_eq!(policy(client, "f:prod").await.0, ["prod"]);
    assert_eq!(revision(client, "f").await, latest, "it did not change");
    let changed = revision(client, "f:1").await;
    assert_ne!(changed, version);
    assert_eq!(policy(client, "f:1").await.1, changed);
    let alias = client.get(&format!("{FUNCTIONS}/f/aliases/prod")).await.json();
    assert_eq!(policy(client, "f:prod").await.1, alias["RevisionId"]);

    // An update of the alias keeps its policy, a new alias has none.
    let path = format!("{FUNCTIONS}/f/aliases/prod");
    client.call("PUT", &path, json!({"Description": "d"})).await;
    assert_eq!(policy(client, "f:prod").await.0, ["prod"]);
    client.call("DELETE", &path, Value::Null).await;
    let alias = json!({"Name": "prod", "FunctionVersion": "1"});
    client.call("POST", &format!("{FUNCTIONS}/f/aliases"), alias).await;
    assert_eq!(policy(client, "f:prod").await.0, Vec::<String>::new());

    // So with functions, and what a publish copies is no policy.
    add(client, "f", "", grant("own")).await;
    let update = json!({"Timeout": 9});
    client.call("PUT", &format!("{FUNCTIONS}/f/configuration"), update).await;
    world.settled("f").await;
    client.call("POST", &format!("{FUNCTIONS}/f/versions"), json!({})).await;
    assert_eq!(policy(client, "f").await.0, ["own"]);
    assert_eq!(policy(client, "f:2").await.0, Vec::<String>::new());
    client.call("DELETE", &format!("{FUNCTIONS}/f"), Value::Null).await;
    world.function("f").await;
    assert_eq!(policy(client, "f").await.0, Vec::<String>::new());
}

#[tokio::test]
async fn wrong_requests_get_lambdas_words() {
    let world = published().await;
    let client = world.client;
    let with = |member: &str, value: Value| {
        let mut input = grant("s");
        input[member] = value;
        input
    };
    let table = [
        ("g", "", grant("s"), 404, format!("Function not found: {}", ARN.replace("function:f", "function:g"))),
        ("f", "?Qualifier=7", grant("s"), 404, format!("Function not found: {ARN}:7")),
        ("f", "?Qualifier=dev", grant("s"), 404, format!("Cannot find alias arn: {ARN}:dev")),
        (
            "f",
            "?Qualifier=$LATEST",
            grant("s"),
            400,
            "We currently do not support adding policies for $LATEST.".into(),
        ),
        (
            "f",
            "",
            with("Principal", json!("s3")),
            400,
            "The provided principal was invalid. Please check the principal and try again.".into(),
        ),
        (
            "f",
            "",
            with("FunctionUrlAuthType", json!("NONE")),
            400,
            "FunctionUrlAuthType is only supported for lambda:InvokeFunctionUrl action".into(),
        ),
        (
            "f",
            "",
            with("RevisionId", json!("00000000-0000-4000-8000-000000000000")),
            412,
            "The Revision Id provided does not match the latest Revision Id. Call the GetPolicy API to retrieve the latest Revision Id".into(),
        ),
    ];
    for (name, query, input, status, text) in table {
        let (got, code, message) = add(client, name, query, input.clone()).await.error();
        assert_eq!((got, message), (status, text), "{code} {query} {input}");
    }
    for (input, member) in [
        (json!({"StatementId": "s", "Action": "lambda:InvokeFunction"}), "principal"),
        (with("Action", json!("s3:GetObject")), "action"),
        (with("StatementId", json!("a b")), "statementId"),
        (with("SourceAccount", json!("1")), "sourceAccount"),
        (with("SourceArn", json!("bucket")), "sourceArn"),
        (with("PrincipalOrgID", json!("o-1")), "principalOrgID"),
        (with("FunctionUrlAuthType", json!("SOME")), "functionUrlAuthType"),
    ] {
        let (status, code, message) = add(client, "f", "", input).await.error();
        assert_eq!((status, code.as_str()), (400, "ValidationException"), "{message}");
        assert!(message.contains(&format!("at '{member}'")), "{member}: {message}");
    }
    let (_, _, message) = remove(client, "g", "s", "").await.error();
    assert_eq!(message, "No policy found for: arn:aws:lambda:us-east-1:000000000000:function:g");
    let (_, _, message) = client.get(&format!("{FUNCTIONS}/f:dev/policy")).await.error();
    assert_eq!(message, format!("Cannot find alias arn: {ARN}:dev"));
    for name in ["g", "f:7"] {
        let (status, _, message) = client.get(&format!("{FUNCTIONS}/{name}/policy")).await.error();
        assert_eq!((status, message.as_str()), (404, "The resource you requested does not exist."));
    }
}

#[tokio::test]
async fn a_policy_that_grows_too_long_is_refused_and_stays_as_it_was() {
    let world = World::new().await;
    world.function("f").await;
    let client = world.client;
    let mut count = 0;
    let refused = loop {
        let got = add(client, "f", "", grant(&format!("statement-{count:050}"))).await;
        if got.status != 201 {
            break got.error();
        }
        count += 1;
        assert!(count < 200, "it has no end");
    };
    assert_eq!((refused.0, refused.1.as_str()), (400, "PolicyLengthExceededException"));
    assert!(refused.2.ends_with("is bigger than the limit (20480)."), "{}", refused.2);
    assert_eq!(policy(client, "f").await.0.len(), count);
    // A shorter one may still fit; the last one does not block the others.
    assert_eq!(remove(client, "f", &format!("statement-{:050}", 0), "").await.status, 204);
    assert_eq!(add(client, "f", "", grant("short")).await.status, 201);
}

#[tokio::test]
async fn a_whole_policy_is_put_shown_and_deleted_by_its_arn() {
    let world = published().await;
    let client = world.client;
    let path = |arn: &str| format!("/2026-07-09/resource-policy/{}", arn.replace(':', "%3A"));
    let document = |arn: &str| {
        json!({"Version": "2012-10-17", "Statement": [
            {"Sid": "deny", "Effect": "Deny", "Principal": {"AWS": "111122223333"},
             "Action": "lambda:*", "Resource": arn}]})
        .to_string()
    };
    for arn in [ARN.to_owned(), format!("{ARN}:1"), format!("{ARN}:prod")] {
        let none = client.get(&path(&arn)).await;
        assert_eq!(none.status, 404);
        let put = client.call("PUT", &path(&arn), json!({"Policy": document(&arn)})).await;
        assert_eq!(put.status, 200, "{:?}", put.body);
        assert_eq!(client.get(&path(&arn)).await.json(), put.json());
        let name = arn.rsplit("function:").next().unwrap();
        let (sids, revision) = policy(client, name).await;
        assert_eq!(
            (sids, json!(revision)),
            (vec!["deny".to_owned()], put.json()["RevisionId"].clone())
        );
        // Statements are added to it as to any other.
        assert_eq!(add(client, name, "", grant("more")).await.status, 201);
        assert_eq!(policy(client, name).await.0, ["deny", "more"]);
        let stale = put.json()["RevisionId"].as_str().unwrap().to_owned();
        let input = json!({"Policy": document(&arn), "RevisionId": stale});
        let conflict = client.call("PUT", &path(&arn), input).await.error();
        assert_eq!((conflict.0, conflict.1.as_str()), (412, "PreconditionFailedException"));
        let stale = format!("{}?RevisionId={stale}", path(&arn));
        assert_eq!(client.call("DELETE", &stale, Value::Null).await.status, 412);
        assert_eq!(client.call("DELETE", &path(&arn), Value::Null).await.status, 204);
        assert_eq!(client.call("DELETE", &path(&arn), Value::Null).await.status, 404);
    }
    let runtime = "arn:aws:lambda:us-east-1:000000000000:runtime/r";
    assert_eq!(client.get(&path(runtime)).await.status, 404);
    for (policy, text) in [
        ("nonsense".to_owned(), "not JSON"),
        (json!({"Statement": []}).to_string(), "a policy needs a statement"),
        (document(&format!("{ARN}:1")), "is not arn:aws:lambda"),
        (document(ARN).replace("Deny", "Refuse"), "statement 1: Effect must be"),
        (document(ARN).replace("Principal", "Principals"), "statement 1: needs a Principal"),
    ] {
        let (status, code, message) =
            client.call("PUT", &path(ARN), json!({"Policy": policy})).await.error();
        assert_eq!((status, code.as_str()), (400, "InvalidParameterValueException"));
        assert!(message.contains(text), "{message}");
    }
    let long = json!({"Policy": " ".repeat(20_481)});
    let (status, code, _) = client.call("PUT", &path(ARN), long).await.error();
    assert_eq!((status, code.as_str()), (400, "ValidationException"));
}

#[tokio::test]
async fn public_policies_are_refused_where_the_operator_blocks_them() {
    let world = World::with(|config| config.block_public_policies = true).await;
    world.function("f").await;
    let client = world.client;
    let mut public = grant("s");
    public["Principal"] = json!("*");
    let (status, code, message) = add(client, "f", "", public.clone()).await.error();
    assert_eq!((status, code.as_str()), (400, "PublicPolicyException"));
    assert!(message.starts_with("Lambda prevented your policy from being created because it would grant public access to your function."), "{message}");
    public["PrincipalOrgID"] = json!("o-abcdefghij");
    assert_eq!(add(client, "f", "", public).await.status, 201);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn in_a_storm_exactly_the_acknowledged_statements_are_there() {
    let world = published().await;
    let client = world.client;
    for name in ["f", "f:1", "f:prod"] {
        let writers: Vec<_> = (0..8)
            .map(|writer| {
                tokio::spawn(async move {
                    let mut kept = BTreeSet::new();
                    for round in 0..6 {
                        let sid = format!("w{writer}-{round}");
                        // Some names are fought over by all.
                        let sid = if round % 3 == 0 { format!("all-{round}") } else { sid };
                        let got = add(client, name, "", grant(&sid)).await;
                        match got.status {
                            201 => assert!(kept.insert(sid.clone())),
                            409 => {}
                            other => panic!("{other}: {:?}", got.body),
                        }
                        if round == 4 && kept.remove(&sid) {
                            assert_eq!(remove(client, name, &sid, "").await.status, 204);
                        }
                    }
                    kept
                })
            })
            .collect();
        let mut acknowledged = Vec::new();
        for writer in writers {
            acknowledged.extend(writer.await.unwrap());
        }
        acknowledged.sort();
        let (mut sids, _) = policy(client, name).await;
        sids.sort();
        assert_eq!(sids, acknowledged, "{name}");
        assert_eq!(sids.iter().filter(|sid| sid.starts_with("all-")).count(), 2, "{name}");
    }
    let world = world.killed().await;
    for name in ["f", "f:1", "f:prod"] {
        assert_eq!(policy(world.client, name).await.0.len(), 2 + 8 * 3, "{name} after a kill");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_writers_with_the_same_revision_exactly_one_wins() {
    let world = published().await;
    let client = world.client;
    for name in ["f", "f:1", "f:prod"] {
        assert_eq!(add(client, name, "", grant("first")).await.status, 201);
        let (_, revision) = policy(client, name).await;
        let writers: Vec<_> = (0..6)
            .map(|writer| {
                let mut input = grant(&format!("w{writer}"));
                input["RevisionId"] = json!(revision);
                tokio::spawn(async move { add(client, name, "", input).await.status })
            })
            .collect();
        let mut statuses = Vec::new();
        for writer in writers {
            statuses.push(writer.await.unwrap());
        }
        statuses.sort_unstable();
        assert_eq!(statuses, [201, 412, 412, 412, 412, 412], "{name}");
        assert_eq!(policy(client, name).await.0.len(), 2, "{name}");
        let stale = remove(client, name, "first", &format!("?RevisionId={revision}")).await;
        assert_eq!(stale.status, 412);
        let (_, now) = policy(client, name).await;
        let right = remove(client, name, "first", &format!("?RevisionId={now}")).await;
        assert_eq!(right.status, 204);
    }
}

#[tokio::test]
async fn documents_of_an_older_lamu_have_no_policy() {
    let world = published().await;
    for prefix in ["function/", "version/", "alias/"] {
        let stored = world.metadata.scan(prefix, None, 10).await.unwrap();
        assert_eq!(stored.len(), 1, "{prefix}");
        let document: Value = serde_json::from_slice(&stored[0].value).unwrap();
        assert!(!document.to_string().contains("policy"), "as it was written before: {document}");
    }
    let world = world.killed().await;
    assert_eq!(add(world.client, "f:prod", "", grant("s")).await.status, 201);
}

#[tokio::test]
async fn another_account_needs_the_functions_policy_even_without_keys() {
    let world = published().await;
    let other = "AWS4-HMAC-SHA256 Credential=111122223333/20261103/us-east-1/lambda/aws4_request, SignedHeaders=host, Signature=00";
    let headers = [("authorization", other)];
    let arn = ARN.replace(':', "%3A");
    let invoke = format!("{FUNCTIONS}/{arn}/invocations");
    let call = || world.client.send("POST", &invoke, &headers, "{}");
    let (status, code, message) = call().await.error();
    assert_eq!((status, code.as_str()), (403, "AccessDeniedException"));
    assert_eq!(
        message,
        format!(
            "User: arn:aws:iam::111122223333:root is not authorized to perform: lambda:InvokeFunction on resource: {ARN} because no resource-based policy allows the lambda:InvokeFunction action"
        )
    );
    let mut input = grant("cross");
    input["Principal"] = json!("111122223333");
    assert_eq!(add(world.client, "f", "", input).await.status, 201);
    assert_eq!(call().await.status, 200);
    let get = world.client.send("GET", &format!("{FUNCTIONS}/{arn}"), &headers, "").await;
    assert_eq!(get.status, 403, "to invoke is not to read");
}

#[tokio::test]
async fn a_layer_version_is_shared_statement_by_statement() {
    let world = World::new().await;
    let client = world.client;
    let versions = "/2018-10-31/layers/tools/versions";
    let content = json!({"Content": {"ZipFile": crate::world::zip(&[("python/t.py", "")])}});
    client.call("POST", versions, content).await;
    let arn = "arn:aws:lambda:us-east-1:000000000000:layer:tools:1";
    let policy = format!("{versions}/1/policy");
    let grant = |sid: &str| json!({"StatementId": sid, "Action": "lambda:GetLayerVersion", "Principal": "111122223333"});
    let none = client.get(&policy).await.error();
    assert_eq!(
        (none.0, none.2.as_str()),
        (404, "No policy is associated with the given resource.")
    );
    let added = client.call("POST", &policy, grant("a")).await;
    assert_eq!(added.status, 201, "{:?}", added.body);
    let statement = format!(
        r#"{{"Sid":"a","Effect":"Allow","Principal":{{"AWS":"arn:aws:iam::111122223333:root"}},"Action":"lambda:GetLayerVersion","Resource":"{arn}"}}"#
    );
    let added = added.json();
    assert_eq!(added["Statement"], statement);
    let shown = client.get(&policy).await.json();
    let document =
        format!(r#"{{"Version":"2012-10-17","Id":"default","Statement":[{statement}]}}"#);
    assert_eq!(shown, json!({"Policy": document, "RevisionId": added["RevisionId"]}));
    let again = client.call("POST", &policy, grant("a")).await.error();
    assert_eq!((again.0, again.1.as_str()), (409, "ResourceConflictException"));

    let mut organization = grant("b");
    organization["Principal"] = json!("*");
    organization["OrganizationId"] = json!("o-abcdefghij");
    let revision = added["RevisionId"].as_str().unwrap();
    let with = |revision: &str| format!("{policy}?RevisionId={revision}");
    let more = client.call("POST", &with(revision), organization).await.json();
    assert!(
        more["Statement"]
            .as_str()
            .unwrap()
            .ends_with(r#""Condition":{"StringEquals":{"aws:PrincipalOrgID":"o-abcdefghij"}}}"#)
    );
    let stale = client.call("POST", &with(revision), grant("c")).await.error();
    assert_eq!(stale, (412, "PreconditionFailedException".into(), "The Revision Id provided does not match the latest Revision Id. Call the GetLayerPolicy API to retrieve the latest Revision Id".into()));
    let remove = |sid: &str| format!("{policy}/{sid}");
    let stale = format!("{}?RevisionId={revision}", remove("a"));
    assert_eq!(client.call("DELETE", &stale, Value::Null).await.status, 412);

    let world = world.killed().await;
    let client = world.client;
    assert_eq!(client.call("DELETE", &remove("a"), Value::Null).await.status, 204);
    let gone = client.call("DELETE", &remove("a"), Value::Null).await.error();
    assert_eq!((gone.0, gone.2.as_str()), (404, "Statement a is not found in resource policy."));
    assert_eq!(client.call("DELETE", &remove("b"), Value::Null).await.status, 204);
    assert_eq!(client.get(&policy).await.status, 404);
    let absent = policy.replace("/1/", "/2/");
    for got in [
        client.get(&absent).await,
        client.call("POST", &absent, grant("a")).await,
        client.call("DELETE", &format!("{absent}/a"), Value::Null).await,
    ] {
        let (status, _, message) = got.error();
        let arn = arn.replace("tools:1", "tools:2");
        assert_eq!((status, message), (404, format!("Layer version {arn} does not exist.")));
    }
    let mut wrong = grant("a");
    wrong["Action"] = json!("lambda:DeleteLayerVersion");
    let (status, code, _) = client.call("POST", &policy, wrong).await.error();
    assert_eq!((status, code.as_str()), (400, "ValidationException"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn sharing_a_layer_from_many_places_loses_no_statement() {
    let world = World::new().await;
    let client = world.client;
    let versions = "/2018-10-31/layers/tools/versions";
    let content = json!({"Content": {"ZipFile": crate::world::zip(&[("python/t.py", "")])}});
    client.call("POST", versions, content).await;
    let policy = "/2018-10-31/layers/tools/versions/1/policy";
    let writers: Vec<_> = (0..12)
        .map(|writer| {
            tokio::spawn(async move {
                let input = json!({"StatementId": format!("w{writer}"),
                    "Action": "lambda:GetLayerVersion", "Principal": "*"});
                client.call("POST", policy, input).await.status
            })
        })
        .collect();
    for writer in writers {
        assert_eq!(writer.await.unwrap(), 201);
    }
    let shown = client.get(policy).await.json();
    let document: Value = serde_json::from_str(shown["Policy"].as_str().unwrap()).unwrap();
    assert_eq!(document["Statement"].as_array().unwrap().len(), 12);
}

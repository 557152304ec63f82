//! Who is let in to what: keys, principals and accounts against operations.
//!
//! Not here: how a policy is read or evaluated (`policy`).

use std::time::Instant;

use lamu_model::FunctionName;
use lamu_store::Revision;
use serde_json::json;
use uuid::Uuid;

use super::*;
use crate::admission::{Admission, Limits};
use crate::function::catalog::{AliasEntry, HeadEntry};
use crate::function::document::tests::configuration;
use crate::function::document::{AliasDoc, FunctionKey, Head, Live, Uid};
use crate::function::state::Status;
use crate::layer::document::Shared;
use crate::layer::document::tests::doc;
use crate::layer::name::LayerKey;
use crate::policy::Attached;
use crate::signing::{SigningDoc, Untrusted};
use crate::table::Next;
use lamu_model::mapping::{Mapping, SourceKind};

const HOME: &str = "000000000000";
const THERE: &str = "111122223333";
const ARN: &str = "arn:aws:lambda:us-east-1:000000000000:function:f";

/// With the store that layers are read from.
struct Staged {
    access: Access,
    _directory: tempfile::TempDir,
}

impl std::ops::Deref for Staged {
    type Target = Access;

    fn deref(&self) -> &Access {
        &self.access
    }
}

/// Catalog with one function, `f` of `HOME` with alias `prod`, under these
/// policies.
fn access(enforced: Enforced, function: Option<Value>, alias: Option<Value>) -> Staged {
    let catalog = Catalog::new(Arc::new(Admission::new(Limits::default(), Instant::now())));
    let policy = |statements: Option<Value>| {
        statements.map(|statements| {
            let text = json!({"Version": "2012-10-17", "Statement": statements}).to_string();
            Arc::new(ResourcePolicy::parse(&text).unwrap())
        })
    };
    let live = Live {
        latest: configuration(),
        status: Status::created().settled(Ok(())),
        reserved_concurrency: None,
        tags: [("Team".to_owned(), "a".to_owned())].into(),
        provisioned: Default::default(),
        recursive_loop: Default::default(),
        code_signing: None,
        policy: policy(function),
    };
    let uid = Uid(Uuid::from_u128(7));
    let head = Head { uid, last_version: 0, live: Some(live) };
    catalog.put_head(HeadEntry::new(target(None).key, Revision(1), head));
    let doc = AliasDoc {
        name: "prod".into(),
        version: Version::Latest,
        description: String::new(),
        revision_id: Uuid::from_u128(1),
        routing: None,
        policy: policy(alias),
    };
    catalog.put_alias(AliasEntry { revision: Revision(2), uid, doc });
    let directory = tempfile::tempdir().unwrap();
    let metadata = lamu_store::SqliteMetadata::open(directory.path().join("m.db")).unwrap();
    let metadata: Arc<dyn lamu_store::Metadata> = Arc::new(metadata);
    let layers = Arc::new(LayerStore::new(metadata.clone()));
    let signing = Arc::new(SigningStore::new(metadata.clone()));
    let mappings = Arc::new(Mappings::new(metadata, Vec::new()));
    let access = Access { catalog: Arc::new(catalog), layers, signing, mappings, enforced };
    Staged { access, _directory: directory }
}

fn target(qualifier: Option<&str>) -> Target {
    let key = FunctionKey {
        account: AccountId::new(HOME),
        region: Region::new("us-east-1"),
        name: FunctionName::new("f"),
    };
    Target { key, qualifier: qualifier.map(Qualifier::parse) }
}

fn user(account: &str, statements: Value) -> Principal {
    let policy = Policy::of(&json!({"Statement": statements}), Attached::Identity).unwrap();
    Principal::user(AccountId::new(account), "alice", vec![Arc::new(policy)])
}

fn root(account: &str) -> Principal {
    Principal::root(AccountId::new(account))
}

fn with_asker<T>(principal: &Principal, then: impl FnOnce(&Asker<'_>) -> T) -> T {
    let region = Region::new("us-east-1");
    let asker =
        Asker { principal, region: &region, now: Utc::now(), source_ip: None, user_agent: None };
    then(&asker)
}

fn invoke(access: &Access, principal: &Principal, qualifier: Option<&str>) -> Result<(), String> {
    let target = target(qualifier);
    let found = access.catalog.find(&target.key, target.qualifier.as_ref(), 1.0);
    with_asker(principal, |asker| {
        let result = access.invoke(asker, "lambda:InvokeFunction", &target, found.as_ref());
        result.map_err(|error| error.message)
    })
}

fn admit(
    access: &Access,
    principal: &Principal,
    operation: Operation,
    members: Value,
) -> Result<String, String> {
    with_asker(principal, |asker| {
        let members = members.as_object().unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let admitted = runtime.block_on(access.admit(asker, operation, members));
        admitted.map(|one| one.caller.account.to_string()).map_err(|error| error.message)
    })
}

fn open_to(principal: &str, arn: &str) -> Option<Value> {
    Some(json!({"Effect": "Allow", "Principal": {"AWS": principal},
                "Action": "lambda:InvokeFunction", "Resource": arn}))
}

#[test]
fn refusals_name_who_what_and_which_kind_of_policy() {
    let nothing = access(Enforced::Yes, None, None);
    let no_policy = user(HOME, json!([]));
    let said = |principal: &str, why: &str| {
        Err(format!(
            "User: {principal} is not authorized to perform: lambda:InvokeFunction on resource: {ARN} {why}"
        ))
    };
    let alice = "arn:aws:iam::000000000000:user/alice";
    let no_identity = "because no identity-based policy allows the lambda:InvokeFunction action";
    assert_eq!(invoke(&nothing, &no_policy, None), said(alice, no_identity));
    assert_eq!(
        invoke(&nothing, &root(THERE), None),
        said(
            "arn:aws:iam::111122223333:root",
            "because no resource-based policy allows the lambda:InvokeFunction action"
        )
    );
    let denied = user(HOME, json!([{"Effect": "Deny", "Action": "*", "Resource": "*"}]));
    assert_eq!(
        invoke(&nothing, &denied, None),
        said(alice, "with an explicit deny in an identity-based policy")
    );
    let deny = json!({"Effect": "Deny", "Principal": "*", "Action": "*", "Resource": ARN});
    let closed = access(Enforced::Yes, Some(deny), None);
    assert_eq!(
        invoke(&closed, &root(HOME), None),
        said("arn:aws:iam::000000000000:root", "with an explicit deny in a resource-based policy")
    );
}

#[test]
fn a_function_and_its_alias_are_shared_apart() {
    let function = access(Enforced::Yes, open_to(THERE, ARN), None);
    assert_eq!(invoke(&function, &root(THERE), None), Ok(()));
    assert!(invoke(&function, &root(THERE), Some("prod")).is_err());
    assert!(invoke(&function, &root(THERE), Some("$LATEST")).is_err());

    let alias = access(Enforced::Yes, None, open_to(THERE, &format!("{ARN}:prod")));
    assert_eq!(invoke(&alias, &root(THERE), Some("prod")), Ok(()));
    assert!(invoke(&alias, &root(THERE), None).is_err());
    assert!(invoke(&alias, &root("999999999999"), Some("prod")).is_err());
}

#[test]
fn what_a_function_denies_is_denied_under_the_name_of_latest() {
    let deny = json!({"Effect": "Deny", "Principal": {"AWS": THERE}, "Action": "lambda:*",
                      "Resource": ARN});
    let open = json!({"Effect": "Allow", "Principal": "*", "Action": "lambda:*",
                      "Resource": format!("{ARN}*")});
    let there = user(THERE, json!([{"Effect": "Allow", "Action": "*", "Resource": "*"}]));
    let open_only = access(Enforced::Yes, Some(json!([open])), None);
    assert_eq!(invoke(&open_only, &there, Some("$LATEST")), Ok(()));
    let closed = access(Enforced::Yes, Some(json!([open, deny])), None);
    for qualifier in [None, Some("$LATEST")] {
        let refused = invoke(&closed, &there, qualifier).unwrap_err();
        assert!(refused.ends_with("with an explicit deny in a resource-based policy"), "{refused}");
    }
    let all = json!({"Effect": "Deny", "Principal": "*", "Action": "lambda:GetFunction",
                     "Resource": ARN});
    let closed = access(Enforced::Yes, Some(all), None);
    let get = json!({"FunctionName": "f", "Qualifier": "$LATEST"});
    assert!(admit(&closed, &root(HOME), Operation::GetFunction, get.clone()).is_err());
    assert!(admit(&closed, &root(HOME), Operation::GetFunctionConfiguration, get).is_ok());
}

#[test]
fn without_keys_ones_own_account_is_open_and_another_needs_its_policy() {
    let deny = json!({"Effect": "Deny", "Principal": "*", "Action": "*", "Resource": ARN});
    let closed = access(Enforced::OwnAccountsAreOpen, Some(deny), None);
    assert_eq!(invoke(&closed, &root(HOME), None), Ok(()));
    assert!(invoke(&closed, &root(THERE), None).is_err());
    let open = access(Enforced::OwnAccountsAreOpen, open_to(THERE, ARN), None);
    assert_eq!(invoke(&open, &root(THERE), None), Ok(()));
}

#[test]
fn an_operation_acts_in_the_account_it_was_allowed_in() {
    let open = access(Enforced::Yes, open_to(THERE, ARN), None);
    let members = json!({ "FunctionName": ARN });
    assert_eq!(admit(&open, &root(THERE), Operation::Invoke, members.clone()), Ok(HOME.to_owned()));
    assert_eq!(admit(&open, &root(HOME), Operation::GetFunction, members.clone()), Ok(HOME.into()));
    assert!(admit(&open, &root(THERE), Operation::GetFunction, members).is_err());
    let own = json!({"FunctionName": "f"});
    assert_eq!(admit(&open, &root(THERE), Operation::GetFunction, own), Ok(THERE.to_owned()));
    let list = admit(&open, &root(THERE), Operation::ListFunctions, json!({}));
    assert_eq!(list, Ok(THERE.to_owned()));
}

#[test]
fn creating_a_function_takes_the_right_to_pass_its_role() {
    let none = access(Enforced::Yes, None, None);
    let members = json!({"FunctionName": "g", "Role": "arn:aws:iam::000000000000:role/r"});
    let create = |statements: Value| {
        admit(&none, &user(HOME, statements), Operation::CreateFunction, members.clone())
    };
    let lambda = json!({"Effect": "Allow", "Action": "lambda:*", "Resource": "*"});
    let pass = |service: &str| {
        json!({"Effect": "Allow", "Action": "iam:PassRole", "Resource": "arn:aws:iam::*:role/r",
               "Condition": {"StringEquals": {"iam:PassedToService": service}}})
    };
    assert_eq!(create(json!([lambda, pass("lambda.amazonaws.com")])), Ok(HOME.to_owned()));
    let refused = "User: arn:aws:iam::000000000000:user/alice is not authorized to perform: iam:PassRole on resource: arn:aws:iam::000000000000:role/r because no identity-based policy allows the iam:PassRole action";
    assert_eq!(create(json!([lambda, pass("ec2.amazonaws.com")])), Err(refused.to_owned()));
    assert_eq!(create(json!([lambda])), Err(refused.to_owned()));
}

#[test]
fn tags_of_the_function_and_of_the_request_are_conditions() {
    let none = access(Enforced::Yes, None, None);
    let by = |key: &str, value: &str| {
        user(
            HOME,
            json!([{"Effect": "Allow", "Action": "*", "Resource": "*",
                    "Condition": {"StringEquals": {key: value}}}]),
        )
    };
    assert_eq!(invoke(&none, &by("aws:ResourceTag/team", "a"), None), Ok(()));
    assert!(invoke(&none, &by("aws:ResourceTag/team", "b"), None).is_err());
    let tag = json!({"Resource": ARN, "Tags": {"Team": "b"}});
    let tagged = |principal: &Principal| {
        admit(&none, principal, Operation::TagResource, tag.clone()).is_ok()
    };
    assert!(tagged(&by("aws:RequestTag/Team", "b")));
    assert!(!tagged(&by("aws:RequestTag/Team", "a")));
    assert!(tagged(&by("aws:TagKeys", "Team")));

    let no_production = user(
        HOME,
        json!([{"Effect": "Allow", "Action": "*", "Resource": "*"},
               {"Effect": "Deny", "Action": "*", "Resource": "*",
                "Condition": {"StringEquals": {"aws:RequestTag/env": "prod"}}}]),
    );
    let tag = |tags: Value| {
        let members = json!({"Resource": ARN, "Tags": tags});
        admit(&none, &no_production, Operation::TagResource, members).is_ok()
    };
    assert!(tag(json!({"ENV": "x", "env": "y"})));
    for tags in [json!({"ENV": "x", "env": "prod"}), json!({"ENV": "prod", "env": "x"})] {
        assert!(!tag(tags.clone()), "{tags}");
    }
}

#[test]
fn tags_of_other_things_are_conditions_too() {
    let tags = || [("Team".to_owned(), "a".to_owned())].into();
    let staged = access(Enforced::Yes, None, None);
    let (account, region) = (AccountId::new(HOME), Region::new("us-east-1"));
    let config = SigningKey::fresh(&account, &region);
    let doc = SigningDoc {
        description: None,
        publishers: Vec::new(),
        untrusted: Untrusted::Warn,
        modified_ms: 1,
        tags: tags(),
    };
    let mapping =
        Mapping { tags: tags(), ..crate::mapping::tests::mapping(SourceKind::Sqs, &json!({})) };
    let uuid = Uuid::from_u128(9);
    let key = mapping::document(&account, &region, uuid);
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(staged.signing.create(&config, &doc)).unwrap();
    runtime
        .block_on(staged.mappings.table.change(&key, |_| Ok((Next::Put(mapping.clone()), ()))))
        .unwrap();
    let of = |team: &str| {
        let tag = json!({"StringEquals": {"aws:ResourceTag/Team": team}});
        user(HOME, json!([{"Effect": "Allow", "Action": "*", "Resource": "*", "Condition": tag}]))
    };
    let asked = [
        (Operation::GetCodeSigningConfig, json!({"CodeSigningConfigArn": config.arn().as_str()})),
        (Operation::ListTags, json!({"Resource": config.arn().as_str()})),
        (Operation::DeleteEventSourceMapping, json!({"UUID": uuid.to_string()})),
    ];
    for (operation, members) in asked {
        assert!(admit(&staged, &of("a"), operation, members.clone()).is_ok(), "{operation}");
        assert!(admit(&staged, &of("b"), operation, members).is_err(), "{operation}");
    }
}

#[test]
fn a_url_takes_the_right_to_use_it_and_the_right_to_invoke_through_it() {
    let url = |auth: &str| {
        json!({"Effect": "Allow", "Principal": "*", "Action": "lambda:InvokeFunctionUrl",
               "Resource": ARN,
               "Condition": {"StringEquals": {"lambda:FunctionUrlAuthType": auth}}})
    };
    let through = json!({"Effect": "Allow", "Principal": "*", "Action": "lambda:InvokeFunction",
        "Resource": ARN, "Condition": {"Bool": {"lambda:InvokedViaFunctionUrl": "true"}}});
    let nobody = Principal::anonymous();
    let (home, there) = (root(HOME), root(THERE));
    let powerless = user(HOME, json!([]));
    let table: [(Option<Value>, &Principal, UrlAuth, bool); 9] = [
        (None, &nobody, UrlAuth::None, false),
        (Some(json!([url("NONE")])), &nobody, UrlAuth::None, false),
        (Some(json!([through])), &nobody, UrlAuth::None, false),
        (Some(json!([url("NONE"), through])), &nobody, UrlAuth::None, true),
        (Some(json!([url("AWS_IAM"), through])), &nobody, UrlAuth::None, false),
        (None, &home, UrlAuth::AwsIam, true),
        (None, &there, UrlAuth::AwsIam, false),
        (Some(json!([url("AWS_IAM"), through])), &there, UrlAuth::AwsIam, true),
        (Some(json!([url("AWS_IAM"), through])), &powerless, UrlAuth::AwsIam, true),
    ];
    for (policy, principal, auth, expected) in table {
        let access = access(Enforced::Yes, policy.clone(), None);
        let found = access.catalog.find(&target(None).key, None, 1.0);
        let allowed = with_asker(principal, |asker| {
            access.url(asker, auth, &target(None), found.as_ref()).is_ok()
        });
        assert_eq!(allowed, expected, "{policy:?} {} {auth:?}", principal.arn);
        // Invoked in another way, the same policy lets no stranger in.
        assert!(invoke(&access, &nobody, None).is_err());
    }
}

#[tokio::test]
async fn a_layer_is_named_once_it_may_be_used_and_anothers_takes_its_policy() {
    let access = access(Enforced::Yes, None, None);
    let layer = LayerKey {
        account: AccountId::new(HOME),
        region: Region::new("us-east-1"),
        name: "l".into(),
    };
    let version = access.layers.publish(&layer, doc(b"zip")).await.unwrap();
    let arn = version.key.arn();
    let ask = async |principal: &Principal| {
        let region = Region::new("us-east-1");
        let asker = Asker {
            principal,
            region: &region,
            now: Utc::now(),
            source_ip: None,
            user_agent: None,
        };
        let members = json!({"FunctionName": "g", "Layers": [arn.as_str()]});
        let members = members.as_object().unwrap();
        let admitted = access.admit(&asker, Operation::CreateFunction, members).await;
        admitted.map_err(|error| error.message)
    };
    let refused = ask(&root(THERE)).await.unwrap_err();
    assert_eq!(
        refused,
        format!(
            "User: arn:aws:iam::{THERE}:root is not authorized to perform: lambda:GetLayerVersion on resource: {arn} because no resource-based policy allows the lambda:GetLayerVersion action"
        )
    );
    let own = ask(&root(HOME)).await.unwrap();
    assert_eq!(own.layers, std::slice::from_ref(&version.key));

    let text = json!({"Statement": {"Effect": "Allow", "Principal": {"AWS": THERE},
        "Action": "lambda:GetLayerVersion", "Resource": arn.as_str()}});
    let policy = Arc::new(ResourcePolicy::parse(&text.to_string()).unwrap());
    let shared = Shared { policy, revision_id: Uuid::from_u128(1) };
    let missing = || panic!("it is there");
    access.layers.share(&version.key, missing, |_| Ok(Some(shared.clone()))).await.unwrap();

    let admitted = ask(&root(THERE)).await.unwrap();
    assert_eq!(admitted.layers, std::slice::from_ref(&version.key));
    assert_eq!(admitted.caller.account.as_str(), THERE, "the function is the caller's");
    assert!(ask(&root("999999999999")).await.is_err());
}

//! Tables: what each operation asks for, on which resource.
//!
//! Not here: whether it is allowed (`policy`).

use lamu_model::Region;
use serde_json::json;

use super::*;

fn ask(operation: Operation, members: Value) -> Result<Asked, Refusal> {
    let caller =
        Caller { account: AccountId::new("111111111111"), region: Region::new("us-east-1") };
    asked(operation, members.as_object().unwrap(), &caller)
}

/// Actions and resources that must be allowed.
fn checks(operation: Operation, members: Value) -> Vec<(String, String)> {
    let asked = ask(operation, members).unwrap();
    asked.checks.iter().map(|check| (check.action.to_owned(), check.on.arn())).collect()
}

const OWN: &str = "arn:aws:lambda:us-east-1:111111111111";
const OTHER: &str = "arn:aws:lambda:us-east-1:222222222222";

#[test]
fn each_operation_asks_for_its_own_resource() {
    use Operation as Op;
    let f = format!("{OWN}:function:f");
    let table = [
        (Op::GetFunction, json!({"FunctionName": "f"}), f.clone()),
        (Op::GetFunction, json!({"FunctionName": "f", "Qualifier": "2"}), format!("{f}:2")),
        (Op::GetFunction, json!({"FunctionName": "f:prod"}), format!("{f}:prod")),
        (Op::Invoke, json!({"FunctionName": "f", "Qualifier": "$LATEST"}), format!("{f}:$LATEST")),
        (Op::GetAlias, json!({"FunctionName": "f", "Name": "prod"}), f.clone()),
        (Op::DeleteFunction, json!({"FunctionName": f}), f.clone()),
        (Op::ListVersionsByFunction, json!({"FunctionName": "f:any"}), f.clone()),
        (Op::ListFunctionEventInvokeConfigs, json!({"FunctionName": "f:any"}), f.clone()),
        (Op::ListFunctionUrlConfigs, json!({"FunctionName": "f:prod"}), format!("{f}:prod")),
        (
            Op::Invoke,
            json!({"FunctionName": format!("{OTHER}:function:g:1")}),
            format!("{OTHER}:function:g:1"),
        ),
        (
            Op::GetPolicy,
            json!({"FunctionName": "222222222222:function:g"}),
            format!("{OTHER}:function:g"),
        ),
        (Op::ListFunctions, json!({}), "*".to_owned()),
        (Op::CreateEventSourceMapping, json!({"FunctionName": "f"}), "*".to_owned()),
        (Op::GetEventSourceMapping, json!({"UUID": "u"}), format!("{OWN}:event-source-mapping:u")),
        (Op::PublishLayerVersion, json!({"LayerName": "l"}), format!("{OWN}:layer:l")),
        (
            Op::GetLayerVersion,
            json!({"LayerName": "l", "VersionNumber": 3}),
            format!("{OWN}:layer:l:3"),
        ),
        (
            Op::GetLayerVersion,
            json!({"LayerName": format!("{OTHER}:layer:l"), "VersionNumber": 3}),
            format!("{OTHER}:layer:l:3"),
        ),
        (
            Op::GetLayerVersionByArn,
            json!({"Arn": format!("{OTHER}:layer:l:3")}),
            format!("{OTHER}:layer:l:3"),
        ),
        (Op::TagResource, json!({"Resource": f, "Tags": {}}), f.clone()),
        (
            Op::ListTags,
            json!({"Resource": format!("{OWN}:event-source-mapping:u")}),
            format!("{OWN}:event-source-mapping:u"),
        ),
        (Op::PutResourcePolicy, json!({"ResourceArn": format!("{f}:2")}), format!("{f}:2")),
        (
            Op::GetResourcePolicy,
            json!({"ResourceArn": format!("{OTHER}:runtime/r")}),
            format!("{OTHER}:runtime/r"),
        ),
    ];
    for (operation, members, resource) in table {
        let expected = vec![(operation.iam_action().to_owned(), resource)];
        assert_eq!(checks(operation, members), expected, "{operation}");
    }
}

#[test]
fn every_operation_that_names_another_account_acts_there_only_if_it_was_checked_there() {
    for operation in Operation::ALL {
        let members = json!({
            "FunctionName": format!("{OTHER}:function:f"),
            "LayerName": format!("{OTHER}:layer:l"),
            "VersionNumber": 1,
            "UUID": "u",
            "Arn": format!("{OTHER}:layer:l:1"),
            "Resource": format!("{OTHER}:function:f"),
            "ResourceArn": format!("{OTHER}:function:f"),
            "CodeSigningConfigArn": format!("{OTHER}:code-signing-config:csc-1"),
            "CapacityProviderName": format!("{OTHER}:capacity-provider:c"),
            "DurableExecutionArn": format!("{OTHER}:function:f:1/durable-execution/n/i"),
        });
        let asked = ask(*operation, members).unwrap();
        let first = &asked.checks[0];
        assert_eq!(first.action, operation.iam_action(), "{operation}");
        match first.on.account() {
            // Acts in the caller's account, whatever the request names.
            None => assert_eq!(first.on, On::Anything, "{operation}"),
            Some(account) if operation.name().ends_with("EventSourceMapping") => {
                assert_eq!(account.as_str(), "111111111111", "{operation}");
            }
            Some(account) => assert_eq!(account.as_str(), "222222222222", "{operation}"),
        }
    }
}

#[test]
fn a_function_passes_its_role_and_gets_its_layers() {
    let members = json!({
        "FunctionName": "f",
        "Role": "arn:aws:iam::111111111111:role/r",
        "Layers": [format!("{OTHER}:layer:l:1"), format!("{OWN}:layer:m:2")],
        "VpcConfig": {"SubnetIds": ["subnet-1"], "SecurityGroupIds": ["sg-1", "sg-2"]},
        "Tags": {"Team": "a"},
    });
    let expected: Vec<(String, String)> = [
        ("lambda:CreateFunction", format!("{OWN}:function:f")),
        ("lambda:GetLayerVersion", format!("{OTHER}:layer:l:1")),
        ("lambda:GetLayerVersion", format!("{OWN}:layer:m:2")),
        ("iam:PassRole", "arn:aws:iam::111111111111:role/r".to_owned()),
    ]
    .map(|(action, arn)| (action.to_owned(), arn))
    .into();
    assert_eq!(checks(Operation::CreateFunction, members.clone()), expected);
    let facts = ask(Operation::CreateFunction, members).unwrap().facts;
    let fact = |key: &str| {
        let found = facts.iter().find(|(known, _)| known == key);
        found.map(|(_, values)| values.join(","))
    };
    assert_eq!(fact("lambda:subnetids").as_deref(), Some("subnet-1"));
    assert_eq!(fact("lambda:securitygroupids").as_deref(), Some("sg-1,sg-2"));
    assert_eq!(fact("aws:requesttag/team").as_deref(), Some("a"));
    assert_eq!(fact("aws:tagkeys").as_deref(), Some("Team"));
    assert_eq!(fact("lambda:codesigningconfigarn"), None);
    let plain = json!({"FunctionName": "f", "Timeout": 3});
    assert_eq!(checks(Operation::UpdateFunctionConfiguration, plain).len(), 1);
}

#[test]
fn however_an_arn_is_written_policies_see_it_as_it_is() {
    use Operation as Op;
    let config = format!("{OWN}:code-signing-config:csc-1");
    let odd = |arn: &str| arn.replace("arn:aws:lambda", "arn:aws-cn:s3");
    let uuid = "0f0e0d0c-0b0a-4908-8706-050403020100";
    let mapping = format!("{OWN}:event-source-mapping:{uuid}");
    let layer = format!("{OWN}:layer:l");
    let provider = format!("{OWN}:capacity-provider:c");
    let table = [
        (
            Op::DeleteCodeSigningConfig,
            json!({"CodeSigningConfigArn": odd(&config)}),
            config.clone(),
        ),
        (Op::TagResource, json!({"Resource": odd(&config)}), config.clone()),
        (Op::PublishLayerVersion, json!({"LayerName": odd(&layer)}), layer.clone()),
        (
            Op::GetLayerVersionByArn,
            json!({"Arn": odd(&format!("{layer}:01"))}),
            format!("{layer}:1"),
        ),
        (Op::GetCapacityProvider, json!({"CapacityProviderName": odd(&provider)}), provider),
        (Op::GetEventSourceMapping, json!({"UUID": uuid.to_uppercase()}), mapping.clone()),
        (Op::GetEventSourceMapping, json!({"UUID": uuid.replace('-', "")}), mapping.clone()),
        (Op::GetFunction, json!({"FunctionName": "f:01"}), format!("{OWN}:function:f:1")),
        (
            Op::ListTags,
            json!({"Resource": format!("{OWN}:function:f").replace("aws", "aws-us-gov")}),
            format!("{OWN}:function:f"),
        ),
    ];
    for (operation, members, resource) in table {
        assert_eq!(checks(operation, members)[0].1, resource, "{operation}");
    }
    let members = json!({
        "FunctionName": "f",
        "Role": "arn:aws-cn:iam::111111111111:role/r",
        "Layers": [odd(&format!("{layer}:01"))],
        "CodeSigningConfigArn": odd(&config),
    });
    let asked = ask(Op::CreateFunction, members).unwrap();
    let arns: Vec<String> = asked.checks[1..].iter().map(|check| check.on.arn()).collect();
    assert_eq!(arns, [format!("{layer}:1"), "arn:aws:iam::111111111111:role/r".to_owned()]);
    let facts = [
        ("lambda:layer".to_owned(), vec![format!("{layer}:1")]),
        ("lambda:codesigningconfigarn".to_owned(), vec![config]),
    ];
    assert_eq!(asked.facts, facts);
    let none = json!({"FunctionName": "f", "CodeSigningConfigArn": ""});
    assert_eq!(ask(Op::CreateFunction, none).unwrap().facts, []);
}

#[test]
fn another_region_is_said_before_anything_is_checked() {
    let elsewhere = json!({"FunctionName": "arn:aws:lambda:eu-west-1:222222222222:function:f"});
    let refused = ask(Operation::GetFunction, elsewhere);
    assert!(matches!(refused, Err(Refusal::OtherRegion { .. })));
    let tagged = json!({"Resource": "arn:aws:lambda:eu-west-1:111111111111:function:f"});
    assert!(matches!(ask(Operation::ListTags, tagged), Err(Refusal::OtherRegion { .. })));
}

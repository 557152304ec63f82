//! What a request to the CloudWatch Logs operations asks to do to what: the
//! action and the ARN of each log group or stream it names.
//!
//! Pure. Not here: the operations (`crate::logs`), who may (`crate::access`).

use serde_json::Value;

use crate::function::resolve::Caller;
use crate::logs::group_named;

const GROUP_MEMBERS: [&str; 5] =
    ["logGroupName", "logGroupIdentifier", "logGroupIdentifiers", "logGroupNames", "resourceArn"];

/// Whose resource is a stream ("Actions, resources, and condition keys for
/// Amazon CloudWatch Logs" of the service authorization reference). The others
/// are of the group, and ignore a stream's name or pass over it.
const OF_STREAM: [&str; 3] = ["GetLogEvents", "PutLogEvents", "DeleteLogStream"];

/// Actions, such as `logs:GetLogEvents`, each with a resource. `target` is the
/// header's value, `Logs_20140328.GetLogEvents`; `members` are the same that
/// the operation will read.
pub fn asked(caller: &Caller, target: &str, members: &Value) -> Vec<(String, String)> {
    let operation = target.rsplit('.').next().unwrap_or_default();
    let action = format!("logs:{operation}");
    let stream = match OF_STREAM.contains(&operation) {
        true => members.get("logStreamName").and_then(Value::as_str).unwrap_or_default(),
        false => "",
    };
    let mut groups: Vec<&str> = Vec::new();
    for member in GROUP_MEMBERS {
        // The one list of groups shows all of them unless it is given these.
        if operation == "DescribeLogGroups" && member != "logGroupIdentifiers" {
            continue;
        }
        match members.get(member) {
            Some(Value::String(group)) => groups.push(group),
            Some(Value::Array(several)) => groups.extend(several.iter().filter_map(Value::as_str)),
            _ => {}
        }
    }
    if groups.is_empty() {
        groups.push("");
    }
    let Caller { account, region } = caller;
    let arn = |named: &str| match group_named(caller, named) {
        Some(group) => {
            format!("arn:aws:logs:{region}:{account}:log-group:{group}:log-stream:{stream}")
        }
        // Nothing of the caller's, and no operation will find it.
        None => named.to_owned(),
    };
    groups.into_iter().map(|group| (action.clone(), arn(group))).collect()
}

#[cfg(test)]
mod tests {
    use lamu_model::{AccountId, Region};

    use super::*;

    #[test]
    fn each_group_that_is_named_must_be_allowed() {
        let caller =
            Caller { account: AccountId::new("111111111111"), region: Region::new("us-east-1") };
        let arns = |target: &str, body: &str| {
            let members = crate::logs::input(body.as_bytes()).unwrap();
            let asked = asked(&caller, &format!("Logs_20140328.{target}"), &members);
            assert!(asked.iter().all(|(action, _)| *action == format!("logs:{target}")));
            asked.into_iter().map(|(_, arn)| arn).collect::<Vec<String>>()
        };
        let of = |rest: &str| format!("arn:aws:logs:us-east-1:111111111111:log-group:{rest}");
        let table = [
            ("DescribeLogGroups", "{}", vec![of(":log-stream:")]),
            (
                "GetLogEvents",
                r#"{"logGroupName": "/aws/lambda/f", "logStreamName": "s"}"#,
                vec![of("/aws/lambda/f:log-stream:s")],
            ),
            (
                "FilterLogEvents",
                r#"{"logGroupIdentifier": "arn:aws:logs:us-east-1:111111111111:log-group:/aws/lambda/f:*"}"#,
                vec![of("/aws/lambda/f:log-stream:")],
            ),
            (
                "StartLiveTail",
                r#"{"logGroupIdentifiers": ["a", "b"]}"#,
                vec![of("a:log-stream:"), of("b:log-stream:")],
            ),
            (
                "TagResource",
                r#"{"resourceArn": "arn:aws:logs:us-east-1:111111111111:log-group:g"}"#,
                vec![of("g:log-stream:")],
            ),
            ("DescribeLogGroups", r#"{"logGroupName": "g"}"#, vec![of(":log-stream:")]),
            ("DescribeLogGroups", r#"{"logGroupIdentifiers": ["g"]}"#, vec![of("g:log-stream:")]),
            (
                "FilterLogEvents",
                r#"{"logGroupName": "g", "logStreamName": "s"}"#,
                vec![of("g:log-stream:")],
            ),
            (
                "DescribeLogStreams",
                r#"{"logGroupName": "g", "logStreamName": "s"}"#,
                vec![of("g:log-stream:")],
            ),
            (
                "CreateLogStream",
                r#"{"logGroupName": "g", "logStreamName": "s"}"#,
                vec![of("g:log-stream:")],
            ),
            (
                "PutLogEvents",
                r#"{"logGroupName": "g", "logStreamName": "s"}"#,
                vec![of("g:log-stream:s")],
            ),
            (
                "DeleteLogStream",
                r#"{"logGroupName": "g", "logStreamName": "s"}"#,
                vec![of("g:log-stream:s")],
            ),
            (
                "FilterLogEvents",
                r#"{"logGroupIdentifier": "arn:x:log-group:/aws/lambda/f"}"#,
                vec!["arn:x:log-group:/aws/lambda/f".to_owned()],
            ),
        ];
        for (target, body, expected) in table {
            assert_eq!(arns(target, body), expected, "{target} {body}");
        }
    }
}

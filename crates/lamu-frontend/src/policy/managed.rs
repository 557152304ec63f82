//! The policies that AWS manages and people attach by name, as far as they
//! speak of Lambda.
//!
//! Not here: policies of one's own (the program's settings).

use std::sync::Arc;

use super::document::{Attached, Policy};

/// Name, and the statement it allows: AWS's own, without what other services
/// would be asked for.
const MANAGED: [(&str, &str); 7] = [
    ("AdministratorAccess", r#"{"Effect": "Allow", "Action": "*", "Resource": "*"}"#),
    (
        "PowerUserAccess",
        r#"{"Effect": "Allow", "NotAction": ["iam:*", "organizations:*", "account:*"], "Resource": "*"}"#,
    ),
    (
        "ReadOnlyAccess",
        r#"{"Effect": "Allow", "Action": ["lambda:Get*", "lambda:List*", "logs:Describe*", "logs:Get*", "logs:List*", "logs:FilterLogEvents", "logs:StartLiveTail", "logs:StopLiveTail"], "Resource": "*"}"#,
    ),
    (
        "AWSLambda_FullAccess",
        r#"[{"Effect": "Allow", "Action": ["lambda:*", "logs:DescribeLogGroups"], "Resource": "*"},
            {"Effect": "Allow", "Action": "iam:PassRole", "Resource": "*", "Condition": {"StringEquals": {"iam:PassedToService": "lambda.amazonaws.com"}}},
            {"Effect": "Allow", "Action": ["logs:DescribeLogStreams", "logs:GetLogEvents", "logs:FilterLogEvents", "logs:StartLiveTail", "logs:StopLiveTail"], "Resource": "arn:aws:logs:*:*:log-group:/aws/lambda/*"}]"#,
    ),
    (
        "AWSLambda_ReadOnlyAccess",
        r#"[{"Effect": "Allow", "Action": ["lambda:Get*", "lambda:List*", "logs:DescribeLogGroups"], "Resource": "*"},
            {"Effect": "Allow", "Action": ["logs:DescribeLogStreams", "logs:GetLogEvents", "logs:FilterLogEvents", "logs:StartLiveTail", "logs:StopLiveTail"], "Resource": "arn:aws:logs:*:*:log-group:/aws/lambda/*"}]"#,
    ),
    ("AWSLambdaRole", r#"{"Effect": "Allow", "Action": "lambda:InvokeFunction", "Resource": "*"}"#),
    (
        "CloudWatchLogsReadOnlyAccess",
        r#"{"Effect": "Allow", "Action": ["logs:Describe*", "logs:Get*", "logs:List*", "logs:FilterLogEvents", "logs:StartLiveTail", "logs:StopLiveTail"], "Resource": "*"}"#,
    ),
];

/// By its name or its ARN, `arn:aws:iam::aws:policy/NAME`.
pub fn policy(name: &str) -> Option<Arc<Policy>> {
    let name = match name.strip_prefix("arn:aws:iam::aws:policy/") {
        Some(path) => path.rsplit('/').next()?,
        None => name,
    };
    let (_, statement) = MANAGED.iter().find(|(known, _)| *known == name)?;
    let text = format!(r#"{{"Version": "2012-10-17", "Statement": {statement}}}"#);
    Policy::parse(&text, Attached::Identity).ok().map(Arc::new)
}

pub fn names() -> impl Iterator<Item = &'static str> {
    MANAGED.iter().map(|(name, _)| *name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_managed_policy_can_be_read_by_name_and_by_arn() {
        for name in names() {
            assert!(policy(name).is_some(), "{name}");
            assert!(policy(&format!("arn:aws:iam::aws:policy/{name}")).is_some(), "{name}");
        }
        assert!(policy("arn:aws:iam::aws:policy/service-role/AWSLambdaRole").is_some());
        assert!(policy("AWSLambdaFullAccess").is_none());
        assert!(policy("AdministratorAccess").is_some_and(|policy| policy.is_full()));
        assert!(policy("AWSLambda_FullAccess").is_some_and(|policy| !policy.is_full()));
    }
}

//! What is a policy and what is not, with the words for each mistake.
//!
//! Not here: what a policy decides (`evaluate`).

use lamu_model::AccountId;

use super::*;

fn errors(text: &str, attached: Attached) -> Vec<String> {
    Policy::parse(text, attached).map(|_| ()).unwrap_err().0
}

#[test]
fn everything_wrong_is_told_at_once_with_its_statement() {
    let text = r#"{"Version": "2020-01-01", "Extra": 1, "Statement": [
        {"Effect": "Permit", "Action": "lambda", "Resource": "f"},
        {"Sid": 7, "Effect": "Allow", "Action": "*", "NotAction": "*", "Principal": "*"},
        {"Effect": "Allow", "Actions": "*", "Resource": "*", "Condition": {
            "StringLikes": {"aws:username": "a"}, "Bool": {"aws:secureTransports": "true"}}},
        {"Effect": "Allow", "Action": [], "Resource": {"a": 1}, "Condition": []},
        7
    ]}"#;
    let mut got = errors(text, Attached::Identity);
    got.sort();
    let mut expected = [
        "a policy has no Extra",
        "Version must be \"2012-10-17\" or \"2008-10-17\"",
        "statement 1: Effect must be \"Allow\" or \"Deny\"",
        "statement 1: action \"lambda\" must look like lambda:GetFunction",
        "statement 1: resource \"f\" must be in ARN format or \"*\"",
        "statement 2: Sid must be text",
        "statement 2: a policy of an identity names no principal",
        "statement 2: has both Action and NotAction",
        "statement 2: needs Resource or NotResource",
        "statement 3: a statement has no Actions",
        "statement 3: needs Action or NotAction",
        "statement 3: StringLikes is no operator of a condition",
        "statement 3: aws:secureTransports is no key of a condition",
        "statement 4: Action is empty",
        "statement 4: Resource must be text or a list of texts",
        "statement 4: Resource is empty",
        "statement 4: Condition must be an object",
        "statement 5: must be an object",
    ];
    expected.sort_unstable();
    assert_eq!(got, expected);
}

#[test]
fn what_is_no_policy_at_all_is_said_so() {
    for text in ["", "[]", "7", "{\"Statement\": 7}", "{}", "{\"Statement\":[]"] {
        assert!(!errors(text, Attached::Resource).is_empty(), "{text}");
    }
}

#[test]
fn a_policy_of_a_resource_says_for_whom_it_is() {
    let with = |principal: &str| {
        let text = format!(
            r#"{{"Statement": {{"Effect": "Allow", {principal} "Action": "*", "Resource": "*"}}}}"#
        );
        Policy::parse(&text, Attached::Resource)
    };
    for good in [
        r#""Principal": "*","#,
        r#""Principal": {"AWS": "*"},"#,
        r#""Principal": {"AWS": ["123456789012", "arn:aws:iam::123456789012:role/a/b"]},"#,
        r#""Principal": {"Service": "s3.amazonaws.com"},"#,
        r#""NotPrincipal": {"AWS": "arn:aws:iam::123456789012:root"},"#,
    ] {
        assert!(with(good).is_ok(), "{good}");
    }
    for bad in [
        "",
        r#""Principal": "123456789012","#,
        r#""Principal": {},"#,
        r#""Principal": {"AWS": "12345678901"},"#,
        r#""Principal": {"AWS": "arn:aws:s3:::bucket"},"#,
        r#""Principal": {"AWS": "arn:aws:iam::123456789012:user/"},"#,
        r#""Principal": {"AWS": "arn:aws:iam::123456789012:group/g"},"#,
        r#""Principal": {"Service": "s3"},"#,
        r#""Principal": {"Federated": "cognito-identity.amazonaws.com"},"#,
        r#""Principal": "*", "NotPrincipal": "*","#,
    ] {
        assert!(with(bad).is_err(), "{bad}");
    }
}

#[test]
fn a_principal_is_named_by_itself_by_its_account_or_as_anyone() {
    let account = AccountId::new("123456789012");
    let root = Principal::root(account.clone());
    let user = Principal::user(account.clone(), "u", Vec::new());
    let role = Principal::role(account, "p/r", "s", Vec::new());
    let s3 = Principal::service("s3.amazonaws.com");
    let nobody = Principal::anonymous();
    let (itself, through) = (Some(Named::Itself), Some(Named::Account));
    let table = [
        (r#""*""#, [itself, itself, itself, itself, itself]),
        (r#"{"AWS": "*"}"#, [itself, itself, itself, itself, itself]),
        (r#"{"AWS": "123456789012"}"#, [itself, through, through, None, None]),
        (r#"{"AWS": "arn:aws:iam::123456789012:root"}"#, [itself, through, through, None, None]),
        (r#"{"AWS": "arn:aws:iam::123456789012:user/u"}"#, [None, itself, None, None, None]),
        (r#"{"AWS": "arn:aws:iam::123456789012:role/p/r"}"#, [None, None, itself, None, None]),
        (
            r#"{"AWS": "arn:aws:sts::123456789012:assumed-role/r/s"}"#,
            [None, None, itself, None, None],
        ),
        (r#"{"Service": "s3.amazonaws.com"}"#, [None, None, None, itself, None]),
        (r#"{"Service": "sns.amazonaws.com"}"#, [None, None, None, None, None]),
        (r#"{"AWS": "210987654321"}"#, [None, None, None, None, None]),
    ];
    for (principal, expected) in table {
        let text = format!(
            r#"{{"Statement": {{"Effect": "Allow", "Principal": {principal}, "Action": "*", "Resource": "*"}}}}"#
        );
        let policy = Policy::parse(&text, Attached::Resource).unwrap();
        let got = [&root, &user, &role, &s3, &nobody].map(|who| policy.statements[0].names(who));
        assert_eq!(got, expected, "{principal}");
    }
}

#[test]
fn only_an_unconditional_allow_of_everything_is_full() {
    let full = |statement: &str| {
        let text = format!(r#"{{"Version": "2012-10-17", "Statement": {statement}}}"#);
        let policy = Policy::parse(&text, Attached::Identity).unwrap();
        (policy.is_full(), policy.has_deny())
    };
    let table = [
        (r#"{"Effect": "Allow", "Action": "*", "Resource": "*"}"#, (true, false)),
        (r#"{"Effect": "Allow", "Action": "lambda:*", "Resource": "*"}"#, (false, false)),
        (r#"{"Effect": "Allow", "Action": "*", "Resource": "arn:aws:lambda:*"}"#, (false, false)),
        (r#"{"Effect": "Allow", "NotAction": "*", "Resource": "*"}"#, (false, false)),
        (
            r#"{"Effect": "Allow", "Action": "*", "Resource": "*", "Condition": {"Bool": {"aws:SecureTransport": true}}}"#,
            (false, false),
        ),
        (
            r#"[{"Effect": "Allow", "Action": "*", "Resource": "*"}, {"Effect": "Deny", "Action": "*", "Resource": "*"}]"#,
            (true, true),
        ),
    ];
    for (statement, expected) in table {
        assert_eq!(full(statement), expected, "{statement}");
    }
}

#[test]
fn a_policy_is_public_when_anyone_may_and_nothing_fixed_narrows_it() {
    let public = |principal: &str, condition: &str| {
        let text = format!(
            r#"{{"Statement": {{"Effect": "Allow", "Principal": {principal}, "Action": "*", "Resource": "*", "Condition": {condition}}}, "Version": "2012-10-17"}}"#
        );
        Policy::parse(&text, Attached::Resource).unwrap().is_public()
    };
    assert!(public(r#""*""#, "{}"));
    assert!(public(r#""*""#, r#"{"StringEquals": {"lambda:FunctionUrlAuthType": "NONE"}}"#));
    assert!(public(r#"{"AWS": "*"}"#, r#"{"StringLike": {"aws:PrincipalOrgID": "*"}}"#));
    assert!(public(r#""*""#, r#"{"StringNotEquals": {"aws:SourceAccount": "1"}}"#));
    for loose in [
        r#"{"StringLike": {"aws:PrincipalAccount": "?*"}}"#,
        r#"{"StringLike": {"aws:PrincipalOrgID": "o-*"}}"#,
        r#"{"StringEquals": {"aws:PrincipalAccount": "${aws:PrincipalAccount}"}}"#,
        r#"{"StringEquals": {"aws:SourceAccount": ["123456789012", "${aws:SourceAccount}"]}}"#,
        r#"{"ArnLike": {"aws:PrincipalArn": "arn:*"}}"#,
        r#"{"ArnLike": {"aws:PrincipalArn": "arn:aws:iam::*:root"}}"#,
        r#"{"ArnLike": {"aws:PrincipalArn": "arn:aws:iam::${aws:PrincipalAccount}:root"}}"#,
        r#"{"ArnLike": {"aws:SourceArn": "arn:aws:s3:::*"}}"#,
        r#"{"IpAddress": {"aws:SourceIp": ["0.0.0.0/1", "128.0.0.0/1"]}}"#,
        r#"{"IpAddress": {"aws:SourceIp": "10.0.0.0/7"}}"#,
        r#"{"IpAddress": {"aws:SourceIp": "2000::/3"}}"#,
    ] {
        assert!(public(r#""*""#, loose), "{loose}");
    }
    let all: Vec<String> = (0..256).map(|at| format!("\"{at}.0.0.0/8\"")).collect();
    let all = format!(r#"{{"IpAddress": {{"aws:SourceIp": [{}]}}}}"#, all.join(","));
    assert!(public(r#""*""#, &all), "everyone in pieces");
    for fixed in [
        r#"{"StringEquals": {"aws:SourceAccount": "123456789012"}}"#,
        r#"{"StringLike": {"lambda:EventSourceToken": "a1b2"}}"#,
        r#"{"ArnLike": {"aws:PrincipalArn": "arn:aws:iam::123456789012:role/*"}}"#,
        r#"{"IpAddress": {"aws:SourceIp": ["10.0.0.0/8", "172.16.0.0/12", "192.168.0.1"]}}"#,
        r#"{"IpAddress": {"aws:SourceIp": "2001:db8::/32"}}"#,
    ] {
        assert!(!public(r#""*""#, fixed), "{fixed}");
    }
    assert!(!public(r#""*""#, r#"{"StringEquals": {"aws:PrincipalOrgID": "o-abcdefghij"}}"#));
    assert!(!public(r#""*""#, r#"{"ArnLike": {"AWS:SourceArn": "arn:aws:s3:::b"}}"#));
    assert!(!public(r#"{"AWS": "123456789012"}"#, "{}"));
    assert!(!public(r#"{"Service": "s3.amazonaws.com"}"#, "{}"));
}

//! Who may do what, with boto3 signing as several principals of several
//! accounts. The scenarios are in `py/permissions.py`.

mod support;

use std::path::{Path, PathBuf};

use support::{Lamu, said};

scenarios!("permissions":
    policies_without_keys,
    a_policy_of_every_principal_and_condition,
    overflow_and_revisions,
    a_storm_of_permissions,
);

/// Callers of two accounts; the scenarios know them by their keys.
const SETTINGS: &str = r#"
region = "us-east-1"

[policies]
deployer = "deployer.json"
invoke-f = '''{"Version": "2012-10-17", "Statement": [
    {"Effect": "Allow", "Action": "lambda:InvokeFunction",
     "Resource": ["arn:aws:lambda:*:*:function:f", "arn:aws:lambda:*:*:function:f:*"]}]}'''

[policies.no-secrets]
Version = "2012-10-17"
[[policies.no-secrets.Statement]]
Effect = "Allow"
Action = "*"
Resource = "*"
[[policies.no-secrets.Statement]]
Effect = "Deny"
Action = "lambda:*"
Resource = "arn:aws:lambda:*:*:function:secret-*"
[[policies.no-secrets.Statement]]
Effect = "Deny"
Action = "logs:*"
Resource = "arn:aws:logs:*:*:log-group:/aws/lambda/secret-*"

[[accounts]]
id = "222222222222"
organization = "o-a1b2c3d4e5"

[[principals]]
arn = "arn:aws:iam::111111111111:user/alice"
policies = ["no-secrets"]
[[principals]]
arn = "arn:aws:iam::111111111111:user/nobody"
[[principals]]
arn = "arn:aws:iam::111111111111:user/reader"
policies = ["AWSLambda_ReadOnlyAccess"]
[[principals]]
arn = "arn:aws:iam::111111111111:role/ci/deployer"
policies = ["deployer"]
[[principals]]
arn = "user/bob"
account = "222222222222"
policies = ["invoke-f"]

[[keys]]
access_key_id = "ROOT1"
secret_access_key = "s"
account = "111111111111"
[[keys]]
access_key_id = "ROOT2"
secret_access_key = "s"
account = "222222222222"
[[keys]]
access_key_id = "ALICE"
secret_access_key = "s"
principal = "arn:aws:iam::111111111111:user/alice"
[[keys]]
access_key_id = "NOBODY"
secret_access_key = "s"
principal = "arn:aws:iam::111111111111:user/nobody"
[[keys]]
access_key_id = "READER"
secret_access_key = "s"
principal = "arn:aws:iam::111111111111:user/reader"
[[keys]]
access_key_id = "DEPLOYER"
secret_access_key = "s"
principal = "arn:aws:iam::111111111111:role/ci/deployer"
[[keys]]
access_key_id = "BOB"
secret_access_key = "s"
principal = "user/bob"
account = "222222222222"
"#;

const DEPLOYER: &str = r#"{"Version": "2012-10-17", "Statement": [
    {"Effect": "Allow", "Action": ["lambda:CreateFunction", "lambda:Get*", "lambda:TagResource"],
     "Resource": "arn:aws:lambda:us-east-1:111111111111:function:ci-*"},
    {"Effect": "Allow", "Action": "iam:PassRole", "Resource": "arn:aws:iam::*:role/tests",
     "Condition": {"StringEquals": {"iam:PassedToService": "lambda.amazonaws.com"}}},
    {"Effect": "Allow", "Action": "lambda:UpdateFunctionConfiguration", "Resource": "*",
     "Condition": {"StringEquals": {"aws:ResourceTag/owner": "ci"},
                   "ForAllValues:StringLike": {"lambda:Layer": "arn:aws:lambda:*:111111111111:layer:*"}}},
    {"Effect": "Allow", "Action": "lambda:AddPermission", "Resource": "*",
     "Condition": {"StringEquals": {"lambda:Principal": "s3.amazonaws.com"}}}]}"#;

fn settings(dir: &Path) -> PathBuf {
    let path = dir.join("lamu.toml");
    std::fs::write(&path, SETTINGS).unwrap();
    std::fs::write(dir.join("deployer.json"), DEPLOYER).unwrap();
    path
}

/// Runs scenarios of signed callers, one after the other on one platform.
fn signed(scenarios: &[&str]) {
    let dir = tempfile::tempdir().unwrap();
    let settings = settings(dir.path());
    let lamu = Lamu::start_with(&["--config", settings.to_str().unwrap()]);
    for scenario in scenarios {
        lamu.python("permissions", scenario);
    }
    lamu.stop();
}

#[test]
fn identity_policies_decide_at_home() {
    signed(&["identity_policies_decide_at_home"]);
}

#[test]
fn another_account_needs_both_policies() {
    signed(&["another_account_needs_both_policies"]);
}

#[test]
fn what_a_resource_policy_denies_stays_denied() {
    signed(&["what_a_resource_policy_denies_stays_denied"]);
}

#[test]
fn logs_are_part_of_what_is_allowed() {
    signed(&["logs_are_part_of_what_is_allowed"]);
}

#[test]
fn another_name_passes_no_refusal() {
    signed(&["another_name_passes_no_refusal"]);
}

#[test]
fn layers_are_shared_between_accounts() {
    signed(&["layers_are_shared_between_accounts"]);
}

#[test]
fn policies_are_there_after_a_kill() {
    let dir = tempfile::Builder::new().prefix("lamu-permissions.").tempdir().unwrap();
    let settings = settings(dir.path());
    let arguments = ["--config", settings.to_str().unwrap()];
    let lamu = Lamu::start_in(dir.path(), &arguments);
    lamu.python("permissions", "shared_before_a_kill");
    let trace = lamu.kill();
    trace.must_be_gone();

    let lamu = Lamu::start_in(dir.path(), &arguments);
    lamu.python("permissions", "shared_after_a_kill");
    lamu.stop();
}

#[test]
fn public_policies_can_be_blocked() {
    let lamu = Lamu::start_with(&["--block-public-policies", "true"]);
    lamu.python("permissions", "public_policies_are_blocked");
    lamu.stop();
}

#[test]
fn every_mistake_in_the_policies_is_told_before_anything_starts() {
    let dir = tempfile::tempdir().unwrap();
    let settings = settings(dir.path());
    let broken = SETTINGS.replace("lambda:InvokeFunction", "InvokeFunction");
    std::fs::write(&settings, broken.replace("\"deployer\"]", "\"deployers\"]")).unwrap();
    std::fs::write(dir.path().join("deployer.json"), DEPLOYER.replace("StringLike", "StringLikes"))
        .unwrap();
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_lamu"))
        .args(["run", "--config"])
        .arg(&settings)
        .arg("--data")
        .arg(dir.path().join("data"))
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2), "{}", said(&output));
    let text = said(&output);
    for line in [
        "policies.invoke-f",
        "statement 1: action \"InvokeFunction\" must look like lambda:GetFunction",
        "deployer.json): statement 3: ForAllValues:StringLikes is no operator of a condition",
        "principals 4",
        "there is no policy \"deployers\"",
    ] {
        assert!(text.contains(line), "{line}\n{text}");
    }
    assert!(!dir.path().join("data").exists(), "nothing is made before the settings are right");
}

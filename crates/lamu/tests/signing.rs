//! Code signing configurations as boto3 and the aws CLI see them. The scenarios
//! are in `py/signing.py`.

mod support;

use serde_json::Value;
use support::Lamu;

scenarios!("signing":
    made_changed_listed_and_deleted,
    given_to_a_function_and_taken_away,
    enforced_where_nothing_can_be_signed,
    warned_of_and_let_through,
    wrong_requests_get_lambdas_words,
);

#[test]
fn configurations_survive_a_kill() {
    let dir = tempfile::Builder::new().prefix("lamu-signing.").tempdir().unwrap();
    let lamu = Lamu::start_in(dir.path(), &[]);
    lamu.python("signing", "made_and_given");
    let trace = lamu.kill();
    trace.must_be_gone();
    let lamu = Lamu::start_in(dir.path(), &[]);
    lamu.python("signing", "still_enforced");
    lamu.stop();
}

#[test]
fn the_aws_cli_manages_configurations() {
    let lamu = Lamu::start();
    let json = |text: String| -> Value { serde_json::from_str(&text).unwrap() };
    let profile = "arn:aws:signer:us-east-1:000000000000:/signing-profiles/release/abcdefghij";
    let made = json(lamu.aws(&[
        "lambda",
        "create-code-signing-config",
        "--description",
        "of the CLI",
        "--allowed-publishers",
        &format!("SigningProfileVersionArns={profile}"),
        "--code-signing-policies",
        "UntrustedArtifactOnDeployment=Enforce",
    ]));
    let arn = made["CodeSigningConfig"]["CodeSigningConfigArn"].as_str().unwrap();
    let with = |command: &str| lamu.aws(&["lambda", command, "--code-signing-config-arn", arn]);
    let got = json(with("get-code-signing-config"));
    assert_eq!(got["CodeSigningConfig"]["Description"], "of the CLI");
    let listed = json(lamu.aws(&["lambda", "list-code-signing-configs"]));
    assert_eq!(listed["CodeSigningConfigs"], serde_json::json!([got["CodeSigningConfig"]]));
    let functions = json(with("list-functions-by-code-signing-config"));
    assert_eq!(functions["FunctionArns"], serde_json::json!([]));
    with("delete-code-signing-config");
    let listed = json(lamu.aws(&["lambda", "list-code-signing-configs"]));
    assert_eq!(listed["CodeSigningConfigs"], serde_json::json!([]));
    lamu.stop();
}

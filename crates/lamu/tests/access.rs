//! Who gets in, and that every operation of Lambda is known: routed,
//! validated, and either working or refused as not there yet.

mod support;

use std::process::{Command, Stdio};

use lamu_api::Operation;
use lamu_api::constraint::Place;
use support::{Lamu, said};

const WORKING: &[&str] = &[
    "AddLayerVersionPermission",
    "AddPermission",
    "CreateAlias",
    "CreateCodeSigningConfig",
    "CreateEventSourceMapping",
    "CreateFunction",
    "CreateFunctionUrlConfig",
    "DeleteAlias",
    "DeleteCodeSigningConfig",
    "DeleteEventSourceMapping",
    "DeleteFunction",
    "DeleteFunctionCodeSigningConfig",
    "DeleteFunctionConcurrency",
    "DeleteFunctionEventInvokeConfig",
    "DeleteFunctionUrlConfig",
    "DeleteLayerVersion",
    "DeleteProvisionedConcurrencyConfig",
    "DeleteResourcePolicy",
    "GetAccountSettings",
    "GetAlias",
    "GetCodeSigningConfig",
    "GetEventSourceMapping",
    "GetFunction",
    "GetFunctionCodeSigningConfig",
    "GetFunctionConcurrency",
    "GetFunctionConfiguration",
    "GetFunctionEventInvokeConfig",
    "GetFunctionRecursionConfig",
    "GetFunctionUrlConfig",
    "GetLayerVersion",
    "GetLayerVersionByArn",
    "GetLayerVersionPolicy",
    "GetPolicy",
    "GetProvisionedConcurrencyConfig",
    "GetResourcePolicy",
    "GetRuntimeManagementConfig",
    "Invoke",
    "InvokeWithResponseStream",
    "ListAliases",
    "ListCodeSigningConfigs",
    "ListEventSourceMappings",
    "ListFunctionEventInvokeConfigs",
    "ListFunctionUrlConfigs",
    "ListFunctions",
    "ListFunctionsByCodeSigningConfig",
    "ListLayerVersions",
    "ListLayers",
    "ListProvisionedConcurrencyConfigs",
    "ListTags",
    "ListVersionsByFunction",
    "PublishLayerVersion",
    "PublishVersion",
    "PutFunctionCodeSigningConfig",
    "PutFunctionConcurrency",
    "PutFunctionEventInvokeConfig",
    "PutFunctionRecursionConfig",
    "PutProvisionedConcurrencyConfig",
    "PutResourcePolicy",
    "PutRuntimeManagementConfig",
    "RemoveLayerVersionPermission",
    "RemovePermission",
    "TagResource",
    "UntagResource",
    "UpdateAlias",
    "UpdateCodeSigningConfig",
    "UpdateEventSourceMapping",
    "UpdateFunctionCode",
    "UpdateFunctionConfiguration",
    "UpdateFunctionEventInvokeConfig",
    "UpdateFunctionUrlConfig",
];

#[test]
fn all_ninety_one_operations_are_routed_and_validated() {
    let lamu = Lamu::start();
    assert_eq!(Operation::ALL.len(), 91);
    let mut not_there = 0;
    for operation in Operation::ALL {
        // Good enough to be routed: labels filled in, the rest left out.
        let good = request(*operation, "f", "{}");
        let answer = Answer::of(&lamu.raw(good.as_bytes()));
        assert_ne!(answer.error, "UnknownOperationException", "{operation}: {}", answer.text);
        let works = WORKING.contains(&operation.name());
        if works {
            assert_ne!(answer.status, 501, "{operation}: {}", answer.text);
        } else {
            not_there += 1;
            // Validation comes first; what passes it is said not to be there.
            assert!([400, 501].contains(&answer.status), "{operation}: {}", answer.text);
        }
        if answer.status == 501 {
            assert!(answer.text.contains(operation.name()), "{operation}: {}", answer.text);
            assert!(answer.text.contains("does not serve yet"), "{operation}: {}", answer.text);
        }

        let named = operation
            .input()
            .members
            .iter()
            .any(|member| member.place == Place::Label && member.name == "FunctionName");
        if named {
            let wrong = request(*operation, "not%20a%20name", "{}");
            let answer = Answer::of(&lamu.raw(wrong.as_bytes()));
            assert_eq!(answer.status, 400, "{operation}: {}", answer.text);
            assert_eq!(answer.error, "ValidationException", "{operation}: {}", answer.text);
            assert!(
                answer
                    .text
                    .contains("Value 'not a name' at 'functionName' failed to satisfy constraint"),
                "{operation}: {}",
                answer.text
            );
        }
    }
    assert_eq!(not_there, 91 - WORKING.len());
    lamu.stop();
}

#[test]
fn what_no_operation_answers_to_is_unknown() {
    let lamu = Lamu::start();
    for line in ["GET /2015-03-31/nothing", "PATCH /2015-03-31/functions", "DELETE /"] {
        let answer = Answer::of(&lamu.raw(raw(line, "", "").as_bytes()));
        assert!([403, 404, 405].contains(&answer.status), "{line}: {}", answer.text);
    }
    // Requests that are no HTTP at all end the connection and nothing else.
    for junk in [&b"\x00\x01\x02\r\n\r\n"[..], b"GET\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\x00"] {
        let answer = lamu.raw(junk);
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 400"), "{answer}");
    }
    let healthy = Answer::of(&lamu.raw(raw("GET /healthz", "", "").as_bytes()));
    assert_eq!(healthy.status, 200);
    lamu.stop();
}

#[test]
fn a_web_page_gets_nothing() {
    let lamu = Lamu::start();
    let list = "GET /2015-03-31/functions";
    for header in [
        "Origin: http://evil.example\r\n",
        "Origin: null\r\n",
        "Sec-Fetch-Site: cross-site\r\n",
        "Sec-Fetch-Site: same-site\r\n",
    ] {
        let answer = Answer::of(&lamu.raw(raw(list, header, "").as_bytes()));
        assert_eq!(answer.status, 403, "{header}: {}", answer.text);
    }
    let rebound = format!("{list} HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n");
    assert_eq!(Answer::of(&lamu.raw(rebound.as_bytes())).status, 403);
    // The same from one's own programs is served.
    assert_eq!(Answer::of(&lamu.raw(raw(list, "", "").as_bytes())).status, 200);
    lamu.stop();
}

#[test]
fn with_keys_only_right_signatures_are_served() {
    let dir = tempfile::tempdir().unwrap();
    let keys = dir.path().join("keys.toml");
    std::fs::write(
        &keys,
        "[[keys]]\naccess_key_id = 'AKIDONE'\nsecret_access_key = 'one'\naccount = '111122223333'\n\
         [[keys]]\naccess_key_id = 'AKIDTWO'\nsecret_access_key = 'two'\n",
    )
    .unwrap();
    let lamu = Lamu::start_with(&["--keys", keys.to_str().unwrap()]);
    let call = |id: &str, secret: &str, arguments: &[&str]| {
        Command::new(env!("CARGO_BIN_EXE_lamu"))
            .args(arguments)
            .args(["--endpoint", &lamu.endpoint])
            .env("AWS_ACCESS_KEY_ID", id)
            .env("AWS_SECRET_ACCESS_KEY", secret)
            .env_remove("AWS_SESSION_TOKEN")
            .stdin(Stdio::null())
            .output()
            .unwrap()
    };
    assert!(call("AKIDONE", "one", &["ls"]).status.success());
    assert!(call("AKIDTWO", "two", &["ls"]).status.success());
    for (id, secret, code) in [
        ("AKIDONE", "two", "InvalidSignatureException"),
        ("AKIDNONE", "one", "UnrecognizedClientException"),
    ] {
        let refused = call(id, secret, &["ls"]);
        assert_eq!(refused.status.code(), Some(3));
        assert!(said(&refused).contains(code), "{}", said(&refused));
    }
    let unsigned = Answer::of(&lamu.raw(raw("GET /2015-03-31/functions", "", "").as_bytes()));
    assert_eq!(unsigned.status, 403, "{}", unsigned.text);
    assert_eq!(unsigned.error, "MissingAuthenticationTokenException");

    let example = support::workspace().join("examples/hello-python");
    let deployed = call("AKIDONE", "one", &["deploy", example.to_str().unwrap()]);
    assert!(said(&deployed).contains(":111122223333:function:hello-python"), "{}", said(&deployed));
    let answer = call("AKIDONE", "one", &["invoke", "hello-python", "{}"]);
    assert!(answer.status.success(), "{}", said(&answer));
    let other = call("AKIDTWO", "two", &["invoke", "hello-python", "{}"]);
    assert!(said(&other).contains("ResourceNotFoundException"), "{}", said(&other));
    lamu.stop();
}

#[test]
fn presigned_urls_are_verified_too() {
    let dir = tempfile::tempdir().unwrap();
    let keys = dir.path().join("keys.toml");
    std::fs::write(&keys, "[[keys]]\naccess_key_id = 'AKIDONE'\nsecret_access_key = 'one'\n")
        .unwrap();
    let lamu = Lamu::start_with(&["--keys", keys.to_str().unwrap()]);
    let environment = [("AWS_ACCESS_KEY_ID", "AKIDONE"), ("AWS_SECRET_ACCESS_KEY", "one")];
    lamu.python_with("access", "presigned_urls", &environment);
    lamu.python_with("access", "old_signatures_are_refused", &environment);
    lamu.stop();
}

#[test]
fn without_keys_other_machines_are_not_served() {
    let dir = tempfile::tempdir().unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_lamu"))
        .args(["run", "--listen", "0.0.0.0:0", "--data"])
        .arg(dir.path().join("data"))
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2), "{}", said(&output));
    assert!(said(&output).contains("callers must sign with keys"), "{}", said(&output));
    assert!(!dir.path().join("data").exists(), "nothing is made before the settings are right");
}

/// What came back.
struct Answer {
    status: u16,
    error: String,
    text: String,
}

impl Answer {
    fn of(text: &str) -> Answer {
        let status = text.split_whitespace().nth(1).and_then(|word| word.parse().ok());
        let error = text
            .lines()
            .find_map(|line| {
                let (name, value) = line.split_once(':')?;
                name.eq_ignore_ascii_case("x-amzn-errortype").then(|| value.trim().to_owned())
            })
            .unwrap_or_default();
        Answer { status: status.unwrap_or(0), error, text: text.to_owned() }
    }
}

fn raw(line: &str, headers: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "{line} HTTP/1.1\r\nHost: 127.0.0.1\r\n{headers}Content-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    )
}

/// A request of an operation whose labels all say `label`, or what else their
/// own form demands.
fn request(operation: Operation, label: &str, body: &str) -> String {
    let mut path = String::new();
    for (at, part) in operation.uri().split(['{', '}']).enumerate() {
        let filled = match part.trim_end_matches('+') {
            literal if at % 2 == 0 => literal.to_owned(),
            "FunctionName" => label.to_owned(),
            "VersionNumber" => "1".to_owned(),
            "UUID" => "00000000-0000-4000-8000-000000000000".to_owned(),
            "Resource" | "ResourceArn" => {
                "arn%3Aaws%3Alambda%3Aus-east-1%3A000000000000%3Afunction%3Af".to_owned()
            }
            _ => "x".to_owned(),
        };
        path.push_str(&filled);
    }
    let path = if operation.name() == "GetLayerVersionByArn" && !path.contains("find=") {
        format!("{path}?find=LayerVersion")
    } else if operation.name() == "ListProvisionedConcurrencyConfigs" && !path.contains("List=") {
        format!("{path}?List=ALL")
    } else {
        path
    };
    raw(
        &format!("{} {path}", operation.method().as_str()),
        "Content-Type: application/json\r\n",
        body,
    )
}

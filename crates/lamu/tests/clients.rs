//! The clients people use, unchanged: the aws CLI, AWS's runtime clients for
//! Rust, Python and Node, and our own verbs.

mod support;

use serde_json::Value;
use support::{Lamu, said, workspace};

scenarios!("clients":
    stock_python_client,
);

#[test]
fn stock_node_client() {
    let built = workspace().join("target/npm/node_modules/aws-lambda-ric/dist/rapid-client.node");
    if !built.exists() {
        eprintln!("skipped: aws-lambda-ric did not install here, see target/npm/npm.log");
        return;
    }
    let lamu = Lamu::start();
    lamu.python("clients", "stock_node_client");
    lamu.stop();
}

#[test]
fn stock_rust_client() {
    let lamu = Lamu::start();
    let example = workspace().join("examples/hello-rust");
    let arn = lamu.lamu_ok(&["deploy", example.to_str().unwrap()]);
    assert_eq!(arn.trim(), "arn:aws:lambda:us-east-1:000000000000:function:hello-rust");
    for call in 1..=3 {
        let answer = lamu.lamu_ok(&["invoke", "hello-rust", r#"{"name":"Ada"}"#]);
        let answer: Value = serde_json::from_str(&answer).unwrap();
        assert_eq!(answer["message"], "Hello, Ada!");
        assert_eq!(answer["call"], call, "a warm call finds the same process");
    }
    let failed = lamu.lamu(&["invoke", "hello-rust", r#"{"name":"nobody"}"#]);
    assert_eq!(failed.status.code(), Some(1));
    assert!(said(&failed).contains("there is nobody to greet"), "{}", said(&failed));
    lamu.stop();
}

#[test]
fn our_verbs_deploy_call_show_and_remove() {
    let lamu = Lamu::start();
    let example = workspace().join("examples/hello-python");
    let example = example.to_str().unwrap();
    lamu.lamu_ok(&["deploy", example, "--env", "GREETING=Moin"]);
    let again = lamu.lamu(&["deploy", example]);
    assert!(said(&again).contains("nothing has changed"), "{}", said(&again));
    let changed = lamu.lamu(&["deploy", example, "--memory", "256"]);
    assert!(said(&changed).contains("updated MemorySize"), "{}", said(&changed));

    let output =
        lamu.lamu(&["invoke", "hello-python", r#"{"name":"Ada"}"#, "--tail", "--timeline"]);
    let (stdout, stderr) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let answer: Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!(answer["message"], "Moin, Ada!");
    assert_eq!(answer["memory_mb"], "256");
    assert!(stderr.contains("REPORT RequestId:"), "{stderr}");
    for phase in ["placed", "sandbox", "init", "handler", "total"] {
        assert!(stderr.lines().any(|line| line.starts_with(phase)), "no {phase} in {stderr}");
    }

    support::eventually("the log is there", || {
        lamu.lamu_ok(&["logs", "hello-python"]).contains("greeting Ada, call 1")
    });
    let listed = lamu.lamu_ok(&["ls"]);
    assert!(listed.contains("hello-python") && listed.contains("256 MB"), "{listed}");

    lamu.lamu_ok(&["rm", "hello-python"]);
    let gone = lamu.lamu(&["invoke", "hello-python"]);
    assert_eq!(gone.status.code(), Some(3));
    assert!(said(&gone).contains("ResourceNotFoundException"), "{}", said(&gone));
    assert_eq!(lamu.lamu(&["rm", "hello-python"]).status.code(), Some(3));
    lamu.stop();
}

#[test]
fn a_node_directory_is_deployed_as_it_lies() {
    let lamu = Lamu::start();
    let example = workspace().join("examples/hello-node");
    lamu.lamu_ok(&["deploy", example.to_str().unwrap()]);
    let answer = lamu.lamu_ok(&["invoke", "hello-node", r#"{"name":"Ada"}"#]);
    let answer: Value = serde_json::from_str(&answer).unwrap();
    assert_eq!(answer["message"], "Hello, Ada!");
    lamu.stop();
}

#[test]
fn the_aws_cli_works_unchanged() {
    let lamu = Lamu::start();
    let dir = tempfile::tempdir().unwrap();
    let zip = dir.path().join("f.zip");
    let script = "import sys, zipfile; z = zipfile.ZipFile(sys.argv[1], 'w'); i = zipfile.ZipInfo('app.py'); i.external_attr = 0o644 << 16; z.writestr(i, 'def handler(e, c): return {\"got\": e}'); z.close()";
    let packed =
        std::process::Command::new(support::venv("python")).args(["-c", script]).arg(&zip).status();
    assert!(packed.unwrap().success());
    let runtime = lamu.lamu_ok(&["invoke", "--help"]);
    assert!(runtime.contains("Examples:"));

    let code = format!("fileb://{}", zip.display());
    let python = std::process::Command::new("/usr/bin/python3")
        .args(["-c", "import sys; print('python3.%d' % sys.version_info[1], end='')"])
        .output()
        .unwrap();
    let runtime = String::from_utf8(python.stdout).unwrap();
    lamu.aws(&[
        "lambda",
        "create-function",
        "--function-name",
        "cli",
        "--runtime",
        &runtime,
        "--handler",
        "app.handler",
        "--role",
        "arn:aws:iam::000000000000:role/x",
        "--zip-file",
        &code,
    ]);
    lamu.aws(&["lambda", "wait", "function-active-v2", "--function-name", "cli"]);
    let out = dir.path().join("out.json");
    let answer = lamu.aws(&[
        "lambda",
        "invoke",
        "--function-name",
        "cli",
        "--payload",
        "{\"k\": 1}",
        "--log-type",
        "Tail",
        out.to_str().unwrap(),
    ]);
    let answer: Value = serde_json::from_str(&answer).unwrap();
    assert_eq!(answer["StatusCode"], 200);
    assert_eq!(answer["ExecutedVersion"], "$LATEST");
    assert_eq!(std::fs::read_to_string(out).unwrap(), "{\"got\": {\"k\": 1}}");
    let listed = lamu.aws(&[
        "lambda",
        "list-functions",
        "--query",
        "Functions[].FunctionName",
        "--output",
        "text",
    ]);
    assert_eq!(listed.trim(), "cli");
    lamu.aws(&["lambda", "publish-version", "--function-name", "cli"]);
    lamu.aws(&[
        "lambda",
        "create-alias",
        "--function-name",
        "cli",
        "--name",
        "prod",
        "--function-version",
        "1",
    ]);
    lamu.aws(&["lambda", "delete-function", "--function-name", "cli"]);
    lamu.stop();
}

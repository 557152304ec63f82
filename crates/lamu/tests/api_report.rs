//! The access log, and the report that `scripts/api-report` folds of it.

mod support;

use std::path::Path;
use std::process::{Command, Output};

use serde_json::{Value, json};
use support::{Lamu, said, workspace};

#[test]
fn each_request_is_noted_with_who_asked_and_what_was_answered() {
    let dir = tempfile::tempdir().unwrap();
    let notes = dir.path().join("notes");
    std::fs::create_dir(&notes).unwrap();
    let log = notes.join("binary.test.1-0.jsonl");
    let lamu = Lamu::start_with(&["--access-log", log.to_str().unwrap()]);
    lamu.python("functions", "created_and_invoked");
    lamu.aws(&["lambda", "list-functions"]);
    lamu.lamu_ok(&["ls"]);
    lamu.raw(b"GET /2015-03-31/functions/absent HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n");
    lamu.raw(b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n");
    let lines = lines(&log);
    let asked = |operation: &str, agent: &str| -> Vec<u64> {
        let of = |line: &&Value| {
            line["operation"] == operation && line["agent"].as_str().unwrap().contains(agent)
        };
        lines.iter().filter(of).map(|line| line["status"].as_u64().unwrap()).collect()
    };
    assert_eq!(asked("CreateFunction", "Boto3/"), [201]);
    assert_eq!(asked("Invoke", "Boto3/"), [200, 200]);
    assert_eq!(asked("ListFunctions", "aws-cli/"), [200]);
    assert!(!asked("ListFunctions", "lamu/").is_empty());
    let refused = lines.iter().find(|line| line["status"] == 404).unwrap();
    assert_eq!(refused["operation"], "GetFunction");
    assert_eq!(refused["error"], "ResourceNotFoundException");
    assert_eq!(refused["agent"], "");
    assert_eq!(asked("-", ""), [200], "what is no operation is noted too");
    for line in &lines {
        assert_eq!(line["request"].as_str().unwrap().len(), 36, "{line}");
        assert!(line["took_ms"].as_f64().unwrap() > 0.0, "{line}");
    }

    let (output, report) = fold(&notes);
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    let missing = "never answered with success: ";
    let missing =
        said(&output).lines().find_map(|line| Some(line.strip_prefix(missing)?.to_owned()));
    let missing = missing.unwrap();
    let missing: Vec<&str> = missing.split(", ").collect();
    assert!(missing.contains(&"PublishVersion") && !missing.contains(&"CreateFunction"));
    assert!(!missing.contains(&"ListCapacityProviders"), "not meant to work yet");
    assert!(report.contains("\n| CreateFunction | 1 | 0 | 1 |  |  |  |  |\n"), "{report}");
    assert!(report.contains("\n- boto3: binary::test\n"), "{report}");
    let row = report.lines().find(|line| line.starts_with("| GetFunction |")).unwrap();
    assert!(row.ends_with("| 0 (+1 refused) |"), "{row}");
    lamu.stop();
}

#[test]
fn the_report_is_content_when_every_operation_was_answered() {
    let dir = tempfile::tempdir().unwrap();
    let notes = dir.path().join("notes");
    std::fs::create_dir(&notes).unwrap();
    let meant = |operation: &&lamu_api::Operation| {
        let name = operation.name();
        let later = ["DurableExecution", "CapacityProvider", "FunctionScalingConfig"];
        !later.iter().any(|group| name.contains(group))
    };
    let all: Vec<_> = lamu_api::Operation::ALL.iter().filter(meant).collect();
    assert_eq!(all.len(), 71);
    let note = |operation: &lamu_api::Operation, status: u16| {
        json!({"operation": operation.name(), "status": status, "agent": "Boto3/1"}).to_string()
    };
    let write = |lines: Vec<String>| {
        std::fs::write(notes.join("b.t.1-0.jsonl"), lines.join("\n") + "\n").unwrap();
    };
    write(all.iter().map(|operation| note(operation, 200)).collect());
    let (output, _) = fold(&notes);
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));

    let but_one = |(at, operation): (usize, &&lamu_api::Operation)| {
        note(operation, if at == 0 { 501 } else { 204 })
    };
    write(all.iter().enumerate().map(but_one).collect());
    let (output, report) = fold(&notes);
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    assert!(
        report.contains(&format!("Never answered with success: {}.", all[0].name())),
        "{report}"
    );
}

fn fold(notes: &Path) -> (Output, String) {
    let report = notes.with_extension("md");
    let output = Command::new(workspace().join("scripts/api-report"))
        .arg("--fold")
        .args([notes, &report])
        .output()
        .unwrap();
    (output, support::read(&report))
}

fn lines(path: &Path) -> Vec<Value> {
    support::read(path).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

//! kill -9 in any phase: what was acknowledged is there after the next start,
//! and nothing of the killed instance stays.

mod support;

use std::process::{Command, Stdio};

use support::{Lamu, Trace, eventually};

/// Kills lamu once `reached` holds, sees that nothing stays, starts again on
/// the same data and asks for everything that had been acknowledged.
fn killed_when(
    phase: &str,
    begin: impl FnOnce(&Lamu) -> Option<std::process::Child>,
    reached: impl Fn(&Lamu) -> bool,
) {
    let dir = tempfile::Builder::new().prefix("lamu-crash.").tempdir().unwrap();
    let lamu = Lamu::start_in(dir.path(), &[]);
    lamu.python("crash", "made");
    let client = begin(&lamu);
    eventually(phase, || reached(&lamu));
    let trace = lamu.kill();
    if let Some(mut client) = client {
        let _ = client.kill();
        client.wait().unwrap();
    }
    trace.must_be_gone();

    let lamu = Lamu::start_in(dir.path(), &[]);
    trace.must_be_gone();
    lamu.python("crash", "still_there");
    lamu.stop();
}

#[test]
fn killed_when_idle() {
    killed_when("it is idle", |_| None, |_| true);
}

#[test]
fn killed_in_the_middle_of_a_call() {
    killed_when(
        "a call runs",
        |lamu| Some(invoke(lamu, "sleeper", "{\"s\": 30}")),
        |lamu| metric(lamu, "lamu_environments{state=\"busy\"}") >= 1.0,
    );
}

#[test]
fn killed_in_the_middle_of_an_init() {
    killed_when(
        "an init runs",
        |lamu| Some(invoke(lamu, "slow-init", "{}")),
        |lamu| metric(lamu, "lamu_environments{state=\"starting\"}") >= 1.0,
    );
}

#[test]
fn killed_while_functions_come_and_go() {
    killed_when(
        "many were made",
        |lamu| Some(churn(lamu)),
        |lamu| metric(lamu, "lamu_worker_boots_total") >= 5.0,
    );
}

#[test]
fn killed_with_many_environments() {
    let dir = tempfile::Builder::new().prefix("lamu-crash.").tempdir().unwrap();
    let lamu = Lamu::start_in(dir.path(), &[]);
    lamu.python("crash", "made");
    let clients: Vec<_> = (0..12).map(|_| invoke(&lamu, "sleeper", "{\"s\": 30}")).collect();
    eventually("twelve run", || metric(&lamu, "lamu_environments{state=\"busy\"}") >= 12.0);
    let trace = Trace::of(&lamu);
    assert!(trace.process_count() > 12);
    drop(trace);
    let trace = lamu.kill();
    for mut client in clients {
        client.wait().unwrap();
    }
    trace.must_be_gone();
    let lamu = Lamu::start_in(dir.path(), &[]);
    lamu.python("crash", "still_there");
    lamu.stop();
}

#[test]
fn killed_helper_and_all_at_once() {
    // The helper that clears up is killed too: the next start does it.
    let dir = tempfile::Builder::new().prefix("lamu-crash.").tempdir().unwrap();
    let lamu = Lamu::start_in(dir.path(), &[]);
    lamu.python("crash", "made");
    let mut client = invoke(&lamu, "sleeper", "{\"s\": 30}");
    eventually("a call runs", || metric(&lamu, "lamu_environments{state=\"busy\"}") >= 1.0);
    let helpers = support::children(lamu.pid());
    assert!(!helpers.is_empty());
    for helper in &helpers {
        let killed = Command::new("kill").args(["-s", "STOP", &helper.to_string()]).status();
        assert!(killed.unwrap().success());
    }
    let trace = lamu.kill();
    for helper in &helpers {
        let killed = Command::new("kill").args(["-s", "KILL", &helper.to_string()]).status();
        assert!(killed.unwrap().success());
    }
    client.wait().unwrap();
    let lamu = Lamu::start_in(dir.path(), &[]);
    trace.must_be_gone();
    lamu.python("crash", "still_there");
    lamu.stop();
}

fn invoke(lamu: &Lamu, name: &str, event: &str) -> std::process::Child {
    Command::new(env!("CARGO_BIN_EXE_lamu"))
        .args(["invoke", name, event])
        .envs(lamu.environment())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

fn churn(lamu: &Lamu) -> std::process::Child {
    Command::new(support::venv("python"))
        .arg(support::here().join("tests/py/crash.py"))
        .arg("churn")
        .envs(lamu.environment())
        .env("LAMU_TEST_ROOT", support::workspace())
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

fn metric(lamu: &Lamu, name: &str) -> f64 {
    let text = lamu.raw(b"GET /metrics HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n");
    let line = text.lines().find(|line| line.starts_with(name));
    line.and_then(|line| line.rsplit(' ').next()?.parse().ok()).unwrap_or(0.0)
}

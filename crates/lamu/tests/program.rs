//! The program itself: settings, readiness, metrics, stopping, the doctor.

mod support;

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use support::{Lamu, Trace, eventually, said};

#[test]
fn every_wrong_setting_is_told_before_anything_starts() {
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("lamu.toml");
    std::fs::write(&config, "sandboxes_max = -1\nregoin = 'us-east-1'\n").unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_lamu"))
        .args(["run", "--listen", "nowhere", "--data"])
        .arg(dir.path().join("data"))
        .arg("--config")
        .arg(&config)
        .env("LAMU_ACCOUNT", "me")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
    let text = said(&output);
    for part in [
        "4 settings are wrong",
        "--listen nowhere",
        "LAMU_ACCOUNT=me",
        "sandboxes_max = -1",
        "did you mean region?",
    ] {
        assert!(text.contains(part), "no {part:?} in {text}");
    }
    assert!(!dir.path().join("data").exists());
}

#[test]
fn a_port_that_is_taken_is_an_error_that_says_so() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let dir = tempfile::tempdir().unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_lamu"))
        .args(["run", "--listen", &taken.local_addr().unwrap().to_string(), "--data"])
        .arg(dir.path())
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(3), "{}", said(&output));
    assert!(said(&output).contains("in use"), "{}", said(&output));
}

#[test]
fn two_platforms_do_not_share_one_directory() {
    let lamu = Lamu::start();
    let output = Command::new(env!("CARGO_BIN_EXE_lamu"))
        .args(["run", "--listen", "127.0.0.1:0", "--data"])
        .arg(lamu.dir.join("data"))
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(3), "{}", said(&output));
    assert!(said(&output).contains("another lamu"), "{}", said(&output));
    lamu.stop();
}

#[test]
fn health_readiness_and_metrics_are_served() {
    let lamu = Lamu::start();
    let get = |path: &str| {
        lamu.raw(
            format!("GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")
                .as_bytes(),
        )
    };
    assert!(get("/healthz").starts_with("HTTP/1.1 200"), "{}", get("/healthz"));
    assert!(get("/readyz").starts_with("HTTP/1.1 200"), "{}", get("/readyz"));
    let example = support::workspace().join("examples/hello-python");
    lamu.lamu_ok(&["deploy", example.to_str().unwrap()]);
    lamu.lamu_ok(&["invoke", "hello-python"]);
    lamu.lamu_ok(&["invoke", "hello-python"]);
    let metrics = get("/metrics");
    assert!(metrics.starts_with("HTTP/1.1 200"), "{metrics}");
    assert!(metrics.to_lowercase().contains("content-type: text/plain"), "{metrics}");
    let value = |name: &str| -> f64 {
        let line = metrics.lines().find(|line| line.starts_with(name));
        let line = line.unwrap_or_else(|| panic!("no {name} in {metrics}"));
        line.rsplit(' ').next().unwrap().parse().unwrap()
    };
    assert_eq!(value("lamu_worker_invocations_total"), 2.0);
    assert_eq!(value("lamu_worker_boots_total"), 1.0);
    assert_eq!(value("lamu_environments{state=\"idle\"}"), 1.0);
    lamu.stop();
}

#[test]
fn sigterm_lets_running_calls_end() {
    let mut lamu = Lamu::start();
    lamu.python("program", "sleeper_is_there");
    let environment = lamu.environment();
    let call = std::thread::spawn(move || {
        Command::new(env!("CARGO_BIN_EXE_lamu"))
            .args(["invoke", "sleeper", "{\"s\": 2}"])
            .envs(environment)
            .output()
            .unwrap()
    });
    eventually("the call runs", || busy(&lamu) == 1);
    let trace = Trace::of(&lamu);
    lamu.signal("TERM");
    let output = call.join().unwrap();
    assert!(output.status.success(), "{}", said(&output));
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), "\"slept\"");
    assert!(lamu.wait().success());
    trace.must_be_gone();
}

#[test]
fn draining_has_a_deadline_and_a_second_signal_ends_at_once() {
    let mut lamu = Lamu::start_with(&["--drain-secs", "1"]);
    lamu.python("program", "sleeper_is_there");
    let mut call = sleeping(&lamu);
    eventually("the call runs", || busy(&lamu) == 1);
    let trace = Trace::of(&lamu);
    let begun = Instant::now();
    lamu.signal("TERM");
    lamu.wait();
    assert!(begun.elapsed() < Duration::from_secs(8), "{:?}", begun.elapsed());
    trace.must_be_gone();
    call.wait().unwrap();

    let mut lamu = Lamu::start();
    lamu.python("program", "sleeper_is_there");
    let mut call = sleeping(&lamu);
    eventually("the call runs", || busy(&lamu) == 1);
    let trace = Trace::of(&lamu);
    let begun = Instant::now();
    lamu.signal("INT");
    std::thread::sleep(Duration::from_millis(200));
    lamu.signal("INT");
    lamu.wait();
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    trace.must_be_gone();
    call.wait().unwrap();
}

#[test]
fn the_doctor_says_what_this_host_can_do() {
    let output = Command::new(env!("CARGO_BIN_EXE_lamu")).arg("doctor").output().unwrap();
    let text = said(&output);
    assert!(output.status.success(), "{text}");
    for part in ["privileges", "cgroup", "namespaces", "seccomp", "Landlock", "KVM", "python3"] {
        assert!(text.contains(part), "no {part} in {text}");
    }
}

#[test]
fn logs_can_be_json() {
    let lamu = Lamu::start_with(&["--log-format", "json"]);
    let log = support::read(&lamu.dir.join("log"));
    assert!(!log.is_empty());
    for line in log.lines() {
        let record: serde_json::Value =
            serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}"));
        assert!(record["level"].is_string() && record["timestamp"].is_string(), "{line}");
    }
    lamu.stop();
}

#[test]
fn without_root_it_works_and_says_what_does_not_hold() {
    if !running_as_root() {
        eprintln!("skipped: the other tests run without root already");
        return;
    }
    // A copy that another user may execute, wherever the workspace lies.
    let dir = tempfile::Builder::new().prefix("lamu-rootless.").tempdir_in("/tmp").unwrap();
    let program = dir.path().join("lamu");
    std::fs::copy(env!("CARGO_BIN_EXE_lamu"), &program).unwrap();
    let own = Command::new("chown").args(["-R", "65534:65534"]).arg(dir.path()).status().unwrap();
    assert!(own.success());
    let lamu = Lamu::start_as_nobody(&program, dir.path());
    lamu.python("program", "sleeper_is_there");
    lamu.lamu_ok(&["invoke", "sleeper", "{\"s\": 0}"]);
    let log = support::read(&lamu.dir.join("log"));
    assert!(log.contains("not enforced"), "{log}");
    lamu.stop();
}

#[test]
fn functions_run_whatever_class_lamu_was_started_in() {
    // Below ordinary programs, beside them at a lower weight, and above them.
    let mut classes = vec![("chrt", vec!["-i", "0"]), ("nice", vec!["-n", "7"])];
    if running_as_root() {
        classes.push(("chrt", vec!["-r", "1"]));
    }
    for (program, arguments) in classes {
        let lamu = Lamu::start_through(program, &arguments);
        lamu.python("program", "sleeper_is_there");
        lamu.lamu_ok(&["invoke", "sleeper", "{\"s\": 0}"]);
        lamu.stop();
    }
}

fn running_as_root() -> bool {
    support::read(std::path::Path::new("/proc/self/status"))
        .lines()
        .any(|line| line.starts_with("Uid:\t0\t"))
}

fn sleeping(lamu: &Lamu) -> std::process::Child {
    Command::new(env!("CARGO_BIN_EXE_lamu"))
        .args(["invoke", "sleeper", "{\"s\": 30}"])
        .envs(lamu.environment())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// Busy environments by the metrics.
fn busy(lamu: &Lamu) -> u32 {
    let metrics =
        lamu.raw(b"GET /metrics HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n");
    let line = metrics.lines().find(|line| line.starts_with("lamu_environments{state=\"busy\"}"));
    line.and_then(|line| line.rsplit(' ').next()?.parse().ok()).unwrap_or(0)
}

//! Whole environments: real sandboxes, real init, real interpreters. Skipped
//! aloud where lamu-init has not been built (`cargo build -p lamu-init`, or
//! its path in LAMU_INIT), no sandbox can be made, or an interpreter is
//! missing.

mod common;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use common::{Host, body, call, fault, spec, tail};
use lamu_guest::User;
use lamu_link::{BootError, Booted};
use lamu_model::{Outcome, VersionSpec};
use lamu_sandbox::process::{ProcessDriver, ProcessDriverConfig};

struct Real {
    host: Host,
    driver: ProcessDriver,
    _data: tempfile::TempDir,
}

impl Real {
    async fn start() -> Option<Real> {
        let Some(init) = init() else {
            eprintln!("skipped: lamu-init is not built (cargo build -p lamu-init)");
            return None;
        };
        let data = tempfile::tempdir().unwrap();
        let mut config = ProcessDriverConfig::new(std::fs::read(init).unwrap(), data.path());
        config.spawner = env!("CARGO_BIN_EXE_worker-probe").into();
        let driver = match ProcessDriver::start(config).await {
            Ok(driver) => driver,
            Err(error) => {
                eprintln!("skipped: no sandboxes here: {error}");
                return None;
            }
        };
        let user = driver.user().map(|user| User { uid: user.uid, gid: user.gid });
        let host = Host::start(Arc::new(driver.clone()), |config| config.user = user).await;
        Some(Real { host, driver, _data: data })
    }

    async fn spec(&self, runtime: &str, files: &[(&str, &[u8])]) -> VersionSpec {
        spec(self.host.package(files).await, runtime)
    }

    /// `None`, said aloud, when this host has no such interpreter.
    async fn boot(&self, spec: VersionSpec) -> Option<(Booted, Arc<VersionSpec>)> {
        let spec = Arc::new(spec);
        match self.host.boot(&spec).await {
            Ok(booted) => Some((booted, spec)),
            Err(error @ BootError::RuntimeMissing { .. }) => {
                eprintln!("skipped: {error}");
                None
            }
            Err(error) => panic!("{error}"),
        }
    }

    async fn end(self) {
        self.host.worker.handle().drain(Duration::from_secs(1)).await.unwrap();
        self.driver.destroy_all().await;
    }
}

fn init() -> Option<PathBuf> {
    if let Some(path) = std::env::var_os("LAMU_INIT") {
        return Some(path.into());
    }
    let target = PathBuf::from(env!("CARGO_BIN_EXE_worker-probe"));
    let target = target.parent()?.parent()?;
    let places = ["x86_64-unknown-linux-gnu/init/lamu-init", "debug/lamu-init"];
    places.iter().map(|place| target.join(place)).find(|path| path.is_file())
}

/// The Python that most hosts have; each test says when it is missing.
fn python() -> String {
    std::env::var("LAMU_TEST_PYTHON").unwrap_or_else(|_| "python3.11".to_owned())
}

const ECHO: &[u8] = b"
import os, sys
print('importing')
def handler(event, context):
    print('hello\\nworld')
    if event == 'slow':
        import time; time.sleep(30)
    if event == 'crash':
        os._exit(7)
    if event == 'hog':
        hog = []
        while True:
            hog.append(bytearray(8 << 20))
    if event == 'keep':
        open('/tmp/kept', 'w').write('kept')
    if event == 'kept':
        return open('/tmp/kept').read()
    if event == 'env':
        return dict(os.environ)
    if event == 'raise':
        raise ValueError('boom')
    return event
";

#[tokio::test]
async fn a_python_function_answers_cold_and_warm() {
    let Some(real) = Real::start().await else { return };
    let spec = real.spec(&python(), &[("app.py", ECHO)]).await;
    let Some((booted, spec)) = real.boot(spec).await else { return };
    eprintln!("cold: {:?}", booted.timings);
    let reply = real.host.invoke(&booted.environment, "{\"a\":1}").await.unwrap();
    assert_eq!(body(&reply).replace(' ', ""), "{\"a\":1}");
    let text = tail(&reply);
    assert!(text.starts_with("INIT_START Runtime Version: python:3."), "{text}");
    assert!(text.contains("\nimporting\nSTART RequestId: "), "{text}");
    assert!(text.contains("hello\nworld\nEND RequestId: "), "{text}");
    assert!(text.contains("Init Duration: ") && text.ends_with("\t\n"), "{text}");

    let reply = real.host.invoke(&booted.environment, "2").await.unwrap();
    let text = tail(&reply);
    assert!(text.starts_with("START RequestId: ") && !text.contains("Init Duration"), "{text}");
    let lines = real.host.lines(&spec).await;
    assert!(lines.contains(&"hello\nworld".to_owned()), "one print, one event: {lines:?}");
    real.end().await;
}

#[tokio::test]
async fn a_node_function_answers() {
    let Some(real) = Real::start().await else { return };
    let code = b"exports.handler = async (event, context) => {
        console.log('hi'); return { event, v: process.env.AWS_EXECUTION_ENV }; };";
    let spec = real.spec("nodejs20.x", &[("app.js", code)]).await;
    let Some((booted, _)) = real.boot(spec).await else { return };
    eprintln!("cold: {:?}", booted.timings);
    let reply = real.host.invoke(&booted.environment, "[1]").await.unwrap();
    assert_eq!(body(&reply), "{\"event\":[1],\"v\":\"AWS_Lambda_nodejs20.x\"}");
    assert!(tail(&reply).contains("\tINFO\thi\n"), "{}", tail(&reply));
    real.end().await;
}

#[tokio::test]
async fn a_timeout_resets_the_runtime_and_keeps_tmp() {
    let Some(real) = Real::start().await else { return };
    let mut spec = real.spec(&python(), &[("app.py", ECHO)]).await;
    spec.timeout_secs = 1;
    let Some((booted, spec)) = real.boot(spec).await else { return };
    let environment = &booted.environment;
    real.host.invoke(environment, "\"keep\"").await.unwrap();
    let began = Instant::now();
    let reply = real.host.invoke(environment, "\"slow\"").await.unwrap();
    assert!(began.elapsed() < Duration::from_secs(3));
    let expected = "Task timed out after 1.00 seconds".to_owned();
    assert_eq!(fault(&reply), ("Sandbox.Timedout", expected));
    let text = tail(&reply);
    assert!(text.contains("Duration: 1000.00 ms\tBilled Duration: 1000 ms"), "{text}");
    assert!(text.ends_with("\tStatus: timeout\n"), "{text}");
    let reply = real.host.invoke(environment, "\"kept\"").await.unwrap();
    assert_eq!(body(&reply), "\"kept\"");
    assert!(!tail(&reply).contains("Init Duration"), "{}", tail(&reply));
    let imports = real.host.lines(&spec).await.iter().filter(|line| *line == "importing").count();
    assert_eq!(imports, 2, "init ran again");
    real.end().await;
}

#[tokio::test]
async fn a_flood_does_not_hold_up_its_timeout() {
    let Some(real) = Real::start().await else { return };
    let code = b"
def handler(event, context):
    while True:
        print('x' * 1000)
";
    let mut spec = real.spec(&python(), &[("app.py", code)]).await;
    (spec.timeout_secs, spec.memory_mib) = (1, 1_769);
    let Some((booted, spec)) = real.boot(spec).await else { return };
    let other = real.host.boot(&spec).await.unwrap();
    let began = Instant::now();
    let reply = real.host.invoke(&booted.environment, "1").await.unwrap();
    assert_eq!(fault(&reply).0, "Sandbox.Timedout");
    assert!(began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());
    eprintln!("ended after {:?}: {}", began.elapsed(), tail(&reply).lines().last().unwrap());
    assert!(!booted.environment.is_gone(), "it was reset, not destroyed");
    drop(other);
    real.end().await;
}

#[tokio::test]
async fn a_crash_and_an_error_read_as_on_lambda() {
    let Some(real) = Real::start().await else { return };
    let spec = real.spec(&python(), &[("app.py", ECHO)]).await;
    let Some((booted, _)) = real.boot(spec).await else { return };
    let environment = &booted.environment;
    let reply = real.host.invoke(environment, "\"crash\"").await.unwrap();
    let expected = "Runtime exited with error: exit status 7".to_owned();
    assert_eq!(fault(&reply), ("Runtime.ExitError", expected));
    let text = tail(&reply);
    assert!(text.ends_with("Status: error\tError Type: Runtime.ExitError\n"), "{text}");
    let reply = real.host.invoke(environment, "\"raise\"").await.unwrap();
    let Outcome::FunctionError { body, .. } = &reply.outcome else { panic!("{reply:?}") };
    let body: serde_json::Value = serde_json::from_slice(body).unwrap();
    assert_eq!((&body["errorMessage"], &body["errorType"]), (&"boom".into(), &"ValueError".into()));
    assert!(tail(&reply).contains("[ERROR] ValueError: boom"), "{}", tail(&reply));
    let reply = real.host.invoke(environment, "1").await.unwrap();
    assert_eq!(common::body(&reply), "1", "and it goes on");
    real.end().await;
}

#[tokio::test]
async fn a_memory_hog_is_out_of_memory_and_nobody_else() {
    let Some(real) = Real::start().await else { return };
    let spec = real.spec(&python(), &[("app.py", ECHO)]).await;
    let Some((booted, spec)) = real.boot(spec).await else { return };
    let other = real.host.boot(&spec).await.unwrap();
    let reply = real.host.invoke(&booted.environment, "\"hog\"").await.unwrap();
    let expected = "Runtime exited with error: signal: killed".to_owned();
    assert_eq!(fault(&reply), ("Runtime.OutOfMemory", expected));
    assert!(tail(&reply).contains("Max Memory Used: 128 MB"), "{}", tail(&reply));
    let reply = real.host.invoke(&other.environment, "1").await.unwrap();
    assert_eq!(body(&reply), "1");
    let reply = real.host.invoke(&booted.environment, "2").await.unwrap();
    assert_eq!(body(&reply), "2", "the environment was reset");
    real.end().await;
}

#[tokio::test]
async fn what_cannot_start_is_said_at_the_first_invocation() {
    let Some(real) = Real::start().await else { return };
    let spec = real.spec("provided.al2023", &[("readme", b"no bootstrap")]).await;
    let Some((booted, spec)) = real.boot(spec).await else { return };
    let reply = real.host.invoke(&booted.environment, "1").await.unwrap();
    let expected = "Couldn't find valid bootstrap(s): [/var/task/bootstrap /opt/bootstrap]";
    assert_eq!(fault(&reply), ("Runtime.InvalidEntrypoint", expected.to_owned()));
    let lines = real.host.lines(&spec).await;
    assert!(lines[0].starts_with("INIT_REPORT Init Duration: "), "{lines:?}");
    assert!(lines[0].contains("Phase: init\tStatus: error\tError Type: Runtime.InvalidEntrypoint"));
    assert!(lines[1].contains("Phase: invoke\tStatus: error"), "{lines:?}");

    // An executable of another machine: ELF, 64 bit, little endian, AArch64.
    let mut elf = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x02\0\xb7\0\x01\0\0\0".to_vec();
    elf.resize(4_096, 0);
    let spec = real.spec("provided.al2023", &[("bootstrap", &elf)]).await;
    let Some((booted, _)) = real.boot(spec).await else { return };
    let reply = real.host.invoke(&booted.environment, "1").await.unwrap();
    assert_eq!(fault(&reply).0, "Runtime.InvalidEntrypoint");

    let spec = real.spec(&python(), &[("other.py", b"")]).await;
    let Some((booted, _)) = real.boot(spec).await else { return };
    let reply = real.host.invoke(&booted.environment, "1").await.unwrap();
    let Outcome::FunctionError { error_type, body } = &reply.outcome else { panic!("{reply:?}") };
    assert_eq!(error_type, "Runtime.ImportModuleError");
    assert!(String::from_utf8_lossy(body).contains("Unable to import module 'app'"));
    real.end().await;
}

#[tokio::test]
async fn a_wrapper_that_is_missing_is_an_exit_with_127() {
    let Some(real) = Real::start().await else { return };
    let mut spec = real
        .spec(
            &python(),
            &[("app.py", ECHO), ("wrap", b"#!/bin/sh\nexport A=wrapped\nexec \"$@\"\n")],
        )
        .await;
    spec.environment.insert("AWS_LAMBDA_EXEC_WRAPPER".into(), "/opt/wrap".into());
    let Some((booted, mut spec)) = real.boot(spec).await else { return };
    let reply = real.host.invoke(&booted.environment, "1").await.unwrap();
    let expected = "Runtime exited with error: exit status 127".to_owned();
    assert_eq!(fault(&reply), ("Runtime.ExitError", expected));
    let wrapped = Arc::make_mut(&mut spec);
    wrapped.environment.insert("AWS_LAMBDA_EXEC_WRAPPER".into(), "/var/task/wrap".into());
    let booted = real.host.boot(&spec).await.unwrap();
    let reply = real.host.invoke(&booted.environment, "\"env\"").await.unwrap();
    let env: serde_json::Value = serde_json::from_str(&body(&reply)).unwrap();
    assert_eq!(env["A"], "wrapped");
    assert_eq!(env["AWS_EXECUTION_ENV"], format!("AWS_Lambda_{}", python()));
    assert_eq!(env["LAMBDA_TASK_ROOT"], "/var/task");
    assert!(env["AWS_LAMBDA_RUNTIME_API"].as_str().unwrap().contains(":9001"), "{env}");
    assert!(env.get("HOME").is_none(), "{env}");
    real.end().await;
}

#[tokio::test]
async fn an_idle_environment_is_frozen_and_thaws_for_the_next_event() {
    let Some(real) = Real::start().await else { return };
    let code = b"
import threading, time
count = 0
def run():
    global count
    while True:
        count += 1
        time.sleep(0.005)
threading.Thread(target=run, daemon=True).start()
def handler(event, context):
    return count
";
    let spec = real.spec(&python(), &[("app.py", code)]).await;
    let Some((booted, _)) = real.boot(spec).await else { return };
    let count = async || -> i64 {
        body(&real.host.invoke(&booted.environment, "0").await.unwrap()).parse().unwrap()
    };
    let before = count().await;
    tokio::time::sleep(Duration::from_millis(1_000)).await;
    let after = count().await;
    assert!(real.host.worker.stats().freezes.get() >= 1);
    assert!(after - before < 60, "it ran {} times while frozen", after - before);
    let again = count().await;
    assert!(again >= after, "it runs on");
    real.end().await;
}

#[tokio::test]
async fn large_payloads_pass_both_ways() {
    let Some(real) = Real::start().await else { return };
    let mut spec = real.spec(&python(), &[("app.py", b"def handler(e, c):\n    return e\n")]).await;
    spec.memory_mib = 512;
    let Some((booted, _)) = real.boot(spec).await else { return };
    let payload = format!("\"{}\"", "x".repeat(6 << 20).split_at((6 << 20) - 2).0);
    let reply = real.host.invoke(&booted.environment, &payload).await.unwrap();
    assert_eq!(body(&reply).len(), payload.len());
    real.end().await;
}

/// Not an assertion but a figure, printed with --nocapture.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn warm_calls_are_timed() {
    let Some(real) = Real::start().await else { return };
    let mut spec = real.spec(&python(), &[("app.py", b"def handler(e, c):\n    return e\n")]).await;
    spec.memory_mib = 1_769;
    let Some((booted, _)) = real.boot(spec).await else { return };
    let mut times = Vec::new();
    for _ in 0..2_000 {
        let lease = real.host.lease(&booted.environment);
        let began = Instant::now();
        let reply = lease.invoke(call("{}", false), Box::new(())).await.unwrap();
        times.push(began.elapsed());
        assert!(matches!(reply.outcome, Outcome::Response { .. }));
        // The answer comes before the environment is free again.
        while booted.environment.is_answered() {
            tokio::task::yield_now().await;
        }
    }
    times.sort();
    eprintln!("warm: p50 {:?} p99 {:?}", times[1_000], times[1_980]);
    real.end().await;
}

/// As above, from the wish for an environment to its first answer.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cold_starts_are_timed() {
    let Some(real) = Real::start().await else { return };
    let python_code: &[u8] = b"def handler(e, c):\n    return e\n";
    let node_code: &[u8] = b"exports.handler = async e => e;";
    for (runtime, file, code) in
        [(python(), "app.py", python_code), ("nodejs20.x".to_owned(), "app.js", node_code)]
    {
        let spec = real.spec(&runtime, &[(file, code)]).await;
        let Some((_, spec)) = real.boot(spec).await else { continue };
        let mut times = Vec::new();
        for _ in 0..30 {
            let began = Instant::now();
            let booted = real.host.boot(&spec).await.unwrap();
            let lease = real.host.lease(&booted.environment);
            lease.invoke(call("{}", false), Box::new(())).await.unwrap();
            times.push((began.elapsed(), booted.timings.sandbox, booted.timings.init));
        }
        times.sort();
        eprintln!("cold {runtime}: (all, sandbox, init) {:?}", times[15]);
    }
    real.end().await;
}

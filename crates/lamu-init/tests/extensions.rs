//! Extensions: how they start, register, take part in invocations and end.
//! The test plays each of them over HTTP; their processes are shells that
//! only stay.

// The harness forks (tests/support).
#![allow(unsafe_code)]

mod support;

use lamu_guest::{
    Exit, ExtensionEnd, ExtensionFault, ExtensionFaultKind, ExtensionState, ExtensionStatus,
    FromInit, InitOutcome, LogSource, ShutdownReason, ToInit,
};
use support::{Answer, Http, Init, Scripted, TempDir, alive, executable, invoke, shell};

const RUNTIME: &str =
    "trap 'echo bye; exit 7' TERM; echo $$ $AWS_LAMBDA_RUNTIME_API; sleep 1000 & wait";
/// Says who and where it is, and stays.
const STAYS: &str = "#!/bin/sh\necho ${0##*/} $$ $AWS_LAMBDA_RUNTIME_API\nsleep 1000 & wait\n";

/// One extension whose part the test plays.
struct Played {
    name: String,
    http: Http,
    id: String,
    process: Scripted,
}

impl Played {
    fn register(&mut self, events: &str) -> Answer {
        let headers = format!("Lambda-Extension-Name: {}\r\n", self.name);
        let body = format!("{{\"events\":[{events}]}}");
        let answer = self.http.call("POST", "/2020-01-01/extension/register", &headers, &body);
        if let Some(id) = answer.header("Lambda-Extension-Identifier") {
            self.id = id.to_owned();
        }
        answer
    }

    fn ask_next(&mut self) {
        let headers = format!("Lambda-Extension-Identifier: {}\r\n", self.id);
        self.http.ask("GET", "/2020-01-01/extension/event/next", &headers, "");
    }

    fn error(&self, phase: &str, error_type: &str) -> Answer {
        let headers = format!(
            "Lambda-Extension-Identifier: {}\r\nLambda-Extension-Function-Error-Type: {error_type}\r\n",
            self.id
        );
        let mut http = self.process.connect();
        http.call("POST", &format!("/2020-01-01/extension/{phase}/error"), &headers, "")
    }
}

fn directory(files: &[(&str, &str)]) -> TempDir {
    let directory = TempDir::new(files);
    for (name, _) in files {
        executable(&directory.path(name));
    }
    directory
}

/// Init with its extensions started, which have not registered.
fn started(directory: &TempDir, count: usize) -> (Init, Vec<Played>) {
    let mut init = Init::boot_with(&directory.0);
    let mut start = shell(RUNTIME);
    for (name, value) in [
        ("AWS_LAMBDA_FUNCTION_NAME", "f"),
        ("AWS_LAMBDA_FUNCTION_VERSION", "$LATEST"),
        ("_HANDLER", "app.handler"),
    ] {
        start.env.push((name.to_owned(), value.to_owned()));
    }
    init.send(&ToInit::Start(start));
    let mut played: Vec<Played> = (0..count).map(|_| introduced(&mut init)).collect();
    played.sort_by(|a, b| a.name.cmp(&b.name));
    (init, played)
}

fn introduced(init: &mut Init) -> Played {
    let FromInit::Log { source: LogSource::Extension, record, .. } = init.receive() else {
        panic!("expected an extension's output");
    };
    let record = String::from_utf8(record).unwrap();
    let [name, pid, api] = record.split(' ').collect::<Vec<_>>()[..] else { panic!("{record}") };
    let process = Scripted { pid: pid.parse().unwrap(), api: api.to_owned() };
    Played { name: name.to_owned(), http: process.connect(), id: String::new(), process }
}

/// Init over, with one extension `agent` for these events, and the runtime
/// parked.
fn ready(directory: &TempDir, events: &str) -> (Init, Played, Scripted, Http) {
    let (mut init, mut played) = started(directory, 1);
    let mut agent = played.pop().unwrap();
    assert_eq!(agent.register(events).status, 200);
    let runtime = init.scripted();
    agent.ask_next();
    let mut http = runtime.connect();
    http.ask_next();
    expect_extension(&mut init, &agent.name, ExtensionState::Ready);
    init.expect_ready();
    (init, agent, runtime, http)
}

fn expect_extension(init: &mut Init, name: &str, state: ExtensionState) -> ExtensionStatus {
    match init.expect() {
        FromInit::Extension(status) => {
            assert_eq!((status.name.as_str(), status.state), (name, state));
            status
        }
        message => panic!("{message:?}"),
    }
}

fn expect_fault(message: FromInit) -> ExtensionFault {
    match message {
        FromInit::ExtensionFailed(fault)
        | FromInit::InitDone { outcome: InitOutcome::Extension(fault), .. } => fault,
        message => panic!("{message:?}"),
    }
}

fn crash(exit: Exit) -> ExtensionFault {
    ExtensionFault { kind: ExtensionFaultKind::Crash, cause: ExtensionEnd::Exited(exit) }
}

fn gone(pid: i32) -> bool {
    let until = std::time::Instant::now() + support::PATIENCE;
    while alive(pid) && std::time::Instant::now() < until {
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    !alive(pid)
}

#[test]
fn the_runtime_starts_when_all_registered_and_init_ends_when_all_asked_for_next() {
    let directory = directory(&[("a", STAYS), ("b", STAYS)]);
    let (mut init, mut played) = started(&directory, 2);
    let answer = played[0].register("\"INVOKE\",\"SHUTDOWN\"");
    assert_eq!(answer.status, 200);
    assert_eq!(
        answer.body,
        r#"{"functionName":"f","functionVersion":"$LATEST","handler":"app.handler"}"#
    );
    init.expect_quiet(&played[0].process);
    assert_eq!(played[1].register("").status, 200);
    let runtime = init.scripted();
    let mut http = runtime.connect();
    http.ask_next();
    played[1].ask_next();
    init.expect_quiet(&runtime);
    played[0].ask_next();
    let first = expect_extension(&mut init, "a", ExtensionState::Ready);
    assert!(first.external && first.invoke && first.shutdown);
    let second = expect_extension(&mut init, "b", ExtensionState::Ready);
    assert!(!second.invoke && !second.shutdown);
    init.expect_ready();
}

#[test]
fn an_invocation_ends_when_runtime_and_extensions_asked_for_next() {
    let directory = directory(&[("agent", STAYS), ("quiet", STAYS)]);
    let (mut init, mut played) = started(&directory, 2);
    let (mut quiet, mut agent) = (played.pop().unwrap(), played.pop().unwrap());
    agent.register("\"INVOKE\"");
    quiet.register("\"SHUTDOWN\"");
    let runtime = init.scripted();
    let mut http = runtime.connect();
    http.ask_next();
    agent.ask_next();
    quiet.ask_next();
    expect_extension(&mut init, "agent", ExtensionState::Ready);
    expect_extension(&mut init, "quiet", ExtensionState::Ready);
    init.expect_ready();

    for (id, extension_first) in [("r-1", false), ("r-2", true)] {
        let mut event = invoke(id, b"{}");
        event.trace_id = Some("Root=1-a".into());
        init.send(&ToInit::Invoke(event));
        let event = agent.http.answer();
        assert_eq!(event.status, 200);
        assert!(event.header("Lambda-Extension-Event-Identifier").unwrap().len() == 36);
        assert_eq!(
            event.body,
            format!(
                "{{\"eventType\":\"INVOKE\",\"deadlineMs\":1800000000000,\"requestId\":\"{id}\",\
                 \"invokedFunctionArn\":\"arn:aws:lambda:eu-west-1:000000000000:function:f\",\
                 \"tracing\":{{\"type\":\"X-Amzn-Trace-Id\",\"value\":\"Root=1-a\"}}}}"
            )
        );
        assert_eq!(http.answer().header("Lambda-Runtime-Aws-Request-Id"), Some(id));
        if extension_first {
            agent.ask_next();
        }
        http.respond(id, "1");
        assert_eq!(init.expect_response(id), "1");
        http.ask_next();
        if !extension_first {
            match init.expect() {
                FromInit::RuntimeDone { request_id, .. } => assert_eq!(request_id, id),
                message => panic!("{message:?}"),
            }
            init.expect_quiet(&runtime);
            agent.ask_next();
        }
        init.expect_done(id);
    }
}

#[test]
fn shutdown_is_sigterm_to_the_runtime_then_the_event_then_the_end() {
    let directory = directory(&[("agent", STAYS), ("other", STAYS)]);
    let (mut init, mut played) = started(&directory, 2);
    let (mut other, mut agent) = (played.pop().unwrap(), played.pop().unwrap());
    agent.register("\"SHUTDOWN\"");
    other.register("\"INVOKE\"");
    let runtime = init.scripted();
    let mut http = runtime.connect();
    http.ask_next();
    agent.ask_next();
    other.ask_next();
    while !matches!(init.expect(), FromInit::InitDone { .. }) {}

    init.send(&ToInit::Shutdown(ShutdownReason::Spindown));
    assert_eq!(init.expect_log(), "bye", "the runtime's handler ran");
    let event = agent.http.answer();
    let expected = r#"{"eventType":"SHUTDOWN","shutdownReason":"spindown","deadlineMs":"#;
    assert!(event.body.starts_with(expected), "{}", event.body);
    assert!(gone(runtime.pid), "the runtime went first");
    assert!(gone(other.process.pid), "it did not ask for the event");
    assert!(alive(agent.process.pid), "it has its time");
    agent.process.signal(libc::SIGKILL);
    assert!(init.try_receive().is_none(), "then init ends");
    assert!(init.wait().unwrap().success());
}

#[test]
fn a_reset_tells_extensions_why_and_ends_those_that_stay() {
    let directory = directory(&[("agent", STAYS)]);
    for (reason, word) in
        [(ShutdownReason::Timeout, "timeout"), (ShutdownReason::Failure, "failure")]
    {
        let (mut init, mut agent, runtime, mut http) = ready(&directory, "\"INVOKE\",\"SHUTDOWN\"");
        init.invoke("r-1", b"1");
        agent.http.answer();
        http.answer();
        init.send(&ToInit::Reset(reason));
        // It is still busy, so it gets the event when it asks.
        agent.ask_next();
        let event = agent.http.answer();
        assert!(event.body.contains(&format!("\"shutdownReason\":\"{word}\"")), "{}", event.body);
        // It does not go by itself.
        assert_eq!(init.expect(), FromInit::ResetDone);
        assert!(gone(agent.process.pid) && gone(runtime.pid));

        // The next invocation starts all of it again.
        init.invoke("r-2", b"2");
        let mut agent = introduced(&mut init);
        agent.register("\"INVOKE\"");
        let runtime = init.scripted();
        agent.ask_next();
        let mut http = runtime.connect();
        http.ask_next();
        assert!(agent.http.answer().body.contains("r-2"));
        assert_eq!(http.answer().body, "2");
        expect_extension(&mut init, "agent", ExtensionState::Ready);
        init.expect_ready();
        http.respond("r-2", "3");
        init.expect_response("r-2");
        agent.ask_next();
        http.ask_next();
        while !matches!(init.expect(), FromInit::Done { .. }) {}
    }
}

#[test]
fn an_extension_that_ends_during_init_fails_it() {
    let script = "#!/bin/sh\necho going\nexit 3\n";
    let directory = directory(&[("agent", script)]);
    let mut init = Init::boot_with(&directory.0);
    init.send(&ToInit::Start(shell(RUNTIME)));
    expect_extension(&mut init, "agent", ExtensionState::Exited);
    assert_eq!(expect_fault(init.expect()), crash(Exit::Code(3)));
    assert_eq!(init.logs, ["going"], "no runtime was started");
    init.reset();
    // The same inside an invocation.
    init.invoke("r-1", b"1");
    expect_extension(&mut init, "agent", ExtensionState::Exited);
    assert_eq!(expect_fault(init.expect()), crash(Exit::Code(3)));
    init.reset();
}

#[test]
fn reported_errors_name_the_kind_of_the_end() {
    let directory = directory(&[("agent", STAYS)]);
    let (mut init, mut played) = started(&directory, 1);
    let agent = &mut played[0];
    agent.register("\"INVOKE\"");
    assert_eq!(agent.error("init", "Extension.NoConfig").body, r#"{"status":"OK"}"#);
    init.scripted();
    agent.process.signal(libc::SIGTERM);
    let status = expect_extension(&mut init, "agent", ExtensionState::InitError);
    assert_eq!(status.error_type.as_deref(), Some("Extension.NoConfig"));
    let fault = expect_fault(init.expect());
    assert_eq!(fault.kind, ExtensionFaultKind::Init);
    init.reset();

    let (mut init, agent, ..) = ready(&directory, "\"INVOKE\"");
    assert_eq!(agent.error("exit", "Extension.Gone").status, 202);
    agent.process.signal(libc::SIGKILL);
    let fault = expect_fault(init.expect());
    assert_eq!(fault.kind, ExtensionFaultKind::Exit);
    assert_eq!(fault.cause, ExtensionEnd::Exited(Exit::Signal(9)));
    init.reset();
}

#[test]
fn an_extension_that_ends_later_is_told_of_whenever_it_is() {
    let directory = directory(&[("agent", STAYS)]);
    let (mut init, agent, ..) = ready(&directory, "");
    agent.process.signal(libc::SIGKILL);
    assert_eq!(expect_fault(init.expect()), crash(Exit::Signal(9)), "while idle");
    init.reset();

    let (mut init, agent, _runtime, mut http) = ready(&directory, "\"INVOKE\"");
    init.invoke("r-1", b"1");
    http.answer();
    agent.process.signal(libc::SIGKILL);
    assert_eq!(expect_fault(init.expect()), crash(Exit::Signal(9)), "while running");
    init.reset();
}

#[test]
fn what_cannot_be_started_is_a_launch_error() {
    let plain = TempDir::new(&[("agent", "#!/bin/sh\n")]);
    let garbage = directory(&[("agent", "\x01\x02\x03")]);
    for (directory, errno, error_type) in
        [(&plain, libc::EACCES, "PermissionDenied"), (&garbage, libc::ENOEXEC, "UnknownError")]
    {
        let mut init = Init::boot_with(&directory.0);
        init.send(&ToInit::Start(shell(RUNTIME)));
        let status = expect_extension(&mut init, "agent", ExtensionState::LaunchError);
        assert_eq!(status.error_type.as_deref(), Some(error_type));
        let fault = expect_fault(init.expect());
        assert_eq!(fault.kind, ExtensionFaultKind::Launch);
        assert_eq!(fault.cause, ExtensionEnd::NotStarted { name: "agent".into(), errno });
        init.reset();
    }
    let names: Vec<String> = (10..21).map(|count| format!("agent-{count}")).collect();
    let files: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), STAYS)).collect();
    let eleven = directory(&files);
    let mut init = Init::boot_with(&eleven.0);
    init.send(&ToInit::Start(shell(RUNTIME)));
    let message = loop {
        match init.expect() {
            FromInit::Extension(_) => {}
            message => break message,
        }
    };
    assert_eq!(expect_fault(message).cause, ExtensionEnd::TooMany);
    init.reset();
}

#[test]
fn what_extensions_leave_nothing_for_is_the_functions_fault() {
    let directory = directory(&[("a", STAYS)]);
    let (mut init, mut played) = started(&directory, 1);
    // As when an extension has every process there may be: init cannot start
    // another.
    assert_eq!(played[0].http.call("GET", "/2018-06-01/ping", "", "").body, "pong");
    let before = files_max(&init, 0);

    assert_eq!(played[0].register("").status, 200);

    expect_extension(&mut init, "a", ExtensionState::Registered);
    let done = init.expect();
    assert!(matches!(done, FromInit::InitDone { outcome: InitOutcome::NoEntry, .. }), "{done:?}");
    files_max(&init, before);
    init.invoke("r-1", b"1");
    assert_eq!(introduced(&mut init).register("").status, 200);
    assert!(init.scripted().pid > 0, "and the next Init is a good one");
}

/// Sets how many files init may open; how many it could before.
fn files_max(init: &Init, max: u64) -> u64 {
    let mut before = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    let pid = init.child.id() as libc::pid_t;
    // SAFETY: `before` is writable, and both live across the calls.
    unsafe {
        let none = std::ptr::null();
        assert_eq!(libc::prlimit(pid, libc::RLIMIT_NOFILE, none, &raw mut before), 0);
        let limit = libc::rlimit { rlim_cur: max, rlim_max: before.rlim_max };
        let old = std::ptr::null_mut();
        assert_eq!(libc::prlimit(pid, libc::RLIMIT_NOFILE, &raw const limit, old), 0);
    }
    before.rlim_cur
}

#[test]
fn directories_and_an_empty_place_are_no_extensions() {
    let directory = TempDir::new(&[("lib/agent", "x")]);
    let mut init = Init::boot_with(&directory.0);
    let runtime = init.start_scripted();
    runtime.connect().ask_next();
    init.expect_ready();
    init.send(&ToInit::Shutdown(ShutdownReason::Spindown));
    assert!(init.try_receive().is_none(), "at once");
}

#[test]
fn an_internal_extension_registers_from_the_runtime_and_has_its_phase() {
    let mut init = Init::boot();
    let runtime = init.start_shell(RUNTIME);
    let mut inside = Played {
        name: "inside".into(),
        http: runtime.connect(),
        id: String::new(),
        process: Scripted { pid: runtime.pid, api: runtime.api.clone() },
    };
    let answer = inside.register("\"INVOKE\",\"SHUTDOWN\"");
    assert_eq!(answer.status, 403);
    assert_eq!(
        answer.body,
        r#"{"errorMessage":"SHUTDOWN: ShutdownEventNotSupportedForInternalExtension","errorType":"Extension.InvalidEventType"}"#
    );
    assert_eq!(inside.register("\"INVOKE\"").status, 200);
    let mut http = runtime.connect();
    http.ask_next();
    init.expect_quiet(&runtime);
    inside.ask_next();
    let status = expect_extension(&mut init, "inside", ExtensionState::Ready);
    assert!(!status.external && status.invoke);
    init.expect_ready();

    let mut late = runtime.connect();
    let headers = "Lambda-Extension-Name: late\r\n";
    let answer = late.call("POST", "/2020-01-01/extension/register", headers, "{}");
    assert!(answer.body.contains("Extension.RegistrationClosed"), "{}", answer.body);

    init.invoke("r-1", b"1");
    assert!(inside.http.answer().body.contains("\"eventType\":\"INVOKE\""));
    http.answer();
    http.respond("r-1", "2");
    init.expect_response("r-1");
    inside.ask_next();
    http.ask_next();
    while !matches!(init.expect(), FromInit::Done { .. }) {}

    init.send(&ToInit::Shutdown(ShutdownReason::Spindown));
    assert_eq!(init.expect_log(), "bye");
    assert!(init.try_receive().is_none());
}

#[test]
fn an_extension_gets_the_functions_environment_without_the_runtimes_part() {
    let script = "#!/bin/sh\nenv | sort | tr '\\n' ' '; echo; pwd; id -u; ls /proc/self/fd | tr '\\n' ' '; echo\nexit 0\n";
    let directory = directory(&[("agent", script)]);
    let mut init = Init::boot_with(&directory.0);
    let mut start = shell(RUNTIME);
    start.env = ["_HANDLER", "LAMBDA_TASK_ROOT", "AWS_LAMBDA_LOG_GROUP_NAME", "AWS_REGION", "MINE"]
        .map(|name| (name.to_owned(), "x".to_owned()))
        .to_vec();
    start.env.push(("PATH".into(), "/usr/bin:/bin".into()));
    init.send(&ToInit::Start(start));
    expect_extension(&mut init, "agent", ExtensionState::Exited);
    assert_eq!(expect_fault(init.expect()), crash(Exit::Code(0)));
    let line = &init.logs[0];
    assert!(line.starts_with("AWS_LAMBDA_RUNTIME_API=127.0.0.1:"), "{line}");
    assert!(line.ends_with(" AWS_REGION=x MINE=x PATH=/usr/bin:/bin PWD=/ "), "{line}");
    assert_eq!(init.logs[1], "/");
    assert_eq!(init.logs[3], "0 1 2 3 ");
}

#[test]
fn the_account_is_told_to_who_accepts_it() {
    let directory = directory(&[("agent", STAYS)]);
    let (_init, played) = started(&directory, 1);
    let headers =
        "Lambda-Extension-Name: agent\r\nLambda-Extension-Accept-Feature: other, accountId\r\n";
    let mut http = played[0].process.connect();
    let answer = http.call("POST", "/2020-01-01/extension/register", headers, "{}");
    assert!(answer.body.starts_with(r#"{"accountId":"123456789012","functionName":"#));
}

#[test]
fn calls_out_of_order_or_without_sense_are_refused_with_their_texts() {
    let directory = directory(&[("agent", STAYS)]);
    let (mut init, mut agent, runtime, _http) = ready(&directory, "\"INVOKE\"");
    let mut http = runtime.connect();
    let mut refused = |method: &str, path: &str, headers: &str, body: &str, expected: &str| {
        let answer = http.call(method, &format!("/2020-01-01/extension/{path}"), headers, body);
        assert_eq!(answer.status, 403, "{path} {headers}");
        assert!(answer.body.contains(&format!("\"errorType\":\"{expected}\"")), "{}", answer.body);
        answer.body
    };
    let id = format!("Lambda-Extension-Identifier: {}\r\n", agent.id);
    let known = "Lambda-Extension-Name: agent\r\n";
    refused("POST", "register", "", "{}", "Extension.InvalidExtensionName");
    refused("POST", "register", known, "{", "InvalidRequestFormat");
    refused("POST", "register", known, &" ".repeat(70_000), "InvalidRequestFormat");
    let odd =
        refused("POST", "register", known, "{\"events\":[\"\\\"\"]}", "Extension.InvalidEventType");
    assert!(odd.contains(r#"\": ErrorInvalidEventType"#), "{odd}");
    let twice = refused("POST", "register", known, "{}", "Extension.InvalidExtensionState");
    assert!(twice.contains(
        "State transition from Ready to Registered failed for extension agent. Error: State transition is not allowed"
    ));
    refused("GET", "event/next", "", "", "Extension.MissingExtensionIdentifier");
    let bad = "Lambda-Extension-Identifier: x\r\n";
    refused("GET", "event/next", bad, "", "Extension.InvalidExtensionIdentifier");
    let unknown = "Lambda-Extension-Identifier: 00000000-0000-4000-8000-000000000000\r\n";
    refused("GET", "event/next", unknown, "", "Extension.UnknownExtensionIdentifier");
    refused("GET", "event/next", &id, "", "Extension.InvalidExtensionState");
    refused("POST", "init/error", &id, "", "Extension.MissingHeader");
    assert_eq!(http.call("GET", "/2020-01-01/extension/register", "", "").status, 405);
    assert_eq!(http.call("GET", "/2020-01-01/extension/x", "", "").status, 404);

    // None of it harmed anybody.
    init.invoke("r-1", b"1");
    assert!(agent.http.answer().body.contains("r-1"));
}

#[test]
fn a_broken_connection_is_no_end_for_who_asks_again() {
    let directory = directory(&[("agent", STAYS)]);
    let (mut init, mut agent, runtime, mut http) = ready(&directory, "\"INVOKE\"");
    agent.http = agent.process.connect();
    init.expect_quiet(&runtime);
    init.invoke("r-1", b"1");
    http.answer();
    agent.ask_next();
    assert!(agent.http.answer().body.contains("r-1"), "the event waited");
    http.respond("r-1", "2");
    init.expect_response("r-1");
    http.ask_next();
    assert!(matches!(init.expect(), FromInit::RuntimeDone { .. }));
    agent.ask_next();
    init.expect_done("r-1");
}

#[test]
fn connections_of_extensions_are_bounded_like_all_others() {
    let directory = directory(&[("agent", STAYS)]);
    let (mut init, mut agent, runtime, mut http) = ready(&directory, "\"INVOKE\"");
    let flood: Vec<Http> = (0..200).map(|_| agent.process.connect()).collect();
    init.invoke("r-1", b"1");
    assert!(agent.http.answer().body.contains("r-1"));
    assert_eq!(http.answer().body, "1");
    drop(flood);
    // Its connection was idle while it worked, and may have made room.
    runtime.connect().respond("r-1", "2");
    assert_eq!(init.expect_response("r-1"), "2");
}

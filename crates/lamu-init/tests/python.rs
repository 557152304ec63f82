//! lamu's Python runtime, run by the real init with the interpreter of this
//! machine (`python3`, or `LAMU_TEST_PYTHON`).

// The harness forks (tests/support).
#![allow(unsafe_code)]

mod support;

use lamu_guest::{Exit, FromInit, InitOutcome, Invoke, Start, ToInit};
use support::{Init, TempDir, invoke, start};

/// The interpreter's own path: a shim that starts it would change descriptors
/// and time.
fn interpreter() -> Option<String> {
    let named = std::env::var("LAMU_TEST_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let output = std::process::Command::new(named)
        .args(["-c", "import sys; print(sys.executable)"])
        .output();
    match output {
        Ok(output) if output.status.success() => {
            Some(String::from_utf8_lossy(&output.stdout).trim().to_owned())
        }
        _ => {
            eprintln!("skipped: there is no python3 here");
            None
        }
    }
}

const RUNTIME: &str =
    concat!(env!("CARGO_MANIFEST_DIR"), "/../lamu-worker/runtimes/python/bootstrap.py");

/// Starts `handler` of the code in `files`; `None` without an interpreter.
fn begin(files: &TempDir, handler: &str, extra: &[(&str, &str)]) -> Option<Init> {
    let mut init = Init::boot();
    init.send(&ToInit::Start(wanted(files, handler, extra)?));
    Some(init)
}

fn wanted(files: &TempDir, handler: &str, extra: &[(&str, &str)]) -> Option<Start> {
    let mut start = start(&interpreter()?, &["-S", RUNTIME]);
    start.telemetry_fd = true;
    start.cwd = files.path("");
    let variables = [
        ("_HANDLER", handler),
        ("LAMBDA_TASK_ROOT", start.cwd.as_str()),
        ("AWS_LAMBDA_FUNCTION_NAME", "f"),
        ("AWS_LAMBDA_FUNCTION_VERSION", "$LATEST"),
        ("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "128"),
        ("AWS_LAMBDA_LOG_GROUP_NAME", "/aws/lambda/f"),
        ("AWS_LAMBDA_LOG_STREAM_NAME", "s"),
        ("PYTHONDONTWRITEBYTECODE", "1"),
    ];
    let owned = |&(name, value): &(&str, &str)| (name.to_owned(), value.to_owned());
    let variables: Vec<_> = variables.iter().chain(extra).map(owned).collect();
    start.env.extend(variables);
    Some(start)
}

fn ready(files: &TempDir, handler: &str) -> Option<Init> {
    let mut init = begin(files, handler, &[])?;
    init.expect_ready();
    Some(init)
}

#[test]
fn events_and_results_pass_as_json() {
    let files = TempDir::new(&[("app.py", "def h(event, context):\n    return event\n")]);
    let Some(mut init) = ready(&files, "app.h") else { return };
    let table = [
        (r#"{"a":[1,2.5,true,null],"b":"x"}"#, r#"{"a": [1, 2.5, true, null], "b": "x"}"#),
        ("null", "null"),
        (" [ ] ", "[]"),
        ("\"text\"", "\"text\""),
        ("1e400", "Infinity"),
        (r#""\ud83d\ude00""#, if ascii() { r#""\ud83d\ude00""# } else { "\"😀\"" }),
    ];
    for (event, result) in table {
        assert_eq!(init.call("r-1", event), result, "{event}");
    }
    let long = format!("\"{}\"", "é".repeat(1_000_000));
    let back = init.call("r-1", &long);
    assert!(back.len() > 1_000_000);
}

/// Whether this interpreter escapes what is not ASCII, as before 3.12.
fn ascii() -> bool {
    let script = "import sys; sys.exit(sys.version_info >= (3, 12))";
    let status = std::process::Command::new(interpreter().unwrap()).args(["-c", script]).status();
    status.unwrap().success()
}

#[test]
fn a_raised_error_has_lambdas_shape_and_log_line() {
    let code = "def h(event, context):\n    raise ValueError('boom')\n";
    let files = TempDir::new(&[("pkg/app.py", code)]);
    for handler in ["pkg/app.h", "pkg.app.h"] {
        let Some(mut init) = ready(&files, handler) else { return };
        init.invoke("r-1", b"{}");
        let (error_type, body) = init.expect_failure("r-1");
        assert_eq!(error_type, "Runtime.Unknown");
        let file = files.path("pkg/app.py");
        assert_eq!(
            body,
            format!(
                r#"{{"errorMessage": "boom", "errorType": "ValueError", "requestId": "r-1", "stackTrace": ["  File \"{file}\", line 2, in h\n    raise ValueError('boom')\n"]}}"#
            )
        );
        init.expect_done("r-1");
        let nbsp = "\u{a0}";
        assert_eq!(
            init.logs,
            [format!(
                "[ERROR] ValueError: boom\nTraceback (most recent call last):\n\
                 {nbsp}{nbsp}File \"{file}\", line 2, in h\n\
                 {nbsp}{nbsp}{nbsp}{nbsp}raise ValueError('boom')"
            )]
        );
    }
}

#[test]
fn a_start_that_fails_says_why() {
    let files = TempDir::new(&[
        ("app.py", "def h(event, context): pass\n"),
        ("needs.py", "import no_such_module\n"),
        ("broken.py", "def h(:\n"),
        ("raises.py", "raise RuntimeError('at import')\n"),
    ]);
    let table = [
        ("app.nope", "Runtime.HandlerNotFound", "Handler 'nope' missing on module 'app'"),
        (
            "needs.h",
            "Runtime.ImportModuleError",
            "Unable to import module 'needs': No module named 'no_such_module'",
        ),
        (
            "gone.h",
            "Runtime.ImportModuleError",
            "Unable to import module 'gone': No module named 'gone'",
        ),
        ("broken.h", "Runtime.UserCodeSyntaxError", "Syntax error in module 'broken': "),
        (
            "app",
            "Runtime.MalformedHandlerName",
            "Bad handler 'app': not enough values to unpack (expected 2, got 1)",
        ),
        ("sys.exit", "Runtime.BuiltInModuleConflict", "Cannot use built-in module sys"),
        ("raises.h", "Runtime.Unknown", "at import"),
    ];
    for (handler, expected, message) in table {
        let Some(mut init) = begin(&files, handler, &[]) else { return };
        match init.expect() {
            FromInit::InitDone { outcome: InitOutcome::Reported { error_type, body }, .. } => {
                let body = String::from_utf8(body).unwrap();
                assert_eq!(error_type, expected, "{body}");
                assert!(body.starts_with(&format!(r#"{{"errorMessage": "{message}"#)), "{body}");
                assert!(body.contains(r#""requestId": """#), "{body}");
            }
            message => panic!("{handler}: {message:?}"),
        }
        assert!(init.logs[0].starts_with("[ERROR] "), "{:?}", init.logs);
    }
}

#[test]
fn results_without_a_json_form_are_a_marshal_error() {
    let code = "import decimal\ndef h(event, context):\n    return {'set': {1}, 'dec': decimal.Decimal('1.5')}[event]\n";
    let files = TempDir::new(&[("app.py", code)]);
    let Some(mut init) = ready(&files, "app.h") else { return };
    init.invoke("r-1", b"\"set\"");
    let (error_type, body) = init.expect_failure("r-1");
    assert_eq!(error_type, "Runtime.MarshalError");
    assert_eq!(
        body,
        r#"{"errorMessage": "Unable to marshal response: Object of type set is not JSON serializable", "errorType": "Runtime.MarshalError", "requestId": "r-1", "stackTrace": []}"#
    );
    init.expect_done("r-1");
    assert_eq!(init.call("r-2", "\"dec\""), "1.5");
    init.invoke("r-3", b"nope");
    assert_eq!(init.expect_failure("r-3").0, "Runtime.UnmarshalError");
}

#[test]
fn output_is_one_record_per_print() {
    let code = "import sys\n\
                print('import', 'time')\n\
                def h(event, context):\n\
                \x20   print('one\\ntwo')\n\
                \x20   print('err', file=sys.stderr)\n\
                \x20   print()\n\
                \x20   sys.stdout.buffer.write(b'raw\\n')\n\
                \x20   print('no end', end='')\n";
    let files = TempDir::new(&[("app.py", code)]);
    let Some(mut init) = ready(&files, "app.h") else { return };
    assert_eq!(init.logs, ["import time"]);
    init.logs.clear();
    assert_eq!(init.call("r-1", "{}"), "null");
    // The raw one has a pipe of its own.
    init.logs.retain(|record| record != "raw");
    assert_eq!(init.logs, ["one\ntwo", "err", "", "no end"]);
}

#[test]
fn logging_writes_lambdas_lines() {
    let code = "import logging\n\
                logger = logging.getLogger()\n\
                logger.warning('early')\n\
                def h(event, context):\n\
                \x20   logger.info('hidden')\n\
                \x20   logger.setLevel('INFO')\n\
                \x20   logging.getLogger('x').info('seen %s', 1)\n\
                \x20   try:\n\
                \x20       1 / 0\n\
                \x20   except ZeroDivisionError:\n\
                \x20       logger.exception('caught', extra={'k': 'v'})\n";
    let files = TempDir::new(&[("app.py", code)]);
    let Some(mut init) = ready(&files, "app.h") else { return };
    init.call("r-1", "{}");
    assert!(init.logs[0].starts_with("[WARNING]\t20"), "{:?}", init.logs);
    assert!(init.logs[0].ends_with("Z\t\tearly"), "{:?}", init.logs);
    assert!(init.logs[1].starts_with("[INFO]\t20"), "{:?}", init.logs);
    assert!(init.logs[1].ends_with("Z\tr-1\tseen 1"), "{:?}", init.logs);
    assert!(init.logs[2].starts_with("[ERROR]\t20"), "{:?}", init.logs);
    assert!(init.logs[2].contains("caught\nTraceback"), "{:?}", init.logs);
    assert_eq!(init.logs.len(), 3, "{:?}", init.logs);

    let json = [("AWS_LAMBDA_LOG_FORMAT", "JSON"), ("AWS_LAMBDA_LOG_LEVEL", "INFO")];
    let Some(mut init) = begin(&files, "app.h", &json) else { return };
    init.expect_ready();
    init.call("r-1", "{}");
    let early = &init.logs[0];
    assert!(early.starts_with(r#"{"timestamp": "20"#), "{early}");
    assert!(
        early.ends_with(r#""level": "WARNING", "message": "early", "logger": "root"}"#),
        "{early}"
    );
    assert!(init.logs[1].contains(r#""message": "hidden""#), "{:?}", init.logs);
    let seen = &init.logs[2];
    assert!(seen.contains(r#""logger": "x", "requestId": "r-1"}"#), "{seen}");
    let caught = &init.logs[3];
    for part in [r#""errorType": "ZeroDivisionError""#, r#""k": "v""#, r#""stackTrace": ["#] {
        assert!(caught.contains(part), "{caught}");
    }
}

#[test]
fn the_context_is_lambdas() {
    let code = "import os\n\
                def h(event, c):\n\
                \x20   left = c.get_remaining_time_in_millis()\n\
                \x20   c.log('via context')\n\
                \x20   return [c.aws_request_id, c.function_name, c.function_version,\n\
                \x20       c.memory_limit_in_mb, c.log_group_name, c.log_stream_name,\n\
                \x20       c.invoked_function_arn, c.tenant_id, left > 0,\n\
                \x20       c.identity.cognito_identity_id, c.client_context and\n\
                \x20       [c.client_context.custom, c.client_context.client.app_title],\n\
                \x20       os.environ.get('_X_AMZN_TRACE_ID'), '_LAMU_RUNTIME_FD' in os.environ]\n";
    let files = TempDir::new(&[("app.py", code)]);
    let Some(mut init) = ready(&files, "app.h") else { return };
    init.send(&ToInit::Invoke(Invoke {
        trace_id: Some("Root=1".into()),
        client_context: Some(r#"{"custom":{"a":1},"client":{"app_title":"t"}}"#.into()),
        cognito_identity: Some(r#"{"cognitoIdentityId":"i"}"#.into()),
        tenant_id: Some("t-1".into()),
        ..invoke("r-1", b"{}")
    }));
    let arn = "arn:aws:lambda:eu-west-1:000000000000:function:f";
    assert_eq!(
        init.expect_response("r-1"),
        format!(
            r#"["r-1", "f", "$LATEST", "128", "/aws/lambda/f", "s", "{arn}", "t-1", true, "i", [{{"a": 1}}, "t"], "Root=1", false]"#
        )
    );
    init.expect_done("r-1");
    assert_eq!(init.logs, ["via context"]);
    assert!(init.call("r-2", "{}").ends_with("null, true, null, null, null, false]"));
}

#[test]
fn a_handler_that_exits_ends_the_process_with_its_last_words() {
    let code = "import os, sys\n\
                def h(event, context):\n\
                \x20   print('bye', end='')\n\
                \x20   exit(event)\n";
    let files = TempDir::new(&[("app.py", code)]);
    let Some(mut init) = ready(&files, "app.h") else { return };
    init.invoke("r-1", b"3");
    assert_eq!(init.expect(), FromInit::Exited(Exit::Code(3)));
    assert_eq!(init.logs, ["bye"]);
    init.invoke("r-2", b"0");
    init.expect_ready();
    assert_eq!(init.expect(), FromInit::Exited(Exit::Code(0)));
}

#[test]
fn a_reset_ends_a_handler_that_takes_too_long() {
    let code = "import time\nprint('init')\ndef h(event, context):\n    time.sleep(event)\n    return 'slept'\n";
    let files = TempDir::new(&[("app.py", code)]);
    let Some(mut init) = ready(&files, "app.h") else { return };
    init.invoke("r-1", b"1000");
    std::thread::sleep(std::time::Duration::from_millis(20));
    init.reset();
    init.invoke("r-2", b"0");
    init.expect_ready();
    assert_eq!(init.expect_response("r-2"), "\"slept\"");
    init.expect_done("r-2");
    assert_eq!(init.logs, ["init", "init"]);
}

#[test]
fn a_response_too_large_does_not_end_the_runtime() {
    let code = "def h(event, context):\n    return 'x' * event\n";
    let files = TempDir::new(&[("app.py", code)]);
    let Some(mut init) = ready(&files, "app.h") else { return };
    init.invoke("r-1", b"7000000");
    assert_eq!(init.expect(), FromInit::TooLarge { request_id: "r-1".into() });
    init.expect_done("r-1");
    assert_eq!(init.call("r-2", "6291554").len(), 6_291_556);
}

#[test]
fn threads_may_print_at_once() {
    let code = "import threading\n\
                def h(event, context):\n\
                \x20   def work(n):\n\
                \x20       for i in range(100):\n\
                \x20           print(str(n) * 9000)\n\
                \x20   threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]\n\
                \x20   [t.start() for t in threads]\n\
                \x20   [t.join() for t in threads]\n";
    let files = TempDir::new(&[("app.py", code)]);
    let Some(mut init) = ready(&files, "app.h") else { return };
    init.call("r-1", "{}");
    let digits: usize = init.logs.iter().map(String::len).sum();
    assert_eq!(digits, 4 * 100 * 9000);
}

#[test]
fn garbage_on_the_runtimes_socket_ends_only_the_runtime() {
    let code = "import os\n\
                def h(event, context):\n\
                \x20   for fd in range(3, 10):\n\
                \x20       try:\n\
                \x20           os.write(fd, b'\\x09\\x00\\x00\\x00garbage, not a message')\n\
                \x20       except OSError:\n\
                \x20           pass\n\
                \x20   return 1\n";
    let files = TempDir::new(&[("app.py", code)]);
    let Some(mut init) = ready(&files, "app.h") else { return };
    init.invoke("r-1", b"1");
    assert!(matches!(init.expect(), FromInit::Exited(_)));
    init.invoke("r-2", b"1");
    init.expect_ready();
    init.reset();
}

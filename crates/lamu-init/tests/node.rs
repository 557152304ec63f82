//! lamu's Node runtime, run by the real init with the `node` of this machine.

// The harness forks (tests/support).
#![allow(unsafe_code)]

mod support;

use lamu_guest::{Exit, FromInit, InitOutcome, Invoke, StreamEnd, ToInit};
use support::{Init, TempDir, invoke, start};

/// Path and major version.
fn interpreter() -> Option<(String, u32)> {
    let script = "console.log(process.execPath, process.versions.node.split('.')[0])";
    match std::process::Command::new("node").args(["-e", script]).output() {
        Ok(output) if output.status.success() => {
            let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
            let (path, major) = text.rsplit_once(' ').expect("two words");
            Some((path.to_owned(), major.parse().expect("a number")))
        }
        _ => {
            eprintln!("skipped: there is no node here");
            None
        }
    }
}

const RUNTIME: &str =
    concat!(env!("CARGO_MANIFEST_DIR"), "/../lamu-worker/runtimes/node/bootstrap.cjs");

fn begin(files: &TempDir, handler: &str, extra: &[(&str, &str)]) -> Option<Init> {
    let mut start = start(&interpreter()?.0, &[RUNTIME]);
    start.telemetry_fd = true;
    start.cwd = files.path("");
    let variables = [
        ("_HANDLER", handler),
        ("LAMBDA_TASK_ROOT", start.cwd.as_str()),
        ("AWS_LAMBDA_FUNCTION_NAME", "f"),
        ("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "128"),
    ];
    let owned = |&(name, value): &(&str, &str)| (name.to_owned(), value.to_owned());
    let variables: Vec<_> = variables.iter().chain(extra).map(owned).collect();
    start.env.extend(variables);
    let mut init = Init::boot();
    init.send(&ToInit::Start(start));
    Some(init)
}

fn ready(files: &TempDir, handler: &str) -> Option<Init> {
    let mut init = begin(files, handler, &[])?;
    init.expect_ready();
    Some(init)
}

#[test]
fn every_kind_of_module_is_found() {
    let esm = "export const h = async (event) => ({ esm: event }); export const a = { b: h };";
    let cjs = "exports.h = async (event) => ({ cjs: event }); exports.a = { b: exports.h };";
    let files = TempDir::new(&[
        ("plain.js", cjs),
        ("common.cjs", cjs),
        ("module.mjs", esm),
        ("typed/package.json", r#"{"type":"module"}"#),
        ("typed/in.js", esm),
        ("dir/deep.js", cjs),
        ("node_modules/dep/index.js", cjs),
    ]);
    let table = [
        ("plain.h", "cjs"),
        ("plain.a.b", "cjs"),
        ("common.h", "cjs"),
        ("module.h", "esm"),
        ("module.a.b", "esm"),
        ("typed/in.h", "esm"),
        ("dir/deep.h", "cjs"),
        ("dep.h", "cjs"),
    ];
    for (handler, kind) in table {
        let Some(mut init) = ready(&files, handler) else { return };
        assert_eq!(
            init.call("r-1", r#"{"a":1}"#),
            format!(r#"{{"{kind}":{{"a":1}}}}"#),
            "{handler}"
        );
    }
}

#[test]
fn a_start_that_fails_says_why() {
    let files = TempDir::new(&[
        ("app.js", "exports.h = 1;"),
        ("needs.js", "require('./no-such-file');"),
        ("needs2.mjs", "import './no-such-file.mjs';"),
        ("broken.js", "exports.h = ("),
        ("raises.js", "throw new RangeError('at import');"),
    ]);
    let table = [
        ("app.nope", "Runtime.HandlerNotFound", "app.nope is undefined or not exported"),
        ("app.h", "Runtime.HandlerNotFound", "app.h is not a function"),
        ("gone.h", "Runtime.ImportModuleError", "Error: Cannot find module 'gone'"),
        ("needs.h", "Runtime.ImportModuleError", "Error: Cannot find module './no-such-file'"),
        ("needs2.h", "Runtime.ImportModuleError", "Error [ERR_MODULE_NOT_FOUND]: Cannot find"),
        ("broken.h", "Runtime.UserCodeSyntaxError", "SyntaxError: "),
        ("app", "Runtime.MalformedHandlerName", "Bad handler"),
        ("../app.h", "Runtime.MalformedHandlerName", "'../app.h' is not a valid handler name."),
        ("raises.h", "Runtime.Unknown", "at import"),
    ];
    for (handler, expected, message) in table {
        let Some(mut init) = begin(&files, handler, &[]) else { return };
        match init.expect() {
            FromInit::InitDone { outcome: InitOutcome::Reported { error_type, body }, .. } => {
                let body = String::from_utf8(body).unwrap();
                assert_eq!(error_type, expected, "{body}");
                assert!(body.contains(&format!(r#""errorMessage":"{message}"#)), "{body}");
                assert!(body.contains(r#""trace":["#), "{body}");
            }
            message => panic!("{handler}: {message:?}"),
        }
        assert!(
            init.logs[0].contains("\tundefined\tERROR\tUncaught Exception \t{"),
            "{:?}",
            init.logs
        );
    }
}

#[test]
fn a_thrown_error_has_lambdas_shape_and_log_line() {
    let code = "exports.h = async (event) => { if (event) throw event; const e = new TypeError('boom'); e.code = 'C'; throw e; };\n\
                exports.sync = () => { throw new Error('now'); };";
    let files = TempDir::new(&[("app.js", code)]);
    let Some(mut init) = ready(&files, "app.h") else { return };
    init.invoke("r-1", b"null");
    let (error_type, body) = init.expect_failure("r-1");
    assert_eq!(error_type, "Runtime.Unknown");
    let shape =
        r#"{"errorType":"TypeError","errorMessage":"boom","trace":["TypeError: boom","    at "#;
    assert!(body.starts_with(shape), "{body}");
    init.expect_done("r-1");
    let log = init.logs.pop().unwrap();
    let line = "\tr-1\tERROR\tInvoke Error \t{\"errorType\":\"TypeError\",\"errorMessage\":\"boom\",\"code\":\"C\",\"stack\":[";
    assert!(log.contains(line), "{log}");

    init.invoke("r-2", b"\"a string\"");
    let body = init.expect_failure("r-2").1;
    assert_eq!(body, r#"{"errorType":"string","errorMessage":"a string","trace":[]}"#);
    init.expect_done("r-2");
    let Some(mut init) = ready(&files, "app.sync") else { return };
    init.invoke("r-3", b"1");
    assert!(init.expect_failure("r-3").1.contains(r#""errorMessage":"now""#));
}

#[test]
fn errors_that_nobody_caught_are_answered_and_end_the_process() {
    let code = "const wait = () => new Promise((resolve) => setTimeout(resolve, 5000));\n\
                exports.rejects = async () => { Promise.reject(new Error('lost')); await wait(); };\n\
                exports.throws = async () => { setTimeout(() => { throw new Error('late'); }, 5); await wait(); };\n\
                exports.exits = async () => { process.exit(5); };";
    let files = TempDir::new(&[("app.js", code)]);
    let Some(mut init) = ready(&files, "app.rejects") else { return };
    init.invoke("r-1", b"1");
    let (error_type, body) = init.expect_failure("r-1");
    assert_eq!(error_type, "Runtime.UnhandledPromiseRejection");
    assert!(body.contains(r#""errorMessage":"Error: lost""#), "{body}");
    assert_eq!(init.expect(), FromInit::Exited(Exit::Code(128)));

    let Some(mut init) = ready(&files, "app.throws") else { return };
    init.invoke("r-1", b"1");
    assert!(init.expect_failure("r-1").1.contains(r#""errorMessage":"late""#));
    assert_eq!(init.expect(), FromInit::Exited(Exit::Code(129)));

    let Some(mut init) = ready(&files, "app.exits") else { return };
    init.invoke("r-1", b"1");
    assert_eq!(init.expect(), FromInit::Exited(Exit::Code(5)));
}

#[test]
fn callbacks_work_until_node_22() {
    let Some((_, major)) = interpreter() else { return };
    let code = "exports.waits = (event, context, callback) => { setTimeout(() => console.log('tail'), 30); callback(null, 1); };\n\
                exports.hurries = (event, context, callback) => { context.callbackWaitsForEmptyEventLoop = false; setTimeout(() => console.log('tail'), 5000); callback(null, 2); };\n\
                exports.fails = (event, context, callback) => { callback(new Error('bad')); };\n\
                exports.later = (event, context, callback) => { setTimeout(() => callback(null, 3), 10); };\n\
                exports.done = (event, context) => { context.done(null, 4); };\n\
                exports.succeed = (event, context) => { context.succeed(5); };\n\
                exports.nothing = () => {};\n\
                exports.never = () => new Promise(() => {});";
    let files = TempDir::new(&[("app.js", code)]);
    if major >= 24 {
        let Some(mut init) = begin(&files, "app.waits", &[]) else { return };
        match init.expect() {
            FromInit::InitDone { outcome: InitOutcome::Reported { error_type, .. }, .. } => {
                assert_eq!(error_type, "Runtime.CallbackHandlerDeprecated");
            }
            message => panic!("{message:?}"),
        }
        return;
    }
    let table = [
        ("waits", "1", 1),
        ("hurries", "2", 0),
        ("later", "3", 0),
        ("done", "4", 0),
        ("succeed", "5", 0),
        ("nothing", "null", 0),
        ("never", "null", 0),
    ];
    for (name, result, logs) in table {
        let Some(mut init) = ready(&files, &format!("app.{name}")) else { return };
        for id in ["r-1", "r-2"] {
            init.logs.clear();
            assert_eq!(init.call(id, "{}"), result, "{name}");
            assert_eq!(init.logs.len(), logs, "{name}: {:?}", init.logs);
        }
    }
    let Some(mut init) = ready(&files, "app.fails") else { return };
    init.invoke("r-1", b"1");
    assert!(init.expect_failure("r-1").1.contains(r#""errorMessage":"bad""#));
}

#[test]
fn console_lines_are_lambdas_in_both_formats() {
    let code = "console.log('at start');\n\
                exports.h = async () => { console.log('one\\ntwo', { a: 1 }); console.warn('careful'); console.debug('detail'); console.error('x', new Error('e')); console.info({ k: 'v' }); };";
    let files = TempDir::new(&[("app.js", code)]);
    let Some(mut init) = ready(&files, "app.h") else { return };
    assert!(init.logs[0].ends_with("Z\tundefined\tINFO\tat start"), "{:?}", init.logs);
    init.logs.clear();
    init.call("r-1", "{}");
    let ends =
        ["Z\tr-1\tINFO\tone\ntwo { a: 1 }", "Z\tr-1\tWARN\tcareful", "Z\tr-1\tDEBUG\tdetail"];
    for (record, end) in init.logs.iter().zip(ends) {
        assert!(record.ends_with(end), "{record}");
    }
    assert!(init.logs[3].contains("Z\tr-1\tERROR\tx Error: e\n    at "), "{:?}", init.logs);
    assert_eq!(init.logs.len(), 5);

    let json = [("AWS_LAMBDA_LOG_FORMAT", "JSON"), ("AWS_LAMBDA_LOG_LEVEL", "INFO")];
    let Some(mut init) = begin(&files, "app.h", &json) else { return };
    init.expect_ready();
    init.logs.clear();
    init.call("r-1", "{}");
    let ends = [
        r#"Z","level":"INFO","requestId":"r-1","message":"one\ntwo { a: 1 }"}"#,
        r#"Z","level":"WARN","requestId":"r-1","message":"careful"}"#,
    ];
    for (record, end) in init.logs.iter().zip(ends) {
        assert!(record.starts_with(r#"{"timestamp":"20"#) && record.ends_with(end), "{record}");
    }
    let error = r#""errorType":"Error","errorMessage":"e","stackTrace":["Error: e","#;
    assert!(init.logs[2].contains(error), "{:?}", init.logs);
    assert!(init.logs[3].ends_with(r#""message":{"k":"v"}}"#), "{:?}", init.logs);
    assert_eq!(init.logs.len(), 4, "debug is below the level: {:?}", init.logs);
}

#[test]
fn the_context_is_lambdas() {
    let code = "exports.h = async (event, c) => [c.awsRequestId, c.functionName, c.memoryLimitInMB, c.invokedFunctionArn, c.getRemainingTimeInMillis() > 0, c.clientContext, c.identity, c.tenantId, process.env._X_AMZN_TRACE_ID];";
    let files = TempDir::new(&[("app.js", code)]);
    let Some(mut init) = ready(&files, "app.h") else { return };
    init.send(&ToInit::Invoke(Invoke {
        trace_id: Some("Root=1".into()),
        client_context: Some(r#"{"custom":{"a":1}}"#.into()),
        cognito_identity: Some(r#"{"cognitoIdentityId":"i"}"#.into()),
        tenant_id: Some("t-1".into()),
        ..invoke("r-1", b"{}")
    }));
    let arn = "arn:aws:lambda:eu-west-1:000000000000:function:f";
    assert_eq!(
        init.expect_response("r-1"),
        format!(
            r#"["r-1","f","128","{arn}",true,{{"custom":{{"a":1}}}},{{"cognitoIdentityId":"i"}},"t-1","Root=1"]"#
        )
    );
    init.expect_done("r-1");
    assert!(init.call("r-2", "{}").ends_with("true,null,null,null,null]"));
}

#[test]
fn a_streamed_response_is_collected() {
    let code = "exports.plain = awslambda.streamifyResponse(async (event, stream) => { stream.setContentType('text/x'); stream.write('a'); await new Promise((r) => setTimeout(r, 5)); stream.write('b'); stream.end(); });\n\
                exports.http = awslambda.streamifyResponse(async (event, stream) => { stream = awslambda.HttpResponseStream.from(stream, { statusCode: 201 }); stream.end('body'); });\n\
                exports.fails = awslambda.streamifyResponse(async () => { throw new Error('bad'); });";
    let files = TempDir::new(&[("app.js", code)]);
    let table = [
        ("plain", "text/x", "ab"),
        (
            "http",
            "application/vnd.awslambda.http-integration-response",
            "{\"statusCode\":201}\0\0\0\0\0\0\0\0body",
        ),
    ];
    for (name, content_type, body) in table {
        let Some(mut init) = ready(&files, &format!("app.{name}")) else { return };
        init.invoke("r-1", b"1");
        assert_eq!(
            init.expect(),
            FromInit::Response {
                request_id: "r-1".into(),
                content_type: Some(content_type.into()),
                body: body.as_bytes().to_vec()
            }
        );
        init.expect_done("r-1");
    }
    let Some(mut init) = ready(&files, "app.fails") else { return };
    init.invoke("r-1", b"1");
    assert!(init.expect_failure("r-1").1.contains(r#""errorMessage":"bad""#));
    init.expect_done("r-1");
}

#[test]
fn payloads_of_the_largest_size_pass() {
    let files = TempDir::new(&[("app.js", "exports.h = async (event) => event;")]);
    let Some(mut init) = ready(&files, "app.h") else { return };
    let largest = format!("\"{}\"", "x".repeat(6_291_454));
    assert_eq!(init.call("r-1", &largest), largest);
    let Some(mut init) = ready(&files, "app.h") else { return };
    assert_eq!(init.call("r-2", "\"é\""), "\"é\"");
}

#[test]
fn a_reset_ends_a_handler_that_takes_too_long() {
    let code = "exports.h = (event) => { const until = Date.now() + event; while (Date.now() < until); return Promise.resolve('done'); };";
    let files = TempDir::new(&[("app.js", code)]);
    let Some(mut init) = ready(&files, "app.h") else { return };
    init.invoke("r-1", b"1000000");
    std::thread::sleep(std::time::Duration::from_millis(20));
    init.reset();
    init.invoke("r-2", b"1");
    init.expect_ready();
    assert_eq!(init.expect_response("r-2"), "\"done\"");
}

/// A stream for a host that takes it as it comes: its pieces together, and
/// its end.
fn streamed(init: &mut Init, id: &str, body: &[u8]) -> (String, Vec<u8>, StreamEnd) {
    let stream_bytes_max = Some(1 << 30);
    init.send(&ToInit::Invoke(Invoke { stream_bytes_max, ..invoke(id, body) }));
    let content_type = match init.expect() {
        FromInit::StreamBegin { request_id, content_type } => {
            assert_eq!(request_id, id);
            content_type.expect("a content type")
        }
        message => panic!("expected a stream, got {message:?}; logs {:?}", init.logs),
    };
    let mut all = Vec::new();
    loop {
        match init.expect() {
            FromInit::StreamChunk { bytes } => {
                init.send(&ToInit::Credit { bytes: bytes.len() as u32 });
                all.extend(bytes);
            }
            FromInit::StreamEnd(end) => return (content_type, all, end),
            message => panic!("{message:?}"),
        }
    }
}

#[test]
fn a_streamed_response_leaves_in_pieces() {
    let code = "const later = () => new Promise((r) => setTimeout(r, 5));\n\
                exports.h = awslambda.streamifyResponse(async (event, stream) => {\n\
                  if (event.http) stream = awslambda.HttpResponseStream.from(stream, { statusCode: 201 });\n\
                  for (const piece of event.pieces || []) { stream.write(piece); await later(); }\n\
                  if (event.bytes) await require('stream/promises').pipeline([Buffer.alloc(event.bytes, 'x')], stream, { end: false });\n\
                  if (event.goesOn) setInterval(() => stream.write('more'), 1).unref();\n\
                  if (event.throws) throw new TypeError('half way');\n\
                  if (event.destroys) { stream.destroy(); return; }\n\
                  if (event.dies) { setTimeout(() => { throw new RangeError('uncaught'); }, 1); await new Promise(() => {}); }\n\
                  stream.end();\n\
                });\n\
                exports.sync = awslambda.streamifyResponse((event, stream) => { stream.end('x'); });";
    let files = TempDir::new(&[("app.js", code)]);
    let Some(mut init) = ready(&files, "app.h") else { return };
    let octets = "application/octet-stream";
    let http = "application/vnd.awslambda.http-integration-response";
    let table: [(&str, &str, &[u8]); 4] = [
        (r#"{"pieces":["a","b"]}"#, octets, b"ab"),
        (r#"{"http":1,"pieces":["a"]}"#, http, b"{\"statusCode\":201}\0\0\0\0\0\0\0\0a"),
        (r#"{"http":1}"#, http, b"{\"statusCode\":201}\0\0\0\0\0\0\0\0"),
        ("{}", octets, b""),
    ];
    for (event, content_type, bytes) in table {
        let expected = (content_type.to_owned(), bytes.to_vec(), StreamEnd::Complete);
        assert_eq!(streamed(&mut init, "r-1", event.as_bytes()), expected, "{event}");
        init.expect_done("r-1");
    }
    // More than the window, in one write.
    let (_, all, end) = streamed(&mut init, "r-2", br#"{"bytes":3000000}"#);
    assert!(all.len() == 3_000_000 && all.iter().all(|byte| *byte == b'x'), "{}", all.len());
    assert_eq!(end, StreamEnd::Complete);
    init.expect_done("r-2");

    for (event, text) in [
        (r#"{"pieces":["a"],"goesOn":1,"throws":1}"#, "half way"),
        (r#"{"pieces":["a"],"destroys":1}"#, "destroyed"),
    ] {
        let (_, all, end) = streamed(&mut init, "r-3", event.as_bytes());
        assert_eq!(all, b"a");
        let StreamEnd::Failed { body, .. } = end else { panic!("{end:?}") };
        assert!(String::from_utf8_lossy(&body).contains(text), "{event}");
        init.expect_done("r-3");
        // Whatever it still writes goes nowhere.
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    // What was written before is ahead of the last word of a dying process.
    let (_, all, end) = streamed(&mut init, "r-4", br#"{"bytes":1000000,"dies":1}"#);
    assert_eq!(all.len(), 1_000_000);
    let StreamEnd::Failed { body, .. } = end else { panic!("{end:?}") };
    assert!(String::from_utf8_lossy(&body).contains("uncaught"));
    assert_eq!(init.expect(), FromInit::Exited(Exit::Code(129)));

    let Some(mut init) = ready(&files, "app.sync") else { return };
    let (_, _, end) = streamed(&mut init, "r-1", b"{}");
    assert!(matches!(end, StreamEnd::Failed { .. }), "a handler that is not async");
}

#[test]
fn a_handler_hears_that_its_reader_is_slow() {
    let code = "exports.h = awslambda.streamifyResponse(async (event, stream) => {\n\
                  let waits = 0;\n\
                  for (let at = 0; at < 64; at++) {\n\
                    if (!stream.write(Buffer.alloc(65536, at))) { waits++; await new Promise((r) => stream.once('drain', r)); }\n\
                  }\n\
                  console.log('waits', waits);\n\
                  stream.end();\n\
                });";
    let files = TempDir::new(&[("app.js", code)]);
    let Some(mut init) = ready(&files, "app.h") else { return };
    let (_, all, end) = streamed(&mut init, "r-1", b"{}");
    assert_eq!(end, StreamEnd::Complete);
    let expected: Vec<u8> = (0..64u8).flat_map(|at| vec![at; 65_536]).collect();
    assert!(all == expected, "in order");
    init.expect_done("r-1");
    assert!(init.logs.iter().any(|line| line.ends_with("INFO\twaits 64")), "{:?}", init.logs);
}

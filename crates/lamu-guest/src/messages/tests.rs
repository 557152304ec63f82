//! Every message, there and back and damaged.

use super::*;
use crate::FrameBuffer;
use crate::extensions::{ExtensionEnd, ExtensionFaultKind, ExtensionState};

fn examples_from_init() -> Vec<FromInit> {
    let id = || "r-1".to_owned();
    vec![
        FromInit::Hello { protocol: PROTOCOL },
        FromInit::InitDone { outcome: InitOutcome::Ready, duration_ns: 1 },
        FromInit::InitDone {
            outcome: InitOutcome::Reported { error_type: "Runtime.X".into(), body: vec![1] },
            duration_ns: 2,
        },
        FromInit::InitDone { outcome: InitOutcome::Exited(Exit::Signal(9)), duration_ns: 3 },
        FromInit::InitDone { outcome: InitOutcome::NoEntry, duration_ns: 0 },
        FromInit::Log { source: LogSource::Function, time_ms: 5, record: b"hi".to_vec() },
        FromInit::Response { request_id: id(), content_type: None, body: b"{}".to_vec() },
        FromInit::Failure { request_id: id(), error_type: "E".into(), body: vec![] },
        FromInit::TooLarge { request_id: id() },
        FromInit::Done { request_id: id(), handler_ns: 77 },
        FromInit::Exited(Exit::Code(-1)),
        FromInit::ResetDone,
        FromInit::StreamBegin { request_id: id(), content_type: Some("text/x".into()) },
        FromInit::StreamChunk { bytes: b"piece".to_vec() },
        FromInit::StreamEnd(StreamEnd::Complete),
        FromInit::StreamEnd(StreamEnd::Failed { error_type: "E".into(), body: vec![1] }),
        FromInit::StreamEnd(StreamEnd::TooLarge),
        FromInit::Extension(ExtensionStatus {
            name: "agent".into(),
            external: true,
            state: ExtensionState::LaunchError,
            invoke: true,
            shutdown: false,
            error_type: Some("PermissionDenied".into()),
        }),
        FromInit::Subscribed {
            api: TelemetryApi::Logs,
            name: "agent".into(),
            types: TelemetryTypes { platform: true, function: false, extension: true },
        },
        FromInit::RuntimeDone { request_id: id(), handler_ns: 7 },
        FromInit::ExtensionFailed(ExtensionFault {
            kind: ExtensionFaultKind::Crash,
            cause: ExtensionEnd::Exited(Exit::Code(1)),
        }),
        FromInit::InitDone {
            outcome: InitOutcome::Extension(ExtensionFault {
                kind: ExtensionFaultKind::Launch,
                cause: ExtensionEnd::NotStarted { name: "agent".into(), errno: 13 },
            }),
            duration_ns: 4,
        },
        FromInit::InitDone {
            outcome: InitOutcome::Extension(ExtensionFault {
                kind: ExtensionFaultKind::Launch,
                cause: ExtensionEnd::TooMany,
            }),
            duration_ns: 5,
        },
    ]
}

fn examples_to_init() -> Vec<ToInit> {
    vec![
        ToInit::Start(Start {
            entry: Entry::FirstOf(vec!["/var/task/bootstrap".into()]),
            cwd: "/var/task".into(),
            env: vec![("A".into(), "b=c".into())],
            user: Some(User { uid: 993, gid: 990 }),
            open_files_max: 1024,
            processes_max: 1024,
            telemetry_fd: true,
            response_bytes_max: 6_291_556,
            account_id: "123456789012".into(),
        }),
        ToInit::Start(Start {
            entry: Entry::Exec(Command { program: "/p".into(), args: vec!["a".into()] }),
            cwd: "/".into(),
            env: vec![],
            user: None,
            open_files_max: 1,
            processes_max: 2,
            telemetry_fd: false,
            response_bytes_max: 3,
            account_id: String::new(),
        }),
        ToInit::Invoke(Invoke {
            request_id: "r".into(),
            deadline_ms: 9,
            function_arn: "arn".into(),
            trace_id: Some("t".into()),
            client_context: None,
            cognito_identity: None,
            tenant_id: None,
            content_type: Some("application/json".into()),
            stream_bytes_max: Some(1 << 40),
            body: b"{}".to_vec(),
        }),
        ToInit::Credit { bytes: 65_536 },
        ToInit::Reset(ShutdownReason::Failure),
        ToInit::Shutdown(ShutdownReason::Spindown),
        ToInit::Event { api: TelemetryApi::Telemetry, json: "{}".into() },
    ]
}

#[test]
fn every_message_reads_back_as_written() {
    let mut buffer = FrameBuffer::new();
    for message in examples_from_init() {
        let mut wire = Vec::new();
        message.encode(&mut wire);
        buffer.extend(&wire);
        let (kind, fields) = buffer.next().unwrap().unwrap();
        assert_eq!(FromInit::decode(kind, fields), Ok(message));
    }
    for message in examples_to_init() {
        let mut wire = Vec::new();
        message.encode(&mut wire);
        buffer.extend(&wire);
        let (kind, fields) = buffer.next().unwrap().unwrap();
        assert_eq!(ToInit::decode(kind, fields), Ok(message));
    }
}

/// Every truncation and every single-byte change of every message is
/// refused or read as some message; nothing panics or allocates wildly.
#[test]
fn damaged_messages_never_panic() {
    for message in examples_from_init() {
        let mut wire = Vec::new();
        message.encode(&mut wire);
        for cut in 5..wire.len() {
            assert!(FromInit::decode(wire[4], &wire[5..cut]).is_err(), "{message:?} at {cut}");
        }
        for at in 4..wire.len() {
            for value in [0, 1, 127, 128, 255] {
                let mut damaged = wire.clone();
                damaged[at] = value;
                let _ = FromInit::decode(damaged[4], &damaged[5..]);
            }
        }
    }
}

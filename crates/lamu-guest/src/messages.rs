//! The messages and their wire form. The order of calls is in the crate's
//! header.

use crate::frame::{Malformed, Reader, Writer, write_frame};

/// What the host tells init.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ToInit {
    Start(Start),
    Invoke(Invoke),
    /// End every process but init, keep `/tmp`, answer `ResetDone`.
    Reset,
    /// End everything and exit.
    Shutdown,
}

/// Binds a shell to a function and begins Init.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Start {
    pub entry: Entry,
    pub cwd: String,
    /// The complete environment of the runtime, AWS_LAMBDA_RUNTIME_API apart:
    /// init adds that, since it chose the address.
    pub env: Vec<(String, String)>,
    /// Who the runtime runs as; `None` keeps init's own user.
    pub user: Option<User>,
    pub open_files_max: u64,
    pub processes_max: u64,
    /// Multi-line records come framed on a pipe of their own
    /// (`_LAMBDA_TELEMETRY_LOG_FD`): our bootstraps and managed runtimes.
    pub telemetry_fd: bool,
    /// Buffered responses above this are refused with 413.
    pub response_bytes_max: u64,
}

/// What to execute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entry {
    /// The first of these files that is there and executable, without
    /// arguments.
    FirstOf(Vec<String>),
    Exec(Command),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command {
    pub program: String,
    /// Without the program's own name.
    pub args: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct User {
    pub uid: u32,
    pub gid: u32,
}

/// One event for the runtime: the headers of `/next` and the body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invoke {
    pub request_id: String,
    /// Milliseconds since the epoch.
    pub deadline_ms: u64,
    pub function_arn: String,
    pub trace_id: Option<String>,
    pub client_context: Option<String>,
    pub cognito_identity: Option<String>,
    pub tenant_id: Option<String>,
    pub content_type: Option<String>,
    pub body: Vec<u8>,
}

/// What init tells the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FromInit {
    /// First of all: init is up. The version is that of this protocol.
    Hello {
        protocol: u32,
    },
    InitDone {
        outcome: InitOutcome,
        /// From spawning the runtime to its first `/next`.
        duration_ns: u64,
    },
    Log {
        source: LogSource,
        /// Milliseconds since the epoch.
        time_ms: u64,
        /// One event, without its line end.
        record: Vec<u8>,
    },
    Response {
        request_id: String,
        content_type: Option<String>,
        body: Vec<u8>,
    },
    /// The runtime posted to `/error`.
    Failure {
        request_id: String,
        error_type: String,
        body: Vec<u8>,
    },
    /// The runtime posted more than `response_bytes_max` and was told 413.
    TooLarge {
        request_id: String,
    },
    /// The invocation is over: the runtime asked for the next one. Every log
    /// record written before is ahead of this in the stream.
    Done {
        request_id: String,
        /// From handing out the event to the whole response.
        handler_ns: u64,
    },
    /// The runtime process ended.
    Exited(Exit),
    ResetDone,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InitOutcome {
    Ready,
    /// The runtime posted to `/init/error`.
    Reported {
        error_type: String,
        body: Vec<u8>,
    },
    Exited(Exit),
    /// No entry file, or one that cannot be executed.
    NoEntry,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    Code(i32),
    Signal(i32),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogSource {
    Function,
    Extension,
}

/// The protocol that this crate speaks.
pub const PROTOCOL: u32 = 1;

impl ToInit {
    pub fn encode(&self, out: &mut Vec<u8>) {
        match self {
            ToInit::Start(start) => write_frame(out, 1, |w| start.write(w)),
            ToInit::Invoke(invoke) => invoke.encode(out),
            ToInit::Reset => write_frame(out, 3, |_| {}),
            ToInit::Shutdown => write_frame(out, 4, |_| {}),
        }
    }

    pub fn decode(kind: u8, fields: &[u8]) -> Result<ToInit, Malformed> {
        let mut r = Reader::new(fields);
        let message = match kind {
            1 => ToInit::Start(Start::read(&mut r)?),
            2 => ToInit::Invoke(Invoke::read(&mut r)?),
            3 => ToInit::Reset,
            4 => ToInit::Shutdown,
            _ => return Err(Malformed("unknown kind")),
        };
        r.end()?;
        Ok(message)
    }
}

impl Start {
    fn write(&self, w: &mut Writer<'_>) {
        match &self.entry {
            Entry::FirstOf(files) => {
                w.u8(0);
                w.list(files, |w, file| w.text(file));
            }
            Entry::Exec(command) => {
                w.u8(1);
                w.text(&command.program);
                w.list(&command.args, |w, arg| w.text(arg));
            }
        }
        w.text(&self.cwd);
        w.list(&self.env, |w, (name, value)| {
            w.text(name);
            w.text(value);
        });
        match self.user {
            None => w.u8(0),
            Some(user) => {
                w.u8(1);
                w.u32(user.uid);
                w.u32(user.gid);
            }
        }
        w.u64(self.open_files_max);
        w.u64(self.processes_max);
        w.u8(self.telemetry_fd.into());
        w.u64(self.response_bytes_max);
    }

    fn read(r: &mut Reader<'_>) -> Result<Start, Malformed> {
        Ok(Start {
            entry: match r.u8()? {
                0 => Entry::FirstOf(r.list(4, Reader::text)?),
                1 => Entry::Exec(Command { program: r.text()?, args: r.list(4, Reader::text)? }),
                _ => return Err(Malformed("bad entry")),
            },
            cwd: r.text()?,
            env: r.list(8, |r| Ok((r.text()?, r.text()?)))?,
            user: match r.u8()? {
                0 => None,
                _ => Some(User { uid: r.u32()?, gid: r.u32()? }),
            },
            open_files_max: r.u64()?,
            processes_max: r.u64()?,
            telemetry_fd: r.u8()? != 0,
            response_bytes_max: r.u64()?,
        })
    }
}

/// An [`Invoke`] whose parts stay where they are until they are written.
#[derive(Clone, Copy, Debug)]
pub struct InvokeRef<'a> {
    pub request_id: &'a str,
    /// Milliseconds since the epoch.
    pub deadline_ms: u64,
    pub function_arn: &'a str,
    pub trace_id: Option<&'a str>,
    pub client_context: Option<&'a str>,
    pub cognito_identity: Option<&'a str>,
    pub tenant_id: Option<&'a str>,
    pub content_type: Option<&'a str>,
    pub body: &'a [u8],
}

impl InvokeRef<'_> {
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.reserve(self.body.len() + 512);
        write_frame(out, 2, |w| {
            w.text(self.request_id);
            w.u64(self.deadline_ms);
            w.text(self.function_arn);
            w.maybe_text(self.trace_id);
            w.maybe_text(self.client_context);
            w.maybe_text(self.cognito_identity);
            w.maybe_text(self.tenant_id);
            w.maybe_text(self.content_type);
            w.bytes(self.body);
        });
    }
}

impl Invoke {
    pub fn encode(&self, out: &mut Vec<u8>) {
        InvokeRef {
            request_id: &self.request_id,
            deadline_ms: self.deadline_ms,
            function_arn: &self.function_arn,
            trace_id: self.trace_id.as_deref(),
            client_context: self.client_context.as_deref(),
            cognito_identity: self.cognito_identity.as_deref(),
            tenant_id: self.tenant_id.as_deref(),
            content_type: self.content_type.as_deref(),
            body: &self.body,
        }
        .encode(out);
    }

    fn read(r: &mut Reader<'_>) -> Result<Invoke, Malformed> {
        Ok(Invoke {
            request_id: r.text()?,
            deadline_ms: r.u64()?,
            function_arn: r.text()?,
            trace_id: r.maybe_text()?,
            client_context: r.maybe_text()?,
            cognito_identity: r.maybe_text()?,
            tenant_id: r.maybe_text()?,
            content_type: r.maybe_text()?,
            body: r.bytes()?.to_vec(),
        })
    }
}

impl FromInit {
    pub fn encode(&self, out: &mut Vec<u8>) {
        match self {
            FromInit::Hello { protocol } => write_frame(out, 1, |w| w.u32(*protocol)),
            FromInit::InitDone { outcome, duration_ns } => write_frame(out, 2, |w| {
                match outcome {
                    InitOutcome::Ready => w.u8(0),
                    InitOutcome::Reported { error_type, body } => {
                        w.u8(1);
                        w.text(error_type);
                        w.bytes(body);
                    }
                    InitOutcome::Exited(exit) => {
                        w.u8(2);
                        exit.write(w);
                    }
                    InitOutcome::NoEntry => w.u8(3),
                }
                w.u64(*duration_ns);
            }),
            FromInit::Log { source, time_ms, record } => write_frame(out, 3, |w| {
                w.u8(matches!(source, LogSource::Extension).into());
                w.u64(*time_ms);
                w.bytes(record);
            }),
            FromInit::Response { request_id, content_type, body } => {
                out.reserve(body.len() + 256);
                write_frame(out, 4, |w| {
                    w.text(request_id);
                    w.maybe_text(content_type.as_deref());
                    w.bytes(body);
                })
            }
            FromInit::Failure { request_id, error_type, body } => write_frame(out, 5, |w| {
                w.text(request_id);
                w.text(error_type);
                w.bytes(body);
            }),
            FromInit::TooLarge { request_id } => write_frame(out, 6, |w| w.text(request_id)),
            FromInit::Done { request_id, handler_ns } => write_frame(out, 7, |w| {
                w.text(request_id);
                w.u64(*handler_ns);
            }),
            FromInit::Exited(exit) => write_frame(out, 8, |w| exit.write(w)),
            FromInit::ResetDone => write_frame(out, 9, |_| {}),
        }
    }

    pub fn decode(kind: u8, fields: &[u8]) -> Result<FromInit, Malformed> {
        let mut r = Reader::new(fields);
        let message = match kind {
            1 => FromInit::Hello { protocol: r.u32()? },
            2 => FromInit::InitDone {
                outcome: match r.u8()? {
                    0 => InitOutcome::Ready,
                    1 => InitOutcome::Reported { error_type: r.text()?, body: r.bytes()?.to_vec() },
                    2 => InitOutcome::Exited(Exit::read(&mut r)?),
                    3 => InitOutcome::NoEntry,
                    _ => return Err(Malformed("bad init outcome")),
                },
                duration_ns: r.u64()?,
            },
            3 => FromInit::Log {
                source: match r.u8()? {
                    0 => LogSource::Function,
                    1 => LogSource::Extension,
                    _ => return Err(Malformed("bad log source")),
                },
                time_ms: r.u64()?,
                record: r.bytes()?.to_vec(),
            },
            4 => FromInit::Response {
                request_id: r.text()?,
                content_type: r.maybe_text()?,
                body: r.bytes()?.to_vec(),
            },
            5 => FromInit::Failure {
                request_id: r.text()?,
                error_type: r.text()?,
                body: r.bytes()?.to_vec(),
            },
            6 => FromInit::TooLarge { request_id: r.text()? },
            7 => FromInit::Done { request_id: r.text()?, handler_ns: r.u64()? },
            8 => FromInit::Exited(Exit::read(&mut r)?),
            9 => FromInit::ResetDone,
            _ => return Err(Malformed("unknown kind")),
        };
        r.end()?;
        Ok(message)
    }
}

impl Exit {
    fn write(&self, w: &mut Writer<'_>) {
        let (kind, value) = match self {
            Exit::Code(code) => (0, *code),
            Exit::Signal(signal) => (1, *signal),
        };
        w.u8(kind);
        w.u32(value as u32);
    }

    fn read(r: &mut Reader<'_>) -> Result<Exit, Malformed> {
        match (r.u8()?, r.u32()? as i32) {
            (0, code) => Ok(Exit::Code(code)),
            (1, signal) => Ok(Exit::Signal(signal)),
            _ => Err(Malformed("bad exit")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::FrameBuffer;

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
                body: b"{}".to_vec(),
            }),
            ToInit::Reset,
            ToInit::Shutdown,
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
}

//! The messages and their wire form. The order of calls is in the crate's
//! header.

use crate::extensions::{
    ExtensionFault, ExtensionStatus, ShutdownReason, TelemetryApi, TelemetryTypes,
};
use crate::frame::{Malformed, Reader, Writer, write_frame};

/// What the host tells init.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ToInit {
    Start(Start),
    Invoke(Invoke),
    /// So many more bytes of the streamed response may be sent. Ignored when
    /// the stream it was meant for is over.
    Credit {
        bytes: u32,
    },
    /// End every process but init, keep `/tmp`, answer `ResetDone`. Where
    /// there are extensions, their Shutdown phase comes first.
    Reset(ShutdownReason),
    /// The same, then exit.
    Shutdown(ShutdownReason),
    /// A platform event for the subscribers of one API.
    Event {
        api: TelemetryApi,
        /// One JSON object.
        json: String,
    },
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
    /// Told to extensions that ask for it.
    pub account_id: String,
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
    /// The caller takes a streamed response as it comes, up to so many bytes.
    /// Otherwise init collects one and answers with `Response`.
    pub stream_bytes_max: Option<u64>,
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
    /// The runtime streams its response. Not more than
    /// [`STREAM_WINDOW_BYTES`] and the credit since may follow as chunks.
    StreamBegin {
        request_id: String,
        content_type: Option<String>,
    },
    /// Some of the stream that was begun; never empty, and at most
    /// [`STREAM_CHUNK_BYTES_MAX`].
    StreamChunk {
        bytes: Vec<u8>,
    },
    StreamEnd(StreamEnd),
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
    /// An extension and its state, ahead of the `InitDone` it belongs to.
    Extension(ExtensionStatus),
    /// An extension subscribed to telemetry. Only during an Init.
    Subscribed {
        api: TelemetryApi,
        name: String,
        types: TelemetryTypes,
    },
    /// The runtime asked for the next event, and extensions still work on
    /// this one; `Done` follows when they are through.
    RuntimeDone {
        request_id: String,
        /// As in `Done`.
        handler_ns: u64,
    },
    /// An extension ended after Init.
    ExtensionFailed(ExtensionFault),
}

/// How a streamed response ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StreamEnd {
    Complete,
    /// The runtime reported an error half way, or left its stream unfinished.
    Failed {
        error_type: String,
        body: Vec<u8>,
    },
    /// More came than `stream_bytes_max`; the runtime was told 413.
    TooLarge,
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
    Extension(ExtensionFault),
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
pub const PROTOCOL: u32 = 3;

/// Bytes of a stream on their way to a host that has not taken them yet: what
/// one slow reader makes init, channel and worker hold together. Large enough
/// that a fast reader never waits for credit.
pub const STREAM_WINDOW_BYTES: usize = 256 << 10;

/// Small beside the window, so that what fits it leaves at once.
pub const STREAM_CHUNK_BYTES_MAX: usize = 64 << 10;

impl ToInit {
    pub fn encode(&self, out: &mut Vec<u8>) {
        match self {
            ToInit::Start(start) => write_frame(out, 1, |w| start.write(w)),
            ToInit::Invoke(invoke) => invoke.encode(out),
            ToInit::Reset(reason) => write_frame(out, 3, |w| reason.write(w)),
            ToInit::Shutdown(reason) => write_frame(out, 4, |w| reason.write(w)),
            ToInit::Event { api, json } => write_frame(out, 16, |w| {
                api.write(w);
                w.text(json);
            }),
            ToInit::Credit { bytes } => write_frame(out, 5, |w| w.u32(*bytes)),
        }
    }

    pub fn decode(kind: u8, fields: &[u8]) -> Result<ToInit, Malformed> {
        let mut r = Reader::new(fields);
        let message = match kind {
            1 => ToInit::Start(Start::read(&mut r)?),
            2 => ToInit::Invoke(Invoke::read(&mut r)?),
            3 => ToInit::Reset(ShutdownReason::read(&mut r)?),
            4 => ToInit::Shutdown(ShutdownReason::read(&mut r)?),
            16 => ToInit::Event { api: TelemetryApi::read(&mut r)?, json: r.text()? },
            5 => ToInit::Credit { bytes: r.u32()? },
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
        w.text(&self.account_id);
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
            account_id: r.text()?,
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
    pub stream_bytes_max: Option<u64>,
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
            w.maybe_u64(self.stream_bytes_max);
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
            stream_bytes_max: self.stream_bytes_max,
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
            stream_bytes_max: r.maybe_u64()?,
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
                    InitOutcome::Extension(fault) => {
                        w.u8(4);
                        fault.write(w);
                    }
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
            FromInit::StreamBegin { request_id, content_type } => write_frame(out, 10, |w| {
                w.text(request_id);
                w.maybe_text(content_type.as_deref());
            }),
            FromInit::StreamChunk { bytes } => {
                out.reserve(bytes.len() + 16);
                write_frame(out, 11, |w| w.bytes(bytes))
            }
            FromInit::StreamEnd(end) => write_frame(out, 12, |w| match end {
                StreamEnd::Complete => w.u8(0),
                StreamEnd::Failed { error_type, body } => {
                    w.u8(1);
                    w.text(error_type);
                    w.bytes(body);
                }
                StreamEnd::TooLarge => w.u8(2),
            }),
            FromInit::Extension(status) => write_frame(out, 32, |w| status.write(w)),
            FromInit::Subscribed { api, name, types } => write_frame(out, 33, |w| {
                api.write(w);
                w.text(name);
                types.write(w);
            }),
            FromInit::RuntimeDone { request_id, handler_ns } => write_frame(out, 34, |w| {
                w.text(request_id);
                w.u64(*handler_ns);
            }),
            FromInit::ExtensionFailed(fault) => write_frame(out, 35, |w| fault.write(w)),
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
                    4 => InitOutcome::Extension(ExtensionFault::read(&mut r)?),
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
            10 => FromInit::StreamBegin { request_id: r.text()?, content_type: r.maybe_text()? },
            11 => FromInit::StreamChunk { bytes: r.bytes()?.to_vec() },
            12 => FromInit::StreamEnd(match r.u8()? {
                0 => StreamEnd::Complete,
                1 => StreamEnd::Failed { error_type: r.text()?, body: r.bytes()?.to_vec() },
                2 => StreamEnd::TooLarge,
                _ => return Err(Malformed("bad stream end")),
            }),
            32 => FromInit::Extension(ExtensionStatus::read(&mut r)?),
            33 => FromInit::Subscribed {
                api: TelemetryApi::read(&mut r)?,
                name: r.text()?,
                types: TelemetryTypes::read(&mut r)?,
            },
            34 => FromInit::RuntimeDone { request_id: r.text()?, handler_ns: r.u64()? },
            35 => FromInit::ExtensionFailed(ExtensionFault::read(&mut r)?),
            _ => return Err(Malformed("unknown kind")),
        };
        r.end()?;
        Ok(message)
    }
}

impl Exit {
    pub(crate) fn write(&self, w: &mut Writer<'_>) {
        let (kind, value) = match self {
            Exit::Code(code) => (0, *code),
            Exit::Signal(signal) => (1, *signal),
        };
        w.u8(kind);
        w.u32(value as u32);
    }

    pub(crate) fn read(r: &mut Reader<'_>) -> Result<Exit, Malformed> {
        match (r.u8()?, r.u32()? as i32) {
            (0, code) => Ok(Exit::Code(code)),
            (1, signal) => Ok(Exit::Signal(signal)),
            _ => Err(Malformed("bad exit")),
        }
    }
}

#[cfg(test)]
mod tests;

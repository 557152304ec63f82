//! Extensions as processes and callers: their start before the runtime, the
//! events they are given, and the Shutdown phase.
//!
//! ```text
//!  start all -> each registered -> runtime -> runtime and each asked for next
//!  begin_ending: SIGTERM to the runtime -> SHUTDOWN to who wants it -> SIGKILL
//! ```
//!
//! An environment without extensions passes through here and finds nothing
//! to do.
//!
//! Not here: which call is allowed when (`extensions`), bytes of HTTP
//! (`serve`).

use std::ffi::OsString;
use std::io;
use std::time::{Duration, Instant};

use lamu_guest::{
    Exit, ExtensionEnd, ExtensionFault, ExtensionFaultKind, ExtensionState, FromInit, InitOutcome,
    LogSource, ShutdownReason, TelemetryApi,
};

use crate::api::Answer;
use crate::connection::{Stage, Status};
use crate::environment::{End, Environment, token};
use crate::extensions::{self, EXTENSIONS_MAX, Refused, Reported};
use crate::http::{Body, Head};
use crate::output::{Last, Output, Pipe, Recorder};
use crate::spawn::{self, SpawnError, Spawned};
use crate::subscription;
use crate::sys::{self, Reach};
use crate::telemetry;
use crate::value::quoted;

/// The Shutdown phase as a whole (execution environment reference, section
/// 6): with an external extension, and with internal ones only.
const SHUTDOWN_MAX: Duration = Duration::from_millis(2_000);
const SHUTDOWN_MAX_INTERNAL: Duration = Duration::from_millis(500);

/// What the runtime may have of it when external extensions wait: 30 %.
/// Internal ones live in the runtime, which then has all of it.
const RUNTIME_SHARE: f64 = 0.3;

/// What became of the external extensions' start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Launched {
    /// There are none.
    None,
    Some,
    /// Init is over.
    Failed,
}

/// The Shutdown phase under way.
#[derive(Debug)]
pub(crate) struct Ending {
    reason: ShutdownReason,
    then: Then,
    stage: EndingStage,
    runtime_until: Instant,
    until: Instant,
    /// `until` as the SHUTDOWN event tells it.
    deadline_ms: u64,
}

/// What follows the Shutdown phase.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Then {
    Reset,
    Exit,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum EndingStage {
    /// The runtime has its SIGTERM.
    Runtime,
    /// Extensions have their SHUTDOWN.
    Extensions,
}

impl Environment {
    /// Starts what is in the directory of extensions.
    pub(crate) fn start_extensions(&mut self) -> io::Result<Launched> {
        let names = self.extension_files();
        let Some(start) = self.start.clone().filter(|_| !names.is_empty()) else {
            return Ok(Launched::None);
        };
        for (count, name) in names.into_iter().enumerate() {
            let file = self.extensions_dir.join(&name);
            let name = name.to_string_lossy().into_owned();
            let id = extensions::uuid(sys::random()?);
            if count >= EXTENSIONS_MAX {
                self.extensions.launched(name, id, Err("TooManyExtensions"));
                self.launch_failed(ExtensionEnd::TooMany);
                return Ok(Launched::Failed);
            }
            match spawn::spawn_extension(&start, &self.api, &file) {
                Ok(spawned) => {
                    self.extensions.launched(name, id, Ok(spawned.pid));
                    self.adopt_extension(spawned)?;
                }
                Err(error) => {
                    let error = self.fault_of_spawn(error)?;
                    let errno = error.raw_os_error().unwrap_or(libc::EIO);
                    let error_type = match errno {
                        libc::EACCES | libc::EPERM => "PermissionDenied",
                        _ => "UnknownError",
                    };
                    self.extensions.launched(name.clone(), id, Err(error_type));
                    self.launch_failed(ExtensionEnd::NotStarted { name, errno });
                    return Ok(Launched::Failed);
                }
            }
        }
        Ok(Launched::Some)
    }

    /// All but directories, sorted; one more than may be is enough to know.
    fn extension_files(&self) -> Vec<OsString> {
        let Ok(entries) = std::fs::read_dir(&self.extensions_dir) else { return Vec::new() };
        let is_file = |entry: &std::fs::DirEntry| {
            std::fs::metadata(entry.path()).is_ok_and(|metadata| metadata.is_file())
        };
        let mut names: Vec<OsString> =
            entries.flatten().filter(is_file).map(|entry| entry.file_name()).collect();
        names.sort();
        names.truncate(EXTENSIONS_MAX + 1);
        names
    }

    /// Why something could not be started, where that is the function's own
    /// affair. What init lacks it lacks because of the extensions that run: they
    /// may take every process there is.
    pub(crate) fn fault_of_spawn(&self, error: SpawnError) -> io::Result<io::Error> {
        match error {
            SpawnError::NoEntry(error) => Ok(error),
            SpawnError::Own(error) if self.extensions.has_external() => Ok(error),
            SpawnError::Own(error) => Err(error),
        }
    }

    fn launch_failed(&mut self, cause: ExtensionEnd) {
        let fault = ExtensionFault { kind: ExtensionFaultKind::Launch, cause };
        self.init_done(InitOutcome::Extension(fault));
        self.invoke = None;
    }

    fn adopt_extension(&mut self, spawned: Spawned) -> io::Result<()> {
        for file in [spawned.stdout, spawned.stderr] {
            let mut output = Output::lines(file, LogSource::Extension);
            output.interest = sys::READ;
            let token = token::EXTENSION_OUTPUTS + self.extension_outputs.len() as u64;
            self.epoll.add(&output.fd(), token, sys::READ)?;
            self.extension_outputs.push(Some(output));
        }
        Ok(())
    }

    pub(crate) fn read_extension_output(&mut self, at: usize) {
        let Some(Some(output)) = self.extension_outputs.get_mut(at) else { return };
        let mut to = Recorder {
            channel: &mut self.channel,
            telemetry: &mut self.telemetry,
            epoll: &self.epoll,
        };
        if output.read(&mut self.scratch, &mut to) == Pipe::Ended {
            output.flush(Last::OfProcess, &mut to);
            self.extension_outputs[at] = None;
        }
    }

    pub(crate) fn drain_extension_outputs(&mut self, last: Last) {
        let mut to = Recorder {
            channel: &mut self.channel,
            telemetry: &mut self.telemetry,
            epoll: &self.epoll,
        };
        for output in self.extension_outputs.iter_mut().flatten() {
            output.drain(&mut self.scratch, &mut to);
            output.flush(last, &mut to);
        }
    }

    pub(crate) fn register(&mut self, head: &Head, body: &Body) -> io::Result<Answer> {
        let name = head.extension_name.as_deref().unwrap_or_default();
        let id = extensions::uuid(sys::random()?);
        let registered = match (name, body.overflowed) {
            ("", _) => Err(Refused::EmptyName),
            (_, true) => Err(Refused::Format("the body is too long")),
            _ => extensions::parse_register(&body.bytes)
                .and_then(|events| self.extensions.register(name, &events, id)),
        };
        let at = match registered {
            Ok(at) => at,
            Err(refused) => return Ok(Answer::extension_refused(refused)),
        };
        if self.initializing && self.process.is_none() && self.extensions.registered() {
            self.spawn_runtime()?;
        }
        let features = head.extension_features.as_deref().unwrap_or_default();
        let wants_account = features.split(',').any(|feature| feature.trim() == "accountId");
        Ok(self.registered(at, wants_account))
    }

    fn registered(&self, at: usize, with_account: bool) -> Answer {
        let Some(start) = &self.start else { return Answer::not_found() };
        let variable = |name: &str| {
            let found = start.env.iter().find(|(key, _)| key == name);
            quoted(found.map_or("", |(_, value)| value))
        };
        let mut body = String::from("{");
        if with_account {
            body.push_str(&format!("\"accountId\":{},", quoted(&start.account_id)));
        }
        body.push_str(&format!(
            "\"functionName\":{},\"functionVersion\":{},\"handler\":{}}}",
            variable("AWS_LAMBDA_FUNCTION_NAME"),
            variable("AWS_LAMBDA_FUNCTION_VERSION"),
            variable("_HANDLER"),
        ));
        let id = self.extensions.all()[at].id.clone();
        let mut answer = Answer::json(200, body);
        answer.header = Some(("Lambda-Extension-Identifier", id));
        answer
    }

    pub(crate) fn extension_next(&mut self, at: usize, head: &Head) -> Status {
        let found = self.extensions.find(head.extension_id.as_deref());
        let which = match found.and_then(|which| {
            self.extensions.next(which, at)?;
            Ok(which)
        }) {
            Ok(which) => which,
            Err(refused) => return self.answer(at, &Answer::extension_refused(refused)),
        };
        if let Some(Some(connection)) = self.connections.get_mut(at) {
            connection.stage = Stage::Parked;
        }
        self.deliver(which);
        if self.initializing {
            self.try_init_done();
            if !self.initializing && self.invoke.is_some() {
                self.hand_out();
            }
        } else if self.awaiting && !self.extensions.busy() {
            self.drain_outputs(Last::OfInvocation);
            self.awaiting = false;
            if let Some(request_id) = self.last_id.clone() {
                self.channel.push(&FromInit::Done { request_id, handler_ns: self.handler_ns });
            }
        }
        Status::Open
    }

    pub(crate) fn extension_error(&mut self, reported: Reported, head: &Head) -> Answer {
        let error_type = head.extension_error_type.as_deref();
        let done = self.extensions.find(head.extension_id.as_deref());
        match done.and_then(|which| self.extensions.report(which, reported, error_type)) {
            Ok(()) => Answer::accepted(),
            Err(refused) => Answer::extension_refused(refused),
        }
    }

    pub(crate) fn subscribe(&mut self, api: TelemetryApi, head: &Head, body: &Body) -> Answer {
        let owner = match self.extensions.find(head.extension_id.as_deref()) {
            Ok(owner) => owner,
            Err(refused) => return Answer::extension_refused(refused),
        };
        let parsed = match body.overflowed {
            true => Err("the body is too long".to_owned()),
            false => subscription::parse(api, &body.bytes),
        };
        let subscribed = parsed.map_err(telemetry::Refused::Invalid).and_then(|subscription| {
            let types = subscription.types;
            let token = token::SINKS;
            self.telemetry.subscribe(owner, api, subscription, token, &self.epoll)?;
            Ok(types)
        });
        match subscribed {
            Ok(types) => {
                let name = self.extensions.all()[owner].name.clone();
                self.channel.push(&FromInit::Subscribed { api, name, types });
                Answer::json(200, "\"OK\"".to_owned())
            }
            Err(refused) => Answer::subscription_refused(api, refused),
        }
    }

    /// Init is over when the runtime and every extension asked for an event.
    pub(crate) fn try_init_done(&mut self) {
        let runtime = self.phase == crate::state::Phase::Ready;
        if !self.initializing || !runtime || !self.extensions.ready() {
            return;
        }
        self.init_done(InitOutcome::Ready);
        if self.invoke.is_some() {
            self.tell_of_invoke();
        }
    }

    /// The invocation begins: those extensions that asked for it hear of it
    /// together with the runtime.
    pub(crate) fn tell_of_invoke(&mut self) {
        if self.extensions.is_empty() {
            return;
        }
        let Some(invoke) = &self.invoke else { return };
        let mut event = format!(
            "{{\"eventType\":\"INVOKE\",\"deadlineMs\":{},\"requestId\":{},\
             \"invokedFunctionArn\":{}",
            invoke.deadline_ms,
            quoted(&invoke.request_id),
            quoted(&invoke.function_arn),
        );
        if let Some(trace) = invoke.trace_id.as_deref().filter(|trace| !trace.is_empty()) {
            event.push_str(",\"tracing\":{\"type\":\"X-Amzn-Trace-Id\",\"value\":");
            event.push_str(&quoted(trace));
            event.push('}');
        }
        event.push('}');
        for which in 0..self.extensions.all().len() {
            let Some(extension) = self.extensions.get_mut(which) else { return };
            if extension.invoke {
                extension.event = Some(event.clone());
                self.deliver(which);
            }
        }
    }

    /// Gives an extension its event, if it has one and waits for it.
    fn deliver(&mut self, which: usize) {
        let Some(extension) = self.extensions.get_mut(which) else { return };
        let (Some(at), Some(event)) = (extension.parked, &extension.event) else { return };
        let Some(Some(connection)) = self.connections.get_mut(at) else { return };
        let mut answer = Answer::json(200, event.clone());
        let id = sys::random().map(extensions::uuid).unwrap_or_default();
        answer.header = Some(("Lambda-Extension-Event-Identifier", id));
        extension.parked = None;
        match connection.answer(&answer) {
            Status::Open => {
                extension.event = None;
                extension.state = ExtensionState::Running;
                self.update_connection(at);
            }
            // It will ask again.
            Status::Gone => self.connections[at] = None,
        }
    }

    /// A process that is not the runtime ended.
    pub(crate) fn child_ended(&mut self, pid: libc::pid_t, exit: Exit) -> io::Result<()> {
        if self.extensions.all().iter().all(|extension| extension.pid != Some(pid)) {
            return Ok(());
        }
        // What it sent before its end counts.
        for at in 0..self.connections.len() {
            self.serve_connection(at)?;
        }
        self.drain_outputs(Last::OfInvocation);
        let Some(fault) = self.extensions.ended(pid, exit) else { return Ok(()) };
        if self.ending.is_some() {
            return Ok(());
        }
        if self.initializing {
            self.init_done(InitOutcome::Extension(fault));
            self.invoke = None;
        } else {
            self.channel.push(&FromInit::ExtensionFailed(fault));
        }
        Ok(())
    }

    /// Ends what runs, after the Shutdown phase where there are extensions.
    pub(crate) fn begin_ending(&mut self, reason: ShutdownReason, then: Then) {
        if self.extensions.is_empty() {
            return self.reset();
        }
        if let Some(ending) = &mut self.ending {
            ending.then = then;
            return;
        }
        self.initializing = false;
        self.awaiting = false;
        self.invoke = None;
        for extension in self.extensions.iter_mut() {
            extension.event = None;
        }
        // What is known reaches the subscribers while they can use it.
        self.drain_outputs(Last::OfInvocation);
        self.telemetry.flush(&self.epoll);
        let (whole, runtime) = if self.extensions.has_external() {
            (SHUTDOWN_MAX, SHUTDOWN_MAX.mul_f64(RUNTIME_SHARE))
        } else {
            (SHUTDOWN_MAX_INTERNAL, SHUTDOWN_MAX_INTERNAL)
        };
        let now = Instant::now();
        if let Some(process) = &self.process {
            sys::signal(process.pid, libc::SIGTERM, Reach::Process);
        }
        self.ending = Some(Ending {
            reason,
            then,
            stage: EndingStage::Runtime,
            runtime_until: now + runtime,
            until: now + whole,
            deadline_ms: sys::now_ms() + whole.as_millis() as u64,
        });
    }

    /// When the loop must look at the clock again.
    pub(crate) fn wake_at(&self) -> Option<Instant> {
        let ending = self.ending.as_ref().map(Ending::wake_at);
        ending.into_iter().chain(self.telemetry.wake_at()).min()
    }

    /// Does what the time, or an end that was collected, calls for.
    pub(crate) fn keep_time(&mut self) {
        self.telemetry.keep_time(&self.epoll);
        let Some(ending) = &self.ending else { return };
        let now = Instant::now();
        if ending.stage == EndingStage::Runtime {
            match &self.process {
                Some(_) if now < ending.runtime_until => return,
                Some(process) => sys::signal(process.pid, libc::SIGKILL, Reach::Group),
                None => {}
            }
            self.shut_extensions_down();
        }
        let Some(ending) = &self.ending else { return };
        let none_left = self.extensions.running().next().is_none();
        if none_left || now >= ending.until {
            let then = ending.then;
            self.ending = None;
            match then {
                Then::Reset => self.reset(),
                Then::Exit => {
                    self.clear_away();
                    self.over = Some(End::Shutdown);
                }
            }
        }
    }

    fn shut_extensions_down(&mut self) {
        let Some(ending) = &mut self.ending else { return };
        ending.stage = EndingStage::Extensions;
        let event = format!(
            "{{\"eventType\":\"SHUTDOWN\",\"shutdownReason\":\"{}\",\"deadlineMs\":{}}}",
            ending.reason.word(),
            ending.deadline_ms,
        );
        for which in 0..self.extensions.all().len() {
            let Some(extension) = self.extensions.get_mut(which) else { return };
            let Some(pid) = extension.pid else { continue };
            if extension.shutdown {
                extension.event = Some(event.clone());
                self.deliver(which);
            } else {
                sys::signal(pid, libc::SIGKILL, Reach::Group);
            }
        }
    }
}

impl Ending {
    fn wake_at(&self) -> Instant {
        match self.stage {
            EndingStage::Runtime => self.runtime_until,
            EndingStage::Extensions => self.until,
        }
    }
}

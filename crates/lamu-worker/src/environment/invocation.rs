//! One invocation, from the event handed to init until it is over.
//!
//! ```text
//!             InitDone            Response, Failure, TooLarge       Done
//!  Starting ------------> Running -----------------------> Answered ---> over
//!      |                     |  StreamBegin         StreamEnd ^   |
//!      |                     +-----------> Streaming ----------+   |
//!      |                     |                                 |
//!      +---------------------+--- deadline, exit, nonsense ----+-------> over
//! ```
//!
//! A pure machine: it is fed what init says and when, and says what follows.
//! Init is not trusted: a message that has no place in the current state ends
//! the sandbox. Rules: invoke reference "Function errors", execution
//! environment reference sections 6 and 7.
//!
//! Not here: reading the channel, writing log lines, answering.

use std::time::{Duration, Instant};

use bytes::Bytes;
use lamu_guest::{Exit, FromInit, InitOutcome, ShutdownReason, StreamEnd, recorded_error_type};
use lamu_model::{Fault, FaultKind, Outcome, ReportStatus, RequestId};

use super::extensions::extension_fault;

#[derive(Debug)]
pub struct Invocation {
    request: RequestId,
    began: Instant,
    timeout: Duration,
    progress: Progress,
    /// What the caller gets; once set it stays.
    pub outcome: Option<Outcome>,
    /// How the REPORT line ends.
    pub status: ReportStatus,
    /// The runtime reported the error itself, which the text form of REPORT
    /// does not mention.
    pub reported: bool,
    /// How the Init inside this invocation ended and what it took.
    pub rerun: Option<(ReportStatus, Duration)>,
    /// From handing out the event to the response.
    pub handler: Duration,
    /// When the runtime was through and extensions were not.
    pub runtime_done: Option<Instant>,
    /// From handing out the event to the beginning of a streamed response.
    latency: Option<Duration>,
    /// Of a stream that began.
    pub content_type: Option<String>,
    /// What the caller takes as a stream; `None` takes only whole responses.
    stream_bytes_max: Option<u64>,
    pub streamed_bytes: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Progress {
    /// The runtime is being started first.
    Starting,
    Running {
        since: Instant,
    },
    /// Its response has begun and goes on.
    Streaming {
        since: Instant,
    },
    /// The outcome is known; only `/next` is awaited.
    Answered,
}

/// What follows from a message or a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    Wait,
    /// The runtime was started again and has the event now.
    Started,
    /// The caller can be told that a stream begins.
    Begun,
    /// The caller can be answered.
    Answered,
    /// The runtime is through; extensions still work.
    RuntimeDone,
    Over(After),
}

/// What has to happen to the environment once an invocation is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum After {
    /// The runtime waits for the next event.
    Serve,
    /// The runtime must be ended; the sandbox and its `/tmp` stay.
    Reset,
    /// The sandbox cannot be trusted further.
    Destroy,
}

/// Whether a runtime waits for the event already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Runtime {
    Ready,
    Absent,
}

impl Invocation {
    pub fn new(
        request: RequestId,
        runtime: Runtime,
        timeout: Duration,
        began: Instant,
    ) -> Invocation {
        let progress = match runtime {
            Runtime::Ready => Progress::Running { since: began },
            Runtime::Absent => Progress::Starting,
        };
        Invocation {
            request,
            began,
            timeout,
            progress,
            outcome: None,
            status: ReportStatus::Success,
            reported: false,
            rerun: None,
            handler: Duration::ZERO,
            runtime_done: None,
            latency: None,
            content_type: None,
            stream_bytes_max: None,
            streamed_bytes: 0,
        }
    }

    /// Whether Init is being run again.
    pub fn is_starting(&self) -> bool {
        self.progress == Progress::Starting
    }

    /// From the beginning until the runtime had the event.
    pub fn before_event(&self) -> Duration {
        match &self.rerun {
            Some((_, took)) => *took,
            None => Duration::ZERO,
        }
    }

    /// What extensions took after the runtime was through, of `took` in all.
    pub fn extension_overhead(&self, took: Duration) -> Option<Duration> {
        let done = self.runtime_done?.saturating_duration_since(self.began);
        Some(took.saturating_sub(done))
    }

    /// What extensions are told if the environment is reset now.
    pub fn reset_reason(&self) -> ShutdownReason {
        match self.status {
            ReportStatus::Timeout => ShutdownReason::Timeout,
            _ => ShutdownReason::Failure,
        }
    }

    /// For a caller that takes a stream of up to so many bytes.
    pub fn streamed(self, stream_bytes_max: Option<u64>) -> Invocation {
        Invocation { stream_bytes_max, ..self }
    }

    /// How long the response took to begin, and then to end.
    pub fn response(&self) -> (Duration, Duration) {
        let latency = self.latency.unwrap_or(self.handler).min(self.handler);
        (latency, self.handler - latency)
    }

    pub fn request(&self) -> &RequestId {
        &self.request
    }

    pub fn deadline(&self) -> Instant {
        self.began + self.timeout
    }

    /// Time since the event was handed over, never more than the timeout.
    pub fn took(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.began).min(self.timeout)
    }

    /// A message from init, log records apart. `out_of_memory` says whether
    /// the kernel killed something inside since the invocation began.
    pub fn hear(&mut self, message: FromInit, now: Instant, out_of_memory: bool) -> Step {
        match (self.progress, message) {
            (Progress::Starting, FromInit::InitDone { outcome, .. }) => {
                let took = self.took(now);
                match init_failure(outcome, out_of_memory) {
                    None => {
                        self.rerun = Some((ReportStatus::Success, took));
                        self.progress = Progress::Running { since: now };
                        Step::Started
                    }
                    Some((status, outcome)) => {
                        self.rerun = Some((status.clone(), took));
                        self.fail(status, outcome)
                    }
                }
            }
            (Progress::Running { since }, message) => match message {
                FromInit::Response { request_id, content_type, body } => {
                    let body = Bytes::from(body);
                    let outcome = Outcome::Response { content_type, body };
                    self.answer(&request_id, since, now, ReportStatus::Success, outcome)
                }
                FromInit::Failure { request_id, error_type, body } => {
                    self.reported = true;
                    let error_type = recorded_error_type(&error_type);
                    let status = ReportStatus::Error(error_type.clone());
                    let outcome = Outcome::FunctionError { error_type, body: Bytes::from(body) };
                    self.answer(&request_id, since, now, status, outcome)
                }
                FromInit::TooLarge { request_id } => {
                    let fault = Fault::response_too_large();
                    let status = status_of(&fault);
                    self.answer(&request_id, since, now, status, Outcome::Fault(fault))
                }
                FromInit::Exited(exit) => {
                    self.handler = now.saturating_duration_since(since);
                    let fault = exit_fault(exit, out_of_memory);
                    self.fail(status_of(&fault), Outcome::Fault(fault))
                }
                FromInit::StreamBegin { request_id, content_type } => {
                    if request_id != self.request.as_str() || self.stream_bytes_max.is_none() {
                        return self.distrust("init streamed what nobody takes");
                    }
                    self.content_type = content_type;
                    self.latency = Some(now.saturating_duration_since(since));
                    self.progress = Progress::Streaming { since };
                    Step::Begun
                }
                FromInit::ExtensionFailed(fault) => {
                    self.handler = now.saturating_duration_since(since);
                    let fault = extension_fault(fault);
                    self.fail(status_of(&fault), Outcome::Fault(fault))
                }
                _ => self.distrust("init said something out of turn"),
            },
            (Progress::Streaming { since }, FromInit::StreamEnd(end)) => {
                let (status, outcome) = self.stream_ended(end);
                self.settle(since, now, status, outcome)
            }
            (Progress::Streaming { since }, FromInit::Exited(exit)) => {
                self.handler = now.saturating_duration_since(since);
                let fault = exit_fault(exit, out_of_memory);
                self.fail(status_of(&fault), Outcome::Fault(fault))
            }
            (Progress::Streaming { since }, FromInit::ExtensionFailed(fault)) => {
                self.handler = now.saturating_duration_since(since);
                let fault = extension_fault(fault);
                self.fail(status_of(&fault), Outcome::Fault(fault))
            }
            (Progress::Starting, FromInit::Exited(exit)) => {
                let fault = exit_fault(exit, out_of_memory);
                self.rerun = Some((status_of(&fault), self.took(now)));
                self.fail(status_of(&fault), Outcome::Fault(fault))
            }
            (Progress::Answered, FromInit::Done { request_id, handler_ns }) => {
                if request_id != self.request.as_str() {
                    return self.distrust("init ended another invocation");
                }
                // Its own measure is finer, but only believed within ours.
                self.handler = self.handler.min(Duration::from_nanos(handler_ns));
                Step::Over(After::Serve)
            }
            (Progress::Answered, FromInit::RuntimeDone { request_id, handler_ns })
                if request_id == self.request.as_str() && self.runtime_done.is_none() =>
            {
                self.handler = self.handler.min(Duration::from_nanos(handler_ns));
                self.runtime_done = Some(now);
                Step::RuntimeDone
            }
            (Progress::Answered, FromInit::ExtensionFailed(fault)) => {
                self.status = status_of(&extension_fault(fault));
                self.reported = false;
                Step::Over(After::Reset)
            }
            // Refused with 413, a runtime may still report that as its error.
            (Progress::Answered, FromInit::Failure { request_id, .. })
                if request_id == self.request.as_str() && self.was_too_large() =>
            {
                Step::Wait
            }
            (Progress::Answered, FromInit::Exited(exit)) => {
                self.status = status_of(&exit_fault(exit, out_of_memory));
                self.reported = false;
                Step::Over(After::Reset)
            }
            _ => self.distrust("init said something out of turn"),
        }
    }

    /// Some of a stream came; `Err` says what follows from one that must not.
    pub fn take_chunk(&mut self, bytes: usize) -> Result<(), Step> {
        self.streamed_bytes += bytes as u64;
        match self.progress {
            Progress::Streaming { .. } if Some(self.streamed_bytes) <= self.stream_bytes_max => {
                Ok(())
            }
            _ => Err(self.distrust("init streamed out of turn")),
        }
    }

    /// The function's time is up.
    pub fn expire(&mut self) -> Step {
        if self.progress == Progress::Starting {
            self.rerun = Some((ReportStatus::Timeout, self.timeout));
        }
        if let Progress::Running { since } | Progress::Streaming { since } = self.progress {
            self.handler = self.deadline().saturating_duration_since(since);
        }
        // A runtime that answered and then never asked for more is ended too.
        let fault = Fault::timeout(self.timeout.as_secs_f64());
        self.fail(ReportStatus::Timeout, Outcome::Fault(fault))
    }

    /// The sandbox failed or lied.
    pub fn distrust(&mut self, why: &str) -> Step {
        let fault = Fault::sandbox(why);
        self.fail(status_of(&fault), Outcome::Fault(fault));
        Step::Over(After::Destroy)
    }

    /// The kernel killed init itself for lack of memory.
    pub fn starve(&mut self) -> Step {
        let fault = Fault::signalled(9, true);
        self.fail(status_of(&fault), Outcome::Fault(fault));
        Step::Over(After::Destroy)
    }

    fn answer(
        &mut self,
        request: &str,
        since: Instant,
        now: Instant,
        status: ReportStatus,
        outcome: Outcome,
    ) -> Step {
        if request != self.request.as_str() {
            return self.distrust("init answered another invocation");
        }
        self.settle(since, now, status, outcome)
    }

    fn settle(
        &mut self,
        since: Instant,
        now: Instant,
        status: ReportStatus,
        outcome: Outcome,
    ) -> Step {
        self.handler = now.saturating_duration_since(since);
        self.progress = Progress::Answered;
        self.status = status;
        self.outcome = Some(outcome);
        Step::Answered
    }

    fn stream_ended(&mut self, end: StreamEnd) -> (ReportStatus, Outcome) {
        match end {
            StreamEnd::Complete => {
                let outcome = Outcome::Response { content_type: None, body: Bytes::new() };
                (ReportStatus::Success, outcome)
            }
            StreamEnd::Failed { error_type, body } => {
                self.reported = true;
                let error_type = recorded_error_type(&error_type);
                let status = ReportStatus::Error(error_type.clone());
                (status, Outcome::FunctionError { error_type, body: Bytes::from(body) })
            }
            StreamEnd::TooLarge => {
                let fault = Fault::response_larger_than(self.stream_bytes_max.unwrap_or(0));
                (status_of(&fault), Outcome::Fault(fault))
            }
        }
    }

    fn fail(&mut self, status: ReportStatus, outcome: Outcome) -> Step {
        self.status = status;
        self.reported = false;
        self.outcome.get_or_insert(outcome);
        Step::Over(After::Reset)
    }

    fn was_too_large(&self) -> bool {
        matches!(&self.outcome, Some(Outcome::Fault(fault)) if fault.kind == FaultKind::ResponseTooLarge)
    }
}

/// What a failed Init means to an invocation that needed it; `None` when it
/// went well.
pub fn init_failure(outcome: InitOutcome, out_of_memory: bool) -> Option<(ReportStatus, Outcome)> {
    let fault = match outcome {
        InitOutcome::Ready => return None,
        InitOutcome::Reported { error_type, body } => {
            let error_type = recorded_error_type(&error_type);
            let status = ReportStatus::Error(error_type.clone());
            return Some((status, Outcome::FunctionError { error_type, body: Bytes::from(body) }));
        }
        InitOutcome::Exited(exit) => exit_fault(exit, out_of_memory),
        InitOutcome::NoEntry => Fault::no_bootstrap(),
        InitOutcome::Extension(fault) => extension_fault(fault),
    };
    Some((status_of(&fault), Outcome::Fault(fault)))
}

fn exit_fault(exit: Exit, out_of_memory: bool) -> Fault {
    match exit {
        Exit::Code(code) => Fault::exited(code),
        Exit::Signal(signal) => Fault::signalled(signal, out_of_memory && signal == 9),
    }
}

fn status_of(fault: &Fault) -> ReportStatus {
    match fault.kind {
        FaultKind::Timeout => ReportStatus::Timeout,
        FaultKind::Sandbox => ReportStatus::Failure(fault.kind.error_type().to_owned()),
        _ => ReportStatus::Error(fault.kind.error_type().to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lamu_guest::{ExtensionEnd, ExtensionFault, ExtensionFaultKind};

    const SECOND: Duration = Duration::from_secs(1);

    fn invocation(runtime: Runtime) -> (Invocation, Instant) {
        let now = Instant::now();
        (Invocation::new(RequestId::new("r-1"), runtime, 3 * SECOND, now), now)
    }

    fn response(id: &str) -> FromInit {
        FromInit::Response { request_id: id.into(), content_type: None, body: b"1".to_vec() }
    }

    fn done(id: &str) -> FromInit {
        FromInit::Done { request_id: id.into(), handler_ns: 5 }
    }

    fn init_done(outcome: InitOutcome) -> FromInit {
        FromInit::InitDone { outcome, duration_ns: 1 }
    }

    fn fault(invocation: &Invocation) -> &Fault {
        match &invocation.outcome {
            Some(Outcome::Fault(fault)) => fault,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_response_answers_and_next_ends() {
        let (mut i, now) = invocation(Runtime::Ready);
        assert_eq!(i.hear(response("r-1"), now + SECOND, false), Step::Answered);
        assert_eq!(i.handler, SECOND);
        assert_eq!(i.hear(done("r-1"), now + SECOND, false), Step::Over(After::Serve));
        assert_eq!((&i.status, i.handler), (&ReportStatus::Success, Duration::from_nanos(5)));
        assert_eq!(
            i.outcome,
            Some(Outcome::Response { content_type: None, body: Bytes::from_static(b"1") })
        );
    }

    #[test]
    fn what_a_runtime_reports_reaches_the_caller_and_only_the_json_report() {
        let (mut i, now) = invocation(Runtime::Ready);
        let failure = FromInit::Failure {
            request_id: "r-1".into(),
            error_type: "ValueError".into(),
            body: b"{}".to_vec(),
        };
        assert_eq!(i.hear(failure, now, false), Step::Answered);
        assert_eq!(i.status, ReportStatus::Error("Runtime.Unknown".into()));
        assert!(i.reported);
    }

    #[test]
    fn time_up_before_an_answer_is_a_timeout_with_two_decimals() {
        let (mut i, now) = invocation(Runtime::Ready);
        assert_eq!(i.expire(), Step::Over(After::Reset));
        assert_eq!(fault(&i).message, "Task timed out after 3.00 seconds");
        assert_eq!(i.status, ReportStatus::Timeout);
        assert_eq!(i.took(now + 9 * SECOND), 3 * SECOND);
    }

    #[test]
    fn never_asking_for_next_keeps_the_answer_and_reports_a_timeout() {
        let (mut i, now) = invocation(Runtime::Ready);
        i.hear(response("r-1"), now, false);
        assert_eq!(i.expire(), Step::Over(After::Reset));
        assert!(matches!(i.outcome, Some(Outcome::Response { .. })));
        assert_eq!(i.status, ReportStatus::Timeout);
    }

    #[test]
    fn an_exit_is_a_crash_and_a_kill_for_memory_says_so() {
        let (mut i, now) = invocation(Runtime::Ready);
        assert_eq!(i.hear(FromInit::Exited(Exit::Code(7)), now, true), Step::Over(After::Reset));
        assert_eq!(fault(&i).message, "Runtime exited with error: exit status 7");
        let (mut i, now) = invocation(Runtime::Ready);
        i.hear(FromInit::Exited(Exit::Signal(9)), now, true);
        assert_eq!(fault(&i).kind, FaultKind::OutOfMemory);
        let (mut i, now) = invocation(Runtime::Ready);
        i.hear(FromInit::Exited(Exit::Signal(11)), now, true);
        assert_eq!(fault(&i).kind, FaultKind::Exit);
    }

    #[test]
    fn an_exit_after_the_answer_changes_only_the_report() {
        let (mut i, now) = invocation(Runtime::Ready);
        i.hear(response("r-1"), now, false);
        assert_eq!(i.hear(FromInit::Exited(Exit::Code(0)), now, false), Step::Over(After::Reset));
        assert!(matches!(i.outcome, Some(Outcome::Response { .. })));
        assert_eq!(i.status, ReportStatus::Error("Runtime.ExitError".into()));
    }

    #[test]
    fn extensions_hold_the_end_open_and_bring_it_down() {
        let crash = || {
            FromInit::ExtensionFailed(ExtensionFault {
                kind: ExtensionFaultKind::Crash,
                cause: ExtensionEnd::Exited(Exit::Code(1)),
            })
        };
        let through = |id: &str| FromInit::RuntimeDone { request_id: id.into(), handler_ns: 5 };
        let (mut i, now) = invocation(Runtime::Ready);
        i.hear(response("r-1"), now, false);
        assert_eq!(i.hear(through("r-1"), now + SECOND, false), Step::RuntimeDone);
        assert_eq!(i.runtime_done, Some(now + SECOND));
        assert_eq!(i.hear(done("r-1"), now + 2 * SECOND, false), Step::Over(After::Serve));
        assert_eq!(i.took(now + 2 * SECOND), 2 * SECOND, "extensions count");

        let (mut i, now) = invocation(Runtime::Ready);
        assert_eq!(i.hear(crash(), now, false), Step::Over(After::Reset));
        assert_eq!(
            (fault(&i).kind, fault(&i).message.as_str()),
            (FaultKind::ExtensionCrash, "exit status 1")
        );
        assert_eq!(i.reset_reason(), ShutdownReason::Failure);

        let (mut i, now) = invocation(Runtime::Ready);
        i.hear(response("r-1"), now, false);
        assert_eq!(i.hear(crash(), now, false), Step::Over(After::Reset));
        assert!(matches!(i.outcome, Some(Outcome::Response { .. })), "the answer stays");
        assert_eq!(i.status, ReportStatus::Error("Extension.Crash".into()));

        let (mut i, now) = invocation(Runtime::Ready);
        i.hear(response("r-1"), now, false);
        i.hear(through("r-1"), now, false);
        assert_eq!(i.expire(), Step::Over(After::Reset), "they never came back");
        assert_eq!(i.reset_reason(), ShutdownReason::Timeout);

        for twice in [vec![through("r-0")], vec![through("r-1"), through("r-1")]] {
            let (mut i, now) = invocation(Runtime::Ready);
            i.hear(response("r-1"), now, false);
            let last = twice.into_iter().map(|message| i.hear(message, now, false)).last();
            assert_eq!(last, Some(Step::Over(After::Destroy)));
        }
    }

    #[test]
    fn a_rerun_init_runs_inside_the_invocation() {
        let (mut i, now) = invocation(Runtime::Absent);
        assert_eq!(i.hear(init_done(InitOutcome::Ready), now + SECOND, false), Step::Started);
        assert_eq!(i.rerun, Some((ReportStatus::Success, SECOND)));
        assert_eq!(i.hear(response("r-1"), now + 2 * SECOND, false), Step::Answered);
        assert_eq!(i.handler, SECOND, "without the init");
        assert_eq!(i.took(now + 2 * SECOND), 2 * SECOND, "with the init");
    }

    #[test]
    fn a_rerun_init_that_fails_is_the_result() {
        let (mut i, now) = invocation(Runtime::Absent);
        let reported = InitOutcome::Reported {
            error_type: "Runtime.ImportModuleError".into(),
            body: b"{\"errorMessage\":\"x\"}".to_vec(),
        };
        assert_eq!(i.hear(init_done(reported), now, false), Step::Over(After::Reset));
        let error_type = "Runtime.ImportModuleError".to_owned();
        assert_eq!(
            i.outcome,
            Some(Outcome::FunctionError {
                error_type: error_type.clone(),
                body: Bytes::from_static(b"{\"errorMessage\":\"x\"}")
            })
        );
        assert_eq!(i.status, ReportStatus::Error(error_type));

        let (mut i, now) = invocation(Runtime::Absent);
        i.hear(init_done(InitOutcome::NoEntry), now, false);
        assert_eq!(fault(&i).kind, FaultKind::InvalidEntrypoint);

        let (mut i, _) = invocation(Runtime::Absent);
        assert_eq!(i.expire(), Step::Over(After::Reset));
        assert_eq!(i.rerun, Some((ReportStatus::Timeout, 3 * SECOND)));
        assert_eq!(fault(&i).kind, FaultKind::Timeout);
    }

    #[test]
    fn too_large_is_a_fault_and_the_runtime_goes_on() {
        let (mut i, now) = invocation(Runtime::Ready);
        let too_large = FromInit::TooLarge { request_id: "r-1".into() };
        assert_eq!(i.hear(too_large, now, false), Step::Answered);
        let failure = FromInit::Failure {
            request_id: "r-1".into(),
            error_type: "E".into(),
            body: Vec::new(),
        };
        assert_eq!(i.hear(failure, now, false), Step::Wait);
        assert_eq!(i.hear(done("r-1"), now, false), Step::Over(After::Serve));
        assert_eq!(fault(&i).kind, FaultKind::ResponseTooLarge);
    }

    fn begin(id: &str) -> FromInit {
        FromInit::StreamBegin { request_id: id.into(), content_type: Some("text/x".into()) }
    }

    fn streaming() -> (Invocation, Instant) {
        let (i, now) = invocation(Runtime::Ready);
        let mut i = i.streamed(Some(10));
        assert_eq!(i.hear(begin("r-1"), now, false), Step::Begun);
        assert_eq!(i.content_type.as_deref(), Some("text/x"));
        (i, now)
    }

    #[test]
    fn a_stream_answers_when_it_ends() {
        let (mut i, now) = streaming();
        assert_eq!(i.take_chunk(10), Ok(()));
        let end = FromInit::StreamEnd(StreamEnd::Complete);
        assert_eq!(i.hear(end, now + SECOND, false), Step::Answered);
        assert_eq!((i.handler, i.streamed_bytes), (SECOND, 10));
        assert_eq!(i.response(), (Duration::ZERO, SECOND), "it began at once");
        assert_eq!(i.hear(done("r-1"), now + SECOND, false), Step::Over(After::Serve));
        assert_eq!(i.status, ReportStatus::Success);
    }

    #[test]
    fn a_stream_that_fails_has_an_outcome_all_the_same() {
        let (mut i, now) = streaming();
        let (error_type, body) = ("Function.Late".to_owned(), b"{}".to_vec());
        let end = FromInit::StreamEnd(StreamEnd::Failed { error_type, body });
        assert_eq!(i.hear(end, now, false), Step::Answered);
        assert_eq!(i.status, ReportStatus::Error("Function.Late".into()));
        assert!(i.reported && matches!(&i.outcome, Some(Outcome::FunctionError { .. })));

        let (mut i, now) = streaming();
        let end = FromInit::StreamEnd(StreamEnd::TooLarge);
        assert_eq!(i.hear(end, now, false), Step::Answered);
        assert!(fault(&i).message.ends_with("(10 bytes)."), "{}", fault(&i).message);

        let (mut i, now) = streaming();
        assert_eq!(i.hear(FromInit::Exited(Exit::Code(1)), now, false), Step::Over(After::Reset));
        assert_eq!(fault(&i).kind, FaultKind::Exit);

        let (mut i, _) = streaming();
        assert_eq!(i.expire(), Step::Over(After::Reset));
        assert_eq!(fault(&i).kind, FaultKind::Timeout);
        assert_eq!(i.handler, 3 * SECOND);
    }

    #[test]
    fn a_stream_out_of_turn_ends_the_sandbox() {
        let destroyed = Step::Over(After::Destroy);
        let (mut i, now) = invocation(Runtime::Ready);
        assert_eq!(i.hear(begin("r-1"), now, false), destroyed, "nobody takes it");
        let (i, now) = invocation(Runtime::Ready);
        let mut i = i.streamed(Some(10));
        assert_eq!(i.take_chunk(1), Err(destroyed), "none has begun");
        let (i, _) = invocation(Runtime::Ready);
        assert_eq!(i.streamed(Some(10)).hear(begin("r-0"), now, false), destroyed);
        let (mut i, now) = streaming();
        for message in [begin("r-1"), response("r-1"), done("r-1")] {
            assert_eq!(i.hear(message, now, false), destroyed);
        }
        let (mut i, now) = streaming();
        assert_eq!(i.take_chunk(11), Err(destroyed), "longer than init may let pass");
        let (mut j, _) = streaming();
        j.hear(FromInit::StreamEnd(StreamEnd::Complete), now, false);
        assert_eq!(j.take_chunk(1), Err(destroyed));
        assert!(matches!(j.outcome, Some(Outcome::Response { .. })), "the answer stays");
    }

    #[test]
    fn messages_out_of_turn_end_the_sandbox() {
        let destroyed = Step::Over(After::Destroy);
        let absurd: Vec<FromInit> = vec![
            FromInit::Hello { protocol: 1 },
            FromInit::ResetDone,
            done("r-1"),
            response("r-0"),
            init_done(InitOutcome::Ready),
        ];
        for message in absurd {
            let (mut i, now) = invocation(Runtime::Ready);
            assert_eq!(i.hear(message.clone(), now, false), destroyed, "{message:?}");
            assert_eq!(fault(&i).kind, FaultKind::Sandbox);
        }
        for message in [response("r-1"), done("r-0"), FromInit::ResetDone] {
            let (mut i, now) = invocation(Runtime::Ready);
            i.hear(response("r-1"), now, false);
            assert_eq!(i.hear(message.clone(), now, false), destroyed, "{message:?}");
            assert!(matches!(i.outcome, Some(Outcome::Response { .. })), "the answer stays");
        }
        let (mut i, now) = invocation(Runtime::Absent);
        assert_eq!(i.hear(response("r-1"), now, false), destroyed);
    }
}

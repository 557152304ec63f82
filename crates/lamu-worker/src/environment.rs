//! One execution environment: the task that owns its machine and its channel
//! to init, and serves one invocation at a time.
//!
//! ```text
//!           made                  work                 /next
//!  (boot) ------> Idle <------ thaw ------> Busy ----------------> Idle
//!                  |  after a moment         | timeout, crash
//!                  v                         v
//!                Frozen                    Reset (the sandbox and /tmp stay;
//!                                          the next invocation reruns Init)
//! ```
//!
//! A provisioned one is for calls that find Init done: it is not reset, but ends
//! and is made again.
//!
//! It ends when it is retired, when nobody holds a handle to it and nothing
//! ever ran, or when the sandbox cannot be trusted; then the machine is gone
//! before its slot is. Extensions have their Shutdown phase before, unless it
//! must end at once.
//!
//! Not here: what an invocation's messages mean (`invocation`), how the
//! machine is made (`boot`), which environments there are (`worker`).

mod boot;
mod bucket;
mod caller;
mod cell;
mod channel;
mod extensions;
mod invocation;
mod journal;
mod outflow;
mod telemetry;

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll};
use std::time::Duration;

use lamu_guest::{Exit, FromInit, InitOutcome, InvokeRef, ShutdownReason, ToInit};
use lamu_link::{BootError, Booted, EnvironmentHandle, WeakEnvironment, Work};
use lamu_model::{
    InitPhase, InitializationType, Outcome, Report, ReportStatus, RuntimeDone, SandboxId, Span,
    VersionSpec, WorkerId,
};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::unconstrained;
use tokio::time::{Instant, Sleep, sleep, timeout};
use tracing::{debug, info, warn};

use crate::context::Context;

pub use self::bucket::StreamRate;

pub(crate) use self::boot::{chain, check_architecture, unpack};
pub(crate) use self::cell::Cell;

use self::boot::Made;
use self::caller::{Caller, refuse};
use self::cell::{Presence, State};
use self::channel::{Channel, ChannelError};
use self::invocation::{After, Invocation, Runtime, Step};
use self::journal::{Journal, millis, now_ms};
use self::outflow::Outflow;

/// For init to end every process and say so. Beyond it the sandbox goes.
const RESET_SECS_MAX: u64 = 5;
/// The Shutdown phase of extensions is two seconds at most, which init keeps;
/// beyond this it is not waited for.
const SHUTDOWN_SECS_MAX: u64 = 3;
/// For the driver to stop, wake or remove a machine.
const DRIVER_SECS_MAX: u64 = 10;

/// What the worker tells an environment. Only ever raised.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Order {
    Serve,
    /// End when no invocation runs.
    Retire,
    /// End now.
    End,
}

/// What an environment tells the worker. At most one `Ready`, one `Gone`, and
/// one `Free` for each takeover by a manager.
#[derive(Debug)]
pub(crate) enum Event {
    Ready {
        sandbox: SandboxId,
        environment: WeakEnvironment,
    },
    /// The invocation that a new manager was told of as busy is over.
    Free {
        sandbox: SandboxId,
    },
    Gone {
        sandbox: SandboxId,
    },
}

/// All that an environment is born with.
#[derive(Debug)]
pub(crate) struct Birth {
    pub context: Arc<Context>,
    pub sandbox: SandboxId,
    pub spec: Arc<VersionSpec>,
    pub initialization: InitializationType,
    pub reply: oneshot::Sender<Result<Booted, BootError>>,
    pub orders: watch::Receiver<Order>,
    pub cell: Arc<Cell>,
    /// Bounded by what [`Event`] says.
    pub events: mpsc::UnboundedSender<Event>,
}

/// The task's whole life.
pub(crate) async fn live(birth: Birth) {
    let Birth { context, sandbox, spec, initialization, mut reply, mut orders, cell, events } =
        birth;
    let _gone = Gone { sandbox, events: events.clone() };
    let mut presence = Presence::new(context.stats.clone());
    let made = tokio::select! {
        made = boot::make(&context, sandbox, &spec, initialization) => Some(made),
        () = reply.closed() => None,
        () = ordered(&mut orders) => None,
    };
    let made = match made {
        Some(Ok(made)) => made,
        Some(Err(error)) => {
            context.stats.boot_failures.add(1);
            debug!(%sandbox, %error, "boot failed");
            destroy(&context, sandbox).await;
            let _ = reply.send(Err(error));
            return;
        }
        None => {
            destroy(&context, sandbox).await;
            let _ = reply.send(Err(BootError::Draining));
            return;
        }
    };
    context.stats.boots.add(1);
    presence.enter(State::Idle);
    let timings = made.timings;
    info!(%sandbox, function = %spec.name, ?timings, "environment made");
    let (handle, inbox) = EnvironmentHandle::new(sandbox, worker(&context));
    let weak = handle.downgrade();
    let mut environment = Environment {
        first_init: (made.runtime == Runtime::Ready && !initialization.is_provisioned())
            .then_some(timings.init),
        made,
        context,
        sandbox,
        spec,
        initialization,
        cell,
        presence,
        inbox,
        orders,
        events,
        weak: weak.clone(),
        kept: None,
        freezes: true,
        graceful: true,
        freeze_at: Box::pin(sleep(Duration::ZERO)),
        deadline: Box::pin(sleep(Duration::ZERO)),
    };
    let _ = environment.events.send(Event::Ready { sandbox, environment: weak });
    if reply.send(Ok(Booted { environment: handle, timings })).is_ok() {
        environment.serve().await;
    }
    environment.end().await;
}

struct Environment {
    context: Arc<Context>,
    sandbox: SandboxId,
    spec: Arc<VersionSpec>,
    initialization: InitializationType,
    made: Made,
    cell: Arc<Cell>,
    presence: Presence,
    inbox: mpsc::Receiver<Work>,
    orders: watch::Receiver<Order>,
    events: mpsc::UnboundedSender<Event>,
    weak: WeakEnvironment,
    /// Held from the first invocation on, so that the environment outlives
    /// the manager that asked for it.
    kept: Option<EnvironmentHandle>,
    /// Init's time, until an invocation has reported it; that of one that was
    /// made on demand.
    first_init: Option<Duration>,
    /// Cleared when the driver could not freeze.
    freezes: bool,
    /// Cleared when what is inside can no longer be asked to end.
    graceful: bool,
    freeze_at: Pin<Box<Sleep>>,
    deadline: Pin<Box<Sleep>>,
}

/// What an idle environment woke up for.
enum Wake {
    Work(Box<Work>),
    Freeze,
    /// The runtime ended by itself.
    Exited,
    End,
}

/// Whether the environment goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Life {
    On,
    Over,
}

impl Environment {
    async fn serve(&mut self) {
        if let Err(error) = self.context.driver.hold_cpu(self.sandbox) {
            debug!(sandbox = %self.sandbox, error = chain(&error), "no CPU ceiling");
        }
        self.rest();
        loop {
            let life = match self.wake().await {
                Wake::Work(work) => self.run(*work).await,
                Wake::Freeze => self.freeze().await,
                Wake::Exited => {
                    debug!(sandbox = %self.sandbox, "the runtime ended while idle");
                    self.first_init = None;
                    self.reset(ShutdownReason::Failure).await
                }
                Wake::End => return,
            };
            if life == Life::Over {
                self.graceful = false;
                return;
            }
        }
    }

    /// From now on it is idle.
    fn rest(&mut self) {
        if let Some(after) = self.context.config.freeze_after {
            self.freeze_at.as_mut().reset(Instant::now() + after);
        }
    }

    async fn wake(&mut self) -> Wake {
        let freezes = self.freezes
            && self.context.config.freeze_after.is_some()
            && self.presence.state() == State::Idle
            && self.made.runtime == Runtime::Ready;
        let Environment { inbox, orders, made, freeze_at, sandbox, .. } = self;
        let ordered = std::pin::pin!(ordered(orders));
        let mut ordered = ordered;
        poll_fn(|cx| {
            match inbox.poll_recv(cx) {
                Poll::Ready(Some(work)) => return Poll::Ready(Wake::Work(Box::new(work))),
                Poll::Ready(None) => return Poll::Ready(Wake::End),
                Poll::Pending => {}
            }
            if ordered.as_mut().poll(cx).is_ready() {
                return Poll::Ready(Wake::End);
            }
            while let Poll::Ready(message) = made.channel.poll_next(cx) {
                match message {
                    Ok(FromInit::Log { time_ms, record, .. }) => {
                        made.journal.function(time_ms, &record);
                    }
                    Ok(FromInit::Exited(_) | FromInit::ExtensionFailed(_))
                        if made.runtime == Runtime::Ready =>
                    {
                        return Poll::Ready(Wake::Exited);
                    }
                    Ok(_) => {
                        warn!(%sandbox, "init said something out of turn");
                        return Poll::Ready(Wake::End);
                    }
                    Err(error) => {
                        warn!(%sandbox, error = chain(&error), "lost init");
                        return Poll::Ready(Wake::End);
                    }
                }
            }
            if freezes && poll_though_busy(freeze_at.as_mut(), cx).is_ready() {
                return Poll::Ready(Wake::Freeze);
            }
            Poll::Pending
        })
        .await
    }

    async fn run(&mut self, work: Work) -> Life {
        let Work { call, lease, hold, reply, stream } = work;
        if self.cell.begin(lease.epoch).is_err() {
            refuse(call, hold, reply);
            return Life::On;
        }
        if self.kept.is_none() {
            self.kept = self.weak.upgrade();
        }
        if self.presence.state() == State::Frozen && self.thaw().await == Life::Over {
            self.inbox.close();
            drop(lease);
            refuse(call, hold, reply);
            return Life::Over;
        }
        self.presence.enter(State::Busy);
        self.context.stats.invocations.add(1);

        let timeout = Duration::from_secs(u64::from(self.spec.timeout_secs));
        let began = now();
        let stream_bytes_max = stream.as_ref().map(|_| self.context.config.stream_bytes_max);
        let mut invocation =
            Invocation::new(call.request.clone(), self.made.runtime, timeout, began)
                .streamed(stream_bytes_max);
        self.made.journal.begin(call.tail);
        if self.made.runtime == Runtime::Ready {
            self.made.journal.start(&call.request, &call.arn, call.trace_id.as_deref());
        } else {
            // Init runs again inside this invocation; its time is not apart.
            self.first_init = None;
            self.context.stats.reruns.add(1);
            self.made.extensions.begin();
            self.made.journal.init_again();
        }
        let began_ms = now_ms();
        if self.made.runtime == Runtime::Ready {
            self.made.publish();
        }
        self.made.channel.send_invoke(&InvokeRef {
            request_id: call.request.as_str(),
            deadline_ms: now_ms() + timeout.as_millis() as u64,
            function_arn: call.arn.as_str(),
            trace_id: call.trace_id.as_deref(),
            client_context: call.client_context.as_deref(),
            cognito_identity: call.cognito_identity.as_deref(),
            tenant_id: call.tenant_id.as_deref(),
            content_type: call.content_type.as_deref(),
            stream_bytes_max,
            body: &call.payload,
        });
        // Init knows no subscribers before it runs Init again.
        self.made.publish();
        self.deadline.as_mut().reset(invocation.deadline().into());

        let rate = self.context.config.stream_rate;
        let stream = stream.map(|sink| Outflow::new(sink, rate));
        let mut caller = Caller::new(reply, call.tail, stream);
        let (arn, trace) = (call.arn, call.trace_id);
        let trace = trace.as_deref();
        drop(call.payload);
        let after = loop {
            let step = match self.hear(&mut invocation, &mut caller).await {
                Heard::Step(step) => step,
                // Nobody is told: the caller learns that the reply is lost.
                Heard::End => {
                    self.inbox.close();
                    return Life::Over;
                }
            };
            match step {
                Step::Wait => {}
                Step::Started => self.started(&invocation, &arn, trace),
                Step::Begun => caller.begin_stream(&mut invocation, now()),
                Step::Answered => {
                    caller.end_stream();
                    if !call.tail {
                        caller.answer(&invocation, None);
                        if let Some(handle) = &self.kept {
                            handle.set_answered(true);
                        }
                    }
                }
                Step::RuntimeDone => self.runtime_done(&invocation, trace, began_ms),
                Step::Over(after) => break after,
            }
        };
        let took = invocation.took(now());
        // Before a reset begins the mark anew.
        let used = self.context.driver.memory_bytes_max(self.sandbox).unwrap_or(0);
        if matches!(&invocation.rerun, Some((status, _)) if *status != ReportStatus::Success) {
            self.started(&invocation, &arn, trace);
        }
        if invocation.runtime_done.is_none() {
            self.runtime_done(&invocation, trace, began_ms);
        }
        if !call.tail {
            caller.answer(&invocation, None);
        }
        let report = self.report(&mut invocation, took, used, trace);
        let life = match after {
            After::Serve => Life::On,
            After::Reset => self.reset(invocation.reset_reason()).await,
            After::Destroy => Life::Over,
        };
        // What the runtime said at its end belongs above.
        self.made.journal.end(report, invocation.reported, trace);
        if call.tail {
            let tail = self.made.journal.take_tail();
            caller.answer(&invocation, Some(tail));
        }
        if let Some(handle) = &self.kept {
            handle.set_answered(false);
        }
        self.presence.enter(State::Idle);
        if life == Life::Over {
            self.inbox.close();
        } else {
            self.rest();
        }
        if self.cell.end() {
            let _ = self.events.send(Event::Free { sandbox: self.sandbox });
        }
        // The invocation has ended: only now do its lease and its permit go.
        drop((lease, hold));
        life
    }

    /// The next step of the invocation. Log records are kept on the way, and
    /// a stream is passed on.
    async fn hear(&mut self, invocation: &mut Invocation, caller: &mut Caller) -> Heard {
        let Environment { context, sandbox, made, deadline, orders, .. } = self;
        let mut ended = std::pin::pin!(ended(orders));
        poll_fn(|cx| {
            loop {
                match caller.poll_stream(cx, now) {
                    0 => {}
                    bytes => made.channel.send(&ToInit::Credit { bytes }),
                }
                let Poll::Ready(message) = made.channel.poll_next(cx) else { break };
                match message {
                    Ok(FromInit::Log { time_ms, record, .. }) => {
                        made.journal.function(time_ms, &record);
                        continue;
                    }
                    Ok(FromInit::StreamChunk { bytes }) => {
                        let taken = invocation.take_chunk(bytes.len()).and_then(|()| {
                            let left = |_| invocation.distrust("init left the window");
                            caller.push(bytes).map_err(left)
                        });
                        match taken {
                            Ok(()) => continue,
                            Err(step) => return Poll::Ready(Heard::Step(step)),
                        }
                    }
                    Ok(message) => {
                        let message = if invocation.is_starting() {
                            match made.extensions.hear(message, &mut made.journal) {
                                Ok(Some(message)) => message,
                                Ok(None) => {
                                    made.publish();
                                    continue;
                                }
                                Err(_) => {
                                    let step = invocation.distrust("init said too much");
                                    return Poll::Ready(Heard::Step(step));
                                }
                            }
                        } else {
                            message
                        };
                        let oom =
                            is_kill(&message) && starved(context, *sandbox, &mut made.oom_kills);
                        let step = invocation.hear(message, now(), oom);
                        return Poll::Ready(Heard::Step(step));
                    }
                    Err(error) => {
                        let step = if matches!(error, ChannelError::Malformed(_)) {
                            warn!(%sandbox, error = chain(&error), "init broke the protocol");
                            invocation.distrust("init broke the protocol")
                        } else if starved(context, *sandbox, &mut made.oom_kills) {
                            invocation.starve()
                        } else {
                            warn!(%sandbox, error = chain(&error), "lost init");
                            invocation.distrust("the sandbox ended")
                        };
                        return Poll::Ready(Heard::Step(step));
                    }
                }
            }
            if poll_though_busy(deadline.as_mut(), cx).is_ready() {
                return Poll::Ready(Heard::Step(invocation.expire()));
            }
            poll_though_busy(ended.as_mut(), cx).map(|()| Heard::End)
        })
        .await
    }

    /// The Init inside the invocation came to an end.
    fn started(&mut self, invocation: &Invocation, arn: &lamu_model::Arn, trace: Option<&str>) {
        if let Some((status, took)) = &invocation.rerun {
            self.made.journal.init_done(InitPhase::Invoke, status, *took);
            if *status == ReportStatus::Success {
                self.context.stats.init_done(*took);
            }
        }
        self.made.journal.start(invocation.request(), arn, trace);
        self.made.publish();
        self.made.runtime = Runtime::Ready;
    }

    /// The runtime is through, whatever extensions still do.
    fn runtime_done(&mut self, invocation: &Invocation, trace: Option<&str>, began_ms: u64) {
        let took = invocation.took(now());
        let produced_bytes = match &invocation.outcome {
            Some(Outcome::Response { body, .. } | Outcome::FunctionError { body, .. }) => {
                body.len()
            }
            _ => 0,
        };
        let produced_bytes = produced_bytes + invocation.streamed_bytes as usize;
        let (latency, duration) = invocation.response();
        let began = began_ms as f64 + millis(invocation.before_event());
        let span = |name, after: Duration, took: Duration| Span {
            name,
            start_ms: (began + millis(after)) as u64,
            ms: millis(took),
        };
        let handler = invocation.handler;
        let overhead = took.saturating_sub(invocation.before_event() + handler);
        let spans = [
            span("responseLatency", Duration::ZERO, latency),
            span("responseDuration", latency, duration),
            span("runtimeOverhead", handler, overhead),
        ];
        self.made.journal.runtime_done(&RuntimeDone {
            request: invocation.request(),
            status: &invocation.status,
            duration_ms: millis(took),
            produced_bytes,
            spans: &spans,
            trace,
        });
        self.made.publish();
    }

    /// What END and REPORT say. Subscribers hear of it while they are there: a
    /// reset ends them.
    fn report(
        &mut self,
        invocation: &mut Invocation,
        took: Duration,
        used_bytes: u64,
        trace: Option<&str>,
    ) -> Report {
        let used_mib = used_bytes.div_ceil(1 << 20) as u32;
        let counters = &self.context.stats;
        if invocation.status != ReportStatus::Success {
            counters.errors.add(1);
        }
        if invocation.status == ReportStatus::Timeout {
            counters.timeouts.add(1);
        }
        let fault = match &invocation.outcome {
            Some(Outcome::Fault(fault)) => Some(fault.clone()),
            _ => None,
        };
        let extension_overhead = invocation.extension_overhead(took).map(|overhead| Span {
            name: "extensionOverhead",
            start_ms: now_ms().saturating_sub(overhead.as_millis() as u64),
            ms: millis(overhead),
        });
        let report = Report {
            request: invocation.request().clone(),
            duration_ms: millis(took),
            memory_mib: self.spec.memory_mib,
            memory_used_mib_max: used_mib.clamp(1, self.spec.memory_mib),
            init_ms: self.first_init.take().map(millis),
            status: invocation.status.clone(),
            extension_overhead,
        };
        self.made.journal.telemetry.end(&report, fault.as_ref(), trace);
        self.made.publish();
        report
    }

    /// Ends the runtime; sandbox and `/tmp` stay.
    async fn reset(&mut self, reason: ShutdownReason) -> Life {
        if self.initialization.is_provisioned() {
            // Extensions hear why it ends.
            if self.made.extensions.any() {
                let _ = reset(&mut self.made.channel, &mut self.made.journal, reason).await;
                self.graceful = false;
            }
            return Life::Over;
        }
        self.made.runtime = Runtime::Absent;
        self.context.stats.resets.add(1);
        let reset = reset(&mut self.made.channel, &mut self.made.journal, reason);
        if let Err(error) = reset.await {
            warn!(sandbox = %self.sandbox, %error, "reset failed");
            return Life::Over;
        }
        let _ = self.context.driver.reset_memory_max(self.sandbox);
        if let Ok(stats) = self.context.driver.stats(self.sandbox) {
            self.made.oom_kills = stats.oom_kills;
        }
        Life::On
    }

    async fn freeze(&mut self) -> Life {
        let freezing = self.context.driver.freeze(self.sandbox);
        match timeout(Duration::from_secs(DRIVER_SECS_MAX), freezing).await {
            Ok(Ok(())) => {
                self.presence.enter(State::Frozen);
                self.context.stats.freezes.add(1);
                Life::On
            }
            Ok(Err(lamu_sandbox::DriverError::Gone { .. })) => Life::Over,
            Ok(Err(error)) => {
                warn!(sandbox = %self.sandbox, error = chain(&error), "not frozen");
                self.freezes = false;
                Life::On
            }
            Err(_) => {
                warn!(sandbox = %self.sandbox, "freezing does not end");
                Life::Over
            }
        }
    }

    async fn thaw(&mut self) -> Life {
        let began = Instant::now();
        let thawing = self.context.driver.thaw(self.sandbox);
        let thawed = timeout(Duration::from_secs(DRIVER_SECS_MAX), thawing).await;
        debug!(sandbox = %self.sandbox, took = ?began.elapsed(), "thawed");
        match thawed {
            Ok(Ok(())) => Life::On,
            Ok(Err(error)) => {
                warn!(sandbox = %self.sandbox, error = chain(&error), "not thawed");
                Life::Over
            }
            Err(_) => {
                warn!(sandbox = %self.sandbox, "thawing does not end");
                Life::Over
            }
        }
    }

    /// Refuses what still waits, then removes the machine.
    async fn end(mut self) {
        self.inbox.close();
        while let Some(work) = self.inbox.recv().await {
            let Work { call, lease, hold, reply, .. } = work;
            drop(lease);
            refuse(call, hold, reply);
        }
        if self.graceful && self.made.extensions.any() {
            self.shut_down().await;
        }
        destroy(&self.context, self.sandbox).await;
        info!(sandbox = %self.sandbox, "environment ended");
    }

    /// Lets extensions come to their end, unless the worker wants the
    /// environment gone at once.
    async fn shut_down(&mut self) {
        if self.presence.state() == State::Frozen && self.thaw().await == Life::Over {
            return;
        }
        let Environment { made, orders, .. } = self;
        made.channel.send(&ToInit::Shutdown(ShutdownReason::Spindown));
        let over = async {
            loop {
                match poll_fn(|cx| made.channel.poll_next(cx)).await {
                    Ok(FromInit::Log { time_ms, record, .. }) => {
                        made.journal.function(time_ms, &record);
                    }
                    Ok(_) => {}
                    // Init has exited.
                    Err(_) => return,
                }
            }
        };
        let over = timeout(Duration::from_secs(SHUTDOWN_SECS_MAX), over);
        tokio::select! {
            _ = over => {}
            () = ended(orders) => {}
        }
    }
}

enum Heard {
    Step(Step),
    End,
}

/// Tells the worker that the environment is no more, even after a panic.
struct Gone {
    sandbox: SandboxId,
    events: mpsc::UnboundedSender<Event>,
}

impl Drop for Gone {
    fn drop(&mut self) {
        let _ = self.events.send(Event::Gone { sandbox: self.sandbox });
    }
}

#[derive(Debug, thiserror::Error)]
enum ResetError {
    #[error("init was silent for {RESET_SECS_MAX} s")]
    Silent,
    #[error("the channel to init failed")]
    Channel(#[from] ChannelError),
}

/// Has init end every process but itself. What it says on the way that is not
/// a log record belongs to what has been ended.
async fn reset(
    channel: &mut Channel,
    journal: &mut Journal,
    reason: ShutdownReason,
) -> Result<(), ResetError> {
    channel.send(&ToInit::Reset(reason));
    let done = async {
        loop {
            match poll_fn(|cx| channel.poll_next(cx)).await? {
                FromInit::ResetDone => return Ok(()),
                FromInit::Log { time_ms, record, .. } => journal.function(time_ms, &record),
                _ => {}
            }
        }
    };
    timeout(Duration::from_secs(RESET_SECS_MAX), done).await.unwrap_or(Err(ResetError::Silent))
}

async fn destroy(context: &Context, sandbox: SandboxId) {
    let destroying = context.driver.destroy(sandbox);
    match timeout(Duration::from_secs(DRIVER_SECS_MAX), destroying).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => warn!(%sandbox, error = chain(&error), "sandbox not removed"),
        Err(_) => warn!(%sandbox, "removing the sandbox does not end"),
    }
}

/// Whether the kernel killed something inside for lack of memory since the
/// last look.
fn starved(context: &Context, sandbox: SandboxId, seen: &mut u64) -> bool {
    let Ok(stats) = context.driver.stats(sandbox) else { return false };
    let more = stats.oom_kills > *seen;
    *seen = stats.oom_kills;
    more
}

fn is_kill(message: &FromInit) -> bool {
    matches!(
        message,
        FromInit::Exited(Exit::Signal(9))
            | FromInit::InitDone { outcome: InitOutcome::Exited(Exit::Signal(9)), .. }
    )
}

/// Until the worker wants the environment gone, or is gone itself.
async fn ordered(orders: &mut watch::Receiver<Order>) {
    let _ = orders.wait_for(|order| *order >= Order::Retire).await;
}

/// Until even an invocation must not go on.
async fn ended(orders: &mut watch::Receiver<Order>) {
    let _ = orders.wait_for(|order| *order == Order::End).await;
}

/// Polls what a flood on the channel must not hold up. The runtime stops a
/// task that reads without end by making everything else look pending too.
fn poll_though_busy<F: Future>(future: Pin<&mut F>, cx: &mut TaskContext<'_>) -> Poll<F::Output> {
    std::pin::pin!(unconstrained(future)).poll(cx)
}

/// The clock that timers go by, so that tests can hold it.
fn now() -> std::time::Instant {
    Instant::now().into_std()
}

fn worker(context: &Context) -> WorkerId {
    context.config.id.clone()
}

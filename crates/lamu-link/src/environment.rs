//! One execution environment as its borrower sees it: the lease, the call,
//! the reply.

use std::any::Any;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use lamu_model::{Arn, Epoch, LeaseId, Outcome, RequestId, SandboxId, WorkerId};
use tokio::sync::{mpsc, oneshot};

use crate::stream::{Piece, Streamed};

/// Something that must live until the invocation has ended (END, not the
/// answer): the frontend's concurrency permit. Dropping it gives it back.
pub type Hold = Box<dyn Any + Send>;

/// Pieces of a stream on their way: two, so that the begin and the first chunk
/// leave at once, and a place for the last, so that a slow caller never holds
/// up an environment whose function has ended. The environment sends none
/// larger than the window of its own channel.
const PIECES_MAX: usize = 3;

/// The way to one environment.
#[derive(Clone, Debug)]
pub struct EnvironmentHandle {
    pub sandbox: SandboxId,
    pub worker: WorkerId,
    work: mpsc::Sender<Work>,
    answered: Arc<AtomicBool>,
}

impl EnvironmentHandle {
    /// The handle, and the inbox that the environment's task reads.
    ///
    /// One place is enough: only the holder of the one lease sends.
    pub fn new(sandbox: SandboxId, worker: WorkerId) -> (EnvironmentHandle, mpsc::Receiver<Work>) {
        let (work, inbox) = mpsc::channel(1);
        let answered = Arc::new(AtomicBool::new(false));
        (EnvironmentHandle { sandbox, worker, work, answered }, inbox)
    }

    /// The environment's task says whether its invocation has been answered
    /// and only the runtime's next `/next` is awaited. A hint: a manager that
    /// sees it gives the environment a moment before it makes another.
    pub fn set_answered(&self, answered: bool) {
        self.answered.store(answered, Ordering::Relaxed);
    }

    pub fn is_answered(&self) -> bool {
        self.answered.load(Ordering::Relaxed)
    }

    /// Whether the environment's task has ended.
    pub fn is_gone(&self) -> bool {
        self.work.is_closed()
    }

    /// A handle that does not keep the way open: the environment's task sees
    /// when nobody else holds one any more.
    pub fn downgrade(&self) -> WeakEnvironment {
        WeakEnvironment {
            sandbox: self.sandbox,
            worker: self.worker.clone(),
            work: self.work.downgrade(),
            answered: self.answered.clone(),
        }
    }
}

/// The worker's own record of an environment it made for someone. While no
/// invocation has come, only the maker's handles keep the environment alive,
/// so one whose handle was lost on the way ends.
#[derive(Clone, Debug)]
pub struct WeakEnvironment {
    pub sandbox: SandboxId,
    pub worker: WorkerId,
    work: mpsc::WeakSender<Work>,
    answered: Arc<AtomicBool>,
}

impl WeakEnvironment {
    /// `None` when every handle is gone.
    pub fn upgrade(&self) -> Option<EnvironmentHandle> {
        Some(EnvironmentHandle {
            sandbox: self.sandbox,
            worker: self.worker.clone(),
            work: self.work.upgrade()?,
            answered: self.answered.clone(),
        })
    }
}

/// An environment held for one invocation. Wherever it is dropped, it goes
/// back, even inside a reply that nobody came to read.
#[derive(Debug)]
pub struct Lease {
    pub id: LeaseId,
    pub epoch: Epoch,
    pub start: Start,
    environment: EnvironmentHandle,
    /// At most one message per lease, so it needs no bound of its own.
    returns: mpsc::UnboundedSender<(LeaseId, SandboxId)>,
}

impl Lease {
    pub fn new(
        id: LeaseId,
        epoch: Epoch,
        start: Start,
        environment: EnvironmentHandle,
        returns: mpsc::UnboundedSender<(LeaseId, SandboxId)>,
    ) -> Lease {
        Lease { id, epoch, start, environment, returns }
    }

    pub fn sandbox(&self) -> SandboxId {
        self.environment.sandbox
    }

    pub fn worker(&self) -> &WorkerId {
        &self.environment.worker
    }

    /// Runs one invocation and returns when the caller can be answered. The
    /// environment keeps lease and hold until the invocation has ended; the
    /// caller going away does not stop it.
    pub async fn invoke(self, call: Call, hold: Hold) -> Result<Reply, InvokeError> {
        let answer = self.hand_over(call, hold, None)?;
        answer.await.unwrap_or(Err(InvokeError::Lost))
    }

    /// The same for a caller that takes a streamed response piece by piece.
    /// Returns when the function has begun its stream, or answered whole.
    pub async fn invoke_streamed(self, call: Call, hold: Hold) -> Result<Streamed, InvokeError> {
        let (sink, pieces) = mpsc::channel(PIECES_MAX);
        let answer = self.hand_over(call, hold, Some(sink))?;
        Streamed::begin(pieces, answer).await
    }

    fn hand_over(self, call: Call, hold: Hold, stream: Option<mpsc::Sender<Piece>>) -> Handed {
        let sender = self.environment.work.clone();
        let (reply, answer) = oneshot::channel();
        let work = Work { call, lease: self, hold, reply, stream };
        match sender.try_send(work) {
            Ok(()) => Ok(answer),
            Err(
                mpsc::error::TrySendError::Full(work) | mpsc::error::TrySendError::Closed(work),
            ) => Err(InvokeError::NotStarted { hold: work.hold, call: Box::new(work.call) }),
        }
    }
}

type Handed = Result<oneshot::Receiver<Result<Reply, InvokeError>>, InvokeError>;

impl Drop for Lease {
    fn drop(&mut self) {
        // The manager may have ended first; then nobody counts leases.
        let _ = self.returns.send((self.id, self.environment.sandbox));
    }
}

/// How the environment came to be there for this lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    Warm,
    /// Made for the call, or for one that was served otherwise meanwhile; no
    /// invocation ran in it before.
    Cold(Timings),
}

/// What making an environment took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Timings {
    /// From the wish for an environment to the host chosen.
    pub placed: Duration,
    /// Package, shell, claim: until init said hello.
    pub sandbox: Duration,
    /// Runtime and function Init, whatever its outcome.
    pub init: Duration,
}

/// One invocation on its way to the runtime.
#[derive(Clone, Debug)]
pub struct Call {
    pub request: RequestId,
    /// Exactly as invoked: bare, version or alias.
    pub arn: Arn,
    pub trace_id: Option<String>,
    /// Decoded JSON.
    pub client_context: Option<String>,
    pub cognito_identity: Option<String>,
    pub tenant_id: Option<String>,
    pub content_type: Option<String>,
    pub payload: Bytes,
    /// The caller wants the log's tail, so it is answered after END.
    pub tail: bool,
}

/// What the environment's task receives.
pub struct Work {
    pub call: Call,
    pub lease: Lease,
    pub hold: Hold,
    pub reply: oneshot::Sender<Result<Reply, InvokeError>>,
    /// The caller takes a streamed response this way, ahead of the reply.
    pub stream: Option<mpsc::Sender<Piece>>,
}

impl fmt::Debug for Work {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Work").field("request", &self.call.request).finish_non_exhaustive()
    }
}

/// How an invocation ended. After a stream it says only that, and a response's
/// body is empty.
#[derive(Clone, Debug)]
pub struct Reply {
    pub outcome: Outcome,
    /// The last 4 KiB of this invocation's log, when asked for.
    pub log_tail: Option<Vec<u8>>,
    /// From handing the event to the runtime to its response.
    pub handler: Duration,
}

pub enum InvokeError {
    /// The environment ended before it took the work: nothing ran, another
    /// lease may be tried.
    NotStarted { hold: Hold, call: Box<Call> },
    /// The environment's task ended while the function may have run.
    Lost,
}

impl fmt::Debug for InvokeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            InvokeError::NotStarted { .. } => "NotStarted",
            InvokeError::Lost => "Lost",
        })
    }
}

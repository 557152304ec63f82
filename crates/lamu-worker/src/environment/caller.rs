//! The one who waits for an invocation's answer.
//!
//! Not here: when it can be given (`invocation`), how a stream gets there
//! (`outflow`).

use std::task::Context;
use std::time::Instant;

use lamu_link::{Call, Hold, InvokeError, Reply};
use tokio::sync::oneshot;

use super::invocation::Invocation;
use super::outflow::{Outflow, WindowLeft};

/// The one who waits for the answer, until it has been given.
pub struct Caller {
    reply: Option<oneshot::Sender<Result<Reply, InvokeError>>>,
    tail: bool,
    /// Of a caller that takes streams, until its stream has ended.
    stream: Option<Outflow>,
}

impl Caller {
    pub fn new(
        reply: oneshot::Sender<Result<Reply, InvokeError>>,
        tail: bool,
        stream: Option<Outflow>,
    ) -> Caller {
        Caller { reply: Some(reply), tail, stream }
    }

    pub fn begin_stream(&mut self, invocation: &mut Invocation, now: Instant) {
        if let Some(stream) = &mut self.stream {
            stream.begin(invocation.content_type.take(), now);
        }
    }

    pub fn push(&mut self, bytes: Vec<u8>) -> Result<(), WindowLeft> {
        self.stream.as_mut().map_or(Ok(()), |stream| stream.push(bytes))
    }

    /// Passes a stream on as far as it goes; the credit to give init for it.
    pub fn poll_stream(&mut self, cx: &mut Context<'_>, now: impl FnOnce() -> Instant) -> u32 {
        self.stream.as_mut().map_or(0, |stream| stream.poll(cx, now()))
    }

    /// All of the stream is there.
    pub fn end_stream(&mut self) {
        if let Some(stream) = self.stream.take() {
            stream.end();
        }
    }

    pub fn answer(&mut self, invocation: &Invocation, log_tail: Option<Vec<u8>>) {
        debug_assert_eq!(self.tail, log_tail.is_some());
        self.end_stream();
        let (Some(reply), Some(outcome)) = (self.reply.take(), &invocation.outcome) else { return };
        let outcome = outcome.clone();
        // A caller that went away misses nothing but its own answer.
        let _ = reply.send(Ok(Reply { outcome, log_tail, handler: invocation.handler }));
    }
}

/// Nothing ran: another lease may be tried with the same call.
pub fn refuse(call: Call, hold: Hold, reply: oneshot::Sender<Result<Reply, InvokeError>>) {
    let _ = reply.send(Err(InvokeError::NotStarted { hold, call: Box::new(call) }));
}

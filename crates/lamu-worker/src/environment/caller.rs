//! The one who waits for an invocation's answer.
//!
//! Not here: when it can be given (`invocation`).

use lamu_link::{Call, Hold, InvokeError, Reply};
use tokio::sync::oneshot;

use super::invocation::Invocation;

/// The one who waits for the answer, until it has been given.
pub struct Caller {
    pub reply: Option<oneshot::Sender<Result<Reply, InvokeError>>>,
    pub tail: bool,
}

impl Caller {
    pub fn answer(&mut self, invocation: &Invocation, log_tail: Option<Vec<u8>>) {
        debug_assert_eq!(self.tail, log_tail.is_some());
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

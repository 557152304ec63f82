//! InvokeWithResponseStream: the function's answer as events, each sent when
//! it is there.
//!
//! ```text
//!  PayloadChunk* ──▶ InvokeComplete      also of a function that does not stream
//! ```
//!
//! Whatever becomes of the function, the status is 200 and InvokeComplete the
//! last event; only a platform that lost the function says so by an exception.
//! A reader that is slow is read no further for, and one that goes away drops
//! its end of the stream: the function runs on.
//!
//! Not here: the bytes of an event (`eventstream`), everything before the
//! function runs (`invoke`).

use std::fmt::Write as _;
use std::task::{Context, Poll, ready};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderValue};
use http::{Response, StatusCode};
use lamu_api::ApiError;
use lamu_api::shapes::InvokeWithResponseStreamCompleteEvent as Complete;
use lamu_link::{InvokeError, Reply, ReplyStream, Streamed};
use lamu_model::{Outcome, RequestId};

use crate::answer::Answer;
use crate::error;
use crate::eventstream::{event, exception};
use crate::invoke::{
    Admitted, Invocation, Invoker, Prepared, SERVER_TIMING, answer, ms, put, timing_start,
};

const EVENT_STREAM: HeaderValue = HeaderValue::from_static("application/vnd.amazon.eventstream");

/// A whole body is cut into chunks that clients and this process need not
/// hold twice.
const CHUNK_BYTES_MAX: usize = 256 * 1024;

impl Invoker {
    pub async fn invoke_with_response_stream(
        &self,
        invocation: Invocation<'_>,
    ) -> Result<Response<Answer>, ApiError> {
        let request = invocation.request.clone();
        let admitted = match self.prepare(invocation)? {
            Prepared::Dry(answer) => return Ok(answer.map(|body| Answer::Whole(Some(body)))),
            Prepared::Run(admitted) => admitted,
        };
        let Admitted { spec, call, permit, version, trace, began } = admitted;
        let (streamed, start) = self.run_streamed(&spec, call, permit).await?;
        // Until the first byte: how long the rest takes is its reader's matter.
        let first = began.elapsed();
        self.count(start, first);
        let events = Events::new(streamed, request);
        let mut response = answer(StatusCode::OK, version, &trace, Answer::Events(events));
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, EVENT_STREAM);
        let mut timing = timing_start(start);
        // Writing into a string cannot fail.
        let _ = write!(timing, "first;dur={:.3}", ms(first));
        put(headers, SERVER_TIMING, timing);
        Ok(response)
    }
}

/// The events of one answer, made as they are asked for.
#[derive(Debug)]
pub struct Events {
    request: RequestId,
    state: State,
}

#[derive(Debug)]
enum State {
    Streaming(Box<ReplyStream>),
    /// What is left of a whole body, and how the invocation ended.
    Whole(Bytes, Box<Reply>),
    Ended,
}

impl Events {
    fn new(streamed: Streamed, request: RequestId) -> Events {
        let state = match streamed {
            Streamed::Stream(stream) => State::Streaming(Box::new(stream)),
            Streamed::Whole(mut reply) => {
                let body = match &mut reply.outcome {
                    Outcome::Response { body, .. } => std::mem::take(body),
                    Outcome::FunctionError { .. } | Outcome::Fault(_) => Bytes::new(),
                };
                State::Whole(body, Box::new(reply))
            }
        };
        Events { request, state }
    }

    pub fn ended(&self) -> bool {
        matches!(self.state, State::Ended)
    }

    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        let reply = match &mut self.state {
            State::Ended => return Poll::Ready(None),
            State::Streaming(stream) => match ready!(stream.poll_next(cx)) {
                Some(bytes) => return Poll::Ready(Some(chunk(&bytes))),
                None => ready!(stream.poll_end(cx)),
            },
            State::Whole(body, reply) if body.is_empty() => Ok((**reply).clone()),
            State::Whole(body, _) => {
                let next = body.split_to(body.len().min(CHUNK_BYTES_MAX));
                return Poll::Ready(Some(chunk(&next)));
            }
        };
        self.state = State::Ended;
        Poll::Ready(Some(last(reply, &self.request)))
    }
}

fn chunk(bytes: &[u8]) -> Bytes {
    event("PayloadChunk", "application/octet-stream", bytes)
}

fn last(reply: Result<Reply, InvokeError>, request: &RequestId) -> Bytes {
    let Ok(reply) = reply else {
        let lost = error::of_lost();
        return exception(lost.code.name(), &lost.body());
    };
    let (error_code, error_details) = error::of_stream(&reply.outcome, request).unzip();
    let log_result = reply.log_tail.map(|tail| STANDARD.encode(tail));
    let complete = Complete { error_code, error_details, log_result };
    // Three strings are always JSON.
    let json = serde_json::to_vec(&complete).unwrap_or_default();
    event("InvokeComplete", "application/json", &json)
}

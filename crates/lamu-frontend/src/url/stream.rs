//! The response of a URL with InvokeMode RESPONSE_STREAM.
//!
//! ```text
//!  prelude announced ─▶ status, headers, cookies as it says, then the body
//!  none ──────────────▶ 200, the content type of the runtime, every byte
//!  not streamed ──────▶ the same two, over the whole body
//! ```
//!
//! The head leaves when the prelude is there, without one when the first byte
//! is. What fails before is a 502; what fails later ends the connection, which
//! is all that HTTP leaves to say it. A reader that is slow is read no further
//! for, and one that goes away drops its end: the function runs on.
//!
//! Not here: the prelude (`prelude`), the rate (the environment's task).

use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderValue};
use http::{Response, StatusCode};
use lamu_link::{ReplyStream, Streamed};
use lamu_model::Outcome;

use super::prelude::{OCTETS, Opened, Prelude, is_announced};
use super::response::{JSON, Malformed, bad_gateway, has_body};
use crate::answer::Answer;
use crate::service::whole;

/// Why a stream is no response.
#[derive(Debug, thiserror::Error)]
enum Failed {
    #[error("the function failed before the first byte")]
    Function,
    #[error("its prelude: {0}")]
    Malformed(#[from] Malformed),
}

/// The response to the caller, before CORS, once its head is known.
pub async fn of_streamed(streamed: Streamed) -> Response<Answer> {
    let response = match streamed {
        Streamed::Whole(reply) => of_whole(reply.outcome),
        Streamed::Stream(stream) => of_stream(stream).await,
    };
    response.unwrap_or_else(|failed| {
        tracing::debug!(%failed, "a function URL's stream is no response");
        whole(bad_gateway())
    })
}

fn of_whole(outcome: Outcome) -> Result<Response<Answer>, Failed> {
    let Outcome::Response { content_type, body } = outcome else { return Err(Failed::Function) };
    let opened = match is_announced(content_type.as_deref()) {
        true => Prelude::default().push(body)?.ok_or(Malformed::PreludeEnd)?,
        // What runtimes return whole is JSON.
        false => plain(content_type.as_deref(), JSON, body),
    };
    Ok(response(opened, |rest| Answer::Whole(Some(rest))))
}

async fn of_stream(mut stream: ReplyStream) -> Result<Response<Answer>, Failed> {
    let content_type = stream.content_type.take();
    let mut prelude = is_announced(content_type.as_deref()).then(Prelude::default);
    while let Some(piece) = stream.next().await {
        let opened = match &mut prelude {
            Some(prelude) => prelude.push(piece)?,
            None => Some(plain(content_type.as_deref(), OCTETS, piece)),
        };
        if let Some(opened) = opened {
            return Ok(response(opened, |rest| Answer::Flow(Flow::new(rest, stream))));
        }
    }
    let ended = stream.end().await;
    if !ended.is_ok_and(|reply| matches!(reply.outcome, Outcome::Response { .. })) {
        return Err(Failed::Function);
    }
    match prelude {
        Some(_) => Err(Malformed::PreludeEnd.into()),
        None => Ok(response(plain(content_type.as_deref(), OCTETS, Bytes::new()), |_| {
            Answer::Whole(None)
        })),
    }
}

fn plain(content_type: Option<&str>, default: HeaderValue, rest: Bytes) -> Opened {
    let kind = content_type.and_then(|kind| HeaderValue::try_from(kind).ok()).unwrap_or(default);
    let headers = [(CONTENT_TYPE, kind)].into_iter().collect();
    Opened { status: StatusCode::OK, headers, rest }
}

fn response(opened: Opened, body: impl FnOnce(Bytes) -> Answer) -> Response<Answer> {
    let body = match has_body(opened.status) {
        true => body(opened.rest),
        false => Answer::Whole(None),
    };
    let mut response = Response::new(body);
    *response.status_mut() = opened.status;
    *response.headers_mut() = opened.headers;
    response
}

/// A body that comes as the function writes it.
#[derive(Debug)]
pub struct Flow {
    /// What came with the head.
    first: Bytes,
    state: State,
}

#[derive(Debug)]
enum State {
    Streaming(Box<ReplyStream>),
    /// The function failed; said only when what it wrote has been taken.
    Broken,
    Ended,
}

/// A body whose function failed half way.
#[derive(Debug)]
pub struct Broken;

impl Flow {
    fn new(first: Bytes, stream: ReplyStream) -> Flow {
        Flow { first, state: State::Streaming(Box::new(stream)) }
    }

    pub fn ended(&self) -> bool {
        self.first.is_empty() && matches!(self.state, State::Ended)
    }

    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Broken>>> {
        if !self.first.is_empty() {
            return Poll::Ready(Some(Ok(std::mem::take(&mut self.first))));
        }
        let reply = match &mut self.state {
            State::Ended => return Poll::Ready(None),
            State::Broken => {
                self.state = State::Ended;
                return Poll::Ready(Some(Err(Broken)));
            }
            State::Streaming(stream) => match ready!(stream.poll_next(cx)) {
                Some(bytes) => return Poll::Ready(Some(Ok(bytes))),
                None => ready!(stream.poll_end(cx)),
            },
        };
        if reply.is_ok_and(|reply| matches!(reply.outcome, Outcome::Response { .. })) {
            self.state = State::Ended;
            return Poll::Ready(None);
        }
        // The connection is closed as soon as it hears of this, with whatever
        // it has not written. Between two polls it writes.
        self.state = State::Broken;
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

//! A response that the runtime sends piece by piece.
//!
//! ```text
//!  begin -> pieces, as far as the window reaches -> end -> reported
//!              ^ credit |
//!              +--------+ beyond it the runtime's connection is not read
//! ```
//!
//! A caller that takes the stream gets each piece at once. What it has not
//! taken yet is bounded by the window that the host grants, so a slow caller
//! fills the runtime's socket and slows the runtime; the channel stays free
//! for everything else. For a caller that does not, the pieces of a bootstrap
//! of our own are collected here (over HTTP the body collects itself).
//!
//! Not here: reading the runtime's connections (`serve`), which call is
//! allowed (`state`).

use lamu_guest::{
    FromInit, STREAM_CHUNK_BYTES_MAX, STREAM_WINDOW_BYTES, StreamEnd, recorded_error_type,
};

use crate::environment::{Caller, Environment};
use crate::http::{self, Trailers};

/// The stream under way.
#[derive(Debug)]
pub(crate) struct Stream {
    id: String,
    /// Who sends it.
    caller: Caller,
    to: To,
    /// More came than may be; the rest is skipped.
    overflowed: bool,
}

#[derive(Debug)]
enum To {
    Host {
        /// What the host has room for.
        window: usize,
        /// What the stream may still grow by.
        left: u64,
    },
    /// To be sent as one response.
    Whole { content_type: Option<String>, bytes: Vec<u8> },
}

impl Stream {
    /// How much of the stream can be taken now.
    pub fn room(&self) -> usize {
        match self.to {
            To::Host { window, .. } if !self.overflowed => window,
            _ => usize::MAX,
        }
    }
}

/// How the runtime ended its stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    Complete,
    Failed { error_type: String, body: Vec<u8> },
}

impl Ending {
    /// The connection broke in the middle.
    pub fn truncated() -> Ending {
        let body =
            br#"{"errorMessage":"Response truncated","errorType":"Runtime.TruncatedResponse"}"#;
        Ending::Failed { error_type: "Runtime.TruncatedResponse".to_owned(), body: body.to_vec() }
    }

    /// Over HTTP an error half way comes as trailers.
    pub fn of_trailers(trailers: &Trailers) -> Ending {
        let Some(error_type) = trailers.error_type.clone() else { return Ending::Complete };
        let body = trailers.error_body.as_deref().unwrap_or("");
        Ending::Failed { error_type, body: http::base64_decode(body).unwrap_or_default() }
    }
}

/// The stream was longer than allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TooLong;

impl Environment {
    /// Whether the caller of the invocation takes a stream as it comes.
    pub(crate) fn streams_on(&self) -> bool {
        self.invoke.as_ref().is_some_and(|invoke| invoke.stream_bytes_max.is_some())
    }

    /// The report has begun as a stream.
    pub(crate) fn begin_stream(
        &mut self,
        caller: Caller,
        id: String,
        content_type: Option<String>,
    ) {
        let to = match self.invoke.as_ref().and_then(|invoke| invoke.stream_bytes_max) {
            Some(left) => {
                let (request_id, content_type) = (id.clone(), content_type);
                self.channel.push(&FromInit::StreamBegin { request_id, content_type });
                To::Host { window: STREAM_WINDOW_BYTES, left }
            }
            None => To::Whole { content_type, bytes: Vec::new() },
        };
        self.stream = Some(Stream { id, caller, to, overflowed: false });
    }

    /// How much of its stream `caller` may send now; `None` when it has none.
    pub(crate) fn stream_room(&self, caller: Caller) -> Option<usize> {
        self.stream.as_ref().filter(|stream| stream.caller == caller).map(Stream::room)
    }

    /// Takes a piece that is not larger than the room.
    pub(crate) fn stream_piece(&mut self, bytes: &[u8]) {
        let whole_bytes_max = self.response_bytes_max();
        let Some(stream) = &mut self.stream else { return };
        if stream.overflowed {
            return;
        }
        match &mut stream.to {
            To::Host { window, left } => {
                *window = window.saturating_sub(bytes.len());
                if bytes.len() as u64 > *left {
                    stream.overflowed = true;
                }
                let kept = bytes.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
                *left -= kept as u64;
                for chunk in bytes[..kept].chunks(STREAM_CHUNK_BYTES_MAX) {
                    self.channel.push(&FromInit::StreamChunk { bytes: chunk.to_vec() });
                }
            }
            To::Whole { bytes: all, .. } => {
                if all.len() + bytes.len() > whole_bytes_max {
                    stream.overflowed = true;
                    *all = Vec::new();
                } else {
                    all.extend_from_slice(bytes);
                }
            }
        }
    }

    /// The runtime is done with its stream, one way or the other: this was
    /// its report.
    pub(crate) fn end_stream(&mut self, ending: Ending) -> Result<(), TooLong> {
        let Some(Stream { id, to, overflowed, .. }) = self.stream.take() else { return Ok(()) };
        match to {
            To::Whole { .. } if overflowed => self.finish_too_large(id),
            To::Whole { content_type, bytes } => match ending {
                Ending::Complete => self.finish_response(id, content_type, bytes),
                Ending::Failed { error_type, body } => self.finish_error(&id, &error_type, body),
            },
            To::Host { .. } => {
                self.end_report();
                let end = match ending {
                    _ if overflowed => StreamEnd::TooLarge,
                    Ending::Complete => StreamEnd::Complete,
                    Ending::Failed { error_type, body } => {
                        let error_type = recorded_error_type(&error_type);
                        StreamEnd::Failed { error_type, body }
                    }
                };
                self.channel.push(&FromInit::StreamEnd(end));
            }
        }
        if overflowed { Err(TooLong) } else { Ok(()) }
    }

    /// The host has room again. Credit for a stream that is over is none.
    pub(crate) fn grant(&mut self, bytes: u32) {
        let Some(Stream { caller, to: To::Host { window, .. }, .. }) = &mut self.stream else {
            return;
        };
        *window = window.saturating_add(bytes as usize).min(STREAM_WINDOW_BYTES);
        match *caller {
            Caller::Direct => {
                if let Some(direct) = &mut self.direct {
                    direct.resumed = std::mem::take(&mut direct.stalled);
                }
            }
            Caller::Connection(at) => {
                if let Some(Some(connection)) = self.connections.get_mut(at)
                    && std::mem::take(&mut connection.stalled)
                {
                    self.resumed.push(at);
                }
            }
        }
    }
}

//! Bodies of answers: whole, a package read piece by piece, the events of a
//! streamed response, what a function streams through its URL, or a live tail.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use lamu_model::Digest;
use lamu_store::{Packages, PackagesError};
use tokio::sync::mpsc;

use crate::stream::Events;
use crate::url::stream::{Broken, Flow};

/// Read of a package at a time.
const PIECE_BYTES: u64 = 256 * 1024;

/// Pieces read ahead of a slow client.
const AHEAD_MAX: usize = 2;

#[derive(Debug)]
pub enum Answer {
    Whole(Option<Bytes>),
    Package {
        pieces: mpsc::Receiver<Result<Bytes, PackagesError>>,
        left: u64,
    },
    Events(Events),
    Flow(Flow),
    /// Updates until its session ends.
    Tail(mpsc::Receiver<Bytes>),
}

impl Answer {
    /// The whole package; reading ends when the answer is dropped.
    pub fn package(packages: Arc<dyn Packages>, digest: Digest, bytes: u64) -> Answer {
        let (sender, pieces) = mpsc::channel(AHEAD_MAX);
        tokio::spawn(async move {
            let mut from = 0;
            while from < bytes {
                let until = (from + PIECE_BYTES).min(bytes);
                let piece = packages.get_range(&digest, from..until).await;
                let ended = !matches!(&piece, Ok(piece) if !piece.is_empty());
                from += piece.as_ref().map_or(0, |piece| piece.len() as u64);
                if sender.send(piece).await.is_err() || ended {
                    return;
                }
            }
        });
        Answer::Package { pieces, left: bytes }
    }
}

/// An answer that cannot be finished; hyper then closes the connection, which
/// is how the client learns it.
#[derive(Debug, thiserror::Error)]
pub enum Unfinished {
    #[error("a package could not be read")]
    Package(#[source] Option<PackagesError>),
    #[error("a function failed half way")]
    Function,
}

impl From<Infallible> for Unfinished {
    fn from(never: Infallible) -> Unfinished {
        match never {}
    }
}

impl Body for Answer {
    type Data = Bytes;
    type Error = Unfinished;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Unfinished>>> {
        match &mut *self {
            Answer::Whole(bytes) => {
                Poll::Ready(bytes.take().filter(|b| !b.is_empty()).map(|b| Ok(Frame::data(b))))
            }
            Answer::Package { left: 0, .. } => Poll::Ready(None),
            Answer::Package { pieces, left } => match ready!(pieces.poll_recv(context)) {
                Some(Ok(piece)) if !piece.is_empty() => {
                    *left = left.saturating_sub(piece.len() as u64);
                    Poll::Ready(Some(Ok(Frame::data(piece))))
                }
                Some(Err(error)) => {
                    tracing::error!(%error, "a package could not be sent");
                    Poll::Ready(Some(Err(Unfinished::Package(Some(error)))))
                }
                Some(Ok(_)) | None => Poll::Ready(Some(Err(Unfinished::Package(None)))),
            },
            Answer::Events(events) => {
                Poll::Ready(ready!(events.poll_next(context)).map(|event| Ok(Frame::data(event))))
            }
            Answer::Tail(updates) => {
                Poll::Ready(ready!(updates.poll_recv(context)).map(|bytes| Ok(Frame::data(bytes))))
            }
            Answer::Flow(flow) => Poll::Ready(
                ready!(flow.poll_next(context))
                    .map(|piece| piece.map(Frame::data).map_err(|Broken| Unfinished::Function)),
            ),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Answer::Whole(bytes) => bytes.as_ref().is_none_or(Bytes::is_empty),
            Answer::Package { left, .. } => *left == 0,
            Answer::Events(events) => events.ended(),
            Answer::Flow(flow) => flow.ended(),
            Answer::Tail(_) => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Answer::Whole(bytes) => {
                SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64))
            }
            Answer::Package { left, .. } => SizeHint::with_exact(*left),
            Answer::Events(_) | Answer::Flow(_) | Answer::Tail(_) => SizeHint::default(),
        }
    }
}

//! A reply that comes piece by piece.
//!
//! ```text
//!  Begin, Chunk*  ───pieces───▶            then the reply: how it ended
//!  (function does not stream)              the reply alone, whole
//! ```
//!
//! The environment's task keeps at most one piece for a caller that is not
//! ready, and slows the function meanwhile. A caller that goes away drops its
//! end; the function runs on and what it still streams is thrown away.
//!
//! Not here: how bytes travel from the function (`lamu_guest`), their rate.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};

use crate::{InvokeError, Reply};

/// What the environment's task sends of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    /// Once, and first.
    Begin { content_type: Option<String> },
    /// Never empty.
    Chunk(Bytes),
}

/// The answer to a caller that takes streams.
#[derive(Debug)]
pub enum Streamed {
    /// The function did not stream, or ended before it began to.
    Whole(Reply),
    Stream(ReplyStream),
}

/// A stream that has begun. Read chunks until there are none, then the end.
#[derive(Debug)]
pub struct ReplyStream {
    pub content_type: Option<String>,
    pieces: mpsc::Receiver<Piece>,
    answer: oneshot::Receiver<Result<Reply, InvokeError>>,
}

impl Streamed {
    pub(crate) async fn begin(
        mut pieces: mpsc::Receiver<Piece>,
        answer: oneshot::Receiver<Result<Reply, InvokeError>>,
    ) -> Result<Streamed, InvokeError> {
        match pieces.recv().await {
            Some(Piece::Begin { content_type }) => {
                Ok(Streamed::Stream(ReplyStream { content_type, pieces, answer }))
            }
            None => answer.await.unwrap_or(Err(InvokeError::Lost)).map(Streamed::Whole),
            Some(Piece::Chunk(_)) => Err(InvokeError::Lost),
        }
    }
}

impl ReplyStream {
    /// The next chunk; `None` when the stream has ended.
    pub async fn next(&mut self) -> Option<Bytes> {
        std::future::poll_fn(|cx| self.poll_next(cx)).await
    }

    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        Poll::Ready(match ready!(self.pieces.poll_recv(cx)) {
            Some(Piece::Chunk(bytes)) => Some(bytes),
            Some(Piece::Begin { .. }) | None => None,
        })
    }

    /// How the invocation ended. To be asked for once, after the last chunk.
    pub async fn end(mut self) -> Result<Reply, InvokeError> {
        std::future::poll_fn(|cx| self.poll_end(cx)).await
    }

    pub fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<Result<Reply, InvokeError>> {
        let answer = ready!(Pin::new(&mut self.answer).poll(cx));
        Poll::Ready(answer.unwrap_or(Err(InvokeError::Lost)))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use lamu_model::Outcome;

    use super::*;

    fn reply() -> Reply {
        let outcome = Outcome::Response { content_type: None, body: Bytes::new() };
        Reply { outcome, log_tail: None, handler: Duration::ZERO }
    }

    #[tokio::test]
    async fn chunks_come_before_the_end_whatever_was_sent_first() {
        let (sink, pieces) = mpsc::channel(3);
        let (sender, answer) = oneshot::channel();
        sender.send(Ok(reply())).unwrap();
        sink.send(Piece::Begin { content_type: Some("text/x".into()) }).await.unwrap();
        sink.send(Piece::Chunk(Bytes::from_static(b"a"))).await.unwrap();
        drop(sink);
        let Ok(Streamed::Stream(mut stream)) = Streamed::begin(pieces, answer).await else {
            panic!("no stream");
        };
        assert_eq!(stream.content_type.as_deref(), Some("text/x"));
        assert_eq!(stream.next().await.unwrap(), "a");
        assert_eq!(stream.next().await, None);
        assert!(stream.end().await.is_ok());
    }

    #[tokio::test]
    async fn what_did_not_stream_is_whole_and_what_was_lost_is_lost() {
        let (sink, pieces) = mpsc::channel(3);
        let (sender, answer) = oneshot::channel();
        drop(sink);
        sender.send(Ok(reply())).unwrap();
        assert!(matches!(Streamed::begin(pieces, answer).await, Ok(Streamed::Whole(_))));

        let (sink, pieces) = mpsc::channel::<Piece>(3);
        let (sender, answer) = oneshot::channel();
        drop((sink, sender));
        let lost = Streamed::begin(pieces, answer).await;
        assert!(matches!(lost, Err(InvokeError::Lost)));
    }
}

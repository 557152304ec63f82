//! The byte stream to init, cut into messages.
//!
//! One poll both writes what is waiting and reads, so a large payload on its
//! way in never waits for one on its way out. Not here: what messages mean.

use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use lamu_guest::{FrameBuffer, FromInit, InvokeRef, Malformed, ToInit};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::UnixStream;

/// A usual message fits; larger reads go to the heap.
const READ_BYTES: usize = 16 * 1024;
/// Near what a socket hands over at once.
const READ_BYTES_LARGE: usize = 256 * 1024;
/// One large payload does not keep its memory for ever.
const KEPT_BYTES_MAX: usize = 64 * 1024;

#[derive(Debug)]
pub struct Channel {
    stream: UnixStream,
    incoming: FrameBuffer,
    outgoing: Vec<u8>,
    written: usize,
    /// Writing failed; what init said before it ended is still read.
    deaf: bool,
}

#[derive(Debug, thiserror::Error)]
pub enum ChannelError {
    #[error("the stream to init ended")]
    Ended,
    #[error("the stream to init failed")]
    Failed(#[source] io::Error),
    #[error("init broke the protocol")]
    Malformed(#[source] Malformed),
}

impl Channel {
    pub fn new(stream: UnixStream) -> Channel {
        Channel {
            stream,
            incoming: FrameBuffer::new(),
            outgoing: Vec::new(),
            written: 0,
            deaf: false,
        }
    }

    /// Queues a message; the next poll writes it.
    pub fn send(&mut self, message: &ToInit) {
        message.encode(&mut self.outgoing);
    }

    pub fn send_invoke(&mut self, invoke: &InvokeRef<'_>) {
        invoke.encode(&mut self.outgoing);
    }

    /// The next message from init. Queued messages are written meanwhile.
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Result<FromInit, ChannelError>> {
        self.write_some(cx);
        loop {
            let frame = self.incoming.next().map_err(ChannelError::Malformed)?;
            if let Some((kind, fields)) = frame {
                return Poll::Ready(
                    FromInit::decode(kind, fields).map_err(ChannelError::Malformed),
                );
            }
            if ready!(self.poll_fill(cx)).map_err(ChannelError::Failed)? == 0 {
                return Poll::Ready(Err(ChannelError::Ended));
            }
        }
    }

    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let wanted = self.incoming.wants();
        if wanted <= READ_BYTES {
            let mut space = [MaybeUninit::uninit(); READ_BYTES];
            self.poll_fill_from(cx, &mut space)
        } else {
            let mut space = Box::new_uninit_slice(wanted.min(READ_BYTES_LARGE));
            self.poll_fill_from(cx, &mut space)
        }
    }

    fn poll_fill_from(
        &mut self,
        cx: &mut Context<'_>,
        space: &mut [MaybeUninit<u8>],
    ) -> Poll<io::Result<usize>> {
        let mut read = ReadBuf::uninit(space);
        ready!(Pin::new(&mut self.stream).poll_read(cx, &mut read))?;
        self.incoming.extend(read.filled());
        Poll::Ready(Ok(read.filled().len()))
    }

    fn write_some(&mut self, cx: &mut Context<'_>) {
        while self.written < self.outgoing.len() && !self.deaf {
            let rest = &self.outgoing[self.written..];
            match Pin::new(&mut self.stream).poll_write(cx, rest) {
                Poll::Ready(Ok(count)) if count > 0 => self.written += count,
                // The reading side will say how it ended.
                Poll::Ready(_) => self.deaf = true,
                Poll::Pending => return,
            }
        }
        if !self.outgoing.is_empty() {
            self.outgoing.clear();
            self.outgoing.shrink_to(KEPT_BYTES_MAX);
            self.written = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use lamu_guest::Invoke;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    fn invoke(bytes: usize) -> ToInit {
        ToInit::Invoke(Invoke {
            request_id: "r".into(),
            deadline_ms: 1,
            function_arn: "arn".into(),
            trace_id: None,
            client_context: None,
            cognito_identity: None,
            tenant_id: None,
            content_type: None,
            stream_bytes_max: None,
            body: vec![7; bytes],
        })
    }

    #[tokio::test]
    async fn large_payloads_pass_each_other() {
        let (host, init) = UnixStream::pair().unwrap();
        let mut channel = Channel::new(host);
        channel.send(&invoke(6 << 20));
        // This init writes all of its message before it reads anything.
        let other = tokio::spawn(async move {
            let mut wire = Vec::new();
            let body = vec![9; 6 << 20];
            FromInit::Response { request_id: "r".into(), content_type: None, body }
                .encode(&mut wire);
            let (mut read, mut write) = init.into_split();
            write.write_all(&wire).await.unwrap();
            let mut sunk = vec![0; 6 << 20];
            read.read_exact(&mut sunk).await.unwrap();
            (read, write)
        });
        let message = poll_fn(|cx| channel.poll_next(cx)).await.unwrap();
        assert!(matches!(message, FromInit::Response { body, .. } if body.len() == 6 << 20));
        let ended = async {
            let ends = other.await.unwrap();
            drop(ends);
        };
        let (_, end) = tokio::join!(ended, poll_fn(|cx| channel.poll_next(cx)));
        assert!(end.is_err());
    }

    #[tokio::test]
    async fn garbage_is_refused() {
        let (host, mut init) = UnixStream::pair().unwrap();
        let mut channel = Channel::new(host);
        init.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
        let error = poll_fn(|cx| channel.poll_next(cx)).await.unwrap_err();
        assert!(matches!(error, ChannelError::Malformed(_)), "{error}");
    }

    #[tokio::test]
    async fn what_init_said_before_it_ended_is_still_read() {
        let (host, mut init) = UnixStream::pair().unwrap();
        let mut channel = Channel::new(host);
        let mut wire = Vec::new();
        FromInit::ResetDone.encode(&mut wire);
        init.write_all(&wire).await.unwrap();
        drop(init);
        channel.send(&invoke(1 << 20));
        let first = poll_fn(|cx| channel.poll_next(cx)).await.unwrap();
        assert_eq!(first, FromInit::ResetDone);
        let second = poll_fn(|cx| channel.poll_next(cx)).await;
        assert!(second.is_err());
    }
}

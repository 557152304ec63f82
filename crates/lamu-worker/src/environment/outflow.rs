//! A streamed response on its way from the channel to who takes it.
//!
//! ```text
//!  chunk ──push──▶ waiting ──room, rate──▶ the caller
//!     ▲                │
//!     └──── credit ◀───┘ for what has passed on
//! ```
//!
//! Init may send what it has credit for, so `waiting` never holds more than
//! one window; small chunks that meet a slow caller become one. A caller that
//! is gone takes everything at once: the function runs on as if it were read.
//!
//! Not here: what the chunks belong to (`invocation`), the rate itself
//! (`bucket`).

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::Bytes;
use lamu_guest::STREAM_WINDOW_BYTES;
use lamu_link::Piece;
use tokio::sync::mpsc::error::{SendError, TrySendError};
use tokio::sync::mpsc::{OwnedPermit, Sender};
use tokio::time::{Sleep, sleep_until};

use super::bucket::{Bucket, StreamRate};

/// Credit is given in portions: a small stream costs no message for it, and
/// init always has most of its window.
const CREDIT_BYTES_MIN: usize = STREAM_WINDOW_BYTES / 4;

type Reserving = Pin<Box<dyn Future<Output = Result<OwnedPermit<Piece>, SendError<()>>> + Send>>;

pub struct Outflow {
    /// `None` once the caller is gone.
    sink: Option<Sender<Piece>>,
    /// Kept for what waits when the stream ends.
    last: Option<OwnedPermit<Piece>>,
    waiting: Vec<u8>,
    /// Waits for a caller that has not taken the piece before.
    reserving: Option<Reserving>,
    rate: Option<StreamRate>,
    bucket: Option<Bucket>,
    refill: Option<Pin<Box<Sleep>>>,
    /// Arrived and not granted again.
    outstanding: usize,
    /// Of these, what has passed on.
    passed: usize,
}

/// Init sent more than it had credit for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WindowLeft;

impl Outflow {
    /// To a caller that just asked; `rate` is `None` where nothing is held
    /// back.
    pub fn new(sink: Sender<Piece>, rate: Option<StreamRate>) -> Outflow {
        let last = sink.clone().try_reserve_owned().ok();
        Outflow {
            sink: Some(sink),
            last,
            waiting: Vec::new(),
            reserving: None,
            rate,
            bucket: None,
            refill: None,
            outstanding: 0,
            passed: 0,
        }
    }

    /// The stream begins, and so does its rate.
    pub fn begin(&mut self, content_type: Option<String>, now: Instant) {
        self.bucket = self.rate.map(|rate| Bucket::new(rate, now));
        if let Some(sink) = &self.sink
            && sink.try_send(Piece::Begin { content_type }).is_err()
        {
            // Nothing was sent before, so there was room: the caller is gone.
            self.sink = None;
        }
    }

    pub fn push(&mut self, bytes: Vec<u8>) -> Result<(), WindowLeft> {
        self.outstanding += bytes.len();
        if self.outstanding > STREAM_WINDOW_BYTES {
            return Err(WindowLeft);
        }
        if self.waiting.is_empty() {
            self.waiting = bytes;
        } else {
            self.waiting.extend_from_slice(&bytes);
        }
        Ok(())
    }

    /// Passes on what can be, and returns the credit to give for it, or 0.
    /// What cannot is tried again when `cx` is woken.
    pub fn poll(&mut self, cx: &mut Context<'_>, now: Instant) -> u32 {
        while !self.waiting.is_empty() {
            let Some(sink) = &self.sink else {
                self.passed += self.waiting.len();
                self.waiting = Vec::new();
                break;
            };
            let reserved = match self.reserving.take() {
                None => sink.clone().try_reserve_owned(),
                Some(mut reserving) => match reserving.as_mut().poll(cx) {
                    Poll::Pending => {
                        self.reserving = Some(reserving);
                        break;
                    }
                    Poll::Ready(Ok(permit)) => Ok(permit),
                    Poll::Ready(Err(SendError(()))) => Err(TrySendError::Closed(sink.clone())),
                },
            };
            match reserved {
                Ok(permit) => {
                    let allowed = self.allowance(now);
                    if allowed > 0 {
                        permit.send(Piece::Chunk(self.take(allowed)));
                    } else if self.poll_refill(cx).is_pending() {
                        break;
                    }
                }
                Err(TrySendError::Full(sink)) => {
                    self.reserving = Some(Box::pin(sink.reserve_owned()));
                }
                Err(TrySendError::Closed(_)) => self.sink = None,
            }
        }
        if self.passed < CREDIT_BYTES_MIN {
            return 0;
        }
        self.outstanding -= self.passed;
        std::mem::take(&mut self.passed) as u32
    }

    /// The last of it leaves at once, whatever its rate: it is less than a
    /// window, and an environment does not wait for a caller.
    pub fn end(mut self) {
        if let Some(last) = self.last.take()
            && !self.waiting.is_empty()
        {
            last.send(Piece::Chunk(Bytes::from(self.waiting)));
        }
    }

    fn allowance(&mut self, now: Instant) -> usize {
        match &mut self.bucket {
            None => self.waiting.len(),
            Some(bucket) => bucket.take(self.waiting.len(), now),
        }
    }

    fn take(&mut self, count: usize) -> Bytes {
        self.passed += count;
        let rest = self.waiting.split_off(count);
        Bytes::from(std::mem::replace(&mut self.waiting, rest))
    }

    fn poll_refill(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(bucket) = &self.bucket else { return Poll::Ready(()) };
        let at = bucket.next_refill().into();
        let refill = self.refill.get_or_insert_with(|| Box::pin(sleep_until(at)));
        if refill.deadline() != at {
            refill.as_mut().reset(at);
        }
        refill.as_mut().poll(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::task::Waker;
    use std::time::Duration;

    use tokio::sync::mpsc::{Receiver, channel};

    use super::*;

    fn outflow(rate: Option<StreamRate>) -> (Outflow, Receiver<Piece>) {
        let (sink, pieces) = channel(3);
        (Outflow::new(sink, rate), pieces)
    }

    fn poll(outflow: &mut Outflow) -> u32 {
        let now = tokio::time::Instant::now().into_std();
        outflow.poll(&mut Context::from_waker(Waker::noop()), now)
    }

    fn next(pieces: &mut Receiver<Piece>) -> usize {
        match pieces.try_recv() {
            Ok(Piece::Chunk(bytes)) => bytes.len(),
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_caller_gets_small_chunks_as_one() {
        let (mut out, mut pieces) = outflow(None);
        out.begin(None, Instant::now());
        for _ in 0..10 {
            out.push(vec![1; 10]).unwrap();
            assert_eq!(poll(&mut out), 0);
        }
        assert_eq!(pieces.try_recv(), Ok(Piece::Begin { content_type: None }));
        assert_eq!(next(&mut pieces), 10);
        poll(&mut out);
        assert_eq!(next(&mut pieces), 90);
        assert!(pieces.try_recv().is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn credit_follows_what_the_caller_takes() {
        let (mut out, mut pieces) = outflow(None);
        out.begin(None, Instant::now());
        let quarter = CREDIT_BYTES_MIN;
        // The first goes to the caller's place, three wait.
        let mut credit = 0;
        for _ in 0..4 {
            out.push(vec![1; quarter]).unwrap();
            credit += poll(&mut out);
        }
        assert_eq!(credit as usize, quarter);
        out.push(vec![1; quarter]).unwrap();
        assert_eq!(out.push(vec![1]), Err(WindowLeft));
        pieces.try_recv().unwrap();
        assert_eq!(next(&mut pieces), quarter);
        assert_eq!(poll(&mut out) as usize, 4 * quarter);
    }

    #[tokio::test(start_paused = true)]
    async fn a_caller_that_is_gone_takes_everything() {
        let (mut out, pieces) = outflow(Some(StreamRate::LAMBDA));
        out.begin(None, Instant::now());
        drop(pieces);
        let mut passed = 0;
        for _ in 0..1_000 {
            out.push(vec![1; CREDIT_BYTES_MIN]).unwrap();
            passed += poll(&mut out) as usize;
        }
        assert_eq!(passed, 1_000 * CREDIT_BYTES_MIN, "without its rate");
        out.end();
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_goes_while_it_is_waited_for_is_noticed() {
        let (mut out, pieces) = outflow(None);
        out.begin(None, Instant::now());
        for credit in [CREDIT_BYTES_MIN, 0] {
            out.push(vec![1; CREDIT_BYTES_MIN]).unwrap();
            assert_eq!(poll(&mut out) as usize, credit);
        }
        let freed = async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            drop(pieces);
        };
        let passed = poll_fn(|cx| match out.poll(cx, Instant::now()) {
            0 => Poll::Pending,
            credit => Poll::Ready(credit as usize),
        });
        assert_eq!(tokio::join!(passed, freed).0, CREDIT_BYTES_MIN);
    }

    #[tokio::test(start_paused = true)]
    async fn the_rate_holds_back_what_exceeds_the_burst() {
        let rate = StreamRate { burst_bytes: 1_000, bytes_per_sec: 800 };
        let (mut out, mut pieces) = outflow(Some(rate));
        let start = tokio::time::Instant::now();
        out.begin(None, start.into_std());
        pieces.try_recv().unwrap();
        out.push(vec![1; 1_250]).unwrap();
        let reading = async {
            let mut got = Vec::new();
            while got.iter().sum::<usize>() < 1_250 {
                match pieces.recv().await {
                    Some(Piece::Chunk(bytes)) => got.push(bytes.len()),
                    other => panic!("{other:?}"),
                }
            }
            (got, start.elapsed())
        };
        let passing = poll_fn(|cx| {
            let now = tokio::time::Instant::now().into_std();
            out.poll(cx, now);
            if out.waiting.is_empty() { Poll::Ready(()) } else { Poll::Pending }
        });
        let ((got, took), ()) = tokio::join!(reading, passing);
        assert_eq!(got, [1_000, 100, 100, 50]);
        assert!((375..380).contains(&took.as_millis()), "{took:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn the_end_leaves_the_rest_with_a_caller_that_sleeps() {
        let (mut out, mut pieces) = outflow(None);
        out.begin(None, Instant::now());
        out.push(vec![1; 5]).unwrap();
        poll(&mut out);
        out.push(vec![2; 7]).unwrap();
        poll(&mut out);
        out.end();
        pieces.try_recv().unwrap();
        assert_eq!((next(&mut pieces), next(&mut pieces)), (5, 7));
        assert!(pieces.recv().await.is_none(), "and it knows that this was all");
    }
}

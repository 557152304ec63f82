//! Reading request bodies, bounded in bytes, time and memory.
//!
//! ```text
//! length known and too large ──▶ read on a little, then too large
//! length known ───┐
//! length unknown ─┴─▶ share of the budget ─▶ pieces until the end or a bound
//! ```
//!
//! Not here: how much an operation takes (`lamu_api`), what is answered.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body::Body;
use http_body_util::BodyExt as _;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout, timeout_at};

/// Between two pieces of a body. A client that is merely slow sends some.
const PIECE_WAIT_MAX: Duration = Duration::from_secs(20);

/// The slowest line a large body may come over, beyond the wait for a piece.
const BYTES_PER_SEC_MIN: u64 = 64 * 1024;

/// Read of a body that is too large, so that a client that only reads after
/// having sent hears why it is refused: more than the largest that is taken,
/// 70 MB, so that one a little larger is read to its end.
const EXCESS_BYTES_MAX: u64 = 128 * 1024 * 1024;
const EXCESS_WAIT_MAX: Duration = Duration::from_secs(30);
/// A client that has stopped sending listens.
const EXCESS_PIECE_WAIT_MAX: Duration = Duration::from_secs(1);

/// Bodies up to this need no share: even thousands are little.
const SMALL_BYTES: u64 = 64 * 1024;

/// What is allocated on the word of a `Content-Length` alone.
const TRUSTED_BYTES_MAX: u64 = 1024 * 1024;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyError {
    TooLarge,
    Slow,
    /// The connection broke, or the framing is wrong.
    Broken,
}

/// Memory for bodies that are being read or served, shared by all requests.
#[derive(Clone, Debug)]
pub struct Budget {
    units: Arc<Semaphore>,
    units_max: u32,
}

/// A body, and its share of the budget.
#[derive(Debug)]
pub struct Received {
    pub bytes: Bytes,
    pub share: Option<OwnedSemaphorePermit>,
}

impl Budget {
    pub fn new(bytes: u64) -> Budget {
        let units = u32::try_from(bytes / SMALL_BYTES).unwrap_or(u32::MAX).max(1);
        Budget { units: Arc::new(Semaphore::new(units as usize)), units_max: units }
    }

    /// Waits until `bytes` are free. More than there is takes all there is.
    async fn share(&self, bytes: u64) -> Option<OwnedSemaphorePermit> {
        let units = u32::try_from(bytes.div_ceil(SMALL_BYTES)).unwrap_or(u32::MAX);
        self.units.clone().acquire_many_owned(units.min(self.units_max)).await.ok()
    }
}

/// Reads all of `body`. `copies` is how many times its bytes will be in
/// memory while the request is served.
pub async fn read<B>(
    mut body: B,
    bytes_max: u64,
    budget: &Budget,
    copies: u64,
) -> Result<Received, BodyError>
where
    B: Body<Data = Bytes> + Unpin,
{
    let length = body.size_hint().exact();
    if length == Some(0) {
        return Ok(Received { bytes: Bytes::new(), share: None });
    }
    if length.is_some_and(|length| length > bytes_max) {
        discard(&mut body).await;
        return Err(BodyError::TooLarge);
    }
    let expected = length.unwrap_or(bytes_max);
    let slowest = Duration::from_secs(expected / BYTES_PER_SEC_MIN);
    let end = Instant::now() + PIECE_WAIT_MAX + slowest;
    let share = match expected <= SMALL_BYTES {
        true => None,
        false => {
            timeout_at(end, budget.share(expected * copies)).await.map_err(|_| BodyError::Slow)?
        }
    };
    let mut whole = BytesMut::new();
    let mut first = Bytes::new();
    loop {
        // A piece that is there already costs no timer.
        let piece = timeout(PIECE_WAIT_MAX, body.frame()).await.map_err(|_| BodyError::Slow)?;
        let Some(frame) = piece else { break };
        // Trailers say nothing here.
        let Ok(data) = frame.map_err(|_| BodyError::Broken)?.into_data() else { continue };
        if (first.len() + whole.len() + data.len()) as u64 > bytes_max {
            discard(&mut body).await;
            return Err(BodyError::TooLarge);
        }
        if first.is_empty() && whole.is_empty() {
            // Most bodies are one piece, and need no copy.
            first = data;
            continue;
        }
        if !first.is_empty() {
            whole.reserve(expected.min(TRUSTED_BYTES_MAX) as usize);
            whole.extend_from_slice(&std::mem::take(&mut first));
        }
        whole.extend_from_slice(&data);
        if Instant::now() > end {
            return Err(BodyError::Slow);
        }
    }
    let bytes = if whole.is_empty() { first } else { whole.freeze() };
    Ok(Received { bytes, share })
}

async fn discard<B: Body<Data = Bytes> + Unpin>(body: &mut B) {
    let reading = async {
        let mut bytes = 0;
        while let Ok(Some(Ok(frame))) = timeout(EXCESS_PIECE_WAIT_MAX, body.frame()).await {
            bytes += frame.data_ref().map_or(0, |data| data.len() as u64);
            if bytes > EXCESS_BYTES_MAX {
                break;
            }
        }
    };
    // Whatever is left closes the connection.
    let _ = timeout(EXCESS_WAIT_MAX, reading).await;
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::pin::Pin;
    use std::task::{Context, Poll};

    use http_body::{Frame, SizeHint};

    use super::*;

    /// A body in pieces; it hangs after the last unless it is ended.
    struct Pieces {
        pieces: VecDeque<Bytes>,
        length: Option<u64>,
        ends: bool,
    }

    impl Body for Pieces {
        type Data = Bytes;
        type Error = std::io::Error;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
            match self.pieces.pop_front() {
                Some(piece) => Poll::Ready(Some(Ok(Frame::data(piece)))),
                None if self.ends => Poll::Ready(None),
                None => Poll::Pending,
            }
        }

        fn size_hint(&self) -> SizeHint {
            self.length.map_or_else(SizeHint::default, SizeHint::with_exact)
        }
    }

    fn pieces(texts: &[&'static str], length: Option<u64>, ends: bool) -> Pieces {
        let pieces = texts.iter().map(|text| Bytes::from_static(text.as_bytes())).collect();
        Pieces { pieces, length, ends }
    }

    #[tokio::test]
    async fn pieces_become_one_body() {
        let budget = Budget::new(1 << 20);
        for (texts, length) in
            [(&["ab", "c", "d"][..], None), (&["abcd"], Some(4)), (&["ab", "", "cd"], Some(4))]
        {
            let read = read(pieces(texts, length, true), 100, &budget, 1).await.unwrap();
            assert_eq!(read.bytes, "abcd");
        }
    }

    #[tokio::test]
    async fn a_body_may_have_its_limit_and_no_byte_more() {
        let budget = Budget::new(1 << 20);
        let ask = |length| read(pieces(&["ab", "cd"], length, true), 4, &budget, 1);
        assert!(ask(None).await.is_ok());
        assert!(ask(Some(4)).await.is_ok());
        let ask = |length| read(pieces(&["ab", "cde"], length, true), 4, &budget, 1);
        assert_eq!(ask(None).await.unwrap_err(), BodyError::TooLarge);
        assert_eq!(ask(Some(5)).await.unwrap_err(), BodyError::TooLarge);
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_stops_coming_is_given_up() {
        let budget = Budget::new(1 << 20);
        let error = read(pieces(&["ab"], Some(4), false), 100, &budget, 1).await.unwrap_err();
        assert_eq!(error, BodyError::Slow);
    }

    #[tokio::test(start_paused = true)]
    async fn large_bodies_wait_for_memory_and_give_up_in_time() {
        let budget = Budget::new(10 * SMALL_BYTES);
        let held = budget.share(8 * SMALL_BYTES).await.unwrap();
        let large = || pieces(&["x"], Some(4 * SMALL_BYTES), true);
        let error = read(large(), u64::MAX, &budget, 1).await.unwrap_err();
        assert_eq!(error, BodyError::Slow);
        drop(held);
        assert!(read(large(), u64::MAX, &budget, 1).await.unwrap().share.is_some());
    }
}

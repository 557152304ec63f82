//! How fast a response may be streamed: a token bucket (invoke reference,
//! "InvokeWithResponseStream"). The burst passes at once, what follows at the
//! rate, let in by portions.
//!
//! Pure: the time arrives as a value. Not here: waiting.

use std::time::{Duration, Instant};

/// Portions a second. Between two of them a drained bucket gives nothing.
const REFILLS_PER_SEC: u64 = 8;
pub const REFILL_EVERY: Duration = Duration::from_millis(1_000 / REFILLS_PER_SEC);

/// What a streamed response may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamRate {
    /// Unthrottled at the beginning of each response.
    pub burst_bytes: u64,
    pub bytes_per_sec: u64,
}

impl StreamRate {
    /// Lambda's: 6 MiB, then 2 MiB each second.
    pub const LAMBDA: StreamRate = StreamRate { burst_bytes: 6 << 20, bytes_per_sec: 2 << 20 };
}

/// The allowance of one response.
#[derive(Debug)]
pub struct Bucket {
    rate: StreamRate,
    bytes: u64,
    /// When the last portion came in.
    filled: Instant,
}

impl Bucket {
    pub fn new(rate: StreamRate, now: Instant) -> Bucket {
        Bucket { rate, bytes: rate.burst_bytes, filled: now }
    }

    /// Takes up to `wanted` bytes and says how many; 0 when it has none until
    /// [`Bucket::next_refill`].
    pub fn take(&mut self, wanted: usize, now: Instant) -> usize {
        let portions = now.saturating_duration_since(self.filled).as_nanos();
        let portions = (portions / REFILL_EVERY.as_nanos()).min(u128::from(u32::MAX)) as u32;
        if portions > 0 {
            // Not `now`: a portion is never put off by who asks late.
            self.filled += REFILL_EVERY * portions;
            let portion = (self.rate.bytes_per_sec / REFILLS_PER_SEC).max(1);
            let more = portion.saturating_mul(u64::from(portions));
            self.bytes = self.bytes.saturating_add(more).min(self.rate.burst_bytes.max(portion));
        }
        let taken = (wanted as u64).min(self.bytes);
        self.bytes -= taken;
        taken as usize
    }

    pub fn next_refill(&self) -> Instant {
        self.filled + REFILL_EVERY
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: usize = 1 << 20;
    const KIB: usize = 1 << 10;

    #[test]
    fn the_burst_passes_and_then_the_rate_holds() {
        let start = Instant::now();
        let mut bucket = Bucket::new(StreamRate::LAMBDA, start);
        // Milliseconds, wanted, taken.
        let table = [
            (0, 4 * MIB, 4 * MIB),
            (0, 4 * MIB, 2 * MIB),
            (0, 1, 0),
            (124, 1, 0),
            (125, MIB, 256 * KIB),
            (249, MIB, 0),
            (250, 100, 100),
            (251, MIB, 256 * KIB - 100),
            // Two portions, and what is left over of a third.
            (510, MIB, 512 * KIB),
            (625, MIB, 256 * KIB),
            // A second is worth 2 MiB, however it is asked for.
            (1_625, 10 * MIB, 2 * MIB),
        ];
        for (ms, wanted, taken) in table {
            let got = bucket.take(wanted, start + Duration::from_millis(ms));
            assert_eq!(got, taken, "at {ms} ms, wanted {wanted}");
        }
    }

    #[test]
    fn it_never_holds_more_than_the_burst() {
        let start = Instant::now();
        let mut bucket = Bucket::new(StreamRate::LAMBDA, start);
        let later = start + Duration::from_secs(900);
        assert_eq!(bucket.take(100 * MIB, later), 6 * MIB);
        assert_eq!(bucket.take(1, later), 0);
    }

    #[test]
    fn the_next_refill_is_when_something_is_there_again() {
        let start = Instant::now();
        let mut bucket = Bucket::new(StreamRate::LAMBDA, start);
        bucket.take(6 * MIB, start);
        for step in 1..50 {
            let at = bucket.next_refill();
            assert_eq!(at, start + REFILL_EVERY * step);
            assert_eq!(bucket.take(MIB, at - Duration::from_nanos(1)), 0);
            assert_eq!(bucket.take(MIB, at), 256 * KIB);
        }
    }

    #[test]
    fn a_tiny_rate_still_moves() {
        let start = Instant::now();
        let rate = StreamRate { burst_bytes: 0, bytes_per_sec: 1 };
        let mut bucket = Bucket::new(rate, start);
        assert_eq!(bucket.take(10, start), 0);
        assert_eq!(bucket.take(10, bucket.next_refill()), 1);
    }
}

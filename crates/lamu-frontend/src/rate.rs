//! A rate that many callers count against without waiting for each other.
//!
//! Not here: whose rate it is (`admission`, `callers`).

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// What a rate may run ahead: a second's requests may come at once.
const BURST: Duration = Duration::from_secs(1);

/// A token bucket as one number: the time at which it would be full again
/// (the generic cell rate algorithm).
#[derive(Debug, Default)]
pub struct Rate(AtomicU64);

impl Rate {
    /// Takes a token, or says how long until there is one. `now` counts from
    /// any fixed moment.
    pub fn take(&self, now: Duration, per_sec: u32) -> Result<(), Duration> {
        let now = nanos(now);
        let step = 1_000_000_000 / u64::from(per_sec.max(1));
        let mut wait = 0;
        let taken = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |full_at| {
            let next = full_at.max(now) + step;
            wait = (next - now).saturating_sub(nanos(BURST));
            (wait == 0).then_some(next)
        });
        taken.map(drop).map_err(|_| Duration::from_nanos(wait))
    }
}

fn nanos(duration: Duration) -> u64 {
    // 584 years.
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX / 2)
}

/// Rounded up, and never "at once".
pub fn whole_secs(wait: Duration) -> u32 {
    let secs = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
    u32::try_from(secs).unwrap_or(u32::MAX).max(1)
}

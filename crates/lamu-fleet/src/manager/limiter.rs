//! How fast something may happen for each of many: a number of times at once,
//! refilled continuously (the generic cell rate algorithm).
//!
//! Lambda gives a function 1,000 new environments every 10 seconds, and
//! 6,000 a minute for provisioned concurrency ("Concurrency and throttling" of
//! the invocation reference). Calls that find an environment are not counted.
//!
//! Not here: what becomes of who is refused (`making`, `provision`).

use std::collections::HashMap;
use std::hash::Hash;
use std::time::{Duration, Instant};

/// Keys remembered before those at rest are forgotten.
const KEPT_MIN: usize = 1_024;

/// `burst` at once, and as many again over each `per`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    pub burst: u32,
    pub per: Duration,
}

#[derive(Debug)]
pub(super) struct Limiter<K> {
    rate: Rate,
    /// When each would have its whole burst again. A key that has it now is
    /// as good as unknown.
    full_at: HashMap<K, Instant>,
    prune_at: usize,
}

impl<K: Eq + Hash> Limiter<K> {
    pub(super) fn new(rate: Rate) -> Limiter<K> {
        Limiter { rate, full_at: HashMap::new(), prune_at: KEPT_MIN }
    }

    /// Takes one, or says how long until there is one.
    pub(super) fn take(&mut self, now: Instant, key: K) -> Result<(), Duration> {
        if self.full_at.len() >= self.prune_at {
            self.full_at.retain(|_, full_at| *full_at > now);
            self.prune_at = (self.full_at.len() * 2).max(KEPT_MIN);
        }
        let step = self.rate.per / self.rate.burst.max(1);
        let full_at = self.full_at.entry(key).or_insert(now);
        let next = (*full_at).max(now) + step;
        match (next - now).checked_sub(self.rate.per) {
            Some(wait) if !wait.is_zero() => Err(wait),
            _ => {
                *full_at = next;
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn lambdas() -> Limiter<&'static str> {
        Limiter::new(Rate { burst: 1_000, per: Duration::from_secs(10) })
    }

    /// How many get through at once.
    fn at_once(limiter: &mut Limiter<&'static str>, now: Instant) -> usize {
        (0..5_000).take_while(|_| limiter.take(now, "f").is_ok()).count()
    }

    #[test]
    fn a_burst_is_had_at_once_and_refilled_continuously() {
        let (mut limiter, begun) = (lambdas(), Instant::now());
        // Offset in ms, and how many get through then.
        let table = [(0, 1_000), (0, 0), (9, 0), (10, 1), (35, 2), (1_035, 100), (60_000, 1_000)];
        for (offset, expected) in table {
            assert_eq!(at_once(&mut limiter, begun + offset * MS), expected, "after {offset} ms");
        }
    }

    #[test]
    fn who_is_refused_hears_when_to_come_again() {
        let (mut limiter, now) = (lambdas(), Instant::now());
        at_once(&mut limiter, now);
        assert_eq!(limiter.take(now, "f"), Err(10 * MS));
        assert_eq!(limiter.take(now + 4 * MS, "f"), Err(6 * MS), "being refused costs nothing");
        assert_eq!(limiter.take(now + 10 * MS, "f"), Ok(()));
    }

    #[test]
    fn each_has_its_own() {
        let (mut limiter, now) = (lambdas(), Instant::now());
        at_once(&mut limiter, now);
        assert!(limiter.take(now, "f").is_err());
        assert!(limiter.take(now, "g").is_ok());
    }

    #[test]
    fn keys_at_rest_are_forgotten_and_others_are_not() {
        let now = Instant::now();
        let mut limiter = Limiter::new(Rate { burst: 1, per: Duration::from_secs(1) });
        for key in 0..KEPT_MIN {
            limiter.take(now, key).unwrap();
        }
        limiter.take(now + Duration::from_secs(1), KEPT_MIN).unwrap();
        assert_eq!(limiter.full_at.len(), 1);
        assert!(limiter.take(now + Duration::from_secs(1), KEPT_MIN).is_err());
    }
}

//! Which shard an event goes to: two of all, by the hash of its lane, and of
//! these the emptier one.
//!
//! This comes near to a queue for each lane at the cost of a few: a lane with
//! a long backlog fills two shards and disturbs only the lanes that share one
//! of them, and those have a second shard to go to. The pair changes with
//! time, so that two lanes that collide do not collide for ever.
//!
//! Not here: the shards themselves.

use std::time::Duration;

use lamu_model::Digest;

use super::Shard;

/// How long a lane keeps its pair. Minutes: far longer than an event usually
/// waits, far shorter than a neighbour would suffer in silence.
pub const PAIR_KEPT: Duration = Duration::from_secs(300);

/// The two shards of `lane` at `now_ms`, different where there are two.
pub fn pair(lane: &str, now_ms: u64, shards: u16) -> [Shard; 2] {
    assert!(shards > 0, "a queue has a shard");
    let period = now_ms / PAIR_KEPT.as_millis() as u64;
    // One of the two changes with each period, so half of what a lane has
    // waiting always lies where its new events go too.
    let (first, second) = (period.div_ceil(2), period / 2 + (1 << 60));
    let (first, second) = (pick(lane, first, shards), pick(lane, second, shards));
    let second = if second == first { (second + 1) % shards } else { second };
    [Shard(first), Shard(second)]
}

/// The emptier of a pair; the first when they are alike.
pub fn emptier(pair: [Shard; 2], backlog: impl Fn(Shard) -> u64) -> Shard {
    let [first, second] = pair;
    if backlog(second) < backlog(first) { second } else { first }
}

fn pick(lane: &str, salt: u64, of: u16) -> u16 {
    let mut bytes = Vec::with_capacity(lane.len() + 8);
    bytes.extend_from_slice(&salt.to_be_bytes());
    bytes.extend_from_slice(lane.as_bytes());
    let digest = Digest::of(&bytes).0;
    let number = u64::from_be_bytes(std::array::from_fn(|at| digest[at]));
    (number % u64::from(of)) as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    const PERIOD_MS: u64 = PAIR_KEPT.as_millis() as u64;

    #[test]
    fn a_pair_is_two_shards_and_stays_for_its_time() {
        for lane in 0..200 {
            let lane = format!("000000000000/us-east-1/f{lane}");
            let [first, second] = pair(&lane, 0, 8);
            assert_ne!(first, second);
            assert!(first.0 < 8 && second.0 < 8);
            assert_eq!(pair(&lane, PERIOD_MS - 1, 8), [first, second]);
        }
        assert_eq!(pair("f", 7, 1), [Shard(0), Shard(0)]);
    }

    #[test]
    fn one_of_a_pair_is_drawn_anew_in_the_next_period_and_seldom_both() {
        let mut moved = [0; 3];
        for lane in 0..200 {
            let lane = format!("f{lane}");
            for period in 0..6 {
                let before = pair(&lane, period * PERIOD_MS, 8);
                let after = pair(&lane, (period + 1) * PERIOD_MS, 8);
                moved[after.iter().filter(|shard| !before.contains(shard)).count()] += 1;
            }
        }
        let [none, one, both] = moved;
        assert!(one > 4 * none, "{moved:?}");
        // Where the one that stays would be the new one's shard, it steps aside.
        assert!(both < 200, "{moved:?}");
    }

    #[test]
    fn lanes_spread_over_all_shards() {
        let mut counts = [0; 8];
        for lane in 0..4_000 {
            for shard in pair(&format!("f{lane}"), 0, 8) {
                counts[usize::from(shard.0)] += 1;
            }
        }
        assert!(counts.iter().all(|count| (800..1_200).contains(count)), "{counts:?}");
    }

    #[test]
    fn the_emptier_shard_is_taken() {
        let backlog = |shard: Shard| u64::from(shard.0) * 10;
        assert_eq!(emptier([Shard(3), Shard(1)], backlog), Shard(1));
        assert_eq!(emptier([Shard(1), Shard(3)], backlog), Shard(1));
        assert_eq!(emptier([Shard(2), Shard(2)], backlog), Shard(2));
    }
}

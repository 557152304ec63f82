//! A hash ring: the same key finds the same hosts, and a host that comes or
//! goes moves only its own share.
//!
//! Not here: whether a host has room (`core`).

use lamu_model::WorkerId;

use crate::prng::mix;

/// Points of each host on the ring. With this many, shares of hosts differ by
/// some 10%; the ring of a thousand hosts is a megabyte.
const POINTS_PER_HOST: u64 = 64;

/// Hosts are named by their place in the owner's list.
#[derive(Debug, Default)]
pub(super) struct Ring {
    points: Vec<(u64, usize)>,
}

impl Ring {
    pub(super) fn of<'a>(hosts: impl Iterator<Item = (usize, &'a WorkerId)>) -> Ring {
        let mut points: Vec<(u64, usize)> = hosts
            .flat_map(|(host, worker)| {
                let base = hash(&[worker.as_str()]);
                (0..POINTS_PER_HOST).map(move |n| (mix(base.wrapping_add(mix(n))), host))
            })
            .collect();
        points.sort_unstable();
        Ring { points }
    }

    /// Hosts in the key's order; one may come several times.
    pub(super) fn walk(&self, key: u64) -> impl Iterator<Item = usize> {
        let start = self.points.partition_point(|(point, _)| *point < key);
        let (before, after) = self.points.split_at(start);
        after.iter().chain(before).map(|(_, host)| *host)
    }
}

/// FNV-1a over the parts, then mixed. The same on every machine and in every
/// release, so that a restart finds the packages where they were.
pub(super) fn hash(parts: &[&str]) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for part in parts {
        // A byte that is in no name keeps "a"+"bc" from "ab"+"c".
        for byte in part.bytes().chain([0xff]) {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
    mix(hash)
}

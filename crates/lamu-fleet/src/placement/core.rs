//! The choice of a host: pure, a few hundred nanoseconds.
//!
//! A function (account and name) hashes to a few home hosts, so that its
//! packages and warm environments gather. While the fleet is hardly used, the
//! fullest home that fits is taken and the others stay free; once it is used,
//! the emptier of two random homes, which tolerates stale figures. A home
//! that is far above the fleet's mean passes on along the ring (consistent
//! hashing with bounded loads).
//!
//! What a host has in use is its own last figure plus what was promised since.
//! A figure may already include promises that were not given back yet: they
//! are counted twice while there is room elsewhere, and once before the fleet
//! is called full. The worker itself has the last word (`BootError::NoRoom`).
//!
//! Not here: the task (`super`).

use std::collections::HashMap;

use lamu_link::{Capacity, Load, PlaceError, WorkerHandle};
use lamu_model::{VersionSpec, WorkerId};

use super::ring::{Ring, hash};
use crate::prng::SplitMix;

/// Homes of a function.
const HOMES: usize = 3;

/// Below this use of the fleet, environments gather on few hosts.
const LOW_USE: f64 = 0.5;

/// A host takes up to this multiple of the fleet's mean before it passes on.
const ABOVE_MEAN_MAX: f64 = 1.25;

#[derive(Debug)]
pub(super) struct Core {
    hosts: Vec<Host>,
    ring: Ring,
    chance: SplitMix,
    /// Promises of hosts that left; they still come back. Bounded by the
    /// promises there are.
    left: HashMap<WorkerId, Promised>,
    /// Marks hosts seen in the walk under way.
    walk: u64,
}

#[derive(Debug)]
struct Host {
    worker: WorkerHandle,
    capacity: Capacity,
    load: Load,
    promised: Promised,
    /// The part of `promised` that is younger than `load`.
    since_load: Promised,
    seen_in: u64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Promised {
    environments: u32,
    memory_mib: u64,
}

/// How a host's promises are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Count {
    /// None is in the host's figure yet.
    Apart,
    /// All older than the figure are in it.
    Included,
}

impl Core {
    pub(super) fn new(seed: u64) -> Core {
        Core {
            hosts: Vec::new(),
            ring: Ring::default(),
            chance: SplitMix::new(seed),
            left: HashMap::new(),
            walk: 0,
        }
    }

    /// A worker offers itself. One of the same id is replaced.
    pub(super) fn join(&mut self, worker: WorkerHandle, capacity: Capacity) {
        self.leave(&worker.id);
        let promised = self.left.remove(&worker.id).unwrap_or_default();
        self.hosts.push(Host {
            worker,
            capacity,
            load: Load::default(),
            promised,
            since_load: promised,
            seen_in: 0,
        });
        self.lay_ring();
    }

    pub(super) fn leave(&mut self, worker: &WorkerId) {
        let Some(at) = self.find(worker) else { return };
        let host = self.hosts.swap_remove(at);
        if host.promised.environments > 0 {
            self.left.insert(worker.clone(), host.promised);
        }
        self.lay_ring();
    }

    pub(super) fn load(&mut self, worker: &WorkerId, load: Load) {
        let Some(at) = self.find(worker) else { return };
        self.hosts[at].load = load;
        self.hosts[at].since_load = Promised::default();
    }

    /// A reservation was dropped.
    pub(super) fn give_back(&mut self, worker: &WorkerId, memory_mib: u32) {
        if let Some(at) = self.find(worker) {
            let host = &mut self.hosts[at];
            host.promised.subtract(memory_mib);
            // Which one came back is not known; the younger part cannot be
            // more than the whole.
            host.since_load = host.since_load.min(host.promised);
        } else if let Some(promised) = self.left.get_mut(worker) {
            promised.subtract(memory_mib);
            if promised.environments == 0 {
                self.left.remove(worker);
            }
        }
    }

    /// Chooses a host and reserves a place on it. `avoid` is a wish: when
    /// nothing else has room, an avoided host is taken after all.
    pub(super) fn place(
        &mut self,
        spec: &VersionSpec,
        avoid: &[WorkerId],
    ) -> Result<WorkerHandle, PlaceError> {
        if self.hosts.is_empty() {
            return Err(PlaceError::NoWorker);
        }
        let key = hash(&[spec.account.as_str(), spec.name.as_str()]);
        let memory_mib = u64::from(spec.memory_mib);
        let none: &[WorkerId] = &[];
        let at = self
            .choose(key, memory_mib, avoid, Count::Apart)
            .or_else(|| self.choose(key, memory_mib, avoid, Count::Included))
            .or_else(|| match avoid {
                [] => None,
                _ => self.choose(key, memory_mib, none, Count::Included),
            })
            .ok_or(PlaceError::Full)?;
        let host = &mut self.hosts[at];
        host.promised.add(memory_mib);
        host.since_load.add(memory_mib);
        Ok(host.worker.clone())
    }

    fn choose(
        &mut self,
        key: u64,
        memory_mib: u64,
        avoid: &[WorkerId],
        count: Count,
    ) -> Option<usize> {
        let mean = self.mean_use();
        let bound = (mean * ABOVE_MEAN_MAX).max(LOW_USE);
        self.walk += 1;
        let mut homes = [0; HOMES];
        let mut found = 0;
        let mut beyond_bound: Option<usize> = None;
        let mut seen = 0;
        for at in self.ring.walk(key) {
            let host = &mut self.hosts[at];
            if host.seen_in == self.walk {
                continue;
            }
            host.seen_in = self.walk;
            seen += 1;
            if host.fits(memory_mib, count) && !avoid.contains(&host.worker.id) {
                if host.usage() < bound {
                    homes[found] = at;
                    found += 1;
                } else {
                    beyond_bound.get_or_insert(at);
                }
            }
            // Homes first; past them, the first that is below the bound.
            if seen >= HOMES && found > 0 || seen == self.hosts.len() {
                break;
            }
        }
        match &homes[..found] {
            [] => beyond_bound,
            [only] => Some(*only),
            homes if mean < LOW_USE => {
                // The first of equals, so that a function gathers.
                homes.iter().copied().reduce(|best, at| {
                    if self.hosts[at].usage() > self.hosts[best].usage() { at } else { best }
                })
            }
            homes => {
                let first = self.chance.below(homes.len());
                let second = (first + 1 + self.chance.below(homes.len() - 1)) % homes.len();
                let (first, second) = (homes[first], homes[second]);
                let emptier = self.hosts[second].usage() < self.hosts[first].usage();
                Some(if emptier { second } else { first })
            }
        }
    }

    /// From 0 to 1.
    fn mean_use(&self) -> f64 {
        let total: f64 = self.hosts.iter().map(Host::usage).sum();
        total / self.hosts.len() as f64
    }

    fn find(&self, worker: &WorkerId) -> Option<usize> {
        self.hosts.iter().position(|host| host.worker.id == *worker)
    }

    fn lay_ring(&mut self) {
        self.ring = Ring::of(self.hosts.iter().enumerate().map(|(at, host)| (at, &host.worker.id)));
    }

    #[cfg(test)]
    pub(super) fn promises(&self) -> u32 {
        let here: u32 = self.hosts.iter().map(|host| host.promised.environments).sum();
        here + self.left.values().map(|promised| promised.environments).sum::<u32>()
    }
}

impl Host {
    fn fits(&self, memory_mib: u64, count: Count) -> bool {
        let (load, promised, young) = (self.load, self.promised, self.since_load);
        let (environments, memory) = match count {
            Count::Apart => (
                load.environments.saturating_add(promised.environments),
                load.memory_mib.saturating_add(promised.memory_mib),
            ),
            // Never below what is promised, whatever the figures say.
            Count::Included => (
                load.environments.saturating_add(young.environments).max(promised.environments),
                load.memory_mib.saturating_add(young.memory_mib).max(promised.memory_mib),
            ),
        };
        environments < self.capacity.environments_max
            && memory.saturating_add(memory_mib) <= self.capacity.memory_mib
    }

    /// The scarcer of places and memory, from 0 to 1.
    fn usage(&self) -> f64 {
        let share = |used: u64, of: u64| if of == 0 { 1.0 } else { used as f64 / of as f64 };
        let environments = self.load.environments.saturating_add(self.promised.environments);
        let memory = self.load.memory_mib.saturating_add(self.promised.memory_mib);
        share(environments.into(), self.capacity.environments_max.into())
            .max(share(memory, self.capacity.memory_mib))
            .min(1.0)
    }
}

impl Promised {
    fn add(&mut self, memory_mib: u64) {
        self.environments += 1;
        self.memory_mib += memory_mib;
    }

    fn subtract(&mut self, memory_mib: u32) {
        self.environments = self.environments.saturating_sub(1);
        self.memory_mib = self.memory_mib.saturating_sub(memory_mib.into());
    }

    fn min(self, other: Promised) -> Promised {
        Promised {
            environments: self.environments.min(other.environments),
            memory_mib: self.memory_mib.min(other.memory_mib),
        }
    }
}

//! What placement promises, over many hosts and functions.
//!
//! Not here: reservations across the task's loop (at the end of this file one
//! test drives it).

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use lamu_link::{Capacity, Load, PlaceError, WorkerHandle, WorkerRequest};
use lamu_model::{FunctionName, VersionSpec, WorkerId};
use tokio::sync::mpsc;

use super::Placement;
use super::core::Core;
use crate::manager::desk::spec;
use crate::prng::SplitMix;

struct Fleet {
    core: Core,
    _inboxes: Vec<mpsc::Receiver<WorkerRequest>>,
}

impl Fleet {
    fn of(hosts: usize, places: u32) -> Fleet {
        let mut fleet = Fleet { core: Core::new(1), _inboxes: Vec::new() };
        (0..hosts).for_each(|n| fleet.join(n, places));
        fleet
    }

    fn join(&mut self, n: usize, places: u32) {
        let (worker, inbox) = WorkerHandle::new(id(n));
        let capacity = Capacity { environments_max: places, memory_mib: u64::from(places) * 1_000 };
        self.core.join(worker, capacity);
        self._inboxes.push(inbox);
    }

    fn place(&mut self, function: usize) -> Result<WorkerId, PlaceError> {
        self.core.place(&named(function), &[]).map(|worker| worker.id)
    }
}

fn id(n: usize) -> WorkerId {
    WorkerId::new(format!("host-{n}"))
}

fn named(function: usize) -> Arc<VersionSpec> {
    let mut spec = VersionSpec::clone(&spec(1));
    spec.name = FunctionName::new(format!("function-{function}"));
    Arc::new(spec)
}

fn used(environments: u32) -> Load {
    Load { environments, memory_mib: u64::from(environments) * 128 }
}

#[test]
fn without_workers_there_is_no_place() {
    let mut fleet = Fleet::of(0, 0);

    assert_eq!(fleet.place(1), Err(PlaceError::NoWorker));
}

#[test]
fn a_fleet_is_full_exactly_when_every_place_is_promised() {
    let mut fleet = Fleet::of(7, 5);
    let mut counts: HashMap<WorkerId, u32> = HashMap::new();

    for n in 0..35 {
        let worker = fleet.place(n % 4).expect("there is room");
        *counts.entry(worker).or_default() += 1;
    }

    assert!(counts.values().all(|count| *count == 5));
    assert_eq!(fleet.place(1), Err(PlaceError::Full));
    fleet.core.give_back(&id(3), 128);
    assert_eq!(fleet.place(1), Ok(id(3)));
}

#[test]
fn memory_is_a_limit_of_its_own() {
    let mut fleet = Fleet::of(1, 10);
    let mut big = VersionSpec::clone(&named(1));
    big.memory_mib = 6_000;

    assert!(fleet.core.place(&big, &[]).is_ok());
    assert_eq!(fleet.core.place(&big, &[]).unwrap_err(), PlaceError::Full);
    assert!(fleet.place(1).is_ok(), "a small one still fits");
}

#[test]
fn a_function_gathers_on_one_host_while_the_fleet_is_hardly_used() {
    let mut fleet = Fleet::of(20, 40);

    let hosts: BTreeSet<_> = (0..15).map(|_| fleet.place(1).unwrap()).collect();

    assert_eq!(hosts.len(), 1);
}

#[test]
fn many_functions_spread_over_the_fleet() {
    let mut fleet = Fleet::of(20, 100);
    let mut counts: BTreeMap<WorkerId, u32> = BTreeMap::new();

    for n in 0..1_000 {
        *counts.entry(fleet.place(n).unwrap()).or_default() += 1;
    }

    // Half the fleet's places: gathered up to the bound, never past it.
    assert!(counts.values().all(|count| *count <= 63), "{counts:?}");
    assert!(counts.len() >= 16, "{counts:?}");
}

#[test]
fn no_host_is_far_above_the_mean_even_when_one_function_makes_the_load() {
    let mut fleet = Fleet::of(10, 100);
    let mut counts: BTreeMap<WorkerId, u32> = BTreeMap::new();

    for n in 0..700 {
        let function = if n % 3 == 0 { n } else { 0 };
        *counts.entry(fleet.place(function).unwrap()).or_default() += 1;
        // A quarter above the mean, or half of a host while little is used.
        let mean = n as f64 / 10.0;
        let most = counts.values().max().unwrap();
        assert!(f64::from(*most) <= (mean * 1.25).max(50.0) + 1.0, "{counts:?}");
    }

    assert_eq!(counts.len(), 10);
}

#[test]
fn a_host_that_comes_or_goes_moves_only_its_share_of_functions() {
    let homes = |fleet: &mut Fleet| -> Vec<WorkerId> {
        let place = |n| {
            let home = fleet.place(n).unwrap();
            fleet.core.give_back(&home, 128);
            home
        };
        (0..1_000).map(place).collect()
    };
    let mut fleet = Fleet::of(10, 1_000);
    let before = homes(&mut fleet);
    fleet.join(10, 1_000);
    let after = homes(&mut fleet);
    fleet.core.leave(&id(10));
    let back = homes(&mut fleet);

    let moved = before.iter().zip(&after).filter(|(a, b)| a != b).count();
    assert!((30..200).contains(&moved), "{moved} of 1000 moved, a share is 91");
    assert_eq!(before, back);
}

#[test]
fn an_avoided_host_is_taken_only_when_nothing_else_has_room() {
    let mut fleet = Fleet::of(2, 1);
    let first = fleet.core.place(&named(1), &[id(0)]).unwrap().id.clone();
    let second = fleet.core.place(&named(1), &[id(0)]).unwrap().id.clone();

    assert_eq!((first, second), (id(1), id(0)));
}

#[test]
fn promises_that_a_figure_may_include_do_not_make_a_fleet_full() {
    let mut fleet = Fleet::of(1, 4);
    fleet.place(1).unwrap();
    fleet.place(1).unwrap();
    // The worker counts the two that are being made; the promises are still
    // out.
    fleet.core.load(&id(0), used(2));

    assert!(fleet.place(1).is_ok());
    assert!(fleet.place(1).is_ok());
    assert_eq!(fleet.place(1), Err(PlaceError::Full));
}

#[test]
fn a_worker_that_comes_back_keeps_its_promises() {
    let mut fleet = Fleet::of(1, 2);
    fleet.place(1).unwrap();
    fleet.core.leave(&id(0));
    fleet.join(0, 2);

    assert!(fleet.place(1).is_ok());
    assert_eq!(fleet.place(1), Err(PlaceError::Full));

    fleet.core.leave(&id(0));
    fleet.core.give_back(&id(0), 128);
    fleet.core.give_back(&id(0), 128);
    assert_eq!(fleet.core.promises(), 0);
}

#[test]
fn no_more_is_ever_promised_of_a_host_than_it_has() {
    let mut chance = SplitMix::new(9);
    let mut fleet = Fleet::of(6, 8);
    // What the workers really run; promises become environments one by one.
    let mut real: BTreeMap<WorkerId, u32> = (0..6).map(|n| (id(n), 0)).collect();
    let mut promised: Vec<WorkerId> = Vec::new();
    for _ in 0..20_000 {
        match chance.below(4) {
            0 | 1 => {
                if let Ok(worker) = fleet.place(chance.below(50)) {
                    promised.push(worker);
                }
            }
            2 if !promised.is_empty() => {
                // Made, unless the worker has no room: it counts it, then the
                // promise is dropped.
                let worker = promised.swap_remove(chance.below(promised.len()));
                let count = real.get_mut(&worker).unwrap();
                *count = (*count + 1).min(8);
                fleet.core.load(&worker, used(*count));
                fleet.core.give_back(&worker, 128);
            }
            3 => {
                let worker = id(chance.below(6));
                let count = real.get_mut(&worker).unwrap();
                *count = count.saturating_sub(1);
                fleet.core.load(&worker, used(*count));
            }
            _ => {}
        }
        for worker in real.keys() {
            let out = promised.iter().filter(|at| *at == worker).count();
            assert!(out <= 8, "{out} promises of {worker} are out");
        }
        assert_eq!(fleet.core.promises() as usize, promised.len());
    }
}

#[tokio::test]
async fn a_place_that_nobody_came_to_take_is_free_again() {
    let placement = Placement::start(1);
    let (worker, _inbox) = WorkerHandle::new(id(0));
    let capacity = Capacity { environments_max: 1, memory_mib: 1_000 };
    placement.join(worker, capacity).await.unwrap();
    let spec = named(1);

    for polls in 0..100 {
        let mut placing = Box::pin(placement.place(&spec, Vec::new()));
        for _ in 0..polls % 3 {
            let _ = futures_poll(placing.as_mut()).await;
            tokio::task::yield_now().await;
        }
        drop(placing);
        tokio::task::yield_now().await;
    }

    let placed = placement.place(&spec, Vec::new()).await.unwrap();
    assert_eq!(placement.place(&spec, Vec::new()).await.unwrap_err(), PlaceError::Full);
    drop(placed);
    assert!(placement.place(&spec, Vec::new()).await.is_ok());
}

/// Polls once.
async fn futures_poll<F: Future>(mut future: std::pin::Pin<&mut F>) -> bool {
    std::future::poll_fn(|context| std::task::Poll::Ready(future.as_mut().poll(context).is_ready()))
        .await
}

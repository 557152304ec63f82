//! What one acquire and return cost through the manager's loop.
//!
//! `cargo run -p lamu-fleet --example acquire`
//!
//! On one thread it is the code's own cost; with the manager on another core,
//! waking that core is most of it.

#[path = "../tests/fake/mod.rs"]
mod fake;

use std::time::{Duration, Instant};

use fake::{Habits, fleet, soon, spec};

const ROUNDS: u32 = 200_000;

fn main() {
    let one = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let two =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let (alone, deep) = one.block_on(measure(1));
    println!("one thread, 1 environment:       {:>7.0} ns", nanos(alone));
    println!("one thread, 64 at a time:        {:>7.0} ns each", nanos(deep));
    let (alone, deep) = two.block_on(async { tokio::spawn(measure(64)).await.unwrap() });
    println!("two threads, 64 environments:    {:>7.0} ns", nanos(alone));
    println!("two threads, 64 at a time:       {:>7.0} ns each", nanos(deep));
}

fn nanos(total: Duration) -> f64 {
    total.as_nanos() as f64 / f64::from(ROUNDS)
}

/// One after the other; then 64 asked for together and dropped together.
async fn measure(warm: usize) -> (Duration, Duration) {
    let (manager, _placement, _workers) = fleet(&[Habits::quick(64)], |_| {}).await;
    let spec = spec(1);
    let mut leases = Vec::new();
    for _ in 0..warm {
        leases.push(manager.acquire(&spec, soon()).await.unwrap());
    }
    drop(leases);
    tokio::time::sleep(Duration::from_millis(20)).await;

    let deadline = soon();
    let begun = Instant::now();
    for _ in 0..ROUNDS {
        drop(manager.acquire(&spec, deadline).await.unwrap());
    }
    let alone = begun.elapsed();

    let begun = Instant::now();
    let mut callers = tokio::task::JoinSet::new();
    for _ in 0..64 {
        let (manager, spec) = (manager.clone(), spec.clone());
        callers.spawn(async move {
            for _ in 0..ROUNDS / 64 {
                drop(manager.acquire(&spec, soon()).await.unwrap());
            }
        });
    }
    callers.join_all().await;
    (alone, begun.elapsed())
}

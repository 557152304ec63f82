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

/// The quickest of so many runs: the others tell what else the machine did.
const RUNS: usize = 20;
const ROUNDS: u32 = 12_800;
const AT_A_TIME: u32 = 64;

fn main() {
    let one = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let two =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let (alone, together) = one.block_on(async { tokio::spawn(measure()).await.unwrap() });
    println!("one thread,  1 caller:   {alone:>6.0} ns an acquire and return");
    println!("one thread,  {AT_A_TIME} callers: {together:>6.0} ns");
    let (alone, together) = two.block_on(async { tokio::spawn(measure()).await.unwrap() });
    println!("two threads, 1 caller:   {alone:>6.0} ns");
    println!("two threads, {AT_A_TIME} callers: {together:>6.0} ns");
}

async fn measure() -> (f64, f64) {
    let habits = Habits::quick(AT_A_TIME);
    let (manager, _placement, _workers) = fleet(&[habits], |_| {}).await;
    let spec = spec(1);
    let mut leases = Vec::new();
    for _ in 0..AT_A_TIME {
        leases.push(manager.acquire(&spec, soon()).await.unwrap());
    }
    drop(leases);
    tokio::time::sleep(Duration::from_millis(20)).await;

    let deadline = soon();
    let mut alone = f64::MAX;
    let mut together = f64::MAX;
    for _ in 0..RUNS {
        let begun = Instant::now();
        for _ in 0..ROUNDS {
            drop(manager.acquire(&spec, deadline).await.unwrap());
        }
        alone = alone.min(each(begun));

        let begun = Instant::now();
        let mut callers = tokio::task::JoinSet::new();
        for _ in 0..AT_A_TIME {
            let (manager, spec) = (manager.clone(), spec.clone());
            callers.spawn(async move {
                for _ in 0..ROUNDS / AT_A_TIME {
                    drop(manager.acquire(&spec, deadline).await.unwrap());
                }
            });
        }
        callers.join_all().await;
        together = together.min(each(begun));
    }
    (alone, together)
}

/// Nanoseconds for one of `ROUNDS`.
fn each(begun: Instant) -> f64 {
    begun.elapsed().as_nanos() as f64 / f64::from(ROUNDS)
}
